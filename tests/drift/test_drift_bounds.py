"""Upper confidence bounds: how often they are wrong, with the truth known, and how tight they are."""

from collections.abc import Callable

import numpy as np
import pytest
from scipy.stats import binom

from watchdog.drift.bounds import coincidence_upper, mean_upper, share_upper
from watchdog.model.tensor import Array

Rng = np.random.Generator
ONE_SIDED = 3.1
"""Standard errors: one test in a thousand would fail by chance, were its seed not fixed."""


def _rare(rng: Rng, shape: tuple[int, ...]) -> Array:
    return np.where(rng.random(shape) < 0.02, 30.0, 0.4)


VARIABLES: dict[str, tuple[Callable[[Rng, tuple[int, ...]], Array], float, float, float]] = {
    "even": (lambda r, s: r.random(s) * 2, 0.0, 2.0, 1.0),
    "rarely high": (_rare, 0.4, 30.0, 0.98 * 0.4 + 0.02 * 30),
    "rarely low": (lambda r, s: np.where(r.random(s) < 0.02, 0.0, 1.1), 0.0, 1.1, 0.98 * 1.1),
    "skewed": (lambda r, s: r.beta(0.3, 3.0, s), 0.0, 1.0, 1 / 11),
}
"""Draws, ends and the mean."""


def _upper(values: Array, low: float, high: float, deviation: float, delta: float) -> Array:
    sims, n = values.shape
    ends = np.full(sims, low), np.full(sims, high)
    return mean_upper(values, np.ones(n), ends, np.full(sims, deviation), delta)


@pytest.mark.parametrize("variable", VARIABLES)
@pytest.mark.parametrize("delta", [0.2, 0.02])
def test_a_means_bound_is_rarely_too_low(variable: str, delta: float) -> None:
    draw, low, high, mean = VARIABLES[variable]
    values = draw(np.random.default_rng(1), (1000, 100))
    wrong = np.mean(_upper(values, low, high, float(values.std()), delta) < mean)
    assert wrong <= delta + ONE_SIDED * np.sqrt(delta * (1 - delta) / len(values))


@pytest.mark.parametrize("variable", VARIABLES)
def test_the_stakes_need_not_be_good(variable: str) -> None:
    draw, low, high, mean = VARIABLES[variable]
    values = draw(np.random.default_rng(2), (500, 100))
    for deviation in (0.0, 0.01, 100.0):
        assert np.mean(_upper(values, low, high, deviation, 0.1) < mean) <= 0.1 + ONE_SIDED * 0.0135


def test_the_check_notices_a_bound_that_is_too_low() -> None:
    draw, low, high, mean = VARIABLES["skewed"]
    values = draw(np.random.default_rng(1), (1000, 100))
    lower = (_upper(values, low, high, float(values.std()), 0.02) + 2 * values.mean(axis=1)) / 3
    assert np.mean(lower < mean) > 0.02 + ONE_SIDED * np.sqrt(0.02 * 0.98 / len(values))


def test_a_means_bound_is_nearly_as_tight_as_the_normal_one() -> None:
    values = np.random.default_rng(3).random((200, 1000))
    above = _upper(values, 0.0, 1.0, 12**-0.5, 0.01) - values.mean(axis=1)
    assert np.median(above) == pytest.approx(2.33 / np.sqrt(12 * 1000), rel=0.45)


def test_what_was_never_seen_counts_as_possible() -> None:
    """Of 200 values none was high; a mean of 1 % of the highest one's must not be excluded."""
    values = np.zeros((1, 200))
    seen, unseen = (float(_upper(values, 0.0, high, 1.0, 0.05)[0]) for high in (1.0, 100.0))
    assert seen < 0.1
    assert unseen > 1.0


def test_counts_stand_for_values() -> None:
    values = np.random.default_rng(4).integers(0, 4, 300).astype(np.float64)
    one_by_one = _upper(values[None, :], 0.0, 3.0, 1.0, 0.05)
    ends = np.zeros(1), np.full(1, 3.0)
    counted = mean_upper(np.arange(4.0)[None, :], np.bincount(values.astype(int)), ends, np.ones(1), 0.05)
    assert counted == pytest.approx(one_by_one, rel=1e-9)


@pytest.mark.parametrize(("seen", "n"), [(0, 100), (3, 100), (50, 100), (99, 100), (0, 100_000)])
def test_a_shares_bound_is_the_one_that_is_barely_compatible(seen: int, n: int) -> None:
    upper = share_upper(seen, n, 0.01)
    assert float(binom.cdf(seen, n, upper)) == pytest.approx(0.01, rel=1e-6)


def test_a_share_of_all_has_no_bound() -> None:
    assert share_upper(7, 7, 0.01) == 1.0


def _geometric(p: float) -> Array:
    shares = p * (1 - p) ** np.arange(2000)
    return np.asarray(shares / shares.sum())


LATTICES = {
    "8 levels": np.full(8, 1 / 8),
    "256 levels": np.full(256, 1 / 256),
    "20,000 levels": np.full(20_000, 5e-5),
    "mostly one": np.array([0.9, 0.06, 0.04]),
    "half of them one": np.concatenate([[0.5], np.full(1000, 5e-4)]),
    "a tenth one": np.concatenate([[0.1], np.full(5000, 0.9 / 5000)]),
    "ever rarer": _geometric(0.2),
    "slowly rarer": _geometric(0.01),
}


@pytest.mark.parametrize("lattice", LATTICES)
@pytest.mark.parametrize("n", [400, 10_000])
def test_the_bound_of_coincidences_is_rarely_too_low(lattice: str, n: int) -> None:
    """It rises with how often the commonest value came; so it suffices to look where that is rarely less."""
    shares, delta, runs = LATTICES[lattice], 0.02, (2, 3, 4, 6)
    most = np.random.default_rng(6).multinomial(n, shares, size=600).max(axis=1)
    rarely = int(np.quantile(most, delta + ONE_SIDED * np.sqrt(delta * (1 - delta) / len(most))))
    truth = [float(np.sum(shares**r)) for r in runs]
    for upper, true in zip(coincidence_upper(rarely, n, runs, delta), truth, strict=True):
        assert true <= upper <= 1.0


def test_coincidences_are_not_bounded_far_above_what_was_seen() -> None:
    pair, *_ = coincidence_upper(100, 1000, (2, 3), 0.02)
    assert pair < 0.11  # ten values of a tenth each would make a pair in 0.1
    rare, *_ = coincidence_upper(1, 10_000, (3, 4), 0.02)
    assert rare < 1e-9


@pytest.mark.parametrize("n", [400, 1000, 1_000_000])
def test_coincidences_rise_with_the_commonest_value_and_fall_with_the_run(n: int) -> None:
    runs = (2, 3, 4, 6)
    found = np.array([coincidence_upper(most, n, runs, 0.02) for most in (1, 2, 5, n // 20, n // 3, n - 1, n)])
    assert (np.diff(found, axis=0) >= 0).all()
    assert (np.diff(found, axis=1) <= 0).all()
    assert (found > 0).all()
    assert found[-1] == pytest.approx(np.ones(4))
