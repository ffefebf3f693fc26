"""Every rule fires when it should, and not when it should not: by promtool, on series made for it."""

import re
import runpy
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from watchdog import alerting

ALERTS = Path(__file__).parents[2] / "alerts"
BUILD: dict[str, Any] = runpy.run_path(str(ALERTS / "build.py"))
RULES: list[dict[str, Any]] = [
    rule for group in BUILD["rules"]()["groups"] for rule in group["rules"] if "alert" in rule
]
NAMES = {rule["alert"] for rule in RULES}
needs_promtool = pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not on PATH")


@dataclass(frozen=True, kw_only=True)
class Case:
    """Series that change their mind at minute 20: quiet before, `alert` by minute `by`."""

    alert: str
    severity: str = "warning"
    series: dict[str, str]
    labels: dict[str, str]
    description: str = ""
    """As it should read; where there is no number in it, the rule's own."""
    windows: tuple[tuple[str, str], ...] = ()
    """(severity, window) of the rules of this name that fire; they say the same of their own window."""
    by: int = 25
    over: int | None = None
    """The minute at which it has ended."""


MODEL = {"model": "lung"}
_BY = 'model="lung",path="public",engine="fast",instance="a"'
_OBJECTIVE = 'model="lung",engine="fast",measure="device",share="0.99"'


def found(reason: str) -> dict[str, str]:
    return {
        f'watchdog_findings_total{{{_BY},reason="{reason}"}}': "0x20 1 2 3 3x40",
        f'watchdog_diagnosis_reasons_total{{model="lung",reason="{reason}"}}': "0x60",
    }


CADENCE = {
    'watchdog_probe_interval_seconds{model="lung"}': "10x60",
    'watchdog_probe_deadline_seconds{model="lung"}': "2x60",
}
SEEN = "Seen in the last 5 minutes. The watchdog's own alert says whether it still serves."
BINS = [f"{i / 20:g}" for i in range(1, 21)]
_ALL = 'model="lung",engine="fast",source="live",output="p"'


def confidences(before: int, after: int) -> dict[str, str]:
    """60 a minute, in one bin and then in another."""
    reference = {
        f'watchdog_confidence_reference_observations{{model="lung",source="live",output="p",bin="{b}"}}': "1000x200"
        if i == before
        else "0x200"
        for i, b in enumerate(BINS)
    }
    counts = {f'watchdog_confidences_total{{{_ALL},bin="{b}"}}': "0x200" for b in BINS}
    counts[f'watchdog_confidences_total{{{_ALL},bin="{BINS[before]}"}}'] = "0+60x100 6000x100"
    counts[f'watchdog_confidences_total{{{_ALL},bin="{BINS[after]}"}}'] = "0x100 0+60x100"
    return reference | counts


