"""Holds one probe against its baseline and limits.

The only place that compares a score with a limit. Pure: a `Judge` is made once per model and
baseline, and has no memory of the probes it saw.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from statistics import fmean, median
from typing import Literal

import numpy as np
from pydantic import Field, field_validator

from watchdog import measures, tags
from watchdog.drift import confidence, parity
from watchdog.drift.promise import PromiseText
from watchdog.model.baseline import Baseline, Golden
from watchdog.model.canary import Canary
from watchdog.model.engine import Description, Engine, Role
from watchdog.model.gpu import GpuReading
from watchdog.model.objective import Objective
from watchdog.model.probe import ProbeResult
from watchdog.model.score import Alarm, Score
from watchdog.model.tensor import Array, dtype_name
from watchdog.model.verdict import Assessment, Confidence, Finding, Reason, Verdict
from watchdog.settings import Duration, Settings


class OutputKind(StrEnum):
    """What an output means, and so which checks make sense."""

    PROBABILITY = "probability"
    """The probability of one event per element, in [0, 1]."""
    PROBABILITIES = "probabilities"
    """Class probabilities along the last axis, in [0, 1]; class 0 is "nothing"."""
    LOGIT = "logit"
    """`probability` before its sigmoid."""
    LOGITS = "logits"
    """`probabilities` before their softmax."""
    MASK = "mask"
    """A segmentation or heat-map of probabilities, in [0, 1]."""
    TENSOR = "tensor"
    """Anything else: compared, not interpreted."""


class ParityLimits(Settings):
    """How far an answer may be from the golden one. What is left out is not checked."""

    max_abs: float | None = Field(default=None, gt=0)
    """Largest absolute difference of an element."""
    relative_l2: float | None = Field(default=None, gt=0)
    """‖got − golden‖₂ / ‖golden‖₂."""
    cosine: float | None = Field(default=None, ge=-1, le=1)
    """Smallest cosine similarity."""
    dice: float | None = Field(default=None, ge=0, le=1)
    """Smallest Dice coefficient of the masks cut at `threshold`."""
    kl: float | None = Field(default=None, gt=0)
    """Largest KL(golden ‖ got), in nats; for probabilities and logits only."""


_DEFAULT_PARITY = {
    OutputKind.PROBABILITY: ParityLimits(max_abs=0.1, kl=0.1),
    OutputKind.PROBABILITIES: ParityLimits(max_abs=0.1, kl=0.1),
    OutputKind.LOGIT: ParityLimits(max_abs=1.0, kl=0.1),
    OutputKind.LOGITS: ParityLimits(max_abs=1.0, kl=0.1),
    OutputKind.MASK: ParityLimits(relative_l2=0.2, dice=0.9),
    OutputKind.TENSOR: ParityLimits(relative_l2=0.05, cosine=0.99),
}

_DEFAULT_RANGE = {OutputKind.PROBABILITY: (0.0, 1.0), OutputKind.PROBABILITIES: (0.0, 1.0), OutputKind.MASK: (0.0, 1.0)}


class OutputSettings(Settings):
    """One output tensor: what it means and how far it may stray."""

    name: str = Field(min_length=1)
    kind: OutputKind = OutputKind.TENSOR
    range: tuple[float, float] | None = None
    """Allowed values, ends included; by default [0, 1] for probabilities and masks."""
    range_slack: float = Field(default=1e-3, ge=0)
    """How far outside `range` rounding may take a value."""
    threshold: float = 0.5
    """Where a mask is cut for Dice and for its foreground."""
    parity: ParityLimits | None = None
    """By default, limits that fit the kind."""
    rows_max_abs: float = Field(default=1e-2, ge=0)
    """How much equal rows of one batch may differ."""
    zero_floor: float = Field(default=1e-4, ge=0)
    """All zeros are a fault where the golden answer has an element larger than this."""

    @field_validator("range")
    @classmethod
    def _ascending(cls, value: tuple[float, float] | None) -> tuple[float, float] | None:
        if value is not None and not value[0] < value[1]:
            raise ValueError("takes two numbers, the smaller first")
        return value

    @property
    def limits(self) -> ParityLimits:
        return self.parity if self.parity is not None else _DEFAULT_PARITY[self.kind]

    @property
    def bounds(self) -> tuple[float, float] | None:
        return self.range if self.range is not None else _DEFAULT_RANGE.get(self.kind)


class CollapseSettings(Settings):
    """When the confidences of the whole canary set have collapsed."""

    min_canaries: int = Field(default=3, ge=2)
    """Fewer different canaries than this say nothing about a spread."""
    min_spread_ratio: float = Field(default=0.25, ge=0, le=1)
    """Smallest standard deviation of the confidences over the set, as a share of the golden one."""
    max_entropy_rise: float = Field(default=0.35, gt=0)
    """Largest rise of the mean entropy over the golden one, in nats (a coin toss has 0.69)."""
    max_top_drop: float = Field(default=0.3, gt=0, le=1)
    """Largest fall of the mean top probability below the golden one."""


class JumpSettings(Settings):
    """When canaries take lastingly longer than at the baseline, be it the device or the host."""

    times_baseline: float = Field(default=1.5, gt=1)
    """A smaller factor is nobody's concern …"""
    least: Duration = 0.001
    """… nor is a smaller increase, whatever its factor."""
    false_alarms: PromiseText = "1 per year"
    """At most, on average, at this model's cadence."""

    def slack_s(self, usual_s: float) -> float:
        """What an increase must have beyond `times_baseline` to be `least` or more."""
        return max(0.0, self.least - (self.times_baseline - 1) * usual_s)


