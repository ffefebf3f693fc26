"""All metrics in one table: ``metrics.py`` and its siblings make theirs from it, ``docs/metrics.md`` is drawn from it.

Labels are bounded: models, engines, outputs, reasons and the like; never an image, a study or a patient.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics

LATENCY_BUCKETS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)
DEVICE_BUCKETS = (0.0001, 0.0002, *LATENCY_BUCKETS)
_LAG_BUCKETS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5)


disable_created_metrics()  # type: ignore[no-untyped-call]  # a series each that nobody asks for

_Made = TypeVar("_Made", Counter, Gauge, Histogram)


class Kind(StrEnum):
    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class Group(StrEnum):
    """Headings of the page, in their order."""

    SELF = "The watchdog itself"
    PROBES = "Probes and verdicts"
    LATENCY = "Latency"
    SCORES = "Scores and their limits"
    CONFIDENCES = "Confidences"
    DRIFT = "Drift"
    ROUTE = "State, route and switches"
    PEOPLE = "What people are told"
    LOAD = "All traffic, by the server's own counts"
    GPU = "GPUs"


@dataclass(frozen=True, kw_only=True, slots=True)
class Declared:
    """One metric, as the page tells of it and as the client library makes it."""

    name: str
    """As a scrape has it: a counter's ends in ``_total``."""
    kind: Kind
    group: Group
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = LATENCY_BUCKETS
    limit: str = ""
    """The metric that holds the limit of this one."""


def _rows(group: Group, *rows: tuple[str, Kind, str, str]) -> Iterator[Declared]:
    for name, kind, labels, said in rows:
        yield Declared(
            name=name,
            kind=kind,
            group=group,
            help=said,
            labels=tuple(labels.split()),
            buckets=_BUCKETS.get(name, LATENCY_BUCKETS),
            limit=_LIMITS.get(name, ""),
        )


_BUCKETS = {
    "watchdog_probe_device_seconds": DEVICE_BUCKETS,
    "watchdog_probe_host_seconds": DEVICE_BUCKETS,
    "watchdog_probe_part_seconds": DEVICE_BUCKETS,
    "watchdog_loop_lag_seconds": _LAG_BUCKETS,
}
_LIMITS = {
    "watchdog_probe_duration_seconds": "watchdog_probe_duration_limit_seconds",
    "watchdog_score": "watchdog_score_limit",
    "watchdog_drift_evidence": "watchdog_drift_evidence_limit",
    "watchdog_drift_reference_observations": "watchdog_drift_reference_wanted_observations",
    "watchdog_probes_total": "watchdog_objective_ratio",
    "watchdog_latency_objective_misses_total": "watchdog_latency_objective_ratio",
    "watchdog_last_probe_timestamp_seconds": "watchdog_probe_interval_seconds",
    "watchdog_gpu_memory_used_bytes": "watchdog_gpu_memory_total_bytes",
    "watchdog_gpu_mig_memory_used_bytes": "watchdog_gpu_mig_memory_total_bytes",
    "watchdog_route_observed": "watchdog_route_desired",
}
_C, _G, _H = Kind.COUNTER, Kind.GAUGE, Kind.HISTOGRAM
_PROBE, _OBJECTIVE, _READING = "model engine path", "model engine measure share", "model source reading"

