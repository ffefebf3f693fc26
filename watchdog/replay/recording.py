"""A recorded stream, wherever it came from: observations in their order, and what was decided meanwhile."""

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import numpy as np

from watchdog.drift.links import Link
from watchdog.model.tensor import Array

_LATEST = 1e11
"""Unix seconds of the year 5138: a time beyond is in another unit."""


class ReplayError(ValueError):
    """The file or the call is wrong; the message says where and how."""


class NothingToReplayError(Exception):
    """File and call are right, but there is nothing in the one that the other could be done with."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Series:
    """One reading's observations, oldest first. An observation is what one study gave: usually one value.

    >>> series = Series(values=np.array([0.1, 0.8, 0.9]), starts=np.array([0, 1, 3]))
    >>> len(series), series.studies()
    (2, [[0.1], [0.8, 0.9]])
    """

    values: Array
    """[v] float64, NaN and infinities included."""
    starts: Array
    """[n + 1] int64: observation i is ``values[starts[i]:starts[i + 1]]``, which may be empty."""
    at: Array | None = None
    """[n] float64, unix seconds, never falling; None where nobody wrote it down."""
    source: str = ""
    """Which of a watchdog's detectors judged it, such as ``live``; empty outside of journals."""
    link: Link | None = None
    """None where nobody knows."""

    def __len__(self) -> int:
        return len(self.starts) - 1

    def part(self, begin: int, end: int) -> "Series":
        """The observations from `begin` up to `end`."""
        first, last = int(self.starts[begin]), int(self.starts[end])
        return replace(
            self,
            values=self.values[first:last],
            starts=self.starts[begin : end + 1] - first,
            at=None if self.at is None else self.at[begin:end],
        )

    def studies(self) -> list[list[float]]:
        """Every observation's values."""
        values, starts = self.values.tolist(), self.starts.tolist()
        return [values[a:b] for a, b in pairwise(starts)]

    def time(self, index: int) -> float | None:
        """When an observation was made, unix seconds."""
        return None if self.at is None else float(self.at[index])

    @property
    def rate_per_s(self) -> float | None:
        """Observations a second, over all of the time, nights included; None if it can't be known."""
        if self.at is None or len(self) < 2 or self.at[-1] <= self.at[0]:
            return None
        return (len(self) - 1) / float(self.at[-1] - self.at[0])


@dataclass(frozen=True, kw_only=True, slots=True)
class Mark:
    """Something that the watchdog did meanwhile."""

    at: float
    """Unix seconds."""
    kind: str
    """``decision`` or ``outcome``."""
    text: str


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Recording:
    """All that a file holds of one model."""

    source: str
    readings: Mapping[str, Series]
    """By name, in the file's order; at least one."""
    marks: Sequence[Mark] = ()
    notes: Sequence[str] = ()
    """What a person should know about how the file was read."""

    def of_source(self, source: str) -> "Recording":
        """The same with the readings of one source alone, and those that no watchdog judged.

        Raises:
            NothingToReplayError: there are none.
        """
        chosen = {name: series for name, series in self.readings.items() if series.source in {"", source}}
        if not chosen:
            raise NothingToReplayError(f"{self.source}: has no {source} scores, but {', '.join(self.readings)}")
        return replace(self, readings=chosen)


def assemble(values: Array, present: Array, begins: Array, at: Array | None) -> Series:
    """A series from a column.

    Args:
        values: [rows] float64.
        present: [rows] bool; False where the cell was empty.
        begins: [n] the row with which each observation begins.
        at: [n] unix seconds, in any order; the series is in the order of time.
    """
    kept = np.concatenate([[0], np.cumsum(present)]).astype(np.int64)
    starts = kept[np.concatenate([begins, [len(values)]]).astype(np.int64)]
    values = values[present]
    if at is None or bool(np.all(at[1:] >= at[:-1])):
        return Series(values=values, starts=starts, at=at)
    order = np.argsort(at, kind="stable")
    lengths = np.diff(starts)[order]
    moved = np.concatenate([[0], np.cumsum(lengths)])
    rows = np.arange(len(values)) + np.repeat(starts[:-1][order] - moved[:-1], lengths)
    return Series(values=values[rows], starts=moved, at=at[order])


def parse_time(text: str) -> float:
    """Unix seconds from ISO 8601 or a number of them; without a zone it is UTC.

    >>> parse_time("1970-01-02T00:00:00Z"), parse_time("86400.5")
    (86400.0, 86400.5)

    Raises:
        ValueError: it is neither.
    """
    try:
        return check_time(float(text))
    except ValueError:
        if _is_number(text):
            raise
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError as error:
        raise ValueError(
            f"{text!r} is no time; write ISO 8601, such as 2025-03-01T12:00:00Z, or unix seconds"
        ) from error
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def check_time(seconds: float) -> float:
    """The same number, once it is sure that it can be unix seconds."""
    if not 0.0 <= seconds < _LATEST:
        advice = "; are these milliseconds?" if seconds >= _LATEST else ""
        raise ValueError(f"{seconds:g} can't be a time in unix seconds{advice}")
    return seconds


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def spell_time(seconds: float) -> str:
    """``2025-03-01 12:00:00Z``."""
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S}Z"


def optional(module: str) -> Any:
    """A module of the extra ``replay``, which not everybody installs.

    Raises:
        ReplayError: it isn't there; the message says how to get it.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        package = module.partition(".")[0]
        install = "pip install 'inference-watchdog[replay]'"
        raise ReplayError(f"this needs {package}, which is not installed: {install}") from error
