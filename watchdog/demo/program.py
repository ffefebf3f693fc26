"""A server's program that runs for a while, in a folder of ours."""

import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

_STOP_S = 10.0


class ProgramError(Exception):
    """It can't be run here or did not start; the message says why."""


class Program:
    """One process that answers at ``/-/ready`` on 127.0.0.1 once it serves.

    Args:
        name: for people.
        programs: the names that its binary may have.
        missing: what to say where it is not installed.
        work: a folder for its data and its log.
        port: a free one where None.
    """

    def __init__(self, name: str, programs: Sequence[str], missing: str, work: Path, port: int | None = None) -> None:
        self.work = work.absolute()
        self.port = port or free_port()
        self._name, self._programs, self._missing = name, programs, missing
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log_path(self) -> Path:
        return self.work / f"{self._name.lower()}.log"

    def arguments(self) -> list[str]:
        """What its configuration files are is written here, too."""
        raise NotImplementedError

    def start(self, timeout_s: float = 30) -> None:
        """Start, and return once it is ready.

        Raises:
            ProgramError: it can't run here or did not become ready.
        """
        program = installed(self._programs)
        if program is None:
            raise ProgramError(self._missing)
        self.work.mkdir(parents=True, exist_ok=True)
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 (our own arguments, no shell)
                [program, *self.arguments()], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        try:
            self._await_ready(time.monotonic() + timeout_s)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End it; idempotent."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _await_ready(self, deadline: float) -> None:
        while not self._is_ready():
            if self._process is None or self._process.poll() is not None:
                raise ProgramError(f"{self._name} ended while it started; see {self.log_path}")
            if time.monotonic() > deadline:
                raise ProgramError(f"{self._name} was not ready in time; see {self.log_path}")
            time.sleep(0.02)

    def _is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/-/ready", timeout=2):  # noqa: S310 (our own http URL)
                return True
        except OSError:  # not listening, or 503 while it loads
            return False


def installed(programs: Sequence[str]) -> str | None:
    """Where a program is, by any of its names."""
    return next((found for name in programs if (found := shutil.which(name))), None)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
