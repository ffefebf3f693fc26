"""Whether this watchdog may move a route that others watch too."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Permission:
    ok: bool
    """Whether the route may be moved now."""
    leads: bool
    """Whether this watchdog's word counts; one that follows takes the route as it finds it."""
    detail: str


class NotLeadingError(Exception):
    """Another watchdog decides about the route; the text says which."""
