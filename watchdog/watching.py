"""Everything that watches by one configuration: made whole, started, drained, closed."""

import asyncio
import functools
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from apscheduler.schedulers.asyncio import AsyncIOScheduler

from watchdog import alerting
from watchdog.assembly import (
    AssemblyError,
    Inputs,
    Surroundings,
    ask_engines,
    load_baseline,
    load_inputs,
    make_prober,
    open_endpoints,
    refuse_other_engine,
    surround,
)
from watchdog.canary_drift import CanaryDrift
from watchdog.canary_evidence import CanaryEvidence
from watchdog.channels import open_channel
from watchdog.config import Config, ModelSettings
from watchdog.cycle import Cycle
from watchdog.feeding import open_feed
from watchdog.gpu import open_gpus
from watchdog.gpu_watch import GpuWatch
from watchdog.heartbeat import Heartbeat, Pulse, patience_s
from watchdog.latency_watch import LatencyWatch
from watchdog.ledger import Resend
from watchdog.live import Feed
from watchdog.model.baseline import Baseline
from watchdog.model.engine import Description, Role
from watchdog.model.event import Baselined, RouteSeen, Switched, Timed
from watchdog.model.fault import Fault
from watchdog.notifier import Notifier
from watchdog.policy.memory import PolicyState
from watchdog.ports import Channel, Clock, Event, Evidence, Journal, Observer, Router
from watchdog.probe_targets import Lent, ProbeTargets
from watchdog.prober import Prober
from watchdog.routers import open_router
from watchdog.server_watch import ServerWatch
from watchdog.sharing import open_authority
from watchdog.sharing.authority import SharedAuthority
from watchdog.switching import recall
from watchdog.timekeeper import Timekeeper

Loaded = tuple[ModelSettings, Inputs, Baseline, Mapping[Role, Description | Fault]]
"""A model, its canaries, its baseline, and what the servers say of its engines."""

_SAVE_EVIDENCE_S = 10.0
_COUNT_S = 10.0
"""How often a server is asked for its statistics."""
_LOOK_AT_ENGINES_S = 60.0
_SWEEP_S = 5.0
_BETWEEN_PROBES_S = 0.5
"""What else is to be done is not to be done while a probe is timed, as far as intervals are alike.
What servers are asked comes halfway to the next probe, and with it traces have had time to arrive."""


@dataclass(kw_only=True, slots=True)
class Silence:
    """Of one router that could tell before; one that never could is none."""

    ever_heard: bool = False
    since: float | None = None

    def heard(self, seen: RouteSeen) -> str | None:
        """Why it does not tell, once that has lasted."""
        if seen.observed.known:
            self.ever_heard, self.since = True, None
            return None
        if self.since is None:
            self.since = seen.at
        lasts = seen.at - self.since >= alerting.ROUTER_SILENT_S
        return seen.observed.detail if self.ever_heard and lasts else None


@dataclass(kw_only=True, slots=True)
class Watching:
    """The parts that one configuration made, and the cadence that drives them."""

    config: Config
    cycles: Mapping[str, Cycle]
    notifier: Notifier
    evidence: CanaryEvidence
    feeds: Mapping[str, Feed]
    """Where patients' answers go, by model."""
    servers: Mapping[str, ServerWatch]
    """What servers tell of themselves, by model."""
    gpus: GpuWatch | None
    timekeeper: Timekeeper
    authority: SharedAuthority | None
    targets: ProbeTargets
    """Servers that callers name."""
    scheduler: AsyncIOScheduler
    stack: AsyncExitStack
    heartbeats: Sequence[Heartbeat] = ()
    lent: Mapping[str, Lent] = field(default_factory=dict)
    """What each model is asked and held against."""

    def go(self) -> None:
        """Start probing: at once, and then each model at its own phase of its interval."""
        now = datetime.now(UTC)
        for i, model in enumerate(self.config.models):
            cycle = self.cycles[model.name]
            self.notifier.know(model.name, cycle.state)
            every, phase = model.probe.every, model.probe.every * i / len(self.config.models)
            self.every(cycle.tick, every, now + timedelta(seconds=phase))
            if model.router is not None:
                self.every(cycle.look_at_route, cycle.look_every_s, now + timedelta(seconds=phase + every / 2))
            server = self.servers[model.name]
            between = phase + min(every, _COUNT_S) / 2
            self.every(server.count, _COUNT_S, now + timedelta(seconds=between))
            self.every(server.look, _LOOK_AT_ENGINES_S, now + timedelta(seconds=_COUNT_S + between))
        if self.gpus is not None and self.config.gpu is not None:
            self.every(self.gpus.look, self.config.gpu.every, now + timedelta(seconds=_BETWEEN_PROBES_S))
        if self.authority is not None:
            self.every(self.authority.keep, self.authority.keep_every_s, now)
        for heartbeat in self.heartbeats:
            self.every(heartbeat.beat, heartbeat.every_s, now + timedelta(seconds=_BETWEEN_PROBES_S))
        self.every(self._sweep, _SWEEP_S, now)
        self.notifier.begin()
        for feed in self.feeds.values():
            feed.start()
        self.every(self.evidence.save, _SAVE_EVIDENCE_S, now + timedelta(seconds=_SAVE_EVIDENCE_S))
        self.scheduler.start()

    def leads(self) -> dict[str, bool]:
        """Model → whether this watchdog leads, of those whose route is shared."""
        if self.authority is None:
            return {}
        return {model.name: self.authority.leads for model in self.config.models if model.shared}

    async def _sweep(self) -> None:
        self.timekeeper.sweep()

    def every(self, job: Callable[[], Coroutine[Any, Any, None]], seconds: float, first: datetime) -> None:
        """A late run is better than none, and one is enough for all that were missed.

        What is no coroutine the scheduler would run in a thread, where nothing here may be.
        """
        self.scheduler.add_job(
            job, "interval", seconds=seconds, next_run_time=first, misfire_grace_time=None, coalesce=True
        )

    async def drain(self) -> None:
        """Begin nothing more, and let what is in flight finish; each part of it has a deadline."""
        if self.scheduler.running:
            self.scheduler.pause()
        await asyncio.gather(*(feed.close() for feed in self.feeds.values()))
        await asyncio.gather(*(cycle.close() for cycle in self.cycles.values()))
        self.timekeeper.let_go()
        await self.evidence.save()

    async def close(self) -> None:
        """Drop the cadence, and everything that was opened, in reverse order."""
        if self.scheduler.running:
            self.scheduler.shutdown(wait=False)
            await asyncio.sleep(0)  # it ends by a callback on the loop
        await self.stack.aclose()


