from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy import ndimage

from tests.canaries.samples import recipe
from watchdog.canaries.header import Header
from watchdog.canaries.preprocess import constants, tensor, windowed
from watchdog.canaries.recipe import Recipe
from watchdog.model.tensor import DTYPES, Array

HEADER = Header(
    sha256="",
    modality="CT",
    manufacturer="",
    kernel="",
    syntax="",
    photometric="MONOCHROME2",
    rows=4,
    columns=4,
    frames=1,
    samples=1,
    bits_stored=12,
    signed=False,
    integers=True,
    window=False,
    lut=False,
    series="",
    rescale=((2.0, -1024.0),),
    padding=None,
    orientation=None,
    positions=(None,),
)
RAMP = (np.arange(16, dtype=np.uint16) * 100).reshape(1, 4, 4)
SAME = [{"name": "opt", "size": [4, 4]}]


def made(stored: Array, header: Header = HEADER, **changes: Any) -> Array:
    how = recipe(**({"profiles": SAME} | changes))
    frames = list(range(header.frames))
    return tensor(*windowed(stored, header, frames, how), how, how.profiles[0])


def test_rescale_then_window_then_range() -> None:
    hu = RAMP * 2.0 - 1024
    expected = (np.clip(hu, -1000, 400) + 1000) / 1400
    np.testing.assert_allclose(made(RAMP)[0, 0], expected[0], atol=1e-6)


def test_mean_and_std() -> None:
    expected = (np.clip(RAMP * 2.0 - 1024, -1000, 400) + 300) / 350
    got = made(RAMP, normalise={"mean": -300, "std": 350})
    np.testing.assert_allclose(got[0, 0], expected[0], atol=1e-5)


def test_without_window_and_normalise_values_stay_physical() -> None:
    np.testing.assert_allclose(made(RAMP, window=None, normalise=None)[0, 0], RAMP[0] * 2.0 - 1024)


def test_without_a_window_the_range_is_what_the_bits_express() -> None:
    stored = np.array([[[0, 4095]] * 2], np.uint16)
    got = made(stored, window=None, profiles=[{"name": "a", "size": [2, 2]}])
    assert got[0, 0].tolist() == [[0, 1]] * 2
    signed = replace(HEADER, signed=True, bits_stored=16)
    got = made(
        np.array([[[-32768, 32767]] * 2], np.int16), signed, window=None, profiles=[{"name": "a", "size": [2, 2]}]
    )
    assert got[0, 0].tolist() == [[0, 1]] * 2


def test_monochrome1_is_inverted_within_the_window() -> None:
    inverted = made(RAMP, replace(HEADER, photometric="MONOCHROME1"))
    np.testing.assert_allclose(inverted, 1 - made(RAMP), atol=1e-6)


def test_percentiles() -> None:
    stored = np.random.default_rng(0).integers(0, 4096, (1, 32, 32)).astype(np.uint16)
    got = made(stored, window={"percentile": [10, 90]}, profiles=[{"name": "a", "size": [32, 32]}])
    assert np.mean(got == 0) == pytest.approx(0.1, abs=0.01)
    assert np.mean(got == 1) == pytest.approx(0.1, abs=0.01)


def test_padding_becomes_the_darkest_value_and_has_no_say_in_percentiles() -> None:
    stored = RAMP.copy()
    stored[0, 0, :2] = 4000, 4095
    padded = replace(HEADER, padding=(4000.0, 4095.0))
    got = made(stored, padded, window={"percentile": [0, 100]})
    assert got[0, 0, 0, :2].tolist() == [0, 0]
    assert got[0, 0, 3, 3] == 1
    got = made(stored, replace(padded, photometric="MONOCHROME1"))
    assert got[0, 0, 0, :2].tolist() == [0, 0]


def test_uniform_image_has_no_percentile_window() -> None:
    with pytest.raises(ValueError, match="uniform"):
        made(np.full((1, 4, 4), 7, np.uint16), window={"percentile": [1, 99]})


def test_ct_without_rescale_has_no_hounsfield_window() -> None:
    bare = replace(HEADER, rescale=(None,))
    with pytest.raises(ValueError, match="RescaleSlope"):
        made(RAMP, bare)
    made(RAMP, replace(bare, modality="MR"))
    made(RAMP, bare, window={"percentile": [1, 99]})


@pytest.mark.parametrize("size", [(4, 4), (7, 3), (2, 9), (1, 1), (31, 64)])
def test_linear_resampling_agrees_with_scipy(size: tuple[int, int]) -> None:
    image = np.random.default_rng(1).random((4, 4))
    stored = (image * 4000).astype(np.uint16)[None]
    got = made(stored, window=None, normalise=None, profiles=[{"name": "a", "size": size}])[0, 0]
    expected = ndimage.zoom(stored[0] * 2.0 - 1024, (size[0] / 4, size[1] / 4), order=1, mode="nearest", grid_mode=True)
    assert got.shape == size
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-2)


