"""Whether a journal is as it was written: every hash, no gap, and an outcome for every intent."""

import json
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from watchdog.journal.chain import GENESIS
from watchdog.journal.failures import primary_code
from watchdog.journal.reading import Reader, Stored
from watchdog.journal.retention import FORGETTABLE
from watchdog.journal.rows import RowError
from watchdog.journal.switches import Switches
from watchdog.model.journal import EntryKind

_DAMAGE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_FURTHEST = 2
"""How far an entry that moves shifts others, to find where one belongs: swapped, or pushed on by one."""


class How(StrEnum):
    """In what way an entry does not fit."""

    CHANGED = "changed"
    MISSING = "missing"
    REORDERED = "reordered"
    CUT = "cut"
    """Entries are gone from the end, or the history was written anew."""
    UNREADABLE = "unreadable"


@dataclass(frozen=True, kw_only=True, slots=True)
class Misfit:
    """The first entry that does not fit, and why."""

    seq: int
    how: How
    detail: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Verified:
    """What was found, up to the first entry that does not fit."""

    chained: bool
    """Whether there are hashes at all; a file of version 1 has none."""
    entries: int
    first: int
    """The first entry's number: more than 1 where older ones were compacted away."""
    forgotten: int
    """Entries whose data was dropped, as the journal itself records."""
    head: bytes
    """The newest entry's hash, to be kept elsewhere: it is the only way to see that the end was cut off."""
    misfit: Misfit | None
    switches: Switches

    @property
    def right(self) -> bool:
        return self.chained and self.misfit is None and not self.switches.unpaired


def verify(reader: Reader, head: bytes | None = None, seen: Callable[[int], object] = lambda _: None) -> Verified:
    """Compute every hash again.

    Args:
        reader: the journal.
        head: an entry's hash that was kept elsewhere; the journal must still have that entry.
        seen: told each entry's number, for a progress bar.
    """
    first, last = reader.bounds()
    walk = _Walk(reader, first, head)
    misfit = None
    if reader.chained:
        try:
            misfit = walk.begin() or next(filter(None, walk.steps(seen)), None) or walk.end(last)
        except RowError as error:
            misfit = Misfit(seq=error.seq, how=How.CHANGED, detail=str(error.why))
        except sqlite3.DatabaseError as error:
            if primary_code(error) not in _DAMAGE:
                raise
            misfit = Misfit(seq=walk.expected, how=How.UNREADABLE, detail=f"the file is damaged from here on ({error})")
    return Verified(
        chained=reader.chained,
        entries=walk.expected - first if reader.chained else last - first + 1,
        first=first,
        forgotten=walk.forgotten,
        head=walk.previous,
        misfit=misfit,
        switches=walk.switches,
    )


class _Walk:
    """Along the chain, one entry at a time."""

    def __init__(self, reader: Reader, first: int, head: bytes | None) -> None:
        self.expected = first
        self.previous = GENESIS
        self.forgotten = 0
        self.switches = Switches(anchored=first > 1)
        self._reader = reader
        self._head = head
        self._last_without_data = 0
        self._recorded = 0

    def begin(self) -> Misfit | None:
        """Where the first entry that is left goes on from."""
        if self.expected > 1:
            compacted = self._reader.compacted()
            said = {} if compacted is None else _data(compacted)
            if said.get("last") != self.expected - 1 or not isinstance(said.get("anchor"), str):
                detail = f"entries 1 to {self.expected - 1} are gone, and no entry records that they were removed"
                return Misfit(seq=1, how=How.MISSING, detail=detail)
            with suppress(ValueError):  # then the first hash doesn't fit
                self.previous = bytes.fromhex(said["anchor"])
        self._arrive(self.previous)
        return None

    def steps(self, seen: Callable[[int], object]) -> Iterator[Misfit | None]:
        for stored in self._reader.entries():
            yield self._step(stored)
            seen(stored.link.seq)

    def end(self, last: int) -> Misfit | None:
        if self._last_without_data > self._recorded:
            detail = "its data is gone, and no entry records that it was forgotten"
            return Misfit(seq=self._last_without_data, how=How.CHANGED, detail=detail)
        if self._head is not None:
            detail = "no entry has the hash that was kept: entries were cut off the end, the history was written anew"
            detail += ", or the hash is that of an entry that retention has removed" if self._anchored else ""
            return Misfit(seq=last + 1, how=How.CUT, detail=detail)
        return None

    @property
    def _anchored(self) -> bool:
        return self.switches.anchored

    def _step(self, stored: Stored) -> Misfit | None:
        link = stored.link
        if link.seq != self.expected:
            to = f" to {link.seq - 1}" if link.seq - 1 > self.expected else ""
            detail = f"there is no entry {self.expected}{to}, but there is {link.seq}"
            return Misfit(seq=self.expected, how=How.MISSING, detail=detail)
        if stored.hash is None or stored.hash != link.after(self.previous):
            return self._wrong(stored)
        if stored.data is None and link.kind not in FORGETTABLE:
            return Misfit(seq=link.seq, how=How.CHANGED, detail=f"its data is gone, though it is of kind {link.kind}")
        self._arrive(stored.hash)
        self.expected += 1
        self._note(stored)
        return None

    def _note(self, stored: Stored) -> None:
        link = stored.link
        if stored.data is None:
            self.forgotten += 1
            self._last_without_data = link.seq
        data = _data(stored)
        if link.kind == EntryKind.FORGOTTEN and isinstance(data.get("last"), int):
            self._recorded = max(self._recorded, data["last"])
        self.switches.take(link.seq, link.kind, link.model, data)

    def _arrive(self, at: bytes) -> None:
        self.previous = at
        if at == self._head:
            self._head = None

    def _wrong(self, stored: Stored) -> Misfit:
        seq = stored.link.seq
        place = self._place(stored)
        if place is not None:
            detail = f"what stands there was written as entry {place}"
            return Misfit(seq=seq, how=How.REORDERED, detail=detail)
        detail = "its hash does not follow: its content, its hash or the hash before it was changed"
        return Misfit(seq=seq, how=How.CHANGED, detail=detail)

    def _place(self, stored: Stored) -> int | None:
        """The number under which an entry that is not in its place was written, by its hash."""
        if stored.link.after(GENESIS, seq=1) == stored.hash:
            return 1
        with suppress(RowError, sqlite3.DatabaseError):
            for other in self._reader.entries():
                for number in range(other.link.seq, other.link.seq + _FURTHEST + 1):
                    if other.hash is not None and stored.link.after(other.hash, seq=number) == stored.hash:
                        return number
        return None


_TELLING = frozenset({EntryKind.CARRIED, EntryKind.COMPACTED, EntryKind.FORGOTTEN, EntryKind.RETRACTED})


def _data(stored: Stored) -> Mapping[str, Any]:
    """The data of the entries that are about others; that of all the rest need not be read."""
    if stored.data is None or stored.link.kind not in _TELLING:
        return {}
    with suppress(ValueError, RecursionError):
        found = json.loads(stored.data)
        return found if isinstance(found, dict) else {}
    return {}
