"""Divides a model's traffic by a number in a map of one HAProxy: the fast engine's share in percent.

``haproxy.cfg`` compares ``rand(100)`` with what the map has for a request, so that a whole switch
and a share are the same thing. The number is in two places. The running map decides, is set
through the stats socket and is forgotten by a reload; the map file is what a reload reads. The file
is therefore lowered before the running map and raised after it: wherever the watchdog is killed in
between, a reload gives the fast engine no more than it had, and the safe one what it was promised.
"""

import asyncio
import errno
import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Annotated, ClassVar, Literal, TypeVar

from pydantic import AfterValidator

from watchdog.model.engine import Address, Role
from watchdog.model.route import Applied, Observed, share_of_fast
from watchdog.routers.refusal import RefusedError
from watchdog.routers.shared_file import ADVICE, ChangedError, locked, replace
from watchdog.settings import Duration, LocalPath, Settings
from watchdog.transport import one_line

_MOST_BYTES = 2**20
_ENTRY = re.compile(r"0x[0-9a-f]+ (\S+)(?: (.*))?")
_SHARE = re.compile(r"[0-9]{1,3}")
_ONE_WORD = re.compile(r"[!-~]+")
_NOT_IN_A_COMMAND = frozenset("#;<>\\\"'")

_SOCKET_ADVICE = {
    errno.ENOENT: "is HAProxy running, with this `stats socket`?",
    errno.ECONNREFUSED: "is HAProxy running?",
    errno.EACCES: "the `user`, `group` and `mode` of its `stats socket` must let the watchdog in",
}
_FILE_ADVICE = {**ADVICE, errno.ENOENT: "write it first, as haproxy.cfg names it"}
_REFUSAL_ADVICE = {
    "Permission denied": "give this stats socket `level admin`",
    "Unknown map identifier": "`map_file` must be written exactly as in haproxy.cfg, and be used there",
}

_Result = TypeVar("_Result")


def _checked_word(text: str) -> str:
    if not _ONE_WORD.fullmatch(text) or _NOT_IN_A_COMMAND & {*text}:
        raise ValueError(
            "HAProxy's commands can't carry it: use printable ASCII without blanks and without # ; < > \\ \" '"
        )
    return text


def _checked_path(path: Path) -> Path:
    _checked_word(str(path))
    return path


class HaproxySettings(Settings):
    """One HAProxy on this machine, and the model's entry in a map of it."""

    kind: Literal["haproxy"]
    socket: LocalPath
    """Its stats socket, at level ``admin``."""
    map_file: Annotated[LocalPath, AfterValidator(_checked_path)]
    """Exactly as ``haproxy.cfg`` names it, which is also the running map's name. Several models may share it."""
    key: Annotated[str, AfterValidator(_checked_word)]
    """The model's key in the map, such as ``/v2/models/nodule/``."""
    timeout: Duration = 2.0
    """For one command to HAProxy, and for one use of the map file."""

    def refuse(self, engines: Mapping[Role, Address]) -> None:
        """Any two engines will do: ``haproxy.cfg`` says where each one is."""


