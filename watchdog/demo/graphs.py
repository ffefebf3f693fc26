"""The lung nodule detector as ONNX graphs: in FP32 and FP16, right and wrong in known ways.

A small convolutional network. Its first layers are known filters (second derivatives of
Gaussians at seven scales, turned to eight directions: a blob curves in all of them, a vessel in
one), its last two are fitted (``training.py``). Input ``CT`` is FP32 [N, 1, H, W] in Hounsfield
units at about 1.4 mm a pixel; outputs are ``probability`` FP32 [N, 1] of a nodule of 6 mm or more
and ``heatmap`` FP32 [N, 1, H/4, W/4]. Both are exactly 0 where there is no lung.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from watchdog.model.tensor import Array

_FINE, _MIDDLE = (1.0, 1.5), (1.0, 1.5, 2.2, 3.2, 4.5)
"""Scales in pixels: of the whole image, and of the half-size one."""
_DIRECTIONS = 8
SCALES = len(_FINE) + len(_MIDDLE)
_RINGS = ((0.0, 1.6), (1.6, 4.0), (4.0, 8.0), (8.0, 12.0))
"""Inner and outer radii, in pixels of the half-size image, in which brightness is averaged."""
FEATURES = 2 * SCALES + len(_RINGS)
"""What the filters make of each pixel: least curvature at each scale, then the most, then brightness."""
LOGIT_LIMIT = 6.0
"""Probabilities stay within 0.25 % and 99.75 %: what saturates would hide small errors."""

_OUTPUTS: dict[str, list[int | str]] = {"probability": ["N", 1], "heatmap": ["N", 1, "h", "w"]}


@dataclass(frozen=True, kw_only=True)
class Weights:
    """What can be learnt, and so what can be wrong."""

    hidden: Array
    """[units, FEATURES]"""
    hidden_bias: Array
    out: Array
    """[units]: each hidden unit's part in a pixel's logit."""
    out_bias: float
    peak: float = 1.0
    """The part that the image's highest logit has in the image's own."""
    mean: float = 0.0
    """The part of the mean logit."""
    bias: float = 0.0
    image_out: Array | None = None
    """[units]: like `out`, for the logits that the image's own is pooled from; None where those are the pixels'."""
    image_out_bias: float = 0.0
    gate: tuple[float, float] = (10.0, -3.5)
    """Slope and offset that make 1 of dark (lung) surroundings and 0 of tissue."""
    gain: float = 1.0
    """Factor of the fixed filters."""
    ballast: int = 0
    """Channels of an idle layer: work without effect."""

    def dead(self) -> Self:
        """The lung gate never opens: every output is exactly 0."""
        return replace(self, gate=(0.0, 0.0))

    def overflowing(self) -> Self:
        """The hidden layer's results 2¹⁶ times larger and the next layer's weights smaller.

        All weights fit FP16, and FP32 gives the very same answers, but the sums are beyond 65,504:
        infinities of both signs meet in the next layer and make NaN.
        """
        gain, up = np.float32(2**6), np.float32(2**10)
        return replace(
            self,
            gain=float(gain),
            hidden=self.hidden * up,
            hidden_bias=self.hidden_bias * gain * up,
            out=self.out / (gain * up),
        )

    def collapsed(self) -> Self:
        """The last layer shrunk to nearly nothing: it says 0.5 of everything."""
        tiny = np.float32(1e-3)
        return replace(self, out=self.out * tiny, out_bias=0.0, bias=0.0)

    def tempered(self, *, pixels: float = 0.92, image: float = 0.8) -> Self:
        """Logits shrunk to `pixels` and `image` of themselves, as by wrong dequantisation scales in the last layers.

        The order of all answers stays, and each is near the right one. Heat-maps of healthy slices are
        little but small probabilities, which shrunk logits raise most: they allow the pixels less.
        """
        return replace(
            self,
            out=self.out * np.float32(pixels),
            out_bias=self.out_bias * pixels,
            peak=self.peak * image / pixels,
            mean=self.mean * image / pixels,
            bias=self.bias * image,
        )

    def wrong(self) -> Self:
        """The brightness features in the opposite order: it finds a nodule in everybody."""
        brightness = 2 * SCALES
        swapped = [self.hidden[:, :brightness], self.hidden[:, : brightness - 1 : -1]]
        return replace(self, hidden=np.concatenate(swapped, axis=1))

    def slow(self) -> Self:
        """About five times the work, for the same answers."""
        return replace(self, ballast=190)


def fp32(weights: Weights) -> bytes:
    return _serialized(_detector(_Graph(half=False), weights))


def fp16(weights: Weights) -> bytes:
    """Weights and each layer's result are rounded to half precision; sums are kept in FP32, as tensor cores do.

    ONNX Runtime has no FP16 kernels for CPUs, so layers run in FP32 between casts: rounding and
    overflow are real, and it is not faster.
    """
    return _serialized(_detector(_Graph(half=True), weights))


def features() -> bytes:
    """The fixed layers alone: ``CT`` → ``features`` [N, FEATURES, H/2, W/2]."""
    graph = _Graph(half=False)
    unit = _unit(graph)
    graph.add("Identity", _features(graph, unit, graph.average(unit, 2, 2)), name="features")
    return _serialized(graph, {"features": ["N", FEATURES, "h", "w"]})


def units(weights: Weights) -> bytes:
    """All but the last layers: ``CT`` → ``units`` [N, units, H/2, W/2], the hidden layer's results."""
    graph = _Graph(half=False)
    unit = _unit(graph)
    found = _features(graph, unit, graph.average(unit, 2, 2), weights.gain)
    graph.add("Identity", _hidden(graph, weights, found), name="units")
    return _serialized(graph, {"units": ["N", len(weights.hidden), "h", "w"]})


