"""GPUs by the real pynvml over a driver's library that plays losses, refusals, slices and hangs."""

import asyncio
import json
import os
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pynvml
import pytest

from tests.gpu.fake_nvml import GIB, FakeNvml, gpu
from watchdog.gpu.nvml import NvmlGpus
from watchdog.model.gpu import Gpu, GpuReading, GpuState, MigInstance, ProcessMemory, SourceState
from watchdog.ports import GpuSource

ENOUGH = 60.0
"""Seconds that no answer takes."""

ONE_READING = """
import asyncio, json, sys
from watchdog.gpu.nvml import NvmlGpus

async def main():
    gpus = NvmlGpus()
    reading = await gpus.read(float(sys.argv[1]))
    print(json.dumps([reading.state, reading.detail, [gpu.uuid for gpu in reading.gpus]]))
    await gpus.close()

asyncio.run(main())
"""


async def look(gpus: GpuSource) -> GpuReading:
    return await gpus.read(ENOUGH)


async def only(gpus: GpuSource) -> Gpu:
    reading = await look(gpus)
    assert reading.state is SourceState.UP, reading.detail
    (one,) = reading.gpus
    return one


def states(reading: GpuReading) -> dict[str, GpuState]:
    return {gpu.uuid: gpu.state for gpu in reading.gpus}


def in_a_process(folder: Path, state: Path, timeout_s: float) -> tuple[str, str, list[str]]:
    """One reading by a process whose dynamic linker finds `folder` first."""
    environment = {**os.environ, "LD_LIBRARY_PATH": str(folder), "FAKE_NVML": str(state)}
    command = [sys.executable, "-c", ONE_READING, str(timeout_s)]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=ENOUGH, check=True)
    state_name, detail, uuids = json.loads(ran.stdout)
    return state_name, detail, uuids


async def test_everything_that_a_gpu_tells_in_base_units(fake: FakeNvml, gpus: NvmlGpus) -> None:
    fake.play(*gpu("GPU-b"), *gpu("GPU-a", used=7 * GIB))
    reading = await look(gpus)
    assert replace(reading, gpus=()) == GpuReading(
        source="nvml", state=SourceState.UP, driver="570.86.15", cuda=(12, 8), gpus=()
    )
    assert [(each.uuid, each.used_bytes) for each in reading.gpus] == [("GPU-b", 20 * GIB), ("GPU-a", 7 * GIB)]
    assert reading.gpus[0] == Gpu(
        uuid="GPU-b",
        name="Fake GPU-b",
        total_bytes=80 * GIB,
        used_bytes=20 * GIB,
        busy_ratio=0.37,
        memory_busy_ratio=0.12,
        temperature_c=54.0,
        power_w=311.5,
        sm_clock_hz=1.98e9,
        memory_clock_hz=2.619e9,
        throttled_by=frozenset(),
        ecc_corrected=3,
        ecc_uncorrected=0,
        processes=(),
        compute_capability=(9, 0),
    )


@pytest.mark.parametrize(
    ("bits", "names"),
    [
        (0x001 | 0x002 | 0x010, set()),
        (0x001 | 0x004, {"sw-power-cap"}),
        (0x008 | 0x040, {"hw-slowdown", "hw-thermal-slowdown"}),
        (0x020 | 0x080, {"sw-thermal-slowdown", "hw-power-brake-slowdown"}),
        (0x100 | 0x200 | 0x400, {"display-clock-setting", "board-limit", "reliability"}),
    ],
)
async def test_only_what_holds_the_clocks_back_is_a_reason(
    fake: FakeNvml, gpus: NvmlGpus, bits: int, names: set[str]
) -> None:
    fake.play(*gpu("GPU-a", reasons=bits))
    assert (await only(gpus)).throttled_by == frozenset(names)


