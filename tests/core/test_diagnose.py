"""The differential diagnosis: every pair of lanes has one conclusion, and it is the right one."""

import itertools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from tests.core.builders import a_finding, assessed
from watchdog.model.diagnosis import Conclusion, Diagnosis
from watchdog.model.engine import Role
from watchdog.model.event import Source
from watchdog.model.probe import Timing
from watchdog.model.verdict import Assessment, Finding, Reason, Verdict
from watchdog.policy.diagnose import Lane, diagnose

C = Conclusion

GOOD = assessed()
WRONG = assessed(a_finding(Reason.ALL_ZERO))
SLOW = assessed(a_finding(Reason.LATENCY, Verdict.SUSPECT))
SILENT = assessed(a_finding(Reason.NO_ANSWER, Verdict.INCONCLUSIVE))
CACHED = assessed(a_finding(Reason.CACHED, Verdict.INCONCLUSIVE))
ELSEWHERE = assessed(a_finding(Reason.WRONG_VERSION))
COLLAPSE = a_finding(Reason.COLLAPSE)


def on(canary: str, assessment: Assessment) -> Assessment:
    return assessed(*assessment.findings, canary=canary)


def lane(*assessments: Assessment, collapsed: bool = False) -> Lane:
    answers = [on(f"c{i}", a) for i, a in enumerate(assessments)]
    return Lane(assessments=answers, over_set=(COLLAPSE,) if collapsed else ())


def conclude(
    serving: Lane, other: Lane, first: Assessment | None = WRONG, *, moved: bool = False, need: int = 2
) -> Diagnosis:
    return diagnose(serving=Role.FAST, first=first, moved=moved, serving_lane=serving, other_lane=other, need=need)


FINE = lane(GOOD, GOOD, GOOD)
ALL_WRONG = lane(WRONG, WRONG, WRONG)
ALL_SILENT = lane(SILENT, SILENT, SILENT)
ALL_SLOW = lane(SLOW, SLOW, SLOW)


@pytest.mark.parametrize(
    ("serving", "other", "first", "expected"),
    [
        (FINE, FINE, WRONG, C.TRANSIENT),
        (ALL_WRONG, FINE, WRONG, C.ENGINE_FAULT),
        (lane(WRONG, GOOD, GOOD), FINE, WRONG, C.ENGINE_FAULT),
        (lane(GOOD, WRONG, GOOD), FINE, WRONG, C.TRANSIENT),
        (lane(GOOD, WRONG, WRONG), FINE, WRONG, C.ENGINE_FAULT),
        (lane(GOOD, WRONG, GOOD), FINE, GOOD, C.ENGINE_FAULT),
        (lane(GOOD, GOOD, GOOD, collapsed=True), FINE, WRONG, C.ENGINE_FAULT),
        (ALL_WRONG, ALL_WRONG, WRONG, C.BOTH_WRONG),
        (ALL_WRONG, lane(GOOD, GOOD, WRONG), WRONG, C.BOTH_WRONG),
        (ALL_WRONG, lane(GOOD, GOOD, GOOD, collapsed=True), WRONG, C.BOTH_WRONG),
        (ALL_WRONG, ALL_SILENT, WRONG, C.TARGET_UNPROVEN),
        (ALL_WRONG, lane(GOOD, SILENT, GOOD), WRONG, C.TARGET_UNPROVEN),
        (ALL_WRONG, ALL_SLOW, WRONG, C.ENGINE_FAULT),
        (ALL_SLOW, FINE, SLOW, C.ENGINE_FAULT),
        (ALL_SLOW, ALL_SLOW, SLOW, C.OVERLOADED),
        (ALL_SLOW, lane(SLOW, SLOW, GOOD), SLOW, C.OVERLOADED),
        (ALL_SLOW, lane(SLOW, GOOD, GOOD), SLOW, C.ENGINE_FAULT),
        (lane(SLOW, SLOW), lane(SLOW, GOOD), SLOW, C.ENGINE_FAULT),
        (lane(SLOW, GOOD, GOOD), FINE, SLOW, C.TRANSIENT),
        (ALL_SILENT, FINE, SILENT, C.ENGINE_FAULT),
        (ALL_SILENT, ALL_SILENT, SILENT, C.SERVER_FAULT),
        (ALL_SILENT, ALL_SILENT, None, C.SERVER_FAULT),
        (ALL_SILENT, ALL_WRONG, SILENT, C.TARGET_UNPROVEN),
        (ALL_SILENT, ALL_SILENT, WRONG, C.TARGET_UNPROVEN),
        (lane(CACHED, CACHED, CACHED), FINE, CACHED, C.SERVER_FAULT),
        (lane(CACHED, CACHED, GOOD), FINE, CACHED, C.SERVER_FAULT),
        (lane(CACHED, WRONG, WRONG), FINE, CACHED, C.ENGINE_FAULT),
    ],
)
def test_two_lanes_have_one_conclusion(serving: Lane, other: Lane, first: Assessment | None, expected: C) -> None:
    assert conclude(serving, other, first).conclusion is expected


