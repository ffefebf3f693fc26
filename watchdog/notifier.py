"""Takes what people should know to every channel, beside the probing and never in its way.

One task a channel. What a channel still has to be told follows from its own ledger, so one slow or
dead receiver delays neither probing nor the others, and is told the truth when it is back. The ledger
is on disk before anything is delivered and after: a crash loses nothing, and tells nothing again but
what was just being delivered.
"""

import asyncio
import contextlib
import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

from watchdog import alerting
from watchdog.ledger import Ledger, Resend
from watchdog.model.event import CycleFailed, Delivered, Noticed
from watchdog.model.journal import Entry, EntryKind
from watchdog.model.notice import Condition, Delivery, Notice, NoticeKind, Queue
from watchdog.policy.decide import Decision
from watchdog.policy.memory import PolicyState
from watchdog.ports import Channel, Clock, Event, Evidence, Journal, Observer

_LOOK_AGAIN_S = 5.0
"""How often conditions are looked at without an event: some end by the clock alone."""
_INHERITED_FOR_S = 120.0
"""After a start or a reload, so long at most until a source that is still watched has spoken again."""
_FIRST_RETRY_S = 1.0
_LAST_RETRY_S = 60.0


@dataclass(kw_only=True, slots=True)
class Outlet:
    """A channel, how it wants to be told, and what it has been told."""

    name: str
    channel: Channel
    resend: Resend
    ledger: Ledger = field(default_factory=Ledger)
    saved: bytes = b""
    """The ledger as it is on disk."""
    last: Delivery | None = None
    """What came of the newest try."""
    delivered_at: float | None = None
    one_save: asyncio.Lock = field(default_factory=asyncio.Lock)
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    told: asyncio.Event = field(default_factory=asyncio.Event)
    """Set while nothing is due."""


