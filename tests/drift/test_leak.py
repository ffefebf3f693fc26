"""The leak detector: what it calls a leak, what it doesn't, and how fast it says it grows."""

import math
from collections.abc import Callable
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import theilslopes

from watchdog.drift import leak as module
from watchdog.drift.leak import LeakDetector
from watchdog.model.gpu import Growth
from watchdog.model.tensor import Array

Rng = np.random.Generator
Memory = Callable[[Array, Rng], Array]
"""(times as shares of the window, random numbers) → bytes beyond a constant."""

MIB, GIB = 2**20, 2**30
HOUR = 3600.0
LEAST = 16 * MIB
"""Bytes an hour, which is the window of all tests."""


def _granules(used: Array) -> Array:
    """As drivers hand memory out."""
    return np.asarray(np.floor(used / (2 * MIB)) * 2 * MIB)


def _noise(rng: Rng, n: int, mib: float) -> Array:
    return rng.normal(0.0, mib * MIB, n)


def _steps(t: Array, at: Array, by: Array | float) -> Array:
    return np.asarray((by * (t[:, None] > at)).sum(axis=1))


def _loads(t: Array, at: Array) -> Array:
    """2 GiB, then 1 GiB, over two minutes each."""
    return np.asarray((np.array([2.0, 1.0]) * GIB * np.clip((t[:, None] - at) * 30, 0, 1)).sum(axis=1))


def _warm_up(t: Array, begins: float, settles: float) -> Array:
    return np.asarray(GIB * (1 - np.exp(-np.maximum(t - begins, 0) / settles)))


def _pool(rng: Rng, n: int) -> Array:
    """An allocator that takes what the moment needs, and gives it back in a while."""
    wanted = rng.exponential(200 * MIB, n) * (rng.random(n) < 0.7)
    changes = np.maximum.accumulate(np.where(rng.random(n) < 0.1, np.arange(n), 0))
    return _granules(wanted[changes])


def _wander(rng: Rng, n: int, keeps: float) -> Array:
    drawn, found = _noise(rng, n, 50 * math.sqrt(1 - keeps**2)), np.zeros(n)
    for i in range(1, n):
        found[i] = keeps * found[i - 1] + drawn[i]
    return found


QUIET: dict[str, Memory] = {
    "never changes": lambda t, _: np.zeros(len(t)),
    "noise": lambda t, r: _noise(r, len(t), 50),
    "noise in granules": lambda t, r: _granules(_noise(r, len(t), 5)),
    "noise that wanders": lambda t, r: _wander(r, len(t), 0.9),
    "a load": lambda t, r: _steps(t, r.random(1), 2 * GIB) + _noise(r, len(t), 5),
    "two loads": lambda t, r: _steps(t, r.random(2), np.array([2.0, 1.0]) * GIB),
    "two slow loads": lambda t, r: _loads(t, r.random(2)) + _granules(_noise(r, len(t), 3)),
    "a warm-up": lambda t, r: _warm_up(t, 0.0, r.uniform(0.05, 0.25)),
    "a late warm-up": lambda t, r: _warm_up(t, 0.5 * r.random(), r.uniform(0.02, 0.2)) + _noise(r, len(t), 5),
    "a sawtooth": lambda t, r: GIB * ((t / r.uniform(0.02, 0.5) + r.random()) % 1) + _noise(r, len(t), 5),
    "an allocator's pool": lambda t, r: _pool(r, len(t)),
    "given back": lambda t, _: -200 * MIB * t,
}
LEAKS: dict[str, Memory] = {
    "small chunks": lambda t, _: 100 * MIB * t,
    "granules": lambda t, _: _granules(100 * MIB * t),
    "noise": lambda t, r: 400 * MIB * t + _noise(r, len(t), 50),
    "rare large chunks": lambda t, r: _steps(t, (np.arange(4) + r.uniform(0.2, 0.8, 4)) / 4, 128 * MIB),
    "unlike chunks": lambda t, r: _steps(t, (np.arange(8) + r.random(8)) / 8, r.uniform(64, 192, 8) * MIB),
    "a sawtooth": lambda t, _: 400 * MIB * t + 200 * MIB * ((t / 0.05) % 1),
}
RATES = {"small chunks": 100, "granules": 100, "noise": 400, "a sawtooth": 400}
"""MiB an hour, of those that are straight."""


