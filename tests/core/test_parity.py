"""Distances from the golden answer: by hand, against scipy, and their properties."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.spatial import distance
from scipy.special import rel_entr

from watchdog.drift import parity
from watchdog.model.tensor import Array

Measure = Callable[[Array, Array], float]

SHAPES = hnp.array_shapes(min_dims=1, max_dims=3, max_side=6)
VALUES = st.floats(-1e6, 1e6)


@st.composite
def pairs(draw: st.DrawFn, values: st.SearchStrategy[float] = VALUES) -> tuple[Array, Array]:
    shape = draw(SHAPES)
    arrays = hnp.arrays(np.float64, shape, elements=values)
    return draw(arrays), draw(arrays)


@st.composite
def distributions(draw: st.DrawFn) -> tuple[Array, Array]:
    """Two batches of class probabilities, none of them nearly 0, so that the floor plays no part."""
    shape = (draw(st.integers(1, 4)), draw(st.integers(2, 5)))
    weights = hnp.arrays(np.float64, shape, elements=st.floats(0.01, 1.0))
    a, b = draw(weights), draw(weights)
    return a / a.sum(axis=-1, keepdims=True), b / b.sum(axis=-1, keepdims=True)


def test_max_abs_is_the_largest_difference_of_an_element() -> None:
    assert parity.max_abs(np.array([1.0, -2.0, 3.0]), np.array([1.0, 0.5, 2.0])) == 2.5


def test_relative_l2_is_relative_to_the_golden_norm() -> None:
    assert parity.relative_l2(np.array([3.0, 8.0]), np.array([3.0, 4.0])) == pytest.approx(4 / 5)


def test_relative_l2_to_a_zero_golden_answer_is_huge_not_infinite() -> None:
    assert parity.relative_l2(np.array([1e-3]), np.zeros(1)) == pytest.approx(1e9)


def test_cosine_of_right_angles_opposites_and_zeros() -> None:
    x, y = np.array([1.0, 0.0]), np.array([0.0, 2.0])
    assert parity.cosine(x, y) == 0.0
    assert parity.cosine(x, -3 * x) == -1.0
    assert parity.cosine(np.zeros(2), np.zeros(2)) == 1.0
    assert parity.cosine(x, np.zeros(2)) == 0.0


@pytest.mark.parametrize("scale", [1e-300, 1e-7, 1.0, 1e200])
def test_cosine_does_not_depend_on_the_scale(scale: float) -> None:
    x = np.array([1.0, 2.0, -0.5]) * scale
    assert parity.cosine(x, x) == pytest.approx(1.0)
    assert parity.cosine(x, np.array([2.0, -1.0, 0.0])) == pytest.approx(0.0)


def test_dice_counts_what_is_above_the_threshold() -> None:
    got, golden = np.array([0.9, 0.8, 0.1, 0.5]), np.array([0.9, 0.2, 0.7, 0.5])
    assert parity.dice(got, golden) == pytest.approx(2 * 1 / (2 + 2))
    assert parity.dice(got, golden, threshold=0.05) == 1.0
    assert parity.dice(np.zeros(4), np.zeros(4)) == 1.0
    assert parity.dice(got, np.zeros(4)) == 0.0


def test_kl_by_hand_and_over_a_batch_is_the_worst_row() -> None:
    golden, got = np.array([[0.5, 0.5], [0.9, 0.1]]), np.array([[0.5, 0.5], [0.5, 0.5]])
    assert parity.kl_divergence(got, golden) == pytest.approx(0.9 * math.log(1.8) + 0.1 * math.log(0.2))


def test_kl_of_a_hard_zero_is_large_and_finite() -> None:
    assert parity.kl_divergence(np.array([0.0, 1.0]), np.array([1.0, 0.0])) == pytest.approx(-math.log(1e-12), rel=1e-6)


def test_bernoulli_kl_is_that_of_both_outcomes() -> None:
    assert parity.bernoulli_kl(np.array([0.5]), np.array([0.9])) == pytest.approx(
        0.9 * math.log(1.8) + 0.1 * math.log(0.2)
    )


@pytest.mark.parametrize("measure", [parity.max_abs, parity.relative_l2, parity.kl_divergence, parity.bernoulli_kl])
def test_nan_is_never_taken_for_zero(measure: Measure) -> None:
    assert math.isnan(measure(np.array([0.5, np.nan]), np.array([0.5, 0.5])))


@pytest.mark.parametrize(
    ("measure", "same"),
    [
        (parity.max_abs, 0.0),
        (parity.relative_l2, 0.0),
        (parity.cosine, 1.0),
        (parity.dice, 1.0),
        (parity.bernoulli_kl, 0.0),
    ],
)
def test_nothing_equals_nothing(measure: Measure, same: float) -> None:
    assert measure(np.empty((0, 3)), np.empty((0, 3))) == same


@given(pairs())
def test_equal_arrays_are_at_no_distance(pair: tuple[Array, Array]) -> None:
    a, _ = pair
    assert parity.max_abs(a, a) == 0.0
    assert parity.relative_l2(a, a) == 0.0
    assert parity.cosine(a, a) == pytest.approx(1.0)
    assert parity.dice(a, a) == 1.0


@given(pairs())
def test_symmetric_measures_are_symmetric_and_bounded(pair: tuple[Array, Array]) -> None:
    a, b = pair
    assert parity.max_abs(a, b) == parity.max_abs(b, a) >= 0.0
    assert parity.cosine(a, b) == pytest.approx(parity.cosine(b, a))
    assert -1.0 <= parity.cosine(a, b) <= 1.0
    assert parity.dice(a, b) == parity.dice(b, a)
    assert 0.0 <= parity.dice(a, b) <= 1.0


@given(pairs(st.floats(0.01, 100.0)))
def test_cosine_is_scipys(pair: tuple[Array, Array]) -> None:
    a, b = pair
    assert parity.cosine(a, b) == pytest.approx(1.0 - distance.cosine(a.ravel(), b.ravel()), abs=1e-9)


@given(pairs(st.floats(0.0, 1.0)))
def test_dice_is_scipys(pair: tuple[Array, Array]) -> None:
    a, b = pair
    if (a > 0.5).any() or (b > 0.5).any():
        assert parity.dice(a, b) == pytest.approx(1.0 - distance.dice(a.ravel() > 0.5, b.ravel() > 0.5))


@given(distributions())
def test_kl_is_scipys_and_not_negative(pair: tuple[Array, Array]) -> None:
    got, golden = pair
    expected = float(rel_entr(golden, got).sum(axis=-1).max())
    assert parity.kl_divergence(got, golden) == pytest.approx(max(expected, 0.0), abs=1e-9)
    assert parity.kl_divergence(golden, golden) == pytest.approx(0.0, abs=1e-12)


@given(pairs(st.floats(0.0, 1.0)))
def test_bernoulli_kl_is_not_negative_and_finite(pair: tuple[Array, Array]) -> None:
    assert 0.0 <= parity.bernoulli_kl(*pair) < 2 * -math.log(1e-12)