@pytest.mark.parametrize(
    ("missing", "fields"),
    [
        ("used", ("used_bytes", "total_bytes")),
        ("busy", ("busy_ratio", "memory_busy_ratio")),
        ("temperature", ("temperature_c",)),
        ("power", ("power_w",)),
        ("sm_clock", ("sm_clock_hz",)),
        ("memory_clock", ("memory_clock_hz",)),
        ("reasons", ("throttled_by",)),
        ("corrected", ("ecc_corrected",)),
        ("uncorrected", ("ecc_uncorrected",)),
        ("major", ("compute_capability",)),
        ("mig", ()),
    ],
)
async def test_what_a_gpu_does_not_support_is_none_and_costs_nothing_else(
    fake: FakeNvml, gpus: NvmlGpus, missing: str, fields: tuple[str, ...]
) -> None:
    fake.play(*gpu("GPU-a"))
    whole = await only(gpus)
    fake.play(*gpu("GPU-a", without=missing))
    nothing: dict[str, Any] = dict.fromkeys(fields)
    assert await only(gpus) == replace(whole, **nothing)


async def test_a_field_that_fails_is_none_and_said(fake: FakeNvml, gpus: NvmlGpus) -> None:
    fake.play(*gpu("GPU-a"), "fail nvmlDeviceGetPowerUsage 999", "fail nvmlDeviceGetTemperature 4")
    one = await only(gpus)
    assert (one.state, one.power_w, one.temperature_c, one.busy_ratio) == (GpuState.UP, None, None, 0.37)
    assert one.detail == "temperature: Insufficient Permissions; power: Unknown Error"


async def test_an_unknown_version_costs_nothing_else(fake: FakeNvml, gpus: NvmlGpus) -> None:
    fake.play(*gpu("GPU-a"), "fail nvmlSystemGetCudaDriverVersion_v2 13", "fail nvmlSystemGetDriverVersion 999")
    reading = await look(gpus)
    assert (reading.state, reading.driver, reading.cuda) == (SourceState.UP, "", None)
    assert states(reading) == {"GPU-a": GpuState.UP}


@pytest.mark.parametrize(("code", "state"), [(999, GpuState.FAILING), (4, GpuState.DENIED)])
async def test_a_gpu_whose_memory_is_not_told_is_not_up(
    fake: FakeNvml, gpus: NvmlGpus, code: int, state: GpuState
) -> None:
    fake.play(*gpu("GPU-a"), *gpu("GPU-b"), f"fail nvmlDeviceGetMemoryInfo {code} GPU-a")
    reading = await look(gpus)
    assert states(reading) == {"GPU-a": state, "GPU-b": GpuState.UP}
    assert reading.gpus[0].detail.startswith("memory: ")
    await look(gpus)
    assert fake.calls().count("init") == (2 if state is GpuState.FAILING else 1)  # which may be a loss untold


async def test_an_old_driver_is_asked_by_its_old_functions(fake: FakeNvml, gpus: NvmlGpus) -> None:
    newer = (
        "nvmlDeviceGetCurrentClocksEventReasons",
        "nvmlDeviceGetComputeRunningProcesses_v3",
        "nvmlDeviceGetGraphicsRunningProcesses_v3",
        "nvmlEventSetWait_v2",
    )
    processes = ("process GPU-a 4000001 1000 0 0 compute", "process GPU-a 4000002 2000 0 0 graphics")
    fake.play(*gpu("GPU-a", reasons=4), *processes, *(f"fail {name} 13" for name in newer))
    one = await only(gpus)
    assert (one.state, one.detail) == (GpuState.UP, "")
    assert one.throttled_by == frozenset({"sw-power-cap"})
    assert [each.used_bytes for each in one.processes or ()] == [1000, 2000]


async def test_a_function_that_a_driver_never_had_is_not_missed(fake: FakeNvml, gpus: NvmlGpus) -> None:
    names = ("nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetCurrentClocksThrottleReasons")
    fake.play(*gpu("GPU-a"), *(f"fail {name} 13" for name in names))
    one = await only(gpus)
    assert (one.state, one.detail, one.throttled_by) == (GpuState.UP, "", None)


