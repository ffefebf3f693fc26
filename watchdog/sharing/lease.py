"""One Kubernetes Lease says which of several watchdogs leads: the usual election, by local clocks alone.

The leader renews the Lease. Whoever has seen it unchanged for its whole duration, by its own clock,
may take it; a write carries the ``resourceVersion`` that was read, so one of several takers wins.
The leader stops believing in itself `renew_deadline` after it *sent* its last successful renewal,
which is before the others, who wait for `duration` from when they *saw* it, may begin.

One thing is stricter than usual: a Lease that is absent or blank may have been removed under a
leader who goes on believing for a while. Whoever writes it anew therefore leads only `duration` later.
"""

import asyncio
import math
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Self

from pydantic import model_validator

from watchdog.kubernetes import ConflictError, Kubernetes, KubernetesError, KubernetesSettings, NotFoundError, Object
from watchdog.settings import Duration, FieldError
from watchdog.sharing.elapsed import Elapsed
from watchdog.sharing.lease_object import LeaseName, find, micro_time, part, write

_GIVEN_UP_S = 1
"""The duration that a Lease has when it was given up in order; a hand that clears its holder leaves another."""
_JITTER = 1.2
"""What the callers of `Lease.renew` may be late by."""


class LeaseSettings(KubernetesSettings):
    """The Lease, and the API server that keeps it."""

    name: LeaseName
    """The same for all watchdogs of one route, or of all routes that they share."""
    duration: Duration = 15.0
    """How long the others wait after the last renewal that they saw."""
    renew_deadline: Duration = 10.0
    """So long after its last renewal the leader stops believing in itself."""
    retry: Duration = 2.0
    """From one renewal, or look at the leader's, to the next."""

    @model_validator(mode="after")
    def _one_within_the_other(self) -> Self:
        if self.duration <= _GIVEN_UP_S:
            raise FieldError(("duration",), f"must be longer than {_GIVEN_UP_S} s, the least that a Lease can say")
        if self.renew_deadline >= self.duration:
            raise FieldError(
                ("renew_deadline",), f"must be shorter than duration ({self.duration:g} s), or two could lead at once"
            )
        if self.retry * _JITTER >= self.renew_deadline:
            raise FieldError(
                ("retry",), f"{_JITTER} × it must be shorter than renew_deadline ({self.renew_deadline:g} s)"
            )
        if self.timeout >= self.renew_deadline:
            raise FieldError(
                ("timeout",),
                f"must be shorter than renew_deadline ({self.renew_deadline:g} s): one lost call ends no lead",
            )
        return self


@dataclass(frozen=True, kw_only=True, slots=True)
class Standing:
    """What came of a renewal."""

    renewed: bool
    """Whether it was written, and is still good."""
    leads: bool
    """Whether this one leads, as far as it may believe; it may where a renewal failed for the first time."""
    detail: str


