"""The intake over real sockets: what it takes, how it answers, and that nothing sent to it can fill the memory."""

import asyncio
import gzip
import io
import json
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from urllib.parse import urlsplit

import aiohttp
import pytest
from pydantic import ValidationError

from tests.traces.bodies import OTHERS, OURS, TRITON, in_protobuf
from watchdog.model.span import Span
from watchdog.traces import Outcome, TracesSettings, intake
from watchdog.traces.intake import Listening, listen
from watchdog.traces.otlp import MAX_BYTES
from watchdog.transport import Server

JSON = "application/json"
PROTOBUF = "application/x-protobuf"
FREE_PORT = TracesSettings(listen="127.0.0.1:0")


class Taken:
    """What the intake gave, and its counts."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.counts: Counter[str] = Counter()

    def take(self, spans: Sequence[Span]) -> None:
        self.spans.extend(spans)

    def count(self, outcome: str, number: int) -> None:
        self.counts[outcome] += number


@pytest.fixture
def taken() -> Taken:
    return Taken()


@pytest.fixture
async def listening(taken: Taken) -> AsyncIterator[Listening]:
    listening = await listen(FREE_PORT, taken.take, taken.count, OURS)
    yield listening
    await listening.close()


async def post(listening: Listening, body: bytes, path: str = "/v1/traces", **headers: str) -> tuple[int, str, bytes]:
    """Status, content type and body of the answer."""
    sent = {"Content-Type": JSON, **{name.replace("_", "-"): value for name, value in headers.items()}}
    async with (
        aiohttp.ClientSession() as session,
        session.post(listening.url + path, data=io.BytesIO(body), headers=sent) as response,
    ):
        return response.status, response.content_type, await response.read()


@pytest.mark.parametrize(
    ("body", "headers", "answer"),
    [
        pytest.param(TRITON, {}, (200, JSON, b"{}"), id="json"),
        pytest.param(TRITON, {"Content_Type": "application/json; charset=utf-8"}, (200, JSON, b"{}"), id="charset"),
        pytest.param(gzip.compress(TRITON), {"Content_Encoding": "gzip"}, (200, JSON, b"{}"), id="gzip"),
        pytest.param(in_protobuf(TRITON), {"Content_Type": PROTOBUF}, (200, PROTOBUF, b""), id="protobuf"),
    ],
)
async def test_spans_of_ours_are_taken(
    listening: Listening, taken: Taken, body: bytes, headers: dict[str, str], answer: tuple[int, str, bytes]
) -> None:
    assert await post(listening, body, **headers) == answer
    assert [span.name for span in taken.spans] == ["compute", "lung_nodule", "InferRequest"] * 2
    assert taken.counts == {Outcome.OURS: 6}


async def test_spans_of_others_are_only_counted(listening: Listening, taken: Taken) -> None:
    body = TRITON.replace(OURS.encode(), OTHERS.encode())
    assert await post(listening, body) == (200, JSON, b"{}")
    assert not taken.spans
    assert taken.counts == {Outcome.FOREIGN: 6}


async def test_an_answer_says_how_many_spans_were_rejected(listening: Listening, taken: Taken) -> None:
    body = TRITON.replace(b'"name":"compute"', b'"name":7')
    status, _, answer = await post(listening, body)
    assert (status, json.loads(answer)["partialSuccess"]["rejectedSpans"]) == (200, "2")
    assert taken.counts == {Outcome.OURS: 4, Outcome.REJECTED: 2}


@pytest.mark.parametrize(
    ("body", "headers", "status", "code", "outcome"),
    [
        pytest.param(TRITON[:-9], {}, 400, 3, Outcome.MALFORMED, id="cut"),
        pytest.param(TRITON, {"Content_Encoding": "gzip"}, 400, 3, Outcome.MALFORMED, id="not packed"),
        pytest.param(bytes(MAX_BYTES + 1), {}, 413, 8, Outcome.TOO_LARGE, id="large"),
        pytest.param(
            gzip.compress(bytes(MAX_BYTES + 1)), {"Content_Encoding": "gzip"}, 413, 8, Outcome.TOO_LARGE, id="bomb"
        ),
        pytest.param(TRITON, {"Content_Type": "text/plain"}, 415, 3, Outcome.UNSUPPORTED, id="text"),
        pytest.param(TRITON, {"Content_Encoding": "br"}, 415, 3, Outcome.UNSUPPORTED, id="brotli"),
    ],
)
async def test_what_is_no_use_is_refused(  # noqa: PLR0917 - a table's columns
    listening: Listening,
    taken: Taken,
    body: bytes,
    headers: dict[str, str],
    status: int,
    code: int,
    outcome: Outcome,
) -> None:
    got, content_type, answer = await post(listening, body, **headers)
    assert (got, content_type, json.loads(answer)["code"]) == (status, JSON, code)
    assert json.loads(answer)["message"]
    assert taken.counts == {outcome: 1}
    assert not taken.spans
    assert (await post(listening, TRITON))[0] == 200


async def test_other_paths_and_methods_are_unknown(listening: Listening, taken: Taken) -> None:
    status, _, answer = await post(listening, TRITON, "/v1/metrics")
    assert (status, json.loads(answer)["code"]) == (404, 5)
    async with aiohttp.ClientSession() as session, session.get(f"{listening.url}/v1/traces") as response:
        assert (response.status, response.headers["Allow"], (await response.json())["code"]) == (405, "POST", 12)
    assert not taken.counts


async def exchange(listening: Listening, *parts: bytes) -> bytes:
    """The status line for a request that sends no more than its `parts`."""
    parsed = urlsplit(listening.url)
    reader, writer = await asyncio.open_connection(parsed.hostname, parsed.port)
    writer.writelines([b"POST /v1/traces HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n", *parts])
    await writer.drain()
    line = await reader.readline()
    writer.close()
    await writer.wait_closed()
    return line


async def test_a_body_that_does_not_end_is_given_up(
    listening: Listening, taken: Taken, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake, "_WITHIN_S", 0.05)
    assert b" 408 " in await exchange(listening, b"Content-Length: 100\r\n\r\n{")
    assert taken.counts == {Outcome.UNFINISHED: 1}


async def test_a_sender_that_goes_away_is_let_go(listening: Listening, taken: Taken) -> None:
    parsed = urlsplit(listening.url)
    reader, writer = await asyncio.open_connection(parsed.hostname, parsed.port)
    writer.write(b"POST /v1/traces HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n")
    writer.write(b"Content-Length: 100\r\nExpect: 100-continue\r\n\r\n")
    assert b" 100 " in await reader.readuntil(b"\r\n\r\n")  # it has begun to read
    writer.close()
    await writer.wait_closed()
    async with asyncio.timeout(10):
        while not taken.counts:  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(0.005)
    assert taken.counts == {Outcome.UNFINISHED: 1}


async def test_a_body_without_a_length_is_bounded_as_well(listening: Listening, taken: Taken) -> None:
    chunk = b"%x\r\n%s\r\n" % (2**20, bytes(2**20))
    head = b"Transfer-Encoding: chunked\r\n\r\n"
    assert b" 413 " in await exchange(listening, head, *[chunk] * (MAX_BYTES // 2**20), b"1\r\nx\r\n")
    assert taken.counts == {Outcome.TOO_LARGE: 1}


async def test_a_body_announced_too_large_is_not_awaited(listening: Listening, taken: Taken) -> None:
    assert b" 413 " in await exchange(listening, b"Content-Length: %d\r\n\r\n" % 2**40)
    assert taken.counts == {Outcome.TOO_LARGE: 1}


async def test_bodies_at_once_are_bounded(listening: Listening, taken: Taken, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake, "_MOST_HELD", 2 * intake._OWN_COST + len(TRITON) - 1)
    parsed = urlsplit(listening.url)
    _, slow = await asyncio.open_connection(parsed.hostname, parsed.port)
    slow.write(b"POST /v1/traces HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n")
    slow.write(b"{")
    async with asyncio.timeout(10):
        while (await post(listening, TRITON))[0] != 503:  # noqa: ASYNC110 - until the slow one has arrived
            await asyncio.sleep(0.005)
    assert taken.counts[Outcome.BUSY] == 1
    slow.close()
    await slow.wait_closed()
    async with asyncio.timeout(10):
        while (await post(listening, TRITON))[0] != 200:  # noqa: ASYNC110 - until it is noticed that it has gone
            await asyncio.sleep(0.005)


async def test_a_refusal_for_want_of_room_says_when_to_try_again(
    listening: Listening, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake, "_MOST_HELD", 1)
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{listening.url}/v1/traces", data=TRITON, headers={"Content-Type": JSON}) as response,
    ):
        assert (response.status, response.headers["Retry-After"]) == (503, "1")
        assert (await response.json())["code"] == 14


async def test_a_port_in_use_is_an_error(listening: Listening, taken: Taken) -> None:
    settings = TracesSettings(listen=listening.url.removeprefix("http://"))
    with pytest.raises(OSError, match="address already in use"):
        await listen(settings, taken.take, taken.count, OURS)


async def test_a_closed_intake_listens_no_more(taken: Taken) -> None:
    listening = await listen(FREE_PORT, taken.take, taken.count, OURS)
    await listening.close()
    with pytest.raises(aiohttp.ClientConnectorError):
        await post(listening, TRITON)


async def test_it_listens_on_ipv6(taken: Taken) -> None:
    listening = await listen(TracesSettings(listen="[::1]:0"), taken.take, taken.count, OURS)
    assert listening.url.startswith("http://[::1]:")
    assert (await post(listening, TRITON))[0] == 200
    await listening.close()


@pytest.mark.parametrize(
    "wrong", ["4318", ":4318", "localhost", "localhost:65536", "http://localhost:4318", "::1:4318"]
)
def test_an_address_is_host_and_port(wrong: str) -> None:
    with pytest.raises(ValidationError, match="host:port"):
        TracesSettings(listen=wrong)


def test_traces_are_not_forwarded_to_where_they_come_from() -> None:
    with pytest.raises(ValidationError, match="address of listen"):
        TracesSettings(forward=Server(url="http://127.0.0.1:4318"))
