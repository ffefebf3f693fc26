"""The Envoy router against a real Envoy, with traffic, restarts, rejected files and files that are none."""

import asyncio
import fcntl
import io
import json
import os
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import grpc  # type: ignore[import-untyped]
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from tritonclient.grpc import service_pb2

from tests.endpoints.hostile import tcp_server
from tests.routers.envoy_fixture import EXAMPLE, PATIENCE_S, Envoy, available, engines
from watchdog.model.engine import Role
from watchdog.model.route import Observed, share_of_fast
from watchdog.routers.envoy import EnvoyRouter, EnvoySettings

MISSING = available()

CLUSTERS = {"fast": ["lung-fast-http", "lung-fast-grpc"], "safe": ["lung-safe-http", "lung-safe-grpc"]}
GRPC_METHOD = "/inference.GRPCInferenceService/ModelInfer"
OF_LUNG = (("x-model", "lung"),)


def router_to(route_file: Path, **more: Any) -> EnvoyRouter:
    data = {"kind": "envoy", "route_file": str(route_file), "clusters": CLUSTERS, "timeout": "10s", **more}
    return EnvoyRouter(EnvoySettings.model_validate(data))


def asking(envoy: Envoy, **more: Any) -> EnvoyRouter:
    return router_to(envoy.route_file, admin={"url": envoy.admin}, **more)


@pytest.fixture
def route_file(tmp_path: Path) -> Path:
    """The example's file, without an Envoy."""
    path = tmp_path / "lung.json"
    path.write_bytes((EXAMPLE / "routes" / "lung.json").read_bytes())
    return path


@pytest.fixture
async def envoy(tmp_path: Path) -> AsyncIterator[Envoy]:
    if MISSING is not None:
        pytest.skip(MISSING)
    async with engines() as ports:
        envoy = Envoy(tmp_path, ports)
        try:
            await asyncio.to_thread(envoy.start)
            yield envoy
        finally:
            envoy.stop()


def content(path: Path) -> bytes:
    return path.read_bytes()


def load(path: Path) -> Any:
    return json.loads(path.read_text())


def overwrite(path: Path, with_: bytes) -> None:
    path.write_bytes(with_)


def names_in(folder: Path) -> list[str]:
    return sorted(each.name for each in folder.iterdir())


def rewrite(path: Path, change: Callable[[Any], Any]) -> None:
    """What an operator does to the file: by renaming, so that Envoy sees it."""
    document = load(path)
    change(document)
    beside = path.with_name("operators-own")
    beside.write_text(json.dumps(document))
    beside.replace(path)


def routes_of(document: Any) -> list[Any]:
    routes: list[Any] = document["resources"][0]["virtual_hosts"][0]["routes"]
    return routes


def weighted(document: Any, number: int = 0) -> Any:
    return routes_of(document)[number]["route"]["weighted_clusters"]


@dataclass
class Traffic:
    """What ordinary requests were answered: (sent at, engine or error)."""

    answers: list[tuple[float, str]] = field(default_factory=list)
    answered: asyncio.Event = field(default_factory=asyncio.Event)

    def since(self, at: float) -> Counter[str]:
        return Counter(who for sent, who in self.answers if sent >= at)

    async def grow(self, by: int) -> None:
        """Wait for so many more answers."""
        enough = len(self.answers) + by
        async with asyncio.timeout(PATIENCE_S):
            while len(self.answers) < enough:
                self.answered.clear()
                await self.answered.wait()


@asynccontextmanager
async def traffic_to(address: str) -> AsyncIterator[Traffic]:
    """Three clients that speak HTTP and two that speak gRPC, without a pause."""
    traffic = Traffic()

    async def client(ask: Callable[[], Awaitable[str]]) -> None:
        while True:
            sent = time.monotonic()
            traffic.answers.append((sent, await ask()))
            traffic.answered.set()

    async with aiohttp.ClientSession() as session, grpc.aio.insecure_channel(address) as channel:
        asks = [lambda: ask_http(session, address)] * 3 + [lambda: ask_grpc(channel)] * 2
        clients = [asyncio.create_task(client(ask)) for ask in asks]
        try:
            yield traffic
            assert not any(each.done() for each in clients)
        finally:
            for each in clients:
                each.cancel()
            await asyncio.gather(*clients, return_exceptions=True)


