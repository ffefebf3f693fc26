"""The table itself: whole, closed, and true to what it promises."""

import pytest

from watchdog.alerting import is_settled
from watchdog.policy.memory import PolicyState
from watchdog.policy.states import HOME, TABLE, Action, State, Trigger

ROWS = [(state, trigger, *row) for state, triggers in TABLE.items() for trigger, row in triggers.items()]
MOVES = {Action.SWITCH_TO_SAFE, Action.SWITCH_TO_FAST, Action.REASSERT}
UNDER_WAY = {
    State.CONFIRMING: {Action.DIAGNOSE},
    State.PROVING: {Action.PROVE_SAFE, Action.PROVE_FAST},
    State.SWITCHING: MOVES,
}
"""States that only their own action's end ends, so that each needs one."""
MAY = UNDER_WAY | {
    State.RECOVERING: {Action.PROBE_FAST},
    State.RETURNING: {Action.PROBE_FAST},
    State.HELD: {Action.NONE, Action.DIAGNOSE},
    State.LOCKED: {Action.NONE, Action.DIAGNOSE},
}
"""Which actions lead to a state, where that is not none."""


def test_every_state_has_rows_and_every_trigger_a_use() -> None:
    assert set(TABLE) == set(State)
    assert {trigger for _, trigger, _, _ in ROWS} == set(Trigger) - {Trigger.PROBE_HEALTHY}


def test_every_state_can_be_reached_from_the_first() -> None:
    homes = {State.SERVING_FAST, State.PROBATION, State.RETURNING, State.SERVING_SAFE}
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
    assert action in (MAY.get(following, {Action.NONE}) if following else {Action.NONE})


@pytest.mark.parametrize("state", list(State))
def test_only_a_proof_or_a_diagnosis_begins_a_move(state: State) -> None:
    proofs = {
        (State.CONFIRMING, Trigger.ENGINE_FAULT): Action.SWITCH_TO_SAFE,
        (State.CONFIRMING, Trigger.ROUTE_MOVED): Action.REASSERT,
        (State.PROVING, Trigger.SAFE_PROVEN): Action.SWITCH_TO_SAFE,
        (State.PROVING, Trigger.FAST_PROVEN): Action.SWITCH_TO_FAST,
        (State.SWITCHING, Trigger.PROMOTION_FAILED): Action.REASSERT,
    }
    moves = {(state, trigger): action for trigger, (_, action) in TABLE[state].items() if action in MOVES}
    assert moves == {key: action for key, action in proofs.items() if key[0] is state}


@pytest.mark.parametrize("state", [State.HELD, State.LOCKED, State.BLIND])
def test_nothing_moves_out_of_a_hold_a_lock_or_the_dark(state: State) -> None:
    assert not {action for _, action in TABLE[state].values()} & MOVES


def test_only_a_promotion_or_a_stage_that_was_right_has_the_fast_engine_proven() -> None:
    assert {(s, t) for s, t, _, a in ROWS if a is Action.PROVE_FAST} == {
        (State.SERVING_SAFE, Trigger.PROMOTE),
        (State.DEGRADED, Trigger.PROMOTE),
        (State.RECOVERING, Trigger.PROMOTE),
        (State.RECOVERING, Trigger.STAGE_DONE),
        (State.RETURNING, Trigger.PROMOTE),
        (State.RETURNING, Trigger.STAGE_DONE),
    }


def test_whoever_serves_otherwise_than_wanted_can_be_looked_at() -> None:
    for state in set(State) - set(UNDER_WAY):
        assert TABLE[state][Trigger.LOOK][1] is Action.DIAGNOSE


def test_whatever_is_under_way_is_not_settled() -> None:
    assert {s for s in State if not is_settled(PolicyState(state=s))} == set(UNDER_WAY)


def test_every_settled_state_can_be_held_or_released() -> None:
    for state in set(State) - set(UNDER_WAY) - {State.HELD}:
        assert TABLE[state][Trigger.HOLD] == (State.HELD, Action.NONE)
    for state in (State.HELD, State.LOCKED):
        assert TABLE[state][Trigger.RELEASE] == (HOME, Action.NONE)
