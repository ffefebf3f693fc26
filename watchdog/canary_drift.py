"""Watches canaries' answers for small, lasting differences: one detector for each engine of a model."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from pydantic import Field

from watchdog.assess import AssessSettings, Judge, OutputKind, confidence_of, drifted, drifted_burst
from watchdog.drift.links import logit
from watchdog.drift.paired import EVERYTHING, PairedDetector, PairedReference, PairedState
from watchdog.drift.promise import PromiseText
from watchdog.model.baseline import Golden
from watchdog.model.engine import Role
from watchdog.model.score import Promise, Score
from watchdog.model.verdict import Assessment, Confidence, Finding, Reason, Verdict
from watchdog.settings import Settings

_ONE_NUMBER = frozenset({OutputKind.PROBABILITY, OutputKind.LOGIT})
"""Their top probability is the probability itself, or its complement."""


class CanaryDriftSettings(Settings):
    """How surely the canaries' answers must have changed before that is a fault."""

    false_alarms: PromiseText = "1 per year"
    """At most, on average, at this model's cadence."""
    burst: int = Field(default=6, ge=1, le=64)
    """Canaries that confirm it, of the group of images in which it was seen."""


class CanaryDrift:
    """The detectors of one model's engines, and what they have gathered.

    An engine without residuals in the baseline is not watched.
    """

    def __init__(self, judge: Judge, promise: Promise) -> None:
        self._settings = judge.settings
        self._detectors = _detectors(judge, promise)
        self._states: dict[Role, PairedState] = {role: each.fresh() for role, each in self._detectors.items()}
        self._suspects: tuple[str, ...] = ()

    @property
    def suspects(self) -> tuple[str, ...]:
        """Canaries of the group that the last alarm was about; empty if it was about all of them."""
        return self._suspects

    def take(self, assessment: Assessment) -> tuple[Assessment, Score | None]:
        """The probe's assessment with what it shows together with the earlier ones, and the score.

        At an alarm the evidence starts afresh: a burst looks into it at once.
        """
        role = assessment.result.expected
        detector = self._detectors.get(role)
        if detector is None or not assessment.confidences or _elsewhere(assessment):
            return assessment, None
        readings = logits(self._settings, assessment.confidences)
        self._states[role], score = detector.update(self._states[role], assessment.result.canary, readings)
        finding = drifted(score, "evidence")
        if finding is None or score.alarm is None:
            return assessment, score
        group = score.alarm.group
        self._suspects = () if group == EVERYTHING else detector.members(group)
        self._states[role] = detector.fresh()
        return with_findings(assessment, (finding,)), score

    def over(self, role: Role, answers: Iterable[Assessment]) -> tuple[Finding, ...]:
        """Whether a burst's answers, taken together, are not what this engine always said."""
        detector = self._detectors.get(role)
        if detector is None:
            return ()
        pairs = [
            (a.result.canary, logits(self._settings, a.confidences))
            for a in answers
            if a.confidences and not _elsewhere(a)
        ]
        if not pairs:
            return ()
        evidence, alarm = detector.burst(pairs)
        finding = drifted_burst(evidence, alarm)
        return () if finding is None else (finding,)

    def dump(self) -> dict[Role, bytes]:
        """What was gathered, as bytes for `load`."""
        return {role: self._detectors[role].dump(state) for role, state in self._states.items()}

    def load(self, role: Role, data: bytes) -> None:
        """Go on with what was gathered before a restart.

        Raises:
            ValueError: it is damaged, or of another baseline or promise.
        """
        if role in self._detectors:
            self._states[role] = self._detectors[role].load(data)


def logits(settings: AssessSettings, confidences: Mapping[str, Confidence]) -> dict[str, float]:
    """One answer's readings: each output's confidence as a logit, and its top probability where that is another."""
    readings = {}
    for output in settings.outputs:
        confidence = confidences.get(output.name)
        if confidence is None:
            continue
        readings[output.name] = logit(confidence.value)
        if output.kind not in _ONE_NUMBER:
            readings[f"{output.name}.top"] = logit(confidence.top)
    return readings


def residuals(
    settings: AssessSettings, answers: Sequence[Assessment], golden: Mapping[str, Golden]
) -> dict[str, dict[str, tuple[float, ...]]]:
    """Canary → reading → answers' logits less the golden answer's, in the order of the answers."""
    right = golden_logits(settings, golden)
    found: dict[str, dict[str, list[float]]] = {}
    for answer in answers:
        canary = answer.result.canary
        for reading, value in logits(settings, answer.confidences).items():
            if reading in right.get(canary, {}):
                found.setdefault(canary, {}).setdefault(reading, []).append(value - right[canary][reading])
    return {
        canary: {reading: tuple(values) for reading, values in of_canary.items()} for canary, of_canary in found.items()
    }


def golden_logits(settings: AssessSettings, golden: Mapping[str, Golden]) -> dict[str, dict[str, float]]:
    """Canary → reading → the golden answer's logit."""
    found = {}
    for canary, answer in golden.items():
        read = {output.name: confidence_of(output, answer.outputs.get(output.name)) for output in settings.outputs}
        found[canary] = logits(settings, {name: c for name, c in read.items() if c is not None})
    return found


def with_findings(assessment: Assessment, found: Sequence[Finding]) -> Assessment:
    """The assessment with more findings, each of which makes it a failed one."""
    findings = tuple(sorted((*assessment.findings, *found), key=lambda f: f.reason.rank))
    return replace(assessment, verdict=Verdict.FAILED, findings=findings)


def _elsewhere(assessment: Assessment) -> bool:
    return any(finding.reason in (Reason.WRONG_VERSION, Reason.CACHED) for finding in assessment.findings)


def _detectors(judge: Judge, promise: Promise) -> dict[Role, PairedDetector]:
    if judge.baseline is None:
        return {}
    golden = golden_logits(judge.settings, judge.baseline.golden)
    strata = {name: {**canary.strata, "profile": canary.profile} for name, canary in judge.canaries.items()}
    return {
        role: PairedDetector(PairedReference(golden=golden, residuals=reference.residuals, strata=strata), promise)
        for role, reference in judge.baseline.engines.items()
        if any(reference.residuals.values())
    }
