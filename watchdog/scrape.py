"""Reading another system's Prometheus page, within limits of time and size."""

import asyncio
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import aiohttp
from prometheus_client.parser import text_string_to_metric_families
from yarl import URL

from watchdog.http_failure import said
from watchdog.transport import Server

_MOST_BYTES = 16 * 2**20
_NAME = re.compile(r"[A-Za-z_:][A-Za-z0-9_:]*")

Sample = tuple[Mapping[str, str], float]
"""Labels and value."""


@dataclass(frozen=True, slots=True)
class Page:
    """What was asked for of a page."""

    by_name: Mapping[str, Sequence[Sample]]

    def samples(self, name: str) -> Sequence[Sample]:
        """All of one name, in the page's order; none where the page has none."""
        return self.by_name.get(name, ())


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Why there is no page."""

    detail: str
    """One line for a person: no path, header or content."""


async def scrape_server(server: Server, *, names: Collection[str], timeout_s: float) -> Page | Unreadable:
    """`scrape` of ``/metrics``, or of the path that the server's URL has, over a connection of its own.

    Pages are read rarely, and so no stale connection is taken for a dead server.
    """
    url = server.base_url if server.place.prefix else f"{server.base_url}/metrics"
    try:
        async with asyncio.timeout(timeout_s):
            trusted = True if server.tls is None else await asyncio.to_thread(server.tls.context)
            headers = {**server.headers, **server.secrets()}
            async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=trusted)) as session:
                name = server.tls.server_name if server.tls else None
                return await scrape(session, url, names=names, timeout_s=timeout_s, headers=headers, server_name=name)
    except ValueError as error:  # a file of the settings
        return Unreadable(f"{_origin(url)}: {error}")
    except TimeoutError:
        return _late(url, timeout_s)


async def scrape(
    session: aiohttp.ClientSession,
    url: str,
    *,
    names: Collection[str],
    timeout_s: float,
    headers: Mapping[str, str] | None = None,
    server_name: str | None = None,
) -> Page | Unreadable:
    """The samples of `names` at `url`. Nothing else is parsed: the page of a server with many models is long.

    No redirect is followed, since that would carry `headers` elsewhere. `server_name` is what the certificate must
    name, where it isn't the URL's host.
    """
    where = _origin(url)
    try:
        async with (
            asyncio.timeout(timeout_s),
            session.get(
                url,
                headers={"Accept": "text/plain", **(headers or {})},
                allow_redirects=False,
                server_hostname=server_name,
            ) as response,
        ):
            if response.status != 200:
                return Unreadable(f"{where}: {_refusal(response.status)}")
            raw = await _bounded(response)
    except TimeoutError:
        return _late(url, timeout_s)
    except (aiohttp.ClientError, OSError) as error:
        return Unreadable(f"{where}: {said(error)}")
    if raw is None:
        return Unreadable(f"{where}: the page is longer than {_MOST_BYTES >> 20} MiB")
    try:
        return _parsed(raw.decode(), names)
    except ValueError:
        return Unreadable(f"{where}: it answers, but not with Prometheus text")


async def _bounded(response: aiohttp.ClientResponse) -> bytes | None:
    raw = bytearray()
    async for chunk in response.content.iter_any():
        raw += chunk
        if len(raw) > _MOST_BYTES:
            return None
    return bytes(raw)


def _parsed(text: str, names: Collection[str]) -> Page:
    """Raises ValueError where a line with one of `names` isn't in the text format."""
    lines = [line for line in text.split("\n") if (found := _NAME.match(line)) and found[0] in names]
    by_name: dict[str, list[Sample]] = {}
    for family in text_string_to_metric_families("\n".join(lines)):
        for sample in family.samples:
            by_name.setdefault(sample.name, []).append((sample.labels, sample.value))
    return Page(by_name)


def _refusal(status: int) -> str:
    if 300 <= status < 400:
        return f"HTTP {status}, a redirect, which is not followed: give the final address"
    if status in {401, 403}:
        return f"HTTP {status}: add the header that it asks for to `secret_headers`"
    return f"HTTP {status}"


def _late(url: str, timeout_s: float) -> Unreadable:
    return Unreadable(f"{_origin(url)}: no answer within {timeout_s:g} s")


def _origin(url: str) -> str:
    """The part of a URL that may be shown: a path or query may hold a token."""
    return str(URL(url).origin())
