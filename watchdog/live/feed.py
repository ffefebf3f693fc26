"""Where one model's live answers go: to the watch, once they are whole studies, and to the shadow."""

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Any

from watchdog.live.shadow import Read, Shadow
from watchdog.live.studies import Slice, Studies
from watchdog.live.watch import LiveWatch
from watchdog.model.event import Source
from watchdog.model.observation import Pair

_LOOK_EVERY_S = 5.0
_AT_ONCE = 1_000


class Feed:
    """What the API hands patients' answers to.

    `start` it when nobody else holds the model's evidence any more, `close` it before its endpoints.
    """

    def __init__(self, watch: LiveWatch, shadow: Shadow | None = None) -> None:
        """Begins nothing yet.

        Args:
            watch: may watch nothing; then there is nothing to hand over.
            shadow: what asks both engines; None where mirrored requests are not wanted.
        """
        self._watch = watch
        self._shadow = shadow
        self._studies = Studies()
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def readings(self) -> tuple[str, ...]:
        """All that the model has, watched or not."""
        return self._watch.readings

    @property
    def sources(self) -> frozenset[Source]:
        """What may be handed over."""
        return self._watch.sources

    def start(self) -> None:
        """Go on where the last process stopped, in the background."""
        if not self._tasks and self.sources:
            self._tasks.append(asyncio.create_task(self._look_after(), name=f"feed {self._watch.model}"))
            if self._shadow is not None:
                self._tasks.append(asyncio.create_task(self._shadow.run(), name=f"shadow {self._watch.model}"))

    async def observe(self, slices: Sequence[Slice]) -> None:
        """Answers to patients' images; those of one study count once, and when it is over."""
        now = asyncio.get_running_loop().time()
        over = self._studies.expired(now)
        for count, one in enumerate(slices, start=1):
            over += self._studies.add(one, now)
            if count % _AT_ONCE == 0:
                await asyncio.sleep(0)
        await self._watch.take(over)

    async def compare(self, pairs: Sequence[Pair]) -> None:
        """Both engines' answers to inputs that have nothing to do with one another."""
        await self._watch.take_pairs(pairs)

    async def mirror(self, read: Read) -> bool:
        """Whether a mirrored request was taken: `read` is called only then, and may raise what it likes."""
        return self._shadow is not None and await self._shadow.offer(read)

    def status(self) -> dict[str, Any]:
        """Source → reading → how it stands; JSON-ready."""
        return self._watch.status()

    async def close(self) -> None:
        """Drop what waits, end the studies, and save what was learnt."""
        for task in self._tasks:
            task.cancel()
        for task in self._tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await task
        self._tasks.clear()
        await self._watch.take(self._studies.end_all())
        await self._watch.close()

    async def _look_after(self) -> None:
        """End studies that have gone silent."""
        await self._watch.open()
        while True:
            await asyncio.sleep(_LOOK_EVERY_S)
            await self._watch.take(self._studies.expired(asyncio.get_running_loop().time()))
