"""What of a probe's timing can be held against the baseline, and what can't; which part is to blame for slowness."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.builders import PARTS, a_result, a_timing
from watchdog import measures
from watchdog.assess import JumpSettings
from watchdog.measures import DEVICE, HOST, TOTAL
from watchdog.model.baseline import Latency
from watchdog.model.fault import Blame, Fault, FaultKind
from watchdog.model.load import Statistics, Tally
from watchdog.model.probe import Attribution, Part, Timing

A = Attribution
NAMES = [str(part) for part in PARTS]
SHARED = replace(a_timing(A.NONE), device_s=0.002, attribution=A.SHARED)


def a_latency(timings: Sequence[Timing]) -> Latency:
    return measures.reference(timings, median_s=0.005, p99_s=0.006)


def opt(attribution: Attribution = A.TRACE) -> dict[str, Latency]:
    return {"opt": a_latency([a_timing(attribution)] * 20)}


@pytest.mark.parametrize(
    ("timing", "known"),
    [
        (a_timing(A.NONE), {TOTAL}),
        (SHARED, {TOTAL}),
        (a_timing(A.MODEL), {TOTAL, HOST, DEVICE}),
        (a_timing(A.SERVER_TIMING), {TOTAL, HOST, DEVICE}),
        (a_timing(A.TRACE), {TOTAL, HOST, *NAMES}),
    ],
    ids=["none", "shared", "model", "server-timing", "trace"],
)
def test_a_request_has_the_measures_that_are_its_own(timing: Timing, known: set[str]) -> None:
    found = measures.of(timing)
    assert found.keys() == known
    assert found[TOTAL] == pytest.approx(0.005)
    if DEVICE in known:
        assert (found[DEVICE], found[HOST]) == pytest.approx((0.002, 0.003))


def test_a_baseline_keeps_what_every_probe_told() -> None:
    latency = a_latency([a_timing(scale=1.0), a_timing(scale=1.1)])
    assert latency.attribution is A.TRACE
    assert latency.measures.keys() == {TOTAL, HOST, *NAMES}
    assert latency.measures[DEVICE] == pytest.approx((0.002, 0.0022))
    assert (latency.median_s, latency.p99_s) == (0.005, 0.006)


def test_a_trace_that_was_lost_does_not_cost_all_the_others() -> None:
    latency = a_latency([a_timing(A.NONE), *[a_timing()] * 19])
    assert latency.attribution is A.TRACE
    assert (len(latency.measures[DEVICE]), len(latency.measures[TOTAL])) == (19, 20)


@pytest.mark.parametrize("ways", [[A.NONE] * 6 + [A.TRACE] * 14, [A.MODEL] * 6 + [A.TRACE] * 14, [A.NONE] * 20])
def test_of_two_ways_to_learn_a_device_time_neither_is_a_sample(ways: list[Attribution]) -> None:
    latency = a_latency([a_timing(way) for way in ways])
    assert (latency.attribution, set(latency.measures)) == (A.NONE, {TOTAL})
    assert len(latency.measures[TOTAL]) == 20


def test_parts_that_only_some_probes_told_are_left_out() -> None:
    traced = replace(a_timing(), attribution=A.MODEL)
    latency = a_latency([a_timing(A.MODEL)] * 10 + [traced] * 10)
    assert (latency.attribution, set(latency.measures)) == (A.MODEL, {TOTAL, HOST, DEVICE})


@given(st.floats(0.01, 100.0), st.sampled_from([TOTAL, HOST, *NAMES]))
def test_a_factor_is_how_many_times_as_long(scale: float, measure: str) -> None:
    slower = a_result(timing=a_timing(scale=scale))
    assert measures.factor(opt(), slower, measure) == pytest.approx(scale)


@pytest.mark.parametrize(
    ("latency", "result", "known"),
    [
        (opt(), a_result(timing=a_timing()), [True, True, True]),
        (opt(), a_result(timing=a_timing(), profile="large"), [False, False, False]),
        (opt(), a_result(timing=a_timing(A.NONE)), [True, False, False]),
        (opt(), a_result(timing=SHARED), [True, False, False]),
        (opt(), a_result(timing=a_timing(A.MODEL)), [True, False, False]),
        (opt(A.MODEL), a_result(timing=a_timing(A.TRACE)), [True, False, False]),
        (opt(A.NONE), a_result(timing=a_timing(A.TRACE)), [True, False, False]),
        ({"opt": Latency(median_s=0.02, p99_s=0.1)}, a_result(timing=a_timing()), [False, False, False]),
    ],
    ids=[
        "alike",
        "another shape",
        "untraced now",
        "a mean of others",
        "by the model now",
        "by a trace now",
        "untraced then",
        "a baseline of before",
    ],
)
def test_only_like_is_held_against_like(latency: dict[str, Latency], result: object, known: list[bool]) -> None:
    factors = [measures.factor(latency, result, measure) for measure in (TOTAL, HOST, DEVICE)]  # type: ignore[arg-type]
    assert [factor is not None for factor in factors] == known


def test_a_baseline_of_no_time_at_all_is_no_measure() -> None:
    latency = {"opt": Latency(median_s=0.0, p99_s=0.0, attribution=A.TRACE, measures={TOTAL: (0.0, 0.0)})}
    assert measures.factor(latency, a_result(), TOTAL) is None


@pytest.mark.parametrize(
    ("attribution", "longer", "measure", "expected"),
    [
        (A.TRACE, {Part.QUEUE: 20.0}, TOTAL, ("queue", 0.3, 6.0)),
        (A.TRACE, {Part.QUEUE: 20.0}, HOST, ("queue", 0.3, 6.0)),
        (A.TRACE, {Part.DEVICE: 3.0}, TOTAL, ("device", 2.0, 6.0)),
        (A.TRACE, {Part.DEVICE: 2.0, Part.NETWORK: 5.0}, DEVICE, ("device", 2.0, 4.0)),
        (A.TRACE, {Part.DEVICE: 5.0, Part.NETWORK: 2.0}, HOST, ("network", 1.0, 2.0)),
        (A.MODEL, {Part.QUEUE: 20.0}, TOTAL, ("host", 3.0, 8.7)),
        (A.MODEL, {Part.QUEUE: 20.0}, HOST, ("host", 3.0, 8.7)),
        (A.MODEL, {Part.DEVICE: 3.0}, TOTAL, ("device", 2.0, 6.0)),
        (A.NONE, {Part.DEVICE: 3.0}, TOTAL, ("total", 5.0, 9.0)),
    ],
)
def test_the_part_of_a_measure_that_grew_by_most_milliseconds_is_named(
    attribution: Attribution, longer: dict[Part, float], measure: str, expected: tuple[str, float, float]
) -> None:
    results = [a_result(timing=a_timing(attribution, longer=longer))] * 3
    name, then_s, now_s = measures.grown(opt(attribution), results, measure)
    assert name == expected[0]
    assert (then_s * 1e3, now_s * 1e3) == pytest.approx(expected[1:])


def test_parts_that_are_known_in_another_way_than_then_are_not_blamed() -> None:
    slow = a_result(timing=a_timing(A.TRACE, longer={Part.QUEUE: 20.0}))
    assert measures.grown(opt(A.MODEL), [slow], TOTAL)[0] == TOTAL


def counts(count: int, seconds: float) -> Statistics:
    return Statistics(parts={Part.DEVICE: Tally(count=count, seconds=seconds)})


AWAY = Fault(kind=FaultKind.REFUSED, blame=Blame.NETWORK, detail="nothing listens")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (AWAY, counts(4, 1.0)),
        (counts(1, 1.0), AWAY),
        (counts(4, 1.0), counts(4, 1.0)),
        (counts(4, 1.0), counts(1, 0.1)),
        (counts(4, 1.0), counts(5, 0.1)),
        (Statistics(), Statistics()),
    ],
    ids=["away before", "away after", "nothing ran", "loaded anew", "less time", "no counts"],
)
def test_counts_that_say_nothing_leave_a_timing_alone(before: Statistics | Fault, after: Statistics | Fault) -> None:
    assert measures.shared(a_timing(A.NONE), before, after) == a_timing(A.NONE)


def test_a_mean_of_the_servers_counts_stands_in_and_says_so_but_replaces_nothing_better() -> None:
    timing = measures.shared(a_timing(A.NONE), counts(4, 1.0), counts(6, 1.004))
    assert timing.device_s == pytest.approx(0.002)
    assert timing.attribution is A.SHARED
    assert measures.shared(a_timing(A.MODEL), counts(4, 1.0), counts(6, 9.0)) == a_timing(A.MODEL)


@pytest.mark.parametrize(
    ("usual_s", "took_s", "beyond"),
    [
        (0.0006, 0.0013, False),  # more than twice as long, and 0.7 ms
        (0.0006, 0.0017, True),
        (0.0004, 0.0018, True),
        (0.010, 0.0149, False),
        (0.010, 0.0151, True),
        (0.010, 0.001, False),
    ],
)
def test_an_increase_must_be_large_enough_by_factor_and_by_seconds(usual_s: float, took_s: float, beyond: bool) -> None:
    jump = JumpSettings()
    latency = {"opt": Latency(median_s=usual_s, p99_s=usual_s, measures={TOTAL: (usual_s,) * 9})}
    result = a_result(timing=Timing(sent_at=0.0, total_s=took_s))
    found = measures.factor(latency, result, TOTAL, jump.slack_s)
    plain = measures.factor(latency, result, TOTAL)
    assert found is not None
    assert plain is not None
    assert (found > jump.times_baseline) is beyond
    assert plain == pytest.approx(took_s / usual_s)
    assert found <= plain
