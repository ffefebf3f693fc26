"""The journal in one SQLite file: on disk before `append` returns, append-only by its own triggers."""

import asyncio
import errno
import json
import math
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, Self, TypeVar

from watchdog.model.journal import Entry, EntryKind

_Result = TypeVar("_Result")

_APPLICATION = 0x77646F67  # "wdog": tells a journal from any other SQLite file
_VERSION = 1
_RETRY_S = 0.01
_SCHEMA = f"""
BEGIN IMMEDIATE;
CREATE TABLE IF NOT EXISTS entries (
  seq INTEGER PRIMARY KEY CHECK (seq > 0),
  at REAL NOT NULL,
  kind TEXT NOT NULL,
  model TEXT NOT NULL,
  data TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS entries_by_model ON entries (model, kind);
CREATE TRIGGER IF NOT EXISTS entries_unchanged BEFORE UPDATE ON entries
  BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END;
CREATE TRIGGER IF NOT EXISTS entries_kept BEFORE DELETE ON entries
  BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END;
CREATE TRIGGER IF NOT EXISTS entries_not_replaced BEFORE INSERT ON entries
  WHEN EXISTS (SELECT 1 FROM entries WHERE seq = NEW.seq)
  BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END;
PRAGMA application_id = {_APPLICATION};
PRAGMA user_version = {_VERSION};
COMMIT;
"""  # noqa: S608 (our own numbers); may be run twice, by two watchdogs that start at once