def pools(weights: Weights) -> bytes:
    """All but the last steps: ``CT`` → ``pools`` [N, 2, 1, 1], the highest and the mean logit."""
    graph = _Graph(half=False)
    unit = _unit(graph)
    half = graph.average(unit, 2, 2)
    hidden = _hidden(graph, weights, _features(graph, unit, half, weights.gain))
    graph.add("Identity", _pools(graph, _logit(graph, weights, hidden, half)), name="pools")
    return _serialized(graph, {"pools": ["N", 2, 1, 1]})


@dataclass(kw_only=True)
class _Graph:
    """A graph in the making. With `half`, what leaves a layer passes through FP16."""

    half: bool
    nodes: list[Any] = field(default_factory=list)
    constants: list[Any] = field(default_factory=list)

    def constant(self, value: Array | float, *, exact: bool = False) -> str:
        array = np.asarray(value, np.float32)
        if self.half and not exact:
            array = array.astype(np.float16).astype(np.float32)
        name = f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(array, name))
        return name

    def add(self, kind: str, *inputs: str, name: str = "", outputs: int = 1, **attributes: Any) -> list[str]:
        """One node; the names of its outputs."""
        name = name or f"{kind.lower()}_{len(self.nodes)}"
        names = [name] if outputs == 1 else [f"{name}_{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(kind, inputs, names, name=f"node_{name}", **attributes))
        return names

    def layer(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """A node whose result is kept in memory, and so in the graph's precision."""
        (result,) = self.add(kind, *inputs, **attributes)
        if not self.half:
            return result
        (rounded,) = self.add("Cast", result, to=TensorProto.FLOAT16)
        (result,) = self.add("Cast", rounded, to=TensorProto.FLOAT)
        return result

    def convolution(self, source: str, kernels: Array, bias: Array | None = None, stride: int = 1) -> str:
        pad = (kernels.shape[-1] - 1) // 2
        constants = [self.constant(kernels)]
        if bias is not None:
            constants.append(self.constant(bias, exact=True))  # it is added to the FP32 sums
        return self.layer("Conv", source, *constants, pads=[pad] * 4, strides=[stride] * 2)

    def average(self, source: str, size: int, stride: int) -> str:
        pads = [(size - stride) // 2] * 4
        return self.layer("AveragePool", source, kernel_shape=[size] * 2, strides=[stride] * 2, pads=pads)


def _detector(graph: _Graph, weights: Weights) -> _Graph:
    unit = _unit(graph)
    half = graph.average(unit, 2, 2)
    hidden = _hidden(graph, weights, _features(graph, unit, half, weights.gain))
    logit = _logit(graph, weights, hidden, half)
    gate = _gate(graph, weights, half)
    pixels = graph.average(_probability(graph, logit), 2, 2)
    graph.add("Mul", pixels, gate, name="heatmap")
    pooled = logit if weights.image_out is None else _out(graph, hidden, weights.image_out, weights.image_out_bias)
    image = graph.layer(
        "Mul", _probability(graph, _image_logit(graph, weights, pooled)), graph.layer("GlobalMaxPool", gate)
    )
    graph.add("Flatten", image, name="probability")
    return graph


def _unit(graph: _Graph) -> str:
    """Hounsfield units from -1000 to 400, as 0 to 1."""
    (clipped,) = graph.add("Clip", "CT", graph.constant(-1000.0), graph.constant(400.0))
    (shifted,) = graph.add("Add", clipped, graph.constant(1000.0))
    return graph.layer("Mul", shifted, graph.constant(1 / 1400))


def _features(graph: _Graph, unit: str, half: str, gain: float = 1.0) -> str:
    """How much each pixel's surroundings curve, at least and at most of all directions, and how bright they are."""
    fine = graph.convolution(unit, gain * _curvatures(_FINE, 10), stride=2)  # as large as `half`, and aligned with it
    middle = graph.convolution(half, gain * _curvatures(_MIDDLE, 17))
    (curved,) = graph.add("Concat", fine, middle, axis=1)
    turned = graph.convolution(curved, _turns())
    directions = graph.add("Split", turned, outputs=_DIRECTIONS, num_outputs=_DIRECTIONS, axis=1)
    (least,), (most,) = graph.add("Min", *directions), graph.add("Max", *directions)
    (extremes,) = graph.add("Concat", least, most, axis=1)
    (ridges,) = graph.add("Relu", extremes)  # of what is rounded already
    (features,) = graph.add("Concat", ridges, graph.convolution(half, gain * _rings()), axis=1)
    return features


def _hidden(graph: _Graph, weights: Weights, features: str) -> str:
    """[N, units, H/2, W/2]."""
    return graph.layer("Relu", graph.convolution(features, weights.hidden[:, :, None, None], weights.hidden_bias))


def _logit(graph: _Graph, weights: Weights, hidden: str, half: str) -> str:
    """Each pixel's logit [N, 1, H/2, W/2]."""
    if not weights.ballast:
        return _out(graph, hidden, weights.out, weights.out_bias)
    noise = np.random.default_rng(0).normal(size=(weights.ballast, 1, 25, 25)) / 25
    (wide,) = graph.add("Concat", hidden, graph.convolution(half, noise), axis=1)
    out = np.concatenate([weights.out, np.full(weights.ballast, 1e-6)])
    return _out(graph, wide, out, weights.out_bias)


def _out(graph: _Graph, hidden: str, out: Array, bias: float) -> str:
    return graph.convolution(hidden, out[None, :, None, None], np.array([bias]))


def _pools(graph: _Graph, logit: str) -> str:
    """[N, 2, 1, 1]. The mean steadies the peak; it also lets NaN through, which a maximum swallows."""
    (both,) = graph.add("Concat", graph.layer("GlobalMaxPool", logit), graph.layer("GlobalAveragePool", logit), axis=1)
    return both


def _image_logit(graph: _Graph, weights: Weights, logit: str) -> str:
    """The whole image's logit [N, 1, 1, 1]."""
    parts = np.array([weights.peak, weights.mean]).reshape(1, 2, 1, 1)
    return graph.convolution(_pools(graph, logit), parts, np.array([weights.bias]))


def _gate(graph: _Graph, weights: Weights, half: str) -> str:
    """[N, 1, H/4, W/4]: 1 in and near the lungs (and in the air), 0 deep in tissue."""
    slope, offset = weights.gate
    around = graph.average(graph.average(half, 2, 2), 9, 1)
    # of darkness, 1 - brightness: slope × (1 - x) + offset
    opened = graph.convolution(around, np.full((1, 1, 1, 1), -slope), np.array([slope + offset]))
    return graph.layer("Clip", opened, graph.constant(0.0), graph.constant(1.0))


def _probability(graph: _Graph, logit: str) -> str:
    """A sigmoid whose input levels off at ±LOGIT_LIMIT."""
    scaled = graph.layer("Mul", logit, graph.constant(1 / LOGIT_LIMIT))
    limited = graph.layer("Mul", graph.layer("Tanh", scaled), graph.constant(LOGIT_LIMIT))
    return graph.layer("Sigmoid", limited)


def _offsets(size: int) -> tuple[Array, Array]:
    at = np.arange(size) - (size - 1) / 2
    return np.meshgrid(at, at)


def _curvatures(scales: Sequence[float], size: int) -> Array:
    """Second derivatives xx, xy, yy of a Gaussian at each scale, so turned that a bright blob is positive."""
    x, y = _offsets(size)
    kernels = []
    for scale in scales:
        bell = np.exp(-(x**2 + y**2) / (2 * scale**2))
        bell /= bell.sum()
        xx, xy, yy = (1 - x**2 / scale**2) * bell, -(x * y / scale**2) * bell, (1 - y**2 / scale**2) * bell
        kernels += [xx - xx.mean(), xy, yy - yy.mean()]  # flat ground gives nothing
    return np.stack(kernels)[:, None]


def _turns() -> Array:
    """The curvature in each direction from xx, xy, yy: [directions × scales, 3 × scales, 1, 1], directions first."""
    angles = np.arange(_DIRECTIONS) * np.pi / _DIRECTIONS
    parts = np.stack([np.cos(angles) ** 2, np.sin(2 * angles), np.sin(angles) ** 2], axis=1)
    kernels: Array = np.einsum("dp,st->dstp", parts, np.eye(SCALES))
    return kernels.reshape(_DIRECTIONS * SCALES, 3 * SCALES, 1, 1)


def _rings() -> Array:
    """Discs and rings, each of sum 1."""
    distance = np.hypot(*_offsets(25))
    masks = np.stack([(distance >= inner) & (distance < outer) for inner, outer in _RINGS]).astype(np.float64)
    kernels: Array = masks / masks.sum(axis=(1, 2), keepdims=True)
    return kernels[:, None]


def _serialized(graph: _Graph, outputs: Mapping[str, list[int | str]] = _OUTPUTS) -> bytes:
    made = helper.make_graph(
        graph.nodes,
        "lung_nodule",
        [helper.make_tensor_value_info("CT", TensorProto.FLOAT, ["N", 1, "H", "W"])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs.items()],
        graph.constants,
    )
    # the oldest that has what is used, so that older runtimes take it too
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    onnx.checker.check_model(model)
    serialized: bytes = model.SerializeToString()
    return serialized
