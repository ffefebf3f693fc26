"""What share of an engine's probes should be quicker than a limit."""

from dataclasses import dataclass

from watchdog.model.engine import Role


@dataclass(frozen=True, kw_only=True, slots=True)
class Objective:
    """A quantile of one measure of probes' times stays below a limit."""

    role: Role
    measure: str
    """``total``, ``host``, ``device`` or another part."""
    quantile: float
    """In (0, 1): so large a share is to be quicker."""
    limit_s: float
