"""The watchdog's HTTP server, over real sockets: every route, and everything a client can get wrong."""

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import numpy as np
import pytest

from tests.core.builders import assessed
from watchdog import transport
from watchdog.api.server import create
from watchdog.api.service import Intake, NoSuchModelError, ReloadError
from watchdog.model.engine import Address, Role
from watchdog.model.event import Command
from watchdog.model.gate import Gate, Passage
from watchdog.model.journal import Entry, EntryKind
from watchdog.model.module_probe import ModuleProbe, Refused
from watchdog.model.route import Published
from watchdog.telemetry.gallery import Drawing, Picture
from watchdog.transport import serve

TOKEN = "s3cret-é"
AUTH = {"Authorization": f"Bearer {TOKEN}"}

GATE = Gate(
    model="nodule",
    passage=Passage.PASS,
    state="serving-fast",
    serves=Role.FAST,
    reason="probe-healthy",
    detail="as it should be",
    since=1.5,
    healthy_at=None,
)
ROUTE = Published(
    model="nodule",
    state="serving-fast",
    fast_percent=100,
    engines={
        Role.FAST: Address(endpoint="e", model="nodule", version="2"),
        Role.SAFE: Address(endpoint="e", model="nodule", version="1"),
    },
    since=1.5,
)


def decision(command: Command, detail: str) -> dict[str, str]:
    return {
        "trigger": str(command),
        "before": "serving-fast",
        "after": "serving-fast",
        "action": "none",
        "reason": str(command),
        "detail": detail,
    }


class FakeService:
    """Watches one model, ``nodule``."""

    def __init__(self) -> None:
        self.not_ready: str | None = None
        self.the_token: str | Exception | None = TOKEN
        self.for_hooks: str | None = None
        self.fails: Exception | None = None
        self.reloads = 0
        self.commands: list[tuple[str, Command, str, str]] = []
        self.may_go_on = asyncio.Event()
        """Cleared, commands take their time."""
        self.may_go_on.set()
        self.model = "nodule"
        self.the_gate = GATE
        self.the_route = ROUTE
        self.route_not_ready: str | None = None
        self.moved = asyncio.Event()
        self.probes: list[tuple[str, str, float | None]] = []
        self.refuses: Refused | None = None

    def ready(self) -> str | None:
        return self.not_ready

    def status(self) -> dict[str, Any]:
        return {"at": 1.5, "models": {"nodule": {"probes": 3}}}

    def history(self, model: str, since: float) -> dict[str, Any]:
        self._watched(model)
        probes = [{"at": at} for at in (1.0, 2.0) if at > since]
        return {
            "model": model, "at": 2.5, "over_s": 900, "probes": probes, "limits": {}, "drift": {}, "confidences": {}
        }  # fmt: skip

    def canaries(self, model: str) -> Sequence[dict[str, Any]]:
        self._watched(model)
        return [{"number": 1, "pictures": ["current"]}]

    def drawing(self, model: str, number: int, picture: Picture) -> Drawing | None:
        self._watched(model)
        known = number == 1 and picture is Picture.CURRENT
        return Drawing(picture=picture, plane=np.zeros((4, 4), dtype=np.uint8)) if known else None

    async def journal_tail(self, limit: int, model: str | None, after: int) -> Sequence[Entry]:
        if self.fails:
            raise self.fails
        entries = [Entry(seq=n, at=n / 2, kind=EntryKind.STARTED, model="", data={"version": "1"}) for n in (1, 2, 3)]
        return [e for e in entries if e.seq > after and model in {None, e.model}][-limit:]

    async def probe(self, module: str, target: str, within_s: float | None) -> ModuleProbe | Refused:
        self.probes.append((module, target, within_s))
        return self.refuses or ModuleProbe(
            module=module,
            target=target,
            took_s=0.02,
            waited_s=0.0,
            deadline_s=2.0,
            assessment=assessed(),
            latency_limit_s=0.1,
        )

    def metrics(self, accept: str) -> tuple[bytes, str]:
        return b"up 1\n", "application/openmetrics-text" if "openmetrics" in accept else "text/plain; version=0.0.4"

    async def reload(self) -> None:
        if self.fails:
            raise self.fails
        self.reloads += 1

    async def command(self, model: str, command: Command, actor: str, why: str) -> Sequence[dict[str, Any]]:
        self._watched(model)
        await self.may_go_on.wait()
        if self.fails:
            raise self.fails
        self.commands.append((model, command, actor, why))
        return [decision(command, actor)]

    def gate(self, model: str) -> Gate:
        self._watched(model)
        return self.the_gate

    def route(self, model: str) -> Published:
        self._watched(model)
        return self.the_route

    async def route_changed(self, model: str, seen: Published, timeout_s: float) -> Published:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while self.route(model) == seen:
                    self.moved.clear()
                    await self.moved.wait()
        return self.the_route

    def move(self, route: Published | None) -> None:
        """Publish another route, or watch the model no longer."""
        if route is None:
            self.model = ""
        else:
            self.the_route = route
        self.moved.set()

    async def route_ready(self, model: str) -> str | None:
        self._watched(model)
        return self.route_not_ready

    async def note(self, model: str, actor: str, said: Mapping[str, str | bool]) -> None:
        self._watched(model)

    def intake(self, model: str, *, served: bool = False) -> Intake:
        raise NoSuchModelError(f"no model {model!r} is watched")

    def _watched(self, model: str) -> None:
        if model != self.model:
            raise NoSuchModelError(f"no model {model!r} is watched; there are: {self.model or 'none yet'}")

    def hook_token(self) -> str | None:
        return self.for_hooks

    def token(self) -> str | None:
        if isinstance(self.the_token, Exception):
            raise self.the_token
        return self.the_token


