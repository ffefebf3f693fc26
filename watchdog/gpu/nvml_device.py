"""One GPU, as NVML tells of it.

NVML is ``pynvml`` of the package nvidia-ml-py, handed in as `nvml`: its import takes time. All calls block.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from watchdog.gpu.nvml_errors import DENIED, LOST, NOT_OFFERED, NOT_TOLD, UNUSABLE
from watchdog.gpu.processes import merged
from watchdog.model.gpu import Gpu, GpuState, MigInstance, ProcessMemory

T = TypeVar("T")

_THROTTLES = {
    0x004: "sw-power-cap",
    0x008: "hw-slowdown",
    0x020: "sw-thermal-slowdown",
    0x040: "hw-thermal-slowdown",
    0x080: "hw-power-brake-slowdown",
    0x100: "display-clock-setting",
    0x200: "board-limit",
    0x400: "reliability",
}
"""``nvmlClocksEventReason*`` of nvml.h, without those by which nothing is held back: the GPU is idle (1), its
application clocks are set (2), boost is synchronised (0x10)."""


@dataclass(frozen=True, slots=True)
class _Slice:
    """A MIG instance and how NVML refers to it."""

    handle: Any
    ids: tuple[int | None, int | None]
    """Of its GPU instance and its compute instance, by which processes are told apart."""
    instance: MigInstance


class Device:
    """Asks for everything that is to be known of one GPU. A refusal costs one field, and is noted."""

    def __init__(self, nvml: Any, handle: Any, uuid: str) -> None:
        self._nvml = nvml
        self._handle = handle
        self._uuid = uuid
        self._refusals: dict[str, Any] = {}

    def read(self) -> Gpu:
        """The GPU now.

        Raises:
            NVMLError: it is lost, or NVML can't be used at all; nothing else.
        """
        nvml = self._nvml
        # Not the newer function, whose "used" leaves out what the driver keeps for itself: nobody can have that either.
        memory = self._ask("memory", nvml.nvmlDeviceGetMemoryInfo)
        slices = list(self._slices())
        busy = self._ask("utilisation", nvml.nvmlDeviceGetUtilizationRates)
        return Gpu(
            uuid=self._uuid,
            name=self._ask("name", nvml.nvmlDeviceGetName) or "",
            total_bytes=memory and memory.total,
            used_bytes=memory and memory.used,
            busy_ratio=busy and busy.gpu / 100,
            memory_busy_ratio=busy and busy.memory / 100,
            temperature_c=self._number("temperature", nvml.nvmlDeviceGetTemperature, nvml.NVML_TEMPERATURE_GPU),
            power_w=self._number("power", nvml.nvmlDeviceGetPowerUsage, scale=1e-3),
            sm_clock_hz=self._number("SM clock", nvml.nvmlDeviceGetClockInfo, nvml.NVML_CLOCK_SM, scale=1e6),
            memory_clock_hz=self._number("memory clock", nvml.nvmlDeviceGetClockInfo, nvml.NVML_CLOCK_MEM, scale=1e6),
            throttled_by=self._throttled_by(),
            ecc_corrected=self._ecc("corrected", nvml.NVML_MEMORY_ERROR_TYPE_CORRECTED),
            ecc_uncorrected=self._ecc("uncorrected", nvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED),
            mig=tuple(each.instance for each in slices),
            processes=self._processes(slices),
            compute_capability=self._ask("compute capability", nvml.nvmlDeviceGetCudaComputeCapability),
            state=self._state(slices),
            detail="; ".join(f"{what}: {error}" for what, error in self._refusals.items()),
        )

    def _ask(self, what: str, *calls: Callable[[Any], T], of: Any = None) -> T | None:
        """The answer of the first call that the driver offers; None where it, or the GPU, doesn't tell."""
        for call in calls:
            try:
                return call(self._handle if of is None else of)
            except self._nvml.NVMLError as error:
                if error.value in LOST or error.value in UNUSABLE:
                    raise
                if error.value in NOT_OFFERED:
                    continue
                if error.value not in NOT_TOLD:
                    self._refusals[what] = error
                return None
        return None

    def _number(self, what: str, call: Callable[..., int], *arguments: int, scale: float = 1.0) -> float | None:
        value = self._ask(what, lambda handle: call(handle, *arguments))
        return None if value is None else value * scale

    def _throttled_by(self) -> frozenset[str] | None:
        nvml = self._nvml
        reasons = self._ask(
            "throttling", nvml.nvmlDeviceGetCurrentClocksEventReasons, nvml.nvmlDeviceGetCurrentClocksThrottleReasons
        )
        return None if reasons is None else frozenset(name for bit, name in _THROTTLES.items() if reasons & bit)

    def _ecc(self, what: str, kind: int) -> int | None:
        count, since = self._nvml.nvmlDeviceGetTotalEccErrors, self._nvml.NVML_VOLATILE_ECC
        return self._ask(f"{what} ECC errors", lambda handle: count(handle, kind, since))

    def _slices(self) -> Iterator[_Slice]:
        """The MIG instances; in a container only those that are its own."""
        nvml = self._nvml
        mode = self._ask("MIG mode", nvml.nvmlDeviceGetMigMode)
        if mode is None or mode[0] != nvml.NVML_DEVICE_MIG_ENABLE:
            return
        for at in range(self._ask("MIG instances", nvml.nvmlDeviceGetMaxMigDeviceCount) or 0):
            what = f"MIG instance {at}"
            handle = self._ask(what, partial(nvml.nvmlDeviceGetMigDeviceHandleByIndex, index=at))
            if handle is None:  # a free place, or another's
                continue
            uuid = self._ask(f"{what}'s UUID", nvml.nvmlDeviceGetUUID, of=handle)
            memory = self._ask(f"{what}'s memory", nvml.nvmlDeviceGetMemoryInfo, of=handle)
            if uuid and memory:
                ids = (
                    self._ask(f"{what}'s GPU instance", nvml.nvmlDeviceGetGpuInstanceId, of=handle),
                    self._ask(f"{what}'s compute instance", nvml.nvmlDeviceGetComputeInstanceId, of=handle),
                )
                yield _Slice(handle, ids, MigInstance(uuid=uuid, total_bytes=memory.total, used_bytes=memory.used))

    def _processes(self, slices: list[_Slice]) -> tuple[ProcessMemory, ...] | None:
        nvml = self._nvml
        compute = nvml.nvmlDeviceGetComputeRunningProcesses_v3, nvml.nvmlDeviceGetComputeRunningProcesses_v2
        graphics = nvml.nvmlDeviceGetGraphicsRunningProcesses_v3, nvml.nvmlDeviceGetGraphicsRunningProcesses_v2
        # Asking the whole GPU for what runs in its slices takes a privilege; asking a slice takes none.
        asked = [(each.handle, each.instance.uuid) for each in slices] or [(self._handle, "")]
        answers = [
            (mig, self._ask(what, *calls, of=handle))
            for handle, mig in asked
            for what, calls in (("compute processes", compute), ("graphics processes", graphics))
        ]
        if all(found is None for _, found in answers):
            return None
        by_ids = {each.ids: each.instance.uuid for each in slices}
        return merged(
            (each.pid, by_ids.get((each.gpuInstanceId, each.computeInstanceId), mig), each.usedGpuMemory)
            for mig, found in answers
            for each in found or ()
        )

    def _state(self, slices: list[_Slice]) -> GpuState:
        """By its memory, which every GPU tells; in a container with a slice of one, the slice's will do."""
        error = self._refusals.get("memory")
        if error is None or slices:
            return GpuState.UP
        return GpuState.DENIED if error.value in DENIED else GpuState.FAILING
