"""``/probe``, as Prometheus' blackbox exporter has it: one canary to a server that the caller names."""

import re

from aiohttp import web

from watchdog.api.service import Service
from watchdog.model.module_probe import Refusal, Refused
from watchdog.telemetry import probe_metrics

TIMEOUT = "X-Prometheus-Scrape-Timeout-Seconds"
_SECONDS = re.compile(r"[0-9]{1,6}(\.[0-9]{1,9})?")
_MARGIN_S = 0.5
"""Of the scrape's timeout, for the way back."""
_WANTED, _MORE = ("module", "target"), {"debug"}
_STATUS = {
    Refusal.NO_SUCH_MODULE: web.HTTPBadRequest,
    Refusal.MALFORMED: web.HTTPBadRequest,
    Refusal.NO_TIME: web.HTTPBadRequest,
    Refusal.NOT_ALLOWED: web.HTTPForbidden,
}


class ProbePage:
    """Open to all, as the metrics are: whom it may ask is the configuration's to say."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def routes(self) -> list[web.RouteDef]:
        return [web.get("/probe", self.probe)]

    async def probe(self, request: web.Request) -> web.Response:
        module, target, debug = _query(request)
        came = await self._service.probe(module, target, _within(request))
        if isinstance(came, Refused):
            if came.reason is Refusal.BUSY:
                raise web.HTTPServiceUnavailable(text=came.detail, headers={"Retry-After": "1"})
            raise _STATUS[came.reason](text=came.detail)
        if debug:
            return web.Response(text=probe_metrics.story(came))
        return web.Response(body=probe_metrics.render(came), headers={"Content-Type": probe_metrics.CONTENT_TYPE})


def _query(request: web.Request) -> tuple[str, str, bool]:
    query = request.query
    known = set(_WANTED) <= set(query) <= {*_WANTED, *_MORE}
    if not known or len(query) > len(set(query)) or not all(query[name] for name in _WANTED):
        text = "the query must have a `module` and a `target`, may have `debug`, each once, and nothing else"
        raise web.HTTPBadRequest(text=text)
    if query.get("debug", "false") not in {"true", "false"}:
        raise web.HTTPBadRequest(text="debug: write true or false")
    return query["module"], query["target"], query.get("debug") == "true"


def _within(request: web.Request) -> float | None:
    """How long the probe may take for its answer to be in time; None where nobody says."""
    said = request.headers.get(TIMEOUT)
    if said is None:
        return None
    if not _SECONDS.fullmatch(said):
        raise web.HTTPBadRequest(text=f"{TIMEOUT}: write seconds, such as 10 or 2.5")
    return float(said) - _MARGIN_S
