"""Writes Prometheus' rules, and their tests, from one table.

    python alerts/build.py                                  # watchdog.rules.yaml, watchdog.prometheusrule.yaml
    python alerts/build.py --runbooks https://wiki/watchdog # the plain rules, with your runbooks, to standard output
    python alerts/build.py --scale 0.01                     # with seconds for minutes, for a demonstration

Two kinds of rules. A *condition* is what the watchdog itself has concluded and tells its channels: the rule has the
same name, severity and labels as the alert that it pushes, so that Alertmanager makes one of both, and either way may
fail. A *symptom* is read from raw numbers, and holds even if the watchdog draws no conclusion, or is not there.
"""

import argparse
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from watchdog.demo.rules import scaled

HERE = Path(__file__).parent
RUNBOOKS = "https://runbooks.example.org/watchdog"
"""Where an alert's runbook is, ``<base>/<alert>``; the channels' `runbook_base` should be the same."""

PAGE, LOOK, NONE = "critical", "warning", "none"
"""A person must act now; should look today; a heartbeat."""

Rule = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Told:
    """A condition of the watchdog's own."""

    name: str
    severity: str = PAGE
    by: tuple[str, ...] = ("model",)
    summary: str
    description: str


_M = "{{ $labels.model }}"
CONDITIONS = (
    Told(
        name="WatchdogEngineRolledBack",
        summary=f"{_M} was moved to the safe engine",
        description="The fast engine was wrong and the safe one right. Answers given before the switch may be wrong.",
    ),
    Told(
        name="WatchdogEngineFault",
        summary=f"{_M} is wrong and still serves",
        description="The serving engine answers canaries wrongly, and nothing was moved: see the journal for why.",
    ),
    Told(
        name="WatchdogBothEnginesWrong",
        summary=f"{_M} is wrong on both engines",
        description="There is no right engine to move to: a wrong model, preprocessing or canary set.",
    ),
    Told(
        name="WatchdogNoSafeTarget",
        summary=f"{_M} is wrong and has no proven engine to move to",
        description="The fast engine is wrong, and the safe one could not be proven right.",
    ),
    Told(
        name="WatchdogServerOverloaded",
        severity=LOOK,
        summary=f"{_M} is slow on both engines",
        description="The server takes longer than it should whichever engine is asked.",
    ),
    Told(
        name="WatchdogEngineSlow",
        summary=f"{_M} is slow, and the other engine is slower still",
        description="Moving traffic would make it worse; the load, or the engine, must change.",
    ),
    Told(
        name="WatchdogServerDown",
        summary=f"{_M} can't be measured: no engine answers for itself",
        description="Neither engine answers canaries, and probably no patient's request either.",
    ),
    Told(
        name="WatchdogRouteMoved",
        summary=f"{_M} is served by an engine that nobody chose",
        description="Ordinary traffic gets another version than it should, and it could not be put right.",
    ),
    Told(
        name="WatchdogSwitchFailed",
        summary=f"{_M} could not be moved",
        description="A switch was refused, or did not show at the public name.",
    ),
    Told(
        name="WatchdogLocked",
        summary=f"{_M} is locked after flapping",
        description="It was moved as often as its budget allows: a person must look, and release it.",
    ),
    Told(
        name="WatchdogReturnFailed",
        severity=LOOK,
        summary=f"{_M} could not return to the fast engine",
        description="The fast engine failed on its way back; the next try waits longer.",
    ),
    Told(
        name="WatchdogRouteReasserted",
        severity=LOOK,
        summary=f"{_M} had its route moved back",
        description="Something else moved the route, and the watchdog put it back.",
    ),
    Told(
        name="WatchdogDataDrift",
        severity=LOOK,
        summary=f"{_M} answers patients' images otherwise than it did, and both engines are right",
        description="The patients or the scanners have changed, not the engine.",
    ),
    Told(
        name="WatchdogLatencyJump",
        severity=LOOK,
        summary=f"{_M} answers rightly, but takes longer than it should",
        description="A lasting jump within the limits, or an objective that is missed.",
    ),
    Told(
        name="WatchdogRouterSilent",
        severity=LOOK,
        summary=f"{_M}'s router can't be asked: a switch would fail",
        description="The router told the route before and no longer does.",
    ),
    Told(
        name="WatchdogEngineTagMismatch",
        severity=LOOK,
        by=("model", "engine"),
        summary=f"{_M}'s {{{{ $labels.engine }}}} engine is not the one that was vetted, or not built for what runs it",
        description="Its tag differs from the baseline's, or from the runtime's.",
    ),
    Told(
        name="WatchdogShapeOffProfile",
        severity=LOOK,
        by=("model", "engine"),
        summary=f"{_M}'s {{{{ $labels.engine }}}} engine is asked for shapes far from those it was optimised for",
        description="The canaries' shapes are off the engine's optimisation profile.",
    ),
    Told(
        name="WatchdogJournalFailing",
        by=(),
        summary="the watchdog can't record, and so moves nothing",
        description="Its journal can't be written. No fault will be switched away from until it can.",
    ),
    Told(
        name="WatchdogGpuUnseen",
        severity=LOOK,
        by=(),
        summary="GPUs can't be watched any more",
        description="The driver told of the GPUs before and no longer does.",
    ),
    Told(
        name="WatchdogGpuLost",
        by=("gpu",),
        summary="GPU {{ $labels.gpu }} is gone",
        description="The driver no longer reaches it: what it served has ended or soon will.",
    ),
    Told(
        name="WatchdogGpuError",
        by=("gpu",),
        summary="GPU {{ $labels.gpu }} had an error",
        description="The driver reported a critical error (XID), or memory errors that could not be corrected.",
    ),
    Told(
        name="WatchdogGpuThrottled",
        severity=LOOK,
        by=("gpu",),
        summary="GPU {{ $labels.gpu }} is slowed down",
        description="Its clocks are lowered by heat or power.",
    ),
    Told(
        name="WatchdogGpuMemoryLow",
        severity=LOOK,
        by=("gpu", "mig"),
        summary="GPU {{ $labels.gpu }} is nearly full",
        description="Loading an engine, or a larger batch, may fail.",
    ),
    Told(
        name="WatchdogGpuMemoryLeak",
        severity=LOOK,
        by=("gpu", "process"),
        summary="GPU memory of {{ $labels.process }} leaks",
        description="It grows steadily; at this rate there is time until tomorrow.",
    ),
    Told(
        name="WatchdogGpuMemoryLeak",
        by=("gpu", "process"),
        summary="GPU memory of {{ $labels.process }} leaks",
        description="It grows steadily, and no memory will be left within hours.",
    ),
)