SYMPTOMS = [
    Case(alert="WatchdogAllZero", series=found("all-zero"), labels=MODEL, over=40),
    Case(alert="WatchdogNonFinite", series=found("non-finite"), labels=MODEL, over=40),
    Case(alert="WatchdogParity", series=found("parity"), labels=MODEL, over=40),
    Case(alert="WatchdogSlow", series=found("latency"), labels=MODEL, over=40),
    Case(
        alert="WatchdogConfidenceCollapse",
        series={
            f'watchdog_findings_total{{{_BY},reason="confidence-collapse"}}': "0x60",
            'watchdog_diagnosis_reasons_total{model="lung",reason="confidence-collapse"}': "0x20 1x40",
        },
        labels=MODEL,
        by=22,
        over=40,
    ),
    Case(
        alert="WatchdogDrift",
        series={'watchdog_drift_alarms_total{model="lung",source="live",reading="p"}': "0x20 1x40"},
        labels=MODEL,
        by=22,
        over=40,
    ),
    Case(
        alert="WatchdogConfidencePsi",
        series=confidences(2, 15),
        labels={"model": "lung", "source": "live", "output": "p"},
        description="PSI of the last hour, over all watchdogs of this model, is 13.5.",
        by=190,
    ),
    Case(
        alert="WatchdogErrorBudgetBurn",
        severity="critical",
        series={
            f'watchdog_probes_total{{{_BY},verdict="healthy"}}': "0+6x20 120x40",
            f'watchdog_probes_total{{{_BY},verdict="failed"}}': "0x20 0+6x40",
            'watchdog_objective_ratio{model="lung"}': "0.999x60",
        },
        labels={"model": "lung"},
        windows=(("critical", "1h"), ("warning", "6h")),
        by=30,
        description="31.03% of the last WINDOW's canaries were wrong or late.",
    ),
    Case(
        alert="WatchdogLatencyBudgetBurn",
        series={
            f"watchdog_latency_objective_probes_total{{{_OBJECTIVE}}}": "0+6x60",
            f"watchdog_latency_objective_misses_total{{{_OBJECTIVE}}}": "0x20 0+6x40",
            f"watchdog_latency_objective_ratio{{{_OBJECTIVE}}}": "0.99x60",
        },
        labels={"model": "lung", "engine": "fast", "measure": "device", "share": "0.99"},
        windows=(("warning", "1h"), ("warning", "6h")),
        by=30,
        description="30% of the last WINDOW's canaries were slower than it allows.",
    ),
    Case(
        alert="WatchdogBlind",
        severity="critical",
        series={
            **CADENCE,
            'watchdog_last_probe_timestamp_seconds{model="lung"}': "0+60x60",
            'watchdog_source_last_success_timestamp_seconds{source="endpoint",model="lung"}': "0+60x20 1200x40",
        },
        labels=MODEL,
        description="For 5m 0s no canary has been answered.",
    ),
    Case(
        alert="WatchdogRouteNotAsDesired",
        series={
            'watchdog_route_desired{model="lung",engine="safe"}': "1x60",
            'watchdog_route_desired{model="lung",engine="fast"}': "0x60",
            'watchdog_route_observed{model="lung",engine="safe"}': "1x20 0x40",
            'watchdog_route_observed{model="lung",engine="fast"}': "0x60",
            'watchdog_route_fast_ratio{model="lung"}': "0x60",
        },
        labels={"model": "lung", "engine": "safe"},
        description="The route as observed differs from the one desired (safe).",
    ),
    Case(
        alert="WatchdogFlapping",
        series={
            'watchdog_switches_total{model="lung",to="safe",outcome="proven"}': "0x20 1 1 2 2 3 3x40",
            'watchdog_switches_total{model="lung",to="fast",outcome="proven"}': "0x20 0 1 1 2 2 3x40",
        },
        labels=MODEL,
        by=30,
        description="6 switches within an hour.",
    ),
    Case(
        alert="WatchdogChannelDown",
        series={
            'watchdog_channel_pending{channel="pager"}': "0x20 2x40",
            'watchdog_channel_oldest_pending_timestamp_seconds{channel="pager"}': "0x20 1260x40",
        },
        labels={"channel": "pager"},
        description="The oldest notice has waited for 4m 0s. Nothing is lost, and nobody is told by it.",
    ),
    Case(
        alert="WatchdogSourceDown",
        series={
            'watchdog_source_up{source="gpu",model=""}': "1x20 0x40",
            'watchdog_source_last_success_timestamp_seconds{source="gpu",model=""}': "60x60",
            'watchdog_source_up{source="statistics",model="lung"}': "0x60",
        },
        labels={"source": "gpu"},
        by=30,
    ),
    Case(
        alert="WatchdogFailing",
        series={'watchdog_cycle_failures_total{model="lung"}': "0x20 1 2 3 4 4x40"},
        labels=MODEL,
        description="4 errors of its own in 5 minutes: its log has them.",
    ),
    Case(
        alert="WatchdogObserverFailing",
        series={"watchdog_observer_failures_total": "0x20 1 2 3 4 4x40"},
        labels={},
        description="4 events were not told to a log or another observer.",
    ),
    Case(
        alert="WatchdogLagging",
        series={
            'watchdog_loop_lag_seconds_bucket{le="0.5"}': "0+60x20 1200x40",
            'watchdog_loop_lag_seconds_bucket{le="1"}': "0+60x60",
            'watchdog_loop_lag_seconds_bucket{le="+Inf"}': "0+60x60",
        },
        labels={},
        by=35,
        description="Its 99th percentile is 995ms: probes are late, and their times can't be trusted.",
    ),
    Case(
        alert="WatchdogHeartbeatFailing",
        series={
            'watchdog_heartbeats_total{heartbeat="snitch",outcome="delivered"}': "0+1x20 20x40",
            'watchdog_heartbeats_total{heartbeat="snitch",outcome="failed"}': "0x20 0+1x40",
        },
        labels={"heartbeat": "snitch"},
        by=30,
    ),
    Case(
        alert="WatchdogReloadFailed",
        series={"watchdog_config_last_reload_successful": "1x20 0x40"},
        labels={},
    ),
    Case(alert="WatchdogStarting", severity="critical", series={"watchdog_up": "1x20 0x40"}, labels={}, by=28),
    Case(alert="WatchdogAbsent", severity="critical", series={"watchdog_up": "1x20 stale"}, labels={}),
]


