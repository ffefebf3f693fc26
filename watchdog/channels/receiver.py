"""What the settings of all channels that POST to an HTTP receiver have in common."""

from datetime import UTC, datetime

from pydantic import Field

from watchdog.ledger import Resend
from watchdog.settings import Duration, Secret, Url
from watchdog.transport import Remote


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


class TellingSettings(ReceiverSettings):
    """Of receivers that show a person where to read on."""

    external_url: Url | None = None
    """Where people reach this watchdog."""
    runbook_base: Url | None = None
    """An alert's runbook is ``<runbook_base>/<alertname>``."""

    def runbook(self, alert: str) -> str | None:
        """Where that alert's is; None where nobody said."""
        return None if self.runbook_base is None else f"{self.runbook_base.rstrip('/')}/{alert}"


def rfc3339(at: float) -> str:
    """Unix seconds as the receivers take times: to the millisecond, in UTC."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")