class WindowSettings(Settings):
    """One objective: a quantile of a measure over a sliding window stays below a limit."""

    engine: Role = Role.FAST
    """Whose probes: those of the public name while it should be served by this engine."""
    measure: Literal["total", "host", "device", "queue", "network", "front-end", "input-copy", "output-copy"] = "total"
    """Which of their times: the whole, the device's, all but the device's (host), or a part of a traced one."""
    quantile: float = Field(default=0.99, gt=0, lt=1)
    """So large a share of them is to be quicker than the limit."""
    limit: Duration
    over: Duration = 300.0
    """The window: probes that are older don't count."""
    least: int = Field(default=20, ge=1)
    """Fewer probes in the window than this say nothing."""

    @property
    def objective(self) -> Objective:
        return Objective(role=self.engine, measure=self.measure, quantile=self.quantile, limit_s=self.limit)


class LatencySettings(Settings):
    """How long a probe may take: a limit of its own, or so many times the baseline's median.

    The baseline's limit is one for each shape profile of the recipe. One slow probe moves nothing:
    it starts a burst, of which a majority must be slow on this engine and not on the other.
    """

    fast: Duration | None = None
    safe: Duration | None = None
    times_baseline: float = Field(default=3.0, gt=1)
    """Where no limit is given: this many times the engine's median at capture …"""
    floor: Duration = 0.02
    """… but never below this."""
    jump: JumpSettings | None = JumpSettings()
    """Lasting slowness within those limits; null turns it off."""
    windows: tuple[WindowSettings, ...] = ()
    """Objectives over a span of time, such as a 99th percentile."""


class AssessSettings(Settings):
    outputs: tuple[OutputSettings, ...] = Field(min_length=1)
    collapse: CollapseSettings = CollapseSettings()
    latency: LatencySettings = LatencySettings()


