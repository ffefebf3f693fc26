"""Switches that are cut off anywhere: after a restart the route is right, and every intent has its one outcome."""

import itertools
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from tests.core.builders import (
    MODEL,
    DividingRouter,
    FakeAuthority,
    FakeJournal,
    FakeRouter,
    OneEngineRouter,
    Watch,
    World,
    a_watch,
)
from tests.core.virtual_time import EPOCH, in_virtual_time, now
from watchdog.model.authority import Permission
from watchdog.model.engine import Role
from watchdog.model.event import Command, CycleFailed, Switched
from watchdog.model.journal import Entry, EntryKind
from watchdog.model.route import Observed, share_of_fast
from watchdog.panel import ProbeSettings
from watchdog.policy.memory import PolicyState, Trouble
from watchdog.policy.states import State
from watchdog.switching import recall

SOON = ProbeSettings(proof_within=0.05)
"""A proof that fails takes few probes, each of which is a point to be killed at."""
AT_FIRST = PolicyState(since=EPOCH)
CAUSE = Trouble(reason="all-zero", conclusion="engine-fault", detail="it was wrong", since=EPOCH)
ROLLED_BACK = PolicyState(state=State.SERVING_SAFE, desired=Role.SAFE, share=0, cause=CAUSE, since=EPOCH)
RETURNING = replace(ROLLED_BACK, state=State.RETURNING, share=10, good=2, since=EPOCH - 1000)


class Killed(BaseException):
    """Like SIGKILL, nothing of the watchdog outlives it; the world does."""


class Fate:
    """Kills the watchdog at the so many-th, or at a certain, point between two awaits that matter."""

    def __init__(self, at: int | str) -> None:
        self.at = at
        self.passed: list[str] = []

    def reach(self, point: str) -> None:
        self.passed.append(point)
        if self.at in (len(self.passed), point):
            self.at = 0  # once
            raise Killed(point)

    def follow(self, watch: Watch) -> None:
        """Be met at every probe, and before and after each call of the router and each journal entry."""
        watch.world.on_infer = lambda request: self.reach(f"probe {request.address}")
        for adapter, verb in ((watch.journal, "append"), (watch.router, "apply"), (watch.router, "observe")):
            setattr(adapter, verb, self._mortal(getattr(adapter, verb), verb))

    def _mortal(self, call: Callable[..., Awaitable[Any]], verb: str) -> Callable[..., Awaitable[Any]]:
        async def mortal(*args: Any) -> Any:
            what = " ".join([verb, *(str(getattr(arg, "kind", arg)) for arg in args)])
            self.reach(f"before {what}")
            result = await call(*args)
            self.reach(f"after {what}")
            return result

        return mortal


async def tick(watch: Watch) -> None:
    await watch.cycle.tick()


async def look(watch: Watch) -> None:
    await watch.cycle.look_at_route()


def say(command: Command) -> Callable[[Watch], Awaitable[None]]:
    async def saying(watch: Watch) -> None:
        await watch.cycle.command(command, "ann", "")

    return saying


@dataclass(frozen=True, kw_only=True)
class Scenario:
    does: Callable[[Watch], Awaitable[None]]
    right: frozenset[int]
    """The shares of the fast engine that are right in the end, wherever it was cut off."""
    reaches: int
    """The share that it leads to where nothing is cut off."""
    world: Mapping[str, Any] = field(default_factory=dict)
    state: PolicyState = AT_FIRST
    router: type[FakeRouter] = FakeRouter
    fewest: int = 12
    """Points at least, so that none is passed over by mistake."""


