"""One step of the policy: what happened → a trigger → the table → the next state and a decision."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import assert_never

from watchdog.model.diagnosis import Conclusion, Diagnosis
from watchdog.model.engine import Role
from watchdog.model.event import (
    Beside,
    Commanded,
    Diagnosed,
    Probed,
    Proved,
    RouteSeen,
    Suspected,
    Switched,
    Ticked,
)
from watchdog.model.route import share_of_fast
from watchdog.model.verdict import Verdict
from watchdog.policy.memory import PolicyState, Trouble
from watchdog.policy.settings import Allowed, PolicySettings
from watchdog.policy.states import HOME, TABLE, Action, State, Trigger

_STAGE_NEEDS = 3
"""Right answers of the fast engine without which no stage of its way back is done, however long it took."""
_MOST_WRONG = 64


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


Input = Probed | Ticked | Beside | Suspected | Diagnosed | Proved | RouteSeen | Switched | Commanded


def step(state: PolicyState, event: Input, settings: PolicySettings) -> Decision:
    """Decide about one event. Pure; the event carries the time."""
    if isinstance(event, Diagnosed):
        event = _seen_too_often(state, event, settings)
    trigger = _trigger(state, event, settings)
    next_state, action = TABLE[state.state].get(trigger, (state.state, Action.NONE))
    after = _remember(state, event, trigger)
    if action in _MOVES:
        after = _set_out(state, after, event.at, trigger=trigger, action=action, steps=settings.steps)
    resolved = after.home if next_state is HOME else next_state
    if resolved is not state.state:
        after = replace(after, state=resolved, since=event.at, good=0)
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


# What happened, as one of the table's triggers.


def _trigger(state: PolicyState, event: Input, settings: PolicySettings) -> Trigger:  # noqa: PLR0911 - a case each
    match event:
        case Probed():
            return _probed(state, healthy=event.assessment.verdict is Verdict.HEALTHY)
        case Ticked():
            return _time_passed(state, event.at, settings)
        case Beside():
            return _beside(state, event, settings)
        case Suspected():
            return Trigger.DRIFT_SUSPECTED
        case RouteSeen():
            moved = event.observed.known and event.observed.fast_percent != state.share
            if moved and _is_told_and_left(state):
                return Trigger.PROBE_HEALTHY  # canaries look again at their own cadence
            return Trigger.PROBE_BAD if moved else Trigger.PROBE_HEALTHY  # that all is well, probes must show
        case Diagnosed():
            return _diagnosed(state, event, settings)
        case Proved():
            return _proved(state, event, settings)
        case Switched():
            if event.proven:
                return Trigger.SWITCH_PROVEN
            back = event.to is Role.FAST and event.fast_percent != state.share
            return Trigger.PROMOTION_FAILED if back else Trigger.SWITCH_FAILED
        case Commanded():
            return Trigger(event.command.value)
        case _:
            assert_never(event)


def _is_told_and_left(state: PolicyState) -> bool:
    """Whether a moved route is known, and may not be put back."""
    trouble = state.trouble
    still = state.state in (State.HELD, State.LOCKED, State.DEGRADED)
    return still and trouble is not None and trouble.conclusion == Conclusion.ROUTE_MOVED


def _probed(state: PolicyState, *, healthy: bool) -> Trigger:
    if not healthy:
        return Trigger.PROBE_BAD
    return Trigger.PROBE_HEALTHY if state.trouble is None else Trigger.PROBE_RECOVERED


def _time_passed(state: PolicyState, now: float, settings: PolicySettings) -> Trigger:
    recovery, waited = settings.recovery, now - state.waits_since
    match state.state:
        case State.SERVING_SAFE if recovery is not None and state.cause is not None:
            may = state.failed_returns < recovery.attempts and settings.action is Allowed.ROLLBACK
            may = may and _switches_left(state, now, settings) >= _THERE_AND_BACK
            if may and waited >= recovery.after * 2**state.failed_returns:
                return Trigger.RECOVERY_DUE
        case State.PROBATION if recovery is None or waited >= recovery.probation:
            return Trigger.STAGE_DONE
        case State.RECOVERING if recovery is None:
            return Trigger.FAST_WRONG  # a new configuration: nobody wants it any more
        case _:
            pass
    return Trigger.TIME_PASSED


def _beside(state: PolicyState, event: Beside, settings: PolicySettings) -> Trigger:
    if event.assessment.verdict is not Verdict.HEALTHY:
        return Trigger.FAST_WRONG
    recovery = settings.recovery
    lasts = settings.step_for if state.state is State.RETURNING or recovery is None else recovery.prove_for
    done = state.good + 1 >= _STAGE_NEEDS and event.at - state.since >= lasts
    return Trigger.STAGE_DONE if done else Trigger.PROBE_HEALTHY


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
_WITH_A_SWITCH = {
    Conclusion.ENGINE_FAULT: Trigger.ENGINE_FAULT,
    Conclusion.INTERMITTENT: Trigger.ENGINE_FAULT,
    Conclusion.ROUTE_MOVED: Trigger.ROUTE_MOVED,
}


def _diagnosed(state: PolicyState, event: Diagnosed, settings: PolicySettings) -> Trigger:
    conclusion, permission = event.diagnosis.conclusion, event.permission
    if permission is not None and not permission.leads and _followable(state, event) is not None:
        return Trigger.ROUTE_FOLLOWED
    if conclusion is Conclusion.SERVER_FAULT and not event.diagnosis.serving_bad:
        return Trigger.NO_TARGET  # only the public name is silent: a person may know of a way around it
    if conclusion in _WITHOUT_A_SWITCH:
        return _WITHOUT_A_SWITCH[conclusion]
    leads_back = _is_divided(state) and conclusion is not Conclusion.ROUTE_MOVED  # what comes of somebody's wish
    if settings.action is Allowed.ALERT and not leads_back:
        return Trigger.TRANSIENT if conclusion is Conclusion.INTERMITTENT else Trigger.NOT_ALLOWED
    if conclusion is not Conclusion.ROUTE_MOVED and event.diagnosis.serving is Role.SAFE:
        return Trigger.NO_TARGET  # never to the fast engine because the safe one is wrong
    if permission is not None and not permission.ok:
        return Trigger.NOT_ALLOWED
    return _within_budget(state, event.at, settings, _WITH_A_SWITCH[conclusion])


def _followable(state: PolicyState, event: Diagnosed) -> int | None:
    """The fast engine's share, where another watchdog has moved the route."""
    observed = event.observed
    if observed is None or not observed.known or observed.fast_percent in (None, state.share):
        return None
    return observed.fast_percent


