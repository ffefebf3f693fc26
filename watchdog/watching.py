"""Everything that watches by one configuration: made whole, started, drained, closed."""

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from apscheduler.schedulers.asyncio import AsyncIOScheduler

from watchdog.alerting import Resend
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
from watchdog.live import Feed
from watchdog.model.baseline import Baseline
from watchdog.model.engine import Description, Role
from watchdog.model.event import Baselined
from watchdog.model.fault import Fault
from watchdog.model.journal import EntryKind
from watchdog.notifier import Notifier
from watchdog.policy.memory import PolicyState
from watchdog.ports import Channel, Clock, Event, Evidence, Journal, Observer, Router
from watchdog.routers import open_router

Loaded = tuple[ModelSettings, Inputs, Baseline, Mapping[Role, Description | Fault]]
"""A model, its canaries, its baseline, and what the servers say of its engines."""

_LOOK_AT_ROUTE_S = 30.0
_SAVE_EVIDENCE_S = 10.0


@dataclass(kw_only=True, slots=True)
class Watching:
    """The parts that one configuration made, and the cadence that drives them."""

    config: Config
    cycles: Mapping[str, Cycle]
    notifier: Notifier
    evidence: CanaryEvidence
    feeds: Mapping[str, Feed]
    """Where patients' answers go, by model."""
    scheduler: AsyncIOScheduler
    stack: AsyncExitStack

    def go(self) -> None:
        """Start probing: at once, and then each model at its own phase of its interval."""
        now = datetime.now(UTC)
        for i, model in enumerate(self.config.models):
            cycle = self.cycles[model.name]
            self.notifier.know(model.name, cycle.state)
            every, phase = model.probe.every, model.probe.every * i / len(self.config.models)
            self._every(cycle.tick, every, now + timedelta(seconds=phase))
            if model.router is not None:
                self._every(cycle.look_at_route, _LOOK_AT_ROUTE_S, now + timedelta(seconds=phase + every / 2))
        for feed in self.feeds.values():
            feed.start()
        self._every(self.evidence.save, _SAVE_EVIDENCE_S, now + timedelta(seconds=_SAVE_EVIDENCE_S))
        self.scheduler.start()

    def _every(self, job: object, seconds: float, first: datetime) -> None:
        """A late run is better than none, and one is enough for all that were missed."""
        self.scheduler.add_job(
            job, "interval", seconds=seconds, next_run_time=first, misfire_grace_time=None, coalesce=True
        )

    async def drain(self) -> None:
        """Begin nothing more, and let what is in flight finish; each part of it has a deadline."""
        if self.scheduler.running:
            self.scheduler.pause()
        await asyncio.gather(*(feed.close() for feed in self.feeds.values()))
        await asyncio.gather(*(cycle.close() for cycle in self.cycles.values()))
        await self.evidence.save()

    async def close(self) -> None:
        """Drop the cadence, and everything that was opened, in reverse order."""
        if self.scheduler.running:
            self.scheduler.shutdown(wait=False)
            await asyncio.sleep(0)  # it ends by a callback on the loop
        await self.stack.aclose()


async def assemble(config: Config, journal: Journal, evidence: Evidence, observe: Observer, clock: Clock) -> Watching:
    """Build all that `config` names, or nothing.

    Raises:
        AssemblyError: something it names can't be used; what had been built is closed again.
    """
    async with AsyncExitStack() as stack:
        notifier = await stack.enter_async_context(Notifier(_outlets(config, stack), journal, observe, clock))

        def tell(event: Event) -> None:
            observe(event)
            notifier.observe(event)

        around = surround(open_endpoints(config, stack), tell)
        loaded = await _load(config, around)
        cycles, drifts, feeds = {}, {}, {}
        for model, inputs, baseline, said in loaded:
            router = _router(model, stack)
            prober = make_prober(model, inputs, baseline, around)
            promise = model.canary_promise()
            if promise is not None:
                drifts[model.name] = CanaryDrift(prober.judge, promise)
            cycles[model.name] = Cycle(
                prober=prober,
                canaries=inputs.canaries.canaries,
                router=router,
                journal=journal,
                observe=tell,
                clock=clock,
                probe=model.probe,
                policy=model.policy,
                state=await last_state(journal, model.name, clock()),
                drift=drifts.get(model.name),
                drift_burst=model.drift.canary.burst if model.drift.canary else 0,
            )
            feeds[model.name] = open_feed(
                model, said, cycles[model.name], prober=prober, journal=journal, evidence=evidence, around=around
            )
            latency, scores = prober.judge.limits()
            tell(
                Baselined(
                    model=model.name,
                    at=clock(),
                    canaries=len(inputs.canaries.canaries),
                    captured_at=baseline.created_at,
                    latency_limits=latency,
                    score_limits=scores,
                )
            )
        return Watching(
            config=config,
            cycles=cycles,
            notifier=notifier,
            evidence=CanaryEvidence(drifts, evidence, observe, clock),
            feeds=feeds,
            scheduler=AsyncIOScheduler(timezone=UTC),
            stack=stack.pop_all(),
        )


def _outlets(config: Config, stack: AsyncExitStack) -> dict[str, tuple[Channel, Resend]]:
    outlets = {}
    for settings in config.channels:
        channel = open_channel(settings)
        stack.push_async_callback(channel.close)
        outlets[settings.name] = (channel, settings.resend)
    return outlets


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


async def last_state(journal: Journal, model: str, now: float) -> PolicyState:
    """What the policy remembered when the watchdog last stopped, however it stopped.

    Raises:
        AssemblyError: the journal's newest decision is not one that this version understands.
    """
    entry = await journal.last(EntryKind.DECISION, model)
    if entry is None:
        return PolicyState(since=now)
    try:
        return PolicyState.from_json(entry.data["after"]).resumed(now)
    except (KeyError, ValueError) as error:
        raise AssemblyError([f"{model}: journal entry {entry.seq} can't be resumed from: {error}"]) from error