class Lease:
    """This process's part in the election. No method raises.

    What is guaranteed, while all clocks run at the same rate: at no instant does `holds` of two
    contenders hold, whatever calls are lost, late or carried out without an answer, and whoever
    removes or clears the Lease meanwhile. And after `renew` has said *renewed*, nobody else can be
    told so for the rest of `duration` since that renewal was sent, unless this one releases it: for
    at least `duration` − `renew_deadline`, and commonly for nearly all of `duration`.

    What is not: that what the leader then does takes effect within that time. A process that is
    stopped between the renewal and the router's call, or a call that takes longer while renewals
    fail, may move the route when another leads already. A shorter `renew_deadline` makes the time
    that is left longer, and never more than `duration`. Only the router can close the gap: one whose
    object carries a ``resourceVersion`` refuses a write that was prepared before the other's.

    Args:
        settings: of the Lease.
        holder: a name that no other process has, nor this one in another life.
        api: the API server that the settings name.
        elapsed: the clock.
    """

    def __init__(self, settings: LeaseSettings, *, holder: str, api: Kubernetes, elapsed: Elapsed) -> None:
        self._settings = settings
        self._holder = holder
        self._api = api
        self._elapsed = elapsed
        self._one_at_a_time = asyncio.Lock()
        self._closed = False
        self._good_from = self._good_until = -math.inf
        self._written: Object | None = None
        """The Lease as this one wrote it last, while no other is known to have taken it."""
        self._seen: Object | None = None
        """The record that was seen last; empty where there was none."""
        self._seen_at = math.inf
        """Since when it has been seen unchanged."""
        self._lasts_s = settings.duration
        """How long the record's writer counts on it."""

    @property
    def holds(self) -> bool:
        """Whether this one may believe that it leads, right now."""
        return self._good_from <= self._elapsed() < self._good_until

    async def renew(self) -> Standing:
        """Renew the Lease, or take it if it is free; a renewal is always a write."""
        async with self._one_at_a_time:
            if self._closed:
                return Standing(renewed=False, leads=False, detail=f"{self._holder} has given up its part")
            try:
                return await self._renewed()
            except KubernetesError as error:
                detail = f"nothing moves before the Lease {self._settings.name} is renewed: {error}"
                return Standing(renewed=False, leads=self.holds, detail=detail)

    async def release(self) -> None:
        """Stop for good, and let another lead at once. To be called when nothing is being moved any more."""
        async with self._one_at_a_time:
            self._closed, self._good_until = True, -math.inf
            if self._written is not None and self._elapsed() >= self._good_from:  # else another may believe still
                spec = {"holderIdentity": "", "leaseDurationSeconds": _GIVEN_UP_S, "renewTime": micro_time()}
                with suppress(KubernetesError):  # the others then wait for its end
                    await write(self._api, self._settings.name, self._written, spec=spec)

    async def _renewed(self) -> Standing:
        if self._written is not None:
            with suppress(ConflictError, NotFoundError):  # somebody changed or removed it: see what is there
                return await self._take(self._written)
        found = await find(self._api, self._settings.name)
        spec = part(found, "spec")
        self._saw(spec)
        holder = spec.get("holderIdentity")
        left_s = self._seen_at + self._lasts_s - self._elapsed()
        if not holder or holder == self._holder:
            return await self._take(found)
        self._written, self._good_until = None, -math.inf
        if left_s <= 0:
            return await self._take(found)
        detail = f"{holder} leads; without a renewal its Lease is free in {left_s:.0f} s"
        return Standing(renewed=False, leads=False, detail=detail)

    async def _take(self, found: Object | None) -> Standing:
        before, began, now = part(found, "spec"), self._elapsed(), micro_time()
        mine = before.get("holderIdentity") == self._holder
        if not mine and not self.holds:
            self._good_from = math.inf if _is_blank(before) else -math.inf
        spec = {
            "holderIdentity": self._holder,
            "leaseDurationSeconds": math.ceil(self._settings.duration),
            "acquireTime": before.get("acquireTime") if mine else now,
            "renewTime": now,
            "leaseTransitions": _number(before.get("leaseTransitions")) + (found is not None and not mine),
        }
        self._written = await write(self._api, self._settings.name, found, spec=spec)
        if self._good_from == math.inf:
            self._good_from = self._elapsed() + max(self._lasts_s, self._settings.duration)
        self._good_until = began + self._settings.renew_deadline
        self._saw(part(self._written, "spec"))
        return self._standing()

    def _standing(self) -> Standing:
        """After a renewal."""
        now = self._elapsed()
        if now < self._good_from:
            detail = f"{self._holder} leads in {self._good_from - now:.0f} s, when no other can believe that it does"
            return Standing(renewed=False, leads=False, detail=detail)
        if now >= self._good_until:
            return Standing(renewed=False, leads=False, detail="the renewal came back too late to count on")
        return Standing(renewed=True, leads=True, detail=f"{self._holder} leads")

    def _saw(self, spec: Object) -> None:
        """Called after the answer: from then on, at the earliest, the record's time is counted."""
        if spec == self._seen:
            return
        self._seen, self._seen_at = spec, self._elapsed()
        self._lasts_s = _number(spec.get("leaseDurationSeconds")) or self._lasts_s


def _is_blank(spec: Object) -> bool:
    """Whether nobody is named, and nobody has given it up."""
    return not spec.get("holderIdentity") and spec.get("leaseDurationSeconds") != _GIVEN_UP_S


def _number(value: Any) -> int:
    return value if isinstance(value, int) and value > 0 else 0
