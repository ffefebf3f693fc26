"""Engines run in-process: answers, timings, shapes, and everything that can be wrong with them."""

import asyncio
import ctypes
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.endpoints.tensorrt.conftest import Open, Write
from tests.endpoints.tensorrt.fake_tensorrt import Context, DataType, tensor, write_plan
from watchdog.endpoints.tensorrt_engine import TensorRtEngine
from watchdog.model.engine import Address, Answerer, Description, ShapeRange, TensorSpec
from watchdog.model.fault import Blame, Fault, FaultKind
from watchdog.model.probe import Attribution, InferRequest, Part, Reply
from watchdog.model.tensor import Array

X = np.arange(16, dtype=np.float32).reshape(1, 1, 4, 4)
OPEN_X = tensor("X", -1)
OPEN_Y = tensor("Y", -1, output=True)
TO_100: list[dict[str, Any]] = [{"X": [[0], [4], [100]]}]


def ask(version: str = "", *, model: str = "lung", outputs: tuple[str, ...] = (), **inputs: Array) -> InferRequest:
    return InferRequest(
        address=Address(endpoint="jetson", model=model, version=version), inputs=inputs or {"X": X}, outputs=outputs
    )


async def reply(endpoint: TensorRtEngine, request: InferRequest | None = None) -> Reply:
    answer = await endpoint.infer(request or ask(), 10)
    assert isinstance(answer, Reply), answer
    return answer


async def fault(endpoint: TensorRtEngine, request: InferRequest | None = None, timeout_s: float = 10) -> Fault:
    answer = await endpoint.infer(request or ask(), timeout_s)
    assert isinstance(answer, Fault), answer
    assert answer.detail.isprintable()
    return answer


async def test_an_engine_answers(open_engine: Open, write: Write, cudart: ctypes.CDLL) -> None:
    write()
    endpoint = open_engine()
    before = time.time()
    answer = await reply(endpoint)
    np.testing.assert_array_equal(answer.outputs["Y"], X * 2)
    assert answer.outputs["Y"].dtype == np.float32
    assert answer.answered_by == Answerer(model="lung", version="1")
    assert before <= answer.timing.sent_at <= time.time()
    await endpoint.close()
    assert cudart.fake_live() == 0


async def test_the_time_is_the_devices_own_and_its_parts_are_the_whole(open_engine: Open, write: Write) -> None:
    write(
        program="sum",
        tensors=[tensor("A", -1), tensor("B", -1), tensor("Y", -1, output=True), tensor("Z", -1, output=True)],
        profiles=[{"A": [[1], [2], [3]], "B": [[1], [2], [3]]}],
    )
    one = np.ones(2, np.float32)
    timing = (await reply(open_engine(), ask(A=one, B=one, outputs=("Z",)))).timing
    assert timing.attribution is Attribution.MODEL
    assert timing.device_s == timing.parts[Part.DEVICE] == pytest.approx(5e-6)
    assert timing.parts[Part.INPUT] == pytest.approx(2e-6)
    assert timing.parts[Part.OUTPUT] == pytest.approx(1e-6)  # only what was asked for comes back
    assert timing.client_s == timing.parts[Part.CLIENT] > 0
    assert timing.parts[Part.QUEUE] > 0
    assert sum(timing.parts.values()) == pytest.approx(timing.total_s)


@pytest.mark.parametrize(("version", "factor"), [("", 1), ("9", 2), ("10", 1)])
async def test_the_unversioned_name_is_the_highest_version(
    open_engine: Open, write: Write, version: str, factor: int
) -> None:
    write("lung/9")
    write("lung/10", program="copy")
    write("lung/notes", program="copy")
    answer = await reply(open_engine(), ask(version))
    np.testing.assert_array_equal(answer.outputs["Y"], X * factor)
    assert answer.answered_by.version == (version or "10")


