"""What the settings of all channels that POST to an HTTP receiver have in common."""

from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, WithJsonSchema

from watchdog.alerting import Resend
from watchdog.settings import Duration, Secret
from watchdog.transport import Remote


def _checked_url(value: str) -> str:
    try:
        parts = urlsplit(value)
        parts.port  # noqa: B018 (raises for an impossible one)
    except ValueError as error:
        raise ValueError(f"not a URL: {error}") from error
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError("not an http:// or https:// URL with a host")
    if parts.username is not None or parts.password is not None:
        raise ValueError("credentials do not belong in a URL; put them into `secret_headers`")
    return value


Url = Annotated[str, AfterValidator(_checked_url), WithJsonSchema({"type": "string", "format": "uri"})]


class ReceiverSettings(Remote):
    """How to POST, less the place and the message."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")
    """The channel's name in metrics, logs and the journal."""
    timeout: Duration = 10.0
    """For one POST, from connecting to the answer."""

    @property
    def secrets_of_kind(self) -> tuple[Secret, ...]:
        """Those of this kind alone, so that `check` can try them."""
        return ()

    @property
    def resend(self) -> Resend:
        """How this kind of receiver wants to be told: by default once, and once more at the end."""
        return Resend()
