"""The routes, on aiohttp."""

import functools
import hmac
import json
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from watchdog.api import intake
from watchdog.api.service import NoSuchModelError, ReloadError, Service
from watchdog.model.event import Command

_MAX_BODY = 64 * 1024
_MAX_TEXT = 500

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def create(service: Service) -> web.Application:
    """The application; run it with `transport.serve`."""
    api = _Api(service)
    app = web.Application(client_max_size=_MAX_BODY, middlewares=[_errors_as_json])
    app.add_routes(
        [
            web.get("/metrics", api.metrics),
            web.get("/-/healthy", api.healthy),
            web.get("/-/ready", api.ready),
            web.post("/-/reload", api.reload),
            web.put("/-/reload", api.reload),
            web.get("/api/v1/status", api.status),
            *intake.routes(service, functools.partial(api.authorise, open_without_token=True), api.authorise),
            web.post("/api/v1/models/{model}/{command}", api.command),
        ]
    )
    return app


class _Api:
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

    async def reload(self, request: web.Request) -> web.Response:
        self.authorise(request)
        try:
            await self._service.reload()
        except ReloadError as error:
            return _problem(409, f"the old configuration goes on, because the new one can't be used:\n{error}")
        return _json({"reloaded": True})

    async def command(self, request: web.Request) -> web.Response:
        self.authorise(request)
        try:
            command = Command(request.match_info["command"])
        except ValueError:
            raise web.HTTPNotFound(text=f"no such command; there are {', '.join(Command)}") from None
        actor, why = await _who_and_why(request)
        try:
            decisions = await self._service.command(request.match_info["model"], command, actor, why)
        except NoSuchModelError as error:
            raise web.HTTPNotFound(text=str(error)) from error
        except OSError as error:
            return _problem(503, f"nothing was done, because the journal can't record it: {error}")
        return _json({"decisions": list(decisions)})

    def authorise(self, request: web.Request, *, open_without_token: bool = False) -> None:
        """Raises the answer to a request without the token; where none is configured, to every one that needs it."""
        try:
            wanted = self._service.token()
        except ValueError as error:
            raise web.HTTPServiceUnavailable(text=str(error)) from error
        if wanted is None and open_without_token:
            return
        if wanted is None:
            raise web.HTTPForbidden(text="commands are off: set api.token.file in the configuration")
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not hmac.compare_digest(_bytes(given), _bytes(wanted)):
            raise web.HTTPUnauthorized(
                text="this needs the header `Authorization: Bearer TOKEN`", headers={"WWW-Authenticate": "Bearer"}
            )


def _bytes(text: str) -> bytes:
    """A header's text as it came: aiohttp keeps bytes that are not UTF-8 as lone surrogates."""
    return text.encode(errors="surrogateescape")


async def _who_and_why(request: web.Request) -> tuple[str, str]:
    """The body's ``actor`` and ``why``: free text for the journal, both optional, nothing else."""
    try:
        text = await request.text()
        body: Any = json.loads(text) if text.strip() else {}
    except web.HTTPException:
        raise
    except (ValueError, RecursionError, LookupError) as error:  # LookupError: a charset that nobody knows
        raise web.HTTPBadRequest(text=f"the body is not JSON: {error}") from error
    if not isinstance(body, dict) or set(body) - {"actor", "why"}:
        raise web.HTTPBadRequest(text='the body must be a JSON object with at most "actor" and "why"')
    for key, value in body.items():
        if not isinstance(value, str) or len(value) > _MAX_TEXT:
            raise web.HTTPBadRequest(text=f"{key} must be a text of at most {_MAX_TEXT} characters")
    return body.get("actor", "") or f"api client {request.remote}", body.get("why", "")


@web.middleware
async def _errors_as_json(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except web.HTTPException as error:
        response = _problem(error.status, error.text or error.reason)
        for name in ("Allow", "WWW-Authenticate"):
            if name in error.headers:
                response.headers[name] = error.headers[name]
        return response


def _json(data: Any, status: int = 200) -> web.Response:
    return web.json_response(data, status=status, dumps=lambda d: json.dumps(d, allow_nan=False))


def _problem(status: int, detail: str) -> web.Response:
    return _json({"error": detail}, status)
