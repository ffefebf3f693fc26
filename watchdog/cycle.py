"""One model's watch: probe, judge, decide, act, prove. Knows ports, never adapters."""

import asyncio
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import assert_never

from watchdog import measures
from watchdog.canary_drift import CanaryDrift, with_findings
from watchdog.model.authority import NotLeadingError
from watchdog.model.canary import Canary
from watchdog.model.diagnosis import OF_THE_ENGINE, Conclusion
from watchdog.model.engine import Role
from watchdog.model.event import (
    Beside,
    Command,
    Commanded,
    CycleFailed,
    Diagnosed,
    Probed,
    Proved,
    RouteSeen,
    Scored,
    Source,
    Suspected,
    Ticked,
)
from watchdog.model.journal import Entry, EntryKind
from watchdog.model.route import share_of_fast
from watchdog.model.verdict import Assessment, Finding, Reason, Verdict
from watchdog.panel import ANSWERED, Panel, ProbeSettings, names, why
from watchdog.policy.decide import Decision, Input, step
from watchdog.policy.diagnose import Lane, diagnose
from watchdog.policy.memory import PolicyState
from watchdog.policy.settings import Allowed, PolicySettings
from watchdog.policy.states import Action, State, Trigger
from watchdog.ports import Authority, Clock, Journal, Observer, Router
from watchdog.prober import Prober
from watchdog.switching import Switcher, recall

_SUSPECT_AGAIN_S = 300.0
"""What a detector goes on seeing is looked into this often at most; the canaries go on all the while."""
_AWAIT_ROUTE_S = 30.0
_AWAIT_ROUTE_SHARE = 0.05
"""Of a router's own cadence: how often one that has stopped to tell is asked. A restarted server, asked each second
else, serves whom it likes until then; an API server that is away gets no more than it can bear."""
_ASKED_AT_ONCE_S = 1.0
"""Routers whose cadence is as short as this may also be asked whenever somebody asks for readiness."""
_TIMED = frozenset({State.SERVING_SAFE, State.RECOVERING, State.RETURNING, State.PROBATION})
"""States that time alone can end."""
_UNINFORMED = PolicySettings(action=Allowed.ALERT)
"""While the journal can't be read: who should serve is not known, nor whether a person holds the route."""
_MAY_BE_RIGHT = frozenset({Conclusion.OVERLOADED, Conclusion.OTHER_SLOWER, Conclusion.SERVER_FAULT})
"""Troubles during which the public name may be answered rightly all the same."""
_OF_THE_ROUTE = frozenset({Conclusion.ROUTE_MOVED, Trigger.SWITCH_FAILED, Trigger.PROMOTION_FAILED})
"""Troubles that only the router itself can show to be over."""


