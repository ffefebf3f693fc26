"""Masks as scalars: by hand, by a flood fill, over batches, and properties."""

import math
from collections.abc import Callable
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from watchdog.drift import mask
from watchdog.model.tensor import Array

Measure = Callable[..., float]
MEASURES: list[Measure] = [mask.volume, mask.components, mask.foreground_confidence]
PROBABILITIES = st.floats(0.0, 1.0, width=32)
IMAGES = hnp.arrays(np.float32, hnp.array_shapes(min_dims=2, max_dims=2, max_side=6), elements=PROBABILITIES)
VOLUMES = hnp.arrays(np.float32, hnp.array_shapes(min_dims=3, max_dims=3, max_side=4), elements=PROBABILITIES)
CHECKERS = np.indices((4, 4)).sum(axis=0) % 2


def flood_filled(foreground: Array) -> int:
    """How many floods along shared sides it takes to cover the foreground."""
    dry = {tuple(place) for place in np.argwhere(foreground).tolist()}
    floods = 0
    while dry:
        floods, wet = floods + 1, [dry.pop()]
        while wet:
            place = wet.pop()
            for axis, step in product(range(foreground.ndim), (-1, 1)):
                beside = (*place[:axis], place[axis] + step, *place[axis + 1 :])
                if beside in dry:
                    dry.remove(beside)
                    wet.append(beside)
    return floods


def test_volume_in_elements_and_in_cubic_millimetres() -> None:
    ct = np.zeros((3, 4, 5))
    ct[1, 1:3, 2:5] = 0.9
    assert mask.volume(ct, spatial=3) == 6.0
    assert mask.volume(ct, spatial=3, element_mm3=0.5 * 0.5 * 2.0) == 3.0


def test_what_equals_the_threshold_is_background() -> None:
    image = np.array([[0.5, 0.51]])
    assert mask.volume(image, spatial=2) == 1.0
    assert mask.volume(image, spatial=2, threshold=0.49) == 2.0
    assert mask.components(image, spatial=2, threshold=0.51) == 0.0


def test_corners_do_not_connect_and_slices_do_only_in_a_volume() -> None:
    assert mask.components(CHECKERS, spatial=2) == 8.0
    column = np.stack([np.eye(2)] * 3)
    assert mask.components(column, spatial=3) == 2.0
    assert mask.components(column[:, :1], spatial=2) == 1.0
    assert mask.components(np.stack([CHECKERS, np.ones((4, 4))]), spatial=2) == 4.5


def test_confidence_is_the_foregrounds_mean_and_0_without_one() -> None:
    image = np.array([[0.9, 0.7], [0.1, 0.5]])
    assert mask.foreground_confidence(image, spatial=2) == pytest.approx(0.8)
    assert mask.foreground_confidence(np.full((2, 2), 0.4), spatial=2) == 0.0
    assert mask.foreground_confidence(np.stack([image, np.zeros((2, 2))]), spatial=2) == pytest.approx(0.4)


@pytest.mark.parametrize("dtype", [np.bool_, np.uint8, np.int64, np.float16, np.float32])
def test_hard_masks_of_any_type_are_read_alike(dtype: type[np.generic]) -> None:
    hard = CHECKERS.astype(dtype)
    assert mask.volume(hard, spatial=2) == 8.0
    assert mask.components(hard, spatial=2) == 8.0
    assert mask.foreground_confidence(hard, spatial=2) == 1.0


def test_a_mask_of_bytes_counts_as_certain() -> None:
    assert mask.foreground_confidence(CHECKERS.astype(np.uint8) * 255, spatial=2) == 1.0


def test_half_precision_is_averaged_in_double() -> None:
    neighbours = np.array([[1 - 2**-11, 1.0]], dtype=np.float16)  # no half-precision number lies between them
    assert mask.foreground_confidence(neighbours, spatial=2) == 1 - 2**-12


@given(IMAGES | VOLUMES)
def test_components_are_those_of_a_flood_fill(one: Array) -> None:
    assert mask.components(one, spatial=one.ndim) == flood_filled(one > 0.5)


@given(IMAGES | VOLUMES)
def test_neither_mirroring_nor_turning_matters(one: Array) -> None:
    for measure in MEASURES:
        found = measure(one, spatial=one.ndim)
        assert measure(np.flip(one), spatial=one.ndim) == pytest.approx(found)
        assert measure(one.T, spatial=one.ndim) == pytest.approx(found)


@given(IMAGES | VOLUMES)
def test_results_are_bounded(one: Array) -> None:
    volume, confidence = mask.volume(one, spatial=one.ndim), mask.foreground_confidence(one, spatial=one.ndim)
    assert 0 <= mask.components(one, spatial=one.ndim) <= volume <= one.size
    assert 0.5 < confidence <= 1.0 if volume else confidence == 0.0


@given(hnp.arrays(np.float32, st.tuples(*[st.integers(1, 3)] * 5), elements=PROBABILITIES), st.sampled_from([2, 3]))
def test_a_batchs_result_is_the_mean_of_each_masks(batch: Array, spatial: int) -> None:
    each = batch.reshape(-1, *batch.shape[-spatial:])
    for measure in MEASURES:
        expected = np.mean([measure(one, spatial=spatial) for one in each])
        assert measure(batch, spatial=spatial) == pytest.approx(expected)


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize(
    ("array", "settings", "problem"),
    [
        (np.zeros((2, 2)), {"spatial": 1}, "spatial must be 2"),
        (np.zeros((2, 2)), {"spatial": 4}, "spatial must be 2"),
        (np.zeros(4), {"spatial": 2}, "mask must have 2 axes or more"),
        (np.zeros((2, 2)), {"spatial": 3}, "mask must have 3 axes or more"),
        (np.zeros((0, 2, 2)), {"spatial": 2}, "no empty one"),
        (np.zeros((2, 0)), {"spatial": 2}, "no empty one"),
        (np.array([[0.5, np.nan]]), {"spatial": 2}, "mask holds NaN or infinity"),
        (np.array([[0.5, np.inf]]), {"spatial": 2}, "mask holds NaN or infinity"),
        (np.array([["x"]]), {"spatial": 2}, "mask must be real numbers"),
        (np.zeros((2, 2)), {"spatial": 2, "threshold": math.nan}, "threshold must be a probability"),
        (np.zeros((2, 2)), {"spatial": 2, "threshold": 1.0}, "threshold must be a probability"),
        (np.zeros((2, 2)), {"spatial": 2, "threshold": -0.1}, "threshold must be a probability"),
    ],
)
def test_what_is_no_mask_is_refused(measure: Measure, array: Array, settings: dict[str, float], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        measure(array, **settings)


@pytest.mark.parametrize("element", [0.0, -1.0, math.nan, math.inf])
def test_an_elements_volume_is_positive(element: float) -> None:
    with pytest.raises(ValueError, match="element_mm3 must be a positive volume"):
        mask.volume(np.zeros((2, 2)), spatial=2, element_mm3=element)
