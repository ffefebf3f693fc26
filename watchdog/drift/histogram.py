"""Fixed-bin histograms of confidences, which add up over windows, engines and a fleet.

A histogram is DESCRIPTIVE and NOT a decision rule: it says what was seen. How far two of them may lie apart
before something is wrong depends on how many observations each holds, which no picture of them shows.
"""

import math
import reprlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from pydantic import ConfigDict, ValidationError

from watchdog.model.tensor import Array
from watchdog.settings import Settings, complaints

CONFIDENCE_EDGES = tuple(i / 20 for i in range(21))
"""20 equal bins over [0, 1].

``telemetry/metrics.py`` exports the same ones, so that a histogram made here and one that Prometheus scraped can be
laid side by side.
"""


class _Document(Settings):
    """A histogram's JSON."""

    model_config = ConfigDict(strict=True)

    edges: tuple[float, ...]
    counts: tuple[int, ...]
    below: int
    above: int
    non_finite: int


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Histogram:
    """How many values fell into each bin, and how many into none.

    Bin i is (edges[i], edges[i+1]], closed above as Prometheus' ``le`` is; the first holds edges[0] too. Edges
    have the unit of the values.

    >>> monday = Histogram.of(np.array([0.05, 0.4, 0.93]))
    >>> tuesday = Histogram.of(np.array([0.97, 0.99, np.nan]))
    >>> both = monday + tuesday
    >>> both.total, both.non_finite, round(both.quantile(0.5), 3)
    (5, 1, 0.925)
    >>> Histogram.from_json(both.to_json()) == both
    True

    Raises:
        ValueError: edges that don't rise or aren't finite; counts that are negative, above 2⁶³ − 1 or not one a bin.
    """

    edges: tuple[float, ...]
    """Rising and finite; one more than there are bins."""
    counts: Array
    """[bins], int64, read-only."""
    below: int = 0
    """Finite values under the first edge."""
    above: int = 0
    """Finite values over the last edge."""
    non_finite: int = 0
    """NaN and ±infinity. No other number here counts them."""

    def __post_init__(self) -> None:
        edges = _rising(self.edges)
        object.__setattr__(self, "edges", edges)
        object.__setattr__(self, "counts", _whole(self.counts, len(edges) - 1))
        for name in ("below", "above", "non_finite"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is a number of values and can't be negative (got {getattr(self, name)})")

    @classmethod
    def of(cls, values: Array, edges: Sequence[float] = CONFIDENCE_EDGES) -> "Histogram":
        """Count values of any shape, each element for itself; no values make a histogram of nothing.

        Raises:
            ValueError: values that aren't real numbers; edges that don't rise or aren't finite.
        """
        edges = _rising(edges)
        numbers = _numbers(values, "values").ravel()
        finite = numbers[np.isfinite(numbers)]
        inside = finite[(finite >= edges[0]) & (finite <= edges[-1])]
        bins = np.maximum(np.searchsorted(edges, inside, side="left") - 1, 0)
        return cls(
            edges=edges,
            counts=np.bincount(bins, minlength=len(edges) - 1),
            below=int(np.sum(finite < edges[0])),
            above=int(np.sum(finite > edges[-1])),
            non_finite=int(numbers.size - finite.size),
        )

    def __add__(self, other: "Histogram") -> "Histogram":
        """What both saw together.

        Raises:
            ValueError: the edges differ, or a count exceeds 2⁶³ − 1.
        """
        _refuse_other_edges(self, other)
        return Histogram(
            edges=self.edges,
            counts=self.counts + other.counts,  # past 2⁶³ − 1 a sum is negative, which is refused
            below=self.below + other.below,
            above=self.above + other.above,
            non_finite=self.non_finite + other.non_finite,
        )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Histogram):
            return NotImplemented
        return self._document() == other._document()

    __hash__ = None  # type: ignore[assignment]  # it holds an array

    @property
    def total(self) -> int:
        """How many finite values were seen, in a bin or not."""
        return self.below + int(sum(self.counts.tolist())) + self.above

    def quantile(self, q: float) -> float:
        """The value that a share `q` of the finite values doesn't exceed, interpolated within its bin.

        As in Prometheus' ``histogram_quantile``; off by at most its bin's width. A quantile below or above all bins
        is given as the first or the last edge, the nearest that is known.

        Raises:
            ValueError: `q` is outside [0, 1], or no finite value was seen.
        """
        if not 0.0 <= q <= 1.0:
            raise ValueError(f"q must be a share in [0, 1] (got {q}); for the median give 0.5")
        if not self.total:
            raise ValueError("a histogram without finite values has no quantiles; look at `total` first")
        rank, passed = q * self.total, self.below
        if passed and rank <= passed:
            return self.edges[0]
        for (low, high), count in zip(pairwise(self.edges), self.counts.tolist(), strict=True):
            if count and rank <= passed + count:
                return float(min(low + (high - low) * (rank - passed) / count, high))
            passed += count
        return self.edges[-1]

    def to_json(self) -> str:
        """The histogram as a JSON object with the names of its fields; `from_json` gets the same one back."""
        return self._document().model_dump_json()

    @classmethod
    def from_json(cls, text: str) -> "Histogram":
        """A histogram that `to_json` wrote.

        Raises:
            ValueError: the text isn't one; the message names every field that is wrong, and how.
        """
        try:
            read = _Document.model_validate_json(text)
        except ValidationError as error:
            raise ValueError(f"this is no histogram: {'; '.join(complaints(error))}") from error
        return cls(**{**dict(read), "counts": np.array(read.counts)})

    def _document(self) -> _Document:
        return _Document(
            edges=self.edges,
            counts=tuple(self.counts.tolist()),
            below=self.below,
            above=self.above,
            non_finite=self.non_finite,
        )


