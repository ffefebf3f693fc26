"""The way back to the fast engine, and a route that others move: a whole watch in virtual time."""

import asyncio
import itertools
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace

import pytest

from tests.core.builders import (
    ENGINES,
    MODEL,
    PUBLIC,
    DividingRouter,
    FakeAuthority,
    OneEngineRouter,
    Watch,
    World,
    a_suspicion,
    a_watch,
)
from tests.core.virtual_time import EPOCH, in_virtual_time, now
from watchdog import alerting
from watchdog.model.authority import NotLeadingError
from watchdog.model.diagnosis import Conclusion
from watchdog.model.engine import Role
from watchdog.model.event import Command, Diagnosed, Probed, Scored, Source, Switched
from watchdog.model.probe import InferRequest, ProbeResult
from watchdog.model.route import Observed, share_of_fast
from watchdog.policy.decide import Decision
from watchdog.policy.memory import PolicyState, Trouble
from watchdog.policy.settings import Allowed, RecoverySettings
from watchdog.policy.states import State, Trigger

STEPS = {"steps": (1, 10, 100), "step_for": 300.0}
RECOVERY = {"recovery": RecoverySettings(after=1800.0, prove_for=600.0, probation=3600.0, attempts=2)}
CAUSE = Trouble(reason="all-zero", conclusion="engine-fault", detail="it was wrong", since=EPOCH)
ROLLED_BACK = PolicyState(
    state=State.SERVING_SAFE, desired=Role.SAFE, share=0, cause=CAUSE, since=EPOCH, waits_since=EPOCH
)
AT_TEN = replace(ROLLED_BACK, state=State.RETURNING, share=10)


async def pass_ticks(watch: Watch, count: int, *, every: float = 10.0) -> None:
    for _ in range(count):
        await watch.cycle.tick()
        await asyncio.sleep(every)


async def until(watch: Watch, state: State, within_s: float) -> float:
    """Probe every ten seconds until the watch is in that state; how long that took."""
    began = now()
    while watch.state() is not state:
        assert now() - began <= within_s, f"still {watch.state()}"
        await pass_ticks(watch, 1)
    return now() - began


def shares(watch: Watch) -> list[int]:
    """Of the fast engine, one after another, as the router was asked for them."""
    return [share_of_fast(role, percent) for role, percent in watch.router.routes]


def alerts(watch: Watch) -> list[str]:
    return [condition.name for condition in alerting.conditions(MODEL, watch.cycle.state, now())]


def results(watch: Watch, *, public: bool) -> list[ProbeResult]:
    probed: Iterable[Probed] = watch.of(Probed)
    return [event.assessment.result for event in probed if event.assessment.result.public is public]


def public_is(watch: Watch, behaviour: str, *, which: Callable[[int], bool] = lambda _: True) -> None:
    """The fast engine does so where the public name asks it (of those times, some), and is right by its own."""
    count = 0

    def on_infer(request: InferRequest) -> None:
        nonlocal count
        count += request.address == PUBLIC
        watch.world.fast = behaviour if request.address == PUBLIC and which(count) else "right"

    watch.world.on_infer = on_infer


def pinned_is(watch: Watch, behaviour: str) -> None:
    """The other way about."""

    def on_infer(request: InferRequest) -> None:
        watch.world.fast = behaviour if request.address == ENGINES[Role.FAST].address else "right"

    watch.world.on_infer = on_infer


# -- steps -----------------------------------------------------------------------------------


@in_virtual_time
async def test_a_promotion_goes_by_steps_each_of_which_is_judged_and_which_count_once() -> None:
    watch = a_watch(World(serving=Role.SAFE), state=ROLLED_BACK, router=DividingRouter, policy=STEPS)
    await watch.cycle.command(Command.PROMOTE, "ann", "mended")
    assert (watch.state(), shares(watch), watch.cycle.state.desired) == (State.RETURNING, [1], Role.SAFE)
    assert alerts(watch) == ["WatchdogEngineRolledBack"], "until it is back"
    await until(watch, State.SERVING_FAST, 700)
    assert shares(watch) == [1, 10, 100]
    first, second, third = (switched.at for switched in watch.of(Switched))
    assert second - first >= 300
    assert third - second >= 300
    assert len(watch.cycle.state.switches) == 1
    assert alerts(watch) == []


