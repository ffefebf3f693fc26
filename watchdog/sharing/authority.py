"""The lease and the quorum together: who may move the shared route now."""

import asyncio
from dataclasses import dataclass
from typing import Protocol

from watchdog.model.authority import Permission
from watchdog.sharing.lease import Lease
from watchdog.sharing.quorum import Need, Tally, Uncounted, judge


class Votes(Protocol):
    """Where the watchdogs of one route tell one another what they see. No method raises."""

    async def cast(self, model: str, fault: str | None) -> None:
        """Make this watchdog's opinion known."""

    async def count(self, model: str) -> Tally | Uncounted:
        """What all of them think."""

    async def keep(self) -> None:
        """Renew what says that this one is alive."""

    async def close(self) -> None: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Quorum:
    votes: Votes
    need: Need


class SharedAuthority:
    """An `Authority`. A fault needs the lease and the quorum; whatever else moves the route, the lease alone.

    That else is a way back, a route that is put back, or a person's word: none of them rests on
    what this one watchdog measured just now.
    """

    def __init__(self, lease: Lease, quorum: Quorum | None, *, keep_every_s: float) -> None:
        self.keep_every_s = keep_every_s
        """How often `keep` is to be called."""
        self._lease = lease
        self._quorum = quorum

    @property
    def leads(self) -> bool:
        """Whether this watchdog holds the lease, as far as it knows without asking."""
        return self._lease.holds

    async def ask(self, model: str, fault: str | None) -> Permission:
        """See the port. The lease is renewed last, so that a yes is as fresh as it can be."""
        agreed, said = True, ""
        if self._quorum is not None:
            await self._quorum.votes.cast(model, fault)
            if fault is not None:
                outcome = judge(await self._quorum.votes.count(model), self._quorum.need)
                agreed, said = outcome.reached, f"; {outcome.detail}"
        standing = await self._lease.renew()
        return Permission(ok=standing.renewed and agreed, leads=standing.leads, detail=f"{standing.detail}{said}")

    async def called(self, model: str) -> str | None:
        """See the port."""
        if self._quorum is None or not self._lease.holds:
            return None
        outcome = judge(await self._quorum.votes.count(model), self._quorum.need)
        return outcome.detail if outcome.reached else None

    async def keep(self) -> None:
        await asyncio.gather(self._lease.renew(), *([self._quorum.votes.keep()] if self._quorum else []))

    async def close(self) -> None:
        await asyncio.gather(self._lease.release(), *([self._quorum.votes.close()] if self._quorum else []))
