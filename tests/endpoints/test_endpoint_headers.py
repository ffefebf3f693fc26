"""The headers of one request arrive, whatever the protocol."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

import numpy as np

from tests.endpoints.grpc_peer import grpc_peer
from tests.endpoints.hostile import read_request, response, tcp_server
from tests.endpoints.kinds import Open
from watchdog.model.engine import Address
from watchdog.model.probe import InferRequest

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
REQUEST = InferRequest(
    address=Address(endpoint="e", model="m", version="1"),
    inputs={"X": np.ones((1, 4), np.float32)},
    headers={"traceparent": TRACEPARENT},
)


@asynccontextmanager
async def noting(kind: str) -> AsyncIterator[tuple[str, Sequence[Mapping[str, str]]]]:
    """A server's address, and the headers of each request that came to it."""
    if kind == "triton-grpc":
        async with grpc_peer() as peer:
            yield peer.url, peer.metadata
        return
    seen: list[dict[str, str]] = []

    async def note(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head, _ = await read_request(reader)
        seen.append(dict(line.split(": ", 1) for line in head.strip().split("\r\n")[1:]))
        writer.write(response(b"{}"))
        await writer.drain()

    async with tcp_server(note) as url:
        yield url, seen


async def test_a_requests_own_headers_arrive_beside_the_configured_ones(kind: str, open_at: Open) -> None:
    async with noting(kind) as (url, seen):
        endpoint = open_at(kind, url, headers={"X-House": "ours"})
        await endpoint.infer(REQUEST, 10)
        await endpoint.infer(InferRequest(address=REQUEST.address, inputs=REQUEST.inputs), 10)
        await endpoint.close()
    assert [each.get("traceparent") for each in seen] == [TRACEPARENT, None]
    assert [each["x-house" if kind == "triton-grpc" else "X-House"] for each in seen] == ["ours", "ours"]