@dataclass(frozen=True, kw_only=True, slots=True)
class Judge:
    """Everything one model's probes are held against.

    Without a baseline it still judges what needs none (zeros, NaN, range, constant): that is how
    the safe engine's own answers are checked before they become golden.
    """

    settings: AssessSettings
    engines: Mapping[Role, Engine]
    canaries: Mapping[str, Canary]
    baseline: Baseline | None = None
    _golden_confidences: dict[str, dict[str, Confidence]] = field(default_factory=dict, init=False)
    """Output → canary → its golden confidence."""

    def __post_init__(self) -> None:
        golden = self.baseline.golden if self.baseline else {}
        for output in self.settings.outputs:
            of_output = {
                canary: summary
                for canary, answer in golden.items()
                if (summary := confidence_of(output, answer.outputs.get(output.name))) is not None
            }
            if of_output:
                self._golden_confidences[output.name] = of_output

    def latency_limit(self, role: Role, profile: str) -> float:
        """In seconds, for one engine and shape; infinite where nothing sets one."""
        settings = self.settings.latency
        own = settings.fast if role is Role.FAST else settings.safe
        if own is not None:
            return own
        reference = self.baseline.engines[role].latency.get(profile) if self.baseline else None
        return math.inf if reference is None else max(settings.floor, settings.times_baseline * reference.median_s)

    def golden_confidences(self) -> dict[str, tuple[float, ...]]:
        """Output → the golden answers' confidences, a number for each canary."""
        return {name: tuple(c.value for c in found.values()) for name, found in self._golden_confidences.items()}

    def limits(self) -> tuple[dict[tuple[Role, str], float], dict[tuple[str, str], float]]:
        """All limits in force: (engine, profile) → seconds, and (output, measure) → the limit of a score."""
        profiles = sorted({canary.profile for canary in self.canaries.values()})
        scores = {
            (output.name, measure): float(limit)
            for output in self.settings.outputs
            for measure, limit in (output.limits.model_dump() | {"rows": output.rows_max_abs}).items()
            if limit is not None
        }
        return {(role, profile): self.latency_limit(role, profile) for role in Role for profile in profiles}, scores

    def assess(self, result: ProbeResult) -> Assessment:
        """Every check that one probe allows, the most specific finding first."""
        if result.fault is not None:
            finding = Finding(
                reason=Reason.NO_ANSWER,
                verdict=Verdict.INCONCLUSIVE,
                score=result.timing.total_s,
                limit=math.inf,
                detail=f"{result.address} gave no usable answer: {result.fault}",
                measure=str(result.fault.kind),
            )
            return Assessment(result=result, verdict=Verdict.INCONCLUSIVE, findings=(finding,))
        findings: list[Finding] = [*self._provenance(result), *self._latency(result)]
        scores: dict[tuple[str, str], float] = {}
        confidences: dict[str, Confidence] = {}
        golden = self.baseline.golden.get(result.canary) if self.baseline else None
        rows = _rows(self.canaries.get(result.canary))
        for output in self.settings.outputs:
            got = result.outputs.get(output.name)
            found = _check_output(output, got, golden, rows, scores)
            findings += found
            usable = not any(f.reason in _UNREADABLE for f in found)
            if usable and (summary := confidence_of(output, got)) is not None:
                confidences[output.name] = summary
        findings.sort(key=lambda f: f.reason.rank)
        return Assessment(
            result=result,
            verdict=_verdict(findings),
            findings=tuple(findings),
            scores=scores,
            confidences=confidences,
        )

    def collapse(self, assessments: Iterable[Assessment]) -> tuple[Finding, ...]:
        """Whether the confidences of several canaries, one assessment each, have collapsed.

        Compares with the golden confidences of the very same canaries, so that a burst of three
        is as good as a whole set as long as their golden answers differ.
        """
        latest = {a.result.canary: a for a in assessments}
        findings: list[Finding] = []
        for output in self.settings.outputs:
            golden = self._golden_confidences.get(output.name, {})
            pairs = [
                (a.confidences[output.name], golden[canary])
                for canary, a in latest.items()
                if output.name in a.confidences and canary in golden
            ]
            if len(pairs) >= self.settings.collapse.min_canaries:
                findings += _collapsed(self.settings.collapse, output.name, pairs)
        return tuple(findings)

    def slower(self, results: Sequence[ProbeResult]) -> Finding | None:
        """Whether a burst of one engine's answers, sent one by one, takes longer than at the baseline.

        By the medians of each measure's factor over the probes; what the finding names is the part
        of the worst measure that grew by most seconds.
        """
        jump = self.settings.latency.jump
        if jump is None or self.baseline is None or not results:
            return None
        latency = self.baseline.engines[results[0].expected].latency
        beyond = {
            measure: median(found)
            for measure in measures.WATCHED
            if (found := measures.factors(latency, results, measure, jump.slack_s))
        }
        worst = max(beyond, key=lambda measure: beyond[measure], default=None)
        if worst is None or beyond[worst] < jump.times_baseline:
            return None
        times = median(measures.factors(latency, results, worst))
        part, then_s, now_s = measures.grown(latency, results, worst)
        detail = (
            f"the {results[0].expected} engine's {worst} time is {times:.2g} times that of the baseline "
            f"(limit {jump.times_baseline:g}){'' if part == worst else f', most of it {part}'}: "
            f"{now_s * 1e3:.3g} ms instead of {then_s * 1e3:.3g} ms"
        )
        return Finding(
            reason=Reason.LATENCY,
            verdict=Verdict.SUSPECT,
            score=times,
            limit=jump.times_baseline,
            detail=detail,
            measure=part,
        )

    def of_engine(
        self, role: Role, said: Description, *, runtime: str | None, gpus: GpuReading | None
    ) -> tuple[Finding, ...]:
        """What is wrong with an engine by its tag and its profile, before traffic suffers."""
        problems = list(self._tag_problems(role, said, runtime, gpus))
        found = [_mismatch(Reason.ENGINE_TAG, problem) for problem in problems]
        shapes = {(name, array.shape) for canary in self.canaries.values() for name, array in canary.inputs.items()}
        for name, shape in sorted(shapes):
            profile = said.profiles.get(name)
            problem = None if profile is None else tags.off_profile(shape, profile)
            if problem is not None:
                found.append(_mismatch(Reason.OFF_PROFILE, f"the canaries' {name} {problem}"))
        return tuple(found)

    def _tag_problems(
        self, role: Role, said: Description, runtime: str | None, gpus: GpuReading | None
    ) -> Iterator[str]:
        then = None if self.baseline is None else self.baseline.engines[role].tag
        if self.baseline is not None and said.tag != then:
            yield (
                f"its tag is {said.tag or 'none'}, and was {then or 'none'} when the baseline was captured; "
                "capture it again with `watchdog baseline` once the change is meant"
            )
        if said.tag is None or (runtime is None and tags.parse(said.tag) is None):
            return  # a tag that nobody promised to write in any form
        told = [] if gpus is None else [gpu.compute_capability for gpu in gpus.gpus]
        capabilities = {capability for capability in told if capability is not None}
        yield from tags.mismatches(
            said.tag,
            runtime=runtime,
            cuda=gpus.cuda if gpus is not None else None,
            capability=capabilities.pop() if len(capabilities) == 1 else None,
        )

    def _provenance(self, result: ProbeResult) -> Iterable[Finding]:
        """Who answered, and whether anybody computed anything."""
        engine = self.engines.get(result.expected)
        if engine is not None and not result.answered_by.is_at(engine.address):
            by, role = result.answered_by, result.expected
            yield _failed(Reason.WRONG_VERSION, f"{result.address} was answered by {by}, not by {role} {engine}")
        if result.cached:
            yield Finding(
                reason=Reason.CACHED,
                verdict=Verdict.INCONCLUSIVE,
                score=1.0,
                limit=0.0,
                detail=f"{result.address} was answered from a response cache: the engine was not exercised",
                measure="cache",
            )

    def _latency(self, result: ProbeResult) -> Iterable[Finding]:
        took, limit = result.timing.total_s, self.latency_limit(result.expected, result.profile)
        if took > limit:
            yield Finding(
                reason=Reason.LATENCY,
                verdict=Verdict.SUSPECT,
                score=took,
                limit=limit,
                detail=f"{result.address} took {took * 1e3:.1f} ms (limit {limit * 1e3:.1f} ms)",
                measure="seconds",
            )


