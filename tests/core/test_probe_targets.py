"""Servers that a caller names: whom a module may ask, in which turn, for how long, and what is left open."""

import asyncio
import random
from collections.abc import Callable
from typing import Any

import pytest

from tests.core.builders import CANARIES, MODEL, OUTPUT, PUBLIC, FakeEndpoint, World, a_judge, a_timekeeper
from tests.core.virtual_time import in_virtual_time, now
from watchdog import probe_targets
from watchdog.assembly import Surroundings
from watchdog.config import Config
from watchdog.endpoints.server import ServerSettings
from watchdog.model.engine import Role
from watchdog.model.fault import FaultKind
from watchdog.model.module_probe import ModuleProbe, Refusal, Refused
from watchdog.model.probe import InferRequest
from watchdog.model.verdict import Reason, Verdict
from watchdog.ports import Event
from watchdog.probe_targets import Lent, ProbeTargets

TARGET = "triton-1.imaging:8001"
CONFIG: dict[str, Any] = {
    "endpoints": [
        {"name": "e", "kind": "triton-grpc", "url": "triton:8001", "headers": {"x-site": "north"}},
        {"name": "safe", "kind": "triton-http", "url": "triton:8000"},
    ],
    "models": [
        {
            "name": MODEL,
            "endpoint": "e",
            "engines": {"fast": {"version": 1}, "safe": {"version": 2, "endpoint": "safe"}},
            "canaries": {"path": "canaries", "recipe": "recipe.yaml"},
            "baseline": "baseline",
            "outputs": [{"name": OUTPUT, "kind": "probability"}],
            "probe": {"deadline": "2s"},
        }
    ],
    "modules": [
        {"name": engine, "model": MODEL, "engine": engine, "targets": ["triton-*.imaging:8001"]}
        for engine in ("public", "fast", "safe")
    ],
}


