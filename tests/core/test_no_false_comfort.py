"""Nothing looks better than it is, and nothing that was decided is lost: readiness, gate, alerts, budget, journal."""

import asyncio
from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.core.builders import (
    ENGINES,
    MODEL,
    PUBLIC,
    DividingRouter,
    FakeAuthority,
    FakeJournal,
    FakeRouter,
    Watch,
    World,
    a_canary,
    a_judge,
    a_watch,
)
from tests.core.policy_story import Story
from tests.core.virtual_time import EPOCH, in_virtual_time, now
from watchdog import alerting
from watchdog.api.hooks_flagger import Hook, judge
from watchdog.model.engine import Role
from watchdog.model.event import Command, CycleFailed, Switched
from watchdog.model.gate import Gate, Passage
from watchdog.model.journal import Entry, EntryKind
from watchdog.model.probe import InferRequest
from watchdog.model.route import Applied, Observed
from watchdog.policy.decide import Decision
from watchdog.policy.gate import gate
from watchdog.policy.memory import PolicyState, Trouble
from watchdog.policy.settings import Allowed, PolicySettings, RecoverySettings
from watchdog.policy.states import State, Trigger
from watchdog.switching import recall

PATIENCE_S = 22.0
CAUSE = Trouble(reason="all-zero", conclusion="engine-fault", detail="it was wrong", since=EPOCH)
ROLLED_BACK = PolicyState(
    state=State.SERVING_SAFE, desired=Role.SAFE, share=0, cause=CAUSE, since=EPOCH, waits_since=EPOCH
)
AT_TEN = replace(ROLLED_BACK, state=State.RETURNING, share=10)


def alerts(watch: Watch) -> list[str]:
    return [condition.name for condition in alerting.conditions(MODEL, watch.cycle.state, now())]


def the_gate(watch: Watch) -> Gate:
    return gate(MODEL, watch.cycle.state, healthy_at=watch.cycle.healthy_at, now=now(), patience_s=PATIENCE_S)


async def ticks(watch: Watch, count: int) -> None:
    for _ in range(count):
        await watch.cycle.tick()
        await asyncio.sleep(10)


def fast_is(watch: Watch, behaviour: str, where: Callable[[InferRequest], bool]) -> None:
    """The fast engine does so there, and is right elsewhere."""

    def on_infer(request: InferRequest) -> None:
        watch.world.fast = behaviour if where(request) else "right"

    watch.world.on_infer = on_infer


def public(request: InferRequest) -> bool:
    return request.address == PUBLIC


def shows(probability: float) -> Callable[[InferRequest], bool]:
    return lambda request: abs(float(request.inputs["x"].mean()) - probability) < 0.02


async def restarted(watch: Watch) -> Watch:
    return a_watch(watch.world, journal=watch.journal, state=await recall(watch.journal, MODEL, now()))


async def wrong_now_and_then(watch: Watch) -> None:
    """Often enough to be held against it, and right again since."""
    for _ in range(3):
        fast_is(watch, "zeros", public)
        await ticks(watch, 1)
        fast_is(watch, "right", public)
        await ticks(watch, 1)


# -- a fault that only some canaries show ----------------------------------------------------


@in_virtual_time
async def test_a_fault_that_one_canary_of_many_shows_is_not_over_because_others_are_answered_rightly() -> None:
    canaries = tuple(a_canary(f"c{i}", 0.05 + 0.06 * i, tolerance=1e-3) for i in range(16))
    watch = a_watch(action=Allowed.ALERT, canaries=canaries)
    watch.prober.judge = a_judge(canaries)
    fast_is(watch, "zeros", shows(0.95))
    while not alerts(watch):
        await ticks(watch, 1)
    for _ in range(32):
        await ticks(watch, 1)
        assert (alerts(watch), the_gate(watch).passage) == (["WatchdogEngineFault"], Passage.FAIL)
    fast_is(watch, "right", public)
    await ticks(watch, 1)
    assert (alerts(watch), the_gate(watch).passage) == ([], Passage.PASS)