_UNREADABLE = frozenset({Reason.NON_FINITE, Reason.MISSING_OUTPUT, Reason.WRONG_SHAPE, Reason.WRONG_DTYPE})
"""After these an output's numbers mean nothing."""

_ORDER = (Verdict.FAILED, Verdict.INCONCLUSIVE, Verdict.SUSPECT)


def drifted(score: Score, measure: str) -> Finding | None:
    """A sequential detector's alarm as a finding; None while its evidence is below its threshold."""
    if score.alarm is None or not score.statistic >= score.threshold:
        return None
    ago, odds = score.alarm.observations_ago, score.statistic / score.threshold
    since = f"since {ago} observations ago" if ago > 1 else "at this observation"
    detail = f"{score.alarm.sentence}, {since} (evidence {odds:.3g} × the threshold)"
    return _failed(Reason.DRIFT, detail, score=score.statistic, limit=score.threshold, measure=measure)


def _mismatch(reason: Reason, detail: str) -> Finding:
    return Finding(reason=reason, verdict=Verdict.SUSPECT, score=1.0, limit=0.0, detail=detail, measure=str(reason))


def jumped(score: Score, role: Role, measure: str) -> Finding | None:
    """A latency detector's alarm as a finding; None while its evidence is below its threshold."""
    if score.alarm is None or not score.statistic >= score.threshold:
        return None
    ago = score.alarm.observations_ago
    since = f"since {ago} probes ago" if ago > 1 else "at this probe"
    return Finding(
        reason=Reason.LATENCY,
        verdict=Verdict.SUSPECT,
        score=score.statistic,
        limit=score.threshold,
        detail=f"the {role} engine's {measure} time: {score.alarm.sentence}, {since}",
        measure=measure,
    )


