"""The detector's fitted weights: learnt from phantoms when they are needed, in seconds, the same each time."""

from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import onnxruntime as ort
from scipy.optimize import minimize
from scipy.special import expit

from watchdog.canaries.phantom import Phantom, draw, make_slice
from watchdog.demo import graphs
from watchdog.demo.graphs import FEATURES, SCALES, Weights
from watchdog.model.tensor import Array

SIZE = 256
SMALLEST_MM = 6.0
"""Slices whose nodules are all smaller count neither as ill nor as healthy."""

_BODIES = 360
_KEPT = 120
"""Bodies that only calibrate the probability: it would be too sure of what it has learnt from."""
_UNITS = 16
_ROUNDS, _STEPS = 3, 50
_DECAY = 2e-3
_NEAR_MM = 9.0
"""Healthy pixels so close to a nodule's edge teach nothing."""
_DOUBT = 0.03
"""A curvature in all directions from which a pixel may be mistaken for a nodule's."""
_EASY, _HARD = 25, 12
"""Healthy pixels of each slice to learn from: drawn at random, and the worst mistaken, each round."""


@dataclass(frozen=True, kw_only=True)
class _Slice:
    hu: Array
    ill: bool | None
    """None: too small to tell."""
    nodule: Array
    """Features of pixels well inside a nodule, float32 [pixels, FEATURES]."""
    easy: Array
    """Of some pixels well outside all of them."""
    doubtful: Array
    """Of all pixels there that look like a blob at some scale."""


@cache
def trained(seed: int = 0) -> Weights:
    """The detector's weights. About eight seconds, the first time."""
    rng = np.random.default_rng(seed)
    slices = _slices(rng)
    return _calibrated(_unscaled(_learnt(slices[_KEPT:], rng)), slices[:_KEPT])


def slices_of(phantoms: int, rng: np.random.Generator) -> list[tuple[Phantom, Array]]:
    """Phantoms, every other one with one or two nodules, and their Hounsfield units [SIZE, SIZE]."""
    specs = [draw(rng, name=f"{i}", size=SIZE, nodules=i % 2 * int(rng.integers(1, 3))) for i in range(phantoms)]
    return [(spec, make_slice(spec, rng)) for spec in specs]


def is_ill(spec: Phantom) -> bool | None:
    """Whether there is a nodule worth finding; None where those there are too small to count."""
    if not spec.nodules:
        return False
    return True if max(each.diameter_at(spec.z_mm) for each in spec.nodules) >= SMALLEST_MM else None


def _session(graph: bytes) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    return ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def _slices(rng: np.random.Generator) -> list[_Slice]:
    session = _session(graphs.features())
    return [_slice(session, spec, hu, rng) for spec, hu in slices_of(_BODIES, rng)]


def _slice(session: ort.InferenceSession, spec: Phantom, hu: Array, rng: np.random.Generator) -> _Slice:
    (maps,) = session.run(None, {"CT": hu[None, None]})
    pixels = np.ascontiguousarray(maps[0].reshape(FEATURES, -1).T)
    nodule, healthy = _marks(spec)
    like_blob = pixels[:, :SCALES].max(axis=1) > _DOUBT
    easy = rng.choice(np.flatnonzero(healthy), _EASY, replace=False)
    return _Slice(
        hu=hu, ill=is_ill(spec), nodule=pixels[nodule], easy=pixels[easy], doubtful=pixels[healthy & like_blob]
    )


def _marks(spec: Phantom) -> tuple[Array, Array]:
    """Which pixels of the half-size image are in a nodule, and which are not."""
    size = SIZE // 2
    at = (np.arange(size) - (size - 1) / 2) * spec.scanner.fov_mm / size
    nodule, healthy = np.zeros((size, size), bool), np.ones((size, size), bool)
    for each in spec.nodules:
        radius = each.diameter_at(spec.z_mm) / 2
        distance = np.hypot(at[None, :] - each.x_mm, at[:, None] - each.y_mm)
        healthy &= distance > radius + _NEAR_MM
        if 2 * radius >= SMALLEST_MM:
            nodule |= distance < 0.5 * radius
    return nodule.ravel(), healthy.ravel()


