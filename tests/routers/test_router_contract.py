"""What every router must do, whether or not it moves anything; on a real Triton where it does."""

import asyncio
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from aiohttp import web
from pydantic import TypeAdapter, ValidationError

from tests.kube_api import kube_api
from tests.routers.envoy_fixture import Envoy, engines
from tests.routers.envoy_fixture import available as available_envoy
from tests.routers.haproxy_fixture import MISSING as MISSING_HAPROXY
from tests.routers.haproxy_fixture import haproxy_between
from tests.routers.test_kserve_router import FAST, SAFE, KServe
from tests.triton_fixture import Scale, write_scale_model
from watchdog.demo.triton import TritonServer, available
from watchdog.model.engine import Address, Role
from watchdog.ports import Router
from watchdog.routers import RouterSettings, open_router
from watchdog.transport import serve

EXAMPLES = Path(__file__).parents[2] / "examples"
MISSING = available()


@pytest.fixture(scope="module")
def triton(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TritonServer]:
    work = tmp_path_factory.mktemp("contract")
    repository = write_scale_model(work / "models", {1: Scale(), 2: Scale(factor=2)})
    server = TritonServer(repository, work / "triton", models=["scale"])
    server.start()
    yield server
    server.kill()  # an orderly end would take seconds


def engines_of(fast: str = "2", safe: str = "1", safe_model: str = "scale") -> dict[Role, Address]:
    return {
        Role.FAST: Address(endpoint="triton", model="scale", version=fast),
        Role.SAFE: Address(endpoint="triton", model=safe_model, version=safe),
    }


def settings_of(data: dict[str, Any]) -> RouterSettings:
    adapter: TypeAdapter[RouterSettings] = TypeAdapter(RouterSettings)
    return adapter.validate_python(data)


def router_of(data: dict[str, Any]) -> Router:
    return open_router(settings_of(data), engines_of())


def triton_at(url: str) -> dict[str, Any]:
    return {"kind": "triton", "url": url, "timeout": "20s"}


def _envoy_at(route_file: Path, **more: Any) -> dict[str, Any]:
    clusters = {"fast": ["lung-fast-http", "lung-fast-grpc"], "safe": ["lung-safe-http", "lung-safe-grpc"]}
    return {"kind": "envoy", "route_file": str(route_file), "clusters": clusters, **more}


def _route_file(folder: Path) -> Path:
    path = folder / "lung.json"
    shutil.copyfile(EXAMPLES / "envoy/routes/lung.json", path)
    return path


def _in_kubernetes(example: str, url: str) -> dict[str, Any]:
    written = yaml.safe_load((EXAMPLES / example / "router.yaml").read_text())["router"]
    changed = {"url": url, "namespace": "clinic", "timeout": "1s", "within": "2s"}
    return {**written, **changed, **({"settle": "1ms"} if example == "kserve" else {})}


async def _open(kind: str, folder: Path, request: pytest.FixtureRequest, stack: AsyncExitStack) -> Router:  # noqa: C901, PLR0911
    """A router of this kind, before the real thing or what answers as that does; or before nobody."""
    match kind:
        case "triton":
            return router_of(triton_at(request.getfixturevalue("triton").http_url))
        case "triton, unreachable":
            return router_of(triton_at("127.0.0.1:1"))
        case "envoy":
            envoy = Envoy(folder, await stack.enter_async_context(engines()))
            stack.callback(envoy.stop)
            await asyncio.to_thread(envoy.start)
            return router_of(_envoy_at(envoy.route_file, admin={"url": envoy.admin}))
        case "envoy, unreachable":
            return router_of(_envoy_at(_route_file(folder), admin={"url": "127.0.0.1:1"}, timeout="200ms"))
        case "envoy, not asked":
            return router_of(_envoy_at(_route_file(folder)))
        case "haproxy":
            haproxy = await stack.enter_async_context(haproxy_between(folder))
            return open_router(haproxy.settings(), engines_of())
        case "haproxy, unreachable":
            shutil.copyfile(EXAMPLES / "haproxy/shares.map", folder / "shares.map")
            paths = {"socket": str(folder / "ha.sock"), "map_file": str(folder / "shares.map")}
            return router_of({"kind": "haproxy", "key": "/v2/models/nodule/", "timeout": "200ms", **paths})
        case "gateway-api":
            api = await stack.enter_async_context(kube_api())
            api.put(manifest("gateway-api/route.yaml"))
            return router_of(_in_kubernetes("gateway-api", api.url))
        case "kserve":
            api = await stack.enter_async_context(kube_api())
            service = KServe(api)
            service.deploy(SAFE)
            service.deploy(FAST, 100)
            api.on_written = service.reconcile
            return router_of(_in_kubernetes("kserve", api.url))
        case "gateway-api, unreachable" | "kserve, unreachable":
            return router_of(_in_kubernetes(kind.partition(",")[0], "http://127.0.0.1:1"))
        case "webhook" | "webhook, unreachable":
            url = "127.0.0.1:1/nodule"
            if kind == "webhook":
                url = await stack.enter_async_context(_receiver())
            (folder / "key").write_text("k")
            return router_of({"kind": "webhook", "url": url, "signing_key": {"file": str(folder / "key")}})
        case _:
            return router_of({"kind": kind})