@in_virtual_time
async def test_a_divided_route_is_probed_as_it_is_divided_and_the_fast_engine_beside_it() -> None:
    watch = a_watch(
        World(percent=10), state=AT_TEN, router=DividingRouter, policy=STEPS | {"step_for": 1e6}, drift=True
    )
    await pass_ticks(watch, 100)
    assert Counter(result.expected for result in results(watch, public=True)) == {Role.FAST: 10, Role.SAFE: 90}
    assert [result.expected for result in results(watch, public=False)] == [Role.FAST] * 100
    assert Counter(scored.reading for scored in watch.of(Scored)) == {"fast": 10, "safe": 90}
    assert (watch.state(), watch.of(Diagnosed)) == (State.RETURNING, [])


@in_virtual_time
async def test_a_fault_at_a_step_leads_all_back_at_once_however_much_was_spent() -> None:
    spent = replace(AT_TEN, switches=(EPOCH,))
    watch = a_watch(World(percent=10), state=spent, router=DividingRouter, policy=STEPS, per_day=1)
    await pass_ticks(watch, 3)
    watch.world.fast = "zeros"
    await watch.cycle.tick()
    assert (watch.state(), shares(watch)) == (State.SERVING_SAFE, [0])
    assert watch.cycle.state.switches == (EPOCH,)
    assert watch.cycle.state.cause is not None


@in_virtual_time
async def test_a_step_that_does_not_show_leads_all_back() -> None:
    watch = a_watch(
        World(serving=Role.FAST, percent=10), state=replace(AT_TEN, good=2), router=DividingRouter, policy=STEPS
    )
    await asyncio.sleep(300)
    public_is(watch, "zeros", which=lambda count: count > 1)
    await watch.cycle.tick()
    assert shares(watch) == [100, 0]
    assert (watch.state(), watch.world.serving) == (State.SERVING_SAFE, Role.SAFE)


@in_virtual_time
async def test_a_fault_of_the_fast_engine_is_not_over_because_the_safe_one_answers_rightly() -> None:
    """Who answers the public name on a divided route says nothing of the engine on trial."""
    watch = a_watch(
        World(percent=10, fast="zeros"), state=AT_TEN, router=DividingRouter, authority=FakeAuthority(agreed=False)
    )
    await watch.cycle.tick()
    assert watch.state() is State.DEGRADED
    await pass_ticks(watch, 8)
    assert {diagnosed.diagnosis.conclusion for diagnosed in watch.of(Diagnosed)} == {Conclusion.ENGINE_FAULT}
    assert alerts(watch) == ["WatchdogEngineRolledBack", "WatchdogEngineFault"]


@in_virtual_time
async def test_patients_answers_are_compared_as_long_as_any_come_from_the_fast_engine() -> None:
    watch = a_watch(World(percent=10), state=AT_TEN, router=DividingRouter, drift=True)
    await watch.cycle.suspect(a_suspicion(Source.SHADOW, at=now()))
    assert (watch.state(), shares(watch)) == (State.SERVING_SAFE, [0])


@in_virtual_time
async def test_a_router_that_refuses_to_restore_a_division_spends_nothing() -> None:
    watch = a_watch(World(serving=Role.SAFE), state=AT_TEN, router=DividingRouter, policy=STEPS, per_day=1)
    watch.router.refuses = True
    for _ in range(3):
        await watch.cycle.look_at_route()
    assert (watch.state(), watch.cycle.state.switches) == (State.DEGRADED, ())
    watch.router.refuses = False
    await watch.cycle.look_at_route()
    assert (watch.state(), watch.world.serving, watch.world.percent) == (State.RETURNING, Role.FAST, 10)
    assert len(watch.cycle.state.switches) == 1, "and this counts, as somebody moves the route"


