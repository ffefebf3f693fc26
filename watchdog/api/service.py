"""What the HTTP server needs of the running watchdog."""

from collections.abc import Sequence
from typing import Any, Protocol

from watchdog.model.event import Command


class NoSuchModelError(LookupError):
    """The named model is not watched."""


class ReloadError(ValueError):
    """The new configuration can't be used; the old one goes on."""


class Service(Protocol):
    def ready(self) -> str | None:
        """None when every model is watched, else why not yet."""

    def status(self) -> dict[str, Any]: ...

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
            OSError: the journal can't record the command, so nothing was done.
        """

    def token(self) -> str | None:
        """The token that commands need, read afresh; None where commands are not offered.

        Raises:
            ValueError: its file can't be read.
        """
