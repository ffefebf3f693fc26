"""Captures a baseline: the safe engine's answers, once they are sane, and both engines' habits."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import numpy as np

from watchdog import measures
from watchdog.assess import LARGER_IS_BETTER, Judge, parity_scores
from watchdog.canary_drift import residuals
from watchdog.drift.parity import max_abs
from watchdog.model.baseline import Baseline, EngineReference, Golden, Latency
from watchdog.model.canary import Canary
from watchdog.model.engine import Description, Role
from watchdog.model.fault import Fault
from watchdog.model.probe import ProbeResult, Timing
from watchdog.model.tensor import Array
from watchdog.model.verdict import Assessment, Finding, Reason, Verdict
from watchdog.ports import Clock
from watchdog.prober import Prober

Progress = Callable[[Role, int, int], None]
"""Told after each probe: the engine, how many are done, how many there are."""

_WARM_UP = 3
"""Probes thrown away per engine: the first ones pay for lazy initialisation."""


class CaptureError(ValueError):
    """No baseline can be captured; the message says which canary or engine is in the way."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Captured:
    baseline: Baseline
    warnings: tuple[str, ...]
    """What a person should know of the baseline, such as a fast engine that breaks a limit already."""

    @property
    def knows_device_times(self) -> bool:
        """Whether both engines' device times are in it."""
        latencies = [latency for engine in self.baseline.engines.values() for latency in engine.latency.values()]
        return all(measures.DEVICE in latency.measures for latency in latencies)


async def capture(
    prober: Prober, canaries: Sequence[Canary], *, recipe_sha256: str, repeats: int, clock: Clock, progress: Progress
) -> Captured:
    """Send every canary `repeats` times to each engine, payloads perturbed as they will be later.

    `prober`'s judge must have no baseline: the answers are checked for what needs none.

    Raises:
        CaptureError: the safe engine does not answer, answers insanely, or does not repeat itself;
            or the fast engine does not answer (a wrong fast engine is a warning, not an obstacle).
    """
    described = {role: await _describe(prober, role) for role in Role}
    for role, said in described.items():
        prober.told(role, said)
    answers = {role: await _collect(prober, role, canaries, repeats, progress) for role in (Role.SAFE, Role.FAST)}
    timed = {role: await _timed(prober, answers[role]) for role in answers}
    for assessment in answers[Role.SAFE]:
        if assessment.verdict not in (Verdict.HEALTHY, Verdict.SUSPECT):
            raise CaptureError(
                f"the safe engine {prober.target.engines[Role.SAFE]} is not fit to be a reference: "
                f"canary {assessment.result.canary}: {assessment.worst}"
            )
    golden = {canary.id: _golden(_of(answers[Role.SAFE], canary)) for canary in canaries}
    _refuse_empty(prober, golden)
    parity = {role: _parity(prober, golden, answers[role]) for role in Role}
    baseline = Baseline(
        model=prober.target.model,
        created_at=datetime.fromtimestamp(clock(), UTC).isoformat(timespec="seconds"),
        server=described[Role.SAFE].server,
        recipe_sha256=recipe_sha256,
        canaries={canary.id: canary.sha256 for canary in canaries},
        engines={
            role: EngineReference(
                version=prober.target.engines[role].address.version,
                tag=described[role].tag,
                latency=_latency(timed[role]),
                parity=parity[role],
                residuals=residuals(prober.judge.settings, answers[role], golden),
            )
            for role in Role
        },
        golden=golden,
        repeats=repeats,
    )
    judge = replace(prober.judge, baseline=baseline)
    _refuse_unsteady(judge, answers[Role.SAFE])
    return Captured(baseline=baseline, warnings=_warnings(judge, answers[Role.FAST]))


async def _describe(prober: Prober, role: Role) -> Description:
    engine = prober.target.engines[role]
    said = await prober.target.endpoints[engine.address.endpoint].describe(engine.address, prober.target.deadline_s)
    if isinstance(said, Fault):
        raise CaptureError(f"the {role} engine {engine} can't be asked about itself: {said}")
    return said


