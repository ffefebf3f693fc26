"""The Gateway API router on an API server that lets others write between its reads and its writes."""

import asyncio
import copy
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from tests.kube_api import Call, Failure, KubeApi, Object, kube_api
from watchdog.model.engine import Address, Role
from watchdog.routers.gateway_api import GatewayApiRouter, GatewayApiSettings

EXAMPLE = Path(__file__).parents[2] / "examples/gateway-api"
SHARES = [(Role.SAFE, 100), (Role.FAST, 30), (Role.SAFE, 1), (Role.FAST, 100), (Role.FAST, 0)]


def manifest(file: str, kind: str) -> Object:
    found: list[Object] = [each for each in yaml.safe_load_all((EXAMPLE / file).read_text()) if each["kind"] == kind]
    assert len(found) == 1
    return found[0]


def infer(route: Object) -> Object:
    """The rule that the router is told of."""
    return next(rule for rule in route["spec"]["rules"] if rule["name"] == "infer")


def router_to(api: KubeApi, **changes: Any) -> GatewayApiRouter:
    written = yaml.safe_load((EXAMPLE / "router.yaml").read_text())["router"]
    data = {"url": api.url, "namespace": "clinic", "within": "5s", "timeout": "2s"}
    return GatewayApiRouter(GatewayApiSettings.model_validate({**written, **data, **changes}))


class World:
    """An API server with the example's route, which its role allows the router to read and to patch."""

    def __init__(self, api: KubeApi) -> None:
        self.api = api
        self.path = api.put(manifest("route.yaml", "HTTPRoute"))
        api.roles = [manifest("rbac.yaml", "Role")]

    @property
    def weights(self) -> list[int | None]:
        return [ref.get("weight") for ref in infer(self.api.at(self.path))["backendRefs"]]

    def edit(self, change: Callable[[Object], object]) -> None:
        self.api.edit(self.path, change)

    def weigh(self, *weights: int | None) -> None:
        def change(route: Object) -> None:
            for ref, weight in zip(infer(route)["backendRefs"], weights, strict=True):
                ref.pop("weight", None)
                if weight is not None:
                    ref["weight"] = weight

        self.edit(change)

    def take(self, _call: object = None, **condition: Any) -> None:
        """As a gateway's controller does."""
        generation = self.api.at(self.path)["metadata"]["generation"]
        conditions = [
            {"type": kind, "status": "True", "reason": kind, "observedGeneration": generation}
            for kind in ("Accepted", "ResolvedRefs")
        ]
        conditions[-1] |= condition
        parent = {"controllerName": "example.com/gateway", "parentRef": {"name": "imaging"}, "conditions": conditions}
        self.edit(lambda route: route.update(status={"parents": [parent]}))


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with kube_api() as api:
        yield World(api)


def without_weights(route: Object) -> Object:
    kept = copy.deepcopy(route)
    for rule in kept["spec"]["rules"]:
        for ref in rule["backendRefs"]:
            ref.pop("weight", None)
    del kept["metadata"]["resourceVersion"], kept["metadata"]["generation"]
    return kept


@pytest.mark.parametrize("reports", [False, True])
@pytest.mark.parametrize(("desired", "percent"), SHARES)
async def test_what_is_applied_is_observed_and_nothing_else_is_touched(
    world: World, desired: Role, percent: int, *, reports: bool
) -> None:
    world.weigh(50, 50)
    if reports:
        world.take()
        world.api.on_written = world.take
    before = world.api.at(world.path)
    router = router_to(world.api)

    applied, observed = await router.apply(desired, percent), await router.observe()
    writes = len(world.api.writes)
    again = await router.apply(desired, percent)

    fast = percent if desired is Role.FAST else 100 - percent
    assert applied.ok
    assert world.weights == [fast, 100 - fast]
    assert (observed.known, observed.fast_percent) == (True, fast)
    assert again.ok
    assert again.detail.startswith("already so: ")
    assert writes == len(world.api.writes) == 1
    after = world.api.at(world.path)
    after["status"] = before["status"] = {}
    assert without_weights(after) == without_weights(before)
    assert ("taken by example.com/gateway" if reports else "no controller reports") in applied.detail


async def test_a_grpc_route_and_a_rule_by_its_place(world: World) -> None:
    route = manifest("route.yaml", "HTTPRoute") | {"kind": "GRPCRoute"}
    path = world.api.put(route)
    world.api.roles = None

    applied = await router_to(world.api, route="GRPCRoute", rule=0).apply(Role.SAFE)

    assert applied.ok
    assert [ref["weight"] for ref in world.api.at(path)["spec"]["rules"][0]["backendRefs"]] == [0, 100]
    assert world.weights == [100, 0]


