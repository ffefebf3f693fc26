"""That the measurement runs, and that its figures mean what they say; never how fast this machine is."""

import json
import math
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from bench.interference import (
    QUESTIONS,
    Loop,
    Outcome,
    Ratio,
    Sample,
    p99_s,
    per_s,
    ratio,
    send_when_due,
    send_with_pauses,
)
from watchdog.demo import triton

ROOT = Path(__file__).parents[2]
KEYS = {"p99_ratio", "throughput_ratio"}
FIGURES = KEYS | {f"{key}_free_model" for key in KEYS}


@pytest.mark.triton
@pytest.mark.system
@pytest.mark.skipif(triton.available() is not None, reason="no Triton here")
def test_a_quick_run_measures_everything(tmp_path: Path) -> None:
    out = tmp_path / "results" / "interference.json"
    command = [sys.executable, "-m", "bench.interference", "--quick", "--out", str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stderr
    figures = json.loads(out.read_text())
    assert set(figures) >= {*FIGURES, "payloads", "raw", "date", "machine", "versions", "quick"}
    assert all(math.isfinite(figures[name]) and figures[name] > 0 for name in FIGURES)
    for found in figures["raw"].values():
        for loop in Loop:
            sides = [one[side] for one in found[loop]["rounds"] for side in ("probed", "alone")]
            assert len(sides) == 4
            assert all(block["requests"] > 0 for blocks in sides for block in blocks)
            assert found[loop]["outcome"] in set(Outcome)
            blocks = [block for side in sides[:2] for block in side]
            assert len({block["requests"] for block in blocks}) == 1  # the same random times in all of a round
    assert "probed ÷ alone" in done.stdout
    assert not done.stderr  # the progress bar is for terminals


def test_a_stall_counts_for_all_that_were_due_in_it() -> None:
    latencies = send_when_due(np.array([0.0, 0.01, 0.02]), [lambda: time.sleep(0.05)])
    assert (latencies >= [0.05, 0.09, 0.13]).all()


def test_another_connection_takes_what_is_due_while_the_first_one_waits() -> None:
    second, seen = threading.Event(), []
    send_when_due(np.array([0.0, 0.01]), [lambda: seen.append(second.wait(30)), second.set])
    assert seen == [True]


def test_a_pause_is_part_of_the_time_from_request_to_request_but_not_of_latency() -> None:
    (latency, cycle), (_, again) = send_with_pauses(lambda: time.sleep(0.01), np.array([0.05, 0.0]))
    assert latency >= 0.01
    assert cycle >= latency + 0.05
    assert again >= 0.01


def test_one_request_that_fails_ends_the_measurement() -> None:
    def refuse() -> None:
        raise ConnectionError

    with pytest.raises(ConnectionError):
        send_when_due(np.zeros(3), [refuse, lambda: None])


def block(*latencies_s: float, rate: float = 1.0) -> Sample:
    return Sample(latencies_s=np.array(latencies_s), per_s=rate)


def test_latencies_are_pooled_and_rates_averaged() -> None:
    many, few = block(*[1.0] * 199), block(9.0, rate=3.0)
    assert p99_s([many, few]) == 1.0  # a mean of the blocks' own would be 5
    assert per_s([many, few]) == 2.0


def test_what_drifts_for_both_sides_alike_is_no_effect() -> None:
    pairs = [([block(1.1 * slow)], [block(1.0 * slow)]) for slow in (1.0, 1.0, 2.0)]
    found = ratio(p99_s, pairs)
    assert (found.point, found.low, found.high) == pytest.approx((1.1, 1.1, 1.1))


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(60):
        rates = rng.normal(100, 3, (12, 2))
        found = ratio(per_s, [([block(rate=a)], [block(rate=b)]) for a, b in rates.tolist()])
        covered += found.low <= 1 <= found.high
        assert found.low < found.point < found.high
    assert 50 <= covered <= 60


@pytest.mark.parametrize(
    ("loop", "low", "high", "outcome"),
    [
        (Loop.OPEN, 0.97, 1.01, Outcome.MET),
        (Loop.OPEN, 0.97, 1.02, Outcome.UNDECIDED),
        (Loop.OPEN, 1.01, 1.02, Outcome.UNDECIDED),
        (Loop.OPEN, 1.02, 1.05, Outcome.MISSED),
        (Loop.CLOSED, 0.99, 1.02, Outcome.MET),
        (Loop.CLOSED, 0.98, 1.02, Outcome.UNDECIDED),
        (Loop.CLOSED, 0.98, 0.99, Outcome.UNDECIDED),
        (Loop.CLOSED, 0.95, 0.98, Outcome.MISSED),
    ],
)
def test_an_aim_is_decided_only_outside_the_noise(loop: Loop, low: float, high: float, outcome: Outcome) -> None:
    assert QUESTIONS[loop].outcome(Ratio(point=(low + high) / 2, low=low, high=high)) is outcome