def _watched(memory: Memory, rng: Rng, least: float = LEAST) -> LeakDetector:
    """A detector that saw the memory every 10 seconds or so for a window."""
    at = np.cumsum(rng.uniform(8.0, 12.0, 360))
    detector = LeakDetector(HOUR, least)
    for when, used in zip(at.tolist(), (4 * GIB + memory(at / HOUR, rng)).tolist(), strict=True):
        detector.update(when, int(used))
    return detector


def _grown(detector: LeakDetector, room: int | None = None) -> Growth:
    growth = detector.growth(room)
    assert growth is not None
    return growth


def _leaking(memory: Memory, windows: int = 40) -> float:
    rng = np.random.default_rng(1)
    return float(np.mean([_grown(_watched(memory, rng)).leaking for _ in range(windows)]))


# -- what leaks and what doesn't -------------------------------------------------------------


@pytest.mark.parametrize("memory", QUIET)
def test_what_is_given_back_or_grew_once_is_no_leak(memory: str) -> None:
    assert _leaking(QUIET[memory]) == 0.0


@pytest.mark.parametrize("memory", LEAKS)
def test_what_grows_and_goes_on_growing_is_one(memory: str) -> None:
    assert _leaking(LEAKS[memory]) >= 0.95


@pytest.mark.parametrize(("memory", "most"), [("wanders", 0.1), ("swings", 0.1)])
def test_what_the_window_is_too_short_for_rarely_passes_for_a_leak(memory: str, most: float) -> None:
    slow: dict[str, Memory] = {
        "wanders": lambda t, r: _wander(r, len(t), 0.98),
        "swings": lambda t, r: GIB * ((t / r.uniform(0.5, 1.0) + r.random()) % 1),
    }
    assert _leaking(slow[memory], windows=100) <= most


@pytest.mark.parametrize(
    ("at", "leaks"),
    [
        ([0.1, 0.35, 0.6, 0.85], True),
        ([0.2, 0.5, 0.8], False),
        ([0.1, 0.2, 0.3, 0.4], False),
        ([0.3, 0.301, 0.302, 0.303, 0.7, 0.701, 0.702, 0.703], False),
    ],
)
def test_four_separate_rises_in_both_halves_make_a_leak(at: list[float], leaks: bool) -> None:
    growth = _grown(_watched(lambda t, _: _steps(t, np.array(at), 100 * MIB), np.random.default_rng(2)))
    assert growth.leaking == leaks
    assert growth.rises == (2 if len(at) == 8 else len(at))


def test_slower_growth_than_somebody_cares_about_is_no_leak() -> None:
    rng = np.random.default_rng(3)
    assert _grown(_watched(LEAKS["small chunks"], rng, 90 * MIB)).leaking
    assert not _grown(_watched(LEAKS["small chunks"], rng, 110 * MIB)).leaking


# -- how fast ---------------------------------------------------------------------------------


@pytest.mark.parametrize("memory", RATES)
def test_the_rate_is_within_a_fifth_of_the_truth(memory: str) -> None:
    rng = np.random.default_rng(4)
    for _ in range(40):
        growth = _grown(_watched(LEAKS[memory], rng))
        assert growth.bytes_per_hour == pytest.approx(RATES[memory] * MIB, rel=0.2)
        assert growth.low <= growth.bytes_per_hour <= growth.high


def _missed(wanders: float) -> int:
    """How many of 100 bounds don't hold the true rate."""
    rng, missed = np.random.default_rng(5), 0
    for _ in range(100):
        growth = _grown(_watched(lambda t, r: 200 * MIB * t + _wander(r, len(t), wanders), rng))
        missed += not growth.low <= 200 * MIB <= growth.high
    return missed


@pytest.mark.parametrize(("wanders", "most"), [(0.0, 4), (0.8, 12)])
def test_bounds_hold_the_true_rate_nearly_always(wanders: float, most: int) -> None:
    assert _missed(wanders) <= most


def test_they_would_not_if_noise_that_wanders_were_taken_for_independent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_inflation", lambda _errors: 1.0)
    assert _missed(0.8) > 12


def test_bounds_are_narrow_where_noise_has_no_memory() -> None:
    growth = _grown(_watched(LEAKS["noise"], np.random.default_rng(6)))
    assert growth.high - growth.low < 0.25 * growth.bytes_per_hour


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 30), min_size=20, max_size=40))
def test_the_slope_is_scipys(used: list[int]) -> None:
    at = np.arange(len(used)) * 3.0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_inflation", lambda _errors: 1.0)
        rate, low, high = module._slope(at, np.array(used, dtype=np.float64), 2.5758293)
    theirs = theilslopes(used, at, alpha=0.99)
    assert rate == pytest.approx(theirs.slope)
    assert low <= theirs.low_slope + 1e-12
    assert high >= theirs.high_slope - 1e-12