# -- recovery --------------------------------------------------------------------------------


@in_virtual_time
async def test_a_rollback_is_recovered_from_by_itself() -> None:
    watch = a_watch(World(fast="zeros"), policy=RECOVERY)
    await watch.cycle.tick()
    watch.world.fast = "right"
    assert watch.state() is State.SERVING_SAFE
    assert 1790 <= await until(watch, State.RECOVERING, 1900) <= 1820
    assert results(watch, public=False)[-1].expected is Role.FAST, "it is asked beside the safe one"
    assert 590 <= await until(watch, State.PROBATION, 700) <= 630
    assert (watch.world.serving, watch.cycle.state.cause) == (Role.FAST, None)
    assert 3590 <= await until(watch, State.SERVING_FAST, 3700) <= 3620
    assert shares(watch) == [0, 100]
    assert alerts(watch) == []


@in_virtual_time
async def test_a_recovery_goes_by_steps_too() -> None:
    watch = a_watch(World(serving=Role.SAFE), state=ROLLED_BACK, router=DividingRouter, policy=RECOVERY | STEPS)
    await until(watch, State.PROBATION, 3600)
    assert shares(watch) == [1, 10, 100]


def dues(watch: Watch) -> list[float]:
    """When recoveries began."""
    return [decision.at - EPOCH for decision in watch.of(Decision) if decision.trigger is Trigger.RECOVERY_DUE]


@in_virtual_time
async def test_each_return_that_failed_doubles_the_wait_and_after_some_a_person_must() -> None:
    watch = a_watch(World(serving=Role.SAFE, fast="zeros"), state=ROLLED_BACK, policy=RECOVERY)
    await pass_ticks(watch, 600, every=60)
    assert dues(watch) == [pytest.approx(1800, abs=70), pytest.approx(1800 + 3600, abs=140)]
    assert (shares(watch), watch.state()) == ([], State.SERVING_SAFE)
    assert alerts(watch) == ["WatchdogEngineRolledBack", "WatchdogReturnFailed"]


@in_virtual_time
async def test_a_fault_in_the_probation_is_a_return_that_failed() -> None:
    watch = a_watch(World(serving=Role.SAFE), state=ROLLED_BACK, policy=RECOVERY)
    await until(watch, State.PROBATION, 2500)
    watch.world.fast = "zeros"
    await watch.cycle.tick()
    failed_at = now() - EPOCH
    assert (watch.state(), shares(watch)) == (State.SERVING_SAFE, [100, 0])
    watch.world.fast = "right"
    await until(watch, State.PROBATION, 4400)
    assert dues(watch)[1] == pytest.approx(failed_at + 2 * 1800, abs=20)
    await until(watch, State.SERVING_FAST, 3700)
    assert watch.cycle.state.failed_returns == 0
    assert alerts(watch) == []


@in_virtual_time
async def test_a_return_whose_way_back_fails_at_first_has_failed_all_the_same() -> None:
    """Or the next one would begin at once, and again."""
    watch = a_watch(World(serving=Role.SAFE), state=ROLLED_BACK, policy=RECOVERY)
    await until(watch, State.RECOVERING, 1900)
    public_is(watch, "zeros")
    watch.world.on_apply = lambda role: setattr(watch.router, "refuses", role is Role.SAFE)
    await until(watch, State.DEGRADED, 700)
    watch.world.on_apply, watch.router.refuses = None, False
    await pass_ticks(watch, 10)
    assert (watch.state(), shares(watch), watch.cycle.state.failed_returns) == (State.SERVING_SAFE, [100, 0, 0], 1)
    assert len(dues(watch)) == 1


