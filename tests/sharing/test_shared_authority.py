"""Lease and quorum together, as the port has it, over HTTP."""

from typing import Any

import pytest

from tests.kube_api import Failure, KubeApi
from tests.sharing.simulated import LEASE, NAMESPACE, Clock
from watchdog.ports import Authority
from watchdog.sharing import SharingSettings, open_authority
from watchdog.sharing.authority import SharedAuthority

DURATION = 15.0
BY_KUBERNETES = {"by": "kubernetes", "need": 2}


def watchdog(url: str, identity: str, clock: Clock, quorum: dict[str, Any] | None = None) -> SharedAuthority:
    lease = {"name": "lung", "namespace": NAMESPACE, "url": url}
    data = {"lease": lease, "identity": identity, "quorum": quorum}
    return open_authority(SharingSettings.model_validate(data), elapsed=clock)


async def live_on(clock: Clock, seconds: float, *authorities: Authority) -> None:
    for _ in range(round(seconds)):
        clock.now += 1
        for each in authorities:
            await each.keep()


async def test_one_leads_and_the_others_follow(api: KubeApi, clock: Clock) -> None:
    one, two = watchdog(api.url, "one", clock), watchdog(api.url, "two", clock)
    await live_on(clock, DURATION + 1, one, two)

    leader, follower = await one.ask("lung", "zeros"), await two.ask("lung", "zeros")

    assert (leader.ok, leader.leads) == (True, True)
    assert (follower.ok, follower.leads) == (False, False)
    assert leader.detail.startswith("one_")
    assert follower.detail.startswith("one_")


async def test_a_yes_is_a_write(api: KubeApi, clock: Clock) -> None:
    one = watchdog(api.url, "one", clock)
    await live_on(clock, DURATION + 1, one)
    before = api.at(LEASE)

    assert (await one.ask("lung", "zeros")).ok

    assert api.at(LEASE)["metadata"]["resourceVersion"] != before["metadata"]["resourceVersion"]


async def test_the_leader_alone_sees_a_fault_and_waits_for_another(api: KubeApi, clock: Clock) -> None:
    one, two = (watchdog(api.url, name, clock, BY_KUBERNETES) for name in ("one", "two"))
    await live_on(clock, DURATION + 1, one, two)

    alone = await one.ask("lung", "zeros")
    follower = await two.ask("lung", "zeros")
    agreed = await one.ask("lung", "zeros")

    assert (alone.ok, alone.leads) == (False, True)
    assert "1 of 2 watchdogs see a fault; 2 must" in alone.detail
    assert (follower.ok, follower.leads) == (False, False)
    assert (agreed.ok, agreed.leads) == (True, True)
    assert "2 of 2 watchdogs see a fault; 2 must" in agreed.detail


async def test_what_is_no_fault_needs_the_lease_alone_and_takes_the_fault_back(api: KubeApi, clock: Clock) -> None:
    one, two = (watchdog(api.url, name, clock, BY_KUBERNETES) for name in ("one", "two"))
    await live_on(clock, DURATION + 1, one, two)
    await two.ask("lung", "zeros")

    back = await one.ask("lung", None)
    await two.ask("lung", None)
    alone = await one.ask("lung", "zeros")

    assert back.ok
    assert not alone.ok


@pytest.mark.parametrize("status", [0, 403, 500])
async def test_nothing_moves_on_what_is_not_known(api: KubeApi, clock: Clock, status: int) -> None:
    one, two = (watchdog(api.url, name, clock, BY_KUBERNETES) for name in ("one", "two"))
    await live_on(clock, DURATION + 1, one, two)
    await two.ask("lung", "zeros")
    api.failures += [Failure(status=status, on=("GET", "POST", "PUT"))] * 8

    permission = await one.ask("lung", "zeros")

    assert (permission.ok, permission.leads) == (False, True)
    assert "nothing moves before the Lease lung is renewed" in permission.detail
    assert "the watchdogs' opinions can't be counted" in permission.detail


async def test_a_lead_that_could_not_be_renewed_moves_nothing(api: KubeApi, clock: Clock) -> None:
    one = watchdog(api.url, "one", clock)
    await live_on(clock, DURATION + 1, one)
    api.failures.append(Failure(status=503))

    unsure, sure = await one.ask("lung", None), await one.ask("lung", None)

    assert (unsure.ok, unsure.leads) == (False, True)
    assert sure.ok


async def test_a_prometheus_that_is_down_moves_nothing_for_a_fault(api: KubeApi, clock: Clock) -> None:
    quorum = {"by": "prometheus", "need": "51%", "url": "127.0.0.1:1"}
    one = watchdog(api.url, "one", clock, quorum)
    await live_on(clock, DURATION + 1, one)

    fault, back = await one.ask("lung", "zeros"), await one.ask("lung", None)

    assert (fault.ok, fault.leads) == (False, True)
    assert "can't connect" in fault.detail
    assert back.ok


async def test_an_orderly_end_hands_over_at_once(api: KubeApi, clock: Clock) -> None:
    one, two = (watchdog(api.url, name, clock, BY_KUBERNETES) for name in ("one", "two"))
    await live_on(clock, DURATION + 1, one, two)

    await one.close()
    gone, successor = await one.ask("lung", None), await two.ask("lung", None)

    assert (gone.ok, gone.leads) == (False, False)
    assert (successor.ok, successor.leads) == (True, True)
    assert api.at(LEASE.removesuffix("lung") + "lung.one")["spec"]["holderIdentity"] == ""


async def test_a_new_life_under_the_same_name_does_not_take_the_old_one_s_lead_for_its_own(
    api: KubeApi, clock: Clock
) -> None:
    old, new = watchdog(api.url, "one", clock), watchdog(api.url, "one", clock)
    await live_on(clock, DURATION + 1, old)

    at_once = await new.ask("lung", None)
    await live_on(clock, DURATION + 1, new)

    assert not at_once.leads
    assert (await new.ask("lung", None)).ok


def test_it_says_how_often_to_call_keep(clock: Clock) -> None:
    assert watchdog("http://127.0.0.1:1", "one", clock).keep_every_s == 2.0
