"""Observers: they turn what happens into metrics, log lines and the status document.

They see events after the fact and can neither delay nor change a decision.
"""
