"""How well confidences agree with what turned out to be true, where that is known.

Both measures take confidences [n] in [0, 1] and the truth [n], 0 or 1, one row a case: a probability and whether its
event happened, or the top class' probability and whether that class was right. Both are 0 at best and 1 at worst.

DESCRIPTIVE and NOT a decision rule: the truth comes days late and for a biased part of the cases, long after patients
met a broken engine; and both measures move with the cases' mix while the engine stays as it was. A *perfectly*
calibrated model's expected calibration error isn't 0 either: about 0.04 for 1,000 cases in 15 bins.
"""

from typing import Literal

import numpy as np

from watchdog.drift.histogram import quantile_edges, sample
from watchdog.model.tensor import Array


def expected_calibration_error(
    confidences: Array, truth: Array, *, bins: int = 15, equal: Literal["width", "mass"] = "width"
) -> float:
    """Σ_b n_b/n · |mean truth in b − mean confidence in b|, over bins b of equal width or of equal mass.

    Naeini, Cooper and Hauskrecht, "Obtaining Well Calibrated Probabilities Using Bayesian Binning", AAAI (2015), and
    Guo et al., "On Calibration of Modern Neural Networks", ICML (2017); equal mass: Nguyen and O'Connor, "Posterior
    Calibration and Exploratory Analysis for Natural Language Processing Models", EMNLP (2015). Bins are closed above;
    equal confidences share a bin of equal mass, so the order of the cases plays no part.

    >>> confidences, truth = np.array([0.1, 0.1, 0.9, 0.9]), np.array([0, 0, 1, 0])
    >>> round(expected_calibration_error(confidences, truth, bins=2), 6)  # ½·|0 − 0.1| + ½·|0.5 − 0.9|
    0.25

    Raises:
        ValueError: confidences outside [0, 1]; a truth that is neither 0 nor 1; other shapes; nothing at all; fewer
            than 2 bins; bins equal in something else.
    """
    confidences, truth = _cases(confidences, truth)
    edges = _inner_edges(confidences, bins, equal)
    gaps = np.bincount(np.searchsorted(edges, confidences, side="left"), weights=truth - confidences)
    return float(np.sum(np.abs(gaps)) / truth.size)


def brier_score(confidences: Array, truth: Array) -> float:
    """The mean of (confidence − truth)²; always answering 0.5 scores 0.25.

    Half of the two-class sum in Brier, "Verification of Forecasts Expressed in Terms of Probability", Monthly Weather
    Review 78 (1950). It holds calibration and discrimination in one number.

    >>> round(brier_score(np.array([0.9, 0.2]), np.array([1, 0])), 6)
    0.025

    Raises:
        ValueError: confidences outside [0, 1]; a truth that is neither 0 nor 1; other shapes; nothing at all.
    """
    confidences, truth = _cases(confidences, truth)
    return float(np.mean(np.square(confidences - truth)))


def _cases(confidences: Array, truth: Array) -> tuple[Array, Array]:
    confidences, truth = sample(confidences, "confidences"), sample(truth, "truth")
    if confidences.shape != truth.shape:
        raise ValueError(f"truth must be one a confidence (got {truth.size} for {confidences.size}); pair them first")
    if confidences.min() < 0.0 or confidences.max() > 1.0:
        raise ValueError("confidences must be in [0, 1]; apply the model's activation to logits first")
    if not np.isin(truth, (0.0, 1.0)).all():
        raise ValueError("truth must be 0 or 1; say for each case whether its event happened")
    return confidences, truth


def _inner_edges(confidences: Array, bins: int, equal: str) -> Array:
    if equal == "mass":
        return quantile_edges(confidences, bins)
    if equal != "width":
        raise ValueError(f"equal must be 'width' or 'mass' (got {equal!r})")
    if bins < 2:
        raise ValueError(f"bins must be at least 2 (got {bins}); 15 is customary")
    return np.arange(1, bins) / bins