@in_virtual_time
async def test_a_restart_forgets_no_fault_that_one_canary_of_many_shows() -> None:
    canaries = tuple(a_canary(f"c{i}", 0.05 + 0.06 * i, tolerance=1e-3) for i in range(16))
    fault = PolicyState(state=State.DEGRADED, since=EPOCH, trouble=CAUSE)
    watch = a_watch(action=Allowed.ALERT, canaries=canaries, state=fault)
    watch.prober.judge = a_judge(canaries)
    fast_is(watch, "zeros", shows(0.95))
    for _ in range(12):
        await ticks(watch, 1)
        assert (alerts(watch), the_gate(watch).passage) == (["WatchdogEngineFault"], Passage.FAIL)


@in_virtual_time
async def test_a_switch_that_did_nothing_is_not_proven_by_canaries_that_any_engine_answers_rightly() -> None:
    """Where answers don't name their engine, and the router says yes to everything."""
    watch = a_watch(World(names_versions=False))
    watch.router.pretends = True
    watch.router.says = Observed(role=None, detail="it never tells", known=False)
    fast_is(watch, "zeros", shows(0.8))
    await ticks(watch, 10)
    assert watch.of(Switched)
    assert not any(switched.proven for switched in watch.of(Switched))


@in_virtual_time
async def test_a_slow_answer_of_the_other_engine_does_not_end_a_fault_on_a_divided_route() -> None:
    world = World(serving=Role.FAST, percent=10, fast="zeros")  # which the router refuses to lead back
    watch = a_watch(world, state=AT_TEN, router=DividingRouter, policy={"steps": (10, 100)})
    watch.router.refuses = True
    await ticks(watch, 2)
    assert watch.state() is State.DEGRADED

    def on_infer(request: InferRequest) -> None:
        world.safe = "slow" if public(request) else "right"

    world.on_infer = on_infer
    await ticks(watch, 12)
    assert Trigger.PROBE_BAD in {decision.trigger for decision in watch.of(Decision)}
    assert Trigger.TRANSIENT not in {decision.trigger for decision in watch.of(Decision)}


@in_virtual_time
async def test_a_public_name_that_does_not_answer_is_told_though_the_engines_do() -> None:
    watch = a_watch()
    fast_is(watch, "refuse", public)
    await ticks(watch, 3)
    assert (watch.state(), alerts(watch)) == (State.DEGRADED, ["WatchdogServerDown"])
    assert the_gate(watch).passage is Passage.INCONCLUSIVE
    assert not watch.of(Switched)
    fast_is(watch, "right", public)
    await ticks(watch, 1)
    assert (watch.state(), alerts(watch)) == (State.SERVING_FAST, [])


@in_virtual_time
async def test_a_person_may_lead_a_public_name_around_an_engine_that_it_does_not_reach() -> None:
    watch = a_watch()
    fast_is(watch, "refuse", public)
    await ticks(watch, 1)
    await watch.cycle.command(Command.ROLLBACK, "ann", "the way to the fast engine is broken")
    assert (watch.state(), watch.world.serving, alerts(watch)) == (State.SERVING_SAFE, Role.SAFE, [])


@in_virtual_time
async def test_a_public_name_that_answers_again_at_once_is_no_trouble() -> None:
    watch = a_watch()
    asked = 0

    def first_of_all(request: InferRequest) -> bool:
        nonlocal asked
        asked += public(request)
        return public(request) and asked == 1

    fast_is(watch, "refuse", first_of_all)
    await ticks(watch, 1)
    assert (watch.state(), alerts(watch)) == (State.SERVING_FAST, [])


# -- readiness -------------------------------------------------------------------------------


@in_virtual_time
async def test_not_ready_while_an_engine_that_is_known_to_be_wrong_serves() -> None:
    watch = a_watch(action=Allowed.ALERT)
    fast_is(watch, "zeros", shows(0.95))
    while not alerts(watch):
        await ticks(watch, 1)
    for _ in range(10):
        await ticks(watch, 1)
        assert not watch.cycle.shown


