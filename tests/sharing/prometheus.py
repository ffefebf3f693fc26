"""A real Prometheus with the samples that a test gives it."""

import json
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from watchdog.demo.prometheus import Prometheus

MISSING = [name for name in ("prometheus", "promtool") if shutil.which(name) is None]
FAULT = "watchdog_engine_fault"


def exposition(samples: Mapping[tuple[str, str], tuple[float, float]], now: float) -> str:
    """OpenMetrics text of (model, watchdog) → (value, age in seconds)."""
    lines = [f"# TYPE {FAULT} gauge"]
    for (model, instance), (value, age_s) in samples.items():
        labels = f"model={json.dumps(model)},instance={json.dumps(instance)}"
        lines.append(f"{FAULT}{{{labels}}} {value} {now - age_s:.3f}")
    return "\n".join([*lines, "# EOF", ""])


@contextmanager
def prometheus(work: Path, text: str) -> Iterator[str]:
    """The URL of one that holds `text` and scrapes nothing."""
    (work / "samples.txt").write_text(text)
    subprocess.run(
        ["promtool", "tsdb", "create-blocks-from", "openmetrics", work / "samples.txt", work / "data"],
        check=True,
        capture_output=True,
    )
    with Prometheus(work, []) as running:
        yield running.url