async def ask_http(session: aiohttp.ClientSession, address: str, path: str = "/v2/models/lung/infer") -> str:
    """The engine that answered, or the error."""
    async with session.post(f"http://{address}{path}", data=b"an image") as response:
        return (await response.json())["engine"] if response.status == 200 else str(response.status)


async def ask_grpc(channel: Any, metadata: tuple[tuple[str, str], ...] = OF_LUNG) -> str:
    call = channel.unary_unary(GRPC_METHOD, response_deserializer=service_pb2.ModelInferResponse.FromString)
    try:
        return str((await call(b"", metadata=metadata, timeout=PATIENCE_S)).id)
    except grpc.aio.AioRpcError as error:
        return str(error.code().name)


async def engines_that_answer(envoy: Envoy) -> set[str]:
    """By HTTP and by gRPC."""
    async with aiohttp.ClientSession() as session, grpc.aio.insecure_channel(envoy.address) as channel:
        return {await ask_http(session, envoy.address), await ask_grpc(channel)}


async def eventually(happened: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while True:
            if await happened():
                return
            await asyncio.sleep(0.01)


async def test_there_and_back_under_traffic_without_an_error(envoy: Envoy) -> None:
    router = asking(envoy)
    async with traffic_to(envoy.address) as traffic:
        await traffic.grow(50)
        assert set(traffic.since(0)) == {"fast"}
        took = []
        for desired in (Role.SAFE, Role.FAST) * 5:
            applied = await router.apply(desired)
            moved_at = time.monotonic()
            assert applied.ok, applied.detail
            await traffic.grow(100)
            assert set(traffic.since(moved_at)) == {desired}
            took.append(applied.took_s)

    assert set(traffic.since(0)) == {"fast", "safe"}
    figures = f"{len(took)} switches, {min(took) * 1e3:.1f} to {max(took) * 1e3:.1f} ms"
    print(f"{figures}, 0 errors in {len(traffic.answers)} requests")  # noqa: T201 (pytest -rP shows it)


@pytest.mark.parametrize(("desired", "percent", "fast"), [(Role.FAST, 10, 10), (Role.SAFE, 30, 70), (Role.FAST, 0, 0)])
async def test_a_share_of_traffic(envoy: Envoy, desired: Role, percent: int, fast: int) -> None:
    router = asking(envoy)
    assert (await router.apply(desired, percent)).ok
    moved_at = time.monotonic()
    async with traffic_to(envoy.address) as traffic:
        await traffic.grow(1000)

    got = traffic.since(moved_at)
    assert set(got) <= {"fast", "safe"}
    p, n = fast / 100, got.total()
    assert abs(got["fast"] - n * p) <= 6 * (n * p * (1 - p)) ** 0.5  # 6 σ: once in 10⁸ runs

    observed = await router.observe()
    assert observed.known
    assert observed.fast_percent == fast


async def test_other_routes_and_other_models_are_left_alone(envoy: Envoy) -> None:
    assert (await asking(envoy).apply(Role.FAST)).ok
    async with aiohttp.ClientSession() as session, grpc.aio.insecure_channel(envoy.address) as channel:
        assert await ask_http(session, envoy.address, "/v2/health/ready") == "safe"
        assert await ask_http(session, envoy.address, "/v2/models/lung_nodule/infer") == "404"
        assert await ask_grpc(channel, ()) == "UNIMPLEMENTED"


async def test_one_triton_gets_each_engine_s_own_name(tmp_path: Path) -> None:
    if MISSING is not None:
        pytest.skip(MISSING)
    async with engines() as ports:
        envoy = Envoy(tmp_path, {8000: ports[8000]}, name="one-triton.yaml", routes="one-triton-routes")
        await asyncio.to_thread(envoy.start)
        try:
            router, image = asking(envoy), bytes(8 * 2**20)
            for desired, name in ((Role.SAFE, "lung_fp32"), (Role.FAST, "lung_fp16")):
                assert (await router.apply(desired)).ok
                url = f"http://{envoy.address}/v2/models/lung/infer"
                async with aiohttp.ClientSession() as session, session.post(url, data=io.BytesIO(image)) as response:
                    answer = await response.json()
                assert answer == {"engine": "fast", "path": f"/v2/models/{name}/infer", "bytes": len(image)}
        finally:
            envoy.stop()


async def test_a_restart_of_envoy_keeps_the_route(envoy: Envoy) -> None:
    router = asking(envoy)
    assert (await router.apply(Role.SAFE)).ok
    envoy.stop()

    down = await router.observe()
    assert (down.known, down.role) == (False, None)
    assert "can't connect" in down.detail

    await asyncio.to_thread(envoy.start)
    assert (await router.observe()).role is Role.SAFE
    assert await engines_that_answer(envoy) == {"safe"}


async def test_an_envoy_that_is_down_finds_the_route_when_it_starts(envoy: Envoy) -> None:
    envoy.stop()
    applied = await asking(envoy, timeout="500ms").apply(Role.SAFE)
    assert not applied.ok
    assert applied.retry
    assert "the file is written, but Envoy can't be asked" in applied.detail

    await asyncio.to_thread(envoy.start)
    assert await engines_that_answer(envoy) == {"safe"}


async def test_without_an_admin_interface_envoy_takes_it_all_the_same(envoy: Envoy) -> None:
    router = router_to(envoy.route_file)
    applied = await router.apply(Role.SAFE)
    assert applied.ok
    assert "Envoy was not asked" in applied.detail
    observed = await router.observe()
    assert (observed.role, observed.percent) == (Role.SAFE, 100)
    assert "Envoy was not asked" in observed.detail

    async def moved() -> bool:
        return await engines_that_answer(envoy) == {"safe"}

    await eventually(moved)


async def test_what_is_so_already_is_not_written_again(envoy: Envoy) -> None:
    router = asking(envoy)
    for desired, percent in ((Role.FAST, 100), (Role.SAFE, 100), (Role.FAST, 10)):
        await router.apply(desired, percent)
        before = envoy.route_file.stat()
        again = await router.apply(desired, percent)
        assert again.ok
        assert again.detail.startswith("already so")
        assert envoy.route_file.stat() == before


async def test_a_file_that_envoy_has_not_seen_is_written_again(envoy: Envoy) -> None:
    """As after an overwriting in place, of which no watch of a folder tells."""
    document = load(envoy.route_file)
    for number in (0, 1):
        fast, safe = weighted(document, number)["clusters"]
        fast["weight"], safe["weight"] = 0, 100
    overwrite(envoy.route_file, json.dumps(document).encode())
    router = asking(envoy)
    assert (await router.observe()).role is Role.FAST
    assert (await router_to(envoy.route_file).observe()).role is Role.SAFE

    applied = await router.apply(Role.SAFE)
    assert applied.ok, applied.detail
    assert await engines_that_answer(envoy) == {"safe"}


async def test_a_file_that_envoy_rejects_is_reported_and_moves_nothing(envoy: Envoy) -> None:
    router = asking(envoy)
    rewrite(envoy.route_file, lambda document: routes_of(document)[2]["route"].update(cluster="no-such-cluster"))
    applied = await router.apply(Role.SAFE)

    assert not applied.ok
    assert not applied.retry
    assert "rejects the file" in applied.detail
    assert "lung-fast-http 100" in applied.detail
    assert "no-such-cluster" in envoy.log
    assert await engines_that_answer(envoy) == {"fast"}
    assert (await router.observe()).role is Role.FAST

    rewrite(envoy.route_file, lambda document: routes_of(document)[2]["route"].update(cluster="lung-safe-http"))
    mended = await router.apply(Role.SAFE)
    assert mended.ok, mended.detail


async def test_a_file_that_envoy_does_not_watch_is_reported(envoy: Envoy) -> None:
    elsewhere = envoy.folder / "lung.json"
    elsewhere.write_bytes(envoy.route_file.read_bytes())
    applied = await router_to(elsewhere, admin={"url": envoy.admin}, timeout="300ms").apply(Role.SAFE)
    assert not applied.ok
    assert "watched_directory" in applied.detail


async def test_two_applies_at_once_come_one_after_the_other(envoy: Envoy) -> None:
    router = asking(envoy)
    applied = await asyncio.gather(*(router.apply(desired) for desired in (Role.SAFE, Role.FAST) * 4))
    assert all(each.ok for each in applied), applied
    assert (await router.observe()).role is Role.FAST


async def test_two_models_may_share_a_file(route_file: Path) -> None:
    def add_liver(document: Any) -> None:
        liver = json.loads(json.dumps(routes_of(document)[:2]).replace("lung", "liver"))
        routes_of(document).extend(liver)

    rewrite(route_file, add_liver)
    lung = router_to(route_file)
    liver = router_to(route_file, clusters=json.loads(json.dumps(CLUSTERS).replace("lung", "liver")))
    for percent in range(20):
        results = await asyncio.gather(lung.apply(Role.SAFE, percent), liver.apply(Role.FAST, percent))
        assert [each.ok for each in results] == [True, True], results
        assert (await lung.observe()).fast_percent == 100 - percent
        assert (await liver.observe()).fast_percent == percent


async def test_routes_that_disagree_are_no_role_until_it_is_applied(route_file: Path) -> None:
    rewrite(
        route_file,
        lambda document: [each.update(weight=50) for each in weighted(document, 1)["clusters"]],
    )
    router = router_to(route_file)
    observed = await router.observe()
    assert (observed.known, observed.role) == (True, None)
    assert "inference.routes[1]: lung-fast-grpc 50, lung-safe-grpc 50" in observed.detail

    assert (await router.apply(Role.SAFE)).ok
    assert (await router.observe()).role is Role.SAFE


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda d: d.pop("resources"), "no DiscoveryResponse"),
        (lambda d: d.update(resources=5), "no DiscoveryResponse"),
        (lambda d: d.update(resources=[5]), "snake_case"),
        (lambda d: d.update(resources=[]), "no route has lung-fast-http or lung-fast-grpc, and lung-safe-http"),
        (lambda d: routes_of(d).clear(), "no route has"),
        (lambda d: weighted(d)["clusters"].append({"name": "third"}), "inference.routes[0].route.weighted_clusters"),
        (lambda d: weighted(d)["clusters"].pop(), "one fast and one safe cluster, and no other"),
        (lambda d: weighted(d).update(runtime_key_prefix="x"), "remove runtime_key_prefix"),
        (lambda d: d["resources"][0].pop("validate_clusters"), "resources[0]: set validate_clusters to true"),
        (lambda d: routes_of(d)[0].update(route=None), "snake_case"),
    ],
)
async def test_a_file_that_is_not_fit_is_refused_untouched(
    route_file: Path, change: Callable[[Any], Any], said: str
) -> None:
    rewrite(route_file, change)
    await refuses(route_file, said)