_FOUND = (
    'sum by (model, reason) (increase(watchdog_findings_total{path="public"}[5m]))'
    " + on (model, reason) sum by (model, reason) (increase(watchdog_diagnosis_reasons_total[5m]))"
)
"""What canaries by the public name showed, and what bursts were about."""
_ERRORS = (
    '1 - sum by (model) (rate(watchdog_probes_total{{path="public",verdict="healthy"}}[{0}]))'
    ' / sum by (model) (rate(watchdog_probes_total{{path="public"}}[{0}]))'
)
_MISSES = (
    "sum by (model, engine, measure, share) (rate(watchdog_latency_objective_misses_total[{0}]))"
    " / sum by (model, engine, measure, share) (rate(watchdog_latency_objective_probes_total[{0}]))"
)
_WINDOWS = ("5m", "30m", "1h", "6h")
_BIN, _ALL = "model, source, output, bin", "model, source, output"
_COUNTED = "increase(watchdog_confidences_total[1h])"
_USUAL = "watchdog_confidence_reference_observations"
_FLOOR = "0.98 * ({0}) / on ({2}) group_left () ({1}) + 0.001"
"""Shares, mixed with a fiftieth of equal bins: PSI is infinite where one side has an empty bin."""
_CHI_SQUARE = 50.8
"""The 99.99 % point of chi-square with 19 degrees of freedom. Where nothing has changed, PSI of 20 bins is about
chi-square times (1/n + 1/m), with n and m observations (Yurdakul, Statistical Properties of Population
Stability Index, 2018)."""

