"""What others report of patients' answers: observations, pairs, and requests that a gateway mirrors.

Nothing of it is logged. Observations and mirrored requests can start a burst of canaries, or an alert.
Reported pairs can say that the fast engine is wrong, and so need the token, as commands do.
"""

import asyncio
import functools
import math
from collections.abc import Callable, Collection, Mapping
from typing import Any, TypeVar

from aiohttp import web

from watchdog.api import body as bodies
from watchdog.api.oip_request import decode
from watchdog.api.service import Intake, NoSuchModelError, Service
from watchdog.api.strict_json import WrongBodyError, parse_object
from watchdog.live.shadow import Mirrored
from watchdog.live.studies import Slice
from watchdog.model.event import Source
from watchdog.model.observation import Pair

MAX_JSON_BYTES = 2**20
MAX_MIRRORED_BYTES = 64 * 2**20
MAX_MIRRORED_JSON_BYTES = 16 * 2**20
"""Numbers written out take many times their memory until they are an array."""
_MOST_VALUES = 10_000
_LONGEST_KEY = 256

Authorise = Callable[[web.Request], None]
"""Raises what is to be answered to a request that may not."""

T = TypeVar("T")


def routes(service: Service, authorise: Authorise, authorise_claims: Authorise) -> list[web.RouteDef]:
    """What takes patients' answers.

    Args:
        service: what the routes are for.
        authorise: for what the watchdog sees, or asks, itself.
        authorise_claims: for what it must believe.
    """
    intake = _Routes(service, authorise, authorise_claims)
    return [
        web.post("/api/v1/models/{model}/observations", intake.observations),
        web.post("/api/v1/models/{model}/pairs", intake.pairs),
        web.post("/v2/models/{model}/infer", intake.mirror),
        web.post("/v2/models/{model}/versions/{version}/infer", intake.mirror),
    ]


class _Routes:
    def __init__(self, service: Service, authorise: Authorise, authorise_claims: Authorise) -> None:
        self._service = service
        self._authorise = authorise
        self._authorise_claims = authorise_claims

    async def observations(self, request: web.Request) -> web.Response:
        intake = self._intake(request, Source.LIVE)
        parse = functools.partial(_slice, known=intake.readings)
        slices = await _listed(request, "observations", parse)
        await intake.observe(slices)
        return _taken(len(slices))

    async def pairs(self, request: web.Request) -> web.Response:
        self._authorise_claims(request)
        intake = self._intake(request, Source.SHADOW)
        parse = functools.partial(_pair, known=intake.readings)
        pairs = await _listed(request, "pairs", parse)
        await intake.compare(pairs)
        return _taken(len(pairs))

    async def mirror(self, request: web.Request) -> web.Response:
        """The gateway wants nothing of us, and most of what it sends is not wanted either."""
        intake = self._intake(request, Source.SHADOW, served=True)
        try:
            taken = await intake.mirror(lambda: _mirrored(request))
        except WrongBodyError as error:
            raise web.HTTPBadRequest(text=str(error)) from error
        if not taken:
            await bodies.drain(request)
        return web.json_response({}, status=202)

    def _intake(self, request: web.Request, source: Source, *, served: bool = False) -> Intake:
        self._authorise(request)
        model = request.match_info["model"]
        try:
            intake = self._service.intake(model, served=served)
        except NoSuchModelError as error:
            raise web.HTTPNotFound(text=str(error)) from error
        if source not in intake.sources:
            raise web.HTTPConflict(text=_NOT_CONFIGURED[source])
        return intake


_NOT_CONFIGURED = {
    Source.LIVE: "this model's live answers are not watched: give it `drift.live: {}` in the configuration",
    Source.SHADOW: "this model's engines are not compared live: give it `drift.shadow: {}` in the configuration",
}


def _taken(count: int) -> web.Response:
    return web.json_response({"taken": count}, status=202)


async def _mirrored(request: web.Request) -> Mirrored:
    header_length = request.headers.get("Inference-Header-Content-Length")
    body = await bodies.read(request, MAX_MIRRORED_JSON_BYTES if header_length is None else MAX_MIRRORED_BYTES)
    return await asyncio.to_thread(decode, body, header_length)


async def _listed(request: web.Request, key: str, parse: Callable[[Any, str], T]) -> list[T]:
    """What ``{key: [...]}`` holds, each entry parsed: in a thread, since a megabyte of it takes a while."""
    body = await bodies.read(request, MAX_JSON_BYTES)
    try:
        return await asyncio.to_thread(_entries, body, key, parse)
    except WrongBodyError as error:
        raise web.HTTPBadRequest(text=str(error)) from error


def _entries(body: bytes, key: str, parse: Callable[[Any, str], T]) -> list[T]:
    parsed = parse_object(body, non_finite=True)
    _refuse_unknown(parsed, {key}, "")
    entries = parsed.get(key)
    if not isinstance(entries, list):
        raise WrongBodyError(key, "must be a list")
    return [parse(entry, f"{key}[{at}]") for at, entry in enumerate(entries)]


def _slice(entry: Any, path: str, known: Collection[str]) -> Slice:
    _refuse_unknown(entry, {"study", "readings"}, path)
    study = entry.get("study")
    if study is not None and not (isinstance(study, str) and 0 < len(study) <= _LONGEST_KEY):
        raise WrongBodyError(f"{path}.study", f"must be a text of 1 to {_LONGEST_KEY} characters")
    readings = _readings(entry.get("readings"), f"{path}.readings", known)
    return Slice(study=study, readings={name: _numbers(value, at) for name, (value, at) in readings.items()})


def _pair(entry: Any, path: str, known: Collection[str]) -> Pair:
    _refuse_unknown(entry, {"fast", "safe"}, path)
    fast, safe = (
        {name: _number(value, at) for name, (value, at) in _readings(entry.get(side), f"{path}.{side}", known).items()}
        for side in ("fast", "safe")
    )
    for side, missing in (("fast", safe.keys() - fast.keys()), ("safe", fast.keys() - safe.keys())):
        if missing:
            raise WrongBodyError(f"{path}.{side}", f"lacks {min(missing)}, which the other side has")
    return Pair(fast=fast, safe=safe)


def _readings(value: Any, path: str, known: Collection[str]) -> Mapping[str, tuple[Any, str]]:
    """Reading → what it holds, and the path to it."""
    if not isinstance(value, dict) or not value:
        raise WrongBodyError(path, f"must be an object with one or more of {', '.join(known)}")
    _refuse_unknown(value, known, path)
    return {name: (each, f"{path}.{name}") for name, each in value.items()}


def _numbers(value: Any, path: str) -> tuple[float, ...]:
    if not isinstance(value, list):
        return (_number(value, path),)
    if not 0 < len(value) <= _MOST_VALUES:
        raise WrongBodyError(path, f"must be a number, or a list of 1 to {_MOST_VALUES}")
    return tuple(_number(each, f"{path}[{at}]") for at, each in enumerate(value))


def _number(value: Any, path: str) -> float:
    """``null`` is NaN: it is how JSON writes it, and what we look for."""
    if value is None:
        return math.nan
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise WrongBodyError(path, "must be a number")
    try:
        return float(value)
    except OverflowError:  # an integer that no float can hold
        return math.inf if value > 0 else -math.inf


def _refuse_unknown(value: Any, known: Collection[str], path: str) -> None:
    if not isinstance(value, dict):
        raise WrongBodyError(path, "must be an object")
    for key in value:
        if key not in known:
            raise WrongBodyError(path, f"{key!r:.80} is unknown; there are {', '.join(sorted(known))}")
