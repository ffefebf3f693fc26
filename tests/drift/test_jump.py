"""The latency detector: what it promises, how soon it sees a jump, and what it says of it."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from watchdog.drift import jump as module
from watchdog.drift import state as states
from watchdog.drift.jump import LEAST, MARGIN, JumpDetector, JumpState, occasional
from watchdog.model.score import Promise, Score, Unusable
from watchdog.model.tensor import Array

Rng = np.random.Generator
Noise = Callable[[Rng, int], Array]

YEARLY = Promise(run_length=3.15e7)
SOON = Promise(run_length=1000)
SIZES = (9, 36, 200)


def _stalling(share: float, noise: float) -> Noise:
    return lambda r, n: noise * r.standard_normal(n) + math.log(100) * (r.random(n) < share)


STEADY: Noise = lambda r, n: 0.1 * r.standard_normal(n)  # noqa: E731 - one of a kind
NOISES: dict[str, Noise] = {
    "steady": STEADY,
    "log-normal": lambda r, n: r.standard_normal(n),
    "Pareto, no mean": lambda r, n: r.exponential(1.0, n),
    "stalls": _stalling(0.02, 0.1),
    "two speeds": lambda r, n: r.choice([0.0, 1.2], n),
    "never varies": lambda _r, n: np.zeros(n),
}


def _detector(noise: Noise, rng: Rng, size: int = 36, promise: Promise = YEARLY) -> JumpDetector:
    return JumpDetector(noise(rng, size), promise)


def _fed(detector: JumpDetector, residuals: Sequence[float] | Array, state: JumpState | None = None) -> Iterator[Score]:
    state = detector.fresh() if state is None else state
    for each in np.asarray(residuals, dtype=np.float64).tolist():
        state, score = detector.update(state, each)
        yield score


def _first(scores: Iterator[Score]) -> tuple[float, Score | None]:
    return next(((i, score) for i, score in enumerate(scores, 1) if score.alarm is not None), (math.inf, None))


def _some(rng: Rng, n: int, share: float, factor: float) -> Array:
    """Healthy residuals, of which a share is that many times longer."""
    return np.asarray(STEADY(rng, n) + math.log(factor) * (rng.random(n) < share))


# -- the promise ---------------------------------------------------------------------------


def _false_alarms(detector: JumpDetector, residuals: Array) -> int:
    """How often it alarms, when each alarm's evidence is put aside."""
    state, alarms = detector.fresh(), 0
    for each in residuals.tolist():
        state, score = detector.update(state, each)
        if score.alarm is not None:
            state, alarms = detector.fresh(), alarms + 1
    return alarms


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("noise", NOISES)
def test_what_is_usual_raises_fewer_alarms_than_promised(noise: str, size: int) -> None:
    """48,000 probes at a promise of one alarm in 1,000."""
    rng, found = np.random.default_rng(1), 0
    for _ in range(24):
        found += _false_alarms(_detector(NOISES[noise], rng, size, SOON), NOISES[noise](rng, 2000))
    assert found <= 48


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("noise", ["steady", "log-normal", "Pareto, no mean"])
def test_nor_does_a_drift_within_the_margin(noise: str, size: int) -> None:
    """Up and down again, and on to stay: probes depend on one another, but none leaves the envelope."""
    rng, found = np.random.default_rng(2), 0
    drift = np.concatenate([np.sin(np.linspace(0, 4 * np.pi, 1000)) ** 2, np.ones(1000)]) * MARGIN
    for _ in range(24):
        found += _false_alarms(_detector(NOISES[noise], rng, size, SOON), drift + NOISES[noise](rng, 2000))
    assert found <= 48


def _wins(detector: JumpDetector, residuals: Array) -> float:
    """The greatest mean, over bets, of what one probe wins."""
    exceeded = (residuals[:, None] > detector._thresholds).mean(axis=0)
    return float((exceeded * detector._exceeded + (1 - exceeded) * detector._missed).max())


def _unfair(noise: Noise, size: int, references: int = 200) -> float:
    """Of how many references a bet wins on average, although nothing changed but by the margin."""
    rng = np.random.default_rng(3)
    moved = np.sort(MARGIN + noise(rng, 100_000))
    return float(np.mean([_wins(_detector(noise, rng, size), moved) > 1.0 for _ in range(references)]))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("noise", NOISES)
def test_no_bet_wins_on_average_for_95_percent_of_references(noise: str, size: int) -> None:
    assert _unfair(NOISES[noise], size, references=120) <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 120)


