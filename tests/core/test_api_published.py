"""The route as gateways fetch it: tagged, waited for, and answered at the end; and the pods that wait for it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

import aiohttp
import pytest

from tests.core.test_api import ROUTE, FakeService, error_of, listening
from watchdog.api import published
from watchdog.api.server import create
from watchdog.model.engine import Address, Role
from watchdog.model.route import Published
from watchdog.transport import serve

PAGE = "/api/v1/routes/nodule"
LONG = {"wait": "1h"}
ON_SAFE = replace(ROUTE, fast_percent=0)


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


async def fetch(
    client: aiohttp.ClientSession, known: str | None = None, wait: str | None = None
) -> tuple[int, str, bytes]:
    """Status, tag and body."""
    headers = {} if known is None else {"If-None-Match": known}
    async with client.get(PAGE, headers=headers, params={} if wait is None else {"wait": wait}) as response:
        assert response.headers["Cache-Control"] == "no-cache"
        return response.status, response.headers["ETag"], await response.read()


async def tag_of(client: aiohttp.ClientSession) -> str:
    return (await fetch(client))[1]


async def test_a_route_is_json_with_a_strong_tag(client: aiohttp.ClientSession) -> None:
    async with client.get(PAGE) as response:
        assert (response.status, response.content_type) == (200, "application/json")
        assert response.headers["ETag"].startswith('"')
        assert await response.json() == {
            "model": "nodule",
            "role": "fast",
            "fast_percent": 100,
            "engines": {
                "fast": {"endpoint": "e", "model": "nodule", "version": "2"},
                "safe": {"endpoint": "e", "model": "nodule", "version": "1"},
            },
        }


MOVED = Address(endpoint="other", model="nodule", version="2")


@pytest.mark.parametrize(
    ("route", "same"),
    [
        (replace(ROUTE, state="confirming", since=9.0), True),
        (replace(ROUTE, engines={role: ROUTE.engines[role] for role in reversed(Role)}), True),
        (replace(ROUTE, fast_percent=99), False),
        (replace(ROUTE, fast_percent=0), False),
        (replace(ROUTE, engines={**ROUTE.engines, Role.FAST: MOVED}), False),
    ],
)
async def test_the_tag_changes_with_the_route_and_with_nothing_else(
    service: FakeService, client: aiohttp.ClientSession, route: Published, same: bool
) -> None:
    known = await tag_of(client)
    service.move(route)
    status, tag, body = await fetch(client, known)
    assert (status, tag == known, body == b"") == ((304, True, True) if same else (200, False, False))


@pytest.mark.parametrize("known", ["*", "W/{tag}", '"x", {tag}', "{tag}"])
async def test_what_is_known_is_not_sent_again(client: aiohttp.ClientSession, known: str) -> None:
    tag = await tag_of(client)
    assert await fetch(client, known.format(tag=tag)) == (304, tag, b"")


@pytest.mark.parametrize("known", ['"x"', "nonsense", ""])
async def test_what_is_not_known_is_sent_at_once(client: aiohttp.ClientSession, known: str) -> None:
    assert (await fetch(client, known, "1h"))[0] == 200
    assert (await fetch(client, None, "1h"))[0] == 200


async def waiting(service: FakeService, client: aiohttp.ClientSession) -> asyncio.Task[tuple[int, str, bytes]]:
    """A request that is held."""
    known = await tag_of(client)
    service.moved.set()
    task = asyncio.create_task(fetch(client, known, "1h"))
    await eventually(lambda: not service.moved.is_set())
    return task


async def test_one_who_waits_hears_of_a_change_and_of_nothing_less(
    service: FakeService, client: aiohttp.ClientSession
) -> None:
    task = await waiting(service, client)
    service.move(replace(ROUTE, state="confirming"))
    await eventually(lambda: not service.moved.is_set())
    assert not task.done()
    service.move(ON_SAFE)
    status, _, body = await task
    assert status == 200
    assert b'"fast_percent":0' in body


async def test_one_who_waits_in_vain_is_told_so(client: aiohttp.ClientSession) -> None:
    tag = await tag_of(client)
    assert await fetch(client, tag, "10ms") == (304, tag, b"")
    assert await fetch(client, tag, "0s") == (304, tag, b"")


async def test_nobody_waits_longer_than_the_longest(
    client: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(published, "LONGEST_WAIT_S", 0.01)
    tag = await tag_of(client)
    assert (await fetch(client, tag, "1h"))[0] == 304


async def test_one_who_waits_for_a_model_that_goes_is_told_so(
    service: FakeService, client: aiohttp.ClientSession
) -> None:
    known = await tag_of(client)
    service.moved.set()
    request = client.get(PAGE, headers={"If-None-Match": known}, params=LONG)
    task = asyncio.ensure_future(request)
    await eventually(lambda: not service.moved.is_set())
    service.move(None)
    async with await task as response:
        assert (response.status, await error_of(response)) == (
            404,
            "no model 'nodule' is watched; there are: none yet",
        )


async def test_the_end_answers_all_who_wait(service: FakeService) -> None:
    runner, url = await serve(create(service), "127.0.0.1:0")
    async with aiohttp.ClientSession(url) as client:
        tasks = [await waiting(service, client) for _ in range(3)]
        await runner.cleanup()
        assert [status for status, _, _ in await asyncio.gather(*tasks)] == [304] * 3


async def test_those_who_wait_are_limited_and_one_who_goes_makes_room(
    service: FakeService, client: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(published, "_MOST_WAITING", 1)
    monkeypatch.setattr(published, "_LOOK_S", 0.01)
    task = await waiting(service, client)
    known = await tag_of(client)
    async with client.get(PAGE, headers={"If-None-Match": known}, params=LONG) as response:
        assert (response.status, response.headers["Retry-After"]) == (503, "5")
        assert await error_of(response) == "1 wait already: ask again later, or without `wait`"
    assert (await fetch(client, known))[0] == 304
    task.cancel()

    async def is_free() -> bool:
        async with client.get(PAGE, headers={"If-None-Match": known}, params={"wait": "1ms"}) as response:
            return response.status == 304

    async with asyncio.timeout(10):
        while not await is_free():
            pass


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("wait=30", "wait: '30' is not a duration"),
        ("wait=", "wait: '' is not a duration"),
        ("wait=-1s", "wait: '-1s' is not a duration"),
        ("wait=1s&wait=2s", "the query may have one `wait`"),
        ("timeout=30s", "the query may have one `wait`"),
    ],
)
async def test_a_wrong_query_is_refused(client: aiohttp.ClientSession, query: str, says: str) -> None:
    async with client.get(f"{PAGE}?{query}") as response:
        assert response.status == 400
        assert (await error_of(response)).startswith(says)


async def test_a_pod_is_ready_when_its_route_is_right(service: FakeService, client: aiohttp.ClientSession) -> None:
    async with client.get("/-/ready/nodule") as response:
        assert (response.status, await response.text()) == (200, "ready\n")
    service.route_not_ready = "the public name has not been asked yet"
    async with client.get("/-/ready/nodule") as response:
        assert (response.status, response.content_type) == (503, "text/plain")
        assert await response.text() == "the public name has not been asked yet\n"
