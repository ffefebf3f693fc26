"""The table itself: whole, closed, and true to what it promises."""

import pytest

from watchdog.alerting import is_settled
from watchdog.policy.memory import PolicyState
from watchdog.policy.states import HOME, TABLE, Action, State, Trigger

ROWS = [(state, trigger, *row) for state, triggers in TABLE.items() for trigger, row in triggers.items()]
MOVES = {Action.SWITCH_TO_SAFE, Action.SWITCH_TO_FAST, Action.REASSERT}
UNDER_WAY = {State.CONFIRMING: Action.DIAGNOSE, State.PROVING: Action.PROVE_SAFE, State.SWITCHING: None}


def test_every_state_has_rows_and_every_trigger_a_use() -> None:
    assert set(TABLE) == set(State)
    assert {trigger for _, trigger, _, _ in ROWS} == set(Trigger) - {Trigger.PROBE_HEALTHY}


def test_every_state_can_be_reached_from_the_first() -> None:
    homes = {State.SERVING_FAST, State.SERVING_SAFE}
    reached = {State.SERVING_FAST}
    for _ in State:
        for state, _, following, _ in ROWS:
            if state in reached:
                reached |= homes if following is HOME else {following}
    assert reached == set(State)


@pytest.mark.parametrize(("state", "trigger", "following", "action"), ROWS)
def test_a_row_leads_to_a_state_that_fits_its_action(
    state: State, trigger: Trigger, following: State | None, action: Action
) -> None:
    assert following is HOME or isinstance(following, State)
    if following in UNDER_WAY:
        assert action in ({UNDER_WAY[following]} if UNDER_WAY[following] else MOVES)
    else:
        assert action is Action.NONE or (action is Action.DIAGNOSE and state is following)


@pytest.mark.parametrize("state", [State.HELD, State.LOCKED, State.BLIND])
def test_nothing_moves_out_of_a_hold_a_lock_or_the_dark(state: State) -> None:
    assert not {action for _, action in TABLE[state].values()} & MOVES


def test_only_a_promotion_leads_to_the_fast_engine() -> None:
    assert [(s, t) for s, t, _, a in ROWS if a is Action.SWITCH_TO_FAST] == [(State.SERVING_SAFE, Trigger.PROMOTE)]


def test_whatever_is_under_way_is_not_settled() -> None:
    assert {s for s in State if not is_settled(PolicyState(state=s))} == set(UNDER_WAY)


def test_every_settled_state_can_be_held_or_released() -> None:
    for state in set(State) - set(UNDER_WAY) - {State.HELD}:
        assert TABLE[state][Trigger.HOLD] == (State.HELD, Action.NONE)
    for state in (State.HELD, State.LOCKED):
        assert TABLE[state][Trigger.RELEASE] == (HOME, Action.NONE)