@pytest.mark.parametrize(
    ("dtype", "numpy"), [(each.name, each.value) for each in DataType if each.name not in {"BF16", "FP8"}]
)
async def test_datatypes(open_engine: Open, write: Write, dtype: str, numpy: Any) -> None:
    write(
        program="copy",
        tensors=[tensor("X", 3, dtype=dtype), tensor("Y", 3, dtype=dtype, output=True)],
        profiles=[{"X": [[3], [3], [3]]}],
    )
    image = np.array([0, 1, 100]).astype(numpy)
    answer = (await reply(open_engine(), ask(X=image))).outputs["Y"]
    assert answer.dtype == numpy
    np.testing.assert_array_equal(answer, image)


@pytest.mark.parametrize(
    ("tensors", "said"),
    [
        ([OPEN_X, tensor("Y", -1, dtype="BF16", output=True)], "'Y' is BF16"),
        ([tensor("X", -1, dtype="FP8"), OPEN_Y], "'X' is FP8"),
        ([tensor("X", -1, format="CHW32"), OPEN_Y], "'X' is not laid out row by row"),
        ([tensor("X", -1, location="HOST"), OPEN_Y], "'X' is a shape tensor"),
    ],
)
async def test_engines_that_can_be_described_but_not_run(
    open_engine: Open, write: Write, tensors: list[Any], said: str
) -> None:
    write(tensors=tensors, profiles=TO_100)
    endpoint = open_engine()
    answer = await fault(endpoint, ask(X=np.ones(4, np.float32)))
    assert (answer.blame, answer.retry) == (Blame.CLIENT, False)
    assert said in answer.detail
    assert isinstance(await endpoint.describe(ask().address, 10), Description)


async def test_answers_stay_as_they_were_and_inputs_need_not_be_contiguous(open_engine: Open, write: Write) -> None:
    write()
    endpoint = open_engine()
    turned = X.transpose(0, 1, 3, 2)[..., ::-1]
    first = await reply(endpoint, ask(X=turned))
    await reply(endpoint, ask(X=X + 100))
    np.testing.assert_array_equal(first.outputs["Y"], turned * 2)


async def test_two_requests_at_once_get_their_own_answers(open_engine: Open, write: Write) -> None:
    write("lung/1")
    write("lung/2", program="copy")
    endpoint = open_engine()
    answers = await asyncio.gather(*(reply(endpoint, ask(str(at % 2 + 1), X=X + at)) for at in range(20)))
    for at, answer in enumerate(answers):
        np.testing.assert_array_equal(answer.outputs["Y"], (X + at) * (1 if at % 2 else 2))


@pytest.mark.parametrize("version", ["8.5.3.1", "10.3.0"])
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sizes=st.lists(st.integers(0, 100), min_size=1, max_size=6))
def test_buffers_serve_any_order_of_sizes(
    open_engine: Open, write: Write, use: Callable[[str], ModuleType], version: str, sizes: list[int]
) -> None:
    package = use(version)
    write("fixed/1", program="double", tensors=[OPEN_X, OPEN_Y], profiles=TO_100)
    write("open/1", program="positive", tensors=[OPEN_X, OPEN_Y], profiles=TO_100)

    async def story() -> None:
        endpoint = open_engine()
        for size in sizes:
            image = np.arange(size, dtype=np.float32) - size // 2
            for model, right in (("fixed", image * 2), ("open", image[image > 0])):
                answer = await reply(endpoint, ask(model=model, X=image))
                np.testing.assert_array_equal(answer.outputs["Y"], right)
        await endpoint.close()

    asyncio.run(story())
    assert package.cudart.fake_live() == 0


async def test_the_first_profile_that_fits_is_taken(open_engine: Open, write: Write) -> None:
    write(
        tensors=[OPEN_X, OPEN_Y],
        profiles=[{"X": [[1], [2], [3]]}, {"X": [[4], [5], [6]]}, {"X": [[1], [5], [6]]}],
    )
    endpoint = open_engine()
    for size in (5, 2, 6, 3):
        image = np.arange(size, dtype=np.float32)
        np.testing.assert_array_equal((await reply(endpoint, ask(X=image))).outputs["Y"], image * 2)
    answer = await fault(endpoint, ask(X=np.ones(7, np.float32)))
    assert "min [1], opt [2], max [3]; min [4], opt [5], max [6]; min [1], opt [5], max [6]" in answer.detail
    described = await endpoint.describe(ask().address, 10)
    assert isinstance(described, Description)
    assert described.profiles == {}


