"""The forwarder against a real collector that is down, slow, busy or says no."""

import asyncio
import gzip
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from tests.traces.bodies import OURS, TRITON
from watchdog.settings import Secret
from watchdog.traces import Outcome, TracesSettings, forward
from watchdog.traces.forward import Batch, Forwarder
from watchdog.traces.intake import listen
from watchdog.transport import Server, Tls

NOW = 1_700_000_000.0
JSON = "application/json"


@dataclass(kw_only=True)
class Collector:
    """Gives `answers` in turn and then 200; keeps what it took."""

    url: str = ""
    answers: list[web.Response] = field(default_factory=list)
    taken: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    asked: int = 0
    gate: asyncio.Event = field(default_factory=asyncio.Event)

    async def take(self, request: web.Request) -> web.Response:
        self.asked += 1
        body = await request.read()
        await self.gate.wait()
        if self.answers:
            return self.answers.pop(0)
        self.taken.append((dict(request.headers), body))
        return web.json_response({})


async def serve(collector: Collector, port: int = 0) -> web.AppRunner:
    app = web.Application(client_max_size=2**26)
    app.router.add_post("/otel/v1/traces", collector.take)
    runner = web.AppRunner(app, auto_decompress=False, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    collector.url = f"http://127.0.0.1:{runner.addresses[0][1]}/otel"
    return runner


@pytest.fixture
async def collector() -> AsyncIterator[Collector]:
    collector = Collector()
    collector.gate.set()
    runner = await serve(collector)
    yield collector
    await runner.cleanup()


class Sending:
    """A forwarder whose pauses are over at once, and what it said and counted."""

    def __init__(self, collector: Server) -> None:
        self.counts: Counter[str] = Counter()
        self.pauses: list[float] = []
        self.troubles: list[str | None] = []
        self.before_trying_again: Callable[[], None] = lambda: None
        self.forwarder = Forwarder(collector, self.count, sleep=self.sleep, clock=lambda: NOW)
        self.forwarder.start()

    def count(self, outcome: str, number: int) -> None:
        self.counts[outcome] += number

    async def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.troubles.append(self.forwarder.trouble)
        self.before_trying_again()
        await asyncio.sleep(0)

    def put(self, *bodies: bytes) -> None:
        for body in bodies:
            self.forwarder.put(Batch(body=body, content_type=JSON))

    async def until(self, happened: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not happened():  # noqa: ASYNC110 - nothing tells
                await asyncio.sleep(0.005)

    async def until_counted(self, number: int) -> None:
        await self.until(lambda: self.counts.total() >= number)


@pytest.fixture
async def sending(collector: Collector) -> AsyncIterator[Sending]:
    sending = Sending(Server(url=collector.url))
    yield sending
    await sending.forwarder.close()


async def test_bodies_arrive_as_they_came_and_in_order(collector: Collector, sending: Sending) -> None:
    packed = gzip.compress(TRITON)
    sending.put(TRITON)
    sending.forwarder.put(Batch(body=packed, content_type="application/x-protobuf", encoding="gzip"))
    await sending.until_counted(2)
    (first, json), (second, protobuf) = collector.taken
    assert (json, first["Content-Type"], first.get("Content-Encoding")) == (TRITON, JSON, None)
    assert (protobuf, second["Content-Type"], second["Content-Encoding"]) == (packed, "application/x-protobuf", "gzip")
    assert sending.counts == {Outcome.FORWARDED: 2}


@pytest.mark.parametrize("status", [429, 502, 503, 504])
async def test_a_busy_collector_is_tried_again_ever_later(collector: Collector, sending: Sending, status: int) -> None:
    collector.answers = [web.Response(status=status) for _ in range(8)]
    sending.put(b"one", b"two")
    await sending.until_counted(2)
    assert sending.pauses == [1, 2, 4, 8, 16, 32, 60, 60]
    assert [body for _, body in collector.taken] == [b"one", b"two"]
    assert sending.counts == {Outcome.FORWARDED: 2}
    assert set(sending.troubles) == {f"{Server(url=collector.url).place.host_port}: {status}"}
    assert sending.forwarder.trouble is None


@pytest.mark.parametrize("status", [307, 400, 401, 404, 413, 500])
async def test_what_a_collector_refuses_is_not_sent_again(collector: Collector, sending: Sending, status: int) -> None:
    collector.answers = [web.Response(status=status, headers={"Location": "/elsewhere"})]
    sending.put(b"one", b"two")
    await sending.until_counted(2)
    assert [body for _, body in collector.taken] == [b"two"]
    assert sending.counts == {Outcome.FORWARD_REFUSED: 1, Outcome.FORWARDED: 1}
    assert not sending.pauses


@pytest.mark.parametrize(
    ("retry_after", "pause"),
    [
        ("30", 30),
        ("Tue, 14 Nov 2023 22:13:25 GMT", 5),
        ("Tue, 14 Nov 2000 22:13:25 GMT", 1),
        ("999999999", 600),
        ("0", 1),
        ("soon", 1),
        ("-5", 1),
        ("Tue, 14 Nov 99999 22:13:25 GMT", 1),
    ],
)
async def test_retry_after_is_honoured(collector: Collector, sending: Sending, retry_after: str, pause: float) -> None:
    collector.answers = [web.Response(status=503, headers={"Retry-After": retry_after})]
    sending.put(b"one")
    await sending.until_counted(1)
    assert sending.pauses == [pause]


async def test_a_collector_that_is_down_gets_it_when_it_is_up() -> None:
    collector = Collector()
    collector.gate.set()
    await (await serve(collector)).cleanup()
    sending = Sending(Server(url=collector.url))
    sending.put(b"one")
    await sending.until(lambda: bool(sending.pauses))
    runner = await serve(collector, int(collector.url.rpartition(":")[2].removesuffix("/otel")))
    await sending.until_counted(1)
    assert [body for _, body in collector.taken] == [b"one"]
    assert "can't connect" in (sending.troubles[0] or "")
    await sending.forwarder.close()
    await runner.cleanup()


async def test_a_collector_that_hangs_is_given_up(
    collector: Collector, sending: Sending, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forward, "_WITHIN_S", 0.1)
    collector.gate.clear()
    sending.before_trying_again = collector.gate.set
    sending.put(b"one")
    await sending.until_counted(1)
    assert "no answer within" in (sending.troubles[0] or "")


@pytest.mark.parametrize(("size", "most"), [(8, forward.MOST_BATCHES), (2**21, forward.MOST_BYTES // 2**21)])
async def test_the_oldest_give_way_where_the_collector_is_too_slow(
    collector: Collector, sending: Sending, size: int, most: int
) -> None:
    collector.gate.clear()
    bodies = [(b"%d" % n).ljust(size) for n in range(most + 7)]
    sending.put(*bodies)
    assert sending.counts == {Outcome.FORWARD_DROPPED: 7}
    collector.gate.set()
    await sending.until_counted(len(bodies))
    assert [body for _, body in collector.taken] == bodies[7:]


async def test_what_is_tried_again_may_be_pushed_out(
    collector: Collector, sending: Sending, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forward, "MOST_BATCHES", 1)
    collector.answers = [web.Response(status=503)]
    sending.before_trying_again = lambda: sending.put(b"new")
    sending.put(b"old")
    await sending.until_counted(2)
    assert [body for _, body in collector.taken] == [b"new"]
    assert sending.counts == {Outcome.FORWARD_DROPPED: 1, Outcome.FORWARDED: 1}


async def test_so_may_be_what_is_on_its_way(
    collector: Collector, sending: Sending, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forward, "MOST_BATCHES", 1)
    collector.gate.clear()
    sending.put(b"old")
    await sending.until(lambda: collector.asked == 1)
    sending.put(b"new")
    collector.gate.set()
    await sending.until_counted(2)
    assert [body for _, body in collector.taken] == [b"old", b"new"]
    assert sending.counts == {Outcome.FORWARD_DROPPED: 1, Outcome.FORWARDED: 1}


async def test_secrets_are_read_anew_and_never_shown(collector: Collector, tmp_path: Path) -> None:
    secret = tmp_path / "token"
    server = Server(url=collector.url, headers={"X-Site": "a"}, secret_headers={"Authorization": Secret(file=secret)})
    sending = Sending(server)
    collector.answers = [web.Response(status=503, text="Bearer s3cret")]

    def rotate() -> None:
        secret.write_text("Bearer s3cret")

    sending.before_trying_again = rotate
    sending.put(b"one")
    await sending.until_counted(1)
    ((headers, _),) = collector.taken
    assert (headers["X-Site"], headers["Authorization"]) == ("a", "Bearer s3cret")
    missing, busy = sending.troubles
    assert "cannot read the secret file" in (missing or "")
    assert busy == f"{server.place.host_port}: 503"
    await sending.forwarder.close()


async def test_a_certificate_that_is_missing_is_waited_for(tmp_path: Path) -> None:
    sending = Sending(Server(url="https://127.0.0.1:9", tls=Tls(ca=tmp_path / "ca.pem")))
    sending.put(b"one")
    await sending.until(lambda: bool(sending.pauses))
    assert "tls" in (sending.troubles[0] or "")
    await sending.forwarder.close()


async def test_what_waits_at_the_end_is_counted(collector: Collector, sending: Sending) -> None:
    collector.gate.clear()
    sending.put(b"one", b"two")
    await sending.until(lambda: collector.asked == 1)
    await sending.forwarder.close()
    assert sending.counts == {Outcome.FORWARD_DROPPED: 2}


async def test_the_intake_forwards_what_it_accepts(collector: Collector) -> None:
    counts: Counter[str] = Counter()
    settings = TracesSettings(listen="127.0.0.1:0", forward=Server(url=collector.url))
    listening = await listen(settings, lambda _: None, lambda name, number: counts.update({name: number}), OURS)
    packed = gzip.compress(TRITON)
    async with aiohttp.ClientSession() as session:
        for body in (packed, packed[:-9], packed):
            headers = {"Content-Type": JSON, "Content-Encoding": "gzip"}
            async with session.post(f"{listening.url}/v1/traces", data=body, headers=headers):
                pass
    async with asyncio.timeout(10):
        while counts[Outcome.FORWARDED] < 2:  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(0.005)
    assert [(headers["Content-Encoding"], body) for headers, body in collector.taken] == [("gzip", packed)] * 2
    assert counts == {Outcome.OURS: 12, Outcome.MALFORMED: 1, Outcome.FORWARDED: 2}
    await listening.close()