@in_virtual_time
async def test_a_configuration_without_a_recovery_ends_one_and_holds_it_against_nobody() -> None:
    watch = a_watch(World(serving=Role.SAFE), state=ROLLED_BACK, policy=RECOVERY)
    await until(watch, State.RECOVERING, 1900)
    again = a_watch(watch.world)
    again.cycle.take_over(watch.cycle)
    await pass_ticks(again, 200, every=60)
    assert (again.state(), shares(again)) == (State.SERVING_SAFE, [])
    assert alerts(again) == ["WatchdogEngineRolledBack"]


@pytest.mark.parametrize("command", [Command.HOLD, Command.ROLLBACK])
@in_virtual_time
async def test_a_persons_word_ends_a_recovery(command: Command) -> None:
    watch = a_watch(World(serving=Role.SAFE), state=ROLLED_BACK, policy=RECOVERY)
    await until(watch, State.PROBATION, 2500)
    await watch.cycle.command(command, "ann", "")
    at = shares(watch)
    await pass_ticks(watch, 200, every=60)
    assert (shares(watch), len(dues(watch))) == (at, 1)


# -- wrong now and then ----------------------------------------------------------------------


@in_virtual_time
async def test_an_engine_that_is_wrong_now_and_then_is_left() -> None:
    watch = a_watch()
    public_is(watch, "zeros", which=lambda count: count % 10 == 0)
    await pass_ticks(watch, 29)
    assert (watch.state(), shares(watch)) == (State.SERVING_FAST, [])
    await watch.cycle.tick()
    assert (watch.state(), shares(watch)) == (State.SERVING_SAFE, [0])
    cause = watch.cycle.state.cause
    assert cause is not None
    assert cause.conclusion == Conclusion.INTERMITTENT
    assert cause.detail.startswith("wrong 3 times within 600 s, though right when asked again; ")


@in_virtual_time
async def test_alert_only_tells_of_it_and_moves_nothing() -> None:
    watch = a_watch(action=Allowed.ALERT)
    public_is(watch, "zeros", which=lambda count: count % 10 == 0)
    await pass_ticks(watch, 30)
    assert (watch.state(), shares(watch), alerts(watch)) == (State.SERVING_FAST, [], ["WatchdogEngineFault"])
    await asyncio.sleep(alerting.INTERMITTENT_FOR_S)
    assert alerts(watch) == []


@in_virtual_time
async def test_an_engine_that_is_seldom_wrong_is_not_left() -> None:
    watch = a_watch()
    public_is(watch, "zeros", which=lambda count: count % 40 == 0)
    await pass_ticks(watch, 161)
    assert (watch.state(), len(watch.cycle.state.wrong)) == (State.SERVING_FAST, 4)


# -- a route that is looked at ---------------------------------------------------------------


@in_virtual_time
async def test_a_command_to_look_asks_both_engines_now() -> None:
    watch = a_watch()
    decisions = await watch.cycle.command(Command.LOOK, "argo", "a new engine")
    assert [str(decision.trigger) for decision in decisions] == ["look", "transient"]
    assert Counter(result.expected for result in results(watch, public=False)) == {Role.FAST: 3, Role.SAFE: 3}
    pinned_is(watch, "zeros")
    await watch.cycle.command(Command.LOOK, "argo", "")
    assert (watch.state(), shares(watch)) == (State.SERVING_SAFE, [0])


@in_virtual_time
async def test_a_moved_route_is_not_put_back_to_an_engine_that_is_wrong() -> None:
    """Somebody moved it away; what the other engine answers says nothing in favour of this one."""
    watch = a_watch(World(serving=Role.SAFE))
    asked = itertools.count()

    def on_infer(request: InferRequest) -> None:
        once = request.address == ENGINES[Role.FAST].address and next(asked) == 1
        watch.world.fast = "zeros" if once else "right"

    watch.world.on_infer = on_infer
    await watch.cycle.tick()
    assert (watch.world.serving, watch.state(), shares(watch)) == (Role.SAFE, State.SERVING_SAFE, [0])


SILENT = Observed(role=None, known=False, detail="no answer")


