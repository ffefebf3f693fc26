"""The headers of one call, and which of their values must never be shown."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from watchdog.endpoints.faults import FORBIDDEN, FaultError
from watchdog.endpoints.server import ServerSettings


@dataclass(frozen=True, slots=True)
class Headers:
    values: dict[str, str]
    hidden: tuple[str, ...]
    """The secret ones' values, to be kept out of every text."""

    @classmethod
    def of_call(cls, settings: ServerSettings, extra: Mapping[str, str]) -> Self:
        """The configured headers and this call's own, with the secrets as their files hold them now."""
        try:
            secrets = settings.secrets()
        except ValueError as error:
            raise FaultError(FORBIDDEN.fault(str(error))) from error
        return cls({**settings.headers, **secrets, **extra}, tuple(secrets.values()))
