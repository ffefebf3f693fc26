"""One Lease over HTTP: what is written, what is kept, and what is said when it fails."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.kube_api import Call, Failure, KubeApi
from tests.sharing.simulated import LEASE, Clock, lease_settings
from watchdog.kubernetes import Kubernetes
from watchdog.sharing.lease import Lease

DURATION, DEADLINE = 15.0, 10.0

Contender = Callable[[str], Lease]


@pytest.fixture
def contender(api: KubeApi, clock: Clock) -> Contender:
    def make(holder: str) -> Lease:
        settings = lease_settings(url=api.url)
        return Lease(settings, holder=holder, api=Kubernetes(settings), elapsed=clock)

    return make


async def leading(lease: Lease, clock: Clock) -> Lease:
    """The same, once it leads."""
    await lease.renew()
    clock.now += DURATION
    assert (await lease.renew()).renewed
    return lease


def record(api: KubeApi) -> dict[str, Any]:
    spec: dict[str, Any] = api.at(LEASE)["spec"]
    return spec


async def test_what_is_not_there_may_have_just_been_removed_and_gives_the_lead_a_duration_later(
    api: KubeApi, clock: Clock, contender: Contender
) -> None:
    lease = contender("one")

    first = await lease.renew()
    clock.now += DURATION - 0.1
    early = await lease.renew()
    held_early = lease.holds
    clock.now += 0.1
    leads = await lease.renew()

    assert (first.renewed, early.renewed, held_early, leads.renewed) == (False, False, False, True)
    assert first.detail == "one leads in 15 s, when no other can believe that it does"
    assert [call.method for call in api.writes] == ["POST", "PUT", "PUT"]
    assert record(api)["holderIdentity"] == "one"
    assert record(api)["leaseDurationSeconds"] == 15
    assert record(api)["leaseTransitions"] == 0


async def test_the_wait_counts_from_a_creation_that_is_known_to_have_happened(
    api: KubeApi, clock: Clock, contender: Contender
) -> None:
    lease = contender("one")
    api.failures.append(Failure(took_effect=True))

    await lease.renew()
    clock.now += 5
    await lease.renew()
    clock.now += DURATION - 0.1

    assert not (await lease.renew()).renewed
    clock.now += 0.1
    assert (await lease.renew()).renewed


async def test_a_renewal_is_one_write_and_keeps_when_it_was_acquired(
    api: KubeApi, clock: Clock, contender: Contender
) -> None:
    lease = await leading(contender("one"), clock)
    before = record(api)
    api.calls.clear()

    standing = await lease.renew()

    assert (standing.renewed, standing.leads, standing.detail) == (True, True, "one leads")
    assert [call.method for call in api.calls] == ["PUT"]
    assert record(api)["acquireTime"] == before["acquireTime"]
    assert record(api)["renewTime"] > before["renewTime"]


async def test_belief_ends_at_the_deadline_though_nobody_says_so(clock: Clock, contender: Contender) -> None:
    lease = await leading(contender("one"), clock)
    clock.now += DEADLINE - 0.1
    assert lease.holds
    clock.now += 0.1
    assert not lease.holds


async def test_belief_counts_from_when_the_renewal_was_sent(api: KubeApi, clock: Clock, contender: Contender) -> None:
    lease = await leading(contender("one"), clock)

    def stall(_: Call) -> None:
        clock.now += DEADLINE - 1

    api.on_write = stall
    assert (await lease.renew()).renewed
    clock.now += 1
    assert not lease.holds


@pytest.mark.parametrize("hook", ["on_write", "on_written"])
async def test_a_renewal_that_comes_back_too_late_is_none(
    api: KubeApi, clock: Clock, contender: Contender, hook: str
) -> None:
    lease = await leading(contender("one"), clock)

    def stall(_: Call) -> None:
        clock.now += DEADLINE

    setattr(api, hook, stall)
    standing = await lease.renew()

    assert (standing.renewed, standing.leads) == (False, False)
    assert "too late" in standing.detail


async def test_a_follower_names_the_leader_and_takes_over_when_it_stops(
    api: KubeApi, clock: Clock, contender: Contender
) -> None:
    one, two = await leading(contender("one"), clock), contender("two")

    following = await two.renew()
    clock.now += DURATION / 2
    assert (await one.renew()).renewed
    clock.now += DURATION / 2
    renewed = await two.renew()
    clock.now += DURATION - 0.1
    early = await two.renew()
    clock.now += 0.1
    taken = await two.renew()

    assert (following.leads, following.detail) == (False, "one leads; without a renewal its Lease is free in 15 s")
    assert (renewed.leads, early.leads, taken.renewed) == (False, False, True)
    assert (record(api)["holderIdentity"], record(api)["leaseTransitions"]) == ("two", 1)


async def test_the_leader_s_own_duration_is_what_the_others_wait_for(
    api: KubeApi, clock: Clock, contender: Contender
) -> None:
    await leading(contender("one"), clock)
    api.edit(LEASE, lambda lease: lease["spec"].update(leaseDurationSeconds=60))
    two = contender("two")

    await two.renew()
    clock.now += 59.9
    early = await two.renew()
    clock.now += 0.1

    assert not early.renewed
    assert (await two.renew()).renewed


async def test_a_leader_that_names_no_duration_is_waited_for_as_one_would_be_oneself(
    api: KubeApi, clock: Clock, contender: Contender
) -> None:
    await leading(contender("one"), clock)
    api.edit(LEASE, lambda lease: lease["spec"].pop("leaseDurationSeconds"))
    two = contender("two")

    await two.renew()
    clock.now += DURATION - 0.1
    early = await two.renew()
    clock.now += 0.1

    assert not early.renewed
    assert (await two.renew()).renewed


async def test_a_released_lease_is_taken_at_once(api: KubeApi, clock: Clock, contender: Contender) -> None:
    one, two = await leading(contender("one"), clock), contender("two")
    await two.renew()

    await one.release()

    assert not one.holds
    assert record(api)["holderIdentity"] == ""
    assert (await two.renew()).renewed
    gone = await one.renew()
    assert (gone.renewed, gone.leads) == (False, False)


async def test_a_follower_s_end_changes_nothing(api: KubeApi, clock: Clock, contender: Contender) -> None:
    one, two = await leading(contender("one"), clock), contender("two")
    await two.renew()
    before = api.at(LEASE)

    await two.release()

    assert api.at(LEASE) == before
    assert one.holds


async def test_of_two_that_take_it_at_once_the_later_loses(api: KubeApi, clock: Clock, contender: Contender) -> None:
    gone, late = await leading(contender("gone"), clock), contender("late")
    await late.renew()
    clock.now += DURATION

    def another(_: Call) -> None:
        api.on_write = None
        api.edit(LEASE, lambda lease: lease["spec"].update(holderIdentity="quick", leaseTransitions=1))

    api.on_write = another
    standing = await late.renew()

    assert (standing.renewed, standing.leads) == (False, False)
    assert "409" in standing.detail
    assert record(api)["holderIdentity"] == "quick"
    assert (await late.renew()).detail.startswith("quick leads")
    assert not gone.holds


def clear(api: KubeApi) -> None:
    api.edit(LEASE, lambda lease: lease["spec"].update(holderIdentity=""))


def blank(api: KubeApi) -> None:
    api.edit(LEASE, lambda lease: lease.pop("spec"))


def remove(api: KubeApi) -> None:
    api.remove(LEASE)


@pytest.mark.parametrize("meddle", [clear, blank, remove])
async def test_a_lease_that_is_taken_from_its_leader_goes_on_if_it_is_the_first_to_notice(
    api: KubeApi, clock: Clock, contender: Contender, meddle: Callable[[KubeApi], None]
) -> None:
    one, two = await leading(contender("one"), clock), contender("two")
    meddle(api)

    assert (await one.renew()).renewed
    assert (await two.renew()).detail.startswith("one leads")
    assert record(api)["holderIdentity"] == "one"


@pytest.mark.parametrize("meddle", [clear, blank, remove])
async def test_a_lease_that_is_taken_from_its_leader_gives_nobody_else_the_lead_while_it_believes(
    api: KubeApi, clock: Clock, contender: Contender, meddle: Callable[[KubeApi], None]
) -> None:
    one, two = await leading(contender("one"), clock), contender("two")
    meddle(api)

    other, believed, standing = await two.renew(), one.holds, await one.renew()

    assert (other.renewed, believed, standing.leads, one.holds) == (False, True, False, False)
    clock.now += DURATION
    assert (await two.renew()).renewed


async def test_who_does_not_lead_yet_has_nothing_to_hand_over(api: KubeApi, clock: Clock, contender: Contender) -> None:
    one, two, three = await leading(contender("one"), clock), contender("two"), contender("three")
    remove(api)
    await two.renew()

    await two.release()
    other = await three.renew()

    assert one.holds
    assert not other.renewed
    assert not three.holds


async def test_what_others_put_on_the_lease_is_kept(api: KubeApi, clock: Clock, contender: Contender) -> None:
    lease = await leading(contender("one"), clock)
    api.edit(LEASE, lambda one: one["metadata"].update(labels={"owner": "radiology"}))
    api.edit(LEASE, lambda one: one["spec"].update(preferredHolder="two"))

    assert (await lease.renew()).renewed

    assert api.at(LEASE)["metadata"]["labels"] == {"owner": "radiology"}
    assert record(api)["preferredHolder"] == "two"


async def test_another_name_in_the_record_ends_the_lead_at_once(
    api: KubeApi, clock: Clock, contender: Contender
) -> None:
    lease = await leading(contender("one"), clock)
    api.edit(LEASE, lambda one: one["spec"].update(holderIdentity="somebody"))

    standing = await lease.renew()

    assert (standing.renewed, standing.leads, lease.holds) == (False, False, False)
    assert record(api)["holderIdentity"] == "somebody"


@pytest.mark.parametrize(
    ("failure", "said"),
    [
        (Failure(), "the connection broke"),
        (Failure(took_effect=True), "the connection broke"),
        (Failure(status=500), "500"),
        (Failure(status=403), "the service account's role must allow it"),
        (Failure(status=401), "the token is not accepted"),
    ],
)
async def test_a_renewal_that_fails_moves_nothing_and_ends_no_lead_yet(
    api: KubeApi, clock: Clock, contender: Contender, failure: Failure, said: str
) -> None:
    lease = await leading(contender("one"), clock)
    api.failures.append(failure)

    failed = await lease.renew()
    again = await lease.renew()

    assert (failed.renewed, failed.leads) == (False, True)
    assert "nothing moves before the Lease lung is renewed" in failed.detail
    assert said in failed.detail
    assert again.renewed


async def test_an_answer_that_never_came_does_not_lengthen_a_lead(
    api: KubeApi, clock: Clock, contender: Contender
) -> None:
    lease = await leading(contender("one"), clock)
    clock.now += DEADLINE - 1
    api.failures.append(Failure(took_effect=True))

    await lease.renew()
    clock.now += 1

    assert not lease.holds
    assert (await lease.renew()).renewed


async def test_a_server_that_is_down(clock: Clock) -> None:
    settings = lease_settings(url="http://127.0.0.1:1")
    lease = Lease(settings, holder="one", api=Kubernetes(settings), elapsed=clock)

    standing = await lease.renew()
    await lease.release()

    assert (standing.renewed, standing.leads) == (False, False)
    assert "can't connect" in standing.detail


@pytest.mark.parametrize("spec", [None, [], "x", {"holderIdentity": 7}, {"leaseTransitions": "x", "renewTime": 5}])
async def test_a_record_that_makes_no_sense_is_waited_out(
    api: KubeApi, clock: Clock, contender: Contender, spec: Any
) -> None:
    api._objects[LEASE] = {
        "kind": "Lease",
        "apiVersion": "coordination.k8s.io/v1",
        "metadata": {"name": "lung", "namespace": "clinic", "resourceVersion": "7", "uid": "u"},
        "spec": spec,
    }
    lease = contender("one")

    early = await lease.renew()
    clock.now += DURATION

    assert not early.renewed
    assert (await lease.renew()).renewed
    assert record(api)["holderIdentity"] == "one"
