"""The points at which a watchdog may be killed: around whatever it does that somebody else can see.

Adapters are wrapped in the process that is to be killed, and in no other.
"""

import asyncio
import functools
import importlib
import inspect
import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from watchdog.journal import rows
from watchdog.journal.sqlite import SqliteJournal

Say = Callable[[Mapping[str, Any]], None]
"""Brings a fact to the process that will be there afterwards; it has left this one when the call returns."""

_INTO_S = 0.01
_LASTING = "triton load"
"""A call that its server goes on with when nobody waits any more: it is also cut off so long after its beginning."""
_CALLS = (
    # The journal's, which returns once the entry is on the disk.
    ("watchdog.journal.sqlite", "SqliteJournal.append", lambda _, entry: f"journal {entry.kind}"),
    # Triton's router: one request each.
    ("watchdog.routers.triton_repository", "Repository.versions", lambda *_: "triton index"),
    ("watchdog.routers.triton_repository", "Repository.config", lambda *_: "triton config"),
    ("watchdog.routers.triton_repository", "Repository.load", lambda *_: "triton load"),
    # Envoy's: one request, or one file, each.
    ("watchdog.routers.envoy_admin", "EnvoyAdmin.pairs", lambda *_: "envoy config dump"),
    ("watchdog.routers.envoy_admin", "EnvoyAdmin.refusals", lambda *_: "envoy statistics"),
    ("watchdog.routers.envoy_file", "RouteFile.write", lambda *_, **__: "envoy file"),
    # HAProxy's: one command each.
    ("watchdog.routers.haproxy", "_exchange", lambda _, command: f"haproxy {command.decode().partition(' /')[0]}"),
    # What has been written beside a file takes its place.
    ("pathlib", "Path.replace", lambda _, target: f"rename to {Path(target).name}"),
    # Probes: engines by themselves in bursts, the public name one by one.
    ("watchdog.panel", "Panel.lane", lambda _, role, *__, **___: f"probes of the {role} engine"),
    ("watchdog.prober", "Prober.probe", lambda *_, public, **__: "probe of the public name" if public else ""),
)
"""Module, what in it is called, and the call's name by its arguments; an empty name is no point."""


class Points:
    """Names points as they are reached, and kills this process at one of them."""

    def __init__(self, kill_at: str, say: Say) -> None:
        self.reached: list[str] = []
        """Each name is followed by how often it has come up, as there is no other order that never changes."""
        self._kill_at = kill_at
        self._say = say
        self._times: Counter[str] = Counter()
        self._hashes: dict[int, bytes] = {}

    def arm(self) -> None:
        """From here on this process is killed at its point, and tells of each entry that it was told is durable."""
        self._tell_appended()
        for module, path, name in _CALLS:
            *outer, last = path.split(".")
            owner = functools.reduce(getattr, outer, importlib.import_module(module))
            setattr(owner, last, self._around(getattr(owner, last), name))

    def _reach(self, name: str, *, kill_in_s: float = 0.0) -> None:
        self._times[name] += 1
        self.reached.append(f"{name} ({self._times[name]})")
        if self.reached[-1] == self._kill_at:
            self._say({"killed": self._kill_at})
            if kill_in_s:
                asyncio.get_running_loop().call_later(kill_in_s, _kill)
            else:
                _kill()

    def _around(self, call: Callable[..., Any], name_of: Callable[..., str]) -> Callable[..., Any]:
        @contextmanager
        def watched(*args: Any, **kwargs: Any) -> Iterator[None]:
            name = name_of(*args, **kwargs)
            if not name:
                yield
                return
            self._reach(f"before {name}")
            if name == _LASTING:
                self._reach(f"{_INTO_S * 1e3:g} ms into {name}", kill_in_s=_INTO_S)
            yield
            self._reach(f"after {name}")

        @functools.wraps(call)
        async def later(*args: Any, **kwargs: Any) -> Any:
            with watched(*args, **kwargs):
                return await call(*args, **kwargs)

        @functools.wraps(call)
        def now(*args: Any, **kwargs: Any) -> Any:
            with watched(*args, **kwargs):
                return call(*args, **kwargs)

        return later if inspect.iscoroutinefunction(call) else now

    def _tell_appended(self) -> None:
        insert, append = rows.append, SqliteJournal.append

        def inserted(connection: Any, **entry: Any) -> int:
            seq = insert(connection, **entry)
            _, self._hashes[seq] = rows.head(connection)
            self._reach(f"in the transaction of journal {entry['kind']}")
            return seq

        async def appended(journal: SqliteJournal, entry: Any) -> Any:
            result = await append(journal, entry)
            self._say({"appended": [result.seq, self._hashes.pop(result.seq).hex()]})
            return result

        rows.append = inserted
        SqliteJournal.append = appended  # type: ignore[method-assign,assignment]


def _kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
