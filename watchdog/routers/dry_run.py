"""Moves nothing, and says what it would have moved: for a watchdog that is still being trusted."""

from collections.abc import Mapping
from typing import ClassVar, Literal

from watchdog.model.engine import Address, Role
from watchdog.model.route import Applied, Observed
from watchdog.settings import Settings


class DryRunSettings(Settings):
    """There is nothing to set."""

    kind: Literal["dry-run"]

    def refuse(self, engines: Mapping[Role, Address]) -> None:
        """Any two engines will do."""


class DryRunRouter:
    """Refuses every switch, so that none is ever taken for done."""

    weighted: ClassVar[bool] = True
    keeps_both: ClassVar[bool] = True
    look_every_s: ClassVar[float] = 30.0

    async def apply(self, desired: Role, percent: int = 100) -> Applied:
        detail = f"dry run: {percent} % of ordinary traffic would now go to the {desired} engine; nothing was done"
        return Applied(ok=False, detail=detail, retry=False)

    async def observe(self) -> Observed:
        return Observed(role=None, detail="dry run: no router was asked", known=False)

    async def close(self) -> None:
        """Nothing is kept open."""
