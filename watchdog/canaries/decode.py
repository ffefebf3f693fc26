"""Reading DICOM files through a process of its own, with limits on memory and time."""

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from pydantic import Field

from watchdog.canaries.header import Header
from watchdog.model.tensor import Array
from watchdog.settings import Duration, Settings

_START_S = 60.0
"""For the worker's imports, which take long on a cold disk."""
_EXIT_S = 5.0
_CHUNK = 1 << 20
_MAX_REPLY = 1 << 26
"""Bytes of JSON; the positions of 65,536 frames are far less."""


class DecodeLimits(Settings):
    """What reading one DICOM file may cost."""

    wall: Duration = 20.0
    cpu: Duration = 10.0
    memory_mib: int = Field(default=2048, ge=256, le=1 << 20)
    """Address space of the worker, its libraries (some 200 MiB) included."""
    samples: int = Field(default=1 << 27, ge=1)
    """Rows × columns × frames."""
    file_mib: int = Field(default=512, ge=1)


@dataclass(frozen=True, kw_only=True, slots=True)
class Decoded:
    """What came of one file: pixels, or else names or a reason."""

    header: Header | None = None
    """None if not even the attributes could be read."""
    identifying: tuple[str, ...] = ()
    """Attributes present that may identify a patient and are not allowed."""
    reason: str = ""
    """Why there are no pixels; empty if there are, or if `identifying` says it all."""
    pixels: Array | None = None
    """Stored values, [frames, rows, columns]."""


class _Gone(Exception):  # noqa: N818 - the reason for a refusal, never seen outside
    """The worker died or was too slow."""


class Decoder:
    """A worker process that reads one file after another. Used as a context manager.

    It starts with the first file and anew after a file that ended it.
    """

    def __init__(self, limits: DecodeLimits) -> None:
        self._limits = limits
        self._worker: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def read(self, path: Path, *, allow: Collection[str] = (), even_identifying: bool = False) -> Decoded:
        """One file's facts and pixels.

        An image with identifying attributes beyond `allow` is only decoded `even_identifying`.
        """
        request = {"path": str(path.absolute()), "allow": sorted(allow), "even_identifying": even_identifying}
        try:
            worker = self._running()
            deadline = time.monotonic() + self._limits.wall
            _ask(worker, request)
            return _decoded(worker, deadline, self._limits.samples)
        except _Gone as error:
            reason = str(error) or self._end()
        except (KeyError, TypeError, ValueError):  # a worker that the file has taken over may say anything
            reason = "came back garbled"
        self._stop()
        return Decoded(reason=reason)

    def _running(self) -> subprocess.Popen[bytes]:
        if self._worker is None:
            self._worker = _start(self._limits)
            try:
                _reply(self._worker, time.monotonic() + _START_S)
            except _Gone as error:
                raise _Gone("was not looked into: the decoder did not start") from error
        return self._worker

    def _end(self) -> str:
        """How the worker ended by itself, for a person."""
        try:
            code = None if self._worker is None else self._worker.wait(_EXIT_S)
        except subprocess.TimeoutExpired:
            return "hung the decoder"
        if code == -signal.SIGXCPU:
            return f"took more than {self._limits.cpu:g} s of processor time"
        if code == -signal.SIGKILL:
            return "got the decoder killed, most likely for the memory it used"
        return f"crashed the decoder (exit status {code})"

    def _stop(self) -> None:
        worker, self._worker = self._worker, None
        if worker is None:
            return
        worker.kill()
        worker.wait()
        for pipe in (worker.stdin, worker.stdout):
            if pipe is not None:
                pipe.close()


def _start(limits: DecodeLimits) -> subprocess.Popen[bytes]:
    arguments = {
        "memory_bytes": limits.memory_mib << 20,
        "cpu_s": limits.cpu,
        "samples": limits.samples,
        "file_bytes": limits.file_mib << 20,
    }
    kept = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH", "LANG") if name in os.environ}
    return subprocess.Popen(  # noqa: S603 - this very interpreter, and no text from outside
        [sys.executable, "-B", "-W", "ignore", "-m", "watchdog.canaries.worker", json.dumps(arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,  # warnings quote attribute values
        bufsize=0,
        start_new_session=True,  # a terminal's Ctrl-C is ours to handle
        env=kept | {"PYTHONPATH": os.pathsep.join(sys.path), "OPENBLAS_NUM_THREADS": "1"},
    )


def _ask(worker: subprocess.Popen[bytes], request: dict[str, Any]) -> None:
    assert worker.stdin is not None  # noqa: S101 - a pipe by construction
    try:
        worker.stdin.write(json.dumps(request).encode() + b"\n")
    except OSError as error:
        raise _Gone from error


def _decoded(worker: subprocess.Popen[bytes], deadline: float, most: int) -> Decoded:
    reply = _reply(worker, deadline)
    pixels = None
    if "shape" in reply:
        dtype, shape = np.dtype(reply["dtype"]), tuple(reply["shape"])
        if dtype.kind not in "iu" or int(np.prod(shape)) > most:
            raise ValueError("not what was asked for")
        pixels = np.frombuffer(_read(worker, int(np.prod(shape)) * dtype.itemsize, deadline), dtype).reshape(shape)
    header = Header.from_json(reply["header"]) if "header" in reply else None
    return Decoded(
        header=header, identifying=tuple(reply.get("identifying", ())), reason=reply["reason"], pixels=pixels
    )


def _reply(worker: subprocess.Popen[bytes], deadline: float) -> dict[str, Any]:
    length = int.from_bytes(_read(worker, 8, deadline), "big")
    if length > _MAX_REPLY:
        raise ValueError("no honest reply is so long")
    reply: dict[str, Any] = json.loads(_read(worker, length, deadline))
    return reply


def _read(worker: subprocess.Popen[bytes], count: int, deadline: float) -> bytearray:
    """Exactly `count` bytes from the worker, before `deadline` (monotonic seconds)."""
    assert worker.stdout is not None  # noqa: S101 - a pipe by construction
    descriptor = worker.stdout.fileno()
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    data = bytearray()
    while len(data) < count:
        if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
            raise _Gone("took too long to read")
        chunk = os.read(descriptor, min(_CHUNK, count - len(data)))
        if not chunk:
            raise _Gone
        data += chunk
    return data
