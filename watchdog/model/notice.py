"""What the watchdog tells people."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Severity(StrEnum):
    CRITICAL = "critical"
    """A person must act now: it pages."""
    WARNING = "warning"
    """A person should look today."""


class NoticeKind(StrEnum):
    """Why a notice goes out now."""

    FIRST = "first"
    REPEAT = "repeat"
    RESOLVED = "resolved"


@dataclass(frozen=True, kw_only=True, slots=True)
class Condition:
    """Something people should know for as long as it lasts. `labels` are its identity."""

    name: str
    """The alert's name, such as ``WatchdogEngineRolledBack``."""
    severity: Severity
    summary: str
    description: str
    labels: Mapping[str, str] = field(default_factory=dict)

    @property
    def key(self) -> tuple[str, ...]:
        """What makes two conditions the same one."""
        return (self.name, *(f"{k}={v}" for k, v in sorted(self.labels.items())))


LifeId = tuple[tuple[str, ...], float, int]
"""One life of a condition: its key, when it began (Unix seconds), and how many were made one in it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Notice:
    """One message about one condition, for every channel alike."""

    kind: NoticeKind
    condition: Condition
    started_at: float
    """Unix seconds at which the condition began."""
    ends_at: float
    """When it ended (resolved), or until when it may be taken to last unless heard of again."""
    lives: tuple[LifeId, ...] = ()
    """What it tells of: several where a flood is told as one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Delivery:
    """What came of handing notices to a channel."""

    ok: bool
    detail: str = ""
    retry: bool = True
    """Whether trying again can help: no for a receiver that calls the message itself wrong."""
    retry_after_s: float | None = None
    """How long the receiver asks to be left alone."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Queue:
    """How one channel stands."""

    channel: str
    pending: int
    """Notices that it has not taken yet, each that it must not lose."""
    oldest_at: float | None
    """Since when the oldest of them waits; None where none does."""
    up: bool | None
    """Whether it took what it was given last; None before the first time."""
    delivered_at: float | None
    """When it last took something."""
    detail: str = ""
    """What it said last."""
