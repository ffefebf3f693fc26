"""What the page is made of, over real sockets: files, pictures, history and journal, and what can be asked wrongly."""

import io
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from PIL import Image

import watchdog
from tests.core.test_api import FakeService, error_of, listening
from watchdog.app import _newest_entries
from watchdog.journal.reading import FILE_NAME
from watchdog.journal.sqlite import SqliteJournal
from watchdog.model.journal import Entry, EntryKind

FILES = sorted(path.name for path in Path(watchdog.__file__).with_name("page").iterdir())
MODEL = "/api/v1/models/nodule"
PICTURE = f"{MODEL}/canaries/1/current.png"


@pytest.fixture
def service() -> FakeService:
    return FakeService()


@pytest.fixture
async def client(service: FakeService) -> AsyncIterator[aiohttp.ClientSession]:
    async with listening(service) as session:
        yield session


@pytest.mark.parametrize("path", ["/", *(f"/page/{name}" for name in FILES)])
async def test_every_file_is_served_under_a_strict_policy_and_asked_for_anew(
    client: aiohttp.ClientSession, path: str
) -> None:
    async with client.get(path) as response:
        assert response.status == 200
        policy = response.headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'")
        assert "unsafe" not in policy
        assert (response.headers["X-Content-Type-Options"], response.headers["Cache-Control"]) == (
            "nosniff",
            "no-cache",
        )
        text = await response.text()
        tag = response.headers["ETag"]
    assert "://" not in text.replace("http://www.w3.org/2000/svg", ""), "nothing comes from elsewhere"
    async with client.get(path, headers={"If-None-Match": tag}) as again:
        assert (again.status, await again.read()) == (304, b"")


@pytest.mark.parametrize(
    "path",
    [
        "/page/nothing.js",
        "/page/..%2Fapp.py",
        "/page/%2e%2e%2f%2e%2e%2fetc%2fpasswd",
        f"{MODEL}/canaries/2/current.png",
        f"{MODEL}/canaries/1/golden.png",
        f"{MODEL}/canaries/1/other.png",
        f"{MODEL}/canaries/x/current.png",
        f"{MODEL}/canaries/{'9' * 40}/current.png",
        f"{MODEL}/canaries/%D9%A1/current.png",
        "/api/v1/models/other/canaries",
        "/api/v1/models/other/history",
        "/api/v1/models/other/canaries/1/current.png",
    ],
)
async def test_what_is_not_there_is_not_found(client: aiohttp.ClientSession, path: str) -> None:
    from yarl import URL  # noqa: PLC0415 - so that the path is sent as it stands

    base = client._base_url
    assert base is not None
    async with client.get(URL(str(base).rstrip("/") + path, encoded=True)) as response:
        assert response.status == 404
        assert await error_of(response)


async def test_a_picture_is_sent_once_and_only_its_tag_from_then_on(client: aiohttp.ClientSession) -> None:
    async with client.get(PICTURE) as response:
        assert (response.status, response.content_type) == (200, "image/png")
        with Image.open(io.BytesIO(await response.read())) as image:
            assert image.size == (4, 4)
        tag = response.headers["ETag"]
    async with client.get(PICTURE, headers={"If-None-Match": tag}) as again:
        assert again.status == 304


@pytest.mark.parametrize(
    ("path", "says"),
    [
        (f"{MODEL}/history?since=x", "since: write Unix seconds, such as since=1767225600.5"),
        (f"{MODEL}/history?since=nan", "since: write Unix seconds, such as since=1767225600.5"),
        (f"{MODEL}/history?since=-inf", "since: write Unix seconds, such as since=1767225600.5"),
        (f"{MODEL}/history?until=1", "the query may have since, each once, and nothing else"),
        ("/api/v1/journal?limit=0", "limit: write a whole number from 1 to 1000"),
        ("/api/v1/journal?limit=1001", "limit: write a whole number from 1 to 1000"),
        ("/api/v1/journal?limit=1.5", "limit: write a whole number from 1 to 1000"),
        ("/api/v1/journal?after=-1", "after: write a whole number from 0 to 9223372036854775807"),
        (f"/api/v1/journal?after={'9' * 19}", "after: write a whole number from 0 to 9223372036854775807"),
        ("/api/v1/journal?limit=1&limit=2", "the query may have after, limit, model, each once, and nothing else"),
    ],
)
async def test_a_question_that_makes_no_sense_is_told_how_to_ask(
    client: aiohttp.ClientSession, path: str, says: str
) -> None:
    async with client.get(path) as response:
        assert (response.status, await error_of(response)) == (400, says)


async def test_only_news_is_told_to_whoever_has_the_rest(client: aiohttp.ClientSession) -> None:
    async with client.get(f"{MODEL}/history") as response:
        assert [probe["at"] for probe in (await response.json())["probes"]] == [1.0, 2.0]
        assert response.headers["Cache-Control"] == "no-store"
    async with client.get(f"{MODEL}/history?since=1") as response:
        assert [probe["at"] for probe in (await response.json())["probes"]] == [2.0]


async def test_the_journal_comes_newest_first_and_from_where_one_has_read(client: aiohttp.ClientSession) -> None:
    for query, seqs in (("", [3, 2, 1]), ("?limit=2", [3, 2]), ("?after=2", [3]), ("?after=3", []), ("?model=x", [])):
        async with client.get(f"/api/v1/journal{query}") as response:
            assert [entry["seq"] for entry in (await response.json())["entries"]] == seqs, query


async def test_a_journal_that_cannot_be_read_is_no_empty_one(
    service: FakeService, client: aiohttp.ClientSession
) -> None:
    service.fails = OSError(5, "the disk is broken")
    async with client.get("/api/v1/journal") as response:
        assert response.status == 503
        assert await error_of(response) == "the journal can't be read now: the disk is broken"


async def test_while_the_canaries_are_loaded_it_says_so(service: FakeService, client: aiohttp.ClientSession) -> None:
    service.not_ready, service.model = "the canaries are being loaded", ""
    async with client.get(f"{MODEL}/canaries") as response:
        assert (response.status, response.headers["Retry-After"]) == (503, "1")
    async with client.get("/") as response:
        assert response.status == 200, "the page itself comes at once"


async def test_recorded_scores_do_not_hide_what_else_is_recorded(tmp_path: Path) -> None:
    journal = await SqliteJournal.open(tmp_path / FILE_NAME)

    async def record(kind: EntryKind, model: str, count: int) -> None:
        for _ in range(count):
            await journal.append(Entry(at=1.0, kind=kind, model=model, data={"detail": "x"}))

    try:
        await record(EntryKind.DECISION, "a", 5)
        await record(EntryKind.DECISION, "b", 1)
        await record(EntryKind.SCORE, "a", 120)
        for limit, model, after, expected in (
            (3, None, 0, [4, 5, 6]),
            (3, "a", 0, [3, 4, 5]),
            (100, None, 0, [1, 2, 3, 4, 5, 6]),
            (100, None, 4, [5, 6]),
            (100, None, 6, []),
            (100, "c", 0, []),
        ):
            found = _newest_entries(tmp_path, limit, model, after)
            assert [entry.seq for entry in found] == expected, (limit, model, after)
            assert all(entry.data == {"detail": "x"} for entry in found)
    finally:
        await journal.close()


def test_a_journal_that_is_not_there_is_said_to_be(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="there is no journal"):
        _newest_entries(tmp_path, 1, None, 0)
