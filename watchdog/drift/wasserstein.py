"""The 1-Wasserstein distance: how far, on average, values must move to turn one sample into the other.

    W₁ = ∫ |F(x) − G(x)| dx

F and G being the samples' empirical distribution functions. Kantorovich (1942); in one dimension it is this integral:
Vallender, "Calculation of the Wasserstein Distance between Probability Distributions on the Line", Theory of
Probability and Its Applications 18 (1974).

DESCRIPTIVE and NOT a decision rule: it carries the values' unit and knows no sample size. When nothing has changed it
still is above 0 and shrinks as 1/√n, with a factor that depends on the distribution, so that a fixed limit means
another false-alarm rate for every model and every window. A fault in a tenth of a stream moves it a tenth as far.
"""

from watchdog.drift.histogram import sample
from watchdog.model.tensor import Array


def distance(reference: Array, current: Array) -> float:
    """The distance of two samples, [n] and [m], in their unit: from 0 for equal ones to the range of both together.

    >>> import numpy as np
    >>> round(distance(np.array([0.1, 0.2]), np.array([0.4, 0.5])), 6)
    0.3

    Raises:
        ValueError: a sample that is empty, not finite or not one-dimensional.
    """
    reference, current = sample(reference, "reference"), sample(current, "current")
    from scipy.stats import wasserstein_distance  # noqa: PLC0415 - heavy

    return float(wasserstein_distance(reference, current))
