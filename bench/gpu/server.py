"""A Triton of a given machine, traced: its life, its loads, its counts and its stubs."""

import json
import os
import secrets
import signal
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from bench.gpu.machine import Machine
from bench.gpu.web import WebError, ask
from watchdog.demo.triton import Ports

_STUB = "triton_python_backend_stub"
_SHM = Path("/dev/shm")
_READY_S, _LOAD_S, _STOP_S = 60.0, 60.0, 10.0
_TRACE_DELAY_MS = 100
_TAIL_LINES, _MOST_CHARACTERS = 30, 300


class ServerError(Exception):
    """Triton did not start, or refused; the message ends with its log's tail."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Computed:
    """How often a version computed so far, and for how long altogether."""

    count: int
    seconds: float


class Server:
    """One model on one Triton, on 127.0.0.1, in explicit model control mode.

    Requests that carry a ``traceparent`` are traced, others are not; the traces go to `traces`,
    an address as ``host:port``.
    """

    def __init__(self, machine: Machine, repository: Path, model: str, *, log: Path, traces: str) -> None:
        self.log = log
        self.ports = Ports.free()
        self._machine = machine
        self._repository = repository
        self._model = model
        self._traces = traces
        self._shm = f"watchdog_{secrets.token_hex(6)}_"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def http(self) -> str:
        return f"http://127.0.0.1:{self.ports.http}"

    @property
    def grpc(self) -> str:
        return f"127.0.0.1:{self.ports.grpc}"

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> float:
        """Start, and return once the model is READY: the seconds that it took. Raises ServerError."""
        self.kill()
        began = time.monotonic()
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command(),
                env=self._machine.environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        while not self._ready():
            if not self.running or time.monotonic() - began > _READY_S:
                raise ServerError(f"Triton ended, or was not ready within {_READY_S:g} s:\n{self.tail()}")
            time.sleep(0.05)
        return time.monotonic() - began

    def stop(self) -> None:
        """Let requests finish, and end it; idempotent."""
        if self._process is not None and self.running:
            self._process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(_STOP_S)
        self.kill()

    def kill(self) -> None:
        """End the server and its stubs, which are one process group."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._process = None
        for left in _SHM.glob(f"{self._shm}*"):
            left.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def load(self, versions: list[int]) -> float:
        """Load `versions`, those anew whose files have changed; seconds. Raises ServerError."""
        began = time.monotonic()
        try:
            config = ask(f"{self.http}/v2/models/{self._model}/config")
            config["version_policy"] = {"specific": {"versions": versions}}
            body = {"parameters": {"config": json.dumps(config)}}
            ask(f"{self.http}/v2/repository/models/{self._model}/load", body, timeout_s=_LOAD_S)
        except WebError as error:
            raise ServerError(f"{error}\n{self.tail()}") from error
        return time.monotonic() - began

    def ready_versions(self) -> list[int]:
        """The highest gets unversioned requests. Raises WebError."""
        index = ask(f"{self.http}/v2/repository/index", {"ready": True})
        return sorted(int(each["version"]) for each in index if each["name"] == self._model)

    def computed(self, version: int) -> Computed | None:
        """By the server's own statistics; None while the version does not serve."""
        try:
            answer = ask(f"{self.http}/v2/models/{self._model}/versions/{version}/stats")
        except WebError:
            return None
        (stats,) = answer["model_stats"]
        infer = stats["inference_stats"]["compute_infer"]
        return Computed(count=int(infer.get("count", 0)), seconds=int(infer.get("ns", 0)) / 1e9)

    def stub_pids(self, version: int) -> list[int]:
        """The Python backend's processes that serve one version, oldest first."""
        if self._process is None:
            return []
        found = []
        for folder in Path("/proc").iterdir():
            if not folder.name.isdecimal():
                continue
            with suppress(OSError):  # it may end while we look
                program, *arguments = (folder / "cmdline").read_bytes().split(b"\0")
                ours = os.getpgid(int(folder.name)) == self._process.pid
                serves = arguments and Path(os.fsdecode(arguments[0])).parts[-3:-1] == (self._model, str(version))
                if ours and serves and Path(os.fsdecode(program)).name == _STUB:
                    found.append(int(folder.name))
        return sorted(found)

    def tail(self) -> str:
        """The end of its log, without the tables that it prints at its start."""
        text = self.log.read_text(encoding="utf-8", errors="replace") if self.log.exists() else ""
        lines = [line[:_MOST_CHARACTERS] for line in text.splitlines() if not line.startswith(("|", "+"))]
        return "\n".join([f"the end of {self.log}:", *lines[-_TAIL_LINES:]])

    def _command(self) -> list[str]:
        tracing = (
            "mode=opentelemetry",
            "rate=0",
            "level=TIMESTAMPS",
            f"opentelemetry,url=http://{self._traces}/v1/traces",
            f"opentelemetry,bsp_schedule_delay={_TRACE_DELAY_MS}",
        )
        return [
            str(self._machine.tritonserver),
            f"--model-repository={self._repository}",
            f"--backend-directory={self._machine.backends}",
            f"--backend-config=python,shm-region-prefix-name={self._shm}",
            "--model-control-mode=explicit",
            f"--load-model={self._model}",
            *(f"--{kind}-address=127.0.0.1" for kind in ("http", "grpc", "metrics")),
            f"--http-port={self.ports.http}",
            f"--grpc-port={self.ports.grpc}",
            f"--metrics-port={self.ports.metrics}",
            "--exit-timeout-secs=3",
            "--disable-auto-complete-config",
            *(f"--trace-config={each}" for each in tracing),
        ]

    def _ready(self) -> bool:
        try:
            ask(f"{self.http}/v2/models/{self._model}/ready", timeout_s=2.0)
        except WebError:  # not listening yet, or still loading
            return False
        return True
