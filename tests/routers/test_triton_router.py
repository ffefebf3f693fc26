"""The Triton router against a real Triton, with traffic, broken engines, restarts and wrong modes."""

import asyncio
import json
import py_compile
import socket
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from pydantic import ValidationError

from tests.triton_fixture import Scale, write_scale_model, write_scale_version
from watchdog.demo.triton import TritonServer, available
from watchdog.model.engine import Address, Role
from watchdog.model.event import RouteSeen
from watchdog.model.route import Observed
from watchdog.policy.decide import step
from watchdog.policy.memory import PolicyState
from watchdog.policy.settings import PolicySettings
from watchdog.policy.states import Action, State
from watchdog.routers.triton import TritonRouter, TritonRouterSettings

MISSING = available()
pytestmark = [pytest.mark.triton, pytest.mark.skipif(MISSING is not None, reason=str(MISSING))]

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
CLIENTS = 4
BODY = {"inputs": [{"name": "X", "shape": [1, 1], "datatype": "FP32", "data": [3.0]}]}


@pytest.fixture(scope="module")
def triton(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TritonServer]:
    work = tmp_path_factory.mktemp("triton")
    repository = write_scale_model(work / "models", {1: Scale(), 2: Scale(factor=2)})
    server = TritonServer(repository, work / "triton", models=["scale"])
    server.start()
    yield server
    server.kill()  # an orderly end would take seconds


@pytest.fixture
def anew(triton: TritonServer) -> TritonServer:
    """The server as it starts: both versions whole and READY, and nothing else."""
    write_scale_model(triton.repository, {1: Scale(), 2: Scale(factor=2)})
    triton.load("scale")
    return triton


def router_to(url: str, *, model: str = "scale", fast: int = 2, safe: int = 1, **more: Any) -> TritonRouter:
    data = {"kind": "triton", "url": url, "timeout": "20s", **more}
    engines = {
        role: Address(endpoint="triton", model=model, version=str(version))
        for role, version in ((Role.FAST, fast), (Role.SAFE, safe))
    }
    return TritonRouter(TritonRouterSettings.model_validate(data), engines)


def serve_only(triton: TritonServer, version: int) -> None:
    triton.load("scale", {**triton.config("scale"), "version_policy": {"specific": {"versions": [version]}}})


def reason_of(triton: TritonServer, version: int) -> str:
    """Why it isn't READY, by the repository index."""
    _, answer = triton.request("POST", "/v2/repository/index", {})
    (reason,) = (each["reason"] for each in json.loads(answer) if each.get("version") == str(version))
    return " ".join(reason.split())


@dataclass
class Traffic:
    """What unversioned requests were answered: (sent at, version, right, error)."""

    answers: list[tuple[float, str, bool, str]] = field(default_factory=list)
    answered: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def errors(self) -> list[str]:
        return [error for _, _, _, error in self.answers if error]

    def since(self, at: float) -> Counter[str]:
        return Counter(version for sent, version, _, _ in self.answers if sent >= at)

    async def grow(self, by: int) -> None:
        """Wait for so many more answers."""
        enough = len(self.answers) + by
        async with asyncio.timeout(20):
            while len(self.answers) < enough:
                self.answered.clear()
                await self.answered.wait()


@asynccontextmanager
async def traffic_to(url: str) -> AsyncIterator[Traffic]:
    traffic = Traffic()

    async def client(session: aiohttp.ClientSession) -> None:
        while True:
            sent = time.monotonic()
            async with session.post(f"http://{url}/v2/models/scale/infer", json=BODY) as response:
                answer = await response.json(content_type=None)
            if response.status == 200:
                version, value = answer["model_version"], answer["outputs"][0]["data"][0]
                traffic.answers.append((sent, version, value == 3.0 * int(version), ""))
            else:
                traffic.answers.append((sent, "", False, str(answer)))
            traffic.answered.set()

    async with aiohttp.ClientSession() as session:
        clients = [asyncio.create_task(client(session)) for _ in range(CLIENTS)]
        try:
            yield traffic
            assert not any(each.done() for each in clients)
        finally:
            for each in clients:
                each.cancel()
            await asyncio.gather(*clients, return_exceptions=True)


