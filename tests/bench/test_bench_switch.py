"""That the measurement runs, and that its figures mean what they say; never how fast this machine is."""

import json
import math
import subprocess
import sys
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock, Thread
from typing import Any, ClassVar

import pytest

from bench import gateways, stock
from bench.crowd import Answer, Crowd
from bench.patience import until
from bench.switch import AIMS, Aim, Repetition, Tally, figures_of, repetition, tally
from watchdog.demo import triton

ROOT = Path(__file__).parents[2]
FAULT, BACK = 1000.0, 1003.0


def answer(sent_at: float, version: str, *, wrong: bool = False, took_s: float = 0.01) -> Answer:
    return Answer(sent_at=FAULT + sent_at, at=FAULT + sent_at + took_s, version=version, wrong=wrong)


def ended(answers: list[Answer], **marks_at: float) -> Repetition:
    at = {name: FAULT + seconds for name, seconds in marks_at.items()}
    calm = [{"total_ms": 4.0}, {"total_ms": 6.0}]
    return repetition(at, FAULT, BACK, sorted(answers, key=lambda one: one.at), calm)


def test_marks_are_seconds_from_the_fault() -> None:
    answers = [answer(-1, "2"), answer(0.5, "2", wrong=True), answer(0.9, "1"), answer(1.5, "1"), answer(3.5, "2")]
    found = ended(answers, failed_probe=0.4, proven=1.0)
    assert found.marks == pytest.approx({"failed_probe": 0.4, "proven": 1.0, "right": 0.91, "last_wrong": 0.51})
    assert found.round_trips_s == [0.004, 0.006]


def test_the_way_back_is_counted_by_itself() -> None:
    found = ended([answer(-1, "2"), answer(1, "1"), answer(2, ""), answer(3, ""), answer(4, "2")], proven=1.0)
    assert found.there == Tally(requests=3, failed=1, wrong=0)
    assert found.back == Tally(requests=2, failed=1, wrong=0)


def test_a_fault_that_reached_nobody_lasted_for_no_time() -> None:
    assert ended([answer(-1, "2"), answer(1, "1")], proven=1.0).marks["last_wrong"] == 0


def test_what_was_seen_before_the_fault_is_something_else() -> None:
    with pytest.raises(ValueError, match="failed_probe came before the fault"):
        ended([answer(1, "1")], failed_probe=-0.1, proven=1.0)


def test_failures_are_not_wrong_answers() -> None:
    answers = [answer(0, ""), answer(0, "2", wrong=True), answer(0, "2", wrong=True), answer(0, "1")]
    assert tally(answers) == Tally(requests=4, failed=1, wrong=2)


def own(**marks: float) -> Repetition:
    usual = {"failed_probe": 0.5, "confirmed": 0.52, "applied": 0.53, "proven": 0.55, "right": 0.53, "last_wrong": 0.53}
    return told(usual | marks)


def other(**marks: float) -> Repetition:
    usual = {"failed_probe": 0.5, "scraped": 1.0, "received": 1.4, "applied": 1.45, "right": 1.5, "last_wrong": 1.5}
    return told(usual | marks)


def told(marks: Mapping[str, float], failed: int = 0, late: int = 0) -> Repetition:
    there, back = Tally(requests=100, failed=failed, wrong=9), Tally(requests=50, failed=0, wrong=0)
    return Repetition(marks=marks, there=there, back=back, late=late, round_trips_s=[0.01])


def test_both_are_compared_from_the_same_moment() -> None:
    row = figures_of("triton", [own()], [other()])
    assert row["times_faster"] == pytest.approx(1.5 / 0.55)
    assert row["times_faster_from_probe"] == pytest.approx((1.5 - 0.5) / 0.05)
    assert row["times_faster_from_scrape"] == pytest.approx((1.5 - 1.0) / 0.05)
    assert row["round_trips"] == pytest.approx(0.05 / 0.01)


def test_times_are_medians_of_differences_and_requests_are_sums() -> None:
    row = figures_of("triton", [own(), own(failed_probe=0.1, proven=0.2), own(failed_probe=0.9, proven=5.0)], [other()])
    assert row["proven_s"] == pytest.approx(0.1)  # of 0.05, 0.1 and 4.1
    assert row["proven_from_fault_s"] == pytest.approx(0.55)
    assert (row["requests"], row["back_requests"], row["prometheus_requests"]) == (300, 150, 150)


def met(row: Mapping[str, Any]) -> set[str]:
    return {key for key, aim in row["aims"].items() if aim["met"]}


