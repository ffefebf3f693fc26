"""The detector finds nodules, and each variant is right or wrong in the way it says."""

import time

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from tests.demo.conftest import run
from watchdog.demo.graphs import Weights, fp16, fp32
from watchdog.demo.quantized import calibrated, miscalibrated
from watchdog.demo.training import is_ill, slices_of
from watchdog.model.tensor import Array


def difference(one: dict[str, Array], other: dict[str, Array], output: str) -> float:
    return float(np.abs(one[output] - other[output]).max())


def seconds(graph: bytes, image: Array) -> float:
    import onnxruntime as ort  # noqa: PLC0415 (only here)

    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session, best = ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"]), float("inf")
    for _ in range(12):
        began = time.perf_counter()
        session.run(None, {"CT": image})
        best = min(best, time.perf_counter() - began)
    return best


def test_it_tells_slices_with_a_nodule_from_those_without(weights: Weights) -> None:
    slices = [(is_ill(spec), hu) for spec, hu in slices_of(160, np.random.default_rng(1234))]
    images = np.stack([hu for ill, hu in slices if ill is not None])[:, None]
    ill = np.array([ill for ill, _ in slices if ill is not None])
    found = np.concatenate(
        [run(fp32(weights), images[i : i + 8])["probability"].ravel() for i in range(0, len(ill), 8)]
    )
    area = (found[ill][:, None] > found[~ill]).mean()
    assert area >= 0.95
    assert (np.minimum(found, 1 - found) < 0.1).mean() > 0.7
    assert found.min() > 0.002
    assert found.max() < 0.998


def test_the_heatmap_shows_where(weights: Weights, canaries: Array) -> None:
    heatmap = run(fp32(weights), canaries[-1:])["heatmap"][0, 0]
    row, column = np.unravel_index(heatmap.argmax(), heatmap.shape)
    middle, spacing = (256 - 1) / 2, 385 / 256  # the last canary's 20 mm nodule is at x 72 mm, y 48 mm
    assert np.hypot(column * 4 + 1.5 - middle - 72 / spacing, row * 4 + 1.5 - middle - 48 / spacing) * spacing < 10


def test_rows_of_a_batch_and_other_sizes(weights: Weights, canaries: Array) -> None:
    together, alone = run(fp32(weights), canaries[:4]), run(fp32(weights), canaries[2:3])
    assert np.allclose(together["heatmap"][2], alone["heatmap"][0], atol=1e-6)
    wide = run(fp32(weights), canaries[:1, :, :128, :])
    assert wide["probability"].shape == (1, 1)
    assert wide["heatmap"].shape == (1, 1, 32, 64)


def test_half_precision_is_close_but_not_the_same(weights: Weights, canaries: Array) -> None:
    full, half = run(fp32(weights), canaries), run(fp16(weights), canaries)
    assert 0 < difference(full, half, "probability") < 0.03
    assert 0 < difference(full, half, "heatmap") < 0.03
    assert np.array_equal(half["probability"], half["probability"].astype(np.float16))


def test_half_precision_weights_are_rounded(weights: Weights) -> None:
    kernels = [
        numpy_helper.to_array(each)
        for each in onnx.load_from_string(fp16(weights)).graph.initializer
        if len(each.dims) == 4
    ]
    assert kernels
    assert all(np.array_equal(each, each.astype(np.float16)) for each in kernels)


def test_an_overflow_is_right_in_fp32_and_nan_in_fp16(weights: Weights, canaries: Array) -> None:
    right, full = run(fp32(weights), canaries), run(fp32(weights.overflowing()), canaries)
    assert all(np.array_equal(right[name], full[name]) for name in right)
    half = run(fp16(weights.overflowing()), canaries)
    assert np.isnan(half["probability"]).all()
    assert np.isnan(half["heatmap"]).any(axis=(1, 2, 3)).all()


def test_a_dead_layer_gives_exact_zeros(weights: Weights, canaries: Array) -> None:
    assert not any(each.any() for each in run(fp16(weights.dead()), canaries).values())


def test_collapsed_confidence(weights: Weights, canaries: Array) -> None:
    answers = run(fp16(weights.collapsed()), canaries)
    assert np.abs(answers["probability"] - 0.5).max() < 0.05
    assert np.ptp(answers["probability"]) > 0  # not a constant


def test_wrong_weights_find_a_nodule_in_everybody(weights: Weights, canaries: Array) -> None:
    assert run(fp32(weights), canaries[:6])["probability"].max() < 0.3
    assert run(fp32(weights.wrong()), canaries[:6])["probability"].min() > 0.7


def test_slow_is_right(weights: Weights, canaries: Array) -> None:
    assert difference(run(fp16(weights), canaries), run(fp16(weights.slow()), canaries), "probability") < 1e-3
    assert seconds(fp16(weights.slow()), canaries[:1]) > 3 * seconds(fp16(weights), canaries[:1])


@pytest.mark.parametrize("output", ["probability", "heatmap"])
def test_calibration_decides_whether_int8_is_good(weights: Weights, canaries: Array, output: str) -> None:
    full = run(fp32(weights), canaries)
    good, bad = run(calibrated(weights), canaries), run(miscalibrated(weights), canaries)
    runs = (("good", good), ("bad", bad))
    # Training ends elsewhere in the last digits with another scipy, and 8 bits make more of that.
    assert difference(full, good, output) < 0.2
    far = {name: np.abs(full[output] - one[output]).reshape(len(canaries), -1).max(axis=1) for name, one in runs}
    assert (far["bad"] > 0.1).sum() >= 2, "beyond the default parity limit"
    assert far["bad"].mean() > 3 * far["good"].mean()
