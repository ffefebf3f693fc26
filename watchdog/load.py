"""What a server was doing meanwhile: an interval's load, what is usual, and what sets the two apart. Pure.

A slow answer has three causes that its own time can't tell apart: the server has more to do than it
can, the engine itself has become slow, or something else uses its GPU. The server's statistics can.
They hold all traffic, so that what is said here is about patients' requests as well as canaries.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from math import exp
from typing import Self

from watchdog.model.load import SERVER_PARTS, Load, Statistics, Tally
from watchdog.model.probe import Part

_MUCH_WAITING = 0.5
"""The share of a request's time in the server from which on waiting is what it mostly does."""
_LONGER = 2.0
"""How many times the usual a wait must be, to be unusual."""
_LEAST_WAIT_S = 0.001
"""A shorter wait is no queue, however quick the engine."""
_SLOWER = 1.5
_BUSIER = 1.5
_REJECTED = 0.05
"""The share of requests that the server gave up on in its queue."""
_OTHERS = 0.5
"""The share of the GPU's time that others have."""


class Circumstance(StrEnum):
    """What a server's load says of a slow or failed answer."""

    OVERLOADED = "overloaded"
    """Requests mostly wait, longer than usual, or are given up on in the queue."""
    ENGINE_SLOW = "engine-slow"
    """The device takes longer than usual for as much work, and nothing else explains it."""
    NEIGHBOUR = "neighbour"
    """Others have the GPU for most of the time, and the engine is slower than usual (or nobody knows)."""
    USUAL = "usual"
    IDLE = "idle"
    """No request succeeded."""
    UNKNOWN = "unknown"
    """Nothing stands out, but what is usual isn't known."""


def between(before: Statistics, after: Statistics, over_s: float) -> Load | None:
    """The load of the `over_s` seconds between two readings of the same counts.

    None where no time passed or a count went back: then the model was loaded anew in between.

    `Load.busy_ratio` takes the executions to be as long as the mean request's: the counts have a
    batch's time once for each request in it, so that it is too high where big batches take longer.
    Triton counts an execution that failed, and neither its inferences nor its time.
    """
    spent = _spent(before, after)
    if over_s <= 0 or min(_counts(spent)) < 0:
        return None
    mean_s = {part: tally.seconds / tally.count for part, tally in spent.parts.items() if tally.count}
    asked_cache = spent.cache_hits + spent.cache_misses
    return Load(
        over_s=over_s,
        requests_per_s=(spent.succeeded.count + spent.failed) / over_s,
        inferences_per_s=spent.inferences / over_s,
        failures_per_s={reason: count / over_s for reason, count in spent.failures.items()},
        mean_s=mean_s,
        batch_size=spent.inferences / spent.executions if spent.executions else None,
        cache_hit_ratio=spent.cache_hits / asked_cache if asked_cache else None,
        busy_ratio=mean_s.get(Part.DEVICE, 0.0) * spent.executions / over_s,
    )


def _spent(before: Statistics, after: Statistics) -> Statistics:
    """What was counted in between; below 0 where a count went back."""
    failed = after.failed - before.failed
    reasons = {reason: count - before.failures.get(reason, 0) for reason, count in after.failures.items()}
    return Statistics(
        inferences=after.inferences - before.inferences,
        executions=after.executions - before.executions,
        succeeded=_since(before.succeeded, after.succeeded),
        parts={part: _since(before.parts.get(part, Tally()), after.parts.get(part, Tally())) for part in SERVER_PARTS},
        failed=failed,
        failures=reasons if before.failures and after.failures else {"unknown": failed},
        cache_hits=after.cache_hits - before.cache_hits,
        cache_misses=after.cache_misses - before.cache_misses,
    )


def _since(before: Tally, after: Tally) -> Tally:
    return Tally(count=after.count - before.count, seconds=after.seconds - before.seconds)


def _counts(counted: Statistics) -> Iterator[float]:
    yield from (counted.inferences, counted.executions, counted.failed, counted.cache_hits, counted.cache_misses)
    yield from counted.failures.values()
    for tally in (counted.succeeded, *counted.parts.values()):
        yield from (tally.count, tally.seconds)


