"""Whether a deployment may go on, as far as this model is concerned."""

from dataclasses import dataclass
from enum import StrEnum

from watchdog.model.engine import Role


class Passage(StrEnum):
    PASS = "pass"  # noqa: S105 - not a password
    """The fast engine serves, and answers rightly."""
    FAIL = "fail"
    """A fault of the engine is confirmed."""
    INCONCLUSIVE = "inconclusive"
    """Not known now: not probed lately, under way, not to be measured, or in a person's hands."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Gate:
    model: str
    passage: Passage
    state: str
    """The policy's."""
    serves: Role
    """The engine that ordinary traffic should get."""
    reason: str
    """A bounded name."""
    detail: str
    since: float
    """Since when the policy is in this state; Unix seconds."""
    healthy_at: float | None
    """When a canary last came back right through the public name; None where none has yet."""
