"""The policy's stories, told in full: who hears what, and who moves where."""

import pytest

from tests.core.builders import MODEL
from tests.core.policy_story import ALERT, Story
from tests.core.virtual_time import EPOCH
from watchdog.model.diagnosis import Conclusion
from watchdog.model.engine import Role
from watchdog.model.event import Command, Switched
from watchdog.model.route import Applied
from watchdog.policy.memory import DAY_S, PolicyState, Trouble
from watchdog.policy.settings import Allowed, PolicySettings
from watchdog.policy.states import Action, State, Trigger

A, S, T = Action, State, Trigger


def test_all_well_changes_nothing() -> None:
    story = Story()
    decision = story.probe()
    assert (decision.trigger, decision.action, decision.changed) == (T.PROBE_HEALTHY, A.NONE, False)
    assert story.state == PolicyState(since=EPOCH)
    assert (decision.reason, decision.detail) == ("probe-healthy", "as it should be")


def test_first_failure_confirm_switch_serve_safe() -> None:
    story = Story()
    first = story.probe(bad=True)
    assert (first.reason, first.detail) == ("parity", "parity was found")
    story.later(0.25).diagnosed(Conclusion.ENGINE_FAULT)
    assert (story.state.target, story.state.desired) == (Role.SAFE, Role.FAST)
    story.later(0.25).switched()
    assert story.path == [
        (S.CONFIRMING, A.DIAGNOSE),
        (S.SWITCHING, A.SWITCH_TO_SAFE),
        (S.SERVING_SAFE, A.NONE),
    ]
    assert (story.state.desired, story.state.target, story.state.trouble) == (Role.SAFE, None, None)
    assert story.state.cause is not None
    assert (story.state.cause.conclusion, story.state.cause.reason) == ("engine-fault", "parity")
    assert story.state.since == EPOCH + 0.5


def test_chance_is_forgotten() -> None:
    story = Story()
    story.probe(bad=True)
    story.diagnosed(Conclusion.TRANSIENT)
    assert (story.state.state, story.state.trouble) == (S.SERVING_FAST, None)


@pytest.mark.parametrize("conclusion", [Conclusion.BOTH_WRONG, Conclusion.TARGET_UNPROVEN, Conclusion.OVERLOADED])
def test_without_a_target_nothing_moves_until_a_diagnosis_clears_it(conclusion: Conclusion) -> None:
    story = Story()
    story.probe(bad=True)
    assert story.diagnosed(conclusion).action is A.NONE
    assert story.state.state is S.DEGRADED
    story.later(10).probe(bad=True)
    again = story.diagnosed(conclusion).after.trouble
    assert again is not None
    assert (again.conclusion, again.since) == (conclusion, EPOCH), "the same trouble is as old as it was"
    assert story.later(10).probe().trigger is T.PROBE_RECOVERED
    story.diagnosed(Conclusion.TRANSIENT)
    assert (story.state.state, story.state.trouble) == (S.SERVING_FAST, None)


def test_a_server_that_is_down_is_watched_blindly_until_it_is_back() -> None:
    story = Story()
    story.probe(bad=True)
    story.diagnosed(Conclusion.SERVER_FAULT)
    assert story.state.state is S.BLIND
    story.later(10).probe(bad=True)
    story.diagnosed(Conclusion.SERVER_FAULT)
    story.later(10).probe()
    story.diagnosed(Conclusion.TRANSIENT)
    assert (story.state.state, story.state.trouble) == (S.SERVING_FAST, None)
    assert not story.state.switches


def test_alert_only_never_moves_and_still_obeys_a_person() -> None:
    story = Story(settings=ALERT)
    story.probe(bad=True)
    assert story.diagnosed(Conclusion.ENGINE_FAULT).trigger is T.NOT_ALLOWED
    assert (story.state.state, story.state.desired) == (S.DEGRADED, Role.FAST)
    story.later(5).command(Command.ROLLBACK)
    story.proved()
    story.switched()
    assert story.path[-3:] == [(S.PROVING, A.PROVE_SAFE), (S.SWITCHING, A.SWITCH_TO_SAFE), (S.SERVING_SAFE, A.NONE)]
    assert (story.state.cause, story.state.trouble) == (None, None), "a person's wish is no alert"