def test_the_room_says_how_long_it_lasts() -> None:
    leaking, quiet = (_watched(each, np.random.default_rng(7)) for each in (LEAKS["granules"], QUIET["noise"]))
    assert _grown(leaking, GIB).exhausted_in_s == pytest.approx(10.24 * HOUR, rel=0.02)
    assert _grown(leaking, 0).exhausted_in_s == 0.0
    assert _grown(leaking, None).exhausted_in_s is None
    assert _grown(quiet, GIB).exhausted_in_s is None


# -- samples -----------------------------------------------------------------------------------


def _line(detector: LeakDetector, at: Array, mib_per_hour: float = 100.0) -> None:
    for when in at.tolist():
        detector.update(when, 4 * GIB + int(mib_per_hour * MIB * when / HOUR))


@pytest.mark.parametrize(
    ("seconds", "every", "enough"), [(1700, 10, False), (1900, 10, True), (3600, 200, False), (3600, 170, True)]
)
def test_it_says_nothing_before_it_saw_enough(seconds: int, every: int, enough: bool) -> None:
    detector = LeakDetector(HOUR, LEAST)
    assert detector.growth(None) is None
    _line(detector, np.arange(0.0, seconds, every))
    assert (detector.growth(None) is not None) == enough


@settings(max_examples=30, deadline=None)
@given(st.randoms(use_true_random=False))
def test_order_and_repetition_of_samples_do_not_matter(random: Random) -> None:
    at = np.arange(0.0, HOUR, 10.0)
    detector, other = LeakDetector(HOUR, LEAST), LeakDetector(HOUR, LEAST)
    _line(detector, at)
    shuffled = [*at.tolist(), *at[::3].tolist()]
    random.shuffle(shuffled)
    _line(other, np.array(shuffled))
    assert detector.growth(GIB) == other.growth(GIB)


@pytest.mark.parametrize("used", [None, 0, -1])
def test_what_is_not_known_says_nothing(used: int | None) -> None:
    detector, other = LeakDetector(HOUR, LEAST), LeakDetector(HOUR, LEAST)
    for each in (detector, other):
        _line(each, np.arange(0.0, HOUR, 10.0))
    for at in np.arange(5.0, HOUR, 10.0).tolist():
        other.update(at, used)
    other.update(math.nan, GIB)
    other.update(math.inf, GIB)
    assert detector.growth(GIB) == other.growth(GIB)


def test_a_gap_hides_no_leak() -> None:
    """A GPU that was lost for a third of the window."""
    detector = LeakDetector(HOUR, LEAST)
    at = np.arange(0.0, HOUR, 10.0)
    _line(detector, at[(at < 1200) | (at > 2400)])
    growth = _grown(detector)
    assert growth.leaking
    assert growth.bytes_per_hour == pytest.approx(100 * MIB, rel=0.02)


def test_a_reset_forgets() -> None:
    detector = _watched(LEAKS["noise"], np.random.default_rng(8))
    detector.reset()
    assert detector.growth(None) is None


def test_only_the_window_counts_and_only_it_is_kept() -> None:
    """A leak that ended two hours ago, at a sample a second."""
    detector = LeakDetector(HOUR, LEAST)
    for when in range(4 * 3600):
        detector.update(float(when), 4 * GIB + min(when, 7200) * MIB)
        assert len(detector._slots) <= module._SLOTS
    growth = _grown(detector)
    assert (growth.bytes_per_hour, growth.rises, growth.leaking) == (0.0, 0, False)
    assert growth.over_s == pytest.approx(HOUR, rel=0.02)
    detector.update(0.0, 1)
    assert _grown(detector) == growth


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.floats(-1e9, 1e9), st.none() | st.integers(-1, 2**50)), max_size=80))
def test_no_series_is_too_strange(samples: list[tuple[float, int | None]]) -> None:
    detector = LeakDetector(1e9, LEAST)
    for at, used in samples:
        detector.update(at, used)
    growth = detector.growth(GIB)
    assert growth is None or growth.low <= growth.bytes_per_hour <= growth.high
