"""The Jensen–Shannon divergence: against scipy, by hand, and its properties."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.spatial.distance import jensenshannon

from watchdog.drift import jensen_shannon
from watchdog.drift.histogram import Histogram, shares
from watchdog.model.tensor import Array

VALUES = hnp.arrays(np.float64, st.integers(1, 60), elements=st.floats(-0.2, 1.2))
EDGES = (0.0, 0.2, 0.5, 0.9, 1.0)


def test_by_hand() -> None:
    even, low = (Histogram.of(np.array(values), (0.0, 0.5, 1.0)) for values in ([0.2, 0.8], [0.2, 0.3]))
    mixed_entropy = -(0.75 * math.log2(0.75) + 0.25 * math.log2(0.25))
    assert jensen_shannon.divergence(even, low) == pytest.approx(mixed_entropy - (1 + 0) / 2)


def test_nothing_in_common_is_one_bit() -> None:
    low, high = (Histogram.of(np.full(3, value)) for value in (0.1, 0.9))
    assert jensen_shannon.divergence(low, high) == 1.0


def test_what_lies_below_is_not_what_lies_above() -> None:
    below, above = (Histogram.of(np.array([value])) for value in (-1.0, 2.0))
    assert jensen_shannon.divergence(below, above) == 1.0


@given(VALUES, VALUES)
def test_it_is_the_square_of_scipys_distance(a: Array, b: Array) -> None:
    first, second = Histogram.of(a, EDGES), Histogram.of(b, EDGES)
    p, q = shares(first, second)
    expected = float(np.nan_to_num(jensenshannon(p, q, base=2))) ** 2  # rounding below 0 makes its root NaN
    assert jensen_shannon.divergence(first, second) == pytest.approx(expected, abs=1e-9)


@given(VALUES, VALUES, st.integers(1, 5))
def test_it_is_symmetric_bounded_and_knows_no_sample_size(a: Array, b: Array, times: int) -> None:
    first, second = Histogram.of(a, EDGES), Histogram.of(b, EDGES)
    found = jensen_shannon.divergence(first, second)
    assert jensen_shannon.divergence(first, first) == 0.0
    assert 0.0 <= found <= 1.0
    assert jensen_shannon.divergence(second, first) == pytest.approx(found, abs=1e-12)
    assert jensen_shannon.divergence(Histogram.of(np.tile(a, times), EDGES), second) == pytest.approx(found, abs=1e-12)


@given(VALUES, VALUES)
def test_coarser_bins_tell_no_more(a: Array, b: Array) -> None:
    fine = jensen_shannon.divergence(Histogram.of(a, EDGES), Histogram.of(b, EDGES))
    coarse = jensen_shannon.divergence(Histogram.of(a, EDGES[::2]), Histogram.of(b, EDGES[::2]))
    assert coarse <= fine + 1e-12


def test_when_nothing_changed_it_is_what_the_docstring_says_on_average() -> None:
    rng = np.random.default_rng(2)
    found = [
        jensen_shannon.divergence(Histogram.of(rng.random(1000)), Histogram.of(rng.random(500))) for _ in range(200)
    ]
    assert np.mean(found) == pytest.approx(19 * (1 / 1000 + 1 / 500) / (8 * math.log(2)), rel=0.1)


def test_histograms_must_hold_something_over_the_same_edges() -> None:
    some, nothing = Histogram.of(np.array([0.5])), Histogram.of(np.array([]))
    with pytest.raises(ValueError, match=r"^reference holds no finite value"):
        jensen_shannon.divergence(nothing, some)
    with pytest.raises(ValueError, match=r"^current holds no finite value"):
        jensen_shannon.divergence(some, nothing)
    with pytest.raises(ValueError, match="different edges"):
        jensen_shannon.divergence(some, Histogram.of(np.array([0.5]), EDGES))