_PSI = (
    f"sum by ({_ALL}) ((watchdog:confidence_share:1h - watchdog:confidence_reference_share)"
    " * ln(watchdog:confidence_share:1h / watchdog:confidence_reference_share))"
)

RECORDS = (
    ("watchdog:findings:increase5m", _FOUND),
    *((f"watchdog:probe_errors:ratio_rate{w}", _ERRORS.format(w)) for w in _WINDOWS),
    *((f"watchdog:latency_misses:ratio_rate{w}", _MISSES.format(w)) for w in _WINDOWS),
    ("watchdog:confidences:increase1h", f"sum by ({_ALL}) ({_COUNTED})"),
    ("watchdog:confidence_references:sum", f"sum by ({_ALL}) ({_USUAL})"),
    (
        "watchdog:confidence_share:1h",
        _FLOOR.format(f"sum by ({_BIN}) ({_COUNTED})", "watchdog:confidences:increase1h > 0", _ALL),
    ),
    (
        "watchdog:confidence_reference_share",
        _FLOOR.format(f"sum by ({_BIN}) ({_USUAL})", "watchdog:confidence_references:sum > 0", _ALL),
    ),
    (
        "watchdog:confidence_psi:1h",
        _PSI,
    ),
    (
        "watchdog:confidence_psi_limit:1h",
        f"{_CHI_SQUARE} * (1 / watchdog:confidences:increase1h + 1 / watchdog:confidence_references:sum)",
    ),
)


def _symptom(
    name: str, severity: str, expr: str, summary: str, description: str, *, wait: str = "", **labels: str
) -> Rule:
    found: Rule = {"alert": name, "expr": expr}
    if wait:
        found["for"] = wait
    return found | {
        "labels": {"severity": severity, **labels},
        "annotations": {"summary": summary, "description": description},
    }


def _finding(name: str, reason: str, says: str) -> Rule:
    expr = f'sum by (model) (watchdog:findings:increase5m{{reason="{reason}"}}) > 0'
    description = "Seen in the last 5 minutes. The watchdog's own alert says whether it still serves."
    return _symptom(name, LOOK, expr, f"{_M} {says}", description)


def _burn(name: str, severity: str, times: float, long: str, short: str) -> Rule:
    over = f"> on (model) group_left () ({times} * (1 - max by (model) (watchdog_objective_ratio)))"
    expr = f"watchdog:probe_errors:ratio_rate{long} {over} and watchdog:probe_errors:ratio_rate{short} {over}"
    description = f"{{{{ $value | humanizePercentage }}}} of the last {long}'s canaries were wrong or late."
    says = f"{_M} burns its error budget {times:g} times as fast as it may"
    return _symptom(name, severity, expr, says, description, window=long)


def _slow(times: float, long: str, short: str) -> Rule:
    over = (
        "> on (model, engine, measure, share) "
        f"({times} * (1 - max by (model, engine, measure, share) (watchdog_latency_objective_ratio)))"
    )
    expr = f"watchdog:latency_misses:ratio_rate{long} {over} and watchdog:latency_misses:ratio_rate{short} {over}"
    says = f"{_M}'s {{{{ $labels.engine }}}} engine misses its objective of {{{{ $labels.measure }}}} time"
    description = f"{{{{ $value | humanizePercentage }}}} of the last {long}'s canaries were slower than it allows."
    return _symptom("WatchdogLatencyBudgetBurn", LOOK, expr, says, description, window=long)


