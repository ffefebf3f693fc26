"""Servers' traces: receives them over OTLP/HTTP, keeps the spans of canaries, and hands all on to the user's collector.

What a span means is for `watchdog.split` to say.
"""

from enum import StrEnum
from typing import Self

from pydantic import model_validator

from watchdog.settings import Listen, Settings
from watchdog.transport import Server


class TracesSettings(Settings):
    """Where servers send their traces, and where those go from here."""

    listen: Listen = "127.0.0.1:4318"
    """Host and port, on which ``/v1/traces`` is; port 0 takes any free one."""
    forward: Server | None = None
    """The collector that shall have everything as well, by its base URL: ``/v1/traces`` is appended."""
    despite_crashes: bool = False
    """Whether Tritons before 2.58 are asked to trace canaries, too. Now and then they crash of it: twice
    in 200,000 traced requests, where it was tried."""

    @model_validator(mode="after")
    def _no_circle(self) -> Self:
        if self.forward is not None and self.forward.place.host_port == self.listen:
            raise ValueError("forward is the address of listen: name the collector that should have the traces")
        return self


class Outcome(StrEnum):
    """What became of what was received; spans where a member says so, and bodies otherwise."""

    OURS = "ours"
    """Spans of canaries' requests."""
    FOREIGN = "foreign"
    """Spans of others, about: they are counted and not parsed."""
    REJECTED = "rejected"
    """Spans that bear a canary's trace id and are no use."""
    MALFORMED = "malformed"
    TOO_LARGE = "too-large"
    UNSUPPORTED = "unsupported"
    """Another content type or encoding."""
    UNFINISHED = "unfinished"
    """The body did not arrive, or not in time."""
    BUSY = "busy"
    """Refused, because too much arrived at once; the sender may try again."""
    FORWARDED = "forwarded"
    FORWARD_REFUSED = "forward-refused"
    """The collector said that trying again won't help."""
    FORWARD_DROPPED = "forward-dropped"
    """The oldest, since the collector takes them too slowly, or not at all."""