SCENARIOS = {
    "a rollback by itself": Scenario(world={"fast": "zeros"}, does=tick, right=frozenset({0}), reaches=0),
    "a rollback by command": Scenario(does=say(Command.ROLLBACK), right=frozenset({0, 100}), reaches=0),
    "a promotion": Scenario(
        world={"serving": Role.SAFE},
        state=ROLLED_BACK,
        does=say(Command.PROMOTE),
        right=frozenset({0, 100}),
        reaches=100,
    ),
    "a promotion that is put back": Scenario(
        world={"serving": Role.SAFE, "fast": "zeros"},
        state=ROLLED_BACK,
        router=OneEngineRouter,
        does=say(Command.PROMOTE),
        right=frozenset({0}),
        reaches=0,
    ),
    "a route that somebody moved": Scenario(
        world={"serving": Role.SAFE}, does=look, right=frozenset({100}), reaches=100
    ),
    "a step of a return": Scenario(
        world={"serving": Role.FAST, "percent": 10},
        state=RETURNING,
        router=DividingRouter,
        does=tick,
        right=frozenset({0, 10, 50}),  # a step that was not done is a return that failed
        reaches=50,
    ),
    "a return that is led back": Scenario(
        world={"serving": Role.FAST, "percent": 10, "fast": "zeros"},
        state=RETURNING,
        router=DividingRouter,
        does=tick,
        right=frozenset({0}),
        reaches=0,
    ),
}


def policy_for(router: type[FakeRouter]) -> dict[str, Any]:
    return {"steps": (10, 50, 100)} if router.weighted else {}


async def begun(scenario: Scenario, *, names_versions: bool = True) -> Watch:
    """A watchdog at the scenario's beginning, which its journal knows."""
    world = World(**{"names_versions": names_versions, **scenario.world})
    journal = FakeJournal(world)
    await journal.append(Entry(at=now(), kind=EntryKind.DECISION, model=MODEL, data=_told(scenario.state)))
    return a_watch(
        world,
        probe=SOON,
        journal=journal,
        router=scenario.router,
        state=scenario.state,
        policy=policy_for(scenario.router),
    )


def _told(state: PolicyState) -> dict[str, Any]:
    return {"after": state.to_json()}


async def restarted(watch: Watch, **more: Any) -> Watch:
    """The next life, in the same world."""
    watch.world.on_infer = None
    router = type(watch.router)
    given: dict[str, Any] = {"probe": SOON, "router": router, "journal": watch.journal, "policy": policy_for(router)}
    if not watch.journal.unreadable:
        given["state"] = await recall(watch.journal, MODEL, now())
    return a_watch(watch.world, **(given | more))


async def live_on(watch: Watch, rounds: int = 3) -> None:
    for _ in range(rounds):
        await watch.cycle.tick()
        await watch.cycle.look_at_route()


def share(world: World) -> int:
    return share_of_fast(world.serving, world.percent)


def of(watch: Watch, kind: EntryKind) -> list[Entry]:
    return [entry for entry in watch.journal.entries if entry.kind is kind]


async def all_is_told(watch: Watch) -> None:
    """Every intent has one outcome, who serves is who should, and another start would go on from here."""
    ended = Counter(entry.data["intent"] for entry in of(watch, EntryKind.OUTCOME))
    assert ended == Counter(entry.seq for entry in of(watch, EntryKind.INTENT))
    state = watch.cycle.state
    assert state.target is None
    assert share(watch.world) == state.share
    known = await recall(watch.journal, MODEL, now())
    assert known is not None
    again, switched = await watch.cycle._switcher.settle(known)
    assert switched is None
    assert replace(again, since=0) == replace(state.resumed(now()), since=0)


@pytest.mark.parametrize("names_versions", [True, False])
@pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=SCENARIOS)
@in_virtual_time
async def test_wherever_it_is_killed_the_next_life_puts_it_right(scenario: Scenario, names_versions: bool) -> None:
    for at in itertools.count(1):
        watch, fate = await begun(scenario, names_versions=names_versions), Fate(at)
        fate.follow(watch)
        if await survives(scenario.does(watch)):
            break
        again = await restarted(watch)
        await live_on(again)
        assert share(again.world) in scenario.right, f"killed at point {at}: {fate.passed[at - 1]}"
        assert again.of(CycleFailed) == []
        await all_is_told(again)
    assert at > scenario.fewest
    assert share(watch.world) == scenario.reaches
    await all_is_told(watch)


@pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=SCENARIOS)
@in_virtual_time
async def test_wherever_the_next_life_is_killed_too_a_third_one_puts_it_right(scenario: Scenario) -> None:
    first_at = len(await points(scenario)) // 2
    for at in itertools.count(1):
        watch = await begun(scenario)
        Fate(first_at).follow(watch)
        with pytest.raises(Killed):
            await scenario.does(watch)
        second = await restarted(watch)
        fate = Fate(at)
        fate.follow(second)
        if await survives(live_on(second)):
            break
        third = await restarted(second)
        await live_on(third)
        assert share(third.world) in scenario.right, f"killed again at point {at}: {fate.passed[at - 1]}"
        await all_is_told(third)
    await all_is_told(second)


async def survives(life: Awaitable[None]) -> bool:
    try:
        await life
    except Killed:
        return False
    return True


async def points(scenario: Scenario) -> list[str]:
    watch, fate = await begun(scenario), Fate(0)
    fate.follow(watch)
    await scenario.does(watch)
    return fate.passed


async def killed_at(point: str, scenario: Scenario) -> Watch:
    watch = await begun(scenario)
    Fate(point).follow(watch)
    with pytest.raises(Killed):
        await scenario.does(watch)
    return watch


BY_ITSELF = SCENARIOS["a rollback by itself"]


@in_virtual_time
async def test_a_switch_that_was_done_when_the_watchdog_ended_is_proven_and_not_done_again() -> None:
    again = await restarted(await killed_at("after apply safe 100", BY_ITSELF))
    await again.cycle.tick()
    assert again.router.routes == []
    (switched,) = again.of(Switched)
    assert switched.proven
    assert switched.applied.detail == "finished after a restart: traffic gets safe"
    await all_is_told(again)


@in_virtual_time
async def test_a_switch_that_was_not_done_when_the_watchdog_ended_is_told_so_and_tried_again() -> None:
    again = await restarted(await killed_at("after append intent", BY_ITSELF))
    await again.cycle.tick()
    assert [(s.applied.ok, s.proven) for s in again.of(Switched)] == [(False, False), (True, True)]
    assert again.of(Switched)[0].detail == "not done when the watchdog ended: traffic gets fast"
    assert len(again.cycle.state.switches) == 1, "what nobody was asked for does not count"
    await all_is_told(again)


@in_virtual_time
async def test_a_switch_that_was_decided_but_not_begun_is_neither_told_nor_counted_out() -> None:
    again = await restarted(await killed_at("before append intent", BY_ITSELF))
    assert again.state() is State.SWITCHING
    again.world.fast = "right"
    await again.cycle.tick()
    assert (again.of(Switched), again.router.routes, again.state()) == ([], [], State.SERVING_FAST)


@in_virtual_time
async def test_a_switch_that_was_not_begun_is_not_taken_for_an_older_one_that_failed() -> None:
    watch = await begun(BY_ITSELF)
    watch.router.refuses = True
    await watch.cycle.tick()
    Fate("before append intent").follow(watch)
    assert not await survives(watch.cycle.tick())
    again = await restarted(watch)
    again.world.fast = "right"
    await again.cycle.tick()
    assert (again.state(), again.of(Switched)) == (State.SERVING_FAST, [])
    await all_is_told(again)


@in_virtual_time
async def test_a_router_that_is_away_at_the_restart_is_taken_for_undone_and_found_out() -> None:
    again = await restarted(await killed_at("after apply safe 100", BY_ITSELF))
    again.router.says = Observed(role=None, known=False, detail="no answer")
    again.router.refuses = True
    await live_on(again)
    assert again.cycle.state.trouble is not None
    assert again.cycle.state.trouble.conclusion == "switch-failed"
    again.router.says, again.router.refuses = None, False
    await live_on(again)
    assert (again.state(), share(again.world)) == (State.SERVING_SAFE, 0)
    await all_is_told(again)


