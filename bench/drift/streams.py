"""Streams of confidences whose densities are known, and what can go wrong with them.

Everything is a logit ``z`` until it is emitted as a confidence ``x = 1/(1 + e^−z)``, in the number
format that the stream has. A change moves logits, as a fault of an engine does.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import betaln, expit, logit
from scipy.stats import norm

Array = npt.NDArray[Any]
Rng = np.random.Generator
Density = Callable[[Array], Array]
"""Of a logit."""
Draw = Callable[[Rng, tuple[int, ...]], Array]
"""Logits of this shape."""
Move = Callable[[Array, Rng, Array], Array]
"""(healthy logits, rng, observations since the change began) → logits; arrays of one shape."""

RAMP = 2000
"""Observations over which the ramp grows."""
RAMP_STAGES = (1.05, 1.1, 1.15, 1.2, 1.3, 1.4, 1.5, 1.75, 2)
"""Temperatures on its way that the oracle may aim at."""


@dataclass(frozen=True, kw_only=True)
class Change:
    """From the change on, what a stream emits instead."""

    name: str
    move: Move
    density: Density | None
    """Of the changed logits once the change is complete; None where it is no density (atoms)."""
    emit: Callable[[Array], Array] = lambda x: x
    """What becomes of the confidences afterwards, such as a rounding."""
    stages: tuple["Change", ...] = ()
    """What a growing change passes through: fixed changes with a density, the complete one last."""
    complete_after: int = 0
    """Observations that it grows for."""

    @property
    def finite(self) -> bool:
        """Whether its divergence from the healthy stream is finite."""
        return self.density is not None


@dataclass(frozen=True, kw_only=True)
class Stream:
    name: str
    logits: Draw
    density: Density
    emit: Callable[[Array], Array]
    """Confidences in the stream's number format, as float64."""
    changes: Mapping[str, Change] = field(default_factory=dict)

    def healthy(self, rng: Rng, shape: tuple[int, ...]) -> Array:
        return self.emit(expit(self.logits(rng, shape)))

    def changed(self, change: Change, rng: Rng, shape: tuple[int, ...], since: int = 0) -> Array:
        """[…, T] confidences, of which the first comes `since` observations after the change."""
        age = np.broadcast_to(np.arange(since, since + shape[-1]), shape)
        return change.emit(self.emit(expit(change.move(self.logits(rng, shape), rng, age))))

    def llr(self, change: Change, x: Array) -> Array:
        """log(changed density / healthy density) of confidences: what an oracle's CUSUM adds up."""
        if change.density is None:
            raise ValueError(f"{change.name} has no density")
        z = logit(np.clip(x, 1e-12, 1 - 1e-12))
        return np.log(np.maximum(change.density(z), 1e-300)) - np.log(np.maximum(self.density(z), 1e-300))


def changes(density: Density, *, mild: Change, tempered: Callable[[float], Change], growing: Move) -> dict[str, Change]:
    """The faults that any engine can have, for a stream whose logits have this density.

    Args:
        density: Of the healthy logits.
        mild: A small change all over, with a divergence of a few hundredths.
        tempered: The change in which the engine's logits are divided by a temperature.
        growing: Its temperature grows from 1 to 2 over the first `RAMP` observations.
    """
    half = norm(0.0, 0.1).pdf

    def tenth(z: Array, rng: Rng, moved: Array) -> Array:
        return np.where(rng.random(z.shape) < 0.1, moved, z)

    all_of_them = (
        Change(name="all-zero", move=lambda z, _r, _t: z, density=None, emit=np.zeros_like),
        Change(name="stuck", move=lambda z, _r, _t: np.broadcast_to(z[..., :1], z.shape), density=None),
        Change(name="near-half", move=lambda z, r, _t: r.normal(0.0, 0.1, z.shape), density=half),
        tempered(2),
        Change(name="bias-1", move=lambda z, _r, _t: z + 1, density=lambda z: density(z - 1)),
        Change(name="16-levels", move=lambda z, _r, _t: z, density=None, emit=lambda x: np.round(x * 15) / 15),
        mild,
        Change(
            name="ramp",
            move=growing,
            density=tempered(2).density,
            stages=tuple(tempered(temperature) for temperature in RAMP_STAGES),
            complete_after=RAMP,
        ),
        Change(
            name="tenth-collapsed",
            move=lambda z, r, _t: tenth(z, r, r.normal(0.0, 0.1, z.shape)),
            density=lambda z: 0.9 * density(z) + 0.1 * half(z),
        ),
        Change(
            name="tenth-biased",
            move=lambda z, r, _t: tenth(z, r, z + 2),
            density=lambda z: 0.9 * density(z) + 0.1 * density(z - 2),
        ),
    )
    return {change.name: change for change in all_of_them}


