"""The demonstration, whole: every fault on a real Triton, as a person or a script runs it."""

import json
import subprocess
import sys

import pytest

from watchdog.demo.outcome import EXPECTED
from watchdog.demo.triton import available

MISSING = available()
pytestmark = [pytest.mark.system, pytest.mark.triton, pytest.mark.skipif(MISSING is not None, reason=str(MISSING))]

FAULTS = (
    "zeros",
    "nan",
    "collapse",
    "int8",
    "latency",
    "hang",
    "wrong-version",
    "both-wrong",
    "server-down",
    "temperature",
    "one-vendor",
    "other-patients",
    "none",
)
KEYS = {
    "fault",
    "injected_at",
    "detected_at",
    "confirmed_at",
    "switched_at",
    "proven_at",
    "verdict",
    "reason",
    "route",
    "ordinary_requests",
    "ordinary_failures",
    "right",
}


def test_every_fault_is_played() -> None:
    assert set(FAULTS) == set(EXPECTED)


@pytest.mark.timeout(180)
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_found_told_and_answered_rightly(fault: str) -> None:
    command = [sys.executable, "-m", "watchdog", "demo", "--fault", fault, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=170, check=False)
    story = f"{done.stdout}\n{done.stderr}"
    assert done.returncode == 0, story
    seen, expected = json.loads(done.stdout), EXPECTED[fault]

    assert set(seen) >= KEYS, story
    assert (seen["fault"], seen["right"], seen["complaints"]) == (fault, True, []), story
    assert seen["verdict"] == expected.verdict, story
    assert seen["route"] == expected.route, story
    times = [seen[f"{what}_at"] for what in ("injected", "detected", "confirmed", "switched", "proven")]
    happened = 1 if fault == "none" else 5 if expected.switches else 3
    assert [at is not None for at in times] == [True] * happened + [False] * (5 - happened), story
    assert times[:happened] == sorted(times[:happened]), story
    assert seen["ordinary_requests"] > 20, story
    if expected.switches and fault != "hang":
        assert seen["ordinary_failures"] == 0, story
