"""Does a process' GPU memory leak? Its growth over a window, however noise and steps disguise it.

- **The rate** is the median slope over all pairs of samples, with bounds from Kendall's S: Theil, "A
  rank-invariant method of linear and polynomial regression analysis" (1950); Sen, "Estimates of the
  regression coefficient based on Kendall's tau" (1968). No step and no outlier moves it far.
- **The floor**, at each moment, is the least that was in use from then on: memory that was never given
  back. It rises again and again in a leak, once or twice when models are loaded, and not at all in a
  sawtooth that returns to where it was.

A leak grows at `least_bytes_per_hour` or more even by the rate's lower bound; its floor rises
`_LEAST_RISES` times or more, in both halves of the window; and of all that it rose, since it first did,
`_GOES_ON` or more came in the later half of that time, which is not so while a warm-up settles.

Noise of a deviation σ hides a leak until it has grown by about 4σ. What wanders, or swings in sawtooths
longer than half the window, can pass for growth: the window should be many times as long. So can a
model's load that takes longer than a twentieth of it: whoever knows of one says `LeakDetector.reset`.
"""

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from watchdog.model.gpu import Growth
from watchdog.model.tensor import Array

_SLOTS = 200
"""The window's parts, of which one sample each is kept; all pairs of them cost a few milliseconds."""
_LEAST_SAMPLES, _LEAST_SPAN = 20, 0.5
_LEAST_RISES, _APART = 4, 0.05
"""How many, and by what share of the window two of them are separate."""
_STEP, _NOISE = 1 / 32, 0.8
"""A rise is this share of the whole growth, and so many deviations of the noise, or more."""
_SMOOTH = 5
"""The floor is that of medians of so many neighbours, which keep steps and lose much of the noise."""
_GOES_ON = 1 / 4
_HOUR_S = 3600.0


@dataclass(frozen=True, kw_only=True, slots=True)
class _Sample:
    at: float
    used_bytes: int


