"""What happens, as Prometheus metrics. Labels are bounded: models, engines, reasons; never an image."""

import itertools
from collections.abc import Mapping
from typing import assert_never

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4 as PLAIN
from prometheus_client.exposition import generate_latest as plain_text
from prometheus_client.openmetrics.exposition import CONTENT_TYPE_LATEST as OPENMETRICS
from prometheus_client.openmetrics.exposition import generate_latest as openmetrics_text

from watchdog import __version__
from watchdog.model.diagnosis import Conclusion
from watchdog.model.engine import Role
from watchdog.model.event import (
    Baselined,
    CycleFailed,
    Delivered,
    Diagnosed,
    EngineSeen,
    GpuSeen,
    GrowthSeen,
    Ignored,
    Learning,
    LoadSeen,
    Probed,
    RouteSeen,
    Scored,
    Source,
    SpansTaken,
    Switched,
    Timed,
)
from watchdog.model.verdict import Reason, Verdict
from watchdog.policy.decide import Decision
from watchdog.policy.memory import PolicyState
from watchdog.policy.states import State
from watchdog.ports import Event
from watchdog.telemetry.gpu_metrics import GpuMetrics
from watchdog.telemetry.load_metrics import LoadMetrics

_LATENCY_BUCKETS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)
_DEVICE_BUCKETS = (0.0001, 0.0002, *_LATENCY_BUCKETS)
_CONFIDENCE_BUCKETS = tuple(i / 20 for i in range(1, 21))
"""Fixed and equal for every model, so that histograms of a fleet add up."""
_PROVEN, _UNPROVEN, _REFUSED = "proven", "unproven", "refused"


