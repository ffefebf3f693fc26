"""Weights for the net: random filters and a readout that is fitted to phantoms, the same each time.

No detector to be proud of, but one whose probabilities mean something: they differ from image to
image, and from 0 and 1. That is what the watchdog's checks need; training is not what is measured.
"""

from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit

from bench.gpu.net import SHRINK, Net, brightness, convolved, stride_of
from watchdog.canaries.phantom import Phantom, draw, make_slice
from watchdog.model.tensor import Array

_SMALLEST_MM = 6.0
_CORE, _NEAR_MM = 0.6, 9.0
"""The part of a nodule that counts as inside, and how near to its edge nothing is learnt from."""
_HEALTHY = 200
"""Healthy pixels of each slice to learn from."""
_DECAY = 1e-2
_BLUR = np.outer([1, 2, 1], [1, 2, 1]) / 16


@dataclass(frozen=True, kw_only=True, slots=True)
class Shape:
    """How large the net and its images are."""

    size: int
    """Rows and columns of an image."""
    width: int
    """Outputs of every kernel."""
    depth: int
    """Kernels."""
    bodies: int
    """Phantoms to fit to: half of them for the pixels' readout, the others for the image's."""


def fit(shape: Shape, seed: int = 0) -> Net:
    """Some seconds on a few cores for a net that keeps a GPU busy."""
    rng = np.random.default_rng(seed)
    net = _drawn(shape, rng)
    specs = [draw(rng, name=str(i), size=shape.size, nodules=i // 2 % 2) for i in range(shape.bodies)]
    features = [net.features(make_slice(spec, rng)[None, None])[0] for spec in specs]
    pixels = [_pixels(spec, maps, rng) for spec, maps in zip(specs[::2], features[::2], strict=True)]
    readout, bias = _logistic(np.concatenate([x for x, _ in pixels]), np.concatenate([ill for _, ill in pixels]))
    net = replace(net, readout=readout, readout_bias=bias)
    logits = [net.logits(maps[None])[0] for maps in features[1::2]]
    parts, rest = _logistic(
        np.array([[each.max(), each.mean()] for each in logits]), np.array([_ill(spec) for spec in specs[1::2]])
    )
    return replace(net, pool=np.append(parts, rest).astype(np.float32))


def _drawn(shape: Shape, rng: np.random.Generator) -> Net:
    """Filters that blur and do a little else, scaled so that a phantom's results vary as much in every layer."""
    x = brightness(make_slice(draw(rng, name="scale", size=shape.size, nodules=1), rng)[None, None])
    kernels: list[Array] = []
    for layer in range(shape.depth):
        size = (shape.width, x.shape[1])
        blurred = rng.normal(size=(*size, 1, 1))
        blurred -= blurred.mean(1, keepdims=True) * (layer > 0)
        kernel = blurred * _BLUR + rng.normal(size=(*size, 3, 3)) / 9 * (layer > 0)
        made = convolved(x, kernel.astype(np.float32), stride_of(layer))
        kernel /= made.std((0, 2, 3))[:, None, None, None] + 1e-6
        kernels.append(kernel.astype(np.float32))
        x = np.maximum(convolved(x, kernels[-1], stride_of(layer)), 0)
    return Net(tuple(kernels), np.zeros(shape.width, np.float32), 0.0, np.zeros(3, np.float32))


def _pixels(spec: Phantom, maps: Array, rng: np.random.Generator) -> tuple[Array, Array]:
    """Features of some pixels [n, width], and which of these are in a nodule [n]."""
    side = maps.shape[-1]
    at = (np.arange(side) - (side - 1) / 2) * spec.spacing_mm * SHRINK
    inside, healthy = np.zeros((side, side), bool), np.ones((side, side), bool)
    for nodule in spec.nodules:
        radius = nodule.diameter_at(spec.z_mm) / 2
        distance = np.hypot(at[None, :] - nodule.x_mm, at[:, None] - nodule.y_mm)
        healthy &= distance > radius + _NEAR_MM
        inside |= distance < max(_CORE * radius, spec.spacing_mm * SHRINK)
    flat = maps.reshape(len(maps), -1).T
    chosen = np.concatenate([np.flatnonzero(inside), rng.choice(np.flatnonzero(healthy), _HEALTHY, replace=False)])
    return flat[chosen], inside.ravel()[chosen]


def _ill(spec: Phantom) -> bool:
    return any(nodule.diameter_at(spec.z_mm) >= _SMALLEST_MM for nodule in spec.nodules)


def _logistic(x: Array, truth: Array) -> tuple[Array, float]:
    """Weights and bias of a logistic regression with weight decay; both classes count the same."""
    shift, scale = x.mean(0), x.std(0) + 1e-6
    standard = np.column_stack([(x - shift) / scale, np.ones(len(x))]).astype(np.float64)
    share = np.where(truth, 0.5 / truth.sum(), 0.5 / (~truth).sum())

    def loss(weights: Array) -> tuple[float, Array]:
        logit = standard @ weights
        value = share @ (np.logaddexp(0, logit) - truth * logit) + _DECAY / 2 * weights @ weights
        return float(value), standard.T @ (share * (expit(logit) - truth)) + _DECAY * weights

    best = minimize(loss, np.zeros(standard.shape[1]), jac=True, method="L-BFGS-B").x
    weights = best[:-1] / scale
    return weights.astype(np.float32), float(best[-1] - shift @ weights)