async def test_shapes_that_only_fit_different_profiles_are_refused_together(open_engine: Open, write: Write) -> None:
    write(
        program="sum",
        tensors=[tensor("A", -1), tensor("B", -1), OPEN_Y, tensor("Z", -1, output=True)],
        profiles=[{"A": [[1], [1], [1]], "B": [[1], [1], [1]]}, {"A": [[2], [2], [2]], "B": [[2], [2], [2]]}],
    )
    answer = await fault(open_engine(), ask(A=np.ones(1, np.float32), B=np.ones(2, np.float32)))
    assert answer.kind is FaultKind.REJECTED
    assert "does not take input 'B' as [2]" in answer.detail


@pytest.mark.parametrize(
    ("request_", "kind", "said"),
    [
        (ask(model="nobody"), FaultKind.NOT_FOUND, "there is no nobody/VERSION/model.plan in"),
        (ask(model="../models/lung"), FaultKind.NOT_FOUND, "there is no ../models/lung/"),
        (ask("9"), FaultKind.NOT_FOUND, "there is no lung/9/model.plan in"),
        (ask("x/../1"), FaultKind.NOT_FOUND, "there is no lung/x/../1/"),
        (ask(Q=X), FaultKind.REJECTED, "lung/1 has no input 'Q'; its inputs are X"),
        (ask(X=X, Q=X), FaultKind.REJECTED, "has no input 'Q'"),
        (ask(outputs=("Z",)), FaultKind.REJECTED, "has no output 'Z'; its outputs are Y"),
        (ask(X=X.astype(np.float64)), FaultKind.REJECTED, "takes input 'X' as FP32, not FP64"),
        (ask(X=X.astype(np.complex64)), FaultKind.REJECTED, "the protocol can't carry"),
        (
            ask(X=np.zeros((1, 1, 9, 9), np.float32)),
            FaultKind.REJECTED,
            (
                "does not take input 'X' as [1, 1, 9, 9]; its profiles: "
                "min [1, 1, 2, 2], opt [1, 1, 4, 4], max [2, 1, 8, 8]"
            ),
        ),
        (ask(X=X[0]), FaultKind.REJECTED, "does not take input 'X' as [1, 4, 4]"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
async def test_requests_that_are_wrong(
    open_engine: Open, write: Write, request_: InferRequest, kind: FaultKind, said: str
) -> None:
    write()
    answer = await fault(open_engine(), request_)
    assert (answer.kind, answer.blame, answer.retry) == (kind, Blame.CLIENT, False)
    assert said in answer.detail


async def test_every_input_is_needed(open_engine: Open, write: Write) -> None:
    write(program="sum", tensors=[tensor("A", 1), tensor("B", 1), OPEN_Y], profiles=[{}])
    answer = await fault(open_engine(), ask(A=np.ones(1, np.float32)))
    assert (answer.kind, answer.detail) == (FaultKind.REJECTED, "lung/1 needs the input 'B' too")


SERIALIZATION = "Error Code 1: Serialization (Serialization assertion"


@pytest.mark.parametrize(
    ("says", "kind", "said"),
    [
        (
            (
                "6: The engine plan file is not compatible with this version of TensorRT, expecting library version "
                "8.6.1 got 8.5.3, please rebuild."
            ),
            FaultKind.NOT_FOUND,
            "it was built by TensorRT 8.5.3 and this is 8.6.1",
        ),
        (
            (
                f"1: [stdArchiveReader.cpp::StdArchiveReader::40] {SERIALIZATION} stdVersionRead == "
                "serializationVersion failed.Version tag does not match. Note: Current Version: 213, Serialized "
                "Engine Version: 232)"
            ),
            FaultKind.NOT_FOUND,
            "it was built by TensorRT 8.6.1.6 (serialization 232) and this is TensorRT 8.5.3 (213)",
        ),
        (
            (
                "6: The engine plan file is generated on an incompatible device, expecting compute 6.1 got compute "
                "8.6, please rebuild."
            ),
            FaultKind.NOT_FOUND,
            "it was built for a GPU of compute capability 8.6 and this one has 6.1",
        ),
        (
            (
                f"IRuntime::deserializeCudaEngine: {SERIALIZATION} plan->header.pad == expectedPlatformTag "
                "failed.Platform specific tag mismatch detected. TensorRT plan files are only supported on the target "
                "runtime platform they were created on.)"
            ),
            FaultKind.NOT_FOUND,
            "it was built for another operating system or processor",
        ),
        (
            (
                f"1: [pluginV2Runner.cpp::load::300] {SERIALIZATION} creator failed.Cannot deserialize plugin since "
                "corresponding IPluginCreator not found in Plugin Registry)"
            ),
            FaultKind.NOT_FOUND,
            "it needs a plugin that is not there",
        ),
        (
            (
                f"1: [stdArchiveReader.cpp::StdArchiveReader::32] {SERIALIZATION} magicTagRead == kMAGIC_TAG failed."
                "Magic tag does not match)"
            ),
            FaultKind.NOT_FOUND,
            "it is no plan, or a damaged one",
        ),
        (
            "2: [virtualMemoryBuffer.cpp::resizePhysical::145] Error Code 2: OutOfMemory (no further information)",
            FaultKind.OVERLOADED,
            "the device's memory does not suffice",
        ),
        ("2: something\nnew", FaultKind.SERVER_ERROR, "lung/1 can't be loaded: 2: something new"),
    ],
)
async def test_plans_that_tensorrt_refuses(
    open_engine: Open, write: Write, says: str, kind: FaultKind, said: str
) -> None:
    write(says=says, version="8.6.1.6")
    answer = await fault(open_engine())
    assert (answer.kind, answer.blame, answer.retry) == (kind, Blame.SERVER, True)
    assert said in answer.detail


@pytest.mark.parametrize("content", [b"", b"no plan", write_plan(program="copy", tensors=[])[:-1]])
async def test_a_damaged_plan_is_told_and_a_mended_one_is_taken(
    open_engine: Open, write: Write, content: bytes
) -> None:
    write(content=content)
    endpoint = open_engine()
    assert "it is no plan, or a damaged one" in (await fault(endpoint)).detail
    write()
    await reply(endpoint)


async def test_an_engine_built_anew_is_loaded_anew(open_engine: Open, write: Write, cudart: ctypes.CDLL) -> None:
    write()
    endpoint = open_engine()
    await reply(endpoint)
    held = cudart.fake_live()
    write(program="copy")
    np.testing.assert_array_equal((await reply(endpoint)).outputs["Y"], X)
    assert cudart.fake_live() == held


async def test_a_plan_that_cannot_be_read(open_engine: Open, write: Write) -> None:
    file = write()
    file.unlink()
    file.mkdir()
    answer = await fault(open_engine())
    assert (answer.kind, answer.blame) == (FaultKind.NOT_FOUND, Blame.SERVER)
    assert "model.plan: Is a directory" in answer.detail


@pytest.mark.parametrize(
    ("status", "device", "said"),
    [
        (100, 0, "GPU 0 can't be used: cudaSetDevice: no CUDA-capable device is detected (CUDA error 100)"),
        (35, 0, "CUDA driver version is insufficient"),
        (0, 3, "GPU 3 can't be used: cudaSetDevice: invalid device ordinal"),
    ],
)
async def test_no_usable_gpu(  # noqa: PLR0917 (a table's columns)
    open_engine: Open, write: Write, cudart: ctypes.CDLL, status: int, device: int, said: str
) -> None:
    write()
    cudart.fake_device(status)
    answer = await fault(open_engine(device=device))
    assert (answer.kind, answer.blame, answer.retry) == (FaultKind.REFUSED, Blame.SERVER, True)
    assert said in answer.detail


async def test_a_gpu_that_comes_back_is_used(open_engine: Open, write: Write, cudart: ctypes.CDLL) -> None:
    write()
    endpoint = open_engine()
    cudart.fake_device(100)
    await fault(endpoint)
    cudart.fake_device(0)
    await reply(endpoint)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"cudart": "/nowhere/libcudart.so"}, "the CUDA runtime can't be loaded: /nowhere/libcudart.so"),
        ({"plugins": ["/nowhere/plugin.so"]}, "the plugin /nowhere/plugin.so can't be loaded"),
    ],
)
async def test_libraries_that_are_missing(open_engine: Open, write: Write, more: dict[str, Any], said: str) -> None:
    write()
    answer = await fault(open_engine(**more))
    assert (answer.kind, answer.blame, answer.retry) == (FaultKind.REFUSED, Blame.CLIENT, False)
    assert said in answer.detail