@dataclass(frozen=True)
class _Net:
    """The two fitted layers, over features that are scaled to mean 0 and deviation 1."""

    shift: Array
    scale: Array
    flat: Array
    """All its weights, as the optimiser wants them."""

    def layers(self) -> tuple[Array, Array, Array, float]:
        ends = np.cumsum([FEATURES * _UNITS, _UNITS, _UNITS])
        hidden, bias, out, out_bias = np.split(self.flat.astype(np.float32), ends)
        return hidden.reshape(FEATURES, _UNITS), bias, out, float(out_bias[0])

    def logits(self, features: Array) -> Array:
        hidden, bias, out, out_bias = self.layers()
        active = np.maximum(((features - self.shift) / self.scale) @ hidden + bias, 0)
        logits: Array = active @ out + out_bias
        return logits

    def loss(self, features: Array, truth: Array, share: Array) -> tuple[float, Array]:
        """Mean cross-entropy of scaled features [n, FEATURES], and its gradient."""
        hidden, bias, out, out_bias = self.layers()
        before = features @ hidden + bias
        active = np.maximum(before, 0)
        logit = active @ out + out_bias
        slope = (share * (expit(logit) - truth)).astype(np.float32)
        back = slope[:, None] * out * (before > 0)
        parts = [(features.T @ back).ravel(), back.sum(0), active.T @ slope, [slope.sum()]]
        loss = float(share @ (np.logaddexp(0, logit) - truth * logit) + _DECAY / 2 * self.flat @ self.flat)
        return loss, np.concatenate(parts) + _DECAY * self.flat


def _learnt(slices: list[_Slice], rng: np.random.Generator) -> _Net:
    """Fit, look for the healthy pixels that are mistaken most, and fit again with them too."""
    net, healthy = _fresh(slices, rng), [each.easy for each in slices]
    for _ in range(_ROUNDS):
        net = _fitted(net, slices, np.concatenate(healthy))
        healthy += [each.doubtful[np.argsort(net.logits(each.doubtful))[-_HARD:]] for each in slices]
    return net


def _fresh(slices: list[_Slice], rng: np.random.Generator) -> _Net:
    some = np.concatenate([np.concatenate([each.easy, each.doubtful]) for each in slices])
    hidden = rng.normal(size=FEATURES * _UNITS) / np.sqrt(FEATURES)
    flat = np.concatenate([hidden, np.zeros(_UNITS), 0.1 * rng.normal(size=_UNITS), [-1.0]])
    return _Net(some.mean(0), some.std(0), flat)


def _fitted(net: _Net, slices: list[_Slice], outside: Array) -> _Net:
    inside = [each.nodule for each in slices if len(each.nodule)]
    features = (np.concatenate([*inside, outside]) - net.shift) / net.scale
    counts = [len(each) for each in inside]
    truth = np.repeat([1.0, 0.0], [sum(counts), len(outside)])
    # every ill slice counts the same, and all nodules together as much as all that is healthy
    share = np.concatenate(
        [np.full(n, 1 / (n * len(counts))) for n in counts] + [np.full(len(outside), 1 / len(outside))]
    )

    def loss(flat: Array) -> tuple[float, Array]:
        return replace(net, flat=flat).loss(features, truth, share)

    best = minimize(loss, net.flat, jac=True, method="L-BFGS-B", options={"maxiter": _STEPS})
    return replace(net, flat=best.x)


def _unscaled(net: _Net) -> Weights:
    """Weights for the features as they are."""
    hidden, hidden_bias, out, out_bias = net.layers()
    return Weights(
        hidden=(hidden / net.scale[:, None]).T,
        hidden_bias=hidden_bias - (net.shift / net.scale) @ hidden,
        out=out,
        out_bias=out_bias,
    )


def _calibrated(weights: Weights, slices: list[_Slice]) -> Weights:
    """Make a probability of a slice's pooled logits."""
    known = [each for each in slices if each.ill is not None]
    session = _session(graphs.pools(weights))
    pooled = [session.run(None, {"CT": each.hu[None, None]})[0].ravel() for each in known]
    pools = np.column_stack([np.array(pooled, np.float64), np.ones(len(known))])
    ill = np.array([bool(each.ill) for each in known])

    def loss(parts: Array) -> float:
        logit = pools @ parts
        return float(np.mean(np.logaddexp(0, logit) - ill * logit) + 1e-4 * parts @ parts)

    peak, mean, bias = minimize(loss, np.array([0.5, 0.0, -1.0]), method="BFGS").x
    return replace(weights, peak=float(peak), mean=float(mean), bias=float(bias))