@in_virtual_time
async def test_ready_while_answers_are_right_but_slow() -> None:
    watch = a_watch(World(fast="slow", safe="slow"))
    await ticks(watch, 3)
    assert watch.state() is State.DEGRADED
    assert watch.cycle.shown


@in_virtual_time
async def test_not_ready_while_the_router_has_the_route_moved_and_answers_name_nobody() -> None:
    watch = a_watch(World(names_versions=False), action=Allowed.ALERT)
    await ticks(watch, 1)
    watch.world.serving = Role.SAFE
    await watch.cycle.look_at_route()
    await ticks(watch, 1)
    assert not watch.cycle.shown


@in_virtual_time
async def test_not_ready_once_probing_fails() -> None:
    watch = a_watch()
    await ticks(watch, 1)
    assert watch.cycle.shown
    watch.world.fast = "raise"
    await ticks(watch, 1)
    assert watch.of(CycleFailed)
    assert not watch.cycle.shown


@in_virtual_time
async def test_neither_ready_nor_passed_while_it_is_not_known_who_should_serve() -> None:
    """The server has forgotten the route, and the journal, which knows better, can't be read."""
    watch = a_watch(World(serving=Role.FAST), informed=False)
    watch.journal.unreadable = True
    await ticks(watch, 1)
    assert (watch.cycle.shown, the_gate(watch).passage) == (False, Passage.INCONCLUSIVE)
    watch.journal.unreadable = False
    await ticks(watch, 1)
    assert (watch.cycle.shown, the_gate(watch).passage) == (True, Passage.PASS)


@in_virtual_time
async def test_a_new_configuration_with_another_engine_is_not_vouched_for_by_the_old_one() -> None:
    old = a_watch()
    await ticks(old, 1)
    new = a_watch(old.world, journal=old.journal)
    other = replace(ENGINES[Role.FAST], address=replace(ENGINES[Role.FAST].address, version="3"))
    new.prober.target = replace(new.prober.target, engines={**ENGINES, Role.FAST: other})
    await old.cycle.close()
    new.cycle.take_over(old.cycle)
    assert (new.cycle.shown, the_gate(new).passage) == (False, Passage.INCONCLUSIVE)


# -- the gate --------------------------------------------------------------------------------


@in_virtual_time
async def test_no_pass_while_an_intermittent_fault_is_told() -> None:
    watch = a_watch(action=Allowed.ALERT)
    await wrong_now_and_then(watch)
    assert (alerts(watch), the_gate(watch).passage) == (["WatchdogEngineFault"], Passage.FAIL)
    for _ in range(int(alerting.INTERMITTENT_FOR_S / 10)):
        await ticks(watch, 1)
    assert (alerts(watch), the_gate(watch).passage) == ([], Passage.PASS)


@in_virtual_time
async def test_an_intermittent_fault_under_a_hold_goes_on_being_told_after_a_right_answer() -> None:
    watch = a_watch()
    await watch.cycle.command(Command.HOLD, "ann", "")
    await wrong_now_and_then(watch)
    await ticks(watch, 1)
    assert (watch.state(), alerts(watch)) == (State.HELD, ["WatchdogEngineFault"])


@in_virtual_time
async def test_a_moved_route_is_no_fault_of_the_engine_that_is_rolled_out() -> None:
    watch = a_watch(action=Allowed.ALERT)
    await ticks(watch, 1)
    watch.world.serving = Role.SAFE
    await watch.cycle.look_at_route()
    assert alerts(watch) == ["WatchdogRouteMoved"]
    assert the_gate(watch).passage is Passage.INCONCLUSIVE
    assert not judge(Hook.ROLLBACK, the_gate(watch)).yes


@pytest.mark.parametrize(("fault", "passage"), [(None, Passage.INCONCLUSIVE), (CAUSE, Passage.FAIL)])
def test_a_lock_alone_is_no_fault_of_the_engine_and_hides_none(fault: Trouble | None, passage: Passage) -> None:
    state = PolicyState(state=State.LOCKED, since=EPOCH, trouble=fault)
    found = gate(MODEL, state, healthy_at=EPOCH, now=EPOCH, patience_s=PATIENCE_S)
    assert found.passage is passage
    assert judge(Hook.ROLLBACK, found).yes is (fault is not None)
    assert not judge(Hook.CONFIRM_ROLLOUT, found).yes


