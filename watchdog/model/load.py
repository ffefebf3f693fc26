"""What a server counts of all its traffic, and what a difference of two counts says."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from watchdog.model.probe import Part

SERVER_PARTS = (Part.QUEUE, Part.INPUT, Part.DEVICE, Part.OUTPUT)
"""The parts of a request's time that a server's statistics know."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Tally:
    """How often, and for how long altogether. Cumulative."""

    count: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Statistics:
    """One model version's cumulative counts since it was loaded."""

    inferences: int = 0
    """Images, so to say: a request with a batch of 8 counts 8. Without what a cache answered."""
    executions: int = 0
    """Batches that the engine ran."""
    succeeded: Tally = field(default_factory=Tally)
    """Requests, and the time they took in the server."""
    parts: Mapping[Part, Tally] = field(default_factory=dict)
    """Of `SERVER_PARTS`, per request: each request of a dynamic batch has the whole batch's time."""
    failed: int = 0
    failures: Mapping[str, int] = field(default_factory=dict)
    """By reason, such as ``REJECTED``, where the server tells; empty where it doesn't."""
    cache_hits: int = 0
    cache_misses: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Load:
    """One engine's traffic over an interval, from two `Statistics`. Canaries are in it too."""

    over_s: float
    requests_per_s: float
    inferences_per_s: float
    failures_per_s: Mapping[str, float]
    """By reason; ``unknown`` where the server gives none."""
    mean_s: Mapping[Part, float]
    """Of a successful request; empty where there was none."""
    batch_size: float | None
    """Inferences per execution; None where nothing ran."""
    cache_hit_ratio: float | None
    """Of the requests that a cache was asked about; None where none was."""
    busy_ratio: float
    """Seconds of device time a second, each batch counted once: 1 is one instance without a pause."""

    @property
    def queue_share(self) -> float | None:
        """How much of a request's time in the server is waiting; None where there was none."""
        whole = sum(self.mean_s.values())
        return self.mean_s[Part.QUEUE] / whole if whole > 0 and Part.QUEUE in self.mean_s else None