def test_a_rollback_without_a_proven_target_goes_nowhere() -> None:
    story = Story()
    story.command(Command.ROLLBACK)
    decision = story.proved(ok=False)
    assert (decision.trigger, story.state.state, decision.action) == (T.TARGET_UNPROVEN, S.SERVING_FAST, A.NONE)
    assert not story.state.switches


def test_a_bad_safe_engine_is_never_left_for_the_fast_one() -> None:
    story = Story().roll_back()
    story.probe(bad=True)
    assert story.diagnosed(Conclusion.ENGINE_FAULT).trigger is T.NO_TARGET
    assert (story.state.state, story.state.desired) == (S.DEGRADED, Role.SAFE)


def test_a_promotion_that_holds_ends_the_cause() -> None:
    story = Story().roll_back().later(100).promote()
    assert (story.state.state, story.state.desired, story.state.cause) == (S.SERVING_FAST, Role.FAST, None)


def test_a_promotion_that_fails_goes_back_at_once() -> None:
    story = Story().roll_back().later(100)
    story.command(Command.PROMOTE)
    assert story.proved(Role.FAST).action is A.SWITCH_TO_FAST
    back = story.switched(proven=False)
    assert (back.trigger, back.action, story.state.target) == (T.PROMOTION_FAILED, A.REASSERT, Role.SAFE)
    story.switched()
    assert (story.state.state, story.state.desired, story.state.trouble) == (S.SERVING_SAFE, Role.SAFE, None)
    assert story.state.cause is not None
    assert story.state.cause.conclusion == "engine-fault"
    assert story.state.reasserted is not None
    assert story.state.reasserted.conclusion == "promotion-failed"


def test_a_promotion_that_its_proof_does_not_bear_out_moves_nothing() -> None:
    story = Story().roll_back()
    assert story.command(Command.PROMOTE).action is A.PROVE_FAST
    decision = story.proved(Role.FAST, ok=False)
    assert (decision.trigger, decision.action, story.state.state) == (T.TARGET_UNPROVEN, A.NONE, S.SERVING_SAFE)
    assert len(story.state.switches) == 1


def test_a_way_back_that_fails_too_is_loud() -> None:
    story = Story().roll_back()
    story.promote(proven=False).switched(proven=False)
    assert (story.state.state, story.state.desired) == (S.DEGRADED, Role.SAFE)
    assert story.state.trouble is not None
    assert story.state.trouble.conclusion == "switch-failed"


def test_a_switch_that_fails_leaves_the_desired_route_and_is_tried_again() -> None:
    story = Story()
    story.probe(bad=True)
    story.diagnosed(Conclusion.ENGINE_FAULT)
    story.switched(proven=False)
    assert (story.state.state, story.state.desired, story.state.target) == (S.DEGRADED, Role.FAST, None)
    story.later(10).roll_back()
    assert (story.state.state, len(story.state.switches)) == (S.SERVING_SAFE, 2)


def test_a_route_that_moved_is_put_back() -> None:
    story = Story()
    assert story.route(Role.SAFE).action is A.DIAGNOSE
    put_back = story.diagnosed(Conclusion.ROUTE_MOVED)
    assert (put_back.action, story.state.target) == (A.REASSERT, Role.FAST)
    story.later(1).switched()
    assert (story.state.state, story.state.desired, story.state.cause) == (S.SERVING_FAST, Role.FAST, None)
    assert story.state.reasserted is not None
    assert (story.state.reasserted.conclusion, story.state.reasserted.since) == ("route-moved", EPOCH + 1)


@pytest.mark.parametrize(("role", "known"), [(Role.FAST, True), (None, False)])
def test_a_router_that_sees_nothing_amiss_or_nothing_at_all_changes_nothing(role: Role | None, known: bool) -> None:
    story = Story()
    assert story.route(role, known=known).action is A.NONE
    troubled = Story()
    troubled.probe(bad=True)
    troubled.diagnosed(Conclusion.BOTH_WRONG)
    assert troubled.route(role, known=known).action is A.NONE, "only a probe shows that a trouble is over"