@asynccontextmanager
async def listening(service: FakeService) -> AsyncIterator[aiohttp.ClientSession]:
    runner, url = await serve(create(service), "127.0.0.1:0")
    try:
        async with aiohttp.ClientSession(url, timeout=aiohttp.ClientTimeout(total=10)) as session:
            yield session
    finally:
        await runner.cleanup()


@pytest.fixture
def service() -> FakeService:
    return FakeService()


@pytest.fixture
async def client(service: FakeService) -> AsyncIterator[aiohttp.ClientSession]:
    async with listening(service) as session:
        yield session


ROLLBACK = "/api/v1/models/nodule/rollback"
JSON = {"Content-Type": "application/json"}


async def error_of(response: aiohttp.ClientResponse) -> str:
    assert response.content_type == "application/json"
    body = await response.json()
    assert set(body) == {"error"}
    return str(body["error"])


async def test_metrics_are_as_the_scraper_wants_them(client: aiohttp.ClientSession) -> None:
    async with client.get("/metrics") as plain:
        assert (plain.status, await plain.read()) == (200, b"up 1\n")
        assert plain.headers["Content-Type"] == "text/plain; version=0.0.4"
    async with client.get("/metrics", headers={"Accept": "application/openmetrics-text"}) as openmetrics:
        assert openmetrics.headers["Content-Type"] == "application/openmetrics-text"


async def test_healthy_is_being_alive_and_ready_is_watching(
    service: FakeService, client: aiohttp.ClientSession
) -> None:
    async with client.get("/-/healthy") as response:
        assert (response.status, await response.text()) == (200, "the watchdog is running\n")
    async with client.get("/-/ready") as response:
        assert (response.status, await response.text()) == (200, "ready\n")
    service.not_ready = "still capturing"
    async with client.get("/-/ready") as response:
        assert (response.status, await response.text()) == (503, "still capturing\n")
    async with client.get("/-/healthy") as response:
        assert response.status == 200


async def test_the_status_is_open_to_all(client: aiohttp.ClientSession) -> None:
    async with client.get("/api/v1/status") as response:
        assert (response.status, await response.json()) == (200, {"at": 1.5, "models": {"nodule": {"probes": 3}}})


@pytest.mark.parametrize("command", list(Command))
async def test_every_command_is_carried_out(
    service: FakeService, client: aiohttp.ClientSession, command: Command
) -> None:
    body = {"actor": "ann", "why": "a new engine: é"}
    async with client.post(f"/api/v1/models/nodule/{command}", json=body, headers=AUTH) as response:
        assert response.status == 200
        answer = await response.json()
        assert answer["decisions"] == [decision(command, "ann")]
        assert (answer["model"], answer["command"], answer["fast_percent"]) == ("nodule", command, 100)
        assert answer["gate"]["state"] == "serving-fast"
    assert service.commands == [("nodule", command, "ann", "a new engine: é")]


