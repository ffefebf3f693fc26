"""What is true now, as one JSON document: what ``status``, the API and the page show."""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, assert_never

from watchdog.model.event import (
    Baselined,
    CycleFailed,
    Diagnosed,
    EngineSeen,
    GpuSeen,
    GrowthSeen,
    LoadSeen,
    Probed,
    RouteSeen,
    Scored,
    SpansTaken,
    Switched,
    Timed,
)
from watchdog.model.fault import Fault
from watchdog.model.gpu import GpuReading, Leak
from watchdog.model.load import Load
from watchdog.model.probe import Timing
from watchdog.model.score import Score
from watchdog.model.verdict import Assessment, Finding, Verdict
from watchdog.policy.decide import Decision
from watchdog.policy.memory import PolicyState
from watchdog.ports import Event


class Board:
    """An observer that keeps the newest of everything, per model."""

    def __init__(self, started_at: float) -> None:
        self._started_at = started_at
        self._models: dict[str, dict[str, Any]] = {}
        self._failure: dict[str, Any] | None = None
        """The newest of the watchdog itself that is of no model."""
        self._gpu: dict[str, Any] = {}
        self._spans: Counter[str] = Counter()

    def __call__(self, event: Event) -> None:
        match event:
            case Probed():
                self._probed(event)
            case Decision():
                self.know(event.model, event.after)
            case Diagnosed():
                d = event.diagnosis
                self._model(event.model)["diagnosis"] = {
                    "at": event.at,
                    "conclusion": d.conclusion,
                    "reason": d.reason,
                    "detail": d.detail,
                }
            case Switched():
                self._model(event.model)["switch"] = {
                    "at": event.at,
                    "to": event.to,
                    "applied": event.applied.ok,
                    "proven": event.proven,
                    "took_s": event.applied.took_s,
                    "detail": event.detail,
                }
            case RouteSeen():
                o = event.observed
                self._model(event.model)["router"] = {
                    "at": event.at,
                    "role": o.role,
                    "known": o.known,
                    "detail": o.detail,
                }
            case Scored():
                drift = self._model(event.model).setdefault("drift", {})
                drift.setdefault(str(event.source), {})[event.reading] = score_json(event.score, event.at)
            case Timed() | LoadSeen() | EngineSeen() | GpuSeen() | GrowthSeen() | SpansTaken():
                self._measured(event)
            case Baselined():
                model = self._model(event.model)
                model["baseline"] = {"canaries": event.canaries, "captured_at": event.captured_at}
                model["probe"] = {"every_s": event.every_s, "deadline_s": event.deadline_s}
            case CycleFailed():
                self._failed(event)
            case _:
                pass

    def know(self, model: str, state: PolicyState) -> None:
        """Take a model's policy state as it is, such as the one resumed at start."""
        self._model(model)["policy"] = state

    def forget(self, model: str) -> None:
        self._models.pop(model, None)

    def forget_gpus(self) -> None:
        self._gpu = {}

    def document(self, now: float) -> dict[str, Any]:
        """The whole of it, JSON-ready."""
        return {
            "at": now,
            "up_s": now - self._started_at,
            "models": {name: _json(model) for name, model in sorted(self._models.items())},
            "failure": self._failure,
            "gpu": self._gpu,
            "traces": dict(self._spans),
        }

    def _model(self, name: str) -> dict[str, Any]:
        return self._models.setdefault(name, {"probes": 0, "healthy_at": None, "last": {}})

    def _measured(self, event: Timed | LoadSeen | EngineSeen | GpuSeen | GrowthSeen | SpansTaken) -> None:
        match event:
            case Timed():
                self._timed(event)
            case LoadSeen():
                self._model(event.model).setdefault("load", {})[str(event.role)] = (
                    None if event.load is None else load_json(event.load, event.at)
                )
            case EngineSeen():
                self._model(event.model).setdefault("engines", {})[str(event.role)] = {
                    "at": event.at,
                    "tag": event.tag,
                    "findings": [_finding_json(finding) for finding in event.findings],
                }
            case GpuSeen():
                self._gpu = gpu_json(event.reading, event.at)
            case GrowthSeen():
                self._gpu.setdefault("growth", []).append(growth_json(event.leak))
            case SpansTaken():
                self._spans[event.outcome] += event.count
            case _:
                assert_never(event)

    def _failed(self, event: CycleFailed) -> None:
        failure = {"at": event.at, "error": event.error}
        if event.model:
            self._model(event.model)["failure"] = failure
        else:
            self._failure = failure

    def _timed(self, event: Timed) -> None:
        """Completes the newest probe's timing, unless a newer one has come."""
        result = event.result
        shown = self._model(event.model)["last"].get("public" if result.public else str(result.expected))
        if shown is not None and shown["trace_id"] == result.trace_id:
            shown.update(timing_json(result.timing))

    def _probed(self, event: Probed) -> None:
        model, result = self._model(event.model), event.assessment.result
        model["probes"] += 1
        model["last"]["public" if result.public else str(result.expected)] = assessment_json(event.assessment)
        if result.public and event.assessment.verdict is Verdict.HEALTHY:
            model["healthy_at"] = event.at


