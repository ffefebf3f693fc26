"""Moves one model's route: intent, action, proof, outcome; and settles what a crash left between them."""

from collections.abc import Awaitable, Callable
from typing import Any

from watchdog.model.engine import Role
from watchdog.model.event import CycleFailed, Switched
from watchdog.model.journal import Entry, EntryKind
from watchdog.model.route import Applied, Observed, share_of_fast
from watchdog.policy.memory import PolicyState
from watchdog.ports import Authority, Clock, Journal, Observer, Router

Proof = Callable[[Role, int], Awaitable[tuple[bool, str]]]
"""Whether the public name is answered rightly by a role that should get so many percent, and who says so."""


async def recall(journal: Journal, model: str, now: float) -> PolicyState | None:
    """What the policy remembered when the watchdog last stopped, however it stopped; None if it never ran.

    Raises:
        OSError: the journal can't be read now.
        ValueError: its newest decision is not one that this version understands.
    """
    entry = await journal.last(EntryKind.DECISION, model)
    if entry is None:
        return None
    try:
        return PolicyState.from_json(entry.data["after"]).resumed(now)
    except (KeyError, ValueError) as error:
        raise ValueError(f"journal entry {entry.seq} can't be resumed from: {error}") from error


class Switcher:
    """Nothing is asked of the router without an intent on disk, and every intent gets one outcome."""

    def __init__(
        self,
        model: str,
        *,
        router: Router | None,
        journal: Journal,
        authority: Authority | None,
        prove: Proof,
        observe: Observer,
        clock: Clock,
    ) -> None:
        self._model = model
        self._router = router
        self._journal = journal
        self._authority = authority
        self._prove = prove
        self._observe = observe
        self._clock = clock
        self.owed: tuple[Entry, ...] = ()
        """Outcomes that could not be recorded yet."""

    async def pay(self) -> None:
        """Record what is owed.

        Raises:
            OSError: the journal can't record it now.
        """
        while self.owed:
            await self._journal.append(self.owed[0])
            self.owed = self.owed[1:]

    async def switch(self, state: PolicyState) -> Switched:
        """Carry out the switch that `state` has begun."""
        to, percent = _target(state)
        if self._router is None:
            return self._switched(to, percent, _refused("no router is configured for this model"))
        if self._authority is not None:  # again, and last of all: who leads may have changed since the diagnosis
            permission = await self._authority.ask(self._model, state.fault)
            if not (permission.leads if state.commanded else permission.ok):
                return self._switched(to, percent, _refused(permission.detail))
        wish = {"to": to, "percent": percent, "from": state.desired}
        try:
            await self.pay()
            intent = await self._journal.append(self._entry(EntryKind.INTENT, wish))
        except OSError as error:
            return self._switched(to, percent, _refused(f"not tried, as the journal can't record it: {error}"))
        applied = await self._router.apply(to, percent)
        return await self._conclude(intent, applied)

    async def settle(self, state: PolicyState) -> tuple[PolicyState, Switched | None]:
        """What a crash left open, settled: finished, or undone, or never begun.

        Returns:
            The state to go on from, and the switch's end for the policy, if there was a switch.

        Raises:
            OSError: the journal can't be read now, so nothing is settled yet.
        """
        await self.pay()
        intent = await self._journal.last(EntryKind.INTENT, self._model)
        outcome = await self._journal.last(EntryKind.OUTCOME, self._model)
        if intent is not None and (outcome is None or outcome.seq < intent.seq):
            switched = await self._look_up(intent)
            decision = await self._journal.last(EntryKind.DECISION, self._model)
            if state.target is None and decision is not None and decision.seq > intent.seq:
                return state, None  # only the outcome was not recorded: the policy knew it, and has gone on
            return state.towards(switched.to, switched.percent, switched.at), switched
        if state.target is None:
            return state, None
        if intent is None or outcome is None or intent.at < state.since or _wish(intent) != _target(state):
            return state.at_home(self._clock()), None  # the router was never asked
        return state, self._told_before(intent, outcome)

    async def _look_up(self, intent: Entry) -> Switched:
        """The router was asked, or was about to be, when the watchdog ended: the router must tell."""
        to, percent = _wish(intent)
        if self._router is None:
            applied = _refused("the watchdog ended while it asked a router that is no longer configured")
        else:
            try:
                observed = await self._router.observe()
            except Exception as error:  # noqa: BLE001 - a bug, which must not keep a switch open for ever
                observed = Observed(role=None, detail=f"{type(error).__name__}: {error}", known=False)
                self._observe(CycleFailed(model=self._model, at=self._clock(), error=observed.detail))
            if observed.fast_percent == share_of_fast(to, percent) and observed.known:
                applied = Applied(ok=True, detail=f"finished after a restart: {observed.detail}")
            else:
                applied = Applied(ok=False, detail=f"not done when the watchdog ended: {observed.detail}")
        return await self._conclude(intent, applied)

    async def _conclude(self, intent: Entry, applied: Applied) -> Switched:
        to, percent = _wish(intent)
        applied_at = self._clock()
        proven, detail = await self._prove(to, percent) if applied.ok else (False, applied.detail)
        outcome = {
            "intent": intent.seq,
            "to": to,
            "percent": percent,
            "applied": applied.ok,
            "proven": proven,
            "detail": detail,
            "took_s": applied.took_s,
        }
        switched = self._switched(to, percent, applied, applied_at=applied_at, proven=proven, detail=detail)
        self.owed = (*self.owed, self._entry(EntryKind.OUTCOME, outcome, at=switched.at))
        try:
            await self.pay()
        except OSError as error:  # it has happened already: this must be loud, but changes nothing
            self._observe(CycleFailed(model=self._model, at=self._clock(), error=f"journal: {error}"))
        return switched

    def _told_before(self, intent: Entry, outcome: Entry) -> Switched:
        """An end that the journal knows, and the policy had not yet heard of."""
        to, percent = _wish(intent)
        applied = Applied(ok=bool(outcome.data["applied"]), detail=str(outcome.data["detail"]))
        proven = bool(outcome.data["proven"])
        return self._switched(to, percent, applied, applied_at=outcome.at, proven=proven)

    def _switched(
        self,
        to: Role,
        percent: int,
        applied: Applied,
        *,
        applied_at: float | None = None,
        proven: bool = False,
        detail: str = "",
    ) -> Switched:
        now = self._clock()
        switched = Switched(
            model=self._model,
            at=now,
            to=to,
            percent=percent,
            applied=applied,
            applied_at=now if applied_at is None else applied_at,
            proven=proven,
            detail=detail or applied.detail,
        )
        self._observe(switched)
        return switched

    def _entry(self, kind: EntryKind, data: dict[str, Any], *, at: float | None = None) -> Entry:
        return Entry(at=self._clock() if at is None else at, kind=kind, model=self._model, data=data)


def _target(state: PolicyState) -> tuple[Role, int]:
    return (state.target, state.target_percent) if state.target is not None else state.route


def _wish(intent: Entry) -> tuple[Role, int]:
    return Role(intent.data["to"]), int(intent.data.get("percent", 100))  # older journals know no shares


def _refused(detail: str) -> Applied:
    return Applied(ok=False, detail=detail, retry=False)
