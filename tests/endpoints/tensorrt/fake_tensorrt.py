"""A stand-in for TensorRT's Python package: engines are numpy functions on the fake runtime's device memory.

It is as strict as the real one: objects belong to one thread, shapes must be set and lie within the
profile, failures are None or False with the reason in the log alone.
"""

import ctypes
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from enum import Enum, IntEnum
from functools import partial
from math import prod
from types import ModuleType
from typing import Any

import numpy as np

from watchdog.model.tensor import Array

_Kernel = ctypes.CFUNCTYPE(None)
_MAGIC = b"ftrt\0\0\0\0"

PROGRAMS: Mapping[str, Callable[[dict[str, Array]], dict[str, Array]]] = {
    "double": lambda given: {"Y": given["X"] * 2},
    "copy": lambda given: {"Y": given["X"]},
    "sum": lambda given: {"Y": given["A"] + given["B"], "Z": given["A"] - given["B"]},
    "positive": lambda given: {"Y": given["X"][given["X"] > 0]},
}


class DataType(Enum):
    FLOAT = np.float32
    HALF = np.float16
    INT8 = np.int8
    INT32 = np.int32
    INT64 = np.int64
    UINT8 = np.uint8
    BOOL = np.bool_
    BF16 = None
    FP8 = "fp8"


def write_plan(version: str = "8.5.3.1", **spec: Any) -> bytes:
    """A plan file. `spec`: program, tensors, profiles, and what goes wrong, see `Engine` and `Runtime`."""
    header = _MAGIC + b"\0" * 16 + bytes(int(each) for each in version.split("."))
    body = json.dumps(spec).encode()
    return header + len(body).to_bytes(8, "little") + body


def tensor(name: str, *shape: int, dtype: str = "FLOAT", output: bool = False, **more: str) -> dict[str, Any]:
    return {"name": name, "shape": shape, "dtype": dtype, "output": output, **more}


class Dims:
    """A sequence, and no tuple."""

    def __init__(self, dims: Any) -> None:
        self._dims = tuple(dims)

    def __iter__(self) -> Iterator[int]:
        return iter(self._dims)

    def __len__(self) -> int:
        return len(self._dims)


class _OfOneThread:
    def __init__(self) -> None:
        self._thread = threading.get_ident()

    def _here(self) -> None:
        assert threading.get_ident() == self._thread, "TensorRT's objects belong to one thread"


class Engine(_OfOneThread):
    """`workspace` bytes are its context's; `fails` is what it logs when it can't be enqueued."""

    def __init__(self, api: ModuleType, log: Any, spec: Mapping[str, Any]) -> None:
        super().__init__()
        self.api, self.log, self.spec = api, log, spec
        self.tensors = {each["name"]: each for each in spec["tensors"]}
        self.num_optimization_profiles = len(spec.get("profiles", [{}]))

    @property
    def num_io_tensors(self) -> int:
        self._here()
        return len(self.tensors)

    def get_tensor_name(self, at: int) -> str:
        return str(list(self.tensors)[at])

    def get_tensor_mode(self, name: str) -> Any:
        return self.api.TensorIOMode.OUTPUT if self.tensors[name]["output"] else self.api.TensorIOMode.INPUT

    def get_tensor_dtype(self, name: str) -> DataType:
        return DataType[self.tensors[name]["dtype"]]

    def get_tensor_shape(self, name: str) -> Dims:
        return Dims(self.tensors[name]["shape"])

    def get_tensor_format(self, name: str) -> Any:
        return self.api.TensorFormat[self.tensors[name].get("format", "LINEAR")]

    def get_tensor_location(self, name: str) -> Any:
        return self.api.TensorLocation[self.tensors[name].get("location", "DEVICE")]

    def get_tensor_profile_shape(self, name: str, profile: int) -> list[Dims]:
        return [Dims(each) for each in self.spec["profiles"][profile][name]]

    def create_execution_context(self) -> "Context | None":
        self._here()
        address = ctypes.c_void_p()
        if self.api.cudart.cudaMalloc(ctypes.byref(address), ctypes.c_size_t(self.spec.get("workspace", 1))):
            self.log.error("1: [defaultAllocator.cpp::allocate::20] Error Code 1: Cuda Runtime (out of memory)")
            return None
        return Context(self, address)


