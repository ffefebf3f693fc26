"""One canary through one engine: what is sent, what is recorded, and who is asked about caches."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tests.core.builders import (
    CANARIES,
    ENGINES,
    MODEL,
    OUTPUT,
    PUBLIC,
    FakeEndpoint,
    World,
    a_prober,
    a_timekeeper,
)
from tests.core.virtual_time import EPOCH, in_virtual_time
from watchdog.model.engine import Counters, Description, Role, Tracing
from watchdog.model.event import Probed
from watchdog.model.fault import FaultKind
from watchdog.model.probe import InferRequest
from watchdog.model.verdict import Reason, Verdict
from watchdog.timekeeper import WAIT_S

CANARY = CANARIES[0]


@in_virtual_time
async def test_a_probe_is_recorded_in_full_and_observed() -> None:
    world, events = World(), list[Any]()
    sent: list[InferRequest] = []
    world.on_infer = sent.append
    prober = a_prober(world, events.append)

    assessment = await prober.probe(CANARY, Role.SAFE, public=False)

    result = assessment.result
    assert (result.model, result.canary, result.expected, result.public) == (MODEL, "c0", Role.SAFE, False)
    assert (result.address, str(result.answered_by)) == (ENGINES[Role.SAFE].address, "nodule/2")
    assert (assessment.verdict, result.fault, result.cached) == (Verdict.HEALTHY, None, None)
    assert events == [Probed(model=MODEL, at=result.timing.sent_at + result.timing.total_s, assessment=assessment)]
    (request,) = sent
    assert request.id == f"watchdog-{result.seed:016x}"
    assert request.outputs == (OUTPUT,)
    again = CANARY.perturbed(np.random.default_rng(result.seed))
    assert request.inputs["x"].tobytes() == again["x"].tobytes(), "the seed reproduces the payload"


@in_virtual_time
async def test_the_public_name_is_asked_without_a_version() -> None:
    world = World(serving=Role.SAFE)
    assessment = await a_prober(world).probe(CANARY, Role.SAFE, public=True)
    assert (assessment.result.address, assessment.verdict) == (PUBLIC, Verdict.HEALTHY)
    elsewhere = await a_prober(world).probe(CANARY, Role.FAST, public=True)
    assert elsewhere.reason is Reason.WRONG_VERSION


@in_virtual_time
async def test_payloads_never_repeat() -> None:
    world, sent = World(), list[InferRequest]()
    world.on_infer = sent.append
    prober = a_prober(world)
    for _ in range(20):
        await prober.probe(CANARY, Role.FAST, public=True)
    assert len({request.inputs["x"].tobytes() for request in sent}) == 20
    assert len({request.id for request in sent}) == 20


@pytest.mark.parametrize(
    ("behaviour", "kind", "took"), [("hang", FaultKind.TIMEOUT, 2.0), ("refuse", FaultKind.REFUSED, 0.005)]
)
@in_virtual_time
async def test_no_answer_is_a_result_with_its_time(behaviour: str, kind: FaultKind, took: float) -> None:
    assessment = await a_prober(World(fast=behaviour)).probe(CANARY, Role.FAST, public=True)
    result = assessment.result
    assert result.fault is not None
    assert (result.fault.kind, assessment.verdict, result.outputs) == (kind, Verdict.INCONCLUSIVE, {})
    assert result.timing.total_s == pytest.approx(took, abs=1e-6)
    assert EPOCH <= result.timing.sent_at <= EPOCH + 0.01


@in_virtual_time
async def test_a_server_without_a_cache_is_asked_once() -> None:
    world = World()
    prober = a_prober(world)
    for _ in range(3):
        await prober.probe(CANARY, Role.FAST, public=True)
    assert len(world.asked("describe")) == 1


@in_virtual_time
async def test_a_server_that_could_not_say_is_asked_again() -> None:
    world = World(fast="refuse", response_cache=True)
    prober = a_prober(world)
    await prober.probe(CANARY, Role.FAST, public=True)
    world.fast = "right"
    await prober.probe(CANARY, Role.FAST, public=True)
    assert (await prober.probe(CANARY, Role.FAST, public=True)).result.cached is False


@pytest.mark.parametrize(
    ("counts", "cached"),
    [
        (Counters(inferences=5, cache_hits=1), False),
        (Counters(inferences=4, cache_hits=2), True),
        (Counters(inferences=5, cache_hits=2), False),
        (Counters(inferences=4, cache_hits=1), False),
    ],
)
@in_virtual_time
async def test_a_cache_answered_where_it_was_hit_and_the_engine_did_not_run(counts: Counters, cached: bool) -> None:
    world = World(response_cache=True)
    prober = a_prober(world)
    endpoint = prober.target.endpoints["e"]
    assert isinstance(endpoint, FakeEndpoint)
    endpoint.counters = Counters(inferences=4, cache_hits=1)
    await prober.learn()

    def count(_: InferRequest) -> None:
        endpoint.counters = counts

    world.on_infer = count
    assessment = await prober.probe(CANARY, Role.FAST, public=True)
    assert assessment.result.cached is cached
    assert (assessment.reason is Reason.CACHED) is cached
    assert len(world.asked("describe")) == 4, "of both engines to learn, and before and after the probe"


@in_virtual_time
async def test_a_cache_that_is_switched_on_while_running_is_watched_from_then_on_and_of_that_engine_alone() -> None:
    world = World()
    prober = a_prober(world)
    await prober.learn()
    assert (await prober.probe(CANARY, Role.FAST, public=True)).result.cached is None
    prober.told(Role.FAST, Description(server="fake 1.0", inputs=(), outputs=(), response_cache=True))
    asked = len(world.asked("describe"))
    assert (await prober.probe(CANARY, Role.SAFE, public=False)).result.cached is None
    assert len(world.asked("describe")) == asked
    world.response_cache = True
    assert (await prober.probe(CANARY, Role.FAST, public=True)).result.cached is False
    assert len(world.asked("describe")) == asked + 2


SOUND = {"server": "triton 2.58.0", "extensions": ("trace",)}
CRASHING = {"server": "triton 2.51.0", "extensions": ("trace",)}


def traced_by(sent: list[InferRequest]) -> list[bool]:
    return ["traceparent" in request.headers for request in sent]


@pytest.mark.parametrize(
    ("said", "keeper", "traced"),
    [
        (SOUND, {"listening": True}, True),
        (SOUND, {"listening": False}, False),
        (CRASHING, {"listening": True}, False),
        (CRASHING, {"listening": True, "despite_crashes": True}, True),
        (CRASHING | {"server": "ct-scanner 2.51.0"}, {"listening": True}, False),
    ],
    ids=["sound", "nobody listens", "may crash", "may crash, and accepted", "may crash, under another name"],
)
@in_virtual_time
async def test_only_a_server_that_is_known_to_bear_it_is_asked_to_trace(
    said: dict[str, Any], keeper: dict[str, bool], traced: bool
) -> None:
    world, sent = World(description=said), list[InferRequest]()
    world.on_infer = sent.append
    prober = a_prober(world)
    prober.timekeeper = a_timekeeper(**keeper)
    for _ in range(2):
        await prober.probe(CANARY, Role.FAST, public=True)
    assert traced_by(sent) == [False, traced], "and none before it has said what it is"


@in_virtual_time
async def test_each_server_is_asked_to_trace_by_what_it_is_itself_and_a_gateway_only_if_all_behind_it_bear_it() -> None:
    new, old = World(description=SOUND), World(description=CRASHING)
    prober = a_prober(new)
    there = replace(ENGINES[Role.SAFE], address=replace(ENGINES[Role.SAFE].address, endpoint="old"))
    prober.target = replace(
        prober.target,
        engines=ENGINES | {Role.SAFE: there},
        public=replace(PUBLIC, endpoint="gateway"),
        endpoints={"e": FakeEndpoint(new), "old": FakeEndpoint(old), "gateway": FakeEndpoint(new)},
    )
    prober.timekeeper = a_timekeeper(listening=True)
    sent: list[InferRequest] = []
    new.on_infer = old.on_infer = sent.append
    await prober.learn()
    for role, public in ((Role.FAST, False), (Role.SAFE, False), (Role.FAST, True)):
        await prober.probe(CANARY, role, public=public)
    assert traced_by(sent) == [True, False, False]
    old.description = SOUND
    await prober.learn()
    for role, public in ((Role.SAFE, False), (Role.FAST, True)):
        await prober.probe(CANARY, role, public=public)
    assert traced_by(sent)[3:] == [True, True]


@pytest.mark.parametrize(
    ("tracing", "patience_s"),
    [
        (Tracing(on=True, mode="opentelemetry", rate=0, delay_s=0.5), 1.5),
        (Tracing(on=True, mode="opentelemetry", rate=0), WAIT_S),
        (Tracing(on=False, mode="triton", rate=0), 0.0),
        (None, WAIT_S),
    ],
)
@in_virtual_time
async def test_a_trace_is_waited_for_as_long_as_the_server_says(tracing: Tracing | None, patience_s: float) -> None:
    prober = a_prober(World(description=SOUND | {"tracing": tracing}))
    prober.timekeeper = a_timekeeper(listening=True)
    assert prober.patience_s == 0, "nothing is known yet"
    await prober.learn()
    assert prober.patience_s == patience_s
    prober.timekeeper = a_timekeeper(listening=False)
    assert prober.patience_s == 0
