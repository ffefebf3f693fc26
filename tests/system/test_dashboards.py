"""Every query of every dashboard, asked of a real Prometheus that scraped a watchdog while real faults happened."""

import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from dashboards.build import HERE, PAGES
from tests.gpu.fake_nvml import COMPILER, GIB, FakeNvml, compiled, gpu
from watchdog.demo.prometheus import Prometheus
from watchdog.demo.rules import scaled, shipped_rules
from watchdog.demo.stage import SCALE
from watchdog.demo.triton import available
from watchdog.grafana.rules import managed

_MISSING = available()
pytestmark = [
    pytest.mark.system,
    pytest.mark.triton,
    pytest.mark.timeout(400),
    pytest.mark.skipif(_MISSING is not None, reason=str(_MISSING)),
    pytest.mark.skipif(shutil.which("prometheus") is None, reason="prometheus is not on PATH"),
    pytest.mark.skipif(COMPILER is None, reason="needs a C compiler for the fake NVML"),
]

FAULTS = ("collapse", "other-patients")
"""One that ends in a switch, and one that live answers show."""
EMPTY = {
    "watchdog_heartbeats_total": "the demonstration has no dead-man's switch",
    "watchdog_latency_objective_": "it has no latency objectives",
    "watchdog:latency_misses:": "it has no latency objectives",
    "watchdog_route_leader": "its route is not shared",
    "watchdog_probe_part_seconds": "it takes in no servers' traces",
    "watchdog_server_cache_hit_ratio": "its Triton has no response cache",
    "watchdog_channel_oldest_pending_timestamp_seconds": "its channel takes notices at once",
    "watchdog_drift_ignored_total": "nothing is set aside there",
    "watchdog_gpu_memory_growth_bytes_per_hour": "a trend is told after far longer than a run takes",
    "watchdog_gpu_memory_leaking": "a trend is told after far longer than a run takes",
}
"""Metrics that can have no data in these runs, and why."""
_STEP_S, _PATIENCE_S = 1, 150
_INTERVALS = {"$__rate_interval": "5s", "$__range": "60s", "${datasource}": "any"}


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One query of a dashboard."""

    page: str
    title: str
    expr: str

    def __str__(self) -> str:
        return f"{self.page}: {self.title}"


@dataclass(frozen=True, kw_only=True)
class Run:
    """What a run has left: a Prometheus with its data, and when it was."""

    prometheus: Prometheus
    start: float
    end: float

    def values(self, expr: str) -> list[float]:
        """Every number that a query gives over the run."""
        found = self.prometheus.ask("query_range", query=expr, start=self.start, end=self.end, step=_STEP_S)["result"]
        return [number for series in found for _, text in series["values"] if not math.isnan(number := float(text))]

    def labels(self, query: str) -> list[str]:
        """The values of a variable: ``label_values(metric{…}, label)``."""
        found = re.fullmatch(r"label_values\((.+), (\w+)\)", query)
        assert found is not None, query
        series = self.prometheus.ask("series", **{"match[]": found[1]}, start=self.start, end=self.end)
        return sorted({one[found[2]] for one in series if found[2] in one})


def _document(page: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((HERE / f"{page}.json").read_text(encoding="utf-8"))
    return found


def _queries() -> Iterator[Asked]:
    for page in PAGES:
        document = _document(page.name)
        for panel in document["panels"]:
            for target in panel.get("targets", ()):
                yield Asked(page=page.name, title=panel["title"], expr=target["expr"])
        for annotation in document["annotations"]["list"]:
            yield Asked(page=page.name, title=annotation["name"], expr=annotation["expr"])


def _filled(expr: str, values: Mapping[str, str]) -> str:
    """As Grafana does before it asks: intervals, and what was chosen."""
    for name, value in (*_INTERVALS.items(), *((f"${name}", value) for name, value in values.items())):
        expr = expr.replace(name, value)
    assert "$" not in expr, expr
    return expr


def _chosen(run: Run, page: str) -> dict[str, str]:
    """Everything where several can be chosen, else the first; a variable may depend on those before it."""
    chosen: dict[str, str] = {}
    for variable in _document(page)["templating"]["list"]:
        if variable["type"] == "query":
            offered = run.labels(_filled(variable["query"]["query"], chosen))
            assert offered, f"{page}: ${variable['name']} offers nothing"
            chosen[variable["name"]] = ".*" if variable["multi"] else offered[0]
    return chosen


def _play(fault: str, work: Path) -> Run:
    """The demonstration with GPUs beside it of which one is throttled, leaks and has errors, and one is divided."""
    library = work / "library"
    library.mkdir(parents=True)
    compiled(library)
    nvml = FakeNvml(work / "nvml")
    nvml.play()
    command = [sys.executable, "-m", "watchdog", "demo", "--fault", fault, "--folder", str(work / "play"), "--stay"]
    environment = os.environ | {"LD_LIBRARY_PATH": str(library), "FAKE_NVML": str(nvml.state)}
    start, told = time.time(), work / "story"
    with told.open("wb") as story, subprocess.Popen(command, env=environment, stdout=story, stderr=story) as demo:
        try:
            for second in range(_PATIENCE_S):
                used = (30 + second) * GIB // 4
                nvml.play(
                    *gpu("GPU-1", reasons=4, used=used),
                    f"process GPU-1 {demo.pid} {used} 0 0 compute",
                    *gpu("GPU-2", mig=1),
                    f"mig GPU-2 MIG-1 1 0 {20 * GIB} {5 * GIB}",
                    *["xid GPU-1 31"] * second,
                )
                if _has_measured(told.read_text(encoding="utf-8")):
                    break
                with suppress(subprocess.TimeoutExpired):
                    demo.wait(_STEP_S)
                    pytest.fail(f"the demonstration ended early:\n{told.read_text(encoding='utf-8')}")
            else:
                pytest.fail(f"not within {_PATIENCE_S} s:\n{told.read_text(encoding='utf-8')}")
        finally:
            demo.send_signal(signal.SIGINT)
    return Run(prometheus=Prometheus(work / "play" / "prometheus", []), start=start, end=time.time())


def _has_measured(story: str) -> bool:
    """Whether the story has come to its end, and the server's own counts, which are read more rarely, twice."""
    found = re.search(r"Prometheus (http://\S+)/\s", story)
    if found is None or "Ctrl-C ends it" not in story:
        return False
    query = "count(increase(watchdog_probe_device_seconds_count[1m]) > 0)"
    with urllib.request.urlopen(f"{found[1]}/api/v1/query?{urllib.parse.urlencode({'query': query})}") as answer:
        return bool(json.load(answer)["data"]["result"])


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Run]]:
    played = [_play(fault, tmp_path_factory.mktemp(fault)) for fault in FAULTS]
    try:
        for run in played:
            run.prometheus.start()
        yield played
    finally:
        for run in played:
            run.prometheus.stop()


@pytest.mark.parametrize("asked", list(_queries()), ids=str)
def test_a_query_has_data(runs: list[Run], asked: Asked) -> None:
    values = [value for run in runs for value in run.values(_filled(asked.expr, _chosen(run, asked.page)))]
    reason = next((reason for metric, reason in EMPTY.items() if metric in asked.expr), None)
    if not values and reason is not None:
        pytest.skip(reason)
    assert values, asked.expr


def test_rules_for_grafana_say_what_the_shipped_rules_say(runs: list[Run]) -> None:
    plain = scaled(shipped_rules(), SCALE)
    for run in runs:
        told = {name.partition(" ")[0] for name, expr in _managed(plain) if run.values(expr)}
        assert told == set(run.labels("label_values(ALERTS, alertname)"))


def _managed(plain: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for rule in managed(plain, folder_uid="any", datasource_uid="any"):
        yield rule["title"], rule["data"][0]["model"]["expr"]