class Metrics:
    """An observer with a registry of its own. `render` is what a scrape gets."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        r = self.registry
        Info("watchdog_build", "The running watchdog.", registry=r).info({"version": __version__})
        self._probes = Counter(
            "watchdog_probes", "Probes, by what came of them.", ["model", "engine", "path", "verdict"], registry=r
        )
        self._findings = Counter(
            "watchdog_findings", "Findings, by reason.", ["model", "engine", "path", "reason"], registry=r
        )
        self._duration = Histogram(
            "watchdog_probe_duration_seconds",
            "From sending a canary to having its whole answer.",
            ["model", "engine", "path", "profile"],
            buckets=_LATENCY_BUCKETS,
            registry=r,
        )
        self._device = Histogram(
            "watchdog_probe_device_seconds",
            "The device's share of a probe, by how it was learnt.",
            ["model", "engine", "path", "profile", "attribution"],
            buckets=_DEVICE_BUCKETS,
            registry=r,
        )
        self._parts = Histogram(
            "watchdog_probe_part_seconds",
            "Where the time of a traced probe went; all parts together are the whole.",
            ["model", "engine", "path", "part"],
            buckets=_DEVICE_BUCKETS,
            registry=r,
        )
        self._attributed = Counter(
            "watchdog_probes_attributed",
            "Answered probes, by how their device time was learnt.",
            ["model", "engine", "attribution"],
            registry=r,
        )
        self._spans = Counter(
            "watchdog_spans", "What the trace intake received, by what became of it.", ["outcome"], registry=r
        )
        self._load = LoadMetrics(r)
        self._gpu = GpuMetrics(r)
        self._mismatch = Gauge(
            "watchdog_engine_mismatch",
            "1 where an engine is not what was vetted, or not fit for what runs it.",
            ["model", "engine", "reason"],
            registry=r,
        )
        self._latency_limit = Gauge(
            "watchdog_probe_duration_limit_seconds",
            "Above this a probe is slow.",
            ["model", "engine", "profile"],
            registry=r,
        )
        self._score = Gauge(
            "watchdog_score",
            "The newest number that was compared with a limit.",
            ["model", "engine", "path", "output", "measure"],
            registry=r,
        )
        self._score_limit = Gauge(
            "watchdog_score_limit", "The limit of watchdog_score.", ["model", "output", "measure"], registry=r
        )
        self._confidence = Histogram(
            "watchdog_confidence_ratio",
            "Confidences of canaries, by output.",
            ["model", "engine", "path", "output"],
            buckets=_CONFIDENCE_BUCKETS,
            registry=r,
        )
        self._state = Gauge("watchdog_state", "1 for the state a model is in.", ["model", "state"], registry=r)
        self._fault = Gauge(
            "watchdog_engine_fault",
            "1 while a fault of the engine that should serve is confirmed; a quorum of watchdogs counts it.",
            ["model"],
            registry=r,
        )
        self._desired = Gauge(
            "watchdog_route_desired",
            "1 for the engine that ordinary traffic should get.",
            ["model", "engine"],
            registry=r,
        )
        self._share = Gauge(
            "watchdog_route_fast_ratio",
            "The fast engine's share of ordinary traffic, as it should be.",
            ["model"],
            registry=r,
        )
        self._observed = Gauge(
            "watchdog_route_observed",
            "1 for the engine that ordinary traffic gets, by the newest answer or the router's account.",
            ["model", "engine"],
            registry=r,
        )
        self._diagnoses = Counter(
            "watchdog_diagnoses", "Bursts of confirming probes, by conclusion.", ["model", "conclusion"], registry=r
        )
        self._switches = Counter(
            "watchdog_switches",
            "Switches tried, by where to and what came of it.",
            ["model", "to", "outcome"],
            registry=r,
        )
        self._evidence = Gauge(
            "watchdog_drift_evidence",
            "Evidence of a sequential detector that answers have changed: by engine for canaries, else by reading.",
            ["model", "source", "reading"],
            registry=r,
        )
        self._evidence_limit = Gauge(
            "watchdog_drift_evidence_limit",
            "Evidence at which a detector alarms.",
            ["model", "source", "reading"],
            registry=r,
        )
        self._run_length = Gauge(
            "watchdog_drift_promised_run_length_observations",
            "Mean observations to a false alarm, at least, by a detector's promise.",
            ["model", "source", "reading"],
            registry=r,
        )
        self._observations = Gauge(
            "watchdog_drift_observations",
            "Observations since a detector began afresh.",
            ["model", "source", "reading"],
            registry=r,
        )
        self._drift_alarms = Counter(
            "watchdog_drift_alarms", "Alarms of sequential detectors.", ["model", "source", "reading"], registry=r
        )
        self._learnt = Gauge(
            "watchdog_drift_reference_observations",
            "Observations learnt for a reference that is not complete yet.",
            ["model", "source", "reading"],
            registry=r,
        )
        self._wanted = Gauge(
            "watchdog_drift_reference_wanted_observations",
            "Observations that a complete reference has.",
            ["model", "source", "reading"],
            registry=r,
        )
        self._ignored = Counter(
            "watchdog_drift_ignored",
            "Observations that were not used, by condition.",
            ["model", "source", "reading", "condition"],
            registry=r,
        )
        self._healthy_at = Gauge(
            "watchdog_last_healthy_probe_timestamp_seconds",
            "When the public name last gave the right answer.",
            ["model"],
            registry=r,
        )
        self._canaries = Gauge(
            "watchdog_baseline_canaries", "Canaries in the baseline in force.", ["model"], registry=r
        )
        self._deliveries = Counter(
            "watchdog_deliveries", "Notices handed to a channel, by outcome.", ["channel", "outcome"], registry=r
        )
        self._failures = Counter("watchdog_cycle_failures", "Errors of the watchdog itself.", ["model"], registry=r)
        self._observer_failures = Counter(
            "watchdog_observer_failures", "Events that a log or another observer could not tell.", registry=r
        )

    def render(self, accept: str) -> tuple[bytes, str]:
        """The text of a scrape and its content type, OpenMetrics where `accept` asks for it."""
        if "application/openmetrics-text" in accept:
            return openmetrics_text(self.registry), OPENMETRICS  # type: ignore[no-untyped-call]
        return plain_text(self.registry), PLAIN

    def forget(self, model: str) -> None:
        """Remove every series of a model that is watched no longer."""
        for metric in (*vars(self).values(), *vars(self._load).values()):
            names = getattr(metric, "_labelnames", ())
            if names and names[0] == "model":
                metric.remove_by_labels({"model": model})

    def forget_gpus(self) -> None:
        """The same of GPUs."""
        self._gpu.clear()

    def __call__(self, event: Event) -> None:
        match event:
            case Probed():
                self._probed(event)
            case Decision() if event.changed:
                self.know(event.model, event.after)
            case Diagnosed():
                self._diagnoses.labels(event.model, event.diagnosis.conclusion).inc()
            case Switched():
                outcome = _PROVEN if event.proven else _UNPROVEN if event.applied.ok else _REFUSED
                self._switches.labels(event.model, event.to, outcome).inc()
            case RouteSeen() if event.observed.known:
                _one_hot(self._observed, event.model, Role, event.observed.role)
            case Baselined():
                self._baselined(event)
            case Scored() | Learning() | Ignored():
                self._drift(event)
            case Timed() | LoadSeen() | EngineSeen() | GpuSeen() | GrowthSeen() | SpansTaken():
                self._measured(event)
            case Delivered():
                self._delivered(event)
            case CycleFailed():
                self._failures.labels(event.model).inc()
            case _:
                pass

    def _baselined(self, event: Baselined) -> None:
        self._begin(event.model)
        self._canaries.labels(event.model).set(event.canaries)
        for (role, profile), limit in event.latency_limits.items():
            self._latency_limit.labels(event.model, role, profile).set(limit)
        for (output, measure), limit in event.score_limits.items():
            self._score_limit.labels(event.model, output, measure).set(limit)

    def _delivered(self, event: Delivered) -> None:
        outcome = "delivered" if event.delivery.ok else "retried" if event.delivery.retry else "refused"
        self._deliveries.labels(event.channel, outcome).inc(event.notices)

    def observer_failed(self) -> None:
        """Another observer raised; what it should have told is lost, but not that it was."""
        self._observer_failures.inc()

    def know(self, model: str, state: PolicyState) -> None:
        """Take a model's policy state as it is, such as the one resumed at start."""
        _one_hot(self._state, model, State, state.state)
        _one_hot(self._desired, model, Role, state.desired)
        self._share.labels(model).set(state.share / 100)
        self._fault.labels(model).set(state.fault is not None)

    def _begin(self, model: str) -> None:
        """Count from 0 what may go wrong: a series that begins at 1 has not increased, as Prometheus sees it."""
        self._failures.labels(model)
        for conclusion in Conclusion:
            self._diagnoses.labels(model, conclusion)
        for to, outcome in itertools.product(Role, (_PROVEN, _UNPROVEN, _REFUSED)):
            self._switches.labels(model, to, outcome)

    def _drift(self, event: Scored | Learning | Ignored) -> None:
        match event:
            case Scored():
                self._scored(event)
            case Learning():
                at = (event.model, event.source, event.reading)
                self._learnt.labels(*at).set(event.have)
                self._wanted.labels(*at).set(event.want)
            case Ignored():
                self._ignored.labels(event.model, event.source, event.reading, event.condition).inc(event.count)
            case _:
                assert_never(event)

    def _scored(self, event: Scored) -> None:
        score, at = event.score, (event.model, event.source, event.reading)
        self._evidence.labels(*at).set(score.statistic)
        self._evidence_limit.labels(*at).set(score.threshold)
        self._run_length.labels(*at).set(score.promise.run_length)
        self._observations.labels(*at).set(score.observations)
        self._drift_alarms.labels(*at).inc(score.alarm is not None)
        if score.unusable is not None and event.source is Source.CANARY:  # the others tell by events of their own
            self._ignored.labels(*at, score.unusable).inc()

    def _measured(self, event: Timed | LoadSeen | EngineSeen | GpuSeen | GrowthSeen | SpansTaken) -> None:
        match event:
            case Timed():
                self._timed(event)
            case LoadSeen():
                self._load.take(event)
            case EngineSeen():
                found = {finding.reason for finding in event.findings}
                for reason in (Reason.ENGINE_TAG, Reason.OFF_PROFILE):
                    self._mismatch.labels(event.model, event.role, reason).set(reason in found)
            case GpuSeen() | GrowthSeen():
                self._gpu.take(event)
            case SpansTaken():
                self._spans.labels(event.outcome).inc(event.count)
            case _:
                assert_never(event)

    def _timed(self, event: Timed) -> None:
        result = event.result
        timing, by = result.timing, (event.model, result.expected, "public" if result.public else "pinned")
        self._attributed.labels(event.model, result.expected, timing.attribution).inc()
        if timing.device_s is not None:
            self._device.labels(*by, result.profile, timing.attribution).observe(timing.device_s)
        for part, seconds in timing.parts.items():
            self._parts.labels(*by, part).observe(seconds)

    def _probed(self, event: Probed) -> None:
        assessment = event.assessment
        result = assessment.result
        by = (event.model, result.expected, "public" if result.public else "pinned")
        self._probes.labels(*by, assessment.verdict).inc()
        for finding in assessment.findings:
            self._findings.labels(*by, finding.reason).inc()
        for (output, measure), score in assessment.scores.items():
            self._score.labels(*by, output, measure).set(score)
        for output, summary in assessment.confidences.items():
            self._confidence.labels(*by, output).observe(summary.value)
        if result.fault is None:
            self._duration.labels(*by, result.profile).observe(result.timing.total_s)
        if result.public and assessment.verdict is Verdict.HEALTHY:
            self._healthy_at.labels(event.model).set(event.at)
        if result.public and result.answered_by.version:
            elsewhere = any(finding.reason is Reason.WRONG_VERSION for finding in assessment.findings)
            _one_hot(self._observed, event.model, Role, None if elsewhere else result.expected)


def _one_hot(gauge: Gauge, model: str, values: Mapping[str, object] | type[State] | type[Role], now: object) -> None:
    for value in values:
        gauge.labels(model, str(value)).set(value is now)
