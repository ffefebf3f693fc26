"""The API's description for machines, in OpenAPI 3.1: a row for each operation, schemas from the models themselves.

The hooks' operations stand in ``hooks_doc.py``.

``tests/service/test_openapi.py`` holds it against the application's routes and against its answers.
"""

import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic.json_schema import models_json_schema

from watchdog import __version__
from watchdog.api import hooks_doc, idempotency, pages, probe_page
from watchdog.api.documents import (
    CommandDocument,
    Document,
    GateDocument,
    JournalDocument,
    Problem,
    Reloaded,
    RouteDocument,
    Taken,
    Wish,
)
from watchdog.model.event import Command
from watchdog.telemetry.gallery import Picture

_JSON = "application/json"
_TEXT = "text/plain"

Answers = Mapping[int, Mapping[str, Any]]

_PROBLEMS = {
    400: "The request is malformed; the text names the field.",
    401: "There is no valid token.",
    403: "Commands are off, as no token is configured; or a client certificate is asked for and none was shown.",
    404: "The model is not watched; the text names those that are.",
    408: "The body took too long to arrive.",
    409: "The configuration, or another watchdog, stands against it; the text says how.",
    413: "The body is too large.",
    415: "The body is not `application/json` in UTF-8.",
    422: "The `Idempotency-Key` was another request's.",
    503: "Not now, such as before the canaries are loaded, or while the token's file or the journal can't be used.",
}


def _schema(model: type[Document]) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{model.__name__}"}


def _answer(description: str, schema: Mapping[str, Any], content_type: str = _JSON, **more: Any) -> dict[str, Any]:
    return {"description": description, "content": {content_type: {"schema": schema}}, **more}


def _text(description: str, example: str) -> dict[str, Any]:
    return {"description": description, "content": {_TEXT: {"schema": {"type": "string"}, "example": example}}}


def _problems(*statuses: int) -> Answers:
    return {status: _answer(_PROBLEMS[status], _schema(Problem)) for status in statuses}


_WITH_A_BODY = (400, 408, 413)
_WITH_A_TOKEN = (401, 403, 503)

_BEARER: list[Mapping[str, list[str]]] = [{"bearer": []}]
_BEARER_IF_CONFIGURED: list[Mapping[str, list[str]]] = [{}, {"bearer": []}]

_MODEL = {"$ref": "#/components/parameters/model"}
_KEY = {"$ref": "#/components/parameters/idempotencyKey"}


@dataclass(frozen=True, kw_only=True, slots=True)
class _Operation:
    method: str
    path: str
    id: str
    tag: str
    summary: str
    description: str = ""
    answers: Answers
    parameters: tuple[Mapping[str, Any], ...] = ()
    body: Mapping[str, Any] | None = None
    security: Iterable[Mapping[str, Any]] = ()

    def document(self) -> dict[str, Any]:
        found: dict[str, Any] = {"operationId": self.id, "tags": [self.tag], "summary": self.summary}
        if self.description:
            found["description"] = self.description
        if self.parameters:
            found["parameters"] = list(self.parameters)
        if self.body is not None:
            found["requestBody"] = self.body
        found["responses"] = {str(status): answer for status, answer in sorted(self.answers.items())}
        return found | {"security": list(self.security)}


_COMMANDS = {
    Command.ROLLBACK: "Move to the safe engine, once it is proven",
    Command.PROMOTE: "Return to the fast engine, once it is proven",
    Command.HOLD: "Move nothing until released; probing and alerting go on",
    Command.RELEASE: "End a hold, or a lock after flapping",
    Command.LOOK: "Ask canaries about both engines now; the policy draws its conclusions",
}


