"""What a `watchdog run` costs as a process of its own: how soon it is ready, its memory, its processor time."""

import http.client
import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from bench.ground import Case, Ground
from watchdog.demo.program import free_port

_PATIENCE_S = 300.0
_LOOK_S = 0.005
_SETTLE_S = 2.0
"""For what start-up leaves behind, before the idle process is watched."""


@dataclass(frozen=True, kw_only=True)
class Running:
    """One `watchdog run`, asked over HTTP as anybody could."""

    process: psutil.Popen
    port: int
    started: float
    log: Path

    def get(self, path: str) -> tuple[int, bytes]:
        """Status and body; status 0 while nothing listens."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read()
        except ConnectionRefusedError:
            return 0, b""
        finally:
            connection.close()

    def await_ready(self) -> float:
        """Seconds from the start of the process to ``/-/ready`` answering 200."""
        while self.get("/-/ready")[0] != http.client.OK:
            self._look_again()
        return time.perf_counter() - self.started

    def await_probes(self, wanted: int) -> int:
        while (seen := self.status()["probes"]) < wanted:
            self._look_again(0.2)
        return int(seen)

    def status(self) -> dict[str, Any]:
        """Of the only model."""
        (model,) = json.loads(self.get("/api/v1/status")[1])["models"].values()
        return dict(model)

    def cpu_s(self) -> float:
        """User and system time so far, with that of children that have ended."""
        return float(sum(self.process.cpu_times()[:4]))

    def _look_again(self, pause_s: float = _LOOK_S) -> None:
        if self.process.poll() is not None or time.perf_counter() - self.started > _PATIENCE_S:
            raise RuntimeError(f"the watchdog ended or hangs:\n{self.log.read_text(encoding='utf-8')[-2000:]}")
        time.sleep(pause_s)


@contextmanager
def running(ground: Ground, case: Case, name: str, *, every: str, grpc_url: str = "") -> Iterator[Running]:
    """`watchdog run` on a configuration of its own, killed on leaving."""
    port = free_port()
    config = ground.configure(case, name, every=every, grpc_url=grpc_url, listen=f"127.0.0.1:{port}")
    log = config.with_suffix(".log")
    with log.open("wb") as stderr:
        started = time.perf_counter()
        process = psutil.Popen([sys.executable, "-m", "watchdog", "run", str(config)], stderr=stderr)
    try:
        yield Running(process=process, port=port, started=started, log=log)
    finally:
        process.kill()
        process.wait()


def ready_s(ground: Ground, case: Case, run: int) -> float:
    """From the start of the process to ready, where nothing listens at Triton's address."""
    with running(ground, case, f"ready-{run}", every="1s", grpc_url=f"127.0.0.1:{free_port()}") as one:
        return one.await_ready()


def memory(ground: Ground, case: Case, probes: int) -> dict[str, Any]:
    """Resident set in MiB once so many probes are done, as fast as they go, and its peak."""
    with running(ground, case, "memory", every="5ms") as one:
        one.await_ready()
        done = one.await_probes(probes)
        _refuse_trouble(one)
        one.get("/metrics")
        now = one.process.memory_full_info()
        return {
            "rss_mib": now.rss / 2**20,
            "uss_mib": now.uss / 2**20,
            "peak_mib": _peak_mib(one),
            "canaries_mib": one.status()["baseline"]["canaries"] * case.payload_bytes / 2**20,
            "probes": done,
        }


def idle(ground: Ground, case: Case, wall_s: float) -> dict[str, float]:
    """Processor seconds per second of a process that probes once a second."""
    with running(ground, case, "idle", every="1s") as one:
        one.await_ready()
        time.sleep(_SETTLE_S)
        before, began = one.cpu_s(), time.perf_counter()
        time.sleep(wall_s)
        used, wall = one.cpu_s() - before, time.perf_counter() - began
        _refuse_trouble(one)
    return {"cpu_s": used, "wall_s": wall, "ratio": used / wall}


def _peak_mib(one: Running) -> float:
    status = Path(f"/proc/{one.process.pid}/status").read_text(encoding="utf-8")
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) / 2**10


def _refuse_trouble(one: Running) -> None:
    status = one.status()
    if "diagnosis" in status or "failure" in status:
        raise RuntimeError(f"not all probes were healthy: {status}")
