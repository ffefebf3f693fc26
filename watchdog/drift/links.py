"""The lines on which changes are straight: logits of confidences, logarithms of times and volumes."""

import math
from collections.abc import Callable
from enum import StrEnum
from typing import assert_never

import numpy as np

from watchdog.model.tensor import Array

LOGIT_LIMIT = 17.0
"""Beyond this a logit says no more than "surely": float32 knows no confidence nearer to 1."""
_TINY, _LOG_TINY = 1e-30, -69.0


class Link(StrEnum):
    """How a reading becomes a number on the whole line."""

    LOGIT = "logit"
    """log(x / (1 − x)) of a confidence in [0, 1], cut at ±17."""
    LOG = "log"
    """log(x) of what can't be negative, such as seconds or a volume; 0 counts as 1e−30."""
    IDENTITY = "identity"
    """x itself, such as a difference of two logits."""

    @property
    def bounds(self) -> tuple[float, float]:
        """The least and the greatest value that such a reading can have."""
        return _BOUNDS[self]

    def allows(self, value: float) -> bool:
        """Whether such a reading can have this value; NaN and infinities never."""
        low, high = self.bounds
        return low <= value <= high

    @property
    def of(self) -> Callable[[float], float]:
        """The link as a function of one number; NaN and what `allows` refuses are the caller's to keep out."""
        match self:
            case Link.LOGIT:
                return logit
            case Link.LOG:
                return lambda x: math.log(x) if x > _TINY else _LOG_TINY
            case Link.IDENTITY:
                return float
            case _:
                assert_never(self)

    def of_all(self, values: Array) -> Array:
        """`of` for an array, to the last bit: what ties must tie, and numpy has logarithms of its own."""
        x = np.asarray(values, dtype=np.float64)
        if self is Link.IDENTITY:
            return x
        return np.fromiter(map(self.of, x.ravel().tolist()), np.float64, x.size).reshape(x.shape)


_MOST = 1e100
"""Squares must not overflow."""
_BOUNDS = {Link.LOGIT: (0.0, 1.0), Link.LOG: (0.0, _MOST), Link.IDENTITY: (-_MOST, _MOST)}


def logit(x: float) -> float:
    """log(x / (1 − x)), cut at ±17."""
    if x <= 0.0:
        return -LOGIT_LIMIT
    if x >= 1.0:
        return LOGIT_LIMIT
    z = math.log(x) - math.log1p(-x)
    return min(max(z, -LOGIT_LIMIT), LOGIT_LIMIT)
