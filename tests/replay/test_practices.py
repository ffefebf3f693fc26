"""The customary practices say at each step what SciPy says of the same window."""

import numpy as np
import pytest
from scipy.stats import ks_2samp

from watchdog.drift import psi
from watchdog.model.tensor import Array
from watchdog.replay.practices import PRACTICES, alarms, ks_alarming, ks_gaps, psi_alarming, psi_steps


def stream(kind: str, count: int, seed: int) -> Array:
    rng = np.random.default_rng(seed)
    values = rng.normal(np.where(np.arange(count) < count // 2, 0.0, 0.7), 1.0)
    match kind:
        case "ties":
            return np.round(values, 1)
        case "few values":
            return np.clip(np.round(values), -1, 1)
        case "outside":
            return values * 100
        case _:
            return values


@pytest.mark.parametrize("kind", ["distinct", "ties", "few values", "outside"])
@pytest.mark.parametrize(("size", "window"), [(300, 50), (97, 13), (40, 100)])
def test_ks_is_scipy_at_every_step(kind: str, size: int, window: int) -> None:
    reference, values = stream(kind, size, 1)[: size // 2].copy(), stream(kind, 400, 2)
    if kind == "outside":
        reference /= 100
    windows = [values[i : i + window] for i in range(values.size - window + 1)]
    said = [ks_2samp(reference, each) for each in windows]
    gaps = np.concatenate(list(ks_gaps(reference, values, window)))
    np.testing.assert_allclose(gaps / (reference.size * window), [each.statistic for each in said], rtol=0, atol=1e-12)
    for level in (0.5, 0.05, 0.01, 1e-6):
        expected = [each.pvalue < level for each in said]
        assert ks_alarming(level)(reference, values, window).tolist() == expected


def test_ks_against_a_large_reference() -> None:
    """Beyond 65,535 observations ranks need more than two bytes, and beyond 10,000 SciPy approximates."""
    reference, values = stream("distinct", 140_000, 1)[:70_000], stream("distinct", 700, 2)
    found = ks_alarming(0.01)(reference, values, 500)
    assert found.tolist() == [ks_2samp(reference, values[i : i + 500]).pvalue < 0.01 for i in range(201)]


@pytest.mark.parametrize("kind", ["distinct", "ties", "few values", "outside"])
def test_psi_is_that_of_samples_at_every_step(kind: str) -> None:
    reference, values, window = (
        stream("distinct" if kind == "outside" else kind, 600, 1)[:300],
        stream(kind, 300, 2),
        60,
    )
    expected = [psi.of_samples(reference, values[i : i + window]) for i in range(values.size - window + 1)]
    np.testing.assert_allclose(psi_steps(reference, values, window), expected, rtol=1e-12)
    assert psi_alarming(0.2)(reference, values, window).tolist() == [each > 0.2 for each in expected]


@pytest.mark.parametrize("alarming", [ks_alarming(0.01), psi_alarming(0.2)])
def test_a_stream_may_be_shorter_than_the_window_or_just_as_long(alarming: "object") -> None:
    assert callable(alarming)
    reference = np.arange(100.0)
    assert alarming(reference, np.arange(9.0), 10).tolist() == []
    assert alarming(reference, np.arange(10.0) + 1000, 10).tolist() == [True]


def test_the_window_is_filled_anew_after_each_alarm() -> None:
    """Step by step, as a person would run it."""
    rng = np.random.default_rng(3)
    for window in (1, 2, 7, 50):
        alarming = rng.random(500) < 0.05
        expected, filled = [], 0
        for i in range(alarming.size + window - 1):
            filled += 1
            if filled >= window and alarming[i - window + 1]:
                expected.append(i)
                filled = 0
        assert alarms(alarming, window) == expected


def test_those_that_are_shown_are_named_as_they_are() -> None:
    assert [(one.name, one.window) for one in PRACTICES] == [
        ("KS p < 0.01, window 100", 100),
        ("KS p < 0.01, window 500", 500),
        ("PSI > 0.2, window 500", 500),
    ]
