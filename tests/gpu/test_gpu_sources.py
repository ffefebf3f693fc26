"""Triton's metrics as a source of GPUs, when it is asked instead of the driver, and the settings of both."""

from collections.abc import AsyncIterator

import pytest
from pydantic import ValidationError

from tests.endpoints.hostile import response, says, tcp_server
from tests.gpu.fake_nvml import FakeNvml, gpu
from watchdog.gpu import GpuSettings, open_gpus
from watchdog.gpu.triton_metrics import TritonMetrics
from watchdog.model.gpu import Gpu, GpuReading, GpuState, SourceState
from watchdog.transport import Server

ENOUGH = 60.0
PAGE = b"""# HELP nv_gpu_utilization GPU utilization rate [0.0 - 1.0)
# TYPE nv_gpu_utilization gauge
nv_gpu_utilization{gpu_uuid="GPU-b"} 0.5
nv_gpu_utilization{gpu_uuid="GPU-a"} NaN
nv_gpu_memory_total_bytes{gpu_uuid="GPU-b"} 85520809984.000000
nv_gpu_memory_total_bytes{gpu_uuid="GPU-a"} 8.5520809984e10
nv_gpu_memory_total_bytes 1
nv_gpu_memory_used_bytes{gpu_uuid="GPU-b"} 1073741824
nv_gpu_power_usage{gpu_uuid="GPU-b"} 71.25
nv_gpu_power_usage{gpu_uuid="GPU-a"} 70
nv_gpu_power_limit{gpu_uuid="GPU-c"} 700
"""
TOLD = (
    Gpu(uuid="GPU-b", total_bytes=85_520_809_984, used_bytes=2**30, busy_ratio=0.5, power_w=71.25),
    Gpu(uuid="GPU-a", total_bytes=85_520_809_984, power_w=70.0),
)


@pytest.fixture
async def triton() -> AsyncIterator[str]:
    async with tcp_server(says(response(PAGE))) as address:
        yield address


async def test_what_tritons_metrics_tell(triton: str) -> None:
    source = TritonMetrics(Server(url=triton))
    assert await source.read(ENOUGH) == GpuReading(source="triton", state=SourceState.UP, gpus=TOLD)
    await source.close()


async def test_a_triton_without_gpus_or_none_at_all(unused_tcp_port: int) -> None:
    async with tcp_server(says(response(b"nv_cpu_utilization 0.5\n"))) as address:
        reading = await TritonMetrics(Server(url=address)).read(ENOUGH)
    assert (reading.state, reading.gpus) == (SourceState.ABSENT, ())
    assert "--allow-gpu-metrics" in reading.detail
    reading = await TritonMetrics(Server(url=f"127.0.0.1:{unused_tcp_port}")).read(ENOUGH)
    assert (reading.state, reading.gpus) == (SourceState.FAILING, ())
    assert "can't connect" in reading.detail


def settings(**more: object) -> GpuSettings:
    return GpuSettings.model_validate(more)


@pytest.mark.parametrize("code", [4, 9])
async def test_the_fallback_is_asked_where_the_driver_can_not_be(fake: FakeNvml, triton: str, code: int) -> None:
    fake.play(f"fail nvmlInitWithFlags {code}")
    source = open_gpus(settings(fallback={"url": triton}))
    reading = await source.read(ENOUGH)
    assert (reading.source, reading.state, reading.gpus) == ("triton", SourceState.UP, TOLD)
    fake.play(*gpu("GPU-c"))
    reading = await source.read(ENOUGH)
    assert (reading.source, [each.uuid for each in reading.gpus]) == ("nvml", ["GPU-c"])
    await source.close()
    assert fake.calls() == ["init", "shutdown"]


async def test_a_driver_that_fails_or_lost_its_gpus_is_not_replaced(fake: FakeNvml, triton: str) -> None:
    source = open_gpus(settings(fallback={"url": triton}))
    fake.play("fail nvmlInitWithFlags 999")
    assert (await source.read(ENOUGH)).source == "nvml"
    fake.play(*gpu("GPU-c"))
    await source.read(ENOUGH)
    fake.play("fail nvmlDeviceGetCount_v2 9")
    reading = await source.read(ENOUGH)
    assert (reading.source, reading.state) == ("nvml", SourceState.ABSENT)
    assert [each.state for each in reading.gpus] == [GpuState.LOST]
    await source.close()


async def test_where_both_fail_both_are_said(fake: FakeNvml, unused_tcp_port: int) -> None:
    fake.play("fail nvmlInitWithFlags 9")
    source = open_gpus(settings(fallback={"url": f"127.0.0.1:{unused_tcp_port}"}))
    reading = await source.read(ENOUGH)
    assert (reading.source, reading.state) == ("triton", SourceState.FAILING)
    assert "driver is not loaded" in reading.detail
    assert "can't connect" in reading.detail
    await source.close()


async def test_without_a_fallback_the_driver_alone_is_asked(fake: FakeNvml) -> None:
    fake.play("fail nvmlInitWithFlags 9")
    source = open_gpus(settings())
    reading = await source.read(ENOUGH)
    assert (reading.source, reading.state) == ("nvml", SourceState.ABSENT)
    await source.close()


def test_settings_are_checked_and_a_leak_detector_follows_from_them() -> None:
    chosen = settings(every="1s", leak={"over": "60s"}, fallback={"url": "triton.example:8002"})
    assert (chosen.every, chosen.deadline, chosen.leak.over) == (1.0, 5.0, 60.0)
    assert chosen.processes == ("tritonserver", "triton_python_backend_stub")
    detector = chosen.leak.detector()
    assert detector is not chosen.leak.detector()
    assert detector.growth(None) is None


@pytest.mark.parametrize(
    "wrong", [{"every": 10}, {"fallback": {"url": "here"}}, {"leak": {"confidence": 1}}, {"headroom": 1}, {"often": 1}]
)
def test_wrong_settings_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        settings(**wrong)
