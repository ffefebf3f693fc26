"""Endpoints of every kind, against a real Triton that all tests share."""

import importlib.util
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import Queue
from threading import Thread
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
parameters { key: "profile.X" value: { string_value: "1x1 1x3 8x64" } }
parameters { key: "profile.X.2" value: { string_value: "1x1 4x3 8x64" } }
parameters { key: "profile.X.3" value: { string_value: "1x3 8x64" } }
"""

BATCHED = "dynamic_batching { preferred_batch_size: [ 4 ] max_queue_delay_microseconds: 10000000 }"
IMPATIENT = "dynamic_batching { default_queue_policy { timeout_action: REJECT default_timeout_microseconds: 50000 } }"


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
    write_scale_model(repository, {1: Scale()}, name="batched", more_config=BATCHED)
    write_scale_model(repository, {1: Scale()}, name="impatient", more_config=IMPATIENT)
    return repository


@dataclass(frozen=True)
class Collector:
    """Where Triton sends its traces to."""

    url: str
    bodies: Queue[bytes]


@pytest.fixture(scope="session")
def collector() -> Iterator[Collector]:
    bodies: Queue[bytes] = Queue()

    class Take(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            bodies.put(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Take) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield Collector(f"http://127.0.0.1:{server.server_port}/v1/traces", bodies)
        server.shutdown()
        thread.join()


@pytest.fixture(scope="session")
def triton(tmp_path_factory: pytest.TempPathFactory, collector: Collector) -> Iterator[TritonServer]:
    """Models ``scale`` (1: ×1, 2: ×2, 3: fails, 4: NaN), ``moving``, and ``cached`` with a response cache.

    ``batched`` waits until it has four images, and ``impatient`` gives up on what waits for 50 ms.
    Requests with a ``traceparent``, and no others, are traced.
    """
    if (missing := available()) is not None:
        pytest.skip(missing)
    folder = tmp_path_factory.mktemp("endpoints")
    spec = importlib.util.find_spec("pytriton")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    caches = Path(spec.submodule_search_locations[0]) / "tritonserver/caches"
    traces = ["mode=opentelemetry", "rate=0", "level=TIMESTAMPS", f"opentelemetry,url={collector.url}"]
    server = TritonServer(
        write_models(folder / "models"),
        folder / "work",
        models=["scale", "cached", "moving", "batched", "impatient"],
        extra_args=[
            *("--cache-config", "local,size=1048576", f"--cache-directory={caches}"),
            *(f"--trace-config={each}" for each in [*traces, "opentelemetry,bsp_schedule_delay=100"]),
        ],
    )
    server.start()
    yield server
    server.kill()  # an orderly end takes three seconds
