"""A real Triton 2.51 on this machine: no container, no GPU, no root.

The server, its libraries and its Python backend come from the ``nvidia-pytriton`` wheel, whose
Python code is never imported. Models are ``model.py`` files that run in this interpreter and its
virtual environment, one *stub* process per model instance and version.
"""

import http.client
import importlib.util
import json
import os
import platform
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

WHEEL = "nvidia-pytriton==0.7.0"

_STUB = "triton_python_backend_stub"
_VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"
_MIN_GLIBC = (2, 35)
_SHM = Path("/dev/shm")  # noqa: S108 (where the Python backend and its stubs share memory)
_STOP_S = 10.0
_TAIL_LINES = 20


class TritonError(Exception):
    """Triton can't be run here, did not start, or refused what was asked of it."""


@dataclass(frozen=True, kw_only=True)
class Ports:
    http: int
    grpc: int
    metrics: int

    @classmethod
    def free(cls) -> Self:
        """Three ports of 127.0.0.1 that nothing listens on now."""
        with ExitStack() as stack:
            sockets = [stack.enter_context(socket.socket()) for _ in range(3)]
            for each in sockets:
                each.bind(("127.0.0.1", 0))
            http_port, grpc_port, metrics_port = (each.getsockname()[1] for each in sockets)
        return cls(http=http_port, grpc=grpc_port, metrics=metrics_port)


