"""Calls that block, and may never return, kept away from the event loop."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, TypeVar

T = TypeVar("T")


class Blocking:
    """Runs one call at a time in a daemon thread.

    Nobody can end a call that hangs in a broken driver. It is left alone: no other is begun beside it, and a
    daemon's thread keeps no process from ending.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._turn = asyncio.Lock()
        self._last: Future[Any] | None = None

    @property
    def busy(self) -> bool:
        """Whether a call has not returned yet, although nobody may wait for it any more."""
        return self._last is not None and not self._last.done()

    async def run(self, call: Callable[[], T]) -> T:
        """What `call` returns or raises, once the call before it has ended.

        Cancelling it ends the waiting, never a call that has begun.
        """
        async with self._turn:
            if self._last is not None and not self._last.done():
                with suppress(Exception):  # it is not this caller's
                    await asyncio.wrap_future(self._last)
            mine = self._last = self._begun(call)
            return await asyncio.wrap_future(mine)

    def _begun(self, call: Callable[[], T]) -> Future[T]:
        future: Future[T] = Future()
        future.set_running_or_notify_cancel()  # from now on who stops waiting can't cancel it

        def work() -> None:
            try:
                future.set_result(call())
            except BaseException as error:  # noqa: BLE001 (whoever waits gets it)
                future.set_exception(error)

        threading.Thread(target=work, name=self._name, daemon=True).start()
        return future
