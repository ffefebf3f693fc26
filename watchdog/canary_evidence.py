"""Keeps what canaries' detectors have gathered across restarts, beside the probing and never in its way."""

import asyncio
from collections.abc import Mapping

from watchdog.canary_drift import CanaryDrift
from watchdog.model.engine import Role
from watchdog.model.event import CycleFailed
from watchdog.ports import Clock, Evidence, Observer


class CanaryEvidence:
    """Saves each model's evidence when it has changed. A crash loses what came since the last time."""

    def __init__(self, drifts: Mapping[str, CanaryDrift], evidence: Evidence, observe: Observer, clock: Clock) -> None:
        self._drifts = drifts
        self._evidence = evidence
        self._observe = observe
        self._clock = clock
        self._saved: dict[str, bytes] = {}
        self._one_at_a_time = asyncio.Lock()

    async def recall(self) -> None:
        """Go on where the last process stopped. What can't be used is told, and gathered afresh."""
        for model, drift in self._drifts.items():
            for role in Role:
                try:
                    data = await self._evidence.load(_name(model, role))
                    if data is not None:
                        drift.load(role, data)
                except (OSError, ValueError) as error:
                    self._fail(model, f"the {role} engine's evidence is gathered afresh: {error}")

    async def save(self) -> None:
        """Everything that changed since the last time."""
        async with self._one_at_a_time:
            for model, drift in self._drifts.items():
                for role, data in drift.dump().items():
                    await self._save(model, _name(model, role), data)

    async def _save(self, model: str, name: str, data: bytes) -> None:
        if self._saved.get(name) == data:
            return
        try:
            await self._evidence.save(name, data)
            self._saved[name] = data
        except (OSError, ValueError) as error:
            self._fail(model, f"evidence can't be saved: {error}")

    def _fail(self, model: str, error: str) -> None:
        self._observe(CycleFailed(model=model, at=self._clock(), error=error))


def _name(model: str, role: Role) -> str:
    return f"{model}/canary/{role}"
