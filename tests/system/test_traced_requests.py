"""Where each canary's time went, on a real Triton that has other things to do."""

import py_compile
import random
import shutil
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc as triton_grpc

from tests.triton_fixture import TENSORS
from watchdog.assembly import listen_for_traces
from watchdog.assess import AssessSettings, Judge, OutputSettings
from watchdog.demo.triton import Ports, TritonServer, available
from watchdog.endpoints import open_endpoint
from watchdog.endpoints.triton_grpc import TritonGrpcSettings
from watchdog.endpoints.triton_http import TritonHttpSettings
from watchdog.measures import shared
from watchdog.model.canary import Canary
from watchdog.model.engine import Address, Engine, Role
from watchdog.model.event import Timed
from watchdog.model.probe import Attribution, Part, ProbeResult, Timing
from watchdog.ports import Event
from watchdog.prober import Prober, Target
from watchdog.traces import TracesSettings

MISSING = available()
pytestmark = [pytest.mark.system, pytest.mark.triton, pytest.mark.skipif(MISSING is not None, reason=str(MISSING))]

CANARIES, NEIGHBOURS = 200, 3
SLEEPS_S = (0.001, 0.02)
LEAST = {"triton-http": CANARIES, "triton-grpc": 0.75 * CANARIES}
"""Triton 2.51 loses one trace in twenty over gRPC, and none over HTTP."""

_MODEL = """
import time

import numpy as np
import triton_python_backend_utils as pb_utils
from tensors import give, take


class TritonPythonModel:
    def execute(self, requests):
        return [self._answer(request) for request in requests]

    def _answer(self, request):
        wanted = float(take(request, "SLEEP_S").max())
        began = time.perf_counter()
        time.sleep(wanted)
        slept = np.full((1, 1), time.perf_counter() - began, dtype=np.float32)
        return pb_utils.InferenceResponse([give("SLEPT_S", slept), give("TWICE", slept * 2)])
"""
"""It sleeps as long as it is told, and says how long that really was: no two clocks need agree."""

_CONFIG = """\
name: "sleeper"
backend: "python"
max_batch_size: 8
input [ { name: "SLEEP_S" data_type: TYPE_FP32 dims: [ 1 ] } ]
output [
  { name: "SLEPT_S" data_type: TYPE_FP32 dims: [ 1 ] },
  { name: "TWICE" data_type: TYPE_FP32 dims: [ 1 ] }
]
instance_group [ { kind: KIND_CPU count: 2 } ]
version_policy { specific { versions: [ 1, 2 ] } }
"""


def write_sleeper(repository: Path) -> Path:
    for version in ("1", "2"):
        folder = repository / "sleeper" / version
        folder.mkdir(parents=True)
        (folder / "model.py").write_text(_MODEL)
        shutil.copyfile(TENSORS, folder / "tensors.py")
        for each in ("model.py", "tensors.py"):
            py_compile.compile(str(folder / each))
    (repository / "sleeper" / "config.pbtxt").write_text(_CONFIG)
    return repository


@dataclass(frozen=True)
class Stage:
    triton: TritonServer
    traces: TracesSettings


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """A Triton that traces what carries a ``traceparent``, and sends it to an address of ours."""
    folder = tmp_path_factory.mktemp("split")
    traces = TracesSettings(listen=f"127.0.0.1:{Ports.free().http}", despite_crashes=True)
    flags = (
        "mode=opentelemetry",
        "rate=0",
        "level=TIMESTAMPS",
        f"opentelemetry,url=http://{traces.listen}/v1/traces",
        "opentelemetry,bsp_schedule_delay=100",
    )
    with TritonServer(
        write_sleeper(folder / "models"),
        folder / "triton",
        models=["sleeper"],
        extra_args=[f"--trace-config={flag}" for flag in flags],
    ) as triton:
        yield Stage(triton, traces)


@pytest.fixture
def traffic(stage: Stage) -> Iterator[None]:
    """Others who use the same model, all the time, without traces."""
    done = threading.Event()

    def send(seed: int) -> None:
        chance = random.Random(seed)
        with triton_grpc.InferenceServerClient(stage.triton.grpc_url) as client:
            while not done.is_set():
                tensor = triton_grpc.InferInput("SLEEP_S", [1, 1], "FP32")
                tensor.set_data_from_numpy(np.full((1, 1), chance.uniform(*SLEEPS_S), dtype=np.float32))
                client.infer("sleeper", [tensor], model_version="2")

    threads = [threading.Thread(target=send, args=(i,)) for i in range(NEIGHBOURS)]
    for thread in threads:
        thread.start()
    yield
    done.set()
    for thread in threads:
        thread.join()


def sleepers() -> list[Canary]:
    chance = random.Random(1)
    inputs = [np.full((1, 1), chance.uniform(*SLEEPS_S), dtype=np.float32) for _ in range(CANARIES)]
    return [
        Canary(id=f"c{i}", inputs={"SLEEP_S": array}, sha256="0" * 64, source="", profile="opt")
        for i, array in enumerate(inputs)
    ]