async def assemble(
    config: Config, journal: Journal, evidence: Evidence, observe: Observer, *, clock: Clock, timekeeper: Timekeeper
) -> Watching:
    """Build all that `config` names, or nothing.

    Raises:
        AssemblyError: something it names can't be used; what had been built is closed again.
    """
    async with AsyncExitStack() as stack:
        notifier = await stack.enter_async_context(Notifier(_outlets(config, stack), journal, evidence, observe, clock))
        gpus = _gpus(config, stack, notifier, observe=observe, clock=clock)
        cycles: dict[str, Cycle] = {}
        latencies: dict[str, LatencyWatch] = {}
        silences: dict[str, Silence] = {}
        pulse = Pulse({m.name: patience_s(m.probe.every, m.probe.deadline) for m in config.models})

        def tell(event: Event) -> None:
            observe(event)
            notifier.observe(event)
            pulse(event)
            if isinstance(event, Timed) and event.model in cycles:
                for suspicion in latencies[event.model].take(event):
                    cycles[event.model].suspect_soon(suspicion)
            elif isinstance(event, Switched) and gpus is not None:
                gpus.loaded()
            elif isinstance(event, RouteSeen):
                silence = silences.setdefault(event.model, Silence())
                notifier.hold(f"router of {event.model}", alerting.router_conditions(event.model, silence.heard(event)))

        around = surround(open_endpoints(config, stack), timekeeper, tell)
        authority = _authority(config, stack)
        drifts, feeds, servers, lent = {}, {}, {}, {}
        for model, inputs, baseline, said in await _load(config, around):
            name, prober = model.name, make_prober(model, inputs, baseline, around)
            for role, one in said.items():
                if not isinstance(one, Fault):
                    prober.told(role, one)
            lent[name] = Lent(settings=model, judge=prober.judge, canaries=inputs.canaries.canaries)
            promise = model.canary_promise()
            if promise is not None:
                drifts[name] = CanaryDrift(prober.judge, promise)
            servers[name] = _server(config, model, prober, cycles=cycles, gpus=gpus, notifier=notifier)
            latencies[name] = LatencyWatch(prober.judge, model.latency_promise(), tell)
            cycles[name] = Cycle(
                prober=prober,
                canaries=inputs.canaries.canaries,
                router=_router(model, stack),
                journal=journal,
                observe=tell,
                clock=clock,
                probe=model.probe,
                policy=model.policy,
                state=await _last_state(journal, name, clock()),
                authority=authority if model.shared else None,
                drift=drifts.get(name),
                drift_burst=model.drift.canary.burst if model.drift.canary else 0,
                circumstances=servers[name].circumstances,
            )
            feeds[name] = open_feed(
                model, said, cycles[name], prober=prober, journal=journal, evidence=evidence, around=around
            )
            tell(_baselined(model, inputs, baseline, prober=prober, at=clock()))
        targets = ProbeTargets(config, lent, around)
        stack.push_async_callback(targets.close)
        return Watching(
            config=config,
            cycles=cycles,
            notifier=notifier,
            evidence=CanaryEvidence(drifts, evidence, observe, clock),
            feeds=feeds,
            servers=servers,
            gpus=gpus,
            timekeeper=timekeeper,
            authority=authority,
            targets=targets,
            lent=lent,
            heartbeats=[Heartbeat(settings, pulse, tell, clock) for settings in config.heartbeats],
            scheduler=AsyncIOScheduler(timezone=UTC),
            stack=stack.pop_all(),
        )


