"""The canary detector: on 36 canaries, captured with a few repeats."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from watchdog.drift import paired as module
from watchdog.drift import state as states
from watchdog.drift.links import Link, logit
from watchdog.drift.paired import EVERYTHING, PairedDetector, PairedReference, PairedState
from watchdog.model.score import Promise, Score, Unusable
from watchdog.model.tensor import Array

Rng = np.random.Generator
Noise = Callable[[Rng, int], Array]
Fault = Callable[[float, float], float]
"""(right logit, the logit that it is stuck at) → what comes instead."""

Probe = tuple[str, dict[str, float]]

PROMISE = Promise(run_length=3.15e7)
CANARIES, REPEATS = 36, 5
READING = "nodule"
NOISES: dict[str, Noise] = {
    "none": lambda _r, n: np.zeros(n),
    "normal": lambda r, n: r.normal(0.0, 0.05, n),
    "uniform": lambda r, n: r.uniform(-0.08, 0.08, n),
    "Laplace": lambda r, n: r.laplace(0.0, 0.04, n),
    "Student": lambda r, n: 0.04 * r.standard_t(6, n),
    "two-sided": lambda r, n: r.choice([-0.05, 0.05], n),
}
LITTLE: Noise = lambda r, n: r.normal(0.0, 0.004, n)  # noqa: E731 - one of a kind
FAULTS: dict[str, Fault] = {
    "scale-0.5": lambda z, _: 0.5 * z,
    "scale-0.8": lambda z, _: 0.8 * z,
    "shift": lambda z, _: z + 0.3,
    "zero": lambda _z, _l: -17.0,
    "stuck": lambda _z, last: last,
}


@dataclass(frozen=True)
class Engine:
    """Canaries' golden logits, and an engine that answers them with noise of its own."""

    golden: Array
    noise: Noise
    detector: PairedDetector
    rng: Rng

    def answer(self, canary: int) -> float:
        return float(self.golden[canary] + self.noise(self.rng, 1)[0])

    def probes(self, n: int, fault: Fault = lambda z, _: z, of: Callable[[int], bool] = lambda _: True) -> list[Probe]:
        """Canaries at random, and what comes."""
        last, found = math.nan, []
        for canary in self.rng.integers(CANARIES, size=n).tolist():
            right = self.answer(canary)
            last = right if math.isnan(last) else last
            found.append((_id(canary), {READING: fault(right, last) if of(canary) else right}))
        return found


def _id(canary: int) -> str:
    return f"c{canary:02}"


def _reference(golden: Array, noise: Noise, rng: Rng, repeats: int = REPEATS) -> PairedReference:
    return PairedReference(
        golden={_id(i): {READING: float(z)} for i, z in enumerate(golden)},
        residuals={_id(i): {READING: noise(rng, repeats).tolist()} for i in range(len(golden))},
        strata={_id(i): {"vendor": "ABC"[i % 3], "kernel": ("soft", "sharp")[i % 2]} for i in range(len(golden))},
    )


def _engine(noise: Noise = LITTLE, seed: int = 0, repeats: int = REPEATS) -> Engine:
    rng = np.random.default_rng(seed)
    golden = rng.normal(0.0, 2.5, CANARIES)
    return Engine(golden, noise, PairedDetector(_reference(golden, noise, rng, repeats), PROMISE), rng)


def _fed(detector: PairedDetector, probes: list[Probe], state: PairedState | None = None) -> Iterator[Score]:
    state = detector.fresh() if state is None else state
    for canary, readings in probes:
        state, score = detector.update(state, canary, readings)
        yield score


def _first(scores: Iterator[Score]) -> tuple[int, Score]:
    return next((i, score) for i, score in enumerate(scores, 1) if score.alarm is not None)


# -- faults ------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", FAULTS)
def test_two_probes_show_a_fault(fault: str) -> None:
    delays, named = [], []
    for seed in range(15):
        engine = _engine(seed=seed)
        state = engine.detector.fresh()
        list(_fed(engine.detector, engine.probes(30), state))
        delay, score = _first(_fed(engine.detector, engine.probes(40, FAULTS[fault]), state))
        assert score.alarm is not None
        delays.append(delay)
        named.append(score.alarm.bet.startswith(fault) and score.alarm.group == EVERYTHING)
        assert score.alarm.observations_ago <= delay + 1
        assert score.alarm.sentence.startswith(f"{READING}: ")
    assert np.median(delays) <= 2 + (fault == "stuck")  # the first answer of a stuck engine is right
    assert max(delays) <= 5
    assert np.mean(named) >= 0.5


