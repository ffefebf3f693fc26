"""A journal that outlives its disk's troubles: while there is one nothing is recorded, so nothing is switched."""

import asyncio
import errno
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TypeVar

from watchdog.journal.retention import Compacted, JournalSettings
from watchdog.journal.sqlite import SqliteJournal
from watchdog.model.journal import Entry, EntryKind
from watchdog.ports import Clock

_Result = TypeVar("_Result")

_SOONEST_S, _LATEST_S = 1.0, 60.0
"""When the file is tried again after the first failure, and after many."""


class SteadyJournal:
    """The journal at a path, opened when it is first needed, and again whenever that can help.

    **Degraded mode.** Where the file can't be opened, read or written, every method raises OSError, with what to do,
    until a try succeeds. A try is made by the next use or `check` that comes a second or more after a failure, later
    and later up to a minute; in between it is refused at once, so that nobody waits for a broken disk. `trouble` says
    what is wrong. The file is never moved, repaired or deleted: a damaged one is evidence. Once a person has moved it
    away, the next try begins a new one.

    **A failed append leaves no doubt.** Its entry may be on the disk all the same. Before anything else is written,
    or read, the journal is looked at under its write lock: what is there of it is followed by an entry of kind
    `RETRACTED`, so that nobody takes an intent that was refused for a switch; what isn't there can't come any more.
    Only the end of the process before that leaves it open, as `verify` then says.
    """

    def __init__(
        self,
        path: Path,
        settings: JournalSettings | None = None,
        *,
        timeout_s: float = 5.0,
        clock: Clock = time.time,
        monotonic: Clock = time.monotonic,
    ) -> None:
        """Touches nothing yet.

        Args:
            path: the file; its folder must exist once it is used.
            settings: what `compact` keeps.
            timeout_s: how long to wait for another process' lock.
            clock: Unix seconds, for entries of the journal's own.
            monotonic: seconds, for when to try again.
        """
        self._settings = settings or JournalSettings()
        self._path = path
        self._clock = clock
        self._monotonic = monotonic
        self._journal = SqliteJournal(path, timeout_s=timeout_s)
        self._one_at_a_time = asyncio.Lock()
        self._is_open = False
        self._head = 0
        self._doubted: list[Entry] = []
        self._error: OSError | None = None
        self._unread = False
        self._delay_s = 0.0
        self._again_at = 0.0
        self._watchers: list[Callable[[str | None], None]] = []

    @property
    def trouble(self) -> str | None:
        """What is wrong now and what to do, naming the file; None if nothing is."""
        return None if self._error is None else f"{self._error.strerror}: {self._path}"

    def watch(self, callback: Callable[[str | None], None]) -> None:
        """Have `callback` told `trouble` whenever it changes. It must be quick, and must not raise."""
        self._watchers.append(callback)

    async def append(self, entry: Entry) -> Entry:
        """The entry with its number, once it is on disk.

        Raises:
            OSError: it could not be made durable. Nothing may be switched on its account.
        """
        async with self._one_at_a_time:
            await self._be_ready()
            self._doubted.append(entry)
            try:
                appended = await self._guarded(self._journal.append(entry))
            except (TypeError, ValueError):  # it is no JSON, and never came near the disk
                self._doubted.clear()
                raise
            self._doubted.clear()
            self._head = appended.seq
            self._delay_s = 0.0
            return appended

    async def tail(self, limit: int, model: str | None = None) -> Sequence[Entry]:
        """The newest `limit` entries (of one model), oldest of them first.

        Raises:
            OSError: they can't be read now.
        """
        return await self._read(lambda: self._journal.tail(limit, model))

    async def last(self, kind: EntryKind, model: str) -> Entry | None:
        """The newest entry of one kind about one model.

        Raises:
            OSError: it can't be read now; None would be a lie.
        """
        return await self._read(lambda: self._journal.last(kind, model))

    async def check(self) -> str | None:
        """Learn, without an entry, whether one would come to the disk; what is wrong, as `trouble`.

        For a schedule: a quiet watch would otherwise notice a broken disk only when it has a switch to record, and a
        mended one as late.
        """
        async with self._one_at_a_time:
            try:
                await self._be_ready()
                await self._guarded(self._journal.touch())
                if self._unread:
                    await self._guarded(self._journal.tail(1), reading=True)
                    self._be_well()
            except OSError:
                pass
        return self.trouble

    async def compact(self) -> Compacted:
        """Remove and forget what the settings no longer keep; appends go on meanwhile.

        Raises:
            OSError: not all of it could be done now; what was done is whole.
        """
        async with self._one_at_a_time:
            await self._be_ready()
        # Outside of the lock, so that an append waits for a batch, not for all of them.
        return await self._journal.compact(self._clock(), self._settings)

    async def close(self) -> None:
        await self._journal.close()

    async def _read(self, ask: Callable[[], Awaitable[_Result]]) -> _Result:
        async with self._one_at_a_time:
            await self._be_ready()
            found = await self._guarded(ask(), reading=True)
            self._be_well()
            return found

    def _be_well(self) -> None:
        self._unread = False
        self._tell(None)

    async def _be_ready(self) -> None:
        """Open the file if it isn't, and settle what is in doubt."""
        if self._is_open and not self._doubted:
            return
        wait_s = self._again_at - self._monotonic()
        if self._error is not None and wait_s > 0:
            number, what = self._error.errno, self._error.strerror
            raise OSError(number, f"{what}; it is tried again in {wait_s:.0f} s", str(self._path)) from self._error
        await self._guarded(self._open())
        self._is_open = True
        self._doubted.clear()
        if not self._unread:
            self._tell(None)

    async def _open(self) -> None:
        if not self._is_open:
            await self._journal.reopen()
        self._head = await self._journal.settle(self._head, self._doubted, self._clock())
        await self._journal.touch()

    async def _guarded(self, work: Awaitable[_Result], *, reading: bool = False) -> _Result:
        try:
            return await work
        except OSError as error:
            self._is_open = False
            self._unread = self._unread or reading
            self._delay_s = min(max(2 * self._delay_s, _SOONEST_S), _LATEST_S)
            self._again_at = self._monotonic() + self._delay_s
            if error.errno != errno.EBADF:  # closed on purpose
                self._tell(error)
            raise

    def _tell(self, error: OSError | None) -> None:
        before, self._error = self.trouble, error
        if self.trouble != before:
            for callback in self._watchers:
                callback(self.trouble)
