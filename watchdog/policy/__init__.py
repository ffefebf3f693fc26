"""Decides, purely: given a state and what happened, the next state and one action.

No await, clock, log or environment here; ``now`` is an argument.
"""
