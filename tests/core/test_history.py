"""The last minutes of a model, as the page draws them: bounded, completed later, forgotten."""

import json
from dataclasses import replace

from tests.core.builders import MODEL, OUTPUT, a_finding, a_score
from tests.core.story_events import one_of_each, probed, timed
from tests.core.virtual_time import EPOCH
from watchdog.model.event import Scored, Source
from watchdog.model.probe import Attribution, Part, Timing
from watchdog.model.verdict import Reason, Verdict
from watchdog.telemetry.history import KEPT_S, MOST_POINTS, History


def told() -> History:
    history = History()
    for event in one_of_each():
        history(event)
    return history


def test_all_that_happens_can_be_shown_as_json() -> None:
    document = told().document(MODEL, EPOCH + 60)
    assert json.loads(json.dumps(document, allow_nan=False)) == document
    assert [p["verdict"] for p in document["probes"]] == ["healthy", "failed"], "what the public name answered"
    assert document["limits"]["fast"] == {"opt": 0.06}
    assert document["limits"]["safe"] == {"opt": None}, "nothing sets one"


def test_confidences_are_counted_beside_their_reference() -> None:
    confidences = told().document(MODEL, EPOCH + 60)["confidences"]
    canary, live = confidences["canary"][OUTPUT], confidences["live"][OUTPUT]
    assert (sum(canary["reference"]), canary["fast"][17]) == (4, 2)
    assert (sum(live["reference"]), live["fast"][-1]) == (2, 2)


def test_a_probes_times_are_completed_when_its_trace_comes() -> None:
    history = History()
    history(probed(seed=1))
    history(probed(seed=2))
    timing = Timing(
        sent_at=EPOCH, total_s=0.02, device_s=0.004, attribution=Attribution.TRACE, parts={Part.QUEUE: 0.01}
    )
    history(timed(timing, seed=1))
    first, second = history.document(MODEL, EPOCH + 5)["probes"]
    assert (first["device_s"], first["parts"], second["device_s"]) == (0.004, {"queue": 0.01}, None)


def test_it_keeps_a_quarter_of_an_hour_and_no_more_points_than_it_says() -> None:
    history = History()
    for i in range(3 * MOST_POINTS):
        history(replace(probed(seed=i), at=EPOCH + i * 0.1))
    now = EPOCH + 300.0
    assert len(history.document(MODEL, now)["probes"]) == MOST_POINTS
    assert len(history.document(MODEL, now, since=now - 1.05)["probes"]) == 10
    assert history.document(MODEL, now + KEPT_S + 1)["probes"] == []


def test_the_reason_of_a_wrong_answer_is_told() -> None:
    history = History()
    history(probed(a_finding(Reason.ALL_ZERO), verdict=Verdict.FAILED))
    assert history.document(MODEL, EPOCH + 2)["probes"][0]["reason"] == "all-zero"


def test_of_evidence_that_comes_by_the_hundred_the_largest_is_kept() -> None:
    history = History()
    for i in range(100):
        score = replace(a_score(), statistic=float(i % 7))
        history(Scored(model=MODEL, at=EPOCH + i * 0.01, source=Source.LIVE, reading="p", score=score))
    (point,) = history.document(MODEL, EPOCH + 2)["drift"]["live"]["p"]["points"]
    assert point == [EPOCH, 6.0]


def test_a_model_that_is_watched_no_longer_is_forgotten() -> None:
    history = told()
    history.forget(MODEL)
    assert history.document(MODEL, EPOCH + 60)["probes"] == []
