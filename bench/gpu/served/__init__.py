"""What runs inside Triton on a GPU: copied into the model repository as data."""
