"""Where nothing is remembered, what is found was somebody's wish; and what can't be known proves nothing."""

import pytest

from tests.core.builders import DividingRouter, OneEngineRouter, World, a_watch
from tests.core.virtual_time import EPOCH, in_virtual_time, now
from watchdog import alerting
from watchdog.model.engine import Role
from watchdog.model.event import Command, CycleFailed, RouteSeen, Switched
from watchdog.model.journal import EntryKind
from watchdog.model.route import Observed
from watchdog.policy.memory import PolicyState
from watchdog.policy.states import State
from watchdog.watching import Silence

SILENT = Observed(role=None, detail="it does not answer", known=False)
ROLLED_BACK = PolicyState(state=State.SERVING_SAFE, since=EPOCH, desired=Role.SAFE, share=0)


@pytest.mark.parametrize("told", [True, False], ids=["the router tells", "only the public name tells"])
@in_virtual_time
async def test_a_safe_route_is_taken_as_it_is_found(told: bool) -> None:
    watch = a_watch(World(serving=Role.SAFE), informed=False)
    watch.router.says = None if told else SILENT
    for _ in range(3):
        await watch.cycle.tick()

    assert (watch.state(), watch.cycle.state.desired, watch.world.serving) == (State.SERVING_SAFE, Role.SAFE, Role.SAFE)
    assert watch.world.asked("apply") == []
    assert [e.data["after"]["share"] for e in watch.journal.entries if e.kind is EntryKind.DECISION] == [0]
    assert watch.cycle.shown


@in_virtual_time
async def test_a_fast_route_needs_no_word_in_the_journal() -> None:
    watch = a_watch(informed=False)
    await watch.cycle.tick()
    assert (watch.state(), watch.journal.entries) == (State.SERVING_FAST, [])


@in_virtual_time
async def test_a_divided_route_is_left_as_it_is_until_a_person_says_more() -> None:
    watch = a_watch(World(percent=10), router=DividingRouter, informed=False)
    for _ in range(3):
        await watch.cycle.tick()
    assert (watch.state(), watch.cycle.state.share, watch.world.asked("apply")) == (State.HELD, 10, [])
    await watch.cycle.command(Command.RELEASE, "ann", "")
    assert watch.state() is State.RETURNING


@in_virtual_time
async def test_while_nobody_tells_who_serves_nothing_is_taken_for_granted() -> None:
    watch = a_watch(World(fast="refuse", safe="refuse", serving=Role.SAFE), informed=False)
    watch.router.says = SILENT
    await watch.cycle.tick()
    assert (watch.cycle.informed, watch.journal.entries) == (False, [])
    assert watch.of(CycleFailed)

    watch.world.fast = watch.world.safe = "right"
    await watch.cycle.tick()
    assert (watch.cycle.informed, watch.cycle.state.desired) == (True, Role.SAFE)


@in_virtual_time
async def test_with_an_unread_journal_an_engine_that_is_not_loaded_is_no_fault() -> None:
    watch = a_watch(World(fast="refuse", serving=Role.SAFE), router=OneEngineRouter, informed=False)
    watch.journal.unreadable = True
    for _ in range(3):
        await watch.cycle.tick()
    assert watch.cycle.state.trouble is None
    assert alerting.conditions(watch.cycle.model, watch.cycle.state, now()) == ()


@in_virtual_time
async def test_a_journal_that_came_back_as_another_one_is_told_the_state_first() -> None:
    watch = a_watch()
    await watch.cycle.command(Command.HOLD, "ann", "")
    watch.journal.entries.clear()
    watch.cycle.record_again()
    await watch.cycle.tick()
    (entry,) = watch.journal.entries
    assert (entry.kind, entry.data["after"]["state"]) == (EntryKind.DECISION, "held")


@in_virtual_time
async def test_a_promotion_to_an_engine_that_answers_wrongly_lasts_a_few_round_trips() -> None:
    watch = a_watch(World(fast="nan", serving=Role.SAFE), router=OneEngineRouter, state=ROLLED_BACK)
    began = now()
    await watch.cycle.command(Command.PROMOTE, "ann", "")
    assert (watch.world.serving, watch.state()) == (Role.SAFE, State.SERVING_SAFE)
    there, back = watch.of(Switched)
    assert (there.to, there.proven, back.to, back.proven) == (Role.FAST, False, Role.SAFE, True)
    assert there.at - began < 0.1


@in_virtual_time
async def test_a_server_that_came_back_with_the_fast_engine_alone_is_put_back_and_proven_after() -> None:
    def load(role: Role) -> None:
        if role is Role.SAFE:
            watch.world.safe = "right"

    world = World(safe="refuse", serving=Role.FAST, on_apply=load)
    watch = a_watch(world, router=OneEngineRouter, state=ROLLED_BACK)
    await watch.cycle.tick()
    assert (watch.world.serving, watch.state()) == (Role.SAFE, State.SERVING_SAFE)
    assert watch.cycle.state.reasserted is not None


def test_a_router_that_went_silent_is_told_after_a_while_and_one_that_never_spoke_is_not() -> None:
    def seen(after_s: float, *, known: bool) -> RouteSeen:
        observed = Observed(role=Role.FAST if known else None, detail="as it says", known=known)
        return RouteSeen(model="m", at=EPOCH + after_s, observed=observed)

    never = Silence()
    assert [never.heard(seen(s, known=False)) for s in (0, 100, 200)] == [None] * 3
    silence = Silence()
    assert [silence.heard(seen(s, known=s in (0, 300))) for s in (0, 10, 60, 70, 299, 300, 301)] == [
        None, None, None, "as it says", "as it says", None, None,
    ]  # fmt: skip
    (condition,) = alerting.router_conditions("m", "as it says")
    assert (condition.name, condition.labels) == ("WatchdogRouterSilent", {"model": "m"})
