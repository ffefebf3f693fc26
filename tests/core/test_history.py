"""The last minutes: what is kept of probes, detectors and confidences, for how long, and how much of it."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.builders import MODEL, OUTPUT, a_finding, a_result, a_score, a_timing
from tests.core.story_events import one_of_each
from tests.core.virtual_time import EPOCH
from watchdog.model.engine import Role
from watchdog.model.event import Probed, Reported, Scored, Source, Timed
from watchdog.model.probe import Part
from watchdog.model.verdict import Assessment, Confidence, Reason, Verdict
from watchdog.telemetry.history import KEPT_S, MOST_POINTS, History


def came(at: float, value: float = 0.9, **result: Any) -> Probed:
    told = Assessment(
        result=a_result(**({"seed": int(at * 1000)} | result)),
        verdict=Verdict.HEALTHY,
        confidences={OUTPUT: Confidence(value=value, top=0.9, entropy=0.3)},
    )
    return Probed(model=MODEL, at=EPOCH + at, assessment=told)


def scored(at: float, evidence: float, reading: str = OUTPUT) -> Scored:
    score = a_score(alarm=False, statistic=evidence)
    return Scored(model=MODEL, at=EPOCH + at, source=Source.CANARY, reading=reading, score=score)


def document(history: History, at: float = 0.0, **more: float) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(json.dumps(history.document(MODEL, EPOCH + at, **more), allow_nan=False))
    return told


def test_whatever_happens_the_document_is_json_without_nan() -> None:
    history = History()
    for event in one_of_each():
        history(event)
    told = document(history, 10)
    assert [probe["verdict"] for probe in told["probes"]] == ["healthy", "failed"]
    assert [probe["reason"] for probe in told["probes"]] == [None, "all-zero"]
    assert told["limits"] == {"fast": {"opt": 0.06}, "safe": {"opt": None}}, "no limit is no number"


def test_only_the_public_name_counts() -> None:
    history = History()
    history(came(1, public=False))
    assert document(history, 2)["probes"] == []


def test_nothing_is_known_of_a_model_that_was_not_seen() -> None:
    told = document(History())
    assert (told["probes"], told["limits"], told["drift"]) == ([], {}, {})
    assert (told["confidences"]["canary"], told["confidences"]["live"]) == ({}, {})


def test_a_trace_that_comes_later_completes_the_times_of_its_probe_and_of_no_other() -> None:
    history = History()
    for at in (1, 2, 3):
        history(came(at))
    history(Timed(model=MODEL, at=EPOCH + 4, result=a_result(seed=2000, timing=a_timing())))
    history(Timed(model=MODEL, at=EPOCH + 4, result=a_result(seed=99, timing=a_timing())))
    parts = [probe["parts"] for probe in document(history, 4)["probes"]]
    assert (parts[0], parts[2]) == ({}, {})
    assert set(parts[1]) >= {str(Part.DEVICE), str(Part.QUEUE)}


def test_old_probes_are_not_told_and_only_new_ones_to_whoever_has_the_others() -> None:
    history = History()
    for at in (0, 100, KEPT_S + 50):
        history(came(at))
    now = KEPT_S + 60
    assert [probe["at"] - EPOCH for probe in document(history, now)["probes"]] == [100, KEPT_S + 50]
    since = document(history, now, since=EPOCH + 100)
    assert [probe["at"] - EPOCH for probe in since["probes"]] == [KEPT_S + 50]


@given(st.lists(st.tuples(st.floats(0, 10), st.floats(0, 1e12)), min_size=1, max_size=200))
def test_evidence_is_thinned_and_its_peak_is_never_lost(steps: list[tuple[float, float]]) -> None:
    history, at = History(), 0.0
    for wait, evidence in steps:
        at = min(at + wait, KEPT_S - 1)
        history(scored(at, evidence))
    (drift,) = document(history, at)["drift"]["canary"].values()
    assert max(value for _, value in drift["points"]) == max(evidence for _, evidence in steps)
    assert len(drift["points"]) <= KEPT_S / 3
    assert drift["evidence"] == steps[-1][1], "the newest one is told as it is"
    assert drift["promise"].startswith("one false alarm in")


def test_memory_is_bounded_however_quickly_things_come() -> None:
    history = History()
    for i in range(3 * MOST_POINTS):
        history(came(i / 100))
        history(scored(i, i))
        history(Reported(model=MODEL, at=EPOCH, reading=OUTPUT, values=(0.5,), usual=False))
    told = document(history, 30)
    assert len(told["probes"]) == MOST_POINTS
    assert sum(told["confidences"]["live"][OUTPUT]["fast"]) == MOST_POINTS
    assert len(document(history, 3 * MOST_POINTS)["drift"]["canary"][OUTPUT]["points"]) <= KEPT_S / 3


def test_a_clock_that_is_set_back_keeps_new_evidence_apart() -> None:
    history = History()
    history(scored(100, 1.0))
    history(scored(50, 2.0))
    assert [value for _, value in document(history, 100)["drift"]["canary"][OUTPUT]["points"]] == [1.0, 2.0]


def test_confidences_are_counted_by_engine_beside_the_golden_ones() -> None:
    history = History()
    for event in one_of_each()[:1]:
        history(event)
    for i, (value, role) in enumerate(((0.04, Role.FAST), (0.5, Role.FAST), (0.99, Role.SAFE))):
        history(came(i, value, expected=role))
    counted = document(history, 5)["confidences"]
    assert counted["edges"][0] == 0
    assert len(counted["edges"]) == 21
    golden = counted["canary"][OUTPUT]
    assert (golden["reference"][0], golden["reference"][9], golden["reference"][17]) == (1, 1, 2)
    assert (golden["fast"][0], golden["fast"][9], sum(golden["fast"])) == (1, 1, 2)
    assert (golden["safe"][19], sum(golden["safe"])) == (1, 1)


def test_patients_answers_are_counted_beside_what_is_usual() -> None:
    history = History()
    history(Reported(model=MODEL, at=EPOCH, reading="r", values=(0.1, 0.1), usual=True))
    assert document(history)["confidences"]["live"]["r"] == {"reference": [0, 2] + [0] * 18, "fast": [0] * 20}
    history(Reported(model=MODEL, at=EPOCH, reading="r", values=(0.97, float("nan")), usual=False))
    assert document(history)["confidences"]["live"]["r"]["fast"] == [0] * 19 + [1]


@pytest.mark.parametrize("forgotten", [True, False])
def test_a_model_that_is_no_longer_watched_is_forgotten(forgotten: bool) -> None:
    history = History()
    history(came(1))
    history(
        Probed(
            model="other",
            at=EPOCH + 1,
            assessment=Assessment(
                result=a_result(model="other"), verdict=Verdict.FAILED, findings=(a_finding(Reason.PARITY),)
            ),
        )
    )
    if forgotten:
        history.forget(MODEL)
    assert bool(document(history, 2)["probes"]) is not forgotten
    assert history.document("other", EPOCH + 2)["probes"]