@pytest.mark.parametrize("damaged", [b"", b"{", b"\xff", b"[" * 100_000, b"null", b"5"])
async def test_a_damaged_file_is_refused_untouched(route_file: Path, damaged: bytes) -> None:
    overwrite(route_file, damaged)
    await refuses(route_file, f"{route_file}: this is no")


async def refuses(route_file: Path, said: str) -> None:
    before = content(route_file)
    applied, observed = await router_to(route_file).apply(Role.SAFE), await router_to(route_file).observe()

    assert not applied.ok
    assert not applied.retry
    assert said in applied.detail
    assert observed == Observed(role=None, known=False, detail=applied.detail)
    assert content(route_file) == before
    assert names_in(route_file.parent) == [route_file.name]


async def test_a_missing_file_is_not_invented(tmp_path: Path) -> None:
    router = router_to(tmp_path / "lung.json")
    applied = await router.apply(Role.SAFE)
    assert not applied.ok
    assert "write it first" in applied.detail
    assert not (await router.observe()).known
    assert names_in(tmp_path) == []


async def test_a_link_is_refused(route_file: Path) -> None:
    link = route_file.with_name("link.json")
    link.symlink_to(route_file)
    applied = await router_to(link).apply(Role.SAFE)
    assert "name the file itself" in applied.detail
    assert link.is_symlink()


