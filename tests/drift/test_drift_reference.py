"""References: what makes none, studies, and how large one must be."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from watchdog.drift.links import Link
from watchdog.drift.live import LiveDetector
from watchdog.drift.reference import Reference, required
from watchdog.model.score import Promise
from watchdog.model.tensor import Array


@pytest.mark.parametrize(
    ("values", "link", "problem"),
    [
        ([], Link.LOGIT, "the reference is empty"),
        ([0.5, math.nan], Link.LOGIT, "1 values that are NaN or infinite"),
        ([0.5, math.inf, -math.inf], Link.IDENTITY, "2 values that are NaN or infinite"),
        ([0.5, 1.5], Link.LOGIT, "1.5, which no logit reading can be"),
        ([-0.1, 0.5], Link.LOGIT, "-0.1, which no logit reading can be"),
        ([-1.0, 2.0], Link.LOG, "-1, which no log reading can be"),
        ([1e200, 2.0], Link.IDENTITY, r"1e\+200, which no identity reading can be"),
        ([0.25] * 9, Link.LOGIT, "every value of the reference is 0.25"),
    ],
)
def test_what_makes_no_reference_is_refused(values: list[float], link: Link, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        Reference(values=np.array(values), link=link)


@pytest.mark.parametrize(
    ("studies", "problem"),
    [
        ([0, 0], "3 values, but 2 studies"),
        ([0, 0, 1, 1], "3 values, but 4 studies"),
        ([[0], [1, 2]], "inhomogeneous"),
    ],
)
def test_every_value_is_of_a_study(studies: object, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        Reference(values=np.array([0.1, 0.2, 0.3]), link=Link.LOGIT, studies=studies)  # type: ignore[arg-type]


@given(st.lists(st.integers(1, 5), min_size=2, max_size=30))
def test_an_observation_is_a_study(sizes: list[int]) -> None:
    values = np.arange(sum(sizes)) / 200
    found = Reference(values=values, studies=np.repeat(np.arange(len(sizes)), sizes), link=Link.LOGIT)
    assert found.size == len(sizes)
    assert [len(found.study(i)) for i in range(found.size)] == sizes
    assert np.concatenate([found.study(i) for i in range(found.size)]).tolist() == values.tolist()
    assert found.singles == (max(sizes) == 1)


def test_a_study_is_represented_by_any_of_its_values_alike() -> None:
    found = Reference(values=np.tile([0.1, 0.2, 0.3, 0.4], 5000), studies=np.arange(20_000) // 4, link=Link.LOGIT)
    drawn = found.representatives(np.random.default_rng(0))
    assert drawn.size == 5000
    shares = [np.mean(drawn == value) for value in (0.1, 0.2, 0.3, 0.4)]
    assert shares == pytest.approx([0.25] * 4, abs=0.03)


def test_values_are_a_copy_that_nobody_can_change() -> None:
    values = np.array([0.1, 0.2], dtype=np.float32)
    found = Reference(values=values, link=Link.LOGIT)
    values[0] = 0.9
    assert found.values[0] == np.float32(0.1)
    with pytest.raises(ValueError, match="read-only"):
        found.values[0] = 0.5


def test_the_fingerprint_tells_values_studies_and_links_apart() -> None:
    values = np.array([0.1, 0.2, 0.3])
    made = [
        Reference(values=values, link=Link.LOGIT),
        Reference(values=values, link=Link.LOG),
        Reference(values=values[::-1], link=Link.LOGIT),
        Reference(values=values, studies=np.array([0, 0, 1]), link=Link.LOGIT),
        Reference(values=values, studies=np.array([0, 1, 1]), link=Link.LOGIT),
    ]
    assert len({each.fingerprint() for each in made}) == len(made)
    same = Reference(values=values, studies=np.array([7, 3, 5]), link=Link.LOGIT)
    assert same.fingerprint() == made[0].fingerprint()


def _ramp(n: int) -> Array:
    return np.linspace(0.01, 0.99, n)


@pytest.mark.parametrize("run_length", [1e3, 3.15e7, 1e12])
def test_a_promise_needs_so_many_observations_and_not_one_less(run_length: float) -> None:
    promise = Promise(run_length=run_length)
    wanted = required(promise)
    detector = LiveDetector(Reference(values=_ramp(wanted), link=Link.LOGIT), promise)
    assert detector.smallest_divergence <= 0.1
    with pytest.raises(ValueError, match=rf"has {wanted - 1} observations; .* needs {wanted} or more"):
        LiveDetector(Reference(values=_ramp(wanted - 1), link=Link.LOGIT), promise)


def test_values_of_one_study_do_not_make_a_reference_larger() -> None:
    promise = Promise(run_length=3e7)
    studies = np.arange(5000) // 20
    with pytest.raises(ValueError, match="has 250 observations"):
        LiveDetector(Reference(values=_ramp(5000), studies=studies, link=Link.LOGIT), promise)


@given(st.floats(1e3, 1e15), st.floats(1.0, 100.0))
def test_a_stricter_promise_needs_more(run_length: float, times: float) -> None:
    less, more = (required(Promise(run_length=each)) for each in (run_length, run_length * times))
    assert less <= more


@pytest.mark.parametrize(("size", "design"), [(300, 200), (1000, 200), (5000, 1000), (10_000, 2000), (100_000, 2000)])
def test_a_fifth_says_what_to_look_for_within_limits(size: int, design: int) -> None:
    assert Reference(values=_ramp(size), link=Link.LOGIT).design_size == design