def test_a_route_that_nobody_knows_the_target_of_is_looked_into() -> None:
    assert Story().route(None).action is A.DIAGNOSE


def test_a_hold_wins_and_its_release_lets_go() -> None:
    story = Story()
    story.command(Command.HOLD)
    assert story.probe(bad=True).action is A.DIAGNOSE
    assert story.diagnosed(Conclusion.ENGINE_FAULT).action is A.NONE
    assert (story.state.state, story.state.trouble and story.state.trouble.conclusion) == (S.HELD, "engine-fault")
    for command in (Command.ROLLBACK, Command.PROMOTE, Command.HOLD):
        assert not story.command(command).changed
    story.command(Command.RELEASE)
    assert story.state.state is S.SERVING_FAST
    assert story.roll_back().state.state is S.SERVING_SAFE


def test_commands_that_make_no_sense_now_change_nothing() -> None:
    story = Story()
    assert not story.command(Command.PROMOTE).changed
    assert not story.command(Command.RELEASE).changed
    story.roll_back()
    assert not story.command(Command.ROLLBACK).changed


def test_a_commands_reason_names_who_and_why() -> None:
    story = Story()
    assert story.command(Command.HOLD).detail == "ann: because"
    assert story.command(Command.RELEASE, why="").detail == "ann"


def flapping(settings: PolicySettings, switches: int) -> Story:
    """A model that was rolled back and promoted in turn, `switches` times in all."""
    story = Story(settings=settings)
    for i in range(switches):
        story.later(60)
        story.roll_back() if i % 2 == 0 else story.promote()
    return story


TWO = PolicySettings(action=Allowed.ROLLBACK, max_switches_per_day=2)


def test_a_spent_budget_locks_until_a_person_releases_it() -> None:
    story = flapping(TWO, 2)
    story.later(60).probe(bad=True)
    decision = story.diagnosed(Conclusion.ENGINE_FAULT)
    assert (decision.trigger, story.state.state, decision.action) == (T.OVER_BUDGET, S.LOCKED, A.NONE)
    story.later(60).probe(bad=True)
    assert story.diagnosed(Conclusion.ENGINE_FAULT).action is A.NONE
    story.command(Command.RELEASE)
    assert (story.state.state, story.state.switches) == (S.SERVING_FAST, ())
    assert story.roll_back().state.state is S.SERVING_SAFE, "a release that moved nothing would be none"


def test_a_release_of_what_is_neither_held_nor_locked_changes_nothing() -> None:
    story = flapping(TWO, 2)
    assert not story.command(Command.RELEASE).changed
    assert len(story.state.switches) == 2


def test_a_spent_budget_stops_a_rollback_command_too() -> None:
    story = flapping(TWO, 2)
    story.command(Command.ROLLBACK)
    assert story.proved().action is A.NONE
    assert story.state.state is S.LOCKED


def test_a_spent_budget_stops_a_promotion_too() -> None:
    story = flapping(PolicySettings(action=Allowed.ROLLBACK, max_switches_per_day=1), 1)
    story.command(Command.PROMOTE)
    decision = story.proved(Role.FAST)
    assert (decision.trigger, decision.action, story.state.state) == (T.OVER_BUDGET, A.NONE, S.LOCKED)
    assert not story.command(Command.PROMOTE).changed, "locked is locked"


def test_the_way_back_from_a_failed_promotion_is_never_refused() -> None:
    story = flapping(TWO, 1)
    story.promote(proven=False)
    assert story.decisions[-1].action is A.REASSERT
    assert len(story.state.switches) == 3


def test_a_day_later_the_budget_is_whole_again() -> None:
    story = flapping(TWO, 2)
    story.later(DAY_S).roll_back()
    assert story.state.state is S.SERVING_SAFE
    assert len(story.state.switches) == 1


def test_a_lock_can_become_a_hold_and_its_release_is_one_too() -> None:
    story = flapping(TWO, 2)
    story.probe(bad=True)
    story.diagnosed(Conclusion.ENGINE_FAULT)
    story.command(Command.HOLD)
    story.command(Command.RELEASE)
    assert (story.state.state, story.state.switches) == (S.SERVING_FAST, ())


