"""The election under lost, late and half-done calls, stops, crashes and hands that meddle, in virtual time."""

import asyncio
import math
import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from tests.core.virtual_time import in_virtual_time
from tests.kube_api import KubeApi
from tests.sharing.simulated import LEASE, Election, Line, Trouble, lease_settings
from watchdog.kubernetes import Object
from watchdog.sharing.lease import Lease

SETTINGS = lease_settings()
CONTENDERS = 3
QUIET_AT = 120.0
"""From then on nothing goes wrong any more."""
LASTING = ("cut", "mute", "slow", "pause")
FOR_GOOD = ("crash", "close")
MEDDLING = ("delete", "blank", "clear", "label")

troubles = st.lists(
    st.builds(
        Trouble,
        kind=st.sampled_from(LASTING + FOR_GOOD + MEDDLING),
        who=st.integers(0, CONTENDERS - 1),
        at=st.floats(0, 90),
        lasts=st.floats(0.5, 30),
    ),
    max_size=14,
)


def _meddle(api: KubeApi, kind: str) -> None:
    if LEASE not in api._objects:
        return
    if kind == "delete":
        api.remove(LEASE)
    elif kind == "blank":
        api.edit(LEASE, lambda lease: lease.pop("spec", None))
    elif kind == "clear":
        api.edit(LEASE, lambda lease: lease.get("spec", {}).update(holderIdentity=""))
    else:
        api.edit(LEASE, lambda lease: lease["metadata"].setdefault("labels", {}).update(a="b"))


def _told(who: int, planned: list[Trouble]) -> Callable[[str], bool]:
    def troubled(kind: str) -> bool:
        now = asyncio.get_running_loop().time()
        mine = (each for each in planned if each.who == who and each.kind == kind)
        return any(each.at <= now if kind in FOR_GOOD else each.is_on(now) for each in mine)

    return troubled


def _stopped(who: int, planned: list[Trouble]) -> Callable[[], float]:
    def stopped_s() -> float:
        now = asyncio.get_running_loop().time()
        return max(
            (
                each.at + each.lasts - now
                for each in planned
                if each.who == who and each.kind == "pause" and each.is_on(now)
            ),
            default=0.0,
        )

    return stopped_s


async def _elect(planned: list[Trouble], seed: int, until: float) -> tuple[Election, list[int]]:
    """The election, and who was left in it."""
    api, loop, chance = KubeApi(), asyncio.get_running_loop(), random.Random(seed)
    lines = [Line(SETTINGS, api, _told(who, planned), chance, _stopped(who, planned)) for who in range(CONTENDERS)]
    offsets = [chance.uniform(-1e6, 1e6) for _ in range(CONTENDERS)]  # no two clocks agree
    leases = [
        Lease(SETTINGS, holder=f"pod-{who}", api=line, elapsed=lambda offset=offset: loop.time() + offset)  # type: ignore[misc]
        for who, (line, offset) in enumerate(zip(lines, offsets, strict=True))
    ]
    election = Election(leases, SETTINGS)
    for each in planned:
        if each.kind in MEDDLING:
            loop.call_at(each.at, _meddle, api, each.kind)
    tasks = [asyncio.ensure_future(election.watch())]
    tasks += [asyncio.ensure_future(election.contend(who, _told(who, planned))) for who in range(CONTENDERS)]
    try:
        await asyncio.sleep(until)
        for task in tasks:
            if task.done():
                task.result()
        return election, [who for who in range(CONTENDERS) if not any(_told(who, planned)(kind) for kind in FOR_GOOD)]
    finally:
        under_way: list[asyncio.Task[Any]] = [*tasks, *(task for line in lines for task in line.under_way)]
        for task in under_way:
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)


@hypothesis_settings(deadline=None, max_examples=100)
@given(planned=troubles, seed=st.integers(0, 2**32))
def test_two_never_lead_at_once_and_in_quiet_one_soon_does(planned: list[Trouble], seed: int) -> None:
    @in_virtual_time
    async def story() -> None:
        election, left = await _elect(planned, seed, QUIET_AT + 2 * SETTINGS.duration)
        holders = election.holders()
        assert len(holders) == (1 if left else 0)
        assert set(holders) <= set(left)

    story()


def _first_leader(seed: int) -> int:
    election: list[Election] = []

    @in_virtual_time
    async def story() -> None:
        election.append((await _elect([], seed, 30))[0])

    story()
    return election[0].yes[0].who


@pytest.mark.parametrize("kind", ["crash", "close", "cut"])
@pytest.mark.parametrize("seed", range(5))
def test_a_leader_that_goes_is_succeeded(kind: str, seed: int) -> None:
    first = _first_leader(seed)

    @in_virtual_time
    async def story() -> None:
        election, left = await _elect([Trouble(kind=kind, who=first, at=60, lasts=math.inf)], seed, 120)
        took_over = next(yes.at for yes in election.yes if yes.who != first)
        latest = 60 + 2 * SETTINGS.retry + 2 + (0 if kind == "close" else SETTINGS.duration)
        assert took_over < latest
        if kind != "close":
            assert took_over > 60 + SETTINGS.duration - SETTINGS.retry - 2
        assert set(election.holders()) <= set(left) - ({first} if kind == "cut" else set())

    story()


@in_virtual_time
async def test_a_write_that_arrives_when_another_leads_loses() -> None:
    """The old leader's renewal is under way while its time runs out and the other takes over."""
    api, loop = KubeApi(), asyncio.get_running_loop()
    slow: list[bool] = []
    late = Line(SETTINGS, api, lambda kind: kind == "mute" and bool(slow), random.Random(1))
    quick = Line(SETTINGS, api, lambda _: False, random.Random(2))
    old, new = (
        Lease(SETTINGS, holder=who, api=line, elapsed=loop.time) for who, line in (("old", late), ("new", quick))
    )
    await old.renew()
    await asyncio.sleep(SETTINGS.duration)
    assert (await old.renew()).renewed
    written: Object = dict(old._written or {})
    await new.renew()
    await asyncio.sleep(SETTINGS.duration)
    assert (await new.renew()).renewed

    old._written, old._good_until = written, math.inf  # as though it had been stopped just before the call
    standing = await old.renew()

    assert not standing.renewed
    assert not old.holds
    assert api.at(LEASE)["spec"]["holderIdentity"] == "new"
