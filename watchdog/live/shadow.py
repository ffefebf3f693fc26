"""Mirrored requests: a share of them is asked of both engines, so that one input's answers can be compared.

An image is in memory from its arrival until both engines have answered, and nowhere else.
"""

import asyncio
import itertools
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from watchdog.assess import OutputSettings
from watchdog.live.settings import ShadowSettings
from watchdog.model.engine import Role
from watchdog.model.event import CycleFailed, Ignored, Source
from watchdog.model.fault import Fault
from watchdog.model.observation import Pair
from watchdog.model.probe import InferRequest, Reply
from watchdog.model.tensor import Array
from watchdog.ports import Clock, Observer
from watchdog.prober import Target
from watchdog.readings import names_of, read_answer

_HURRY = 50
"""So many requests in a row are compared where patients' answers have drifted."""
_OWN = "watchdog-"
"""How the ids of the watchdog's own requests begin, canaries' and these: a gateway mirrors them as well."""


class Missed(StrEnum):
    """Why a mirrored request made no pair."""

    QUEUE_FULL = "queue-full"
    NO_ANSWER = "no-answer"
    WRONG_VERSION = "wrong-version"
    ROWS_DIFFER = "rows-differ"
    """The engines' answers don't have the same rows."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Mirrored:
    """What a patient's request asked."""

    inputs: Mapping[str, Array] = field(repr=False)
    id: str = ""


Read = Callable[[], Awaitable[Mirrored]]
"""Reads a request's body and understands it; may raise what it likes."""


class TakePairs(Protocol):
    async def __call__(self, pairs: Sequence[Pair], *, as_one: bool = False) -> None: ...


class Shadow:
    """Asks both engines what some of the mirrored requests ask, one after the other."""

    def __init__(
        self,
        *,
        target: Target,
        outputs: Sequence[OutputSettings],
        batched: bool,
        settings: ShadowSettings,
        take: TakePairs,
        observe: Observer,
        clock: Clock,
        chance: random.Random,
    ) -> None:
        self._target = target
        self._outputs = [output for output in outputs if names_of([output])]
        self._batched = batched
        self._settings = settings
        self._take = take
        self._observe = observe
        self._clock = clock
        self._chance = chance
        self._numbers = itertools.count(1)
        self._queue: asyncio.Queue[Mirrored] = asyncio.Queue()
        self._hurried = 0
        self._places = 0
        """Requests that are being read, or wait."""

    def hurry(self) -> None:
        """Compare the next requests, all that there are places for: something was seen that pairs can tell of."""
        self._hurried = _HURRY

    async def offer(self, read: Read) -> bool:
        """Take a request, or not: only then is it read, and there is a place for it.

        Whatever `read` raises passes through, and its place is free again.
        """
        if not self._hurried and self._chance.random() >= self._settings.rate:
            return False
        if self._places >= self._settings.queue:
            self._miss(Missed.QUEUE_FULL)
            return False
        self._places += 1
        self._hurried = max(0, self._hurried - 1)
        try:
            mirrored = await read()
        except BaseException:
            self._places -= 1
            raise
        if mirrored.id.startswith(_OWN):
            self._places -= 1
        else:
            self._queue.put_nowait(mirrored)
        return True

    async def run(self) -> None:
        """Work until cancelled."""
        while True:
            await self._next()  # a frame of its own: the image goes when it returns

    async def _next(self) -> None:
        mirrored = await self._queue.get()
        self._places -= 1
        try:
            await self._compare(mirrored)
        except Exception as error:  # noqa: BLE001 - a bug must neither end the comparing nor be silent
            what = f"shadow: {type(error).__name__}: {error}"
            self._observe(CycleFailed(model=self._target.model, at=self._clock(), error=what))

    async def _compare(self, mirrored: Mirrored) -> None:
        fast, safe = await asyncio.gather(*(self._ask(role, mirrored) for role in (Role.FAST, Role.SAFE)))
        if isinstance(fast, Missed):
            return self._miss(fast)
        if isinstance(safe, Missed):
            return self._miss(safe)
        pairs = await asyncio.to_thread(self._pairs, fast, safe)
        if isinstance(pairs, Missed):
            return self._miss(pairs)
        return await self._take(pairs, as_one=True)

    async def _ask(self, role: Role, mirrored: Mirrored) -> Reply | Missed:
        address = self._target.engines[role].address
        request = InferRequest(
            address=address,
            inputs=mirrored.inputs,
            outputs=tuple(output.name for output in self._outputs),
            id=f"{_OWN}shadow-{next(self._numbers)}",
        )
        answer = await self._target.endpoints[address.endpoint].infer(request, self._target.deadline_s)
        if isinstance(answer, Fault):
            return Missed.NO_ANSWER
        return answer if answer.answered_by.is_at(address) else Missed.WRONG_VERSION

    def _pairs(self, fast: Reply, safe: Reply) -> list[Pair] | Missed:
        """A pair for each row."""
        ours, theirs = (read_answer(self._outputs, reply.outputs, batched=self._batched) for reply in (fast, safe))
        sizes = {name: len(values) for name, values in ours.items()}
        if sizes != {name: len(values) for name, values in theirs.items()}:
            return Missed.ROWS_DIFFER
        return [Pair(fast=_row(ours, at), safe=_row(theirs, at)) for at in range(max(sizes.values(), default=0))]

    def _miss(self, why: Missed) -> None:
        self._observe(
            Ignored(
                model=self._target.model, at=self._clock(), source=Source.SHADOW, reading="", condition=why, count=1
            )
        )


def _row(readings: Mapping[str, tuple[float, ...]], at: int) -> dict[str, float]:
    return {name: values[at] for name, values in readings.items() if at < len(values)}
