"""What a burst of confirming probes made of a first bad one."""

from dataclasses import dataclass
from enum import StrEnum

from watchdog.model.engine import Role
from watchdog.model.verdict import Finding


class Conclusion(StrEnum):
    """The differential diagnosis: same canaries, serving engine against the other."""

    TRANSIENT = "transient"
    """The serving engine is right after all."""
    ENGINE_FAULT = "engine-fault"
    """The serving engine is bad and the other is proven good."""
    BOTH_WRONG = "both-wrong"
    """Neither engine is right: the model, its preprocessing or the server. Nothing to move to."""
    TARGET_UNPROVEN = "target-unproven"
    """The serving engine is bad and the other could not be proven good."""
    OVERLOADED = "overloaded"
    """Both engines are right but slow: the server or its neighbours, not one engine."""
    OTHER_SLOWER = "other-slower"
    """The serving engine is right but slow, and the other one would take even longer."""
    SLOWED = "slowed"
    """Right and within the limit of one probe, but lastingly slower than at the baseline or than its objective."""
    SERVER_FAULT = "server-fault"
    """Neither engine answers, or a cache does: blind, and moving traffic would not help."""
    DATA_DRIFT = "data-drift"
    """Answers to patients' images changed, and both engines are right: the images changed."""
    INTERMITTENT = "intermittent"
    """The serving engine is right when asked again, but has been wrong too often; the other is proven good."""
    ROUTE_MOVED = "route-moved"
    """The engine that should serve is right, but the public name is answered by another."""


OF_THE_ENGINE = frozenset({Conclusion.ENGINE_FAULT, Conclusion.INTERMITTENT})
"""What is held against an engine before others that watch the same route."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Diagnosis:
    conclusion: Conclusion
    serving: Role
    """The engine that should have been serving."""
    finding: Finding | None
    """The most specific thing found on the serving engine, or on the public name."""
    detail: str
    serving_bad: int
    serving_probes: int
    other_bad: int
    other_probes: int

    @property
    def reason(self) -> str:
        """The finding's reason, or the conclusion where there is no finding."""
        return str(self.finding.reason if self.finding else self.conclusion)