async def test_there_and_back_under_traffic_without_an_error(anew: TritonServer) -> None:
    router = router_to(anew.http_url)
    async with traffic_to(anew.http_url) as traffic:
        await traffic.grow(50)
        assert set(traffic.since(0)) == {"2"}

        narrowed = await router.apply(Role.SAFE)
        safe_from = time.monotonic()
        await traffic.grow(200)
        assert set(traffic.since(safe_from)) == {"1"}

        widened = await router.apply(Role.FAST)
        fast_from = time.monotonic()
        await traffic.grow(200)
        assert set(traffic.since(fast_from)) == {"2"}

    assert narrowed.ok
    assert widened.ok
    assert traffic.errors == []
    assert all(right for _, _, right, _ in traffic.answers)
    assert narrowed.took_s < 1
    figures = f"to safe {narrowed.took_s * 1e3:.1f} ms, to fast {widened.took_s * 1e3:.0f} ms"
    print(f"{figures}, 0 errors in {len(traffic.answers)} requests")  # noqa: T201 (pytest -rP shows it)


async def test_a_narrowing_loads_nothing(anew: TritonServer) -> None:
    stubs = anew.stub_pids("scale", 1)
    assert (await router_to(anew.http_url).apply(Role.SAFE)).ok
    assert anew.stub_pids("scale", 1) == stubs


async def test_what_is_so_already_is_said_to_be(anew: TritonServer) -> None:
    router = router_to(anew.http_url)
    for desired in (Role.FAST, Role.SAFE):
        await router.apply(desired)
        again = await router.apply(desired)
        assert again.ok
        assert again.detail.startswith("already so")


async def test_it_observes_both_engines(anew: TritonServer) -> None:
    router = router_to(anew.http_url)
    assert await router.observe() == Observed(role=Role.FAST, detail="version 2 serves; READY: 1, 2")
    await router.apply(Role.SAFE)
    assert await router.observe() == Observed(role=Role.SAFE, detail="version 1 serves; READY: 1")


async def test_a_broken_engine_is_refused_with_the_reason_and_the_safe_one_goes_on(anew: TritonServer) -> None:
    router = router_to(anew.http_url)
    await router.apply(Role.SAFE)
    write_scale_version(anew.repository, 2, Scale(load_error="no plan for this GPU"))

    async with traffic_to(anew.http_url) as traffic:
        applied = await router.apply(Role.FAST)
        await traffic.grow(20)

    assert (applied.ok, applied.retry) == (False, True)
    failed = f"the load of scale failed: version 2 is UNAVAILABLE: {reason_of(anew, 2)}"
    assert applied.detail == f"{failed}; version 1 serves; READY: 1"
    assert "no plan for this GPU" in failed
    assert applied.detail.isprintable()
    assert traffic.errors == []
    assert set(traffic.since(0)) == {"1"}
    assert (await router.observe()).role is Role.SAFE
    assert (await router.apply(Role.SAFE)).ok


async def test_a_safe_engine_that_cannot_be_loaded_is_told_with_what_goes_on_serving(anew: TritonServer) -> None:
    serve_only(anew, 2)
    write_scale_version(anew.repository, 1, Scale(load_error="no memory for it"))

    async with traffic_to(anew.http_url) as traffic:
        applied = await router_to(anew.http_url).apply(Role.SAFE)
        await traffic.grow(20)

    assert (applied.ok, applied.retry) == (False, True)
    assert "no memory for it" in applied.detail
    assert applied.detail.endswith("; version 2 serves; READY: 2")
    assert traffic.errors == []
    assert set(traffic.since(0)) == {"2"}


