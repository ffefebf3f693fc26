"""A real HAProxy as `examples/haproxy` sets it up, between clients and two tiny upstreams.

    async with haproxy_between(tmp_path) as haproxy:
        router = HaproxyRouter(haproxy.settings())
        ...

Only paths, ports and hosts of the example are substituted. The upstreams answer every request with
their engine's name, in HTTP and in gRPC.
"""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import grpc  # type: ignore[import-untyped]
from aiohttp import web
from tritonclient.grpc import service_pb2

from watchdog.model.engine import Role
from watchdog.routers.haproxy import HaproxySettings

KEY = "/v2/models/nodule/"
EXAMPLE = Path(__file__).parents[2] / "examples" / "haproxy"
_PROGRAM = shutil.which("haproxy", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
MISSING = None if _PROGRAM else "there is no program `haproxy`, not in /usr/sbin either"
_DEADLINE_S = 20.0


class Haproxy:
    """One master with its worker. Its map file is the example's until a test changes it."""

    def __init__(self, folder: Path, hosts: Mapping[str, str], *, level: str = "admin") -> None:
        self.socket, self.map_file = folder / "ha.sock", folder / "shares.map"
        self.http, self.grpc = (f"127.0.0.1:{_free_port()}" for _ in range(2))
        self._master_socket = folder / "master.sock"
        self._config, self._log = folder / "haproxy.cfg", folder / "haproxy.log"
        self._master: subprocess.Popen[bytes] | None = None
        self._paused = 0
        shutil.copyfile(EXAMPLE / "shares.map", self.map_file)
        config = (EXAMPLE / "haproxy.cfg").read_text(encoding="utf-8")
        for written, here in {
            "/run/haproxy/watchdog.sock": str(self.socket),
            "/etc/haproxy/watchdog/shares.map": str(self.map_file),
            "bind :8000": f"bind {self.http}",
            "bind :8001": f"bind {self.grpc}",
            "level admin": f"level {level}",
            **hosts,
        }.items():
            assert written in config
            config = config.replace(written, here)
        self._config.write_text(config, encoding="utf-8")

    def settings(self, **changed: Any) -> HaproxySettings:
        data = {"kind": "haproxy", "socket": self.socket, "map_file": self.map_file, "key": KEY}
        return HaproxySettings.model_validate(data | changed)

    def start(self) -> None:
        assert _PROGRAM is not None
        with self._log.open("wb") as log:
            command: list[str | Path] = [_PROGRAM, "-W", "-S", self._master_socket, "-f", self._config]
            self._master = subprocess.Popen(command, stderr=log, stdout=log)
        self._until(lambda: bool(self.worker and _ask(self._master_socket, "show proc")))  # else it may miss a signal

    def kill(self) -> None:
        """At once, worker first: nobody can tidy up."""
        if self._master is None:
            return
        with suppress(OSError):
            os.kill(self.worker, signal.SIGKILL)
        self._master.kill()
        self._master.wait()
        self._master = None

    def reload(self) -> None:
        """Returns once the worker before is gone."""
        assert self._master is not None
        before = self.worker
        self._master.send_signal(signal.SIGUSR2)
        self._until(lambda: not _is_alive(before) and self.worker != before)

    def restart(self) -> None:
        self.kill()
        self.start()

    def pause(self) -> None:
        """The kernel still takes connections for the worker, and nobody answers them."""
        self._paused = self.worker
        os.kill(self._paused, signal.SIGSTOP)

    def resume(self) -> None:
        os.kill(self._paused, signal.SIGCONT)

    @property
    def worker(self) -> int:
        """Its process id, as it says itself."""
        return int(self.ask("show info").partition("\nPid: ")[2].split()[0])

    def ask(self, command: str) -> str:
        """What the stats socket says, by a client that isn't the watchdog's."""
        return _ask(self.socket, command)

    def running(self, key: str = KEY) -> list[str]:
        """What the running map has for a key."""
        return [line.split()[2] for line in self.ask(f"show map {self.map_file}").split("\n") if f" {key} " in line]

    def kept(self, key: str = KEY) -> list[str]:
        """What the map file has for a key."""
        lines = self.map_file.read_text(encoding="utf-8").split("\n")
        return [line.split()[1] for line in lines if line.split()[:1] == [key]]

    def _until(self, condition: Callable[[], bool]) -> None:
        give_up_at = time.monotonic() + _DEADLINE_S
        while True:
            with suppress(OSError, IndexError):
                if condition():
                    return
            assert time.monotonic() < give_up_at, self._log.read_text(encoding="utf-8")
            time.sleep(0.02)


@asynccontextmanager
async def haproxy_between(folder: Path, *, level: str = "admin") -> AsyncIterator[Haproxy]:
    """Running, with both upstreams."""
    async with AsyncExitStack() as stack:
        hosts = {}
        for role in Role:
            hosts[f"triton-{role}:8000"] = await stack.enter_async_context(_http(role))
            hosts[f"triton-{role}:8001"] = await stack.enter_async_context(_grpc(role))
        haproxy = Haproxy(folder, hosts, level=level)
        stack.callback(haproxy.kill)
        haproxy.start()
        yield haproxy


@asynccontextmanager
async def _http(role: Role) -> AsyncIterator[str]:
    async def answer(request: web.Request) -> web.Response:
        await request.read()
        return web.Response(text=role)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def _grpc(role: Role) -> AsyncIterator[str]:
    async def answer(_: bytes, context: Any) -> bytes:
        return bytes(service_pb2.ModelInferResponse(model_name=role).SerializeToString())

    class AnyMethod(grpc.GenericRpcHandler):  # type: ignore[misc]
        def service(self, handler_call_details: Any) -> Any:
            return grpc.unary_unary_rpc_method_handler(answer)

    server = grpc.aio.server(options=[("grpc.max_receive_message_length", -1)])
    server.add_generic_rpc_handlers((AnyMethod(),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(None)


def _ask(at: Path, command: str) -> str:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(_DEADLINE_S)
        client.connect(str(at))
        client.sendall(f"{command}\n".encode())
        client.shutdown(socket.SHUT_WR)  # without which the master does not end its answer
        answer = b""
        while chunk := client.recv(65536):
            answer += chunk
    return answer.decode()


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