def _command(command: Command, summary: str) -> _Operation:
    return _Operation(
        method="post",
        path=f"/api/v1/models/{{model}}/{command}",
        id=str(command),
        tag="control",
        summary=summary,
        description="Answered when it is over. `done` says whether it is now as the command wanted it.",
        parameters=(_MODEL, _KEY),
        body={"required": False, "content": {_JSON: {"schema": _schema(Wish)}}},
        security=_BEARER,
        answers={
            200: _answer("What came of it.", _schema(CommandDocument), headers=_REPLAYED),
            **_problems(*_WITH_A_BODY, *_WITH_A_TOKEN, 404, 409, 415, 422),
        },
    )


def _reload(method: str) -> _Operation:
    return _Operation(
        method=method,
        path="/-/reload",
        id=f"reloadBy{method.capitalize()}",
        tag="control",
        summary="Read the configuration file again",
        parameters=(_KEY,),
        security=_BEARER,
        answers={
            200: _answer("The new configuration is in force.", _schema(Reloaded), headers=_REPLAYED),
            **_problems(400, *_WITH_A_TOKEN, 409, 422),
        },
    )


_REPLAYED = {
    idempotency.REPLAYED: {
        "description": "`true` where this is the answer to an earlier request with the same key.",
        "schema": {"const": "true"},
    }
}
_ETAG = {
    "ETag": {"description": "Changes with the route, and not with time.", "schema": {"type": "string"}},
    "Cache-Control": {"schema": {"const": "no-cache"}},
}

_CACHE = {"Cache-Control": {"schema": {"enum": ["no-cache", "no-store"]}}}
_TAG = _CACHE | {"ETag": {"description": "The bytes' digest.", "schema": {"type": "string"}}}
_OBJECTS = {"type": "array", "items": {"type": "object"}}
_HISTORY = {
    "type": "object",
    "required": ["model", "at", "over_s", "probes", "limits", "drift", "confidences"],
    "properties": {
        "at": {"type": "number", "description": "Unix seconds."},
        "over_s": {"type": "number", "description": "What is older is not kept."},
        "probes": _OBJECTS | {"description": "Of the public name, the oldest first."},
        "limits": {"type": "object", "description": "Engine → shape → seconds; null where there is none."},
        "drift": {"type": "object", "description": "Source → reading → the newest score, and its `points`."},
        "confidences": {"type": "object", "description": "Source → output → `reference` or an engine → counts."},
    },
}
_CANARIES = {
    "type": "object",
    "required": ["answers"],
    "properties": {"answers": _OBJECTS | {"description": "Each with its `number` and its `pictures`."}},
}


def _file(path: str, name: str, summary: str, content: Mapping[str, Any], *parameters: Mapping[str, Any]) -> _Operation:
    """Something with a tag, that a browser shows."""
    missing = _problems(404) if parameters else {}
    return _Operation(
        method="get",
        path=path,
        id=name,
        tag="page",
        summary=summary,
        parameters=(*parameters, _KNOWN),
        answers={
            200: {"description": "It.", "content": content, "headers": _TAG},
            304: {"description": "It is still the one that is known.", "headers": _TAG},
            **missing,
            **_problems(403),
        },
    )


_KNOWN = {
    "name": "If-None-Match",
    "in": "header",
    "description": "The `ETag` of what is known.",
    "schema": {"type": "string"},
}
_BYTES = {"schema": {"type": "string", "format": "binary"}}


def _of_path(name: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "schema": schema}


