"""A file that another program reads: rewritten by one watchdog at a time, and put into place at once. Blocking."""

import errno
import fcntl
import math
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_POLL_S = 0.02

ADVICE = {
    errno.EACCES: "the watchdog must be able to read it, to write in its folder and to give a file to its group",
    errno.EPERM: "the watchdog must be able to read it, to write in its folder and to give a file to its group",
    errno.EROFS: "mount its folder for writing",
    errno.EBUSY: "mount its folder, not the file alone: a file that is a mount can't be renamed over",
    errno.ENOSPC: "free some space on its disk",
    errno.EDQUOT: "free some space on its disk",
}
"""What to do about an error of the system."""


class ChangedError(Exception):
    """Somebody else changed the file meanwhile; nothing was written."""


@contextmanager
def locked(folder: Path, until: float = math.inf) -> Iterator[int]:
    """The folder's descriptor, which only one watchdog has at a time: several models may share a file.

    Raises:
        TimeoutError: `time.monotonic` has reached `until`. A hanging disk may have passed it, too, and a newer
            switch would be undone.
    """
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        while True:
            if time.monotonic() >= until:
                raise TimeoutError(errno.ETIMEDOUT, "it is held by another watchdog", str(folder))
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                time.sleep(_POLL_S)
        yield handle
    finally:
        os.close(handle)


def replace(path: Path, content: bytes, before: os.stat_result) -> None:
    """Put `content` into the file's place, as its owner's and with its mode; to be on the disk, sync the folder.

    Args:
        path: no link.
        content: all of it.
        before: what `path` was when it was read.

    Raises:
        OSError: it can't be done, or not so that those who could read the file still can.
        ChangedError: it is no longer what it was.
    """
    beside = path.with_name(f".{path.name}.watchdog")  # one name: what a crash leaves, the next removes
    beside.unlink(missing_ok=True)
    try:
        with beside.open("xb") as file:
            _give(file.fileno(), before)
            os.fchmod(file.fileno(), stat.S_IMODE(before.st_mode))
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if _state(path.lstat()) != _state(before):
            raise ChangedError
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def _give(file: int, before: os.stat_result) -> None:
    """Only root can give a file to another user; the group is enough for who reads it by that, or as anyone."""
    with suppress(PermissionError):
        os.fchown(file, before.st_uid, -1)
    if os.fstat(file).st_gid == before.st_gid:
        return
    try:
        os.fchown(file, -1, before.st_gid)
    except PermissionError:
        if not before.st_mode & stat.S_IROTH:
            raise


def _state(file: os.stat_result) -> tuple[int, int, int]:
    return file.st_ino, file.st_mtime_ns, file.st_size