def _seen_too_often(state: PolicyState, event: Diagnosed, settings: PolicySettings) -> Diagnosed:
    """An engine that is right when it is asked again is at fault all the same, if it was wrong often enough."""
    diagnosis = event.diagnosis
    if not event.began_wrong or diagnosis.conclusion is not Conclusion.TRANSIENT or diagnosis.other_bad:
        return event
    times = (*state.wrong, event.at)
    for rule in settings.intermittent:
        count = sum(event.at - at < rule.within for at in times)
        if count >= rule.wrong:
            detail = f"wrong {count} times within {rule.within:g} s, though right when asked again; {diagnosis.detail}"
            return replace(event, diagnosis=replace(diagnosis, conclusion=Conclusion.INTERMITTENT, detail=detail))
    return event


def _proved(state: PolicyState, event: Proved, settings: PolicySettings) -> Trigger:
    if event.ok:
        proven = Trigger.FAST_PROVEN if event.role is Role.FAST else Trigger.SAFE_PROVEN
        return _within_budget(state, event.at, settings, proven)
    return Trigger.FAST_WRONG if event.role is Role.FAST and state.share > 0 else Trigger.TARGET_UNPROVEN


_ONWARD_OR_BACK = frozenset({Trigger.ENGINE_FAULT, Trigger.SAFE_PROVEN, Trigger.FAST_PROVEN})


