"""The application: all routes, on aiohttp."""

import functools
import json
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from watchdog.api import certificate, control, hooks, intake, openapi
from watchdog.api.access import Access
from watchdog.api.answers import problem
from watchdog.api.pages import Pages
from watchdog.api.probe_page import ProbePage
from watchdog.api.published import RoutePages
from watchdog.api.service import Service

_KEPT_HEADERS = ("Allow", "Retry-After", "WWW-Authenticate")

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def create(service: Service) -> web.Application:
    """The application; run it with `transport.serve`."""
    pages, access, published = _Pages(service), Access(service), RoutePages(service)
    app = web.Application(client_max_size=control.MAX_BODY, middlewares=[_errors_as_json])
    app.add_routes(
        [
            web.get("/metrics", pages.metrics),
            web.get("/-/healthy", pages.healthy),
            web.get("/-/ready", pages.ready),
            web.get("/api/v1/status", pages.status),
            web.get("/api/v1/openapi.json", pages.openapi),
            *Pages(service).routes(),
            *ProbePage(service).routes(),
            *control.routes(service, access),
            *published.routes(),
            *hooks.routes(service, access.accepts_hook, access.accepts),
            *intake.routes(service, functools.partial(access.authorise, open_without_token=True), access.authorise),
        ]
    )
    app.on_shutdown.append(published.end)
    return app


class _Pages:
    """What is open to all."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def metrics(self, request: web.Request) -> web.Response:
        body, content_type = self._service.metrics(request.headers.get("Accept", ""))
        return web.Response(body=body, headers={"Content-Type": content_type})

    async def healthy(self, _: web.Request) -> web.Response:
        return web.Response(text="the watchdog is running\n")

    async def ready(self, _: web.Request) -> web.Response:
        why_not = self._service.ready()
        return web.Response(text="ready\n") if why_not is None else web.Response(status=503, text=f"{why_not}\n")

    async def status(self, _: web.Request) -> web.Response:
        return _json(self._service.status())

    async def openapi(self, _: web.Request) -> web.Response:
        return _json(openapi.document())


@web.middleware
async def _errors_as_json(request: web.Request, handler: Handler) -> web.StreamResponse:
    if certificate.is_missing(request):
        return problem(
            403, "this needs a client certificate; only /-/healthy and /-/ready[/MODEL] are open without one"
        )
    try:
        return await handler(request)
    except web.HTTPException as error:
        unrouted = error.status == 404 and request.match_info.http_exception is error
        said = "there is no such path; GET /api/v1/openapi.json lists all" if unrouted else error.text or error.reason
        response = problem(error.status, said)
        for name in _KEPT_HEADERS:
            if name in error.headers:
                response.headers[name] = error.headers[name]
        return response


def _json(data: Any) -> web.Response:
    return web.json_response(data, dumps=lambda d: json.dumps(d, allow_nan=False))
