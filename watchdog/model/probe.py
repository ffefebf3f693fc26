"""One canary through one engine: the request, the reply, the result."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from watchdog.model.engine import Address, Answerer, Role
from watchdog.model.fault import Fault
from watchdog.model.tensor import Array


class Attribution(StrEnum):
    """How a device time was learnt, and so how far it can be trusted."""

    TRACE = "trace"
    """From the server's trace of this very request."""
    SERVER_TIMING = "server-timing"
    """From a ``Server-Timing: device;dur=`` header on this very answer."""
    SHARED = "shared"
    """From a difference of the server's statistics: other traffic is mixed in."""
    NONE = "none"


@dataclass(frozen=True, kw_only=True, slots=True)
class Timing:
    """When a request was sent and how long its parts took."""

    sent_at: float
    """Unix seconds."""
    total_s: float
    """From handing the request to the client library to having the whole answer."""
    device_s: float | None = None
    attribution: Attribution = Attribution.NONE

    @property
    def host_s(self) -> float | None:
        """Everything that was not the device, where the device's share is known."""
        return None if self.device_s is None else max(0.0, self.total_s - self.device_s)


@dataclass(frozen=True, kw_only=True, slots=True)
class InferRequest:
    address: Address
    inputs: Mapping[str, Array]
    outputs: tuple[str, ...] = ()
    """The outputs asked for; empty for all."""
    id: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Per-request headers (gRPC metadata), such as ``traceparent``."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Reply:
    """A server's answer that follows the protocol. Whether it is right is for others to say."""

    outputs: Mapping[str, Array]
    answered_by: Answerer
    timing: Timing


@dataclass(frozen=True, kw_only=True, slots=True)
class ProbeResult:
    """One canary through one address: outputs or a fault, timings, and who answered."""

    model: str
    """The watched model's name in the configuration."""
    canary: str
    profile: str
    """The canary's shape profile."""
    address: Address
    expected: Role
    """The engine that should have answered: the pinned one, or the route's."""
    public: bool
    """Whether the probe took the public, unversioned path."""
    seed: int
    """Reproduces the payload: ``canary.perturbed(np.random.default_rng(seed))``."""
    timing: Timing
    outputs: Mapping[str, Array] = field(default_factory=dict)
    fault: Fault | None = None
    answered_by: Answerer = field(default_factory=Answerer)
    cached: bool | None = None
    """Whether a response cache answered; None where nothing could tell."""
