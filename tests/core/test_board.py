"""The status document: the newest of everything, JSON-ready whatever happened."""

import json

from tests.core.builders import MODEL, a_finding
from tests.core.story_events import FAULT, one_of_each, probed
from tests.core.virtual_time import EPOCH
from watchdog.model.verdict import Reason, Verdict
from watchdog.policy.memory import PolicyState
from watchdog.telemetry.board import Board, assessment_json


def told() -> Board:
    board = Board(EPOCH)
    for event in one_of_each():
        board(event)
    return board


def test_the_document_is_json_without_nan_and_holds_the_newest_of_everything() -> None:
    document = json.loads(json.dumps(told().document(EPOCH + 60), allow_nan=False))
    assert (document["at"], document["up_s"], list(document["models"])) == (EPOCH + 60, 60, [MODEL])
    model = document["models"][MODEL]
    assert model["probes"] == 3
    assert model["healthy_at"] == EPOCH + 1
    assert model["policy"]["state"] == "serving-safe"
    assert (model["diagnosis"]["conclusion"], model["switch"]["proven"]) == ("engine-fault", True)
    assert model["router"] == {"at": EPOCH + 3, "role": "safe", "known": True, "detail": "it gets safe"}
    assert model["baseline"] == {"canaries": 5, "captured_at": "2026-01-01T00:00:00+00:00"}
    assert model["failure"]["error"] == "ZeroDivisionError: a bug"
    assert set(model["last"]) == {"public", "fast"}
    assert model["last"]["public"]["verdict"] == "failed"
    assert model["last"]["public"]["scores"] == {"p.max_abs": None}, "JSON has no NaN"
    assert model["last"]["fast"]["findings"][0]["score"] is None
    assert model["last"]["fast"]["answered_by"] is None
    assert model["last"]["fast"]["fault"] == {
        "kind": "timeout",
        "blame": "server",
        "detail": "no answer within 2 s",
        "retry": True,
    }


def test_a_probes_story_has_no_tensors() -> None:
    story = assessment_json(one_of_each()[1].assessment)  # type: ignore[union-attr]
    assert "outputs" not in story
    assert (story["host_s"], story["device_s"], story["attribution"]) == (0.006, 0.004, "trace")
    assert story["confidences"] == {"p": {"value": 0.9, "top": 0.9, "entropy": 0.3}}


def test_only_a_healthy_public_probe_is_a_sign_of_health() -> None:
    board = Board(EPOCH)
    board(probed(public=False))
    board(probed(a_finding(Reason.NO_ANSWER), verdict=Verdict.INCONCLUSIVE, fault=FAULT))
    assert board.document(EPOCH)["models"][MODEL]["healthy_at"] is None


def test_models_are_known_and_forgotten() -> None:
    board = Board(EPOCH)
    board.know("b", PolicyState())
    board.know("a", PolicyState())
    assert list(board.document(EPOCH)["models"]) == ["a", "b"]
    board.forget("b")
    board.forget("never heard of")
    assert list(board.document(EPOCH)["models"]) == ["a"]
