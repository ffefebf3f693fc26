"""Servers that answer late, half, wrongly or not at all: a fault each time, and in time."""

import asyncio
import json
import time
from typing import Any

import numpy as np
import pytest

from tests.endpoints.hostile import (
    Talk,
    close_at_once,
    drip,
    flood,
    garbage,
    hang,
    read_request,
    response,
    says,
    says_json,
    tcp_server,
)
from tests.endpoints.kinds import Open
from watchdog.model.engine import Address, Description
from watchdog.model.fault import Blame, Fault, FaultKind
from watchdog.model.probe import Attribution, InferRequest, Reply
from watchdog.model.tensor import DTYPES

ADDRESS = Address(endpoint="e", model="m", version="1")
REQUEST = InferRequest(address=ADDRESS, inputs={"X": np.ones((1, 4), np.float32)})
HTTP_KINDS = ["triton-http", "oip-http", "oip-http-binary"]
DEADLINE_S = 0.5
SLACK_S = 1.0
"""How late a fault may come on a busy machine."""

http_kinds = pytest.mark.parametrize("http_kind", HTTP_KINDS)


async def outcome(
    open_at: Open, kind: str, talk: Talk, request: InferRequest = REQUEST, *, timeout_s: float = 10, **more: Any
) -> Reply | Fault:
    """What an endpoint makes of a server that talks so."""
    async with tcp_server(talk) as url:
        endpoint = open_at(kind, url, **more)
        start = time.perf_counter()
        answer = await endpoint.infer(request, timeout_s)
        assert time.perf_counter() - start < timeout_s + SLACK_S
        if isinstance(answer, Fault):
            assert answer.detail
            assert answer.detail.isprintable()
            assert len(answer.detail) <= 300
        await endpoint.close()
    return answer


def output(**changes: Any) -> dict[str, Any]:
    return {"name": "Y", "datatype": "FP32", "shape": [1, 2], "data": [1.0, 2.0], **changes}


def answer_with(*outputs: Any) -> dict[str, Any]:
    return {"model_name": "m", "model_version": "1", "outputs": list(outputs)}


def binary(head: Any, raw: bytes, *, length: int | str | None = None) -> bytes:
    text = json.dumps(head).encode()
    return response(text + raw, f"Inference-Header-Content-Length: {len(text) if length is None else length}")


def raw_output(size: Any, **changes: Any) -> dict[str, Any]:
    head = {**output(**changes), "parameters": {"binary_data_size": size}}
    del head["data"]
    return head


@pytest.mark.parametrize(
    ("talk", "expected"),
    [
        (hang, {(FaultKind.TIMEOUT, Blame.SERVER)}),
        (close_at_once, {(FaultKind.REFUSED, Blame.NETWORK)}),
        (garbage, {(FaultKind.GARBLED, Blame.SERVER)}),
    ],
    ids=["hang", "close", "garbage"],
)
async def test_no_protocol_at_all(kind: str, open_at: Open, talk: Talk, expected: set[tuple[FaultKind, Blame]]) -> None:
    answer = await outcome(open_at, kind, talk, timeout_s=DEADLINE_S if talk is hang else 10)
    assert isinstance(answer, Fault), answer
    assert {(answer.kind, answer.blame)} == expected, answer
    assert answer.retry


SOUND = json.dumps(answer_with(output())).encode()


