"""What people usually do, for comparison: a sliding window against the reference, with a customary limit.

None of them promises anything: the limits are for *one* look, and a window that slides looks at every
observation. The steps here are exact: each is what `kolmogorov_smirnov.two_sample` or (up to rounding)
`psi.of_samples` says of that window, computed for many windows at once.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from watchdog.drift import psi
from watchdog.drift.histogram import quantile_edges
from watchdog.drift.kolmogorov_smirnov import two_sample
from watchdog.model.tensor import Array

_CELLS = 1 << 21
"""So many elements of windows are looked at together: some 20 MiB."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Practice:
    """One of them."""

    name: str
    window: int
    """Observations."""
    alarming: Callable[[Array, Array, int], Array]
    """(reference [n], stream [t], window) → [t − window + 1] bool, whether each whole window alarms."""


def ks_gaps(reference: Array, stream: Array, window: int) -> Iterator[Array]:
    """The KS statistic of each window, times n·window so that it is whole: [t − window + 1] int64, in chunks.

    The gap between both distribution functions is widest at an observation of the window, or just below one; so
    it takes the ranks of those in the reference alone, sorted. Cost: one sort of `window` small integers a step.
    """
    n, ordered = reference.size, np.sort(reference)
    kind = np.uint16 if n < 1 << 16 else np.int32  # numpy sorts short integers in no time
    up_to = np.searchsorted(ordered, stream, side="right").astype(kind)
    below = np.searchsorted(ordered, stream, side="left").astype(kind)
    tied = bool(np.any(up_to != below))
    mass = np.arange(1, window + 1, dtype=np.int64) * n
    step = max(_CELLS // window, 1)
    for begin in range(0, stream.size - window + 1, step):
        part = slice(begin, min(begin + step, stream.size - window + 1) + window - 1)
        high = np.sort(sliding_window_view(up_to[part], window), axis=1).astype(np.int64) * window
        low = np.sort(sliding_window_view(below[part], window), axis=1).astype(np.int64) * window if tied else high
        yield np.maximum((mass - high).max(axis=1), (low - (mass - n)).max(axis=1))


def ks_alarming(level: float) -> Callable[[Array, Array, int], Array]:
    """Whether the two-sample test's p-value is below `level`, as SciPy has it.

    The p-value falls as the gap grows, so it is computed for a few windows only, to find the gap from which on it
    is below.
    """

    def alarming(reference: Array, stream: Array, window: int) -> Array:
        if stream.size < window:
            return np.zeros(0, dtype=bool)
        gaps = np.concatenate(list(ks_gaps(reference, stream, window)))
        sizes, first = np.unique(gaps, return_index=True)
        low, high = 0, len(sizes)
        while low < high:
            middle = (low + high) // 2
            at = int(first[middle])
            if two_sample(reference, stream[at : at + window]).p_value < level:
                high = middle
            else:
                low = middle + 1
        return np.asarray(gaps >= sizes[low]) if low < len(sizes) else np.zeros(gaps.size, dtype=bool)

    return alarming


def psi_steps(reference: Array, stream: Array, window: int, *, bins: int = 10) -> Array:
    """The PSI of each window: [t − window + 1], over bins that hold equal parts of the reference."""
    edges = quantile_edges(reference, bins)
    if stream.size < window or not edges.size:
        return np.zeros(max(stream.size - window + 1, 0))
    ordinary = np.bincount(np.searchsorted(edges, reference, side="left"), minlength=edges.size + 1)
    p = np.maximum(ordinary / reference.size, psi.FLOOR)
    places = np.searchsorted(edges, stream, side="left")
    steps = np.zeros(stream.size - window + 1)
    for b in range(edges.size + 1):
        passed = np.concatenate([[0], np.cumsum(places == b)])
        q = np.maximum((passed[window:] - passed[:-window]) / window, psi.FLOOR)
        steps += (q - p[b]) * np.log(q / p[b])
    return steps


def psi_alarming(limit: float) -> Callable[[Array, Array, int], Array]:
    """Whether the PSI exceeds a limit."""

    def alarming(reference: Array, stream: Array, window: int) -> Array:
        return psi_steps(reference, stream, window) > limit

    return alarming


def alarms(alarming: Array, window: int) -> list[int]:
    """The stream's observations at which a practice alarms, if its window is emptied and filled anew after each.

    >>> alarms(np.array([False, True, True, True]), 2)
    [2, 4]
    """
    candidates = np.flatnonzero(alarming) + window - 1
    found: list[int] = []
    place = 0
    while place < candidates.size:
        found.append(int(candidates[place]))
        place = int(np.searchsorted(candidates, found[-1] + window))
    return found


PRACTICES: Sequence[Practice] = (
    Practice(name="KS p < 0.01, window 100", window=100, alarming=ks_alarming(0.01)),
    Practice(name="KS p < 0.01, window 500", window=500, alarming=ks_alarming(0.01)),
    Practice(name="PSI > 0.2, window 500", window=500, alarming=psi_alarming(0.2)),
)
