"""What runs inside Triton where there is no GPU: copied into the model repository as data."""
