"""An entry of the append-only record."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class EntryKind(StrEnum):
    STARTED = "started"
    STOPPED = "stopped"
    DECISION = "decision"
    INTENT = "intent"
    """A switch is about to be asked of a router. Always followed by an outcome."""
    OUTCOME = "outcome"
    COMMAND = "command"
    NOTICE = "notice"
    SCORE = "score"
    """One observation that was judged, kept for replay."""
    HOOK = "hook"
    """A deployment controller's call, and what it was answered."""
    CARRIED = "carried"
    """An old entry that is still needed, whole, so that the entries around it could be removed."""
    COMPACTED = "compacted"
    """The oldest entries were removed; it holds the hash that the first remaining one follows."""
    FORGOTTEN = "forgotten"
    """Old entries lost their data, but not their place and their hash."""
    RETRACTED = "retracted"
    """An entry is there though its writer was told that it failed: nothing was done on its account."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    at: float
    """Unix seconds."""
    kind: EntryKind
    model: str
    """Empty for entries about the whole watchdog."""
    data: Mapping[str, Any]
    """JSON-ready facts; never a payload, a header or a DICOM attribute."""
    seq: int = 0
    """Its place in the journal, from 1; 0 until it is appended."""
