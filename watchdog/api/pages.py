"""The watchdog's own page, and what it shows beside the status: history, canaries as pictures, the journal."""

import asyncio
import hashlib
import json
import math
from functools import cache
from pathlib import Path
from typing import Any

from aiohttp import ETag, web

import watchdog
from watchdog.api.answers import document, missing
from watchdog.api.documents import JournalDocument
from watchdog.api.service import NoSuchModelError, Service
from watchdog.telemetry.gallery import Picture

MOST_ENTRIES = 1000
_USUAL_ENTRIES = 100
_LARGEST_SEQ = 2**63 - 1
_FOLDER = Path(watchdog.__file__).with_name("page")
_INDEX = "index.html"
_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_ONLY_OWN = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""Nothing inline and nothing of others' can be run or shown, whatever finds its way into a text."""
_HEADERS = {
    "Content-Security-Policy": _ONLY_OWN,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


class Pages:
    """Open to all, as the status is."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def routes(self) -> list[web.RouteDef]:
        model = "/api/v1/models/{model}"
        return [
            web.get("/", self.index),
            web.get("/page/{file}", self.file),
            web.get(f"{model}/history", self.history),
            web.get(f"{model}/canaries", self.canaries),
            web.get(f"{model}/canaries/{{number}}/{{picture}}.png", self.picture),
            web.get("/api/v1/journal", self.journal),
        ]

    async def index(self, request: web.Request) -> web.Response:
        return _tagged(request, *_files()[_INDEX], _HEADERS)

    async def file(self, request: web.Request) -> web.Response:
        found = _files().get(request.match_info["file"])
        if found is None:
            raise web.HTTPNotFound(text="the page has no such file")
        return _tagged(request, *found, _HEADERS)

    async def history(self, request: web.Request) -> web.Response:
        query = _query(request, {"since"})
        since = _seconds(query["since"]) if "since" in query else -math.inf
        try:
            return _json(self._service.history(request.match_info["model"], since))
        except NoSuchModelError as error:
            raise missing(self._service, error) from error

    async def canaries(self, request: web.Request) -> web.Response:
        try:
            return _json({"answers": self._service.canaries(request.match_info["model"])})
        except NoSuchModelError as error:
            raise missing(self._service, error) from error

    async def picture(self, request: web.Request) -> web.Response:
        info = request.match_info
        try:
            drawing = self._service.drawing(info["model"], _whole(info["number"]), Picture(info["picture"]))
        except NoSuchModelError as error:
            raise missing(self._service, error) from error
        except ValueError:  # no number, or no picture's name
            drawing = None
        if drawing is None:
            raise web.HTTPNotFound(
                text="there is no such picture, or no more; GET …/canaries lists those that are kept"
            )
        return _tagged(request, await asyncio.to_thread(drawing.png), "image/png")

    async def journal(self, request: web.Request) -> web.Response:
        query = _query(request, {"limit", "model", "after"})
        limit = _between(query, "limit", 1, MOST_ENTRIES, usual=_USUAL_ENTRIES)
        after = _between(query, "after", 0, _LARGEST_SEQ, usual=0)
        try:
            entries = await self._service.journal_tail(limit, query.get("model"), after)
        except OSError as error:
            why = f"the journal can't be read now: {error.strerror or error}"
            raise web.HTTPServiceUnavailable(text=why, headers={"Retry-After": "5"}) from error
        return _fresh(document(JournalDocument.of(entries)))


@cache
def _files() -> dict[str, tuple[bytes, str]]:
    """Name → content and type, read once."""
    return {path.name: (path.read_bytes(), _TYPES[path.suffix]) for path in _FOLDER.iterdir() if path.suffix in _TYPES}


def _tagged(
    request: web.Request, body: bytes, content_type: str, headers: dict[str, str] | None = None
) -> web.Response:
    """With the bytes' digest as its tag, to be asked for again each time: after a restart all may be another."""
    etag = ETag(hashlib.sha256(body).hexdigest()[:32])
    known = any(tag.value in {etag.value, "*"} for tag in request.if_none_match or ())
    response = web.Response(status=304) if known else web.Response(body=body)
    if not known:
        response.content_type = content_type
        if content_type.startswith("text/"):
            response.charset = "utf-8"
    response.etag = etag
    response.headers.update({"Cache-Control": "no-cache"} | (headers or {}))
    return response


def _json(data: Any) -> web.Response:
    return _fresh(web.json_response(data, dumps=lambda d: json.dumps(d, allow_nan=False)))


def _fresh(response: web.Response) -> web.Response:
    response.headers["Cache-Control"] = "no-store"
    return response


def _query(request: web.Request, known: set[str]) -> dict[str, str]:
    query = request.query
    if set(query) - known or len(query) > len(set(query)):
        raise web.HTTPBadRequest(text=f"the query may have {', '.join(sorted(known))}, each once, and nothing else")
    return dict(query)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not math.isfinite(seconds):
        raise web.HTTPBadRequest(text="since: write Unix seconds, such as since=1767225600.5")
    return seconds


def _between(query: dict[str, str], name: str, least: int, most: int, *, usual: int) -> int:
    try:
        number = _whole(query[name]) if name in query else usual
    except ValueError:
        number = least - 1
    if not least <= number <= most:
        raise web.HTTPBadRequest(text=f"{name}: write a whole number from {least} to {most}")
    return number


def _whole(text: str) -> int:
    """Of plain digits, few enough for a number that SQLite knows.

    Raises:
        ValueError: it is none.
    """
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise ValueError(text)
    return int(text)
