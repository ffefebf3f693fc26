"""What a drift detector has to offer to be measured, and how its cost is taken."""

import gc
import pickle
import statistics
import time
import tracemalloc
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from bench.drift.streams import Array, Rng, Stream

Update = Callable[[float], bool]
"""Takes in the next observation; True is an alarm."""
Run = Callable[[Array, Array, Rng], Array]
"""As `Subject.run`."""
Fresh = Callable[[], Update]
"""A detector that has learnt and seen nothing yet."""

_REPEATS = 3


@dataclass(frozen=True, kw_only=True)
class Cost:
    us_per_observation: float
    """Microseconds of one core for one live observation."""
    kib: float
    """What a detector holds in memory once it has learnt and run, its part of the reference included."""


class Subject(Protocol):
    """A detector with its settings. Knows nothing of the stream but what its references tell it."""

    @property
    def name(self) -> str: ...

    @property
    def arl_promised(self) -> float | None:
        """Mean observations to a false alarm that its setting stands for; None: it promises nothing."""

    @property
    def learns(self) -> bool:
        """Whether it uses the references. What does not is measured once, not once for each reference size."""

    @property
    def share(self) -> float:
        """Of the plan's runs and quiet observations, (0, 1]: little for what is slow."""

    def run(self, references: Array, streams: Array, rng: Rng, /) -> Array:
        """[S, n] and [S, T] confidences → [S] index of each stream's first alarm, −1 where there is none.

        Run i learns from references[i] alone. Nothing may look ahead: an alarm at t depends on
        streams[i, :t + 1].
        """

    def count_alarms(self, references: Array, streams: Array, rng: Rng, /) -> int:
        """Alarms in all streams together, the detector starting afresh after each (`count_by_restarting`)."""

    def cost(self, reference: Array, stream: Array, /) -> Cost:
        """Of [n] and [T] confidences, one after the other through the detector's own interface (`take_cost`)."""


@runtime_checkable
class ToCalibrate(Protocol):
    """A detector whose threshold is found by simulation: more than its users have, as they don't know the stream."""

    @property
    def name(self) -> str: ...

    @property
    def learns(self) -> bool:
        """As `Subject.learns`."""

    def search(self, stream: Stream, size: int, observations: int, rng: Rng, /) -> float:
        """The threshold that keeps `at(…).arl_promised` on this stream with references of this size."""

    def at(self, threshold: float, /) -> Subject: ...


@runtime_checkable
class InChunks(Protocol):
    """A subject that counts alarms in streams too long for memory."""

    def count_over(self, references: Array, chunks: Iterable[Array], rng: Rng, /) -> int:
        """`Subject.count_alarms` in streams that come in chunks of [S, T], one after the other."""


@dataclass(frozen=True, kw_only=True)
class OneByOne:
    """A detector that takes one observation after the other, such as other people's packages."""

    name: str
    fresh: Callable[[Array, Rng], Update]
    """From a reference, a detector that has seen nothing."""
    arl_promised: float | None = None
    learns: bool = False
    share: float = 1.0
    native: bool = False
    """Whether its state lies where Python can't trace it: then it is weighed by pickling."""

    def run(self, references: Array, streams: Array, rng: Rng) -> Array:
        pairs = zip(references, streams, strict=True)
        return np.array([_first(self.fresh(reference, rng), stream) for reference, stream in pairs])

    def count_alarms(self, references: Array, streams: Array, rng: Rng) -> int:
        alarms = 0
        for reference, stream in zip(references, streams, strict=True):
            update = self.fresh(reference, rng)
            for x in stream.tolist():
                if update(x):
                    alarms += 1
                    update = self.fresh(reference, rng)
        return alarms

    def cost(self, reference: Array, stream: Array) -> Cost:
        def fresh() -> Update:
            return self.fresh(reference.copy(), np.random.default_rng(0))

        return take_cost(fresh, stream, weigh=_pickled_kib if self.native else _held_kib)


def _first(update: Update, stream: Array) -> int:
    return next((t for t, x in enumerate(stream.tolist()) if update(x)), -1)


def count_by_restarting(run: Run, references: Array, streams: Array, rng: Rng) -> int:
    """Counts alarms by running what remains of each stream after its last one.

    The remainders are of unlike lengths: each is continued by its own stream's beginning, where
    alarms no longer count.
    """
    length = streams.shape[1]
    begin = np.zeros(len(streams), dtype=np.int64)
    pending, alarms = np.arange(len(streams)), 0
    while len(pending):
        longest = length - begin[pending].min()
        at = (begin[pending, None] + np.arange(longest)) % length
        found = run(references[pending], np.take_along_axis(streams[pending], at, axis=1), rng)
        found = np.where(found < length - begin[pending], found, -1)
        pending, found = pending[found >= 0], found[found >= 0]
        begin[pending] += found + 1
        alarms += len(pending)
        pending = pending[begin[pending] < length]
    return alarms


def _held_kib(fresh: Fresh, values: list[float]) -> float:
    gc.collect()
    tracemalloc.start()
    try:
        update = fresh()
        _feed(update, values)
        gc.collect()
        return tracemalloc.get_traced_memory()[0] / 1024
    finally:
        tracemalloc.stop()


def _pickled_kib(fresh: Fresh, values: list[float]) -> float:
    update = fresh()
    _feed(update, values)
    return len(pickle.dumps(update)) / 1024


def take_cost(
    fresh: Fresh,
    stream: Array,
    *,
    warm_up: int | None = None,
    weigh: Callable[[Fresh, list[float]], float] = _held_kib,
) -> Cost:
    """The median time of a few repeats, and what stays allocated through Python.

    The first observations (half, unless told) aren't timed: windows fill. An alarm ends nothing, as the
    cost is wanted and not the answer.
    """
    values = stream.tolist()
    untimed = len(values) // 2 if warm_up is None else warm_up
    seconds = []
    for _ in range(_REPEATS):
        update = fresh()
        _feed(update, values[:untimed])
        began = time.perf_counter()
        _feed(update, values[untimed:])
        seconds.append(time.perf_counter() - began)
    microseconds = 1e6 * statistics.median(seconds) / (len(values) - untimed)
    return Cost(us_per_observation=microseconds, kib=weigh(fresh, values))


def _feed(update: Update, values: list[float]) -> None:
    for x in values:
        update(x)
