"""What of a probe's timing is held against the baseline, by name."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from statistics import median

from watchdog.model.baseline import Latency
from watchdog.model.fault import Fault
from watchdog.model.load import Statistics, Tally
from watchdog.model.probe import Attribution, Part, ProbeResult, Timing

TOTAL, HOST, DEVICE = "total", "host", str(Part.DEVICE)
WATCHED = (TOTAL, HOST, DEVICE)
"""Measures that have a detector of their own."""

OWN = frozenset({Attribution.MODEL, Attribution.TRACE, Attribution.SERVER_TIMING})
"""Ways to learn the device time of one request alone; the server's statistics mix other traffic in."""

_NEARLY_ALL = 0.9


def of(timing: Timing) -> dict[str, float]:
    """Measure → seconds: the total always; the device, the host and other parts where they are this request's own."""
    found = {TOTAL: timing.total_s}
    if timing.attribution in OWN and timing.device_s is not None and timing.host_s is not None:
        found |= {HOST: timing.host_s, DEVICE: timing.device_s}
    return found | {str(part): seconds for part, seconds in timing.parts.items()}


def reference(timings: Sequence[Timing], *, median_s: float, p99_s: float) -> Latency:
    """What one shape's probes took at the baseline.

    Two ways of learning a device time are not comparable, so that only the most common one counts;
    and measures that fewer than nearly all of the probes have are left out, since a part is no
    sample. That a trace is lost now and then must not cost all the others.
    """
    way = Counter(timing.attribution for timing in timings).most_common(1)[0][0]
    each = [of(timing) for timing in timings if timing.attribution is way]
    names = dict.fromkeys(name for one in each for name in one)
    found = {name: tuple(one[name] for one in each if name in one) for name in names}
    found[TOTAL] = tuple(timing.total_s for timing in timings)
    kept = {name: seconds for name, seconds in found.items() if len(seconds) >= _NEARLY_ALL * len(timings)}
    return Latency(
        median_s=median_s, p99_s=p99_s, attribution=way if DEVICE in kept else Attribution.NONE, measures=kept
    )


def factor(
    latency: Mapping[str, Latency], result: ProbeResult, measure: str, slack_s: Callable[[float], float] = lambda _: 0.0
) -> float | None:
    """How many times as long as the baseline's median of its shape a probe took; None where that isn't known.

    Args:
        latency: of the probe's engine, by shape profile.
        result: the probe, with all that is known of its timing.
        measure: which of its times.
        slack_s: given the usual seconds, how many more count for nothing.
    """
    then, took = latency.get(result.profile), of(result.timing).get(measure)
    if then is None or took is None or not then.measures.get(measure):
        return None
    if not _comparable(then, result.timing, measure):
        return None
    usual = median(then.measures[measure])
    return max(took - slack_s(usual), min(took, usual)) / usual if usual > 0 else None


def factors(
    latency: Mapping[str, Latency],
    results: Sequence[ProbeResult],
    measure: str,
    slack_s: Callable[[float], float] = lambda _: 0.0,
) -> list[float]:
    """`factor` of each probe of which it is known."""
    found = (factor(latency, result, measure, slack_s) for result in results)
    return [each for each in found if each is not None]


def grown(latency: Mapping[str, Latency], results: Sequence[ProbeResult], measure: str) -> tuple[str, float, float]:
    """What of a measure grew by most seconds: its name, the seconds at the baseline, the seconds now (medians).

    Of its parts where requests were traced; else of the total the device or the host, or else itself.

    Args:
        latency: of the probes' engine, by shape profile.
        results: the probes; of one of them at least `factor` is known.
        measure: one of `WATCHED`.
    """
    for names in _WITHIN[measure]:
        found = {name: pair for name in names if (pair := _then_and_now(latency, results, name)) is not None}
        if len(found) > 1:
            break
    name = max(found, key=lambda each: found[each][1] - found[each][0])
    return name, *found[name]


_PARTS = tuple(map(str, Part))
_WITHIN = {
    TOTAL: (_PARTS, (DEVICE, HOST), (TOTAL,)),
    HOST: (tuple(part for part in _PARTS if part != DEVICE), (HOST,)),
    DEVICE: ((DEVICE,),),
}
"""What a measure is made of, the finest first; the last is always known."""


def _then_and_now(
    latency: Mapping[str, Latency], results: Sequence[ProbeResult], name: str
) -> tuple[float, float] | None:
    pairs = [
        (median(then.measures[name]), took)
        for result in results
        if (then := latency.get(result.profile)) is not None
        and then.measures.get(name)
        and _comparable(then, result.timing, name)
        and (took := of(result.timing).get(name)) is not None
    ]
    return (median(then for then, _ in pairs), median(took for _, took in pairs)) if pairs else None


def _comparable(then: Latency, now: Timing, measure: str) -> bool:
    """A trace's device time and a CUDA event's are not the same thing."""
    return measure == TOTAL or then.attribution is now.attribution


def shared(timing: Timing, before: Statistics | Fault, after: Statistics | Fault) -> Timing:
    """With the mean device time between two readings of the server's counts, where nothing better is known."""
    if timing.device_s is not None or isinstance(before, Fault) or isinstance(after, Fault):
        return timing
    then, now = before.parts.get(Part.DEVICE, Tally()), after.parts.get(Part.DEVICE, Tally())
    if now.count <= then.count or now.seconds < then.seconds:
        return timing
    mean = (now.seconds - then.seconds) / (now.count - then.count)
    return replace(timing, device_s=mean, attribution=Attribution.SHARED)
