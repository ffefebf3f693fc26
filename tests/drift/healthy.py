"""References of healthy streams, detectors for them, and values fed to these."""

from collections.abc import Iterable, Iterator

import numpy as np

from bench.drift.streams import BIMODAL, Stream
from watchdog.drift.links import Link
from watchdog.drift.live import LiveDetector, LiveState
from watchdog.drift.reference import Reference
from watchdog.model.score import Promise, Score
from watchdog.model.tensor import Array

YEARLY = Promise(run_length=3.15e7)


def detector(stream: Stream = BIMODAL, *, size: int = 1000, seed: int = 0, promise: Promise = YEARLY) -> LiveDetector:
    values = stream.healthy(np.random.default_rng([seed, size]), (size,))
    return LiveDetector(Reference(values=values, link=Link.LOGIT), promise)


def fed(live: LiveDetector, values: Array | Iterable[float], state: LiveState | None = None) -> Iterator[Score]:
    """Scores of one value after the other."""
    state = live.fresh() if state is None else state
    for value in np.asarray(values, dtype=np.float64).tolist():
        state, score = live.update(state, [value])
        yield score


def first_alarm(live: LiveDetector, values: Array, state: LiveState | None = None) -> tuple[int, Score] | None:
    """How many values it took, and the alarm."""
    scores = enumerate(fed(live, values, state), 1)
    return next((found for found in scores if found[1].alarm is not None), None)


def top(live: LiveDetector, values: Array) -> float:
    """The highest statistic on the way."""
    return max(score.statistic for score in fed(live, values))