def in_time(window: WindowSettings, seconds: float) -> bool:
    """Whether one probe was as quick as an objective wants its share of them to be."""
    return seconds <= window.limit


def over_window(window: WindowSettings, seconds: float) -> Finding | None:
    """A quantile over a window as a finding; None while it is within its limit."""
    if seconds <= window.limit:
        return None
    detail = (
        f"the {window.engine} engine's {window.measure} time at the {window.quantile:g} quantile over "
        f"{window.over:g} s is {seconds * 1e3:.3g} ms (limit {window.limit * 1e3:.3g} ms)"
    )
    return Finding(
        reason=Reason.LATENCY,
        verdict=Verdict.SUSPECT,
        score=seconds,
        limit=window.limit,
        detail=detail,
        measure=f"{window.measure}.q{window.quantile:g}",
    )


BURST_LIMIT = 1000.0
"""Evidence of a few answers together: while an engine is as it was, it is reached once in 1,000 bursts."""


def drifted_burst(evidence: float, alarm: Alarm) -> Finding | None:
    """A burst's evidence as a finding; None where it is below the limit."""
    if not evidence >= BURST_LIMIT:
        return None
    detail = f"{alarm.sentence} (evidence {evidence:.3g}, limit {BURST_LIMIT:g})"
    return _failed(Reason.DRIFT, detail, score=evidence, limit=BURST_LIMIT, measure="burst")


def _verdict(findings: Sequence[Finding]) -> Verdict:
    present = {f.verdict for f in findings}
    return next((v for v in _ORDER if v in present), Verdict.HEALTHY)


_OF_CLASSES = frozenset({OutputKind.PROBABILITIES, OutputKind.LOGITS})


def confidence_of(output: OutputSettings, array: Array | None) -> Confidence | None:
    """An output read as a confidence; None for one that is none, is missing or isn't finite."""
    if array is None or array.size == 0 or not np.isfinite(array).all():
        return None
    if output.kind in _OF_CLASSES and array.ndim == 0:
        return None
    match output.kind:
        case OutputKind.PROBABILITY:
            return confidence.of_probability(array)
        case OutputKind.LOGIT:
            return confidence.of_probability(confidence.sigmoid(array))
        case OutputKind.PROBABILITIES:
            return confidence.of_classes(array)
        case OutputKind.LOGITS:
            return confidence.of_classes(confidence.softmax(array))
        case OutputKind.MASK:
            return confidence.of_mask(array, output.threshold)
        case OutputKind.TENSOR:
            return None


