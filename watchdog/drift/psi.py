"""The population stability index (PSI): how differently two samples fill the same bins.

    PSI = Σ_b (q_b − p_b) · ln(q_b / p_b)

over bins b, p the reference's shares and q the current ones. This is Jeffreys' divergence J(p, q), the sum of both
Kullback–Leibler divergences, in nats: Jeffreys, "An Invariant Form for the Prior Probability in Estimation Problems",
Proc. R. Soc. A 186 (1946); its use and name: Siddiqi, "Credit Risk Scorecards" (2006).

0 when both fill the bins alike, at most 2·ln(1/floor), which is 18.4 for the default floor. A share below the floor
counts as the floor, so that an empty bin adds much, not infinity.

DESCRIPTIVE and NOT a decision rule: the customary limit of 0.2 knows no sample size. When nothing has changed, the
index of n against m observations still is about (bins − 1)·(1/n + 1/m) on average, so PSI > 0.2 on a sliding window of
100 raises a false alarm every 399–420 observations (measured against a reference of 1,000); on a window of 500 it
raised none in a million, and is blind to mild and partial changes.
"""

import numpy as np

from watchdog.drift.histogram import Histogram, quantile_edges, sample, shares
from watchdog.model.tensor import Array

FLOOR = 1e-4
"""The smallest share that a bin counts with."""


def of_samples(reference: Array, current: Array, *, bins: int = 10, floor: float = FLOOR) -> float:
    """The PSI of two samples, [n] and [m], of any unit, over bins that hold equal parts of the reference.

    The outermost bins are open; ties in the reference make fewer bins (see `quantile_edges`).

    >>> reference = np.arange(100) / 100
    >>> of_samples(reference, reference)
    0.0
    >>> round(of_samples(reference, np.sqrt(reference)), 2)
    0.47

    Raises:
        ValueError: a sample that is empty, not finite or not one-dimensional; a constant reference; fewer than 2 bins;
            a floor outside (0, 1).
    """
    reference, current = sample(reference, "reference"), sample(current, "current")
    edges = quantile_edges(reference, bins)
    if not edges.size:
        raise ValueError(f"reference holds nothing but {reference[0]:g}, so no bins; give a sample that varies")
    return _index(_shares(reference, edges), _shares(current, edges), floor)


def of_histograms(reference: Histogram, current: Histogram, *, floor: float = FLOOR) -> float:
    """The PSI of two histograms over the same edges, what lies below and above them being two more bins.

    >>> reference = Histogram.of(np.array([0.1, 0.1, 0.9, 0.9]), (0, 0.5, 1))
    >>> current = Histogram.of(np.array([0.1, 0.9, 0.9, 0.9]), (0, 0.5, 1))
    >>> round(of_histograms(reference, current), 4)  # −0.25·ln 0.5 + 0.25·ln 1.5
    0.2747

    Raises:
        ValueError: other edges; a histogram without finite values; a floor outside (0, 1).
    """
    return _index(*shares(reference, current), floor)


def _shares(values: Array, edges: Array) -> Array:
    bins = np.searchsorted(edges, values, side="left")
    return np.asarray(np.bincount(bins, minlength=edges.size + 1) / values.size)


def _index(reference: Array, current: Array, floor: float) -> float:
    if not 0.0 < floor < 1.0:
        raise ValueError(f"floor must be a share in (0, 1) (got {floor}); {FLOOR:g} is customary")
    p, q = np.maximum(reference, floor), np.maximum(current, floor)
    return float(np.sum((q - p) * np.log(q / p)))
