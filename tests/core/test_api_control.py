"""Commands as controllers need them: an answer that says whether it is so, once for each key, and the gate."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from tests.core.test_api import AUTH, GATE, ROLLBACK, ROUTE, FakeService, error_of, listening
from tests.core.virtual_time import in_virtual_time
from watchdog.api import body as bodies
from watchdog.api.documents import CommandDocument
from watchdog.api.idempotency import Answers
from watchdog.api.service import ReloadError
from watchdog.model.engine import Role
from watchdog.model.event import Command
from watchdog.model.gate import Passage

KEY = {"Idempotency-Key": '"8e03978e-40d5-43e8-bc93-6894a57f9324"'}


@pytest.fixture
def service() -> FakeService:
    return FakeService()


@pytest.fixture
async def client(service: FakeService) -> AsyncIterator[aiohttp.ClientSession]:
    async with listening(service) as session:
        yield session


async def eventually(happened: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not happened():  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(0.005)


# -- what came of it --------------------------------------------------------------------------------

LOOKED = {"trigger": "look", "before": "x", "after": "x", "action": "diagnose", "reason": "look", "detail": ""}


@pytest.mark.parametrize(
    ("command", "before", "after", "state", "done"),
    [
        (Command.ROLLBACK, 100, 0, "serving-safe", True),
        (Command.ROLLBACK, 0, 0, "serving-safe", True),
        (Command.ROLLBACK, 100, 100, "held", False),
        (Command.ROLLBACK, 25, 25, "returning", False),
        (Command.PROMOTE, 0, 100, "serving-fast", True),
        (Command.PROMOTE, 0, 10, "returning", True),
        (Command.PROMOTE, 10, 10, "returning", False),
        (Command.PROMOTE, 10, 0, "serving-safe", False),
        (Command.PROMOTE, 0, 0, "held", False),
        (Command.PROMOTE, 100, 100, "serving-fast", True),
        (Command.HOLD, 100, 100, "held", True),
        (Command.HOLD, 100, 100, "switching", False),
        (Command.RELEASE, 100, 100, "serving-fast", True),
        (Command.RELEASE, 0, 0, "held", False),
        (Command.RELEASE, 0, 0, "locked", False),
        (Command.LOOK, 100, 100, "held", True),
    ],
)
def test_done_says_whether_it_is_as_it_was_wanted(
    command: Command, before: int, after: int, state: str, done: bool
) -> None:
    found = CommandDocument.of(
        command,
        [LOOKED],
        replace(ROUTE, fast_percent=before),
        replace(ROUTE, fast_percent=after),
        replace(GATE, state=state),
    )
    assert (found.done, found.fast_percent, found.gate.state) == (done, after, state)


def test_a_look_that_asked_no_canary_is_not_done() -> None:
    assert not CommandDocument.of(Command.LOOK, [LOOKED | {"action": "none"}], ROUTE, ROUTE, GATE).done


# -- the key ----------------------------------------------------------------------------------------


async def post(
    client: aiohttp.ClientSession, path: str = ROLLBACK, *, why: str = "", **headers: str
) -> tuple[int, Any, str | None]:
    async with client.post(path, json={"why": why}, headers=AUTH | KEY | headers) as response:
        return response.status, await response.json(), response.headers.get("Idempotent-Replayed")


async def test_a_repeated_request_is_answered_again_and_not_carried_out_again(
    service: FakeService, client: aiohttp.ClientSession
) -> None:
    first = await post(client)
    service.the_gate = replace(GATE, state="held")
    second = await post(client)
    assert (first[0], first[2]) == (200, None)
    assert second == (200, first[1], "true")
    assert len(service.commands) == 1


async def test_a_key_is_its_requests_own(service: FakeService, client: aiohttp.ClientSession) -> None:
    await post(client)
    status, answer, _ = await post(client, why="another")
    assert status == 422
    assert answer["error"].startswith("this Idempotency-Key was another request's")
    assert (await post(client, "/api/v1/models/nodule/hold"))[0] == 200  # another path has keys of its own
    assert (await post(client, **{"Idempotency-Key": "other"}))[0] == 200
    assert [command for _, command, _, _ in service.commands] == [Command.ROLLBACK, Command.HOLD, Command.ROLLBACK]


async def test_a_repeated_request_waits_for_the_first(service: FakeService, client: aiohttp.ClientSession) -> None:
    service.may_go_on.clear()
    both = [asyncio.create_task(post(client)) for _ in range(2)]
    await eventually(lambda: client.connector is not None and len(client.connector._acquired) == 2)
    service.may_go_on.set()
    first, second = await asyncio.gather(*both)
    assert {first[2], second[2]} == {None, "true"}
    assert first[1] == second[1]
    assert len(service.commands) == 1


@pytest.mark.parametrize("fails", [OSError(28, "No space left on device"), ReloadError("x: unknown key")])
async def test_what_was_not_done_can_be_asked_again_with_its_key(
    service: FakeService, client: aiohttp.ClientSession, fails: Exception
) -> None:
    path = "/-/reload" if isinstance(fails, ReloadError) else ROLLBACK
    service.fails = fails
    assert (await post(client, path))[0] in {409, 503}
    service.fails = None
    status, _, replayed = await post(client, path)
    assert (status, replayed) == (200, None)


async def test_a_reload_has_a_key_too(service: FakeService, client: aiohttp.ClientSession) -> None:
    assert await post(client, "/-/reload") == (200, {"reloaded": True}, None)
    assert await post(client, "/-/reload") == (200, {"reloaded": True}, "true")
    assert service.reloads == 1


async def test_nobody_hears_an_answer_without_the_token(client: aiohttp.ClientSession) -> None:
    await post(client)
    status, answer, replayed = await post(client, Authorization="Bearer wrong")
    assert (status, set(answer), replayed) == (401, {"error"}, None)


@pytest.mark.parametrize("key", ["", "x" * 256, "clé"])
async def test_a_key_that_is_none_is_refused(service: FakeService, client: aiohttp.ClientSession, key: str) -> None:
    status, answer, _ = await post(client, **{"Idempotency-Key": key})
    assert (status, service.commands) == (400, [])
    assert answer["error"] == "Idempotency-Key must be one text of 1 to 255 printable ASCII characters"


async def test_two_keys_are_no_key(service: FakeService, client: aiohttp.ClientSession) -> None:
    headers = [*AUTH.items(), ("Idempotency-Key", "a"), ("Idempotency-Key", "b")]
    async with client.post(ROLLBACK, headers=headers) as response:
        assert response.status == 400
    assert service.commands == []


async def ask(answers: Answers, key: str, size: int = 2) -> bool:
    """Whether it was carried out, rather than remembered."""
    carried_out = False

    async def carry_out() -> web.Response:
        nonlocal carried_out
        carried_out = True
        return web.Response(body=b" " * size)

    await answers.once(make_mocked_request("POST", "/x", headers={"Idempotency-Key": key}), b"", carry_out)
    return carried_out


@in_virtual_time
async def test_an_answer_is_remembered_for_a_day() -> None:
    answers = Answers()
    assert await ask(answers, "a")
    await asyncio.sleep(86_000)
    assert not await ask(answers, "a")
    await asyncio.sleep(401)
    assert await ask(answers, "a")


@pytest.mark.parametrize(("others", "size"), [(1_000, 2), (4, 2**20)])
async def test_the_memory_is_bounded_and_forgets_the_oldest(others: int, size: int) -> None:
    answers = Answers()
    assert await ask(answers, "oldest", size)
    for at in range(others):
        await ask(answers, f"key-{at}", size)
    assert await ask(answers, "oldest", size)
    assert not await ask(answers, f"key-{others - 1}", size)


# -- the gate ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("passage", list(Passage))
async def test_the_gate_is_open_to_all_whatever_it_says(
    service: FakeService, client: aiohttp.ClientSession, passage: Passage
) -> None:
    service.the_gate = replace(GATE, passage=passage, serves=Role.SAFE, healthy_at=2.5)
    async with client.get("/api/v1/models/nodule/gate") as response:
        assert (response.status, response.content_type) == (200, "application/json")
        assert await response.json() == {
            "model": "nodule",
            "passage": passage,
            "state": "serving-fast",
            "serves": "safe",
            "reason": "probe-healthy",
            "detail": "as it should be",
            "since": 1.5,
            "healthy_at": 2.5,
        }


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/v1/models/other/gate"),
        ("GET", "/api/v1/routes/other"),
        ("GET", "/-/ready/other"),
        ("POST", "/api/v1/models/other/look"),
    ],
)
async def test_a_model_that_is_not_watched_is_not_found_or_not_yet(
    service: FakeService, client: aiohttp.ClientSession, method: str, path: str
) -> None:
    async with client.request(method, path, headers=AUTH) as response:
        assert (response.status, await error_of(response)) == (
            404,
            "no model 'other' is watched; there are: nodule",
        )
    service.not_ready = "the canaries are being loaded"
    async with client.request(method, path, headers=AUTH) as response:
        assert (response.status, response.headers["Retry-After"]) == (503, "1")
        assert "the canaries are being loaded" in await error_of(response)


# -- bodies that never end ----------------------------------------------------------------------------


async def test_a_body_that_dawdles_is_given_up(
    service: FakeService, client: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bodies, "_WITHIN_S", 0.05)

    async def endless() -> AsyncIterator[bytes]:
        yield b" "
        await asyncio.Event().wait()

    async with client.post(ROLLBACK, data=endless(), headers=AUTH) as response:
        assert (response.status, await error_of(response)) == (408, "the body did not arrive within 0.05 s")
    assert service.commands == []
