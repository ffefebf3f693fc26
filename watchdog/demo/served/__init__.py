"""What runs inside Triton: copied into model repositories as data, imported by nothing here."""
