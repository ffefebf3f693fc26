"""The confidences of a real classifier: the probability of its top class.

A small network, trained on scikit-learn's handwritten digits (E. Alpaydin and C. Kaynak, "Optical
Recognition of Handwritten Digits", UCI, 1998), sees held-out digits, shifted a little and with noise.
Its answers are computed once, millions of them, and drawn from afterwards.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
from scipy.ndimage import gaussian_filter1d
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier

from bench.drift.streams import Array, Change, Density, Rng, Stream, changes, growing_temperature, rounded

NAME = "digits-mlp"
_SEED = 20
_TRAINING, _SEEN = 1_200, 12_000
"""Images that the network learns from, and how often it sees them."""
_HIDDEN = 32
_WRONG_LABELS = 0.05
"""What keeps the network from being sure of everything."""
_SHIFT = 0.6
"""Pixels, at most."""
_NOISE = 0.1
"""Standard deviation, white being 1."""
_MILD = 1.1
"""A temperature whose divergence is 0.03."""
_RANGE = 0.41
"""The hidden layer's INT8 range, as a part of its greatest activation on training images: too narrow."""
_HEALTHY, _FAULTY = 4_000_000, 1_000_000
"""Answers in the banks."""
_CHUNK = 50_000
_APART = 1e-3
"""Standard deviation of what is added to a logit that is drawn, as the same answer drawn twice must not tie."""
_FOLDER = Path(__file__).parents[1] / "results"


@dataclass(frozen=True)
class Network:
    weights: tuple[Array, Array]
    biases: tuple[Array, Array]

    def hidden(self, images: Array) -> Array:
        return np.asarray(np.maximum(images @ self.weights[0] + self.biases[0], 0))

    def margins(self, hidden: Array) -> Array:
        """[N, 9] the other classes' logits, less the top one's."""
        with np.errstate(invalid="ignore"):  # a corrupted weight may make infinities meet
            logits = np.sort(hidden @ self.weights[1] + self.biases[1], axis=1)
            return np.asarray(logits[:, :-1] - logits[:, -1:])


def confidence(margins: Array, temperature: Array | float = 1.0) -> Array:
    """The logit of the top class's probability p: log p/(1 − p) = −log Σ e^(margin/temperature)."""
    return np.asarray(-np.log(np.exp(margins / np.asarray(temperature)[..., None]).sum(axis=-1)))


@dataclass(frozen=True, kw_only=True)
class _Banks:
    """Logits of the top class's probability, and what they come from."""

    healthy: Array
    clipped: Array
    """Of the engine whose hidden layer is INT8, with too narrow a range."""
    margins: Array
    """[N, 9] of the healthy engine: any temperature's confidences follow from them."""


def prepare() -> None:
    """Computes the banks, which takes half a minute, unless they lie in `bench/results/` already."""
    file = _file()
    if file.exists():
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    written = file.with_suffix(".part.npz")
    np.savez(written, **_compute())
    written.rename(file)


def _file() -> Path:
    recipe = (_SEED, _TRAINING, _SEEN, _HIDDEN, _WRONG_LABELS, _SHIFT, _NOISE, _RANGE, _HEALTHY, _FAULTY)
    made_by = (version("scikit-learn"), version("numpy"))
    return _FOLDER / f"{NAME}-{crc32(repr((recipe, made_by)).encode()):08x}.npz"


@cache
def _banks() -> _Banks:
    prepare()
    with np.load(_file()) as stored:
        return _Banks(**stored)


@dataclass(frozen=True, kw_only=True)
class Learnt:
    """The network, and what it has not seen."""

    network: Network
    step: float
    """Of the hidden layer in INT8, if its range is as narrow as `int8-clipping` has it."""
    images: Array
    """[N, 8, 8] held-out digits."""
    labels: Array


@cache
def learnt() -> Learnt:
    return _learn(np.random.default_rng(_SEED))


def _learn(rng: Rng) -> Learnt:
    images, labels = load_digits(return_X_y=True)
    images = (images.reshape(-1, 8, 8) / 16).astype(np.float32)
    order = rng.permutation(len(images))
    seen, held_out = order[:_TRAINING], order[_TRAINING:]
    network = _train(images[seen], labels[seen], rng)
    step = _RANGE * float(network.hidden(photograph(images[seen], rng)).max()) / 127
    return Learnt(network=network, step=step, images=images[held_out], labels=labels[held_out])


