"""Sends one canary through one engine and has the answer judged."""

import asyncio
import random
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from watchdog.assess import Judge
from watchdog.model.canary import Canary
from watchdog.model.engine import Address, Counters, Description, Engine, Role
from watchdog.model.event import Probed, Timed
from watchdog.model.fault import Fault
from watchdog.model.load import Statistics
from watchdog.model.probe import Attribution, InferRequest, ProbeResult, Reply, Timing
from watchdog.model.verdict import Assessment, Reason
from watchdog.ports import Clock, Endpoint, Observer
from watchdog.timekeeper import WAIT_S, Timekeeper


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """One watched model: its engines, and the name that ordinary traffic uses."""

    model: str
    engines: Mapping[Role, Engine]
    public: Address
    endpoints: Mapping[str, Endpoint]
    """By the endpoint names that the addresses use."""
    deadline_s: float
    device_output: str = ""
    """An output in which the model itself tells its device time, in seconds; empty where there is none."""


class Prober:
    """Probes one model. Every payload is new, so that no cache can answer for the device."""

    def __init__(
        self,
        target: Target,
        judge: Judge,
        observe: Observer,
        clock: Clock,
        *,
        seeds: random.Random,
        timekeeper: Timekeeper,
    ) -> None:
        self.target = target
        self.judge = judge
        self.timekeeper = timekeeper
        self.observe = observe
        self.clock = clock
        self._seeds = seeds
        self._servers: dict[str, Description] = {}
        """By endpoint, what was told last."""
        self._caches: dict[Role, bool] = {}
        """Whether a response cache may answer for an engine."""

    @property
    def patience_s(self) -> float:
        """How long after an answer its trace may come, by what the servers tell; 0 where none will."""
        return max((self._patience_s(said) for said in self._servers.values()), default=0.0)

    def _patience_s(self, said: Description) -> float:
        if not self.timekeeper.may_trace(said) or (said.tracing is not None and not said.tracing.on):
            return 0.0
        if said.tracing is None or said.tracing.delay_s is None:
            return WAIT_S
        return 2 * said.tracing.delay_s + 0.5

    def _traces(self, address: Address) -> bool:
        """Whether a probe asks to be traced: not before it is known that this can't harm who gets it."""
        own = {engine.address.endpoint for engine in self.target.engines.values()}
        reached = {address.endpoint} if address.endpoint in own else own  # a gateway may pass it on to either
        said = [self._servers.get(endpoint) for endpoint in reached]
        return all(one is not None and self.timekeeper.may_trace(one) for one in said)

    def told(self, role: Role, said: Description) -> None:
        """What an engine's server says, whoever asked: whether a cache could fool a probe, and how it traces."""
        self._servers[self.target.engines[role].address.endpoint] = said
        self._caches[role] = said.response_cache

    async def learn(self) -> None:
        """Ask both engines' servers, so that the very first probe is watched for a response cache, and traced.

        Without this, or if a server does not answer, it is asked beside the first probes.
        """
        await asyncio.gather(*map(self._counters, self.target.engines.values()))

    async def probe(self, canary: Canary, role: Role, *, public: bool, either: bool = False) -> Assessment:
        """One canary, to the pinned engine or to the public name that `role` should be serving.

        Args:
            canary: what is sent.
            role: who should answer.
            public: whether it takes the way of ordinary traffic.
            either: whether that is divided, so that the other engine may answer as well; it is then judged as such.
        """
        engine = self.target.engines[role]
        address = self.target.public if public else engine.address
        seed, traced = self._seeds.getrandbits(63), self._traces(address)
        trace_id = self.timekeeper.begin(traced=traced)
        wanted = [output.name for output in self.judge.settings.outputs]
        request = InferRequest(
            address=address,
            inputs=canary.perturbed(np.random.default_rng(seed)),
            outputs=tuple(wanted + [self.target.device_output] * bool(self.target.device_output)),
            id=f"watchdog-{seed:016x}",
            headers={"traceparent": f"00-{trace_id}-{seed | 1:016x}-01"} if traced else {},
        )
        before = await self._counters(engine) if self._caches.get(role) else None
        sent_at = self.clock()
        answer = await self._infer(request, engine)
        result = ProbeResult(
            model=self.target.model,
            canary=canary.id,
            profile=canary.profile,
            address=address,
            expected=role,
            public=public,
            seed=seed,
            timing=Timing(sent_at=sent_at, total_s=max(0.0, self.clock() - sent_at)),
            trace_id=trace_id,
        )
        if isinstance(answer, Fault):
            self.timekeeper.forget(trace_id)
            result = replace(result, fault=answer)
        else:
            result = replace(
                result,
                timing=_with_own_time(answer, self.target.device_output),
                outputs={name: array for name, array in answer.outputs.items() if name != self.target.device_output},
                answered_by=answer.answered_by,
                cached=None if before is None else _cached(before, await self._counters(engine)),
            )
        assessment = self.judge.assess(result)
        if either and any(finding.reason is Reason.WRONG_VERSION for finding in assessment.findings):
            result = replace(result, expected=role.other)
            assessment = self.judge.assess(result)
        self.observe(Probed(model=self.target.model, at=self.clock(), assessment=assessment))
        if result.fault is None:
            self.timekeeper.answered(result, self._timed)
        return assessment

    async def statistics(self, role: Role) -> Statistics | Fault:
        """What the server has counted of an engine's traffic."""
        address = self.target.engines[role].address
        return await self.target.endpoints[address.endpoint].statistics(address, self.target.deadline_s)

    def _timed(self, result: ProbeResult) -> None:
        self.observe(Timed(model=self.target.model, at=self.clock(), result=result))

    async def _infer(self, request: InferRequest, engine: Engine) -> Reply | Fault:
        answering = self.target.endpoints[request.address.endpoint].infer(request, self.target.deadline_s)
        if engine.role in self._caches:
            return await answering
        answer, _ = await asyncio.gather(answering, self._counters(engine))  # a silent server costs one deadline
        return answer

    async def _counters(self, engine: Engine) -> Counters | None:
        """The server's counts for an engine; learns by the way what the server says of itself."""
        said = await self.target.endpoints[engine.address.endpoint].describe(engine.address, self.target.deadline_s)
        if isinstance(said, Fault):
            return None
        self.told(engine.role, said)
        return said.counters


def _cached(before: Counters, after: Counters | None) -> bool | None:
    """Whether a cache answered: it was hit, and the engine did not run. None where nobody counts."""
    if after is None:
        return None
    return after.cache_hits > before.cache_hits and after.inferences == before.inferences


def _with_own_time(answer: Reply, device_output: str) -> Timing:
    """The answer's timing, with the device time that the model tells; what can't be one is left out."""
    told = answer.outputs.get(device_output)
    if told is None or not told.size or not np.issubdtype(told.dtype, np.floating):
        return answer.timing
    device_s = float(told.max())  # a row for each image of the batch, which ran as one
    if not 0.0 <= device_s <= answer.timing.total_s:
        return answer.timing
    return replace(answer.timing, device_s=device_s, attribution=Attribution.MODEL)
