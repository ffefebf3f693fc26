"""Spans meet probes: each probe is told of once, with the best that is known of it, whatever comes or doesn't."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import pytest

from tests.core.builders import MODEL, a_result
from tests.core.spans import the_spans
from tests.core.virtual_time import EPOCH, in_virtual_time, now
from watchdog.model.engine import Role
from watchdog.model.load import Load
from watchdog.model.probe import Attribution, Part, ProbeResult, Timing
from watchdog.timekeeper import WAIT_S, Timekeeper

TOOK = Timing(sent_at=EPOCH, total_s=0.005, client_s=0.0002)
BUSY = Load(
    over_s=10.0,
    requests_per_s=5.0,
    inferences_per_s=5.0,
    failures_per_s={},
    mean_s={Part.QUEUE: 0.001, Part.DEVICE: 0.003},
    batch_size=1.0,
    cache_hit_ratio=None,
    busy_ratio=0.015,
)


class Desk:
    """A timekeeper, what it told, and what it counted."""

    def __init__(self, *, listening: bool = True) -> None:
        self.counted: Counter[str] = Counter()
        self.told: list[ProbeResult] = []
        self.keeper = Timekeeper(now, lambda outcome, count: self.counted.update({outcome: count}), listening=listening)

    def begin(self) -> str:
        return self.keeper.begin(traced=self.keeper.listening)

    def answer(self, trace_id: str, endpoint: str = "e") -> ProbeResult:
        result = a_result(timing=TOOK, trace_id=trace_id)
        result = replace(result, address=replace(result.address, endpoint=endpoint), outputs={"p": TOOK})  # type: ignore[dict-item]
        self.keeper.answered(result, self.told.append)
        return result

    def timings(self) -> Sequence[Timing]:
        return [result.timing for result in self.told]


@in_virtual_time
async def test_a_probe_is_told_of_with_its_trace() -> None:
    desk = Desk()
    trace_id = desk.begin()
    desk.answer(trace_id)
    assert desk.told == []
    await asyncio.sleep(0.5)
    desk.keeper.take(the_spans(trace_id))
    (timing,) = desk.timings()
    assert timing.attribution is Attribution.TRACE
    assert sum(timing.parts.values()) == pytest.approx(TOOK.total_s)
    assert desk.told[0].outputs == {}, "images' worth of tensors must not wait with it"
    assert desk.keeper._lateness["e"] == pytest.approx(0.5)
    assert desk.counted == {"matched": 3}


@in_virtual_time
async def test_spans_may_come_in_any_order_before_the_answer_in_pieces_and_twice() -> None:
    desk = Desk()
    trace_id = desk.begin()
    spans = the_spans(trace_id)
    desk.keeper.take(spans[2:])
    desk.keeper.take(spans[2:])
    desk.keeper.take(spans[:1])
    desk.answer(trace_id)
    assert desk.told == []
    desk.keeper.take(spans[1:2])
    assert [timing.attribution for timing in desk.timings()] == [Attribution.TRACE]
    desk.keeper.take(spans)
    assert len(desk.told) == 1
    assert desk.counted == {"matched": 3, "repeated": 1, "late": 3}


@in_virtual_time
async def test_a_trace_that_does_not_come_is_given_up_and_told_of_as_it_is() -> None:
    desk = Desk()
    desk.answer(desk.begin())
    await asyncio.sleep(WAIT_S)
    desk.keeper.sweep()
    assert desk.told == []
    await asyncio.sleep(1)
    desk.keeper.sweep()
    desk.keeper.sweep()
    assert [timing.attribution for timing in desk.timings()] == [Attribution.NONE]
    assert desk.counted == {"missing": 1}


@in_virtual_time
async def test_where_no_trace_comes_the_servers_statistics_stand_in_and_say_so() -> None:
    desk = Desk(listening=False)
    desk.answer(desk.begin())
    await asyncio.sleep(5)
    desk.keeper.load_seen("another", Role.FAST, BUSY, now())
    desk.keeper.load_seen(MODEL, Role.SAFE, BUSY, now())
    assert desk.told == [], "those are not of this engine"
    desk.keeper.load_seen(MODEL, Role.FAST, BUSY, now())
    (timing,) = desk.timings()
    assert (timing.device_s, timing.attribution, timing.parts) == (0.003, Attribution.SHARED, {})


@in_virtual_time
async def test_statistics_of_another_interval_say_nothing_of_a_probe() -> None:
    desk = Desk(listening=False)
    desk.answer(desk.begin())
    await asyncio.sleep(12)
    desk.keeper.load_seen(MODEL, Role.FAST, BUSY, now())
    assert [timing.attribution for timing in desk.timings()] == [Attribution.NONE]


@in_virtual_time
async def test_statistics_do_not_hurry_a_trace_that_may_come_but_serve_an_endpoint_that_sends_none() -> None:
    desk = Desk()
    for _ in range(3):
        trace_id = desk.begin()
        desk.answer(trace_id)
        desk.keeper.load_seen(MODEL, Role.FAST, BUSY, now())
    assert desk.told == []
    await asyncio.sleep(WAIT_S + 1)
    desk.keeper.sweep()
    assert [timing.attribution for timing in desk.timings()] == [Attribution.SHARED] * 3, "better than nothing"
    assert desk.counted == {"missing": 3}, "now the endpoint is known to be silent"
    later = desk.begin()
    desk.answer(later)
    desk.keeper.load_seen(MODEL, Role.FAST, BUSY, now())
    assert desk.told[-1].timing.attribution is Attribution.SHARED
    traced = desk.begin()
    desk.answer(traced)
    desk.keeper.take(the_spans(traced))
    waits = desk.begin()
    desk.answer(waits)
    desk.keeper.load_seen(MODEL, Role.FAST, BUSY, now())
    assert len(desk.told) == 5, "a trace came, so the next one is waited for again"


@in_virtual_time
async def test_a_device_time_that_is_the_requests_own_is_never_replaced_by_a_mean() -> None:
    desk = Desk(listening=False)
    trace_id = desk.begin()
    own = replace(TOOK, device_s=0.001, attribution=Attribution.MODEL)
    desk.keeper.answered(a_result(timing=own, trace_id=trace_id), desk.told.append)
    desk.keeper.load_seen(MODEL, Role.FAST, BUSY, now())
    assert desk.timings() == [own]


@in_virtual_time
async def test_traces_of_others_and_of_requests_without_an_answer_leave_nothing_behind() -> None:
    desk = Desk()
    failed = desk.begin()
    desk.keeper.take(the_spans(failed)[:2])
    desk.keeper.forget(failed)
    desk.keeper.take(the_spans(desk.keeper.prefix + "0" * 20))
    desk.keeper.sweep()
    assert desk.told == []
    assert desk.counted == {"late": 3}


@in_virtual_time
async def test_what_makes_no_sense_is_counted_and_the_probe_told_of_without_it() -> None:
    desk = Desk()
    trace_id = desk.begin()
    desk.answer(trace_id)
    desk.keeper.take(the_spans(trace_id, slower=100.0))
    assert [timing.attribution for timing in desk.timings()] == [Attribution.NONE]
    assert desk.counted == {"implausible": 3}


@in_virtual_time
async def test_memory_is_bounded_and_nothing_is_told_twice() -> None:
    desk = Desk()
    ids = [desk.begin() for _ in range(5000)]
    for trace_id in ids:
        desk.answer(trace_id)
    assert len(desk.told) == 5000 - 4096
    for trace_id in ids:
        desk.keeper.take(the_spans(trace_id))
    assert len(desk.told) == 5000
    assert len({result.trace_id for result in desk.told}) == 5000
    flooded = desk.begin()
    desk.keeper.take([replace(span, span_id=f"{i:016x}") for i, span in enumerate(the_spans(flooded) * 100)])
    assert desk.counted["repeated"] == 300 - 64


@in_virtual_time
async def test_a_burst_waits_for_its_traces_as_long_as_they_usually_take() -> None:
    desk = Desk()
    first = desk.begin()
    desk.answer(first)
    await asyncio.sleep(0.2)
    desk.keeper.take(the_spans(first))
    trace_id = desk.begin()
    result = desk.answer(trace_id)
    asyncio.get_running_loop().call_later(0.15, desk.keeper.take, the_spans(trace_id))
    began = now()
    (settled,) = await desk.keeper.settled([result])
    assert settled.timing.attribution is Attribution.TRACE
    assert now() - began == pytest.approx(0.15)
    silent = desk.answer(desk.begin())
    began = now()
    (settled,) = await desk.keeper.settled([silent])
    assert settled.timing.attribution is Attribution.NONE
    assert now() - began == pytest.approx(2 * 0.9 * 0.2 + 0.1)
    elsewhere = desk.answer(desk.begin(), "another")
    began = now()
    await desk.keeper.settled([elsewhere])
    assert now() == began, "nothing is waited for where nothing ever came"


@in_virtual_time
async def test_what_can_not_become_better_known_is_told_at_once() -> None:
    own = replace(TOOK, device_s=0.001, attribution=Attribution.MODEL)
    desk = Desk(listening=False)
    desk.keeper.answered(a_result(timing=own, trace_id=desk.begin()), desk.told.append)
    assert desk.timings() == [own]
    traced = Desk()
    traced.keeper.answered(a_result(timing=own, trace_id=traced.begin()), traced.told.append)
    assert traced.told == [], "its trace may tell the rest"


@in_virtual_time
async def test_an_endpoint_whose_traces_only_come_too_late_is_not_taken_for_a_silent_one() -> None:
    desk = Desk()
    silent = [desk.begin() for _ in range(3)]
    for trace_id in silent:
        desk.answer(trace_id)
    await asyncio.sleep(WAIT_S + 1)
    desk.keeper.sweep()
    hurried = desk.begin()
    desk.answer(hurried)
    desk.keeper.load_seen(MODEL, Role.FAST, BUSY, now())
    assert len(desk.told) == 4, "none is expected any more"
    desk.keeper.take(the_spans(hurried))
    assert desk.counted["late"] == 3
    desk.answer(desk.begin())
    desk.keeper.load_seen(MODEL, Role.FAST, BUSY, now())
    assert len(desk.told) == 4, "but it does send them, and so the next one is waited for"


@in_virtual_time
async def test_what_waits_can_be_told_of_before_whoever_is_told_ends_and_is_not_missed() -> None:
    desk = Desk()
    traced, unanswered = desk.begin(), desk.begin()
    desk.answer(traced)
    desk.keeper.load_seen(MODEL, Role.FAST, BUSY, now())
    desk.keeper.let_go()
    assert [timing.attribution for timing in desk.timings()] == [Attribution.SHARED], "with what is known"
    desk.keeper.take(the_spans(traced))
    desk.answer(unanswered)
    assert [len(desk.told), desk.counted["missing"]] == [2, 0]


@in_virtual_time
async def test_every_process_has_trace_ids_of_its_own() -> None:
    one, other = Desk().keeper, Desk().keeper
    assert one.prefix != other.prefix
    ids = {one.begin(traced=True) for _ in range(100)}
    assert len(ids) == 100
    assert all(len(each) == 32 and each.startswith(one.prefix) and int(each, 16) for each in ids)
