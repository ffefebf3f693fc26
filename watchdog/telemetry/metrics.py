"""What happens, as Prometheus metrics. Labels are bounded: models, engines, reasons; never an image."""

import itertools
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from typing import assert_never

import numpy as np
from prometheus_client import CollectorRegistry, Counter, Gauge, ProcessCollector
from prometheus_client import Histogram as Buckets
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4 as PLAIN
from prometheus_client.exposition import generate_latest as plain_text
from prometheus_client.openmetrics.exposition import CONTENT_TYPE_LATEST as OPENMETRICS
from prometheus_client.openmetrics.exposition import generate_latest as openmetrics_text

from watchdog import __version__
from watchdog.drift.histogram import CONFIDENCE_EDGES, Histogram
from watchdog.model.diagnosis import Conclusion
from watchdog.model.engine import Role
from watchdog.model.event import (
    Baselined,
    Beaten,
    CycleFailed,
    Delivered,
    Diagnosed,
    EngineSeen,
    GpuSeen,
    GrowthSeen,
    Ignored,
    Learning,
    LoadSeen,
    ObjectiveSeen,
    Probed,
    Reported,
    RouteSeen,
    Scored,
    Source,
    SpansTaken,
    Switched,
    Timed,
)
from watchdog.model.gpu import SourceState
from watchdog.model.notice import Queue
from watchdog.model.objective import Objective
from watchdog.model.probe import Attribution
from watchdog.model.verdict import Reason, Verdict
from watchdog.policy.decide import Decision
from watchdog.policy.memory import PolicyState
from watchdog.policy.states import Action, State
from watchdog.ports import Event
from watchdog.telemetry.declared import Registered
from watchdog.telemetry.gpu_metrics import GpuMetrics
from watchdog.telemetry.load_metrics import LoadMetrics
from watchdog.telemetry.snapshot import Snapshot

_PUBLIC, _PINNED = "public", "pinned"
_CHANNELS = (
    "watchdog_channel_pending",
    "watchdog_channel_oldest_pending_timestamp_seconds",
    "watchdog_channel_up",
    "watchdog_channel_last_success_timestamp_seconds",
)
_OF_THE_CONFIGURATION = (
    "watchdog_probe_duration_limit_seconds",
    "watchdog_score_limit",
    "watchdog_latency_objective_seconds",
    "watchdog_latency_objective_ratio",
)
_PROVEN, _UNPROVEN, _REFUSED = "proven", "unproven", "refused"
_MOVES = frozenset({Action.SWITCH_TO_SAFE, Action.SWITCH_TO_FAST, Action.REASSERT})
BINS = tuple(f"{edge:g}" for edge in CONFIDENCE_EDGES[1:])
"""Each bin's name is its upper edge. They are fixed and equal for every model, so that those of a fleet add up."""