DECLARED = (
    *_rows(
        Group.SELF,
        ("watchdog_up", _G, "", "1 once all models are watched, 0 while the watchdog starts."),
        ("watchdog_build_info", _G, "version", "1, with the running version."),
        (
            "watchdog_source_up",
            _G,
            "source model",
            "1 while a source tells: endpoint, statistics, router; gpu, journal.",
        ),
        (
            "watchdog_source_last_success_timestamp_seconds",
            _G,
            "source model",
            "When a source told last.",
        ),
        ("watchdog_cycle_failures_total", _C, "model", "Errors of the watchdog itself."),
        ("watchdog_observer_failures_total", _C, "", "Events that a log or another observer could not tell."),
        ("watchdog_loop_lag_seconds", _H, "", "By how much the event loop woke late, looked at each second."),
        ("watchdog_spans_total", _C, "outcome", "What the trace intake received, by what became of it."),
        ("watchdog_config_last_reload_successful", _G, "", "1 unless the last reload was refused."),
        ("watchdog_config_last_reload_timestamp_seconds", _G, "", "When the configuration in force was read."),
        ("watchdog_series", _G, "", "How many series this scrape has."),
    ),
    *_rows(
        Group.PROBES,
        ("watchdog_probes_total", _C, f"{_PROBE} verdict", "Probes, by what came of them."),
        ("watchdog_findings_total", _C, f"{_PROBE} reason", "Findings, by reason."),
        (
            "watchdog_last_healthy_probe_timestamp_seconds",
            _G,
            "model",
            "When the public name last gave the right answer; 0 before the first time.",
        ),
        (
            "watchdog_last_probe_timestamp_seconds",
            _G,
            "model",
            "When the public name was asked last, whatever came of it.",
        ),
        ("watchdog_probe_interval_seconds", _G, "model", "From one probe of the public name to the next."),
        (
            "watchdog_probe_deadline_seconds",
            _G,
            "model",
            "How long an answer may take before the engine counts as hung.",
        ),
        (
            "watchdog_objective_ratio",
            _G,
            "model",
            "The share of probes of the public name that should be answered rightly and in time.",
        ),
        ("watchdog_baseline_canaries", _G, "model", "Canaries in the baseline in force."),
        (
            "watchdog_engine_mismatch",
            _G,
            "model engine reason",
            "1 where an engine is not what was vetted, or not fit for what runs it.",
        ),
    ),
    *_rows(
        Group.LATENCY,
        (
            "watchdog_probe_duration_seconds",
            _H,
            f"{_PROBE} profile",
            "From sending a canary to having its whole answer.",
        ),
        ("watchdog_probe_duration_limit_seconds", _G, "model engine profile", "Above this a probe is slow."),
        (
            "watchdog_probe_device_seconds",
            _H,
            f"{_PROBE} profile attribution",
            "The device's share of a probe, by how it was learnt.",
        ),
        (
            "watchdog_probe_host_seconds",
            _H,
            f"{_PROBE} profile attribution",
            "Everything of a probe that was not the device, by how that was learnt.",
        ),
        (
            "watchdog_probe_part_seconds",
            _H,
            f"{_PROBE} part",
            "Where the time of a traced probe went; all parts together are the whole.",
        ),
        (
            "watchdog_probes_attributed_total",
            _C,
            "model engine attribution",
            "Answered probes, by how their device time was learnt.",
        ),
        ("watchdog_latency_objective_seconds", _G, _OBJECTIVE, "So quick a share of probes should be."),
        ("watchdog_latency_objective_ratio", _G, _OBJECTIVE, "That share."),
        ("watchdog_latency_objective_probes_total", _C, _OBJECTIVE, "Probes that were held against an objective."),
        ("watchdog_latency_objective_misses_total", _C, _OBJECTIVE, "Those that were slower."),
    ),
    *_rows(
        Group.SCORES,
        ("watchdog_score", _G, f"{_PROBE} output measure", "The newest number that was compared with a limit."),
        ("watchdog_score_limit", _G, "model output measure", "The limit of watchdog_score."),
    ),
    *_rows(
        Group.CONFIDENCES,
        (
            "watchdog_confidences_total",
            _C,
            "model engine source output bin",
            "Confidences by bin, named by its upper edge: of canaries by the public name, and of live studies.",
        ),
        (
            "watchdog_confidence_reference_observations",
            _G,
            "model source output bin",
            "The same of the reference: the golden answers, or the studies that were learnt.",
        ),
    ),
    *_rows(
        Group.DRIFT,
        (
            "watchdog_drift_evidence",
            _G,
            _READING,
            "Evidence of a sequential detector that answers have changed: by engine for canaries, else by reading.",
        ),
        ("watchdog_drift_evidence_limit", _G, _READING, "Evidence at which a detector alarms."),
        (
            "watchdog_drift_promised_run_length_observations",
            _G,
            _READING,
            "Mean observations to a false alarm, at least, by a detector's promise.",
        ),
        ("watchdog_drift_observations", _G, _READING, "Observations since a detector began afresh."),
        ("watchdog_drift_alarms_total", _C, _READING, "Alarms of sequential detectors."),
        (
            "watchdog_drift_reference_observations",
            _G,
            _READING,
            "Observations learnt for a reference that is not complete yet.",
        ),
        ("watchdog_drift_reference_wanted_observations", _G, _READING, "Observations that a complete reference has."),
        ("watchdog_drift_ignored_total", _C, f"{_READING} condition", "Observations that were not used, by condition."),
    ),
    *_rows(
        Group.ROUTE,
        ("watchdog_state", _G, "model state", "1 for the state a model is in."),
        (
            "watchdog_engine_fault",
            _G,
            "model",
            "1 while a fault of the engine that should serve is confirmed; a quorum of watchdogs counts it.",
        ),
        ("watchdog_route_desired", _G, "model engine", "1 for the engine that ordinary traffic should get."),
        ("watchdog_route_fast_ratio", _G, "model", "The fast engine's share of ordinary traffic, as it should be."),
        (
            "watchdog_route_observed",
            _G,
            "model engine",
            "1 for the engine that ordinary traffic gets, by the newest answer or the router's account.",
        ),
        ("watchdog_route_leader", _G, "model", "Of a shared route: 1 while this watchdog leads."),
        ("watchdog_diagnoses_total", _C, "model conclusion", "Bursts of confirming probes, by conclusion."),
        ("watchdog_diagnosis_reasons_total", _C, "model reason", "The same, by the finding that they rest on."),
        ("watchdog_switches_total", _C, "model to outcome", "Switches tried, by where to and what came of it."),
        ("watchdog_switch_reasons_total", _C, "model reason", "Switches that were ordered, by the decision's reason."),
    ),
    *_rows(
        Group.PEOPLE,
        (
            "watchdog_condition",
            _G,
            "condition severity model engine gpu process mig",
            "1 for each condition that people are told of now, as the channels are.",
        ),
        ("watchdog_deliveries_total", _C, "channel outcome", "Notices handed to a channel, by outcome."),
        ("watchdog_channel_pending", _G, "channel", "Notices that a channel has not taken yet."),
        (
            "watchdog_channel_oldest_pending_timestamp_seconds",
            _G,
            "channel",
            "Since when the oldest of them waits; 0 where none does.",
        ),
        ("watchdog_channel_up", _G, "channel", "1 if a channel took what it was given last."),
        (
            "watchdog_channel_last_success_timestamp_seconds",
            _G,
            "channel",
            "When a channel last took something.",
        ),
        ("watchdog_heartbeats_total", _C, "heartbeat outcome", "Heartbeats to a dead-man's switch, by outcome."),
    ),
    *_rows(
        Group.LOAD,
        ("watchdog_server_requests_per_second", _G, "model engine", "Requests, canaries included."),
        ("watchdog_server_inferences_per_second", _G, "model engine", "Inferences: a request has one for each image."),
        ("watchdog_server_failures_per_second", _G, "model engine reason", "Failed requests, by reason."),
        (
            "watchdog_server_request_seconds",
            _G,
            "model engine part",
            "Mean time of a successful request in the server, by part.",
        ),
        ("watchdog_server_batch_size", _G, "model engine", "Mean inferences of an execution."),
        ("watchdog_server_cache_hit_ratio", _G, "model engine", "Requests that the response cache answered."),
        ("watchdog_server_queue_ratio", _G, "model engine", "Share of a request's time in the server that is waiting."),
        (
            "watchdog_server_busy_ratio",
            _G,
            "model engine",
            "Seconds of execution a second; 1 is one instance without a pause.",
        ),
    ),
    *_rows(
        Group.GPU,
        ("watchdog_gpu_source_state", _G, "source state", "1 for the condition on which GPUs can be watched."),
        ("watchdog_gpu_state", _G, "gpu state", "1 for a GPU's condition."),
        ("watchdog_gpu_info", _G, "gpu name driver", "1, with what a GPU and its driver are."),
        ("watchdog_gpu_memory_total_bytes", _G, "gpu", "Memory of the GPU."),
        ("watchdog_gpu_memory_used_bytes", _G, "gpu", "Memory in use, by whomever."),
        ("watchdog_gpu_busy_ratio", _G, "gpu", "Share of the last sample period in which a kernel ran."),
        (
            "watchdog_gpu_memory_busy_ratio",
            _G,
            "gpu",
            "Share of the last sample period in which memory was read or written.",
        ),
        ("watchdog_gpu_temperature_celsius", _G, "gpu", "Temperature of the GPU."),
        ("watchdog_gpu_power_watts", _G, "gpu", "Power drawn."),
        ("watchdog_gpu_sm_clock_hertz", _G, "gpu", "Clock of the multiprocessors."),
        ("watchdog_gpu_memory_clock_hertz", _G, "gpu", "Clock of the memory."),
        ("watchdog_gpu_ecc_corrected", _G, "gpu", "Memory errors that were corrected since the driver was loaded."),
        (
            "watchdog_gpu_ecc_uncorrected",
            _G,
            "gpu",
            "Memory errors that were not corrected since the driver was loaded.",
        ),
        ("watchdog_gpu_throttled", _G, "gpu reason", "1 for each reason for which the clocks are lowered."),
        ("watchdog_gpu_xid_errors_total", _C, "gpu xid", "Critical errors by XID number."),
        (
            "watchdog_gpu_process_memory_bytes",
            _G,
            "gpu process mig",
            "GPU memory of a process; of all processes of one name together.",
        ),
        ("watchdog_gpu_mig_memory_total_bytes", _G, "gpu mig", "Memory of a MIG instance."),
        ("watchdog_gpu_mig_memory_used_bytes", _G, "gpu mig", "Memory in use there."),
        (
            "watchdog_gpu_memory_growth_bytes_per_hour",
            _G,
            "gpu process bound",
            "Trend of a process' GPU memory over the window; its bound is what it grows by at least.",
        ),
        ("watchdog_gpu_memory_leaking", _G, "gpu process", "1 while a trend is a leak."),
    ),
)


