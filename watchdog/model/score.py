"""What a sequential detector says after each observation, and what it promises."""

from dataclasses import dataclass
from enum import StrEnum


@dataclass(frozen=True, kw_only=True, slots=True)
class Promise:
    """How rarely a detector may be wrong about a stream in which nothing changed."""

    run_length: float
    """In the long run there is at most one false alarm in so many observations, on average."""

    @property
    def threshold(self) -> float:
        """Where a detector's statistics alarm.

        Each part of a detector is a Shiryaev–Roberts mixture R in a filtration of its own, and the
        parts' weights w sum to 1. R − w·t is a supermartingale, and each alarm takes at least the
        threshold A out of R, so A × E[alarms in m observations] ≤ w·m for each part: together at
        most m / A are expected, and P(an alarm within m) ≤ m / A.
        """
        return self.run_length

    def false_alarm_probability(self, observations: float) -> float:
        """An upper bound of the probability of a false alarm within so many observations."""
        return min(1.0, observations / self.threshold)

    def __str__(self) -> str:
        return f"one false alarm in {self.run_length:,.0f} observations on average, or fewer"


class Unusable(StrEnum):
    """Why an observation says nothing. Each is counted; none is an alarm of a detector's own."""

    NON_FINITE = "non-finite"
    OUT_OF_RANGE = "out-of-range"
    EMPTY = "empty"
    """A study without one value."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Alarm:
    """What a detector believes at the observation at which it alarms."""

    observations_ago: int
    """How many observations ago the change began, most likely; 1 is the newest one."""
    bet: str
    """The hypothesis that won, by its short name, such as ``scale-0.5``."""
    sentence: str
    """The same for a person, such as "logits scaled by about 0.5"."""
    group: str = ""
    """The stratum or canary that it is about, such as ``kernel=SHARP``; empty for all."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Score:
    """A detector after one observation."""

    statistic: float
    """Evidence that something changed; grows by one an observation, at most, on average, while nothing did."""
    threshold: float
    promise: Promise
    observations: int
    """Usable ones since the detector was started or restarted."""
    unusable: Unusable | None = None
    """Why this observation was not used; None if it was."""
    alarm: Alarm | None = None
    """Set by a usable observation while the statistic is at its threshold or above."""
