"""Opinions as Leases over HTTP: who is alive, and whose word counts."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.kube_api import Call, Failure, KubeApi
from tests.sharing.simulated import NAMESPACE, Clock, lease_settings
from watchdog.kubernetes import Kubernetes
from watchdog.sharing.quorum import Tally, Uncounted
from watchdog.sharing.votes_kubernetes import FAULTS, LABEL, KubernetesQuorumSettings, KubernetesVotes

ALIVE_S, OPINION_S = 15.0, 300.0

Voter = Callable[[str], KubernetesVotes]


@pytest.fixture
def voter(api: KubeApi, clock: Clock) -> Voter:
    def make(identity: str) -> KubernetesVotes:
        settings = KubernetesQuorumSettings(by="kubernetes", need=2)
        client = Kubernetes(lease_settings(url=api.url))
        return KubernetesVotes(settings, api=client, group="lung", identity=identity, timeout_s=5, elapsed=clock)

    return make


def path(identity: str) -> str:
    return f"/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases/lung.{identity}"


def faults(api: KubeApi, identity: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(api.at(path(identity))["metadata"]["annotations"][FAULTS])
    return found


async def pass_time(clock: Clock, seconds: float, *voters: KubernetesVotes) -> None:
    """Let these live on, and no others."""
    for _ in range(round(seconds)):
        clock.now += 1
        for each in voters:
            await each.keep()


async def test_an_opinion_is_known_to_the_others_once_they_have_seen_it_renewed(clock: Clock, voter: Voter) -> None:
    one, two = voter("one"), voter("two")
    await one.cast("lung", "zeros")
    await two.cast("lung", None)

    at_first = await two.count("lung")
    await pass_time(clock, ALIVE_S, one, two)

    assert at_first == Tally(faulty=0, alive=2)
    assert await one.count("lung") == await two.count("lung") == Tally(faulty=1, alive=2)


async def test_what_was_left_behind_makes_a_quorum_harder_for_a_while_and_then_counts_no_more(
    clock: Clock, voter: Voter
) -> None:
    left = voter("left")
    await left.cast("lung", "zeros")
    one = voter("one")
    await one.keep()
    await one.cast("lung", "zeros")

    at_first = await one.count("lung")
    await pass_time(clock, ALIVE_S, one)

    assert at_first == Tally(faulty=1, alive=2)
    assert await one.count("lung") == Tally(faulty=1, alive=1)


async def test_who_stops_renewing_is_not_alive_after_a_while(clock: Clock, voter: Voter) -> None:
    one, two = voter("one"), voter("two")
    await two.cast("lung", "zeros")
    await pass_time(clock, ALIVE_S, one, two)
    assert await one.count("lung") == Tally(faulty=1, alive=2)

    await pass_time(clock, ALIVE_S + 5, one)

    assert await one.count("lung") == Tally(faulty=0, alive=1)


async def test_who_was_not_looked_at_for_long_is_unknown_again(clock: Clock, voter: Voter) -> None:
    """It has renewed since, but that may be long ago."""
    one, two = voter("one"), voter("two")
    await two.cast("lung", "zeros")
    await pass_time(clock, ALIVE_S, one, two)
    await pass_time(clock, ALIVE_S, two)
    clock.now += 1

    assert await one.count("lung") == Tally(faulty=0, alive=2)


async def test_who_ends_in_order_is_not_alive_at_once(clock: Clock, voter: Voter) -> None:
    one, two = voter("one"), voter("two")
    await two.cast("lung", "zeros")
    await pass_time(clock, ALIVE_S, one, two)

    await two.close()
    await two.keep()

    assert await one.count("lung") == Tally(faulty=0, alive=1)


async def test_a_watchdog_without_an_opinion_is_alive(api: KubeApi, clock: Clock, voter: Voter) -> None:
    one, blind = voter("one"), voter("blind")
    await one.cast("lung", "zeros")
    await pass_time(clock, ALIVE_S, one, blind)

    assert faults(api, "blind") == {}
    assert await one.count("lung") == Tally(faulty=1, alive=2)


async def test_models_are_counted_apart_whatever_their_names(api: KubeApi, clock: Clock, voter: Voter) -> None:
    one, two = voter("one"), voter("two")
    await one.cast("lung.nodule-", "zeros")
    await one.cast("breast_density", None)
    await pass_time(clock, ALIVE_S, one, two)

    assert faults(api, "one") == {"lung.nodule-": "zeros", "breast_density": None}
    assert await two.count("lung.nodule-") == Tally(faulty=1, alive=2)
    assert await two.count("breast_density") == Tally(faulty=0, alive=2)


async def test_an_opinion_that_is_not_confirmed_again_ends(api: KubeApi, clock: Clock, voter: Voter) -> None:
    one, two = voter("one"), voter("two")
    await one.cast("lung", "zeros")
    await pass_time(clock, OPINION_S - 1, one, two)
    lasting = await two.count("lung")
    await pass_time(clock, 6, one, two)

    assert lasting == Tally(faulty=1, alive=2)
    assert faults(api, "one") == {}
    assert await one.count("lung") == await two.count("lung") == Tally(faulty=0, alive=2)
    await one.cast("lung", "zeros")
    assert faults(api, "one") == {"lung": "zeros"}


async def test_the_same_opinion_costs_no_write_and_another_one_does(api: KubeApi, voter: Voter) -> None:
    one = voter("one")
    for fault in ("zeros", "zeros", "nan", None, None):
        await one.cast("lung", fault)

    assert [call.method for call in api.writes] == ["POST", "PUT", "PUT"]


async def test_it_renews_three_times_in_the_time_that_it_is_alive_for(api: KubeApi, clock: Clock, voter: Voter) -> None:
    one = voter("one")
    await one.keep()
    api.calls.clear()

    await pass_time(clock, ALIVE_S, one)

    assert [call.method for call in api.calls] == ["PUT", "GET"] * 3


async def test_what_is_written(api: KubeApi, voter: Voter) -> None:
    await voter("one").cast("lung", "zeros")

    stored = api.at(path("one"))

    assert stored["metadata"]["labels"] == {LABEL: "lung"}
    assert stored["spec"]["holderIdentity"] == "lung.one"
    assert stored["spec"]["leaseDurationSeconds"] == 15


async def test_other_groups_are_others(api: KubeApi, voter: Voter) -> None:
    await voter("two").cast("lung", "zeros")
    api.edit(path("two"), lambda two: two["metadata"]["labels"].update({LABEL: "breast"}))

    assert await voter("one").count("lung") == Tally(faulty=0, alive=1)


async def test_a_new_life_takes_its_object_over(api: KubeApi, clock: Clock, voter: Voter) -> None:
    await voter("one").cast("lung", "zeros")
    api.edit(path("one"), lambda one: one["metadata"]["labels"].update(owner="radiology"))

    again = voter("one")
    await again.keep()

    assert faults(api, "one") == {}
    assert api.at(path("one"))["metadata"]["labels"] == {LABEL: "lung", "owner": "radiology"}
    assert await again.count("lung") == Tally(faulty=0, alive=1)


@pytest.mark.parametrize("removed", [True, False])
async def test_an_object_that_somebody_removed_or_changed_is_written_all_the_same(
    api: KubeApi, voter: Voter, removed: bool
) -> None:
    one = voter("one")
    await one.cast("lung", None)
    if removed:
        api.remove(path("one"))
    else:
        api.edit(path("one"), lambda one: one["metadata"]["labels"].update(a="b"))

    await one.cast("lung", "zeros")

    assert faults(api, "one") == {"lung": "zeros"}
    assert await one.count("lung") == Tally(faulty=1, alive=1)


async def test_a_tug_of_war_over_the_object_ends_and_is_told(api: KubeApi, voter: Voter) -> None:
    one = voter("one")
    await one.cast("lung", None)

    def another(_: Call) -> None:
        api.edit(path("one"), lambda lease: lease["metadata"]["labels"].update(at=str(len(api.calls))))

    api.on_write = another
    await one.cast("lung", "zeros")
    counted = await one.count("lung")

    assert isinstance(counted, Uncounted)
    assert "this one's own is not known to the others" in counted.detail
    assert "409" in counted.detail


@pytest.mark.parametrize(
    ("failure", "said"),
    [(Failure(on=("GET",), status=500), "500"), (Failure(on=("GET",), status=403), "role must allow it")],
)
async def test_what_can_t_be_listed_can_t_be_counted(api: KubeApi, voter: Voter, failure: Failure, said: str) -> None:
    one = voter("one")
    await one.cast("lung", "zeros")
    api.failures.append(failure)

    counted = await one.count("lung")

    assert isinstance(counted, Uncounted)
    assert said in counted.detail
    assert await one.count("lung") == Tally(faulty=1, alive=1)


async def test_an_opinion_that_could_not_be_written_is_written_by_keep(api: KubeApi, voter: Voter) -> None:
    one = voter("one")
    api.failures.append(Failure(status=503))
    await one.cast("lung", "zeros")
    failed = await one.count("lung")

    await one.keep()

    assert isinstance(failed, Uncounted)
    assert "503" in failed.detail
    assert await one.count("lung") == Tally(faulty=1, alive=1)


@pytest.mark.parametrize("said", ["", "[]", "{", "7", '{"lung": 0}', '{"other": "zeros"}', None])
async def test_what_can_t_be_read_is_no_opinion(api: KubeApi, clock: Clock, voter: Voter, said: str | None) -> None:
    one, two = voter("one"), voter("two")
    await one.cast("lung", "zeros")
    await pass_time(clock, ALIVE_S, one, two)

    def garble(lease: dict[str, Any]) -> None:
        lease["metadata"]["annotations"] = None if said is None else {FAULTS: said}

    api.edit(path("one"), garble)

    assert await two.count("lung") == Tally(faulty=0, alive=2)


async def test_a_server_that_is_down(clock: Clock) -> None:
    settings = KubernetesQuorumSettings(by="kubernetes", need=2)
    client = Kubernetes(lease_settings(url="http://127.0.0.1:1"))
    one = KubernetesVotes(settings, api=client, group="lung", identity="one", timeout_s=5, elapsed=clock)

    await one.keep()
    await one.cast("lung", "zeros")
    counted = await one.count("lung")
    await one.close()

    assert isinstance(counted, Uncounted)
    assert "can't connect" in counted.detail
