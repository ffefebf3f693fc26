"""What every kind of endpoint does alike, against a real Triton."""

import asyncio
import secrets
import time
from contextlib import suppress
from dataclasses import replace
from queue import Empty

import numpy as np
import pytest

from tests.endpoints.conftest import Collector
from tests.endpoints.kinds import Open, url_of
from watchdog.demo.triton import TritonServer
from watchdog.model.canary import Canary
from watchdog.model.engine import Address, Answerer, Counters, Description, ShapeRange, TensorSpec, Tracing
from watchdog.model.fault import Blame, Fault, FaultKind
from watchdog.model.probe import InferRequest, Reply
from watchdog.model.tensor import Array
from watchdog.ports import Endpoint

pytestmark = pytest.mark.triton

X = np.arange(6, dtype=np.float32).reshape(2, 3)


@pytest.fixture
def endpoint(triton: TritonServer, kind: str, open_at: Open) -> Endpoint:
    return open_at(kind, url_of(triton, kind))


def ask(version: str = "", *, model: str = "scale", outputs: tuple[str, ...] = (), **inputs: Array) -> InferRequest:
    return InferRequest(
        address=Address(endpoint="e", model=model, version=version), inputs=inputs or {"X": X}, outputs=outputs, id="7"
    )


async def reply(endpoint: Endpoint, request: InferRequest) -> Reply:
    answer = await endpoint.infer(request, 10)
    assert isinstance(answer, Reply), answer
    return answer


async def fault(endpoint: Endpoint, request: InferRequest, timeout_s: float = 10) -> Fault:
    answer = await endpoint.infer(request, timeout_s)
    assert isinstance(answer, Fault), answer
    assert answer.detail.isprintable()
    return answer


async def describe(endpoint: Endpoint, version: str = "", model: str = "scale") -> Description:
    description = await endpoint.describe(Address(endpoint="e", model=model, version=version), 10)
    assert isinstance(description, Description), description
    return description


@pytest.mark.parametrize("outputs", [(), ("Y",)])
@pytest.mark.parametrize(("version", "factor"), [("1", 1), ("2", 2)])
async def test_a_pinned_version_answers(
    endpoint: Endpoint, version: str, factor: int, outputs: tuple[str, ...]
) -> None:
    before = time.time()
    answer = await reply(endpoint, ask(version, outputs=outputs))
    assert list(answer.outputs) == ["Y"]
    np.testing.assert_array_equal(answer.outputs["Y"], X * factor)
    assert answer.outputs["Y"].dtype == np.float32
    assert answer.answered_by == Answerer(model="scale", version=version)
    assert before <= answer.timing.sent_at <= time.time()
    assert answer.timing.client_s is not None
    assert 0 < answer.timing.client_s < answer.timing.total_s < 10


async def test_waiting_for_the_server_is_not_the_clients_time(endpoint: Endpoint) -> None:
    answer = await reply(endpoint, ask("1", X=X[:1], SLEEP_S=np.full((1, 1), 0.1, np.float32)))
    assert answer.timing.client_s is not None
    assert answer.timing.total_s - answer.timing.client_s >= 0.1


async def test_a_request_with_a_traceparent_is_traced(endpoint: Endpoint, collector: Collector) -> None:
    """One of a few: over gRPC, Triton 2.51 loses about one trace in twenty."""
    sent: list[bytes] = []
    for _ in range(10):
        sent.append(secrets.token_hex(16).encode())
        traceparent = f"00-{sent[-1].decode()}-{'5' * 16}-01"
        assert isinstance(await endpoint.infer(replace(ask("2"), headers={"traceparent": traceparent}), 10), Reply)
        with suppress(Empty):
            while body := await asyncio.to_thread(collector.bodies.get, timeout=1):
                if any(each in body.lower() for each in sent):
                    return
    pytest.fail("nothing was traced")


async def test_the_unversioned_name_is_answered_by_the_highest_version(endpoint: Endpoint) -> None:
    answer = await endpoint.infer(ask(), 10)
    assert isinstance(answer, Reply)
    assert answer.answered_by.version == "4"


async def test_nan_comes_back_as_an_answer_and_not_as_a_fault(endpoint: Endpoint, kind: str) -> None:
    answer = await endpoint.infer(ask("4"), 10)
    assert isinstance(answer, Reply), answer
    assert np.isnan(answer.outputs["Y"]).all()


async def test_answers_stay_as_they_were(endpoint: Endpoint) -> None:
    first = await reply(endpoint, ask("2"))
    kept = first.outputs["Y"].copy()
    for _ in range(3):
        await reply(endpoint, ask("2", X=X + 100))
    np.testing.assert_array_equal(first.outputs["Y"], kept)


