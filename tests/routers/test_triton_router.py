"""The Triton router against a real Triton, with traffic, broken engines, restarts and wrong modes."""

import asyncio
import py_compile
import socket
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.triton_fixture import Scale, write_scale_model, write_scale_version
from watchdog.demo.triton import TritonServer, available
from watchdog.model.engine import Address, Role
from watchdog.model.route import Observed
from watchdog.routers.triton import TritonRouter, TritonRouterSettings

MISSING = available()
pytestmark = [pytest.mark.triton, pytest.mark.skipif(MISSING is not None, reason=str(MISSING))]

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
    assert "no plan for this GPU" in applied.detail
    assert applied.detail.isprintable()
    assert traffic.errors == []
    assert set(traffic.since(0)) == {"1"}
    assert (await router.observe()).role is Role.SAFE
    assert (await router.apply(Role.SAFE)).ok


async def test_a_version_that_does_not_exist_is_not_taken_for_done(anew: TritonServer) -> None:
    """Triton answers such a load with 200 and leaves the version out."""
    applied = await router_to(anew.http_url, fast=7).apply(Role.FAST)

    assert not applied.ok
    assert "version 7 is not in its model repository" in applied.detail


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
    config = anew.config("scale")
    anew.load("scale", {**config, "version_policy": {"specific": {"versions": [2]}}})
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
    assert "did not finish within 0.3 s" in given_up.detail
    assert meanwhile.role is Role.SAFE
    assert applied.ok
    assert not applied.detail.startswith("already so")
    assert applied.took_s > 0.3
    assert (await router_to(anew.http_url).observe()).role is Role.SAFE


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
