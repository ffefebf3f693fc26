"""The running service: one configuration after the other, behind one HTTP server."""

import asyncio
import contextlib
import fcntl
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from watchdog import __version__, alerting, config
from watchdog.api.server import create
from watchdog.api.service import NoSuchModelError, ReloadError
from watchdog.assembly import AssemblyError, listen_for_traces
from watchdog.config import Config, ConfigError, ModelSettings
from watchdog.cycle import Cycle
from watchdog.evidence.files import FileEvidence
from watchdog.journal.export import record
from watchdog.journal.reading import FILE_NAME, Stored, opened
from watchdog.journal.steady import SteadyJournal
from watchdog.live import Feed
from watchdog.model.engine import Role
from watchdog.model.event import Command, CycleFailed, SpansTaken
from watchdog.model.gate import Gate
from watchdog.model.journal import Entry, EntryKind
from watchdog.model.module_probe import ModuleProbe, Refusal, Refused
from watchdog.model.route import Published
from watchdog.policy.decide import Decision
from watchdog.policy.gate import gate
from watchdog.ports import Event, Journal, Observer
from watchdog.server_tls import server_context
from watchdog.telemetry.board import Board
from watchdog.telemetry.gallery import Drawing, Gallery, Picture
from watchdog.telemetry.history import History
from watchdog.telemetry.logs import log_event
from watchdog.telemetry.loop_lag import watch_lag
from watchdog.telemetry.metrics import Metrics
from watchdog.telemetry.snapshot import Snapshot
from watchdog.timekeeper import Timekeeper
from watchdog.transport import serve
from watchdog.watching import Watching, assemble

_FLUSH_S = 3.0
_JOURNAL = "journal"
_CHECK_JOURNAL_S = 60.0
_COMPACT_S = 3600.0
_TOLD = tuple(str(kind) for kind in EntryKind if kind is not EntryKind.SCORE)
_MOST_LOOKED_THROUGH = 200_000
"""Entries: recorded scores may lie between all others, and nobody waits for the page that long."""
_MISSED_PROBES = 2
"""A gate may be passed on the strength of an answer so many probes old."""


class StartError(RuntimeError):
    """The service can't start; the message says why, a line a problem."""


