"""The detector in INT8: what a good calibration gives, and what a bad one does."""

import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import onnx
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quant_pre_process, quantize_static

from watchdog.demo.graphs import Weights, fp32
from watchdog.demo.training import slices_of
from watchdog.model.tensor import Array

_SLICES = 24


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