class Metrics:
    """An observer with a registry of its own. `render` is what a scrape gets."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._of = Registered(self.registry)
        self._load = LoadMetrics(self._of)
        self._gpu = GpuMetrics(self._of)
        self._counted: dict[tuple[str, Role], bool] = {}
        """Of which engines the server told its counts: of one that is not loaded it has none."""
        self._gauge("watchdog_build_info").labels(__version__).set(1)
        self._gauge("watchdog_up").set(0)

    def _gauge(self, name: str) -> Gauge:
        return self._of.gauge(name)

    def _counter(self, name: str) -> Counter:
        return self._of.counter(name)

    def _histogram(self, name: str) -> Buckets:
        return self._of.histogram(name)

    def look(self, now: Snapshot) -> None:
        """Take what is true at a scrape."""
        self._gauge("watchdog_up").set(now.up)
        self._gauge("watchdog_config_last_reload_successful").set(now.reloaded)
        self._gauge("watchdog_config_last_reload_timestamp_seconds").set(now.configured_at)
        self._gauge("watchdog_source_up").labels("journal", "").set(now.journal_trouble is None)
        for name in ("watchdog_condition", "watchdog_route_leader", *_CHANNELS):
            self._gauge(name).clear()
        for c in now.conditions:
            by = (c.labels.get(label, "") for label in ("model", "engine", "gpu", "process", "mig"))
            self._gauge("watchdog_condition").labels(c.name, c.severity, *by).set(1)
        for model, leads in now.leads.items():
            self._gauge("watchdog_route_leader").labels(model).set(leads)
        for queue in now.queues:
            self._queue(queue)
        self._gauge("watchdog_series").set(self._of.count())

    def _queue(self, queue: Queue) -> None:
        for name, value in zip(
            _CHANNELS, (queue.pending, queue.oldest_at or 0.0, queue.up, queue.delivered_at), strict=True
        ):
            if value is not None:
                self._gauge(name).labels(queue.channel).set(value)

    def lag(self, seconds: float) -> None:
        """By how much the event loop woke late."""
        self._histogram("watchdog_loop_lag_seconds").observe(seconds)

    def render(self, accept: str) -> tuple[bytes, str]:
        """The text of a scrape and its content type, OpenMetrics where `accept` asks for it."""
        if "application/openmetrics-text" in accept:
            return openmetrics_text(self.registry), OPENMETRICS  # type: ignore[no-untyped-call]
        return plain_text(self.registry), PLAIN

    def forget(self, model: str) -> None:
        """Remove every series of a model that is watched no longer."""
        self._of.remove(model=model)
        self._counted = {at: told for at, told in self._counted.items() if at[0] != model}

    def forget_gpus(self) -> None:
        """The same of GPUs."""
        self._gpu.clear()
        self._of.remove(source="gpu")

    def __call__(self, event: Event) -> None:
        match event:
            case Probed():
                self._probed(event)
            case Decision():
                self._decided(event)
            case Diagnosed():
                self._counter("watchdog_diagnoses_total").labels(event.model, event.diagnosis.conclusion).inc()
                self._counter("watchdog_diagnosis_reasons_total").labels(event.model, event.diagnosis.reason).inc()
            case Switched():
                outcome = _PROVEN if event.proven else _UNPROVEN if event.applied.ok else _REFUSED
                self._counter("watchdog_switches_total").labels(event.model, event.to, outcome).inc()
            case RouteSeen():
                self._source("router", event.model, told=event.observed.known, at=event.at)
                if event.observed.known:
                    _one_hot(self._gauge("watchdog_route_observed"), event.model, Role, event.observed.role)
            case Baselined():
                self._baselined(event)
            case Scored() | Learning() | Ignored() | Reported():
                self._drift(event)
            case Timed() | ObjectiveSeen() | LoadSeen() | EngineSeen() | GpuSeen() | GrowthSeen() | SpansTaken():
                self._measured(event)
            case Delivered() | Beaten():
                self._delivered(event)
            case CycleFailed():
                self._counter("watchdog_cycle_failures_total").labels(event.model).inc()
            case _:
                pass

    def _decided(self, event: Decision) -> None:
        if event.changed:
            self.know(event.model, event.after)
        if event.action in _MOVES:
            self._counter("watchdog_switch_reasons_total").labels(event.model, event.reason).inc()

    def _source(self, source: str, model: str, *, told: bool, at: float | None) -> None:
        self._gauge("watchdog_source_up").labels(source, model).set(told)
        if told and at is not None:
            self._gauge("watchdog_source_last_success_timestamp_seconds").labels(source, model).set(at)

    def _baselined(self, event: Baselined) -> None:
        for name in _OF_THE_CONFIGURATION:  # one that was narrowed by a reload
            self._gauge(name).remove_by_labels({"model": event.model})
        self._begin(event)
        self._gauge("watchdog_probe_interval_seconds").labels(event.model).set(event.every_s)
        self._gauge("watchdog_probe_deadline_seconds").labels(event.model).set(event.deadline_s)
        self._gauge("watchdog_objective_ratio").labels(event.model).set(event.objective)
        for objective in event.latency_objectives:
            by = _objective(event.model, objective)
            self._gauge("watchdog_latency_objective_seconds").labels(*by).set(objective.limit_s)
            self._gauge("watchdog_latency_objective_ratio").labels(*by).set(objective.quantile)
        for output, values in event.confidences.items():
            self._refer(event.model, Source.CANARY, output, values)
        self._gauge("watchdog_baseline_canaries").labels(event.model).set(event.canaries)
        for (role, profile), limit in event.latency_limits.items():
            self._gauge("watchdog_probe_duration_limit_seconds").labels(event.model, role, profile).set(limit)
        for (output, measure), limit in event.score_limits.items():
            self._gauge("watchdog_score_limit").labels(event.model, output, measure).set(limit)

    def _delivered(self, event: Delivered | Beaten) -> None:
        if isinstance(event, Beaten):
            outcome = "delivered" if event.ok else "failed"
            self._counter("watchdog_heartbeats_total").labels(event.heartbeat, outcome).inc()
            return
        outcome = "delivered" if event.delivery.ok else "retried" if event.delivery.retry else "refused"
        self._counter("watchdog_deliveries_total").labels(event.channel, outcome).inc(event.notices)

    def observer_failed(self) -> None:
        """Another observer raised; what it should have told is lost, but not that it was."""
        self._counter("watchdog_observer_failures_total").inc()

    def know(self, model: str, state: PolicyState) -> None:
        """Take a model's policy state as it is, such as the one resumed at start."""
        _one_hot(self._gauge("watchdog_state"), model, State, state.state)
        _one_hot(self._gauge("watchdog_route_desired"), model, Role, state.desired)
        self._gauge("watchdog_route_fast_ratio").labels(model).set(state.share / 100)
        self._gauge("watchdog_engine_fault").labels(model).set(state.fault is not None)

    def _begin(self, event: Baselined) -> None:
        """Count from 0 what may go wrong: a series that begins at 1 has not increased, as Prometheus sees it."""
        model = event.model
        self._gauge("watchdog_last_healthy_probe_timestamp_seconds").labels(model)
        for role, verdict in itertools.product(Role, Verdict):
            self._counter("watchdog_probes_total").labels(model, role, _PUBLIC, verdict)
        for role, reason in itertools.product(Role, Reason):
            self._counter("watchdog_findings_total").labels(model, role, _PUBLIC, reason)
        for reason in Reason:
            self._counter("watchdog_switch_reasons_total").labels(model, reason)
            self._counter("watchdog_diagnosis_reasons_total").labels(model, reason)
        for objective in event.latency_objectives:
            by = _objective(model, objective)
            self._counter("watchdog_latency_objective_probes_total").labels(*by)
            self._counter("watchdog_latency_objective_misses_total").labels(*by)
        for role, output in itertools.product(Role, event.confidences):
            self._bins(model, role, Source.CANARY, output)
        self._counter("watchdog_cycle_failures_total").labels(model)
        for conclusion in Conclusion:
            self._counter("watchdog_diagnoses_total").labels(model, conclusion)
        for to, outcome in itertools.product(Role, (_PROVEN, _UNPROVEN, _REFUSED)):
            self._counter("watchdog_switches_total").labels(model, to, outcome)

    def _bins(self, *by: str) -> None:
        """A counter for each bin, all of them there from the first on."""
        for name in BINS:
            self._counter("watchdog_confidences_total").labels(*by, name)

    def _refer(self, model: str, source: str, output: str, values: Sequence[float]) -> None:
        for name, count in zip(BINS, Histogram.of(np.array(values)).counts.tolist(), strict=True):
            self._gauge("watchdog_confidence_reference_observations").labels(model, source, output, name).set(count)

    def _confident(self, *by: str, values: Iterable[float]) -> None:
        for value in values:
            if 0.0 <= value <= 1.0:
                at = BINS[max(0, bisect_left(CONFIDENCE_EDGES, value) - 1)]  # closed above, as the reference's are
                self._counter("watchdog_confidences_total").labels(*by, at).inc()

    def _reported(self, event: Reported) -> None:
        if event.usual:
            self._refer(event.model, Source.LIVE, event.reading, event.values)
            self._bins(event.model, Role.FAST, Source.LIVE, event.reading)
        else:
            self._confident(event.model, Role.FAST, Source.LIVE, event.reading, values=event.values)

    def _drift(self, event: Scored | Learning | Ignored | Reported) -> None:
        match event:
            case Scored():
                self._scored(event)
            case Reported():
                self._reported(event)
            case Learning():
                at = (event.model, event.source, event.reading)
                self._gauge("watchdog_drift_reference_observations").labels(*at).set(event.have)
                self._gauge("watchdog_drift_reference_wanted_observations").labels(*at).set(event.want)
            case Ignored():
                self._counter("watchdog_drift_ignored_total").labels(
                    event.model, event.source, event.reading, event.condition
                ).inc(event.count)
            case _:
                assert_never(event)

    def _scored(self, event: Scored) -> None:
        score, at = event.score, (event.model, event.source, event.reading)
        self._gauge("watchdog_drift_evidence").labels(*at).set(score.statistic)
        self._gauge("watchdog_drift_evidence_limit").labels(*at).set(score.threshold)
        self._gauge("watchdog_drift_promised_run_length_observations").labels(*at).set(score.promise.run_length)
        self._gauge("watchdog_drift_observations").labels(*at).set(score.observations)
        self._counter("watchdog_drift_alarms_total").labels(*at).inc(score.alarm is not None)
        if score.unusable is not None and event.source is Source.CANARY:  # the others tell by events of their own
            self._counter("watchdog_drift_ignored_total").labels(*at, score.unusable).inc()

    def _measured(
        self, event: Timed | ObjectiveSeen | LoadSeen | EngineSeen | GpuSeen | GrowthSeen | SpansTaken
    ) -> None:
        match event:
            case Timed():
                self._timed(event)
            case ObjectiveSeen():
                by = _objective(event.model, event.objective)
                self._counter("watchdog_latency_objective_probes_total").labels(*by).inc()
                self._counter("watchdog_latency_objective_misses_total").labels(*by).inc(not event.met)
            case LoadSeen():
                self._counted[event.model, event.role] = event.load is not None
                told = any(counted for (model, _), counted in self._counted.items() if model == event.model)
                self._source("statistics", event.model, told=told, at=None if event.load is None else event.at)
                self._load.take(event)
            case EngineSeen():
                found = {finding.reason for finding in event.findings}
                for reason in (Reason.ENGINE_TAG, Reason.OFF_PROFILE):
                    self._gauge("watchdog_engine_mismatch").labels(event.model, event.role, reason).set(reason in found)
            case GpuSeen():
                self._source("gpu", "", told=event.reading.state is SourceState.UP, at=event.at)
                self._gpu.take(event)
            case GrowthSeen():
                self._gpu.take(event)
            case SpansTaken():
                self._counter("watchdog_spans_total").labels(event.outcome).inc(event.count)
            case _:
                assert_never(event)

    def _timed(self, event: Timed) -> None:
        result = event.result
        timing, by = result.timing, (event.model, result.expected, _PUBLIC if result.public else _PINNED)
        is_traced = result.trace_id and (timing.parts or timing.attribution is Attribution.TRACE)
        traced = {"trace_id": result.trace_id} if is_traced else None
        self._counter("watchdog_probes_attributed_total").labels(event.model, result.expected, timing.attribution).inc()
        if timing.device_s is not None and timing.host_s is not None:
            more = (*by, result.profile, timing.attribution)
            self._histogram("watchdog_probe_device_seconds").labels(*more).observe(timing.device_s, traced)
            self._histogram("watchdog_probe_host_seconds").labels(*more).observe(timing.host_s, traced)
        for part, seconds in timing.parts.items():
            self._histogram("watchdog_probe_part_seconds").labels(*by, part).observe(seconds, traced)

    def _probed(self, event: Probed) -> None:
        assessment = event.assessment
        result = assessment.result
        by = (event.model, result.expected, _PUBLIC if result.public else _PINNED)
        self._counter("watchdog_probes_total").labels(*by, assessment.verdict).inc()
        for finding in assessment.findings:
            self._counter("watchdog_findings_total").labels(*by, finding.reason).inc()
        for (output, measure), score in assessment.scores.items():
            self._gauge("watchdog_score").labels(*by, output, measure).set(score)
        if result.fault is None:
            self._histogram("watchdog_probe_duration_seconds").labels(*by, result.profile).observe(
                result.timing.total_s
            )
        if result.public:
            self._probed_publicly(event)

    def _probed_publicly(self, event: Probed) -> None:
        assessment, result = event.assessment, event.assessment.result
        self._source("endpoint", event.model, told=result.fault is None, at=event.at)
        self._gauge("watchdog_last_probe_timestamp_seconds").labels(event.model).set(event.at)
        for output, summary in assessment.confidences.items():
            self._confident(event.model, result.expected, Source.CANARY, output, values=[summary.value])
        if assessment.verdict is Verdict.HEALTHY:
            self._gauge("watchdog_last_healthy_probe_timestamp_seconds").labels(event.model).set(event.at)
        if result.answered_by.version:
            elsewhere = any(finding.reason is Reason.WRONG_VERSION for finding in assessment.findings)
            _one_hot(self._gauge("watchdog_route_observed"), event.model, Role, None if elsewhere else result.expected)


def _objective(model: str, objective: Objective) -> tuple[str, str, str, str]:
    return model, objective.role, objective.measure, f"{objective.quantile:g}"


def _one_hot(gauge: Gauge, model: str, values: Mapping[str, object] | type[State] | type[Role], now: object) -> None:
    for value in values:
        gauge.labels(model, str(value)).set(value is now)
