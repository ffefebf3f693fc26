"""That the measurements run and say something; never how fast this machine is."""

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

from watchdog.demo import triton

pytestmark = [pytest.mark.triton, pytest.mark.system]
ROOT = Path(__file__).parents[2]
FIGURES = {
    "ratio_to_bare_client",
    "ratio_to_bare_client_free_model",
    "rss_mib",
    "rss_mib_free_model",
    "ready_s",
    "idle_cpu_ratio",
}


@pytest.mark.skipif(triton.available() is not None, reason="no Triton here")
def test_a_quick_run_measures_everything(tmp_path: Path) -> None:
    out = tmp_path / "results" / "cycle.json"
    command = [sys.executable, "-m", "bench.cycle", "--quick", "--out", str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stderr
    figures = json.loads(out.read_text())
    assert set(figures) >= {*FIGURES, "payloads", "raw", "date", "machine", "versions", "quick"}
    assert all(math.isfinite(figures[name]) and figures[name] > 0 for name in FIGURES)
    assert figures["quick"]
    assert figures["machine"]["cores"] >= 1
    assert "cycle ÷ bare client" in done.stdout
    assert not done.stderr  # the progress bar is for terminals
