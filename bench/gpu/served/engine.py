"""A TensorRT engine with its buffers, run through the CUDA runtime by ctypes: numpy in, numpy out.

Copied beside ``model.py`` for Triton, and used by ``build_engines``. Needs TensorRT 8.5 or newer; the
environment's CUDART names the CUDA runtime library.
"""

import ctypes
import os
from math import prod
from typing import Any

import numpy as np
import tensorrt as trt

Array = np.ndarray[Any, np.dtype[Any]]

_TO_DEVICE, _TO_HOST = 1, 2

LOG = trt.Logger(trt.Logger.WARNING)


class Cuda:
    """The calls that an engine needs. All raise RuntimeError; addresses and handles are plain integers."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL(os.environ.get("CUDART", "libcudart.so"))
        self._library.cudaGetErrorString.restype = ctypes.c_char_p
        self.stream = self._made("cudaStreamCreate")

    def allocate(self, size: int) -> int:
        return self._made("cudaMalloc", ctypes.c_size_t(size))

    def copy_in(self, device: int, array: Array) -> None:
        self._copy(device, array.ctypes.data, array.nbytes, _TO_DEVICE)

    def copy_out(self, array: Array, device: int) -> None:
        self._copy(array.ctypes.data, device, array.nbytes, _TO_HOST)

    def event(self) -> int:
        return self._made("cudaEventCreate")

    def mark(self, event: int) -> None:
        self._call("cudaEventRecord", ctypes.c_void_p(event), ctypes.c_void_p(self.stream))

    def wait(self) -> None:
        self._call("cudaStreamSynchronize", ctypes.c_void_p(self.stream))

    def seconds(self, start: int, end: int) -> float:
        """Between two events that have passed, by the device's clock."""
        milliseconds = ctypes.c_float()
        self._call("cudaEventElapsedTime", ctypes.byref(milliseconds), ctypes.c_void_p(start), ctypes.c_void_p(end))
        return milliseconds.value / 1e3

    def _copy(self, to: int, source: int, size: int, direction: int) -> None:
        self._call(
            "cudaMemcpyAsync",
            ctypes.c_void_p(to),
            ctypes.c_void_p(source),
            ctypes.c_size_t(size),
            ctypes.c_int(direction),
            ctypes.c_void_p(self.stream),
        )

    def _made(self, call: str, *arguments: Any) -> int:
        handle = ctypes.c_void_p()
        self._call(call, ctypes.byref(handle), *arguments)
        return handle.value or 0

    def _call(self, call: str, *arguments: Any) -> None:
        code = getattr(self._library, call)(*arguments)
        if code:
            raise RuntimeError(f"{call}: {self._library.cudaGetErrorString(code).decode()} (CUDA error {code})")


class Engine:
    """One plan, ready for inputs of any shape in its profile. Not for several threads."""

    def __init__(self, plan: bytes) -> None:
        """Raises RuntimeError: TensorRT can't use the plan (its log says why), or CUDA failed."""
        self.cuda = Cuda()
        self._runtime = trt.Runtime(LOG)  # must outlive its engine
        self._engine = self._runtime.deserialize_cuda_engine(plan)
        if self._engine is None:
            raise RuntimeError("unable to create TensorRT engine")
        self._context = self._engine.create_execution_context()
        names = [self._engine.get_tensor_name(i) for i in range(self._engine.num_io_tensors)]
        is_input = {name: self._engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT for name in names}
        self.inputs = [name for name in names if is_input[name]]
        self.outputs = [name for name in names if not is_input[name]]
        self._buffers: dict[str, int] = {}
        self._reserve()
        self._start, self._end = self.cuda.event(), self.cuda.event()

    def run(self, inputs: dict[str, Array]) -> tuple[dict[str, Array], float]:
        """The outputs, FP32, and the execution's seconds by CUDA events, copies not included."""
        arrays = {name: np.ascontiguousarray(inputs[name], np.float32) for name in self.inputs}
        for name, array in arrays.items():
            if not self._context.set_input_shape(name, array.shape):
                raise RuntimeError(f"{name} of shape {array.shape} does not fit the engine's profile")
            self.cuda.copy_in(self._buffers[name], array)
        outputs = {name: np.empty(tuple(self._context.get_tensor_shape(name)), np.float32) for name in self.outputs}
        self.cuda.mark(self._start)
        if not self._context.execute_async_v3(self.cuda.stream):
            raise RuntimeError("the engine could not be executed")
        self.cuda.mark(self._end)
        for name, array in outputs.items():
            self.cuda.copy_out(array, self._buffers[name])
        self.cuda.wait()
        return outputs, self.cuda.seconds(self._start, self._end)

    def _reserve(self) -> None:
        """Buffers for the largest shapes of the profile, so that serving allocates nothing."""
        for name in self.inputs:
            self._context.set_input_shape(name, self._engine.get_tensor_profile_shape(name, 0)[-1])
        for name in (*self.inputs, *self.outputs):
            self._buffers[name] = self.cuda.allocate(4 * prod(self._context.get_tensor_shape(name)))
            self._context.set_tensor_address(name, self._buffers[name])