async def test_calls_at_the_same_time_get_their_own_answers(endpoint: Endpoint) -> None:
    answers = await asyncio.gather(*(reply(endpoint, ask("2", X=X + at)) for at in range(20)))
    for at, answer in enumerate(answers):
        np.testing.assert_array_equal(answer.outputs["Y"], 2 * (X + at))


async def test_inputs_need_not_be_contiguous(endpoint: Endpoint) -> None:
    answer = await reply(endpoint, ask("1", X=X.T[::-1]))
    np.testing.assert_array_equal(answer.outputs["Y"], X.T[::-1])


async def test_a_large_image_goes_both_ways(endpoint: Endpoint) -> None:
    image = np.random.default_rng(1).random((1, 600 * 600), dtype=np.float32)
    np.testing.assert_array_equal((await reply(endpoint, ask("1", X=image))).outputs["Y"], image)


@pytest.mark.parametrize(
    ("request_", "kind_", "blame", "retry", "said"),
    [
        (ask(model="nobody"), FaultKind.NOT_FOUND, Blame.CLIENT, False, "'nobody' is not found"),
        (ask("9"), FaultKind.NOT_FOUND, Blame.CLIENT, False, "version 9 is not found"),
        (ask("1", Q=X), FaultKind.REJECTED, Blame.CLIENT, False, "unexpected inference input 'Q'"),
        (ask("1", X=X.reshape(1, 2, 3)), FaultKind.REJECTED, Blame.CLIENT, False, "unexpected shape for input 'X'"),
        (ask("1", X=np.zeros((9, 1), np.float32)), FaultKind.REJECTED, Blame.CLIENT, False, "batch-size must be <= 8"),
        (ask("1", X=X.astype(np.float64)), FaultKind.REJECTED, Blame.CLIENT, False, "'FP64'"),
        (ask("1", X=X.astype(">f4")), FaultKind.REJECTED, Blame.CLIENT, False, "the protocol can't carry"),
        (ask("1", X=X.astype(np.complex64)), FaultKind.REJECTED, Blame.CLIENT, False, "the protocol can't carry"),
        (ask("1", outputs=("Z",)), FaultKind.REJECTED, Blame.CLIENT, False, "unexpected inference output 'Z'"),
        (ask("3"), FaultKind.SERVER_ERROR, Blame.SERVER, True, "the model broke"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
async def test_what_the_server_refuses(  # noqa: PLR0917 (a table's columns)
    endpoint: Endpoint, request_: InferRequest, kind_: FaultKind, blame: Blame, retry: bool, said: str
) -> None:
    answer = await fault(endpoint, request_)
    assert (answer.kind, answer.blame, answer.retry) == (kind_, blame, retry)
    assert said in answer.detail


async def test_a_version_that_is_no_number_is_refused(endpoint: Endpoint) -> None:
    answer = await fault(endpoint, ask("x/../2"))
    assert answer.kind in {FaultKind.NOT_FOUND, FaultKind.REJECTED}
    assert answer.blame is Blame.CLIENT


async def test_a_version_that_was_unloaded_is_not_ready(triton: TritonServer, endpoint: Endpoint) -> None:
    config = triton.config("moving")
    for versions in ([1, 2], [1]):
        triton.load("moving", {**config, "version_policy": {"specific": {"versions": versions}}})
    answer = await fault(endpoint, ask("2", model="moving"))
    assert (answer.kind, answer.blame, answer.retry) == (FaultKind.NOT_FOUND, Blame.SERVER, True)
    assert (await describe(endpoint, model="moving")).versions == ("1",)


async def test_the_deadline_is_kept(endpoint: Endpoint) -> None:
    start = time.perf_counter()
    answer = await fault(endpoint, ask("1", X=X[:1], SLEEP_S=np.full((1, 1), 1, np.float32)), 0.2)
    assert (answer.kind, answer.blame, answer.retry) == (FaultKind.TIMEOUT, Blame.SERVER, True)
    assert 0.15 < time.perf_counter() - start < 0.95
    await reply(endpoint, ask("2"))


async def test_cancelling_cancels(endpoint: Endpoint) -> None:
    await reply(endpoint, ask("2"))
    call = asyncio.create_task(endpoint.infer(ask("1", X=X[:1], SLEEP_S=np.full((1, 1), 0.5, np.float32)), 10))
    await asyncio.sleep(0)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await reply(endpoint, ask("2"))


async def test_it_may_be_closed_unused_and_twice(triton: TritonServer, kind: str, open_at: Open) -> None:
    unused = open_at(kind, url_of(triton, kind))
    await unused.close()
    used = open_at(kind, url_of(triton, kind))
    await reply(used, ask("2"))
    await used.close()
    await used.close()


async def test_closing_ends_a_call_that_is_under_way(endpoint: Endpoint) -> None:
    slow = ask("1", X=X[:1], SLEEP_S=np.full((1, 1), 0.5, np.float32))
    call = asyncio.create_task(endpoint.infer(slow, 10))
    await asyncio.sleep(0.1)  # it need not have come far
    await endpoint.close()
    (ended,) = await asyncio.wait_for(asyncio.gather(call, return_exceptions=True), 5)
    assert isinstance(ended, Fault | asyncio.CancelledError), ended


async def test_describe_an_unversioned_name(endpoint: Endpoint) -> None:
    description = await describe(endpoint)
    assert description.server == "triton 2.51.0"
    assert TensorSpec(name="X", dtype="FP32", shape=(-1, -1)) in description.inputs
    assert description.outputs == (TensorSpec(name="Y", dtype="FP32", shape=(-1, -1)),)
    assert description.versions == ("1", "2", "3", "4")
    assert description.tag == "trt8.5.3-cuda11.8"
    assert not description.response_cache
    assert description.counters is None
    assert "binary_tensor_data" in description.extensions
    assert description.profiles == {"X": ShapeRange(least=(1, 1), best=(1, 3), most=(8, 64))}
    assert description.unreadable == ()


async def test_describe_a_pinned_version(endpoint: Endpoint) -> None:
    before = (await describe(endpoint, "2")).counters
    await reply(endpoint, ask("2", X=np.ones((3, 1), np.float32)))
    broken = await fault(endpoint, ask("2", X=X[:1], SLEEP_S=np.full((1, 1), -1, np.float32)))
    description = await describe(endpoint, "2")
    assert before is not None
    assert description.counters == Counters(
        inferences=before.inferences + 3, cache_hits=0, failures=before.failures + 1
    )
    assert broken.kind is FaultKind.SERVER_ERROR
    assert description.tag == "trt10.1-cuda12.4"
    assert (await describe(endpoint, "1")).tag == "trt8.5.3-cuda11.8"
    assert description.profiles == {"X": ShapeRange(least=(1, 1), best=(4, 3), most=(8, 64))}


async def test_a_profile_that_cannot_be_read_is_said(endpoint: Endpoint) -> None:
    description = await describe(endpoint, "3")
    assert description.profiles == {}
    (said,) = description.unreadable
    assert said.startswith("profile.X: '1x3 8x64' is not ")


async def test_describe_how_a_model_is_traced(triton: TritonServer, collector: Collector, endpoint: Endpoint) -> None:
    expected = Tracing(on=True, mode="opentelemetry", rate=0, url=collector.url, delay_s=0.1)
    assert (await describe(endpoint, "2")).tracing == expected
    for of_model in (["OFF"], None):  # None: as the server's
        triton.request("POST", "/v2/models/moving/trace/setting", {"trace_level": of_model})
        assert (await describe(endpoint, model="moving")).tracing == replace(expected, on=of_model is None)


@pytest.mark.parametrize(("model", "version"), [("nobody", ""), ("scale", "9")])
async def test_describe_what_is_not_there(endpoint: Endpoint, model: str, version: str) -> None:
    answer = await endpoint.describe(Address(endpoint="e", model=model, version=version), 10)
    assert isinstance(answer, Fault)
    assert (answer.kind, answer.blame) == (FaultKind.NOT_FOUND, Blame.CLIENT)


async def test_a_response_cache_answers_a_repeated_payload_and_not_a_perturbed_one(
    endpoint: Endpoint, kind: str
) -> None:
    rng = np.random.default_rng(list(kind.encode()))
    image = rng.random((1, 64), dtype=np.float32)
    canary = Canary(id="c", inputs={"X": image}, sha256="", source="", profile="", tolerance=1e-3)

    async def counted(inputs: dict[str, Array]) -> tuple[int, int]:
        before = (await describe(endpoint, "1", "cached")).counters
        await reply(endpoint, ask("1", model="cached", X=inputs["X"]))
        after = (await describe(endpoint, "1", "cached")).counters
        assert before is not None
        assert after is not None
        return after.inferences - before.inferences, after.cache_hits - before.cache_hits

    assert (await describe(endpoint, "1", "cached")).response_cache
    assert await counted({"X": image}) == (1, 0)
    assert await counted({"X": image}) == (0, 1)
    assert await counted(canary.perturbed(rng)) == (1, 0)