def test_nearest_keeps_values() -> None:
    got = made(RAMP, window=None, normalise=None, resample="nearest", profiles=[{"name": "a", "size": [8, 2]}])[0, 0]
    assert got.shape == (8, 2)
    assert set(got.ravel()) <= set((RAMP * 2.0 - 1024).ravel())
    np.testing.assert_array_equal(got[::2], got[1::2])


@pytest.mark.parametrize(
    ("layout", "shape"),
    [
        ("HW", (5, 6)),
        ("NHW", (2, 5, 6)),
        ("CHW", (3, 5, 6)),
        ("HWC", (5, 6, 3)),
        ("NCHW", (2, 3, 5, 6)),
        ("NHWC", (2, 5, 6, 3)),
        ("NWHC", (2, 6, 5, 3)),
    ],
)
def test_layouts(layout: str, shape: tuple[int, ...]) -> None:
    profile = {"name": "a", "size": [5, 6], "batch": 2 if "N" in layout else 1}
    got = made(RAMP, layout=layout, channels=3 if "C" in layout else 1, profiles=[profile])
    plain = made(RAMP, layout="HW", profiles=[{"name": "a", "size": [5, 6]}])
    assert got.shape == shape
    assert got.flags.c_contiguous
    at = tuple(slice(None) if axis in "HW" else 0 for axis in layout)
    np.testing.assert_array_equal(got[at].T if "WH" in layout else got[at], plain)
    if "N" in layout:
        np.testing.assert_array_equal(got[0], got[1])
    if "C" in layout:
        first, last = np.take(got, 0, layout.index("C")), np.take(got, 2, layout.index("C"))
        np.testing.assert_array_equal(first, last)


def test_volume_layouts() -> None:
    stored = np.arange(3 * 4 * 4, dtype=np.uint16).reshape(3, 4, 4)
    header = replace(HEADER, frames=3, rescale=((1.0, 0.0), (1.0, 100.0), (1.0, 200.0)))
    volume: dict[str, Any] = {"unit": "volume", "window": None, "normalise": None}
    got = made(stored, header, layout="NCDHW", profiles=[{"name": "a", "size": [3, 4, 4], "batch": 2}], **volume)
    assert got.shape == (2, 1, 3, 4, 4)
    np.testing.assert_allclose(got[1, 0, 2], stored[2] + 200)
    got = made(stored, header, layout="DHWC", profiles=[{"name": "a", "size": [5, 2, 2]}], **volume)
    assert got.shape == (5, 2, 2, 1)


@pytest.mark.parametrize("dtype", [name for name in DTYPES if name != "BOOL"])
def test_datatypes_are_exact_and_never_wrap(dtype: str) -> None:
    got = made(RAMP, dtype=dtype, normalise={"range": [-(2.0**80), 2.0**80]} if dtype[0] != "F" else {"range": [0, 1]})
    assert got.dtype == DTYPES[dtype]
    values = got[0, 0].astype(float).ravel()
    assert (np.diff(values) >= 0).all(), "an overflow would break the ramp"
    if dtype[0] != "F":
        info = np.iinfo(DTYPES[dtype])
        assert got.min() == info.min
        assert info.max - 2048 <= int(got.max()) <= info.max


def test_uint8_of_0_to_255_is_rounded() -> None:
    got = made(RAMP, dtype="UINT8", normalise={"range": [0, 255]})
    assert got[0, 0, 1, 0] == round((400 * 2 - 1024 + 1000) / 1400 * 255)


def test_values_beyond_fp16_are_refused() -> None:
    with pytest.raises(ValueError, match="FP16 can't hold"):
        made(RAMP, dtype="FP16", normalise={"range": [0, 1e6]})


def test_a_tolerance_below_the_datatypes_steps_is_refused() -> None:
    made(RAMP, dtype="FP32", tolerance=1e-4)
    with pytest.raises(ValueError, match="FP16 is too coarse"):
        made(RAMP, dtype="FP16", tolerance=1e-4)


def test_constants_get_a_row_for_each_image() -> None:
    how = recipe(
        constants=[{"name": "k", "dtype": "INT32", "value": [1, 2]}],
        profiles=[{"name": "a", "size": [4, 4], "batch": 3}],
    )
    assert constants(how, how.profiles[0])["k"].tolist() == [[1, 2]] * 3
    flat = Recipe.model_validate(how.model_dump() | {"layout": "HW", "profiles": SAME})
    assert constants(flat, flat.profiles[0])["k"].tolist() == [1, 2]
