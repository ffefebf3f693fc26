"""Watches how long canaries take, device and host apart: for jumps from the baseline, and for objectives."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from statistics import median

from watchdog import measures
from watchdog.assess import Judge, WindowSettings, in_time, jumped, over_window
from watchdog.drift.jump import LEAST, JumpDetector, JumpState, occasional
from watchdog.drift.windows import SlidingQuantiles
from watchdog.model.baseline import Latency
from watchdog.model.engine import Role
from watchdog.model.event import ObjectiveSeen, Scored, Source, Suspected, Timed
from watchdog.model.probe import ProbeResult
from watchdog.model.score import Promise
from watchdog.ports import Observer

_TOLD_AGAIN_S = 900.0
"""An objective that is missed all the while is told again within this, before people forget it."""


@dataclass(kw_only=True, slots=True)
class _Jumps:
    detector: JumpDetector
    state: JumpState


@dataclass(kw_only=True, slots=True)
class _Window:
    settings: WindowSettings
    seconds: SlidingQuantiles
    told_at: float = field(default=-math.inf)


class LatencyWatch:
    """One model's detectors of slowness: fed with what is known of each probe's timing.

    Only probes of the public name count: they go one by one, while those of a burst queue behind
    one another. An engine or a measure that the baseline has no times of is not watched for jumps.

    Args:
        judge: knows engines, limits and the baseline.
        promise: how rarely a jump may be alarmed of wrongly, over all measures; None for no such alarms.
        observe: told every score.
    """

    def __init__(self, judge: Judge, promise: Promise | None, observe: Observer) -> None:
        self._judge = judge
        self._observe = observe
        self._jumps = {} if promise is None else _detectors(judge, promise)
        self._windows = [
            _Window(settings=each, seconds=SlidingQuantiles(each.over, least=each.least))
            for each in judge.settings.latency.windows
        ]

    def take(self, event: Timed) -> tuple[Suspected, ...]:
        """What this probe, with the earlier ones, gives rise to suspect."""
        result = event.result
        engine = self._judge.engines[result.expected]
        if not result.public or result.cached or not result.answered_by.is_at(engine.address):
            return ()
        return (*self._jumped(event, result), *self._over(event, result))

    def _jumped(self, event: Timed, result: ProbeResult) -> Iterator[Suspected]:
        jump = self._judge.settings.latency.jump
        if self._judge.baseline is None or jump is None:
            return
        role = result.expected
        latency = self._judge.baseline.engines[role].latency
        for measure in measures.WATCHED:
            jumps = self._jumps.get((role, measure))
            factor = measures.factor(latency, result, measure, jump.slack_s)
            if jumps is None or factor is None:
                continue
            residual = math.log(factor) if factor > 0 else math.nan
            jumps.state, score = jumps.detector.update(jumps.state, residual)
            reading = f"{role}.{measure}"
            self._observe(Scored(model=event.model, at=event.at, source=Source.TIMING, reading=reading, score=score))
            finding = jumped(score, role, measure)
            if finding is not None:
                jumps.state = jumps.detector.fresh()  # a burst looks into it at once
                yield Suspected(
                    model=event.model,
                    at=event.at,
                    source=Source.TIMING,
                    reading=reading,
                    finding=finding,
                    by_itself=occasional(score),
                )

    def _over(self, event: Timed, result: ProbeResult) -> Iterator[Suspected]:
        found = measures.of(result.timing)
        for window in self._windows:
            settings = window.settings
            if settings.engine is not result.expected or settings.measure not in found:
                continue
            seconds = found[settings.measure]
            self._observe(
                ObjectiveSeen(
                    model=event.model, at=event.at, objective=settings.objective, met=in_time(settings, seconds)
                )
            )
            window.seconds.add(event.at, seconds)
            quantile = window.seconds.quantile(settings.quantile, event.at)
            finding = None if quantile is None else over_window(settings, quantile)
            if finding is not None and event.at - window.told_at >= min(settings.over, _TOLD_AGAIN_S):
                window.told_at = event.at
                reading = f"{settings.engine}.{finding.measure}"
                yield Suspected(
                    model=event.model,
                    at=event.at,
                    source=Source.OBJECTIVE,
                    reading=reading,
                    finding=finding,
                    by_itself=True,
                )


def _detectors(judge: Judge, promise: Promise) -> dict[tuple[Role, str], _Jumps]:
    jump = judge.settings.latency.jump
    if judge.baseline is None or jump is None:
        return {}
    shared = Promise(run_length=promise.run_length * len(measures.WATCHED))
    found = {}
    for role, reference in judge.baseline.engines.items():
        for measure in measures.WATCHED:
            residuals = _residuals(reference.latency.values(), measure)
            if len(residuals) >= LEAST:
                detector = JumpDetector(residuals, shared, margin=math.log(jump.times_baseline))
                found[role, measure] = _Jumps(detector=detector, state=detector.fresh())
    return found


def _residuals(latencies: Iterable[Latency], measure: str) -> list[float]:
    """Logarithms of the baseline's own probes' times, over the median of their shape."""
    found = []
    for latency in latencies:
        seconds = [each for each in latency.measures.get(measure, ()) if each > 0]
        if seconds:
            usual = median(seconds)
            found += [math.log(each / usual) for each in seconds]
    return found
