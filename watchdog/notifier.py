"""Takes what people should know to every channel, beside the probing and never in its way.

One task a channel. What a channel still has to be told follows from its own ledger, so one slow or
dead receiver delays neither probing nor the others, and is told the truth when it is back.
"""

import asyncio
import contextlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

from watchdog import alerting
from watchdog.alerting import Ledger, Resend
from watchdog.model.event import CycleFailed, Delivered, Noticed
from watchdog.model.journal import Entry, EntryKind
from watchdog.model.notice import Condition, Notice, NoticeKind
from watchdog.policy.decide import Decision
from watchdog.policy.memory import PolicyState
from watchdog.ports import Channel, Clock, Event, Journal, Observer

_LOOK_AGAIN_S = 5.0
"""How often conditions are looked at without an event: some end by the clock alone."""
_INHERITED_FOR_S = 120.0
"""After a reload, so long at most until a source that is still watched has spoken again."""
_FIRST_RETRY_S = 1.0
_LAST_RETRY_S = 60.0


@dataclass(kw_only=True, slots=True)
class Outlet:
    """A channel, how it wants to be told, and what it has been told."""

    name: str
    channel: Channel
    resend: Resend
    ledger: Ledger = field(default_factory=dict)
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    told: asyncio.Event = field(default_factory=asyncio.Event)
    """Set while nothing is due."""


class Notifier:
    """Keeps every channel told of the conditions that hold.

    Feed it decisions through `observe`; run it with ``async with``.
    """

    def __init__(
        self, outlets: Mapping[str, tuple[Channel, Resend]], journal: Journal, observe: Observer, clock: Clock
    ) -> None:
        self._outlets = [Outlet(name=name, channel=c, resend=r) for name, (c, r) in outlets.items()]
        self._journal = journal
        self._observe = observe
        self._clock = clock
        self._states: dict[str, PolicyState] = {}
        self._held: dict[str, tuple[Condition, ...]] = {}
        self._held_until: dict[str, float] = {}
        """Sources that an earlier notifier heard, and this one has not yet."""
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        self._tasks = [
            asyncio.create_task(self._serve(outlet), name=f"channel {outlet.name}") for outlet in self._outlets
        ]
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        for task in self._tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await task

    def observe(self, event: Event) -> None:
        """An observer: takes note of settled policy states."""
        if isinstance(event, Decision) and alerting.is_settled(event.after):
            self.know(event.model, event.after)

    def know(self, model: str, state: PolicyState) -> None:
        """Take a model's state as it is, such as the one resumed at start."""
        if self._states.get(model) != state:
            self._states[model] = state
            self._wake_all()

    def hold(self, source: str, conditions: Sequence[Condition]) -> None:
        """Take all conditions that hold by one other source, such as the GPUs, instead of those it had."""
        self._held_until.pop(source, None)
        before, self._held[source] = self._held.get(source, ()), tuple(conditions)
        if self._held[source] != before:
            self._wake_all()

    def take_over(self, old: "Notifier") -> None:
        """Go on where the notifier of an earlier configuration stopped: nothing is told twice."""
        ledgers = {outlet.name: outlet.ledger for outlet in old._outlets}  # noqa: SLF001 - of the same class
        for outlet in self._outlets:
            outlet.ledger = ledgers.get(outlet.name, {})
        now = self._clock()
        for source, conditions in old._held_at(now).items():  # noqa: SLF001
            if source not in self._held:
                self._held[source], self._held_until[source] = conditions, now + _INHERITED_FOR_S

    def conditions(self) -> tuple[Condition, ...]:
        """All that hold now, over all models."""
        now = self._clock()
        of_models = (c for model, state in self._states.items() for c in alerting.conditions(model, state, now))
        return (*of_models, *(c for conditions in self._held_at(now).values() for c in conditions))

    def _held_at(self, now: float) -> dict[str, tuple[Condition, ...]]:
        return {source: held for source, held in self._held.items() if now < self._held_until.get(source, math.inf)}

    async def flush(self, timeout_s: float) -> bool:
        """Wait until every channel has been told everything that is due; False on time-out."""
        try:
            async with asyncio.timeout(timeout_s):
                await asyncio.gather(*(outlet.told.wait() for outlet in self._outlets))
        except TimeoutError:
            return False
        return True

    def _wake_all(self) -> None:
        for outlet in self._outlets:
            outlet.told.clear()
            outlet.wake.set()

    def _pending(self, outlet: Outlet) -> tuple[Notice, ...]:
        now = self._clock()
        outlet.ledger = alerting.observe(outlet.ledger, self.conditions(), now)
        return alerting.due(outlet.ledger, now, outlet.resend)

    async def _serve(self, outlet: Outlet) -> None:
        pause = _FIRST_RETRY_S
        while True:
            outlet.wake.clear()
            if not await self._tell_what_is_due(outlet):
                await asyncio.sleep(pause)  # news must not defeat the backing off
                pause = min(_LAST_RETRY_S, 2 * pause)
                continue
            pause = _FIRST_RETRY_S
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_AGAIN_S):
                    await outlet.wake.wait()

    async def _tell_what_is_due(self, outlet: Outlet) -> bool:
        """False where it must be tried again."""
        try:
            notices = self._pending(outlet)
            if notices and not await self._tell(outlet, notices):
                return False
            if not self._pending(outlet):
                outlet.told.set()
        except Exception as error:  # noqa: BLE001 - a bug must neither end the telling nor be silent
            what = f"channel {outlet.name}: {type(error).__name__}: {error}"
            self._observe(CycleFailed(model="", at=self._clock(), error=what))
            return False
        return True

    async def _tell(self, outlet: Outlet, notices: tuple[Notice, ...]) -> bool:
        delivery = await outlet.channel.deliver(notices)
        now = self._clock()
        self._observe(Delivered(at=now, channel=outlet.name, notices=len(notices), delivery=delivery))
        if not delivery.ok and delivery.retry:
            return False
        # A receiver that calls the message itself wrong would do so for ever: told is told.
        outlet.ledger = alerting.delivered(outlet.ledger, notices, now, outlet.resend)
        for notice in notices:
            if notice.kind is not NoticeKind.REPEAT:
                self._observe(Noticed(at=now, notice=notice))
                await self._record(outlet.name, notice, ok=delivery.ok, detail=delivery.detail)
        return True

    async def _record(self, channel: str, notice: Notice, *, ok: bool, detail: str) -> None:
        data = {
            "channel": channel,
            "kind": notice.kind,
            "alert": notice.condition.name,
            "severity": notice.condition.severity,
            "summary": notice.condition.summary,
            "delivered": ok,
            "detail": detail,
        }
        model = notice.condition.labels.get("model", "")
        with contextlib.suppress(OSError):  # the switch journal's own failure is told by the cycle
            await self._journal.append(Entry(at=self._clock(), kind=EntryKind.NOTICE, model=model, data=data))
