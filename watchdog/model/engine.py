"""Who can answer: addresses, engines and what a server says of them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Role(StrEnum):
    """The two precision variants of a model that the watchdog chooses between."""

    FAST = "fast"
    """FP16 or INT8: what patients' images normally get."""
    SAFE = "safe"
    """FP32: slower, and trusted once it has been proven."""

    @property
    def other(self) -> "Role":
        return Role.SAFE if self is Role.FAST else Role.FAST


@dataclass(frozen=True, kw_only=True, slots=True)
class Address:
    """Where a request goes: an endpoint's name, the model and, if pinned, the version."""

    endpoint: str
    model: str
    version: str = ""
    """Empty for the unversioned name, which is what ordinary traffic uses."""

    def __str__(self) -> str:
        return f"{self.endpoint}:{self.model}" + (f"/{self.version}" if self.version else "")


@dataclass(frozen=True, kw_only=True, slots=True)
class Engine:
    """One precision variant of a model at an endpoint. On Triton: a version."""

    role: Role
    address: Address

    def __str__(self) -> str:
        return str(self.address)


@dataclass(frozen=True, kw_only=True, slots=True)
class Answerer:
    """The model and version that a server says it answered with; empty where it says nothing."""

    model: str = ""
    version: str = ""

    def is_at(self, address: Address) -> bool:
        """True unless this contradicts `address`; what a server doesn't say contradicts nothing."""
        return (not self.model or self.model == address.model) and (
            not address.version or not self.version or self.version == address.version
        )

    def __str__(self) -> str:
        return f"{self.model or '?'}/{self.version or '?'}"


@dataclass(frozen=True, kw_only=True, slots=True)
class TensorSpec:
    """A tensor's name, Open Inference Protocol datatype (``FP32``) and shape (−1: dynamic)."""

    name: str
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Counters:
    """A server's cumulative counts for one model version; a difference of two tells who worked."""

    inferences: int = 0
    cache_hits: int = 0
    failures: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Tracing:
    """How a server traces the requests to one model."""

    on: bool
    """Whether it can export what it traces as OpenTelemetry spans."""
    mode: str
    """``opentelemetry``, or ``triton`` for a file on the server."""
    rate: int
    """Every so many requests; with 0 none but those that carry a ``traceparent``."""
    url: str = ""
    """Where it sends the spans to; empty where it doesn't."""
    delay_s: float | None = None
    """How long it gathers spans before it sends them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ShapeRange:
    """The shapes of one input that a TensorRT engine was built for: its optimisation profile."""

    least: tuple[int, ...]
    best: tuple[int, ...]
    """What its kernels were chosen for (TensorRT's ``opt``)."""
    most: tuple[int, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Description:
    """What a server says of one model (version)."""

    server: str
    """The server's name and version, such as ``triton 2.51.0``."""
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    versions: tuple[str, ...] = ()
    """The versions that are READY, lowest first."""
    tag: str | None = None
    """The engine's tag, such as ``trt8.5.3-cuda11.8``, where the model declares one."""
    response_cache: bool = False
    """Whether the server may answer this model from a cache."""
    counters: Counters | None = None
    extensions: tuple[str, ...] = field(default=())
    tracing: Tracing | None = None
    """None where the server doesn't tell."""
    profiles: Mapping[str, ShapeRange] = field(default_factory=dict)
    """By input, where the model declares them."""
    unreadable: tuple[str, ...] = ()
    """What the model declares for the watchdog and is malformed: a sentence each."""