async def test_a_load_whose_answer_was_lost_is_looked_up(anew: TritonServer) -> None:
    async with losing_answers_to_loads(anew.http_url) as url:
        narrowed, widened = await router_to(url).apply(Role.SAFE), await router_to(url).apply(Role.FAST)
        write_scale_version(anew.repository, 2, Scale(load_error="no plan for this GPU"))
        failed = await router_to(url, fast=2).apply(Role.SAFE), await router_to(url).apply(Role.FAST)

    assert narrowed.ok
    assert widened.ok
    assert [each.ok for each in failed] == [True, False]
    assert "the connection broke before an answer" in failed[1].detail
    assert failed[1].detail.endswith("; version 1 serves; READY: 1")


async def test_a_server_that_dies_of_a_load_is_told_to_be_unknown(anew: TritonServer) -> None:
    async with losing_answers_to_loads(anew.http_url, then=anew.kill) as url:
        applied = await router_to(url).apply(Role.SAFE)
    await asyncio.to_thread(anew.start)

    assert (applied.ok, applied.retry) == (False, True)
    assert "what serves now is not known" in applied.detail


@asynccontextmanager
async def losing_answers_to_loads(url: str, then: Callable[[], None] = lambda: None) -> AsyncIterator[str]:
    """A way to Triton on which loads arrive, and the connection breaks before they are answered."""

    async def forward(request: web.Request) -> web.StreamResponse:
        body = await request.read()
        async with (
            aiohttp.ClientSession() as session,
            session.request(request.method, f"http://{url}{request.path_qs}", data=body) as response,
        ):
            answer = await response.read()
        if request.path.endswith("/load"):
            then()
            assert request.transport is not None
            request.transport.abort()
        return web.Response(status=response.status, body=answer)

    async with serving(forward) as proxy:
        yield proxy


@asynccontextmanager
async def serving(answer: Handler) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def test_a_version_that_does_not_exist_is_not_taken_for_done(anew: TritonServer) -> None:
    """Triton answers such a load with 200 and leaves the version out."""
    applied = await router_to(anew.http_url, fast=7).apply(Role.FAST)

    assert not applied.ok
    assert applied.retry
    assert applied.detail.startswith("Triton took the load of scale, but version 7 is not in its model repository")
    assert "; version 2 serves, " in applied.detail


async def test_a_foreign_version_is_named_and_taken_away(anew: TritonServer) -> None:
    write_scale_model(anew.repository, {1: Scale(), 2: Scale(factor=2), 3: Scale(factor=3)})
    anew.load("scale")
    router = router_to(anew.http_url)

    foreign = await router.observe()
    applied = await router.apply(Role.SAFE)

    assert (foreign.role, foreign.known) == (None, True)
    assert "version 3 serves, neither the fast one (2) nor the safe one (1)" in foreign.detail
    assert applied.ok
    assert (await router.observe()).role is Role.SAFE


async def test_ready_versions_below_the_serving_one_are_left_alone(anew: TritonServer) -> None:
    """Requests may name them."""
    write_scale_model(anew.repository, {1: Scale(), 2: Scale(factor=2), 3: Scale(factor=3)})
    anew.load("scale")

    assert (await router_to(anew.http_url, fast=3, safe=1).apply(Role.FAST)).detail == "already so: READY: 1, 2, 3"
    assert (await router_to(anew.http_url, fast=3, safe=2).apply(Role.SAFE)).ok
    assert (await router_to(anew.http_url, fast=3, safe=2).observe()).detail == "version 2 serves; READY: 1, 2"


async def test_from_the_fast_engine_alone_the_safe_one_is_loaded_first(anew: TritonServer) -> None:
    serve_only(anew, 2)
    async with traffic_to(anew.http_url) as traffic:
        await traffic.grow(20)
        applied = await router_to(anew.http_url).apply(Role.SAFE)
        safe_from = time.monotonic()
        await traffic.grow(20)

    assert applied.ok
    assert traffic.errors == []
    assert set(traffic.since(safe_from)) == {"1"}