async def test_a_slice_whose_memory_is_not_told_is_left_out(fake: FakeNvml, gpus: NvmlGpus) -> None:
    fake.play(*gpu("GPU-a", mig=1), *MIG, "fail nvmlDeviceGetMemoryInfo 999 MIG-3")
    one = await only(gpus)
    assert one.mig == (INSTANCES[0], INSTANCES[2])
    assert one.detail == "MIG instance 3's memory: Unknown Error"


async def test_processes_each_once_with_names_where_they_can_be_seen(fake: FakeNvml, gpus: NvmlGpus) -> None:
    here = os.getpid()
    fake.play(
        *gpu("GPU-a"),
        f"process GPU-a {here} 1000 4294967295 4294967295 compute",
        f"process GPU-a {here} 1500 4294967295 4294967295 graphics",
        "process GPU-a 4000001 - 4294967295 4294967295 compute",
    )
    assert (await only(gpus)).processes == (
        ProcessMemory(pid=here, name=Path(sys.executable).name, used_bytes=1500),
        ProcessMemory(pid=4_000_001, name="", used_bytes=None),
    )


@pytest.mark.parametrize("code", [3, 4])
async def test_processes_that_are_not_told_are_not_none_at_all(fake: FakeNvml, gpus: NvmlGpus, code: int) -> None:
    kinds = ("Compute", "Graphics")
    fake.play(*gpu("GPU-a"), *(f"fail nvmlDeviceGet{kind}RunningProcesses_v3 {code}" for kind in kinds))
    one = await only(gpus)
    assert (one.state, one.processes) == (GpuState.UP, None)
    assert ("compute processes" in one.detail) is (code == 4)


MIG = (
    "mig GPU-a MIG-1 1 0 40000 1000",
    "mig GPU-a MIG-3 3 0 20000 2000",
    "mig GPU-a MIG-4 3 1 20000 2000",
)
INSTANCES = (
    MigInstance(uuid="MIG-1", total_bytes=40_000, used_bytes=1000),
    MigInstance(uuid="MIG-3", total_bytes=20_000, used_bytes=2000),
    MigInstance(uuid="MIG-4", total_bytes=20_000, used_bytes=2000),
)


async def test_mig_slices_and_their_processes(fake: FakeNvml, gpus: NvmlGpus) -> None:
    fake.play(
        *gpu("GPU-a", without="busy memory_busy", mig=1),
        *MIG,
        "process MIG-1 4000001 100 1 0 compute",
        "process MIG-3 4000002 200 3 0 compute",
        "process MIG-3 4000003 300 3 1 compute",  # told of the GPU instance as a whole, and so twice
        "process MIG-4 4000003 300 3 1 compute",
    )
    one = await only(gpus)
    assert (one.state, one.detail, one.mig, one.busy_ratio) == (GpuState.UP, "", INSTANCES, None)
    assert [(each.pid, each.used_bytes, each.mig) for each in one.processes or ()] == [
        (4_000_001, 100, "MIG-1"),
        (4_000_002, 200, "MIG-3"),
        (4_000_003, 300, "MIG-4"),
    ]


async def test_in_a_container_with_a_slice_the_slice_is_enough(fake: FakeNvml, gpus: NvmlGpus) -> None:
    fake.play(
        *gpu("GPU-a", without="busy memory_busy", mig=1),
        MIG[1],
        "process MIG-3 4000002 200 4294967295 4294967295 compute",
        "fail nvmlDeviceGetMemoryInfo 4 GPU-a",
        "fail nvmlDeviceGetComputeRunningProcesses_v3 4 GPU-a",
        "fail nvmlDeviceRegisterEvents 4",
    )
    one = await only(gpus)
    assert (one.state, one.total_bytes, one.mig) == (GpuState.UP, None, INSTANCES[1:2])
    assert one.detail == "memory: Insufficient Permissions"
    assert [(each.pid, each.mig) for each in one.processes or ()] == [(4_000_002, "MIG-3")]


async def test_mig_may_be_on_without_a_slice(fake: FakeNvml, gpus: NvmlGpus) -> None:
    fake.play(*gpu("GPU-a", mig=1))
    assert (await only(gpus)).mig == ()


