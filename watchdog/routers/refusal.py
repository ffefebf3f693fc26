"""A server's refusal, as all routers tell it."""

from watchdog.model.route import Applied


class RefusedError(Exception):
    """The server could not be asked, or said no; the text tells what to do and holds no secret."""

    def __init__(self, detail: str, *, retry: bool = True) -> None:
        super().__init__(detail)
        self.retry = retry


def refused_share(router: object) -> Applied:
    """What a router that can't divide traffic says to a share of it."""
    kind = type(router).__name__
    return Applied(ok=False, detail=f"{kind} moves all traffic or none: remove policy.steps", retry=False)
