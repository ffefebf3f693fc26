"""What the right answers are: golden outputs and reference statistics of one model."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from watchdog.model.engine import Role
from watchdog.model.probe import Attribution
from watchdog.model.tensor import Array


@dataclass(frozen=True, kw_only=True, slots=True)
class Golden:
    """The safe engine's answer to one canary, and how far it strays from it by itself."""

    outputs: Mapping[str, Array]
    spread: Mapping[str, float]
    """Per output, the largest max-abs difference seen between repeats with perturbed payloads."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Latency:
    """How long one shape's probes took, from sending to the whole answer."""

    median_s: float
    p99_s: float
    attribution: Attribution = Attribution.NONE
    """How the device times among `measures` were learnt; by one way for all of them."""
    measures: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    """Measure (``total``, ``host``, ``device`` or another part) → seconds, a number for each probe."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineReference:
    """How one engine behaved when the baseline was captured."""

    version: str
    tag: str | None
    latency: Mapping[str, Latency]
    """By the recipe's shape profile: a batch of the largest size takes longer than the smallest."""
    parity: Mapping[str, float] = field(default_factory=dict)
    """``output.measure`` → the worst score against the golden answers over the canary set."""
    residuals: Mapping[str, Mapping[str, tuple[float, ...]]] = field(default_factory=dict)
    """Canary → reading → this engine's logits less the golden one's, a number for each repeat."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Baseline:
    """The reference of one model. Captured from the safe engine, bound to canaries and recipe."""

    model: str
    created_at: str
    """RFC 3339, UTC."""
    server: str
    recipe_sha256: str
    canaries: Mapping[str, str]
    """Canary id → SHA-256 of its source."""
    engines: Mapping[Role, EngineReference]
    golden: Mapping[str, Golden]
    """Canary id → its golden answer."""
    repeats: int
