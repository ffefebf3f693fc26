"""Quantiles of a stream's last minutes, in little memory.

The window is a ring of slices, each with a sketch of its own; a quantile is that of the sketches of
all slices in the window, merged. Masson, Rim and Lee, "DDSketch: a fast and fully-mergeable quantile
sketch with relative-error guarantees" (2019).
"""

import math

from ddsketch import DDSketch

_LEAST_S, _MOST_S = 1e-9, 1e6
"""Shorter and longer times count as these, so that no sketch has more than some thousand bins."""


class SlidingQuantiles:
    """Quantiles of the times of a sliding window, which moves on by a slice at a time.

    Args:
        over_s: the window, in seconds; between this and a slice less is looked at.
        slices: how many parts it is forgotten in.
        accuracy: how far a quantile may be from the exact one, as a share of it.
        least: so many observations make a quantile.
    """

    def __init__(self, over_s: float, slices: int = 12, accuracy: float = 0.01, least: int = 20) -> None:
        self._slice_s = over_s / slices
        self._slices = slices
        self._accuracy = accuracy
        self._least = least
        self._sketches: dict[int, DDSketch] = {}
        """By slice, counted from time 0."""

    def add(self, at: float, seconds: float) -> None:
        """Take an observation; what is no span of time, or older than the window, is left out.

        Args:
            at: when, in seconds of any clock.
            seconds: how long it took, from 0.
        """
        if not (0 <= seconds < math.inf and math.isfinite(at)):
            return
        own = self._slice(at)
        newest = max(self._sketches, default=own)
        if own > newest:
            self._sketches = {each: held for each, held in self._sketches.items() if each > own - self._slices}
        elif own <= newest - self._slices:
            return
        if own not in self._sketches:
            self._sketches[own] = DDSketch(self._accuracy)
        self._sketches[own].add(min(max(seconds, _LEAST_S), _MOST_S))

    def quantile(self, q: float, now: float) -> float | None:
        """The q-quantile in seconds, of those in order the one at q × (n − 1), rounded down.

        None where the window holds too few.

        Args:
            q: in [0, 1].
            now: where the window ends, by the clock of `add`.
        """
        merged = DDSketch(self._accuracy)
        oldest = self._slice(now) - self._slices
        for each, held in self._sketches.items():
            if each > oldest:
                merged.merge(held)
        return merged.get_quantile_value(q) if merged.count >= self._least else None

    def _slice(self, at: float) -> int:
        return math.floor(at / self._slice_s)