@in_virtual_time
async def test_what_is_shown_is_in_doubt_when_the_router_stops_telling_until_a_probe_comes_back_right() -> None:
    watch = a_watch()
    shown = {"at first": watch.cycle.shown}
    await watch.cycle.tick()
    await watch.cycle.look_at_route()
    shown["probed"] = watch.cycle.shown
    watch.router.says = SILENT
    looking = asyncio.create_task(watch.cycle.look_at_route())
    await asyncio.sleep(1)
    shown["router silent"] = watch.cycle.shown
    watch.router.says = None
    await looking
    shown["router back"] = watch.cycle.shown
    await watch.cycle.tick()
    shown["probed again"] = watch.cycle.shown
    assert shown == {
        "at first": False,
        "probed": True,
        "router silent": False,
        "router back": False,
        "probed again": True,
    }


@in_virtual_time
async def test_a_wrong_answer_or_a_moved_route_is_not_shown() -> None:
    watch = a_watch(World(fast="zeros"), action=Allowed.ALERT)
    await watch.cycle.tick()
    assert not watch.cycle.shown
    moved = a_watch(action=Allowed.ALERT)
    await moved.cycle.tick()
    moved.world.serving = Role.SAFE
    await moved.cycle.look_at_route()
    assert not moved.cycle.shown


@in_virtual_time
async def test_a_router_that_stopped_telling_is_asked_without_a_pause_and_the_route_put_back_at_once() -> None:
    watch = a_watch(router=OneEngineRouter)
    await watch.cycle.look_at_route()
    watch.router.says = SILENT
    looking = asyncio.create_task(watch.cycle.look_at_route())
    await asyncio.sleep(20)
    assert 300 <= len(watch.world.asked("observe")) <= 500
    watch.world.serving, watch.router.says = Role.SAFE, None
    restarted_at = now()
    await looking
    assert (watch.world.serving, shares(watch)) == (Role.FAST, [100])
    assert now() - restarted_at < 0.2


@in_virtual_time
async def test_a_router_that_never_told_or_that_is_asked_rarely_is_not_hammered() -> None:
    watch = a_watch()
    watch.router.says = SILENT
    await watch.cycle.look_at_route()
    assert len(watch.world.asked("observe")) == 1
    watch.router.says = None
    await watch.cycle.look_at_route()
    watch.router.says = SILENT
    await watch.cycle.look_at_route()
    assert 30 <= now() - EPOCH <= 32
    assert len(watch.world.asked("observe")) < 30, "of the cadence of one that is asked twice a minute"


@in_virtual_time
async def test_readiness_does_not_outlive_a_restart_that_no_look_has_seen() -> None:
    watch = a_watch(router=OneEngineRouter, state=ROLLED_BACK, world=World(serving=Role.SAFE))
    await watch.cycle.tick()
    await watch.cycle.look_at_route()
    assert await watch.cycle.is_shown_now()

    watch.world.serving = Role.FAST
    assert watch.cycle.shown, "nothing has been looked at since"
    assert not await watch.cycle.is_shown_now()
    watch.router.says = SILENT
    assert not await watch.cycle.is_shown_now()


@in_virtual_time
async def test_a_router_that_is_rarely_asked_is_not_asked_for_readiness() -> None:
    watch = a_watch()
    await watch.cycle.tick()
    assert await watch.cycle.is_shown_now()
    assert watch.world.asked("observe") == []


@in_virtual_time
async def test_a_router_that_stopped_telling_does_not_keep_a_watch_from_closing() -> None:
    watch = a_watch()
    await watch.cycle.look_at_route()
    watch.router.says = SILENT
    looking = asyncio.create_task(watch.cycle.look_at_route())
    await asyncio.sleep(1)
    await watch.cycle.close()
    await looking
    assert now() - EPOCH < 2