@pytest.mark.parametrize("alias", [(), ("alias",)])
async def test_an_xid_is_told_once(fake: FakeNvml, gpus: NvmlGpus, alias: tuple[str, ...]) -> None:
    before, after = "xid GPU-a 13", ("xid GPU-a 31", "xid GPU-b 79", "xid GPU-a 43")
    fake.play(*gpu("GPU-a"), *gpu("GPU-b"), before)
    assert [each.xids for each in (await look(gpus)).gpus] == [(), ()]
    fake.play(*gpu("GPU-a"), *gpu("GPU-b"), before, *after, *alias)
    assert [each.xids for each in (await look(gpus)).gpus] == [(31, 43), (79,)]
    assert [each.xids for each in (await look(gpus)).gpus] == [(), ()]


async def test_an_xid_of_the_very_gpu_that_it_takes_away(fake: FakeNvml, gpus: NvmlGpus) -> None:
    fake.play(*gpu("GPU-a"), *gpu("GPU-b"))
    await look(gpus)
    fake.play(*gpu("GPU-b"), "xid GPU-a 79")
    lost, _ = (await look(gpus)).gpus
    assert (lost.uuid, lost.state, lost.xids) == ("GPU-a", GpuState.LOST, (79,))


async def test_an_xid_is_not_forgotten_with_an_answer_that_came_too_late(fake: FakeNvml, gpus: NvmlGpus) -> None:
    fake.play(*gpu("GPU-a"))
    await look(gpus)
    fake.play(*gpu("GPU-a"), "xid GPU-a 31", "hang nvmlDeviceGetMemoryInfo")
    assert (await gpus.read(0.05)).state is SourceState.FAILING
    fake.play(*gpu("GPU-a"), "xid GPU-a 31")
    assert (await only(gpus)).xids == (31,)


async def test_without_events_all_else_is_told(fake: FakeNvml, gpus: NvmlGpus) -> None:
    fake.play(*gpu("GPU-a"), "fail nvmlEventSetCreate 3", "xid GPU-a 31")
    await look(gpus)
    one = await only(gpus)
    assert (one.state, one.used_bytes, one.xids) == (GpuState.UP, 20 * GIB, ())


async def test_a_lost_gpu_stays_in_its_place_and_is_found_again(fake: FakeNvml, gpus: NvmlGpus) -> None:
    fake.play(*gpu("GPU-a"), *gpu("GPU-b"))
    await look(gpus)
    fake.play(*gpu("GPU-b"))
    for _ in range(3):
        reading = await look(gpus)
        assert reading.state is SourceState.UP
        assert states(reading) == {"GPU-a": GpuState.LOST, "GPU-b": GpuState.UP}
        assert list(states(reading)) == ["GPU-a", "GPU-b"]
        assert reading.gpus[0].name == "Fake GPU-a"
        assert reading.gpus[0].detail
    fake.play(*gpu("GPU-b"), *gpu("GPU-a"))  # after a reset it may come back as another number
    reading = await look(gpus)
    assert states(reading) == {"GPU-a": GpuState.UP, "GPU-b": GpuState.UP}
    assert reading.gpus[0].used_bytes == 20 * GIB


async def test_nvml_begins_anew_only_while_a_gpu_is_lost(fake: FakeNvml, gpus: NvmlGpus) -> None:
    fake.play(*gpu("GPU-a"), *gpu("GPU-b"))
    for _ in range(3):
        await look(gpus)
    assert fake.calls() == ["init"]
    fake.play(*gpu("GPU-a"))
    await look(gpus)
    await look(gpus)
    assert fake.calls() == ["init", "shutdown", "init"]
    fake.play(*gpu("GPU-a"), *gpu("GPU-b"))
    for _ in range(3):
        await look(gpus)
    assert fake.calls() == ["init", "shutdown", "init", "shutdown", "init"]


