"""NVML between its initialisation and its shutdown. All calls block."""

import ctypes
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from watchdog.gpu.nvml_device import Device
from watchdog.gpu.nvml_errors import DENIED, LOST, UNUSABLE
from watchdog.model.gpu import Gpu, GpuState

T = TypeVar("T")

_MOST_EVENTS = 1000
_GONE = frozenset({GpuState.LOST, GpuState.FAILING})


@dataclass(frozen=True, kw_only=True, slots=True)
class Sight:
    """What there is to see of the GPUs."""

    gpus: tuple[Gpu, ...]
    denied: int
    """So many more may not be asked even who they are."""
    silent: tuple[str, ...]
    """And these can't be; why."""

    @property
    def complete(self) -> bool:
        """Whether none is missing, so that NVML need not be initialised anew to find it."""
        return bool(self.gpus) and not self.silent and all(gpu.state not in _GONE for gpu in self.gpus)


class Session:
    """One initialisation of NVML (``pynvml``, handed in as `nvml`). A GPU that is lost during it never returns to it.

    Raises:
        NVMLError: NVML can't be used; so for every method but `close` and `xids`.
    """

    def __init__(self, nvml: Any) -> None:
        self._nvml = nvml
        nvml.nvmlInit()
        self._events: Any = None
        self._watched: dict[int | None, str] = {}
        with suppress(nvml.NVMLError):
            self._events = nvml.nvmlEventSetCreate()

    def versions(self) -> tuple[str, tuple[int, int] | None]:
        """The driver's version, and the newest CUDA version that it supports."""
        cuda = self._told(self._nvml.nvmlSystemGetCudaDriverVersion_v2)
        return self._told(self._nvml.nvmlSystemGetDriverVersion) or "", cuda and (cuda // 1000, cuda % 1000 // 10)

    def look(self) -> Sight:
        """The GPUs now, in the driver's order."""
        gpus, denied, silent = [], 0, []
        for at in range(self._nvml.nvmlDeviceGetCount()):
            try:
                handle = self._nvml.nvmlDeviceGetHandleByIndex(at)
                uuid = self._nvml.nvmlDeviceGetUUID(handle)
            except self._nvml.NVMLError as error:
                if error.value in UNUSABLE:
                    raise
                if error.value in DENIED:
                    denied += 1
                else:
                    silent.append(f"GPU {at}: {LOST.get(error.value, error)}")
                continue
            self._watch(handle, uuid)
            gpus.append(self._read(handle, uuid))
        return Sight(gpus=tuple(gpus), denied=denied, silent=tuple(silent))

    def xids(self) -> Iterator[tuple[str, int]]:
        """UUID and number of each critical error that was reported since the last call."""
        for _ in range(_MOST_EVENTS if self._watched else 0):
            try:
                event = self._nvml.nvmlEventSetWait_v2(self._events, 0)
                uuid = self._watched.get(_address(event.device)) or self._nvml.nvmlDeviceGetUUID(event.device)
            except self._nvml.NVMLError:  # a timeout: there is no more
                return
            yield uuid, event.eventData

    def close(self) -> None:
        with suppress(self._nvml.NVMLError):
            if self._events is not None:
                self._nvml.nvmlEventSetFree(self._events)
        with suppress(self._nvml.NVMLError):
            self._nvml.nvmlShutdown()

    def _told(self, call: Callable[[], T]) -> T | None:
        try:
            return call()
        except self._nvml.NVMLError as error:
            if error.value in UNUSABLE:
                raise
            return None

    def _watch(self, handle: Any, uuid: str) -> None:
        if self._events is not None and uuid not in self._watched.values():
            with suppress(self._nvml.NVMLError):  # such as for a MIG slice: then its errors stay unknown
                self._nvml.nvmlDeviceRegisterEvents(handle, self._nvml.nvmlEventTypeXidCriticalError, self._events)
                self._watched[_address(handle)] = uuid

    def _read(self, handle: Any, uuid: str) -> Gpu:
        try:
            return Device(self._nvml, handle, uuid).read()
        except self._nvml.NVMLError as error:
            if error.value not in LOST:
                raise
            return Gpu(uuid=uuid, state=GpuState.LOST, detail=LOST[error.value])


def _address(handle: Any) -> int | None:
    """What tells handles apart; a lost GPU can't be asked for its UUID."""
    return ctypes.cast(handle, ctypes.c_void_p).value
