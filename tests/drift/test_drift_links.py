"""Links: inverses, order, limits, and arrays to the last bit."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from watchdog.drift.links import LOGIT_LIMIT, Link, logit

CONFIDENCE = st.floats(0.0, 1.0) | st.sampled_from([0.0, 1.0, 5e-324, math.nextafter(1.0, 0.0)])
AMOUNT = st.floats(0.0, 1e100)
ANY = {Link.LOGIT: CONFIDENCE, Link.LOG: AMOUNT, Link.IDENTITY: st.floats(-1e100, 1e100)}
LINKED = st.sampled_from(list(Link)).flatmap(lambda link: st.tuples(st.just(link), ANY[link], ANY[link]))


@given(st.floats(-16.9, 16.9))
def test_a_logit_is_the_sigmoids_inverse(z: float) -> None:
    assert logit(1 / (1 + math.exp(-z))) == pytest.approx(z, abs=1e-8 * max(1.0, math.exp(abs(z) - 17)) + 1e-7)


@given(CONFIDENCE)
def test_a_logit_is_odd_about_one_half_and_limited(x: float) -> None:
    assert -LOGIT_LIMIT <= logit(x) <= LOGIT_LIMIT
    if 1e-6 < x < 1 - 1e-6:
        assert logit(1 - x) == pytest.approx(-logit(x), abs=1e-9)


def test_what_is_surely_so_has_a_limit() -> None:
    assert (logit(0.0), logit(1.0), logit(0.5)) == (-LOGIT_LIMIT, LOGIT_LIMIT, 0.0)
    assert Link.LOG.of(0.0) == Link.LOG.of(1e-40) < Link.LOG.of(1e-29)


@given(LINKED)
def test_a_link_keeps_the_order(drawn: tuple[Link, float, float]) -> None:
    link, *values = drawn
    low, high = sorted(values)
    assert link.of(low) <= link.of(high)
    assert math.isfinite(link.of(low))


@pytest.mark.parametrize("link", Link)
def test_an_array_is_linked_as_its_numbers_are(link: Link) -> None:
    """A reference is linked at once and a stream one by one: by one bit less, what ties would be another rank."""
    halves = np.arange(1, 0x3C00, dtype=np.uint16).view(np.float16)
    values = np.concatenate([[0.0, 1.0], halves, np.random.default_rng(0).random(20_000, dtype=np.float32)])
    assert link.of_all(values).tolist() == [link.of(value) for value in values.tolist()]
    assert link.of_all(values[:6].reshape(2, 3)).shape == (2, 3)
    assert link.of_all(np.array([])).size == 0


@pytest.mark.parametrize(
    ("link", "good", "bad"),
    [
        (Link.LOGIT, (0.0, 0.5, 1.0, -0.0), (-1e-9, 1 + 1e-9, 2.0)),
        (Link.LOG, (0.0, 1e-300, 1e99), (-1e-9, 1e101)),
        (Link.IDENTITY, (-1e99, 0.0, 1e99), (-1e101, 1e101)),
    ],
)
def test_what_a_reading_can_be(link: Link, good: tuple[float, ...], bad: tuple[float, ...]) -> None:
    assert all(link.allows(value) for value in good)
    assert not any(link.allows(value) for value in (*bad, math.nan, math.inf, -math.inf))