def test_aims_are_judged_by_the_figures() -> None:
    every = {aim.key for aim in AIMS}
    assert met(figures_of("triton", [own()], [other()])) == every - {"times_faster"}
    assert met(figures_of("triton", [own()], [other(right=5.5)])) == every
    assert "failed_requests" not in met(figures_of("triton", [told(own().marks, failed=1)], [other()]))
    assert "wrong_after_proof" not in met(figures_of("triton", [told(own().marks, late=1)], [other()]))
    assert "round_trips" not in met(figures_of("triton", [own(proven=0.61)], [other()]))


def test_a_request_that_was_under_way_at_the_proof_is_not_held_against_it() -> None:
    slow = [answer(0.9, "2", wrong=True, took_s=1.0), answer(0.95, "1")]
    assert ended(slow, applied=0.8, proven=1.0).late == 0
    assert ended([*slow, answer(1.1, "2", wrong=True)], applied=0.8, proven=1.0).late == 1


@pytest.mark.parametrize(("found", "at_most", "is_met"), [(10, True, True), (11, True, False), (10, False, True)])
def test_a_limit_itself_is_met(found: float, at_most: bool, is_met: bool) -> None:
    assert Aim(key="x", limit=10, at_most=at_most).met({"x": found}) is is_met


class Engine(BaseHTTPRequestHandler):
    """Answers as Triton does: zeros first, then rightly, then not at all."""

    protocol_version = "HTTP/1.1"
    asked: ClassVar[list[None]] = []
    counting = Lock()

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        with self.counting:
            self.asked.append(None)
            number = len(self.asked)
        answer = {"model_version": "2" if number <= 8 else "1", "outputs": [{"data": [0 if number <= 8 else 0.7]}]}
        body = json.dumps(answer).encode()
        self.send_response(200 if number <= 16 else 503)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def engine() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Engine) as server:
        server.daemon_threads = True
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()


def test_clients_tell_right_wrong_and_failed_answers_apart(engine: str) -> None:
    with Crowd() as crowd:
        for _ in range(2):  # the same process serves again and again
            Engine.asked.clear()
            with crowd.sending(engine, "/v2/models/lung/infer") as answers:
                until(lambda: len(Engine.asked) > 20, "requests")
            found = tally(answers)
            assert found.wrong == 8
            assert sum(one.version == "1" and not one.wrong for one in answers) == 8
            assert found.failed == found.requests - 16 > 0
            assert [one.at for one in answers] == sorted(one.at for one in answers)
            assert all(one.sent_at <= one.at for one in answers)


def test_an_example_that_has_changed_is_noticed() -> None:
    assert gateways.changed("bind :8000", {":8000": ":1"}) == "bind :1"
    with pytest.raises(ValueError, match=r"no longer has ':9000'"):
        gateways.changed("bind :8000", {":9000": ":1"})


MISSING = triton.available() or stock.available()


@pytest.mark.triton
@pytest.mark.system
@pytest.mark.skipif(MISSING is not None, reason=str(MISSING))
def test_a_quick_run_measures_every_router(tmp_path: Path) -> None:
    out = tmp_path / "results" / "switch.json"
    command = [sys.executable, "-m", "bench.switch", "--quick", "--out", str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=115, check=False)
    assert done.returncode == 0, done.stderr
    figures = json.loads(out.read_text())
    assert figures["quick"]
    rows = {row["router"]: row for row in figures["routers"]}
    assert {*rows, *figures["not_measured"]} == {kind.name for kind in gateways.KINDS}
    assert "triton" in rows
    for row in rows.values():
        assert row["failed_requests"] == row["back_failed_requests"] == row["wrong_after_proof"] == 0
        assert row["requests"] > 0
        assert row["back_requests"] > 0
        numbers = [value for value in row.values() if isinstance(value, float)]
        assert all(math.isfinite(number) and number > 0 for number in numbers)
        (mine,), (theirs,) = row["raw"]["watchdog"], row["raw"]["prometheus"]
        for one, order in (
            (mine, ("failed_probe", "confirmed", "applied", "proven")),
            (theirs, ("failed_probe", "received", "applied")),
        ):
            steps = [one["marks"][step] for step in order]
            assert steps == sorted(steps)
            assert one["there"]["wrong"] > 0  # the fault was real
        assert theirs["marks"]["scraped"] < theirs["marks"]["received"]
    assert "fault → first right answer" in done.stdout
    assert not done.stderr  # the progress bar is for terminals