class Context(_OfOneThread):
    def __init__(self, engine: Engine, workspace: ctypes.c_void_p) -> None:
        super().__init__()
        self.active_optimization_profile = 0
        self._engine = engine
        self._workspace = workspace
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._addresses: dict[str, int] = {}
        self._allocators: dict[str, Any] = {}
        self._kernels: list[Any] = []  # until the device has run them

    def __del__(self) -> None:
        self._engine.api.cudart.cudaFree(self._workspace)

    def set_optimization_profile_async(self, profile: int, stream: int) -> bool:
        self._here()
        assert stream
        self.active_optimization_profile = profile
        self._shapes.clear()
        return True

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self._here()
        declared = tuple(self._engine.get_tensor_shape(name))
        if -1 in declared:
            low, _, high = self._engine.get_tensor_profile_shape(name, self.active_optimization_profile)
        else:
            low = high = Dims(declared)
        if len(shape) != len(low) or not all(a <= b <= c for a, b, c in zip(low, shape, high, strict=True)):
            self._engine.log.error("3: [executionContext.cpp::validateInputBindings::1831] Error Code 3: API Usage")
            return False
        self._shapes[name] = tuple(shape)
        return True

    def set_tensor_address(self, name: str, memory: int) -> bool:
        assert type(memory) is int
        self._addresses[name] = memory
        return bool(memory)

    def set_output_allocator(self, name: str, allocator: Any) -> bool:
        assert isinstance(allocator, self._engine.api.IOutputAllocator)
        self._allocators[name] = allocator
        return True

    def get_tensor_shape(self, name: str) -> Dims:
        if self._engine.spec["program"] == "positive" and self._engine.tensors[name]["output"]:
            return Dims([-1])
        return Dims(self._shapes.get(name) or next(iter(self._shapes.values())))

    def execute_async_v3(self, stream_handle: int) -> bool:
        self._here()
        if says := self._engine.spec.get("fails"):
            self._engine.log.error(says)
            return False
        if not self._allocators:
            return self._launch(partial(_run, self._engine, dict(self._shapes), dict(self._addresses)))
        self._engine.api.cudart.cudaStreamSynchronize(ctypes.c_void_p(stream_handle))
        outputs = _compute(self._engine, self._shapes, self._addresses)
        for name, array in outputs.items():
            address = self._ask_for_room(name, array.nbytes)
            if not address:
                self._engine.log.error("2: [outputAllocator] Error Code 2: OutOfMemory (no room)")
                return False
            self._addresses[name] = address
            self._allocators[name].notify_shape(name, Dims(array.shape))
        return self._launch(partial(_write, self._engine, dict(self._addresses), outputs))

    def _ask_for_room(self, name: str, size: int) -> int:
        allocator, old = self._allocators[name], self._addresses.get(name, 0)
        if self._engine.api.__version__.startswith("10."):
            return int(allocator.reallocate_output_async(name, old, size, 256, 0))
        return int(allocator.reallocate_output(name, old, size, 256))

    def _launch(self, work: Callable[[], None]) -> bool:
        kernel = _Kernel(work)
        self._kernels = [*self._kernels[-1:], kernel]
        return not self._engine.api.cudart.fake_launch(kernel)


def _run(engine: Engine, shapes: Mapping[str, tuple[int, ...]], addresses: Mapping[str, int]) -> None:
    _write(engine, addresses, _compute(engine, shapes, addresses))


def _compute(engine: Engine, shapes: Mapping[str, tuple[int, ...]], addresses: Mapping[str, int]) -> dict[str, Array]:
    return PROGRAMS[engine.spec["program"]](
        {name: _at(engine, name, addresses[name], shape) for name, shape in shapes.items()}
    )


def _write(engine: Engine, addresses: Mapping[str, int], outputs: Mapping[str, Array]) -> None:
    for name, array in outputs.items():
        _at(engine, name, addresses[name], array.shape)[...] = array


def _at(engine: Engine, name: str, address: int, shape: tuple[int, ...]) -> Array:
    dtype = np.dtype(engine.get_tensor_dtype(name).value)
    memory = (ctypes.c_byte * max(1, prod(shape) * dtype.itemsize)).from_address(address)
    return np.ndarray(shape, dtype, buffer=memoryview(memory))


def make(cudart: ctypes.CDLL, version: str = "8.5.3.1") -> ModuleType:
    """The package; before 8.5 it lacks what came then."""

    class ILogger:
        class Severity(IntEnum):
            INTERNAL_ERROR = 0
            ERROR = 1
            WARNING = 2

        def error(self, msg: str) -> None:
            self.log(self.Severity.WARNING, "a warning of no importance")
            self.log(self.Severity.ERROR, msg)

        def log(self, severity: Any, msg: str) -> None:
            raise NotImplementedError

    class IOutputAllocator:
        pass

    class Runtime(_OfOneThread):
        """A spec's `says` is what it logs instead of giving an engine."""

        def __init__(self, log: ILogger) -> None:
            super().__init__()
            self._log = log

        def deserialize_cuda_engine(self, plan: bytes) -> Engine | None:
            self._here()
            place = "1: [runtime.cpp::parsePlan::314] Error Code 1: Serialization (Serialization assertion"
            if plan[:8] != _MAGIC:
                self._log.error(f"{place} plan->header.magicTag == rt::kPLAN_MAGIC_TAG failed.)")
                return None
            if len(plan) != 36 + int.from_bytes(plan[28:36], "little"):
                self._log.error(f"{place} plan->header.size == blobSize failed.)")
                return None
            spec = json.loads(plan[36:])
            if "says" in spec:
                self._log.error(spec["says"])
                self._log.error("4: [runtime.cpp::deserializeCudaEngine::66] Error Code 4: Internal Error")
                return None
            return Engine(api, self._log, spec)

    api = ModuleType("tensorrt")
    old = tuple(int(each) for each in version.split(".")[:2]) < (8, 5)
    vars(api).update(
        __version__=version,
        cudart=cudart,
        ICudaEngine=object if old else Engine,
        IExecutionContext=object if old else Context,
        ILogger=ILogger,
        IOutputAllocator=IOutputAllocator,
        Runtime=Runtime,
        TensorFormat=Enum("TensorFormat", ["LINEAR", "CHW32"]),
        TensorIOMode=Enum("TensorIOMode", ["NONE", "INPUT", "OUTPUT"]),
        TensorLocation=Enum("TensorLocation", ["DEVICE", "HOST"]),
        init_libnvinfer_plugins=lambda log, namespace: True,
    )
    return api
