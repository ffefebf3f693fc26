"""What is true at the moment of a scrape, and no event tells of."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from watchdog.model.notice import Condition, Queue


@dataclass(frozen=True, kw_only=True, slots=True)
class Snapshot:
    up: bool
    """Whether every model is watched."""
    conditions: Sequence[Condition] = ()
    """All that people are told of now."""
    queues: Sequence[Queue] = ()
    """How each channel stands."""
    journal_trouble: str | None = None
    """Why the journal can't record; None while it can."""
    leads: Mapping[str, bool] = field(default_factory=dict)
    """Model → whether this watchdog leads, of those whose route is shared."""
    reloaded: bool = True
    """Whether the last reload was taken."""
    configured_at: float = 0.0
    """When the configuration in force was read."""
