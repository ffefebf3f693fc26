"""By how much the event loop wakes late: what blocks it delays every probe."""

import asyncio
from collections.abc import Callable

_EVERY_S = 1.0


async def watch_lag(tell: Callable[[float], None]) -> None:
    """Tell, each second until cancelled, by how many seconds a sleep was late."""
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + _EVERY_S
        await asyncio.sleep(_EVERY_S)
        tell(max(0.0, loop.time() - due))
