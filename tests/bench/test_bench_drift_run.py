"""That a run writes what was agreed, and that the page and its plots follow from it alone."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.drift import aims, classifier, figures, pairs, report, studies
from bench.drift.figures import Beside, Measured, Row
from bench.drift.measure import Delays, Quiet
from bench.drift.oracle import Oracle
from bench.drift.streams import BIMODAL
from bench.drift.subject import Cost
from bench.drift.tasks import Case

ROOT = Path(__file__).parents[2]
KEYS = {
    "detector",
    "stream",
    "change",
    "arl_promised",
    "quiet_observations",
    "quiet_alarms",
    "delay_median",
    "delay_p95",
    "missed",
    "oracle_median",
    "us_per_observation",
    "kib",
    "oracle_p95",
    "reference",
    "runs",
    "seed",
}


def _measured(detector: str, found: list[int], missed: int) -> Measured:
    delays = Delays(found=np.array(found), missed=missed, bound=1_000, run_in=Quiet())
    return Measured(
        case=Case(detector=detector, stream="bimodal", size=1_000, threshold=None),
        quiet=Quiet(observations=10_000, alarms=len(found)),
        delays=dict.fromkeys(BIMODAL.changes, delays),
        cost=Cost(us_per_observation=1.25, kib=3.5),
    )


ORACLES = {
    ("bimodal", change): Oracle(delays=np.array([10]), threshold=15.0, aims_at=change, divergence=0.1)
    for change in BIMODAL.changes
}
MEASURED = [_measured("KS(100) p < 0.01", [20, 40, 60], 0), _measured("river ADWIN", [], 3)]


def test_rows_have_the_agreed_keys() -> None:
    rows = figures.rows(MEASURED, ORACLES, seed=4)
    assert all(set(row) == KEYS for row in rows)
    assert len(rows) == 2 * len(BIMODAL.changes)
    assert (rows[0]["delay_median"], rows[0]["oracle_median"], rows[0]["missed"]) == (40.0, 10.0, 0)
    assert (rows[-1]["delay_median"], rows[-1]["delay_p95"], rows[-1]["missed"]) == (None, None, 3)
    json.dumps(rows)


BESIDE = [
    Beside(
        detector="watchdog canaries",
        stream=pairs.STREAM,
        reference=160,
        quiet=Quiet(observations=2_000_000, alarms=0),
        delays={
            "zero": Delays(found=np.array([1, 2, 2]), missed=0, bound=1_000, run_in=Quiet()),
            "corrupted-weight": Delays(found=np.array([4, 5]), missed=1, bound=1_000, run_in=Quiet()),
        },
        cost=Cost(us_per_observation=30.0, kib=100.0),
    ),
    Beside(
        detector="watchdog, studies",
        stream=studies.STREAM,
        reference=1_000,
        quiet=Quiet(observations=5_000, alarms=2),
        delays={},
        cost=Cost(us_per_observation=40.0, kib=300.0),
    ),
]


def test_what_has_no_oracle_has_the_same_keys() -> None:
    rows = figures.rows_beside(BESIDE, seed=4)
    assert all(set(row) == KEYS for row in rows)
    assert [(row["change"], row["delay_median"], row["missed"], row["runs"]) for row in rows] == [
        ("zero", 2.0, 0, 3),
        ("corrupted-weight", 4.5, 1, 3),
        ("none", None, 0, 0),
    ]
    assert all(row["oracle_median"] is None and row["arl_promised"] == 3e7 for row in rows)
    json.dumps(rows)


def test_the_summary_counts_missed_changes_at_their_bound() -> None:
    found, missed = figures.summary(MEASURED, ORACLES)
    assert (found["ratio_to_oracle"], missed["ratio_to_oracle"]) == (4.0, 100.0)
    assert set(found["ratios"]["bimodal"]) == {name for name, change in BIMODAL.changes.items() if change.finite}


def _about() -> Row:
    return {
        "summary": figures.summary(MEASURED, ORACLES),
        "frontier": [{"arl": 1e5, "ratio_to_oracle": 0.7}],
        "ours": ["river ADWIN"],
        "quick": True,
        "seed": 4,
        "date": "2026-01-02T03:04:05+00:00",
        "plan": {"runs": 3, "quiet_streams": 5, "quiet_length": 2_000, "long_quiet": [7, 9_000]},
        "oracle": figures.oracle_rows(ORACLES),
        "minutes": 3.2,
        "at_bound": figures.at_bound(BESIDE),
        "machine": {"python": "3.11", "cores": 2},
        "versions": {"numpy": "2.4"},
    }


def test_the_page_and_its_plots_are_the_same_bytes_again(tmp_path: Path) -> None:
    data, summary = tmp_path / "drift.json", tmp_path / "drift-summary.json"
    data.write_text(json.dumps(figures.rows(MEASURED, ORACLES, seed=4) + figures.rows_beside(BESIDE, seed=4)))
    summary.write_text(json.dumps(_about()))
    report.write(data, summary, tmp_path / "once")
    report.write(data, summary, tmp_path / "again")
    for name in ("drift-benchmark.md", "drift-delays.svg", "drift-run.svg"):
        assert (tmp_path / "once" / name).read_bytes() == (tmp_path / "again" / name).read_bytes()
    page = (tmp_path / "once" / "drift-benchmark.md").read_text()
    assert "these figures mean little" in page
    assert "| bias-1 | 10 / 10 | 40 / 58 (4×) | missed |" in page
    assert "**river ADWIN**" in page
    assert "| *the oracle* | knows all | 10⁵ | 10⁵ | 0.70 |" in page
    assert "| corrupted-weight | 4 / 5, missed 1 of 3 |" in page
    assert "| watchdog, studies | 2 | 5,000 |" in page
    assert "7 references with 9,000 observations each" in page
    assert "KS(100)" in (tmp_path / "once" / "drift-run.svg").read_text()


def _judged(rows: list[Row], about: Row) -> dict[str, Any]:
    return {one.aim.what: ([*one.found.values()], one.verdict) for one in aims.judge(rows, about)}


def test_aims_are_judged_wherever_they_were_measured_and_nowhere_else() -> None:
    ours = [_measured("watchdog", [2, 3, 3], 0), _measured("watchdog", [20, 40], 1)]
    ours[0] = replace(ours[0], case=replace(ours[0].case, size=10_000))
    rows = figures.rows(ours, ORACLES, seed=4)
    about = _about() | {"summary": figures.summary(ours, ORACLES)}
    judged = _judged(rows, about)
    assert judged["Temperature 2"] == ([0.3], "reached")
    assert judged["All-zero and stuck, p95"] == ([3.0, 3.0], "reached")
    assert judged["INT8 clipping"] == ([], "not measured")
    missed = "Reference 1,000: missed runs of changes whose divergence is above log(3·10⁷) / 1,000"
    assert judged[missed] == ([len(BIMODAL.changes)], "missed")
    assert judged["False alarms in 10⁹ observations"][1] == "missed"
    assert judged["Time for an observation"] == ([1.25, 1.25], "reached")
    assert judged["False alarms in 10⁶ canary probes"] == ([], "not measured")

    late = [row | {"delay_p95": 4.0} if row["change"] == "stuck" else row for row in rows]
    assert _judged(late, about)["All-zero and stuck, p95"][1] == "missed: stuck on bimodal"
    few = [row | {"quiet_alarms": 0} for row in rows]
    assert _judged(few, about)["False alarms in 10⁹ observations"][1] == "too few observations to tell"


def test_aims_of_canaries_count_probes_and_what_was_missed_at_the_bound() -> None:
    judged = _judged(figures.rows_beside(BESIDE, seed=4), _about())
    assert judged["False alarms in 10⁶ canary probes"] == ([0], "reached")
    assert judged["Canaries: zero, stuck, temperature, bias, median"] == ([2.0], "reached")
    assert judged["Canaries: a corrupted weight, median"] == ([5.0], "reached")


def test_cells_say_what_was_missed_and_what_never_came_to_a_change() -> None:
    row = {"runs": 5, "missed": 2, "delay_median": 30.0, "delay_p95": 60.0, "oracle_median": 20.0}
    assert report._cell(row) == "30 / 60 (1.5×), missed 2 of 5"
    assert report._cell(row | {"runs": 0}) == "false alarms only"


@pytest.mark.system
def test_a_quick_run_measures_everything_of_one_detector(tmp_path: Path) -> None:
    out = tmp_path / "results" / "drift.json"
    chosen = ["--only", "mean CUSUM 5 σ", "--streams", "bimodal", "--out", str(out)]
    command = [sys.executable, "-m", "bench.drift.run", "--quick", *chosen]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stderr
    rows = json.loads(out.read_text())
    assert all(set(row) == KEYS for row in rows)
    assert {(row["change"], row["reference"]) for row in rows} == {
        (change, size) for change in BIMODAL.changes for size in (1_000, 10_000)
    }
    about = json.loads(out.with_name("drift-summary.json").read_text())
    assert about["quick"]
    assert {"summary", "oracle", "frontier", "ours", "seed", "plan", "date", "machine", "versions"} <= set(about)
    assert sum(about["seconds"].values()) <= 60 * (about["minutes"] + 0.1)
    assert not done.stderr  # the progress bar is for terminals


def test_the_classifier_is_unsure_and_its_faults_have_densities(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(classifier, "_FOLDER", tmp_path)
    monkeypatch.setattr(classifier, "_HEALTHY", 100_000)
    monkeypatch.setattr(classifier, "_FAULTY", 100_000)
    for cached in (classifier._banks, classifier._histogram_of, classifier._tempered_bank):
        cached.cache_clear()
    rng = np.random.default_rng(1)
    x = classifier.DIGITS.healthy(rng, (100_000,))
    assert 0.1 < x.min() < 0.4
    assert (x < 1.0).all()
    assert len(np.unique(x)) > 0.95 * len(x)
    for change in classifier.DIGITS.changes.values():
        if change.finite:
            assert np.exp(classifier.DIGITS.llr(change, x)).mean() == pytest.approx(1.0, abs=0.05)
    for name, divergence in (("mild", 0.03), ("int8-clipping", 0.05)):
        change = classifier.DIGITS.changes[name]
        drifted = classifier.DIGITS.changed(change, rng, (100_000,))
        assert classifier.DIGITS.llr(change, drifted).mean() == pytest.approx(divergence, rel=0.3)
    for cached in (classifier._banks, classifier._histogram_of, classifier._tempered_bank):
        cached.cache_clear()


def test_the_network_of_the_pairs_is_the_one_of_the_banks() -> None:
    known, again = classifier.learnt(), classifier._learn(np.random.default_rng(classifier._SEED))
    assert np.array_equal(known.network.weights[0], again.network.weights[0])
    assert known.step == again.step
    assert set(known.labels) == set(range(10))
