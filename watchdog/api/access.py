"""Who may: the token of the configuration, in a header or wherever a controller can carry it."""

import hmac
from collections.abc import Callable

from aiohttp import web

from watchdog.api.service import Service

_MOST_TOKENS = 4


class Access:
    """Compares given tokens with the service's, which are read anew each time and so can be rotated.

    While they are, the file holds a line for each that is valid: the new one, and the old one
    until all callers have the new one.
    """

    def __init__(self, service: Service) -> None:
        self._service = service

    def authorise(self, request: web.Request, *, open_without_token: bool = False) -> None:
        """Look for a valid token in the header ``Authorization``.

        Args:
            request: what came.
            open_without_token: whether everybody may where no token is configured.

        Raises:
            web.HTTPException: the answer to a request that may not; where no token is configured, to every one.
        """
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        tokens = self._tokens()
        if tokens or not open_without_token:
            _compare(given if scheme.lower() == "bearer" else "", tokens)

    def accepts(self, token: str) -> None:
        """`authorise` for a token that came otherwise."""
        _compare(token, self._tokens())

    def accepts_hook(self, token: str) -> None:
        """The same for a hook's caller, who carries it where it can, and may have one that is good for nothing else.

        Raises:
            web.HTTPException: it is none that is valid.
        """
        _compare(token, [*self._tokens(), *_read("api.hook_token", self._service.hook_token)])

    def _tokens(self) -> list[bytes]:
        return _read("api.token", self._service.token)


def _read(name: str, read: Callable[[], str | None]) -> list[bytes]:
    try:
        lines = (read() or "").split("\n")
    except ValueError as error:
        raise web.HTTPServiceUnavailable(text=str(error)) from error
    tokens = [_bytes(line) for each in lines if (line := each.strip())]
    if len(tokens) > _MOST_TOKENS:
        said = f"the file of {name} holds {len(tokens)} lines: write one token a line, {_MOST_TOKENS} at most"
        raise web.HTTPServiceUnavailable(text=said)
    return tokens


def _compare(given: str, valid: list[bytes]) -> None:
    if not valid:
        raise web.HTTPForbidden(text="commands are off: set api.token.file in the configuration")
    if not any([hmac.compare_digest(_bytes(given), each) for each in valid]):  # noqa: C419 - the time must not tell which
        raise web.HTTPUnauthorized(
            text="this needs the header `Authorization: Bearer TOKEN`", headers={"WWW-Authenticate": "Bearer"}
        )


def _bytes(text: str) -> bytes:
    """A header's text as it came: aiohttp keeps bytes that are not UTF-8 as lone surrogates."""
    return text.encode(errors="surrogateescape")