_LATE = "3 * max by (model) (watchdog_probe_interval_seconds) + max by (model) (watchdog_probe_deadline_seconds)"
_SYMPTOMS = (
    _finding("WatchdogAllZero", "all-zero", "answered a canary with nothing but zeros"),
    _finding("WatchdogNonFinite", "non-finite", "answered a canary with NaN or infinity"),
    _finding("WatchdogConfidenceCollapse", "confidence-collapse", "is equally unsure of every canary"),
    _finding("WatchdogParity", "parity", "answered a canary otherwise than the safe engine did"),
    _finding("WatchdogSlow", "latency", "answered a canary later than its limit"),
    _symptom(
        "WatchdogDrift",
        LOOK,
        'sum by (model) (increase(watchdog_drift_alarms_total{source=~"canary|live|shadow"}[5m])) > 0'
        ' or sum by (model) (watchdog:findings:increase5m{reason="drift"}) > 0',
        f"{_M}'s answers have changed",
        "A sequential detector has gathered more evidence than its promise allows to chance.",
    ),
    _symptom(
        "WatchdogConfidencePsi",
        LOOK,
        "watchdog:confidence_psi:1h > watchdog:confidence_psi_limit:1h and watchdog:confidences:increase1h >= 50",
        f"{_M}'s {{{{ $labels.output }}}} is distributed otherwise than in its reference ({{{{ $labels.source }}}})",
        "PSI of the last hour, over all watchdogs of this model, is {{ $value | humanize }}.",
    ),
    _burn("WatchdogErrorBudgetBurn", PAGE, 14.4, "1h", "5m"),
    _burn("WatchdogErrorBudgetBurn", LOOK, 6.0, "6h", "30m"),
    _slow(14.4, "1h", "5m"),
    _slow(6.0, "6h", "30m"),
    _symptom(
        "WatchdogBlind",
        PAGE,
        f"(time() - max by (model) (watchdog_last_probe_timestamp_seconds)) > on (model) ({_LATE})"
        ' or (time() - max by (model) (watchdog_source_last_success_timestamp_seconds{source="endpoint"}))'
        f" > on (model) ({_LATE})",
        f"nobody can tell whether {_M} is right",
        "For {{ $value | humanizeDuration }} no canary has been answered.",
        wait="1m",
    ),
    _symptom(
        "WatchdogRouteNotAsDesired",
        LOOK,
        "max by (model, engine) (watchdog_route_desired) != on (model, engine) max by (model, engine)"
        " (watchdog_route_observed) and on (model) max by (model) (watchdog_route_fast_ratio) == 1"
        " or max by (model, engine) (watchdog_route_desired) != on (model, engine) max by (model, engine)"
        " (watchdog_route_observed) and on (model) max by (model) (watchdog_route_fast_ratio) == 0",
        f"{_M} does not get the engine that it should",
        "The route as observed differs from the one desired ({{ $labels.engine }}).",
        wait="1m",
    ),
    _symptom(
        "WatchdogFlapping",
        LOOK,
        'sum by (model) (increase(watchdog_switches_total{outcome="proven"}[1h])) > 3',
        f"{_M} is moved to and fro",
        "{{ $value | humanize }} switches within an hour.",
    ),
    _symptom(
        "WatchdogChannelDown",
        LOOK,
        "max by (channel) (time() - watchdog_channel_oldest_pending_timestamp_seconds"
        " and watchdog_channel_pending > 0) > 120",
        "channel {{ $labels.channel }} does not deliver",
        "The oldest notice has waited for {{ $value | humanizeDuration }}. Nothing is lost, and nobody is told by it.",
    ),
    _symptom(
        "WatchdogSourceDown",
        LOOK,
        'max by (source, model) (watchdog_source_up{source=~"statistics|gpu"}) == 0'
        " and on (source, model) max by (source, model) (watchdog_source_last_success_timestamp_seconds) > 0",
        "the watchdog's source {{ $labels.source }} no longer tells",
        "What depends on it is not watched.",
        wait="5m",
    ),
    _symptom(
        "WatchdogFailing",
        LOOK,
        "sum by (model) (increase(watchdog_cycle_failures_total[5m])) > 0",
        "the watchdog itself failed",
        "{{ $value | humanize }} errors of its own in 5 minutes: its log has them.",
    ),
    _symptom(
        "WatchdogObserverFailing",
        LOOK,
        "sum(increase(watchdog_observer_failures_total[5m])) > 0",
        "the watchdog could not log what it saw",
        "{{ $value | humanize }} events were not told to a log or another observer.",
    ),
    _symptom(
        "WatchdogLagging",
        LOOK,
        "histogram_quantile(0.99, sum by (le) (rate(watchdog_loop_lag_seconds_bucket[5m]))) > 0.5",
        "the watchdog's event loop is late",
        "Its 99th percentile is {{ $value | humanizeDuration }}: probes are late, and their times can't be trusted.",
        wait="5m",
    ),
    _symptom(
        "WatchdogHeartbeatFailing",
        LOOK,
        'sum by (heartbeat) (increase(watchdog_heartbeats_total{outcome="failed"}[5m])) > 0'
        ' and sum by (heartbeat) (increase(watchdog_heartbeats_total{outcome="delivered"}[5m])) == 0',
        "heartbeat {{ $labels.heartbeat }} is not delivered",
        "The dead-man's switch will soon call.",
        wait="2m",
    ),
    _symptom(
        "WatchdogReloadFailed",
        LOOK,
        "max(watchdog_config_last_reload_successful) == 0",
        "the watchdog refused its new configuration",
        "The old one goes on; its log says what is wrong, as `watchdog check` does.",
    ),
    _symptom(
        "WatchdogStarting",
        PAGE,
        "max(watchdog_up) == 0",
        "the watchdog does not get beyond its start",
        "Canaries are not loaded: nothing is watched.",
        wait="5m",
    ),
    _symptom(
        "WatchdogAbsent",
        PAGE,
        "absent(watchdog_up)",
        "there is no watchdog",
        "Prometheus finds no watchdog to scrape: nobody watches the engines.",
        wait="2m",
    ),
    _symptom(
        "WatchdogHeartbeat",
        NONE,
        "vector(1)",
        "always fires, so that its silence is noticed",
        "Route it to a dead-man's switch: when it stops, Prometheus or Alertmanager is gone.",
    ),
)