class Registered:
    """The table's metrics in one registry, by name."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._made = {row.name: _make(row, registry) for row in DECLARED}

    def counter(self, name: str) -> Counter:
        return _as(Counter, self._made[name])

    def gauge(self, name: str) -> Gauge:
        return _as(Gauge, self._made[name])

    def histogram(self, name: str) -> Histogram:
        return _as(Histogram, self._made[name])

    def count(self) -> int:
        """How many series there are now."""
        return sum(len(family.samples) for metric in self._made.values() for family in metric.collect())

    def remove(self, group: Group | None = None, **labels: str) -> None:
        """Remove every series that has these labels, of one group or of all."""
        for row in DECLARED:
            if labels.keys() <= set(row.labels) and group in (None, row.group):
                self._made[row.name].remove_by_labels(labels)

    def clear_gauges(self, group: Group) -> None:
        """Show nothing of a group any more; what was counted stays."""
        for row in DECLARED:
            if row.group is group and row.kind is Kind.GAUGE:
                self._made[row.name].clear()


def _make(row: Declared, registry: CollectorRegistry) -> Counter | Gauge | Histogram:
    match row.kind:
        case Kind.COUNTER:
            return Counter(row.name, row.help, row.labels, registry=registry)
        case Kind.GAUGE:
            return Gauge(row.name, row.help, row.labels, registry=registry)
        case Kind.HISTOGRAM:
            return Histogram(row.name, row.help, row.labels, buckets=row.buckets, registry=registry)


def _as(kind: type[_Made], found: object) -> _Made:
    if not isinstance(found, kind):
        raise TypeError(f"the metric is no {kind.__name__}: {found}")
    return found