def parity_scores(output: OutputSettings, got: Array, golden: Array) -> dict[str, float]:
    """Every measure that the output's limits name, by its name in `ParityLimits`."""
    limits = output.limits
    a, b = got.astype(np.float64, copy=False), golden.astype(np.float64, copy=False)
    scores: dict[str, float] = {}
    with np.errstate(all="ignore"):  # huge but finite values overflow to inf, which breaks a limit
        if limits.max_abs is not None:
            scores["max_abs"] = parity.max_abs(a, b)
        if limits.relative_l2 is not None:
            scores["relative_l2"] = parity.relative_l2(a, b)
        if limits.cosine is not None:
            scores["cosine"] = parity.cosine(a, b)
        if limits.dice is not None:
            scores["dice"] = parity.dice(a, b, output.threshold)
        if limits.kl is not None and (kl := _kl(output.kind, a, b)) is not None:
            scores["kl"] = kl
    return scores


def _kl(kind: OutputKind, a: Array, b: Array) -> float | None:
    match kind:
        case OutputKind.PROBABILITY | OutputKind.MASK:
            return parity.bernoulli_kl(np.clip(a, 0, 1), np.clip(b, 0, 1))
        case OutputKind.LOGIT:
            return parity.bernoulli_kl(confidence.sigmoid(a), confidence.sigmoid(b))
        case OutputKind.PROBABILITIES:
            return parity.kl_divergence(a, b)
        case OutputKind.LOGITS:
            return parity.kl_divergence(confidence.softmax(a), confidence.softmax(b))
        case OutputKind.TENSOR:
            return None


LARGER_IS_BETTER = frozenset({"cosine", "dice"})
"""Measures whose limit is a least, not a most."""


def _check_output(
    output: OutputSettings, got: Array | None, golden: Golden | None, rows: int, scores: dict[tuple[str, str], float]
) -> list[Finding]:
    """All findings about one output; fills `scores` with every number that was compared."""
    name = output.name
    right = golden.outputs.get(name) if golden else None
    if got is None:
        return [_failed(Reason.MISSING_OUTPUT, f"the answer has no output {name!r}", output=name)]
    if right is not None and got.dtype != right.dtype:
        detail = f"{name} is {dtype_name(got)}, the golden answer {dtype_name(right)}"
        return [_failed(Reason.WRONG_DTYPE, detail, output=name)]
    no_classes = output.kind in _OF_CLASSES and got.ndim == 0
    if got.size == 0 or no_classes or (right is not None and got.shape != right.shape):
        wanted = f", the golden answer {list(right.shape)}" if right is not None else ""
        return [_failed(Reason.WRONG_SHAPE, f"{name} has shape {list(got.shape)}{wanted}", output=name)]
    bad = got.size - int(np.isfinite(got).sum())
    if bad:
        detail = f"{name} is NaN or infinite in {bad} of {got.size} elements"
        return [_failed(Reason.NON_FINITE, detail, output=name, score=bad)]
    return [
        *_check_flat(output, got, right),
        *_check_range(output, got),
        *_check_rows(output, got, rows, scores),
        *_check_parity(output, got, right, scores),
    ]


_MAY_BE_FLAT = frozenset({OutputKind.PROBABILITY, OutputKind.LOGIT, OutputKind.MASK})
"""Without a golden answer: one number alone is always constant, and an empty mask all zero."""


def _check_flat(output: OutputSettings, got: Array, right: Array | None) -> Iterable[Finding]:
    """All zeros, or one value everywhere, where the golden answer has something."""
    low, high = float(got.min()), float(got.max())
    if low != high or (right is None and output.kind in _MAY_BE_FLAT):
        return
    least, most = (-math.inf, math.inf) if right is None else (float(right.min()), float(right.max()))
    if low == 0.0 and max(-least, most) > output.zero_floor:
        yield _failed(Reason.ALL_ZERO, f"all {got.size} elements of {output.name} are 0", output=output.name)
    elif low != 0.0 and got.size > 1 and most - least > output.zero_floor:
        yield _failed(Reason.CONSTANT, f"all {got.size} elements of {output.name} are {low:.6g}", output=output.name)


def _check_range(output: OutputSettings, got: Array) -> Iterable[Finding]:
    if output.bounds is None:
        return
    (least, most), low, high = output.bounds, float(got.min()), float(got.max())
    outside = max(least - low, high - most)
    if outside > output.range_slack:
        detail = f"{output.name} spans [{low:.6g}, {high:.6g}], allowed is [{least:g}, {most:g}]"
        yield _failed(Reason.OUT_OF_RANGE, detail, output=output.name, score=outside, limit=output.range_slack)