def conditions() -> Iterable[Case]:
    """One for each rule of a condition: it comes, is told by two watchdogs, and goes."""
    for told in BUILD["CONDITIONS"]:
        labels = {name: {"model": "lung", "engine": "fast"}.get(name, f"a-{name}") for name in told.by}
        more = "".join(f',{name}="{value}"' for name, value in labels.items())
        by = f'condition="{told.name}",severity="{told.severity}"{more}'
        series = {f'watchdog_condition{{{by},instance="{i}"}}': "_x20 1x20 stale" for i in "ab"}
        yield Case(alert=told.name, severity=told.severity, series=series, labels=labels, over=45)


CASES = [*conditions(), *SYMPTOMS]


def as_promtool_has_it(case: Case) -> dict[str, Any]:
    wanted = [
        _alert(case, severity, case.labels | ({"window": window} if window else {}))
        for severity, window in case.windows or ((case.severity, ""),)
    ]
    begins = 95 if case.by > 100 else 19
    expected: list[tuple[int, list[dict[str, Any]]]] = [(begins, []), (case.by, wanted)]
    expected += [(case.over, [])] if case.over else []
    return {
        "interval": "1m",
        "name": case.alert,
        "input_series": [{"series": name, "values": values} for name, values in case.series.items()],
        "alert_rule_test": [
            {"eval_time": f"{minute}m", "alertname": case.alert, "exp_alerts": alerts} for minute, alerts in expected
        ],
    }


def _alert(case: Case, severity: str, labels: dict[str, str]) -> dict[str, Any]:
    named = (case.alert, severity, labels.get("window"))
    (rule,) = [r for r in RULES if (r["alert"], r["labels"]["severity"], r["labels"].get("window")) == named]
    annotations = rule["annotations"] | ({"description": case.description} if case.description else {})
    annotations["description"] = annotations["description"].replace("WINDOW", labels.get("window", ""))
    said = {k: re.sub(r"\{\{ \$labels\.(\w+) \}\}", lambda m: labels[m[1]], v) for k, v in annotations.items()}
    assert not any("{{" in text for text in said.values()), "say in `description` what a number looks like"
    return {"exp_labels": {"severity": severity, **labels}, "exp_annotations": said}


def promtool(folder: Path, tests: list[dict[str, Any]]) -> str:
    """What it has to say."""
    document = {"rule_files": [str(ALERTS / "watchdog.rules.yaml")], "evaluation_interval": "1m", "tests": tests}
    (folder / "rules.test.yaml").write_text(yaml.safe_dump(document, sort_keys=False))
    command = ["promtool", "test", "rules", str(folder / "rules.test.yaml")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return "" if done.returncode == 0 else done.stdout + done.stderr


@needs_promtool
@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.alert}-{case.severity}")
def test_it_is_quiet_then_fires_with_its_words_and_ends(case: Case, tmp_path: Path) -> None:
    assert promtool(tmp_path, [as_promtool_has_it(case)]) == ""


