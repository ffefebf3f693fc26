"""What practice computes over its last observations, for many streams at once."""

from collections import deque
from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy.stats import ks_2samp

from bench.drift.streams import Array, Rng
from bench.drift.subject import Cost, Update, count_by_restarting, take_cost

_BLOCK = 4096
"""Observations that are prepared at a time: most changes are found long before a stream's end."""
_BINS = 10
"""Of the PSI, as its users have it: between the reference's deciles."""
_EMPTY = 1e-4
"""The share that an empty bin counts as."""


@dataclass(frozen=True, kw_only=True)
class SlidingKs:
    """The Kolmogorov-Smirnov test of the last `window` observations against the reference, at each step."""

    name: str
    window: int
    distance: float | None = None
    """Alarm where the distribution functions are at least so far apart, or …"""
    p_value: float | None = None
    """… where `scipy.stats.ks_2samp` gives less than this."""
    arl_promised: float | None = None
    learns: bool = True
    share: float = 1.0

    def run(self, references: Array, streams: Array, _rng: Rng) -> Array:
        """Exact at every step without looking at every step.

        A step changes the distance by 1/window at most. So a distance d can't reach a limit c within the
        next (c − d)·window steps.
        """
        ordered = np.sort(references, axis=1)
        limit = self._limit(references.shape[1])
        found, due = np.full(len(streams), -1), np.zeros(len(streams), dtype=np.int64)
        for begin in range(0, streams.shape[1] - self.window + 1, _BLOCK):
            going = np.flatnonzero(found < 0)
            block = streams[going, begin : begin + _BLOCK + self.window - 1]
            at, due[going] = _first_far(*_ranks(ordered[going], block), due[going], self.window, limit)
            found[going] = np.where(at >= 0, at + begin + self.window - 1, -1)
        return found

    def count_alarms(self, references: Array, streams: Array, rng: Rng) -> int:
        return count_by_restarting(self.run, references, streams, rng)

    def cost(self, reference: Array, stream: Array) -> Cost:
        few = stream[: self.window + 50]  # as each takes milliseconds
        return take_cost(lambda: self._fresh(reference.copy()), few, warm_up=self.window)

    def _limit(self, size: int) -> tuple[int, int]:
        """The least distance that is an alarm, in units of 1/(window·size); and the size."""
        if self.p_value is not None:
            return _critical(size, self.window, self.p_value), size
        assert self.distance is not None
        return int(np.ceil(self.distance * size * self.window - 1e-6)), size

    def _fresh(self, reference: Array) -> Update:
        last: deque[float] = deque(maxlen=self.window)

        def update(x: float) -> bool:
            last.append(x)
            if len(last) < self.window:
                return False
            answer = ks_2samp(np.array(last), reference)
            return bool(answer.pvalue < self.p_value if self.p_value is not None else answer.statistic >= self.distance)

        return update


def _ranks(ordered: Array, streams: Array) -> tuple[Array, Array]:
    """[S, T] how many of each stream's reference are below an observation, and how many at or below it."""
    below, upto = np.empty(streams.shape, dtype=np.int32), np.empty(streams.shape, dtype=np.int32)
    for i, (reference, stream) in enumerate(zip(ordered, streams, strict=True)):
        below[i] = np.searchsorted(reference, stream, side="left")
        upto[i] = np.searchsorted(reference, stream, side="right")
    return below, upto


