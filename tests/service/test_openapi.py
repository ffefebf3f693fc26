"""The OpenAPI document is what the application does: by its routes, and by what schemathesis provokes.

``WATCHDOG_API_EXAMPLES=500 pytest tests/service/test_openapi.py`` looks longer.
"""

import asyncio
import io
import json
import os
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import hdrs

from tests.core.test_api import FakeService
from watchdog.api import openapi, published
from watchdog.api.server import create
from watchdog.api.service import Intake
from watchdog.live.shadow import Read
from watchdog.live.studies import Slice
from watchdog.model.event import Source
from watchdog.model.observation import Pair
from watchdog.transport import serve

EXAMPLES = int(os.environ.get("WATCHDOG_API_EXAMPLES", "8"))
TOKEN = "s3cret"
READING = "p"
METHODS = {"get", "put", "post", "delete", "options", "head", "patch", "trace"}


class FakeIntake:
    """Takes all, and reads it."""

    readings: Sequence[str] = (READING,)
    sources = frozenset(Source)

    async def observe(self, slices: Sequence[Slice]) -> None: ...

    async def compare(self, pairs: Sequence[Pair]) -> None: ...

    async def mirror(self, read: Read) -> bool:
        await read()
        return True


class WholeService(FakeService):
    def __init__(self) -> None:
        super().__init__()
        self.the_token = TOKEN

    def intake(self, model: str, *, served: bool = False) -> Intake:
        self._watched(model)
        return FakeIntake()


@asynccontextmanager
async def running() -> AsyncIterator[str]:
    runner, url = await serve(create(WholeService()), "127.0.0.1:0")
    try:
        yield url
    finally:
        await runner.cleanup()


def operations(document: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    return {
        (path, method): operation
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
        if method in METHODS
    }


def test_every_route_is_described_and_every_description_is_a_route() -> None:
    routed = {
        (route.resource.canonical, route.method.lower())
        for route in create(FakeService()).router.routes()
        if route.resource is not None and route.method != hdrs.METH_HEAD  # every GET has one
    }
    assert routed == set(operations(openapi.document()))


def test_operations_have_names_for_code_generators() -> None:
    found = operations(openapi.document())
    ids = [operation["operationId"] for operation in found.values()]
    assert len(set(ids)) == len(ids)
    assert all(operation["summary"] and operation["tags"] for operation in found.values())


def references(node: Any) -> set[str]:
    match node:
        case dict():
            here = {node["$ref"]} if isinstance(node.get("$ref"), str) else set()
            return here.union(*map(references, node.values()))
        case list():
            return set().union(*map(references, node))
        case _:
            return set()


def test_references_lead_somewhere() -> None:
    document = openapi.document()
    for reference in references(document):
        target: Any = document
        for part in reference.removeprefix("#/").split("/"):
            target = target[part]


async def test_the_document_is_served() -> None:
    async with running() as url, aiohttp.ClientSession(url) as client, client.get("/api/v1/openapi.json") as response:
        assert response.status == 200
        assert await response.json() == openapi.document()


MODELS, HOLD = "/api/v1/models/{model}", "/api/v1/models/{model}/hold"
AS_JSON = {"Content-Type": "application/json"}


@pytest.mark.parametrize(
    ("method", "path", "headers", "body", "status"),
    [
        ("get", "/api/v1/routes/{model}", {"If-None-Match": "*"}, b"", 304),
        ("post", HOLD, {"Content-Type": "text/plain"}, b"{}", 415),
        ("post", HOLD, AS_JSON, b" " * 70_000, 413),
        ("post", HOLD, AS_JSON | {"Idempotency-Key": "used"}, b"{}", 422),
        ("post", HOLD, {"Idempotency-Key": ""}, b"", 400),
        ("post", HOLD, {"Authorization": "Bearer wrong"}, b"", 401),
        ("post", f"{MODELS}/pairs", AS_JSON, b" " * 2**21, 413),
        ("post", "/-/reload", {"Idempotency-Key": "x" * 256}, b"", 400),
        ("put", "/-/reload", {"Authorization": "Bearer wrong"}, b"", 401),
    ],
)
async def test_rare_answers_are_described_too(
    method: str, path: str, headers: dict[str, str], body: bytes, status: int
) -> None:
    auth = {"Authorization": f"Bearer {TOKEN}"}
    async with running() as url, aiohttp.ClientSession(url) as client:
        await client.post(HOLD.format(model="nodule"), headers=auth | {"Idempotency-Key": "used"})
        async with client.request(
            method, path.format(model="nodule"), headers=auth | headers, data=io.BytesIO(body) if body else None
        ) as response:
            assert response.status == status
    assert str(status) in openapi.document()["paths"][path][method]["responses"]


def narrowed() -> dict[str, Any]:
    """The document for this service: its model, and the reading that it has."""
    document: dict[str, Any] = json.loads(json.dumps(openapi.document()))
    document["components"]["parameters"]["model"]["schema"]["enum"] = ["nodule"]

    def narrow(node: Any) -> None:
        match node:
            case dict():
                for key, value in node.items():
                    if key in {"readings", "fast", "safe"} and value.get("type") == "object":
                        value["propertyNames"] = {"enum": [READING]}
                    narrow(value)
            case list():
                for value in node:
                    narrow(value)
            case _:
                pass

    narrow(document["paths"])
    return document


SETTINGS = """
# 413 is no wrong answer to a body that is too large, whatever else is wrong with it; 422 is that to a key used twice.
[checks]
negative_data_rejection.expected-statuses = [400, 401, 403, 404, 405, 406, 409, 413, 415, 422, "5xx"]
positive_data_acceptance.expected-statuses = ["2xx", "3xx", 401, 403, 404, 409, 422, "5xx"]

# A schema can't say that shape and data agree, nor that an alert has labels that name a model.
[[operations]]
include-path-regex = "^/v2/|^/hooks/"
checks.positive_data_acceptance.enabled = false
"""


async def st_run(folder: Path, url: str, token: str | None, *more: str) -> tuple[int, str]:
    (folder / "openapi.json").write_text(json.dumps(narrowed()))
    (folder / "schemathesis.toml").write_text(SETTINGS)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "schemathesis.cli", "--config-file", folder / "schemathesis.toml"),
        *("run", folder / "openapi.json", "--url", url, "--seed", "1", "--generation-database", "none"),
        *("--max-examples", str(EXAMPLES), "--request-timeout", "20", "--no-color", "--warnings", "off"),
        *(() if token is None else ("-H", f"Authorization: Bearer {token}")),
        *more,
        cwd=folder,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    return process.returncode or 0, said.decode()


@pytest.mark.timeout(3600)
async def test_nothing_that_can_be_sent_is_answered_otherwise_than_described(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(published, "LONGEST_WAIT_S", 0.01)
    async with running() as url:
        code, said = await st_run(tmp_path, url, TOKEN)
    assert code == 0, said


@pytest.mark.parametrize("token", ["wrong", None])
async def test_without_the_token_the_answers_are_those_described(tmp_path: Path, token: str | None) -> None:
    async with running() as url:
        checks = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
        code, said = await st_run(tmp_path, url, token, "--checks", checks, "--phases", "examples,coverage")
    assert code == 0, said
