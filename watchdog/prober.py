"""Sends one canary through one engine and has the answer judged."""

import asyncio
import random
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from watchdog.assess import Judge
from watchdog.model.canary import Canary
from watchdog.model.engine import Address, Counters, Engine, Role
from watchdog.model.event import Probed
from watchdog.model.fault import Fault
from watchdog.model.probe import InferRequest, ProbeResult, Reply, Timing
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
        self._response_cache: bool | None = None

    async def learn(self) -> None:
        """Ask the server whether it has a response cache, so that the very first probe is watched for it.

        Without this, or if the server does not answer, it is asked beside the first probes.
        """
        await self._counters(self.target.engines[Role.FAST])

    async def probe(self, canary: Canary, role: Role, *, public: bool) -> Assessment:
        """One canary, to the pinned engine or to the public name that `role` should be serving."""
        engine = self.target.engines[role]
        address = self.target.public if public else engine.address
        seed = self._seeds.getrandbits(63)
        request = InferRequest(
            address=address,
            inputs=canary.perturbed(np.random.default_rng(seed)),
            outputs=tuple(output.name for output in self.judge.settings.outputs),
            id=f"watchdog-{seed:016x}",
        )
        before = await self._counters(engine) if self._response_cache else None
        sent_at = self._clock()
        answer = await self._infer(request, engine)
        result = ProbeResult(
            model=self.target.model,
            canary=canary.id,
            profile=canary.profile,
            address=address,
            expected=role,
            public=public,
            seed=seed,
            timing=Timing(sent_at=sent_at, total_s=max(0.0, self._clock() - sent_at)),
        )
        if isinstance(answer, Fault):
            result = replace(result, fault=answer)
        else:
            result = replace(
                result,
                timing=answer.timing,
                outputs=answer.outputs,
                answered_by=answer.answered_by,
                cached=None if before is None else _cached(before, await self._counters(engine)),
            )
        assessment = self.judge.assess(result)
        self._observe(Probed(model=self.target.model, at=self._clock(), assessment=assessment))
        return assessment

    async def _infer(self, request: InferRequest, engine: Engine) -> Reply | Fault:
        answering = self.target.endpoints[request.address.endpoint].infer(request, self.target.deadline_s)
        if self._response_cache is not None:
            return await answering
        answer, _ = await asyncio.gather(answering, self._counters(engine))  # a silent server costs one deadline
        return answer

    async def _counters(self, engine: Engine) -> Counters | None:
        """The server's counts for an engine; learns by the way whether a response cache could fool a probe."""
        said = await self.target.endpoints[engine.address.endpoint].describe(engine.address, self.target.deadline_s)
        if isinstance(said, Fault):
            return None
        self._response_cache = said.response_cache
        return said.counters


def _cached(before: Counters, after: Counters | None) -> bool | None:
    """Whether a cache answered: it was hit, and the engine did not run. None where nobody counts."""
    if after is None:
        return None
    return after.cache_hits > before.cache_hits and after.inferences == before.inferences
