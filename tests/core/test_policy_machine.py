"""The policy under any events, times, settings, ends of its actions and restarts: each promise is a named check.

What the checks know they know from events alone; the policy's own memory is never their witness.
"""

import json
from dataclasses import dataclass, field, replace
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.core.builders import MODEL, a_finding, a_suspicion, assessed
from tests.core.policy_story import a_diagnosis
from tests.core.virtual_time import EPOCH
from watchdog import alerting
from watchdog.model.authority import Permission
from watchdog.model.diagnosis import Conclusion
from watchdog.model.engine import Role
from watchdog.model.event import (
    Beside,
    Command,
    Commanded,
    Diagnosed,
    Probed,
    Proved,
    RouteSeen,
    Switched,
    Ticked,
)
from watchdog.model.route import Applied, Observed, share_of_fast
from watchdog.policy.decide import Decision, Input, step
from watchdog.policy.memory import DAY_S, PolicyState
from watchdog.policy.settings import Allowed, PolicySettings, RecoverySettings, Recurrence
from watchdog.policy.states import Action, State, Trigger

MOVES = {Action.SWITCH_TO_SAFE, Action.SWITCH_TO_FAST, Action.REASSERT}
HOURS = (0.0, 10.0, 60.0, 600.0, 3600.0, DAY_S / 2, DAY_S)
SHARES_OF = {
    State.SERVING_FAST: {100},
    State.PROBATION: {100},
    State.SERVING_SAFE: {0},
    State.RECOVERING: {0},
    State.RETURNING: set(range(1, 100)),
}
"""What the fast engine may get in a state that says so."""

POLICIES = st.builds(
    lambda steps, recovery, action, **more: PolicySettings(
        steps=(*sorted(steps), 100),
        action=action,
        recovery=recovery if action is Allowed.ROLLBACK else None,
        intermittent=(Recurrence(wrong=2, within=600.0),),
        step_for=60.0,
        **more,
    ),
    steps=st.sets(st.integers(1, 99), max_size=2),
    recovery=st.sampled_from([RecoverySettings(attempts=2), RecoverySettings(attempts=1), None]),
    action=st.sampled_from([*[Allowed.ROLLBACK] * 3, Allowed.ALERT]),
    max_switches_per_day=st.integers(1, 9),
)
CONCLUSIONS = st.sampled_from([*[Conclusion.ENGINE_FAULT, Conclusion.TRANSIENT] * 3, *Conclusion])
COMMANDS = st.sampled_from([*[Command.RELEASE, Command.PROMOTE] * 2, *Command])
MOSTLY = st.sampled_from([*[True] * 5, False])


@dataclass(kw_only=True)
class Chain:
    """One event from outside, and what came of it."""

    began: Input
    at_first: State
    events: list[Input] = field(default_factory=list)


