"""Endpoints of every kind, against a real Triton that all tests share."""

import importlib.util
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.endpoints.kinds import KINDS, Open, settings_of
from tests.triton_fixture import Scale, write_scale_model
from watchdog.demo.triton import TritonServer, available
from watchdog.endpoints import open_endpoint
from watchdog.ports import Endpoint

TAGS = """
parameters { key: "engine_tag" value: { string_value: "trt8.5.3-cuda11.8" } }
parameters { key: "engine_tag.2" value: { string_value: "trt10.1-cuda12.4" } }
"""


@pytest.fixture
async def open_at() -> AsyncIterator[Open]:
    """Opens an endpoint of a kind at a URL; all are closed after the test."""
    opened: list[Endpoint] = []

    def at(kind: str, url: str, **more: Any) -> Endpoint:
        opened.append(open_endpoint(settings_of(kind, url, **more)))
        return opened[-1]

    yield at
    for endpoint in opened:
        await endpoint.close()


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def write_models(repository: Path) -> Path:
    write_scale_model(
        repository,
        {1: Scale(), 2: Scale(factor=2), 3: Scale(error="the\nmodel broke"), 4: Scale(factor=float("nan"))},
        more_config=TAGS,
    )
    write_scale_model(repository, {1: Scale()}, name="cached", more_config="response_cache { enable: true }")
    write_scale_model(repository, {1: Scale(), 2: Scale()}, name="moving")
    return repository


@pytest.fixture(scope="session")
def triton(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TritonServer]:
    """Models ``scale`` (1: ×1, 2: ×2, 3: fails, 4: NaN), ``moving``, and ``cached`` with a response cache."""
    if (missing := available()) is not None:
        pytest.skip(missing)
    folder = tmp_path_factory.mktemp("endpoints")
    spec = importlib.util.find_spec("pytriton")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    caches = Path(spec.submodule_search_locations[0]) / "tritonserver/caches"
    server = TritonServer(
        write_models(folder / "models"),
        folder / "work",
        models=["scale", "cached", "moving"],
        extra_args=["--cache-config", "local,size=1048576", f"--cache-directory={caches}"],
    )
    server.start()
    yield server
    server.kill()  # an orderly end takes three seconds
