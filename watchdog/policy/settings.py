"""What a person may set of the policy."""

from enum import StrEnum
from typing import Annotated, Self

from pydantic import Field, model_validator

from watchdog.settings import Duration, FieldError, Settings


class Allowed(StrEnum):
    """What the watchdog may do about a model by itself."""

    ALERT = "alert"
    ROLLBACK = "rollback"


class Recurrence(Settings):
    """How often is too often."""

    wrong: int = Field(ge=2, le=64)
    """Wrong answers, each of which was right when asked again."""
    within: Duration


class RecoverySettings(Settings):
    """A return to the fast engine without a person, after a rollback that the watchdog itself decided."""

    after: Duration = 1800.0
    """How long the safe engine serves at least; each return that failed doubles it."""
    prove_for: Duration = 600.0
    """How long the fast engine must then be right, asked beside the safe one at the probes' cadence,
    and at the end with every canary."""
    probation: Duration = 3600.0
    """How long it must serve without a fault; one in that time counts as a return that failed."""
    attempts: int = Field(default=3, ge=1, le=100)
    """Returns that failed in a row, after which only a person brings the fast engine back."""


Percent = Annotated[int, Field(ge=1, le=100)]


class PolicySettings(Settings):
    """When a model's traffic may be moved."""

    action: Allowed = Allowed.ALERT
    """``alert`` tells people; ``rollback`` also moves traffic to the safe engine."""
    max_switches_per_day: int = Field(default=6, ge=1, le=1000)
    """Switches in any 24 hours, re-assertions and commands included, after which the watchdog moves
    nothing more until a person releases it; that starts the count afresh. The steps of one return
    count once, and what a router refused does not count. Only the way back from a return to the
    fast engine that failed is never refused. A recovery waits until two are left: for the return, and for
    what may have to undo it."""
    intermittent: tuple[Recurrence, ...] = (Recurrence(wrong=3, within=600.0), Recurrence(wrong=5, within=86400.0))
    """When an engine that is wrong now and then, and right when asked again, is at fault: by any of these."""
    steps: tuple[Percent, ...] = (100,)
    """The fast engine's share of ordinary traffic on its way back, in percent, for routers that can divide
    it, such as ``[1, 10, 100]``. A step is taken when the one before it was right all through."""
    step_for: Duration = 300.0
    """How long each step but the last is judged."""
    recovery: RecoverySettings | None = None
    """Without it only a person brings the fast engine back."""

    @model_validator(mode="after")
    def _steps_rise(self) -> Self:
        if list(self.steps) != sorted(set(self.steps)) or self.steps[-1:] != (100,):
            raise FieldError(["steps"], "must rise and end with 100, such as [1, 10, 100]")
        if self.recovery is not None and self.action is not Allowed.ROLLBACK:
            raise FieldError(["recovery"], "is given, but action is alert: there is nothing to recover from")
        return self
