"""Commands, the reload, and the gate that controllers ask before they go on."""

import functools

from aiohttp import web
from pydantic import ValidationError

from watchdog.api import body
from watchdog.api.access import Access
from watchdog.api.answers import document, missing, problem
from watchdog.api.documents import CommandDocument, GateDocument, Reloaded, Wish
from watchdog.api.idempotency import Answers
from watchdog.api.service import NoSuchModelError, ReloadError, Service
from watchdog.api.strict_json import WrongBodyError, parse_object
from watchdog.model.authority import NotLeadingError
from watchdog.model.event import Command
from watchdog.settings import complaints

MAX_BODY = 64 * 1024


def routes(service: Service, access: Access) -> list[web.RouteDef]:
    control = _Control(service, access)
    return [
        web.post("/-/reload", control.reload),
        web.put("/-/reload", control.reload),
        web.get("/api/v1/models/{model}/gate", control.gate),
        *(
            web.post(f"/api/v1/models/{{model}}/{command}", functools.partial(control.command, command))
            for command in Command
        ),
    ]


class _Control:
    def __init__(self, service: Service, access: Access) -> None:
        self._service = service
        self._access = access
        self._answers = Answers()

    async def gate(self, request: web.Request) -> web.Response:
        try:
            return document(GateDocument.of(self._service.gate(request.match_info["model"])))
        except NoSuchModelError as error:
            raise missing(self._service, error) from error

    async def reload(self, request: web.Request) -> web.Response:
        self._access.authorise(request)
        return await self._answers.once(request, b"", self._reload)

    async def _reload(self) -> web.Response:
        try:
            await self._service.reload()
        except ReloadError as error:
            return problem(409, f"the old configuration goes on, because the new one can't be used:\n{error}")
        return document(Reloaded(reloaded=True))

    async def command(self, command: Command, request: web.Request) -> web.Response:
        self._access.authorise(request)
        raw = await body.read(request, MAX_BODY)
        wish = _wish(request, raw)
        actor = wish.actor or f"api client {request.remote}"
        carry_out = functools.partial(self._command, request.match_info["model"], command, actor, wish.why)
        return await self._answers.once(request, raw, carry_out)

    async def _command(self, model: str, command: Command, actor: str, why: str) -> web.Response:
        service = self._service
        try:
            before = service.route(model)
            decisions = await service.command(model, command, actor, why)
            return document(CommandDocument.of(command, decisions, before, service.route(model), service.gate(model)))
        except NoSuchModelError as error:
            raise missing(service, error) from error
        except NotLeadingError as error:
            return problem(409, f"nothing was done, as this watchdog does not lead the shared route: {error}")
        except OSError as error:
            return problem(503, f"nothing was done, because the journal can't record it: {error}")


def _wish(request: web.Request, raw: bytes) -> Wish:
    if not raw.strip():
        return Wish()
    if request.content_type != "application/json" or (request.charset or "utf-8").lower() not in {"utf-8", "utf8"}:
        raise web.HTTPUnsupportedMediaType(text="send the body as `Content-Type: application/json`, in UTF-8")
    try:
        return Wish.model_validate(parse_object(raw))
    except ValidationError as error:
        raise web.HTTPBadRequest(text="; ".join(complaints(error))) from error
    except WrongBodyError as error:
        raise web.HTTPBadRequest(text=str(error)) from error
