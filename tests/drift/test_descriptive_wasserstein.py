"""The 1-Wasserstein distance: by hand, by the matching of sorted samples, and its properties."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from watchdog.drift.wasserstein import distance
from watchdog.model.tensor import Array

ELEMENTS = st.floats(0.0, 1.0)
VALUES = hnp.arrays(np.float64, st.integers(1, 30), elements=ELEMENTS)
PAIRS = hnp.arrays(np.float64, st.tuples(st.just(2), st.integers(1, 30)), elements=ELEMENTS)


def test_by_hand() -> None:
    assert distance(np.array([0.0, 1.0]), np.array([0.5])) == pytest.approx(0.5)
    assert distance(np.array([0.0, 0.0, 0.0, 1.0]), np.array([0.0])) == pytest.approx(0.25)


@given(PAIRS)
def test_samples_of_one_size_are_matched_in_order(pair: Array) -> None:
    a, b = pair
    assert distance(a, b) == pytest.approx(float(np.mean(np.abs(np.sort(a) - np.sort(b)))), abs=1e-12)


@given(VALUES, VALUES, VALUES)
def test_it_is_a_metric(a: Array, b: Array, c: Array) -> None:
    assert distance(a, a) == 0.0
    assert distance(a, b) == pytest.approx(distance(b, a), abs=1e-12)
    assert distance(a, c) <= distance(a, b) + distance(b, c) + 1e-12


@given(VALUES, VALUES)
def test_it_is_at_least_the_means_difference_and_at_most_the_range(a: Array, b: Array) -> None:
    both = np.concatenate([a, b])
    assert abs(a.mean() - b.mean()) - 1e-12 <= distance(a, b) <= np.ptp(both) + 1e-12


@given(VALUES, VALUES, st.floats(-2.0, 2.0), st.floats(0.1, 10.0))
def test_it_has_the_values_unit(a: Array, b: Array, shift: float, scale: float) -> None:
    assert distance(a, a + shift) == pytest.approx(abs(shift), abs=1e-12)
    assert distance(scale * a, scale * b) == pytest.approx(scale * distance(a, b), abs=1e-9)
    assert distance(-a, -b) == pytest.approx(distance(a, b), abs=1e-12)


def test_a_fault_in_a_tenth_of_the_stream_moves_it_a_tenth_as_far() -> None:
    healthy = np.linspace(0.0, 0.5, 100)
    whole, tenth = healthy + 0.4, healthy + np.where(np.arange(100) % 10 == 0, 0.4, 0.0)
    assert distance(healthy, tenth) == pytest.approx(distance(healthy, whole) / 10)