Json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(extra=Json, desired=st.sampled_from(Role), percent=st.integers(0, 100))
def test_nothing_but_the_weights_is_changed(route_file: Path, extra: Any, desired: Role, percent: int) -> None:
    def put(document: Any) -> None:
        weighted(document)["clusters"][0]["metadata_match"] = extra
        document["resources"][0]["virtual_hosts"][0]["metadata"] = extra

    rewrite(route_file, put)
    wanted = load(route_file)
    fast = share_of_fast(desired, percent)
    for number in (0, 1):
        for entry, weight in zip(weighted(wanted, number)["clusters"], (fast, 100 - fast), strict=True):
            entry["weight"] = weight

    applied = asyncio.run(router_to(route_file).apply(desired, percent))
    assert applied.ok, applied.detail
    assert load(route_file) == wanted


def test_envoy_may_still_read_what_it_could_read(route_file: Path) -> None:
    """The watchdog may be another user, so mode and group are kept."""
    group = next(
        (each for each in os.getgroups() if each != os.getegid()), 65534 if os.geteuid() == 0 else os.getegid()
    )
    os.chown(route_file, -1, group)
    route_file.chmod(0o640)
    assert asyncio.run(router_to(route_file).apply(Role.SAFE)).ok
    after = route_file.stat()
    assert (stat.S_IMODE(after.st_mode), after.st_gid) == (0o640, group)