class Servers:
    """All targets that were opened, and what is true at each."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.worlds: dict[str, World] = {}
        self.opened: list[ServerSettings] = []
        self.closed: list[str] = []
        self.most_at_once = self._at_once = 0
        self.make: Callable[[], World] = World
        monkeypatch.setattr(probe_targets, "open_endpoint", self.open)

    def world(self, target: str) -> World:
        return self.worlds.setdefault(target, self.make())

    def open(self, settings: ServerSettings) -> FakeEndpoint:
        self.opened.append(settings)
        servers = self

        class Counted(FakeEndpoint):
            async def infer(self, request: InferRequest, timeout_s: float) -> Any:
                servers._at_once += 1
                servers.most_at_once = max(servers.most_at_once, servers._at_once)
                try:
                    return await super().infer(request, timeout_s)
                finally:
                    servers._at_once -= 1

            async def close(self) -> None:
                servers.closed.append(settings.url)

        return Counted(self.world(settings.url))


@pytest.fixture
def servers(monkeypatch: pytest.MonkeyPatch) -> Servers:
    return Servers(monkeypatch)


def unheard(event: Event) -> None:
    pytest.fail(f"nobody should hear of {event}")


def the_targets(**changes: Any) -> ProbeTargets:
    config = Config.model_validate(CONFIG | changes)
    lent = {MODEL: Lent(settings=config.models[0], judge=a_judge(), canaries=CANARIES)}
    around = Surroundings(endpoints={}, observe=unheard, clock=now, seeds=random.Random(2), timekeeper=a_timekeeper())
    return ProbeTargets(config, lent, around)


async def probed(targets: ProbeTargets, module: str = "public", target: str = TARGET, **more: Any) -> ModuleProbe:
    came = await targets.probe(module, target, **more)
    assert isinstance(came, ModuleProbe), came
    return came


async def refused(targets: ProbeTargets, module: str = "public", target: str = TARGET, **more: Any) -> Refused:
    came = await targets.probe(module, target, **more)
    assert isinstance(came, Refused), came
    return came


@in_virtual_time
async def test_a_right_answer_is_a_success_and_nobody_else_hears_of_it(servers: Servers) -> None:
    probe = await probed(the_targets())
    assert (probe.success, probe.module, probe.target) == (True, "public", TARGET)
    assert probe.assessment.result.address.endpoint == TARGET
    assert probe.score_limits[OUTPUT, "max_abs"] == 0.1
    (settings,) = servers.opened
    assert (settings.url, dict(settings.headers)) == (TARGET, {"x-site": "north"})


@pytest.mark.parametrize(
    ("module", "kind", "path"),
    [("public", "triton-grpc", "public"), ("fast", "triton-grpc", "fast"), ("safe", "triton-http", "safe")],
)
@in_virtual_time
async def test_the_target_is_asked_as_the_modules_engine_is(
    servers: Servers, module: str, kind: str, path: str
) -> None:
    assert (await probed(the_targets(), module)).success
    ((_, asked, *_),) = servers.world(TARGET).asked("infer")
    assert (asked, getattr(servers.opened[0], "kind", "")) == (path, kind)


@in_virtual_time
async def test_by_the_public_name_either_engine_may_answer(servers: Servers) -> None:
    targets = the_targets()
    servers.worlds[TARGET] = World(serving=Role.SAFE)
    probe = await probed(targets)
    assert (probe.success, probe.assessment.result.expected) == (True, Role.SAFE)
    servers.worlds[TARGET].safe = "zeros"
    assert (await probed(targets)).assessment.verdict is Verdict.FAILED


@pytest.mark.parametrize(("behaviour", "reason"), [("zeros", Reason.ALL_ZERO), ("nan", Reason.NON_FINITE)])
@in_virtual_time
async def test_a_wrong_answer_is_none(servers: Servers, behaviour: str, reason: Reason) -> None:
    servers.worlds[TARGET] = World(fast=behaviour)
    probe = await probed(the_targets())
    assert (probe.success, probe.assessment.reason) == (False, reason)


@in_virtual_time
async def test_canaries_take_turns_for_each_module_and_target(servers: Servers) -> None:
    targets = the_targets()
    for module in ("public", "fast"):
        for target in (TARGET, "triton-2.imaging:8001"):
            sent = {(await probed(targets, module, target)).assessment.result.canary for _ in CANARIES}
            assert sent == {canary.id for canary in CANARIES}
    assert len(servers.opened) == 4, "a connection each, which is kept"


@pytest.mark.parametrize(
    ("module", "target", "reason", "said"),
    [
        ("other", TARGET, Refusal.NO_SUCH_MODULE, "there is no 'other'; there are: public, fast, safe"),
        ("", TARGET, Refusal.NO_SUCH_MODULE, "there is no ''"),
        ("public", "elsewhere.example:8001", Refusal.NOT_ALLOWED, "add it to `targets` of that module"),
        ("public", "", Refusal.NOT_ALLOWED, "allows ''"),
        ("ports", "triton.imaging:99999", Refusal.MALFORMED, "is no server's address"),
    ],
)
@in_virtual_time
async def test_nobody_is_asked_who_is_not_named(
    servers: Servers, module: str, target: str, reason: Refusal, said: str
) -> None:
    ports = {"name": "ports", "model": MODEL, "targets": ["triton.imaging:*"]}
    modules = [*CONFIG["modules"], ports] if module == "ports" else CONFIG["modules"]
    came = await refused(the_targets(modules=modules), module, target)
    assert came.reason is reason
    assert said in came.detail
    assert servers.opened == []


@pytest.mark.parametrize(
    ("own", "within_s", "took_s"),
    [(None, None, 2.0), ("500ms", None, 0.5), ("5s", 1.5, 1.5), (None, 9.5, 2.0)],
)
@in_virtual_time
async def test_a_silent_server_costs_the_shorter_of_both_deadlines(
    servers: Servers, own: str | None, within_s: float | None, took_s: float
) -> None:
    servers.make = lambda: World(fast="hang", response_cache=True)
    module = {"name": "m", "model": MODEL, "targets": [TARGET]} | ({"deadline": own} if own else {})
    probe = await probed(the_targets(modules=[module]), "m", within_s=within_s)
    fault = probe.assessment.result.fault
    assert fault is not None
    assert fault.kind is FaultKind.TIMEOUT
    assert not probe.success
    assert probe.took_s == pytest.approx(took_s, abs=0.01)


@in_virtual_time
async def test_a_caller_without_time_is_told_so(servers: Servers) -> None:
    assert (await refused(the_targets(), within_s=0.0)).reason is Refusal.NO_TIME
    assert servers.opened == []


@in_virtual_time
async def test_a_crowd_waits_and_is_asked_sixteen_at_a_time(servers: Servers) -> None:
    servers.make = lambda: World(fast="slow")
    names = [f"triton-{i}.imaging:8001" for i in range(32)]
    targets = the_targets()
    probes = await asyncio.gather(*(probed(targets, target=name) for name in names))
    assert servers.most_at_once == 16
    assert max(probe.waited_s for probe in probes) == pytest.approx(0.5, abs=0.05)
    assert all(probe.assessment.result.fault is None for probe in probes)


@in_virtual_time
async def test_whose_turn_does_not_come_is_told_to_come_again_and_no_server_is_blamed(servers: Servers) -> None:
    servers.make = lambda: World(fast="hang")
    targets = the_targets()
    came = await asyncio.gather(*(targets.probe("public", f"triton-{i}.imaging:8001") for i in range(20)))
    busy = [one for one in came if isinstance(one, Refused)]
    assert [one.reason for one in busy] == [Refusal.BUSY] * 4


@in_virtual_time
async def test_two_callers_of_one_target_are_served_one_after_the_other(servers: Servers) -> None:
    targets = the_targets()
    first, second = await asyncio.gather(probed(targets), probed(targets))
    assert first.assessment.result.canary != second.assessment.result.canary
    assert (servers.most_at_once, len(servers.opened)) == (1, 1)


@in_virtual_time
async def test_of_many_targets_those_asked_longest_ago_are_closed(servers: Servers) -> None:
    targets = the_targets()
    names = [f"triton-{i}.imaging:8001" for i in range(130)]
    for name in names[:128]:
        await probed(targets, target=name)
    await probed(targets, target=names[0])
    for name in names[128:]:
        await probed(targets, target=name)
    assert servers.closed == names[1:3]
    await targets.close()
    assert sorted(servers.closed) == sorted(names)


@in_virtual_time
async def test_an_end_lets_what_is_in_flight_be_answered_and_sends_nothing_more(servers: Servers) -> None:
    servers.make = lambda: World(fast="slow")
    targets = the_targets()
    in_flight = asyncio.create_task(probed(targets))
    await asyncio.sleep(0.1)
    closing = asyncio.create_task(targets.close())
    await asyncio.sleep(0.1)
    assert servers.closed == []
    late = await refused(targets)
    assert (await in_flight).assessment.result.fault is None
    await closing
    assert late.reason is Refusal.BUSY
    assert servers.closed == [TARGET]


def test_the_public_name_of_this_world_is_the_models() -> None:
    assert Config.model_validate(CONFIG).models[0].public_address == PUBLIC