class Watchdog:
    """What runs: it can be asked, commanded and reloaded. Implements the API's `Service`."""

    def __init__(self, path: Path, settings: Config, journal: SteadyJournal) -> None:
        self._path = path
        self._settings = settings
        self._journal = journal
        self._evidence = FileEvidence(settings.state / "evidence")
        journal.watch(self._journal_changed)
        self._metrics = Metrics()
        self._board = Board(time.time())
        self._history = History()
        self._gallery = Gallery()
        self._observers: tuple[Observer, ...] = (self._metrics, self._board, self._history, self._gallery, log_event)
        self._watching: Watching | None = None
        self._timekeeper: Timekeeper | None = None
        self._reloading = asyncio.Lock()
        self._reloaded, self._configured_at = True, time.time()
        self._lag: asyncio.Task[None] | None = None
        self._news = asyncio.Event()
        """Set, and replaced by a new one, with each decision."""

    def ready(self) -> str | None:
        return None if self._watching is not None else "the canaries are being loaded"

    def status(self) -> dict[str, Any]:
        conditions = self._watching.notifier.conditions() if self._watching else ()
        document = self._board.document(time.time())
        for name, feed in (self._watching.feeds if self._watching else {}).items():
            document["models"].setdefault(name, {})["live"] = feed.status()
        return {
            "version": __version__,
            **document,
            "starting": self.ready(),
            "commands": self._settings.api.token is not None,
            "journal": {"trouble": self._journal.trouble},
            "configuration": {"in_force_since": self._configured_at, "last_reload_ok": self._reloaded},
            "channels": [asdict(queue) for queue in (self._watching.notifier.queues() if self._watching else ())],
            "alerts": [
                {
                    "alert": c.name,
                    "severity": c.severity,
                    "labels": dict(c.labels),
                    "summary": c.summary,
                    "description": c.description,
                }
                for c in conditions
            ],
        }

    def history(self, model: str, since: float) -> dict[str, Any]:
        self._cycle(model)
        return self._history.document(model, time.time(), since)

    def canaries(self, model: str) -> Sequence[dict[str, Any]]:
        self._cycle(model)
        return self._gallery.document(model, time.time())

    def drawing(self, model: str, number: int, picture: Picture) -> Drawing | None:
        self._cycle(model)
        return self._gallery.drawing(model, number, picture)

    async def journal_tail(self, limit: int, model: str | None, after: int) -> Sequence[Entry]:
        return await asyncio.to_thread(_newest_entries, self._settings.state, limit, model, after)

    def intake(self, model: str, *, served: bool = False) -> Feed:
        feeds = self._watching.feeds if self._watching else {}
        names = {m.public_address.model: m.name for m in self._settings.models} if served else {}
        name = model if model in feeds else names.get(model, model)
        if name not in feeds:
            raise NoSuchModelError(f"no model {model!r} is watched; there are: {', '.join(feeds) or 'none yet'}")
        return feeds[name]

    async def probe(self, module: str, target: str, within_s: float | None) -> ModuleProbe | Refused:
        if self._watching is None:
            return Refused(reason=Refusal.BUSY, detail=self.ready() or "ask again")
        return await self._watching.targets.probe(module, target, within_s)

    def metrics(self, accept: str) -> tuple[bytes, str]:
        self._metrics.look(self._snapshot())
        return self._metrics.render(accept)

    def _snapshot(self) -> Snapshot:
        watching = self._watching
        return Snapshot(
            up=watching is not None,
            conditions=watching.notifier.conditions() if watching else (),
            queues=watching.notifier.queues() if watching else (),
            journal_trouble=self._journal.trouble,
            leads=watching.leads() if watching else {},
            reloaded=self._reloaded,
            configured_at=self._configured_at,
        )

    def hook_token(self) -> str | None:
        token = self._settings.api.hook_token
        return None if token is None else token.read()

    def token(self) -> str | None:
        token = self._settings.api.token
        return None if token is None else token.read()

    def _cycle(self, model: str) -> Cycle:
        cycles = self._watching.cycles if self._watching else {}
        if model not in cycles:
            raise NoSuchModelError(f"no model {model!r} is watched; there are: {', '.join(cycles) or 'none yet'}")
        return cycles[model]

    def _settings_of(self, model: str) -> ModelSettings:
        return next(settings for settings in self._settings.models if settings.name == model)

    def gate(self, model: str) -> Gate:
        cycle, probe, now = self._cycle(model), self._settings_of(model).probe, time.time()
        patience_s = _MISSED_PROBES * probe.every + probe.deadline
        return gate(model, cycle.state, healthy_at=cycle.healthy_at, now=now, patience_s=patience_s)

    def route(self, model: str) -> Published:
        cycle, settings = self._cycle(model), self._settings_of(model)
        if not cycle.informed:
            why = self._journal.trouble or "neither journal, router nor public name tells who serves"
            raise OSError(f"{why}; until then the route of {model} is not known: keep the one that you have")
        state = cycle.state
        return Published(
            model=model,
            state=str(state.state),
            fast_percent=state.wanted_share,
            engines={role: settings.engine(role).address for role in Role},
            since=state.since,
        )

    async def route_changed(self, model: str, seen: Published, timeout_s: float) -> Published:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while (now := self.route(model)).fast_percent == seen.fast_percent and now.engines == seen.engines:
                    await self._news.wait()
        return self.route(model)

    async def route_ready(self, model: str) -> str | None:
        cycle = self._cycle(model)
        if await cycle.is_shown_now():
            return None
        return f"{model} is not known to be answered as it should be: {cycle.state.state}"

    async def note(self, model: str, actor: str, said: Mapping[str, str | bool]) -> None:
        self._cycle(model)
        data = {"actor": actor, **said}
        await self._journal.append(Entry(at=time.time(), kind=EntryKind.HOOK, model=model, data=data))

    async def command(self, model: str, command: Command, actor: str, why: str) -> Sequence[dict[str, Any]]:
        cycle = self._cycle(model)
        return [
            {
                "trigger": d.trigger,
                "before": d.before,
                "after": d.after.state,
                "action": d.action,
                "reason": d.reason,
                "detail": d.detail,
            }
            for d in await cycle.command(command, actor, why)
        ]

    def count_spans(self, outcome: str, count: int) -> None:
        """What became of what the trace intake received."""
        self._observe(SpansTaken(at=time.time(), outcome=outcome, count=count))

    async def start(self, timekeeper: Timekeeper) -> None:
        """Begin to watch.

        Args:
            timekeeper: what servers' traces go to; it outlives configurations.

        Raises:
            AssemblyError: something that the configuration names can't be used.
        """
        self._timekeeper = timekeeper
        self._lag = asyncio.create_task(watch_lag(self._metrics.lag), name="loop lag")
        self._watching = await self._assemble(self._settings, timekeeper)
        await self._watching.evidence.recall()
        await self._watching.notifier.recall()
        self._begin(self._watching)

    async def reload(self) -> None:
        async with self._reloading:
            if self._watching is None or self._timekeeper is None:
                raise ReloadError("still starting; try again when ready")
            self._reloaded = False
            fresh = await self._read_anew(self._timekeeper)
            await self._replace(self._watching, fresh)
            self._reloaded, self._configured_at = True, time.time()

    async def _read_anew(self, timekeeper: Timekeeper) -> Watching:
        try:
            settings = config.read(self._path)
            if _lasting(settings) == _lasting(self._settings):
                return await self._assemble(settings, timekeeper)
        except (ConfigError, AssemblyError, OSError) as error:
            raise ReloadError(str(error)) from error
        raise ReloadError("api.listen, api.tls, state and traces change only with a restart")

    async def stop(self) -> None:
        """Finish what is in flight, tell people what is due, and close everything."""
        if self._lag is not None:
            self._lag.cancel()
        async with self._reloading:  # what a reload has opened must be closed, too
            watching, self._watching = self._watching, None
        if watching is not None:
            await watching.drain()
            await watching.notifier.flush(_FLUSH_S)
            await watching.close()

    async def _assemble(self, settings: Config, timekeeper: Timekeeper) -> Watching:
        watching = await assemble(
            settings, self._journal, self._evidence, self._observe, clock=time.time, timekeeper=timekeeper
        )
        for name, lent in watching.lent.items():
            if lent.judge.baseline is not None:  # large volumes take their time, and others are probed meanwhile
                await asyncio.to_thread(self._gallery.know, name, lent.canaries, lent.judge.baseline)
        return watching

    async def _replace(self, old: Watching, fresh: Watching) -> None:
        await old.drain()
        await fresh.evidence.recall()
        for name in old.cycles.keys() & fresh.cycles.keys():
            fresh.cycles[name].take_over(old.cycles[name])
        fresh.notifier.take_over(old.notifier)
        if fresh.gpus is not None and old.gpus is not None and fresh.config.gpu == old.config.gpu:
            fresh.gpus.take_over(old.gpus)
        self._watching, self._settings = fresh, fresh.config
        self._begin(fresh)
        await old.close()
        for name in old.cycles.keys() - fresh.cycles.keys():
            self._metrics.forget(name)
            self._board.forget(name)
            self._history.forget(name)
            self._gallery.forget(name)
        if fresh.gpus is None:
            self._metrics.forget_gpus()
            self._board.forget_gpus()

    def _begin(self, watching: Watching) -> None:
        watching.notifier.hold(_JOURNAL, alerting.journal_conditions(self._journal.trouble))
        watching.every(self._check_journal, _CHECK_JOURNAL_S, datetime.now(UTC) + timedelta(seconds=_CHECK_JOURNAL_S))
        watching.every(self._compact_journal, _COMPACT_S, datetime.now(UTC) + timedelta(seconds=_COMPACT_S))
        self._know_states(watching)
        watching.go()

    def _journal_changed(self, trouble: str | None) -> None:
        if self._watching is None:
            return
        self._watching.notifier.hold(_JOURNAL, alerting.journal_conditions(trouble))
        if trouble is None:
            for cycle in self._watching.cycles.values():
                cycle.record_again()

    async def _check_journal(self) -> None:
        await self._journal.check()

    async def _compact_journal(self) -> None:
        with contextlib.suppress(OSError):  # it is tried again, and what hinders it is an entry's trouble, too
            await self._journal.compact()

    def _know_states(self, watching: Watching) -> None:
        for name, cycle in watching.cycles.items():
            self._board.know(name, cycle.state)
            self._metrics.know(name, cycle.state)

    def _observe(self, event: Event) -> None:
        """Tell every observer. One that fails, such as a log on a full disk, must not end the watch."""
        for observer in self._observers:
            try:
                observer(event)
            except Exception:  # noqa: BLE001 - it is counted, and the others are told
                self._metrics.observer_failed()
        if isinstance(event, Decision):
            self._news.set()
            self._news = asyncio.Event()


