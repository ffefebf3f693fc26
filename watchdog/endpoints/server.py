"""What the settings of all endpoints share."""

from pydantic import Field

from watchdog.transport import Server


class ServerSettings(Server):
    """Where a server is and how it is spoken to; the kinds add their own."""

    name: str = Field(min_length=1)
    """What engines refer to this endpoint by."""
    max_response_bytes: int = Field(default=256 * 2**20, gt=0)
    """A longer answer is cut off and counts as garbled."""
