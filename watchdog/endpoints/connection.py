"""The client library's object behind an endpoint: made on first use, replaced after a failure."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from watchdog.endpoints.faults import STALE, settled, unforeseen
from watchdog.model.fault import Fault

C = TypeVar("C")
T = TypeVar("T")

_CLOSE_S = 2.0


@dataclass(eq=False, slots=True)
class _Held(Generic[C]):
    client: C
    users: int = 0


class Connection(Generic[C]):
    """One client at a time.

    A client belongs to the event loop that it was made in, hence the first use makes it. After a
    failure it is let go of, so that the next call meets the server as it is then: its
    address, its certificates, and no back-off left over. Closing a client cancels its other
    calls, so the last of its users closes it.
    """

    def __init__(self, make: Callable[[], C], close: Callable[[C], Awaitable[None]]) -> None:
        self._make = make
        self._close = close
        self._held: _Held[C] | None = None

    @asynccontextmanager
    async def lease(self) -> AsyncIterator[C]:
        if self._held is None:
            self._held = _Held(self._make())
        held = self._held
        held.users += 1
        try:
            yield held.client
        finally:
            held.users -= 1
            if held is not self._held and not held.users:
                await self._end(held)

    async def settled(
        self,
        work: Coroutine[Any, Any, T],
        timeout_s: float,
        translate: Callable[[Exception], Fault] = unforeseen,
    ) -> T | Fault:
        """`faults.settled`; and where the fault may lie in the connection, the next call makes a new one."""
        outcome = await settled(work, timeout_s, translate)
        if isinstance(outcome, Fault) and outcome.kind in STALE:
            await self._renew()
        return outcome

    async def _renew(self) -> None:
        held, self._held = self._held, None
        if held is not None and not held.users:
            await self._end(held)

    async def close(self) -> None:
        """End the client and what still uses it."""
        held, self._held = self._held, None
        if held is not None:
            await self._end(held)

    async def _end(self, held: _Held[C]) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_S):
                await self._close(held.client)