@http_kinds
@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (response(SOUND)[:20], FaultKind.REFUSED),
        (response(SOUND)[:-5], FaultKind.GARBLED),
        (response(SOUND, length=10**15), FaultKind.GARBLED),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n{}", FaultKind.GARBLED),
        (b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n{}", FaultKind.GARBLED),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", FaultKind.GARBLED),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\nabc", FaultKind.GARBLED),
        (b"HTTP/1.1 200 OK\r\n" + b"X: " + b"y" * 100_000 + b"\r\n\r\n", FaultKind.GARBLED),
        (response(b"<html>Welcome</html>", "Content-Type: text/html"), FaultKind.GARBLED),
        (response(b""), FaultKind.GARBLED),
        (response(b"{"), FaultKind.GARBLED),
        (response(b"[" * 200_000), FaultKind.GARBLED),
        (response(b"\xff\xfe\xff"), FaultKind.GARBLED),
        (response(b"1" * 10_000), FaultKind.GARBLED),
        (response(b"null"), FaultKind.GARBLED),
        (response(b"[]"), FaultKind.GARBLED),
        (response(b"{}"), FaultKind.GARBLED),
        (response(SOUND, "Content-Encoding: gzip"), FaultKind.GARBLED),
        (response(SOUND, "Inference-Header-Content-Length: 10000000"), FaultKind.GARBLED),
        (response(SOUND, "Inference-Header-Content-Length: 0"), FaultKind.GARBLED),
        (response(SOUND, "Inference-Header-Content-Length: ten"), FaultKind.GARBLED),
        (response(SOUND, f"Inference-Header-Content-Length: {'9' * 5000}"), FaultKind.GARBLED),
        (response(SOUND + b"more", f"Inference-Header-Content-Length: {len(SOUND)}"), FaultKind.GARBLED),
        (response(b"", status="204 No Content"), FaultKind.GARBLED),
        (response(b"", "Location: http://127.0.0.1:1/", status="302 Found"), FaultKind.REJECTED),
        (response(b"<html>", status="502 Bad Gateway"), FaultKind.REFUSED),
        (response(b"no healthy upstream", status="503 Unavailable"), FaultKind.OVERLOADED),
        (response(b"", status="504 Gateway Timeout"), FaultKind.TIMEOUT),
        (response(b"", status="429 Too Many Requests"), FaultKind.OVERLOADED),
        (response(b'{"detail": "who are you?"}', status="401 Unauthorized"), FaultKind.FORBIDDEN),
        (response(b'{"error": "no"}', status="403 Forbidden"), FaultKind.FORBIDDEN),
        (response(b'{"error": ["odd"]}', status="400 Bad Request"), FaultKind.REJECTED),
        (response(b'{"error": "x"}', status="422 Unprocessable"), FaultKind.REJECTED),
        (response(b'{"error": "x"}', status="500 Internal"), FaultKind.SERVER_ERROR),
        (response(bytes(10**6), status="500 Internal"), FaultKind.SERVER_ERROR),
        (response(b"", status="599 Whatever"), FaultKind.SERVER_ERROR),
    ],
    ids=lambda value: repr(value[:60]) if isinstance(value, bytes) else str(value),
)
async def test_broken_http(open_at: Open, http_kind: str, raw: bytes, expected: FaultKind) -> None:
    answer = await outcome(open_at, http_kind, says(raw))
    assert isinstance(answer, Fault), answer
    assert answer.kind is expected, answer


@http_kinds
async def test_a_body_that_drips(open_at: Open, http_kind: str) -> None:
    answer = await outcome(open_at, http_kind, drip, timeout_s=DEADLINE_S)
    assert isinstance(answer, Fault)
    assert answer.kind is FaultKind.TIMEOUT


@http_kinds
async def test_a_body_without_an_end(open_at: Open, http_kind: str) -> None:
    answer = await outcome(open_at, http_kind, flood, max_response_bytes=2**20)
    assert isinstance(answer, Fault)
    assert answer.kind is FaultKind.GARBLED
    assert "max_response_bytes" in answer.detail


@http_kinds
@pytest.mark.parametrize(
    "outputs",
    [
        [],
        [None],
        [[]],
        [{}],
        [output(name=7)],
        [output(), output()],
        [output(datatype="FP33")],
        [output(datatype=["FP32"])],
        [output(datatype="BYTES", data=["a", "b"])],
        [output(datatype="BF16")],
        [output(shape=None)],
        [output(shape=[2, 2])],
        [output(shape=[-1, -2])],
        [output(shape=[1.0, 2.0])],
        [output(shape=[True, 2])],
        [output(shape=[2**80, 2**80])],
        [output(shape=["1", "2"])],
        [output(data=None)],
        [output(data="12")],
        [output(data={"0": 1})],
        [output(data=["1", "2"])],
        [output(data=[[1.0], [2.0, 3.0]])],
        [output(data=[{}, []])],
        [output(data=[1.0])],
        [output(data=[10**400, 1])],
        [output(datatype="UINT8", data=[1, 256])],
        [output(datatype="UINT8", data=[-1, 1])],
        [output(datatype="INT32", data=[1.5, 1.0])],
        [output(datatype="INT64", data=[None, 1])],
        [output(datatype="BOOL", data=[0, 2])],
    ],
    ids=repr,
)
async def test_impossible_json_outputs(open_at: Open, http_kind: str, outputs: list[Any]) -> None:
    answer = await outcome(open_at, http_kind, says_json(answer_with(*outputs)))
    assert isinstance(answer, Fault), answer
    assert answer.kind is FaultKind.GARBLED
    assert "Error)" not in answer.detail  # each of these is foreseen