async def _collect(
    prober: Prober, role: Role, canaries: Sequence[Canary], repeats: int, progress: Progress
) -> list[Assessment]:
    for canary in canaries[:_WARM_UP]:
        await prober.probe(canary, role, public=False)
    answers = []
    for i in range(repeats):
        for j, canary in enumerate(canaries):
            assessment = await prober.probe(canary, role, public=False)
            if assessment.result.fault is not None:
                raise CaptureError(f"the {role} engine did not answer: {assessment.worst}")
            answers.append(assessment)
            progress(role, i * len(canaries) + j + 1, repeats * len(canaries))
    return answers


async def _timed(prober: Prober, answers: Sequence[Assessment]) -> list[ProbeResult]:
    """The answers with all that the server tells of where their time went, which it does later."""
    return await prober.timekeeper.settled([answer.result for answer in answers], prober.patience_s)


def _latency(results: Sequence[ProbeResult]) -> dict[str, Latency]:
    took: dict[str, list[Timing]] = {}
    for result in results:
        took.setdefault(result.profile, []).append(result.timing)
    latency = {}
    for profile, timings in took.items():
        totals = [timing.total_s for timing in timings]
        median_s, p99_s = statistics.median(totals), float(np.percentile(totals, 99))
        latency[profile] = measures.reference(timings, median_s=median_s, p99_s=p99_s)
    return latency


def _of(assessments: Sequence[Assessment], canary: Canary) -> list[Mapping[str, Array]]:
    return [a.result.outputs for a in assessments if a.result.canary == canary.id]


def _golden(repeats: Sequence[Mapping[str, Array]]) -> Golden:
    """The first answer, and how far the others are from it."""
    first = repeats[0]
    spread = {
        name: max(
            max_abs(other[name].astype(np.float64), array.astype(np.float64))
            if other[name].shape == array.shape
            else np.inf
            for other in repeats
        )
        for name, array in first.items()
    }
    return Golden(outputs=dict(first), spread=spread)


def _refuse_empty(prober: Prober, golden: Mapping[str, Golden]) -> None:
    for output in prober.judge.settings.outputs:
        if not any(answer.outputs[output.name].any() for answer in golden.values()):
            raise CaptureError(f"the safe engine's {output.name} is all zero for every canary: it can't be a reference")


def _refuse_unsteady(judge: Judge, safe: Sequence[Assessment]) -> None:
    for answer in safe:
        again = judge.assess(answer.result)
        if again.verdict is Verdict.FAILED:
            raise CaptureError(
                f"the safe engine does not repeat itself: canary {answer.result.canary}: {again.worst}; "
                "loosen the limit if that is its nature, or lower the recipe's tolerance"
            )


def _parity(prober: Prober, golden: Mapping[str, Golden], answers: Sequence[Assessment]) -> dict[str, float]:
    """Per output and measure, the score furthest from the golden answer over the canary set."""
    worst: dict[str, float] = {}
    for answer in answers:
        right = golden[answer.result.canary].outputs
        for output in prober.judge.settings.outputs:
            got = answer.result.outputs.get(output.name)
            if got is None or got.shape != right[output.name].shape or not np.isfinite(got).all():
                continue
            for measure, score in parity_scores(output, got, right[output.name]).items():
                key = f"{output.name}.{measure}"
                further = min if measure in LARGER_IS_BETTER else max
                worst[key] = further(worst.get(key, score), score)
    return worst


def _warnings(judge: Judge, fast: Sequence[Assessment]) -> tuple[str, ...]:
    """One sentence for each kind of finding that the fast engine shows already."""
    first: dict[Reason, tuple[Finding, str]] = {}
    canaries: dict[Reason, set[str]] = {}
    for answer in fast:
        for finding in judge.assess(answer.result).findings:
            if finding.reason is not Reason.LATENCY:
                first.setdefault(finding.reason, (finding, answer.result.canary))
                canaries.setdefault(finding.reason, set()).add(answer.result.canary)
    return tuple(
        f"the fast engine is not right even now, on {len(canaries[reason])} canaries, such as {canary}: {finding}"
        for reason, (finding, canary) in first.items()
    )