def rules(runbooks: str = RUNBOOKS) -> dict[str, Any]:
    """All of it, as Prometheus reads it."""
    alerts = [*map(_condition, CONDITIONS)], [*_SYMPTOMS]
    for rule in (*alerts[0], *alerts[1]):
        rule["annotations"] = rule["annotations"] | {"runbook_url": f"{runbooks.rstrip('/')}/{rule['alert']}"}
    records = [{"record": name, "expr": expr} for name, expr in RECORDS]
    return {
        "groups": [
            {"name": "watchdog-conditions", "rules": alerts[0]},
            {"name": "watchdog-symptoms", "rules": [*records, *alerts[1]]},  # in one group, so in this order
        ]
    }


def _condition(told: Told) -> Rule:
    by = f" by ({', '.join(told.by)})" if told.by else ""
    return {
        "alert": told.name,
        "expr": f'max{by} (watchdog_condition{{condition="{told.name}",severity="{told.severity}"}}) == 1',
        "labels": {"severity": told.severity},
        "annotations": {"summary": told.summary, "description": told.description},
    }


def prometheus_rule(plain: Mapping[str, Any]) -> dict[str, Any]:
    """The same as the Prometheus operator takes it."""
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "inference-watchdog", "labels": {"app.kubernetes.io/name": "inference-watchdog"}},
        "spec": plain,
    }


class _Dumper(yaml.SafeDumper):
    """Lists are indented, long expressions stand on one line."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:  # noqa: ARG002 - the base's
        super().increase_indent(flow, False)


def text(document: Mapping[str, Any], made_by: str = "made by alerts/build.py") -> str:
    body = yaml.dump(document, Dumper=_Dumper, sort_keys=False, width=10_000, allow_unicode=True)
    return f"# {made_by}\n{body}"


def files() -> Iterator[tuple[Path, str]]:
    """What is checked in, and what it should hold."""
    yield HERE / "watchdog.rules.yaml", text(rules())
    yield HERE / "watchdog.prometheusrule.yaml", text(prometheus_rule(rules()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runbooks", metavar="URL", help="where runbooks are; prints the plain rules")
    parser.add_argument(
        "--scale", type=float, metavar="FACTOR", help="of all windows and waits; prints the plain rules"
    )
    wanted = parser.parse_args()
    if wanted.runbooks is None and wanted.scale is None:
        for path, content in files():
            path.write_text(content, encoding="utf-8")
        return
    plain = rules(wanted.runbooks or RUNBOOKS)
    sys.stdout.write(text(plain if wanted.scale is None else scaled(plain, wanted.scale)))


if __name__ == "__main__":
    main()
