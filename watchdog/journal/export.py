"""Entries as other programs take them: a JSON object, or a row of CSV. Pure."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from watchdog.journal.reading import Stored
from watchdog.journal.rows import RowError

COLUMNS = ("seq", "at", "unix", "kind", "model", "data", "digest", "hash")


def record(stored: Stored) -> Mapping[str, Any]:
    """One entry by `COLUMNS`; the two hashes in hexadecimal digits, so that the chain can be checked from it.

    Raises:
        RowError: its data is no JSON.
    """
    link = stored.link
    try:
        data = None if stored.data is None else json.loads(stored.data)
    except (ValueError, RecursionError) as error:
        raise RowError(link.seq, error) from error
    return {
        "seq": link.seq,
        "at": spell(link.at),
        "unix": link.at,
        "kind": link.kind,
        "model": link.model,
        "data": data,
        "digest": link.digest.hex(),
        "hash": None if stored.hash is None else stored.hash.hex(),
    }


def spell(at: float) -> str | None:
    """RFC 3339 in UTC; None where the number is no time that a calendar has."""
    try:
        return datetime.fromtimestamp(at, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    except (ValueError, OverflowError, OSError):
        return None