def _check_rows(
    output: OutputSettings, got: Array, rows: int, scores: dict[tuple[str, str], float]
) -> Iterable[Finding]:
    if rows < 2 or got.ndim == 0 or got.shape[0] != rows:
        return
    with np.errstate(all="ignore"):
        score = parity.max_abs(got[1:].astype(np.float64), got[:1].astype(np.float64))
    scores[output.name, "rows"] = score
    limit = output.rows_max_abs
    if not score <= limit:
        detail = f"equal rows of one batch differ in {output.name} by up to {score:.3g} (limit {limit:.3g})"
        yield _failed(Reason.ROWS_DIFFER, detail, output=output.name, score=score, limit=limit, measure="rows")


def _check_parity(
    output: OutputSettings, got: Array, right: Array | None, scores: dict[tuple[str, str], float]
) -> Iterable[Finding]:
    """One finding per output: the first broken measure, its sentence naming all of them."""
    if right is None:
        return
    broken: list[tuple[str, float, float]] = []
    for measure, score in parity_scores(output, got, right).items():
        scores[output.name, measure] = score
        limit = float(getattr(output.limits, measure))
        if not (score >= limit if measure in LARGER_IS_BETTER else score <= limit):
            broken.append((measure, score, limit))
    if broken:
        measure, score, limit = broken[0]
        said = ", ".join(f"{m} {s:.3g} (limit {x:.3g})" for m, s, x in broken)
        detail = f"{output.name} is not the golden answer: {said}"
        yield _failed(Reason.PARITY, detail, output=output.name, score=score, limit=limit, measure=measure)


_NO_SPREAD = 1e-3
"""Golden confidences closer together than this are all alike: FP16 alone (2⁻¹¹ near 1) may flatten them."""


def _collapsed(
    settings: CollapseSettings, output: str, pairs: Sequence[tuple[Confidence, Confidence]]
) -> Iterable[Finding]:
    got, golden = [p[0] for p in pairs], [p[1] for p in pairs]
    of = f"{output}'s confidences over {len(pairs)} canaries"
    golden_spread = _deviation([c.value for c in golden])
    if golden_spread > _NO_SPREAD:
        ratio, limit = _deviation([c.value for c in got]) / golden_spread, settings.min_spread_ratio
        if ratio < limit:
            detail = f"{of} spread {ratio:.2f} times as far as the golden ones (limit {limit:.2f})"
            yield _failed(Reason.COLLAPSE, detail, output=output, score=ratio, limit=limit, measure="spread_ratio")
    rise = fmean(c.entropy for c in got) - fmean(c.entropy for c in golden)
    if rise > (limit := settings.max_entropy_rise):
        detail = f"{of} have a mean entropy {rise:.2f} nats above the golden one (limit {limit:.2f})"
        yield _failed(Reason.COLLAPSE, detail, output=output, score=rise, limit=limit, measure="entropy_rise")
    drop = fmean(c.top for c in golden) - fmean(c.top for c in got)
    if drop > (limit := settings.max_top_drop):
        detail = f"{of} have a mean top probability {drop:.2f} below the golden one (limit {limit:.2f})"
        yield _failed(Reason.COLLAPSE, detail, output=output, score=drop, limit=limit, measure="top_drop")


def _deviation(values: Sequence[float]) -> float:
    """The standard deviation of a few numbers, for which numpy would take ten times as long."""
    mean = fmean(values)
    return math.sqrt(fmean([(value - mean) ** 2 for value in values]))


def _rows(canary: Canary | None) -> int:
    """How many copies of one image the canary's batch holds."""
    if canary is None or not canary.batched:
        return 1
    return next((int(a.shape[0]) for a in canary.inputs.values() if a.ndim > 1), 1)


def _failed(
    reason: Reason, detail: str, *, output: str | None = None, score: float = 1.0, limit: float = 0.0, measure: str = ""
) -> Finding:
    return Finding(
        reason=reason,
        verdict=Verdict.FAILED,
        score=float(score),
        limit=limit,
        detail=detail,
        output=output,
        measure=measure or str(reason),
    )
