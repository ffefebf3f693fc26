"""Why there is no usable answer, and whose fault that is."""

from dataclasses import dataclass
from enum import StrEnum


class Blame(StrEnum):
    """Whose fault a missing answer is, as far as one request can tell."""

    CLIENT = "client"
    """The watchdog or its configuration: wrong name, wrong tensor, wrong credentials."""
    NETWORK = "network"
    """Between the watchdog and the server: refused, reset, no route, TLS."""
    SERVER = "server"
    """The server as a whole, or one of its engines: one request can't tell which."""


class FaultKind(StrEnum):
    REFUSED = "refused"
    """Nothing listens, or the connection broke before an answer."""
    TLS = "tls"
    TIMEOUT = "timeout"
    """No answer within the deadline."""
    FORBIDDEN = "forbidden"
    """Credentials or a restricted API's header are missing or wrong."""
    NOT_FOUND = "not-found"
    """The model or version is not there or not READY."""
    REJECTED = "rejected"
    """The server refuses the request itself: a wrong tensor name, shape or datatype."""
    OVERLOADED = "overloaded"
    """The server says that it can't take more now."""
    SERVER_ERROR = "server-error"
    """The server tried and failed."""
    GARBLED = "garbled"
    """An answer that does not follow the protocol: broken JSON, missing bytes, impossible shapes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Fault:
    """A request without a usable answer. A value, never an exception."""

    kind: FaultKind
    blame: Blame
    detail: str
    """One line for a person; never a payload, a header or a secret."""
    retry: bool = True
    """Whether trying the same again can help."""

    def __str__(self) -> str:
        return f"{self.kind} ({self.blame}): {self.detail}"
