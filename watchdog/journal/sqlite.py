"""The journal in one SQLite file: on disk before `append` returns, append-only by its own triggers."""

import asyncio
import errno
import json
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Self, TypeVar

from watchdog.journal import retention, rows
from watchdog.journal.failures import FAILURES, primary_code, translated, unreadable
from watchdog.journal.retention import Compacted, JournalSettings
from watchdog.journal.rows import RowError
from watchdog.journal.schema import prepare, touch, transaction
from watchdog.model.journal import Entry, EntryKind

_Result = TypeVar("_Result")

_RETRY_S = 0.01
_MIGRATED_BYTES_PER_S = 2e6
"""At least, on a slow disk: an older version's file is rewritten as a whole when it is opened."""


class SqliteJournal:
    """An append-only record in one file, for one watchdog; others may read it meanwhile.

    WAL with ``synchronous=FULL``: an entry whose `append` returned survives ``kill -9`` and a
    power cut, as far as the disk keeps what it said it wrote. One thread owns the connection, so
    the event loop never waits for the disk. An append costs one fsync.

    Every entry carries a hash over itself and the one before (`chain`), so that whoever knows the
    newest hash can tell later whether anything before it was changed.

    `data` is stored as strict JSON. What JSON lacks is written as a string: ``"NaN"``,
    ``"Infinity"`` and ``"-Infinity"``. What `append` returns is what `tail` will return.

    All methods raise OSError, which names the file and what to do about it.
    """

    def __init__(self, path: Path, *, timeout_s: float = 5.0) -> None:
        """Touches nothing yet; see `open`."""
        self._path = path
        self._timeout_s = timeout_s
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="journal")
        self._closed = False
        # Only the worker touches these two.
        self._connection: sqlite3.Connection | None = None
        self._file: tuple[int, int] | None = None

    @classmethod
    async def open(cls, path: Path, *, timeout_s: float = 5.0) -> Self:
        """The journal at `path`, made if there is none; its folder must exist.

        Args:
            path: the file; SQLite keeps ``-wal`` and ``-shm`` beside it.
            timeout_s: how long to wait for another process' lock. A disk that doesn't answer
                is given up on after three times that.
        """
        journal = cls(path, timeout_s=timeout_s)
        try:
            await journal.reopen()
        except BaseException:
            journal._abandon()
            raise
        return journal

    async def reopen(self) -> None:
        """Open the file that is at the path now, instead of the one that is open, if any."""
        size = await self._run(lambda _: self._path.stat().st_size if self._path.is_file() else 0)
        await self._run(lambda _: self._connect(), patience_s=size / _MIGRATED_BYTES_PER_S)

    async def append(self, entry: Entry) -> Entry:
        """The entry with its number, once it is on disk.

        After an OSError it may or may not be there: a failed or late write can't be told apart. `settle` does.
        """
        text = rows.text_of(entry.data)

        def insert(given_up: threading.Event) -> int:
            self._refuse_moved()
            with transaction(self._connected()) as connection:
                seq = rows.append(connection, at=entry.at, kind=str(entry.kind), model=entry.model, text=text)
                _refuse_late(given_up, self._path)
                return seq

        seq = await self._run(insert)
        return replace(entry, seq=seq, data=json.loads(text))

    async def tail(self, limit: int, model: str | None = None) -> Sequence[Entry]:
        """The newest `limit` entries (of one model), oldest of them first. A forgotten one's data is empty."""
        return await self._run(lambda _: rows.newest(self._connected(), limit, model))

    async def last(self, kind: EntryKind, model: str) -> Entry | None:
        """The newest entry of one kind about one model, however long ago.

        A decision, or an intent without an outcome, is found even after it was compacted away, and as it was.
        """

        def find(_: threading.Event) -> Entry | None:
            with transaction(self._connected(), "DEFERRED") as connection:
                held = rows.last(connection, kind, model)
                return None if held is None else held.entry

        return await self._run(find)

    async def settle(self, after: int, doubted: Sequence[Entry], now: float) -> int:
        """Leave no doubt about entries whose `append` raised: one that is there all the same is retracted.

        It waits for the write lock, so that no write of before can come later.

        Args:
            after: the newest number that `append` returned; doubted entries can only be behind it.
            doubted: as they were given to `append`.
            now: Unix seconds, for the entries of kind `RETRACTED`.

        Returns:
            The newest number, 0 for an empty journal.
        """

        def retract(given_up: threading.Event) -> int:
            self._refuse_moved()
            with transaction(self._connected()) as connection:
                newest = rows.retract(connection, after, doubted, now)
                _refuse_late(given_up, self._path)
                return newest

        return await self._run(retract)

    async def touch(self) -> None:
        """Write something that changes nothing, to learn whether an append would come to the disk."""

        def write(_: threading.Event) -> None:
            self._refuse_moved()
            touch(self._connected())

        await self._run(write)

    async def compact(self, now: float, settings: JournalSettings) -> Compacted:
        """Remove and forget what is too old or too much, a batch at a time: an append waits for one at most.

        The file doesn't shrink: what becomes free in it is used again.

        Args:
            now: Unix seconds.
            settings: what is kept.
        """
        forgotten = await self.forget(EntryKind.SCORE, now - settings.keep_scores, now)
        due = await self._run(lambda _: retention.plan(self._connected(), now, settings))
        removed = await self._all(lambda: retention.remove_some(self._connected(), due))
        return Compacted(removed=removed, forgotten=forgotten)

    async def forget(self, kind: EntryKind, before: float, now: float) -> int:
        """Drop the data of old entries, but neither their place nor its hash; how many lost it.

        Args:
            kind: `SCORE`; others are kept whole.
            before: Unix seconds; later entries keep their data.
            now: Unix seconds, for the entries that record it.

        Raises:
            ValueError: entries of this kind are kept whole.
        """
        return await self._all(lambda: retention.forget_some(self._connected(), kind, before, now))

    async def close(self) -> None:
        if self._closed:
            return
        try:
            await self._run(lambda _: self._disconnect())
        finally:
            self._abandon()

    async def _all(self, batch: Callable[[], int]) -> int:
        """`batch` until nothing is left to do; appends that came meanwhile go between two of them."""
        total = 0
        while done := await self._run(lambda _: batch()):
            total += done
        return total

    async def _run(self, work: Callable[[threading.Event], _Result], *, patience_s: float = 0) -> _Result:
        """`work` in the worker. It is given an event that is set once nobody waits for it any more."""
        if self._closed:
            raise _closed(self._path)
        given_up = threading.Event()
        patience_s += 3 * self._timeout_s

        def unless_late() -> _Result:
            _refuse_late(given_up, self._path)
            return work(given_up)

        try:
            async with asyncio.timeout(patience_s):
                return await asyncio.get_running_loop().run_in_executor(self._worker, unless_late)
        except FAILURES as error:
            raise translated(error, self._path) from error
        except RowError as error:
            raise unreadable(error.seq, error.why, self._path) from error
        except TimeoutError as error:
            what = f"the journal's disk did not answer within {patience_s:g} s; check the disk or its mount"
            raise TimeoutError(errno.ETIMEDOUT, what, str(self._path)) from error
        finally:
            given_up.set()

    def _abandon(self) -> None:
        """Let the worker end by itself, closing the file behind what it is doing."""
        if not self._closed:
            self._closed = True
            self._worker.submit(self._disconnect)
            self._worker.shutdown(wait=False)

    # The rest runs in the worker.

    def _connect(self) -> None:
        self._disconnect()
        connection = sqlite3.connect(self._path, timeout=self._timeout_s, isolation_level=None)
        try:
            self._prepare(connection)
            self._file = _identity(self._path)
        except BaseException:
            connection.close()
            raise
        self._connection = connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        deadline = time.monotonic() + self._timeout_s
        while True:
            try:
                return prepare(connection, self._path)
            except sqlite3.OperationalError as error:
                # SQLite itself doesn't wait where two change to WAL at once.
                if primary_code(error) != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                    raise
            time.sleep(_RETRY_S)

    def _disconnect(self) -> None:
        if self._connection is not None:
            connection, self._connection = self._connection, None
            connection.close()

    def _connected(self) -> sqlite3.Connection:
        if self._connection is None:
            raise _closed(self._path)
        return self._connection

    def _refuse_moved(self) -> None:
        """A file that was moved away would go on taking entries that nobody will find."""
        if _identity(self._path) != self._file:
            what = "the journal's file was moved, deleted or replaced while in use; put it back, or a new one is begun"
            raise OSError(errno.ESTALE, what, str(self._path))


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def _refuse_late(given_up: threading.Event, path: Path) -> None:
    """Whoever was told that it failed must not find it done afterwards, if that can be helped."""
    if given_up.is_set():
        raise OSError(errno.ECANCELED, "given up on before it was done", str(path))


def _closed(path: Path) -> OSError:
    return OSError(errno.EBADF, "the journal is closed", str(path))
