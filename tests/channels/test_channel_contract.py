"""What every channel must make of receivers that behave and of receivers that don't."""

import asyncio
import json
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from watchdog.channels import ChannelSettings, open_channel
from watchdog.model.notice import Condition, Notice, NoticeKind, Severity
from watchdog.ports import Channel

KINDS = ["alertmanager", "pagerduty", "webhook"]

NOTICE = Notice(
    kind=NoticeKind.FIRST,
    condition=Condition(
        name="WatchdogEngineRolledBack",
        severity=Severity.CRITICAL,
        summary="nodule is served by the safe engine",
        description="The fast engine answered NaN.",
        labels={"model": "nodule"},
    ),
    started_at=1_700_000_000.0,
    ends_at=1_700_000_240.0,
)

Peer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def settings(kind: str, url: str, folder: Path, **more: Any) -> ChannelSettings:
    secret = {"file": folder / "key"}
    addresses: dict[str, dict[str, Any]] = {
        "alertmanager": {"urls": [url]},
        "pagerduty": {"url": url, "routing_key": secret},
        "webhook": {"url": url, "signing_key": secret},
    }
    (folder / "key").write_text("a-secret-of-thirty-two-character\n" if kind == "webhook" else f"{'a1' * 16}\n")
    adapter: TypeAdapter[ChannelSettings] = TypeAdapter(ChannelSettings)
    return adapter.validate_python({"kind": kind, "name": "c", "timeout": "500ms", **addresses[kind], **more})


