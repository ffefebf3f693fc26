"""The best that is possible: the CUSUM that knows the stream's density and the change's.

W_t = max(0, W_{t−1} + log f₁(x_t)/f₀(x_t)), alarm when W ≥ h. At its mean run length no detector has a
smaller mean delay in the worst case: G. V. Moustakides, "Optimal stopping times for detecting changes
in distributions", Annals of Statistics 14 (1986). What grows has no such optimum: there it is the
strongest CUSUM of a fixed density.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from bench.drift.streams import Array, Change, Rng, Stream

ARL = 3e7
"""Observations to a false alarm: one a year at one a second."""

_BLOCK = 64
"""Observations drawn at a time, at most."""
_CYCLES = 20_000
"""Walks by which a threshold is found: about 1 % of the run length."""
_ROUNDS = 3
_DRAWN = 200_000
"""Observations that a divergence is the mean of."""

Increments = Callable[[tuple[int, int], int], Array]
"""(shape, observations since the change began) → log f₁/f₀ of fresh observations."""


@dataclass(frozen=True, kw_only=True)
class Oracle:
    """Whether a change has come, from its first certain sign or by the CUSUM."""

    delays: Array
    """Observations from the change to the alarm, one a run; 1 is at once."""
    threshold: float | None
    """Nats; None where the change shows itself at once."""
    aims_at: str
    """The change whose density it knows: for one that grows, the stage that is found soonest."""
    divergence: float | None
    """Of the complete change from the healthy stream, in nats (Kullback and Leibler); None where it is infinite."""

    @property
    def median(self) -> float:
        return float(np.median(self.delays))

    @property
    def p95(self) -> float:
        return float(np.percentile(self.delays, 95))


def ask(stream: Stream, change: Change, rng: Rng, *, runs: int, arl: float = ARL, run_in: int = 500) -> Oracle:
    """What the oracle needs to find the change after a quiet run-in.

    A change without a density puts mass where the healthy stream has none, so its first observation
    gives it away: the delay is 1 by definition.
    """
    if not change.finite:
        return Oracle(delays=np.ones(runs), threshold=None, aims_at=change.name, divergence=None)
    aim = _aim(stream, change, rng, arl) if change.stages else change
    threshold = threshold_for(stream, aim, arl, rng)
    delays = _delays(_healthy(stream, aim, rng), _changed(stream, change, aim, rng), threshold, (runs, run_in))
    complete = stream.llr(change, stream.changed(change, rng, (_DRAWN,), since=change.complete_after))
    return Oracle(delays=delays, threshold=threshold, aims_at=aim.name, divergence=float(complete.mean()))


def _aim(stream: Stream, change: Change, rng: Rng, arl: float) -> Change:
    """The stage of a growing change whose CUSUM finds it soonest, by rougher thresholds."""

    def median(stage: Change) -> float:
        threshold = threshold_for(stream, stage, arl, rng, cycles=_CYCLES // 5)
        draws = _healthy(stream, stage, rng), _changed(stream, change, stage, rng)
        return float(np.median(_delays(*draws, threshold, (200, 500))))

    return min(change.stages, key=median)


def threshold_for(stream: Stream, change: Change, arl: float, rng: Rng, cycles: int = _CYCLES) -> float:
    """Threshold h such that the mean run length on the healthy stream is `arl`.

    The CUSUM starts anew whenever it returns to 0, so its run length is E₀[N] / P₀(h before 0), N being
    the observations of a cycle (D. Siegmund, "Sequential Analysis", 1985, chapter II). P₀ is too small
    to be counted; drawn from the changed density instead, each cycle that reaches h weighs e^−W
    (Wald's likelihood ratio identity, ibid.). The excess over h hardly depends on h, so a
    few steps of h = log(arl · E₁[e^−(W−h); h before 0] / E₀[N]) settle.
    """
    threshold = np.log(arl)
    for _ in range(_ROUNDS):
        threshold = np.log(arl) - np.log(mean_run_length(stream, change, threshold, rng, cycles)) + threshold
    return float(threshold)


def mean_run_length(stream: Stream, change: Change, threshold: float, rng: Rng, cycles: int = _CYCLES) -> float:
    """Observations to a false alarm of the CUSUM of this change at this threshold, as `threshold_for` has it."""
    tilted, _ = _cycles(_changed(stream, change, change, rng), threshold, cycles)
    reached = np.where(tilted >= threshold, np.exp(-tilted), 0.0)
    _, lengths = _cycles(_healthy(stream, change, rng), threshold, cycles)
    return float(lengths.mean() / reached.mean())


def _healthy(stream: Stream, aim: Change, rng: Rng) -> Increments:
    return lambda shape, _since: stream.llr(aim, stream.healthy(rng, shape))


def _changed(stream: Stream, change: Change, aim: Change, rng: Rng) -> Increments:
    return lambda shape, since: stream.llr(aim, stream.changed(change, rng, shape, since))


def _cycles(draw: Increments, threshold: float, cycles: int) -> tuple[Array, Array]:
    """Walks from 0 until they leave (0, threshold): [cycles] where they end, and after how many observations."""
    ends, lengths = np.zeros(cycles), np.zeros(cycles, dtype=np.int64)
    walking, level, age, block = np.arange(cycles), np.zeros(cycles), 0, 4
    while len(walking):
        path = level[:, None] + np.cumsum(draw((len(walking), block), age), axis=1)
        out = (path <= 0) | (path >= threshold)
        left, at = out.any(axis=1), out.argmax(axis=1)
        ends[walking[left]] = path[left, at[left]]
        lengths[walking[left]] = age + at[left] + 1
        walking, level, age, block = walking[~left], path[~left, -1], age + block, min(2 * block, _BLOCK)
    return ends, lengths


def _delays(healthy: Increments, changed: Increments, threshold: float, size: tuple[int, int]) -> Array:
    """[runs] observations to the alarm, of so many runs with so long a run-in."""
    runs, _ = size
    level, delays = _follow(np.zeros(runs), healthy(size, 0))[:, -1], np.zeros(runs, dtype=np.int64)
    level = np.where(level < threshold, level, 0.0)  # after a false alarm it began anew
    running, age = np.arange(runs), 0
    while len(running):
        path = _follow(level, changed((len(running), _BLOCK), age))
        out = path >= threshold
        left, at = out.any(axis=1), out.argmax(axis=1)
        delays[running[left]] = age + at[left] + 1
        running, level, age = running[~left], path[~left, -1], age + _BLOCK
    return delays


def _follow(level: Array, increments: Array) -> Array:
    """max(0, W + increment), step by step and in closed form."""
    walk = np.cumsum(increments, axis=1)
    lowest = np.minimum(np.minimum.accumulate(walk, axis=1), -level[:, None])
    return np.asarray(walk - lowest)