@http_kinds
@pytest.mark.parametrize(
    ("outputs", "raw"),
    [
        ([raw_output(8)], b"1234567"),
        ([raw_output(8)], b"123456789"),
        ([raw_output(7)], b"1234567"),
        ([raw_output(8, shape=[1, 3])], b"12345678"),
        ([raw_output(8, datatype="INT8")], b"12345678"),
        ([raw_output(-8)], b"12345678"),
        ([raw_output("8")], b"12345678"),
        ([raw_output(True)], b"1"),
        ([raw_output(8), raw_output(8, name="Z")], b"12345678"),
        ([raw_output(4, datatype="BYTES", shape=[1])], bytes(4)),
        ([raw_output(0)], b""),
    ],
    ids=repr,
)
async def test_impossible_binary_outputs(open_at: Open, http_kind: str, outputs: list[Any], raw: bytes) -> None:
    answer = await outcome(open_at, http_kind, says(binary(answer_with(*outputs), raw)))
    assert isinstance(answer, Fault), answer
    assert answer.kind is FaultKind.GARBLED
    assert "Error)" not in answer.detail  # each of these is foreseen


async def test_strings_are_the_configurations_fault(open_at: Open) -> None:
    labels = output(name="LABEL", datatype="BYTES", data=["ok", "ok"])
    everything = await outcome(open_at, "oip-http", says_json(answer_with(output(), labels)))
    assert isinstance(everything, Fault)
    assert (everything.blame, everything.retry) == (Blame.CLIENT, False)
    wanted = InferRequest(address=ADDRESS, inputs=REQUEST.inputs, outputs=("Y",))
    named = await outcome(open_at, "oip-http", says_json(answer_with(labels, output())), wanted)
    assert isinstance(named, Reply), named
    assert list(named.outputs) == ["Y"]


@http_kinds
async def test_every_datatype_in_json(open_at: Open, http_kind: str) -> None:
    outputs = [output(name=name, datatype=name, data=[[0, 1]]) for name in DTYPES]
    answer = await outcome(open_at, http_kind, says_json(answer_with(*outputs)))
    assert isinstance(answer, Reply), answer
    for name, dtype in DTYPES.items():
        assert answer.outputs[name].dtype == dtype
        np.testing.assert_array_equal(answer.outputs[name], np.array([[0, 1]], dtype))


@http_kinds
async def test_every_datatype_in_binary(open_at: Open, http_kind: str) -> None:
    arrays = {name: np.array([[0, 1]], dtype) for name, dtype in DTYPES.items()}
    heads = [raw_output(array.nbytes, name=name, datatype=name) for name, array in arrays.items()]
    raw = b"".join(array.tobytes() for array in arrays.values())
    answer = await outcome(open_at, http_kind, says(binary(answer_with(*heads), raw)))
    assert isinstance(answer, Reply), answer
    for name, array in arrays.items():
        assert answer.outputs[name].dtype == array.dtype
        np.testing.assert_array_equal(answer.outputs[name], array)
        assert answer.outputs[name].flags.aligned


@http_kinds
@pytest.mark.parametrize(
    ("data", "dtype", "expected"),
    [
        ("[NaN, -Infinity]", "FP32", [np.nan, -np.inf]),
        ("[null, 1]", "FP32", [np.nan, 1]),
        ("[1e6, -1e6]", "FP16", [np.inf, -np.inf]),
        ("[9223372036854775807, -9223372036854775808]", "INT64", [2**63 - 1, -(2**63)]),
        ("[18446744073709551615, 1]", "UINT64", [2**64 - 1, 1]),
        ("[true, false]", "BOOL", [True, False]),
    ],
)
async def test_numbers_at_the_edge(open_at: Open, http_kind: str, data: str, dtype: str, expected: list[Any]) -> None:
    body = json.dumps(answer_with(output(datatype=dtype, data=0))).replace('"data": 0', f'"data": {data}')
    answer = await outcome(open_at, http_kind, says(response(body.encode())))
    assert isinstance(answer, Reply), answer
    np.testing.assert_array_equal(answer.outputs["Y"], np.array([expected], DTYPES[dtype]))


@http_kinds
@pytest.mark.parametrize(
    ("header", "device_s"),
    [
        ("Server-Timing: device;dur=12.5", 0.0125),
        ('Server-Timing: queue;dur=1, device;desc="gpu 0";dur=3', 0.003),
        ("Server-Timing: queue;dur=1\r\nServer-Timing: device; dur=3", 0.003),
        ("Server-Timing: devices;dur=3", None),
        ("Server-Timing: device", None),
        ("Server-Timing: device;dur=-1", None),
        ("Server-Timing: device;dur=NaN, total;dur=3", None),
    ],
)
async def test_device_time(open_at: Open, http_kind: str, header: str, device_s: float | None) -> None:
    answer = await outcome(open_at, http_kind, says_json(answer_with(output()), header))
    assert isinstance(answer, Reply), answer
    assert answer.timing.device_s == device_s
    assert answer.timing.attribution is (Attribution.NONE if device_s is None else Attribution.SERVER_TIMING)


