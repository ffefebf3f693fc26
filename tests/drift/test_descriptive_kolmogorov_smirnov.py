"""The two-sample Kolmogorov–Smirnov test: by definition, by permutations, and its properties."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from watchdog.drift.kolmogorov_smirnov import two_sample
from watchdog.model.tensor import Array

VALUES = hnp.arrays(np.float64, st.integers(1, 30), elements=st.integers(0, 32).map(lambda i: i / 32))


def largest_gap(a: Array, b: Array) -> float:
    """The definition, at every point where a distribution function steps."""
    return max(abs(float(np.mean(a <= x)) - float(np.mean(b <= x))) for x in np.concatenate([a, b]))


def test_the_p_value_is_the_share_of_relabellings_that_lie_as_far_apart() -> None:
    a, b = np.array([0.1, 0.2, 0.3, 0.6]), np.array([0.4, 0.5, 0.7, 0.8, 0.9])
    pooled = np.concatenate([a, b])
    relabelled = [
        largest_gap(pooled[list(chosen)], np.delete(pooled, list(chosen))) for chosen in combinations(range(9), 4)
    ]
    found = two_sample(a, b)
    assert found.p_value == pytest.approx(np.mean([gap >= found.statistic - 1e-12 for gap in relabelled]))


@given(VALUES, VALUES)
def test_the_statistic_is_the_largest_gap(a: Array, b: Array) -> None:
    assert two_sample(a, b).statistic == pytest.approx(largest_gap(a, b))


@given(VALUES, VALUES)
def test_it_is_symmetric_and_bounded(a: Array, b: Array) -> None:
    found = two_sample(a, b)
    assert two_sample(b, a) == found
    assert 0.0 <= found.statistic <= 1.0
    assert 0.0 <= found.p_value <= 1.0
    assert two_sample(a, a).statistic == 0.0
    assert two_sample(a, a).p_value == 1.0
    assert two_sample(a, b + 2.0).statistic == 1.0


@given(VALUES, VALUES)
def test_it_sees_order_alone(a: Array, b: Array) -> None:
    assert two_sample(np.exp(5 * a), np.exp(5 * b)) == two_sample(a, b)
    assert two_sample(1 - a, 1 - b).statistic == pytest.approx(two_sample(a, b).statistic)


def test_where_the_exact_p_value_fails_an_approximate_one_comes_without_a_warning() -> None:
    a, b = np.zeros(7), np.array([0.0] * 6 + [0.1])
    assert two_sample(a, b).p_value == pytest.approx(1.0, abs=1e-3)


def test_one_look_at_equal_streams_alarms_about_one_time_in_twenty() -> None:
    rng = np.random.default_rng(3)
    alarms = [two_sample(rng.random(1000), rng.random(100)).p_value < 0.05 for _ in range(400)]
    assert 0.02 < np.mean(alarms) < 0.08
