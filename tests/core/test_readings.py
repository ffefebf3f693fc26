"""Answers read as numbers: by hand, a value a row, and never a number that hides what is wrong."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from watchdog.assess import OutputKind, OutputSettings
from watchdog.drift.links import Link
from watchdog.model.tensor import Array
from watchdog.readings import OUTSIDE, link_of, names_of, read_answer, read_output


def an_output(kind: OutputKind, **more: Any) -> OutputSettings:
    return OutputSettings(name="y", kind=kind, **more)


def test_names_and_links_follow_from_the_kinds() -> None:
    outputs = [OutputSettings(name=kind, kind=kind) for kind in OutputKind]
    assert names_of(outputs) == (
        "probability",
        "probabilities",
        "probabilities.top",
        "logit",
        "logits",
        "logits.top",
        "mask.peak",
        "mask.foreground",
        "mask.volume",
        "mask.count",
    )
    on_log = {name for name in names_of(outputs) if link_of(name) is Link.LOG}
    assert on_log == {"mask.volume", "mask.count"}
    assert link_of("volume") is Link.LOGIT  # an output of that name


def test_a_batch_gives_a_value_for_each_row() -> None:
    p = an_output(OutputKind.PROBABILITY)
    assert read_output(p, np.array([[0.9], [0.2]])) == {"y": (0.9, 0.2)}
    assert read_output(p, np.array([0.9, 0.2])) == {"y": (0.9, 0.2)}
    assert read_output(p, np.array(0.9)) == {"y": (0.9,)}
    assert read_output(p, np.array([0.5, 0.25]), batched=False) == {"y": (0.375,)}
    assert read_output(p, np.zeros((0, 1))) == {"y": ()}


def test_classes_give_not_background_and_the_top() -> None:
    got = read_output(an_output(OutputKind.PROBABILITIES), np.array([[0.2, 0.5, 0.3], [1.0, 0.0, 0.0]]))
    assert got == {"y": pytest.approx((0.8, 0.0)), "y.top": pytest.approx((0.5, 1.0))}
    flat = read_output(an_output(OutputKind.PROBABILITIES), np.array([0.2, 0.5, 0.3]))
    assert flat == {"y": pytest.approx((0.8,)), "y.top": pytest.approx((0.5,))}


def test_logits_are_read_as_what_they_stand_for() -> None:
    assert read_output(an_output(OutputKind.LOGIT), np.array([[0.0], [3.0]]))["y"] == pytest.approx((0.5, 0.952574))
    assert read_output(an_output(OutputKind.LOGITS), np.array([[0.0, 0.0]])) == {"y": (0.5,), "y.top": (0.5,)}


def test_a_mask_is_a_peak_a_foreground_a_volume_and_pieces() -> None:
    mask = np.zeros((2, 1, 4, 4), dtype=np.float32)
    mask[0, 0, 0, :2], mask[0, 0, 3, 3] = 0.75, 1.0
    got = read_output(an_output(OutputKind.MASK), mask)
    assert got["y.peak"] == (1.0, 0.0)
    assert got["y.foreground"] == pytest.approx((2.5 / 3, 0.0))
    assert got["y.volume"] == (3.0, 0.0)
    assert got["y.count"] == (2.0, 0.0)


def test_a_volume_with_a_channel_is_one_piece_through_its_slices() -> None:
    volume = np.zeros((1, 1, 3, 4, 4))
    volume[0, 0, :, 1, 1] = 0.9
    got = read_output(an_output(OutputKind.MASK), volume)
    assert (got["y.volume"], got["y.count"]) == ((3.0,), (1.0,))


@pytest.mark.parametrize("threshold", [-1.0, 0.0, 1.0, 7.0])
def test_any_threshold_can_be_read(threshold: float) -> None:
    got = read_output(an_output(OutputKind.MASK, threshold=threshold), np.full((1, 1, 2, 2), 0.5))
    assert got["y.volume"] == ((4.0,) if threshold <= 0 else (0.0,))


@pytest.mark.parametrize("kind", [kind for kind in OutputKind if kind is not OutputKind.TENSOR])
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_nan_in_its_row_alone(kind: OutputKind, bad: float) -> None:
    answer = np.full((3, 1, 2, 2), 0.25)
    answer[1, 0, 1, 1] = bad
    for values in read_output(an_output(kind), answer).values():
        assert math.isnan(values[1])
        assert math.isfinite(values[0])
        assert math.isfinite(values[2])


@pytest.mark.parametrize("kind", [OutputKind.PROBABILITY, OutputKind.PROBABILITIES, OutputKind.MASK])
def test_outside_the_range_is_a_number_that_no_reading_can_be(kind: OutputKind) -> None:
    answer = np.full((3, 1, 2, 2), 0.25)
    answer[0, 0, 0, 0], answer[1, 0, 0, 0], answer[2, 0, 0, 0] = 1.5, -0.5, 1.0005
    for name, values in read_output(an_output(kind), answer).items():
        assert values[:2] == (OUTSIDE, OUTSIDE)
        assert link_of(name).allows(values[2])
        assert not link_of(name).allows(OUTSIDE)


def test_a_tensor_is_not_interpreted_and_what_did_not_come_is_not_there() -> None:
    outputs = [OutputSettings(name="t"), OutputSettings(name="p", kind=OutputKind.PROBABILITY)]
    assert read_answer(outputs, {"t": np.ones(3), "p": np.array([[0.5]]), "q": np.ones(1)}) == {"p": (0.5,)}
    assert read_answer(outputs, {"t": np.ones(3)}) == {}


ANY = hnp.arrays(
    hnp.scalar_dtypes().filter(lambda dtype: dtype.kind in "biuf"),
    hnp.array_shapes(min_dims=0, max_dims=5, min_side=0, max_side=3),
)


@given(kind=st.sampled_from(OutputKind), array=ANY, batched=st.booleans(), threshold=st.floats(-2, 2))
def test_whatever_comes_is_read(kind: OutputKind, array: Array, batched: bool, threshold: float) -> None:
    output = an_output(kind, threshold=threshold)
    got = read_output(output, array, batched=batched)
    assert tuple(got) == names_of([output])
    assert len({len(values) for values in got.values()}) <= 1
    for name, values in got.items():
        assert all(math.isnan(v) or v == OUTSIDE or link_of(name).allows(v) for v in values)
