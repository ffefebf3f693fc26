"""One model's watch: probe, judge, decide, act, prove. Knows ports, never adapters."""

import asyncio
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import assert_never

from pydantic import Field

from watchdog import measures
from watchdog.canary_drift import CanaryDrift, with_findings
from watchdog.model.canary import Canary
from watchdog.model.diagnosis import Conclusion
from watchdog.model.engine import Role
from watchdog.model.event import (
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
    Switched,
)
from watchdog.model.journal import Entry, EntryKind
from watchdog.model.route import Applied
from watchdog.model.verdict import Assessment, Finding, Reason, Verdict
from watchdog.policy.decide import Decision, Input, PolicySettings, step
from watchdog.policy.diagnose import ConfirmSettings, Lane, diagnose
from watchdog.policy.memory import PolicyState
from watchdog.policy.states import Action
from watchdog.ports import Clock, Journal, Observer, Router
from watchdog.prober import Prober
from watchdog.settings import Duration, Settings

_PROOF_PAUSE_S = 0.02
_SUSPECT_AGAIN_S = 300.0
"""What a detector goes on seeing is looked into this often at most; the canaries go on all the while."""
_GOLDEN_SECTION = 0.618


class ProbeSettings(Settings):
    """The cadence of a model's probes."""

    every: Duration = 10.0
    """From the start of one probe of the public name to the start of the next."""
    deadline: Duration = 2.0
    """How long an answer may take before the engine counts as hung."""
    confirm: ConfirmSettings = ConfirmSettings()
    proof_canaries: int = Field(default=2, ge=1, le=64)
    """Canaries that must come back right through the public name to prove a switch."""
    proof_within: Duration = 5.0
    """How long a switch may take to show at the public name."""


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
        state: PolicyState,
        drift: CanaryDrift | None = None,
        drift_burst: int = 6,
        circumstances: Callable[[Role, bool], str] = lambda _role, _device_slow: "",
    ) -> None:
        self.model = prober.target.model
        self.state = state
        self._prober = prober
        self._canaries = mixed(canaries)
        self._lightest = sorted(self._canaries, key=lambda c: sum(array.nbytes for array in c.inputs.values()))
        self._rotation: Iterator[int] = itertools.cycle(range(len(self._canaries)))
        self._router = router
        self._journal = journal
        self._observe = observe
        self._clock = clock
        self._probe = probe
        self._policy = policy
        self._drift = drift
        self._drift_burst = drift_burst
        self._suspected_at: dict[tuple[Source, str], float] = {}
        self._suspicions: set[asyncio.Task[None]] = set()  # the loop itself holds tasks only weakly
        self._circumstances = circumstances
        self._recent: dict[str, Assessment] = {}
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
                await self._settle(await self._probe_public())
            except Exception as error:  # noqa: BLE001 - a bug must neither end the watch nor be silent
                self._fail(error)

    async def look_at_route(self) -> None:
        """Ask the router what is true, for servers whose answers don't name a version."""
        async with self._one_at_a_time:
            if self._router is None or self._closed:
                return
            try:
                seen = RouteSeen(model=self.model, at=self._clock(), observed=await self._router.observe())
                self._observe(seen)
                await self._settle(seen)
            except Exception as error:  # noqa: BLE001 - as in `tick`
                self._fail(error)

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
        return not recent and (event.source is not Source.SHADOW or self.state.desired is Role.FAST)

    async def command(self, command: Command, actor: str, why: str) -> Sequence[Decision]:
        """What a person or a controller wants; all decisions that came of it.

        Raises:
            OSError: the journal could not record it, so nothing was done.
        """
        async with self._one_at_a_time:
            if self._closed:
                raise OSError("the watchdog is stopping")
            commanded = Commanded(model=self.model, at=self._clock(), command=command, actor=actor, why=why)
            data = {"command": command, "actor": actor, "why": why}
            await self._journal.append(Entry(at=commanded.at, kind=EntryKind.COMMAND, model=self.model, data=data))
            self._observe(commanded)
            try:
                return await self._settle(commanded)
            except Exception as error:
                self._fail(error)
                raise

    async def _settle(self, event: Input | None) -> Sequence[Decision]:
        """Step the policy and carry out its actions until it has nothing more to do."""
        cause, decisions = event, []
        while event is not None:
            decision = step(self.state, event, self._policy)
            changed, self.state = decision.after != self.state, decision.after
            if changed or decision.changed:
                await self._record(decision)
            self._observe(decision)
            decisions.append(decision)
            event = await self._act(decision.action, cause)
        return decisions

    async def _act(self, action: Action, cause: Input | None) -> Input | None:
        match action:
            case Action.NONE:
                return None
            case Action.DIAGNOSE:
                return await self._diagnose(cause)
            case Action.PROVE_SAFE:
                return await self._prove_safe()
            case Action.SWITCH_TO_SAFE | Action.SWITCH_TO_FAST | Action.REASSERT:
                return await self._switch(self.state.target or self.state.desired)
            case _:
                assert_never(action)

    async def _probe_public(self) -> Probed:
        canary = self._canaries[next(self._rotation)]
        assessment = await self._prober.probe(canary, self.state.desired, public=True)
        self._recent[canary.id] = assessment
        found = self._prober.judge.collapse(self._recent.values())
        if found:
            assessment = with_findings(assessment, found)
        if self._drift is not None:
            assessment, score = self._drift.take(assessment)
            if score is not None:
                role = str(self.state.desired)
                self._observe(
                    Scored(model=self.model, at=self._clock(), source=Source.CANARY, reading=role, score=score)
                )
        return Probed(model=self.model, at=self._clock(), assessment=assessment)

    async def _diagnose(self, cause: Input | None) -> Diagnosed:
        """The same canaries to both engines: at once, but one by one where speed is in question."""
        first = cause.assessment if isinstance(cause, Probed) else None
        suspected = cause if isinstance(cause, Suspected) else None
        canaries = self._burst(first, thorough=suspected is not None)
        serving = self.state.desired
        moved = isinstance(cause, RouteSeen) or (first is not None and _names(first, Reason.WRONG_VERSION))
        trouble = self.state.trouble
        reasons = (first and first.reason, trouble and trouble.reason, suspected and suspected.finding.reason)
        if Reason.LATENCY in reasons:
            lanes = [await self._lane(role, canaries, one_by_one=True) for role in (serving, serving.other)]
            lanes = [replace(lane, slower=await self._slower(lane)) for lane in lanes]
        else:
            lanes = await asyncio.gather(*(self._lane(role, canaries) for role in (serving, serving.other)))
        slow = Reason.LATENCY in reasons
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
            circumstances=self._circumstances(serving, device_slow) if slow else "",
        )
        self._recent.clear()
        diagnosed = Diagnosed(model=self.model, at=self._clock(), diagnosis=diagnosis)
        self._observe(diagnosed)
        return diagnosed

    async def _still_moved(self) -> bool:
        """Whether a route that was found moved still is, by the router: not every answer names its version."""
        trouble = self.state.trouble
        if self._router is None or trouble is None or trouble.conclusion != Conclusion.ROUTE_MOVED:
            return False
        observed = await self._router.observe()
        return observed.known and observed.role is not self.state.desired

    async def _lane(self, role: Role, canaries: Sequence[Canary], *, one_by_one: bool = False) -> Lane:
        if one_by_one:
            answers = [await self._prober.probe(canary, role, public=False) for canary in canaries]
        else:
            answers = await asyncio.gather(*(self._prober.probe(canary, role, public=False) for canary in canaries))
        over_set = self._prober.judge.collapse(answers)
        if self._drift is not None:
            over_set += self._drift.over(role, answers)
        return Lane(assessments=answers, over_set=over_set, at_once=not one_by_one)

    async def _slower(self, lane: Lane) -> Finding | None:
        """Whether these probes took longer than at the baseline, and which part of them did."""
        results = await self._prober.timekeeper.settled(a.result for a in lane.assessments)
        return self._prober.judge.slower(results)

    def _burst(self, first: Assessment | None, *, thorough: bool = False) -> Sequence[Canary]:
        """The canary that failed, and the next ones of the rotation: of the suspected group, if there is one."""
        failed = [c for c in self._canaries if first is not None and c.id == first.result.canary]
        others = [self._canaries[next(self._rotation)] for _ in self._canaries]
        wanted = self._probe.confirm.canaries
        if thorough or (first is not None and _names(first, Reason.DRIFT)):
            wanted = max(wanted, self._drift_burst)
            suspects = self._drift.suspects if self._drift is not None and first is not None else ()
            others.sort(key=lambda c: c.id not in suspects)
        return [*failed, *(c for c in others if c not in failed)][:wanted]

    async def _prove_safe(self) -> Proved:
        lane = await self._lane(Role.SAFE, self._burst(None))
        detail = "the safe engine is proven" if lane.right else _why(lane.assessments)
        proved = Proved(model=self.model, at=self._clock(), role=Role.SAFE, ok=lane.right, detail=detail)
        self._observe(proved)
        return proved

    async def _switch(self, to: Role) -> Switched:
        """Intent, action, proof, outcome: in this order, and nothing without its intent on disk."""
        if self._router is None:
            return self._switched(to, Applied(ok=False, detail="no router is configured for this model", retry=False))
        intent = {"to": to, "from": self.state.desired}
        try:
            await self._journal.append(Entry(at=self._clock(), kind=EntryKind.INTENT, model=self.model, data=intent))
        except OSError as error:
            return self._switched(to, Applied(ok=False, detail=f"not tried, as the journal can't record it: {error}"))
        applied = await self._router.apply(to)
        applied_at = self._clock()
        proven, detail = await self._prove_public(to) if applied.ok else (False, applied.detail)
        switched = self._switched(to, applied, applied_at=applied_at, proven=proven, detail=detail)
        outcome = {"to": to, "applied": applied.ok, "proven": proven, "detail": detail, "took_s": applied.took_s}
        await self._append(Entry(at=switched.at, kind=EntryKind.OUTCOME, model=self.model, data=outcome))
        return switched

    def _switched(
        self, to: Role, applied: Applied, *, applied_at: float | None = None, proven: bool = False, detail: str = ""
    ) -> Switched:
        self._recent.clear()
        now = self._clock()
        switched = Switched(
            model=self.model,
            at=now,
            to=to,
            applied=applied,
            applied_at=now if applied_at is None else applied_at,
            proven=proven,
            detail=detail or applied.detail,
        )
        self._observe(switched)
        return switched

    async def _prove_public(self, to: Role) -> tuple[bool, str]:
        """Whether the public name answers rightly with `to`, and who says so."""
        give_up_at = self._clock() + self._probe.proof_within
        canaries = self._lightest[: self._probe.proof_canaries]
        while True:
            answers = await asyncio.gather(*(self._prober.probe(c, to, public=True) for c in canaries))
            if all(a.verdict in (Verdict.HEALTHY, Verdict.SUSPECT) for a in answers):
                return True, f"the public name is answered rightly by {answers[0].result.answered_by}"
            if self._clock() >= give_up_at:
                return False, f"the public name does not show the {to} engine: {_why(answers)}"
            await asyncio.sleep(_PROOF_PAUSE_S)

    async def _record(self, decision: Decision) -> None:
        data = {
            "trigger": decision.trigger,
            "before": decision.before,
            "action": decision.action,
            "reason": decision.reason,
            "detail": decision.detail,
            "after": decision.after.to_json(),
        }
        await self._append(Entry(at=decision.at, kind=EntryKind.DECISION, model=self.model, data=data))

    async def _append(self, entry: Entry) -> None:
        """Record what has happened already: failing to must be loud, but changes nothing."""
        try:
            await self._journal.append(entry)
        except OSError as error:
            self._observe(CycleFailed(model=self.model, at=self._clock(), error=f"journal: {error}"))

    def _fail(self, error: Exception) -> None:
        self.state = self.state.resumed(self._clock())
        self._observe(CycleFailed(model=self.model, at=self._clock(), error=f"{type(error).__name__}: {error}"))


def mixed(canaries: Sequence[Canary]) -> tuple[Canary, ...]:
    """All of them, those that follow one another as different as a fixed order can make them.

    A set lists one image's shapes together, and similar images beside one another. Steps of about
    the golden section of the set's size, coprime to it, visit each once and keep likes apart.
    """
    count = len(canaries)
    near = round(count * _GOLDEN_SECTION)
    step = next((s for s in range(max(near, 1), count) if math.gcd(s, count) == 1), 1)
    return tuple(canaries[i * step % count] for i in range(count))


def _kind(event: Suspected) -> tuple[Source, str]:
    """What counts as the same suspicion: one burst looks at all readings of answers, but at one objective."""
    return event.source, event.reading if event.source is Source.OBJECTIVE else ""


def _names(assessment: Assessment, reason: Reason) -> bool:
    return any(f.reason is reason for f in assessment.findings)


def _why(assessments: Sequence[Assessment]) -> str:
    return next((str(a.worst) for a in assessments if a.worst is not None), "no canary came back")
