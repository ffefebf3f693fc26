"""How handlers answer: strict JSON, and errors that tell what to do."""

from aiohttp import web

from watchdog.api.documents import Document, Problem
from watchdog.api.service import NoSuchModelError, Service


def document(content: Document, status: int = 200) -> web.Response:
    return web.Response(body=content.model_dump_json().encode(), content_type="application/json", status=status)


def problem(status: int, detail: str) -> web.Response:
    return document(Problem(error=detail), status)


def missing(service: Service, error: NoSuchModelError) -> web.HTTPException:
    """A model that is not watched: not found, or not yet."""
    if (why_not := service.ready()) is not None:
        return web.HTTPServiceUnavailable(text=f"{error}; {why_not}", headers={"Retry-After": "1"})
    return web.HTTPNotFound(text=str(error))