@pytest.mark.parametrize(
    ("function", "code", "said"),
    [
        ("nvmlDeviceGetMemoryInfo", 15, "off the bus"),
        ("nvmlDeviceGetClockInfo", 16, "reset"),
        ("nvmlDeviceGetUUID", 28, "find it"),
        ("nvmlDeviceGetHandleByIndex_v2", 15, "off the bus"),
    ],
)
async def test_a_gpu_can_be_lost_at_any_question(
    fake: FakeNvml, gpus: NvmlGpus, function: str, code: int, said: str
) -> None:
    fake.play(*gpu("GPU-a"), *gpu("GPU-b"))
    await look(gpus)
    fake.play(*gpu("GPU-a"), *gpu("GPU-b"), f"fail {function} {code} GPU-a")
    reading = await look(gpus)
    assert states(reading) == {"GPU-a": GpuState.LOST, "GPU-b": GpuState.UP}
    assert said in reading.gpus[0].detail
    fake.play(*gpu("GPU-a"), *gpu("GPU-b"))
    assert states(await look(gpus)) == {"GPU-a": GpuState.UP, "GPU-b": GpuState.UP}
    assert fake.calls() == ["init", "shutdown", "init"]


async def test_all_gpus_gone_are_all_lost(fake: FakeNvml, gpus: NvmlGpus) -> None:
    fake.play(*gpu("GPU-a"))
    await look(gpus)
    fake.play()
    assert states(await look(gpus)) == {"GPU-a": GpuState.LOST}
    fake.play("fail nvmlInitWithFlags 9")
    reading = await look(gpus)
    assert (reading.state, states(reading)) == (SourceState.ABSENT, {"GPU-a": GpuState.LOST})
    fake.play(*gpu("GPU-a"))
    assert (await only(gpus)).state is GpuState.UP


GPU_A = gpu("GPU-a")
CONDITIONS = {
    "no driver": (("fail nvmlInitWithFlags 9",), SourceState.ABSENT, "NVIDIA runtime"),
    "no device": ((), SourceState.ABSENT, "NVIDIA runtime"),
    "no permission": (("fail nvmlInitWithFlags 4",), SourceState.DENIED, "/dev/nvidia"),
    "blocked by the system": (("fail nvmlInitWithFlags 17",), SourceState.DENIED, "/dev/nvidia"),
    "no permission for any": ((*GPU_A, "fail nvmlDeviceGetHandleByIndex_v2 4"), SourceState.DENIED, "/dev/nvidia"),
    "driver upgraded": (("fail nvmlInitWithFlags 18",), SourceState.FAILING, "restart the watchdog"),
    **{
        f"driver upgraded, found by {name}": ((*GPU_A, f"fail {name} 18"), SourceState.FAILING, "restart the watchdog")
        for name in ("nvmlSystemGetDriverVersion", "nvmlDeviceGetHandleByIndex_v2", "nvmlDeviceGetName")
    },
    "broken driver": (("fail nvmlInitWithFlags 999",), SourceState.FAILING, "Unknown Error"),
    "an error that pynvml has no words for": (("fail nvmlInitWithFlags 77",), SourceState.FAILING, "code 77"),
    "broken GPU": ((*GPU_A, "fail nvmlDeviceGetHandleByIndex_v2 999"), SourceState.FAILING, "GPU 0: Unknown Error"),
}


@pytest.mark.parametrize(("played", "state", "said"), CONDITIONS.values(), ids=CONDITIONS)
async def test_a_source_that_can_not_be_asked_says_why_and_recovers(
    fake: FakeNvml, gpus: NvmlGpus, played: tuple[str, ...], state: SourceState, said: str
) -> None:
    fake.play(*played)
    for _ in range(2):
        reading = await look(gpus)
        assert (reading.source, reading.state, reading.gpus) == ("nvml", state, ())
        assert said in reading.detail
    fake.play(*GPU_A)
    assert (await only(gpus)).state is GpuState.UP


async def test_the_gpus_of_others_are_left_out(fake: FakeNvml, gpus: NvmlGpus) -> None:
    fake.play(*gpu("GPU-a"), *gpu("GPU-b"), "fail nvmlDeviceGetHandleByIndex_v2 4 GPU-a")
    reading = await look(gpus)
    assert (reading.state, reading.detail, states(reading)) == (SourceState.UP, "", {"GPU-b": GpuState.UP})


