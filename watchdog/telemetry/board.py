"""What is true now, as one JSON document: what ``status``, the API and the page show."""

import math
from collections.abc import Mapping
from typing import Any

from watchdog.model.event import Baselined, CycleFailed, Diagnosed, Probed, RouteSeen, Scored, Switched
from watchdog.model.fault import Fault
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
            case Baselined():
                self._model(event.model)["baseline"] = {"canaries": event.canaries, "captured_at": event.captured_at}
            case CycleFailed():
                self._model(event.model)["failure"] = {"at": event.at, "error": event.error}
            case _:
                pass

    def know(self, model: str, state: PolicyState) -> None:
        """Take a model's policy state as it is, such as the one resumed at start."""
        self._model(model)["policy"] = state

    def forget(self, model: str) -> None:
        self._models.pop(model, None)

    def document(self, now: float) -> dict[str, Any]:
        """The whole of it, JSON-ready."""
        return {
            "at": now,
            "up_s": now - self._started_at,
            "models": {name: _json(model) for name, model in sorted(self._models.items())},
        }

    def _model(self, name: str) -> dict[str, Any]:
        return self._models.setdefault(name, {"probes": 0, "healthy_at": None, "last": {}})

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
        "sent_at": timing.sent_at,
        "total_s": timing.total_s,
        "device_s": timing.device_s,
        "host_s": timing.host_s,
        "attribution": timing.attribution,
        "fault": None if result.fault is None else _fault_json(result.fault),
        "verdict": assessment.verdict,
        "findings": [_finding_json(f) for f in assessment.findings],
        "scores": {f"{output}.{measure}": finite(score) for (output, measure), score in assessment.scores.items()},
        "confidences": {
            output: {"value": c.value, "top": c.top, "entropy": c.entropy}
            for output, c in assessment.confidences.items()
        },
    }


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