def _within_budget(state: PolicyState, now: float, settings: PolicySettings, wanted: Trigger) -> Trigger:
    """A return in steps must not be stuck between: its steps are one switch, and the way back from it is free."""
    if _is_divided(state) and wanted in _ONWARD_OR_BACK:
        return wanted
    needs = _THERE_AND_BACK if state.by_itself and wanted is Trigger.FAST_PROVEN else 1
    return Trigger.OVER_BUDGET if _switches_left(state, now, settings) < needs else wanted


_THERE_AND_BACK = 2
"""A return that nobody asked for must not spend the switch that may be needed to undo it."""


def _switches_left(state: PolicyState, now: float, settings: PolicySettings) -> int:
    return settings.max_switches_per_day - len(state.recent_switches(now))


def _is_divided(state: PolicyState) -> bool:
    return 0 < state.share < 100


def _counts(state: PolicyState, fast_percent: int) -> bool:
    """Whether a switch to this share is one of the day's; of a divided route, only if it restores that division."""
    return not _is_divided(state) or fast_percent == state.share


# What is remembered of it.

_MOVES = frozenset({Action.SWITCH_TO_SAFE, Action.SWITCH_TO_FAST, Action.REASSERT})


def _set_out(
    before: PolicyState, after: PolicyState, now: float, *, trigger: Trigger, action: Action, steps: Sequence[int]
) -> PolicyState:
    """A switch begins."""
    if action is Action.SWITCH_TO_FAST:
        target, percent = Role.FAST, next((step for step in steps if step > before.share), 100)
    elif trigger is Trigger.ROUTE_MOVED:
        target, percent = before.route
    else:
        target, percent = Role.SAFE, 100
    counts = _counts(before, share_of_fast(target, percent))
    return replace(
        after,
        target=target,
        target_percent=percent,
        commanded=before.state is State.PROVING and not before.by_itself,
        switches=(*after.recent_switches(now), *[now] * counts),
    )


def _remember(state: PolicyState, event: Input, trigger: Trigger) -> PolicyState:
    """Everything but the state itself and a switch that begins."""
    match event:
        case Diagnosed():
            return _told(state, event, trigger)
        case Switched():
            return _switched(state, event, trigger)
        case Commanded() if trigger in TABLE[state.state]:
            if trigger is Trigger.RELEASE:
                return replace(state, switches=())
            return replace(state, by_itself=False) if trigger in (Trigger.ROLLBACK, Trigger.PROMOTE) else state
        case Beside():
            after = replace(state, good=state.good + 1) if trigger is not Trigger.FAST_WRONG else state
        case _:
            after = state
    match trigger:
        case Trigger.RECOVERY_DUE:
            return replace(after, by_itself=True)
        case Trigger.STAGE_DONE if state.state is State.PROBATION:
            return replace(after, by_itself=False, failed_returns=0)
        case Trigger.FAST_WRONG | Trigger.TARGET_UNPROVEN if not isinstance(event, Ticked):
            return _failed_on_its_way(state, after, event.at)
        case _:
            return after


def _told(state: PolicyState, event: Diagnosed, trigger: Trigger) -> PolicyState:
    """What a diagnosis leaves behind."""
    diagnosis, now = event.diagnosis, event.at
    if trigger is Trigger.ROUTE_FOLLOWED:
        share = _followable(state, event)
        share = state.share if share is None else share
        desired = Role.FAST if share == 100 else Role.SAFE
        theirs = replace(state, desired=desired, share=share, waits_since=now, by_itself=False, failed_returns=0)
        return replace(theirs, trouble=None, cause=None, wrong=(), intermittent=None)
    after = replace(state, trouble=_trouble(state, diagnosis, now, trigger))
    match diagnosis.conclusion:
        case Conclusion.DATA_DRIFT:
            return replace(after, drifted=_seen(diagnosis, now))
        case Conclusion.SLOWED:
            return replace(after, slowed=_seen(diagnosis, now))
        case Conclusion.INTERMITTENT:  # a switch that leaves the engine forgets it
            after = replace(after, intermittent=_seen(diagnosis, now))
        case _:
            pass
    if event.began_wrong and diagnosis.conclusion in (Conclusion.TRANSIENT, Conclusion.INTERMITTENT):
        after = replace(after, wrong=(*after.wrong, now)[-_MOST_WRONG:])
    return after


