"""The file's tables, how an older file becomes one of this version, and the triggers that keep entries as they are.

Removing entries takes a `COMPACTED` entry that says so, forgetting their data a `FORGOTTEN` one: the record itself
is the permit, so neither can happen unrecorded.
"""

import errno
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from watchdog.journal.chain import GENESIS, Link, digest_of

APPLICATION = 0x77646F67
"""``wdog``: tells a journal from any other SQLite file."""
VERSION, UNCHAINED = 2, 1
"""The version that is written, and the one before, which had no hashes."""
_FRESH = 0

_NEWEST = "FROM entries WHERE model = '' AND kind = '{kind}' ORDER BY seq DESC LIMIT 1"
_COMPACTED, _FORGOTTEN = _NEWEST.format(kind="compacted"), _NEWEST.format(kind="forgotten")
_TABLE = """
CREATE TABLE entries (
  seq INTEGER PRIMARY KEY CHECK (seq > 0),
  at REAL NOT NULL,
  kind TEXT NOT NULL,
  model TEXT NOT NULL,
  data TEXT,
  digest BLOB,
  hash BLOB NOT NULL CHECK (length(hash) = 32),
  CHECK (CASE WHEN data IS NULL THEN length(digest) = 32 ELSE digest IS NULL END)
)
"""
_AROUND = (
    "CREATE INDEX entries_by_model ON entries (model, kind)",
    "CREATE INDEX entries_forgettable ON entries (at) WHERE kind = 'score' AND data IS NOT NULL",
    # A condition that comes out as NULL must forbid, hence IS NOT 1.
    f"""
    CREATE TRIGGER entries_unchanged BEFORE UPDATE ON entries
      WHEN (
        NEW.seq = OLD.seq AND NEW.at = OLD.at AND NEW.kind = OLD.kind AND NEW.model = OLD.model
        AND NEW.hash = OLD.hash AND OLD.data IS NOT NULL AND NEW.data IS NULL AND OLD.kind = 'score'
        AND OLD.seq >= (SELECT json_extract(data, '$.first') {_FORGOTTEN})
        AND OLD.seq <= (SELECT json_extract(data, '$.last') {_FORGOTTEN})
      ) IS NOT 1
      BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END
    """,
    f"""
    CREATE TRIGGER entries_kept BEFORE DELETE ON entries
      WHEN (OLD.seq <= (SELECT json_extract(data, '$.last') {_COMPACTED})) IS NOT 1
      BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END
    """,
    """
    CREATE TRIGGER entries_not_replaced BEFORE INSERT ON entries
      WHEN NEW.seq IS NOT (SELECT coalesce(max(seq), 0) + 1 FROM entries)
      BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END
    """,
)
_OLD_ONES = (
    "TRIGGER entries_unchanged",
    "TRIGGER entries_kept",
    "TRIGGER entries_not_replaced",
    "INDEX entries_by_model",
)


@contextmanager
def transaction(connection: sqlite3.Connection, kind: str = "IMMEDIATE") -> Iterator[sqlite3.Connection]:
    """All or nothing. ``IMMEDIATE`` holds the write lock from the beginning; ``DEFERRED`` is for reading."""
    connection.execute(f"BEGIN {kind}")
    try:
        yield connection
        connection.execute("COMMIT")
    except BaseException:
        with suppress(sqlite3.Error):  # the first error is the one to tell
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        raise


def prepare(connection: sqlite3.Connection, path: Path) -> None:
    """Make an empty file a journal, or an old one new; refuse, untouched, one that is something else."""
    with transaction(connection, "DEFERRED"):
        version = version_of(connection, path)
    (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
    if mode != "wal":
        what = "the journal's file system does not support SQLite's WAL; put it on a local disk"
        raise OSError(errno.ENOTSUP, what, str(path))
    connection.execute("PRAGMA synchronous = FULL")
    if version == VERSION:
        return
    with transaction(connection):
        version = version_of(connection, path)  # another may have been quicker
        if version == _FRESH:
            _create(connection)
        elif version == UNCHAINED:
            _migrate(connection)


def version_of(connection: sqlite3.Connection, path: Path) -> int:
    """The journal's version, 0 where the file is empty. To be called within a transaction, for one view of it all.

    Raises:
        OSError: it is no journal, or a newer watchdog's.
    """
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if (application, version, tables) == (0, 0, 0):
        return _FRESH
    if application != APPLICATION:
        what = "this is an SQLite file, but not a watchdog's journal; set another path"
        raise OSError(errno.EINVAL, what, str(path))
    if version not in (UNCHAINED, VERSION):
        what = f"the journal has version {version}, this watchdog knows {VERSION}; run the newer watchdog"
        raise OSError(errno.EINVAL, what, str(path))
    return int(version)


def touch(connection: sqlite3.Connection) -> None:
    """Bring something to the disk that changes nothing, to learn whether that works."""
    with transaction(connection):
        connection.execute(f"PRAGMA user_version = {VERSION}")


def _create(connection: sqlite3.Connection) -> None:
    connection.execute(_TABLE)
    for statement in _AROUND:
        connection.execute(statement)
    connection.execute(f"PRAGMA application_id = {APPLICATION}")
    connection.execute(f"PRAGMA user_version = {VERSION}")


def _migrate(connection: sqlite3.Connection) -> None:
    """Chain the entries of a version 1, as they are now."""
    for what in _OLD_ONES:
        connection.execute(f"DROP {what.replace(' ', ' IF EXISTS ', 1)}")
    connection.execute("ALTER TABLE entries RENAME TO entries_1")
    connection.execute(_TABLE)
    connection.executemany("INSERT INTO entries VALUES (?, ?, ?, ?, ?, NULL, ?)", _chained(connection))
    connection.execute("DROP TABLE entries_1")
    for statement in _AROUND:
        connection.execute(statement)
    connection.execute(f"PRAGMA user_version = {VERSION}")


def _chained(connection: sqlite3.Connection) -> Iterator[tuple[int, float, str, str, str, bytes]]:
    previous = GENESIS
    for seq, at, kind, model, data in connection.execute(
        "SELECT seq, at, kind, model, data FROM entries_1 ORDER BY seq"
    ):
        link = Link(seq=seq, at=at, kind=kind, model=model, digest=digest_of(data))
        previous = link.after(previous)
        yield seq, at, kind, model, data, previous
