"""Statistics over outputs and confidences: pure functions and, later, sequential detectors.

One statistic a file. Nothing here compares a score with a limit: that is ``assess.py``'s.
"""
