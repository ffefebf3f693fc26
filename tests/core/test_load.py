"""A server's load between two readings, what is usual, and the sentence that tells them apart."""

from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from watchdog.load import Circumstance, Usual, between, circumstances, tell
from watchdog.model.load import SERVER_PARTS, Load, Statistics, Tally
from watchdog.model.probe import Part

NOTHING = Statistics()


def counted(requests: int = 0, *, batch: int = 1, failed: int = 0, **more: Any) -> Statistics:
    """Each request's batch took 1 ms on the device, after 2 ms in the queue."""
    seconds = {Part.QUEUE: 0.002, Part.INPUT: 0.0005, Part.DEVICE: 0.001, Part.OUTPUT: 0.0005}
    return Statistics(
        inferences=requests,
        executions=requests // batch,
        succeeded=Tally(count=requests, seconds=requests * 0.0041),
        parts={part: Tally(count=requests, seconds=requests * each) for part, each in seconds.items()},
        failed=failed,
        **more,
    )


def a_load(queue_ms: float = 0.1, device_ms: float = 1.0, **more: Any) -> Load:
    given = {
        "over_s": 10.0,
        "requests_per_s": 100.0,
        "inferences_per_s": 100.0,
        "failures_per_s": {},
        "mean_s": {Part.QUEUE: queue_ms / 1000, Part.DEVICE: device_ms / 1000},
        "batch_size": 1.0,
        "cache_hit_ratio": None,
        "busy_ratio": 0.1,
    }
    return Load(**{**given, **more})


def test_a_load_by_hand() -> None:
    load = between(counted(100), counted(500, failed=40), 10)
    assert load is not None
    assert load.over_s == 10
    assert load.requests_per_s == pytest.approx(44)
    assert load.inferences_per_s == pytest.approx(40)
    assert load.failures_per_s == {"unknown": pytest.approx(4)}
    assert load.mean_s == pytest.approx(
        {Part.QUEUE: 0.002, Part.INPUT: 0.0005, Part.DEVICE: 0.001, Part.OUTPUT: 0.0005}
    )
    assert load.queue_share == pytest.approx(0.5)
    assert load.batch_size == 1
    assert load.cache_hit_ratio is None
    assert load.busy_ratio == pytest.approx(0.04)


def test_the_device_is_busy_once_for_a_whole_batch() -> None:
    load = between(NOTHING, counted(4000, batch=4), 10)
    assert load is not None
    assert load.batch_size == 4
    assert load.busy_ratio == pytest.approx(0.1)


def test_what_a_cache_answered_is_no_work() -> None:
    """As Triton counts: a hit is a success that waited in the queue, and was computed by nobody."""
    queue = {Part.QUEUE: Tally(count=30, seconds=0.03)}
    hits = Statistics(succeeded=Tally(count=30, seconds=0.03), parts=queue, cache_hits=30, cache_misses=10)
    load = between(NOTHING, hits, 10)
    assert load is not None
    assert (load.requests_per_s, load.inferences_per_s, load.busy_ratio) == (3, 0, 0)
    assert (load.batch_size, load.cache_hit_ratio) == (None, 0.75)
    assert load.mean_s == pytest.approx({Part.QUEUE: 0.001})


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ({"REJECTED": 1, "BACKEND": 5}, {"REJECTED": 4, "BACKEND": 5}, {"REJECTED": 0.3, "BACKEND": 0}),
        ({"REJECTED": 1}, {"REJECTED": 2, "OTHER": 1}, {"REJECTED": 0.1, "OTHER": 0.1}),
        ({}, {"REJECTED": 50}, {"unknown": 0.3}),
        ({"REJECTED": 50}, {}, {"unknown": 0.3}),
        ({}, {}, {"unknown": 0.3}),
    ],
    ids=repr,
)
def test_failures_by_reason(before: Mapping[str, int], after: Mapping[str, int], expected: dict[str, float]) -> None:
    load = between(counted(failed=47, failures=before), counted(failed=50, failures=after), 10)
    assert load is not None
    assert load.failures_per_s == pytest.approx(expected)


COUNTS = counted(100, failed=10, cache_hits=5, cache_misses=5, failures={"OTHER": 10})