async def test_backends_of_one_name_are_told_apart_by_their_ports(world: World) -> None:
    def ports(route: Object) -> None:
        infer(route)["backendRefs"] = [
            {"name": "nodule", "port": port, "weight": weight} for port, weight in ((8000, 1), (8001, 0))
        ]

    world.edit(ports)

    assert (await router_to(world.api, fast="nodule:8000", safe="nodule:8001").apply(Role.SAFE)).ok
    assert world.weights == [0, 100]


@pytest.mark.parametrize(
    ("weights", "fast"),
    [
        ((1, 0), 100),
        ((None, 0), 100),
        ((None, None), 50),
        ((0, 7), 0),
        ((30, 70), 30),
        ((1, 2), 33),
        ((1, 9999), 1),
        ((9999, 1), 99),
    ],
)
async def test_weights_are_read_as_gateways_read_them(
    world: World, weights: tuple[int | None, int | None], fast: int
) -> None:
    world.weigh(*weights)
    observed = await router_to(world.api).observe()
    assert (observed.known, observed.fast_percent) == (True, fast)


async def test_without_any_weight_nobody_is_served_until_a_switch(world: World) -> None:
    world.weigh(0, 0)
    router = router_to(world.api)

    observed, applied = await router.observe(), await router.apply(Role.FAST, 0)

    assert (observed.known, observed.role) == (True, None)
    assert "no backend gets traffic" in observed.detail
    assert applied.ok
    assert world.weights == [0, 100]


async def test_weights_in_the_wanted_proportion_are_left_as_they_are(world: World) -> None:
    world.weigh(1, 3)
    assert (await router_to(world.api).apply(Role.FAST, 25)).detail.startswith("already so")
    assert world.weights == [1, 3]
    assert world.api.writes == []


def add_backend(route: Object) -> None:
    infer(route)["backendRefs"].append({"name": "nodule-new", "port": 8000})


def remove_safe(route: Object) -> None:
    del infer(route)["backendRefs"][1]


def double_fast(route: Object) -> None:
    infer(route)["backendRefs"].append({"name": "nodule-fp16", "port": 9000, "weight": 0})


def rename_rule(route: Object) -> None:
    route["spec"]["rules"][0]["name"] = "answer"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (add_backend, "not only the two engines get traffic, but nodule-new:8000 (weight 1)"),
        (remove_safe, "nodule-fp16:8000 (weight 100); `safe` must be one of them, and is nodule-fp32"),
        (double_fast, "`fast` must be one of them"),
        (rename_rule, "httproutes/nodule has no rule 'infer'; its rules are answer"),
        (lambda route: route["spec"].pop("rules"), "its rules are none"),
        (lambda route: route["spec"]["rules"][0].pop("backendRefs"), "no backendRefs"),
    ],
)
@pytest.mark.parametrize("late", [False, True])
async def test_a_route_that_is_not_one_between_the_two_is_left_alone(
    world: World, change: Callable[[Object], object], said: str, *, late: bool
) -> None:
    """Whether it was so from the start, or becomes so between the read and the write."""
    if late:
        once(world, lambda: world.edit(change))
    else:
        world.edit(change)
    router = router_to(world.api)

    applied, observed = await router.apply(Role.SAFE), await router.observe()

    assert (applied.ok, applied.retry) == (False, False)
    assert said in applied.detail
    assert (observed.known, observed.role) == (True, None)
    assert said in observed.detail
    assert world.api.at(world.path)["metadata"]["generation"] == 2


def once(world: World, do: Callable[[], object]) -> None:
    def hook(_call: Call) -> None:
        world.api.on_write = None
        do()

    world.api.on_write = hook


def label(route: Object) -> None:
    route["metadata"].setdefault("labels", {})["deployed-by"] = "somebody"


def another_rule(route: Object) -> None:
    route["spec"]["rules"].insert(0, {"name": "health", "backendRefs": [{"name": "health"}]})


def lower_fast(route: Object) -> None:
    infer(route)["backendRefs"][0]["weight"] = 60


def swap_backends(route: Object) -> None:
    infer(route)["backendRefs"].reverse()


