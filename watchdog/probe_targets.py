"""Probes of servers that a caller names, such as Prometheus for its service discovery: many endpoints, one watchdog.

A module of the configuration lends a watched model's canaries, baseline and limits, and its endpoint's kind, TLS and
headers. What comes of it is the caller's alone: no metric, journal or policy of the watchdog's own hears of it.
"""

import asyncio
import itertools
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, replace

from pydantic import ValidationError

from watchdog.assembly import Surroundings
from watchdog.assess import Judge
from watchdog.config import Config, ModelSettings, ModuleSettings, at_target
from watchdog.endpoints import EndpointSettings, open_endpoint
from watchdog.model.canary import Canary
from watchdog.model.engine import Address, Description, Engine, Role
from watchdog.model.fault import Fault
from watchdog.model.load import Statistics
from watchdog.model.module_probe import ModuleProbe, Refusal, Refused
from watchdog.model.probe import InferRequest, Reply
from watchdog.model.verdict import Assessment
from watchdog.panel import mixed
from watchdog.ports import Endpoint
from watchdog.prober import Prober, Target
from watchdog.settings import complaint
from watchdog.transport import one_line

_AT_ONCE = 16
_KEPT = 128
"""Servers to which a connection is kept; of more, those that were asked longest ago are closed."""
_LEAST_S = 0.05
"""Less time than this is none: a failed probe would tell of the caller's clock, and not of the server."""
_FOR_ITS_TURN = 0.5
"""So much of its time a probe may wait for its turn: the rest is the server's, who is not to be blamed for a crowd."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Lent:
    """What a watched model gives to the modules that name it."""

    settings: ModelSettings
    judge: Judge
    canaries: Sequence[Canary]


class _Hurried:
    """An endpoint of which all calls together end at one moment."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self.give_up_at = 0.0
        """By the loop's clock."""

    def _left(self, timeout_s: float) -> float:
        return max(0.0, min(timeout_s, self.give_up_at - asyncio.get_running_loop().time()))

    async def infer(self, request: InferRequest, timeout_s: float) -> Reply | Fault:
        return await self._endpoint.infer(request, self._left(timeout_s))

    async def describe(self, address: Address, timeout_s: float) -> Description | Fault:
        return await self._endpoint.describe(address, self._left(timeout_s))

    async def statistics(self, address: Address, timeout_s: float) -> Statistics | Fault:
        return await self._endpoint.statistics(address, self._left(timeout_s))

    async def close(self) -> None:
        await self._endpoint.close()


@dataclass(kw_only=True, slots=True, eq=False)
class _Peer:
    """One server as one module asks it, a probe at a time."""

    endpoint: _Hurried
    prober: Prober
    canaries: Iterator[Canary]
    turn: asyncio.Lock
    users: int = 0

    async def probe(self, module: ModuleSettings, give_up_at: float) -> Assessment:
        self.endpoint.give_up_at = give_up_at
        public = module.role is None
        # A target's route is not known here: by the public name either engine may answer, each held against its limits.
        role = module.role or Role.FAST
        return await self.prober.probe(next(self.canaries), role, public=public, either=public)


