"""Sends one canary through one engine and has the answer judged."""

import random
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from watchdog.assess import Judge
from watchdog.model.canary import Canary
from watchdog.model.engine import Address, Counters, Engine, Role
from watchdog.model.event import Probed
from watchdog.model.fault import Fault
from watchdog.model.probe import InferRequest, ProbeResult, Timing
from watchdog.model.verdict import Assessment
from watchdog.ports import Clock, Endpoint, Observer


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """One watched model: its engines, and the name that ordinary traffic uses."""

    model: str
    engines: Mapping[Role, Engine]
    public: Address
    endpoints: Mapping[str, Endpoint]
    """By the endpoint names that the addresses use."""
    deadline_s: float


class Prober:
    """Probes one model. Every payload is new, so that no cache can answer for the device."""

    def __init__(self, target: Target, judge: Judge, observe: Observer, clock: Clock, seeds: random.Random) -> None:
        self.target = target
        self.judge = judge
        self._observe = observe
        self._clock = clock
        self._seeds = seeds
        self._response_cache: bool | None = None  # unknown until the server has said so

    async def probe(self, canary: Canary, role: Role, *, public: bool) -> Assessment:
        """One canary, to the pinned engine or to the public name that `role` should be serving."""
        engine = self.target.engines[role]
        address = self.target.public if public else engine.address
        seed = self._seeds.getrandbits(63)
        before = await self._counters(engine)
        sent_at = self._clock()
        answer = await self.target.endpoints[address.endpoint].infer(
            InferRequest(
                address=address,
                inputs=canary.perturbed(np.random.default_rng(seed)),
                outputs=tuple(output.name for output in self.judge.settings.outputs),
                id=f"watchdog-{seed:016x}",
            ),
            self.target.deadline_s,
        )
        if isinstance(answer, Fault):
            result = ProbeResult(
                model=self.target.model,
                canary=canary.id,
                profile=canary.profile,
                address=address,
                expected=role,
                public=public,
                seed=seed,
                timing=Timing(sent_at=sent_at, total_s=self._clock() - sent_at),
                fault=answer,
            )
        else:
            result = ProbeResult(
                model=self.target.model,
                canary=canary.id,
                profile=canary.profile,
                address=address,
                expected=role,
                public=public,
                seed=seed,
                timing=answer.timing,
                outputs=answer.outputs,
                answered_by=answer.answered_by,
                cached=_cached(before, await self._counters(engine)),
            )
        assessment = self.judge.assess(result)
        self._observe(Probed(model=self.target.model, at=self._clock(), assessment=assessment))
        return assessment

    async def _counters(self, engine: Engine) -> Counters | None:
        """The server's counts for an engine, where it has a response cache that could fool a probe."""
        if self._response_cache is False:
            return None
        said = await self.target.endpoints[engine.address.endpoint].describe(engine.address, self.target.deadline_s)
        if isinstance(said, Fault):
            return None
        self._response_cache = said.response_cache
        return said.counters if said.response_cache else None


def _cached(before: Counters | None, after: Counters | None) -> bool | None:
    """Whether a cache answered: it was hit, and the engine did not run. None where nobody counts."""
    if before is None or after is None:
        return None
    return after.cache_hits > before.cache_hits and after.inferences == before.inferences