@asynccontextmanager
async def _receiver() -> AsyncIterator[str]:
    """Takes any wish, and shows the last one."""
    wish = {"fast_percent": 100}

    async def take(request: web.Request) -> web.Response:
        wish["fast_percent"] = (await request.json())["fast_percent"]
        return web.Response()

    async def show(_: web.Request) -> web.Response:
        return web.json_response(wish)

    app = web.Application()
    app.add_routes([web.post("/nodule", take), web.get("/nodule", show)])
    runner, url = await serve(app, "127.0.0.1:0")
    yield f"{url}/nodule"
    await runner.cleanup()


def manifest(path: str) -> dict[str, Any]:
    found: dict[str, Any] = next(yaml.safe_load_all((EXAMPLES / path).read_text()))
    return found


_UNSKIPPED = {"gateway-api", "kserve", "webhook", "pull", "dry-run"}
_SKIPS = {"triton": MISSING, "envoy": available_envoy(), "haproxy": MISSING_HAPROXY}
UNREACHABLE = [f"{kind}, unreachable" for kind in ("triton", "envoy", "haproxy", "gateway-api", "kserve", "webhook")]
KINDS = [
    *(
        pytest.param(kind, marks=[pytest.mark.skipif(why is not None, reason=str(why)), pytest.mark.triton])
        for kind, why in _SKIPS.items()
    ),
    *sorted(_UNSKIPPED),
    "envoy, not asked",
    *UNREACHABLE,
]


def test_every_kind_of_router_is_tried() -> None:
    kinds = {settings.model_fields["kind"].annotation for settings in get_args(get_args(RouterSettings)[0])}
    assert {get_args(kind)[0] for kind in kinds} == _UNSKIPPED | set(_SKIPS)


@pytest.fixture(params=KINDS)
async def router(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Router]:
    async with AsyncExitStack() as stack:
        router = await _open(request.param, tmp_path, request, stack)
        yield router
        await router.close()


async def test_what_is_applied_is_what_is_observed(router: Router) -> None:
    for desired in (Role.SAFE, Role.FAST, Role.SAFE):
        applied, observed = await router.apply(desired), await router.observe()

        assert applied.detail
        assert observed.detail
        if observed.known:
            assert applied.ok is ((observed.role, observed.percent) == (desired, 100))


async def test_one_that_cannot_tell_names_no_role(router: Router) -> None:
    observed = await router.observe()
    assert observed.known or observed.role is None


async def test_what_is_divided_is_observed_as_divided(router: Router) -> None:
    applied, observed = await router.apply(Role.FAST, 10), await router.observe()

    if not router.weighted:
        assert not applied.ok
        assert not applied.retry
    elif observed.known and applied.ok:
        assert (observed.fast_percent, observed.role) == (10, Role.SAFE)


@pytest.mark.parametrize("router", UNREACHABLE, indirect=True)
async def test_one_that_is_not_there_moves_nothing_and_says_so(router: Router) -> None:
    applied, observed = await router.apply(Role.SAFE), await router.observe()
    assert not applied.ok
    assert applied.retry
    assert not observed.known


async def test_applying_again_changes_nothing(router: Router) -> None:
    first, again = await router.apply(Role.SAFE), await router.apply(Role.SAFE)

    assert again.ok is first.ok
    assert again.took_s < 5


async def test_it_can_be_closed_twice(router: Router) -> None:
    await router.close()
    await router.close()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"url": "ftp://a:1"}, "the scheme 'ftp' is not known"),
        ({"url": "triton"}, "no server's address"),
        ({"url": "a:99999"}, "no server's address"),
        ({"url": "a:1?x"}, "no server's address"),
        ({"url": "me:pw@a:1"}, "secret_headers"),
        ({"url": "http://a:1", "tls": {}}, "write https"),
        ({"headers": {"X": "a\r\nb"}}, "one line"),
        ({"headers": {"X": "a"}, "secret_headers": {"x": {"file": "x"}}}, "given twice"),
        ({"timeout": 5}, "not a duration"),
    ],
)
def test_settings_that_cannot_work_are_refused_at_start(change: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        router_of({**triton_at("127.0.0.1:8000"), **change})


@pytest.mark.parametrize(
    ("engines", "said"),
    [
        (engines_of("1", "2"), "must be higher"),
        (engines_of("2", "2"), "must be higher"),
        (engines_of("v2"), "engines.fast.version"),
        (engines_of("2", ""), "engines.safe.version"),
        (engines_of("2", "0"), "engines.safe.version"),
        (engines_of(safe_model="scale_fp32"), "versions of one model"),
    ],
)
def test_engines_that_a_version_policy_cannot_choose_between_are_refused(
    engines: dict[Role, Address], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        open_router(settings_of(triton_at("127.0.0.1:8000")), engines)


async def test_missing_tls_files_are_an_answer() -> None:
    router = router_of({**triton_at("https://127.0.0.1:8000"), "tls": {"ca": "/missing"}})
    applied = await router.apply(Role.SAFE)
    assert not applied.ok
    assert "the files of `tls` can't be used" in applied.detail


def test_settings_can_be_read_without_an_http_client() -> None:
    """`watchdog --help` and `check` stay quick."""
    code = "import sys, watchdog.routers; sys.exit('aiohttp' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