def _json(model: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value.to_json() if isinstance(value, PolicyState) else value for key, value in model.items()}


def score_json(score: Score, at: float) -> dict[str, Any]:
    """A sequential detector's score, with what it promises, JSON-ready."""
    return {
        "at": at,
        "evidence": finite(score.statistic),
        "limit": score.threshold,
        "promise": str(score.promise),
        "promised_run_length": score.promise.run_length,
        "observations": score.observations,
        "unusable": score.unusable,
        "alarm": None
        if score.alarm is None
        else {
            "sentence": score.alarm.sentence,
            "bet": score.alarm.bet,
            "group": score.alarm.group,
            "observations_ago": score.alarm.observations_ago,
        },
    }


def assessment_json(assessment: Assessment) -> dict[str, Any]:
    """One probe's whole story without its tensors, JSON-ready."""
    result, timing = assessment.result, assessment.result.timing
    return {
        "model": result.model,
        "canary": result.canary,
        "address": str(result.address),
        "expected": result.expected,
        "public": result.public,
        "seed": result.seed,
        "answered_by": None if result.fault else str(result.answered_by),
        "cached": result.cached,
        "trace_id": result.trace_id,
        **timing_json(timing),
        "fault": None if result.fault is None else _fault_json(result.fault),
        "verdict": assessment.verdict,
        "findings": [_finding_json(f) for f in assessment.findings],
        "scores": {f"{output}.{measure}": finite(score) for (output, measure), score in assessment.scores.items()},
        "confidences": {
            output: {"value": c.value, "top": c.top, "entropy": c.entropy}
            for output, c in assessment.confidences.items()
        },
    }


def timing_json(timing: Timing) -> dict[str, Any]:
    """When a probe was sent and where its time went, JSON-ready, in seconds."""
    return {
        "sent_at": timing.sent_at,
        "total_s": timing.total_s,
        "device_s": timing.device_s,
        "host_s": timing.host_s,
        "attribution": timing.attribution,
        "parts": {str(part): seconds for part, seconds in timing.parts.items()},
    }


def load_json(load: Load, at: float) -> dict[str, Any]:
    """One engine's traffic over an interval, JSON-ready."""
    return {
        "at": at,
        "over_s": load.over_s,
        "requests_per_s": load.requests_per_s,
        "inferences_per_s": load.inferences_per_s,
        "failures_per_s": dict(load.failures_per_s),
        "mean_s": {str(part): seconds for part, seconds in load.mean_s.items()},
        "batch_size": load.batch_size,
        "cache_hit_ratio": load.cache_hit_ratio,
        "queue_share": load.queue_share,
        "busy_ratio": load.busy_ratio,
    }


def gpu_json(reading: GpuReading, at: float) -> dict[str, Any]:
    """All GPUs at one moment, JSON-ready."""
    found = asdict(reading)
    for gpu in found["gpus"]:
        gpu["throttled_by"] = None if gpu["throttled_by"] is None else sorted(gpu["throttled_by"])
    return {"at": at, **found}


def growth_json(leak: Leak) -> dict[str, Any]:
    """A trend of GPU memory, JSON-ready."""
    return {"gpu": leak.gpu, "holder": leak.holder, "pids": list(leak.pids), **asdict(leak.growth)}


def _fault_json(fault: Fault) -> dict[str, Any]:
    return {"kind": fault.kind, "blame": fault.blame, "detail": fault.detail, "retry": fault.retry}


def _finding_json(finding: Finding) -> dict[str, Any]:
    return {
        "reason": finding.reason,
        "verdict": finding.verdict,
        "output": finding.output,
        "measure": finding.measure,
        "score": finite(finding.score),
        "limit": finite(finding.limit),
        "detail": finding.detail,
    }


def finite(number: float) -> float | None:
    """JSON has no NaN and no infinity: None stands for them."""
    return number if math.isfinite(number) else None