class Watched(RuleBasedStateMachine):
    """One model's policy, driven as `Cycle` drives it."""

    @initialize(policy=POLICIES, shared=st.sampled_from([False, False, True]), hours=st.integers(-2, 3), data=st.data())
    def start(self, policy: PolicySettings, shared: bool, hours: int, data: st.DataObject) -> None:
        """Afresh, or so many hours after a rollback; on the way back by itself, or (-1) by command."""
        self.policy = policy
        self.shared = shared
        self.leads = True
        self.now = EPOCH
        self.state = self.replayed = PolicyState(since=EPOCH)
        self.held = False
        self.under_way = False
        self.by_itself = False
        """Whether the way back that goes on, if one does, is nobody's wish."""
        self.failed = 0
        self.waits_since = EPOCH
        self.right: list[float] = []
        """When the fast engine was right beside, in the stage that goes on."""
        self.stage_since = EPOCH
        self.counted: list[float] = []
        self.counts = False
        """Whether the switch under way is one of the day's."""
        if hours >= -1:
            self.all_goes_ill_and_ends_well(Conclusion.ENGINE_FAULT, data)
        if hours == -1:
            wish = Commanded(model=MODEL, at=self.now, command=Command.PROMOTE, actor="ann", why="")
            self.run(wish, data, well=Conclusion.TRANSIENT)
        self.all_goes_well(4 * max(hours, 0), 900.0, data)

    # What happens from outside.

    @rule(seconds=st.sampled_from(HOURS))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(bad=st.booleans(), role=st.sampled_from(Role), data=st.data())
    def public_probe(self, bad: bool, role: Role, data: st.DataObject) -> None:
        findings = (a_finding(),) * bad
        self.run(Probed(model=MODEL, at=self.now, assessment=assessed(*findings, expected=role)), data)

    @rule(rounds=st.integers(1, 12), seconds=st.sampled_from([10.0, 60.0, 600.0, 3600.0]), data=st.data())
    def all_goes_well(self, rounds: int, seconds: float, data: st.DataObject) -> None:
        for _ in range(rounds):
            self.now += seconds
            self.run(Probed(model=MODEL, at=self.now, assessment=assessed()), data, well=Conclusion.TRANSIENT)
            self.tick(data, well=Conclusion.TRANSIENT)

    @rule(conclusion=st.sampled_from([Conclusion.ENGINE_FAULT, Conclusion.ROUTE_MOVED]), data=st.data())
    def all_goes_ill_and_ends_well(self, conclusion: Conclusion, data: st.DataObject) -> None:
        self.run(Probed(model=MODEL, at=self.now, assessment=assessed(a_finding())), data, well=conclusion)

    @rule(data=st.data())
    def time_is_told(self, data: st.DataObject) -> None:
        self.tick(data)

    @rule(role=st.sampled_from([None, *Role]), percent=st.integers(1, 100), known=MOSTLY, data=st.data())
    def router_is_asked(self, role: Role | None, percent: int, known: bool, data: st.DataObject) -> None:
        observed = Observed(role=role, percent=percent, known=known, detail="seen")
        self.run(RouteSeen(model=MODEL, at=self.now, observed=observed), data)

    @rule(data=st.data())
    def detector_alarms(self, data: st.DataObject) -> None:
        self.run(a_suspicion(at=self.now), data)

    @rule(command=COMMANDS, data=st.data())
    def somebody_commands(self, command: Command, data: st.DataObject) -> None:
        if not self.leads and command in (Command.ROLLBACK, Command.PROMOTE):
            return  # the cycle refuses it
        self.run(Commanded(model=MODEL, at=self.now, command=command, actor="ann", why=""), data)

    @precondition(lambda self: self.shared)
    @rule()
    def lead_changes(self) -> None:
        self.leads = not self.leads

    @rule(policy=POLICIES)
    def configuration_changes(self, policy: PolicySettings) -> None:
        self.policy = policy

    @rule()
    def restarts(self) -> None:
        self.state = self.replayed = self.replayed.resumed(self.now)
        self.stage_begins_anew()

    # What a cycle does about it.

    def tick(self, data: st.DataObject, *, well: Conclusion | None = None) -> None:
        if self.leads and self.state.state in SHARES_OF:
            self.run(Ticked(model=MODEL, at=self.now), data, well=well)

    def run(self, began: Input, data: st.DataObject, *, well: Conclusion | None = None) -> None:
        chain = Chain(began=began, at_first=self.state.state)
        event: Input | None = began
        while event is not None:
            before = self.state
            decision = step(before, event, self.policy)
            self.state = decision.after
            chain.events.append(event)
            self.check(chain, before, event, decision)
            if decision.after != before or decision.changed:
                self.replayed = PolicyState.from_json(json.loads(json.dumps(decision.after.to_json())))
            if decision.action is not Action.NONE and not well and data.draw(st.integers(0, 24)) == 0:
                event = self.killed(data)
            else:
                event = self.end_of(decision.action, data, well=well)

    def killed(self, data: st.DataObject) -> Input | None:
        """The watchdog starts again; what `Switcher.settle` finds is the world's affair."""
        self.restarts()
        if self.state.target is None:
            return None
        if data.draw(st.booleans(), label="the router was asked"):
            return self.switched(data, well=None)
        self.state = self.replayed = self.state.at_home(self.now)
        self.under_way = False
        return None

    def end_of(self, action: Action, data: st.DataObject, *, well: Conclusion | None) -> Input | None:
        match action:
            case Action.DIAGNOSE:
                return self.diagnosed(data, well=well)
            case Action.PROVE_SAFE | Action.PROVE_FAST:
                role = Role.FAST if action is Action.PROVE_FAST else Role.SAFE
                findings = () if well or data.draw(MOSTLY) else (a_finding(),)
                first = assessed(*findings, expected=role) if findings else None
                return Proved(model=MODEL, at=self.now, role=role, ok=not findings, detail="", assessment=first)
            case Action.PROBE_FAST:
                findings = () if well or data.draw(MOSTLY) else (a_finding(),)
                return Beside(model=MODEL, at=self.now, assessment=assessed(*findings, public=False))
            case Action.SWITCH_TO_SAFE | Action.SWITCH_TO_FAST | Action.REASSERT:
                return self.switched(data, well=well)
            case _:
                return None

    def diagnosed(self, data: st.DataObject, *, well: Conclusion | None) -> Diagnosed:
        conclusion = well or data.draw(CONCLUSIONS)
        diagnosed = Diagnosed(
            model=MODEL,
            at=self.now,
            diagnosis=a_diagnosis(conclusion, self.state.on_trial, other_bad=data.draw(st.integers(0, 1))),
            began_wrong=not well and data.draw(st.booleans()),
        )
        if not self.shared:
            return diagnosed
        permission = Permission(ok=self.leads and data.draw(MOSTLY), leads=self.leads, detail="")
        observed = Observed(role=data.draw(st.sampled_from(Role)), percent=data.draw(st.integers(1, 100)), detail="")
        return replace(diagnosed, permission=permission, observed=None if self.leads else observed)

    def switched(self, data: st.DataObject, *, well: Conclusion | None) -> Switched:
        assert self.state.target is not None
        ok = well is not None or data.draw(MOSTLY)
        return Switched(
            model=MODEL,
            at=self.now,
            to=self.state.target,
            percent=self.state.target_percent,
            applied=Applied(ok=ok, detail=""),
            applied_at=self.now,
            proven=ok and (well is not None or data.draw(MOSTLY)),
            detail="",
        )

    # The promises.

    def check(self, chain: Chain, before: PolicyState, event: Input, decision: Decision) -> None:
        if isinstance(event, Switched):
            self.a_switch_ends(event)
        self.share_changes_only_with_a_proof_or_a_leader(before, event, decision.after)
        self.follow(before, event, decision)
        if decision.trigger is Trigger.RECOVERY_DUE:
            self.recovery_has_waited()
        if decision.action in MOVES:
            self.a_move_is_proven(event, decision)
            self.nobody_moves_what_is_held_locked_or_dark(chain, before)
            self.alert_only_moves_for_a_person(chain, decision)
            self.the_budget_lasts(before, event, decision)
            self.one_switch_at_a_time()
        if decision.action is Action.SWITCH_TO_FAST:
            self.the_way_back_was_earned_or_wished(chain)
        self.what_is_under_way_has_an_action(decision)

    def a_switch_ends(self, event: Switched) -> None:
        assert self.under_way, "an end without a beginning"
        self.under_way = False
        if self.counts and not event.applied.ok:
            self.counted.pop()

    @staticmethod
    def share_changes_only_with_a_proof_or_a_leader(before: PolicyState, event: Input, after: PolicyState) -> None:
        if (after.share, after.desired) == (before.share, before.desired):
            return
        if isinstance(event, Switched):
            assert event.proven
            assert after.share == event.fast_percent
        else:
            assert isinstance(event, Diagnosed)
            assert event.permission is not None
            assert not event.permission.leads
            assert event.observed is not None
            assert after.share == event.observed.fast_percent

    @staticmethod
    def a_move_is_proven(event: Input, decision: Decision) -> None:
        match decision.action, event:
            case Action.SWITCH_TO_SAFE, Diagnosed():
                assert event.diagnosis.serving is Role.FAST
                intermittent = event.diagnosis.conclusion is Conclusion.TRANSIENT and event.began_wrong
                sound = intermittent and not event.diagnosis.other_bad
                assert sound or event.diagnosis.conclusion in (Conclusion.ENGINE_FAULT, Conclusion.INTERMITTENT)
            case Action.SWITCH_TO_SAFE | Action.SWITCH_TO_FAST, Proved():
                assert event.ok
                assert event.role is (Role.SAFE if decision.action is Action.SWITCH_TO_SAFE else Role.FAST)
            case Action.REASSERT, Diagnosed():
                assert event.diagnosis.conclusion is Conclusion.ROUTE_MOVED
            case Action.REASSERT, Switched(to=Role.FAST):
                assert not event.proven
                assert (decision.after.target, decision.after.target_percent) == (Role.SAFE, 100)
            case _:
                raise AssertionError(f"{decision.action} on account of {event}")

    def nobody_moves_what_is_held_locked_or_dark(self, chain: Chain, before: PolicyState) -> None:
        still = {State.HELD, State.LOCKED}
        assert not self.held
        assert chain.at_first not in still
        assert before.state not in still | {State.BLIND}

    def alert_only_moves_for_a_person(self, chain: Chain, decision: Decision) -> None:
        if self.policy.action is Allowed.ALERT and not isinstance(chain.began, Commanded):
            divided = 0 < self.state.share < 100  # by a person's wish, which is led on or back
            led = divided and decision.trigger in (Trigger.FAST_PROVEN, Trigger.ENGINE_FAULT)
            assert led or decision.trigger is Trigger.PROMOTION_FAILED

    def the_budget_lasts(self, before: PolicyState, event: Input, decision: Decision) -> None:
        divided = 0 < before.share < 100
        self.counts = not divided or decision.trigger is Trigger.ROUTE_MOVED
        if self.counts and decision.trigger is not Trigger.PROMOTION_FAILED:
            lately = [at for at in self.counted if event.at - DAY_S < at]
            assert len(lately) < self.policy.max_switches_per_day
        self.counted += [event.at] * self.counts

    def one_switch_at_a_time(self) -> None:
        assert not self.under_way
        self.under_way = True

    def the_way_back_was_earned_or_wished(self, chain: Chain) -> None:
        if isinstance(chain.began, Commanded):
            assert chain.began.command is Command.PROMOTE
            return
        lasts = self.policy.step_for
        if self.state.share == 0:
            assert self.by_itself
            assert self.policy.recovery is not None
            lasts = self.policy.recovery.prove_for
        assert len(self.right) >= 3
        assert self.now - self.stage_since >= lasts

    def recovery_has_waited(self) -> None:
        recovery = self.policy.recovery
        assert recovery is not None
        assert self.policy.action is Allowed.ROLLBACK
        assert self.failed < recovery.attempts
        assert self.now - self.waits_since >= recovery.after * 2**self.failed

    @staticmethod
    def what_is_under_way_has_an_action(decision: Decision) -> None:
        assert alerting.is_settled(decision.after) or decision.action is not Action.NONE
        assert (decision.after.target is None) == (decision.after.state is not State.SWITCHING)

    # What the checks remember.

    def follow(self, before: PolicyState, event: Input, decision: Decision) -> None:
        after = decision.after
        match event:
            case Commanded(command=Command.HOLD):
                self.held = True
            case Commanded(command=Command.RELEASE) if before.state in (State.HELD, State.LOCKED):
                self.held = False
                self.counted.clear()
            case Commanded(command=Command.ROLLBACK | Command.PROMOTE) if decision.action is not Action.NONE:
                self.by_itself = False
            case Diagnosed() if after.share != before.share:
                self.led_by_another()
            case Beside() if decision.trigger is not Trigger.FAST_WRONG:
                self.right.append(event.at)
            case Beside() | Proved(ok=False) if before.share == 0:
                self.a_return_failed()
            case Switched(to=Role.FAST, proven=False) if before.share == 0:
                self.a_return_failed()
            case Switched(proven=True) if after.share != before.share:
                self.a_move_is_done(after.share)
            case Ticked() if decision.trigger is Trigger.RECOVERY_DUE:
                self.by_itself = True
            case Ticked() if before.state is State.PROBATION and decision.trigger is Trigger.STAGE_DONE:
                self.by_itself, self.failed = False, 0
            case _:
                pass
        if after.state is not before.state:
            self.stage_begins_anew()

    def led_by_another(self) -> None:
        self.by_itself, self.failed, self.waits_since = False, 0, self.now

    def a_return_failed(self) -> None:
        if self.by_itself:
            self.by_itself, self.failed, self.waits_since = False, self.failed + 1, self.now

    def a_move_is_done(self, share: int) -> None:
        self.waits_since = self.now
        if share == 0:
            self.a_return_failed()
        elif share == 100 and not self.by_itself:
            self.failed = 0

    def stage_begins_anew(self) -> None:
        if self.state.state not in (State.PROVING, State.SWITCHING):  # which end a stage, and are judged by it
            self.right, self.stage_since = [], self.now

    # What holds whenever nothing happens.

    @invariant()
    def at_rest_nothing_is_under_way(self) -> None:
        assert alerting.is_settled(self.state)
        assert not self.under_way
        assert self.state.target is None

    @invariant()
    def a_hold_is_a_hold_until_its_release(self) -> None:
        assert (self.state.state is State.HELD) == self.held

    @invariant()
    def a_state_says_who_serves(self) -> None:
        assert self.state.share in SHARES_OF.get(self.state.state, set(range(101)))
        assert self.state.desired is (Role.FAST if self.state.share == 100 else Role.SAFE)
        assert share_of_fast(*self.state.route) == self.state.share

    @invariant()
    def what_is_wrong_has_a_name(self) -> None:
        if self.state.state in (State.DEGRADED, State.BLIND):
            assert self.state.trouble is not None
        if self.state.cause is not None:
            assert self.state.desired is Role.SAFE

    @invariant()
    def the_journal_tells_the_state(self) -> None:
        assert self.replayed == self.state

    @invariant()
    def nothing_is_told_twice(self) -> None:
        keys = [condition.key for condition in alerting.conditions(MODEL, self.state, self.now)]
        assert len(set(keys)) == len(keys)


def test_the_way_back_from_a_divided_route_is_never_refused() -> None:
    """Whatever has been spent; a person's rollback, an engine's fault and the next step alike."""
    spent = PolicySettings(action=Allowed.ROLLBACK, max_switches_per_day=1, steps=(10, 100))
    divided = PolicyState(share=10, desired=Role.SAFE, switches=(EPOCH, EPOCH))
    fault = Diagnosed(model=MODEL, at=EPOCH, diagnosis=a_diagnosis(Conclusion.ENGINE_FAULT))
    events: list[tuple[State, Any, Action]] = [
        (State.CONFIRMING, fault, Action.SWITCH_TO_SAFE),
        (State.PROVING, Proved(model=MODEL, at=EPOCH, role=Role.SAFE, ok=True, detail=""), Action.SWITCH_TO_SAFE),
        (State.PROVING, Proved(model=MODEL, at=EPOCH, role=Role.FAST, ok=True, detail=""), Action.SWITCH_TO_FAST),
    ]
    for state, event, action in events:
        decision = step(replace(divided, state=state), event, spent)
        assert decision.action is action
        assert decision.after.switches == divided.switches


TestWatched = Watched.TestCase
TestWatched.settings = settings(max_examples=250, stateful_step_count=40, deadline=None)