@needs_promtool
def test_the_heartbeat_always_fires(tmp_path: Path) -> None:
    (rule,) = [rule for rule in RULES if rule["alert"] == "WatchdogHeartbeat"]
    alert = {"exp_labels": {"severity": "none"}, "exp_annotations": rule["annotations"]}
    test = {"eval_time": "1m", "alertname": "WatchdogHeartbeat", "exp_alerts": [alert]}
    assert promtool(tmp_path, [{"interval": "1m", "input_series": [], "alert_rule_test": [test]}]) == ""


def test_every_alert_has_a_case() -> None:
    assert {case.alert for case in CASES} | {"WatchdogHeartbeat"} == NAMES


@pytest.mark.parametrize(("path", "content"), list(BUILD["files"]()), ids=lambda value: getattr(value, "name", ""))
def test_the_files_are_as_the_script_writes_them(path: Path, content: str) -> None:
    assert path.read_text(encoding="utf-8") == content, "run: python alerts/build.py"


@needs_promtool
@pytest.mark.parametrize("factor", [1.0, 0.01])
def test_promtool_accepts_them_also_when_scaled(tmp_path: Path, factor: float) -> None:
    path = tmp_path / "rules.yaml"
    path.write_text(yaml.safe_dump(BUILD["scaled"](BUILD["rules"](), factor)))
    done = subprocess.run(["promtool", "check", "rules", str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_scaling_shortens_windows_and_waits_but_no_window_below_a_few_scrapes() -> None:
    plain = {"groups": [{"name": "g", "rules": [{"alert": "A", "expr": "rate(x[5m]) > rate(y[1h])", "for": "2m"}]}]}
    (rule,) = BUILD["scaled"](plain, 0.01)["groups"][0]["rules"]
    assert (rule["expr"], rule["for"]) == ("rate(x[4s]) > rate(y[36s])", "1s")


def test_every_rule_says_what_how_and_where_to_read_on() -> None:
    for rule in RULES:
        assert set(rule["annotations"]) == {"summary", "description", "runbook_url"}
        assert rule["labels"]["severity"] in {"critical", "warning", "none"}
        assert rule["annotations"]["runbook_url"].endswith(f"/{rule['alert']}")


# -- both ways of an alert are one ------------------------------------------------------------

OTHERS = (*alerting.router_conditions("m", "x"), *alerting.journal_conditions("x"))


def test_every_conclusion_that_the_watchdog_tells_has_its_rule_with_the_same_severity() -> None:
    rules = {(told.name, told.severity) for told in BUILD["CONDITIONS"]}
    told = {(name, str(severity)) for name, severity, _ in alerting._BY_CONCLUSION.values()}
    told |= {(name, "warning") for name, _ in alerting._OF_ENGINE.values()}
    told |= {
        (c.name, str(c.severity)) for c in (*alerting.router_conditions("m", "x"), *alerting.journal_conditions("x"))
    }
    source = "".join((ALERTS.parent / "watchdog" / name).read_text() for name in ("alerting.py", "gpu_health.py"))
    named = set(re.findall(r'"(Watchdog\w+)"', source))
    assert told - rules == set()
    assert named == {name for name, _ in rules}


def test_a_rules_labels_are_those_of_the_pushed_alert() -> None:
    by = {told.name: set(told.by) for told in BUILD["CONDITIONS"]}
    for condition in OTHERS:
        assert set(condition.labels) == by[condition.name]
    source = (ALERTS.parent / "watchdog" / "gpu_health.py").read_text()
    assert by["WatchdogGpuMemoryLeak"] == {"gpu", "process"}, source