def _compute() -> dict[str, Any]:
    rng = np.random.default_rng(_SEED)
    known = _learn(rng)
    chunks = [_answers(known, rng) for _ in range(_HEALTHY // _CHUNK)]
    faulty = chunks[: _FAULTY // _CHUNK]
    return {
        "healthy": np.concatenate([confidence(margins) for margins, _ in chunks]),
        "clipped": np.concatenate([confidence(clipped) for _, clipped in faulty]),
        "margins": np.concatenate([margins for margins, _ in faulty]),
    }


def _train(images: Array, labels: Array, rng: Rng) -> Network:
    which = rng.integers(len(images), size=_SEEN)
    wrong = rng.random(_SEEN) < _WRONG_LABELS
    taught = np.where(wrong, rng.integers(10, size=_SEEN), labels[which])
    seed = int(rng.integers(2**31))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # it is meant to stop early
        fitted = MLPClassifier((_HIDDEN,), alpha=0.01, max_iter=40, random_state=seed).fit(
            photograph(images[which], rng), taught
        )
    first, second = fitted.coefs_
    return Network((first, second), tuple(fitted.intercepts_))


def _answers(known: Learnt, rng: Rng) -> tuple[Array, Array]:
    """[_CHUNK, 9] margins, of the healthy engine and of the one whose hidden layer is clipped."""
    network = known.network
    hidden = network.hidden(photograph(known.images[rng.integers(len(known.images), size=_CHUNK)], rng))
    return network.margins(hidden), network.margins(clipped(hidden, known.step))


def clipped(hidden: Array, step: float) -> Array:
    """Activations in INT8, whose steps reach no farther than 127 of them."""
    return np.asarray(np.minimum(np.round(hidden / step), 127) * step)


def photograph(images: Array, rng: Rng) -> Array:
    """[N, 64] the images shifted by parts of a pixel, bilinearly, and with noise."""
    count = len(images)
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1)))
    for axis in (1, 2):
        shift = rng.uniform(-_SHIFT, _SHIFT, (count, 1, 1)).astype(np.float32)
        beside = np.where(shift > 0, np.roll(padded, 1, axis), np.roll(padded, -1, axis))
        padded = (1 - np.abs(shift)) * padded + np.abs(shift) * beside
    seen = padded[:, 1:-1, 1:-1].reshape(count, -1)
    return np.asarray(seen + _NOISE * rng.standard_normal(seen.shape, dtype=np.float32))


def _drawn(bank: Array, rng: Rng, shape: tuple[int, ...]) -> Array:
    return np.asarray(bank[rng.integers(len(bank), size=shape)] + _APART * rng.standard_normal(shape))


_STEP, _SMOOTHING = 0.02, 0.05
"""Of the histograms, in logits; there are 10⁴ answers in a typical step."""
_GRID = np.arange(-8.0, 24.0, _STEP)


def _histogram(bank: Array) -> Array:
    counts, _ = np.histogram(bank, bins=np.append(_GRID, _GRID[-1] + _STEP) - _STEP / 2)
    return np.asarray(gaussian_filter1d(counts / (len(bank) * _STEP), _SMOOTHING / _STEP))


@cache
def _histogram_of(engine: str) -> Array:
    return _histogram(_banks().healthy if engine == "healthy" else _banks().clipped)


@cache
def _tempered_bank(temperature: float) -> tuple[Array, Array]:
    """The engine's logits divided by a temperature: answers, and their histogram."""
    bank = confidence(_banks().margins, temperature)
    return bank, _histogram(bank)


def _density(histogram: Callable[[], Array]) -> Density:
    """Of a logit; nowhere quite 0, so that no answer is impossible."""
    return lambda z: np.maximum(np.interp(z, _GRID, histogram(), left=0.0, right=0.0), 1e-9)


def _tempered(temperature: float) -> Change:
    return Change(
        name=f"temperature-{temperature:g}",
        move=lambda z, r, _t: _drawn(_tempered_bank(temperature)[0], r, z.shape),
        density=_density(lambda: _tempered_bank(temperature)[1]),
    )


def _grow(z: Array, rng: Rng, age: Array) -> Array:
    margins = _banks().margins
    rows = [
        confidence(margins[rng.integers(len(margins), size=since.shape)], growing_temperature(since))
        for since in age.reshape(-1, age.shape[-1])
    ]
    return np.reshape(rows, z.shape) + _APART * rng.standard_normal(z.shape)


def _digits() -> Stream:
    healthy = _density(lambda: _histogram_of("healthy"))
    common = changes(healthy, mild=replace(_tempered(_MILD), name="mild"), tempered=_tempered, growing=_grow)
    clipping = Change(
        name="int8-clipping",
        move=lambda z, r, _t: _drawn(_banks().clipped, r, z.shape),
        density=_density(lambda: _histogram_of("clipped")),
    )
    return Stream(
        name=NAME,
        logits=lambda rng, shape: _drawn(_banks().healthy, rng, shape),
        density=healthy,
        emit=rounded(np.float32),
        changes={**common, clipping.name: clipping},
    )


DIGITS = _digits()