async def test_a_switch_away_waits_for_a_load_that_was_given_up_on(anew: TritonServer) -> None:
    """Triton does one load of a model after another, whoever asked for it."""
    await router_to(anew.http_url).apply(Role.SAFE)
    write_scale_version(anew.repository, 2, Scale(factor=2))
    code = anew.repository / "scale/2/model.py"
    code.write_text(
        code.read_text().replace(
            "    def initialize(self, args):\n", "    def initialize(self, args):\n        time.sleep(1.0)\n"
        )
    )
    py_compile.compile(str(code))

    given_up = await router_to(anew.http_url, timeout="300ms").apply(Role.FAST)
    meanwhile = await router_to(anew.http_url).observe()
    applied = await router_to(anew.http_url).apply(Role.SAFE)

    assert (given_up.ok, given_up.retry) == (False, True)
    assert given_up.detail == "Triton did not finish within 0.3 s, and may yet; now, version 1 serves; READY: 1"
    assert meanwhile.role is Role.SAFE
    assert applied.ok
    assert not applied.detail.startswith("already so")
    assert applied.took_s > 0.3
    assert (await router_to(anew.http_url).observe()).role is Role.SAFE


async def test_several_loads_at_once_end_in_one_of_them_and_none_is_told_wrongly(anew: TritonServer) -> None:
    """As of two watchdogs of one server: Triton does them one after another, and the last one stands."""
    router, other = router_to(anew.http_url), router_to(anew.http_url)
    await router.apply(Role.SAFE)
    async with traffic_to(anew.http_url) as traffic:
        same = await asyncio.gather(*(each.apply(Role.FAST) for each in (router, other, router)))
        assert (await router.observe()).role is Role.FAST
        await asyncio.to_thread(await_one_stub, anew)
        await asyncio.gather(router.apply(Role.SAFE), other.apply(Role.FAST))
        stands = (await router.observe()).role
        await traffic.grow(20)

    assert all(each.ok for each in same)
    assert stands is not None
    assert traffic.errors == []
    assert (await router.apply(Role.SAFE)).ok
    assert (await router.observe()).role is Role.SAFE


def await_one_stub(triton: TritonServer) -> None:
    """Loads that came at the very same time may have begun more, which are unloaded again."""
    give_up_at = time.monotonic() + 20
    while len(triton.stub_pids("scale", 2)) != 1:
        assert time.monotonic() < give_up_at, triton.stub_pids("scale", 2)
        time.sleep(0.05)


@pytest.mark.parametrize("how", ["plain load of new files", "restart"])
async def test_what_undoes_the_route_is_seen_and_the_policy_looks_into_it(anew: TritonServer, how: str) -> None:
    router = router_to(anew.http_url)
    await router.apply(Role.SAFE)
    kept = await router.observe()
    if how == "restart":
        anew.kill()
        await asyncio.to_thread(anew.start)
    else:
        write_scale_model(anew.repository, {1: Scale(), 2: Scale(factor=2)})
        anew.load("scale")
    undone = await router.observe()

    def decided(observed: Observed) -> Action:
        state = PolicyState(state=State.SERVING_SAFE, desired=Role.SAFE, share=0)
        return step(state, RouteSeen(model="scale", at=1.0, observed=observed), PolicySettings()).action

    assert (kept.role, decided(kept)) == (Role.SAFE, Action.NONE)
    assert (undone.role, decided(undone)) == (Role.FAST, Action.DIAGNOSE)
    assert (await router.apply(Role.SAFE)).ok
    assert (await router.observe()).role is Role.SAFE


GIB = 2**30
FULL = f"""\
nv_gpu_memory_total_bytes{{gpu_uuid="GPU-a"}} {80 * GIB}
nv_gpu_memory_total_bytes{{gpu_uuid="GPU-b"}} {80 * GIB}
nv_gpu_memory_used_bytes{{gpu_uuid="GPU-a"}} {10 * GIB}
nv_gpu_memory_used_bytes{{gpu_uuid="GPU-b"}} {78 * GIB}
"""
ROOMY = FULL.replace(str(78 * GIB), str(77 * GIB))
NUMBERS = "the load needs 3.00 GiB, and GPU-b has 2.00 GiB of 80.00 GiB free: nothing was begun"
UNSEEN = "Triton's metrics don't tell the memory of its GPUs"


