"""The CUDA runtime, as far as running an engine takes it, through ctypes: no package is needed for that.

Names and codes are those of the CUDA Runtime API, https://docs.nvidia.com/cuda/cuda-runtime-api/.
"""

import ctypes
import importlib.util
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from watchdog.model.tensor import Array

OUT_OF_MEMORY = 2
"""``cudaErrorMemoryAllocation``"""

_NON_BLOCKING = 1
"""``cudaStreamNonBlocking``: not in step with the legacy default stream, which others may use."""
_SLEEP = 1
"""``cudaEventBlockingSync``: a thread that waits sleeps, so that a hung kernel does not cost a core as well."""
_TO_DEVICE, _TO_HOST = 1, 2
_NAMES = ("libcudart.so.13", "libcudart.so.12", "libcudart.so.11.0", "libcudart.so.10.2", "libcudart.so")


class CudaError(Exception):
    """A call of the CUDA runtime failed; `code` is its ``cudaError_t``."""

    def __init__(self, call: str, code: int, text: str) -> None:
        super().__init__(f"{call}: {text} (CUDA error {code})")
        self.code = code


def runtime_library(path: Path | None) -> ctypes.CDLL:
    """The libcudart at `path`; or the one that this process has already, the system's, or a wheel's.

    Raises:
        OSError: there is none, or it can't be loaded.
    """
    if path is not None:
        return ctypes.CDLL(str(path))
    for name, mode in _candidates():
        with suppress(OSError):
            return ctypes.CDLL(name, mode=mode)
    raise OSError("libcudart is not found: install the CUDA runtime, or give its path as cudart")


def _candidates() -> Iterator[tuple[str, int]]:
    for mode in (os.RTLD_NOLOAD, ctypes.DEFAULT_MODE):  # TensorRT may have brought one: better that than a second
        for name in _NAMES:
            yield name, mode
    wheels = importlib.util.find_spec("nvidia")
    for folder in (wheels and wheels.submodule_search_locations) or ():
        for library in sorted(Path(folder).glob("*/lib/libcudart.so.*"), reverse=True):
            yield str(library), ctypes.DEFAULT_MODE


class Cuda:
    """One device and one stream, for the one thread that makes this: CUDA's current device is a thread's own.

    All methods raise `CudaError`. Addresses, events and the stream are plain integers, as TensorRT takes them.
    """

    def __init__(self, library: ctypes.CDLL, device: int) -> None:
        library.cudaGetErrorString.restype = ctypes.c_char_p
        self._library = library
        self._call("cudaSetDevice", ctypes.c_int(device))
        self.stream = self._made("cudaStreamCreateWithFlags", ctypes.c_uint(_NON_BLOCKING))

    def version(self) -> str:
        """The runtime library's, such as ``11.8``."""
        number = ctypes.c_int()
        self._call("cudaRuntimeGetVersion", ctypes.byref(number))
        return f"{number.value // 1000}.{number.value % 1000 // 10}"

    def allocate(self, size: int) -> int:
        """`size` bytes of the device."""
        return self._made("cudaMalloc", ctypes.c_size_t(size))

    def free(self, address: int) -> None:
        self._call("cudaFree", ctypes.c_void_p(address))

    def allocate_host(self, size: int) -> int:
        """`size` bytes of the host, page-locked: only such are copied without a detour, and behind the caller."""
        return self._made("cudaMallocHost", ctypes.c_size_t(size))

    def free_host(self, address: int) -> None:
        self._call("cudaFreeHost", ctypes.c_void_p(address))

    def copy_in(self, device: int, host: int, size: int) -> None:
        """Enqueue a copy to the device; `host` must stay as it is until then."""
        self._copy(device, host, size, _TO_DEVICE)

    def copy_out(self, host: int, device: int, size: int) -> None:
        """Enqueue a copy from the device."""
        self._copy(host, device, size, _TO_HOST)

    def event(self) -> int:
        return self._made("cudaEventCreateWithFlags", ctypes.c_uint(_SLEEP))

    def mark(self, event: int) -> None:
        """Have the device note the time in `event` when it comes to this place of the stream."""
        self._call("cudaEventRecord", ctypes.c_void_p(event), ctypes.c_void_p(self.stream))

    def wait(self, event: int) -> None:
        """Return when the device has passed `event`, or failed before it."""
        self._call("cudaEventSynchronize", ctypes.c_void_p(event))

    def seconds(self, start: int, end: int) -> float:
        """Between two passed events, by the device's clock; its resolution is about half a microsecond."""
        span = ctypes.c_float()
        self._call("cudaEventElapsedTime", ctypes.byref(span), ctypes.c_void_p(start), ctypes.c_void_p(end))
        return span.value / 1e3

    def settle(self) -> None:
        """Wait for everything, and forget a failure that left the context in order.

        Raises:
            CudaError: it did not. After an illegal address and its like, every call fails
                until the process ends.
        """
        self._library.cudaGetLastError()
        self._call("cudaDeviceSynchronize")

    def destroy(self, event: int) -> None:
        self._call("cudaEventDestroy", ctypes.c_void_p(event))

    def close(self) -> None:
        self._call("cudaStreamDestroy", ctypes.c_void_p(self.stream))

    def _copy(self, to: int, source: int, size: int, direction: int) -> None:
        self._call(
            "cudaMemcpyAsync",
            ctypes.c_void_p(to),
            ctypes.c_void_p(source),
            ctypes.c_size_t(size),
            ctypes.c_int(direction),
            ctypes.c_void_p(self.stream),
        )

    def _made(self, call: str, argument: Any) -> int:
        handle = ctypes.c_void_p()
        self._call(call, ctypes.byref(handle), argument)
        return handle.value or 0

    def _call(self, call: str, *arguments: Any) -> None:
        code = getattr(self._library, call)(*arguments)
        if code:
            raise CudaError(call, code, self._library.cudaGetErrorString(code).decode(errors="replace"))


class Buffer:
    """Room for one tensor, both on the device and, page-locked, on the host. It grows and never shrinks."""

    def __init__(self, cuda: Cuda) -> None:
        self.device = 0
        self._host = 0
        self._size = 0
        self._cuda = cuda

    def reserve(self, size: int) -> None:
        """Have room for `size` bytes; what was in it may be lost. Raises CudaError."""
        if size <= self._size:
            return
        self.free()
        self.device = self._cuda.allocate(size)
        self._host = self._cuda.allocate_host(size)
        self._size = size

    def write(self, array: Array) -> None:
        """Put `array` into the host's half, row-major."""
        np.copyto(self._view(array.shape, array.dtype), array)

    def push(self, size: int) -> None:
        """Enqueue `size` bytes to the device. Raises CudaError."""
        self._cuda.copy_in(self.device, self._host, size)

    def pull(self, size: int) -> None:
        """Enqueue `size` bytes from the device. Raises CudaError."""
        self._cuda.copy_out(self._host, self.device, size)

    def read(self, shape: Sequence[int], dtype: np.dtype[Any]) -> Array:
        """What was pulled, once the device has passed it: an array of its own."""
        return self._view(shape, dtype).copy()

    def free(self) -> None:
        """Raises CudaError."""
        device, host = self.device, self._host
        self.device = self._host = self._size = 0
        if device:
            self._cuda.free(device)
        if host:
            self._cuda.free_host(host)

    def _view(self, shape: Sequence[int], dtype: np.dtype[Any]) -> Array:
        memory = (ctypes.c_byte * max(1, prod(shape) * dtype.itemsize)).from_address(self._host)
        return np.ndarray(tuple(shape), dtype, buffer=memoryview(memory))