@pytest.mark.parametrize("proving", [False, True])
def test_a_restart_in_a_burst_or_a_proof_starts_again_from_what_is_desired(proving: bool) -> None:
    story = Story()
    story.command(Command.ROLLBACK) if proving else story.probe(bad=True)
    resumed = PolicyState.from_json(story.state.to_json()).resumed(EPOCH + 50)
    assert (resumed.state, resumed.since, resumed.desired) == (S.SERVING_FAST, EPOCH + 50, Role.FAST)
    assert Story(state=resumed, now=EPOCH + 50).roll_back().state.state is S.SERVING_SAFE


def test_a_restart_in_the_middle_of_a_switch_leaves_it_to_whoever_can_look() -> None:
    story = Story()
    story.probe(bad=True)
    story.diagnosed(Conclusion.ENGINE_FAULT)
    assert story.state.resumed(EPOCH + 50) == story.state
    never_begun = story.state.at_home(EPOCH + 50)
    assert (never_begun.state, never_begun.target) == (S.SERVING_FAST, None)
    again = Story(state=never_begun, now=EPOCH + 50).roll_back()
    assert len(again.state.switches) == 2, "what was begun before the restart counts"


@pytest.mark.parametrize("command", [Command.HOLD, None])
def test_a_restart_keeps_what_was_settled(command: Command | None) -> None:
    story = Story().roll_back()
    if command:
        story.command(command)
    assert story.state.resumed(EPOCH + 50) == story.state


@pytest.mark.parametrize(("state", "share"), [(S.RECOVERING, 0), (S.RETURNING, 10)])
def test_a_restart_begins_a_stage_of_the_way_back_anew(state: State, share: int) -> None:
    before = PolicyState(state=state, desired=Role.SAFE, share=share, since=EPOCH, good=7)
    assert before.resumed(EPOCH + 50) == PolicyState(state=state, desired=Role.SAFE, share=share, since=EPOCH + 50)


def test_a_proof_of_what_was_not_asked_changes_nothing() -> None:
    """No cycle does this; a table that is asked the impossible stays where it is."""
    story = Story()
    stray = Switched(
        model=MODEL,
        at=EPOCH,
        to=Role.FAST,
        applied=Applied(ok=True, detail=""),
        applied_at=EPOCH,
        proven=True,
        detail="",
    )
    assert story.tell(stray).after.state is S.SERVING_FAST


def test_trouble_is_the_same_by_reason_and_conclusion() -> None:
    trouble = Trouble(reason="parity", conclusion="engine-fault", detail="a", since=1)
    assert trouble.same_as(Trouble(reason="parity", conclusion="engine-fault", detail="b", since=2))
    assert not trouble.same_as(Trouble(reason="latency", conclusion="engine-fault", detail="a", since=1))
    assert not trouble.same_as(None)


def test_a_drift_of_the_data_is_remembered_and_moves_nothing() -> None:
    story = Story()
    decision = story.suspect()
    assert (decision.reason, decision.action) == ("drift-suspected", Action.DIAGNOSE)
    assert "logits scaled by about 0.5" in decision.detail
    story.diagnosed(Conclusion.DATA_DRIFT)
    assert (story.state.state, story.state.desired, story.state.trouble) == (State.SERVING_FAST, Role.FAST, None)
    assert story.state.drifted is not None
    assert story.state.drifted.conclusion == "data-drift"


def test_a_drift_that_the_engine_is_guilty_of_moves_traffic() -> None:
    story = Story()
    story.suspect()
    story.diagnosed(Conclusion.ENGINE_FAULT)
    assert story.decisions[-1].action is Action.SWITCH_TO_SAFE


def test_a_drift_is_looked_into_under_a_hold_and_moves_nothing() -> None:
    story = Story()
    story.command(Command.HOLD)
    assert story.suspect().action is Action.DIAGNOSE
    story.diagnosed(Conclusion.ENGINE_FAULT)
    assert (story.state.state, story.decisions[-1].action) == (State.HELD, Action.NONE)