@pytest.mark.parametrize(
    ("page", "desired", "ok", "said"),
    [
        pytest.param(ROOMY, Role.FAST, True, "READY: 1, 2; before, READY: 1", id="it just fits"),
        pytest.param(FULL, Role.FAST, False, NUMBERS, id="fast does not fit"),
        pytest.param(FULL, Role.SAFE, False, NUMBERS, id="safe does not fit"),
        pytest.param("", Role.FAST, False, UNSEEN, id="nobody knows, and nothing is risked for the fast one"),
        pytest.param("", Role.SAFE, True, UNSEEN, id="nobody knows, and the safe one is loaded"),
        pytest.param(FULL.partition("nv_gpu_memory_used")[0], Role.FAST, False, UNSEEN, id="no use told"),
        pytest.param(None, Role.FAST, False, "metrics can't be read", id="fast, no page"),
        pytest.param(None, Role.SAFE, True, "metrics can't be read", id="safe, no page"),
    ],
)
async def test_a_load_needs_room(anew: TritonServer, page: str | None, desired: Role, ok: bool, said: str) -> None:
    serve_only(anew, 1 if desired is Role.FAST else 2)
    serving_before = (await router_to(anew.http_url).observe()).role
    stubs = {pid for version in (1, 2) for pid in anew.stub_pids("scale", version)}

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(status=503) if page is None else web.Response(text=page)

    async with serving(metrics) as url:
        router = router_to(anew.http_url, metrics={"url": url}, load_needs="3GiB")
        applied = await router.apply(desired)

    assert applied.ok is ok
    assert applied.retry
    assert said in applied.detail
    assert (await router.observe()).role is (desired if ok else serving_before)
    if not ok:
        assert {pid for version in (1, 2) for pid in anew.stub_pids("scale", version)} <= stubs  # none is new


async def test_each_engine_to_be_loaded_needs_room(anew: TritonServer) -> None:
    write_scale_model(anew.repository, {1: Scale(), 2: Scale(factor=2), 3: Scale(factor=3)})
    serve_only(anew, 3)

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(text=ROOMY)

    async with serving(metrics) as url:
        router = router_to(anew.http_url, metrics={"url": url}, load_needs="2 GiB")
        both, one = await router.apply(Role.FAST), await router.apply(Role.SAFE)

    assert "the load needs 4.00 GiB" in both.detail
    assert one.ok


async def test_a_switch_that_loads_nothing_does_not_ask_for_room(anew: TritonServer) -> None:
    asked = []

    async def metrics(request: web.Request) -> web.Response:
        asked.append(request.path)
        return web.Response(text=FULL)

    async with serving(metrics) as url:
        router = router_to(anew.http_url, metrics={"url": url}, load_needs="3GiB")
        narrowed = await router.apply(Role.SAFE)
        assert not asked
        refused = await router.apply(Role.FAST)

    assert narrowed.ok
    assert not refused.ok
    assert asked == ["/metrics"]