def available() -> str | None:
    """None where Triton can run, otherwise a sentence: what is missing and how to get it."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return f"Triton's wheel is built for x86-64 Linux, and this is {platform.machine()} {sys.platform}."
    glibc = _glibc()
    if glibc < _MIN_GLIBC:
        return "Triton needs glibc 2.35 or newer (Debian 12, Ubuntu 22.04); this system's C library is older."
    wheel = _wheel()
    if wheel is None:
        return f"Triton is not installed: pip install --no-deps {WHEEL}"
    if not _stub(wheel).is_file():
        offered = ", ".join(sorted(each.name for each in _stub(wheel).parents[1].iterdir()))
        return f"Triton's wheel has no Python {_VERSION} stub: run with one of {offered}."
    if _libpython() is None:
        return f"libpython{_VERSION}.so.1.0 is missing: apt install libpython{_VERSION}, or take a shared build of it."
    if not (_bin() / "python3").exists():
        return f"There is no python3 beside {sys.executable}: run from a virtual environment."
    return None


class TritonServer:
    """One Triton over one model repository, in explicit model control mode, on 127.0.0.1.

    Nothing outlives this process: the server and its stubs are one process group, which is
    killed on exit, and by a watching shell should this process be killed itself.

    Args:
        repository: the model repository's folder.
        work: a folder for the log and the private backend directory.
        models: loaded at start; `start` waits until each is READY.
        ports: free ones where None. They stay the same over restarts.
        extra_args: further arguments of ``tritonserver``.
    """

    def __init__(
        self,
        repository: Path,
        work: Path,
        *,
        models: Sequence[str] = (),
        ports: Ports | None = None,
        extra_args: Sequence[str] = (),
    ) -> None:
        self.repository = repository.absolute()
        self.work = work.absolute()
        self.models = tuple(models)
        self.ports = ports or Ports.free()
        self._extra_args = tuple(extra_args)
        self._shm_prefix = f"watchdog_{secrets.token_hex(6)}_"
        self._process: subprocess.Popen[bytes] | None = None
        self._leash: subprocess.Popen[bytes] | None = None

    @property
    def http_url(self) -> str:
        return f"127.0.0.1:{self.ports.http}"

    @property
    def grpc_url(self) -> str:
        return f"127.0.0.1:{self.ports.grpc}"

    @property
    def metrics_url(self) -> str:
        return f"127.0.0.1:{self.ports.metrics}"

    @property
    def log_path(self) -> Path:
        return self.work / "triton.log"

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """The server's process, which is also its process group.

        Raises:
            TritonError: it does not run.
        """
        if self._process is None or self._process.poll() is not None:
            raise TritonError("Triton is not running; start() it first")
        return self._process.pid

    def start(self, timeout_s: float = 60) -> None:
        """Start, and return once the server and its models are READY.

        Raises:
            TritonError: it can't run here or did not become ready; the message says why.
        """
        if self.running:
            raise TritonError(f"Triton is running already, as process {self.pid}")
        missing = available()
        if missing is not None:
            raise TritonError(missing)
        self.kill()  # what a server that crashed may have left behind
        deadline = time.monotonic() + timeout_s
        self._write_backend()
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 (our own arguments, no shell)
                self._command(),
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._leash = _leash(self._process.pid, _SHM / self._shm_prefix)
        try:
            self._await_ready(deadline, timeout_s)
        except BaseException:
            self.kill()
            raise

    def stop(self) -> None:
        """Let requests finish and end the server; idempotent. Two to four seconds, and at most ten."""
        if self._process is not None and self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGCONT)  # a stopped stub would hold up an orderly end
            self._process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(_STOP_S)
        self.kill()

    def kill(self) -> None:
        """End the server and its stubs at once, as a crash would; idempotent."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        if self._leash is not None:
            self._leash.kill()
            self._leash.communicate()
        self._process = self._leash = None
        for left in _SHM.glob(f"{self._shm_prefix}*"):
            left.unlink(missing_ok=True)

    def restart(self) -> None:
        """Stop, and start on the same ports. What was loaded with an override is forgotten."""
        self.stop()
        self.start()

    def stub_pids(self, model: str, version: int) -> list[int]:
        """The Python backend's processes that serve one version, oldest first."""
        wanted = (model, str(version), "model.py")
        return [pid for pid, path in self._stubs() if path.parts[-3:] == wanted]

    def request(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, timeout_s: float = 30
    ) -> tuple[int, bytes]:
        """One HTTP request, such as ``GET /v2/health/ready``: status and body.

        Raises:
            OSError: nothing answered in time.
        """
        connection = http.client.HTTPConnection("127.0.0.1", self.ports.http, timeout=timeout_s)
        try:
            connection.request(method, path, None if body is None else json.dumps(body))
            response = connection.getresponse()
            return response.status, response.read()
        except http.client.HTTPException as error:
            raise ConnectionError(f"Triton's answer to {path} broke off: {error}") from error
        finally:
            connection.close()

    def load(self, model: str, config: Mapping[str, Any] | None = None, timeout_s: float = 60) -> None:
        """Load a model again, with `config` instead of its ``config.pbtxt`` where given.

        Raises:
            TritonError: Triton refused; what was loaded before keeps serving.
            OSError: nothing answered in time.
        """
        body = None if config is None else {"parameters": {"config": json.dumps(config)}}
        status, answer = self.request("POST", f"/v2/repository/models/{model}/load", body, timeout_s)
        if status != http.client.OK:
            raise TritonError(f"Triton did not load {model}: {answer.decode(errors='replace')}")

    def config(self, model: str) -> dict[str, Any]:
        """The model's configuration, such as an override starts from.

        Its version policy may be out of date: where an override leaves a version as it is, that
        version keeps the configuration that it was loaded with. `ready_versions` tells the truth.

        Raises:
            TritonError: the model is not there.
            OSError: nothing answered in time.
        """
        status, answer = self.request("GET", f"/v2/models/{model}/config")
        if status != http.client.OK:
            raise TritonError(f"Triton has no configuration of {model}: {answer.decode(errors='replace')}")
        config: dict[str, Any] = json.loads(answer)
        return config

    def ready_versions(self, model: str) -> list[int]:
        """The versions of a model that answer; the highest gets the unversioned requests.

        Raises:
            OSError: nothing answered in time.
        """
        _, answer = self.request("POST", "/v2/repository/index", {"ready": True})
        return sorted(int(each["version"]) for each in json.loads(answer) if each["name"] == model)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _command(self) -> list[str]:
        wheel = _wheel()
        assert wheel is not None  # noqa: S101 (available() said so)
        return [
            str(wheel / "tritonserver/bin/tritonserver"),
            f"--model-repository={self.repository}",
            f"--backend-directory={self._backends}",
            f"--cache-directory={wheel / 'tritonserver/caches'}",
            f"--backend-config=python,shm-region-prefix-name={self._shm_prefix}",
            "--model-control-mode=explicit",
            *(f"--load-model={model}" for model in self.models),
            "--http-address=127.0.0.1",
            "--grpc-address=127.0.0.1",
            "--metrics-address=127.0.0.1",
            f"--http-port={self.ports.http}",
            f"--grpc-port={self.ports.grpc}",
            f"--metrics-port={self.ports.metrics}",
            "--exit-timeout-secs=3",
            "--disable-auto-complete-config",  # it starts every stub twice: 1.4 s a load instead of 0.1 s
            *self._extra_args,
        ]

    def _environment(self) -> dict[str, str]:
        """The stub is linked to libpython and runs the first `python3` on the path."""
        wheel, libpython = _wheel(), _libpython()
        assert wheel is not None  # noqa: S101 (available() said so)
        assert libpython is not None  # noqa: S101 (available() said so)
        libraries = [str(self._backends), str(libpython.parent), str(wheel.parent / "nvidia_pytriton.libs")]
        if "LD_LIBRARY_PATH" in os.environ:
            libraries.append(os.environ["LD_LIBRARY_PATH"])
        path = os.pathsep.join([str(_bin()), os.environ.get("PATH", os.defpath)])
        return {**os.environ, "PATH": path, "LD_LIBRARY_PATH": os.pathsep.join(libraries)}

    @property
    def _backends(self) -> Path:
        return self.work / "backends"

    def _write_backend(self) -> None:
        """Triton looks for the stub beside the backend's library, and the wheel keeps it elsewhere."""
        wheel = _wheel()
        assert wheel is not None  # noqa: S101 (available() said so)
        folder = self._backends / "python"
        shutil.rmtree(folder, ignore_errors=True)  # not overwritten: a killed stub may still be ending
        shutil.copytree(wheel / "tritonserver/backends/python", folder)
        shutil.copyfile(_stub(wheel), folder / _STUB)
        for name in (_STUB, "libtriton_python.so"):
            (folder / name).chmod(0o755)
        self._alias_libpython(folder / _STUB)

    def _alias_libpython(self, stub: Path) -> None:
        """Give this interpreter's libpython the names that the stub asks for.

        The 3.13 stub asks for a copy inside the wheel, which lacks modules that Debian's Python
        has built into its own: the standard library on the path does not fit it.
        """
        libpython = _libpython()
        assert libpython is not None  # noqa: S101 (available() said so)
        for name in set(re.findall(rb"libpython3[\w.-]*\.so[.\d]*", stub.read_bytes())):
            alias = self._backends / name.decode()
            alias.unlink(missing_ok=True)
            alias.symlink_to(libpython)

    def _await_ready(self, deadline: float, timeout_s: float) -> None:
        waiting = ["/v2/health/ready", *(f"/v2/models/{model}/ready" for model in self.models)]
        while waiting:
            if not self.running:
                raise TritonError(f"Triton ended while it started. {self._tail()}")
            if time.monotonic() > deadline:
                raise TritonError(f"Triton did not answer {waiting[0]} with 200 within {timeout_s:g} s. {self._tail()}")
            if self._answers(waiting[0]):
                del waiting[0]
            else:
                time.sleep(0.02)

    def _answers(self, path: str) -> bool:
        try:
            return self.request("GET", path, timeout_s=2)[0] == http.client.OK
        except OSError:  # not listening yet
            return False

    def _tail(self) -> str:
        lines = self.log_path.read_text(encoding="utf-8", errors="replace").splitlines()[-_TAIL_LINES:]
        return "\n".join([f"Fix what the end of {self.log_path} says:", *lines])

    def _stubs(self) -> list[tuple[int, Path]]:
        group, found = self.pid, []
        for folder in Path("/proc").iterdir():
            if not folder.name.isdecimal():
                continue
            with suppress(OSError):  # it may end while we look
                arguments = (folder / "cmdline").read_bytes().split(b"\0")
                is_stub = Path(os.fsdecode(arguments[0])).name == _STUB
                if is_stub and os.getpgid(int(folder.name)) == group:
                    found.append((int(folder.name), Path(os.fsdecode(arguments[1]))))
        return sorted(found)