@pytest.mark.parametrize("body", [b"", b"  \n", b"{}", b'{"actor": ""}'])
async def test_who_says_nothing_of_himself_is_known_by_his_address(
    service: FakeService, client: aiohttp.ClientSession, body: bytes
) -> None:
    async with client.post(ROLLBACK, data=body, headers=AUTH | JSON) as response:
        assert response.status == 200
    assert service.commands == [("nodule", Command.ROLLBACK, "api client 127.0.0.1", "")]


GUARDED: list[tuple[str, str]] = [("POST", ROLLBACK), ("POST", "/-/reload"), ("PUT", "/-/reload")]


@pytest.mark.parametrize(("method", "path"), GUARDED)
@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        "Bearer wrong",
        f"Bearer {TOKEN}x",
        f"Bearer {TOKEN[:-1]}",
        f"Basic {TOKEN}",
        TOKEN,
    ],
)
async def test_without_the_token_nothing_is_done(
    service: FakeService, client: aiohttp.ClientSession, method: str, path: str, header: str | None
) -> None:
    headers = {} if header is None else {"Authorization": header}
    async with client.request(method, path, headers=headers) as response:
        assert response.status == 401
        assert response.headers["WWW-Authenticate"] == "Bearer"
        said = await error_of(response)
        assert said == "this needs the header `Authorization: Bearer TOKEN`"
    assert (service.commands, service.reloads) == ([], 0)


async def test_the_scheme_is_not_case_sensitive(client: aiohttp.ClientSession) -> None:
    async with client.post(ROLLBACK, headers={"Authorization": f"bEARER {TOKEN}"}) as response:
        assert response.status == 200


@pytest.mark.parametrize(("method", "path"), GUARDED)
async def test_commands_can_be_off_or_their_token_lost(
    service: FakeService, client: aiohttp.ClientSession, method: str, path: str
) -> None:
    service.the_token = None
    async with client.request(method, path, headers=AUTH) as response:
        assert (response.status, await error_of(response)) == (
            403,
            "commands are off: set api.token.file in the configuration",
        )
    service.the_token = ValueError("the secret file /run/token is empty")
    async with client.request(method, path, headers=AUTH) as response:
        assert (response.status, await error_of(response)) == (503, "the secret file /run/token is empty")


async def test_while_a_token_is_rotated_both_are_valid(service: FakeService, client: aiohttp.ClientSession) -> None:
    service.the_token = f"new\r\n\n  {TOKEN}"
    for given, status in (("new", 200), (TOKEN, 200), ("", 401), ("other", 401), (f"new {TOKEN}", 401)):
        async with client.post(ROLLBACK, headers={"Authorization": f"Bearer {given}"}) as response:
            assert response.status == status, given


async def test_a_file_that_is_no_list_of_tokens_lets_nobody_in(
    service: FakeService, client: aiohttp.ClientSession
) -> None:
    service.the_token = "\n".join([TOKEN, *"abcd"])
    async with client.post(ROLLBACK, headers=AUTH) as response:
        assert response.status == 503
        assert await error_of(response) == ("the file of api.token holds 5 lines: write one token a line, 4 at most")
    assert service.commands == []


async def test_a_rotated_token_is_in_force_at_once(service: FakeService, client: aiohttp.ClientSession) -> None:
    service.the_token = "new"
    async with client.post(ROLLBACK, headers=AUTH) as response:
        assert response.status == 401
    async with client.post(ROLLBACK, headers={"Authorization": "Bearer new"}) as response:
        assert response.status == 200


