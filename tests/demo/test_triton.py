"""The harness starts a real Triton, ends it in every way, and leaves nothing behind."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.triton_fixture import Scale, write_scale_model
from watchdog.demo import triton
from watchdog.demo.triton import Ports, TritonError, TritonServer, available

pytestmark = pytest.mark.triton

PARENT = """
import sys, time
from pathlib import Path
from watchdog.demo.triton import TritonServer
server = TritonServer(Path(sys.argv[1]), Path(sys.argv[2]), models=["scale"])
server.start()
print(server.pid, *server.stub_pids("scale", 1), flush=True)
time.sleep(60)
"""


@pytest.fixture(autouse=True)
def _here() -> None:
    if (missing := available()) is not None:
        pytest.skip(missing)


@pytest.fixture
def small(tmp_path: Path) -> Iterator[TritonServer]:
    """Not started."""
    models = write_scale_model(tmp_path / "models", {1: Scale(), 2: Scale(factor=2)})
    server = TritonServer(models, tmp_path / "triton", models=["scale"])
    server.work.mkdir()
    yield server
    server.kill()


def gone(pid: int, within_s: float = 3) -> bool:
    """Whether a process ends; one that waits for a negligent init to reap it has ended."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        if not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            return True
        time.sleep(0.01)
    return False


def shared_memory(prefix: str) -> list[str]:
    return [each.name for each in Path("/dev/shm").iterdir() if each.name.startswith(prefix)]


def test_it_starts_ready_and_stops_without_a_trace(small: TritonServer) -> None:
    with small as server:
        assert server.request("GET", "/v2/models/scale/versions/2/ready")[0] == 200
        pids = [server.pid, *server.stub_pids("scale", 1), *server.stub_pids("scale", 2)]
        assert len(pids) == 3
        assert shared_memory(server._shm_prefix)
    assert not server.running
    assert all(gone(pid) for pid in pids)
    assert not shared_memory(server._shm_prefix)
    with pytest.raises(TritonError, match="start"):
        _ = server.pid
    server.stop()


def test_it_restarts_on_the_same_ports(small: TritonServer) -> None:
    small.start()
    first, config = small.pid, small.config("scale")
    small.load("scale", config | {"version_policy": {"specific": {"versions": [1]}}})
    assert small.request("GET", "/v2/models/scale/versions/1/ready")[0] == 200
    small.restart()
    assert small.pid != first
    assert small.config("scale")["version_policy"] == {"specific": {"versions": [1, 2]}}


def test_a_kill_takes_the_stubs_along_even_stopped_ones(small: TritonServer) -> None:
    small.start()
    stubs = small.stub_pids("scale", 2)
    os.kill(stubs[0], signal.SIGSTOP)
    small.kill()
    assert all(gone(pid) for pid in stubs)
    assert not shared_memory(small._shm_prefix)
    small.start()


def test_a_stopped_stub_does_not_hold_up_an_orderly_stop(small: TritonServer) -> None:
    small.start()
    os.kill(small.stub_pids("scale", 2)[0], signal.SIGSTOP)
    began = time.monotonic()
    small.stop()
    assert time.monotonic() - began < 8


def test_nothing_outlives_a_parent_that_is_killed(small: TritonServer, tmp_path: Path) -> None:
    arguments = [sys.executable, "-c", PARENT, str(small.repository), str(small.work)]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pids = [int(each) for each in parent.stdout.readline().split()]
        parent.kill()
    assert len(pids) == 2
    assert all(gone(pid) for pid in pids)


def test_a_model_that_cannot_be_loaded_is_told_with_the_log(tmp_path: Path) -> None:
    models = write_scale_model(tmp_path / "models", {1: Scale(load_error="the weights are gone")})
    server = TritonServer(models, tmp_path, models=["scale"])
    with pytest.raises(TritonError, match="the weights are gone"):
        server.start()
    assert not server.running


def test_a_taken_port_is_told(small: TritonServer) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        ports = Ports(http=taken.getsockname()[1], grpc=small.ports.grpc, metrics=small.ports.metrics)
        server = TritonServer(small.repository, small.work, models=["scale"], ports=ports)
        with pytest.raises(TritonError, match="already in use"):
            server.start()


def test_a_load_that_fails_keeps_what_serves(small: TritonServer) -> None:
    small.start()
    write_scale_model(small.repository, {3: Scale(load_error="no weights")})
    with pytest.raises(TritonError, match="no weights"):
        small.load("scale")
    assert small.request("GET", "/v2/models/scale/versions/2/ready")[0] == 200


def test_a_second_start_is_refused(small: TritonServer) -> None:
    small.start()
    with pytest.raises(TritonError, match="running already"):
        small.start()


@pytest.mark.parametrize(
    ("name", "value", "hint"),
    [
        ("_wheel", None, "pip install --no-deps nvidia-pytriton"),
        ("_libpython", None, "apt install libpython3"),
        ("_glibc", (2, 31), "glibc 2.35"),
        ("_stub", Path("/nowhere/3.99/stub"), "stub"),
    ],
)
def test_what_is_missing_is_said_with_the_remedy(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, value: object, hint: str
) -> None:
    if name == "_stub":
        value = tmp_path / "3.99/stub"
    monkeypatch.setattr(triton, name, lambda *_: value)
    assert re.search(hint, available() or "")
