"""How failures become `Fault`s: the tables that all endpoints share, and the edge where it happens.

Inside this package a known failure is raised as `FaultError`; `settled` turns it, a passed
deadline and anything unforeseen into a value. Nothing but cancellation escapes.
"""

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, NamedTuple, TypeVar

from watchdog.model.fault import Blame, Fault, FaultKind
from watchdog.transport import one_line

T = TypeVar("T")


class FaultError(Exception):
    """Carries a fault up to the edge of its endpoint."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(str(fault))
        self.fault = fault


class Ruling(NamedTuple):
    """What a failure is, whose fault, and whether trying the same again can help."""

    kind: FaultKind
    blame: Blame
    retry: bool

    def fault(self, detail: str) -> Fault:
        return Fault(kind=self.kind, blame=self.blame, retry=self.retry, detail=one_line(detail))


REFUSED = Ruling(FaultKind.REFUSED, Blame.NETWORK, True)
TLS = Ruling(FaultKind.TLS, Blame.NETWORK, True)
TLS_FILES = Ruling(FaultKind.TLS, Blame.CLIENT, True)
TIMEOUT = Ruling(FaultKind.TIMEOUT, Blame.SERVER, True)
FORBIDDEN = Ruling(FaultKind.FORBIDDEN, Blame.CLIENT, False)
UNKNOWN = Ruling(FaultKind.NOT_FOUND, Blame.CLIENT, False)
NOT_READY = Ruling(FaultKind.NOT_FOUND, Blame.SERVER, True)
REJECTED = Ruling(FaultKind.REJECTED, Blame.CLIENT, False)
OVERLOADED = Ruling(FaultKind.OVERLOADED, Blame.SERVER, True)
SERVER_ERROR = Ruling(FaultKind.SERVER_ERROR, Blame.SERVER, True)
GARBLED = Ruling(FaultKind.GARBLED, Blame.SERVER, True)
UNREADABLE = Ruling(FaultKind.GARBLED, Blame.CLIENT, False)
"""A sound answer that the watchdog can't use, such as strings."""

STALE = frozenset({FaultKind.REFUSED, FaultKind.TLS, FaultKind.TIMEOUT})
"""Faults after which the next call had better begin with a new connection."""

_BY_STATUS: Mapping[int | str, Ruling] = {
    401: FORBIDDEN,
    403: FORBIDDEN,
    404: UNKNOWN,
    407: FORBIDDEN,
    408: TIMEOUT,
    410: UNKNOWN,
    429: OVERLOADED,
    501: REJECTED,
    502: REFUSED,
    503: OVERLOADED,
    504: TIMEOUT,
    "DEADLINE_EXCEEDED": TIMEOUT,
    "FAILED_PRECONDITION": REJECTED,
    "INVALID_ARGUMENT": REJECTED,
    "NOT_FOUND": UNKNOWN,
    "OUT_OF_RANGE": REJECTED,
    "PERMISSION_DENIED": FORBIDDEN,
    "RESOURCE_EXHAUSTED": OVERLOADED,
    "UNAUTHENTICATED": FORBIDDEN,
    "UNAVAILABLE": OVERLOADED,
    "UNIMPLEMENTED": REJECTED,
}
"""HTTP and gRPC statuses. Other gRPC ones, and 5xx, are the server's error; 3xx and 4xx the request's."""

_NOT_READY_PHRASES = (
    ("not at ready state", NOT_READY),
    ("no available versions", NOT_READY),
    ("stopped accepting", NOT_READY),
)
_BY_PHRASE: Mapping[int | str, tuple[tuple[str, Ruling], ...]] = {
    404: _NOT_READY_PHRASES,
    503: _NOT_READY_PHRASES,
    "NOT_FOUND": _NOT_READY_PHRASES,
    "RESOURCE_EXHAUSTED": (
        ("Sent message larger than max", REJECTED),
        ("SERVER: Received message larger than max", REJECTED),
        ("Received message larger than max", GARBLED),
    ),
    "INTERNAL": (("Exception deserializing response", GARBLED),),
    "UNAVAILABLE": (
        *_NOT_READY_PHRASES,
        ("protocol is restricted", FORBIDDEN),
        ("handshake", TLS),
        ("Hostname Verification", TLS),
        ("Failed parsing HTTP/2", GARBLED),
        ("failed to connect", REFUSED),
        ("errors resolving", REFUSED),
        ("DNS resolution failed", REFUSED),
        ("Socket closed", REFUSED),
        ("Stream removed", REFUSED),
        ("GOAWAY", REFUSED),
        ("recvmsg", REFUSED),
        ("sendmsg", REFUSED),
        ("Connection reset", REFUSED),
        ("Broken pipe", REFUSED),
    ),
}
"""What the text tells of statuses that mean several things: the first phrase found decides."""


def ruling(status: int | str, text: str) -> Ruling:
    """What an HTTP status or a gRPC status' name means, given what the server or client library said."""
    for phrase, found in _BY_PHRASE.get(status, ()):
        if phrase.lower() in text.lower():
            return found
    if status in _BY_STATUS:
        return _BY_STATUS[status]
    if isinstance(status, int) and status < 300:
        return GARBLED
    return REJECTED if isinstance(status, int) and status < 500 else SERVER_ERROR


def garbled(detail: str) -> FaultError:
    return FaultError(GARBLED.fault(detail))


def unforeseen(error: Exception) -> Fault:
    """The type alone: its text might quote what was sent or received."""
    return GARBLED.fault(f"the exchange does not follow the protocol ({type(error).__name__})")


async def settled(
    work: Coroutine[Any, Any, T], timeout_s: float, translate: Callable[[Exception], Fault] = unforeseen
) -> T | Fault:
    """The outcome of `work` within `timeout_s`, or the fault that it ended with."""
    try:
        async with asyncio.timeout(timeout_s):
            return await work
    except FaultError as error:
        return error.fault
    except TimeoutError:
        return TIMEOUT.fault(f"no answer within {timeout_s:g} s")
    except Exception as error:  # noqa: BLE001 (the edge: what the outside world does is a value)
        return translate(error)