@pytest.mark.parametrize("method", ["POST", "PUT"])
async def test_a_reload_is_done_or_refused_with_every_reason(
    service: FakeService, client: aiohttp.ClientSession, method: str
) -> None:
    async with client.request(method, "/-/reload", headers=AUTH) as response:
        assert (response.status, await response.json(), service.reloads) == (200, {"reloaded": True}, 1)
    service.fails = ReloadError("w.yaml:3: models: is required\nw.yaml:9: x: unknown key")
    async with client.request(method, "/-/reload", headers=AUTH) as response:
        assert response.status == 409
        assert (await error_of(response)).splitlines() == [
            "the old configuration goes on, because the new one can't be used:",
            "w.yaml:3: models: is required",
            "w.yaml:9: x: unknown key",
        ]


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("/api/v1/models/other/hold", "no model 'other' is watched; there are: nodule"),
        ("/api/v1/models/nodule/explode", "there is no such path; GET /api/v1/openapi.json lists all"),
        ("/api/v1/models/nodule", "there is no such path; GET /api/v1/openapi.json lists all"),
        ("/nothing", "there is no such path; GET /api/v1/openapi.json lists all"),
    ],
)
async def test_what_is_not_there_is_named(client: aiohttp.ClientSession, path: str, says: str) -> None:
    async with client.post(path, headers=AUTH) as response:
        assert (response.status, await error_of(response)) == (404, says)


async def test_a_journal_that_fails_means_that_nothing_was_done(
    service: FakeService, client: aiohttp.ClientSession
) -> None:
    service.fails = OSError(28, "No space left on device")
    async with client.post(ROLLBACK, headers=AUTH) as response:
        assert response.status == 503
        assert await error_of(response) == (
            "nothing was done, because the journal can't record it: [Errno 28] No space left on device"
        )


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"{", "the body is not JSON (line 1, column 2)"),
        (b'{"why": "x"} {}', "the body is not JSON (line 1, column 14)"),
        (b"\xff\xfe", "the body is not JSON: it is not UTF-8"),
        ('{"why": "x"}'.encode("utf-16"), "the body is not JSON: it is not UTF-8"),
        (b'{"why": "\xed\xa0\x80"}', "the body is not JSON: it is not UTF-8"),
        (b"[" * 20_000, "the body is not JSON: it is nested too deeply"),
        (b'{"why": NaN}', "the body is not JSON: NaN is no number there"),
        (b'{"why": -Infinity}', "the body is not JSON: -Infinity is no number there"),
        (b'{"why": ' + b"9" * 5_000 + b"}", "the body is not JSON: a number is too long"),
        (b'{"why": "x", "actor": "a", "why": "y"}', "the body is not JSON: the key 'why' comes twice in one object"),
        (b"[]", "the body must be a JSON object"),
        (b'"why"', "the body must be a JSON object"),
        (b"null", "the body must be a JSON object"),
        (b'{"why": "x", "force": true}', "force: unknown key"),
        (b'{"why": 5}', "why: Input should be a valid string (got 5)"),
        (b'{"actor": null}', "actor: Input should be a valid string (got None)"),
        (b'{"why": "\\ud800"}', "why: "),
        (json.dumps({"why": "x" * 501}).encode(), "why: String should have at most 500 characters"),
    ],
)
async def test_a_body_that_is_wrong_is_refused_with_what_to_do(
    service: FakeService, client: aiohttp.ClientSession, body: bytes, says: str
) -> None:
    async with client.post(ROLLBACK, data=body, headers=AUTH | JSON) as response:
        assert response.status == 400
        assert says in await error_of(response)
    assert service.commands == []


async def test_the_longest_text_allowed_is_allowed(client: aiohttp.ClientSession) -> None:
    async with client.post(ROLLBACK, json={"why": "x" * 500, "actor": "é" * 500}, headers=AUTH) as response:
        assert response.status == 200


@pytest.mark.parametrize(
    "content_type",
    ["application/json; charset=klingon", "application/json; charset=utf-16", "text/plain", "multipart/form-data", ""],
)
async def test_a_body_that_says_to_be_something_else_is_not_read(
    service: FakeService, client: aiohttp.ClientSession, content_type: str
) -> None:
    async with client.post(ROLLBACK, data=b"{}", headers=AUTH | {"Content-Type": content_type}) as response:
        assert response.status == 415
        assert await error_of(response) == "send the body as `Content-Type: application/json`, in UTF-8"
    assert service.commands == []


