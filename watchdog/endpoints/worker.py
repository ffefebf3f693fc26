"""One thread that does one thing after another, for libraries whose objects belong to one thread."""

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from watchdog.endpoints.faults import FaultError, Ruling
from watchdog.model.fault import Blame, FaultKind

T = TypeVar("T")

_CLOSED = Ruling(FaultKind.REFUSED, Blame.CLIENT, False)


@dataclass(eq=False, slots=True)
class _Job:
    work: Callable[[], Any]
    answer: asyncio.Future[Any]
    last: bool = False


class Worker:
    """Takes work from one event loop and does it in the order in which it came.

    Nothing can end work that hangs, so the thread may never come back: it is a daemon, and those
    who await it go on when they lose patience. Work that nobody awaits any more is dropped, so
    nothing piles up behind a hang.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._waiting: deque[_Job] = deque()
        self._changed = threading.Condition()
        self._awaited: set[asyncio.Future[Any]] = set()
        self._thread: threading.Thread | None = None
        self._closed = False

    async def do(self, work: Callable[[], T]) -> T:
        """What `work` returns or raises, on the thread.

        Raises:
            FaultError: the worker is or was closed.
        """
        if self._closed:
            raise _closed()
        if self._thread is None:
            self._thread = threading.Thread(target=self._serve, name=self._name, daemon=True)
            self._thread.start()
        job = _Job(work, asyncio.get_running_loop().create_future())
        self._awaited.add(job.answer)
        self._put(job)
        try:
            answer: T = await job.answer
        finally:
            self._awaited.discard(job.answer)
            with self._changed, suppress(ValueError):  # begun already
                self._waiting.remove(job)
        return answer

    async def close(self, last: Callable[[], None], patience_s: float) -> None:
        """Take no more work, and tell those who wait. `last` is done on the thread, if there is one.

        A thread that does not come to it within `patience_s` does it whenever it comes back.
        """
        if self._closed:
            return
        self._closed = True
        for answer in self._awaited:
            if not answer.done():
                answer.set_exception(_closed())
        with self._changed:
            self._waiting.clear()
        if self._thread is None:
            return
        job = _Job(last, asyncio.get_running_loop().create_future(), last=True)
        self._put(job)
        await asyncio.wait([job.answer], timeout=patience_s)
        if job.answer.done():
            job.answer.result()

    def _put(self, job: _Job) -> None:
        with self._changed:
            self._waiting.append(job)
            self._changed.notify()

    def _serve(self) -> None:
        while not self._serve_one().last:
            pass

    def _serve_one(self) -> _Job:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting)
            job = self._waiting.popleft()
        _do(job)
        return job


def _do(job: _Job) -> None:
    result, error = None, None
    try:
        result = job.work()
    except Exception as raised:  # noqa: BLE001 (it belongs to whoever awaits the work)
        error = raised
    with suppress(RuntimeError):  # the loop was closed meanwhile
        job.answer.get_loop().call_soon_threadsafe(_settle, job.answer, result, error)


def _settle(answer: asyncio.Future[Any], result: Any, error: Exception | None) -> None:
    if answer.done():  # given up, or told of the end
        return
    if error is None:
        answer.set_result(result)
    else:
        answer.set_exception(error)


def _closed() -> FaultError:
    return FaultError(_CLOSED.fault("the endpoint is closed"))