@in_virtual_time
async def test_a_promotion_that_was_cut_off_is_seen_at_the_router_where_answers_name_nobody() -> None:
    """It had failed, and was to be put back: the safe engine's own answers would say that all is well."""
    failed = Trouble(reason="promotion-failed", conclusion="promotion-failed", detail="", since=EPOCH)
    watch = a_watch(World(fast="zeros", names_versions=False), state=replace(ROLLED_BACK, trouble=failed))
    await watch.cycle.tick()
    assert (watch.world.serving, watch.state()) == (Role.SAFE, State.SERVING_SAFE)


@in_virtual_time
async def test_a_new_configuration_goes_on_where_the_old_one_stopped() -> None:
    old = a_watch(World(fast="zeros"))
    await old.cycle.tick()
    new = a_watch(old.world, informed=False, journal=old.journal)
    new.cycle.take_over(old.cycle)
    assert (new.cycle.state, new.cycle.healthy_at, new.cycle.shown) == (old.cycle.state, old.cycle.healthy_at, True)
    await new.cycle.tick()
    assert (new.state(), new.of(Switched)) == (State.SERVING_SAFE, [])


# -- a route that others watch too -----------------------------------------------------------


@pytest.mark.parametrize(
    ("role", "percent", "state"),
    [
        (Role.SAFE, 100, State.SERVING_SAFE),
        (Role.FAST, 30, State.RETURNING),
    ],
)
@in_virtual_time
async def test_who_follows_takes_the_route_as_it_finds_it(role: Role, percent: int, state: State) -> None:
    watch = a_watch(router=DividingRouter, authority=FakeAuthority(leads=False), state=PolicyState(wrong=(EPOCH,) * 2))
    watch.world.serving, watch.world.percent = role, percent
    await watch.cycle.look_at_route()
    await pass_ticks(watch, 5)
    assert (watch.state(), watch.cycle.state.share) == (state, share_of_fast(role, percent))
    assert (shares(watch), alerts(watch), watch.cycle.state.wrong) == ([], [], ())
    assert watch.cycle.shown
    watch.world.serving, watch.world.percent = Role.FAST, 100
    await watch.cycle.look_at_route()
    await pass_ticks(watch, 5)
    assert (watch.state(), shares(watch)) == (State.SERVING_FAST, [])


@in_virtual_time
async def test_who_follows_moves_nothing_and_tells_of_a_fault_until_the_leader_has_acted() -> None:
    watch = a_watch(World(fast="zeros"), authority=FakeAuthority(leads=False))
    await pass_ticks(watch, 3)
    assert (watch.state(), shares(watch), alerts(watch)) == (State.DEGRADED, [], ["WatchdogEngineFault"])
    watch.world.serving = Role.SAFE
    await pass_ticks(watch, 3)
    assert (watch.state(), shares(watch), alerts(watch)) == (State.SERVING_SAFE, [], [])


@pytest.mark.parametrize("command", [Command.ROLLBACK, Command.PROMOTE])
@in_virtual_time
async def test_who_follows_is_commanded_nothing_that_moves_and_says_who_is(command: Command) -> None:
    watch = a_watch(authority=FakeAuthority(leads=False))
    with pytest.raises(NotLeadingError, match="as the others say"):
        await watch.cycle.command(command, "ann", "")
    assert (watch.journal.entries, watch.events, watch.world.log) == ([], [], [])


@pytest.mark.parametrize("command", [Command.HOLD, Command.LOOK])
@in_virtual_time
async def test_who_follows_may_be_held_and_made_to_look(command: Command) -> None:
    watch = a_watch(authority=FakeAuthority(leads=False))
    assert (await watch.cycle.command(command, "ann", ""))[0].changed


@in_virtual_time
async def test_who_follows_does_not_begin_a_recovery() -> None:
    authority = FakeAuthority(leads=False)
    watch = a_watch(World(serving=Role.SAFE), state=ROLLED_BACK, policy=RECOVERY, authority=authority)
    await pass_ticks(watch, 100, every=60)
    assert (watch.state(), dues(watch)) == (State.SERVING_SAFE, [])
    authority.leads = True
    await pass_ticks(watch, 1)
    assert watch.state() is State.RECOVERING
