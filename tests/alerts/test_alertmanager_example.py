"""The example of a configuration: accepted by amtool, routed as intended, and inhibiting in a real Alertmanager."""

import itertools
import json
import re
import runpy
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from watchdog.demo import alertmanager
from watchdog.demo.alertmanager import Alertmanager

ALERTS = Path(__file__).parents[2] / "alerts"
EXAMPLE = ALERTS / "alertmanager.example.yaml"
BUILD: dict[str, Any] = runpy.run_path(str(ALERTS / "build.py"))
SEVERITIES = {
    (rule["alert"], rule["labels"]["severity"])
    for group in BUILD["rules"]()["groups"]
    for rule in group["rules"]
    if "alert" in rule
}
needs_amtool = pytest.mark.skipif(shutil.which("amtool") is None, reason="amtool is not on PATH")
needs_alertmanager = pytest.mark.skipif(alertmanager.available() is not None, reason=str(alertmanager.available()))


def amtool(*arguments: str) -> str:
    done = subprocess.run(["amtool", *arguments], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


@needs_amtool
@pytest.mark.parametrize("path", [EXAMPLE, ALERTS.parent / "examples" / "alertmanager" / "alertmanager.yml"])
def test_amtool_accepts_it(path: Path) -> None:
    assert "SUCCESS" in amtool("check-config", str(path))


@needs_amtool
@pytest.mark.parametrize(("name", "severity"), sorted(SEVERITIES))
def test_what_a_person_must_do_now_pages_and_nothing_else(name: str, severity: str) -> None:
    wanted = {"critical": "pager", "warning": "desk", "none": "dead-mans-switch"}[severity]
    labels = (f"alertname={name}", f"severity={severity}", "model=lung")
    assert amtool("config", "routes", "test", f"--config.file={EXAMPLE}", *labels) == wanted


def test_every_alert_that_it_names_exists() -> None:
    named = set(re.findall(r"Watchdog\w+", EXAMPLE.read_text()))
    assert named - {name for name, _ in SEVERITIES} == set()


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Alertmanager]:
    """One with the example's inhibitions, whose receivers are nobody."""
    work = tmp_path_factory.mktemp("alertmanager")
    config = yaml.safe_load(EXAMPLE.read_text())
    config["receivers"] = [{"name": receiver["name"]} for receiver in config["receivers"]]
    with Alertmanager(work, config=config) as running:
        yield running


CAUSES = [
    ("WatchdogServerDown", "WatchdogBlind", True),
    ("WatchdogEngineRolledBack", "WatchdogConfidenceCollapse", True),
    ("WatchdogEngineFault", "WatchdogAllZero", True),
    ("WatchdogBothEnginesWrong", "WatchdogParity", True),
    ("WatchdogLocked", "WatchdogFlapping", True),
    ("WatchdogConfidenceCollapse", "WatchdogEngineRolledBack", False),
    ("WatchdogDataDrift", "WatchdogConfidencePsi", False),
]


@needs_alertmanager
def test_causes_silence_their_symptoms_on_the_same_model_only(real: Alertmanager) -> None:
    posted = [
        {"alertname": name, "model": model, "severity": "warning"}
        for i, (cause, symptom, _) in enumerate(CAUSES)
        for name, model in ((cause, f"m{i}"), (symptom, f"m{i}"), (symptom, f"other{i}"))
    ]
    post(real, posted)
    wanted = {(symptom, f"m{i}"): silenced for i, (_, symptom, silenced) in enumerate(CAUSES)}
    wanted |= {(symptom, f"other{i}"): False for i, (_, symptom, _) in enumerate(CAUSES)}
    give_up_at = time.monotonic() + 20
    while True:  # inhibition follows the alerts by a moment
        seen = {
            (a["labels"]["alertname"], a["labels"]["model"]): bool(a["status"]["inhibitedBy"]) for a in real.alerts()
        }
        if wanted.items() <= seen.items() or time.monotonic() > give_up_at:
            break
        time.sleep(0.05)
    assert {key: seen.get(key) for key in wanted} == wanted


@needs_alertmanager
def test_both_ways_of_an_alert_are_one(real: Alertmanager) -> None:
    """The rule's alert carries what the pushed one does, so its fingerprint is the same."""
    for generator in ("http://prometheus:9090", "http://watchdog:9469"):
        labels = {"alertname": "WatchdogLocked", "severity": "critical", "model": "merged"}
        post(real, [labels], generatorURL=generator)
    assert len([a for a in real.alerts() if a["labels"].get("model") == "merged"]) == 1


def post(real: Alertmanager, labels: list[dict[str, str]], **more: str) -> None:
    ends = (datetime.now(UTC) + timedelta(minutes=5)).isoformat()
    body = json.dumps([{"labels": each, "annotations": {}, "endsAt": ends, **more} for each in labels]).encode()
    request = urllib.request.Request(f"{real.url}/api/v2/alerts", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=10):
        pass


def test_a_page_names_something_to_do_now() -> None:
    """Each critical alert's runbook says what, in its section `Do now`."""
    pages = {name for name, severity in SEVERITIES if severity == "critical"}
    for name in sorted(pages):
        text = (ALERTS.parent / "docs" / "runbooks" / f"{name}.md").read_text(encoding="utf-8")
        assert "## Do now" in text, name


RUNBOOKS = ALERTS.parent / "docs" / "runbooks"
HEADINGS = ("## What it means", "## What the watchdog has done", "## How to look")


def test_every_alert_has_a_runbook_with_the_same_headings_and_no_page_is_left_over() -> None:
    names = {name for name, _ in SEVERITIES}
    assert {path.stem for path in RUNBOOKS.glob("*.md")} == names | {"README"}
    for name in names:
        text = (RUNBOOKS / f"{name}.md").read_text(encoding="utf-8")
        assert text.startswith(f"# {name}\n")
        at = [text.find(heading) for heading in (*HEADINGS, "## Do ")]
        assert -1 not in at, name
        assert all(a < b for a, b in itertools.pairwise(at)), name
        assert "## When it ends" in text, name


def test_the_index_names_every_runbook() -> None:
    index = (RUNBOOKS / "README.md").read_text(encoding="utf-8")
    assert set(re.findall(r"\((Watchdog\w+)\.md\)", index)) == {name for name, _ in SEVERITIES}