def test_noise_hides_a_small_fault_for_a_while_and_not_for_ever() -> None:
    engine = _engine(NOISES["normal"])
    state = engine.detector.fresh()
    list(_fed(engine.detector, engine.probes(500), state))
    delay, _ = _first(_fed(engine.detector, engine.probes(60, lambda z, _: z + 0.3), state))
    assert delay <= 20


def test_scattered_answers_are_a_fault_too() -> None:
    engine = _engine()
    scattered = engine.probes(40, lambda z, _: z + float(engine.rng.normal(0.0, 1.0)))
    scores = list(_fed(engine.detector, scattered))
    assert _first(iter(scores))[0] <= 10
    last = scores[11].alarm
    assert last is not None
    assert last.bet.startswith("scatter-")
    assert "scattered about the right ones" in last.sentence


def test_a_fault_of_one_vendors_images_names_them() -> None:
    engine = _engine()
    state = engine.detector.fresh()
    list(_fed(engine.detector, engine.probes(200), state))
    faulty = engine.probes(300, lambda z, _: z + 0.1, of=lambda canary: canary % 3 == 1)
    _, score = _first(_fed(engine.detector, faulty, state))
    assert score.alarm is not None
    assert score.alarm.group == "vendor=B"
    assert score.alarm.sentence.endswith("on vendor=B")
    assert engine.detector.members("vendor=B") == tuple(_id(i) for i in range(1, CANARIES, 3))


def test_a_fault_of_one_canary_names_it() -> None:
    engine = _engine()
    faulty = engine.probes(400, lambda z, _: z + 0.1, of=lambda canary: canary == 7)
    _, score = _first(_fed(engine.detector, faulty))
    assert score.alarm is not None
    assert score.alarm.group == "canary c07"
    assert score.alarm.sentence == f"{READING}: other answers than ever on canary c07"
    assert engine.detector.members("canary c07") == ("c07",)


def test_the_start_of_a_fault_is_found() -> None:
    engine = _engine(NOISES["normal"])
    state = engine.detector.fresh()
    list(_fed(engine.detector, engine.probes(300), state))
    delay, score = _first(_fed(engine.detector, engine.probes(80, FAULTS["scale-0.8"]), state))
    assert score.alarm is not None
    assert abs(score.alarm.observations_ago - delay) <= 4
    assert score.observations == 300 + delay


@pytest.mark.parametrize("value", [1e300, -1e300, 1.7e308, 1e60])
def test_evidence_is_a_number_whatever_comes(value: float) -> None:
    engine = _engine()
    state = engine.detector.fresh()
    scores = list(_fed(engine.detector, [(_id(i % CANARIES), {READING: value}) for i in range(300)], state))
    assert all(math.isfinite(score.statistic) for score in scores)
    assert scores[-1].alarm is not None
    assert np.isfinite(state.wealth).all()


# -- quiet engines -----------------------------------------------------------------------


@pytest.mark.parametrize("repeats", [2, 5])
@pytest.mark.parametrize("noise", NOISES)
def test_a_healthy_engine_raises_no_alarm(noise: str, repeats: int) -> None:
    """24,000 probes in all: 55 of each canary, for each kind of noise and number of repeats."""
    engine = _engine(NOISES[noise], seed=repeats, repeats=repeats)
    scores = _fed(engine.detector, engine.probes(2000))
    assert max(score.statistic for score in scores) < PROMISE.threshold / 1e4


def _e_values(engine: Engine, each: int, middles: bool = True) -> Array:
    """[canaries, shares of doubt, bets] the mean e-value of many healthy answers."""
    found = []
    for canary in range(CANARIES):
        usual = engine.detector._usual[_id(canary)][READING]
        if not middles:
            usual = module._Usual(golden=usual.golden, middle=usual.middle, doubt=0.0, scale=usual.scale)
        answers = engine.golden[canary] + engine.noise(engine.rng, each)
        e = [module._e_values(usual, z, float(engine.golden[0]), np.ones(1))[0] for z in answers.tolist()]
        found.append(np.mean(e, axis=0))
    return np.array(found)


