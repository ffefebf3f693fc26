"""Publishes the route for gateways that fetch it themselves, from ``GET /api/v1/routes/MODEL``."""

from collections.abc import Mapping
from typing import ClassVar, Literal

from watchdog.model.engine import Address, Role
from watchdog.model.route import Applied, Observed
from watchdog.settings import Settings


class PullSettings(Settings):
    """There is nothing to set: give ``probe.proof_within`` the time that gateways need to fetch a route."""

    kind: Literal["pull"]

    def refuse(self, engines: Mapping[Role, Address]) -> None:
        """Any two engines will do."""


class PullRouter:
    """Moves nothing itself: what the policy wants is the page, and the proof shows whether it was fetched."""

    weighted: ClassVar[bool] = True
    keeps_both: ClassVar[bool] = True
    look_every_s: ClassVar[float] = 60.0

    async def apply(self, desired: Role, percent: int = 100) -> Applied:
        return Applied(ok=True, detail=f"published: {percent} % to the {desired} engine, for gateways to fetch")

    async def observe(self) -> Observed:
        return Observed(role=None, detail="gateways that fetch the route don't tell what they do", known=False)

    async def close(self) -> None:
        """Nothing is kept open."""
