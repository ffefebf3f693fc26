"""GPUs, readings of them and trends, and a source that tells what a test says."""

from typing import Any

from watchdog.model.gpu import Gpu, GpuReading, GpuState, Growth, Leak, ProcessMemory, SourceState

GIB = 2**30
GPU = "GPU-1"
TRITON = "tritonserver"


def a_process(used_bytes: int | None = GIB, *, pid: int = 42, name: str = TRITON, mig: str = "") -> ProcessMemory:
    return ProcessMemory(pid=pid, name=name, used_bytes=used_bytes, mig=mig)


def a_gpu(uuid: str = GPU, **more: Any) -> Gpu:
    """A healthy one, with a quarter of its memory in use."""
    given: dict[str, Any] = {
        "name": "NVIDIA A100",
        "total_bytes": 40 * GIB,
        "used_bytes": 10 * GIB,
        "busy_ratio": 0.25,
        "memory_busy_ratio": 0.125,
        "temperature_c": 50.0,
        "power_w": 250.0,
        "sm_clock_hz": 1.4e9,
        "memory_clock_hz": 1.2e9,
        "throttled_by": frozenset(),
        "ecc_corrected": 3,
        "ecc_uncorrected": 0,
        "processes": (a_process(),),
        "compute_capability": (8, 0),
    }
    return Gpu(uuid=uuid, **(given | more))


def a_lost_gpu(uuid: str = GPU) -> Gpu:
    """As it is told of when it has fallen off the bus: of all that is known, the name is left."""
    return Gpu(uuid=uuid, name="NVIDIA A100", state=GpuState.LOST, detail="the driver doesn't list it any more")


def a_reading(*gpus: Gpu, **more: Any) -> GpuReading:
    given: dict[str, Any] = {"source": "nvml", "state": SourceState.UP, "driver": "550.54", "cuda": (12, 4)}
    return GpuReading(**(given | {"gpus": gpus} | more))


UNSEEN = a_reading(state=SourceState.FAILING, detail="the driver gave no answer within 5 s", driver="", cuda=None)
ABSENT = a_reading(state=SourceState.ABSENT, detail="there is no driver here", driver="", cuda=None)


def a_leak(gib_per_hour: float = 1.0, *, leaking: bool = True, pid: int = 42, **more: Any) -> Leak:
    growth: dict[str, Any] = {
        "bytes_per_hour": gib_per_hour * GIB,
        "low": 0.9 * gib_per_hour * GIB,
        "high": 1.1 * gib_per_hour * GIB,
        "over_s": 1800.0,
        "samples": 180,
        "rises": 9,
        "leaking": leaking,
        "exhausted_in_s": 3600 * 30 / gib_per_hour if leaking else None,
    }
    of = {"gpu": GPU, "holder": TRITON, "pids": (pid,) * (pid > 0)}
    of |= {key: more.pop(key) for key in list(more) if key in of}
    return Leak(growth=Growth(**(growth | more)), **of)  # type: ignore[arg-type]


class FakeGpus:
    """A source whose GPUs are as the test says."""

    def __init__(self, *gpus: Gpu) -> None:
        self.says: GpuReading | Exception = a_reading(*gpus)

    async def read(self, timeout_s: float) -> GpuReading:
        if isinstance(self.says, Exception):
            raise self.says
        return self.says

    async def close(self) -> None: ...