@pytest.mark.parametrize("change", [label, another_rule, lower_fast, swap_backends])
async def test_what_another_writes_between_read_and_write_is_kept(
    world: World, change: Callable[[Object], object]
) -> None:
    once(world, lambda: world.edit(change))
    expected = world.api.at(world.path)
    change(expected)
    router = router_to(world.api)

    applied, observed = await router.apply(Role.SAFE), await router.observe()

    assert applied.ok
    assert observed.role is Role.SAFE
    assert without_weights(world.api.at(world.path)) == without_weights(expected)


async def test_a_route_that_was_deleted_and_made_anew_is_read_again(world: World) -> None:
    def anew() -> None:
        route = manifest("route.yaml", "HTTPRoute")
        swap_backends(route)
        for ref in infer(route)["backendRefs"]:
            ref["weight"] = 50
        world.api.remove(world.path)
        world.api.put(route)

    once(world, anew)

    assert (await router_to(world.api).apply(Role.SAFE)).ok
    assert world.weights == [100, 0]
    assert world.api.at(world.path)["metadata"]["generation"] == 2
    assert infer(world.api.at(world.path))["backendRefs"][0]["name"] == "nodule-fp32"


@pytest.mark.parametrize("when", ["on_write", "on_written"])
async def test_a_tug_of_war_is_given_up(world: World, when: str) -> None:
    turns = iter(range(1000))
    setattr(world.api, when, lambda _call: world.weigh(90 + next(turns) % 7, 5))

    applied = await router_to(world.api).apply(Role.SAFE)

    assert (applied.ok, applied.retry) == (False, True)
    assert "somebody else changed it" in applied.detail
    assert len(world.api.writes) == 5


@pytest.mark.parametrize(
    "failure",
    [Failure(status=status, took_effect=took) for status in (0, 429, 500, 504) for took in (False, True)],
    ids=str,
)
async def test_a_write_without_an_answer_is_looked_at_before_it_is_judged(world: World, failure: Failure) -> None:
    world.api.failures = [failure]

    applied = await router_to(world.api).apply(Role.SAFE)

    assert applied.ok
    assert world.weights == [0, 100]
    assert len(world.api.writes) == (1 if failure.took_effect else 2)
    assert world.api.at(world.path)["metadata"]["generation"] == 2


async def test_even_the_last_attempt_is_looked_at(world: World) -> None:
    def blind() -> None:
        world.api.failures.append(Failure(on=["GET"]))

    world.api.failures = [Failure()] * 4 + [Failure(took_effect=True)]
    once(world, blind)
    assert (await router_to(world.api).apply(Role.SAFE)).ok
    assert len(world.api.writes) == 5
    assert world.weights == [0, 100]


@pytest.mark.parametrize(("status", "retry"), [(403, False), (500, True), (0, True)])
async def test_failures_that_last_are_told(world: World, status: int, *, retry: bool) -> None:
    world.api.failures = [Failure(status=status)] * 9

    applied = await router_to(world.api).apply(Role.SAFE)

    assert (applied.ok, applied.retry) == (False, retry)
    assert "can't be changed" in applied.detail or "must allow it" in applied.detail
    assert world.weights == [100, 0]


async def test_the_role_allows_this_route_only(world: World) -> None:
    other = manifest("route.yaml", "HTTPRoute")
    other["metadata"]["name"] = "other"
    world.api.put(other)
    router = router_to(world.api, name="other")

    applied, observed = await router.apply(Role.SAFE), await router.observe()

    assert (applied.ok, applied.retry, observed.known, observed.role) == (False, False, False, None)
    assert "the service account's role must allow it" in applied.detail
    assert 'cannot get resource "httproutes"' in observed.detail


async def test_a_route_that_does_not_exist(world: World) -> None:
    world.api.remove(world.path)
    router = router_to(world.api)

    applied, observed = await router.apply(Role.SAFE), await router.observe()

    assert (applied.ok, applied.retry, observed.known) == (False, False, False)
    assert 'httproutes.gateway.networking.k8s.io "nodule" not found' in applied.detail


async def test_an_api_server_that_is_down(world: World) -> None:
    router = router_to(world.api, url="http://127.0.0.1:1")

    applied, observed = await router.apply(Role.SAFE), await router.observe()

    assert (applied.ok, applied.retry, observed.known, observed.role) == (False, True, False, None)
    assert "can't connect" in applied.detail
    assert "can't connect" in observed.detail


