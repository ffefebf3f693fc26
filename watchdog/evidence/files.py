"""Evidence as files in one folder: each whole or not there, and checked whenever it is read."""

import asyncio
import errno
import hashlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

_Result = TypeVar("_Result")

_MAGIC = b"watchdog evidence 1\n"
_DIGEST_BYTES = 32
_SUFFIX, _TEMPORARY = ".evidence", ".tmp"
_PLAIN = frozenset(b"abcdefghijklmnopqrstuvwxyz0123456789-_")
"""Nothing that a file system could fold together or give a meaning to, such as capitals and dots."""
_LONGEST = 150


class FileEvidence:
    """A file for each name, in a folder that is made when something is first saved.

    A file is written beside its place, brought to the disk and renamed, so that a crash at any
    moment leaves the old or the new one; what a crash left half-written is swept away by the next
    process. It holds a checksum over name and data. Only one process may use a folder.

    Raises OSError where the disk fails (it names the file and what to do) and ValueError where
    what a file holds is not what was saved.
    """

    def __init__(self, folder: Path, *, limit_bytes: int = 64 * 2**20, timeout_s: float = 10.0) -> None:
        """Touches nothing yet.

        Args:
            folder: where the files are.
            limit_bytes: no name may have more than this.
            timeout_s: a disk that doesn't answer within this is given up on.
        """
        self._folder = folder
        self._limit = limit_bytes
        self._timeout_s = timeout_s
        self._one_at_a_time = asyncio.Lock()
        self._swept = False

    async def save(self, name: str, data: bytes) -> None:
        """Keep `data` under `name`; it has survived a power cut once this returns.

        Raises:
            OSError: it could not be made durable, or is too large; what `name` had is still there.
        """
        path = self._path(name)
        if len(data) > self._limit:
            what = f"{len(data)} bytes of evidence are more than the {self._limit} that are kept of one name"
            raise OSError(errno.EFBIG, what, str(path))
        await self._aside(path, lambda: _write(path, _MAGIC + _digest(name, data) + data))

    async def load(self, name: str) -> bytes | None:
        """What was saved last under `name`; None where nothing was.

        Raises:
            OSError: the file can't be read.
            ValueError: the file is damaged.
        """
        path = self._path(name)
        stored = await self._aside(path, lambda: _read(path, len(_MAGIC) + _DIGEST_BYTES + self._limit))
        if stored is None:
            return None
        head, data = stored[: len(_MAGIC) + _DIGEST_BYTES], stored[len(_MAGIC) + _DIGEST_BYTES :]
        if len(data) > self._limit:
            raise ValueError(f"{path} is larger than the watchdog writes; move it away: it is learnt anew")
        if head != _MAGIC + _digest(name, data):
            raise ValueError(
                f"{path} is damaged (its checksum is wrong); put back a copy, or delete it: it is learnt anew"
            )
        return data

    async def drop(self, name: str) -> None:
        """Forget `name`, whether there is something or not.

        Raises:
            OSError: the file can't be removed.
        """
        path = self._path(name)
        await self._aside(path, lambda: _remove(path))

    def _path(self, name: str) -> Path:
        return self._folder / file_name(name)

    async def _aside(self, path: Path, work: Callable[[], _Result]) -> _Result:
        """Disk work in a thread, one after the other."""
        try:
            async with asyncio.timeout(self._timeout_s), self._one_at_a_time:
                return await asyncio.to_thread(self._after_sweeping, work)
        except TimeoutError as error:
            what = f"the evidence's disk did not answer within {self._timeout_s:g} s; check the disk or its mount"
            raise TimeoutError(errno.ETIMEDOUT, what, str(path)) from error
        except OSError as error:
            raise OSError(error.errno, f"{_advice(error)} ({error.strerror})", str(path)) from error

    def _after_sweeping(self, work: Callable[[], _Result]) -> _Result:
        if not self._swept:
            for left in self._folder.glob(f"*{_SUFFIX}.*{_TEMPORARY}"):
                left.unlink(missing_ok=True)
            self._swept = True
        return work()


def file_name(name: str) -> str:
    """The name of the file: lower-case letters, digits, ``-``, ``_``, ``=`` and ``~``; at most 255 characters.

    Everything else becomes ``=`` and its UTF-8 bytes in hexadecimal digits, so that no two names
    share a file, whatever the file system thinks of capitals; of a long name the end is a SHA-256.
    """
    raw = name.encode("utf-8", "surrogatepass")
    safe = "".join(chr(byte) if byte in _PLAIN else f"={byte:02x}" for byte in raw) or "="
    if len(safe) > _LONGEST:
        safe = f"{safe[: _LONGEST - 65]}~{hashlib.sha256(raw).hexdigest()}"
    return safe + _SUFFIX


def _digest(name: str, data: bytes) -> bytes:
    """Over the name too: a file that was moved to another one's place is not that one."""
    named = hashlib.sha256(name.encode("utf-8", "surrogatepass") + b"\0")
    named.update(data)
    return named.digest()


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    handle, beside = tempfile.mkstemp(prefix=f"{path.name}.", suffix=_TEMPORARY, dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(beside).replace(path)
    except BaseException:
        Path(beside).unlink(missing_ok=True)
        raise
    _settle(path.parent)


def _read(path: Path, limit: int) -> bytes | None:
    """At most one byte more than `limit`."""
    try:
        with path.open("rb") as file:
            return file.read(limit + 1)
    except FileNotFoundError:
        return None


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)
    if path.parent.exists():
        _settle(path.parent)


def _settle(folder: Path) -> None:
    """Bring a folder's entries to the disk."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


_ADVICE = {
    errno.ENOSPC: "the evidence's disk is full; free some space",
    errno.EDQUOT: "the evidence's disk quota is used up; free some space",
    errno.EFBIG: "the evidence's file may not grow so large; check the limits on this process",
    errno.EACCES: "this user must be able to read and write the evidence's folder",
    errno.EPERM: "this user must be able to read and write the evidence's folder",
    errno.EROFS: "the evidence's disk is read-only; mount it for writing",
    errno.EISDIR: "a folder is where evidence belongs; move it away",
    errno.ENOTDIR: "a file is where the evidence's folder belongs; move it away",
    errno.EEXIST: "a file is where the evidence's folder belongs; move it away",
}


def _advice(error: OSError) -> str:
    return _ADVICE.get(error.errno or 0, "the evidence can't be used; check its disk")