class SqliteJournal:
    """An append-only record in one file, for one watchdog; others may read it meanwhile.

    WAL with ``synchronous=FULL``: an entry whose `append` returned survives ``kill -9`` and a
    power cut, as far as the disk keeps what it said it wrote. One thread owns the connection, so
    the event loop never waits for the disk. An append costs one fsync.

    `data` is stored as strict JSON. What JSON lacks is written as a string: ``"NaN"``,
    ``"Infinity"`` and ``"-Infinity"``. What `append` returns is what `tail` will return.

    All methods raise OSError, which names the file and what to do about it.
    """

    def __init__(self, path: Path, timeout_s: float) -> None:
        """Use `open`."""
        self._path = path
        self._timeout_s = timeout_s
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="journal")
        self._connection: sqlite3.Connection | None = None  # only the worker touches it
        self._closed = False

    @classmethod
    async def open(cls, path: Path, *, timeout_s: float = 5.0) -> Self:
        """The journal at `path`, made if there is none; its folder must exist.

        Args:
            path: the file; SQLite keeps ``-wal`` and ``-shm`` beside it.
            timeout_s: how long to wait for another process' lock. A disk that doesn't answer
                is given up on after three times that.
        """
        journal = cls(path, timeout_s)
        try:
            await journal._run(journal._connect)
        except BaseException:
            journal._abandon()
            raise
        return journal

    async def append(self, entry: Entry) -> Entry:
        """The entry with its number, once it is on disk.

        After an OSError it may or may not be there: a failed or late write can't be told apart.
        """
        text = json.dumps(_jsonable(entry.data), allow_nan=False, separators=(",", ":"))
        seq = await self._run(lambda: self._insert((entry.at, str(entry.kind), entry.model, text)))
        return replace(entry, seq=seq, data=json.loads(text))

    async def tail(self, limit: int, model: str | None = None) -> Sequence[Entry]:
        """The newest `limit` entries (of one model), oldest of them first."""
        where, values = ("", ()) if model is None else ("WHERE model = ?", (model,))
        return await self._run(lambda: self._newest(where, values, limit))

    async def last(self, kind: EntryKind, model: str) -> Entry | None:
        """The newest entry of one kind about one model, however long ago."""
        found = await self._run(lambda: self._newest("WHERE model = ? AND kind = ?", (model, str(kind)), 1))
        return found[0] if found else None

    async def close(self) -> None:
        if self._closed:
            return
        try:
            await self._run(self._disconnect)
        finally:
            self._abandon()

    async def _run(self, work: Callable[[], _Result]) -> _Result:
        if self._closed:
            raise OSError(errno.EBADF, "the journal is closed", str(self._path))
        patience_s = 3 * self._timeout_s
        try:
            async with asyncio.timeout(patience_s):
                return await asyncio.get_running_loop().run_in_executor(self._worker, work)
        except sqlite3.Error as error:
            raise _translated(error, self._path) from error
        except TimeoutError as error:
            what = f"the journal's disk did not answer within {patience_s:g} s; check the disk or its mount"
            raise TimeoutError(errno.ETIMEDOUT, what, str(self._path)) from error

    def _abandon(self) -> None:
        """Let the worker end by itself, closing the file behind what it is doing."""
        if not self._closed:
            self._closed = True
            self._worker.submit(self._disconnect)
            self._worker.shutdown(wait=False)

    # The rest runs in the worker.

    def _connect(self) -> None:
        self._connection = sqlite3.connect(self._path, timeout=self._timeout_s, isolation_level=None)
        deadline = time.monotonic() + self._timeout_s
        while True:
            try:
                return _prepare(self._connection, self._path)
            except sqlite3.OperationalError as error:
                # SQLite itself doesn't wait where two change to WAL at once.
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                    raise
            time.sleep(_RETRY_S)

    def _disconnect(self) -> None:
        if self._connection is not None:
            connection, self._connection = self._connection, None
            connection.close()

    def _execute(self, sql: str, values: Sequence[Any]) -> sqlite3.Cursor:
        if self._connection is None:
            raise OSError(errno.EBADF, "the journal is closed", str(self._path))
        return self._connection.execute(sql, values)

    def _insert(self, values: Sequence[Any]) -> int:
        cursor = self._execute("INSERT INTO entries (at, kind, model, data) VALUES (?, ?, ?, ?)", values)
        if cursor.lastrowid is None:
            raise sqlite3.InternalError("an insert without a row number")
        return cursor.lastrowid

    def _newest(self, where: str, values: Sequence[str], limit: int) -> list[Entry]:
        sql = f"SELECT seq, at, kind, model, data FROM entries {where} ORDER BY seq DESC LIMIT ?"  # noqa: S608 (literals)
        rows = self._execute(sql, (*values, max(0, limit))).fetchall()
        return [self._entry(row) for row in reversed(rows)]

    def _entry(self, row: tuple[int, float, str, str, str]) -> Entry:
        seq, at, kind, model, text = row
        try:
            return Entry(seq=seq, at=at, kind=EntryKind(kind), model=model, data=json.loads(text))
        except ValueError as error:
            what = f"entry {seq} of the journal can't be read ({error}); move the file away to start afresh"
            raise OSError(errno.EINVAL, what, str(self._path)) from error


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    """Make an empty file a journal; refuse, untouched, one that is something else."""
    fresh = _is_fresh(connection, path)
    (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
    if mode != "wal":
        what = "the journal's file system does not support SQLite's WAL; put it on a local disk"
        raise OSError(errno.ENOTSUP, what, str(path))
    connection.execute("PRAGMA synchronous = FULL")
    if fresh:
        connection.executescript(_SCHEMA)


def _is_fresh(connection: sqlite3.Connection, path: Path) -> bool:
    connection.execute("BEGIN")  # one view of all three, though another may be making the tables
    with connection:
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if (application, version, tables) == (0, 0, 0):
        return True
    if application != _APPLICATION:
        what = "this is an SQLite file, but not a watchdog's journal; set another path"
        raise OSError(errno.EINVAL, what, str(path))
    if version != _VERSION:
        what = f"the journal has version {version}, this watchdog knows {_VERSION}; run the newer watchdog"
        raise OSError(errno.EINVAL, what, str(path))
    return False


def _jsonable(value: Any) -> Any:
    """`value` with every number that JSON lacks as a string."""
    if isinstance(value, Mapping):
        return {key: _jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_jsonable(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value


_ADVICE = {
    sqlite3.SQLITE_BUSY: (errno.EAGAIN, "another process holds the journal's lock; stop the other watchdog or program"),
    sqlite3.SQLITE_NOTADB: (errno.EINVAL, "this is not an SQLite file, so not a journal; set another path"),
    sqlite3.SQLITE_CORRUPT: (errno.EIO, "the journal is damaged; keep a copy, then move it away to start afresh"),
    sqlite3.SQLITE_FULL: (errno.ENOSPC, "the journal's disk is full; free some space"),
    sqlite3.SQLITE_CANTOPEN: (
        errno.EACCES,
        "the journal can't be opened; its folder must exist and this user may read and write folder and file",
    ),
    sqlite3.SQLITE_READONLY: (errno.EROFS, "the journal is read-only; this user must be able to write folder and file"),
}


def _translated(error: sqlite3.Error, path: Path) -> OSError:
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
    number, advice = _ADVICE.get(code & 0xFF, (errno.EIO, "the journal can't be used; check its disk"))
    return OSError(number, f"{advice} ({error})", str(path))