class Cycle:
    """Watches one model. Ticks and commands exclude one another, so two switches never overlap."""

    def __init__(
        self,
        *,
        prober: Prober,
        canaries: Sequence[Canary],
        router: Router | None,
        journal: Journal,
        observe: Observer,
        clock: Clock,
        probe: ProbeSettings,
        policy: PolicySettings,
        state: PolicyState | None,
        authority: Authority | None = None,
        drift: CanaryDrift | None = None,
        drift_burst: int = 6,
        circumstances: Callable[[Role, bool], str] = lambda _role, _device_slow: "",
    ) -> None:
        self.model = prober.target.model
        self.state = state or PolicyState(since=clock())
        """What the policy remembers; the first state of all while the journal can't be read."""
        self._recalled = state is not None
        self._stands_in = False
        """Whether, the journal being unread, the state is at least that of the route as it was found."""
        self._settled = False
        """Whether what a crash may have left open has been looked into."""
        self._unrecorded = False
        """Whether the journal lacks the newest decision, and with it perhaps a person's hold."""
        self._prober = prober
        self._panel = Panel(prober, canaries, probe, drift=drift, drift_burst=drift_burst)
        self._router = router
        self._journal = journal
        self._observe = observe
        self._clock = clock
        self._probe = probe
        self._policy = policy
        self._drift = drift
        self._suspected_at: dict[tuple[Source, str], float] = {}
        self._suspicions: set[asyncio.Task[None]] = set()  # the loop itself holds tasks only weakly
        self._circumstances = circumstances
        self._authority = authority
        self._switcher = Switcher(
            self.model,
            router=router,
            journal=journal,
            authority=authority,
            prove=self._prove_public,
            observe=observe,
            clock=clock,
        )
        self.healthy_at: float | None = None
        """When a canary last came back right through the public name."""
        self._shown = False
        self._route_known = False
        self._recent: dict[str, Assessment] = {}
        self._wrong_on: frozenset[str] | None = None
        """Canaries that were answered wrongly in the newest burst: others can't show that this is over.
        None before the first one: a trouble of an earlier life may be any canary's."""
        self._one_at_a_time = asyncio.Lock()
        self._closed = False

    async def close(self) -> None:
        """Begin nothing more, and wait for what is in flight: each part of it has a deadline."""
        self._closed = True
        async with self._one_at_a_time:
            pass

    async def tick(self) -> None:
        """One probe of the public name, and everything that follows from it."""
        async with self._one_at_a_time:
            if self._closed:
                return
            try:
                await self._settle_the_past()
                await self._settle(await self._probe_public())
                await self._hear_others()
                if self.state.state in _TIMED:
                    await self._let_time_pass()
            except Exception as error:  # noqa: BLE001 - a bug must neither end the watch nor be silent
                self._fail(error)

    async def look_at_route(self) -> None:
        """Ask the router what is true, for servers whose answers don't name a version.

        While one that used to tell does not, such as a server that starts again, it is asked without
        a pause: the first thing that it may do is to forget the route.
        """
        if self._router is None:
            return
        if not await self._look(self._router) and self._route_known:
            await self._await_answer(self._router)
            await self._look(self._router)

    async def _look(self, router: Router) -> bool:
        """Whether the router could tell what is true."""
        async with self._one_at_a_time:
            if self._closed:
                return False
            try:
                observed = await router.observe()
                as_it_should = observed.fast_percent == self.state.share if observed.known else not self._route_known
                self._shown = self._shown and as_it_should
                self._route_known = self._route_known or observed.known
                seen = RouteSeen(model=self.model, at=self._clock(), observed=observed)
                self._observe(seen)
                await self._settle_the_past()
                await self._settle(seen)
            except Exception as error:  # noqa: BLE001 - as in `tick`
                self._fail(error)
                return True  # nothing to wait for
            return observed.known

    async def _await_answer(self, router: Router) -> None:
        give_up_at, pause_s = self._clock() + _AWAIT_ROUTE_S, router.look_every_s * _AWAIT_ROUTE_SHARE
        while not (self._closed or (await router.observe()).known or self._clock() > give_up_at):  # noqa: ASYNC110
            await asyncio.sleep(pause_s)  # another process can't set an event

    @property
    def look_every_s(self) -> float:
        """How often the router may be asked."""
        return self._router.look_every_s if self._router is not None else math.inf

    @property
    def informed(self) -> bool:
        """Whether it is known who should serve: not while the journal can't be read after a start."""
        return self._recalled

    @property
    def shown(self) -> bool:
        """Whether the public name was answered rightly when it was asked last, and nothing is known to have changed."""
        trouble = self.state.trouble
        right = trouble is None or trouble.conclusion in _MAY_BE_RIGHT or trouble.reason == Reason.LATENCY
        return self._shown and self._recalled and right and self.state.target is None

    async def is_shown_now(self) -> bool:
        """`shown`, and the router says the same at this moment.

        A server may have ended and be back between two looks, and serve whom it likes. A router that is not to be
        asked so often doesn't forget by that.
        """
        if not self.shown or self._router is None or self._router.look_every_s > _ASKED_AT_ONCE_S:
            return self.shown
        observed = await self._router.observe()
        same = observed.fast_percent == self.state.share if observed.known else not self._route_known
        return self.shown if same else False

    def take_over(self, old: "Cycle") -> None:
        """Go on where the cycle of an earlier configuration stopped; what other engines answered proves nothing."""
        self.state = old.state
        self._recalled, self._settled, self._unrecorded = old._recalled, old._settled, old._unrecorded  # noqa: SLF001 - of the same class
        self._switcher.owed = old._switcher.owed  # noqa: SLF001
        mine, theirs = self._prober.target, old._prober.target  # noqa: SLF001
        if (mine.engines, mine.public) == (theirs.engines, theirs.public):
            self.healthy_at, self._shown, self._wrong_on = old.healthy_at, old._shown, old._wrong_on  # noqa: SLF001

    async def suspect(self, event: Suspected) -> None:
        """Ask canaries about what a detector saw over many answers."""
        async with self._one_at_a_time:
            if self._closed:
                return
            try:
                self._observe(event)
                if self._is_worth_a_burst(event):
                    self._suspected_at[_kind(event)] = event.at
                    await self._settle(event)
            except Exception as error:  # noqa: BLE001 - as in `tick`
                self._fail(error)

    def suspect_soon(self, event: Suspected) -> None:
        """`suspect`, beside whatever goes on now."""
        task = asyncio.get_running_loop().create_task(self.suspect(event))
        self._suspicions.add(task)
        task.add_done_callback(self._suspicions.discard)

    def _is_worth_a_burst(self, event: Suspected) -> bool:
        """What lasts is seen again and again; and while the safe engine serves, the other harms nobody."""
        recent = abs(event.at - self._suspected_at.get(_kind(event), -math.inf)) < _SUSPECT_AGAIN_S
        return not recent and (event.source is not Source.SHADOW or self.state.on_trial is Role.FAST)

    async def command(self, command: Command, actor: str, why: str) -> Sequence[Decision]:
        """What a person or a controller wants; all decisions that came of it.

        Raises:
            OSError: the journal could not record it, so nothing was done.
            NotLeadingError: the route is shared, and another watchdog decides about it.
        """
        async with self._one_at_a_time:
            if self._closed:
                raise OSError("the watchdog is stopping")
            await self._recall()
            if self._authority is not None and command in (Command.ROLLBACK, Command.PROMOTE):
                permission = await self._authority.ask(self.model, self.state.fault)
                if not permission.leads:
                    raise NotLeadingError(permission.detail)
            commanded = Commanded(model=self.model, at=self._clock(), command=command, actor=actor, why=why)
            data = {"command": command, "actor": actor, "why": why}
            await self._journal.append(Entry(at=commanded.at, kind=EntryKind.COMMAND, model=self.model, data=data))
            self._observe(commanded)
            try:
                await self._settle_the_past()
                return await self._settle(commanded)
            except Exception as error:
                self._fail(error)
                raise

    async def _settle(self, event: Input | None) -> Sequence[Decision]:
        """Step the policy and carry out its actions until it has nothing more to do."""
        decisions = []
        while event is not None:
            decision = step(self.state, event, self._policy if self._recalled else _UNINFORMED)
            changed, self.state = decision.after != self.state, decision.after
            news = changed or decision.changed or self._unrecorded
            if self._recalled and news:  # nothing is written over what can't be read
                await self._record(decision)
            self._observe(decision)
            decisions.append(decision)
            event = await self._act(decision.action, event)
        return decisions

    async def _act(self, action: Action, cause: Input) -> Input | None:
        match action:
            case Action.NONE:
                return None
            case Action.DIAGNOSE:
                return await self._diagnose(cause)
            case Action.PROVE_SAFE:
                return await self._prove_safe()
            case Action.PROVE_FAST:
                return await self._prove_fast()
            case Action.PROBE_FAST:
                assessment = await self._prober.probe(self._panel.next(), Role.FAST, public=False)
                return Beside(model=self.model, at=self._clock(), assessment=assessment)
            case Action.SWITCH_TO_SAFE | Action.SWITCH_TO_FAST | Action.REASSERT:
                switched = await self._switcher.switch(self.state)
                self._recent.clear()
                return switched
            case _:
                assert_never(action)

    async def _recall(self) -> None:
        """The state that the journal knows, or where it knows none, what is found. Raises OSError as `recall`."""
        if not self._recalled:
            try:
                recalled = await recall(self._journal, self.model, self._clock())
            except ValueError as error:  # a watchdog of this version can't read it, which must not end the watch
                raise OSError(str(error)) from error
            found = recalled or await self._found()
            if found is None:
                raise OSError("it knows nothing of this model, and neither router nor public name tells who serves")
            self.state, self._recalled = found, True
            self._unrecorded = recalled is None and found.share < 100  # what nobody would guess without having looked

    async def _found(self) -> PolicyState | None:
        """The state to begin with, by who serves; None where nobody can tell."""
        observed = await self._router.observe() if self._router is not None else None
        share = observed.fast_percent if observed is not None and observed.known else None
        if share is None:
            answer = await self._prober.probe(self._panel.next(), Role.FAST, public=True, either=True)
            if answer.result.fault is None and not names(answer, Reason.WRONG_VERSION):
                share = share_of_fast(answer.result.expected, 100)
        return None if share is None else PolicyState.found(share, self._clock())

    def record_again(self) -> None:
        """The journal can be written again, and may be another one: it must know the state before all else."""
        self._unrecorded = True

    async def _settle_the_past(self) -> None:
        """Once after a start: what a crash left between intent, switch, outcome and decision."""
        if self._settled and not self._switcher.owed:
            return
        try:
            await self._switcher.pay()
            if self._settled:
                return
            await self._recall()
            self.state, switched = await self._switcher.settle(self.state)
        except OSError as error:  # alerts go on meanwhile; nothing can be switched without a journal
            self._observe(CycleFailed(model=self.model, at=self._clock(), error=f"journal: {error}"))
            if not self._recalled and not self._stands_in:
                found = await self._found()
                self.state, self._stands_in = found or self.state, found is not None
            return
        self._settled = True
        await self._settle(switched)

    async def _hear_others(self) -> None:
        """Where this watchdog leads and enough others see a fault, look: they may ask another server."""
        if self._authority is None or self.state.share == 0 or self.state.state is not self.state.home:
            return
        why_look = await self._authority.called(self.model)
        if why_look is None:
            return
        finding = Finding(reason=Reason.PEERS, verdict=Verdict.FAILED, score=1.0, limit=1.0, detail=why_look)
        suspected = Suspected(
            model=self.model, at=self._clock(), source=Source.PEERS, reading="quorum", finding=finding
        )
        if self._is_worth_a_burst(suspected):
            self._suspected_at[_kind(suspected)] = suspected.at
            self._observe(suspected)
            await self._settle(suspected)

    async def _let_time_pass(self) -> None:
        """Go on with a way back, if it is this watchdog's; where another leads, nobody judges this one's stage."""
        if self.state.state is State.PROBATION or await self._decides():
            await self._settle(Ticked(model=self.model, at=self._clock()))
        else:
            self.state = self.state.resumed(self._clock())

    async def _decides(self) -> bool:
        """Whether it is this watchdog that brings the fast engine back, where the route is shared."""
        return self._authority is None or (await self._authority.ask(self.model, self.state.fault)).leads

    async def _probe_public(self) -> Probed:
        canary, state = self._panel.next(), self.state
        assessment = await self._prober.probe(canary, state.desired, public=True, either=0 < state.share < 100)
        self._shown = assessment.verdict in ANSWERED
        if assessment.verdict is Verdict.HEALTHY and self._recalled:  # else it is not known who should answer
            self.healthy_at = self._clock()
        self._recent[canary.id] = assessment
        found = self._prober.judge.collapse(self._recent.values())
        if found:
            assessment = with_findings(assessment, found)
        if self._drift is not None:
            assessment, score = self._drift.take(assessment)
            if score is not None:
                role = str(assessment.result.expected)
                self._observe(
                    Scored(model=self.model, at=self._clock(), source=Source.CANARY, reading=role, score=score)
                )
        return Probed(model=self.model, at=self._clock(), assessment=assessment)

    async def _diagnose(self, cause: Input) -> Diagnosed:
        """The same canaries to both engines: at once, but one by one where speed is in question."""
        first = cause.assessment if isinstance(cause, Probed | Beside | Proved) else None
        suspected = cause if isinstance(cause, Suspected) else None
        bad = first is not None and first.verdict is not Verdict.HEALTHY
        trouble = self.state.trouble
        # On a divided route a bad answer of one engine must not end the other's trouble.
        serving = first.result.expected if first is not None and bad and trouble is None else self.state.on_trial
        moved = isinstance(cause, RouteSeen) or (first is not None and names(first, Reason.WRONG_VERSION))
        reasons = (first and first.reason, trouble and trouble.reason, suspected and suspected.finding.reason)
        slow = Reason.LATENCY in reasons
        if trouble is not None and self._wrong_on is None and not bad:
            self._wrong_on = _wrong_on(await self._panel.lane(serving, self._panel.canaries, one_by_one=True))
        canaries = self._panel.burst(first, thorough=suspected is not None, wrong_on=self._wrong_on or ())
        lanes = await self._panel.lanes(serving, canaries, timed=slow)
        self._wrong_on = _wrong_on(lanes[0])
        device_slow = lanes[0].slower is not None and lanes[0].slower.measure == measures.DEVICE
        diagnosis = diagnose(
            serving=serving,
            first=first,
            moved=moved or await self._still_moved(),
            serving_lane=lanes[0],
            other_lane=lanes[1],
            need=self._probe.confirm.need,
            suspected=None if suspected is None else suspected.finding,
            source=None if suspected is None else suspected.source,
            by_itself=suspected is not None and suspected.by_itself,
            unloaded=self._router is not None and not self._router.keeps_both,
            unheard=lanes[0].right and await self._unheard(first, canaries),
            circumstances=self._circumstances(serving, device_slow) if slow else "",
        )
        self._recent.clear()
        diagnosed = Diagnosed(
            model=self.model,
            at=self._clock(),
            diagnosis=diagnosis,
            began_wrong=first is not None and _is_wrong(first),
        )
        if self._authority is not None:
            fault = diagnosis.conclusion if diagnosis.conclusion in OF_THE_ENGINE else None
            permission = await self._authority.ask(self.model, fault)
            follows = self._router is not None and not permission.leads
            observed = await self._router.observe() if self._router is not None and follows else None
            diagnosed = replace(diagnosed, permission=permission, observed=observed)
        self._observe(diagnosed)
        return diagnosed

    async def _unheard(self, first: Assessment | None, canaries: Sequence[Canary]) -> bool:
        """Whether it is the public name that does not answer, though the engine behind it does."""
        if first is None or not first.result.public or first.result.fault is None:
            return False
        role, divided = first.result.expected, 0 < self.state.share < 100
        asked = canaries[: self._probe.confirm.need]
        again = await asyncio.gather(*(self._prober.probe(c, role, public=True, either=divided) for c in asked))
        return all(a.result.fault is not None for a in again)

    async def _still_moved(self) -> bool:
        """Whether a trouble of the route lasts, by the router's own account: not every answer names its version."""
        trouble = self.state.trouble
        if self._router is None or trouble is None or trouble.conclusion not in _OF_THE_ROUTE:
            return False
        observed = await self._router.observe()
        return observed.known and observed.fast_percent != self.state.share

    async def _prove_safe(self) -> Proved:
        return self._proved(Role.SAFE, await self._panel.lane(Role.SAFE, self._panel.burst(None)))

    async def _prove_fast(self) -> Proved:
        """Every canary, unless the router can't keep an engine that serves nobody."""
        if self._router is not None and not self._router.keeps_both:
            detail = "the fast engine can't be asked before it serves: it is proven at once after"
            return Proved(model=self.model, at=self._clock(), role=Role.FAST, ok=True, detail=detail)
        return self._proved(Role.FAST, await self._panel.lane(Role.FAST, self._panel.canaries, one_by_one=True))

    def _proved(self, role: Role, lane: Lane) -> Proved:
        proved = Proved(
            model=self.model,
            at=self._clock(),
            role=role,
            ok=lane.right,
            detail=f"the {role} engine is proven" if lane.right else why(lane.assessments),
            assessment=next((a for a in lane.assessments if a.verdict is not Verdict.HEALTHY), None),
        )
        self._observe(proved)
        return proved

    async def _prove_public(self, to: Role, percent: int) -> tuple[bool, str]:
        self._shown, detail = await self._panel.shows(to, percent, self._wrong_on or ())
        return self._shown, detail

    async def _record(self, decision: Decision) -> None:
        data = {
            "trigger": decision.trigger,
            "before": decision.before,
            "action": decision.action,
            "reason": decision.reason,
            "detail": decision.detail,
            "after": decision.after.to_json(),
        }
        try:
            await self._journal.append(Entry(at=decision.at, kind=EntryKind.DECISION, model=self.model, data=data))
            self._unrecorded = False
        except OSError as error:  # it has happened already: this must be loud, and is made up for with the next one
            self._unrecorded = True
            self._observe(CycleFailed(model=self.model, at=self._clock(), error=f"journal: {error}"))

    def _fail(self, error: Exception) -> None:
        self.state = self.state.resumed(self._clock())
        self._shown = False
        self._settled = False  # the error may have come between a switch and its outcome
        self._observe(CycleFailed(model=self.model, at=self._clock(), error=f"{type(error).__name__}: {error}"))


def _kind(event: Suspected) -> tuple[Source, str]:
    """What counts as the same suspicion: one burst looks at all readings of answers, but at one objective."""
    return event.source, event.reading if event.source is Source.OBJECTIVE else ""


def _wrong_on(lane: Lane) -> frozenset[str]:
    return frozenset(a.result.canary for a in lane.assessments if a.verdict is Verdict.FAILED)


def _is_wrong(assessment: Assessment) -> bool:
    """A wrong answer of the engine that should have given it."""
    return assessment.verdict is Verdict.FAILED and not names(assessment, Reason.WRONG_VERSION)