def test_a_moved_route_is_only_that_where_the_serving_engine_is_right() -> None:
    moved = conclude(FINE, FINE, ELSEWHERE, moved=True)
    assert (moved.conclusion, moved.reason) == (C.ROUTE_MOVED, "wrong-version")
    by_router = conclude(FINE, FINE, None, moved=True)
    assert (by_router.conclusion, by_router.finding, by_router.reason) == (C.ROUTE_MOVED, None, "route-moved")
    assert conclude(ALL_WRONG, FINE, ELSEWHERE, moved=True).conclusion is C.ENGINE_FAULT


def test_one_canary_is_enough_where_there_are_no_more() -> None:
    assert conclude(lane(SILENT), lane(GOOD), SILENT, need=2).conclusion is C.ENGINE_FAULT


def test_slowness_that_the_burst_itself_made_counts_for_nothing() -> None:
    queued = replace(ALL_SLOW, at_once=True)
    assert conclude(queued, queued, SILENT).conclusion is C.TRANSIENT
    assert conclude(ALL_SLOW, FINE, SILENT).conclusion is C.ENGINE_FAULT
    assert queued.finding is None
    wrong = conclude(replace(ALL_WRONG, at_once=True), queued)
    assert (wrong.conclusion, wrong.other_bad) == (C.ENGINE_FAULT, 0)
    assert "canaries on fast: 3 wrong of 3; on safe: all 3 right" in wrong.detail


def test_a_diagnosis_counts_and_names_the_most_specific_finding() -> None:
    got = conclude(lane(SLOW, WRONG, GOOD), lane(GOOD, GOOD, SLOW), SLOW, need=2)
    assert (got.serving_bad, got.serving_probes, got.other_bad, got.other_probes) == (2, 3, 1, 3)
    assert got.reason == "all-zero"
    assert got.detail == (
        "the fast engine is at fault and the safe engine is proven "
        "(canaries on fast: 1 wrong, 1 slow of 3; on safe: 1 slow of 3); all-zero was found"
    )


def test_chance_has_no_finding() -> None:
    got = conclude(FINE, FINE)
    assert (got.finding, got.reason) == (None, "transient")
    assert "was found" not in got.detail


KINDS: Sequence[Assessment] = (GOOD, WRONG, SLOW, SILENT, CACHED)
LANES = [lane(*kinds) for kinds in itertools.combinations_with_replacement(KINDS, 2)]


@pytest.mark.parametrize("moved", [False, True])
def test_an_engine_is_blamed_only_when_it_is_bad_and_the_other_is_right(moved: bool) -> None:
    for serving, other, first in itertools.product(LANES, LANES, (None, *KINDS)):
        got = conclude(serving, other, first, moved=moved)
        if got.conclusion is C.ENGINE_FAULT:
            assert serving.bad
            assert other.right
            assert any(a.verdict in (Verdict.FAILED, Verdict.SUSPECT) for a in serving.assessments) or any(
                f.reason is Reason.NO_ANSWER for a in serving.assessments for f in a.findings
            )
        if not serving.bad:
            assert got.conclusion is (C.ROUTE_MOVED if moved else C.TRANSIENT)


SEEN = a_finding(Reason.DRIFT)


def suspect(serving: Lane, other: Lane, source: Source, seen: Finding = SEEN, **more: Any) -> Diagnosis:
    return diagnose(
        serving=Role.FAST,
        first=None,
        moved=False,
        serving_lane=serving,
        other_lane=other,
        need=2,
        suspected=seen,
        source=source,
        **more,
    )


@pytest.mark.parametrize(
    ("serving", "other", "source", "expected"),
    [
        (FINE, FINE, Source.LIVE, C.DATA_DRIFT),
        (FINE, FINE, Source.SHADOW, C.ENGINE_FAULT),
        (FINE, ALL_WRONG, Source.LIVE, C.DATA_DRIFT),
        (FINE, ALL_WRONG, Source.SHADOW, C.DATA_DRIFT),
        (FINE, ALL_SILENT, Source.SHADOW, C.DATA_DRIFT),
        (ALL_WRONG, FINE, Source.LIVE, C.ENGINE_FAULT),
        (ALL_WRONG, ALL_WRONG, Source.LIVE, C.BOTH_WRONG),
        (ALL_SILENT, ALL_SILENT, Source.SHADOW, C.SERVER_FAULT),
    ],
)
def test_a_drift_of_patients_answers_is_an_engines_fault_only_if_canaries_or_pairs_say_so(
    serving: Lane, other: Lane, source: Source, expected: C
) -> None:
    got = suspect(serving, other, source)
    assert got.conclusion is expected
    if serving is FINE:
        assert (got.finding, got.reason) == (SEEN, "drift")
        assert "drift was found" in got.detail


