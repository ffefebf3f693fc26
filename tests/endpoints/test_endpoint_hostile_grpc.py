"""gRPC servers that speak gRPC, but not the Open Inference Protocol."""

from collections.abc import AsyncIterator
from typing import Any

import grpc  # type: ignore[import-untyped]
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tritonclient.grpc import service_pb2

from tests.endpoints.grpc_peer import Peer, Script, answer, grpc_peer
from tests.endpoints.kinds import Open
from watchdog.model.engine import Address, Answerer, Description
from watchdog.model.fault import Blame, Fault, FaultKind
from watchdog.model.probe import InferRequest, Reply
from watchdog.model.tensor import DTYPES
from watchdog.ports import Endpoint

ADDRESS = Address(endpoint="e", model="m", version="1")
REQUEST = InferRequest(address=ADDRESS, inputs={"X": np.ones((1, 4), np.float32)})
Y = ("Y", "FP32", [1, 2])
EIGHT = bytes(8)


@pytest.fixture
async def peer() -> AsyncIterator[Peer]:
    async with grpc_peer() as peer:
        yield peer


@pytest.fixture
def endpoint(peer: Peer, open_at: Open) -> Endpoint:
    return open_at("triton-grpc", peer.url, max_response_bytes=100_000)


async def test_a_sound_answer(peer: Peer, endpoint: Endpoint) -> None:
    values = np.array([[1.5, np.nan]], np.float32)
    peer.script = answer(Y, ("Z", "INT8", []), raw=[values.tobytes(), b"\x07"])
    reply = await endpoint.infer(REQUEST, 5)
    assert isinstance(reply, Reply), reply
    np.testing.assert_array_equal(reply.outputs["Y"], values)
    assert reply.outputs["Z"] == np.int8(7)
    assert reply.answered_by == Answerer(model="m", version="1")


async def test_every_datatype(peer: Peer, endpoint: Endpoint) -> None:
    arrays = {name: np.array([[0, 1]], dtype) for name, dtype in DTYPES.items()}
    outputs = [(name, name, [1, 2]) for name in arrays]
    peer.script = answer(*outputs, raw=[array.tobytes() for array in arrays.values()])
    reply = await endpoint.infer(REQUEST, 5)
    assert isinstance(reply, Reply), reply
    for name, array in arrays.items():
        assert reply.outputs[name].dtype == array.dtype
        np.testing.assert_array_equal(reply.outputs[name], array)