# -- clocks that are set back ----------------------------------------------------------------


def test_a_clock_that_is_set_back_gives_no_switches_back() -> None:
    story = Story(settings=PolicySettings(action=Allowed.ROLLBACK, max_switches_per_day=2))
    story.command(Command.ROLLBACK)
    story.proved()
    story.switched()
    story.promote()
    story.later(-600).command(Command.ROLLBACK)
    assert story.proved().after.state is State.LOCKED


def test_switches_of_a_clock_that_was_ahead_are_forgotten_a_day_after_the_next_one() -> None:
    story = Story(state=PolicyState(since=EPOCH, switches=(EPOCH + 1e9,)))
    story.command(Command.ROLLBACK)
    story.proved()
    story.switched()
    assert story.state.switches == (EPOCH, EPOCH)


def test_what_is_told_for_a_while_ends_though_the_clock_was_set_back() -> None:
    ahead = replace(CAUSE, since=EPOCH + 1e9)
    state = PolicyState(since=EPOCH, reasserted=ahead, drifted=ahead, slowed=ahead, intermittent=ahead)
    assert alerting.conditions(MODEL, state, EPOCH) == ()


def test_an_answer_of_the_future_opens_no_gate() -> None:
    found = gate(MODEL, PolicyState(since=EPOCH), healthy_at=EPOCH + 1e5, now=EPOCH, patience_s=PATIENCE_S)
    assert found.passage is Passage.INCONCLUSIVE


# -- the budget ------------------------------------------------------------------------------


@in_virtual_time
async def test_returns_that_nobody_asked_for_leave_the_switch_that_undoes_them() -> None:
    """Right whenever it is asked beside, and wrong an hour after each return: with every setting at its default."""
    recovery = RecoverySettings(probation=7200.0)
    watch = a_watch(World(fast="zeros"), policy={"recovery": recovery})
    served_since, wrong_s, ended_at = None, 0.0, EPOCH + 86400
    while now() < ended_at:
        serves = watch.world.serving is Role.FAST
        served_since = (served_since or now()) if serves and watch.state() is State.PROBATION else None
        if now() > EPOCH:
            watch.world.fast = "zeros" if served_since and now() - served_since > 3600 else "right"
        await ticks(watch, 1)
        wrong_s += 10.0 * (watch.world.fast == "zeros" and watch.world.serving is Role.FAST)
    assert (watch.world.serving, wrong_s) == (Role.SAFE, 0.0)
    assert len(watch.of(Switched)) == 5


def test_a_return_that_lost_its_way_back_meanwhile_is_not_made() -> None:
    state = replace(ROLLED_BACK, state=State.PROVING, by_itself=True, switches=(EPOCH,))
    story = Story(settings=PolicySettings(action=Allowed.ROLLBACK, max_switches_per_day=2), state=state)
    assert story.proved(Role.FAST).after.state is State.LOCKED


def test_failed_returns_are_not_told_once_a_person_has_rolled_back() -> None:
    story = Story(state=replace(AT_TEN, failed_returns=1, by_itself=True))
    assert [c.name for c in alerting.conditions(MODEL, story.state, story.now)] == [
        "WatchdogEngineRolledBack",
        "WatchdogReturnFailed",
    ]
    story.command(Command.ROLLBACK)
    story.proved()
    story.switched()
    assert alerting.conditions(MODEL, story.state, story.now) == ()


@in_virtual_time
async def test_a_stage_in_which_another_led_begins_anew() -> None:
    authority, recovery = FakeAuthority(), RecoverySettings(after=1800.0, prove_for=600.0)
    watch = a_watch(World(serving=Role.SAFE), state=ROLLED_BACK, authority=authority, policy={"recovery": recovery})
    while watch.state() is not State.RECOVERING:
        await ticks(watch, 1)
    await ticks(watch, 3)
    authority.leads = False
    await ticks(watch, 100)
    authority.leads, leads_again_at = True, now()
    while watch.state() is State.RECOVERING:
        await ticks(watch, 1)
    assert now() - leads_again_at >= recovery.prove_for


