"""Baselines on disk: read, written, and compared with what is in use."""
