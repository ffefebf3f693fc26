"""A server's refusal, as all routers tell it."""


class RefusedError(Exception):
    """The server could not be asked, or said no; the text tells what to do and holds no secret."""

    def __init__(self, detail: str, *, retry: bool = True) -> None:
        super().__init__(detail)
        self.retry = retry
