"""The population stability index: by hand, its bounds, and what moves it."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.special import rel_entr

from watchdog.drift import psi
from watchdog.drift.histogram import Histogram, shares
from watchdog.model.tensor import Array

CURRENT = hnp.arrays(np.float64, st.integers(1, 40), elements=st.integers(0, 30).map(lambda i: i / 32))
REFERENCE = CURRENT.filter(lambda values: np.unique(values).size > 1)
EDGES = (0.0, 0.25, 0.5, 0.75, 1.0)


def test_by_hand_over_the_references_quartiles() -> None:
    reference, current = np.arange(8.0), np.array([-5.0, 0.0, 2.0, 7.0])  # quartiles end at 1, 3 and 5
    p, q = [0.25] * 4, [0.5, 0.25, 1e-4, 0.25]
    expected = sum((b - a) * math.log(b / a) for a, b in zip(p, q, strict=True))
    assert psi.of_samples(reference, current, bins=4) == pytest.approx(expected)


def test_an_empty_bin_counts_with_the_floor() -> None:
    low, high = (Histogram.of(np.array([value]), (0.0, 0.5, 1.0)) for value in (0.2, 0.8))
    for floor in (1e-4, 0.01):
        assert psi.of_histograms(low, high, floor=floor) == pytest.approx(2 * (1 - floor) * math.log(1 / floor))


def test_what_lies_outside_the_bins_counts() -> None:
    inside, outside = (Histogram.of(np.array([0.5, value]), (0.0, 1.0)) for value in (0.5, 7.0))
    assert psi.of_histograms(inside, outside) > 1.0


@pytest.mark.parametrize("ones", [5, 95])
def test_a_reference_that_is_mostly_tied_still_has_two_bins(ones: int) -> None:
    reference, current = np.repeat([0.0, 1.0], [100 - ones, ones]), np.repeat([0.0, 1.0], 50)
    assert psi.of_samples(reference, current) == pytest.approx(0.45 * math.log(0.95 / 0.05))


@given(REFERENCE, CURRENT)
def test_it_is_bounded_and_0_for_equal_samples(reference: Array, current: Array) -> None:
    assert psi.of_samples(reference, reference) == 0.0
    assert 0.0 <= psi.of_samples(reference, current) <= 2 * math.log(1 / psi.FLOOR)


@given(REFERENCE, CURRENT, st.integers(0, 2**32 - 1))
def test_neither_order_nor_a_rising_transformation_matters(reference: Array, current: Array, seed: int) -> None:
    rng = np.random.default_rng(seed)
    plain = psi.of_samples(reference, current)
    assert psi.of_samples(rng.permutation(reference), rng.permutation(current)) == plain
    assert psi.of_samples(np.exp(3 * reference), np.exp(3 * current)) == plain


@given(REFERENCE, CURRENT)
def test_of_histograms_it_is_symmetric_and_both_divergences_of_kullback_and_leibler(a: Array, b: Array) -> None:
    first, second = Histogram.of(a, EDGES), Histogram.of(b, EDGES)
    found = psi.of_histograms(first, second)
    assert found == pytest.approx(psi.of_histograms(second, first))
    p, q = (np.maximum(share, psi.FLOOR) for share in shares(first, second))
    assert found == pytest.approx(float(np.sum(rel_entr(p, q) + rel_entr(q, p))), abs=1e-12)


@given(REFERENCE, CURRENT, st.integers(2, 5))
def test_of_histograms_it_knows_no_sample_size(a: Array, b: Array, times: int) -> None:
    first, second = Histogram.of(a, EDGES), Histogram.of(b, EDGES)
    many = Histogram.of(np.tile(b, times), EDGES)
    assert psi.of_histograms(first, many) == pytest.approx(psi.of_histograms(first, second))


def test_when_nothing_changed_it_is_what_the_docstring_says_on_average() -> None:
    rng = np.random.default_rng(1)
    found = [psi.of_samples(rng.random(1000), rng.random(500)) for _ in range(200)]
    assert np.mean(found) == pytest.approx(9 * (1 / 1000 + 1 / 500), rel=0.1)


def test_a_constant_reference_has_no_bins() -> None:
    with pytest.raises(ValueError, match=r"reference holds nothing but 0\.5"):
        psi.of_samples(np.full(9, 0.5), np.array([0.1]))


@pytest.mark.parametrize("bins", [1, 0, -3])
def test_one_bin_compares_nothing(bins: int) -> None:
    with pytest.raises(ValueError, match="bins must be at least 2"):
        psi.of_samples(np.arange(9.0), np.arange(9.0), bins=bins)


@pytest.mark.parametrize("floor", [0.0, 1.0, -0.1, math.nan])
def test_the_floor_is_a_share(floor: float) -> None:
    with pytest.raises(ValueError, match="floor must be a share"):
        psi.of_samples(np.arange(9.0), np.arange(9.0), floor=floor)


def test_histograms_must_hold_something_over_the_same_edges() -> None:
    some, nothing = Histogram.of(np.array([0.5])), Histogram.of(np.array([np.nan]))
    with pytest.raises(ValueError, match=r"^reference holds no finite value"):
        psi.of_histograms(nothing, some)
    with pytest.raises(ValueError, match=r"^current holds no finite value"):
        psi.of_histograms(some, nothing)
    with pytest.raises(ValueError, match="different edges"):
        psi.of_histograms(some, Histogram.of(np.array([0.5]), EDGES))
