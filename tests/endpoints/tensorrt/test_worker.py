"""The thread that owns a library: order, errors, patience and the end."""

import asyncio
import threading
from collections.abc import AsyncIterator
from functools import partial

import pytest

from watchdog.endpoints.faults import FaultError
from watchdog.endpoints.worker import Worker


class Gate:
    """Work that hangs until it is opened."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self._opened = threading.Event()

    def pass_through(self) -> str:
        self.entered.set()
        self._opened.wait()
        return "passed"

    def open(self) -> None:
        self._opened.set()


@pytest.fixture
async def worker() -> AsyncIterator[Worker]:
    worker = Worker("tested")
    yield worker
    await worker.close(lambda: None, 10)


async def test_one_thread_does_all_in_order(worker: Worker) -> None:
    done: list[int] = []

    def work(at: int) -> int:
        done.append(at)
        return threading.get_ident()

    threads = await asyncio.gather(*(worker.do(partial(work, at)) for at in range(50)))
    assert done == list(range(50))
    assert len({*threads, threading.get_ident()}) == 2


async def test_what_work_raises_reaches_who_awaits_it(worker: Worker) -> None:
    with pytest.raises(ZeroDivisionError):
        await worker.do(lambda: 1 // 0)
    assert await worker.do(lambda: 7) == 7


async def test_work_that_nobody_awaits_is_dropped(worker: Worker) -> None:
    gate, done = Gate(), list[str]()
    hanging = asyncio.create_task(worker.do(gate.pass_through))
    impatient = asyncio.create_task(worker.do(lambda: done.append("impatient")))
    patient = asyncio.create_task(worker.do(lambda: done.append("patient")))
    await asyncio.to_thread(gate.entered.wait)
    impatient.cancel()
    hanging.cancel()
    await asyncio.wait([impatient, hanging])
    gate.open()
    await patient
    assert done == ["patient"]


async def test_closing_tells_who_waits_and_does_not_wait_for_a_hang() -> None:
    worker, gate, last = Worker("tested"), Gate(), threading.Event()
    calls = [asyncio.create_task(worker.do(gate.pass_through)), asyncio.create_task(worker.do(lambda: ""))]
    await asyncio.to_thread(gate.entered.wait)
    await worker.close(last.set, 0.01)
    for outcome in await asyncio.gather(*calls, return_exceptions=True):
        assert isinstance(outcome, FaultError)
    assert not last.is_set()
    gate.open()
    assert await asyncio.to_thread(last.wait, 10)


def test_a_thread_outlives_its_event_loop() -> None:
    worker, gate, last = Worker("tested"), Gate(), threading.Event()

    async def hang() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await worker.do(gate.pass_through)
        await worker.close(last.set, 0.01)

    asyncio.run(hang())
    gate.open()
    assert last.wait(10)


async def test_nothing_is_begun_for_closing() -> None:
    worker = Worker("tested")
    await worker.close(lambda: pytest.fail("there was no thread"), 10)
    with pytest.raises(FaultError, match="the endpoint is closed"):
        await worker.do(lambda: None)
