"""A small world for live answers: evidence in memory, a clock to be set, a detector that can be computed by hand."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.core.virtual_time import EPOCH
from watchdog.drift.reference import Reference
from watchdog.live import Answering, LiveSettings, LiveWatch, ShadowSettings, Subject
from watchdog.model.engine import Role
from watchdog.model.event import CycleFailed, Ignored, Scored
from watchdog.model.observation import Observation
from watchdog.model.score import Alarm, Promise, Score
from watchdog.ports import Event

MODEL = "nodule"
SUBJECT = Subject(
    model=MODEL,
    engines={Role.FAST: Answering(name="nodule/2", tag="trt8"), Role.SAFE: Answering(name="nodule/1", tag="trt8-fp32")},
)
ENOUGH = 400
"""The smallest reference that a promise of one a year allows, or a little more."""


class MemoryEvidence:
    """Keeps the port's promises; its disk can fail."""

    def __init__(self) -> None:
        self.blobs: dict[str, bytes] = {}
        self.saves = 0
        self.fails: OSError | None = None

    async def save(self, name: str, data: bytes) -> None:
        self._check()
        self.saves += 1
        self.blobs[name] = data

    async def load(self, name: str) -> bytes | None:
        self._check()
        if self.blobs.get(name) == b"damaged":
            raise ValueError(f"{name} is damaged")
        return self.blobs.get(name)

    async def drop(self, name: str) -> None:
        self._check()
        self.blobs.pop(name, None)

    def _check(self) -> None:
        if self.fails is not None:
            raise self.fails


class StandIn:
    """Alarms once the values above 0.9 since the start are ten: a statistic that anybody can compute."""

    def __init__(self, reference: Reference, promise: Promise) -> None:
        self.reference = reference
        self.promise = promise

    def fresh(self) -> list[int]:
        return [0, 0]

    def restarted(self, state: list[int]) -> list[int]:
        return [0, 0]

    def update(self, state: list[int], study: Sequence[float]) -> tuple[list[int], Score]:
        state[0] += 1
        state[1] += max(study) > 0.9
        alarm = Alarm(observations_ago=10, bet="high", sentence="ten are high") if state[1] >= 10 else None
        score = Score(
            statistic=float(state[1]), threshold=10.0, promise=self.promise, observations=state[0], alarm=alarm
        )
        return state, score

    def dump(self, state: list[int]) -> bytes:
        return json.dumps([self.promise.run_length, *state]).encode()

    def load(self, data: bytes) -> list[int]:
        run_length, *state = json.loads(data)
        if run_length != self.promise.run_length:
            raise ValueError("of another promise")
        return list(state)


@dataclass(kw_only=True)
class Ward:
    """A model's watch, and all that it touches. Each `watch` is another process on the same disk."""

    evidence: MemoryEvidence = field(default_factory=MemoryEvidence)
    events: list[Event] = field(default_factory=list)
    alarms: list[Scored] = field(default_factory=list)
    at: float = EPOCH
    healthy: bool = True

    def watch(self, **more: Any) -> LiveWatch:
        given: dict[str, Any] = {
            "subject": SUBJECT,
            "readings": ("p",),
            "live": LiveSettings(reference=ENOUGH),
            "shadow": ShadowSettings(reference=ENOUGH),
            "evidence": self.evidence,
            "observe": self.events.append,
            "clock": lambda: self.at,
            "healthy": lambda: self.healthy,
            "on_alarm": self.alarms.append,
            "build": StandIn,
        }
        return LiveWatch(**(given | more))

    def of(self, kind: type[Any]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    def ignored(self) -> list[tuple[str, str, str, int]]:
        return [(str(e.source), e.reading, e.condition, e.count) for e in self.of(Ignored)]

    def errors(self) -> list[str]:
        return [e.error for e in self.of(CycleFailed)]


def seen(*values: float, reading: str = "p") -> list[Observation]:
    """An observation for each value."""
    return [Observation(readings={reading: (value,)}) for value in values]


def healthy_stream(count: int = ENOUGH) -> list[Observation]:
    """Never twice the same, never above 0.9."""
    return seen(*(0.1 + 0.6 * i / count for i in range(count)))