def growing_temperature(age: Array) -> Array:
    """From 1 to 2, so many observations after the ramp began."""
    return np.asarray(1 + np.minimum(age / RAMP, 1.0))


def _synthetic_changes(density: Density, mild: tuple[Draw, Density]) -> dict[str, Change]:
    """Those of an engine whose confidence is the sigmoid of one logit, so that a temperature divides that."""
    draw, mild_density = mild

    def tempered(temperature: float) -> Change:
        return Change(
            name=f"temperature-{temperature:g}",
            move=lambda z, _r, _t: z / temperature,
            density=lambda z: temperature * density(temperature * z),
        )

    return changes(
        density,
        mild=Change(name="mild", move=lambda z, r, _t: draw(r, z.shape), density=mild_density),
        tempered=tempered,
        growing=lambda z, _r, t: z / growing_temperature(t),
    )


def _two_normals(share: float, means: tuple[float, float], deviation: float) -> tuple[Draw, Density]:
    """Logits that are normal around one mean or, in a share of the cases, around the other."""

    def draw(rng: Rng, shape: tuple[int, ...]) -> Array:
        return np.where(rng.random(shape) < share, means[1], means[0]) + deviation * rng.standard_normal(shape)

    def density(z: Array) -> Array:
        parts = [norm.pdf(z, mean, deviation) for mean in means]
        return np.asarray((1 - share) * parts[0] + share * parts[1])

    return draw, density


def _bimodal() -> Stream:
    """Like a nodule detector: surely not, mostly, and surely, sometimes; float32."""
    draw, density = _two_normals(0.3, (-2.5, 2.5), 1.0)
    moved = _two_normals(0.3, (-2.25, 2.25), 1.1)  # parameters moved by a tenth
    return Stream(
        name="bimodal",
        logits=draw,
        density=density,
        emit=rounded(np.float32),
        changes=_synthetic_changes(density, moved),
    )


def _beta(a: float, b: float) -> tuple[Draw, Density]:
    """Logits of a Beta(a, b)."""

    def draw(rng: Rng, shape: tuple[int, ...]) -> Array:
        first, second = rng.standard_gamma(a, shape), rng.standard_gamma(b, shape)
        return np.asarray(np.log(np.maximum(first, 1e-300)) - np.log(second))

    def density(z: Array) -> Array:
        # x^a (1−x)^b / B(a, b), the Jacobian x(1−x) included
        return np.asarray(np.exp(-a * np.logaddexp(0, -z) - b * np.logaddexp(0, z) - betaln(a, b)))

    return draw, density


def _skewed() -> Stream:
    """Mostly near 0, in half precision: confidences lie on a lattice, and tie now and then."""
    draw, density = _beta(0.8, 4.0)
    return Stream(
        name="skewed-fp16",
        logits=draw,
        density=density,
        emit=rounded(np.float16),
        changes=_synthetic_changes(density, _beta(0.88, 3.6)),
    )


def rounded(dtype: Any) -> Callable[[Array], Array]:
    """To the nearest confidence that a number format has."""
    return lambda x: np.asarray(x).astype(dtype).astype(np.float64)


BIMODAL, SKEWED = _bimodal(), _skewed()
STREAMS = {stream.name: stream for stream in (BIMODAL, SKEWED)}
"""The synthetic ones; `contestants.STREAMS` has all that detectors are measured on."""
