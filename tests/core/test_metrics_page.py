"""The page of metrics is the code's own table, and every limit that it names is a metric, too."""

import runpy
from pathlib import Path
from typing import Any

from watchdog.telemetry.declared import DECLARED

DOCS = Path(__file__).parents[2] / "docs"
SCRIPT: dict[str, Any] = runpy.run_path(str(DOCS / "metrics_doc.py"))


def test_the_page_is_as_its_script_writes_it() -> None:
    text = (DOCS / "metrics.md").read_text(encoding="utf-8")
    assert SCRIPT["page"](text) == text, "run: python docs/metrics_doc.py"


def test_limits_are_metrics_with_labels_that_their_metric_has() -> None:
    declared = {row.name: row for row in DECLARED}
    assert len(declared) == len(DECLARED)
    for row in DECLARED:
        if row.limit:
            assert set(declared[row.limit].labels) <= set(row.labels), row.name
