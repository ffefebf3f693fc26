"""What servers have counted: against a real Triton, and against servers that tell little or nonsense."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import grpc  # type: ignore[import-untyped]
import numpy as np
import pytest
from tritonclient.grpc import service_pb2

from tests.endpoints.grpc_peer import grpc_peer
from tests.endpoints.hostile import (
    Talk,
    close_at_once,
    drip,
    garbage,
    hang,
    read_request,
    response,
    says,
    says_json,
    tcp_server,
)
from tests.endpoints.kinds import KINDS, Open, url_of
from watchdog.demo.triton import TritonServer
from watchdog.endpoints import failures as failures_of_triton
from watchdog.load import Circumstance, between, tell
from watchdog.model.engine import Address
from watchdog.model.fault import Blame, Fault, FaultKind
from watchdog.model.load import SERVER_PARTS, Statistics, Tally
from watchdog.model.probe import InferRequest, Part, Reply
from watchdog.ports import Endpoint

MODEL = Address(endpoint="e", model="m", version="1")
HTTP_KINDS = [kind for kind in KINDS if kind != "triton-grpc"]
TRITON_KINDS = ["triton-grpc", "triton-http"]


def address(version: str = "", model: str = "scale") -> Address:
    return Address(endpoint="e", model=model, version=version)


async def ask(endpoint: Endpoint, at: Address, rows: int = 1, sleep_s: float = 0) -> Reply | Fault:
    inputs = {"X": np.ones((rows, 3), np.float32), "SLEEP_S": np.full((rows, 1), sleep_s, np.float32)}
    return await endpoint.infer(InferRequest(address=at, inputs=inputs), 10)


async def counted(endpoint: Endpoint, at: Address) -> Statistics:
    statistics = await endpoint.statistics(at, 10)
    assert isinstance(statistics, Statistics), statistics
    return statistics


async def grown(endpoint: Endpoint, before: Statistics, at: Address, *, requests: int, executions: int) -> Statistics:
    """The counts once so many more are in them: Triton counts a request after it has answered it."""
    async with asyncio.timeout(10):
        while True:
            now = await counted(endpoint, at)
            more = now.succeeded.count + now.failed - before.succeeded.count - before.failed
            told = not now.failures or sum(now.failures.values()) == now.failed
            if more >= requests and now.executions - before.executions >= executions and told:
                return now


@pytest.fixture
def endpoint(triton: TritonServer, kind: str, open_at: Open) -> Endpoint:
    return open_at(kind, url_of(triton, kind))


@pytest.mark.triton
async def test_what_a_version_has_done(endpoint: Endpoint) -> None:
    before = await counted(endpoint, address("2"))
    assert isinstance(await ask(endpoint, address("2"), rows=3, sleep_s=0.05), Reply)
    assert isinstance(await ask(endpoint, address("2")), Reply)
    assert isinstance(await ask(endpoint, address("1")), Reply)
    load = between(before, await grown(endpoint, before, address("2"), requests=2, executions=2), 10)
    assert load is not None
    assert load.inferences_per_s == pytest.approx(0.4)
    assert load.requests_per_s == pytest.approx(0.2)
    assert load.failures_per_s == {"unknown": 0}
    assert load.batch_size == 2
    assert load.cache_hit_ratio is None
    assert set(load.mean_s) == set(SERVER_PARTS)
    assert min(load.mean_s.values()) > 0
    assert load.mean_s[Part.DEVICE] >= 0.025
    assert load.busy_ratio == pytest.approx(2 * load.mean_s[Part.DEVICE] / 10)


@pytest.mark.triton
async def test_a_request_that_failed(endpoint: Endpoint) -> None:
    before = await counted(endpoint, address("2"))
    assert isinstance(await ask(endpoint, address("2"), sleep_s=-1), Fault)
    load = between(before, await grown(endpoint, before, address("2"), requests=1, executions=1), 10)
    assert load is not None
    assert (load.requests_per_s, load.failures_per_s) == (0.1, {"unknown": 0.1})
    assert load.inferences_per_s == 0
    assert load.mean_s == {}


@pytest.mark.triton
async def test_the_whole_time_is_more_than_its_parts(endpoint: Endpoint) -> None:
    before = await counted(endpoint, address("2"))
    assert isinstance(await ask(endpoint, address("2"), sleep_s=0.05), Reply)
    statistics = await grown(endpoint, before, address("2"), requests=1, executions=1)
    assert {part: tally.count for part, tally in statistics.parts.items()} == dict.fromkeys(
        SERVER_PARTS, statistics.succeeded.count
    )
    assert statistics.succeeded.seconds >= sum(tally.seconds for tally in statistics.parts.values()) >= 0.05


@pytest.mark.triton
async def test_the_device_is_busy_once_for_a_whole_batch(endpoint: Endpoint) -> None:
    batched = address("1", model="batched")
    before = await counted(endpoint, batched)
    await asyncio.gather(*(ask(endpoint, batched, sleep_s=0.01) for _ in range(4)))
    load = between(before, await grown(endpoint, before, batched, requests=4, executions=1), 10)
    assert load is not None
    assert load.batch_size == 4
    assert load.mean_s[Part.DEVICE] >= 0.04  # this model takes its requests one after the other
    assert load.busy_ratio == pytest.approx(load.mean_s[Part.DEVICE] / 10)


@pytest.mark.triton
async def test_all_kinds_tell_the_same(triton: TritonServer, open_at: Open) -> None:
    endpoints = [open_at(kind, url_of(triton, kind)) for kind in KINDS]
    before = await counted(endpoints[0], address("2"))
    assert isinstance(await ask(endpoints[0], address("2")), Reply)
    await grown(endpoints[0], before, address("2"), requests=1, executions=1)
    first, *others = [await counted(each, address("2")) for each in endpoints]
    assert first.succeeded.count > 0
    assert [each == first for each in others] == [True] * len(others)


@pytest.mark.triton
async def test_an_unpinned_name_is_the_sum_of_its_versions(endpoint: Endpoint) -> None:
    before = await counted(endpoint, address("1"))
    assert isinstance(await ask(endpoint, address("1"), rows=2), Reply)
    await grown(endpoint, before, address("1"), requests=1, executions=1)
    versions = [await counted(endpoint, address(version)) for version in ("1", "2", "3", "4")]
    whole = await counted(endpoint, address())
    assert whole.inferences == sum(each.inferences for each in versions) > 2
    assert whole.failed == sum(each.failed for each in versions)
    device = [each.parts[Part.DEVICE] for each in versions]
    assert whole.parts[Part.DEVICE].count == sum(each.count for each in device)
    assert whole.parts[Part.DEVICE].seconds == pytest.approx(sum(each.seconds for each in device))


@pytest.mark.triton
async def test_what_a_cache_answered(endpoint: Endpoint, kind: str) -> None:
    cached = address("1", model="cached")
    payload = {"X": np.random.default_rng(list(kind.encode())).random((1, 5), dtype=np.float32)}
    readings = [await counted(endpoint, cached)]
    for executions in (1, 0, 0, 0):
        assert isinstance(await endpoint.infer(InferRequest(address=cached, inputs=payload), 10), Reply)
        readings.append(await grown(endpoint, readings[-1], cached, requests=1, executions=executions))
    load = between(readings[0], readings[-1], 10)
    assert load is not None
    assert load.cache_hit_ratio == pytest.approx(0.75)
    assert load.requests_per_s == pytest.approx(0.4)
    assert load.inferences_per_s == pytest.approx(0.1)
    hits = between(readings[1], readings[-1], 10)
    assert hits is not None
    assert set(hits.mean_s) == {Part.QUEUE}
    assert tell(hits, None, None) is Circumstance.UNKNOWN


@pytest.mark.triton
async def test_a_version_that_is_loaded_anew_begins_at_nothing(triton: TritonServer, endpoint: Endpoint) -> None:
    config = triton.config("moving")
    only = [{**config, "version_policy": {"specific": {"versions": versions}}} for versions in ([1, 2], [1], [1, 2])]
    triton.load("moving", only[0])
    second = address("2", model="moving")
    first = await counted(endpoint, second)
    assert isinstance(await ask(endpoint, second), Reply)
    before = await grown(endpoint, first, second, requests=1, executions=1)
    triton.load("moving", only[1])
    gone = await endpoint.statistics(second, 10)
    assert isinstance(gone, Fault)
    triton.load("moving", only[2])
    assert between(before, await counted(endpoint, second), 10) is None


@pytest.mark.triton
@pytest.mark.parametrize(("model", "version"), [("nobody", ""), ("nobody", "1"), ("scale", "9")])
async def test_what_is_not_there(endpoint: Endpoint, model: str, version: str) -> None:
    answer = await endpoint.statistics(address(version, model), 10)
    assert isinstance(answer, Fault)
    assert answer.kind in {FaultKind.NOT_FOUND, FaultKind.REJECTED}
    assert answer.blame is Blame.CLIENT


@pytest.mark.triton
@pytest.mark.parametrize("kind", TRITON_KINDS)
@pytest.mark.parametrize("version", ["", "2"])
async def test_tritons_page_knows_why_requests_failed(
    triton: TritonServer, kind: str, open_at: Open, version: str
) -> None:
    endpoint = open_at(kind, url_of(triton, kind), metrics={"url": triton.metrics_url})
    before = await counted(endpoint, address(version))
    assert isinstance(await ask(endpoint, address("2"), sleep_s=-1), Fault)
    after = await grown(endpoint, before, address(version), requests=1, executions=1)
    load = between(before, after, 1)
    assert load is not None
    assert load.failures_per_s == {"REJECTED": 0, "CANCELED": 0, "BACKEND": 1, "OTHER": 0}


@pytest.mark.triton
@pytest.mark.parametrize("kind", TRITON_KINDS)
async def test_a_server_that_gives_up_on_requests_in_its_queue_is_overloaded(
    triton: TritonServer, kind: str, open_at: Open
) -> None:
    impatient = address("1", model="impatient")
    endpoint = open_at(kind, url_of(triton, kind), metrics={"url": triton.metrics_url})
    before = await counted(endpoint, impatient)
    slow = (ask(endpoint, impatient, rows=8, sleep_s=0.3) for _ in range(2))  # too large for one batch
    answers = await asyncio.gather(*slow)
    assert [each.kind for each in answers if isinstance(each, Fault)] == [FaultKind.OVERLOADED]
    load = between(before, await grown(endpoint, before, impatient, requests=2, executions=1), 1)
    assert load is not None
    assert load.failures_per_s["REJECTED"] == 1
    assert tell(load, None, None) is Circumstance.OVERLOADED


ROW = {
    "name": "m",
    "version": "1",
    "inference_count": 7,
    "execution_count": "3",
    "inference_stats": {"success": {"count": "5", "ns": "2000000000"}, "fail": {"count": 2}, "queue": {}},
}
COUNTED = Statistics(
    inferences=7,
    executions=3,
    succeeded=Tally(count=5, seconds=2),
    parts=dict.fromkeys(SERVER_PARTS, Tally()),
    failed=2,
)


@asynccontextmanager
async def page(talk: Talk) -> AsyncIterator[dict[str, str]]:
    async with tcp_server(talk) as url:
        yield {"url": url}


def text(*lines: str) -> Talk:
    return says(response("".join(f"{line}\n" for line in lines).encode(), "Content-Type: text/plain"))


@pytest.mark.parametrize(
    ("talk", "failures"),
    [
        (text('nv_inference_request_failure{model="m",version="1",reason="REJECTED"} 2'), {"REJECTED": 2}),
        (text('nv_inference_request_failure{model="m",version="2",reason="REJECTED"} 2'), {}),
        (text('nv_inference_request_failure{model="n",version="1",reason="REJECTED"} 2'), {}),
        (text('nv_inference_request_failure{model="m",version="1",reason="OTHER"} NaN'), {}),
        (text('nv_inference_request_failure{model="m",version="1"} 2'), {"unknown": 2}),
        (text('nv_inference_request_failure{model="m",version="1" 2'), {}),
        (text("up 1"), {}),
        (hang, {}),
        (close_at_once, {}),
        (garbage, {}),
        (drip, {}),
        (says(response(b"", status="404 Not Found")), {}),
    ],
)
async def test_a_page_that_cannot_be_had_costs_only_the_reasons(
    open_at: Open, talk: Talk, failures: dict[str, int]
) -> None:
    timeout_s = 1 if talk in {hang, drip} else 10
    async with tcp_server(says_json({"model_stats": [ROW]})) as url, page(talk) as metrics:
        endpoint = open_at("triton-http", url, metrics=metrics)
        statistics = await endpoint.statistics(MODEL, timeout_s)
        await endpoint.close()
    assert isinstance(statistics, Statistics), statistics
    assert statistics.failures == failures
    assert statistics.inferences == COUNTED.inferences


async def test_one_reading_of_the_page_serves_all_who_ask_at_that_time(
    open_at: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    readings = 0
    tell_page = text(
        'nv_inference_request_failure{model="m",version="1",reason="REJECTED"} 2',
        'nv_inference_request_failure{model="n",version="1",reason="REJECTED"} 3',
    )

    async def counting(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal readings
        readings += 1
        await tell_page(reader, writer)

    rows = [ROW, {**ROW, "name": "n"}]
    async with tcp_server(says_json({"model_stats": rows})) as url, page(counting) as metrics:
        endpoint = open_at("triton-http", url, metrics=metrics)
        both = (MODEL, replace(MODEL, model="n"))
        said = await asyncio.gather(*(endpoint.statistics(each, 10) for each in both))
        assert [each.failures for each in said if isinstance(each, Statistics)] == [{"REJECTED": 2}, {"REJECTED": 3}]
        assert readings == 1
        monkeypatch.setattr(failures_of_triton, "FRESH_S", 0.0)
        await endpoint.statistics(MODEL, 10)
        assert readings == 2
        await endpoint.close()


async def test_a_page_alone_is_no_statistics(open_at: Open) -> None:
    told = text('nv_inference_request_failure{model="m",version="1",reason="REJECTED"} 2')
    async with tcp_server(close_at_once) as url, page(told) as metrics:
        endpoint = open_at("triton-http", url, metrics=metrics)
        answer = await endpoint.statistics(MODEL, 10)
        await endpoint.close()
    assert isinstance(answer, Fault)
    assert answer.kind is FaultKind.REFUSED


@pytest.mark.parametrize("http_kind", HTTP_KINDS)
async def test_http_takes_one_call(open_at: Open, http_kind: str) -> None:
    asked: list[str] = []

    async def note(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head, _ = await read_request(reader)
        asked.append(head.split("\r\n")[0])
        writer.write(response(json.dumps({"model_stats": [{**ROW, "version": "2"}, ROW]}).encode()))
        await writer.drain()

    async with tcp_server(note) as url:
        endpoint = open_at(http_kind, url)
        assert await endpoint.statistics(MODEL, 10) == COUNTED
        await endpoint.close()
    assert asked == ["GET /v2/models/m/versions/1/stats HTTP/1.1"]


async def test_grpc_takes_one_call(open_at: Open) -> None:
    async with grpc_peer() as peer:
        statistics = service_pb2.ModelStatisticsResponse()
        row = statistics.model_stats.add(name="m", version="1", inference_count=7, execution_count=3)
        row.inference_stats.success.count, row.inference_stats.success.ns = 5, 2 * 10**9
        row.inference_stats.fail.count = 2
        peer.script = bytes(statistics.SerializeToString())
        endpoint = open_at("triton-grpc", peer.url)
        assert await endpoint.statistics(MODEL, 10) == COUNTED
        await endpoint.close()
    assert peer.methods == ["/inference.GRPCInferenceService/ModelStatistics"]


@pytest.mark.parametrize("http_kind", HTTP_KINDS)
@pytest.mark.parametrize(
    ("talk", "expected"),
    [
        (says(response(b"", status="404 Not Found")), FaultKind.NOT_FOUND),
        (says_json({"error": "not here"}, status="501 Not Implemented"), FaultKind.REJECTED),
        (says_json({}), FaultKind.NOT_FOUND),
        (says_json({"model_stats": []}), FaultKind.NOT_FOUND),
        (says_json({"model_stats": [{**ROW, "version": "2"}]}), FaultKind.NOT_FOUND),
        (says_json([ROW]), FaultKind.GARBLED),
        (says_json({"model_stats": 7}), FaultKind.GARBLED),
        (says_json({"model_stats": ["m"]}), FaultKind.GARBLED),
        (says_json({"model_stats": [{**ROW, "inference_count": "many"}]}), FaultKind.GARBLED),
        (says_json({"model_stats": [{**ROW, "inference_count": {}}]}), FaultKind.GARBLED),
        (says_json({"model_stats": [{**ROW, "inference_stats": []}]}), None),
        (says_json({"model_stats": [{**ROW, "inference_stats": ["success"]}]}), FaultKind.GARBLED),
        (close_at_once, FaultKind.REFUSED),
        (garbage, FaultKind.GARBLED),
    ],
)
async def test_http_servers_that_tell_nothing_of_use(
    open_at: Open, http_kind: str, talk: Talk, expected: FaultKind | None
) -> None:
    async with tcp_server(talk) as url:
        endpoint = open_at(http_kind, url)
        answer = await endpoint.statistics(MODEL, 10)
        await endpoint.close()
    assert (answer.kind if isinstance(answer, Fault) else None) is expected, answer


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ((grpc.StatusCode.UNIMPLEMENTED, ""), FaultKind.REJECTED),
        ((grpc.StatusCode.INVALID_ARGUMENT, "not available"), FaultKind.REJECTED),
        ((grpc.StatusCode.NOT_FOUND, ""), FaultKind.NOT_FOUND),
        (b"", FaultKind.NOT_FOUND),
        (b"\xff\xff\xff", FaultKind.GARBLED),
    ],
)
async def test_grpc_servers_that_tell_nothing_of_use(open_at: Open, script: Any, expected: FaultKind) -> None:
    async with grpc_peer() as peer:
        peer.script = script
        endpoint = open_at("triton-grpc", peer.url)
        answer = await endpoint.statistics(MODEL, 10)
        await endpoint.close()
    assert isinstance(answer, Fault)
    assert answer.kind is expected, answer


@pytest.mark.parametrize("talk", [hang, drip])
async def test_the_deadline_is_kept(kind: str, open_at: Open, talk: Talk) -> None:
    async with tcp_server(talk) as url:
        endpoint = open_at(kind, url)
        answer = await asyncio.wait_for(endpoint.statistics(MODEL, 0.3), 10)
        await endpoint.close()
    assert isinstance(answer, Fault)
    assert answer.kind in {FaultKind.TIMEOUT, FaultKind.GARBLED}
