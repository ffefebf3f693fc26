"""What patients' answers look like to the watchdog: a few numbers a study, and nothing else of it."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Observation:
    """One study's answers by one model. Slices of a study resemble one another: they count as one."""

    readings: Mapping[str, tuple[float, ...]]
    """Reading → its value for each slice (or candidate). A reading is an output's name, or
    ``output.volume`` where an output is read as several numbers."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Pair:
    """The same input's answers by the fast and by the safe engine."""

    fast: Mapping[str, float]
    """Reading → its value."""
    safe: Mapping[str, float]