@dataclass(frozen=True, kw_only=True, slots=True)
class Usual:
    """The usual load, learnt from healthy intervals: an exponential mean that begins as a plain one.

    Rates are means over time, and what one request has is a mean over requests: a quiet night
    moves the rate, and not the device time.
    """

    load: Load | None = None
    """None before anything was learnt. Its `over_s` is how much time it stands on, the older counting less."""
    requests: float = 0.0
    """How many requests it stands on, the older counting less."""
    memory_s: float = 3600.0
    """After so long a load counts for 1/e: within a day what is usual at that hour, and slow beside an incident."""

    def after(self, load: Load) -> Self:
        """With one more healthy interval."""
        fresh = load.requests_per_s * load.over_s
        if self.load is None:
            return replace(self, load=load, requests=fresh)
        kept = exp(-load.over_s / self.memory_s)
        seconds, requests = kept * self.load.over_s + load.over_s, kept * self.requests + fresh
        of_time, of_requests = load.over_s / seconds, fresh / requests if fresh else 0.0
        old = self.load
        mean = Load(
            over_s=seconds,
            requests_per_s=_mixed(old.requests_per_s, load.requests_per_s, of_time),
            inferences_per_s=_mixed(old.inferences_per_s, load.inferences_per_s, of_time),
            failures_per_s={
                reason: _mixed(old.failures_per_s.get(reason, 0.0), load.failures_per_s.get(reason, 0.0), of_time)
                for reason in old.failures_per_s.keys() | load.failures_per_s.keys()
            },
            mean_s={
                part: _mixed(old.mean_s.get(part, new), new, of_requests)
                for part, new in {**old.mean_s, **load.mean_s}.items()
            },
            batch_size=_mixed_if_any(old.batch_size, load.batch_size, of_requests),
            cache_hit_ratio=_mixed_if_any(old.cache_hit_ratio, load.cache_hit_ratio, of_requests),
            busy_ratio=_mixed(old.busy_ratio, load.busy_ratio, of_time),
        )
        return replace(self, load=mean, requests=requests)


def _mixed(old: float, new: float, share: float) -> float:
    return old + share * (new - old)


def _mixed_if_any(old: float | None, new: float | None, share: float) -> float | None:
    if old is None or new is None:
        return old if new is None else new
    return _mixed(old, new, share)


def tell(now: Load, usual: Load | None, gpu_busy: float | None, *, device_slow: bool = False) -> Circumstance:
    """Which circumstance explains a slow or failed answer.

    In this order, where `usual` and `gpu_busy` (the GPU's utilisation, 0 to 1) are known:

    1. Neighbour: others have at least half of the GPU's time, and the engine is slow.
    2. Overloaded: the queue gives up on requests; or requests mostly wait, at least twice as long
       as usual and a millisecond, and the engine isn't slow, or is so under half as many requests
       more than usual.
    3. Engine slow: its device time is at least half as long again as usual. A batch k times as
       large may take k times as long, and a smaller one no longer.

    Without `usual`, everything counts as longer than usual, and nothing as slower. `device_slow` is for
    who knows better that the device is: a model's own code can hide it from the server's counts.
    """
    if _rejected_share(now) < _REJECTED and not now.mean_s:
        return Circumstance.IDLE
    slow = device_slow or (usual is not None and _is_slow(now, usual))
    if gpu_busy is not None and gpu_busy - now.busy_ratio >= _OTHERS and (slow or usual is None):
        return Circumstance.NEIGHBOUR
    busier = usual is not None and now.requests_per_s >= _BUSIER * usual.requests_per_s
    if _rejected_share(now) >= _REJECTED or (_waits(now, usual) and (busier or not slow)):
        return Circumstance.OVERLOADED
    if slow:
        return Circumstance.ENGINE_SLOW
    return Circumstance.UNKNOWN if usual is None else Circumstance.USUAL