@pytest.mark.parametrize("noise", NOISES)
def test_healthy_answers_win_nothing_on_average(noise: str) -> None:
    for seed in range(2):
        assert _e_values(_engine(NOISES[noise], seed=seed), 150).max() <= 1.0 + 1e-9


@pytest.mark.parametrize("noise", ["normal", "Laplace", "Student"])
def test_they_would_if_the_middle_at_capture_were_taken_for_the_truth(noise: str) -> None:
    assert _e_values(_engine(NOISES[noise]), 150, middles=False).max() > 1.03


def test_were_the_null_as_heavy_tailed_as_it_may_be_nothing_would_be_won_either() -> None:
    """Student's t with 5 degrees of freedom about any middle within the doubt: numerically, over a fine grid."""
    usual = module._Usual(golden=1.5, middle=0.1, doubt=0.04, scale=0.05)
    x = np.linspace(-2000, 2000, 10_001) ** 3 / 2000**2 * 0.05
    for true in (-0.04, 0.0, 0.02, 0.04):
        density = (1 + ((x - true) / 0.05) ** 2 / 5) ** -3.0
        e = np.array([module._e_values(usual, 1.6 + z, math.nan, np.ones(1))[0] for z in x.tolist()])
        mean = np.trapezoid(e * density[:, None], x, axis=0) / np.trapezoid(density, x)
        assert (mean <= 1.0 + 1e-6).all()


def test_half_precisions_steps_are_no_evidence_though_capture_saw_none() -> None:
    golden = np.array([5.5, 7.0, 8.3, 17.0, 3.0, -5.0, 0.2])
    confidences = (1 / (1 + np.exp(-golden))).astype(np.float16)
    residuals = (Link.LOGIT.of_all(confidences) - golden).tolist()
    reference = PairedReference(
        golden={_id(i): {READING: z} for i, z in enumerate(golden.tolist())},
        residuals={_id(i): {READING: [each] * REPEATS} for i, each in enumerate(residuals)},
    )
    detector, rng = PairedDetector(reference, PROMISE), np.random.default_rng(0)
    steps = [confidences, np.nextafter(confidences, np.float16(0.5))]
    probes = [
        (_id(i), {READING: logit(float(steps[int(rng.random() < 0.3)][i]))})
        for i in rng.integers(len(golden), size=2000).tolist()
    ]
    assert max(score.statistic for score in _fed(detector, probes)) < 1000


@pytest.mark.parametrize("golden", [-1e300, -800.0, 800.0, 1e300])
def test_a_golden_logit_may_be_any_number(golden: float) -> None:
    reference = PairedReference(golden={"c": {"a": golden}, "d": {"a": 0.0}}, residuals={c: {"a": [0.0]} for c in "cd"})
    assert PairedDetector(reference, PROMISE).burst([("d", {"a": 0.0})])[0] <= 1.0


def test_canaries_of_unlike_noise_raise_no_alarm() -> None:
    rng = np.random.default_rng(5)
    sizes = np.where(np.arange(CANARIES) % 6 == 0, 0.2, 0.01)
    golden = rng.normal(0.0, 2.5, CANARIES)
    reference = PairedReference(
        golden={_id(i): {READING: float(z)} for i, z in enumerate(golden)},
        residuals={_id(i): {READING: rng.normal(0.0, sizes[i], REPEATS).tolist()} for i in range(CANARIES)},
    )
    probes = [
        (_id(i), {READING: float(golden[i] + rng.normal(0.0, sizes[i]))}) for i in rng.integers(CANARIES, size=4000)
    ]
    assert max(score.statistic for score in _fed(PairedDetector(reference, PROMISE), probes)) < 1000


# -- bursts ------------------------------------------------------------------------------


