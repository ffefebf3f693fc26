"""A probe that somebody else asks for, of a server that they name: what came of it, or why it was not sent."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from watchdog.model.verdict import Assessment, Verdict


class Refusal(StrEnum):
    NO_SUCH_MODULE = "no-such-module"
    NOT_ALLOWED = "not-allowed"
    """No pattern of the module's names the target."""
    MALFORMED = "malformed"
    """The target is no server's address."""
    NO_TIME = "no-time"
    """The caller won't wait long enough for anything."""
    BUSY = "busy"
    """So many others ask that its turn did not come, or the watchdog begins or ends."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Refused:
    """Nobody was asked."""

    reason: Refusal
    detail: str
    """What to do, for a person."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ModuleProbe:
    """One canary to one named server, judged."""

    module: str
    """By its name in the configuration."""
    target: str
    """The server, as the caller wrote it."""
    took_s: float
    """All of it: waiting for its turn, connecting, asking, and waiting for the server's trace."""
    waited_s: float
    """Of that, until its turn came."""
    deadline_s: float
    """How long all of it might have taken."""
    assessment: Assessment
    latency_limit_s: float
    """Infinite where nothing sets one."""
    score_limits: Mapping[tuple[str, str], float] = field(default_factory=dict)
    """(output, measure) → the limit of that score."""
    settings: Mapping[str, object] = field(default_factory=dict)
    """The module, as the configuration has it, without a secret."""

    @property
    def success(self) -> bool:
        """Whether the answer was right, and in time."""
        return self.assessment.verdict is Verdict.HEALTHY