def _newest_entries(state: Path, limit: int, model: str | None, after: int) -> Sequence[Entry]:
    """By a connection of its own, so that nobody who reads keeps the watch from writing; see `Service.journal_tail`."""
    with opened(state) as reader:
        first, last = reader.bounds()
        behind, window = max(after, first - 1), limit
        while True:
            begin = max(behind, last - window)
            found = list(reader.entries(after=begin, kinds=_TOLD, model=model))[-limit:]
            if len(found) == limit or begin == behind or window >= _MOST_LOOKED_THROUGH:
                return [_entry(stored) for stored in found]
            window *= 8


def _entry(stored: Stored) -> Entry:
    link = stored.link
    return Entry(
        seq=link.seq, at=link.at, kind=EntryKind(link.kind), model=link.model, data=record(stored)["data"] or {}
    )


def _lasting(settings: Config) -> tuple[object, ...]:
    """What the process was started with, and can't change."""
    return settings.api.listen, settings.api.tls, settings.state, settings.traces


async def run(path: Path, announce: Callable[[str], None]) -> None:
    """Run the service until SIGTERM or SIGINT; SIGHUP reloads.

    Args:
        path: the configuration file.
        announce: told the base URL once the server listens.

    Raises:
        ConfigError, StartError: it can't start; nothing is left behind.
    """
    settings = config.read(path)
    async with AsyncExitStack() as stack:
        stack.enter_context(_only_one(settings.state))
        journal = SteadyJournal(settings.state / FILE_NAME, settings.journal)
        stack.push_async_callback(journal.close)
        watchdog = Watchdog(path, settings, journal)
        stop = _on_signals(watchdog)
        try:
            tls = None if settings.api.tls is None else server_context(settings.api.tls, _complain)
            runner, url = await serve(create(watchdog), settings.api.listen, tls=tls)
        except OSError as error:
            raise StartError(f"api.listen: {error.strerror}") from error
        except ValueError as error:
            raise StartError(f"api.tls: {error}") from error
        stack.push_async_callback(runner.cleanup)
        try:
            timekeeper = await stack.enter_async_context(listen_for_traces(settings.traces, watchdog.count_spans))
        except OSError as error:
            raise StartError(f"traces.listen: {error.strerror}") from error
        announce(url)
        stack.push_async_callback(watchdog.stop)
        try:
            await _record(journal, EntryKind.STARTED, {"version": __version__})
            await watchdog.start(timekeeper)
        except AssemblyError as error:
            raise StartError(str(error)) from error
        await stop.wait()
        await _record(journal, EntryKind.STOPPED, {})


