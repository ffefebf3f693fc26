"""What SQLite's errors mean for a journal, and what to do about them."""

import errno
import sqlite3
from pathlib import Path

_AFRESH = "to start afresh, move it away together with its -wal and -shm files"
_ADVICE = {
    sqlite3.SQLITE_BUSY: (errno.EAGAIN, "another process holds the journal's lock; stop the other watchdog or program"),
    sqlite3.SQLITE_NOTADB: (
        errno.EINVAL,
        f"this is not an SQLite file, so not a journal; set another path, or {_AFRESH}",
    ),
    sqlite3.SQLITE_CORRUPT: (errno.EIO, f"the journal is damaged; it is evidence, so keep it; {_AFRESH}"),
    sqlite3.SQLITE_FULL: (errno.ENOSPC, "the journal's disk is full; free some space"),
    sqlite3.SQLITE_CANTOPEN: (
        errno.EACCES,
        "the journal can't be opened; its folder must exist and this user may read and write folder and file",
    ),
    sqlite3.SQLITE_READONLY: (errno.EROFS, "the journal is read-only; this user must be able to write folder and file"),
}


FAILURES = (sqlite3.Error, UnicodeDecodeError)
"""What the library raises; the latter where it can't even put the damage of a file into words."""


def translated(error: sqlite3.Error | UnicodeDecodeError, path: Path) -> OSError:
    """The same as an OSError that names the file and what to do."""
    if isinstance(error, UnicodeDecodeError):
        number, advice = _ADVICE[sqlite3.SQLITE_CORRUPT]
        return OSError(number, advice, str(path))
    number, advice = _ADVICE.get(primary_code(error), (errno.EIO, "the journal can't be used; check its disk"))
    return OSError(number, f"{advice} ({error})", str(path))


def unreadable(seq: int, why: object, path: Path) -> OSError:
    """For an entry whose row is there, but makes no sense."""
    return OSError(errno.EINVAL, f"entry {seq} of the journal can't be read ({why}); {_AFRESH}", str(path))


def primary_code(error: sqlite3.Error) -> int:
    """SQLite's code without its details, such as ``SQLITE_IOERR`` for all that a disk can do wrong."""
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
