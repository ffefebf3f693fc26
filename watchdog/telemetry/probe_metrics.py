"""One probe of a server that a caller named: as metrics of its own for Prometheus, and as a story for people.

The registry is a fresh one for each, and no name is also one of ``/metrics``: there the same things are histograms and
counters of the models that the watchdog itself watches.
"""

import json
import math
from collections.abc import Iterator
from datetime import UTC, datetime

from prometheus_client import CollectorRegistry, Gauge
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4 as CONTENT_TYPE
from prometheus_client.exposition import generate_latest

from watchdog.assess import LARGER_IS_BETTER
from watchdog.model.module_probe import ModuleProbe
from watchdog.model.verdict import Verdict

__all__ = ("CONTENT_TYPE", "NAMES", "render", "story")

NAMES = {
    "probe_success": ("", "1 if the answer was right, and in time."),
    "probe_duration_seconds": ("", "How long all of the probe took, waiting for its turn included."),
    "watchdog_probe_verdict": ("verdict", "1 for the verdict on the answer."),
    "watchdog_probe_finding": ("reason", "1 for each thing that is not as it should be; absent for all others."),
    "watchdog_probe_score": ("output measure", "A number that was compared with a limit."),
    "watchdog_probe_score_limit": ("output measure", "The limit of watchdog_probe_score."),
    "watchdog_probe_answer_seconds": ("", "From sending the canary to having its whole answer."),
    "watchdog_probe_answer_limit_seconds": ("", "Above this an answer is slow."),
    "watchdog_probe_answer_device_seconds": ("attribution", "The device's share of it, by how it was learnt."),
    "watchdog_probe_answer_host_seconds": ("attribution", "Everything of it that was not the device."),
    "watchdog_probe_answer_part_seconds": ("part", "Where the time of a traced request went."),
    "watchdog_probe_confidence_ratio": ("output", "The answer, read as a confidence."),
    "watchdog_probe_answered_info": ("model version", "1, with who answered, as the server says."),
    "watchdog_probe_canary_info": ("canary profile", "1, with what was sent."),
}
"""Metric → its labels and its meaning. All are gauges."""


def render(probe: ModuleProbe) -> bytes:
    """The text of a scrape, in `CONTENT_TYPE`."""
    registry = CollectorRegistry()
    made: dict[str, Gauge] = {}
    for name, labels, value in _samples(probe):
        known, said = NAMES[name]
        gauge = made.get(name) or made.setdefault(name, Gauge(name, said, known.split(), registry=registry))
        (gauge.labels(*labels) if labels else gauge).set(value)
    return generate_latest(registry)


def _samples(probe: ModuleProbe) -> Iterator[tuple[str, tuple[str, ...], float]]:
    assessment, result = probe.assessment, probe.assessment.result
    timing = result.timing
    yield "probe_success", (), probe.success
    yield "probe_duration_seconds", (), probe.took_s
    for verdict in Verdict:
        yield "watchdog_probe_verdict", (verdict,), assessment.verdict is verdict
    for finding in assessment.findings:
        yield "watchdog_probe_finding", (finding.reason,), 1
    for by, score in assessment.scores.items():
        yield "watchdog_probe_score", by, score
    for by, limit in probe.score_limits.items():
        yield "watchdog_probe_score_limit", by, limit
    yield "watchdog_probe_canary_info", (result.canary, result.profile), 1
    yield "watchdog_probe_answer_limit_seconds", (), probe.latency_limit_s
    if result.fault is not None:
        return
    yield "watchdog_probe_answer_seconds", (), timing.total_s
    yield "watchdog_probe_answered_info", (result.answered_by.model, result.answered_by.version), 1
    if timing.device_s is not None and timing.host_s is not None:
        yield "watchdog_probe_answer_device_seconds", (timing.attribution,), timing.device_s
        yield "watchdog_probe_answer_host_seconds", (timing.attribution,), timing.host_s
    for part, seconds in timing.parts.items():
        yield "watchdog_probe_answer_part_seconds", (part,), seconds
    for output, confidence in assessment.confidences.items():
        yield "watchdog_probe_confidence_ratio", (output,), confidence.value


def story(probe: ModuleProbe) -> str:
    """What was sent where, who answered, every score and limit, the metrics, and the module."""
    return "\n".join(
        (
            "The probe:",
            *(f"  {line}" for line in _lines(probe)),
            "",
            "The metrics that it has without debug:",
            render(probe).decode(),
            "The module:",
            json.dumps(probe.settings, indent=2),
            "",
        )
    )


def _lines(probe: ModuleProbe) -> Iterator[str]:
    assessment, result = probe.assessment, probe.assessment.result
    timing = result.timing
    sent_at = datetime.fromtimestamp(timing.sent_at, UTC).isoformat(timespec="milliseconds")
    asked = f"{result.address.model}{f'/{result.address.version}' if result.address.version else ''}"
    yield f"module {probe.module}, target {probe.target}, {probe.deadline_s:g} s at most"
    yield f"its turn came after {_ms(probe.waited_s)}"
    yield f"{sent_at} sent canary {result.canary} (shape {result.profile}, payload seed {result.seed}) to {asked}"
    if result.fault is not None:
        yield f"no answer after {_ms(timing.total_s)}: {result.fault}"
    else:
        yield f"answered by {result.answered_by} after {_ms(timing.total_s)} (limit {_ms(probe.latency_limit_s)})"
        if timing.device_s is not None:
            yield f"device time {_ms(timing.device_s)} ({timing.attribution})"
        for part, seconds in timing.parts.items():
            yield f"  {part} {_ms(seconds)}"
    for (output, measure), score in assessment.scores.items():
        bound = "at least" if measure in LARGER_IS_BETTER else "at most"
        yield f"{output} {measure} {score:.4g}, {bound} {probe.score_limits.get((output, measure), math.nan):g}"
    for output, c in assessment.confidences.items():
        yield f"{output} confidence {c.value:.4f}, top {c.top:.4f}, entropy {c.entropy:.4f} nats"
    for finding in assessment.findings:
        yield f"{finding.verdict}: {finding}"
    yield f"{assessment.verdict} after {_ms(probe.took_s)} in all: probe_success {int(probe.success)}"


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:.2f} ms" if math.isfinite(seconds) else "none"