def _leash(group: int, shared_memory: Path) -> subprocess.Popen[bytes]:
    """A shell that kills a process group once its standard input, which only we hold, is closed.

    PR_SET_PDEATHSIG would not do: it fires when the starting *thread* ends, as a pool's does.
    """
    return subprocess.Popen(  # noqa: S603 (a constant script)
        ["/bin/sh", "-c", 'read -r _; kill -s KILL -- "-$0"; rm -f "$1"*', str(group), str(shared_memory)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def _wheel() -> Path | None:
    """The installed package's folder, found without importing it (its own requirements are not ours)."""
    spec = importlib.util.find_spec("pytriton")
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(spec.submodule_search_locations[0]).absolute()


def _stub(wheel: Path) -> Path:
    return wheel / "tritonserver/python_backend_stubs" / _VERSION / _STUB


def _bin() -> Path:
    """Where this interpreter's own `python3` is; not resolved, because a venv is told by that path."""
    return Path(sys.executable).absolute().parent


def _libpython() -> Path | None:
    lib = sysconfig.get_config_var("LIBDIR")
    multiarch = sysconfig.get_config_var("MULTIARCH")
    folders = [Path(sys.base_prefix) / "lib"]
    if lib:
        folders += [Path(lib), Path(lib) / str(multiarch)]
    candidates = (folder / f"libpython{_VERSION}.so.1.0" for folder in folders)
    return next((each for each in candidates if each.is_file()), None)


def _glibc() -> tuple[int, ...]:
    """The C library's version; empty (older than any) where it is another one, such as musl."""
    try:
        _, _, version = (os.confstr("CS_GNU_LIBC_VERSION") or "").partition(" ")
    except (ValueError, OSError):
        return ()
    return tuple(int(part) for part in version.split(".") if part.isdecimal())