@asynccontextmanager
async def a_prober(stage: Stage, kind: str, timed: list[ProbeResult], device_output: str) -> AsyncIterator[Prober]:
    def observe(event: Event) -> None:
        if isinstance(event, Timed):
            timed.append(event.result)

    settings: TritonGrpcSettings | TritonHttpSettings = (
        TritonGrpcSettings(name="e", kind="triton-grpc", url=stage.triton.grpc_url)
        if kind == "triton-grpc"
        else TritonHttpSettings(name="e", kind="triton-http", url=stage.triton.http_url)
    )
    endpoint = open_endpoint(settings)
    engines = {
        role: Engine(role=role, address=Address(endpoint="e", model="sleeper", version=version))
        for role, version in ((Role.FAST, "2"), (Role.SAFE, "1"))
    }
    canaries = {canary.id: canary for canary in sleepers()}
    outputs = [OutputSettings(name=name) for name in ("TWICE", "SLEPT_S") if name != device_output]
    judge = Judge(settings=AssessSettings(outputs=tuple(outputs)), engines=engines, canaries=canaries, baseline=None)
    target = Target(
        model="sleeper",
        engines=engines,
        public=Address(endpoint="e", model="sleeper"),
        endpoints={"e": endpoint},
        deadline_s=5.0,
        device_output=device_output,
    )
    try:
        async with listen_for_traces(stage.traces, lambda _outcome, _count: None, remember=CANARIES) as timekeeper:
            prober = Prober(target, judge, observe, time.time, seeds=random.Random(3), timekeeper=timekeeper)
            await prober.learn()
            yield prober
    finally:
        await endpoint.close()


@pytest.mark.parametrize("kind", ["triton-grpc", "triton-http"])
async def test_each_of_200_canaries_is_split_and_has_its_own_device_time(
    stage: Stage, kind: str, traffic: None, capsys: pytest.CaptureFixture[str]
) -> None:
    timed: list[ProbeResult] = []
    slept: dict[str, float] = {}
    by_counts: dict[str, Timing] = {}
    async with a_prober(stage, kind, timed, "") as prober:
        results = []
        for canary in prober.judge.canaries.values():
            before = await prober.statistics(Role.FAST)
            result = (await prober.probe(canary, Role.FAST, public=True)).result
            assert result.fault is None
            by_counts[canary.id] = shared(result.timing, before, await prober.statistics(Role.FAST))
            slept[canary.id] = float(result.outputs["SLEPT_S"].max())
            results.append(result)
        settled = await prober.timekeeper.settled(results, 3.0)
    traced = [result for result in settled if result.timing.attribution is Attribution.TRACE]
    assert len(settled) == CANARIES
    assert len(traced) >= LEAST[kind]
    assert len(timed) == len(traced), "what has no trace yet is told of later, and nothing twice"
    for result in traced:
        assert set(result.timing.parts) == set(Part) - {Part.MODEL}
        assert sum(result.timing.parts.values()) == pytest.approx(result.timing.total_s, rel=0.05)
    own = np.percentile(errors(slept, {result.canary: result.timing for result in traced}), (50, 95)) * 1e3
    mixed = np.percentile(errors(slept, by_counts), (50, 95)) * 1e3
    with capsys.disabled():
        sys.stdout.write(
            f"\n{kind}: {len(traced)} of {CANARIES} canaries split; error of a canary's device time, median and p95: "
            f"by its trace {own[0]:.2f} and {own[1]:.2f} ms, "
            f"by the statistics around it {mixed[0]:.2f} and {mixed[1]:.2f} ms\n"
        )
    late = np.percentile([slept[canary.id] - float(canary.inputs["SLEEP_S"].max()) for canary in sleepers()], 95) * 1e3
    assert own[1] <= 1.0 + 2 * late, "the aim is 1 ms, on a machine that wakes its sleepers in time"
    assert mixed[1] > 1.0, "or this test would not tell the two apart"


def errors(slept: dict[str, float], timings: dict[str, Timing]) -> list[float]:
    """Seconds by which each canary's device time is off; one of 0 is off by all of it."""
    return [abs((timing.device_s or 0.0) - slept[canary]) for canary, timing in timings.items()]


async def test_a_model_that_times_its_device_itself_is_believed_and_the_rest_is_its_own(
    stage: Stage, traffic: None
) -> None:
    timed: list[ProbeResult] = []
    async with a_prober(stage, "triton-grpc", timed, "SLEPT_S") as prober:
        canaries = list(prober.judge.canaries.values())[:20]
        results = [(await prober.probe(canary, Role.FAST, public=True)).result for canary in canaries]
        settled = await prober.timekeeper.settled(results, 3.0)
    for result in results:
        assert "SLEPT_S" not in result.outputs
    assert {result.timing.attribution for result in settled} == {Attribution.MODEL}
    split = [result for result in settled if result.timing.parts]
    assert len(split) >= 10
    for result in split:
        assert result.timing.device_s == pytest.approx(result.timing.parts[Part.DEVICE])
        assert result.timing.parts[Part.MODEL] < 0.5 * result.timing.total_s
        assert sum(result.timing.parts.values()) == pytest.approx(result.timing.total_s, rel=0.05)