def test_what_a_burst_shows_together_is_told_beside_the_headline() -> None:
    drift = a_finding(Reason.DRIFT, detail="logits scaled by about 0.5")
    got = conclude(replace(ALL_WRONG, over_set=(drift,)), FINE)
    assert got.reason == "all-zero"
    assert got.detail.endswith("all-zero was found; logits scaled by about 0.5")
    alone = conclude(replace(FINE, over_set=(drift,)), FINE)
    assert (alone.conclusion, alone.reason) == (C.ENGINE_FAULT, "drift")
    assert alone.detail.count("logits scaled by about 0.5") == 1


JUMP = a_finding(Reason.LATENCY, Verdict.SUSPECT, detail="the fast engine's device time: takes about 3 times as long")
SLOWER = a_finding(Reason.LATENCY, Verdict.SUSPECT, detail="most of it device", measure="device")


@pytest.mark.parametrize(
    ("slower", "source", "by_itself", "expected"),
    [
        (None, Source.TIMING, False, C.TRANSIENT),
        (None, Source.TIMING, True, C.SLOWED),
        (SLOWER, Source.TIMING, False, C.SLOWED),
        (None, Source.OBJECTIVE, True, C.SLOWED),
    ],
)
def test_slowness_within_the_limits_moves_nothing_and_must_still_be_there(
    slower: Finding | None, source: Source, by_itself: bool, expected: C
) -> None:
    more = {"by_itself": by_itself, "circumstances": "the engine itself is slow"}
    got = suspect(replace(FINE, slower=slower), FINE, source, JUMP, **more)
    assert got.conclusion is expected
    assert ("the engine itself is slow" in got.detail) is (expected is C.SLOWED)
    if slower is not None:
        assert got.finding is SLOWER, "which names the part"


ONE_SLOW, ONE_SILENT, MOST_SLOW = lane(GOOD, SLOW, GOOD), lane(GOOD, SILENT, GOOD), lane(SLOW, GOOD, SLOW)


@pytest.mark.parametrize(
    ("serving", "source", "expected"),
    [
        (ONE_SLOW, Source.TIMING, C.TRANSIENT),
        (ONE_SILENT, Source.TIMING, C.TRANSIENT),
        (ONE_SLOW, Source.OBJECTIVE, C.SLOWED),
        (ONE_SILENT, Source.LIVE, C.DATA_DRIFT),
        (MOST_SLOW, Source.TIMING, C.ENGINE_FAULT),
        (lane(SILENT, GOOD, SLOW), Source.TIMING, C.ENGINE_FAULT),
        (lane(WRONG, GOOD, GOOD), Source.TIMING, C.ENGINE_FAULT),
    ],
)
def test_one_late_probe_of_a_burst_after_a_suspicion_moves_nothing(serving: Lane, source: Source, expected: C) -> None:
    got = suspect(serving, FINE, source, JUMP, by_itself=source is Source.OBJECTIVE)
    assert got.conclusion is expected


@pytest.mark.parametrize(
    ("serving", "expected"),
    [
        (ONE_SLOW, C.TRANSIENT),
        (ONE_SILENT, C.TRANSIENT),
        (lane(SLOW, GOOD), C.TRANSIENT),
        (MOST_SLOW, C.ENGINE_FAULT),
        (lane(SILENT, SILENT, GOOD), C.ENGINE_FAULT),
        (lane(GOOD, WRONG, GOOD), C.ENGINE_FAULT),
    ],
)
def test_a_fresh_look_at_an_old_trouble_moves_nobody_for_one_late_probe(serving: Lane, expected: C) -> None:
    assert conclude(serving, FINE, GOOD).conclusion is expected


def test_slowness_of_both_engines_is_told_of_both() -> None:
    other = a_finding(Reason.LATENCY, Verdict.SUSPECT, detail="and so is the safe one's queue")
    got = suspect(replace(FINE, slower=SLOWER), replace(FINE, slower=other), Source.TIMING, JUMP)
    assert got.conclusion is C.SLOWED
    assert "and so is the safe one's queue" in got.detail


def test_traffic_is_not_moved_to_an_engine_that_takes_even_longer() -> None:
    took = Timing(sent_at=0.0, total_s=0.05)
    slow, slower = (replace(took, total_s=total_s) for total_s in (0.05, 0.06))
    serving = Lane(assessments=[assessed(*SLOW.findings, timing=slow) for _ in range(3)])
    other = Lane(assessments=[assessed(timing=slower) for _ in range(3)])
    assert conclude(serving, other, SLOW).conclusion is C.OTHER_SLOWER
    assert conclude(serving, Lane(assessments=[GOOD] * 3), SLOW).conclusion is C.ENGINE_FAULT
    wrong = Lane(assessments=[assessed(*WRONG.findings, timing=slow) for _ in range(3)])
    assert conclude(wrong, other, WRONG).conclusion is C.ENGINE_FAULT, "a slow right answer is better than a wrong one"
