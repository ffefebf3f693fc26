"""The last minutes of each model: what probes showed and took, how far evidence of drift has come."""

import math
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from watchdog.drift.histogram import CONFIDENCE_EDGES, Histogram
from watchdog.model.engine import Role
from watchdog.model.event import Baselined, Probed, Reported, Scored, Source, Timed
from watchdog.ports import Event
from watchdog.telemetry.board import finite, score_json, timing_json

KEPT_S = 900.0
MOST_POINTS = 1000
_STEP_S = 3.0
"""Of a detector's scores within so many seconds one is kept, the largest: patients' answers come by the hundred."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Evidence:
    at: float
    largest: float


@dataclass(kw_only=True, slots=True)
class _Track:
    """One reading's evidence."""

    score: dict[str, Any] = field(default_factory=dict)
    """The newest, as the status has it."""
    points: deque[_Evidence] = field(default_factory=lambda: deque(maxlen=int(KEPT_S / _STEP_S)))


@dataclass(kw_only=True, slots=True)
class _Past:
    """One model's."""

    baselined: Baselined | None = None
    probes: deque[dict[str, Any]] = field(default_factory=lambda: deque(maxlen=MOST_POINTS))
    """JSON-ready, of the public name, the oldest first."""
    seeds: deque[int] = field(default_factory=lambda: deque(maxlen=MOST_POINTS))
    """Which probe each of them is."""
    tracks: dict[tuple[Source, str], _Track] = field(default_factory=dict)
    reported: dict[str, deque[float]] = field(default_factory=dict)
    """Patients' answers: reading → the newest ones."""
    usual: dict[str, tuple[float, ...]] = field(default_factory=dict)


class History:
    """An observer that keeps `KEPT_S` seconds, and at most `MOST_POINTS` points a model."""

    def __init__(self) -> None:
        self._models: dict[str, _Past] = {}

    def __call__(self, event: Event) -> None:
        match event:
            case Probed() if event.assessment.result.public:
                self._probed(event)
            case Timed() if event.result.public:
                self._timed(event)
            case Scored():
                self._scored(event)
            case Baselined():
                self._past(event.model).baselined = event
            case Reported():
                self._reported(event)
            case _:
                pass

    def forget(self, model: str) -> None:
        self._models.pop(model, None)

    def document(self, model: str, now: float, since: float = -math.inf) -> dict[str, Any]:
        """What is kept of a model, JSON-ready.

        Args:
            model: its name.
            now: Unix seconds.
            since: of probes only those that are younger, so that who has the others need not get them again.
        """
        past = self._models.get(model, _Past())
        begin = max(since, now - KEPT_S)
        return {
            "model": model,
            "at": now,
            "over_s": KEPT_S,
            "probes": [probe for probe in past.probes if probe["at"] > begin],
            "limits": {} if past.baselined is None else _limits(past.baselined),
            "drift": {
                str(source): {
                    reading: {
                        **track.score,
                        "points": [[e.at, finite(e.largest)] for e in track.points if e.at > now - KEPT_S],
                    }
                    for (of, reading), track in past.tracks.items()
                    if of is source
                }
                for source in dict.fromkeys(source for source, _ in past.tracks)
            },
            "confidences": {"edges": list(CONFIDENCE_EDGES), **_confidences(past, now - KEPT_S)},
        }

    def _past(self, model: str) -> _Past:
        return self._models.setdefault(model, _Past())

    def _probed(self, event: Probed) -> None:
        past, assessment = self._past(event.model), event.assessment
        result = assessment.result
        past.seeds.append(result.seed)
        past.probes.append(
            {
                "at": event.at,
                "canary": result.canary,
                "profile": result.profile,
                "engine": str(result.expected),
                "verdict": str(assessment.verdict),
                "reason": None if assessment.reason is None else str(assessment.reason),
                "confidences": {name: finite(c.value) for name, c in assessment.confidences.items()},
                **timing_json(result.timing),
            }
        )

    def _timed(self, event: Timed) -> None:
        """Completes a probe's times: servers tell of a request after they have answered it."""
        past = self._past(event.model)
        for seed, probe in zip(reversed(past.seeds), reversed(past.probes), strict=True):
            if seed == event.result.seed:
                probe.update(timing_json(event.result.timing))
                return

    def _scored(self, event: Scored) -> None:
        track = self._past(event.model).tracks.setdefault((event.source, event.reading), _Track())
        track.score = score_json(event.score, event.at)
        points, evidence = track.points, event.score.statistic
        if points and 0 <= event.at - points[-1].at < _STEP_S:
            last = points.pop()
            points.append(_Evidence(at=last.at, largest=max(last.largest, evidence)))
        else:
            points.append(_Evidence(at=event.at, largest=evidence))

    def _reported(self, event: Reported) -> None:
        past = self._past(event.model)
        if event.usual:
            past.usual[event.reading] = event.values
        else:
            past.reported.setdefault(event.reading, deque(maxlen=MOST_POINTS)).extend(event.values)


def _limits(baselined: Baselined) -> dict[str, dict[str, float | None]]:
    """Engine → profile → seconds; null where nothing sets a limit."""
    found: dict[str, dict[str, float | None]] = {str(role): {} for role in Role}
    for (role, profile), seconds in baselined.latency_limits.items():
        found[str(role)][profile] = finite(seconds)
    return found


def _confidences(past: _Past, begin: float) -> dict[str, dict[str, dict[str, list[int]]]]:
    """Source → output → ``reference`` or an engine → counts by bin."""
    golden: Mapping[str, tuple[float, ...]] = {} if past.baselined is None else past.baselined.confidences
    canary: dict[str, dict[str, list[int]]] = {name: {"reference": _counts(v)} for name, v in golden.items()}
    for role in Role:
        seen: dict[str, list[float]] = {}
        for probe in past.probes:
            if probe["at"] > begin and probe["engine"] == role:
                for name, value in probe["confidences"].items():
                    if value is not None:
                        seen.setdefault(name, []).append(value)
        for name, values in seen.items():
            canary.setdefault(name, {})[str(role)] = _counts(values)
    live = {
        reading: {"reference": _counts(past.usual.get(reading, ())), "fast": _counts(past.reported.get(reading, ()))}
        for reading in {**past.usual, **past.reported}
    }
    return {"canary": canary, "live": live}


def _counts(values: Iterable[float]) -> list[int]:
    counts: list[int] = Histogram.of(np.array(list(values), dtype=np.float64)).counts.tolist()
    return counts