def circumstances(now: Load, usual: Load | None, gpu_busy: float | None, *, device_slow: bool = False) -> str:
    """One sentence, for a finding's text, that says what `tell` makes of the load, with its figures."""
    device, waiting, rate = _device(now, usual), _waiting(now, usual), _rate(now, usual)
    match tell(now, usual, gpu_busy, device_slow=device_slow):
        case Circumstance.NEIGHBOUR:
            return _sentence("something else keeps the GPU busy", _shares(now, gpu_busy or 0.0), device)
        case Circumstance.OVERLOADED:
            return _sentence("the server is overloaded", _given_up(now), waiting, rate, _batches(now))
        case Circumstance.ENGINE_SLOW:
            return _sentence("the engine itself is slow", device, _batches(now), waiting, rate)
        case Circumstance.USUAL:
            return _sentence("nothing is unusual in the server", device, waiting, rate)
        case Circumstance.UNKNOWN:
            return _sentence("what is usual in the server is not known yet", device, waiting, rate)
        case Circumstance.IDLE:
            return f"no request succeeded in the server within {_short(now.over_s)} s"


def _is_slow(now: Load, usual: Load) -> bool:
    if Part.DEVICE not in now.mean_s or Part.DEVICE not in usual.mean_s:
        return False
    larger = max(1.0, now.batch_size / usual.batch_size) if now.batch_size and usual.batch_size else 1.0
    return now.mean_s[Part.DEVICE] >= _SLOWER * larger * usual.mean_s[Part.DEVICE]


def _waits(now: Load, usual: Load | None) -> bool:
    if now.queue_share is None or Part.DEVICE not in now.mean_s:  # what a cache answers has nothing but its wait
        return False
    usually_s = usual.mean_s.get(Part.QUEUE, 0.0) if usual is not None else 0.0
    return now.queue_share >= _MUCH_WAITING and now.mean_s[Part.QUEUE] >= max(_LEAST_WAIT_S, _LONGER * usually_s)


def _rejected_share(now: Load) -> float:
    """Of all requests. Triton's ``REJECTED`` is a request whose time ran out in the scheduler's queue."""
    rejected = now.failures_per_s.get("REJECTED", 0.0)
    return rejected / now.requests_per_s if now.requests_per_s else 0.0


def _sentence(claim: str, *figures: str) -> str:
    return f"{claim}: {', '.join(filter(None, figures))}"


def _device(now: Load, usual: Load | None) -> str:
    if Part.DEVICE not in now.mean_s:
        return ""
    usually = _usually(usual, lambda load: load.mean_s.get(Part.DEVICE), _ms)
    return f"its device time is {_ms(now.mean_s[Part.DEVICE])}{usually}"


def _waiting(now: Load, usual: Load | None) -> str:
    if now.queue_share is None or Part.DEVICE not in now.mean_s:
        return ""
    usually = _usually(usual, lambda load: load.queue_share, _percent)
    return f"{_percent(now.queue_share)} of a request's {_ms(sum(now.mean_s.values()))} in it is waiting{usually}"


def _rate(now: Load, usual: Load | None) -> str:
    return f"{_short(now.requests_per_s)} requests/s{_usually(usual, lambda load: load.requests_per_s, _short)}"


def _batches(now: Load) -> str:
    return "" if now.batch_size is None else f"batches of {now.batch_size:.1f}"


def _given_up(now: Load) -> str:
    rejected = _rejected_share(now)
    return f"{_percent(rejected)} of the requests ran out of time in its queue" if rejected else ""


def _shares(now: Load, gpu_busy: float) -> str:
    return f"{_percent(gpu_busy)}, of which this engine's {_percent(now.busy_ratio)}"


def _usually(usual: Load | None, figure: Callable[[Load], float | None], spell: Callable[[float], str]) -> str:
    value = None if usual is None else figure(usual)
    return "" if value is None else f" (usually {spell(value)})"


def _percent(ratio: float) -> str:
    return f"{100 * ratio:.0f} %"


def _ms(seconds: float) -> str:
    return f"{_short(1000 * seconds)} ms"


def _short(number: float) -> str:
    """With as many places as a person needs."""
    return f"{number:.0f}" if number >= 10 else f"{number:.1f}" if number >= 1 else f"{number:.2g}"
