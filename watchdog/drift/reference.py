"""What a stream looked like while all was well: the sample that live observations are held against."""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from watchdog.drift.links import Link
from watchdog.model.score import Promise
from watchdog.model.tensor import Array

_COARSEST = 0.1
"""A reference that can't even show a change of this divergence, in nats, is of no use."""
_DESIGN_SHARE, _LEAST_DESIGN, _MOST_DESIGN = 0.2, 200, 2000


def required(promise: Promise) -> int:
    """The smallest reference, in observations, that supports a promise.

    With n observations nobody can see a change whose Kullback–Leibler divergence is below about
    log(threshold) / n; of a change worth the name (0.1 nats: a logit's shift by half) something
    must be visible.
    """
    pool = math.log(promise.threshold) / _COARSEST
    return math.ceil(max(pool + _LEAST_DESIGN, pool / (1 - _DESIGN_SHARE)))


@dataclass(frozen=True, kw_only=True, slots=True)
class Reference:
    """Readings of a healthy stream, in the order in which they came.

    Raises:
        ValueError: it is empty, holds what is no such reading, or never varies.
    """

    values: Array
    """[n] float64."""
    link: Link
    studies: Array | None = None
    """[n] int: which study each value is of; values of one study count as one observation."""
    _starts: Array = field(init=False, repr=False)

    def __post_init__(self) -> None:
        values = np.array(self.values, dtype=np.float64).ravel()
        if values.size == 0:
            raise ValueError("the reference is empty")
        if not np.isfinite(values).all():
            raise ValueError(f"the reference holds {np.sum(~np.isfinite(values))} values that are NaN or infinite")
        bad = [v for v in (values.min(), values.max()) if not self.link.allows(v)]
        if bad:
            raise ValueError(f"the reference holds {bad[0]:g}, which no {self.link} reading can be")
        if values.min() == values.max():
            raise ValueError(f"every value of the reference is {values[0]:g}: it says nothing about what is usual")
        values.flags.writeable = False
        object.__setattr__(self, "values", values)
        object.__setattr__(self, "_starts", _starts(self.studies, values.size))

    @property
    def size(self) -> int:
        """In observations: studies, where there are any."""
        return len(self._starts) - 1

    def study(self, i: int) -> Array:
        """The values of one observation."""
        return self.within(i, self.values)

    def within(self, i: int, of_values: Array) -> Array:
        """One observation's part of what is known of each value."""
        return np.asarray(of_values[self._starts[i] : self._starts[i + 1]])

    def representatives(self, rng: np.random.Generator) -> Array:
        """One value of each study, drawn at random: exchangeable if studies are."""
        lengths = np.diff(self._starts)
        return np.asarray(self.values[self._starts[:-1] + (rng.random(len(lengths)) * lengths).astype(int)])

    @property
    def singles(self) -> bool:
        """Whether every observation is one value."""
        return self.size == self.values.size

    @property
    def design_size(self) -> int:
        """How many observations, of those that came first, say what to look for; the rest is what is held against."""
        return int(np.clip(_DESIGN_SHARE * self.size, _LEAST_DESIGN, _MOST_DESIGN))

    def fingerprint(self) -> str:
        """Of the values and how they are read: evidence belongs to one reference."""
        digest = hashlib.sha256(self.values.tobytes())
        digest.update(self._starts.astype(np.int64).tobytes())
        digest.update(str(self.link).encode())
        return digest.hexdigest()[:16]


def _starts(studies: Array | Sequence[Any] | None, n: int) -> Array:
    if studies is None:
        return np.arange(n + 1)
    ids = np.asarray(studies).ravel()
    if ids.size != n:
        raise ValueError(f"the reference has {n} values, but {ids.size} studies")
    return np.concatenate([[0], np.flatnonzero(ids[1:] != ids[:-1]) + 1, [n]])
