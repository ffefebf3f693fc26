"""The status document: the newest of everything, JSON-ready whatever happened."""

import json

from tests.core.builders import MODEL, a_finding, a_timing
from tests.core.gpu_builders import UNSEEN, a_leak
from tests.core.story_events import FAULT, GPUS, one_of_each, probed, timed
from tests.core.virtual_time import EPOCH
from watchdog.model.engine import Role
from watchdog.model.event import CycleFailed, EngineSeen, GpuSeen, GrowthSeen, LoadSeen
from watchdog.model.probe import Attribution
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
    story = assessment_json(one_of_each()[1].assessment)  # type: ignore[union-attr, arg-type]
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


def test_a_server_its_engines_and_gpus_are_shown_as_they_were_seen_last() -> None:
    document = json.loads(json.dumps(told().document(EPOCH + 60), allow_nan=False))
    model = document["models"][MODEL]
    load = model["load"]["fast"]
    assert (load["at"], load["requests_per_s"], load["queue_share"]) == (EPOCH + 10, 20.0, 0.25)
    assert load["mean_s"] == {"queue": 0.001, "input-copy": 0.0005, "device": 0.002, "output-copy": 0.0005}
    engine = model["engines"]["fast"]
    assert (engine["tag"], [finding["reason"] for finding in engine["findings"]]) == (
        "trt8.6.1-cuda11.8",
        ["engine-tag"],
    )
    gpu = document["gpu"]
    assert (gpu["at"], gpu["state"], gpu["driver"], gpu["cuda"]) == (EPOCH + 12, "up", "550.54", [12, 4])
    (one,) = gpu["gpus"]
    assert (one["uuid"], one["state"], one["xids"]) == ("GPU-1", "up", [79])
    assert one["throttled_by"] == ["board-limit", "hw-slowdown"]
    assert one["processes"][0] == {"pid": 42, "name": "tritonserver", "used_bytes": 2**30, "mig": ""}
    (growth,) = gpu["growth"]
    assert (growth["holder"], growth["leaking"], growth["bytes_per_hour"]) == ("tritonserver", True, 2**30)
    assert document["traces"] == {"matched": 3}


def test_an_engine_whose_counts_can_not_be_read_has_no_load() -> None:
    board = told()
    board(LoadSeen(model=MODEL, at=EPOCH + 20, role=Role.FAST, load=None))
    assert board.document(EPOCH)["models"][MODEL]["load"] == {"fast": None}


def test_gpus_that_are_watched_no_longer_are_not_shown_either() -> None:
    board = told()
    board.forget_gpus()
    assert board.document(EPOCH)["gpu"] == {}


def test_a_reading_replaces_the_last_one_with_its_trends() -> None:
    board = told()
    board(GpuSeen(at=EPOCH + 20, reading=GPUS))
    assert "growth" not in board.document(EPOCH)["gpu"]
    board(GrowthSeen(at=EPOCH + 20, leak=a_leak()))
    board(GrowthSeen(at=EPOCH + 20, leak=a_leak(pid=43)))
    assert [growth["pids"] for growth in board.document(EPOCH)["gpu"]["growth"]] == [[42], [43]]
    board(GpuSeen(at=EPOCH + 30, reading=UNSEEN))
    gpu = board.document(EPOCH)["gpu"]
    assert (gpu["state"], gpu["gpus"], "growth" in gpu) == ("failing", (), False)


def test_an_engine_that_is_right_again_has_no_findings() -> None:
    board = told()
    board(EngineSeen(model=MODEL, at=EPOCH + 20, role=Role.FAST, tag="t", findings=()))
    assert board.document(EPOCH)["models"][MODEL]["engines"]["fast"] == {"at": EPOCH + 20, "tag": "t", "findings": []}


def test_where_a_probes_time_went_is_added_when_it_is_known_unless_a_newer_probe_is_shown() -> None:
    board = Board(EPOCH)
    board(probed(trace_id="a"))
    shown = board.document(EPOCH)["models"][MODEL]["last"]["public"]
    assert (shown["device_s"], shown["attribution"], shown["parts"]) == (None, "none", {})
    board(timed(trace_id="a"))
    shown = board.document(EPOCH)["models"][MODEL]["last"]["public"]
    assert (shown["device_s"], shown["attribution"], shown["parts"]["queue"]) == (0.002, "trace", 0.0003)
    board(probed(trace_id="b", timing=a_timing(Attribution.NONE)))
    board(timed(trace_id="a"))
    assert board.document(EPOCH)["models"][MODEL]["last"]["public"]["attribution"] == "none"
    board(timed(trace_id="b", public=False))
    assert set(board.document(EPOCH)["models"][MODEL]["last"]) == {"public"}, "a time alone is no probe"


def test_a_failure_that_is_of_no_model_makes_none() -> None:
    board = Board(EPOCH)
    board(CycleFailed(model="", at=EPOCH, error="gpu: ZeroDivisionError: a bug"))
    document = board.document(EPOCH)
    assert (document["models"], document["failure"]["error"]) == ({}, "gpu: ZeroDivisionError: a bug")