@pytest.mark.parametrize("size", SIZES)
def test_some_would_if_the_shares_seen_were_taken_for_the_truth(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr(module, "share_upper", lambda above, n, _delta: (above + 1) / (n + 1))
    assert _unfair(STEADY, size) > 0.3


def test_evidence_grows_by_one_a_probe_where_thresholds_are_exceeded_as_often_as_can_be_usual() -> None:
    """A residual drawn from the very envelope: then each bet is fair, and the promise just holds."""
    rng = np.random.default_rng(4)
    detector = _detector(STEADY, rng)
    levels, at = np.unique(detector._thresholds, return_index=True)
    usual = np.array([detector._bets[i].usual for i in at])
    edges = np.concatenate([[levels[0] - 1], levels]) + 1e-6  # the residual just beyond the levels that it exceeds
    drawn = edges[(rng.random((4000, 6))[..., None] < usual).sum(axis=-1)]
    ends = [[score.statistic for score in _fed(detector, residuals)][-1] for residuals in drawn]
    assert np.mean(ends) == pytest.approx(6.0, abs=4 * float(np.std(ends)) / math.sqrt(len(ends)))
    assert np.std(ends) / math.sqrt(len(ends)) < 0.4


def test_a_stall_in_fifty_probes_is_nobodys_jump() -> None:
    """However fast the baseline was: this much is assumed of any engine."""
    rng = np.random.default_rng(5)
    for size in SIZES:
        detector = _detector(STEADY, rng, size)
        scores = _fed(detector, _stalling(0.02, 0.1)(rng, 4000))
        assert max(score.statistic for score in scores) < YEARLY.threshold / 100


# -- jumps ---------------------------------------------------------------------------------


def _delays(noise: Noise, jumped: Callable[[Rng], Array], size: int = 36, runs: int = 40) -> tuple[float, float]:
    """The median and the 90th percentile of how many probes it takes, after 50 healthy ones."""
    rng, delays = np.random.default_rng(6), []
    for _ in range(runs):
        detector = _detector(noise, rng, size)
        state = detector.fresh()
        for each in noise(rng, 50).tolist():
            state, _ = detector.update(state, each)
        delays.append(_first(_fed(detector, jumped(rng), state))[0])
    return float(np.median(delays)), float(np.quantile(delays, 0.9, method="higher"))


@pytest.mark.parametrize(
    ("size", "factor", "median", "late"),
    [(9, 3, 17, 18), (36, 3, 8, 9), (36, 2, 18, 30), (200, 3, 5, 6), (36, 100, 6, 7)],
)
def test_a_lasting_jump_is_found_within_a_few_probes(size: int, factor: float, median: float, late: float) -> None:
    found = _delays(STEADY, lambda rng: _some(rng, 100, 1.0, factor), size)
    assert found[0] <= median
    assert found[1] <= late


@pytest.mark.parametrize(("size", "median", "late"), [(36, 65, 140), (200, 55, 100)])
def test_a_stall_in_every_fifth_probe_is_found_within_some_sixty(size: int, median: float, late: float) -> None:
    found = _delays(STEADY, lambda rng: _some(rng, 400, 0.2, 10.0), size)
    assert found[0] <= median
    assert found[1] <= late


@pytest.mark.parametrize(
    ("noise", "size", "late"), [("stalls", 36, 20), ("two speeds", 36, 30), ("Pareto, no mean", 200, 60)]
)
def test_a_baseline_with_outliers_hides_a_jump_for_a_while_only(noise: str, size: int, late: float) -> None:
    jumped: Callable[[Rng], Array] = lambda rng: NOISES[noise](rng, 200) + math.log(4)  # noqa: E731 - just here
    assert _delays(NOISES[noise], jumped, size)[0] <= late


def test_one_stall_however_long_is_no_jump() -> None:
    detector = _detector(STEADY, np.random.default_rng(7))
    *_, score = _fed(detector, [0.0] * 20 + [math.log(1e6)])
    assert score.statistic < 1000


# -- what is said ---------------------------------------------------------------------------


@pytest.mark.parametrize("factor", [3.1, 45.0, 1300.0])
def test_an_alarm_says_how_much_longer_it_takes(factor: float) -> None:
    rng = np.random.default_rng(8)
    detector = _detector(STEADY, rng)
    stream = np.concatenate([STEADY(rng, 400), math.log(factor) + 0.01 * rng.standard_normal(60)])
    delay, score = _first(_fed(detector, stream))
    assert score is not None
    assert score.alarm is not None
    assert score.alarm.observations_ago == delay - 400 <= 8
    assert score.alarm.bet.startswith("98%-beyond-")
    assert not occasional(score)
    *words, said, _times, _as, _long = score.alarm.sentence.split()
    assert words == ["takes", "about"]
    assert float(said) == pytest.approx(factor, rel=0.05)


def test_an_alarm_of_stalls_says_how_many_and_how_long() -> None:
    rng = np.random.default_rng(9)
    detector = _detector(STEADY, rng)
    stream = np.concatenate([STEADY(rng, 600), _some(rng, 400, 0.2, 10.0)])
    delay, score = _first(_fed(detector, stream))
    assert score is not None
    assert score.alarm is not None
    assert abs(score.alarm.observations_ago - (delay - 600)) <= 10
    share, rest = score.alarm.sentence.split("% of probes take about ")
    assert 10 <= float(share) <= 40
    assert occasional(score), "so that a burst of a few need not show it"
    assert float(rest.removesuffix(" times as long")) == pytest.approx(10, rel=0.15)


def test_an_alarm_ends_soon_after_the_jump() -> None:
    rng = np.random.default_rng(10)
    detector = _detector(STEADY, rng)
    state = detector.fresh()
    *_, score = _fed(detector, [math.log(5)] * 5000, state)
    assert score.alarm is not None
    assert score.alarm.observations_ago == module._REMEMBERED
    alarmed = [score.alarm for score in _fed(detector, STEADY(rng, 300), state)]
    assert alarmed[-1] is None
    assert "nan" not in " ".join(alarm.sentence for alarm in alarmed if alarm is not None)


# -- probes ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("residual", "why"),
    [
        (math.nan, Unusable.NON_FINITE),
        (math.inf, Unusable.NON_FINITE),
        (-math.inf, Unusable.OUT_OF_RANGE),
    ],
)
def test_what_is_no_latency_is_named_and_changes_nothing(residual: float, why: Unusable) -> None:
    detector = _detector(STEADY, np.random.default_rng(11))
    state = detector.fresh()
    *_, before = _fed(detector, [math.log(3)] * 20, state)
    known = detector.dump(state)
    state, score = detector.update(state, residual)
    assert (score.unusable, score.alarm) == (why, None)
    assert (score.statistic, score.observations) == (before.statistic, 20)
    assert detector.dump(state) == known


