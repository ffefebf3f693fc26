"""From a configuration to the parts that it names: endpoints, canaries, baselines, probers.

Shared by the running service and by the commands that work on one part of it.
"""

import asyncio
import errno
import random
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from watchdog.assess import AssessSettings, Judge
from watchdog.baselines import match, store
from watchdog.canaries.load import CanarySet, load
from watchdog.canaries.recipe import read_recipe
from watchdog.config import Config, ModelSettings
from watchdog.endpoints import open_endpoint
from watchdog.model.baseline import Baseline
from watchdog.model.engine import Description, Role
from watchdog.model.fault import Fault
from watchdog.model.route import Observed
from watchdog.ports import Clock, Endpoint, Observer
from watchdog.prober import Prober, Target
from watchdog.routers import open_router
from watchdog.timekeeper import Timekeeper
from watchdog.traces import TracesSettings

Progress = Callable[[int, int], None]
Count = Callable[[str, int], None]
"""Told what became of how many spans."""


class AssemblyError(ValueError):
    """A part that the configuration names can't be used. `problems` has a line for each."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(problems))


@dataclass(frozen=True, kw_only=True, slots=True)
class Inputs:
    """A model's canaries, as its recipe makes them."""

    canaries: CanarySet
    recipe_sha256: str


def open_endpoints(config: Config, stack: AsyncExitStack) -> dict[str, Endpoint]:
    """Every endpoint by name; `stack` closes them."""
    endpoints = {settings.name: open_endpoint(settings) for settings in config.endpoints}
    for endpoint in endpoints.values():
        stack.push_async_callback(endpoint.close)
    return endpoints


def load_inputs(model: ModelSettings, progress: Progress | None = None) -> Inputs:
    """Read the recipe and the canaries: seconds of work, so call it in a thread.

    Raises:
        AssemblyError: the recipe can't be used, or not one canary is left.
    """
    try:
        recipe, sha256 = read_recipe(model.canaries.recipe)
        canaries = load(model.canaries.path, recipe, allow=model.canaries.allow, progress=progress)
    except ValueError as error:
        raise AssemblyError([f"{model.name}: {error}"]) from error
    if not canaries.canaries:
        refused = [f"  {r.source}: {r.reason}" for r in canaries.refused] or ["  there is no file"]
        raise AssemblyError([f"{model.name}: {model.canaries.path} holds no usable canary:", *refused])
    return Inputs(canaries=canaries, recipe_sha256=sha256)


def load_baseline(model: ModelSettings, inputs: Inputs) -> Baseline:
    """Read the baseline and hold it against canaries and recipe.

    Raises:
        AssemblyError: it can't be read, or does not belong to them.
    """
    try:
        baseline = store.read(model.baseline)
    except store.BaselineError as error:
        raise AssemblyError([f"{model.name}: {error}"]) from error
    differs = match.against_inputs(baseline, model.name, inputs.canaries.canaries, inputs.recipe_sha256)
    differs += match.against_versions(baseline, {role: model.engine(role) for role in Role})
    _refuse(model, differs)
    return baseline


async def ask_engines(model: ModelSettings, endpoints: Mapping[str, Endpoint]) -> dict[Role, Description | Fault]:
    """What the servers say of both engines, or why they don't."""
    addresses = [model.engine(role).address for role in Role]
    said = await asyncio.gather(*(endpoints[a.endpoint].describe(a, model.probe.deadline) for a in addresses))
    return dict(zip(Role, said, strict=True))


async def ask_router(model: ModelSettings) -> Observed | None:
    """Which engine ordinary traffic gets, by the router's account; None where there is no router."""
    if model.router is None:
        return None
    router = open_router(model.router, {role: model.engine(role).address for role in Role})
    try:
        return await router.observe()
    finally:
        await router.close()


def refuse_other_engine(model: ModelSettings, baseline: Baseline, said: Mapping[Role, Description | Fault]) -> None:
    """Hold a baseline against what the safe engine's server says; one that says nothing contradicts nothing.

    Raises:
        AssemblyError: the baseline was captured from another engine.
    """
    safe = said[Role.SAFE]
    if not isinstance(safe, Fault):
        _refuse(model, match.against_tag(baseline, safe))


def _refuse(model: ModelSettings, differs: list[str]) -> None:
    if differs:
        raise AssemblyError(
            [
                f"{model.name}: the baseline {model.baseline} is not for what is in use:",
                *(f"  {line}" for line in differs),
                "  capture it again with `watchdog baseline CONFIG` once the change is meant",
            ]
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Surroundings:
    """What every prober shares."""

    endpoints: Mapping[str, Endpoint]
    observe: Observer
    clock: Clock
    seeds: random.Random
    timekeeper: Timekeeper


def surround(
    endpoints: Mapping[str, Endpoint], timekeeper: Timekeeper | None = None, observe: Observer = lambda _: None
) -> Surroundings:
    """The surroundings of a process of its own: wall clock, payloads never sent before."""
    return Surroundings(
        endpoints=endpoints,
        observe=observe,
        clock=time.time,
        seeds=random.Random(),  # noqa: S311 - nobody gains by guessing a canary's noise
        timekeeper=timekeeper or Timekeeper(time.time, lambda _outcome, _count: None, listening=False),
    )


@asynccontextmanager
async def listen_for_traces(
    settings: TracesSettings | None, count: Count, *, remember: int = 256
) -> AsyncIterator[Timekeeper]:
    """A timekeeper, and the intake that servers send their traces to, if one is configured.

    Raises:
        OSError: the intake's address can't be listened on; the message names it.
    """
    despite_crashes = settings is not None and settings.despite_crashes
    timekeeper = Timekeeper(
        time.time, count, listening=settings is not None, despite_crashes=despite_crashes, remember=remember
    )
    if settings is None:
        yield timekeeper
        return
    from watchdog.traces.intake import listen  # noqa: PLC0415 - needs aiohttp

    listening = await listen(settings, timekeeper.take, count, timekeeper.prefix)
    try:
        yield timekeeper
    finally:
        await listening.close()


@asynccontextmanager
async def keep_time(settings: TracesSettings | None, *, remember: int = 256) -> AsyncIterator[Timekeeper]:
    """`listen_for_traces` for one command: where a running watchdog has the address, traces are that one's.

    Raises:
        AssemblyError: the address can't be listened on, whoever has it.
    """

    def count(_outcome: str, _count: int) -> None:
        """A command that ends soon counts nothing."""

    async with AsyncExitStack() as stack:
        try:
            timekeeper = await stack.enter_async_context(listen_for_traces(settings, count, remember=remember))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise AssemblyError([f"traces.listen: {error.strerror}"]) from error
            timekeeper = Timekeeper(time.time, count, listening=False)
        yield timekeeper


def make_prober(model: ModelSettings, inputs: Inputs, baseline: Baseline | None, around: Surroundings) -> Prober:
    """A prober of one model; without a baseline it judges only what needs none."""
    engines = {role: model.engine(role) for role in Role}
    judge = Judge(
        settings=AssessSettings(outputs=model.outputs, collapse=model.collapse, latency=model.latency),
        engines=engines,
        canaries={canary.id: canary for canary in inputs.canaries.canaries},
        baseline=baseline,
    )
    target = Target(
        model=model.name,
        engines=engines,
        public=model.public_address,
        endpoints=around.endpoints,
        deadline_s=model.probe.deadline,
        device_output=model.device_output,
    )
    return Prober(target, judge, around.observe, around.clock, seeds=around.seeds, timekeeper=around.timekeeper)
