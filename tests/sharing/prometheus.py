"""A real Prometheus with the samples that a test gives it."""

import json
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

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
    (work / "prometheus.yml").write_text("{}")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    arguments = [
        "prometheus",
        f"--config.file={work / 'prometheus.yml'}",
        f"--storage.tsdb.path={work / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with (work / "log").open("wb") as log:
        process = subprocess.Popen(arguments, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        url = f"http://127.0.0.1:{port}"
        _await_ready(process, url, work / "log")
        yield url
    finally:
        process.kill()
        process.wait()


def _await_ready(process: "subprocess.Popen[bytes]", url: str, log: Path) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            with urllib.request.urlopen(f"{url}/-/ready", timeout=2):
                return
        except OSError:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.02)