async def test_a_body_too_large_is_refused(service: FakeService, client: aiohttp.ClientSession) -> None:
    async with client.post(ROLLBACK, data=b" " * (64 * 1024 + 1), headers=AUTH) as response:
        assert response.status == 413
        await error_of(response)
    assert service.commands == []


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", ROLLBACK, "POST"),
        ("DELETE", "/metrics", "GET,HEAD"),
        ("GET", "/-/reload", "POST,PUT"),
        ("POST", "/api/v1/status", "GET,HEAD"),
    ],
)
async def test_a_wrong_method_is_told_the_right_ones(
    client: aiohttp.ClientSession, method: str, path: str, allowed: str
) -> None:
    async with client.request(method, path, headers=AUTH) as response:
        assert (response.status, response.headers["Allow"]) == (405, allowed)
        await error_of(response)


@pytest.mark.parametrize("path", ["/metrics", "/-/healthy", "/-/ready", "/api/v1/status"])
async def test_head_is_get_without_a_body(client: aiohttp.ClientSession, path: str) -> None:
    async with client.head(path) as response:
        assert (response.status, await response.read()) == (200, b"")


async def raw(client: aiohttp.ClientSession, request: bytes) -> bytes:
    """What the server says to bytes that no well-behaved client would send."""
    base = client._base_url
    assert base is not None
    reader, writer = await asyncio.open_connection(base.host, base.port)
    try:
        async with asyncio.timeout(5):
            writer.write(request)
            await writer.drain()
            return await reader.read()
    finally:
        writer.close()
        await writer.wait_closed()


def post(*headers: bytes) -> bytes:
    lines = [
        b"POST /api/v1/models/nodule/hold HTTP/1.1",
        b"Host: x",
        b"Connection: close",
        b"Content-Length: 0",
        *headers,
    ]
    return b"\r\n".join(lines) + b"\r\n\r\n"


@pytest.mark.parametrize("token", [b"\xff\xfe\x80", b"\xed\xa0\x80", b"s3cret-\xe9"])
async def test_a_token_that_is_no_text_is_only_a_wrong_one(client: aiohttp.ClientSession, token: bytes) -> None:
    answer = await raw(client, post(b"Authorization: Bearer " + token))
    assert answer.startswith(b"HTTP/1.1 401 ")


async def test_a_token_in_utf8_is_the_right_one(client: aiohttp.ClientSession) -> None:
    answer = await raw(client, post(b"Authorization: Bearer " + TOKEN.encode()))
    assert answer.startswith(b"HTTP/1.1 200 ")


async def test_noise_is_answered_with_a_client_error(client: aiohttp.ClientSession) -> None:
    answer = await raw(client, b"\x16\x03\x01 this is not HTTP\r\n\r\n")
    assert answer.startswith(b"HTTP/1.0 400 ")


def free_port(family: socket.AddressFamily, host: str) -> int:
    with socket.socket(family, socket.SOCK_STREAM) as taken:
        taken.bind((host, 0))
        return int(taken.getsockname()[1])


async def test_an_address_in_use_is_an_error_and_leaves_nothing_open(service: FakeService) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(OSError, match=r"(?i)address already in use"):
            await serve(create(service), f"127.0.0.1:{taken.getsockname()[1]}")


async def test_the_url_in_use_is_given_for_both_kinds_of_address(service: FakeService) -> None:
    runner, url = await serve(create(service), "127.0.0.1:0")
    await runner.cleanup()
    assert url.startswith("http://127.0.0.1:")
    try:
        port = free_port(socket.AF_INET6, "::1")
    except OSError:
        pytest.skip("no IPv6 here")
    runner, url = await serve(create(service), f"[::1]:{port}")
    await runner.cleanup()
    assert url == f"http://[::1]:{port}"


@pytest.mark.parametrize("begins", [b"", b"GET /-/healthy HT", b"GET /-/healthy HTTP/1.1\r\nHost: x\r\n"])
async def test_a_connection_on_which_nothing_whole_comes_is_closed(
    service: FakeService, monkeypatch: pytest.MonkeyPatch, begins: bytes
) -> None:
    monkeypatch.setattr(transport, "_IDLE_S", 0.05)
    async with listening(service) as client:
        assert b"200" not in await raw(client, begins)
