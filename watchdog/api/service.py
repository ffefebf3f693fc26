"""What the HTTP server needs of the running watchdog."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from watchdog.live.shadow import Read
from watchdog.live.studies import Slice
from watchdog.model.event import Command, Source
from watchdog.model.gate import Gate
from watchdog.model.journal import Entry
from watchdog.model.module_probe import ModuleProbe, Refused
from watchdog.model.observation import Pair
from watchdog.model.route import Published
from watchdog.telemetry.gallery import Drawing, Picture


class NoSuchModelError(LookupError):
    """The named model is not watched."""


class ReloadError(ValueError):
    """The new configuration can't be used; the old one goes on."""


class Intake(Protocol):
    """Where one model's live answers go; `watchdog.live.Feed` is one."""

    @property
    def readings(self) -> Sequence[str]:
        """All that the model has."""

    @property
    def sources(self) -> frozenset[Source]:
        """What may be handed over, by the configuration: LIVE to `observe`, SHADOW to the others."""

    async def observe(self, slices: Sequence[Slice]) -> None:
        """Answers to patients' images."""

    async def compare(self, pairs: Sequence[Pair]) -> None:
        """Both engines' answers to the same inputs."""

    async def mirror(self, read: Read) -> bool:
        """Whether a mirrored request was taken; `read` is called only then, and its errors pass through."""


class Service(Protocol):
    def ready(self) -> str | None:
        """None when every model is watched, else why not yet."""

    def status(self) -> dict[str, Any]: ...

    def history(self, model: str, since: float) -> dict[str, Any]:
        """The last minutes of a model; of its probes only those after `since`, in Unix seconds. JSON-ready.

        Raises:
            NoSuchModelError: the model is not watched.
        """

    def canaries(self, model: str) -> Sequence[dict[str, Any]]:
        """A model's newest answers, wrong ones first, each with its number. JSON-ready.

        Raises:
            NoSuchModelError: the model is not watched.
        """

    def drawing(self, model: str, number: int, picture: Picture) -> Drawing | None:
        """What one of an answer's pictures is drawn from; None where there is none, or no more.

        Raises:
            NoSuchModelError: the model is not watched.
        """

    async def journal_tail(self, limit: int, model: str | None, after: int) -> Sequence[Entry]:
        """The newest entries behind number `after`, but for recorded scores (of one model), oldest of them first.

        Raises:
            OSError: the journal can't be read now.
        """

    async def probe(self, module: str, target: str, within_s: float | None) -> ModuleProbe | Refused:
        """Send one canary to a server that the caller names, as a module of the configuration says.

        Args:
            module: by its name.
            target: the server's address.
            within_s: how long the caller waits for all of it; None where that is not known.
        """

    def metrics(self, accept: str) -> tuple[bytes, str]:
        """A scrape's body and content type."""

    async def reload(self) -> None:
        """Read the configuration again.

        Raises:
            ReloadError: it can't be used.
        """

    async def command(self, model: str, command: Command, actor: str, why: str) -> Sequence[dict[str, Any]]:
        """Carry out a command; the decisions that came of it.

        Raises:
            NoSuchModelError: the model is not watched.
            NotLeadingError: another watchdog decides about its route, so nothing was done.
            OSError: the journal can't record the command, so nothing was done.
        """

    def gate(self, model: str) -> Gate:
        """Whether a deployment of this model may go on.

        Raises:
            NoSuchModelError: the model is not watched.
        """

    def route(self, model: str) -> Published:
        """The route as it should be now.

        Raises:
            NoSuchModelError: the model is not watched.
        """

    async def route_changed(self, model: str, seen: Published, timeout_s: float) -> Published:
        """The route once it is another than `seen`, or as it is when the time is up.

        Raises:
            NoSuchModelError: the model is not watched, or no longer.
        """

    async def route_ready(self, model: str) -> str | None:
        """None while the public name is known to be answered as it should be, else why that isn't known.

        Raises:
            NoSuchModelError: the model is not watched.
        """

    async def note(self, model: str, actor: str, said: Mapping[str, str | bool]) -> None:
        """Put a controller's call, and what it was answered, into the journal (`EntryKind.HOOK`).

        Raises:
            NoSuchModelError: the model is not watched.
            OSError: the journal can't record it.
        """

    def intake(self, model: str, *, served: bool = False) -> Intake:
        """Where a model's live answers go.

        Args:
            model: the watched model's name.
            served: whether `model` may also be the name that its server has for ordinary traffic.

        Raises:
            NoSuchModelError: the model is not watched.
        """

    def hook_token(self) -> str | None:
        """A token that the hooks take beside `token`; None where there is none.

        Raises:
            ValueError: its file can't be read.
        """

    def token(self) -> str | None:
        """The tokens that commands need, a line each, read afresh; None where commands are not offered.

        Raises:
            ValueError: its file can't be read.
        """