@contextmanager
def without_the_right_to_write(folder: Path) -> Iterator[None]:
    """For root, by being nobody; for others, the mode suffices."""
    folder.chmod(0o555)
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)
        folder.chmod(0o755)


async def test_a_folder_that_cannot_be_written_is_an_answer() -> None:
    with tempfile.TemporaryDirectory() as name:  # pytest's own are closed to nobody
        route_file = Path(name) / "lung.json"
        route_file.write_bytes((EXAMPLE / "routes" / "lung.json").read_bytes())
        before = content(route_file)
        with without_the_right_to_write(route_file.parent):
            router = router_to(route_file)
            applied, observed = await router.apply(Role.SAFE), await router.observe()
        assert not applied.ok
        assert "Permission denied; the watchdog must be able" in applied.detail
        assert observed.role is Role.FAST
        assert content(route_file) == before


async def test_a_folder_that_another_holds_is_waited_for_and_then_given_up(route_file: Path) -> None:
    handle = os.open(route_file.parent, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        applied = await router_to(route_file, timeout="100ms").apply(Role.SAFE)
    finally:
        os.close(handle)
    assert not applied.ok
    assert applied.retry
    assert "another watchdog" in applied.detail
    assert (await router_to(route_file).apply(Role.SAFE)).ok


_KILLED_BEFORE_THE_RENAMING = """
import asyncio, os, signal, sys
from pathlib import Path
from watchdog.model.engine import Role
from watchdog.routers.envoy import EnvoyRouter, EnvoySettings

Path.replace = lambda self, target: os.kill(os.getpid(), signal.SIGKILL)
asyncio.run(EnvoyRouter(EnvoySettings.model_validate_json(sys.argv[1])).apply(Role.SAFE))
"""


async def test_a_kill_before_the_renaming_leaves_the_old_file_whole(route_file: Path) -> None:
    before = content(route_file)
    data = json.dumps({"kind": "envoy", "route_file": str(route_file), "clusters": CLUSTERS})
    died = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", _KILLED_BEFORE_THE_RENAMING, data], check=False
    )
    assert died.returncode == -signal.SIGKILL
    assert content(route_file) == before
    assert len(names_in(route_file.parent)) == 2

    assert (await router_to(route_file).apply(Role.SAFE)).ok
    assert names_in(route_file.parent) == [route_file.name]


