"""Entries as rows of the table. Each function runs within a transaction of its caller's."""

import json
import math
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from watchdog.journal.chain import GENESIS, Link, digest_of
from watchdog.model.journal import Entry, EntryKind

_COLUMNS = "seq, at, kind, model, data"


@dataclass(frozen=True, kw_only=True, slots=True)
class Held:
    """An entry, and the number of the row that it is found in: another one where it was carried."""

    row: int
    entry: Entry


class RowError(ValueError):
    """A row is there, but holds no entry."""

    def __init__(self, seq: int, why: object) -> None:
        super().__init__(f"entry {seq}: {why}")
        self.seq = seq
        self.why = why


def text_of(data: Mapping[str, Any]) -> str:
    """`data` as it is stored: strict JSON, ASCII, nothing to spare.

    Raises:
        TypeError, ValueError: it can't be written as JSON.
    """
    return json.dumps(_jsonable(data), allow_nan=False, separators=(",", ":"))


def append(connection: sqlite3.Connection, *, at: float, kind: str, model: str, text: str) -> int:
    """Add one to the end, tied to the one before; its number."""
    seq, previous = head(connection)
    link = Link(seq=seq + 1, at=at, kind=kind, model=model, digest=digest_of(text))
    values = (link.seq, at, kind, model, text, link.after(previous))
    connection.execute("INSERT INTO entries VALUES (?, ?, ?, ?, ?, NULL, ?)", values)
    return link.seq


def head(connection: sqlite3.Connection) -> tuple[int, bytes]:
    """The newest entry's number and hash."""
    found = connection.execute("SELECT seq, hash FROM entries ORDER BY seq DESC LIMIT 1").fetchone()
    if found is None:
        return 0, GENESIS
    seq, hashed = found
    if not isinstance(hashed, bytes) or len(hashed) != len(GENESIS):
        raise RowError(seq, "it has no hash")
    return seq, hashed


def newest(connection: sqlite3.Connection, limit: int, model: str | None = None) -> list[Entry]:
    """The newest `limit` entries (of one model), oldest of them first."""
    where, values = ("", ()) if model is None else ("WHERE model = ?", (model,))
    sql = f"SELECT {_COLUMNS} FROM entries {where} ORDER BY seq DESC LIMIT ?"  # noqa: S608 (literals)
    rows = connection.execute(sql, (*values, max(0, limit))).fetchall()
    return [entry_of(row) for row in reversed(rows)]


def last(connection: sqlite3.Connection, kind: EntryKind, model: str) -> Held | None:
    """The newest entry of one kind about one model, in its own row or in that of a carried one."""
    own = _one(connection, "model = ? AND kind = ?", model, str(kind))
    carried = _one(
        connection,
        "model = ? AND kind = ? AND json_extract(data, '$.kind') = ?",
        model,
        str(EntryKind.CARRIED),
        str(kind),
    )
    if carried is None:
        return None if own is None else Held(row=own.seq, entry=own)
    try:
        said = carried.data
        original = Entry(at=said["at"], kind=kind, model=model, data=said["data"], seq=said["seq"])
        if not isinstance(original.data, dict) or not isinstance(original.seq, int):
            raise RowError(carried.seq, "what it carries is no entry")
    except KeyError as error:
        raise RowError(carried.seq, f"it carries nothing ({error})") from error
    if own is not None and own.seq > original.seq:
        return Held(row=own.seq, entry=own)
    return Held(row=carried.seq, entry=original)


def entry_of(row: tuple[int, float, str, str, str | None]) -> Entry:
    """The entry; one that was forgotten has empty data.

    Raises:
        RowError: it is none.
    """
    seq, at, kind, model, text = row
    try:
        data = {} if text is None else json.loads(text)
        if not isinstance(data, dict):
            raise RowError(seq, "its data is no object")
        return Entry(seq=seq, at=at, kind=EntryKind(kind), model=model, data=data)
    except (ValueError, TypeError, RecursionError) as error:
        raise error if isinstance(error, RowError) else RowError(seq, error) from error


def retract(connection: sqlite3.Connection, after: int, doubted: Sequence[Entry], at: float) -> int:
    """Say of each of `doubted` that is there, behind `after`, that it was told as failed; the newest number."""
    waiting = [(entry.at, str(entry.kind), entry.model, text_of(entry.data)) for entry in doubted]
    sql = "SELECT seq, at, kind, model, data FROM entries WHERE seq > ? ORDER BY seq"
    for seq, *content in connection.execute(sql, (after,)).fetchall() if waiting else ():
        if tuple(content) in waiting:
            waiting.remove(tuple(content))
            append(connection, at=at, kind=EntryKind.RETRACTED, model=content[2], text=text_of({"seq": seq}))
    return head(connection)[0]


def _one(connection: sqlite3.Connection, where: str, *values: str) -> Entry | None:
    sql = f"SELECT {_COLUMNS} FROM entries WHERE {where} ORDER BY seq DESC LIMIT 1"  # noqa: S608 (literals)
    row = connection.execute(sql, values).fetchone()
    return None if row is None else entry_of(row)


def _jsonable(value: Any) -> Any:
    """`value` with every number that JSON lacks as a string."""
    if isinstance(value, Mapping):
        return {key: _jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_jsonable(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value
