"""One span of a distributed trace, as OpenTelemetry has it."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True, slots=True)
class Span:
    """What one part of a server did for one request. Times are Unix nanoseconds of the server's clock."""

    trace_id: str
    """32 lower-case hexadecimal digits."""
    span_id: str
    """16 lower-case hexadecimal digits."""
    parent_id: str
    """Of the span that this one is a part of; empty for a root."""
    name: str
    start_ns: int
    end_ns: int
    events: tuple[tuple[str, int], ...] = ()
    """(name, time) in the order received."""
    attributes: Mapping[str, str] = field(default_factory=dict)
    """Numbers and truth values are written out."""