async def test_it_waits_until_the_controller_has_taken_it(world: World) -> None:
    world.take()
    router, written = router_to(world.api), asyncio.Event()
    world.api.on_written = lambda _call: written.set()
    moving = asyncio.create_task(router.apply(Role.SAFE))
    async with asyncio.timeout(5):
        await written.wait()
    meanwhile = await router.observe()
    unfinished = not moving.done()
    world.take()
    applied = await moving

    assert unfinished
    assert (meanwhile.known, meanwhile.role) == (False, None)
    assert "has not taken the latest change (generation 2) yet" in meanwhile.detail
    assert applied.ok
    assert (await router.observe()).role is Role.SAFE


async def test_a_controller_that_takes_nothing(world: World) -> None:
    world.take()

    applied = await router_to(world.api, within="1s").apply(Role.SAFE)

    assert (applied.ok, applied.retry) == (False, True)
    assert "may yet be: example.com/gateway has not taken" in applied.detail


async def test_a_controller_that_refuses(world: World) -> None:
    refusal = {"status": "False", "reason": "BackendNotFound", "message": "service nodule-fp32"}
    world.take()
    world.api.on_written = lambda _call: world.take(**refusal)
    router = router_to(world.api)

    applied, observed = await router.apply(Role.SAFE), await router.observe()

    assert not applied.ok
    assert "ResolvedRefs is False (BackendNotFound: service nodule-fp32)" in applied.detail
    assert (observed.known, observed.role) == (False, None)


async def test_an_object_of_another_shape_is_an_answer(world: World) -> None:
    world.edit(lambda route: route["spec"].update(rules="none"))

    observed = await router_to(world.api).observe()

    assert not observed.known
    assert "httproutes/nodule is not what is known as one: spec.rules" in observed.detail


EDITS: dict[str, Callable[[Object], object]] = {
    "none": lambda _route: None,
    "label": label,
    "another rule": another_rule,
    "weights": lower_fast,
    "order": swap_backends,
}
BREAKS = {
    "dropped before": Failure(),
    "dropped after": Failure(took_effect=True),
    "error before": Failure(status=500),
    "error after": Failure(status=504, took_effect=True),
    "blind": Failure(on=["GET"]),
}


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.too_slow])
@given(
    share=st.sampled_from(SHARES),
    before=st.lists(st.sampled_from(sorted(EDITS)), max_size=4),
    breaks=st.lists(st.sampled_from(sorted(BREAKS)), max_size=4),
)
def test_however_others_and_failures_come_between(
    share: tuple[Role, int], before: list[str], breaks: list[str]
) -> None:
    """No change of another's is lost, and what is said to be done is done."""

    async def story() -> None:
        async with kube_api() as api:
            world, coming = World(api), iter(before)
            others = api.at(world.path)

            def interfere(_call: Call) -> None:
                edit = EDITS[next(coming, "none")]
                world.edit(edit)
                edit(others)

            api.on_write = interfere
            api.failures = [BREAKS[each] for each in breaks]
            router = router_to(api)
            applied = await router.apply(*share)
            api.failures = []
            observed = await router.observe()
            assert without_weights(api.at(world.path)) == without_weights(others)
            if applied.ok:
                assert observed.fast_percent == (share[1] if share[0] is Role.FAST else 100 - share[1])
            else:
                assert len(before) + len(breaks) >= 5

    asyncio.run(story())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"safe": "nodule-fp16"}, "must name two backends"),
        ({"safe": "nodule-fp16:8000"}, "must name two backends"),
        ({"name": "../leases/x"}, "name"),
        ({"fast": "nodule fp16"}, "fast"),
        ({"rule": -1}, "rule"),
        ({"rule": ""}, "rule"),
        ({"route": "TCPRoute"}, "HTTPRoute"),
        ({"within": 5}, "not a duration"),
        ({"url": "10.0.0.1:6443"}, "has no scheme: write https://10.0.0.1:6443"),
    ],
)
def test_settings_that_cannot_work_are_refused_at_start(change: dict[str, Any], said: str) -> None:
    written = yaml.safe_load((EXAMPLE / "router.yaml").read_text())["router"]
    with pytest.raises(ValidationError, match=said):
        GatewayApiSettings.model_validate({**written, **change})


def test_the_example_is_all_that_a_pod_needs_and_any_two_engines_will_do() -> None:
    written = yaml.safe_load((EXAMPLE / "router.yaml").read_text())["router"]
    settings = GatewayApiSettings.model_validate(written)
    settings.refuse({role: Address(endpoint="gateway", model="nodule") for role in Role})


def test_settings_can_be_read_without_an_http_client() -> None:
    code = "import sys, watchdog.routers.gateway_api, watchdog.routers.kserve; sys.exit('aiohttp' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