class HaproxyRouter:
    """One model's share, as the running map has it and as the map file keeps it.

    What HAProxy answers now is what counts: a file that can't be written stops no switch, and is told.
    A process that a reload has replaced can't be reached any more, and ends its connections by the map
    that it had.
    """

    weighted: ClassVar[bool] = True
    keeps_both: ClassVar[bool] = True
    look_every_s: ClassVar[float] = 1.0  # after a reload, so long at most until the route is put back

    def __init__(self, settings: HaproxySettings) -> None:
        self._name = settings.key
        self._running = _RunningMap(settings)
        self._file = _MapFile(settings)
        self._unkept = ""
        """Why the file could not be brought to what was applied last."""

    async def apply(self, desired: Role, percent: int = 100) -> Applied:
        """See the port. Says "already so" where the running map needed no change."""
        began = time.monotonic()
        try:
            detail = await self._move(share_of_fast(desired, percent))
        except RefusedError as error:
            return Applied(ok=False, detail=str(error), took_s=time.monotonic() - began, retry=error.retry)
        return Applied(ok=True, detail=detail, took_s=time.monotonic() - began)

    async def observe(self) -> Observed:
        """What the running map has; no role where a reload would give the fast engine more than that.

        Such a file was changed by somebody else, and putting the route back mends it. Where that
        failed already, asking for it again would not help, and it is only told.
        """
        try:
            values = await self._running.values()
        except RefusedError as error:
            return Observed(role=None, detail=str(error), known=False)
        share = _share(values)
        if share is None:
            detail = f"HAProxy's running map has {_said(values)} for {self._name}, and not one share from 0 to 100"
            return Observed(role=None, detail=detail)
        reliable, detail = await self._beside_file(share)
        role = (Role.FAST if share >= 50 else Role.SAFE) if reliable else None
        return Observed(role=role, detail=detail, percent=100 if role is None else share_of_fast(role, share))

    async def close(self) -> None:
        """Nothing is kept open; what was begun with the file is not waited for."""
        self._file.close()

    async def _move(self, share: int) -> str:
        await self._file.keep(share, only_lower=True)  # where this fails, what is tried below tells why
        before = await self._running.put(share)
        self._unkept = await self._file.keep(share)
        told = f"{self._name} gives the fast engine {share} %"
        told = f"already so: {told}" if _share(before) == share else f"{told}; before, the map had {_said(before)}"
        return f"{told}; a reload of HAProxy may undo it: {self._unkept}" if self._unkept else told

    async def _beside_file(self, share: int) -> tuple[bool, str]:
        """Whether the route can be relied on, and what is to be said of it."""
        told = f"{self._name} gives the fast engine {share} %"
        try:
            values = await self._file.values()
        except OSError as error:
            return True, f"{told}; what a reload would give it is not known: {self._file.problem(error)}"
        if _share(values) == share:
            return True, told
        told = f"{told}, but a reload would go by {self._file}, which has {_said(values)}"
        if self._unkept:
            told = f"{told}: {self._unkept}"
        return bool(self._unkept) or _highest(values) <= share, told


class _RunningMap:
    """The map in HAProxy's memory, by its stats socket. Every method raises RefusedError."""

    def __init__(self, settings: HaproxySettings) -> None:
        self._settings = settings

    async def values(self) -> list[str]:
        """What the map has for the key: nothing, or one value, unless it was added twice."""
        found = []
        said = await self._ask(f"show map {self._settings.map_file}")
        for line in filter(None, said.split("\n")):
            entry = _ENTRY.fullmatch(line)
            if entry is None:
                raise _refusal(said)
            if entry[1] == self._settings.key:
                found.append(entry[2] or "")
        return found

    async def put(self, share: int) -> list[str]:
        """Set it, whatever was there, and read it back.

        Returns:
            The values before.
        """
        before = await self.values()
        if _share(before) == share:
            return before
        verb = "set" if before else "add"
        said = await self._ask(f"{verb} map {self._settings.map_file} {self._settings.key} {share}")
        if said.strip():
            raise _refusal(said)
        after = await self.values()
        if _share(after) != share:  # some values are dropped without a word
            raise RefusedError(f"HAProxy took {share} for {self._settings.key}, but its map has {_said(after)}")
        return before

    async def _ask(self, command: str) -> str:
        socket, timeout_s = self._settings.socket, self._settings.timeout
        try:
            async with asyncio.timeout(timeout_s):
                raw = await _exchange(socket, f"{command}\n".encode())
        except TimeoutError as error:
            detail = f"HAProxy at {socket} did not answer within {timeout_s:g} s, and may yet do what it was asked"
            raise RefusedError(detail) from error
        except OSError as error:
            raise RefusedError(f"can't ask HAProxy at {socket}: {_reason(error, _SOCKET_ADVICE)}") from error
        if raw != b"\n" and not raw.endswith(b"\n\n"):  # the end of an answer, by HAProxy's management guide
            raise RefusedError(f"HAProxy at {socket} broke off its answer to `{command.partition(' /')[0]}`")
        return raw.decode(errors="replace")


