"""A sidecar that notices when a medical-imaging inference engine goes quietly wrong.

It probes an inference server with canary DICOM images whose right answer is known, judges what
comes back, raises alerts, and moves traffic from the fast engine to the safe one.
"""

__version__ = "0.1.0"
DISTRIBUTION = "inference-watchdog"
"""Tells this package from the file-watching one that shares its import name."""
