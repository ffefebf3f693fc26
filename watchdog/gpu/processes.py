"""Processes that hold GPU memory: their names, and each of them once."""

from collections.abc import Iterable
from pathlib import Path

from watchdog.model.gpu import ProcessMemory
from watchdog.transport import one_line

_MOST = 64


def merged(told: Iterable[tuple[int, str, int | None]]) -> tuple[ProcessMemory, ...]:
    """From (process number, MIG instance, bytes), where a process that both computes and draws is told twice."""
    used: dict[tuple[int, str], int | None] = {}
    for pid, mig, amount in told:
        known = used.get((pid, mig))
        used[pid, mig] = known if amount is None else max(amount, known or 0)
    return tuple(
        ProcessMemory(pid=pid, name=program(pid), used_bytes=amount, mig=mig)
        for (pid, mig), amount in sorted(used.items())
    )


def program(pid: int, proc: Path = Path("/proc")) -> str:
    """What `pid` runs, such as ``tritonserver``; empty where it can't be seen from here.

    The driver tells numbers of its own name space: in a container they mean something only where it shares the
    host's (``hostPID``), or is the server's own.
    """
    command = _first(proc / str(pid) / "cmdline", b"\0")
    name = Path(command).name or _first(proc / str(pid) / "comm", b"\n")  # comm ends after 15 letters
    return one_line(name, most=_MOST)


def _first(file: Path, end: bytes) -> str:
    try:
        return file.read_bytes().partition(end)[0].decode(errors="replace")
    except OSError:  # it has ended, or belongs to another name space
        return ""