async def test_a_gpu_that_was_lost_before_the_first_reading_is_said(fake: FakeNvml, gpus: NvmlGpus) -> None:
    fake.play(*gpu("GPU-a"), *gpu("GPU-b"), "fail nvmlDeviceGetHandleByIndex_v2 15 GPU-a")
    reading = await look(gpus)
    assert states(reading) == {"GPU-b": GpuState.UP}
    assert "GPU 0: it has fallen off the bus" in reading.detail


def own_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "nvml"]


@pytest.mark.parametrize("function", ["nvmlInitWithFlags", "nvmlDeviceGetCount_v2", "nvmlDeviceGetMemoryInfo"])
async def test_a_call_that_hangs_fails_each_reading_in_one_thread(
    fake: FakeNvml, gpus: NvmlGpus, function: str
) -> None:
    fake.play(*gpu("GPU-a"), f"hang {function}")
    for _ in range(4):
        reading = await gpus.read(0.05)
        assert (reading.state, reading.gpus) == (SourceState.FAILING, ())
        assert "no answer within 0.05 s" in reading.detail
        assert len(own_threads()) == 1
    fake.play(*gpu("GPU-a"))
    assert (await only(gpus)).used_bytes == 20 * GIB
    assert fake.calls() == ["init"]


async def test_readings_at_once_take_turns(fake: FakeNvml, gpus: NvmlGpus) -> None:
    fake.play(*gpu("GPU-a"))
    readings = await asyncio.gather(*(look(gpus) for _ in range(8)))
    assert {reading.state for reading in readings} == {SourceState.UP}
    assert fake.calls() == ["init"]


async def test_a_reading_that_is_cancelled_disturbs_no_other(fake: FakeNvml, gpus: NvmlGpus) -> None:
    fake.play(*gpu("GPU-a"), "hang nvmlDeviceGetCount_v2")
    reading = asyncio.create_task(look(gpus))
    await asyncio.sleep(0)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    fake.play(*gpu("GPU-a"))
    assert (await only(gpus)).state is GpuState.UP


async def test_closing_shuts_nvml_down_and_may_be_repeated(fake: FakeNvml) -> None:
    gpus = NvmlGpus()
    await gpus.close()
    assert fake.calls() == []
    fake.play(*gpu("GPU-a"))
    await look(gpus)
    await gpus.close()
    await gpus.close()
    assert fake.calls() == ["init", "shutdown"]


async def test_closing_does_not_wait_for_a_call_that_hangs(fake: FakeNvml) -> None:
    gpus = NvmlGpus()
    fake.play(*gpu("GPU-a"), "hang nvmlDeviceGetCount_v2")
    await gpus.read(0.05)
    with pytest.raises(StopIteration):
        gpus.close().send(None)  # it ends without ever giving way


def test_the_dynamic_linker_finds_the_library(library: Path, fake: FakeNvml) -> None:
    fake.play(*gpu("GPU-a"))
    assert in_a_process(library.parent, fake.state, ENOUGH) == ("up", "", ["GPU-a"])


def test_a_process_ends_although_a_call_hangs(library: Path, fake: FakeNvml) -> None:
    fake.play(*gpu("GPU-a"), "hang nvmlDeviceGetName")
    state, _, _ = in_a_process(library.parent, fake.state, 0.5)
    assert state == "failing"


@pytest.mark.skipif(Path("/proc/driver/nvidia").exists(), reason="this machine has an NVIDIA driver")
async def test_without_the_library_there_is_nothing_to_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pynvml, "nvmlLib", None)
    monkeypatch.setattr(pynvml, "_nvmlGetFunctionPointer_cache", {})
    gpus = NvmlGpus()
    reading = await look(gpus)
    assert (reading.state, reading.gpus) == (SourceState.ABSENT, ())
    assert "libnvidia-ml.so.1" in reading.detail
    assert "NVIDIA runtime" in reading.detail
    await gpus.close()
