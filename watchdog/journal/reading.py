"""Reading a journal without writing anything: neither to its file nor to its WAL, whoever uses it meanwhile."""

import errno
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from watchdog.journal.chain import Link, digest_of
from watchdog.journal.failures import FAILURES, translated, unreadable
from watchdog.journal.rows import RowError
from watchdog.journal.schema import UNCHAINED, transaction, version_of

FILE_NAME = "journal.sqlite"
"""Of the journal in a state folder."""
_TIMEOUT_S = 5.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Stored:
    """An entry exactly as the file has it."""

    link: Link
    data: str | None
    """JSON; None where it was forgotten."""
    hash: bytes | None
    """None in a file of version 1."""


class Reader:
    """One moment's view of a journal, from `opened`. An entry that makes no sense raises RowError."""

    def __init__(self, connection: sqlite3.Connection, version: int) -> None:
        self._connection = connection
        self.chained = version != UNCHAINED
        self._columns = "seq, at, kind, model, data" + (", digest, hash" if self.chained else ", NULL, NULL")

    def bounds(self) -> tuple[int, int]:
        """The first and the last entry's number; the last is one less than the first where there is none."""
        first, last = self._connection.execute("SELECT min(seq), max(seq) FROM entries").fetchone()
        return (1, 0) if first is None else (first, last)

    def entries(self, *, after: int = 0, kinds: Sequence[str] = (), model: str | None = None) -> Iterator[Stored]:
        """Those behind number `after`, in their order, one at a time: a journal may be larger than the memory."""
        where, values = ["seq > ?"], [after, *kinds]
        if kinds:
            where.append(f"kind IN ({', '.join('?' * len(kinds))})")
        if model is not None:
            where.append("model = ?")
            values.append(model)
        yield from self._select(f"WHERE {' AND '.join(where)} ORDER BY seq", values)

    def newest(self, limit: int) -> list[Stored]:
        """The newest `limit`, oldest of them first."""
        return list(self._select("ORDER BY seq DESC LIMIT ?", [limit]))[::-1]

    def compacted(self) -> Stored | None:
        """The entry that says where the first one that is left goes on from."""
        where = "WHERE model = '' AND kind = 'compacted' ORDER BY seq DESC LIMIT 1"
        return next(self._select(where, []), None)

    def _select(self, clauses: str, values: Sequence[Any]) -> Iterator[Stored]:
        for row in self._connection.execute(f"SELECT {self._columns} FROM entries {clauses}", values):  # noqa: S608
            yield _stored(row)


def file_of(state: Path) -> Path:
    """The journal in a state folder; a path that is no folder is the file itself."""
    return state / FILE_NAME if state.is_dir() else state


@contextmanager
def opened(state: Path) -> Iterator[Reader]:
    """The journal in the folder `state`, or the file of that name.

    Where a watchdog uses it, SQLite's own locks are shared. Where none does, the file is read as one that nobody
    writes. A WAL that was left alone, by a copy of a crashed watchdog's files, is read in a copy of both.

    Raises:
        OSError: it can't be read, or is no journal; the message names the file and what to do.
    """
    path = file_of(state)
    if not path.is_file():
        raise OSError(errno.ENOENT, "there is no journal; name a state folder, or a journal's file", str(path))
    try:
        with _connection(path) as connection, transaction(connection, "DEFERRED"):
            version = version_of(connection, path)
            if not version:
                raise OSError(errno.EINVAL, "this file is empty, so not a journal", str(path))
            yield Reader(connection, version)
    except FAILURES as error:
        raise translated(error, path) from error
    except RowError as error:
        raise unreadable(error.seq, error.why, path) from error


@contextmanager
def _connection(path: Path) -> Iterator[sqlite3.Connection]:
    wal, shared = (path.with_name(path.name + end) for end in ("-wal", "-shm"))
    if not wal.exists():
        with closing(_connect(path, "immutable=1")) as connection:
            yield connection
        if wal.exists():
            what = "a watchdog began to write it while it was read, so nothing is sure; do it again"
            raise OSError(errno.EAGAIN, what, str(path))
    elif shared.exists():
        with closing(_connect(path, "mode=ro")) as connection:
            yield connection
    else:
        with tempfile.TemporaryDirectory(prefix="journal-") as folder:
            copy = Path(folder) / path.name
            shutil.copyfile(path, copy)
            shutil.copyfile(wal, copy.with_name(wal.name))
            with closing(_connect(copy, "mode=rw")) as connection:
                yield connection


def _connect(path: Path, how: str) -> sqlite3.Connection:
    uri = f"{path.resolve().as_uri()}?{how}"
    connection = sqlite3.connect(uri, uri=True, timeout=_TIMEOUT_S, isolation_level=None)
    connection.text_factory = _exact
    connection.execute("PRAGMA trusted_schema = OFF")
    connection.execute("PRAGMA cell_size_check = ON")
    return connection


def _exact(raw: bytes) -> str:
    """Text that turns back into the same bytes, whatever they are."""
    return raw.decode("utf-8", "surrogateescape")


def _stored(row: Sequence[Any]) -> Stored:
    seq, at, kind, model, data, digest, hashed = row
    if not (isinstance(at, float) and isinstance(kind, str) and isinstance(model, str)):
        raise RowError(seq, "its time, kind or model is of a wrong type")
    if not (isinstance(data, str) or (data is None and isinstance(digest, bytes) and len(digest) == 32)):
        raise RowError(seq, "its data is no text, and it has no hash instead")
    link = Link(seq=seq, at=at, kind=kind, model=model, digest=digest if data is None else digest_of(data))
    return Stored(link=link, data=data, hash=hashed if isinstance(hashed, bytes) else None)
