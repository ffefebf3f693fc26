"""Measures the detectors of ``watchdog.drift`` beside other people's, and beside the best that is possible."""
