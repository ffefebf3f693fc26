"""A second source for where the first can't be asked."""

import asyncio
from dataclasses import replace

from watchdog.model.gpu import GpuReading, SourceState
from watchdog.ports import GpuSource

_ELSEWHERE = frozenset({SourceState.ABSENT, SourceState.DENIED})


class WithFallback:
    """Asks `first`, and `second` where the first has never seen a GPU because it isn't there or may not be asked.

    A first that fails is not replaced: its failure is news.
    """

    def __init__(self, first: GpuSource, second: GpuSource) -> None:
        self._first = first
        self._second = second

    async def read(self, timeout_s: float) -> GpuReading:
        now = asyncio.get_running_loop().time
        until = now() + timeout_s
        first = await self._first.read(timeout_s)
        if first.state not in _ELSEWHERE or first.gpus:
            return first
        second = await self._second.read(max(until - now(), 0.0))
        if second.state is SourceState.UP:
            return second
        return replace(second, detail=f"{first.detail}; and {second.detail}")

    async def close(self) -> None:
        await self._first.close()
        await self._second.close()