class _MapFile:
    """The map as the next start or reload of HAProxy reads it.

    A thread of its own keeps what is done in order, even where a disk hangs, and lets it hang alone.
    """

    def __init__(self, settings: HaproxySettings) -> None:
        self._path = settings.map_file
        self._key = settings.key.encode()
        self._timeout_s = settings.timeout
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="haproxy-map")

    def __str__(self) -> str:
        return str(self._path)

    def close(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)

    def problem(self, error: OSError) -> str:
        """One line, with what to do."""
        if isinstance(error, TimeoutError):
            return f"{self}: not done within {self._timeout_s:g} s (check its disk, and who keeps its folder locked)"
        return f"{self}: {_reason(error, _FILE_ADVICE)}"

    async def values(self) -> list[str]:
        """As in the running map.

        Raises:
            OSError: it can't be read.
        """
        return await self._do(lambda: values_of(self._path.read_bytes(), self._key))

    async def keep(self, share: int, *, only_lower: bool = False) -> str:
        """Bring the key's share to `share`, or at most to it.

        Returns:
            Why it could not be done; empty where it is done and on the disk.
        """
        try:
            await self._do(partial(_keep, self._path, self._key, share, only_lower=only_lower))
        except OSError as error:
            return self.problem(error)
        except ChangedError:
            return f"{self}: somebody changed it at this moment; nothing was written"
        return ""

    async def _do(self, work: Callable[[], _Result]) -> _Result:
        async with asyncio.timeout(self._timeout_s):
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)


def values_of(content: bytes, key: bytes) -> list[str]:
    """What a map file has for a key, in its order."""
    return [found["value"].decode(errors="replace") for found in _lines(key).finditer(content)]


def with_share(content: bytes, key: bytes, share: int) -> bytes:
    """A map file's content with another share, in percent, for one key; everything else to the byte as it was.

    A key that is not there is added at the end.
    """
    changed, found = _lines(key).subn(rb"\g<before>%d\g<after>" % share, content)
    if found:
        return changed
    gap = b"" if not content or content.endswith(b"\n") else b"\n"
    return content + gap + key + b" %d\n" % share


def _lines(key: bytes) -> re.Pattern[bytes]:
    """HAProxy's format: leading blanks, the key, blanks, the value, trailing blanks."""
    return re.compile(
        rb"^(?P<before>[ \t]*" + re.escape(key) + rb"[ \t]+)(?P<value>[^\n]*?)(?P<after>[ \t\r]*)$", re.MULTILINE
    )


def _keep(path: Path, key: bytes, share: int, *, only_lower: bool) -> None:
    target = path.resolve()  # a link stays one
    with locked(target.parent) as folder:
        before = target.stat()
        old = target.read_bytes()
        if only_lower and _highest(values_of(old, key)) <= share:
            return
        new = with_share(old, key, share)
        if new != old:
            replace(target, new, before)
            os.fsync(folder)


async def _exchange(socket: Path, command: bytes) -> bytes:
    """One command on a connection of its own, which HAProxy ends after its answer."""
    reader, writer = await asyncio.open_unix_connection(socket)
    try:
        writer.write(command)
        raw = bytearray()
        while chunk := await reader.read(_MOST_BYTES):
            raw += chunk
            if len(raw) > _MOST_BYTES:
                raise RefusedError(
                    f"HAProxy's map is larger than {_MOST_BYTES // 2**20} MiB: give shares one of their own"
                )
        return bytes(raw)
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


def _refusal(said: str) -> RefusedError:
    text = one_line(said)
    advice = next((advice for start, advice in _REFUSAL_ADVICE.items() if text.startswith(start)), "")
    return RefusedError(f"HAProxy says: {text}" + (f" ({advice})" if advice else ""), retry=not advice)


def _reason(error: OSError, advice: Mapping[int, str]) -> str:
    reason = error.strerror or one_line(str(error))
    more = advice.get(error.errno or 0)
    return f"{reason} ({more})" if more else reason


def _share(values: Sequence[str]) -> int | None:
    """The one share from 0 to 100 that all `values` are."""
    if len({*values}) != 1 or not _SHARE.fullmatch(values[0]):
        return None
    share = int(values[0])
    return share if share <= 100 else None


def _highest(values: Sequence[str]) -> int:
    """What they may give the fast engine at most; nothing where there is none, by the example's default of 0."""
    return max((100 if (share := _share([value])) is None else share for value in values), default=0)


def _said(values: Sequence[str]) -> str:
    return one_line(" and ".join(values), most=80) or "nothing"
