"""Whether every intent of a switch was followed by its outcome. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from watchdog.model.journal import EntryKind


@dataclass(kw_only=True, slots=True)
class Switches:
    """Takes entries in their order. A journal whose beginning was removed may have lost a first outcome's intent."""

    anchored: bool
    open: dict[str, int] = field(default_factory=dict)
    """Model → the intent that awaits its outcome."""
    interrupted: list[int] = field(default_factory=list)
    """Intents that the end of the process cut short: the next one began anew."""
    unpaired: list[str] = field(default_factory=list)
    """Sentences about intents and outcomes that have no counterpart, the first few."""
    _seen: set[str] = field(default_factory=set)
    _restarted: int = 0

    def take(self, seq: int, kind: str, model: str, data: Mapping[str, Any]) -> None:
        match kind:
            case EntryKind.STARTED:
                self._restarted = seq
            case EntryKind.INTENT:
                self._intend(seq, model)
            case EntryKind.CARRIED if data.get("kind") == EntryKind.INTENT:
                self._intend(seq, model)
            case EntryKind.OUTCOME:
                known = model in self._seen or not self.anchored
                if self.open.pop(model, None) is None and known:
                    self._complain(f"entry {seq} is an outcome of {model} without an intent")
                self._seen.add(model)
            case EntryKind.RETRACTED if data.get("seq") == self.open.get(model):
                self.open.pop(model, None)
            case _:
                pass

    def _intend(self, seq: int, model: str) -> None:
        before = self.open.get(model)
        if before is not None and before < self._restarted:
            self.interrupted.append(before)
        elif before is not None:
            self._complain(f"entry {before} is an intent of {model} without an outcome")
        self.open[model] = seq
        self._seen.add(model)

    def _complain(self, sentence: str) -> None:
        if len(self.unpaired) < 10:
            self.unpaired.append(sentence)