def shares(reference: Histogram, current: Histogram) -> tuple[Array, Array]:
    """Two histograms as shares of their finite values, each [1 + bins + 1]: below, the bins, above; each sums to 1.

    Raises:
        ValueError: the edges differ, or one holds no finite value; the message says which.
    """
    _refuse_other_edges(reference, current)
    return _shares(reference, "reference"), _shares(current, "current")


def _shares(histogram: Histogram, name: str) -> Array:
    if not histogram.total:
        raise ValueError(f"{name} holds no finite value; wait until there are some")
    counts = [histogram.below, *histogram.counts.tolist(), histogram.above]
    return np.array([count / histogram.total for count in counts])


def sample(values: Array, name: str) -> Array:
    """The values as float64, once it is sure that they are a sample: [n], n ≥ 1, finite.

    Raises:
        ValueError: they aren't; the message says what `name` must be.
    """
    numbers = _numbers(values, name)
    if numbers.ndim != 1:
        raise ValueError(f"{name} must be [n] (got shape {numbers.shape}); make each observation one number first")
    if not numbers.size:
        raise ValueError(f"{name} is empty; give at least one observation")
    if not np.isfinite(numbers).all():
        raise ValueError(f"{name} holds NaN or infinity; that is a fault by itself: report it, then leave it out")
    return numbers


def quantile_edges(ordinary: Array, bins: int) -> Array:
    """The inner edges, at most `bins` − 1, that cut a sample [n] into bins of nearly equal mass, each closed above.

    Edges are observations, so a rising transformation of the sample moves them along. Equal observations share a bin,
    every bin holds some, and there are fewer bins where ties leave no more; a constant sample has no edge at all.

    >>> quantile_edges(np.array([0.1, 0.2, 0.3, 0.4]), 2)
    array([0.2])

    Raises:
        ValueError: fewer than 2 bins.
    """
    if bins < 2:
        raise ValueError(f"bins must be at least 2 (got {bins}); 10 is customary")
    ordered = np.sort(ordinary)
    under_top: Array = ordered[ordered < ordered[-1]]
    if not under_top.size:
        return under_top
    last_in_bin = (np.arange(1, bins) * ordered.size - 1) // bins
    edges = np.minimum(ordered[last_in_bin], under_top[-1])  # one at the top would leave the bin above it empty
    return np.asarray(np.unique(edges))


def _numbers(values: Array, name: str) -> Array:
    array = np.asarray(values)
    if array.dtype.kind not in "biuf":
        raise ValueError(f"{name} must be real numbers (got dtype {array.dtype}); convert them first")
    return array.astype(np.float64)


def _rising(edges: Sequence[float]) -> tuple[float, ...]:
    rising = tuple(float(edge) for edge in edges)
    if len(rising) < 2 or not all(map(math.isfinite, rising)) or any(high <= low for low, high in pairwise(rising)):
        raise ValueError(
            f"edges must be two finite numbers or more, each above the one before (got {reprlib.repr(rising)})"
        )
    return rising


def _whole(counts: Array, bins: int) -> Array:
    array = np.asarray(counts)
    if array.shape == (bins,) and array.dtype.kind in "iu":
        whole = array.astype(np.int64)
        if (whole >= 0).all():
            whole.setflags(write=False)
            return whole
    raise ValueError(
        f"counts must be {bins} whole numbers from 0 to 2⁶³ − 1, one a bin (got {reprlib.repr(array.tolist())})"
    )


def _refuse_other_edges(one: Histogram, other: Histogram) -> None:
    if one.edges != other.edges:
        spans = " and ".join(f"{len(h.edges) - 1} bins over [{h.edges[0]:g}, {h.edges[-1]:g}]" for h in (one, other))
        raise ValueError(f"the histograms have different edges ({spans}); count both over the same ones")
