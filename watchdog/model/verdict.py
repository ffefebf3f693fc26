"""What one probe showed: findings, an assessment, a verdict."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from watchdog.model.probe import ProbeResult


class Verdict(StrEnum):
    """Of an engine, or of one probe of it."""

    HEALTHY = "healthy"
    SUSPECT = "suspect"
    """Right, but not as it should be (slow)."""
    FAILED = "failed"
    """A wrong answer."""
    INCONCLUSIVE = "inconclusive"
    """Could not measure. By itself this never moves traffic."""


class Reason(StrEnum):
    """The kinds of finding, most specific first: the first one found names the fault."""

    NON_FINITE = "non-finite"
    ALL_ZERO = "all-zero"
    MISSING_OUTPUT = "missing-output"
    WRONG_DTYPE = "wrong-dtype"
    WRONG_SHAPE = "wrong-shape"
    ROWS_DIFFER = "rows-differ"
    OUT_OF_RANGE = "out-of-range"
    CONSTANT = "constant"
    COLLAPSE = "confidence-collapse"
    PARITY = "parity"
    DRIFT = "drift"
    WRONG_VERSION = "wrong-version"
    LATENCY = "latency"
    CACHED = "cached"
    NO_ANSWER = "no-answer"
    PEERS = "peers"
    """Enough other watchdogs of the same route hold a fault against it."""
    ENGINE_TAG = "engine-tag"
    """Built for another runtime or GPU, or not the engine that the baseline knows."""
    OFF_PROFILE = "off-profile"
    """Inputs are far from the shape that the engine was optimised for."""

    @property
    def rank(self) -> int:
        """0 for the most specific."""
        return _RANK[self]


_RANK = {reason: rank for rank, reason in enumerate(Reason)}


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One thing that is not as it should be, with the number that shows it."""

    reason: Reason
    verdict: Verdict
    """What this finding alone makes of the probe."""
    score: float
    limit: float
    detail: str
    """A sentence for a person, with units."""
    output: str | None = None
    measure: str = ""
    """Which number `score` is, such as ``max_abs`` or ``seconds``."""

    def __str__(self) -> str:
        return f"{self.reason}: {self.detail}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Confidence:
    """A summary of one output as a confidence, in [0, 1]; entropy in nats."""

    value: float
    """The probability itself, the top class' probability, or a mask's mean foreground."""
    top: float
    entropy: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Assessment:
    """One probe held against its baseline and limits."""

    result: ProbeResult
    verdict: Verdict
    findings: tuple[Finding, ...] = ()
    """Most specific first."""
    scores: Mapping[tuple[str, str], float] = field(default_factory=dict)
    """Every number that was compared, broken or not: (output, measure) → score."""
    confidences: Mapping[str, Confidence] = field(default_factory=dict)

    @property
    def worst(self) -> Finding | None:
        return self.findings[0] if self.findings else None

    @property
    def reason(self) -> Reason | None:
        return self.findings[0].reason if self.findings else None