async def test_a_real_page_without_a_gpu_is_not_taken_for_room(anew: TritonServer) -> None:
    router = router_to(anew.http_url, metrics={"url": anew.metrics_url}, load_needs="1MiB")
    await router.apply(Role.SAFE)

    assert UNSEEN in (await router.apply(Role.FAST)).detail


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"metrics": {"url": "a:1"}}, "belong together"),
        ({"load_needs": "3GiB"}, "belong together"),
        ({"metrics": {"url": "a:1"}, "load_needs": 3}, "not a size"),
        ({"metrics": {"url": "a:1"}, "load_needs": "3GB"}, "not a size"),
        ({"metrics": {"url": "a:1"}, "load_needs": "-3GiB"}, "not a size"),
        ({"metrics": {"url": "a:1"}, "load_needs": "0GiB"}, "greater than 0"),
    ],
)
def test_settings_of_room_that_cannot_work(more: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        router_to("a:1", **more)


@pytest.mark.parametrize(
    ("text", "size"), [("1KiB", 2**10), ("1.5 MiB", 3 * 2**19), (" 3GiB ", 3 * GIB), ("2TiB", 2**41)]
)
def test_sizes(text: str, size: int) -> None:
    data = {"kind": "triton", "url": "a:1", "metrics": {"url": "a:1"}, "load_needs": text}
    assert TritonRouterSettings.model_validate(data).load_needs == size


async def test_a_restart_forgets_the_route_and_it_is_applied_again(anew: TritonServer) -> None:
    router = router_to(anew.http_url)
    await router.apply(Role.SAFE)
    anew.kill()
    down = await router.observe()
    await asyncio.to_thread(anew.start)

    assert not down.known
    assert (await router.observe()).role is Role.FAST
    assert (await router.apply(Role.SAFE)).ok
    assert (await router.observe()).role is Role.SAFE


async def test_a_model_that_is_not_loaded(anew: TritonServer) -> None:
    anew.request("POST", "/v2/repository/models/scale/unload", {})
    router = router_to(anew.http_url)

    observed, applied = await router.observe(), await router.apply(Role.SAFE)

    assert (observed.role, observed.known, observed.detail) == (None, True, "no version of scale is READY")
    assert not applied.ok
    assert "--load-model" in applied.detail


async def test_a_server_that_is_down() -> None:
    router = router_to("127.0.0.1:1")

    observed, applied = await router.observe(), await router.apply(Role.SAFE)

    assert (observed.known, observed.role) == (False, None)
    assert (applied.ok, applied.retry) == (False, True)
    assert "can't connect" in observed.detail
    assert "can't connect" in applied.detail


async def test_a_server_that_says_nothing() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        router = router_to(f"127.0.0.1:{silent.getsockname()[1]}", timeout="200ms")
        observed, applied = await router.observe(), await router.apply(Role.SAFE)

    assert not observed.known
    assert (applied.ok, applied.retry) == (False, True)
    assert 0.2 <= applied.took_s < 2


@pytest.mark.parametrize("mode", ["none", "poll"])
async def test_a_server_that_is_not_in_explicit_mode(tmp_path: Path, mode: str) -> None:
    write_scale_model(tmp_path / "models", {1: Scale(), 2: Scale(factor=2)})
    server = TritonServer(tmp_path / "models", tmp_path / "triton", extra_args=[f"--model-control-mode={mode}"])
    await asyncio.to_thread(server.start)
    try:
        applied = await router_to(server.http_url).apply(Role.SAFE)
        observed = await router_to(server.http_url).observe()
    finally:
        server.kill()

    assert (applied.ok, applied.retry) == (False, False)
    assert "--model-control-mode=explicit" in applied.detail
    assert observed.role is Role.FAST


async def test_a_restricted_api_needs_its_header(tmp_path: Path) -> None:
    write_scale_model(tmp_path / "models", {1: Scale(), 2: Scale(factor=2)})
    server = TritonServer(
        tmp_path / "models",
        tmp_path / "triton",
        models=["scale"],
        extra_args=["--http-restricted-api=model-repository,model-config:X-Key=a-secret"],
    )
    (tmp_path / "right").write_text("a-secret\n")
    (tmp_path / "wrong").write_text("another-secret")
    await asyncio.to_thread(server.start)
    try:
        bare = router_to(server.http_url)
        refused, blind = await bare.apply(Role.SAFE), await bare.observe()
        wrong = await router_to(server.http_url, secret_headers={"X-Key": {"file": tmp_path / "wrong"}}).observe()
        keyed = router_to(server.http_url, secret_headers={"X-Key": {"file": tmp_path / "right"}})
        applied, observed = await keyed.apply(Role.SAFE), await keyed.observe()
    finally:
        server.kill()

    assert (refused.ok, refused.retry, blind.known, wrong.known) == (False, False, False, False)
    assert "X-Key" in refused.detail
    assert "secret_headers" in refused.detail
    assert "another-secret" not in wrong.detail
    assert applied.ok
    assert observed.role is Role.SAFE
