"""Learns, after a probe, where its time went: from the server's own trace of that very request.

Probes carry a W3C ``traceparent``; a server that traces such requests exports their spans some time
after it has answered. Until then a probe waits here, without its outputs. Each is told of exactly
once: with its trace, or with the mean of the server's statistics over the interval that it was in,
or as it is.
"""

import asyncio
import secrets
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

from watchdog.model.engine import Description, Role
from watchdog.model.load import Load
from watchdog.model.probe import Attribution, Part, ProbeResult, Timing
from watchdog.model.span import Span
from watchdog.ports import Clock
from watchdog.split import Unusable, split, whole
from watchdog.tracing import may_crash

WAIT_S = 15.0
"""A trace that is later than this is not waited for: Triton exports every 5 s unless told otherwise."""
_PATIENT = 3
"""Traces in a row that must be missing before none is expected: Triton loses one in twenty over gRPC."""
_MOST_WAITING = 4096
_MOST_SPANS = 64
"""Of one request; an ensemble of twenty models has as many."""
_PATIENCE_S = 1.0
"""A burst waits so long at most for its traces, since traffic may have to be moved."""

Tell = Callable[[ProbeResult], None]


@dataclass(kw_only=True, slots=True)
class _Waiting:
    """A request that was sent, what came of it, and what the server has told of it so far."""

    began_at: float
    traced: bool
    result: ProbeResult | None = None
    answered_at: float = 0.0
    tell: Tell | None = None
    shared_s: float | None = None
    """The mean device time of all traffic in the interval that it was in."""
    spans: dict[str, Span] = field(default_factory=dict)