class Notifier:
    """Keeps every channel told of the conditions that hold.

    Feed it decisions through `observe`; run it with ``async with``. It tells nobody anything before `begin`, when it
    has been told of every model's state: what it does not know to hold is over.
    """

    def __init__(
        self,
        outlets: Mapping[str, tuple[Channel, Resend]],
        journal: Journal,
        evidence: Evidence,
        observe: Observer,
        clock: Clock,
    ) -> None:
        self._outlets = [Outlet(name=name, channel=c, resend=r) for name, (c, r) in outlets.items()]
        self._journal = journal
        self._evidence = evidence
        self._observe = observe
        self._clock = clock
        self._states: dict[str, PolicyState] = {}
        self._held: dict[str, tuple[Condition, ...]] = {}
        self._held_until: dict[str, float] = {}
        """Sources that an earlier notifier heard, and this one has not yet."""
        self._tasks: list[asyncio.Task[None]] = []
        self._begun = asyncio.Event()
        self._news = asyncio.Event()
        self._disk_fails = False

    async def __aenter__(self) -> Self:
        self._tasks = [
            asyncio.create_task(self._serve(outlet), name=f"channel {outlet.name}") for outlet in self._outlets
        ]
        self._tasks.append(asyncio.create_task(self._keep_news(), name="channels' ledgers"))
        return self

    async def __aexit__(self, *_: object) -> None:
        self._stop()
        for task in self._tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await task

    def _stop(self) -> None:
        for task in self._tasks:
            task.cancel()

    def observe(self, event: Event) -> None:
        """An observer: takes note of settled policy states."""
        if isinstance(event, Decision) and alerting.is_settled(event.after):
            self.know(event.model, event.after)

    def know(self, model: str, state: PolicyState) -> None:
        """Take a model's state as it is, such as the one resumed at start."""
        if self._held_until.pop(model, None) is not None:
            del self._held[model]
        if self._states.get(model) != state:
            self._states[model] = state
            self._wake_all()

    def hold(self, source: str, conditions: Sequence[Condition]) -> None:
        """Take all conditions that hold by one other source, such as the GPUs, instead of those it had."""
        self._held_until.pop(source, None)
        before, self._held[source] = self._held.get(source, ()), tuple(conditions)
        if self._held[source] != before:
            self._wake_all()

    async def recall(self) -> None:
        """Go on where the last process stopped. What can't be read is told, and begun anew."""
        for outlet in self._outlets:
            try:
                stored = await self._evidence.load(_place(outlet.name))
                if stored is not None:
                    outlet.ledger, outlet.saved = Ledger.from_bytes(stored), stored
            except (OSError, ValueError) as error:
                self._fail(f"channel {outlet.name}: what it was told is not known any more: {error}")
            for life in outlet.ledger.lives:
                if not life.over:
                    self._inherit(life.source, (*self._held.get(life.source, ()), life.condition))

    def take_over(self, old: "Notifier") -> None:
        """Go on where the notifier of an earlier configuration is, and stop it: nothing is told twice.

        But for a delivery that is under way: that is broken off and begun again, with the same identity.
        """
        old._stop()  # noqa: SLF001 - or both would tell, and it would write its ledgers over ours
        before = {outlet.name: outlet for outlet in old._outlets}  # noqa: SLF001 - of the same class
        for outlet in self._outlets:
            if outlet.name in before:
                known = before[outlet.name]
                outlet.ledger, outlet.saved = known.ledger, known.saved
                outlet.last, outlet.delivered_at = known.last, known.delivered_at
        for source, conditions in old._held_at(self._clock()).items():  # noqa: SLF001
            self._inherit(source, conditions)

    def _inherit(self, source: str, conditions: tuple[Condition, ...]) -> None:
        if source not in self._held or source in self._held_until:
            self._held[source] = tuple({c.key: c for c in conditions}.values())
            self._held_until[source] = self._clock() + _INHERITED_FOR_S

    def begin(self) -> None:
        """Tell: every model's state is known now."""
        self._begun.set()
        self._wake_all()

    def conditions(self) -> tuple[Condition, ...]:
        """All that hold now, over all models."""
        return tuple(condition for _, condition in self._current())

    def queues(self) -> tuple[Queue, ...]:
        """How each channel stands."""
        return tuple(_queue(outlet) for outlet in self._outlets)

    def _current(self) -> Iterator[tuple[str, Condition]]:
        """What holds, and who says so."""
        now = self._clock()
        for model, state in self._states.items():
            yield from ((model, condition) for condition in alerting.conditions(model, state, now))
        for source, conditions in self._held_at(now).items():
            yield from ((source, condition) for condition in conditions)

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
            if self._begun.is_set():
                self._look(outlet)  # at once: what is over again before the channel is free has been, too
            outlet.wake.set()
        self._news.set()

    async def keep(self) -> None:
        """Bring to the disk what every channel has to be told."""
        for outlet in self._outlets:
            await self._save(outlet)

    async def _keep_news(self) -> None:
        """Beside the channels, of which one may take its time."""
        while True:
            await self._news.wait()
            self._news.clear()
            if self._begun.is_set():
                await self.keep()

    def _look(self, outlet: Outlet) -> None:
        outlet.ledger = outlet.ledger.observe(self._current(), self._clock(), outlet.resend)

    def _pending(self, outlet: Outlet) -> tuple[Notice, ...]:
        self._look(outlet)
        return outlet.ledger.due(self._clock(), outlet.resend)

    async def _serve(self, outlet: Outlet) -> None:
        await self._begun.wait()
        pause = _FIRST_RETRY_S
        while True:
            outlet.wake.clear()
            if not await self._tell_what_is_due(outlet):
                await asyncio.sleep(_patience(outlet.last, pause))  # news must not defeat the backing off
                pause = min(_LAST_RETRY_S, 2 * pause)
                continue
            pause = _FIRST_RETRY_S
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_AGAIN_S):
                    await outlet.wake.wait()

    async def _tell_what_is_due(self, outlet: Outlet) -> bool:
        """False where it must be tried again."""
        try:
            while notices := self._pending(outlet):
                if outlet.resend.one_by_one:
                    notices = notices[:1]
                outlet.ledger = outlet.ledger.tried(notices)
                await self._save_first(outlet)
                if not await self._tell(outlet, notices):
                    return False
            await self._save_first(outlet)
            if not outlet.wake.is_set():  # else there was news meanwhile
                outlet.told.set()
        except Exception as error:  # noqa: BLE001 - a bug must neither end the telling nor be silent
            self._fail(f"channel {outlet.name}: {type(error).__name__}: {error}")
            return False
        return True

    async def _save_first(self, outlet: Outlet) -> None:
        """Before anything else is done, unless the disk fails: that is tried beside the channels until it is well."""
        if self._disk_fails:
            self._news.set()
        else:
            await self._save(outlet)

    async def _save(self, outlet: Outlet) -> None:
        """Bring to the disk what the channel has been told and has to be. People are told, whatever the disk does."""
        async with outlet.one_save:
            data = outlet.ledger.to_bytes()
            if data == outlet.saved:
                return
            try:
                await self._evidence.save(_place(outlet.name), data)
                outlet.saved, self._disk_fails = data, False
            except OSError as error:
                if not self._disk_fails:
                    self._fail(f"channel {outlet.name}: a crash now may tell people again, or too little: {error}")
                self._disk_fails = True

    async def _tell(self, outlet: Outlet, notices: tuple[Notice, ...]) -> bool:
        delivery = outlet.last = await outlet.channel.deliver(notices)
        now = self._clock()
        self._observe(Delivered(at=now, channel=outlet.name, notices=len(notices), delivery=delivery))
        if not delivery.ok and delivery.retry:
            return False
        # A receiver that calls the message itself wrong would do so for ever: told is told.
        outlet.ledger = outlet.ledger.taken(notices, now, outlet.resend)
        await self._save_first(outlet)
        if delivery.ok:
            outlet.delivered_at = now
        for notice in notices:
            if notice.kind is not NoticeKind.REPEAT:
                self._observe(Noticed(at=now, notice=notice))
                await self._record(outlet.name, notice, ok=delivery.ok, detail=delivery.detail)
        return True

    def _fail(self, error: str) -> None:
        self._observe(CycleFailed(model="", at=self._clock(), error=error))

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


def _place(channel: str) -> str:
    return f"channel/{channel}"


def _queue(outlet: Outlet) -> Queue:
    pending, oldest_at = outlet.ledger.waiting()
    return Queue(
        channel=outlet.name,
        pending=pending,
        oldest_at=oldest_at,
        up=None if outlet.last is None else outlet.last.ok,
        delivered_at=outlet.delivered_at,
        detail="" if outlet.last is None else outlet.last.detail,
    )


def _patience(last: Delivery | None, pause_s: float) -> float:
    """How long to wait before the next try: scattered, so that many senders don't come at once, and as asked for."""
    asked = last.retry_after_s if last is not None and not last.ok else None
    return max(random.uniform(pause_s / 2, pause_s), asked or 0.0)  # noqa: S311 - no secret