async def test_json_cannot_carry_nan(open_at: Open) -> None:
    request = InferRequest(address=ADDRESS, inputs={"X": np.full((1, 2), np.nan, np.float32)})
    answer = await outcome(open_at, "oip-http", says_json(answer_with(output())), request)
    assert isinstance(answer, Fault)
    assert (answer.kind, answer.blame) == (FaultKind.REJECTED, Blame.CLIENT)


@http_kinds
async def test_a_connection_that_ended_while_idle_is_no_fault(open_at: Open, http_kind: str) -> None:
    """The server answers once a connection, and hangs up only when it is asked again."""
    asked: list[int] = []

    async def once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        asked.append(1)
        writer.write(response(SOUND))
        await writer.drain()
        await reader.read(1)

    async with tcp_server(once) as url:
        endpoint = open_at(http_kind, url)
        for _ in range(3):
            assert isinstance(answer := await endpoint.infer(REQUEST, 10), Reply), answer
        await endpoint.close()
    assert len(asked) == 3


@pytest.mark.parametrize("http_kind", ["triton-http", "oip-http-binary"])
@pytest.mark.parametrize("wanted", [(), ("Y",)])
async def test_binary_answers_are_asked_for(open_at: Open, http_kind: str, wanted: tuple[str, ...]) -> None:
    seen: list[Any] = []

    async def note(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head, body = await read_request(reader)
        length = next(line.split(":")[1] for line in head.split("\r\n") if line.lower().startswith("inference-header"))
        seen.append(json.loads(body[: int(length)]))
        assert body[int(length) :] == REQUEST.inputs["X"].tobytes()
        writer.write(response(SOUND))
        await writer.drain()

    request = InferRequest(address=ADDRESS, inputs=REQUEST.inputs, outputs=wanted, id="17")
    assert isinstance(await outcome(open_at, http_kind, note, request), Reply)
    (asked,) = seen
    assert asked["id"] == "17"
    if wanted:
        assert [(each["name"], each["parameters"]["binary_data"]) for each in asked["outputs"]] == [("Y", True)]
    else:
        assert asked["parameters"]["binary_data_output"] is True


@http_kinds
async def test_a_path_prefix_and_odd_names(open_at: Open, http_kind: str) -> None:
    seen: list[str] = []

    async def note(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head, _ = await read_request(reader)
        seen.append(head.split("\r\n")[0])
        writer.write(response(SOUND))
        await writer.drain()

    odd = InferRequest(address=Address(endpoint="e", model="a/b ?", version="1/2"), inputs=REQUEST.inputs)
    async with tcp_server(note) as url:
        await open_at(http_kind, f"http://{url}/gateway/").infer(odd, 10)
    assert seen == ["POST /gateway/v2/models/a%2Fb%20%3F/versions/1%2F2/infer HTTP/1.1"]


PLAIN_SERVER = {
    "/v2": {"name": "other", "version": "1.5.0", "extensions": []},
    "/v2/models/m": {
        "name": "m",
        "versions": ["10", "9"],
        "platform": "",
        "inputs": [{"name": "X", "datatype": "FP32", "shape": [-1, 4]}],
        "outputs": [],
    },
}


async def test_describe_a_server_without_tritons_extensions(open_at: Open) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head, _ = await read_request(reader)
        known = PLAIN_SERVER.get(head.split()[1])
        writer.write(response(json.dumps(known).encode()) if known else response(b"", status="404 Not Found"))
        await writer.drain()

    async with tcp_server(talk) as url:
        described = await open_at("oip-http", url).describe(Address(endpoint="e", model="m"), 10)
    assert isinstance(described, Description), described
    assert described.server == "other 1.5.0"
    assert described.versions == ("9", "10")
    assert (described.tag, described.counters, described.response_cache) == (None, None, False)


@pytest.mark.parametrize("talk", [hang, close_at_once, garbage, drip, says(response(b"[1]")), says_json({"inputs": 7})])
async def test_describe_never_raises(kind: str, open_at: Open, talk: Talk) -> None:
    async with tcp_server(talk) as url:
        endpoint = open_at(kind, url)
        start = time.perf_counter()
        assert isinstance(await endpoint.describe(ADDRESS, DEADLINE_S), Fault)
        assert time.perf_counter() - start < DEADLINE_S + SLACK_S
        await endpoint.close()
