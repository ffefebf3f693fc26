"""The demonstration's own parts: its service, its judge, its traffic, and what it refuses."""

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.service.conftest import MODEL, Run, Site, eventually, here, watchdog
from tests.triton_fixture import Mood
from watchdog.demo.faults import FAULTS
from watchdog.demo.outcome import EXPECTED, Outcome
from watchdog.demo.service import Record, Service
from watchdog.demo.traffic import Traffic


def as_expected(fault: str) -> Outcome:
    expected = EXPECTED[fault]
    outcome = Outcome(fault=fault, verdict=expected.verdict, route=expected.route, alert=expected.alert)
    outcome.reason = min(expected.reasons, default=None)
    outcome.proven_at = 1.0 if expected.switches else None
    outcome.alert_seen_at_alertmanager = None if expected.alert is None else True
    return outcome


def test_there_is_an_expectation_of_every_fault() -> None:
    assert set(EXPECTED) == set(FAULTS)


@pytest.mark.parametrize("fault", EXPECTED)
def test_what_is_expected_is_right(fault: str) -> None:
    outcome = as_expected(fault)
    outcome.judge()
    assert outcome.right
    assert outcome.to_json()["right"] is True


@pytest.mark.parametrize("fault", EXPECTED)
@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"verdict": "transient"}, "verdict is transient, should be "),
        ({"route": "elsewhere"}, "route is elsewhere, should be "),
        ({"alert": "WatchdogLocked"}, "alert is WatchdogLocked, should be "),
        ({"proven_at": "the opposite"}, "proven switch is "),
    ],
)
def test_anything_else_is_complained_about(fault: str, changes: dict[str, Any], said: str) -> None:
    outcome = replace(as_expected(fault), **changes)
    if changes.get("proven_at"):
        outcome.proven_at = None if EXPECTED[fault].switches else 1.0
    outcome.judge()
    assert not outcome.right
    (complaint,) = outcome.complaints
    assert complaint.startswith(said)


def test_failed_requests_are_right_only_where_they_can_not_be_helped() -> None:
    for fault, expected in EXPECTED.items():
        outcome = replace(as_expected(fault), ordinary_failures=1)
        outcome.judge()
        assert outcome.right is expected.may_fail, fault


def test_a_wrong_reason_and_an_unseen_alert_are_complained_about() -> None:
    outcome = replace(as_expected("nan"), reason="latency", alert_seen_at_alertmanager=False)
    outcome.judge()
    assert outcome.complaints == [
        "reason is latency, should be non-finite",
        "the alert did not reach Alertmanager",
    ]


def test_a_service_that_can_not_start_is_not_waited_for(tmp_path: Path) -> None:
    shown: list[Record] = []
    with Service(tmp_path / "none.yaml", shown.append) as service:
        began = time.monotonic()
        assert service.wait_for(lambda r: r["event"] == "probe", timeout_s=30) is None
        assert time.monotonic() - began < 15
    assert any("can't be read: No such file or directory" in record["text"] for record in shown)
    assert shown == service.records()


@pytest.mark.triton
def test_a_service_is_read_from_any_point_on(site: Site, tmp_path: Path) -> None:
    with Run(site.configure(tmp_path)) as service:
        service.await_healthy()
        seen = service.mark()
        later = service.wait_for(lambda r: r["event"] == "probe", timeout_s=20, since=seen)
        assert later in service.records(seen)
        assert service.wait_for(lambda r: r["event"] == "never", timeout_s=0.2) is None
        process = service.process
    assert process.returncode == 0


@pytest.mark.triton
def test_traffic_counts_what_patients_get(site: Site) -> None:
    rng = np.random.default_rng(0)
    images = [rng.uniform(-1000, 400, (1, 1, 64, 64)).astype(np.float32) for _ in range(3)]
    traffic = Traffic(site.triton.grpc_url, MODEL, images, pause_s=0.01)
    traffic.start("1")
    try:
        eventually(lambda: len(traffic.answers()) > 10, "answers")
        assert {(a.version, a.wrong, a.failed) for a in traffic.answers()} == {("2", False, False)}
        site.feel(2, Mood.NAN)
        eventually(lambda: traffic.answers()[-1].wrong, "a wrong answer")
        site.triton.kill()
        eventually(lambda: traffic.answers()[-1].failed, "a failure")
        site.triton.start()
        eventually(lambda: not traffic.answers()[-1].failed, "an answer again")
    finally:
        traffic.stop()


def test_the_faults_are_listed() -> None:
    done = here("demo", "--fault", "list")
    assert done.returncode == 0
    assert [line.split()[0] for line in done.stdout.splitlines()] == list(FAULTS)


def test_a_fault_that_there_is_not_is_a_wrong_call() -> None:
    done = here("demo", "--fault", "earthquake")
    assert done.returncode == 2
    assert "--fault earthquake: there are zeros, " in done.stderr


@pytest.mark.parametrize("kind", ["a file", "a full folder"])
def test_a_folder_that_is_in_use_is_left_alone(site: Site, tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "mine"
    if kind == "a file":
        folder.write_text("x")
    else:
        folder.mkdir()
        (folder / "x").write_text("x")
    done = watchdog("demo", "--folder", folder)
    assert (done.returncode, done.stdout) == (3, "")
    assert f"--folder {folder}: is not an empty folder" in done.stderr
