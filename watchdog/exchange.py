"""One call to another system's HTTP API: a fresh connection, bounded in time and size, no redirect.

Calls of this kind are rare, and so no stale connection is taken for a dead server.
"""

import asyncio
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp
from yarl import URL

from watchdog.http_failure import said
from watchdog.transport import Remote, one_line

_MOST_BYTES = 16 * 2**20


class UnansweredError(Exception):
    """There is no answer; the text is one line for a person, without path, header or body."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """What a server said, whatever its status."""

    origin: str
    """The part of the URL that may be shown."""
    status: int
    headers: Mapping[str, str]
    raw: bytes
    hidden: Collection[str] = ()
    """Secrets that the server may echo."""

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 300

    @property
    def text(self) -> str:
        """The body as one short, printable line without secrets."""
        return one_line(self.raw.decode(errors="replace"), self.hidden)

    def json(self) -> Any:
        """The body's JSON; None where it is empty.

        Raises:
            UnansweredError: it is not JSON.
        """
        try:
            return json.loads(self.raw) if self.raw else None
        except (ValueError, RecursionError) as error:
            raise UnansweredError(f"{self.origin} answers, but not in JSON: {self.text}") from error

    def __str__(self) -> str:
        return f"{self.origin}: {self.status} {self.text}".rstrip()


async def exchange(
    remote: Remote,
    method: str,
    url: str,
    *,
    timeout_s: float,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
    bearer: str = "",
) -> Answer:
    """Ask once.

    Args:
        remote: trust, headers and secret headers.
        method: of HTTP.
        url: the whole of it; no redirect away from it is followed, since that would carry secrets elsewhere.
        timeout_s: for everything, files of the settings included.
        body: as it is sent.
        headers: of this call alone, such as its content type; they win over the settings'.
        bearer: a token, kept out of what is said.

    Raises:
        UnansweredError: no server answered in time and in HTTP, or the settings' files can't be used.
    """
    origin = str(URL(url).origin())
    try:
        async with asyncio.timeout(timeout_s):
            trusted = True if remote.tls is None else await asyncio.to_thread(remote.tls.context)
            secrets = remote.secrets()
            sent = {**remote.headers, **secrets, **(headers or {})}
            if bearer:
                sent["Authorization"] = f"Bearer {bearer}"
            name = remote.tls.server_name if remote.tls else None
            async with (
                aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=trusted, force_close=True)) as session,
                _once(session).request(
                    method, url, data=body, headers=sent, allow_redirects=False, server_hostname=name
                ) as response,
            ):
                raw = await whole(response)
                hidden = [value for value in (*secrets.values(), bearer) if value]
                return Answer(
                    origin=origin, status=response.status, headers=dict(response.headers), raw=raw, hidden=hidden
                )
    except TimeoutError as error:
        raise UnansweredError(f"{origin}: no answer within {timeout_s:g} s") from error
    except (aiohttp.ClientError, OSError) as error:
        raise UnansweredError(f"{origin}: {said(error)}") from error
    except ValueError as error:  # a file of the settings
        raise UnansweredError(f"{origin}: {error}") from error


def _once(session: aiohttp.ClientSession) -> aiohttp.ClientSession:
    """Without aiohttp's second try of a PUT whose connection broke: what the first one did would be hidden."""
    session._retry_connection = False  # noqa: SLF001 - nothing public says it; test_kubernetes_client.py holds it
    return session


async def whole(response: aiohttp.ClientResponse) -> bytes:
    """The body; ClientPayloadError where it is larger than anything that is asked for here."""
    raw = bytearray()
    async for chunk in response.content.iter_any():
        raw += chunk
        if len(raw) > _MOST_BYTES:
            raise aiohttp.ClientPayloadError
    return bytes(raw)
