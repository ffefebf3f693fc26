"""A model's outputs as confidences: a value, its top probability and its entropy.

What is outside [0, 1] counts as the nearer end: that it is outside is another check's finding.
"""

import numpy as np

from watchdog.model.tensor import Array
from watchdog.model.verdict import Confidence

_TINY = float(np.finfo(np.float64).tiny)
"""Its logarithm is finite, and times 0 it is 0, as 0·log 0 should be."""


def entropy(probabilities: Array) -> float:
    """The mean Shannon entropy of class probabilities [..., classes], in nats; 0·log 0 is 0."""
    p = np.clip(probabilities, 0.0, 1.0)
    terms = np.where(p > 0, -p * np.log(np.where(p > 0, p, 1.0)), 0.0)
    return float(np.mean(np.sum(terms, axis=-1)))


def bernoulli_entropy(probabilities: Array) -> float:
    """`entropy` for probabilities of one event each: the mean over all elements, in nats."""
    p = np.clip(probabilities, 0.0, 1.0)
    q = 1.0 - p
    return -float(np.mean(p * np.log(np.maximum(p, _TINY)) + q * np.log(np.maximum(q, _TINY))))


def of_probability(probability: Array) -> Confidence:
    """One event's probability, averaged over the batch (whose rows are one image)."""
    p = _clipped(probability).ravel()
    return Confidence(
        value=float(np.mean(p)),
        top=float(np.mean(np.maximum(p, 1.0 - p))),
        entropy=bernoulli_entropy(p),
    )


def of_classes(probabilities: Array) -> Confidence:
    """Class probabilities [..., classes]; `value` is the first class' complement: "not background"."""
    p = _clipped(probabilities)
    top = float(np.mean(np.max(p, axis=-1)))
    return Confidence(value=float(np.mean(1.0 - p[..., 0])), top=top, entropy=entropy(p))


def of_mask(mask: Array, threshold: float = 0.5) -> Confidence:
    """A mask or heat-map of probabilities; `value` is its largest element, `top` the mean foreground.

    With an empty foreground `top` is the largest element too: the nearest there is to one.
    """
    m = _clipped(mask)
    peak = float(np.max(m, initial=0.0))
    foreground = m[m > threshold]
    return Confidence(
        value=peak,
        top=float(np.mean(foreground)) if foreground.size else peak,
        entropy=bernoulli_entropy(m),
    )


def _clipped(probabilities: Array) -> Array:
    return np.clip(np.asarray(probabilities, dtype=np.float64), 0.0, 1.0)


def sigmoid(logits: Array) -> Array:
    """1 / (1 + e^−x), without overflow for any finite x."""
    x = np.asarray(logits, dtype=np.float64)
    small = np.exp(-np.abs(x))
    return np.asarray(np.where(x >= 0, 1.0 / (1.0 + small), small / (1.0 + small)))


def softmax(logits: Array) -> Array:
    """Softmax over the last axis, without overflow for any finite input."""
    x = np.asarray(logits, dtype=np.float64)
    with np.errstate(over="ignore"):  # further apart than a double can say is −inf: a probability of 0
        shifted = np.exp(x - np.max(x, axis=-1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=-1, keepdims=True))
