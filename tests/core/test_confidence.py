"""Outputs read as confidences: by hand, against scipy, and within their bounds whatever comes."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import special, stats

from watchdog.drift import confidence
from watchdog.model.tensor import Array
from watchdog.model.verdict import Confidence

ANY_FINITE = hnp.arrays(
    np.float64,
    hnp.array_shapes(min_dims=1, max_dims=3, max_side=5),
    elements=st.floats(allow_nan=False, allow_infinity=False),
)


def test_a_probability_is_its_own_confidence() -> None:
    got = confidence.of_probability(np.array([[0.9], [0.7]]))
    assert [got.value, got.top] == pytest.approx([0.8, 0.8])
    assert got.entropy == pytest.approx((stats.entropy([0.9, 0.1]) + stats.entropy([0.7, 0.3])) / 2)


def test_an_unlikely_event_is_confident_too() -> None:
    got = confidence.of_probability(np.array([0.1]))
    assert [got.value, got.top] == pytest.approx([0.1, 0.9])


def test_classes_give_not_background_and_the_top() -> None:
    got = confidence.of_classes(np.array([[0.2, 0.5, 0.3]]))
    assert [got.value, got.top] == pytest.approx([0.8, 0.5])
    assert got.entropy == pytest.approx(stats.entropy([0.2, 0.5, 0.3]))


def test_a_mask_gives_its_peak_and_its_mean_foreground() -> None:
    got = confidence.of_mask(np.array([[0.0, 0.6], [0.9, 0.2]]))
    assert [got.value, got.top] == pytest.approx([0.9, 0.75])


def test_a_mask_without_foreground_has_its_peak_for_top() -> None:
    got = confidence.of_mask(np.array([0.1, 0.3]))
    assert (got.value, got.top) == (0.3, 0.3)


def test_a_sure_answer_has_no_entropy_and_a_coin_toss_all() -> None:
    assert confidence.entropy(np.array([[1.0, 0.0]])) == 0.0
    assert confidence.entropy(np.array([[0.5, 0.5]])) == pytest.approx(math.log(2))


def test_half_precision_is_summed_in_double() -> None:
    many = np.full((1, 70_000), 0.25, dtype=np.float16)
    assert confidence.of_mask(many, threshold=0.1).top == 0.25


@given(ANY_FINITE)
def test_sigmoid_and_softmax_are_scipys_for_every_finite_number(x: Array) -> None:
    np.testing.assert_allclose(confidence.sigmoid(x), special.expit(x), rtol=1e-12)
    with np.errstate(over="ignore"):
        expected = special.softmax(x, axis=-1)
    np.testing.assert_allclose(confidence.softmax(x), expected, rtol=1e-9)


def within_bounds(got: Confidence, classes: int) -> bool:
    return (
        0.0 <= got.value <= 1.0
        and 0.0 <= got.top <= 1.0
        and -1e-12 <= got.entropy <= math.log(max(classes, 2)) * classes
    )


@given(ANY_FINITE)
def test_every_summary_stays_within_its_bounds_even_for_nonsense(x: Array) -> None:
    assert within_bounds(confidence.of_probability(x), 2)
    assert within_bounds(confidence.of_mask(x), 2)
    assert within_bounds(confidence.of_classes(x), x.shape[-1])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_the_entropy_of_events_is_that_of_two_classes_each(probabilities: list[float]) -> None:
    p = np.array(probabilities)
    assert confidence.bernoulli_entropy(p) == pytest.approx(
        confidence.entropy(np.stack([p, 1 - p], axis=-1)), abs=1e-12
    )
