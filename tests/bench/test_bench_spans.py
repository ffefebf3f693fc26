"""That the measurement runs and says something; never how fast this machine is."""

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.system
ROOT = Path(__file__).parents[2]
FIGURES = {"core_share_json", "core_share_protobuf", "naive_ratio"}


def test_a_quick_run_measures_everything(tmp_path: Path) -> None:
    out = tmp_path / "results" / "spans.json"
    command = [sys.executable, "-m", "bench.spans", "--quick", "--out", str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stderr
    figures = json.loads(out.read_text())
    assert set(figures) >= {*FIGURES, "body_bytes", "raw", "date", "machine", "versions", "quick"}
    assert all(math.isfinite(figures[name]) and figures[name] > 0 for name in FIGURES)
    assert all(cost["rss_after_mib"] > 0 for cost in figures["raw"].values())
    assert "naive ÷ intake" in done.stdout
    assert not done.stderr