@pytest.mark.parametrize(
    ("script", "kind", "blame", "retry"),
    [
        (b"\xff\xff\xff", FaultKind.GARBLED, Blame.SERVER, True),
        (b"", FaultKind.GARBLED, Blame.SERVER, True),
        (answer(raw=[]), FaultKind.GARBLED, Blame.SERVER, True),
        (answer(Y, raw=[]), FaultKind.GARBLED, Blame.SERVER, True),
        (answer(Y, raw=[EIGHT, EIGHT]), FaultKind.GARBLED, Blame.SERVER, True),
        (answer(Y, Y, raw=[EIGHT, EIGHT]), FaultKind.GARBLED, Blame.SERVER, True),
        (answer(Y, raw=[b""]), FaultKind.GARBLED, Blame.SERVER, True),
        (answer(Y, raw=[bytes(7)]), FaultKind.GARBLED, Blame.SERVER, True),
        (answer(("Y", "FP32", [3]), raw=[EIGHT]), FaultKind.GARBLED, Blame.SERVER, True),
        (answer(("Y", "FP32", [-1, -2]), raw=[EIGHT]), FaultKind.GARBLED, Blame.SERVER, True),
        (answer(("Y", "FP99", [2]), raw=[EIGHT]), FaultKind.GARBLED, Blame.SERVER, True),
        (answer(("Y", "BYTES", [1]), raw=[bytes(4)]), FaultKind.GARBLED, Blame.CLIENT, False),
        (answer(("Y", "INT8", [200_000]), raw=[bytes(200_000)]), FaultKind.GARBLED, Blame.SERVER, True),
        ((grpc.StatusCode.UNAUTHENTICATED, "who?"), FaultKind.FORBIDDEN, Blame.CLIENT, False),
        ((grpc.StatusCode.PERMISSION_DENIED, "no"), FaultKind.FORBIDDEN, Blame.CLIENT, False),
        ((grpc.StatusCode.RESOURCE_EXHAUSTED, "busy"), FaultKind.OVERLOADED, Blame.SERVER, True),
        ((grpc.StatusCode.UNAVAILABLE, "Exceeds maximum queue size"), FaultKind.OVERLOADED, Blame.SERVER, True),
        ((grpc.StatusCode.UNAVAILABLE, ""), FaultKind.OVERLOADED, Blame.SERVER, True),
        ((grpc.StatusCode.UNIMPLEMENTED, ""), FaultKind.REJECTED, Blame.CLIENT, False),
        ((grpc.StatusCode.DEADLINE_EXCEEDED, "late"), FaultKind.TIMEOUT, Blame.SERVER, True),
        (
            (grpc.StatusCode.INTERNAL, "CUDA error: an illegal memory access"),
            FaultKind.SERVER_ERROR,
            Blame.SERVER,
            True,
        ),
        ((grpc.StatusCode.UNKNOWN, "\n" * 50 + "x" * 5000), FaultKind.SERVER_ERROR, Blame.SERVER, True),
        ((grpc.StatusCode.CANCELLED, ""), FaultKind.SERVER_ERROR, Blame.SERVER, True),
        ((grpc.StatusCode.DATA_LOSS, ""), FaultKind.SERVER_ERROR, Blame.SERVER, True),
    ],
    ids=lambda value: repr(value)[:40],
)
async def test_no_usable_answer(
    peer: Peer, endpoint: Endpoint, script: Script, kind: FaultKind, blame: Blame, *, retry: bool
) -> None:
    peer.script = script
    fault = await endpoint.infer(REQUEST, 5)
    assert isinstance(fault, Fault), fault
    assert (fault.kind, fault.blame, fault.retry) == (kind, blame, retry), fault
    assert fault.detail
    assert "Error)" not in fault.detail  # each of these is foreseen
    assert fault.detail.isprintable()
    assert len(fault.detail) <= 300


async def test_a_secret_that_the_server_repeats_is_not_shown(peer: Peer, open_at: Open, tmp_path: Any) -> None:
    (tmp_path / "key").write_text("hush")
    peer.script = (grpc.StatusCode.UNAUTHENTICATED, "hush is no key")
    endpoint = open_at("triton-grpc", peer.url, secret_headers={"x-key": {"file": tmp_path / "key"}})
    fault = await endpoint.infer(REQUEST, 5)
    assert isinstance(fault, Fault)
    assert fault.detail == "UNAUTHENTICATED: *** is no key"


@pytest.fixture
async def fuzzed(open_at: Open) -> AsyncIterator[tuple[Peer, Endpoint]]:
    async with grpc_peer() as peer:
        yield peer, open_at("triton-grpc", peer.url)


def _outputs() -> st.SearchStrategy[Any]:
    output = st.builds(
        service_pb2.ModelInferResponse.InferOutputTensor,
        name=st.text(max_size=3),
        datatype=st.sampled_from([*DTYPES, "BYTES", "", "FP"]),
        shape=st.lists(st.integers(-2, 4) | st.just(2**62), max_size=3),
    )
    return st.builds(
        service_pb2.ModelInferResponse,
        model_name=st.text(max_size=3),
        outputs=st.lists(output, max_size=3),
        raw_output_contents=st.lists(st.integers(0, 32).map(bytes), max_size=3),
    )


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(raw=st.binary(max_size=60) | _outputs().map(lambda message: bytes(message.SerializeToString())))
async def test_any_bytes_are_a_reply_or_a_fault(fuzzed: tuple[Peer, Endpoint], raw: bytes) -> None:
    peer, endpoint = fuzzed
    peer.script = raw
    outcome = await endpoint.infer(REQUEST, 5)
    if isinstance(outcome, Reply):
        assert outcome.outputs
    else:
        assert outcome.kind is FaultKind.GARBLED, outcome
    assert isinstance(await endpoint.describe(ADDRESS, 5), Description | Fault)
