"""Quantiles over a sliding window, held against exact ones."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from watchdog.drift.windows import SlidingQuantiles
from watchdog.model.tensor import Array

QUANTILES = (0.0, 0.05, 0.5, 0.9, 0.99, 1.0)
SECONDS = st.floats(1e-9, 1e6)


def _within(found: float | None, values: Array, q: float, accuracy: float) -> bool:
    """Whether it is one of the two values next to the quantile's place, as nearly as was promised."""
    assert found is not None
    ends = float(np.quantile(values, q, method="lower")), float(np.quantile(values, q, method="higher"))
    return any(abs(found - end) <= accuracy * end * (1 + 1e-9) for end in ends)


@pytest.mark.parametrize("accuracy", [0.01, 0.05])
@pytest.mark.parametrize("q", QUANTILES)
def test_a_quantile_is_as_exact_as_was_promised(q: float, accuracy: float) -> None:
    values = np.random.default_rng(1).lognormal(-4.0, 1.5, 5000)
    window = SlidingQuantiles(600.0, accuracy=accuracy)
    for i, value in enumerate(values.tolist()):
        window.add(i * 0.1, value)
    assert _within(window.quantile(q, 500.0), values, q, accuracy)


@settings(max_examples=100, deadline=None)
@given(st.lists(SECONDS, min_size=1, max_size=60), st.floats(0.0, 1.0))
def test_so_it_is_whatever_comes(values: list[float], q: float) -> None:
    window = SlidingQuantiles(60.0, least=1)
    for i, value in enumerate(values):
        window.add(float(i % 50), value)
    assert _within(window.quantile(q, 50.0), np.array(values), q, 0.01)


def test_what_is_older_than_the_window_is_forgotten_a_slice_at_a_time() -> None:
    window = SlidingQuantiles(60.0, slices=6, least=1)
    for at in range(120):
        window.add(float(at), 1.0 if at < 60 else 5.0)
    assert window.quantile(0.0, 119.0) == pytest.approx(5.0, rel=0.01)
    assert window.quantile(0.0, 169.9) == pytest.approx(5.0, rel=0.01)
    assert window.quantile(0.0, 170.0) is None


def test_the_window_is_no_shorter_than_all_but_a_slice_and_no_longer_than_it_says() -> None:
    window = SlidingQuantiles(60.0, slices=6, least=1)
    for at in range(100):
        window.add(float(at), float(1 + at))
    for now in (99.0, 105.0, 109.9):
        oldest = window.quantile(0.0, now)
        assert oldest is not None
        assert now - 60 <= (oldest - 1) * 1.01
        assert (oldest - 1) * 0.99 <= now - 50


def test_too_few_make_no_quantile() -> None:
    window = SlidingQuantiles(60.0, least=5)
    assert window.quantile(0.5, 0.0) is None
    for i in range(5):
        assert window.quantile(0.5, 10.0) is None
        window.add(float(i), 0.2)
    assert window.quantile(0.5, 10.0) == pytest.approx(0.2, rel=0.01)


@pytest.mark.parametrize("seconds", [math.nan, math.inf, -0.1])
def test_what_is_no_span_of_time_is_left_out(seconds: float) -> None:
    window = SlidingQuantiles(60.0, least=1)
    window.add(0.0, seconds)
    window.add(math.nan, 1.0)
    assert window.quantile(0.5, 0.0) is None


@pytest.mark.parametrize(("seconds", "counts_as"), [(0.0, 1e-9), (1e-300, 1e-9), (1e300, 1e6)])
def test_extreme_times_count_as_very_short_or_long_ones(seconds: float, counts_as: float) -> None:
    window = SlidingQuantiles(60.0, least=1)
    window.add(0.0, seconds)
    assert window.quantile(0.5, 0.0) == pytest.approx(counts_as, rel=0.011)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.floats(-1e6, 1e6), st.floats()), max_size=80), st.floats(-1e6, 1e6))
def test_time_may_go_anywhere_and_memory_stays_bounded(samples: list[tuple[float, float]], now: float) -> None:
    window = SlidingQuantiles(10.0, slices=4, least=1)
    for at, seconds in samples:
        window.add(at, seconds)
        assert len(window._sketches) <= 4
    found = window.quantile(0.5, now)
    assert found is None or 0.98e-9 <= found <= 1.02e6


def test_times_that_go_back_a_little_are_counted_where_they_belong() -> None:
    window = SlidingQuantiles(60.0, slices=6, least=1)
    for at in (0.0, 59.0, 25.0, 5.0):
        window.add(at, 1.0 + at)
    window.add(-5.0, 100.0)  # older than the window: it is left out
    assert window.quantile(1.0, 59.0) == pytest.approx(60.0, rel=0.01)
    assert window.quantile(0.0, 59.0) == pytest.approx(1.0, rel=0.01)
    assert window.quantile(0.0, 75.0) == pytest.approx(26.0, rel=0.01)


def test_asking_changes_nothing() -> None:
    window = SlidingQuantiles(60.0, least=1)
    for i in range(50):
        window.add(float(i), 1.0 + i)
    assert [window.quantile(0.5, 50.0) for _ in range(3)] == [window.quantile(0.5, 50.0)] * 3
