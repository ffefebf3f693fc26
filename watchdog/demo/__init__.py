"""The demonstration: a real Triton on this machine, a detector in two precisions, and faults that really happen.

Everything here is made by code when it is needed; nothing else in the package imports it.
"""
