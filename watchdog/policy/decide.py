"""One step of the policy: what happened → a trigger → the table → the next state and a decision."""

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import assert_never

from pydantic import Field

from watchdog.model.diagnosis import Conclusion, Diagnosis
from watchdog.model.engine import Role
from watchdog.model.event import Commanded, Diagnosed, Probed, Proved, RouteSeen, Suspected, Switched
from watchdog.model.verdict import Verdict
from watchdog.policy.memory import PolicyState, Trouble
from watchdog.policy.states import HOME, TABLE, Action, State, Trigger
from watchdog.settings import Settings


class Allowed(StrEnum):
    """What the watchdog may do about a model by itself."""

    ALERT = "alert"
    ROLLBACK = "rollback"


class PolicySettings(Settings):
    """When a model's traffic may be moved."""

    action: Allowed = Allowed.ALERT
    """``alert`` tells people; ``rollback`` also moves traffic to the safe engine."""
    max_switches_per_day: int = Field(default=6, ge=1, le=1000)
    """Switches in any 24 hours, re-assertions and commands included, after which the watchdog moves
    nothing more until a person releases it; that starts the count afresh. What a router refused
    does not count. Only the way back from a return to the fast engine that failed is never refused."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Decision:
    """What the policy made of one event. Its reason names it in journal, logs and metrics."""

    model: str
    at: float
    trigger: Trigger
    before: State
    after: PolicyState
    action: Action
    reason: str
    detail: str

    @property
    def changed(self) -> bool:
        return self.before is not self.after.state or self.action is not Action.NONE


Input = Probed | Suspected | Diagnosed | Proved | RouteSeen | Switched | Commanded


def step(state: PolicyState, event: Input, settings: PolicySettings) -> Decision:
    """Decide about one event. Pure; the event carries the time."""
    trigger = _trigger(state, event, settings)
    next_state, action = TABLE[state.state].get(trigger, (state.state, Action.NONE))
    after = _remember(state, event, trigger, action)
    resolved = after.home if next_state is HOME else next_state
    if resolved is not state.state:
        after = replace(after, state=resolved, since=event.at)
    reason, detail = _named(event, trigger)
    return Decision(
        model=event.model,
        at=event.at,
        trigger=trigger,
        before=state.state,
        after=after,
        action=action,
        reason=reason,
        detail=detail,
    )


def _trigger(state: PolicyState, event: Input, settings: PolicySettings) -> Trigger:
    match event:
        case Probed():
            return _probed(state, healthy=event.assessment.verdict is Verdict.HEALTHY)
        case Suspected():
            return Trigger.DRIFT_SUSPECTED
        case RouteSeen():
            moved = event.observed.known and event.observed.role is not state.desired
            return Trigger.PROBE_BAD if moved else Trigger.PROBE_HEALTHY  # that all is well, probes must show
        case Diagnosed():
            return _diagnosed(state, event, settings)
        case Proved():
            return _within_budget(state, event.at, settings, Trigger.TARGET_PROVEN if event.ok else None)
        case Switched():
            if event.proven:
                return Trigger.SWITCH_PROVEN
            return Trigger.PROMOTION_FAILED if event.to is Role.FAST is not state.desired else Trigger.SWITCH_FAILED
        case Commanded():
            wanted = Trigger(event.command.value)
            moves = TABLE[state.state].get(wanted, (None, Action.NONE))[1] in _TARGETS
            return _within_budget(state, event.at, settings, wanted) if moves else wanted
        case _:
            assert_never(event)


def _probed(state: PolicyState, *, healthy: bool) -> Trigger:
    if not healthy:
        return Trigger.PROBE_BAD
    return Trigger.PROBE_HEALTHY if state.trouble is None else Trigger.PROBE_RECOVERED


_WITHOUT_A_SWITCH = {
    Conclusion.TRANSIENT: Trigger.TRANSIENT,
    Conclusion.DATA_DRIFT: Trigger.DATA_DRIFT,
    Conclusion.SERVER_FAULT: Trigger.SERVER_FAULT,
    Conclusion.BOTH_WRONG: Trigger.NO_TARGET,
    Conclusion.TARGET_UNPROVEN: Trigger.NO_TARGET,
    Conclusion.OVERLOADED: Trigger.NO_TARGET,
    Conclusion.OTHER_SLOWER: Trigger.NO_TARGET,
    Conclusion.SLOWED: Trigger.SLOWED,
}
_WITH_A_SWITCH = {Conclusion.ENGINE_FAULT: Trigger.ENGINE_FAULT, Conclusion.ROUTE_MOVED: Trigger.ROUTE_MOVED}


def _diagnosed(state: PolicyState, event: Diagnosed, settings: PolicySettings) -> Trigger:
    conclusion = event.diagnosis.conclusion
    if conclusion in _WITHOUT_A_SWITCH:
        return _WITHOUT_A_SWITCH[conclusion]
    if settings.action is Allowed.ALERT:
        return Trigger.NOT_ALLOWED
    if conclusion is Conclusion.ENGINE_FAULT and event.diagnosis.serving is Role.SAFE:
        return Trigger.NO_TARGET  # never to the fast engine by itself
    return _within_budget(state, event.at, settings, _WITH_A_SWITCH[conclusion])


def _within_budget(state: PolicyState, now: float, settings: PolicySettings, wanted: Trigger | None) -> Trigger:
    if wanted is None:
        return Trigger.TARGET_UNPROVEN
    spent = len(state.recent_switches(now)) >= settings.max_switches_per_day
    return Trigger.OVER_BUDGET if spent else wanted


_TARGETS = {Action.SWITCH_TO_SAFE: Role.SAFE, Action.SWITCH_TO_FAST: Role.FAST}


def _remember(state: PolicyState, event: Input, trigger: Trigger, action: Action) -> PolicyState:
    """Everything but the state itself: trouble, cause, target, budget, desired route."""
    after = state
    if isinstance(event, Diagnosed):
        after = replace(after, trouble=_trouble(state, event.diagnosis, event.at))
        if event.diagnosis.conclusion is Conclusion.DATA_DRIFT:
            after = replace(after, drifted=_seen(event.diagnosis, event.at))
        elif event.diagnosis.conclusion is Conclusion.SLOWED:
            after = replace(after, slowed=_seen(event.diagnosis, event.at))
    elif isinstance(event, Switched):
        after = _switched(state, event, trigger)
    elif trigger is Trigger.RELEASE and trigger in TABLE[state.state]:
        after = replace(after, switches=())
    if action in (Action.SWITCH_TO_SAFE, Action.SWITCH_TO_FAST, Action.REASSERT):
        after = replace(
            after,
            target=_TARGETS.get(action, state.desired),
            commanded=state.state is not State.CONFIRMING,
            switches=(*after.recent_switches(event.at), event.at),
        )
    return after


def _trouble(state: PolicyState, diagnosis: Diagnosis, now: float) -> Trouble | None:
    if diagnosis.conclusion in (Conclusion.TRANSIENT, Conclusion.DATA_DRIFT, Conclusion.SLOWED):
        return None
    new = _seen(diagnosis, now)
    return replace(new, since=state.trouble.since) if state.trouble and new.same_as(state.trouble) else new


def _seen(diagnosis: Diagnosis, now: float) -> Trouble:
    return Trouble(reason=diagnosis.reason, conclusion=str(diagnosis.conclusion), detail=diagnosis.detail, since=now)


def _switched(state: PolicyState, event: Switched, trigger: Trigger) -> PolicyState:
    if not event.applied.ok:  # what a router refused has moved nobody, and may be tried again
        state = replace(state, switches=state.switches[:-1])
    if trigger is not Trigger.SWITCH_PROVEN:
        failed = Trouble(reason=str(trigger), conclusion=str(trigger), detail=event.detail, since=event.at)
        return replace(state, target=None, commanded=False, trouble=failed)
    back = replace(state, desired=event.to, target=None, commanded=False, trouble=None)
    if event.to is Role.FAST and state.desired is Role.SAFE:
        return replace(back, cause=None)
    if state.trouble is None:
        return back
    if event.to is state.desired:
        return replace(back, reasserted=replace(state.trouble, since=event.at))
    return back if state.commanded else replace(back, cause=state.trouble)


def _named(event: Input, trigger: Trigger) -> tuple[str, str]:
    """The decision's named reason, and a sentence."""
    match event:
        case Probed():
            worst = event.assessment.worst
            return (str(worst.reason), worst.detail) if worst else (str(trigger), "as it should be")
        case Suspected():
            return str(trigger), f"{event.source} {event.reading}: {event.finding.detail}"
        case RouteSeen():
            return str(trigger), event.observed.detail
        case Diagnosed():
            return event.diagnosis.reason, event.diagnosis.detail
        case Proved() | Switched():
            return str(trigger), event.detail
        case Commanded():
            return str(trigger), f"{event.actor}: {event.why}" if event.why else event.actor
        case _:
            assert_never(event)