@asynccontextmanager
async def listening(peer: Peer) -> AsyncIterator[str]:
    """A server that does what `peer` does, broken off at the end whatever it is doing."""
    running: set[asyncio.Task[None]] = set()

    async def meet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        running.add(task)
        try:
            await peer(reader, writer)
        except (ConnectionError, asyncio.CancelledError):
            pass  # the client or the test has seen enough
        finally:
            writer.close()

    server = await asyncio.start_server(meet, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


async def request(reader: asyncio.StreamReader) -> tuple[dict[str, str], bytes]:
    lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")[1:-2]
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    return headers, await reader.readexactly(int(headers["content-length"]))


def answering(raw: bytes) -> Peer:
    async def peer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request(reader)
        writer.write(raw)
        await writer.drain()

    return peer


def status(code: int, headers: str = "", body: str = "") -> Peer:
    return answering(f"HTTP/1.1 {code} Some Words\r\n{headers}Content-Length: {len(body)}\r\n\r\n{body}".encode())


async def hangs(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(-1)


async def hangs_after_the_request(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await request(reader)
    await reader.read(-1)


async def refuses_and_hangs(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await request(reader)
    writer.write(b"HTTP/1.1 400 Bad\r\nContent-Length: 99\r\n\r\n")
    await reader.read(-1)


async def closes_at_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.close()


async def never_stops(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await request(reader)
    writer.write(b"HTTP/1.1 400 Bad\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        writer.write(b"10000\r\n" + b"x" * 0x10000 + b"\r\n")
        await writer.drain()


async def drips(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await request(reader)
    for byte in b"HTTP/1.1 200 OK\r\n" * 1000:
        writer.write(bytes([byte]))
        await writer.drain()
        await asyncio.sleep(0.05)


Case = tuple[str, Peer, bool, bool, str]
PEERS: list[Case] = [
    # what it does, how, ok, retry, a part of what is said of it
    ("200", status(200), True, True, "200"),
    ("202", status(202, body="accepted"), True, True, "202"),
    ("204", answering(b"HTTP/1.1 204 No Content\r\n\r\n"), True, True, "204"),
    ("200-cut", answering(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nhalf"), True, True, "200"),
    ("301", status(301, "Location: http://127.0.0.1:1/token\r\n"), False, False, "redirect"),
    ("307", status(307, "Location: /elsewhere\r\n"), False, False, "redirect"),
    ("400", status(400, body="empty\nlabels"), False, False, "400 empty labels"),
    ("400-cut", answering(b"HTTP/1.1 400 No\r\nContent-Length: 99\r\n\r\n"), False, False, "400"),
    ("400-hang", refuses_and_hangs, False, False, "400"),
    ("400-endless", never_stops, False, False, "400 xxx"),
    ("401", status(401), False, True, "401"),
    ("403", status(403), False, True, "403"),
    ("404", status(404), False, False, "404"),
    ("408", status(408), False, True, "408"),
    ("413", status(413), False, False, "413"),
    ("422", status(422), False, False, "422"),
    ("425", status(425), False, True, "425"),
    ("429", status(429, "Retry-After: 9\r\n"), False, True, "429"),
    ("500", status(500, body="x" * 100_000), False, True, "500"),
    ("503", status(503), False, True, "503"),
    ("hang", hangs, False, True, "no answer within 0.5 s"),
    ("hang-later", hangs_after_the_request, False, True, "no answer within 0.5 s"),
    ("drip", drips, False, True, "no answer within 0.5 s"),
    ("close", closes_at_once, False, True, "broke before an answer"),
    ("half-a-head", answering(b"HTTP/1.1 200 OK\r\nConte"), False, True, "broke before an answer"),
    ("not-http", answering(b"SSH-2.0-OpenSSH_9.2\r\n"), False, True, "no usable answer in HTTP"),
]


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@asynccontextmanager
async def opened(chosen: ChannelSettings) -> AsyncIterator[Channel]:
    channel = open_channel(chosen)
    try:
        yield channel
    finally:
        await channel.close()


@pytest.mark.parametrize("case", PEERS, ids=[row[0] for row in PEERS])
async def test_what_a_receiver_does_decides(kind: str, tmp_path: Path, case: Case) -> None:
    _, peer, ok, retry, said = case
    async with listening(peer) as url, opened(settings(kind, url, tmp_path)) as channel:
        delivery = await channel.deliver([NOTICE])

    assert delivery.ok is ok
    assert ok or delivery.retry is retry
    assert said in delivery.detail
    assert len(delivery.detail) < 300
    assert delivery.detail.isprintable()


async def test_nobody_listens(kind: str, tmp_path: Path) -> None:
    with socket.socket() as bound:  # bound, but not listening
        bound.bind(("127.0.0.1", 0))
        async with opened(settings(kind, f"http://127.0.0.1:{bound.getsockname()[1]}", tmp_path)) as channel:
            delivery = await channel.deliver([NOTICE])

    assert not delivery.ok
    assert delivery.retry
    assert "can't connect" in delivery.detail


async def test_a_name_that_does_not_resolve(kind: str, tmp_path: Path) -> None:
    chosen = settings(kind, "http://alertmanager.invalid:9093", tmp_path, timeout="20s")
    async with opened(chosen) as channel:
        delivery = await channel.deliver([NOTICE])

    assert (delivery.ok, delivery.retry) == (False, True)
    assert "alertmanager.invalid:9093" in delivery.detail


async def test_nothing_to_deliver_reaches_nobody(kind: str, tmp_path: Path) -> None:
    async with opened(settings(kind, "http://127.0.0.1:1", tmp_path)) as channel:
        assert (await channel.deliver([])).ok


async def test_how_long_a_receiver_asks_to_be_left_alone_is_told(kind: str, tmp_path: Path) -> None:
    for header, asked in (("9", 9.0), ("99999999", 3600.0), ("nonsense", None), ("-1", None)):
        peer = status(429, f"Retry-After: {header}\r\n")
        async with listening(peer) as url, opened(settings(kind, url, tmp_path)) as channel:
            assert (await channel.deliver([NOTICE])).retry_after_s == asked


async def test_all_notices_go_in_their_order(kind: str, tmp_path: Path) -> None:
    got: list[bytes] = []

    async def keeps(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        got.append((await request(reader))[1])
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    async with listening(keeps) as url, opened(settings(kind, url, tmp_path)) as channel:
        assert (await channel.deliver([NOTICE, NOTICE, NOTICE])).ok

    if kind == "pagerduty":
        assert [json.loads(body)["event_action"] for body in got] == ["trigger"] * 3
        return
    (body,) = got
    sent = json.loads(body)
    assert len(sent if kind == "alertmanager" else sent["notices"]) == 3


async def test_a_channel_delivers_again_and_again(kind: str, tmp_path: Path) -> None:
    async with listening(status(200)) as url, opened(settings(kind, url, tmp_path)) as channel:
        assert [(await channel.deliver([NOTICE])).ok for _ in range(3)] == [True] * 3


async def test_cancelling_a_delivery_ends_it(kind: str, tmp_path: Path) -> None:
    async with listening(hangs) as url, opened(settings(kind, url, tmp_path, timeout="60s")) as channel:
        task = asyncio.create_task(channel.deliver([NOTICE]))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_secret_headers_are_sent_read_anew_and_never_told(kind: str, tmp_path: Path) -> None:
    token, got = tmp_path / "token", []

    async def echoes(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        headers, _ = await request(reader)
        got.append(headers["authorization"])
        said = f"you sent {headers['authorization']} and {headers['x-site']}".encode()
        writer.write(b"HTTP/1.1 400 No\r\nContent-Length: %d\r\n\r\n%b" % (len(said), said))

    more = {"headers": {"X-Site": "north"}, "secret_headers": {"Authorization": {"file": token}}}
    async with listening(echoes) as url, opened(settings(kind, url + "/path-token", tmp_path, **more)) as channel:
        token.write_text("Bearer one\n")
        first = await channel.deliver([NOTICE])
        token.write_text("Bearer two\n")
        second = await channel.deliver([NOTICE])
        token.write_text("Bearer\r\nX-Evil: 1\n")
        evil = await channel.deliver([NOTICE])
        token.unlink()
        missing = await channel.deliver([NOTICE])

    assert got == ["Bearer one", "Bearer two"]
    assert first.detail == second.detail == f"{url}: 400 you sent *** and north"
    assert f"{token} must hold one line of printable ASCII" in evil.detail
    assert "Evil" not in evil.detail
    assert str(token) in missing.detail
    assert (missing.ok, missing.retry) == (False, True)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("alertmanager:9093", "not an http"),
        ("ftp://a/", "not an http"),
        ("http:///x", "with a host"),
        ("http://a:99999", "not a URL"),
        ("http://me:secret@a/", "secret_headers"),
    ],
)
def test_a_wrong_url_is_refused_at_start(kind: str, tmp_path: Path, wrong: str, said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        settings(kind, wrong, tmp_path)


@pytest.mark.parametrize("wrong", [{"headers": {"A": "b\r\nc"}}, {"headers": {"A b": "c"}}, {"name": "No Name"}])
def test_wrong_settings_are_refused_at_start(kind: str, tmp_path: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        settings(kind, "http://a", tmp_path, **wrong)


def test_settings_can_be_read_without_an_http_client() -> None:
    """`watchdog --help` and `check` stay quick."""
    code = "import sys, watchdog.channels; sys.exit('aiohttp' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
