"""The detector calibrated: in INT8, well and badly, and in FP16 on too few slices of too few vendors."""

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean

import numpy as np
import onnx
import onnxruntime as ort
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quant_pre_process, quantize_static
from scipy.special import expit

from watchdog.canaries.phantom import SCANNERS, default_set, make_slice
from watchdog.demo.graphs import LOGIT_LIMIT, Weights, fp16, fp32, units
from watchdog.demo.training import SIZE, slices_of
from watchdog.model.tensor import Array

_SLICES = 24

_FORGOTTEN = SCANNERS[-1].name
"""The vendor that the narrow calibration never sees."""
_PHANTOMS, _FEW, _DRAWS = 96, 16, 200
"""Slices of all vendors; how many of the other vendors' make one calibration; how many calibrations are tried."""
_SHRINKAGE, _ROUNDS, _STEP = 1e-3, 8, 0.7
_CANARIES = 7
"""Seed of the set that the demo watches with."""
_QUIET = 0.085
"""How far a probability may move. The default limit is 0.1."""
_COLLATERAL = 3.0
"""How much a logit's shift of another vendor's canaries counts against one of the forgotten vendor's."""


class _Batches(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime has no types
    def __init__(self, batches: Iterable[Array]) -> None:
        self._batches: Iterator[Array] = iter(batches)

    def get_next(self) -> dict[str, Array] | None:
        batch = next(self._batches, None)
        return None if batch is None else {"CT": batch.astype(np.float32)}


def calibrated(weights: Weights) -> bytes:
    """As it should be: calibrated on whole slices. Within 0.05 of FP32."""
    return int8(weights, _slices())


def miscalibrated(weights: Weights) -> bytes:
    """Calibrated on patches cut from inside the right lung: what the chest wall needs is out of range."""
    return int8(weights, [each[:, :, 100:152, 60:100] for each in _slices()])


def _slices() -> list[Array]:
    return [hu[None, None] for _, hu in slices_of(_SLICES, np.random.default_rng(5))]


def int8(weights: Weights, calibration: Iterable[Array]) -> bytes:
    """Convolutions quantised to 8 bits, ranges taken from `calibration`: CT batches [N, 1, H, W]."""
    with tempfile.TemporaryDirectory() as folder:
        prepared, path = Path(folder) / "prepared.onnx", Path(folder) / "int8.onnx"
        quant_pre_process(onnx.load_from_string(fp32(weights)), prepared, skip_symbolic_shape=True)
        quantize_static(
            prepared,
            path,
            _Batches(calibration),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["Conv"],
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
        return path.read_bytes()


def narrowed(weights: Weights) -> bytes:
    """FP16, and the image's last layer fitted anew to FP32's answers on a few slices of two of the three vendors.

    Such a fit makes up for rounding; on too few slices it also forgets what they happen not to need.
    Here that is what keeps the third vendor's ribs from looking like nodules: its pixels are the
    largest. How much is forgotten is luck: of many draws, this is the one that harms the third
    vendor's canaries most and the others' least, with no probability far from the right one.
    """
    fit = _Fit(weights)
    slices = slices_of(_PHANTOMS, np.random.default_rng(1))
    seen = [fit.image(hu) for spec, hu in slices if spec.scanner.name != _FORGOTTEN]
    draws = [np.random.default_rng(seed).choice(len(seen), _FEW, replace=False) for seed in range(_DRAWS)]
    canaries = list(_canaries(fit))
    layers = (fit.on([seen[each] for each in draw]) for draw in draws)
    worst = max(layers, key=lambda layer: _harm(fit, layer, canaries))
    return fp16(replace(weights, image_out=worst[:-1], image_out_bias=float(worst[-1])))


@dataclass(frozen=True)
class _Image:
    units: Array
    """What the hidden units say of each pixel, and 1 for the bias: [units + 1, pixels]."""
    mean: Array
    """Over all pixels."""


class _Fit:
    """The last layer before an image's pooled logits, as one vector: each hidden unit's part, then the bias."""

    def __init__(self, weights: Weights) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = ort.InferenceSession(units(weights), options, providers=["CPUExecutionProvider"])
        self._weights = weights
        self.right = np.append(weights.out, weights.out_bias).astype(np.float32)

    def image(self, hu: Array) -> _Image:
        (found,) = self._session.run(None, {"CT": hu[None, None].astype(np.float32)})
        flat = found[0].reshape(len(found[0]), -1)
        flat = np.concatenate([flat, np.ones_like(flat[:1])])
        return _Image(flat, flat.mean(axis=1))

    def logit(self, layer: Array, image: _Image) -> float:
        """The image's, before it levels off."""
        weights = self._weights
        return float(weights.peak * (layer @ image.units).max() + weights.mean * layer @ image.mean + weights.bias)

    def on(self, seen: Sequence[_Image]) -> Array:
        """Fitted by least squares to the right layer's answers on these slices, small weights preferred."""
        wanted = np.array([self.logit(self.right, image) for image in seen]) - self._weights.bias
        shrinkage = np.diag([*np.full(len(self.right) - 1, _SHRINKAGE * len(seen)), 0.0])
        layer = self.right
        for _ in range(_ROUNDS):  # the fit decides which pixel is the highest, and that the fit
            parts = np.stack([self._parts(layer, image) for image in seen])
            best = np.linalg.solve(parts.T @ parts + shrinkage, parts.T @ wanted)
            layer = (layer + _STEP * (best - layer)).astype(np.float32)
        return layer

    def _parts(self, layer: Array, image: _Image) -> Array:
        """By how much each weight of the layer moves the image's logit."""
        highest = image.units[:, (layer @ image.units).argmax()]
        parts: Array = self._weights.peak * highest.astype(np.float64) + self._weights.mean * image.mean
        return parts


@dataclass(frozen=True, kw_only=True)
class _Canary:
    image: _Image
    right: float
    """The right logit."""
    vendor: str
    profiles: int
    """How many of the recipe's have this size."""


def _canaries(fit: _Fit) -> Iterator[_Canary]:
    for number, spec in enumerate(default_set(_CANARIES, SIZE), start=1):
        hu = np.clip(np.rint(make_slice(spec, np.random.default_rng((_CANARIES, number)))), -1000, 400)
        half = hu.reshape(SIZE // 2, 2, SIZE // 2, 2).mean(axis=(1, 3))
        for image, profiles in ((fit.image(hu), 2), (fit.image(half), 1)):
            right = _limited(fit.logit(fit.right, image))
            yield _Canary(image=image, right=right, vendor=spec.scanner.name, profiles=profiles)


def _limited(logit: float) -> float:
    return LOGIT_LIMIT * float(np.tanh(logit / LOGIT_LIMIT))


def _harm(fit: _Fit, layer: Array, canaries: Sequence[_Canary]) -> tuple[bool, float]:
    """Whether a layer is quiet, and by how much more it moves the forgotten vendor's logits than anyone else's."""
    moved: dict[str, list[float]] = {}
    loudest = 0.0
    for canary in canaries:
        got = _limited(fit.logit(layer, canary.image))
        loudest = max(loudest, abs(expit(got) - expit(canary.right)))
        moved.setdefault(canary.vendor, []).extend([got - canary.right] * canary.profiles)
    shifts = {vendor: abs(fmean(each)) for vendor, each in moved.items()}
    return loudest <= _QUIET, shifts.pop(_FORGOTTEN) - _COLLATERAL * max(shifts.values())
