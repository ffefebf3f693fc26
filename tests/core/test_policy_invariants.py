"""What holds after any events whatever, in any order that a cycle can produce."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.core.builders import MODEL, a_finding, assessed
from tests.core.policy_story import Story, a_diagnosis
from watchdog import alerting
from watchdog.model.diagnosis import Conclusion
from watchdog.model.engine import Role
from watchdog.model.event import Command, Commanded, Diagnosed, Probed, Proved, RouteSeen, Switched
from watchdog.model.route import Applied, Observed
from watchdog.model.verdict import Finding, Reason, Verdict
from watchdog.policy.decide import Allowed, Decision, Input, PolicySettings
from watchdog.policy.memory import DAY_S, PolicyState, Trouble
from watchdog.policy.states import Action, State, Trigger

MOVES = {Action.SWITCH_TO_SAFE, Action.SWITCH_TO_FAST, Action.REASSERT}


def _probed(*findings: Finding) -> Callable[[float], Input]:
    return lambda now: Probed(model=MODEL, at=now, assessment=assessed(*findings))


def _seen(role: Role | None, *, known: bool) -> Callable[[float], Input]:
    return lambda now: RouteSeen(model=MODEL, at=now, observed=Observed(role=role, detail="seen", known=known))


def _commanded(command: Command) -> Callable[[float], Input]:
    return lambda now: Commanded(model=MODEL, at=now, command=command, actor="ann", why="")


FROM_OUTSIDE = [
    _probed(),
    *(_probed(a_finding(Reason.PARITY, verdict)) for verdict in Verdict if verdict is not Verdict.HEALTHY),
    *(_seen(role, known=known) for role in (None, *Role) for known in (False, True)),
    *(_commanded(command) for command in Command),
]
"""What begins a step: a probe, the router's account, a command."""


def outcome(story: Story, action: Action, draw: st.DrawFn) -> Input | None:
    """What a cycle reports back of an action: good or bad, as the world pleases."""
    desired, now = story.state.desired, story.now
    if action is Action.DIAGNOSE:
        diagnosis = a_diagnosis(draw(st.sampled_from(Conclusion)), desired)
        return Diagnosed(model=MODEL, at=now, diagnosis=diagnosis)
    if action is Action.PROVE_SAFE:
        return Proved(model=MODEL, at=now, role=Role.SAFE, ok=draw(st.booleans()), detail="")
    if action in MOVES:
        ok = draw(st.booleans())
        return Switched(
            model=MODEL,
            at=now,
            to=story.state.target or desired,
            applied=Applied(ok=ok, detail=""),
            applied_at=now,
            proven=ok and draw(st.booleans()),
            detail="",
        )
    return None


@st.composite
def stories(draw: st.DrawFn) -> list[tuple[PolicySettings, Input, Input, Decision, PolicyState]]:
    """Of each step: the settings, what began it all, the event, the decision, and the state before."""
    policy = PolicySettings(
        action=draw(st.sampled_from(Allowed)), max_switches_per_day=draw(st.integers(min_value=1, max_value=4))
    )
    story, steps = Story(settings=policy), []
    for _ in range(draw(st.integers(1, 25))):
        story.later(draw(st.sampled_from([0.0, 1.0, 3600.0, DAY_S / 2, DAY_S])))
        began = draw(st.sampled_from(FROM_OUTSIDE))(story.now)
        event: Input | None = began
        while event is not None:
            before = story.state
            decision = story.tell(event)
            steps.append((policy, began, event, decision, before))
            event = outcome(story, decision.action, draw)
    return steps


@given(stories())
@settings(max_examples=500)
def test_the_promises_hold(steps: list[Any]) -> None:
    moved_at: list[float] = []
    for policy, began, event, decision, before in steps:
        after, moves = decision.after, decision.action in MOVES
        commanded = isinstance(began, Commanded)

        assert not (moves and before.state in (State.HELD, State.LOCKED, State.BLIND))
        if decision.action is Action.SWITCH_TO_FAST:
            assert isinstance(event, Commanded)
            assert event.command is Command.PROMOTE
        if policy.action is Allowed.ALERT:
            assert not moves or commanded
        if after.desired is not before.desired:
            assert isinstance(event, Switched)
            assert event.proven
            assert after.desired is event.to
        if after.desired is Role.FAST and before.desired is Role.SAFE:
            assert isinstance(began, Commanded)
            assert began.command is Command.PROMOTE

        if decision.trigger is Trigger.RELEASE and before.state in (State.HELD, State.LOCKED):
            moved_at.clear()
        if isinstance(event, Switched) and not event.applied.ok:
            moved_at.pop()
        if moves:
            assert after.switches[-1] == event.at
            if decision.trigger is not Trigger.PROMOTION_FAILED:
                assert len([at for at in moved_at if event.at - DAY_S < at]) < policy.max_switches_per_day
            moved_at.append(event.at)

        settled = alerting.is_settled(after)
        assert settled or decision.action is not Action.NONE, "what is under way has an action, or it would be for ever"
        assert (after.target is None) == (after.state is not State.SWITCHING)
        if after.state in (State.SERVING_FAST, State.SERVING_SAFE):
            assert after.state is after.home
        assert not (after.desired is Role.FAST and after.cause)
        names = [c.key for c in alerting.conditions(MODEL, after, event.at)]
        assert len(set(names)) == len(names)
        assert PolicyState.from_json(json.loads(json.dumps(after.to_json()))) == after
        assert alerting.is_settled(after.resumed(event.at))


TIMES = st.floats(0, 4e9)
TROUBLES = st.none() | st.builds(Trouble, reason=st.text(), conclusion=st.text(), detail=st.text(), since=TIMES)


@given(
    st.builds(
        PolicyState,
        state=st.sampled_from(State),
        since=TIMES,
        desired=st.sampled_from(Role),
        target=st.none() | st.sampled_from(Role),
        commanded=st.booleans(),
        trouble=TROUBLES,
        cause=TROUBLES,
        reasserted=TROUBLES,
        drifted=TROUBLES,
        switches=st.lists(TIMES, max_size=5).map(tuple),
    )
)
def test_the_memory_survives_json(state: PolicyState) -> None:
    assert PolicyState.from_json(json.loads(json.dumps(state.to_json()))) == state


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.just(10**400) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@given(key=st.sampled_from(sorted(PolicyState().to_json())), value=JSON, missing=st.booleans())
def test_a_damaged_memory_is_refused_or_understood_never_a_surprise(key: str, value: Any, missing: bool) -> None:
    data = PolicyState().to_json() | {key: value}
    if missing:
        del data[key]
    try:
        PolicyState.from_json(data)
    except ValueError:
        return
    assert not missing or key in ("drifted", "slowed"), "journals of before know nothing of it"


@pytest.mark.parametrize("data", [None, [], "x", {}, {"state": "asleep"}])
def test_what_is_no_memory_is_refused(data: Any) -> None:
    with pytest.raises(ValueError, match=r"not a policy state|not a valid State"):
        PolicyState.from_json(data)
