"""Which engine ordinary traffic gets: as desired, and as observed."""

from collections.abc import Mapping
from dataclasses import dataclass

from watchdog.model.engine import Address, Role


def share_of_fast(role: Role, percent: int) -> int:
    """What the fast engine gets where `role` gets so much."""
    return percent if role is Role.FAST else 100 - percent


@dataclass(frozen=True, kw_only=True, slots=True)
class Observed:
    """What a router says is true. "Cannot tell" is an answer."""

    role: Role | None
    """The engine that ordinary traffic gets, or None: another one, or it can't be told."""
    detail: str
    known: bool = True
    """False where the router could not be asked."""
    percent: int = 100
    """How much of ordinary traffic `role` gets; the other engine gets the rest."""

    @property
    def fast_percent(self) -> int | None:
        """The fast engine's share of ordinary traffic; None where it can't be told."""
        return None if self.role is None else share_of_fast(self.role, self.percent)


@dataclass(frozen=True, kw_only=True, slots=True)
class Applied:
    """What came of asking a router for a route. The proof comes from probing, not from this."""

    ok: bool
    detail: str
    took_s: float = 0.0
    retry: bool = True
    """Whether trying again can help."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Published:
    """The route that a gateway should have, for those that fetch it."""

    model: str
    state: str
    """The policy's."""
    fast_percent: int
    """The fast engine's share of ordinary traffic, as it should be now; while a switch is under way, its target."""
    engines: Mapping[Role, Address]
    since: float
    """Since when it is so; Unix seconds."""

    @property
    def role(self) -> Role:
        """The engine that gets the larger share."""
        return Role.FAST if self.fast_percent >= 50 else Role.SAFE
