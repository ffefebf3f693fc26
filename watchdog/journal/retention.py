"""How long entries are kept, and how the oldest go: in batches, recorded, and never what is needed to resume."""

import sqlite3
from dataclasses import dataclass
from typing import Self

from pydantic import Field, model_validator

from watchdog.journal import rows
from watchdog.journal.chain import digest_of
from watchdog.journal.rows import Held
from watchdog.journal.schema import transaction
from watchdog.model.journal import EntryKind
from watchdog.settings import Duration, Settings

_BATCH = 1000
"""Entries a transaction, some hundredths of a second: an append that comes meanwhile waits for one of them."""
FORGETTABLE = frozenset({EntryKind.SCORE})
"""What nobody resumes from or is held to; the schema's trigger knows the same."""


class JournalSettings(Settings):
    """What the journal keeps. The newest decision of every model and an unfinished switch stay whatever their age."""

    keep: Duration = 400 * 86400.0
    """Older entries are removed."""
    keep_scores: Duration = 30 * 86400.0
    """Recorded observations lose their numbers earlier than that."""
    max_entries: int = Field(default=5_000_000, ge=1)
    """More than so many are removed whatever their age, oldest first."""
    keep_newest: int = Field(default=1000, ge=1)
    """So many stay whatever their age, even if the clock is wrong by years."""

    @model_validator(mode="after")
    def _has_room(self) -> Self:
        if self.keep_newest > self.max_entries:
            raise ValueError(f"keep_newest is {self.keep_newest}, more than max_entries ({self.max_entries}) allows")
        return self


@dataclass(frozen=True, kw_only=True, slots=True)
class Compacted:
    """What a compaction did, in entries."""

    removed: int
    forgotten: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What may go, settled before the first batch: each batch writes entries itself, and must not chase them."""

    too_many: int
    """Up to this number, entries go because there are too many."""
    through: int
    """Up to this number, they go if they are old."""
    before: float
    """Old is what is from before this moment, in Unix seconds."""
    now: float


def plan(connection: sqlite3.Connection, now: float, settings: JournalSettings) -> Plan:
    newest, _ = rows.head(connection)
    return Plan(
        too_many=newest - settings.max_entries,
        through=newest - settings.keep_newest,
        before=now - settings.keep,
        now=now,
    )


def remove_some(connection: sqlite3.Connection, due: Plan) -> int:
    """Remove a batch of the oldest, in one transaction with the entries that replace it; how many went."""
    with transaction(connection):
        first, end = _reach(connection, due)
        if end < first:
            return 0
        (anchor,) = connection.execute("SELECT hash FROM entries WHERE seq = ?", (end,)).fetchone()
        (count,) = connection.execute("SELECT count(*) FROM entries WHERE seq <= ?", (end,)).fetchone()
        models = connection.execute("SELECT DISTINCT model FROM entries WHERE seq <= ?", (end,)).fetchall()
        for (model,) in models:
            for held in _needed(connection, model):
                if held.row <= end:
                    _carry(connection, held, due.now)
        text = rows.text_of({"first": first, "last": end, "count": count, "anchor": anchor.hex()})
        rows.append(connection, at=due.now, kind=EntryKind.COMPACTED, model="", text=text)
        connection.execute("DELETE FROM entries WHERE seq <= ?", (end,))
        return int(count)


def forget_some(connection: sqlite3.Connection, kind: EntryKind, before: float, now: float) -> int:
    """Drop the data of a batch of old entries, keeping its hash; how many lost it.

    Raises:
        ValueError: entries of this kind are kept whole.
    """
    if kind not in FORGETTABLE:
        raise ValueError(
            f"entries of kind {kind} are kept whole; only these can be forgotten: {', '.join(FORGETTABLE)}"
        )
    with transaction(connection):
        sql = """
        SELECT seq, data FROM entries WHERE kind = 'score' AND data IS NOT NULL AND at < ? ORDER BY at LIMIT ?
        """
        old = connection.execute(sql, (before, _BATCH)).fetchall()
        if not old:
            return 0
        seqs = [seq for seq, _ in old]
        text = rows.text_of({"kind": kind, "first": min(seqs), "last": max(seqs), "count": len(seqs)})
        rows.append(connection, at=now, kind=EntryKind.FORGOTTEN, model="", text=text)
        gone = ((digest_of(data), seq) for seq, data in old)
        connection.executemany("UPDATE entries SET data = NULL, digest = ? WHERE seq = ?", gone)
        return len(old)


def _reach(connection: sqlite3.Connection, due: Plan) -> tuple[int, int]:
    """The oldest entry, and the last of the next batch: before the oldest where nothing is due."""
    (first,) = connection.execute("SELECT coalesce(min(seq), 1) FROM entries").fetchone()
    through = min(first + _BATCH - 1, due.through)
    sql = "SELECT seq FROM entries WHERE seq > ? AND seq <= ? AND at >= ? ORDER BY seq LIMIT 1"
    young = connection.execute(sql, (due.too_many, through, due.before)).fetchone()
    return first, through if young is None else young[0] - 1


def _needed(connection: sqlite3.Connection, model: str) -> list[Held]:
    decision = rows.last(connection, EntryKind.DECISION, model)
    intent = rows.last(connection, EntryKind.INTENT, model)
    needed = [decision, None if intent is None or _is_settled(connection, model, intent) else intent]
    return [held for held in needed if held is not None]


def _is_settled(connection: sqlite3.Connection, model: str, intent: Held) -> bool:
    sql = """
    SELECT 1 FROM entries WHERE model = ? AND seq > ?
      AND (kind = 'outcome' OR kind = 'retracted' AND json_extract(data, '$.seq') = ?) LIMIT 1
    """
    return connection.execute(sql, (model, intent.row, intent.entry.seq)).fetchone() is not None


def _carry(connection: sqlite3.Connection, held: Held, now: float) -> None:
    entry = held.entry
    text = rows.text_of({"kind": entry.kind, "seq": entry.seq, "at": entry.at, "data": entry.data})
    rows.append(connection, at=now, kind=EntryKind.CARRIED, model=entry.model, text=text)