async def _record(journal: Journal, kind: EntryKind, data: Mapping[str, str]) -> None:
    """An entry that is missed, but not needed: a journal that can't record is an alert of its own."""
    with contextlib.suppress(OSError):
        await journal.append(Entry(at=time.time(), kind=kind, model="", data=data))


@contextmanager
def _only_one(state: Path) -> Iterator[None]:
    """Hold the state folder: two watchdogs with one journal would fight over the route."""
    try:
        state.mkdir(parents=True, exist_ok=True)
        lock = os.open(state / "lock", os.O_CREAT | os.O_RDWR, 0o600)
    except OSError as error:
        raise StartError(f"state: {state} can't be used: {error.strerror}") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as error:
        raise StartError(f"state: another watchdog runs with {state}; give each a folder of its own") from error
    finally:
        os.close(lock)


def _on_signals(watchdog: Watchdog) -> asyncio.Event:
    """SIGTERM and SIGINT set the returned event; SIGHUP reloads."""
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    reloading: set[asyncio.Task[None]] = set()

    def hang_up() -> None:
        task = loop.create_task(_reload_and_say(watchdog))
        reloading.add(task)
        task.add_done_callback(reloading.discard)

    loop.add_signal_handler(signal.SIGTERM, stop.set)
    loop.add_signal_handler(signal.SIGINT, stop.set)
    loop.add_signal_handler(signal.SIGHUP, hang_up)
    return stop


def _complain(error: str) -> None:
    log_event(CycleFailed(model="", at=time.time(), error=error))


async def _reload_and_say(watchdog: Watchdog) -> None:
    try:
        await watchdog.reload()
    except ReloadError as error:
        _complain(f"reload refused, the old configuration goes on:\n{error}")
