"""What the settings of all endpoints share."""

from typing import Annotated

from pydantic import AfterValidator, Field

from watchdog import tags
from watchdog.transport import Server


def _checked_tag(tag: str) -> str:
    if tags.parse(tag) is None:
        raise ValueError(f"{tag!r} is no tag; {tags.FORM}")
    return tag


class ServerSettings(Server):
    """Where a server is and how it is spoken to; the kinds add their own."""

    name: str = Field(min_length=1)
    """What engines refer to this endpoint by."""
    max_response_bytes: int = Field(default=256 * 2**20, gt=0)
    """A longer answer is cut off and counts as garbled."""
    runtime: Annotated[str, AfterValidator(_checked_tag)] | None = None
    """What the server runs, such as ``trt8.5.3-cuda11.8``: engines' tags are compared with it."""


class TritonSettings(ServerSettings):
    """What only Triton has."""

    metrics: Server | None = None
    """Its Prometheus page, at ``/metrics`` where the URL has no path: there alone it tells why requests failed."""
