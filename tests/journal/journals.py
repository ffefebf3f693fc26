"""Journals to look at, and ways to do them harm that a person with the file could."""

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from watchdog.journal.reading import opened
from watchdog.journal.sqlite import SqliteJournal
from watchdog.journal.verify import Verified, verify
from watchdog.model.journal import Entry, EntryKind

TRIGGERS = ("entries_unchanged", "entries_kept", "entries_not_replaced")

VERSION_1 = """
CREATE TABLE entries (seq INTEGER PRIMARY KEY CHECK (seq > 0), at REAL NOT NULL, kind TEXT NOT NULL,
  model TEXT NOT NULL, data TEXT NOT NULL);
CREATE INDEX entries_by_model ON entries (model, kind);
CREATE TRIGGER entries_unchanged BEFORE UPDATE ON entries BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END;
CREATE TRIGGER entries_kept BEFORE DELETE ON entries BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END;
CREATE TRIGGER entries_not_replaced BEFORE INSERT ON entries WHEN EXISTS (SELECT 1 FROM entries WHERE seq = NEW.seq)
  BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END;
PRAGMA application_id = 0x77646F67;
PRAGMA user_version = 1;
PRAGMA journal_mode = WAL;
"""


def entry(kind: EntryKind = EntryKind.NOTICE, model: str = "nodule", at: float = 0.0, **data: Any) -> Entry:
    return Entry(at=1_700_000_000.25 + at, kind=kind, model=model, data=data)


async def written(path: Path, *entries: Entry) -> Path:
    """The file after these were appended, closed again."""
    journal = await SqliteJournal.open(path)
    for one in entries:
        await journal.append(one)
    await journal.close()
    return path


def version_1(path: Path, count: int) -> Path:
    """A file of the watchdog that knew no chain; its entries are a second apart, from 1970 on."""
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(VERSION_1)
        rows = [(n, n + 0.1, "decision", "nodule", f'{{"n":{n}}}') for n in range(1, count + 1)]
        connection.executemany("INSERT INTO entries VALUES (?, ?, ?, ?, ?)", rows)
        connection.commit()
    return path


def tamper(path: Path, *statements: str, keep: bool = False) -> None:
    """Change the file by SQL, its guards removed unless `keep`, without leaving a WAL."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for trigger in () if keep else TRIGGERS:
            connection.execute(f"DROP TRIGGER {trigger}")
        for statement in statements:
            connection.execute(statement)


def looked_at(path: Path, head: bytes | None = None) -> Verified:
    with opened(path) as reader:
        return verify(reader, head)


async def all_of(path: Path) -> Sequence[Entry]:
    journal = await SqliteJournal.open(path)
    entries = await journal.tail(1_000_000)
    await journal.close()
    return entries