class LeakDetector:
    """One process' memory over a sliding window. An update costs a look-up; `growth` does the work.

    Args:
        over_s: the window, in seconds.
        least_bytes_per_hour: slower growth is nobody's concern.
        confidence: that the rate lies within its bounds; less where noise wanders for long.
    """

    def __init__(self, over_s: float, least_bytes_per_hour: float, confidence: float = 0.99) -> None:
        self._over_s = over_s
        self._least = least_bytes_per_hour
        self._deviations = NormalDist().inv_cdf(0.5 + confidence / 2)
        self._slot_s = over_s / _SLOTS
        self._slots: dict[int, _Sample] = {}

    def update(self, at: float, used_bytes: int | None) -> None:
        """Take a sample; in any order, and as often as they come.

        Of samples close together the least is kept: what allocators hold for a moment is no leak.

        Args:
            at: seconds, of any clock that does not jump.
            used_bytes: None, or 0, where it isn't known, which says nothing.
        """
        if not used_bytes or used_bytes < 0 or not math.isfinite(at):
            return
        slot = math.floor(at / self._slot_s)
        known = self._slots.get(slot)
        if known is None or used_bytes < known.used_bytes:
            self._slots[slot] = _Sample(at=at, used_bytes=used_bytes)
        if known is None and len(self._slots) > _SLOTS:
            oldest = max(self._slots) - _SLOTS
            self._slots = {each: sample for each, sample in self._slots.items() if each > oldest}

    def reset(self) -> None:
        """Start anew: a model was loaded, or the process is another."""
        self._slots.clear()

    def growth(self, room_bytes: int | None) -> Growth | None:
        """What the window shows; None while it shows too little.

        Args:
            room_bytes: how much more the process may take; None where that isn't known.
        """
        at, used = self._series()
        if len(at) < _LEAST_SAMPLES or at[-1] - at[0] < _LEAST_SPAN * self._over_s:
            return None
        rate, low, high = (each * _HOUR_S for each in _slope(at, used, self._deviations))
        when, smooth = at[_SMOOTH // 2 : -(_SMOOTH // 2)], np.median(sliding_window_view(used, _SMOOTH), axis=1)
        floor = np.minimum.accumulate(smooth[::-1])[::-1]
        rises = _rises(when, floor, _spread(used - rate / _HOUR_S * at), _APART * self._over_s)
        leaking = low >= self._least and len(rises) >= _LEAST_RISES and _goes_on(when, floor, rises)
        return Growth(
            bytes_per_hour=rate,
            low=low,
            high=high,
            over_s=float(at[-1] - at[0]),
            samples=len(at),
            rises=len(rises),
            leaking=leaking,
            exhausted_in_s=room_bytes / rate * _HOUR_S if leaking and room_bytes is not None else None,
        )

    def _series(self) -> tuple[Array, Array]:
        """Times and bytes within the window, in order."""
        oldest = max(self._slots, default=0) - _SLOTS
        kept = [self._slots[slot] for slot in sorted(self._slots) if slot > oldest]
        return np.array([each.at for each in kept]), np.array([float(each.used_bytes) for each in kept])


def _slope(at: Array, used: Array, deviations: float) -> tuple[float, float, float]:
    """The median slope of all pairs, and its lower and upper bound: Sen (1968), with his correction for ties."""
    n = len(at)
    first, second = np.triu_indices(n, 1)
    slopes = np.sort((used[second] - used[first]) / (at[second] - at[first]))
    ties = np.unique(used, return_counts=True)[1].astype(np.float64)
    variance = (n * (n - 1) * (2 * n + 5) - np.sum(ties * (ties - 1) * (2 * ties + 5))) / 18
    rate = float(np.median(slopes))
    off = deviations * math.sqrt(max(float(variance), 0.0) * _inflation(used - rate * at))
    low = max(math.floor((len(slopes) - off) / 2) - 1, 0)
    high = min(math.ceil((len(slopes) + off) / 2), len(slopes) - 1)
    return rate, float(slopes[low]), float(slopes[high])


def _inflation(errors: Array) -> float:
    """By how much the variance of Kendall's S grows because errors resemble those before them.

    Hamed and Rao, "A modified Mann-Kendall trend test for autocorrelated data" (1998).
    """
    n = len(errors)
    ranks = np.argsort(np.argsort(errors, kind="stable"), kind="stable") - (n - 1) / 2
    alike = np.correlate(ranks, ranks, "full")[n:] / np.sum(ranks**2)
    left = n - np.arange(1.0, n)
    alike[np.abs(alike) < 1.96 / math.sqrt(n)] = 0.0
    return max(1.0, 1.0 + 2.0 * float(np.sum(left * (left - 1) * (left - 2) * alike)) / (n * (n - 1) * (n - 2)))


def _spread(errors: Array) -> float:
    """The standard deviation of noise, by the median of absolute errors: rare outliers don't move it."""
    return 1.4826 * float(np.median(np.abs(errors - np.median(errors))))


def _rises(at: Array, floor: Array, spread: float, apart_s: float) -> list[float]:
    """When the floor rose, each time by more than noise and apart from the last time."""
    step = max(_STEP * float(floor[-1] - floor[0]), _NOISE * spread)
    rises: list[float] = []
    level = floor[0]
    for when, height in zip(at.tolist(), floor.tolist(), strict=True):
        if height > level and height - level >= step:
            level = height
            if not rises or when - rises[-1] >= apart_s:
                rises.append(when)
    return rises


def _goes_on(at: Array, floor: Array, rises: list[float]) -> bool:
    """Whether it rose in both halves of the window, and has not been settling since it first did."""
    middle = (at[0] + at[-1]) / 2
    halfway = float(np.interp((rises[0] + at[-1]) / 2, at, floor))
    lately = float(floor[-1]) - halfway
    return bool(rises[0] <= middle < rises[-1] and lately >= _GOES_ON * float(floor[-1] - floor[0]))
