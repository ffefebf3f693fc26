"""What other watchdogs of the same route see, heard by the one that leads."""

import pytest

from tests.core.builders import FakeAuthority, World, a_watch
from tests.core.virtual_time import in_virtual_time
from watchdog.model.engine import Role
from watchdog.model.event import Suspected
from watchdog.policy.memory import PolicyState
from watchdog.policy.states import State

SAID = "2 of 3 watchdogs see a fault"


def an_authority(**more: bool) -> FakeAuthority:
    authority = FakeAuthority(**more)
    authority.others_see = SAID
    return authority


@in_virtual_time
async def test_who_leads_moves_the_route_for_a_fault_that_enough_others_see() -> None:
    watch = a_watch(authority=an_authority())
    await watch.cycle.tick()

    assert (watch.world.serving, watch.state()) == (Role.SAFE, State.SERVING_SAFE)
    cause = watch.cycle.state.cause
    assert cause is not None
    assert (cause.reason, cause.conclusion) == ("peers", "engine-fault")
    assert SAID in cause.detail


@in_virtual_time
async def test_it_moves_nothing_to_an_engine_that_it_finds_wrong() -> None:
    watch = a_watch(World(safe="zeros"), authority=an_authority())
    await watch.cycle.tick()
    assert (watch.world.serving, watch.state()) == (Role.FAST, State.DEGRADED)


@pytest.mark.parametrize("state", [State.HELD, State.LOCKED, State.BLIND])
@in_virtual_time
async def test_it_does_not_listen_while_it_may_not_act(state: State) -> None:
    watch = a_watch(authority=an_authority(), state=PolicyState(state=state))
    await watch.cycle.tick()
    assert watch.of(Suspected) == []
    assert watch.world.serving is Role.FAST


@in_virtual_time
async def test_it_looks_once_in_a_while_and_not_at_every_probe() -> None:
    watch = a_watch(World(safe="zeros"), authority=an_authority())
    for _ in range(5):
        await watch.cycle.tick()
    assert len(watch.of(Suspected)) == 1