_WITHOUT_TROUBLE = frozenset({Trigger.TRANSIENT, Trigger.DATA_DRIFT, Trigger.SLOWED})


def _trouble(state: PolicyState, diagnosis: Diagnosis, now: float, trigger: Trigger) -> Trouble | None:
    if trigger in _WITHOUT_TROUBLE:
        return None
    new = _seen(diagnosis, now)
    return replace(new, since=state.trouble.since) if state.trouble and new.same_as(state.trouble) else new


def _seen(diagnosis: Diagnosis, now: float) -> Trouble:
    return Trouble(reason=diagnosis.reason, conclusion=str(diagnosis.conclusion), detail=diagnosis.detail, since=now)


def _switched(state: PolicyState, event: Switched, trigger: Trigger) -> PolicyState:
    if not event.applied.ok and _counts(state, event.fast_percent):  # what a router refused has moved nobody
        state = replace(state, switches=state.switches[:-1])
    after = replace(state, target=None, target_percent=100, commanded=False)
    if trigger is not Trigger.SWITCH_PROVEN:
        failed = Trouble(reason=str(trigger), conclusion=str(trigger), detail=event.detail, since=event.at)
        after = replace(after, trouble=failed)
        return _failed_on_its_way(state, after, event.at) if trigger is Trigger.PROMOTION_FAILED else after
    share = event.fast_percent
    after = replace(after, desired=Role.FAST if share == 100 else Role.SAFE, share=share, trouble=None)
    if share == state.share:
        return _put_back(state, after, event.at)
    after = replace(after, waits_since=event.at, wrong=(), intermittent=None)
    if share == 100:
        return replace(after, cause=None, failed_returns=state.failed_returns if state.by_itself else 0)
    if share > 0:
        return after
    if state.by_itself:
        after = _failed_return(after, event.at)
    return replace(after, cause=None if state.commanded else state.trouble or state.cause)


def _put_back(state: PolicyState, after: PolicyState, now: float) -> PolicyState:
    """The route is again as it was before."""
    return after if state.trouble is None else replace(after, reasserted=replace(state.trouble, since=now))


def _failed_on_its_way(state: PolicyState, after: PolicyState, now: float) -> PolicyState:
    """The fast engine was not right; a divided route must first be led back, and is counted with that."""
    return _failed_return(after, now) if state.by_itself and state.share == 0 else after


def _failed_return(state: PolicyState, now: float) -> PolicyState:
    """The fast engine must wait again, and longer."""
    return replace(state, by_itself=False, failed_returns=state.failed_returns + 1, waits_since=now)


def _named(event: Input, trigger: Trigger) -> tuple[str, str]:
    """The decision's named reason, and a sentence."""
    match event:
        case Probed() | Beside():
            worst = event.assessment.worst
            return (str(worst.reason), worst.detail) if worst else (str(trigger), "as it should be")
        case Ticked():
            return str(trigger), _OF_TIME.get(trigger, "")
        case Suspected():
            return str(trigger), f"{event.source} {event.reading}: {event.finding.detail}"
        case RouteSeen():
            return str(trigger), event.observed.detail
        case Diagnosed():
            refused = event.permission is not None and trigger is Trigger.NOT_ALLOWED and not event.permission.ok
            why = f"; {event.permission.detail}" if event.permission is not None and refused else ""
            return event.diagnosis.reason, event.diagnosis.detail + why
        case Proved() | Switched():
            return str(trigger), event.detail
        case Commanded():
            return str(trigger), f"{event.actor}: {event.why}" if event.why else event.actor
        case _:
            assert_never(event)


_OF_TIME = {
    Trigger.RECOVERY_DUE: "the safe engine has served long enough: the fast one is proven beside it",
    Trigger.STAGE_DONE: "the probation is over",
    Trigger.FAST_WRONG: "the configuration no longer asks for a recovery",
}