def _gpus(
    config: Config, stack: AsyncExitStack, notifier: Notifier, *, observe: Observer, clock: Clock
) -> GpuWatch | None:
    settings = config.gpu
    if settings is None:
        return None
    source = open_gpus(settings)
    stack.push_async_callback(source.close)
    return GpuWatch(
        source,
        make_detector=settings.leak.detector,
        programs=settings.processes,
        headroom=settings.headroom,
        deadline_s=settings.deadline,
        observe=observe,
        hold=functools.partial(notifier.hold, "gpu"),
        clock=clock,
    )


def _server(
    config: Config,
    model: ModelSettings,
    prober: Prober,
    *,
    cycles: Mapping[str, Cycle],
    gpus: GpuWatch | None,
    notifier: Notifier,
) -> ServerWatch:
    name = model.name
    runtimes = {endpoint.name: endpoint.runtime for endpoint in config.endpoints}

    def healthy() -> bool:
        state = cycles[name].state
        slowed = state.slowed is not None and prober.clock() - state.slowed.since < alerting.SLOWED_FOR_S
        return state.state is state.home and state.trouble is None and not slowed

    return ServerWatch(
        prober,
        runtimes={role: runtimes[model.engine(role).address.endpoint] for role in Role},
        healthy=healthy,
        gpus=lambda: None if gpus is None else gpus.reading,
        loaded=gpus.loaded if gpus is not None else lambda: None,
        hold=lambda found: notifier.hold(f"engines of {name}", alerting.engine_conditions(name, found)),
    )


def _baselined(model: ModelSettings, inputs: Inputs, baseline: Baseline, *, prober: Prober, at: float) -> Baselined:
    latency, scores = prober.judge.limits()
    return Baselined(
        model=model.name,
        at=at,
        canaries=len(inputs.canaries.canaries),
        captured_at=baseline.created_at,
        latency_limits=latency,
        score_limits=scores,
        every_s=model.probe.every,
        deadline_s=model.probe.deadline,
        objective=model.objective,
        latency_objectives=tuple(window.objective for window in model.latency.windows),
        confidences=prober.judge.golden_confidences(),
    )


def _outlets(config: Config, stack: AsyncExitStack) -> dict[str, tuple[Channel, Resend]]:
    outlets = {}
    for settings in config.channels:
        channel = open_channel(settings)
        stack.push_async_callback(channel.close)
        outlets[settings.name] = (channel, settings.resend)
    return outlets


def _authority(config: Config, stack: AsyncExitStack) -> SharedAuthority | None:
    if config.sharing is None:
        return None
    authority = open_authority(config.sharing)
    stack.push_async_callback(authority.close)
    return authority


def _router(model: ModelSettings, stack: AsyncExitStack) -> Router | None:
    if model.router is None:
        return None
    router = open_router(model.router, {role: model.engine(role).address for role in Role})
    stack.push_async_callback(router.close)
    return router


async def _load(config: Config, around: Surroundings) -> list[Loaded]:
    """Canaries, baselines and engines of all models, or every problem that any of them has."""
    loaded: list[tuple[ModelSettings, Inputs, Baseline]] = []
    problems: list[str] = []
    for model in config.models:
        try:
            inputs = await asyncio.to_thread(load_inputs, model)
            loaded.append((model, inputs, await asyncio.to_thread(load_baseline, model, inputs)))
        except AssemblyError as error:
            problems += error.problems
    said = await asyncio.gather(*(ask_engines(model, around.endpoints) for model, _, _ in loaded))
    for (model, _, baseline), answers in zip(loaded, said, strict=True):
        try:
            refuse_other_engine(model, baseline, answers)
        except AssemblyError as error:
            problems += error.problems
    if problems:
        raise AssemblyError(problems)
    return [(*one, answers) for one, answers in zip(loaded, said, strict=True)]


async def _last_state(journal: Journal, model: str, now: float) -> PolicyState | None:
    """What the policy remembered; None where that is nothing, or the journal can't be read.

    Raises:
        AssemblyError: the journal's newest decision is not one that this version understands.
    """
    try:
        return await recall(journal, model, now)
    except OSError:
        return None
    except ValueError as error:
        raise AssemblyError([f"{model}: {error}"]) from error
