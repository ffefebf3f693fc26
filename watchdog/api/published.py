"""The route, for gateways that fetch it themselves and for the pods that it leads to."""

import asyncio
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

from aiohttp import ETag, web

from watchdog.api.answers import missing
from watchdog.api.documents import RouteDocument
from watchdog.api.service import NoSuchModelError, Service
from watchdog.model.route import Published
from watchdog.settings import parse_duration

LONGEST_WAIT_S = 60.0
_MOST_WAITING = 64
_LOOK_S = 1.0
"""How often it is seen that a waiting client has gone."""


class RoutePages:
    """Serves routes until it is told to end."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._waiting = 0
        self._ending = asyncio.Event()

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/api/v1/routes/{model}", self.route),
            web.get("/-/ready/{model}", self.ready),
        ]

    async def end(self, _: web.Application) -> None:
        """Answer all who wait."""
        self._ending.set()

    async def ready(self, request: web.Request) -> web.Response:
        try:
            why_not = await self._service.route_ready(request.match_info["model"])
        except NoSuchModelError as error:
            raise missing(self._service, error) from error
        return web.Response(text="ready\n") if why_not is None else web.Response(status=503, text=f"{why_not}\n")

    async def route(self, request: web.Request) -> web.Response:
        wait_s, known = _wait(request), request.if_none_match or ()
        try:
            page = _Page(self._service.route(request.match_info["model"]))
            if wait_s and page.is_among(known):
                with self._place():
                    page = await self._another(page, request, known, wait_s)
        except NoSuchModelError as error:
            raise missing(self._service, error) from error
        except OSError as error:
            raise web.HTTPServiceUnavailable(text=str(error), headers={"Retry-After": "5"}) from error
        response = web.Response(status=304) if page.is_among(known) else web.Response(body=page.body)
        if response.status == 200:
            response.content_type = "application/json"
        response.etag = page.etag
        response.headers["Cache-Control"] = "no-cache"
        return response

    async def _another(self, page: "_Page", request: web.Request, known: tuple[ETag, ...], wait_s: float) -> "_Page":
        """A page that is not `known`, or what there is when the time is up, the client gone or the end near."""
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + wait_s
        ending = asyncio.ensure_future(self._ending.wait())
        try:
            while page.is_among(known) and not ending.done() and not _is_gone(request):
                left = min(_LOOK_S, give_up_at - loop.time())
                if left <= 0:
                    break
                change = asyncio.ensure_future(self._service.route_changed(page.route.model, page.route, left))
                try:
                    await asyncio.wait({change, ending}, return_when=asyncio.FIRST_COMPLETED)
                    page = _Page(change.result() if change.done() else page.route)
                finally:
                    change.cancel()
        finally:
            ending.cancel()
        return page

    @contextmanager
    def _place(self) -> Iterator[None]:
        if self._waiting >= _MOST_WAITING:
            raise web.HTTPServiceUnavailable(
                text=f"{_MOST_WAITING} wait already: ask again later, or without `wait`", headers={"Retry-After": "5"}
            )
        self._waiting += 1
        try:
            yield
        finally:
            self._waiting -= 1


class _Page:
    """A route as it is sent. Its tag is the bytes' own digest."""

    def __init__(self, route: Published) -> None:
        self.route = route
        self.body = RouteDocument.of(route).model_dump_json().encode()
        self.etag = ETag(hashlib.sha256(self.body).hexdigest()[:32])

    def is_among(self, known: tuple[ETag, ...]) -> bool:
        return any(tag.value in {self.etag.value, "*"} for tag in known)


def _is_gone(request: web.Request) -> bool:
    return request.transport is None or request.transport.is_closing()


def _wait(request: web.Request) -> float:
    query = request.query
    if set(query) - {"wait"} or len(query) > 1:
        raise web.HTTPBadRequest(text="the query may have one `wait`, such as ?wait=30s, and nothing else")
    try:
        wait_s = float(parse_duration(query["wait"])) if query else 0.0
    except ValueError as error:
        raise web.HTTPBadRequest(text=f"wait: {error}") from error
    return min(wait_s, LONGEST_WAIT_S)
