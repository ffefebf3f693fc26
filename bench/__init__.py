"""Measurements of the watchdog itself, on a real Triton. Run with ``python -m bench.cycle``."""