@in_virtual_time
async def test_a_command_after_a_restart_finds_what_was_under_way_settled() -> None:
    again = await restarted(await killed_at("after apply safe 100", BY_ITSELF))
    decisions = await again.cycle.command(Command.HOLD, "ann", "")
    assert decisions[-1].after.state is State.HELD
    assert decisions[-1].after.desired is Role.SAFE
    await all_is_told(again)


@in_virtual_time
async def test_an_outcome_that_cannot_be_recorded_is_loud_and_settled_by_the_next_life() -> None:
    watch = await begun(BY_ITSELF)
    watch.journal.full_for = frozenset({EntryKind.OUTCOME})
    await watch.cycle.tick()
    assert [failed.error for failed in watch.of(CycleFailed)] == ["journal: [Errno 28] No space left on device"]
    assert (watch.state(), share(watch.world)) == (State.SERVING_SAFE, 0)
    watch.journal.full_for = frozenset()
    again = await restarted(watch)
    await again.cycle.tick()
    assert (again.state(), again.router.routes) == (State.SERVING_SAFE, [])
    assert again.cycle.state.cause == watch.cycle.state.cause
    await all_is_told(again)


@in_virtual_time
async def test_a_hold_outlives_a_restart_that_finds_an_outcome_missing() -> None:
    watch = await begun(BY_ITSELF)
    watch.journal.full_for = frozenset({EntryKind.OUTCOME})
    await watch.cycle.tick()
    watch.journal.full_for = frozenset()
    await watch.cycle.command(Command.HOLD, "ann", "")
    again = await restarted(watch)
    await again.cycle.tick()
    assert (again.state(), again.router.routes) == (State.HELD, [])
    await all_is_told(again)


@in_virtual_time
async def test_an_intent_that_cannot_be_recorded_moves_nothing() -> None:
    watch = await begun(BY_ITSELF)
    watch.journal.full_for = frozenset({EntryKind.INTENT})
    await watch.cycle.tick()
    assert (watch.router.routes, watch.state()) == ([], State.DEGRADED)
    watch.journal.full_for = frozenset()
    again = await restarted(watch)
    await again.cycle.tick()
    assert share(again.world) == 0
    await all_is_told(again)


HELD = replace(ROLLED_BACK, state=State.HELD)


@pytest.mark.parametrize("fast", ["right", "zeros"])
@in_virtual_time
async def test_while_the_journal_cannot_be_read_nothing_is_moved_or_written_and_what_it_knows_comes_back(
    fast: str,
) -> None:
    """Without its memory a watchdog would put "the moved route" back to the fast engine, against a person's hold."""
    scenario = Scenario(
        world={"serving": Role.SAFE, "fast": fast}, state=HELD, does=tick, right=frozenset({0}), reaches=0
    )
    watch = await begun(scenario)
    watch.journal.unreadable = True
    again = await restarted(watch, informed=False)
    await live_on(again)
    with pytest.raises(OSError, match="Input/output error"):
        await again.cycle.command(Command.RELEASE, "ann", "")
    assert len(watch.journal.entries) == 1
    assert {failed.error for failed in again.of(CycleFailed)} == {"journal: [Errno 5] Input/output error"}
    watch.journal.unreadable = False
    await live_on(again)
    assert (again.state(), again.router.routes, share(again.world)) == (State.HELD, [], 0)
    assert again.cycle.state.cause == CAUSE


@in_virtual_time
async def test_a_journal_that_cannot_be_read_in_the_middle_of_a_switch_is_read_later() -> None:
    again = await restarted(await killed_at("after append intent", BY_ITSELF))
    again.journal.unreadable = True
    await again.cycle.tick()
    assert again.state() is State.SWITCHING
    assert again.router.routes == []
    again.journal.unreadable = False
    await live_on(again)
    assert share(again.world) == 0
    await all_is_told(again)