def _of_query(name: str, description: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    return {"name": name, "in": "query", "description": description, "schema": schema}


_NUMBER = {"type": ["number", "null"], "description": "null stands for NaN."}
_READINGS = {
    "type": "object",
    "minProperties": 1,
    "additionalProperties": _NUMBER,
    "description": "By output, as the configuration names them.",
}
_SLICE = {
    "type": "object",
    "required": ["readings"],
    "additionalProperties": False,
    "properties": {
        "study": {"type": ["string", "null"], "minLength": 1, "maxLength": 256},
        "readings": _READINGS
        | {"additionalProperties": {"anyOf": [_NUMBER, {"type": "array", "items": _NUMBER, "minItems": 1}]}},
    },
}
_PAIR = {
    "type": "object",
    "required": ["fast", "safe"],
    "additionalProperties": False,
    "properties": {"fast": _READINGS, "safe": _READINGS},
    "description": "Both sides have the same readings.",
}
_TENSOR = {
    "type": "object",
    "required": ["name", "shape", "datatype"],
    "properties": {
        "name": {"type": "string", "minLength": 1},
        "shape": {"type": "array", "items": {"type": "integer", "minimum": 0}},
        "datatype": {"type": "string", "examples": ["FP32"]},
        "data": {"type": "array"},
        "parameters": {"type": "object", "properties": {"binary_data_size": {"type": "integer", "minimum": 0}}},
    },
}
_INFER = {
    "type": "object",
    "required": ["inputs"],
    "properties": {"id": {"type": "string"}, "inputs": {"type": "array", "minItems": 1, "items": _TENSOR}},
    "examples": [{"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [0.25, 0.5]}]}],
}


def _listed(name: str, item: Mapping[str, Any]) -> dict[str, Any]:
    schema = {
        "type": "object",
        "required": [name],
        "additionalProperties": False,
        "properties": {name: {"type": "array", "items": item}},
    }
    return {"required": True, "content": {_JSON: {"schema": schema}}}


def _mirror(path: str, name: str, *more: Mapping[str, Any]) -> _Operation:
    length = {
        "name": "Inference-Header-Content-Length",
        "in": "header",
        "description": "How many bytes of the body are JSON; the inputs' raw bytes follow.",
        "schema": {"type": "string", "pattern": "^[0-9]{1,11}$"},
    }
    content = {
        _JSON: {"schema": _INFER},
        "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
    }
    return _Operation(
        method="post",
        path=path,
        id=name,
        tag="answers",
        summary="Take a copy of a request that a gateway mirrors",
        description="In the Open Inference Protocol. Most are let pass; some are asked of both engines.",
        parameters=(_MODEL, *more, length),
        body={"required": True, "content": content},
        security=_BEARER_IF_CONFIGURED,
        answers={
            202: _answer("Taken, or let pass.", {"type": "object", "additionalProperties": False}),
            **_problems(*_WITH_A_BODY, *_WITH_A_TOKEN, 404, 409),
        },
    )


def _reported(name: str, item: Mapping[str, Any], summary: str, security: list[Mapping[str, list[str]]]) -> _Operation:
    return _Operation(
        method="post",
        path=f"/api/v1/models/{{model}}/{name}",
        id=f"report{name.capitalize()}",
        tag="answers",
        summary=summary,
        parameters=(_MODEL,),
        body=_listed(name, item),
        security=security,
        answers={
            202: _answer("Taken.", _schema(Taken)),
            **_problems(*_WITH_A_BODY, *_WITH_A_TOKEN, 404, 409),
        },
    )


_OPERATIONS: tuple[_Operation, ...] = (
    _Operation(
        method="get",
        path="/metrics",
        id="metrics",
        tag="observing",
        summary="Metrics for Prometheus",
        answers={
            200: {
                "description": "In the format that `Accept` prefers.",
                "content": {
                    _TEXT: {"schema": {"type": "string"}},
                    "application/openmetrics-text": {"schema": {"type": "string"}},
                },
            },
            **_problems(403),
        },
    ),
    _Operation(
        method="get",
        path="/probe",
        id="probe",
        tag="observing",
        summary="Send a canary to a server of your naming",
        description="For Prometheus, as its blackbox exporter does: a failed probe is 200 with `probe_success` 0.",
        parameters=(
            _of_query("module", "Of the configuration's `modules`.", {"type": "string", "minLength": 1})
            | {"required": True},
            _of_query("target", "The server's address.", {"type": "string", "minLength": 1}) | {"required": True},
            _of_query("debug", "Whether to tell the probe's story instead.", {"enum": ["true", "false"]}),
            {
                "name": probe_page.TIMEOUT,
                "in": "header",
                "description": "How long the caller waits.",
                "schema": {"type": "string", "pattern": r"^[0-9]{1,6}(\.[0-9]{1,9})?$"},
            },
        ),
        answers={
            200: _text("The probe's metrics, or its story.", "probe_success 1.0\n"),
            **_problems(400, 503),
            403: _answer("No pattern of the module allows the target; or as elsewhere.", _schema(Problem)),
        },
    ),
    _Operation(
        method="get",
        path="/-/healthy",
        id="healthy",
        tag="health",
        summary="Whether the watchdog runs",
        answers={200: _text("It does.", "the watchdog is running\n")},
    ),
    _Operation(
        method="get",
        path="/-/ready",
        id="ready",
        tag="health",
        summary="Whether every model is watched",
        answers={200: _text("They are.", "ready\n"), 503: _text("Not yet.", "the canaries are being loaded\n")},
    ),
    _Operation(
        method="get",
        path="/-/ready/{model}",
        id="modelReady",
        tag="health",
        summary="Whether the model's public name is answered as it should be",
        description="A readiness probe for the pod that holds the server: no request comes before the route is right.",
        parameters=(_MODEL,),
        answers={
            200: _text("It is.", "ready\n"),
            503: {
                "description": "Not known, with why; or the watchdog itself is not ready.",
                "content": {_TEXT: {"schema": {"type": "string"}}, _JSON: {"schema": _schema(Problem)}},
            },
            **_problems(404),
        },
    ),
    _Operation(
        method="get",
        path="/api/v1/status",
        id="status",
        tag="observing",
        summary="All that the watchdog knows",
        answers={
            200: _answer(
                "For people and dashboards; keys may be added.",
                {
                    "type": "object",
                    "required": ["at", "models"],
                    "properties": {
                        "at": {"type": "number", "description": "Unix seconds."},
                        "models": {"type": "object", "additionalProperties": {"type": "object"}},
                    },
                },
            ),
            **_problems(403),
        },
    ),
    _Operation(
        method="get",
        path="/api/v1/openapi.json",
        id="openapi",
        tag="observing",
        summary="This document",
        answers={200: _answer("OpenAPI 3.1.", {"type": "object", "required": ["openapi"]}), **_problems(403)},
    ),
    _file("/", "page", "The watchdog's own page", {"text/html": {"schema": {"type": "string"}}}),
    _file(
        "/page/{file}",
        "pageFile",
        "A file of the page",
        {
            kind: {"schema": {"type": "string"}}
            for kind in ("text/html", "text/css", "text/javascript", "image/svg+xml")
        },
        _of_path("file", {"type": "string", "minLength": 1}),
    ),
    _Operation(
        method="get",
        path="/api/v1/models/{model}/history",
        id="history",
        tag="observing",
        summary="The last minutes of a model",
        description="For people and dashboards; keys may be added.",
        parameters=(
            _MODEL,
            _of_query("since", "Only probes after this moment; Unix seconds.", {"type": "number"}),
        ),
        answers={
            200: _answer("Up to 1,000 probes.", _HISTORY, headers=_CACHE),
            **_problems(400, 403, 404, 503),
        },
    ),
    _Operation(
        method="get",
        path="/api/v1/models/{model}/canaries",
        id="canaries",
        tag="observing",
        summary="A model's newest answers, wrong ones first",
        description="For people and dashboards; keys may be added.",
        parameters=(_MODEL,),
        answers={200: _answer("The kept ones.", _CANARIES, headers=_CACHE), **_problems(403, 404, 503)},
    ),
    _file(
        "/api/v1/models/{model}/canaries/{number}/{picture}.png",
        "picture",
        "One of an answer's pictures",
        {"image/png": _BYTES},
        _MODEL,
        _of_path("number", {"type": "integer", "minimum": 1}),
        _of_path("picture", {"enum": list(Picture)}),
    ),
    _Operation(
        method="get",
        path="/api/v1/journal",
        id="journal",
        tag="observing",
        summary="The journal's newest entries",
        description="But for recorded scores, which come by the hundred.",
        parameters=(
            _of_query("limit", "How many.", {"type": "integer", "minimum": 1, "maximum": pages.MOST_ENTRIES}),
            _of_query("model", "Only this model's.", {"type": "string"}),
            _of_query(
                "after", "Only those behind this number.", {"type": "integer", "minimum": 0, "maximum": 2**63 - 1}
            ),
        ),
        answers={
            200: _answer("The newest first.", _schema(JournalDocument), headers=_CACHE),
            **_problems(400, 403, 503),
        },
    ),
    _Operation(
        method="get",
        path="/api/v1/models/{model}/gate",
        id="gate",
        tag="control",
        summary="Whether a deployment of the model may go on",
        parameters=(_MODEL,),
        answers={200: _answer("Whatever the verdict.", _schema(GateDocument)), **_problems(403, 404, 503)},
    ),
    *(_command(command, summary) for command, summary in _COMMANDS.items()),
    _reload("post"),
    _reload("put"),
    _Operation(
        method="get",
        path="/api/v1/routes/{model}",
        id="route",
        tag="routes",
        summary="The route that a gateway should have",
        description="With `If-None-Match` and `wait` it is answered when the route changes, or when the time is up.",
        parameters=(
            _MODEL,
            {
                "name": "If-None-Match",
                "in": "header",
                "description": "The `ETag` of the route that is known.",
                "schema": {"type": "string"},
            },
            {
                "name": "wait",
                "in": "query",
                "description": "How long to wait for another route, up to 60s.",
                "schema": {"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)?(us|ms|s|m|h|d)$", "examples": ["30s"]},
            },
        ),
        answers={
            200: _answer("The route.", _schema(RouteDocument), headers=_ETAG),
            304: {"description": "It is still the one that is known.", "headers": _ETAG},
            **_problems(400, 403, 404, 503),
        },
    ),
    _reported("observations", _SLICE, "Report answers to patients' images", _BEARER_IF_CONFIGURED),
    _reported("pairs", _PAIR, "Report both engines' answers to the same images", _BEARER),
    _mirror("/v2/models/{model}/infer", "mirror"),
    _mirror(
        "/v2/models/{model}/versions/{version}/infer",
        "mirrorVersion",
        {"name": "version", "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}},
    ),
)

_MODELS: tuple[tuple[type[Document], Literal["validation", "serialization"]], ...] = (
    (Wish, "validation"),
    *(
        (model, "serialization")
        for model in (CommandDocument, GateDocument, JournalDocument, Problem, Reloaded, RouteDocument, Taken)
    ),
)


@functools.cache
def document() -> dict[str, Any]:
    """The whole of it. Not to be changed by who gets it."""
    paths: dict[str, dict[str, Any]] = {}
    for operation in _OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method] = operation.document()
    _, schemas = models_json_schema(_MODELS, ref_template="#/components/schemas/{model}")
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Inference watchdog",
            "version": __version__,
            "description": "Asks, commands and feeds a running watchdog.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths | hooks_doc.PATHS,
        "components": {
            "schemas": schemas["$defs"] | hooks_doc.SCHEMAS,
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer", "description": "A line of the file `api.token.file`."}
            },
            "parameters": {
                "model": {
                    "name": "model",
                    "in": "path",
                    "required": True,
                    "description": "A model's name in the configuration.",
                    "schema": {"type": "string", "minLength": 1},
                },
                "idempotencyKey": {
                    "name": idempotency.HEADER,
                    "in": "header",
                    "description": "A repeated request with the same key is answered as the first one was.",
                    "schema": {"type": "string", "pattern": f"^[ -~]{{1,{idempotency.LONGEST_KEY}}}$"},
                },
            },
        },
    }
