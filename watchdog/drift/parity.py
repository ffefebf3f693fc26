"""How far an answer is from the golden one. Every measure is 0 (or 1, said below) when equal."""

import math

import numpy as np

from watchdog.model.tensor import Array

_TINY = 1e-12


def max_abs(got: Array, golden: Array) -> float:
    """The largest absolute difference of two arrays of one shape; 0 when equal."""
    return float(np.max(np.abs(got - golden), initial=0.0))


def relative_l2(got: Array, golden: Array) -> float:
    """‖got − golden‖₂ / ‖golden‖₂; 0 when equal. A zero golden answer counts as of norm 1e-12."""
    return _norm(got - golden) / max(_norm(golden), _TINY)


def _norm(array: Array) -> float:
    """‖array‖₂, without BLAS: for a sum of squares it would wake its threads, which cost more than they save."""
    return math.sqrt(float(np.sum(np.square(array))))


def cosine(got: Array, golden: Array) -> float:
    """The cosine similarity of two arrays as vectors, in [−1, 1]; 1 when parallel.

    1 for two zero vectors, 0 when just one of them is zero.
    """
    a, b = _direction(got), _direction(golden)
    if not (a.any() and b.any()):
        return 0.0 if a.any() or b.any() else 1.0
    return float(np.clip(np.sum(a * b), -1.0, 1.0))


def _direction(array: Array) -> Array:
    """The array as a vector of length 1, or of zeros; scaled first, so that no square over- or underflows."""
    vector = array.ravel()
    peak = float(np.max(np.abs(vector), initial=0.0))
    if peak == 0.0:
        return vector
    scaled = vector / peak
    return np.asarray(scaled / _norm(scaled))


def dice(got: Array, golden: Array, threshold: float = 0.5) -> float:
    """The Dice coefficient 2|A∩B| / (|A|+|B|) of two masks cut at `threshold`; 1 when both are empty.

    Dice, "Measures of the amount of ecologic association between species", Ecology 26 (1945).
    """
    a, b = got > threshold, golden > threshold
    total = int(a.sum()) + int(b.sum())
    return 1.0 if total == 0 else 2.0 * int((a & b).sum()) / total


def kl_divergence(got: Array, golden: Array) -> float:
    """The largest KL(golden ‖ got) over a batch of class probabilities [..., classes], in nats.

    Probabilities are floored at 1e-12 and renormalised, so that a hard 0 counts as very unlikely
    rather than as impossible. Kullback and Leibler, "On Information and Sufficiency" (1951).
    """
    p, q = _floored(golden), _floored(got)
    return float(np.max(np.sum(p * (np.log(p) - np.log(q)), axis=-1), initial=0.0))


def bernoulli_kl(got: Array, golden: Array) -> float:
    """`kl_divergence` for probabilities of one event each: the largest over all elements, in nats."""
    return kl_divergence(np.stack([got, 1.0 - got], axis=-1), np.stack([golden, 1.0 - golden], axis=-1))


def _floored(probabilities: Array) -> Array:
    floored = np.maximum(probabilities, _TINY)
    return np.asarray(floored / floored.sum(axis=-1, keepdims=True))