@in_virtual_time
async def test_a_memory_of_another_kind_is_named_by_its_entry() -> None:
    journal = FakeJournal(World())
    await journal.append(Entry(at=EPOCH, kind=EntryKind.DECISION, model=MODEL, data={"after": {"state": "asleep"}}))
    with pytest.raises(ValueError, match="journal entry 1 can't be resumed from: "):
        await recall(journal, MODEL, now())
    assert await recall(journal, "another", 5.0) is None


@in_virtual_time
async def test_an_intent_of_before_shares_were_known_is_settled() -> None:
    watch = await begun(Scenario(world={"serving": Role.SAFE}, does=tick, right=frozenset({0}), reaches=0))
    intent = Entry(at=now(), kind=EntryKind.INTENT, model=MODEL, data={"to": "safe", "from": "fast"})
    await watch.journal.append(intent)
    await watch.cycle.tick()
    assert (watch.state(), watch.cycle.state.share, watch.router.routes) == (State.SERVING_SAFE, 0, [])
    await all_is_told(watch)


@in_virtual_time
async def test_a_switch_whose_router_is_no_longer_configured_is_told_as_undone() -> None:
    again = await restarted(await killed_at("after apply safe 100", BY_ITSELF), routed=False)
    await again.cycle.tick()
    assert again.of(Switched)[0].detail == "the watchdog ended while it asked a router that is no longer configured"
    assert [entry.data["applied"] for entry in of(again, EntryKind.OUTCOME)] == [False]


# -- a route that others watch too -----------------------------------------------------------


@in_virtual_time
async def test_a_promotion_that_fails_is_put_back_whatever_the_others_see() -> None:
    """They may not have seen the engine's fault yet; patients would get its answers until they do."""
    authority = FakeAuthority(agreed=False)
    watch = a_watch(
        World(fast="zeros", serving=Role.SAFE), state=ROLLED_BACK, router=OneEngineRouter, authority=authority
    )
    await watch.cycle.command(Command.PROMOTE, "ann", "")
    assert watch.router.routes == [(Role.FAST, 100), (Role.SAFE, 100)]
    assert set(authority.asked) == {None}


@in_virtual_time
async def test_a_moved_route_is_put_back_whatever_the_others_see() -> None:
    watch = a_watch(World(serving=Role.SAFE), authority=FakeAuthority(agreed=False))
    await watch.cycle.tick()
    assert watch.router.routes == [(Role.FAST, 100)]


@in_virtual_time
async def test_a_fault_that_the_others_do_not_see_moves_nothing() -> None:
    authority = FakeAuthority(agreed=False)
    watch = a_watch(World(fast="zeros"), authority=authority)
    await watch.cycle.tick()
    assert (watch.router.routes, watch.state()) == ([], State.DEGRADED)
    authority.agreed = True
    await watch.cycle.tick()
    assert (watch.router.routes, watch.state()) == ([(Role.SAFE, 100)], State.SERVING_SAFE)
    assert authority.asked.count("engine-fault") == 3, "and once more right before it"


class LosingAuthority(FakeAuthority):
    """Leads when it is asked first, and never again."""

    async def ask(self, model: str, fault: str | None) -> Permission:
        permission = await super().ask(model, fault)
        self.leads = False
        return permission


@in_virtual_time
async def test_a_lead_that_is_lost_after_the_diagnosis_moves_nothing() -> None:
    authority = LosingAuthority()
    watch = a_watch(World(fast="zeros"), authority=authority)
    await watch.cycle.tick()
    assert (watch.router.routes, of(watch, EntryKind.INTENT)) == ([], [])
    assert watch.of(Switched)[0].detail == "as the others say"