@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("canaries", [CANARIES, 1])
def test_a_healthy_burst_wins_nothing_on_average(noise: str, canaries: int) -> None:
    """Of one canary too, whose middle is as uncertain in all its answers."""
    found = []
    for seed in range(20):
        engine = _engine(NOISES[noise], seed=seed)
        for _ in range(15):
            probes = [(_id(i), {READING: engine.answer(i)}) for i in engine.rng.integers(canaries, size=6).tolist()]
            found.append(engine.detector.burst(probes)[0])
    assert np.mean(found) + 3 * np.std(found) / math.sqrt(len(found)) <= 1.0


@pytest.mark.parametrize("fault", FAULTS)
def test_three_answers_confirm_a_fault(fault: str) -> None:
    found = []
    for seed in range(15):
        engine = _engine(seed=seed)
        evidence, alarm = engine.detector.burst(engine.probes(3, FAULTS[fault]))
        assert alarm.group == EVERYTHING
        found.append(evidence)
    assert np.median(found) > 1e6


def test_a_bursts_evidence_is_the_mixture_of_products() -> None:
    engine = _engine()
    detector, answers = engine.detector, [0.3 + engine.answer(4), 0.3 + engine.answer(4)]
    groups, usual = detector._members["c04"], detector._usual["c04"][READING]
    weights = detector._weights[groups, 0]
    first = module._e_values(usual, answers[0], math.nan, detector._shares[groups])
    second = module._e_values(usual, answers[1], answers[0], detector._shares[groups])
    expected = float((weights * first * second).sum() + 1 - weights.sum())
    assert detector.burst([("c04", {READING: each}) for each in answers])[0] == pytest.approx(expected)


def test_a_burst_of_nothing_says_nothing() -> None:
    detector = _engine().detector
    assert detector.burst([])[0] == pytest.approx(1.0)
    assert detector.burst([("nobody", {READING: 0.0}), ("c00", {READING: math.nan})])[0] == pytest.approx(1.0)


# -- answers -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("canary", "readings", "why"),
    [
        ("nobody", {READING: 0.0}, Unusable.NON_FINITE),
        ("c00", {READING: math.nan}, Unusable.NON_FINITE),
        ("c00", {READING: math.inf}, Unusable.NON_FINITE),
        ("c00", {"another": 0.0}, Unusable.NON_FINITE),
        ("c00", {}, Unusable.EMPTY),
    ],
)
def test_what_cannot_be_used_changes_nothing(canary: str, readings: dict[str, float], why: Unusable) -> None:
    engine = _engine()
    state = engine.detector.fresh()
    *_, before = _fed(engine.detector, engine.probes(20, FAULTS["shift"]), state)
    stored = engine.detector.dump(state)
    state, score = engine.detector.update(state, canary, readings)
    assert (score.unusable, score.alarm) == (why, None)
    assert (score.statistic, score.observations) == (before.statistic, 20)
    assert engine.detector.dump(state) == stored


def test_readings_are_watched_one_by_one_and_may_be_missing() -> None:
    rng = np.random.default_rng(1)
    reference = PairedReference(
        golden={_id(i): {"a": float(i), "b": -float(i)} for i in range(6)},
        residuals={_id(i): {r: rng.normal(0, 0.004, 5).tolist() for r in "ab"} for i in range(6)},
    )
    detector = PairedDetector(reference, PROMISE)
    assert detector.readings == ("a", "b")
    state = detector.fresh()
    for i in range(60):
        canary = i % 6
        answer = {"a": float(canary), "b": math.nan} if i % 2 else {"b": -float(canary)}
        state, score = detector.update(state, _id(canary), answer)
        assert (score.alarm, score.unusable) == (None, None)
    for i in range(12):
        state, score = detector.update(state, _id(i % 6), {"a": float(i % 6), "b": -float(i % 6) + 0.3})
    assert score.alarm is not None
    assert score.alarm.sentence.startswith("b: ")


