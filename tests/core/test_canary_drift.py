"""Small, lasting differences of canaries' answers: found, named, confirmed by a burst, and never by chance."""

import numpy as np
import pytest

from tests.core.builders import (
    CANARIES,
    OUTPUT,
    a_baseline,
    a_canary,
    a_captured_judge,
    a_judge,
    a_result,
    right_answer,
)
from watchdog.assess import Judge
from watchdog.canary_drift import CanaryDrift, golden_logits, logits, residuals
from watchdog.model.canary import Canary
from watchdog.model.engine import Answerer, Role
from watchdog.model.score import Promise
from watchdog.model.tensor import Array
from watchdog.model.verdict import Assessment, Reason, Verdict

PROMISE = Promise(run_length=3e6)


def shifted(canary: Canary, by: float, rng: np.random.Generator) -> dict[str, Array]:
    """The right answer with its logit moved, and a perturbation's worth of noise."""
    p = right_answer(canary.inputs)[OUTPUT].astype(np.float64)
    z = np.log(p / (1 - p)) + by + rng.normal(0.0, 0.002)
    return {OUTPUT: (1 / (1 + np.exp(-z))).astype(np.float32)}


def judged(judge: Judge, canary: Canary, by: float, rng: np.random.Generator, role: Role = Role.FAST) -> Assessment:
    version = judge.engines[role].address.version
    return judge.assess(
        a_result(
            canary=canary.id,
            expected=role,
            answered_by=Answerer(model="nodule", version=version),
            outputs=shifted(canary, by, rng),
        )
    )


def watch(drift: CanaryDrift, judge: Judge, by: dict[str, float], probes: int) -> tuple[int, Assessment] | None:
    """Probe after probe, in rotation, until one alarms."""
    rng, canaries = np.random.default_rng(2), list(judge.canaries.values())
    for i in range(probes):
        canary = canaries[i % len(canaries)]
        assessment, score = drift.take(judged(judge, canary, by.get(canary.id, by.get("", 0.0)), rng))
        assert score is not None
        if score.alarm is not None:
            return i + 1, assessment
    return None


def test_a_healthy_engine_never_alarms() -> None:
    judge = a_captured_judge(a_judge())
    assert watch(CanaryDrift(judge, PROMISE), judge, {}, 3000) is None


def test_a_shift_within_every_limit_is_found_in_a_few_probes_and_named() -> None:
    judge = a_captured_judge(a_judge())
    rng = np.random.default_rng(3)
    alone = judged(judge, CANARIES[0], 0.3, rng)
    assert alone.verdict is Verdict.HEALTHY, "no single answer breaks a limit"
    found = watch(CanaryDrift(judge, PROMISE), judge, {"": 0.3}, 20)
    assert found is not None
    probes, assessment = found
    assert probes <= 3
    assert (assessment.verdict, assessment.reason) == (Verdict.FAILED, Reason.DRIFT)
    finding = assessment.worst
    assert finding is not None
    assert "logits shifted by about +0." in finding.detail
    assert finding.score >= finding.limit == PROMISE.threshold


def test_a_fault_in_one_stratum_names_it_and_suspects_its_canaries() -> None:
    canaries = tuple(
        a_canary(f"c{i}", 0.2 + 0.05 * i, tolerance=1e-3, strata={"manufacturer": "AB"[i % 2]}) for i in range(8)
    )
    judge = a_captured_judge(a_judge(canaries))
    drift = CanaryDrift(judge, PROMISE)
    found = watch(drift, judge, {c.id: 0.25 for c in canaries if c.strata["manufacturer"] == "B"}, 40)
    assert found is not None
    assert found[1].worst is not None
    assert "on manufacturer=B" in found[1].worst.detail
    assert set(drift.suspects) == {"c1", "c3", "c5", "c7"}


@pytest.mark.parametrize(("by", "wrong"), [(0.0, False), (0.3, True), (-0.6, True)])
def test_a_burst_confirms_what_is_there_and_nothing_else(by: float, wrong: bool) -> None:
    judge = a_captured_judge(a_judge())
    drift, rng = CanaryDrift(judge, PROMISE), np.random.default_rng(4)
    found = drift.over(Role.SAFE, [judged(judge, canary, by, rng, Role.SAFE) for canary in CANARIES[:3]])
    assert bool(found) is wrong
    assert all(finding.reason is Reason.DRIFT for finding in found)


def test_an_answer_from_elsewhere_is_no_evidence() -> None:
    judge = a_captured_judge(a_judge())
    drift = CanaryDrift(judge, PROMISE)
    stranger = judge.assess(
        a_result(
            answered_by=Answerer(model="nodule", version="9"),
            outputs=shifted(CANARIES[0], 2.0, np.random.default_rng(0)),
        )
    )
    assert drift.take(stranger) == (stranger, None)
    assert drift.over(Role.FAST, [stranger]) == ()


def test_evidence_survives_a_restart_and_is_not_taken_from_another_baseline() -> None:
    judge = a_captured_judge(a_judge())
    one, two, rng = CanaryDrift(judge, PROMISE), CanaryDrift(judge, PROMISE), np.random.default_rng(5)
    one.take(judged(judge, CANARIES[0], 0.1, rng))
    for role, data in one.dump().items():
        two.load(role, data)
    after = judged(judge, CANARIES[1], 0.1, rng)
    assert two.take(after) == one.take(after)
    other = CanaryDrift(a_captured_judge(a_judge(CANARIES[:4])), PROMISE)
    with pytest.raises(ValueError, match="another reference"):
        other.load(Role.FAST, one.dump()[Role.FAST])


def test_a_baseline_without_residuals_watches_nothing() -> None:
    judge = a_judge()
    drift, rng = CanaryDrift(judge, PROMISE), np.random.default_rng(6)
    assessment = judged(judge, CANARIES[0], 3.0, rng)
    assert drift.take(assessment) == (assessment, None)
    assert drift.over(Role.FAST, [assessment]) == ()
    assert drift.dump() == {}


def test_residuals_are_logits_less_the_golden_ones_in_the_order_of_the_answers() -> None:
    judge, rng, baseline = a_judge(), np.random.default_rng(8), a_baseline()
    answers = [judged(judge, CANARIES[1], by, rng) for by in (0.5, -0.25)]
    found = residuals(judge.settings, answers, baseline.golden)
    assert found.keys() == {"c1"}
    assert found["c1"][OUTPUT] == pytest.approx((0.5, -0.25), abs=0.01)


def test_what_is_read_of_an_answer_is_its_logit() -> None:
    judge = a_judge()
    assert judge.baseline is not None
    right = golden_logits(judge.settings, judge.baseline.golden)
    assert right["c0"][OUTPUT] == pytest.approx(np.log(0.95 / 0.05), abs=1e-5)
    assessment = judged(judge, CANARIES[0], 0.0, np.random.default_rng(7))
    assert logits(judge.settings, assessment.confidences).keys() == {OUTPUT}
