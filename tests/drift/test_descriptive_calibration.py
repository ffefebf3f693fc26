"""Calibration where the truth is known: by hand, by definition, and properties."""

from collections.abc import Callable
from typing import Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from watchdog.drift.calibration import brier_score, expected_calibration_error
from watchdog.model.tensor import Array

Equal = Literal["width", "mass"]
EQUAL = st.sampled_from(["width", "mass"])


@st.composite
def cases(draw: st.DrawFn) -> tuple[Array, Array]:
    n = draw(st.integers(1, 50))
    confidences = draw(hnp.arrays(np.float64, n, elements=st.floats(0.0, 1.0) | st.sampled_from([0.0, 0.2, 0.6, 1.0])))
    return confidences, draw(hnp.arrays(np.int64, n, elements=st.integers(0, 1)))


def by_definition(confidences: Array, truth: Array, bins: int) -> float:
    """Bin by bin, each (low, high] of equal width, the first with its lower edge."""
    error = 0.0
    for b in range(bins):
        inside = (confidences > b / bins) & (confidences <= (b + 1) / bins) | ((confidences == 0.0) & (b == 0))
        if inside.any():
            error += inside.mean() * abs(truth[inside].mean() - confidences[inside].mean())
    return error


def test_equal_mass_by_hand() -> None:
    confidences, truth = np.array([0.7, 0.1, 0.9, 0.2, 0.3, 0.8]), np.array([1, 0, 1, 1, 0, 0])
    first, second = abs(1 / 3 - 0.2), abs(2 / 3 - 0.8)
    assert expected_calibration_error(confidences, truth, bins=2, equal="mass") == pytest.approx((first + second) / 2)


def test_equal_mass_and_equal_width_differ_where_confidences_crowd() -> None:
    confidences, truth = np.array([0.91, 0.92, 0.98, 0.99]), np.array([0, 0, 1, 1])
    assert expected_calibration_error(confidences, truth, bins=2) == pytest.approx(0.45)
    assert expected_calibration_error(confidences, truth, bins=2, equal="mass") == pytest.approx((0.915 + 0.015) / 2)


def test_certain_and_right_is_0_certain_and_wrong_is_1() -> None:
    truth = np.array([0, 1, 1, 0])
    for equal in ("width", "mass"):
        assert expected_calibration_error(truth, truth, equal=equal) == 0.0
        assert expected_calibration_error(1 - truth, truth, equal=equal) == 1.0
    assert brier_score(truth, truth == 1) == 0.0
    assert brier_score(1 - truth, truth) == 1.0


@given(cases(), st.integers(2, 20))
def test_equal_width_is_the_definition(case: tuple[Array, Array], bins: int) -> None:
    assert expected_calibration_error(*case, bins=bins) == pytest.approx(by_definition(*case, bins), abs=1e-12)


@given(cases(), EQUAL, st.integers(0, 2**32 - 1))
def test_it_is_bounded_and_no_order_matters(case: tuple[Array, Array], equal: Equal, seed: int) -> None:
    confidences, truth = case
    order = np.random.default_rng(seed).permutation(truth.size)
    found = expected_calibration_error(confidences, truth, equal=equal)
    assert abs(truth.mean() - confidences.mean()) - 1e-12 <= found <= 1.0
    assert expected_calibration_error(confidences[order], truth[order], equal=equal) == pytest.approx(found, abs=1e-12)


@given(cases())
def test_brier_is_bounded_and_the_same_for_both_outcomes(case: tuple[Array, Array]) -> None:
    confidences, truth = case
    found = brier_score(confidences, truth)
    assert 0.0 <= found <= 1.0
    assert brier_score(1 - confidences, 1 - truth) == pytest.approx(found)
    assert brier_score(np.full(truth.size, 0.5), truth) == 0.25


def test_brier_by_hand() -> None:
    assert brier_score(np.array([0.9, 0.4, 0.3]), np.array([1, 1, 0])) == pytest.approx((0.01 + 0.36 + 0.09) / 3)


@pytest.mark.parametrize("equal", ["width", "mass"])
def test_a_perfectly_calibrated_model_scores_what_the_docstring_says(equal: Equal) -> None:
    rng = np.random.default_rng(4)
    confidences = rng.random((100, 1000))
    truths = rng.random((100, 1000)) < confidences
    found = [expected_calibration_error(c, t, equal=equal) for c, t in zip(confidences, truths, strict=True)]
    assert np.mean(found) == pytest.approx(0.04, abs=0.004)


@pytest.mark.parametrize("measure", [expected_calibration_error, brier_score])
@pytest.mark.parametrize(
    ("confidences", "truth", "problem"),
    [
        ([0.5, 0.6], [1], "truth must be one a confidence"),
        ([0.5, 1.1], [1, 0], r"confidences must be in \[0, 1\]"),
        ([0.5, -0.1], [1, 0], r"confidences must be in \[0, 1\]"),
        ([0.5, 0.6], [1, 2], "truth must be 0 or 1"),
        ([0.5, 0.6], [1, 0.5], "truth must be 0 or 1"),
        ([0.5, 0.6], [1, -1], "truth must be 0 or 1"),
    ],
)
def test_what_cannot_be_scored_is_refused(
    measure: Callable[[Array, Array], float], confidences: list[float], truth: list[float], problem: str
) -> None:
    with pytest.raises(ValueError, match=problem):
        measure(np.array(confidences), np.array(truth))


@pytest.mark.parametrize("equal", ["width", "mass"])
def test_one_bin_is_refused(equal: Equal) -> None:
    with pytest.raises(ValueError, match="bins must be at least 2"):
        expected_calibration_error(np.array([0.5, 0.6]), np.array([1, 0]), bins=1, equal=equal)


def test_bins_equal_in_something_else_are_refused() -> None:
    with pytest.raises(ValueError, match="'width' or 'mass'"):
        expected_calibration_error(np.array([0.5]), np.array([1]), equal="size")  # type: ignore[arg-type]