# -- the journal -----------------------------------------------------------------------------


@in_virtual_time
async def test_a_hold_whose_decision_met_a_full_disk_is_recorded_as_soon_as_it_can_be() -> None:
    watch = a_watch()
    watch.journal.full_for = frozenset({EntryKind.DECISION})
    await watch.cycle.command(Command.HOLD, "ann", "maintenance")
    watch.journal.full_for = frozenset()
    await ticks(watch, 2)
    assert [entry.kind for entry in watch.journal.entries] == [EntryKind.COMMAND, EntryKind.DECISION]
    watch.world.fast = "zeros"
    again = await restarted(watch)
    await ticks(again, 1)
    assert (again.state(), again.router.routes) == (State.HELD, [])


@pytest.mark.parametrize("reloaded", [False, True])
@in_virtual_time
async def test_an_outcome_that_met_a_full_disk_is_recorded_before_the_next_intent(reloaded: bool) -> None:
    watch = a_watch(World(fast="zeros"))
    watch.journal.full_for = frozenset({EntryKind.OUTCOME})
    await ticks(watch, 1)
    if reloaded:
        new = a_watch(watch.world, journal=watch.journal)
        await watch.cycle.close()
        new.cycle.take_over(watch.cycle)
        watch = new
    watch.world.fast = "right"
    await watch.cycle.command(Command.PROMOTE, "ann", "")
    assert watch.router.routes in ([], [(Role.SAFE, 100)])  # not while it is owed
    watch.journal.full_for = frozenset()
    await ticks(watch, 1)
    await watch.cycle.command(Command.ROLLBACK, "ann", "")
    intents = [entry.seq for entry in watch.journal.entries if entry.kind is EntryKind.INTENT]
    outcomes = [entry.data["intent"] for entry in watch.journal.entries if entry.kind is EntryKind.OUTCOME]
    assert outcomes == intents


@in_virtual_time
async def test_a_memory_that_this_version_cannot_read_ends_neither_the_probing_nor_the_alerts() -> None:
    world = World(fast="zeros")
    journal = FakeJournal(world)
    await journal.append(Entry(at=EPOCH, kind=EntryKind.DECISION, model=MODEL, data={"after": {"state": "asleep"}}))
    watch = a_watch(world, journal=journal, informed=False)
    await ticks(watch, 1)
    assert (watch.router.routes, alerts(watch)) == ([], ["WatchdogEngineFault"])
    assert "journal entry 1 can't be resumed from" in watch.of(CycleFailed)[0].error
    with pytest.raises(OSError, match="journal entry 1 can't be resumed from"):
        await watch.cycle.command(Command.HOLD, "ann", "")
    assert len(journal.entries) == 1


class BrokenRouter(FakeRouter):
    async def apply(self, desired: Role, percent: int = 100) -> Applied:
        raise ZeroDivisionError

    async def observe(self) -> Observed:
        raise ZeroDivisionError


@in_virtual_time
async def test_a_router_whose_every_call_is_a_bug_ends_neither_the_probing_nor_the_alerts() -> None:
    watch = a_watch(World(fast="zeros"), router=BrokenRouter)
    await ticks(watch, 3)
    assert alerts(watch) == ["WatchdogSwitchFailed"]
    asked = len(watch.world.asked("infer"))
    await ticks(watch, 1)
    assert len(watch.world.asked("infer")) > asked
    intents = [entry.seq for entry in watch.journal.entries if entry.kind is EntryKind.INTENT]
    outcomes = [entry.data["intent"] for entry in watch.journal.entries if entry.kind is EntryKind.OUTCOME]
    assert outcomes == intents[: len(outcomes)]
    assert len(intents) - len(outcomes) <= 1