def _first_far(below: Array, upto: Array, due: Array, window: int, limit: tuple[int, int]) -> tuple[Array, Array]:
    """[S] the first window whose distance is at least the limit (−1: none), and where the next must be looked at.

    Both count windows from the block's first; `due` says the same of the first one to look at.
    """
    least, size = limit
    windows = below.shape[1] - window + 1
    found, due = np.full(len(below), -1), due.copy()
    offsets = np.arange(window)
    looking = np.flatnonzero(due < windows)
    while len(looking):
        columns = due[looking, None] + offsets
        far = _distance(below[looking[:, None], columns], upto[looking[:, None], columns], size)
        found[looking] = np.where(far >= least, due[looking], -1)
        due[looking] += np.maximum(1, -((far - least) // size))
        looking = looking[(far < least) & (due[looking] < windows)]
    return found, due - windows


def _distance(below: Array, upto: Array, size: int) -> Array:
    """[…] max |F_window − F_reference| in units of 1/(window·size), of [… window] ranks.

    F_window steps only at the window's own observations: the i-th of them is where it is highest above the
    reference, (i + 1)/window − upto/size, and just before it lowest below, below/size − i/window. Ranks
    are sorted one by one, as both grow with the observation.
    """
    window = below.shape[-1]
    steps = np.arange(window, dtype=np.int32) * np.int32(size)
    above = (steps + size - np.sort(upto, axis=-1) * np.int32(window)).max(axis=-1)
    beneath = (np.sort(below, axis=-1) * np.int32(window) - steps).max(axis=-1)
    return np.asarray(np.maximum(above, beneath))


@cache
def _critical(size: int, window: int, p_value: float) -> int:
    """The least distance, in units of 1/(window·size), for which scipy's p-value is below this one.

    The p-value depends on the samples by their distance alone, so pairs are made for each distance.
    """
    low, high = size // window, size
    while high - low > 1:
        middle = (low + high) // 2
        if ks_2samp(*_pair(size, window, middle)).pvalue < p_value:
            high = middle
        else:
            low = middle
    return high * window


def _pair(size: int, window: int, distance: int) -> tuple[Array, Array]:
    """A window and a reference whose distance is so many times 1/size, at least 1/window; size is a multiple of it.

    After `skipped` of the reference `ahead` of the window come at once, and the rest keeps step from there.
    """
    each = size // window
    ahead = -(-distance // each)
    skipped = ahead * each - distance
    rest = skipped + np.ceil(np.arange(1, window - ahead + 1) * (size - skipped) / max(window - ahead, 1)) - 1
    return np.concatenate([np.full(ahead, skipped - 0.5), rest]), np.arange(size, dtype=np.float64)


@dataclass(frozen=True, kw_only=True)
class SlidingPsi:
    """The population stability index of the last `window` observations against the reference's deciles.

    Σ (p − q)·log(p/q) over the bins (E. M. Lewis, "An Introduction to Credit Scoring", 1994; 0.1 and 0.2
    or 0.25 are its customary limits).
    """

    name: str
    window: int
    limit: float
    arl_promised: float | None = None
    learns: bool = True
    share: float = 1.0

    def run(self, references: Array, streams: Array, _rng: Rng) -> Array:
        edges, terms = _bins(references, self.window)
        found = np.full(len(streams), -1)
        for begin in range(0, streams.shape[1] - self.window + 1, _BLOCK):
            going = np.flatnonzero(found < 0)
            block = streams[going, begin : begin + _BLOCK + self.window - 1]
            over = _psi(edges[going], terms[going], block, self.window) >= self.limit
            found[going] = np.where(over.any(axis=1), over.argmax(axis=1) + begin + self.window - 1, -1)
        return found

    def count_alarms(self, references: Array, streams: Array, rng: Rng) -> int:
        return count_by_restarting(self.run, references, streams, rng)

    def cost(self, reference: Array, stream: Array) -> Cost:
        return take_cost(lambda: self._fresh(reference), stream)

    def _fresh(self, reference: Array) -> Update:
        edges, expected = _deciles(reference)
        last: deque[float] = deque(maxlen=self.window)

        def update(x: float) -> bool:
            last.append(x)
            if len(last) < self.window:
                return False
            actual = np.bincount(np.searchsorted(edges, np.array(last)), minlength=_BINS) / self.window
            actual = np.maximum(actual, _EMPTY)
            return bool(((actual - expected) * np.log(actual / expected)).sum() >= self.limit)

        return update


def _deciles(reference: Array) -> tuple[Array, Array]:
    """The inner edges and the reference's own shares, which ties make unlike."""
    edges = np.quantile(reference, np.arange(1, _BINS) / _BINS)
    shares = np.bincount(np.searchsorted(edges, reference), minlength=_BINS) / len(reference)
    return edges, np.maximum(shares, _EMPTY)


def _bins(references: Array, window: int) -> tuple[Array, Array]:
    """[S, bins − 1] edges, and [S, bins, window + 1] what so many observations in a bin add to the index."""
    pairs = [_deciles(reference) for reference in references]
    expected = np.array([shares for _, shares in pairs])[:, :, None]
    actual = np.maximum(np.arange(window + 1) / window, _EMPTY)
    return np.array([edges for edges, _ in pairs]), (actual - expected) * np.log(actual / expected)


def _psi(edges: Array, terms: Array, streams: Array, window: int) -> Array:
    """[S, T − window + 1] of each full window."""
    which = (streams[:, :, None] > edges[:, None, :]).sum(axis=2, dtype=np.int8)
    index = np.zeros((len(streams), streams.shape[1] - window + 1))
    rows = np.arange(len(streams))[:, None]
    for k in range(_BINS):
        counted = np.cumsum(which == k, axis=1, dtype=np.int32)
        counted[:, window:] -= counted[:, :-window].copy()
        index += terms[rows, k, counted[:, window - 1 :]]
    return index


@dataclass(frozen=True, kw_only=True)
class MeanCusum:
    """Two one-sided CUSUMs of the mean, standardised by the reference (E. S. Page, Biometrika 41, 1954)."""

    name: str
    threshold: float
    """Deviations."""
    allowance: float
    """Deviations: half the shift that it is meant for."""
    arl_promised: float | None = None
    learns: bool = True
    share: float = 1.0

    def run(self, references: Array, streams: Array, _rng: Rng) -> Array:
        z = (streams - references.mean(axis=1, keepdims=True)) / references.std(axis=1, ddof=1, keepdims=True)
        over = np.maximum(_reflected(z - self.allowance), _reflected(-z - self.allowance)) >= self.threshold
        return np.where(over.any(axis=1), over.argmax(axis=1), -1)

    def count_alarms(self, references: Array, streams: Array, rng: Rng) -> int:
        return count_by_restarting(self.run, references, streams, rng)

    def cost(self, reference: Array, stream: Array) -> Cost:
        return take_cost(lambda: self._fresh(reference), stream)

    def _fresh(self, reference: Array) -> Update:
        mean, deviation = float(reference.mean()), float(reference.std(ddof=1))
        up = down = 0.0

        def update(x: float) -> bool:
            nonlocal up, down
            z = (x - mean) / deviation
            up, down = max(0.0, up + z - self.allowance), max(0.0, down - z - self.allowance)
            return max(up, down) >= self.threshold

        return update


def _reflected(increments: Array) -> Array:
    """W_t = max(0, W_{t−1} + increment), in closed form."""
    walk = np.cumsum(increments, axis=1)
    return np.asarray(walk - np.minimum(np.minimum.accumulate(walk, axis=1), 0.0))
