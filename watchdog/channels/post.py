"""One POST to an HTTP receiver, and whether trying it again can help."""

import asyncio
import ssl
import time
from collections.abc import Collection, Mapping
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

import aiohttp
from multidict import CIMultiDict

from watchdog.channels.receiver import ReceiverSettings
from watchdog.http_failure import said
from watchdog.model.notice import Delivery
from watchdog.transport import one_line

_RETRY = frozenset({401, 403, 408, 425, 429})  # 401 and 403: secrets are read anew, so a rotated one heals them
_LONGEST_WAIT_S = 3600.0
_SNIPPET_BYTES = 2048
_SNIPPET_CHARACTERS = 200


async def post(settings: ReceiverSettings, url: str, body: bytes, headers: Mapping[str, str]) -> Delivery:
    """POST a JSON body; no redirect is followed, and no connection kept: notices are rare."""
    where = _origin(url)
    try:
        secrets = settings.secrets()
        trusted = await _trusted(settings)
    except ValueError as error:
        return Delivery(ok=False, detail=f"{where}: {error}")
    sent = CIMultiDict({"Content-Type": "application/json"})
    for more in (settings.headers, secrets, headers):
        sent.update(more)
    try:
        async with (
            _session(settings.timeout, trusted) as session,
            session.post(url, data=body, headers=sent, allow_redirects=False) as response,
        ):
            return await _judge(where, response, secrets.values())
    except TimeoutError:
        return Delivery(ok=False, detail=f"{where}: no answer within {settings.timeout:g} s")
    except (aiohttp.ClientError, OSError) as error:
        return Delivery(ok=False, detail=f"{where}: {said(error)}")


async def _trusted(settings: ReceiverSettings) -> ssl.SSLContext | bool:
    if settings.tls is None:
        return True
    try:
        async with asyncio.timeout(settings.timeout):
            return await asyncio.to_thread(settings.tls.context)
    except TimeoutError as error:
        raise ValueError(f"the files of `tls` could not be read within {settings.timeout:g} s") from error


def _session(timeout_s: float, trusted: ssl.SSLContext | bool) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(ssl=trusted, force_close=True),
        timeout=aiohttp.ClientTimeout(total=timeout_s),
    )


async def _judge(where: str, response: aiohttp.ClientResponse, secrets: Collection[str]) -> Delivery:
    status = response.status
    if 200 <= status < 300:
        return Delivery(ok=True, detail=f"{where}: {status}")
    if 300 <= status < 400:
        return Delivery(ok=False, detail=f"{where}: {status}, a redirect; set the final URL", retry=False)
    detail = f"{where}: {status} {await _snippet(response, secrets)}".rstrip()
    retry = status in _RETRY or status >= 500
    wait_s = retry_after(response.headers.get("Retry-After", ""), time.time()) if retry else None
    return Delivery(ok=False, detail=detail, retry=retry, retry_after_s=wait_s)


def retry_after(header: str, now: float) -> float | None:
    """The seconds that a ``Retry-After`` asks for (RFC 9110, 10.2.3), an hour at most; None where it is none."""
    try:
        seconds = float(header) if header.strip().isdecimal() else parsedate_to_datetime(header).timestamp() - now
    except (ValueError, TypeError, OverflowError):
        return None
    return min(max(0.0, seconds), _LONGEST_WAIT_S)


async def _snippet(response: aiohttp.ClientResponse, secrets: Collection[str]) -> str:
    """The start of what the receiver says, on one line, without what it may echo of our secrets."""
    try:
        raw = await response.content.read(_SNIPPET_BYTES)
    except (aiohttp.ClientError, OSError):  # a timeout is one; the status has said what matters
        return ""
    return one_line(raw.decode(errors="replace"), secrets, _SNIPPET_CHARACTERS)


def _origin(url: str) -> str:
    """The part of a URL that may be shown: a path or query may hold a token."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"
