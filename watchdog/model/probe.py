"""One canary through one engine: the request, the reply, the result."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from watchdog.model.engine import Address, Answerer, Role
from watchdog.model.fault import Fault
from watchdog.model.tensor import Array


class Attribution(StrEnum):
    """How a device time was learnt, and so how far it can be trusted."""

    MODEL = "model"
    """By the device's own clock for this very request: told in an output of the answer, or read where
    the engine runs in-process."""
    TRACE = "trace"
    """From the server's trace of this very request."""
    SERVER_TIMING = "server-timing"
    """From a ``Server-Timing: device;dur=`` header on this very answer."""
    SHARED = "shared"
    """From a difference of the server's statistics: other traffic is mixed in."""
    NONE = "none"


class Part(StrEnum):
    """Where a request's time goes, in the order in which it passes. Together they are the whole."""

    CLIENT = "client"
    """The watchdog's own: writing the request, reading the answer."""
    NETWORK = "network"
    """Between the watchdog and the server's front end, both ways: client library, kernel, wire."""
    FRONT_END = "front-end"
    """The server's own: receiving, scheduling, sending."""
    QUEUE = "queue"
    """Waiting for an instance of the model, or for a batch to fill."""
    INPUT = "input-copy"
    MODEL = "model"
    """The model's own code around the device's work, where the model tells the two apart."""
    DEVICE = "device"
    OUTPUT = "output-copy"


@dataclass(frozen=True, kw_only=True, slots=True)
class Timing:
    """When a request was sent and how long its parts took."""

    sent_at: float
    """Unix seconds."""
    total_s: float
    """From handing the request to the client library to having the whole answer."""
    client_s: float | None = None
    """Of that, what the watchdog itself used for writing and reading."""
    device_s: float | None = None
    attribution: Attribution = Attribution.NONE
    parts: Mapping[Part, float] = field(default_factory=dict)
    """Where the whole time went; empty unless this request was traced."""

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
    trace_id: str = ""
    """The W3C trace id that the request carried; empty where it carried none."""