class Timekeeper:
    """Matches spans to probes. Bounded: what waits too long, or is one too many, is told of as it is.

    Args:
        clock: Unix seconds.
        count: told what became of spans, by a few fixed names.
        listening: whether there is an intake that spans can come through.
        despite_crashes: whether servers that may crash of tracing are asked to trace all the same.
        remember: how many of the newest results `settled` still knows when they have been told of.
    """

    def __init__(
        self,
        clock: Clock,
        count: Callable[[str, int], None],
        *,
        listening: bool,
        despite_crashes: bool = False,
        remember: int = 256,
    ) -> None:
        self.prefix = secrets.token_hex(6)
        """How all our trace ids begin: what tells them from the traces of others."""
        self.listening = listening
        self._despite_crashes = despite_crashes
        self._clock = clock
        self._count = count
        self._remember = remember
        self._waiting: OrderedDict[str, _Waiting] = OrderedDict()
        self._told: OrderedDict[str, ProbeResult] = OrderedDict()
        self._lateness: dict[str, float] = {}
        """Endpoint → seconds from a probe's answer to its trace; absent while none comes."""
        self._silent: set[str] = set()
        """Endpoints whose last traces did not come in time, not one of `_PATIENT`."""
        self._missed: Counter[str] = Counter()
        """How many in a row did not come, by endpoint."""
        self._news = asyncio.Event()

    def may_trace(self, server: Description) -> bool:
        """Whether a request to this server may ask to be traced: it would do no harm, and be heard of."""
        return self.listening and (self._despite_crashes or not may_crash(server))

    def begin(self, *, traced: bool) -> str:
        """A trace id for one request; `answered` or `forget` must follow.

        Args:
            traced: whether the request asks for a trace, so that one may come.
        """
        trace_id = self.prefix + secrets.token_hex(16 - len(self.prefix) // 2)
        self._waiting[trace_id] = _Waiting(began_at=self._clock(), traced=traced)
        while len(self._waiting) > _MOST_WAITING:
            self._give_up(next(iter(self._waiting)))
        return trace_id

    def forget(self, trace_id: str) -> None:
        """The request was not answered: nobody needs to know where its time went."""
        self._waiting.pop(trace_id, None)

    def answered(self, result: ProbeResult, tell: Tell) -> None:
        """The answer is there; `tell` is called once, at the latest by a `sweep` some time later."""
        result = replace(result, outputs={})
        waiting = self._waiting.get(result.trace_id)
        own = result.timing.device_s is not None and waiting is not None and not waiting.traced
        if waiting is None or result.timing.parts or own:  # given up as one too many, or known already
            self._waiting.pop(result.trace_id, None)
            self._finish(result, tell)
            return
        waiting.result, waiting.answered_at, waiting.tell = result, self._clock(), tell
        self._try(result.trace_id, waiting)

    def take(self, spans: Sequence[Span]) -> None:
        """Spans whose trace ids begin as ours do, in any order, as often as they come."""
        for span in spans:
            waiting = self._waiting.get(span.trace_id)
            if waiting is None:
                self._count("late", 1)
                if span.trace_id in self._told:
                    self._hear_of(self._told[span.trace_id].address.endpoint)
            elif span.span_id in waiting.spans or len(waiting.spans) >= _MOST_SPANS:
                self._count("repeated", 1)
            else:
                waiting.spans[span.span_id] = span
                self._try(span.trace_id, waiting)

    def load_seen(self, model: str, role: Role, load: Load, at: float) -> None:
        """The server's statistics of an interval that ended now: for probes in it that nobody traces."""
        mean_s = load.mean_s.get(Part.DEVICE)
        for trace_id, waiting in list(self._waiting.items()):
            result = waiting.result
            if result is None or result.model != model or result.expected is not role:
                continue
            if waiting.shared_s is None and waiting.began_at >= at - load.over_s:
                waiting.shared_s = mean_s
            if not self._is_awaited(waiting):
                self._give_up(trace_id)

    def sweep(self) -> None:
        """Tell of what has waited too long. To be called every second or so."""
        now = self._clock()
        for trace_id, waiting in list(self._waiting.items()):
            since = waiting.answered_at if waiting.result is not None else waiting.began_at
            if now - since > WAIT_S:
                self._give_up(trace_id)

    def let_go(self) -> None:
        """Tell of all that waits as it is: whoever is told of it is about to end."""
        for trace_id in list(self._waiting):
            self._end(trace_id)

    async def settled(self, results: Iterable[ProbeResult], within_s: float | None = None) -> list[ProbeResult]:
        """The same results, with all that is known of their timing after a while.

        Args:
            results: of probes that were answered.
            within_s: how long to wait at most; by default as long as traces usually take, and not at
                all where none come.
        """
        wanted = [result for result in results if result.fault is None]
        if within_s is None:
            within_s = max((self._patience_s(result) for result in wanted), default=0.0)
        give_up_at = asyncio.get_running_loop().time() + within_s
        try:
            async with asyncio.timeout_at(give_up_at):
                while any(result.trace_id in self._waiting for result in wanted):
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            pass
        return [self._newest(result) for result in wanted]

    def _newest(self, result: ProbeResult) -> ProbeResult:
        told = self._told.get(result.trace_id)
        if told is not None:
            return told
        waiting = self._waiting.get(result.trace_id)
        return waiting.result if waiting is not None and waiting.result is not None else result

    def _patience_s(self, result: ProbeResult) -> float:
        late = self._lateness.get(result.address.endpoint)
        return 0.0 if late is None else min(_PATIENCE_S, 2 * late + 0.1)

    def _is_awaited(self, waiting: _Waiting) -> bool:
        """Whether a trace can still be expected: its endpoint sends them, or has not yet shown that it doesn't."""
        assert waiting.result is not None  # noqa: S101 - asked only of answered ones
        return waiting.traced and waiting.result.address.endpoint not in self._silent

    def _try(self, trace_id: str, waiting: _Waiting) -> None:
        """Finish a request that has been answered, and of which the server has told everything."""
        result, spans = waiting.result, waiting.spans.values()
        if result is None or waiting.tell is None or not whole(spans):
            return
        del self._waiting[trace_id]
        timing = split(spans, result.timing)
        if isinstance(timing, Timing):
            endpoint, late = result.address.endpoint, max(0.0, self._clock() - waiting.answered_at)
            before = self._lateness.get(endpoint, late)
            self._lateness[endpoint] = max(late, 0.9 * before)
            self._hear_of(endpoint)
            self._count("matched", len(spans))
            result = replace(result, timing=timing)
        else:
            self._count(str(timing), len(spans))
        self._finish(result, waiting.tell)

    def _hear_of(self, endpoint: str) -> None:
        """It does send traces, be they late."""
        self._silent.discard(endpoint)
        self._missed.pop(endpoint, None)

    def _give_up(self, trace_id: str) -> None:
        """It should have been there by now."""
        waiting = self._waiting[trace_id]
        if waiting.result is not None and self._is_awaited(waiting):
            endpoint = waiting.result.address.endpoint
            self._count("missing", 1)
            self._missed[endpoint] += 1
            if self._missed[endpoint] >= _PATIENT:
                self._silent.add(endpoint)
                self._lateness.pop(endpoint, None)
        self._end(trace_id)

    def _end(self, trace_id: str) -> None:
        """Tell of it with what is known."""
        waiting = self._waiting.pop(trace_id)
        if waiting.result is None or waiting.tell is None:
            return
        if waiting.spans:
            self._count(str(Unusable.INCOMPLETE), len(waiting.spans))
        result = waiting.result
        if result.timing.device_s is None and waiting.shared_s is not None:
            timing = replace(result.timing, device_s=waiting.shared_s, attribution=Attribution.SHARED)
            result = replace(result, timing=timing)
        self._finish(result, waiting.tell)

    def _finish(self, result: ProbeResult, tell: Tell) -> None:
        self._told[result.trace_id] = result
        while len(self._told) > self._remember:
            self._told.popitem(last=False)
        self._news.set()
        tell(result)