@pytest.mark.parametrize(
    "less",
    [
        {"inferences": 99},
        {"executions": 99},
        {"succeeded": Tally(count=99, seconds=COUNTS.succeeded.seconds)},
        {"succeeded": Tally(count=100, seconds=0)},
        {"parts": {}},
        {"failed": 9},
        {"failures": {"OTHER": 9}},
        {"cache_hits": 4},
        {"cache_misses": 4},
    ],
    ids=repr,
)
def test_no_load_where_a_count_went_back(less: dict[str, Any]) -> None:
    assert between(COUNTS, COUNTS, 10) is not None
    assert between(COUNTS, replace(COUNTS, **less), 10) is None


@pytest.mark.parametrize("over_s", [0, -1])
def test_no_load_where_no_time_passed(over_s: float) -> None:
    assert between(NOTHING, COUNTS, over_s) is None


@given(st.lists(st.integers(0, 10_000), min_size=2, max_size=6), st.floats(0.01, 1e4))
def test_intervals_add_up(steps: list[int], over_s: float) -> None:
    """The requests of the parts are the requests of the whole."""
    readings = [counted(sum(steps[:at])) for at in range(len(steps) + 1)]
    whole = between(readings[0], readings[-1], over_s * len(steps))
    parts = [between(then, now, over_s) for then, now in pairwise(readings)]
    assert whole is not None
    assert whole.requests_per_s * len(steps) == pytest.approx(sum(each.requests_per_s for each in parts if each))


def learnt(*loads: Load, **more: Any) -> Load:
    usual = Usual(**more)
    for load in loads:
        usual = usual.after(load)
    assert usual.load is not None
    return usual.load


def test_nothing_is_usual_at_first() -> None:
    assert Usual().load is None
    assert learnt(a_load()) == a_load()


def test_what_never_changes_is_usual() -> None:
    steady = a_load(failures_per_s={"unknown": 2.0}, cache_hit_ratio=0.5)
    usual = learnt(*[steady] * 1000)
    assert usual.over_s == pytest.approx(3600, rel=0.2)
    assert usual.mean_s == pytest.approx(steady.mean_s)
    assert usual.failures_per_s == pytest.approx(steady.failures_per_s)
    assert replace(usual, over_s=10.0, mean_s=steady.mean_s, failures_per_s=steady.failures_per_s) == steady


def test_the_first_intervals_make_a_plain_mean() -> None:
    loads = [a_load(requests_per_s=rate) for rate in (100.0, 200.0, 600.0)]
    assert learnt(*loads, memory_s=1e9).requests_per_s == pytest.approx(300)


def test_rates_are_means_over_time_and_device_times_over_requests() -> None:
    quiet = a_load(device_ms=5.0, requests_per_s=1.0)
    night = [a_load(device_ms=1.0, requests_per_s=99.0), *[quiet] * 3]
    usual = learnt(*night, memory_s=1e9)
    assert usual.requests_per_s == pytest.approx((99 + 3) / 4)
    assert usual.mean_s[Part.DEVICE] == pytest.approx((99 * 0.001 + 3 * 0.005) / 102)


def test_an_idle_interval_leaves_the_times_of_a_request() -> None:
    idle = a_load(requests_per_s=0.0, mean_s={}, batch_size=None)
    for usual in (learnt(a_load(), idle), learnt(idle, a_load())):
        assert usual.mean_s == a_load().mean_s
        assert usual.batch_size == 1
        assert 0 < usual.requests_per_s < 100


def test_after_its_memory_a_load_counts_for_little() -> None:
    usual = learnt(*[a_load(device_ms=1.0)] * 1000, *[a_load(device_ms=2.0)] * 300, memory_s=600)
    assert usual.mean_s[Part.DEVICE] == pytest.approx(0.002, rel=0.01)


a_part = st.floats(0, 1)
loads_strategy = st.builds(
    a_load,
    over_s=st.floats(0.1, 1e5),
    requests_per_s=st.floats(0, 1e4),
    mean_s=st.dictionaries(st.sampled_from(SERVER_PARTS), a_part),
    failures_per_s=st.dictionaries(st.sampled_from(["REJECTED", "BACKEND", "unknown"]), a_part),
    batch_size=st.none() | st.floats(1, 8),
    busy_ratio=a_part,
)


