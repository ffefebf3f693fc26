"""What the cycle needs of the outside world, as protocols of one or two verbs.

Adapters (endpoints, routers, channels, journal) implement these and know nothing of one another.
No method raises for what the outside world does: that comes back as a value. A ``close`` ends
what the adapter holds open and is always called.
"""

from collections.abc import Callable, Sequence
from typing import ClassVar, Protocol

from watchdog.model.authority import Permission
from watchdog.model.engine import Address, Description, Role
from watchdog.model.event import (
    Baselined,
    Beaten,
    Beside,
    Commanded,
    CycleFailed,
    Delivered,
    Diagnosed,
    EngineSeen,
    GpuSeen,
    GrowthSeen,
    Ignored,
    Learning,
    LoadSeen,
    Noticed,
    ObjectiveSeen,
    Probed,
    Proved,
    Reported,
    RouteSeen,
    Scored,
    SpansTaken,
    Suspected,
    Switched,
    Ticked,
    Timed,
)
from watchdog.model.fault import Fault
from watchdog.model.gpu import GpuReading
from watchdog.model.journal import Entry, EntryKind
from watchdog.model.load import Statistics
from watchdog.model.notice import Delivery, Notice
from watchdog.model.probe import InferRequest, Reply
from watchdog.model.route import Applied, Observed
from watchdog.policy.decide import Decision


class Endpoint(Protocol):
    """A server that answers inference requests."""

    async def infer(self, request: InferRequest, timeout_s: float) -> Reply | Fault:
        """The server's answer, or why there is none, within `timeout_s` of the call."""

    async def describe(self, address: Address, timeout_s: float) -> Description | Fault:
        """What the server says of a model, or of one version of it where `address` pins one."""

    async def statistics(self, address: Address, timeout_s: float) -> Statistics | Fault:
        """What the server has counted of a version's traffic; one call, since it is asked often."""

    async def close(self) -> None: ...


class GpuSource(Protocol):
    """Tells of the GPUs beside the server."""

    async def read(self, timeout_s: float) -> GpuReading:
        """All of them now, or on what condition they can't be watched, within `timeout_s`."""

    async def close(self) -> None: ...


class Router(Protocol):
    """Moves ordinary traffic of one model between its two engines."""

    weighted: ClassVar[bool]
    """Whether it can divide traffic between the two."""
    keeps_both: ClassVar[bool]
    """Whether the fast engine can still be asked by itself while it serves nobody."""
    look_every_s: ClassVar[float]
    """How often it may be asked what is true, without harm to what it asks."""

    async def apply(self, desired: Role, percent: int = 100) -> Applied:
        """Make `desired` serve so much of ordinary traffic, and the other engine the rest.

        Idempotent; returns once the router took it. One that is not weighted refuses all but 100.
        """

    async def observe(self) -> Observed:
        """Which engine ordinary traffic gets now, by the router's own account."""

    async def close(self) -> None: ...


class Authority(Protocol):
    """Says who may move a route that several watchdogs share."""

    keep_every_s: float
    """How often `keep` is to be called."""

    async def ask(self, model: str, fault: str | None) -> Permission:
        """Make this watchdog's own opinion known, and learn whether it may move the route now.

        Args:
            model: the watched model's name.
            fault: the name of a confirmed fault of the serving engine; None where there is none.
        """

    async def called(self, model: str) -> str | None:
        """Why this watchdog should look, though it sees no fault: it leads, and enough others see one. Else None."""

    async def keep(self) -> None:
        """Renew what must be renewed."""

    async def close(self) -> None:
        """Give up what is held, so that another need not wait for it."""


class Channel(Protocol):
    """Carries notices to people or their systems."""

    async def deliver(self, notices: Sequence[Notice]) -> Delivery:
        """Hand over all of `notices`, or say whether trying the same again can help."""

    async def close(self) -> None: ...


class Journal(Protocol):
    """The append-only record."""

    async def append(self, entry: Entry) -> Entry:
        """The entry with its number, once it is on disk.

        Raises:
            OSError: it could not be made durable. Nothing may then be switched on its account.
        """

    async def tail(self, limit: int, model: str | None = None) -> Sequence[Entry]:
        """The newest `limit` entries (of one model), oldest of them first."""

    async def last(self, kind: EntryKind, model: str) -> Entry | None:
        """The newest entry of one kind about one model."""

    async def close(self) -> None: ...


class Evidence(Protocol):
    """Bytes by name that outlive the process, such as what a detector has learnt."""

    async def save(self, name: str, data: bytes) -> None:
        """Keep `data`, whole or not at all, instead of what `name` had.

        Raises:
            OSError: it could not be made durable; what `name` had is still there.
        """

    async def load(self, name: str) -> bytes | None:
        """What was saved last; None where there is nothing.

        Raises:
            OSError: it can't be read now; it may be there.
            ValueError: it is damaged, for good.
        """

    async def drop(self, name: str) -> None:
        """Forget `name`, which need not exist.

        Raises:
            OSError: it may still be there.
        """


Event = (
    Probed
    | Beside
    | Ticked
    | Diagnosed
    | Proved
    | RouteSeen
    | Switched
    | Commanded
    | Noticed
    | Delivered
    | Beaten
    | CycleFailed
    | Baselined
    | Scored
    | Suspected
    | Learning
    | Ignored
    | Timed
    | ObjectiveSeen
    | Reported
    | LoadSeen
    | EngineSeen
    | GpuSeen
    | GrowthSeen
    | SpansTaken
    | Decision
)

Observer = Callable[[Event], None]
"""Turns what happens into metrics, logs or a page. Must be quick, and must not raise."""

Clock = Callable[[], float]
"""Unix seconds."""
