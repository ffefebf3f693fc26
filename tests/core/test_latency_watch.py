"""Slowness within the limits: seen soon where it lasts, named by what takes longer, and never made up."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tests.core.builders import MODEL, a_judge, a_result, a_timed_judge, a_timing
from tests.core.virtual_time import EPOCH
from watchdog import alerting
from watchdog.assess import Judge, LatencySettings, WindowSettings
from watchdog.latency_watch import LatencyWatch
from watchdog.model.engine import Answerer, Role
from watchdog.model.event import Scored, Source, Suspected, Timed
from watchdog.model.probe import Attribution, Part, Timing
from watchdog.model.score import Promise
from watchdog.model.verdict import Reason, Verdict
from watchdog.ports import Event

A = Attribution
YEARLY = Promise(run_length=3.15e6)
"""One false alarm in a year of a probe every 10 s."""
SLOW_DEVICE = {Part.DEVICE: 3.0}


class Desk:
    """A watch, and what it told; probes come every 10 s."""

    def __init__(self, judge: Judge | None = None, promise: Promise | None = YEARLY) -> None:
        self.told: list[Event] = []
        self.at = EPOCH
        self.rng = np.random.default_rng(7)
        self.watch = LatencyWatch(judge or a_timed_judge(a_judge()), promise, self.told.append)

    def probe(self, timing: Timing | None = None, **result: Any) -> Sequence[Suspected]:
        self.at += 10.0
        timing = timing or self.timing()
        return self.watch.take(Timed(model=MODEL, at=self.at, result=a_result(timing=timing, **result)))

    def timing(self, longer: dict[Part, float] | None = None, attribution: Attribution = A.TRACE) -> Timing:
        return a_timing(attribution, longer=longer, scale=float(np.exp(self.rng.normal(0.0, 0.05))))

    def until_suspected(self, longer: dict[Part, float], within: int) -> tuple[int, Sequence[Suspected]]:
        for i in range(1, within + 1):
            if found := self.probe(self.timing(longer)):
                return i, found
        pytest.fail(f"not within {within} probes")

    def readings(self) -> set[str]:
        return {event.reading for event in self.told if isinstance(event, Scored)}


# -- jumps -----------------------------------------------------------------------------------


def test_while_nothing_changes_nothing_is_suspected() -> None:
    desk = Desk()
    assert not any(desk.probe() for _ in range(2000))
    assert desk.readings() == {"fast.total", "fast.host", "fast.device"}
    scores = [event.score for event in desk.told if isinstance(event, Scored)]
    assert {event.source for event in desk.told if isinstance(event, Scored)} == {Source.TIMING}
    assert {score.promise.run_length for score in scores} == {3 * YEARLY.run_length}, "the promise is of all together"


def test_a_threefold_device_time_is_suspected_within_ten_probes_and_named() -> None:
    desk = Desk()
    for _ in range(100):
        desk.probe()
    probes, found = desk.until_suspected(SLOW_DEVICE, within=10)
    assert probes >= 3, "one probe is no evidence"
    assert [event.reading for event in found] == ["fast.total", "fast.device"], "2 of 5 ms, so the whole is slower too"
    suspected = found[-1]
    finding = suspected.finding
    assert suspected.source is Source.TIMING
    assert (finding.reason, finding.verdict, finding.measure) == (Reason.LATENCY, Verdict.SUSPECT, "device")
    assert finding.score >= finding.limit
    said = f"the fast engine's device time: takes about 3 times as long, since {probes} probes ago"
    assert finding.detail == said


def test_a_jump_in_the_queue_is_a_jump_of_the_hosts_time() -> None:
    desk = Desk()
    _, found = desk.until_suspected({Part.QUEUE: 10.0}, within=15)
    assert [event.reading for event in found] == ["fast.host"]
    assert "host time: takes about 1.9 times as long" in found[0].finding.detail


def test_slowness_below_the_margin_is_nobodys_concern() -> None:
    desk = Desk()
    assert not any(desk.probe(desk.timing(dict.fromkeys(Part, 1.3))) for _ in range(500))


def test_outliers_do_nothing() -> None:
    desk = Desk()
    assert not any(desk.probe(desk.timing(dict.fromkeys(Part, 100.0)) if i % 100 == 5 else None) for i in range(1000))


def test_while_it_lasts_it_is_suspected_again_and_afterwards_no_more() -> None:
    desk = Desk()
    for _ in range(3):
        desk.until_suspected(SLOW_DEVICE, within=10)
    assert not any(desk.probe() for _ in range(200))


def test_each_engine_has_a_past_of_its_own() -> None:
    desk = Desk()
    safe: dict[str, Any] = {"expected": Role.SAFE, "answered_by": Answerer(model=MODEL, version="2")}
    for _ in range(3):
        assert not desk.probe(desk.timing(SLOW_DEVICE))
        assert not desk.probe(**safe)
    assert desk.readings() == {f"{role}.{measure}" for role in Role for measure in ("total", "host", "device")}
    assert not any(desk.probe(**safe) for _ in range(50))


@pytest.mark.parametrize(
    "result",
    [
        {"answered_by": Answerer(model=MODEL, version="2")},
        {"cached": True},
        {"public": False},
    ],
    ids=["another version answered", "a cache answered", "one of a burst"],
)
def test_probes_that_say_nothing_of_the_engines_speed_are_not_counted(result: dict[str, Any]) -> None:
    desk = Desk()
    assert not any(desk.probe(desk.timing(SLOW_DEVICE), **result) for _ in range(100))
    assert desk.told == []


def test_answers_that_name_no_version_and_caches_that_did_not_answer_are_counted() -> None:
    desk = Desk()
    for _ in range(3):
        desk.probe(answered_by=Answerer(), cached=False)
    assert desk.readings() == {"fast.total", "fast.host", "fast.device"}


@pytest.mark.parametrize("now", [A.MODEL, A.SERVER_TIMING, A.SHARED, A.NONE])
def test_a_device_time_that_is_learnt_in_another_way_than_the_baselines_is_not_compared(now: Attribution) -> None:
    desk = Desk()
    timing = replace(a_timing(A.NONE), device_s=0.004, attribution=now)
    assert not any(desk.probe(timing) for _ in range(50))
    assert desk.readings() == {"fast.total"}


def test_images_of_a_shape_that_the_baseline_does_not_know_are_not_compared() -> None:
    desk = Desk()
    assert not any(desk.probe(desk.timing(SLOW_DEVICE), profile="large") for _ in range(50))
    assert desk.told == []


def test_a_device_that_took_no_time_is_no_evidence() -> None:
    desk = Desk()
    for _ in range(50):
        assert not desk.probe(a_timing(longer={Part.DEVICE: 0.0}))
    unusable = {(e.reading, e.score.unusable is None) for e in desk.told if isinstance(e, Scored)}
    assert unusable == {("fast.total", True), ("fast.host", True), ("fast.device", False)}


@pytest.mark.parametrize(
    "desk",
    [
        Desk(a_judge(baseline=False)),
        Desk(a_judge()),
        Desk(a_timed_judge(a_judge(), probes=8)),
        Desk(a_timed_judge(a_judge(latency=LatencySettings(jump=None)))),
        Desk(promise=None),
    ],
    ids=["no baseline", "a baseline of before", "a small baseline", "turned off", "no promise"],
)
def test_without_a_reference_no_jump_is_looked_for(desk: Desk) -> None:
    assert not any(desk.probe(desk.timing(SLOW_DEVICE)) for _ in range(50))
    assert desk.told == []


# -- objectives ------------------------------------------------------------------------------


def over(*windows: WindowSettings, baseline: bool = False) -> Desk:
    return Desk(a_judge(baseline=baseline, latency=LatencySettings(windows=windows)))


P99 = WindowSettings(limit=0.006, over=600.0, least=20)


def test_an_objective_that_is_missed_is_told_once_a_window_and_no_more_when_it_is_met() -> None:
    desk = over(P99)
    told = []
    for i in range(300):
        slow = 50 <= i < 170
        found = desk.probe(a_timing(A.NONE, scale=2.0 if slow else 1.0))
        told += [(i, event) for event in found]
    assert [i for i, _ in told] == [51, 111, 171], "from the second slow one of 60 on, until they have left the window"
    suspected = told[0][1]
    assert (suspected.source, suspected.reading) == (Source.OBJECTIVE, "fast.total.q0.99")
    finding = suspected.finding
    assert (finding.reason, finding.verdict, finding.measure) == (Reason.LATENCY, Verdict.SUSPECT, "total.q0.99")
    assert (finding.score, finding.limit) == pytest.approx((0.01, 0.006), rel=0.02)
    assert finding.detail.startswith("the fast engine's total time at the 0.99 quantile over 600 s is ")
    assert finding.detail.endswith(" ms (limit 6 ms)")


def test_an_objective_over_hours_that_stays_missed_is_told_again_before_people_are_told_that_it_ended() -> None:
    desk = over(P99.model_copy(update={"over": 7200.0}))
    told = [i for i in range(400) if desk.probe(a_timing(A.NONE, scale=2.0))]
    assert told == list(range(19, 400, 90))
    assert alerting.SLOWED_FOR_S > 90 * 10


def test_too_few_probes_say_nothing_of_an_objective() -> None:
    desk = over(P99)
    told = [i for i in range(1, 41) if desk.probe(a_timing(scale=2.0))]
    assert told == [20]


def test_objectives_are_each_of_one_engine_and_one_measure() -> None:
    desk = over(
        P99,
        P99.model_copy(update={"measure": "queue", "limit": 0.001, "quantile": 0.5}),
        P99.model_copy(update={"measure": "device", "limit": 0.001, "engine": Role.SAFE}),
    )
    seen = [event.reading for _ in range(30) for event in desk.probe(a_timing(longer={Part.QUEUE: 10.0}))]
    assert seen == ["fast.total.q0.99", "fast.queue.q0.5"]
    untraced = [event.reading for _ in range(60) for event in desk.probe(a_timing(A.NONE))]
    assert "fast.queue.q0.5" not in untraced, "what isn't known is not missed"


def test_an_objective_needs_no_baseline_and_no_promise() -> None:
    judge = a_judge(baseline=False, latency=LatencySettings(windows=(P99,), jump=None))
    desk = Desk(judge, promise=None)
    assert any(desk.probe(a_timing(scale=2.0)) for _ in range(20))