@settings(deadline=None)
@given(st.lists(st.floats(-1e300, 1e300), min_size=LEAST, max_size=40), st.lists(st.floats(), max_size=60))
def test_no_stream_is_too_strange(reference: list[float], stream: list[float]) -> None:
    for score in _fed(JumpDetector(reference, SOON), stream):
        assert 0 <= score.statistic < math.inf
        assert score.alarm is None or score.alarm.observations_ago <= score.observations


@pytest.mark.parametrize(
    ("reference", "margin", "problem"),
    [
        ([0.0] * (LEAST - 1), MARGIN, "8 latencies; 9 or more"),
        ([0.0] * LEAST + [math.nan], MARGIN, "must all be finite"),
        ([0.0] * LEAST + [-math.inf], MARGIN, "must all be finite"),
        ([0.0] * LEAST, -0.1, "margin of -0.1"),
        ([0.0] * LEAST, math.nan, "margin of nan"),
    ],
)
def test_a_baseline_that_says_too_little_is_refused(reference: list[float], margin: float, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        JumpDetector(reference, YEARLY, margin)


# -- states ----------------------------------------------------------------------------------

REFERENCE = np.random.default_rng(12).normal(0.0, 0.2, 36)
FIXED = JumpDetector(REFERENCE, SOON)


def _same(a: JumpState, b: JumpState) -> bool:
    return np.array_equal(a.wealth, b.wealth) and (a.recent, a.probes) == (b.recent, b.probes)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(-2, 4), max_size=40), st.lists(st.floats(-2, 4), min_size=1, max_size=20))
def test_a_stored_state_goes_on_as_if_nothing_had_been(before: list[float], after: list[float]) -> None:
    state = FIXED.fresh()
    list(_fed(FIXED, before, state))
    other = FIXED.load(FIXED.dump(state))
    assert _same(state, other)
    assert list(_fed(FIXED, after, state)) == list(_fed(FIXED, after, other))
    assert _same(state, other)


def test_the_order_of_the_baseline_does_not_matter() -> None:
    assert _same(JumpDetector(REFERENCE[::-1], SOON).load(FIXED.dump(FIXED.fresh())), FIXED.fresh())


def test_a_state_of_another_detector_is_refused() -> None:
    data = FIXED.dump(FIXED.fresh())
    for other in (
        JumpDetector(REFERENCE + 0.01, SOON),
        JumpDetector(REFERENCE, YEARLY),
        JumpDetector(REFERENCE, SOON, margin=0.5),
    ):
        with pytest.raises(ValueError, match="another reference, promise or version"):
            other.load(data)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("wealth", np.zeros(3)),
        ("wealth", np.full(len(FIXED.fresh().wealth), math.nan)),
        ("recent", [0.0]),
        ("recent", [[0.0, 0.0]]),
        ("recent", [0.0, math.inf]),
        ("probes", -1),
        ("probes", [1, 2]),
        ("probes", "text"),
    ],
)
def test_a_field_of_another_kind_is_refused(name: str, value: object) -> None:
    known: dict[str, Any] = {"wealth": FIXED.fresh().wealth, "recent": [0.1, 0.2], "probes": 2}
    FIXED.load(states.pack(FIXED._identity(), known))
    with pytest.raises(ValueError, match=r"the state's|negative"):
        FIXED.load(states.pack(FIXED._identity(), known | {name: value}))
