"""The hooks' part of the OpenAPI document."""

from collections.abc import Mapping
from typing import Any

from pydantic.json_schema import models_json_schema

from watchdog.api.hooks_alertmanager import COMMANDS, AlertmanagerNotification, AlertsTaken
from watchdog.api.hooks_flagger import FlaggerCall, Hook

_REF = "#/components/schemas/"

SCHEMAS: dict[str, Any] = models_json_schema(
    [(FlaggerCall, "validation"), (AlertmanagerNotification, "validation"), (AlertsTaken, "serialization")],
    ref_template=f"{_REF}{{model}}",
)[1]["$defs"]
"""Of the components that the paths refer to, those that no other part has."""

_MODEL = {"$ref": "#/components/parameters/model"}
_TYPE = {
    "name": "type",
    "in": "path",
    "required": True,
    "description": "The webhook's type.",
    "schema": {"type": "string", "enum": list(Hook)},
}
_DO = {
    "name": "do",
    "in": "query",
    "description": "What a new alert that fires commands.",
    "schema": {"type": "string", "enum": list(COMMANDS), "default": "look"},
}
_FLAGGER = {
    200: "Yes.",
    400: "The body is not Flagger's.",
    401: "The token is missing or wrong.",
    403: "No token is configured; or a client certificate is asked for, and none was shown.",
    404: "No such model, or no such type.",
    408: "The body did not arrive in time.",
    409: "No.",
    413: "The body is too large.",
    415: "The body is not sent as JSON.",
    425: "Not yet: nothing is known now, or the answer can't be put on record.",
}
_ALERTMANAGER = {
    400: "The body is not Alertmanager's, `do` is unknown, or an alert lacks the label `model`.",
    401: _FLAGGER[401],
    403: _FLAGGER[403],
    404: "No such model. What the notification says of others was done.",
    408: _FLAGGER[408],
    409: "The route is shared, and another watchdog decides about it.",
    413: _FLAGGER[413],
    415: _FLAGGER[415],
    503: "To be tried again: the watchdog starts, or its journal or its token can't be reached.",
}


def _body(model: type, example: Mapping[str, Any]) -> dict[str, Any]:
    schema = {"$ref": f"{_REF}{model.__name__}"}
    return {"required": True, "content": {"application/json": {"schema": schema, "example": example}}}


def _said(status: int, meaning: str) -> dict[str, Any]:
    """Flagger shows people the text; a client certificate is asked for before anybody knows that it is Flagger."""
    text = {"text/plain": {"schema": {"type": "string"}}}
    problem = {"application/json": {"schema": {"$ref": f"{_REF}Problem"}}} if status == 403 else {}
    return {"description": meaning, "content": text | problem}


def _json(meaning: str, schema: str) -> dict[str, Any]:
    return {"description": meaning, "content": {"application/json": {"schema": {"$ref": f"{_REF}{schema}"}}}}


def _alerts(operation: str, parameters: list[Any]) -> dict[str, Any]:
    alert = {
        "status": "firing",
        "labels": {"alertname": "NoduleScoresLow", "model": "lung_nodule"},
        "annotations": {"summary": "half as many findings as last week"},
        "startsAt": "2026-01-01T12:00:00Z",
        "fingerprint": "c0ffee0123456789",
    }
    return {
        "operationId": operation,
        "summary": "Alertmanager's webhook: an alert that fires makes canaries look.",
        "description": "An alert acts once, however often it is repeated; one of the watchdog's own never does.",
        "tags": ["hooks"],
        "security": [{"bearer": []}],
        "parameters": parameters,
        "requestBody": _body(AlertmanagerNotification, {"version": "4", "alerts": [alert]}),
        "responses": {
            "200": _json("Every alert was seen to.", AlertsTaken.__name__),
            "202": _json("The same, but a command is still under way.", AlertsTaken.__name__),
            **{str(status): _json(meaning, "Problem") for status, meaning in _ALERTMANAGER.items()},
        },
    }


_CANARY = {
    "name": "lung-nodule",
    "namespace": "imaging",
    "phase": "Progressing",
    "checksum": "6f8d7c5b9d",
    "metadata": {"token": "TOKEN"},
}

PATHS: dict[str, Any] = {
    "/hooks/flagger/{model}/{type}": {
        "post": {
            "operationId": "flagger",
            "summary": "Flagger's webhooks, of all eight types.",
            "description": "2xx is yes. A yes to `rollback` rolls back, and is given for a confirmed fault alone. The "
            "token is expected in the body's `metadata.token`, since Flagger sends no header; one is taken, too.",
            "tags": ["hooks"],
            "security": [{}, {"bearer": []}],
            "parameters": [_MODEL, _TYPE],
            "requestBody": _body(FlaggerCall, _CANARY),
            "responses": {str(status): _said(status, meaning) for status, meaning in _FLAGGER.items()},
        }
    },
    "/hooks/alertmanager": {"post": _alerts("alertmanagerByLabel", [_DO])},
    "/hooks/alertmanager/{model}": {"post": _alerts("alertmanager", [_MODEL, _DO])},
}
