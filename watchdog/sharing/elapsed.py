"""How long ago something was, by this machine's own clock and no other's."""

import time
from collections.abc import Callable

Elapsed = Callable[[], float]
"""Seconds since some moment that stays the same while the process lives."""


def since_boot() -> float:
    """An `Elapsed` that goes on while the machine is suspended, which ``time.monotonic`` does not on Linux.

    A watchdog that has slept through the end of its leadership must not wake up believing in it.
    """
    return time.clock_gettime(time.CLOCK_BOOTTIME)