async def test_somebody_else_s_change_meanwhile_is_not_lost(route_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fsync = os.fsync

    def changed_meanwhile(handle: int) -> None:
        fsync(handle)
        monkeypatch.undo()
        rewrite(route_file, lambda document: document.update(version_info="the operator's"))

    monkeypatch.setattr(os, "fsync", changed_meanwhile)
    applied = await router_to(route_file).apply(Role.SAFE)
    assert not applied.ok
    assert applied.retry
    assert "somebody changed it" in applied.detail
    assert load(route_file)["version_info"] == "the operator's"

    assert (await router_to(route_file).apply(Role.SAFE)).ok
    assert load(route_file)["version_info"] == "the operator's"


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\n{}", "must be Envoy's admin interface"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]", "its config dump can't be used"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nlol", "not in JSON"),
        (b"\x00", "no usable answer"),
    ],
)
async def test_another_server_than_envoy_is_told_apart(route_file: Path, answer: bytes, said: str) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()

    async with tcp_server(talk) as address:
        router = router_to(route_file, admin={"url": address}, timeout="300ms")
        observed, applied = await router.observe(), await router.apply(Role.SAFE)
    assert not observed.known
    assert said in observed.detail
    assert not applied.ok
    assert said in applied.detail
    assert (await router_to(route_file).observe()).role is Role.SAFE  # which matters more than to know


async def test_an_envoy_that_hangs_delays_no_writing(route_file: Path) -> None:
    hang = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await hang.wait()

    async with tcp_server(talk) as address:
        applied = await router_to(route_file, admin={"url": address}, timeout="200ms").apply(Role.SAFE)
    assert not applied.ok
    assert "no answer within" in applied.detail
    assert (await router_to(route_file).observe()).role is Role.SAFE


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"route_file": "lung.yaml"}, "must be JSON"),
        ({"clusters": {"fast": [], "safe": ["a"]}}, "at least 1"),
        ({"clusters": {"fast": [""], "safe": ["a"]}}, "at least 1"),
        ({"clusters": {"fast": ["a", "b"], "safe": ["b"]}}, "b can't be fast and safe"),
        ({"timeout": 5}, "not a duration"),
        ({"admin": {"url": "ftp://a:1"}}, "the scheme 'ftp' is not known"),
    ],
)
def test_settings_that_cannot_work_are_refused_at_start(change: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        EnvoySettings.model_validate({"kind": "envoy", "route_file": "lung.json", "clusters": CLUSTERS, **change})


def test_the_documentation_s_settings_are_those_of_the_example() -> None:
    text = (EXAMPLE.parents[1] / "docs" / "routers" / "envoy.md").read_text(encoding="utf-8")
    section = yaml.safe_load(text.split("```yaml\n")[1].split("```")[0])["router"]
    settings = EnvoySettings.model_validate(section)
    assert section["clusters"] == CLUSTERS
    assert settings.route_file == Path("/etc/envoy/routes/lung.json")
    assert settings.admin is not None


def test_settings_can_be_read_without_an_http_client() -> None:
    code = "import sys, watchdog.routers.envoy; sys.exit('aiohttp' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