@given(st.lists(loads_strategy, min_size=1, max_size=8))
def test_the_usual_lies_among_what_it_was_learnt_from(loads: list[Load]) -> None:
    usual, slack = learnt(*loads), 1e-9
    rates = [each.requests_per_s for each in loads]
    assert min(rates) * (1 - slack) <= usual.requests_per_s <= max(rates) * (1 + slack)
    for part, mean in usual.mean_s.items():
        known = [each.mean_s[part] for each in loads if part in each.mean_s]
        assert min(known) - slack <= mean <= max(known) + slack


NORMAL = a_load()
REJECTING = {"REJECTED": 10.0, "BACKEND": 0.0}


@pytest.mark.parametrize(
    ("now", "usual", "gpu_busy", "expected"),
    [
        (a_load(queue_ms=5), NORMAL, None, Circumstance.OVERLOADED),
        (a_load(queue_ms=5), NORMAL, 0.99, Circumstance.OVERLOADED),
        (a_load(queue_ms=5), None, None, Circumstance.OVERLOADED),
        (a_load(queue_ms=5), a_load(queue_ms=4), None, Circumstance.USUAL),
        (a_load(queue_ms=0.9), NORMAL, None, Circumstance.USUAL),
        (a_load(queue_ms=0.9, device_ms=0.1), None, None, Circumstance.UNKNOWN),
        (a_load(mean_s={Part.QUEUE: 0.005}, cache_hit_ratio=1.0), None, None, Circumstance.UNKNOWN),
        (a_load(queue_ms=50, device_ms=5, requests_per_s=300.0), NORMAL, None, Circumstance.OVERLOADED),
        (a_load(queue_ms=50, device_ms=5), NORMAL, None, Circumstance.ENGINE_SLOW),
        (a_load(failures_per_s=REJECTING), NORMAL, None, Circumstance.OVERLOADED),
        (a_load(failures_per_s=REJECTING, mean_s={}), NORMAL, None, Circumstance.OVERLOADED),
        (a_load(failures_per_s={"REJECTED": 1.0}), NORMAL, None, Circumstance.USUAL),
        (a_load(device_ms=3), NORMAL, None, Circumstance.ENGINE_SLOW),
        (a_load(device_ms=3), NORMAL, 0.4, Circumstance.ENGINE_SLOW),
        (a_load(device_ms=1.4), NORMAL, None, Circumstance.USUAL),
        (a_load(device_ms=3), None, None, Circumstance.UNKNOWN),
        (a_load(device_ms=3, batch_size=2.0), NORMAL, None, Circumstance.ENGINE_SLOW),
        (a_load(device_ms=3, batch_size=4.0), NORMAL, None, Circumstance.USUAL),
        (a_load(device_ms=3), a_load(batch_size=8.0), None, Circumstance.ENGINE_SLOW),
        (a_load(device_ms=3), a_load(mean_s={}), None, Circumstance.USUAL),
        (a_load(device_ms=3), NORMAL, 0.99, Circumstance.NEIGHBOUR),
        (a_load(queue_ms=50, device_ms=3, requests_per_s=300.0), NORMAL, 0.99, Circumstance.NEIGHBOUR),
        (a_load(device_ms=3), None, 0.99, Circumstance.NEIGHBOUR),
        (a_load(device_ms=3, busy_ratio=0.9), NORMAL, 0.99, Circumstance.ENGINE_SLOW),
        (a_load(), NORMAL, 0.99, Circumstance.USUAL),
        (a_load(), None, 0.2, Circumstance.UNKNOWN),
        (a_load(mean_s={}, requests_per_s=0.0), NORMAL, 0.99, Circumstance.IDLE),
        (a_load(mean_s={}, failures_per_s={"BACKEND": 10.0}), None, None, Circumstance.IDLE),
    ],
)
def test_circumstances(now: Load, usual: Load | None, gpu_busy: float | None, expected: Circumstance) -> None:
    assert tell(now, usual, gpu_busy) is expected