async def test_plugins_are_loaded(open_engine: Open, write: Write, built_cudart: Path) -> None:
    write()
    await reply(open_engine(plugins=[built_cudart]))


async def test_tensorrt_is_missing(open_engine: Open, write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    write()
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    answer = await fault(open_engine())
    assert (answer.kind, answer.blame, answer.retry) == (FaultKind.REFUSED, Blame.CLIENT, False)
    assert answer.detail.startswith("TensorRT's Python package can't be imported")


async def test_tensorrt_is_too_old(open_engine: Open, write: Write, use: Callable[[str], ModuleType]) -> None:
    write()
    use("8.4.1.5")
    answer = await fault(open_engine())
    assert (answer.kind, answer.retry) == (FaultKind.REFUSED, False)
    assert answer.detail.startswith("TensorRT 8.4.1.5 lacks ICudaEngine.num_io_tensors")


async def test_tensorrt_does_not_start(
    open_engine: Open, write: Write, use: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch
) -> None:
    def nothing(log: Any) -> None:
        log.error("CUDA initialization failure with error: 222")
        raise TypeError("pybind11::init(): factory function returned nullptr")

    write()
    monkeypatch.setattr(use("8.5.3.1"), "Runtime", nothing)
    answer = await fault(open_engine())
    assert (answer.kind, answer.blame) == (FaultKind.SERVER_ERROR, Blame.SERVER)
    assert answer.detail == "TensorRT 8.5.3 can't start: CUDA initialization failure with error: 222"


async def test_no_memory_for_the_context(open_engine: Open, write: Write, cudart: ctypes.CDLL) -> None:
    write(workspace=2**20)
    cudart.fake_memory(2**16)
    answer = await fault(open_engine())
    assert (answer.kind, answer.retry) == (FaultKind.OVERLOADED, True)
    assert answer.detail.startswith("lung/1 has no execution context: the device's memory does not suffice")


@pytest.mark.parametrize("program", ["double", "positive"])
async def test_no_memory_for_a_buffer_until_there_is(
    open_engine: Open, write: Write, cudart: ctypes.CDLL, monkeypatch: pytest.MonkeyPatch, program: str
) -> None:
    write(program=program, tensors=[OPEN_X, OPEN_Y], profiles=TO_100)
    endpoint = open_engine()
    image = np.ones(100, np.float32)
    cudart.fake_memory(500)
    answer = await fault(endpoint, ask(X=image))
    assert (answer.kind, answer.blame, answer.retry) == (FaultKind.OVERLOADED, Blame.SERVER, True)
    assert answer.detail == "cudaMalloc: out of memory (CUDA error 2)"
    cudart.fake_memory(2**20)
    await reply(endpoint, ask(X=image))
    monkeypatch.setattr(Context, "execute_async_v3", lambda context, stream: False)
    assert (await fault(endpoint, ask(X=image))).detail == "lung/1 failed: TensorRT gives no reason"


async def test_an_engine_that_fails(open_engine: Open, write: Write) -> None:
    write(fails="1: [convolutionRunner.cpp::execute::391] Error Code 1: Cask (Cask convolution execution)")
    answer = await fault(open_engine())
    assert (answer.kind, answer.blame, answer.retry) == (FaultKind.SERVER_ERROR, Blame.SERVER, True)
    assert answer.detail.startswith("lung/1 failed: 1: [convolutionRunner.cpp")


async def test_a_lost_context_is_told_until_the_end(open_engine: Open, write: Write, cudart: ctypes.CDLL) -> None:
    write()
    endpoint = open_engine()
    await reply(endpoint)
    cudart.fake_break(700)
    for _ in range(2):
        answer = await fault(endpoint)
        assert (answer.kind, answer.blame, answer.retry) == (FaultKind.SERVER_ERROR, Blame.SERVER, False)
        assert "context of this process is lost, restart the watchdog" in answer.detail
        assert "an illegal memory access was encountered (CUDA error 700)" in answer.detail
    assert isinstance(await endpoint.describe(ask().address, 10), Fault)
    await endpoint.close()


async def test_a_hang_costs_each_caller_its_deadline_and_nothing_piles_up(
    open_engine: Open, write: Write, cudart: ctypes.CDLL
) -> None:
    write()
    endpoint = open_engine()
    await reply(endpoint)
    cudart.fake_hold(1)
    for timeout_s in (0.1, 0.01, 0.01):
        answer = await fault(endpoint, timeout_s=timeout_s)
        assert (answer.kind, answer.blame, answer.retry) == (FaultKind.TIMEOUT, Blame.SERVER, True)
    assert isinstance(await endpoint.describe(ask().address, 0.01), Fault)
    assert not endpoint._worker._waiting
    cudart.fake_hold(0)
    np.testing.assert_array_equal((await reply(endpoint, ask(X=X + 1))).outputs["Y"], (X + 1) * 2)


async def test_closing_ends_what_is_under_way_and_waits_for_the_device(
    open_engine: Open, write: Write, cudart: ctypes.CDLL
) -> None:
    write()
    endpoint = open_engine()
    await reply(endpoint)
    cudart.fake_hold(1)
    calls = [asyncio.create_task(endpoint.infer(ask(), 10)) for _ in range(2)]
    await asyncio.sleep(0)
    closing = asyncio.create_task(endpoint.close())
    for answer in await asyncio.gather(*calls):
        assert isinstance(answer, Fault)
        assert answer.detail == "the endpoint is closed"
    cudart.fake_hold(0)
    await closing
    assert cudart.fake_live() == 0


async def test_it_may_be_closed_unused_and_twice_and_says_so_afterwards(open_engine: Open, write: Write) -> None:
    write()
    await open_engine().close()
    endpoint = open_engine()
    await reply(endpoint)
    await endpoint.close()
    await endpoint.close()
    assert (await fault(endpoint)).detail == "the endpoint is closed"


@pytest.mark.parametrize(("version", "server"), [("8.5.3.1", "tensorrt 8.5.3"), ("10.3.0", "tensorrt 10.3.0")])
async def test_describe(
    open_engine: Open, write: Write, use: Callable[[str], ModuleType], version: str, server: str
) -> None:
    use(version)
    write("lung/2")
    write("lung/10")
    assert await open_engine().describe(ask("2").address, 10) == Description(
        server=server,
        inputs=(TensorSpec(name="X", dtype="FP32", shape=(-1, 1, -1, -1)),),
        outputs=(TensorSpec(name="Y", dtype="FP32", shape=(-1, 1, -1, -1)),),
        versions=("2", "10"),
        tag=f"trt{server.removeprefix('tensorrt ')}-cuda11.8",
        profiles={"X": ShapeRange(least=(1, 1, 2, 2), best=(1, 1, 4, 4), most=(2, 1, 8, 8))},
    )


async def test_there_is_no_traffic_to_count(open_engine: Open) -> None:
    answer = await open_engine().statistics(ask().address, 10)
    assert isinstance(answer, Fault)
    assert (answer.kind, answer.retry) == (FaultKind.REJECTED, False)


def test_reading_the_settings_loads_neither_tensorrt_nor_a_client_library() -> None:
    program = (
        "import sys, watchdog.endpoints.tensorrt_engine\n"
        "heavy = {'tensorrt', 'aiohttp', 'grpc', 'tritonclient'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
