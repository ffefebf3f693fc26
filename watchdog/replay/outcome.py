"""What came of a replay: of each setting, each reading and the whole file, and all of it as JSON."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from watchdog.drift.links import Link
from watchdog.model.score import Promise, Unusable
from watchdog.model.tensor import Array
from watchdog.replay.recording import Mark, Series

LISTED = 1000
"""So many alarms of a setting are kept with all that they said; the others are counted, and their places kept."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Alarmed:
    """One alarm."""

    index: int
    """The observation in the file, from 0."""
    at: float | None
    statistic: float
    sentence: str
    bet: str
    began: int
    """Where the change began, most likely."""
    began_at: float | None

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"statistic": _finite(self.statistic)}


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Watched:
    """What came of one setting, or of one practice."""

    name: str
    promise: Promise | None = None
    """What all readings of a source keep together; None: it promises nothing."""
    threshold: float | None = None
    """Of this reading's statistic; the more readings share a promise, the higher."""
    refused: str = ""
    """Why it could not run; empty if it did."""
    places: Array = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    """[alarms] the observation at which each was raised, from 0 in the file; it was restarted after each."""
    alarms: Sequence[Alarmed] = ()
    """The first `LISTED` of them; empty for a practice, which says nothing."""
    before_change: int | None = None
    """How many of them came before the change, so were false; None if nobody said when it was."""
    delay: int | None = None
    """Observations from the change to the first alarm after it, that one included."""
    unusable: Mapping[Unusable, int] = field(default_factory=dict)
    """Observations that held something unusable; what else they held was used."""
    smallest_divergence: float | None = None
    """Of changes that it can see at all at first, in nats: log(threshold) ÷ the part of the reference that it is held
    against."""
    statistics: Array = field(default_factory=lambda: np.zeros(0))
    """[t] after each observation of the stream, the alarming ones included; empty for a practice."""

    def to_json(self, observations: int) -> dict[str, Any]:
        said: dict[str, Any] = {
            "setting": self.name,
            "promise": None if self.promise is None else _promise_json(self.promise, observations),
            "threshold": self.threshold,
            "refused": self.refused or None,
            "smallest_divergence_nats": self.smallest_divergence,
            "alarms_in_all": len(self.places),
            "alarms_before_change": self.before_change,
            "delay": self.delay,
        }
        if self.promise is None:
            return said | {"alarms": [{"index": int(i)} for i in self.places[:LISTED]]}
        return said | {
            "alarms": [alarm.to_json() for alarm in self.alarms],
            "largest_statistic": _finite(float(self.statistics.max())) if self.statistics.size else None,
            "unusable": {str(reason): count for reason, count in self.unusable.items()},
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class Described:
    """How far the newest observations lie from the reference. DESCRIPTIVE: no limit is right for all streams."""

    last: int
    """So many observations."""
    psi: float | None
    """None where too many values are equal to make bins."""
    jensen_shannon_bits: float | None
    """As above."""
    ks: float
    ks_p: float
    wasserstein: float
    """In the reading's unit."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Replayed:
    """What came of one reading."""

    reading: str
    series: Series
    first: int
    """Where the stream begins in `series`; before it is the reference, unless that is in another file."""
    link: Link
    guessed: bool
    reference: Series
    left_out: Mapping[Unusable, int]
    """As `Watched.unusable`, of the reference."""
    changed_at: int | None
    settings: Sequence[Watched]
    practices: Sequence[Watched]
    described: Described | None
    """None where the stream has nothing to describe."""
    notes: Sequence[str] = ()

    @property
    def observations(self) -> int:
        """Of the stream."""
        return len(self.series) - self.first

    def telling(self, one: Watched) -> Alarmed | None:
        """A setting's alarm that matters most: the first one after the change, if there is one; else the first."""
        after = (alarm for alarm in one.alarms if alarm.index >= (self.changed_at or 0))
        return next(after, one.alarms[0] if one.alarms else None)

    @property
    def alarmed(self) -> bool:
        """Whether a setting did that promises something."""
        return any(len(one.places) for one in self.settings)

    def to_json(self) -> dict[str, Any]:
        changed = self.changed_at
        return {
            "reading": self.reading,
            "link": str(self.link),
            "link_guessed": self.guessed,
            "observations": len(self.series),
            "began_at": self.series.time(0),
            "ended_at": self.series.time(len(self.series) - 1),
            "rate_per_s": self.series.rate_per_s,
            "reference": {
                "observations": len(self.reference),
                "left_out": {str(reason): count for reason, count in self.left_out.items()},
            },
            "stream": {"first": self.first, "observations": self.observations},
            "changed_at": None if changed is None else {"index": changed, "at": self.series.time(changed)},
            "settings": [one.to_json(self.observations) for one in self.settings],
            "practices": [one.to_json(self.observations) for one in self.practices],
            "descriptive": None if self.described is None else asdict(self.described),
            "notes": list(self.notes),
        }


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Replay:
    """All of it."""

    source: str
    readings: Sequence[Replayed]
    refused: Mapping[str, str]
    """Readings that could not be replayed, and why."""
    marks: Sequence[Mark]
    notes: Sequence[str]

    @property
    def alarmed(self) -> bool:
        return any(reading.alarmed for reading in self.readings)

    def to_json(self) -> dict[str, Any]:
        return {
            "file": self.source,
            "alarmed": self.alarmed,
            "readings": [reading.to_json() for reading in self.readings],
            "refused": [{"reading": name, "reason": reason} for name, reason in self.refused.items()],
            "decisions": [asdict(mark) for mark in self.marks],
            "notes": list(self.notes),
        }


def _promise_json(promise: Promise, observations: int) -> dict[str, Any]:
    return {
        "run_length": promise.run_length,
        "text": str(promise),
        "false_alarm_probability": promise.false_alarm_probability(observations),
    }


def _finite(number: float) -> float | None:
    """A number that JSON can hold; None stands for one beyond."""
    return number if math.isfinite(number) else None
