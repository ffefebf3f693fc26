"""The watch of GPUs: whose memory grows, what is forgotten and what isn't, and that it goes on whatever happens."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from tests.core.gpu_builders import (
    ABSENT,
    GIB,
    GPU,
    TRITON,
    UNSEEN,
    FakeGpus,
    a_gpu,
    a_lost_gpu,
    a_process,
    a_reading,
)
from tests.core.virtual_time import EPOCH, in_virtual_time
from watchdog.gpu import LeakSettings
from watchdog.gpu_watch import EVERYBODY, GpuWatch
from watchdog.model.event import CycleFailed, GpuSeen, GrowthSeen
from watchdog.model.gpu import Gpu, GpuState, MigInstance, ProcessMemory
from watchdog.model.notice import Condition
from watchdog.ports import Event

MIB = 2**20
STUB = "triton_python_backend_stub"
LEAKS = LeakSettings(over=1800.0)
ENOUGH = 120
"""Readings of ten seconds after which a leak is known: two thirds of its window."""


class Desk:
    """A watch of GPUs that are as the test says, and what it told."""

    def __init__(self, *gpus: Gpu) -> None:
        self.source = FakeGpus(*gpus)
        self.events: list[Event] = []
        self.held: Sequence[Condition] = ()
        self.at = EPOCH
        self.readings = 0
        self.watch = GpuWatch(
            self.source,
            make_detector=LEAKS.detector,
            programs=(TRITON, STUB),
            headroom=0.05,
            deadline_s=5.0,
            observe=self.events.append,
            hold=self._hold,
            clock=lambda: self.at,
        )

    def _hold(self, conditions: Sequence[Condition]) -> None:
        self.held = conditions

    async def look(self, *gpus: Gpu) -> None:
        self.at += 10
        self.readings += 1
        if gpus:
            self.source.says = a_reading(*gpus)
        await self.watch.look()

    async def look_on(self, count: int, gpu: Callable[[int], Gpu]) -> None:
        """So many readings; `gpu` is told how many there were before."""
        for _ in range(count):
            await self.look(gpu(self.readings))

    def of(self, kind: type[Any]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    def leaks(self) -> list[str]:
        return [c.labels["process"] for c in self.held if c.name == "WatchdogGpuMemoryLeak"]

    def trends(self) -> dict[str, bool]:
        """Of the newest reading: whose memory has a trend, and whether it leaks."""
        newest = [event.leak for event in self.of(GrowthSeen) if event.at == self.at]
        return {leak.holder: leak.growth.leaking for leak in newest}


def leaking(readings: int, mib: float = 1.0, *, pid: int = 42, name: str = TRITON) -> ProcessMemory:
    return a_process(GIB + int(readings * mib * MIB), pid=pid, name=name)


def a_leaking_gpu(readings: int) -> Gpu:
    """Whose Triton takes 360 MiB an hour, and gives nothing back."""
    process = leaking(readings)
    assert process.used_bytes is not None
    return a_gpu(used_bytes=9 * GIB + process.used_bytes, processes=(process,))


@in_virtual_time
async def test_each_reading_is_told_and_the_newest_is_known() -> None:
    desk = Desk(a_gpu())
    assert desk.watch.reading is None
    await desk.look()
    await desk.look(a_gpu(used_bytes=39 * GIB))
    assert [event.at for event in desk.of(GpuSeen)] == [EPOCH + 10, EPOCH + 20]
    assert desk.watch.reading == desk.of(GpuSeen)[-1].reading
    assert [condition.name for condition in desk.held] == ["WatchdogGpuMemoryLow"]
    assert desk.trends() == {}, "too few to say anything of a trend"


@in_virtual_time
async def test_memory_that_only_ever_grows_is_told_with_its_rate_and_for_how_long_it_lasts() -> None:
    desk = Desk()
    await desk.look_on(ENOUGH, a_leaking_gpu)
    assert desk.leaks() == [TRITON]
    leak = desk.of(GrowthSeen)[-1].leak
    assert (leak.gpu, leak.pids) == (GPU, (42,))
    assert leak.growth.bytes_per_hour == pytest.approx(360 * MIB, rel=0.01)
    room = 30 * GIB - ENOUGH * MIB
    assert leak.growth.exhausted_in_s == pytest.approx(room / (360 * MIB) * 3600, rel=0.02)
    await desk.look_on(400, lambda _: a_leaking_gpu(ENOUGH))
    assert desk.leaks() == [], "it has stopped"


@in_virtual_time
async def test_memory_that_stays_is_no_leak() -> None:
    desk = Desk()
    await desk.look_on(200, lambda i: a_gpu(processes=(a_process(GIB + (i % 7) * MIB),)))
    assert (desk.trends(), desk.leaks()) == ({TRITON: False}, [])


@in_virtual_time
async def test_only_the_servers_programs_are_looked_at_where_processes_can_be_told_apart() -> None:
    desk = Desk()
    await desk.look_on(
        ENOUGH,
        lambda i: a_gpu(
            used_bytes=10 * GIB + i * MIB, processes=(a_process(), leaking(i, pid=43, name="python3 of a stranger"))
        ),
    )
    assert desk.trends() == {TRITON: False}


@pytest.mark.parametrize(
    "processes",
    [None, (), (a_process(None),), (a_process(name=""),)],
    ids=["nobody tells", "none is seen", "without their memory", "without their names"],
)
@in_virtual_time
async def test_where_processes_can_not_be_told_apart_all_memory_is_looked_at(
    processes: tuple[ProcessMemory, ...] | None,
) -> None:
    desk = Desk()
    await desk.look_on(ENOUGH, lambda i: a_gpu(used_bytes=10 * GIB + i * MIB, processes=processes))
    assert desk.leaks() == [EVERYBODY]
    assert desk.of(GrowthSeen)[-1].leak.pids == ()


@in_virtual_time
async def test_processes_of_one_name_are_looked_at_one_by_one() -> None:
    desk = Desk()
    await desk.look_on(
        ENOUGH,
        lambda i: a_gpu(processes=(a_process(pid=1, name=STUB), leaking(i, pid=2, name=STUB), a_process(pid=3))),
    )
    newest = {event.leak.pids: event.leak.growth.leaking for event in desk.of(GrowthSeen) if event.at == desk.at}
    assert newest == {(1,): False, (2,): True, (3,): False}
    assert desk.leaks() == [STUB]


@in_virtual_time
async def test_a_process_that_ended_is_forgotten_and_another_begins_afresh() -> None:
    desk = Desk()
    await desk.look_on(ENOUGH, a_leaking_gpu)
    await desk.look(a_gpu(processes=(a_process(GIB, pid=77),)))
    assert desk.leaks() == []
    await desk.look_on(1, a_leaking_gpu)
    assert desk.trends() == {}, "even one of the same number"


@pytest.mark.parametrize(
    "blind",
    [
        a_reading(a_lost_gpu()),
        a_reading(Gpu(uuid=GPU, state=GpuState.FAILING, detail="memory: Timeout")),
        UNSEEN,
        ABSENT,
    ],
    ids=["lost", "failing", "unseen", "absent"],
)
@in_virtual_time
async def test_a_gpu_that_is_out_of_sight_forgets_nobody_and_ends_no_leak(blind: Any) -> None:
    desk = Desk()
    await desk.look_on(ENOUGH, a_leaking_gpu)
    desk.source.says = blind
    for _ in range(3):
        await desk.look()
        assert desk.leaks() == [TRITON]
    await desk.look_on(1, a_leaking_gpu)
    assert desk.trends() == {TRITON: True}


@in_virtual_time
async def test_what_was_before_a_model_was_loaded_says_nothing_of_a_leak() -> None:
    desk = Desk()
    await desk.look_on(ENOUGH, a_leaking_gpu)
    desk.watch.loaded()
    await desk.look_on(1, a_leaking_gpu)
    assert (desk.leaks(), desk.trends()) == ([], {})
    await desk.look_on(ENOUGH, a_leaking_gpu)
    assert desk.leaks() == [TRITON], "but it is found again"


@in_virtual_time
async def test_memory_in_a_slice_is_exhausted_when_the_slice_is() -> None:
    def gpu(i: int) -> Gpu:
        mig = MigInstance(uuid="MIG-1", total_bytes=2 * GIB, used_bytes=GIB + i * MIB)
        process = a_process(GIB + i * MIB, mig="MIG-1")
        return a_gpu(mig=(mig,), processes=(process,))

    desk = Desk()
    await desk.look_on(ENOUGH, gpu)
    room = GIB - ENOUGH * MIB
    exhausted_in_s = desk.of(GrowthSeen)[-1].leak.growth.exhausted_in_s
    assert exhausted_in_s == pytest.approx(room / (360 * MIB) * 3600, rel=0.02)


@in_virtual_time
async def test_each_gpu_has_trends_of_its_own() -> None:
    desk = Desk()
    for i in range(ENOUGH):
        await desk.look(a_leaking_gpu(i), a_gpu("GPU-2"))
    newest = {event.leak.gpu: event.leak.growth.leaking for event in desk.of(GrowthSeen) if event.at == desk.at}
    assert newest == {GPU: True, "GPU-2": False}


@in_virtual_time
async def test_a_watch_with_the_same_settings_goes_on_where_the_old_one_stopped() -> None:
    old, fresh = Desk(), Desk()
    await old.look_on(ENOUGH, a_leaking_gpu)
    fresh.at, fresh.readings = old.at, old.readings
    fresh.watch.take_over(old.watch)
    assert fresh.watch.reading == old.watch.reading
    fresh.source.says = a_reading(a_lost_gpu())
    await fresh.look()
    assert fresh.leaks() == [TRITON], "what can't be seen has not ended"
    await fresh.look_on(1, a_leaking_gpu)
    assert (fresh.leaks(), fresh.trends()) == ([TRITON], {TRITON: True}), "nor must it be learnt anew"


@in_virtual_time
async def test_trends_of_many_processes_let_others_work_in_between_and_are_told_together() -> None:
    desk, turns = Desk(), list[int]()

    async def others() -> None:
        while True:
            turns.append(len(desk.events))
            await asyncio.sleep(0)

    stubs = range(20)
    await desk.look_on(ENOUGH, lambda i: a_gpu(processes=tuple(leaking(i, pid=pid, name=STUB) for pid in stubs)))
    told, working = len(desk.events), asyncio.create_task(others())
    await desk.look_on(1, lambda i: a_gpu(processes=tuple(leaking(i, pid=pid, name=STUB) for pid in stubs)))
    working.cancel()
    assert len(turns) >= len(stubs)
    assert set(turns) == {told}, "a scrape meets all of a reading or nothing"
    assert len(desk.events) == told + 1 + len(stubs)


@in_virtual_time
async def test_a_bug_is_loud_and_the_watch_goes_on() -> None:
    desk = Desk(a_gpu())
    desk.source.says = ZeroDivisionError("a bug")
    await desk.look()
    assert [(event.model, event.error) for event in desk.of(CycleFailed)] == [("", "gpu: ZeroDivisionError: a bug")]
    await desk.look(a_gpu(used_bytes=39 * GIB))
    assert [condition.name for condition in desk.held] == ["WatchdogGpuMemoryLow"]