@pytest.mark.parametrize(
    "reference",
    [
        PairedReference(golden={}, residuals={}),
        PairedReference(golden={"c": {"a": 0.0}}, residuals={"c": {}}),
        PairedReference(golden={"c": {"a": 0.0}}, residuals={"c": {"a": []}}),
        PairedReference(golden={"c": {}}, residuals={"c": {"a": [0.0]}}),
        PairedReference(golden={"c": {"a": 0.0}}, residuals={"c": {"a": [math.nan]}}),
        PairedReference(golden={"c": {"a": math.inf}}, residuals={"c": {"a": [0.0]}}),
    ],
)
def test_without_residuals_there_is_nothing_to_hold_answers_against(reference: PairedReference) -> None:
    with pytest.raises(ValueError, match="the baseline holds no residuals"):
        PairedDetector(reference, PROMISE)


def test_what_is_no_number_at_capture_is_left_out() -> None:
    engine = _engine()
    reference = engine.detector._reference
    broken = {**reference.residuals, "c00": {READING: [math.nan, *reference.residuals["c00"][READING], math.inf]}}
    detector = PairedDetector(
        PairedReference(golden=reference.golden, residuals=broken, strata=reference.strata), PROMISE
    )
    assert detector._usual == engine.detector._usual


def test_groups_of_all_or_of_one_are_no_strata() -> None:
    reference = PairedReference(
        golden={c: {"a": 0.0} for c in "xyz"},
        residuals={c: {"a": [0.0, 0.0]} for c in "xyz"},
        strata={
            "x": {"vendor": "A", "site": "1"},
            "y": {"vendor": "A", "site": "1"},
            "z": {"vendor": "B", "site": "1"},
        },
    )
    detector = PairedDetector(reference, PROMISE)
    assert detector._groups == ["", "vendor=A", "canary x", "canary y", "canary z"]
    assert detector.members("vendor=A") == ("x", "y")
    assert detector._weights.sum() == pytest.approx(1.0)


# -- states ------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 60), st.integers(1, 20), st.sampled_from([*FAULTS.values(), lambda z, _: z]))
def test_a_stored_state_goes_on_as_if_nothing_had_been(before: int, after: int, fault: Fault) -> None:
    state = ENGINE.detector.fresh()
    list(_fed(ENGINE.detector, ENGINE.probes(before), state))
    other = ENGINE.detector.load(ENGINE.detector.dump(state))
    for canary, readings in ENGINE.probes(after, fault):
        state, score = ENGINE.detector.update(state, canary, readings)
        other, again = ENGINE.detector.update(other, canary, readings)
        assert score == again
    assert ENGINE.detector.dump(state) == ENGINE.detector.dump(other)


def test_a_state_of_another_baseline_or_promise_is_refused() -> None:
    data = ENGINE.detector.dump(ENGINE.detector.fresh())
    reference = ENGINE.detector._reference
    for other in (
        _engine(seed=2).detector,
        PairedDetector(reference, Promise(run_length=1e6)),
        PairedDetector(PairedReference(golden=reference.golden, residuals=reference.residuals), PROMISE),
    ):
        with pytest.raises(ValueError, match="another reference, promise or version"):
            other.load(data)


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_damaged_bytes_are_refused_or_harmless(data: st.DataObject) -> None:
    stored = bytearray(STORED)
    for at in data.draw(st.lists(st.integers(0, len(stored) - 1), min_size=1, max_size=4)):
        stored[at] ^= data.draw(st.integers(1, 255))
    try:
        state = ENGINE.detector.load(bytes(stored))
    except ValueError:
        return
    assert ENGINE.detector.dump(state) == STORED


@pytest.mark.parametrize("name", ["wealth", "began", "last", "probes"])
@pytest.mark.parametrize("value", ["text", [1.0, 2.0], 1j, True])
def test_a_field_of_another_kind_is_refused(name: str, value: object) -> None:
    fresh = ENGINE.detector.fresh()
    known = {"wealth": fresh.wealth, "began": fresh.began, "last": fresh.last, "probes": 0}
    with pytest.raises(ValueError, match="the state's"):
        ENGINE.detector.load(states.pack(ENGINE.detector._identity(), known | {name: value}))


def test_the_same_answers_say_the_same() -> None:
    probes = _engine().probes(100, FAULTS["scale-0.8"])
    assert list(_fed(_engine().detector, probes)) == list(_fed(_engine().detector, probes))


ENGINE = _engine(NOISES["normal"], seed=1)
STORED = ENGINE.detector.dump(ENGINE.detector.fresh())