class ProbeTargets:
    """All modules of one configuration. `close` ends it; what is in flight is waited for."""

    def __init__(self, config: Config, lent: Mapping[str, Lent], around: Surroundings) -> None:
        """`lent` has each watched model by name."""
        self._modules = {module.name: module for module in config.modules}
        self._endpoints: dict[str, EndpointSettings] = {endpoint.name: endpoint for endpoint in config.endpoints}
        self._lent = lent
        self._around = around
        self._peers: OrderedDict[tuple[str, str], _Peer] = OrderedDict()
        """(module, target), the one that was asked longest ago first."""
        self._slots = asyncio.Semaphore(_AT_ONCE)
        self._closed = False

    async def probe(self, name: str, target: str, within_s: float | None = None) -> ModuleProbe | Refused:
        """Send the next canary to `target` as module `name` says.

        Args:
            name: the module's.
            target: a server's address, as the module's endpoint takes it for its `url`.
            within_s: how long the caller waits, if that is known.
        """
        loop = asyncio.get_running_loop()
        began_at = loop.time()
        module = self._modules.get(name)
        if module is None:
            return _refused(Refusal.NO_SUCH_MODULE, f"module: there is no {_brief(name)}; there are: {self._names()}")
        if not module.allows(target):
            said = f"target: no pattern of module {name} allows {_brief(target)}: add it to `targets` of that module"
            return _refused(Refusal.NOT_ALLOWED, said)
        own_s = module.deadline or self._lent[module.model].settings.probe.deadline
        deadline_s = own_s if within_s is None else min(own_s, within_s)
        if deadline_s < _LEAST_S:
            return _refused(Refusal.NO_TIME, "the scrape's timeout leaves no time to ask: make it 1 s or more")
        async with AsyncExitStack() as stack:
            try:
                peer = stack.enter_context(self._peer(module, target))
            except ValidationError as error:
                return _refused(Refusal.MALFORMED, f"target: {complaint(error.errors(include_url=False)[0])}")
            stack.push_async_callback(self._forget_oldest)
            try:
                async with asyncio.timeout(_FOR_ITS_TURN * deadline_s):
                    await stack.enter_async_context(peer.turn)
                    await stack.enter_async_context(self._slots)
            except TimeoutError:
                said = f"{_AT_ONCE} probes at once are the most, and others came first: ask again, or ask less often"
                return _refused(Refusal.BUSY, said)
            if self._closed:
                return _refused(Refusal.BUSY, "another configuration takes over: ask again")
            waited_s = loop.time() - began_at
            assessment = await peer.probe(module, began_at + deadline_s)
        left_s = max(0.0, began_at + deadline_s - loop.time())
        known = await self._around.timekeeper.settled([assessment.result], min(left_s, peer.prober.patience_s))
        if known:
            timing = known[0].timing
            assessment = replace(assessment, result=replace(assessment.result, timing=timing))
        judge, result = peer.prober.judge, assessment.result
        return ModuleProbe(
            module=name,
            target=target,
            took_s=loop.time() - began_at,
            waited_s=waited_s,
            deadline_s=deadline_s,
            assessment=assessment,
            latency_limit_s=judge.latency_limit(result.expected, result.profile),
            score_limits=judge.limits()[1],
            settings=module.model_dump(mode="json", exclude_none=True),
        )

    async def close(self) -> None:
        """Send nothing more, let what was sent be answered, and end all connections."""
        self._closed = True
        await asyncio.gather(*map(_closed, self._peers.values()))
        self._peers.clear()

    def _names(self) -> str:
        return ", ".join(self._modules) or "none: the configuration has no `modules`"

    @contextmanager
    def _peer(self, module: ModuleSettings, target: str) -> Iterator[_Peer]:
        """Raises ValidationError: `target` is no address for the module's kind of endpoint."""
        key = (module.name, target)
        peer = self._peers.get(key) or self._peers.setdefault(key, self._open(module, target))
        self._peers.move_to_end(key)
        peer.users += 1
        try:
            yield peer
        finally:
            peer.users -= 1

    def _open(self, module: ModuleSettings, target: str) -> _Peer:
        lent, around = self._lent[module.model], self._around
        settings = at_target(self._endpoints[module.endpoint_of(lent.settings)], target)
        endpoint = _Hurried(open_endpoint(settings))
        engines = {role: _moved(lent.settings.engine(role), target) for role in Role}
        prober = Prober(
            Target(
                model=f"{module.name} at {target}",  # no watched model's name: what is told of those is not of this
                engines=engines,
                public=replace(lent.settings.public_address, endpoint=target),
                endpoints={target: endpoint},
                deadline_s=module.deadline or lent.settings.probe.deadline,
                device_output=lent.settings.device_output,
            ),
            lent.judge,
            lambda _: None,
            around.clock,
            seeds=around.seeds,
            timekeeper=around.timekeeper,
        )
        canaries = mixed(lent.canaries)
        first = around.seeds.randrange(
            len(canaries)
        )  # or servers that are too many to be kept would get one canary only
        return _Peer(
            endpoint=endpoint,
            prober=prober,
            canaries=itertools.islice(itertools.cycle(canaries), first, None),
            turn=asyncio.Lock(),
        )

    async def _forget_oldest(self) -> None:
        for key, peer in list(self._peers.items())[: max(0, len(self._peers) - _KEPT)]:
            if not peer.users:
                del self._peers[key]
                await peer.endpoint.close()


async def _closed(peer: _Peer) -> None:
    async with peer.turn:
        await peer.endpoint.close()


def _moved(engine: Engine, target: str) -> Engine:
    return replace(engine, address=replace(engine.address, endpoint=target))


def _refused(reason: Refusal, detail: str) -> Refused:
    return Refused(reason=reason, detail=detail)


def _brief(text: str) -> str:
    return repr(one_line(text, most=120))
