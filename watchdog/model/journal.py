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