@pytest.mark.parametrize(
    ("now", "usual", "gpu_busy", "expected"),
    [
        (NORMAL, NORMAL, None, Circumstance.ENGINE_SLOW),
        (NORMAL, None, None, Circumstance.ENGINE_SLOW),
        (NORMAL, NORMAL, 0.99, Circumstance.NEIGHBOUR),
        (NORMAL, NORMAL, 0.5, Circumstance.ENGINE_SLOW),
        (a_load(queue_ms=50), NORMAL, None, Circumstance.ENGINE_SLOW),
        (a_load(queue_ms=50, requests_per_s=300.0), NORMAL, None, Circumstance.OVERLOADED),
        (a_load(failures_per_s=REJECTING), NORMAL, None, Circumstance.OVERLOADED),
        (a_load(mean_s={}, requests_per_s=0.0), NORMAL, 0.99, Circumstance.IDLE),
    ],
)
def test_canaries_may_know_that_the_device_is_slow_where_the_servers_counts_hide_it(
    now: Load, usual: Load | None, gpu_busy: float | None, expected: Circumstance
) -> None:
    assert tell(now, usual, gpu_busy, device_slow=True) is expected


def test_the_sentence_follows_what_canaries_know() -> None:
    said = circumstances(NORMAL, NORMAL, 0.99, device_slow=True)
    assert said.startswith("something else keeps the GPU busy: 99 %, of which this engine's 10 %, ")
    assert circumstances(NORMAL, NORMAL, None, device_slow=True).startswith("the engine itself is slow: ")
    assert circumstances(NORMAL, NORMAL, None).startswith("nothing is unusual in the server: ")


@pytest.mark.parametrize(
    ("now", "usual", "gpu_busy", "said"),
    [
        (
            a_load(queue_ms=34, device_ms=7, requests_per_s=212.0),
            a_load(queue_ms=0.3, device_ms=7, requests_per_s=90.0),
            None,
            (
                "the server is overloaded: 83 % of a request's 41 ms in it is waiting (usually 4 %), "
                "212 requests/s (usually 90), batches of 1.0"
            ),
        ),
        (
            a_load(failures_per_s=REJECTING, mean_s={}, batch_size=None),
            None,
            None,
            "the server is overloaded: 10 % of the requests ran out of time in its queue, 100 requests/s",
        ),
        (
            a_load(queue_ms=0.01, device_ms=3.1, requests_per_s=12.0),
            a_load(queue_ms=0.01, device_ms=0.9, requests_per_s=9.5),
            0.3,
            (
                "the engine itself is slow: its device time is 3.1 ms (usually 0.9 ms), batches of 1.0, "
                "0 % of a request's 3.1 ms in it is waiting (usually 1 %), 12 requests/s (usually 9.5)"
            ),
        ),
        (
            a_load(device_ms=3.1, busy_ratio=0.04),
            a_load(device_ms=0.92),
            0.99,
            (
                "something else keeps the GPU busy: 99 %, of which this engine's 4 %, "
                "its device time is 3.1 ms (usually 0.92 ms)"
            ),
        ),
        (
            NORMAL,
            NORMAL,
            None,
            (
                "nothing is unusual in the server: its device time is 1.0 ms (usually 1.0 ms), "
                "9 % of a request's 1.1 ms in it is waiting (usually 9 %), 100 requests/s (usually 100)"
            ),
        ),
        (
            NORMAL,
            None,
            None,
            (
                "what is usual in the server is not known yet: its device time is 1.0 ms, "
                "9 % of a request's 1.1 ms in it is waiting, 100 requests/s"
            ),
        ),
        (a_load(mean_s={}, requests_per_s=0.0), None, None, "no request succeeded in the server within 10 s"),
    ],
)
def test_sentences(now: Load, usual: Load | None, gpu_busy: float | None, said: str) -> None:
    assert circumstances(now, usual, gpu_busy) == said


@given(loads_strategy, st.none() | loads_strategy, st.none() | a_part)
def test_there_is_always_a_sentence(now: Load, usual: Load | None, gpu_busy: float | None) -> None:
    said = circumstances(now, usual, gpu_busy)
    assert said.isprintable()
    assert ", ," not in said
    assert not said.endswith((" ", ":"))
