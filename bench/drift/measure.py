"""One detector on one stream: what it does while nothing changes, and how long a change stays unseen."""

from dataclasses import dataclass
from zlib import crc32

import numpy as np

from bench.drift.streams import Array, Change, Rng, Stream
from bench.drift.subject import InChunks, Subject

RUN_IN = 500
"""Quiet observations before each change."""
_ATTEMPTS = 20
"""How often a run is begun anew because of an alarm in its run-in."""
_CHUNK = 10_000
"""Quiet observations of each stream that are in memory at once, where a detector takes them so."""


@dataclass(frozen=True, kw_only=True)
class Quiet:
    """Observations in which nothing changed, and the alarms raised all the same."""

    observations: int = 0
    alarms: int = 0

    def __add__(self, other: "Quiet") -> "Quiet":
        return Quiet(observations=self.observations + other.observations, alarms=self.alarms + other.alarms)


@dataclass(frozen=True, kw_only=True)
class Delays:
    """Of the runs that got past their run-in."""

    found: Array
    """Observations from the change to the alarm, 1 being at once, of the runs in which it came."""
    missed: int
    """Runs without an alarm within the bound."""
    bound: int
    """Observations after which a change counts as missed."""
    run_in: Quiet

    @property
    def median_at_bound(self) -> float | None:
        """The median, a missed change counting as found at the bound."""
        every = np.append(self.found, np.full(self.missed, self.bound))
        return float(np.median(every)) if len(every) else None


def generator(seed: int, *words: object) -> Rng:
    """Random numbers of their own for each use, the same in every order of doing things."""
    return np.random.default_rng([seed, crc32("/".join(map(str, words)).encode())])


def bound_for(oracle_median: float) -> int:
    """After how many observations a change counts as missed."""
    return int(min(max(25 * oracle_median, 1_000), 30_000))


def quiet(subject: Subject, stream: Stream, size: int, *, streams: int, length: int, seed: int, part: int) -> Quiet:
    """Counts false alarms over `streams` references of `size`, each followed by `length` observations."""
    rng = generator(seed, "quiet", stream.name, size, part)
    references, of_detector = stream.healthy(rng, (streams, size)), generator(seed, "quiet", subject.name, part)
    if isinstance(subject, InChunks):
        lengths = [min(_CHUNK, length - begin) for begin in range(0, length, _CHUNK)]
        chunks = (stream.healthy(rng, (streams, some)) for some in lengths)
        alarms = subject.count_over(references, chunks, of_detector)
    else:
        alarms = subject.count_alarms(references, stream.healthy(rng, (streams, length)), of_detector)
    return Quiet(observations=streams * length, alarms=alarms)


def delays(
    subject: Subject,
    stream: Stream,
    change: Change,
    size: int,
    *,
    runs: int,
    bound: int,
    seed: int,
    run_in: int = RUN_IN,
) -> Delays:
    """Changes after a quiet run-in, each run with a reference of its own.

    An alarm in the run-in is a false one: the run is begun anew with other random numbers. The first
    attempt's are the same for all detectors, and its references for all changes.
    """
    found: list[Array] = []
    quiet_before = Quiet()
    for attempt in range(_ATTEMPTS):
        left = runs - sum(map(len, found))
        references = stream.healthy(generator(seed, "references", stream.name, size, attempt), (left, size))
        rng = generator(seed, "delays", stream.name, change.name, size, attempt)
        before, after = stream.healthy(rng, (left, run_in)), stream.changed(change, rng, (left, bound))
        alarms = subject.run(references, np.concatenate([before, after], axis=1), rng.spawn(1)[0])
        early = (alarms >= 0) & (alarms < run_in)
        quiet_before += Quiet(observations=_observed(alarms, run_in), alarms=int(early.sum()))
        found.append(alarms[~early])
        if not early.any():
            break
    at = np.concatenate(found)
    return Delays(found=at[at >= 0] - run_in + 1, missed=int((at < 0).sum()), bound=bound, run_in=quiet_before)


def _observed(alarms: Array, run_in: int) -> int:
    """Quiet observations until the alarm, or until the run-in's end."""
    return int(np.where((alarms >= 0) & (alarms < run_in), alarms + 1, run_in).sum())
