"""The net: what its engines should answer, and that it overflows in FP16 alone."""

from pathlib import Path

import numpy as np
import pytest
from scipy.signal import correlate

from bench.gpu.fitting import Shape, fit
from bench.gpu.net import Net, convolved
from watchdog.canaries.phantom import default_set, make_slice
from watchdog.model.tensor import Array

SIZE = 128


@pytest.fixture(scope="module")
def net() -> Net:
    return fit(Shape(size=SIZE, width=16, depth=4, bodies=64))


@pytest.fixture(scope="module")
def images() -> Array:
    return np.stack([make_slice(spec, np.random.default_rng(i)) for i, spec in enumerate(default_set(7, SIZE))])[
        :, None
    ]


def test_outputs_are_probabilities_of_the_images_shape_that_differ(net: Net, images: Array) -> None:
    answer = net.answer(images)
    assert answer["probability"].shape == (len(images), 1)
    assert answer["heatmap"].shape == images.shape
    for array in answer.values():
        assert array.dtype == np.float32
        assert 0 <= array.min() < array.max() <= 1
    assert answer["probability"].std() > 0.05


def test_half_precision_rounds_a_little(net: Net, images: Array) -> None:
    whole, half = net.answer(images), net.answer(images, half=True)
    off = {name: float(np.abs(whole[name] - half[name]).max()) for name in whole}
    assert 0 < off["probability"] < 0.02
    assert 0 < off["heatmap"] < 0.02


def test_the_overflowing_net_is_the_same_in_fp32_and_nan_in_fp16(net: Net, images: Array) -> None:
    overflowing = net.overflowing()
    for name, array in net.answer(images).items():
        np.testing.assert_allclose(overflowing.answer(images)[name], array, atol=1e-5)
    assert np.abs(overflowing.kernels[-1]).max() < 65504
    assert np.isnan(overflowing.answer(images, half=True)["probability"]).all()


@pytest.mark.parametrize("stride", [1, 2])
def test_a_convolution_is_scipys(stride: int) -> None:
    rng = np.random.default_rng(0)
    x, kernel = rng.normal(size=(2, 3, 8, 12)), rng.normal(size=(4, 3, 3, 3))
    for n, o in np.ndindex(2, 4):
        expected = sum(correlate(x[n, c], kernel[o, c], mode="same") for c in range(3))[::stride, ::stride]
        np.testing.assert_allclose(convolved(x, kernel, stride)[n, o], expected)


def test_weights_survive_their_file(net: Net, images: Array, tmp_path: Path) -> None:
    net.save(tmp_path / "net.npz")
    again = Net.load(tmp_path / "net.npz")
    for name, array in net.answer(images[:2]).items():
        np.testing.assert_array_equal(again.answer(images[:2])[name], array)


def test_a_fit_is_the_same_each_time() -> None:
    shape = Shape(size=64, width=4, depth=3, bodies=16)
    one, other = fit(shape), fit(shape)
    np.testing.assert_array_equal(one.readout, other.readout)
    np.testing.assert_array_equal(one.pool, other.pool)
    assert not np.array_equal(one.kernels[0], fit(shape, seed=1).kernels[0])
