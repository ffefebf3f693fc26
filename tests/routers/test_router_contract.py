"""What every router must do, whether or not it moves anything; on a real Triton where it does."""

import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from tests.triton_fixture import Scale, write_scale_model
from watchdog.demo.triton import TritonServer, available
from watchdog.model.engine import Address, Role
from watchdog.ports import Router
from watchdog.routers import RouterSettings, open_router

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


@pytest.fixture(
    params=[
        pytest.param(
            "triton", marks=[pytest.mark.triton, pytest.mark.skipif(MISSING is not None, reason=str(MISSING))]
        ),
        "triton-unreachable",
        "dry-run",
    ]
)
async def router(request: pytest.FixtureRequest) -> AsyncIterator[Router]:
    match request.param:
        case "triton":
            router = router_of(triton_at(request.getfixturevalue("triton").http_url))
        case "triton-unreachable":
            router = router_of(triton_at("127.0.0.1:1"))
        case _:
            router = router_of({"kind": "dry-run"})
    yield router
    await router.close()


async def test_what_is_applied_is_what_is_observed(router: Router) -> None:
    for desired in (Role.SAFE, Role.FAST, Role.SAFE):
        applied, observed = await router.apply(desired), await router.observe()

        assert applied.ok is (observed.known and observed.role is desired)
        assert applied.detail
        assert observed.detail


async def test_one_that_cannot_tell_names_no_role(router: Router) -> None:
    observed = await router.observe()
    assert observed.known or observed.role is None


async def test_applying_again_changes_nothing(router: Router) -> None:
    first, again = await router.apply(Role.SAFE), await router.apply(Role.SAFE)

    assert again.ok is first.ok
    assert again.took_s < 1


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
