"""One loaded TensorRT engine: what it takes, and how it is run and timed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from typing import Any

from watchdog.endpoints.cuda import Buffer, Cuda, CudaError
from watchdog.endpoints.faults import REJECTED, UNREADABLE, FaultError
from watchdog.endpoints.tensorrt_library import TensorRt, explained, listening
from watchdog.endpoints.tensors import datatype_of
from watchdog.model.engine import ShapeRange, TensorSpec
from watchdog.model.tensor import DTYPES, Array

_DATATYPES = {
    "BF16": "BF16",
    "BOOL": "BOOL",
    "FLOAT": "FP32",
    "HALF": "FP16",
    "INT32": "INT32",
    "INT64": "INT64",
    "INT8": "INT8",
    "UINT8": "UINT8",
}
"""TensorRT's name → the protocol's. Others, such as ``FP8``, keep theirs."""


Profile = Mapping[str, ShapeRange]
"""Input → its shapes, of one optimisation profile."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """The outputs of one execution, and the seconds of its stretches by the device's clock."""

    outputs: Mapping[str, Array]
    input_s: float
    """Copying the inputs to the device."""
    device_s: float
    """From there to the last kernel's end, as ``trtexec`` counts GPU compute time: a device that waits for the
    host to launch the next kernel is part of it."""
    output_s: float
    """Copying the outputs back."""


class Plan:
    """An engine with an execution context and buffers of its own. Belongs to the thread of its `Cuda`."""

    def __init__(self, library: TensorRt, cuda: Cuda, name: str, engine: Any) -> None:
        """`name` is what faults call it. Raises FaultError or CudaError: no memory for a context."""
        self._library = library
        self._cuda = cuda
        self._name = name
        self._engine = engine
        self._allocators: dict[str, Any] = {}
        with listening() as said:
            self._context = engine.create_execution_context()
        self._must(self._context is not None, said, "has no execution context")
        names = [engine.get_tensor_name(at) for at in range(engine.num_io_tensors)]
        is_input = {each: engine.get_tensor_mode(each) == library.api.TensorIOMode.INPUT for each in names}
        self.inputs = tuple(self._spec(each) for each in names if is_input[each])
        self.outputs = tuple(self._spec(each) for each in names if not is_input[each])
        self.profiles: tuple[Profile, ...] = tuple(
            {spec.name: self._range(spec, at) for spec in self.inputs} for at in range(engine.num_optimization_profiles)
        )
        self._unfit = self._what_is_unfit()
        self._buffers = {each: Buffer(cuda) for each in names}
        self._marks = [cuda.event() for _ in range(4)]

    def run(self, inputs: Mapping[str, Array], wanted: Sequence[str]) -> Run:
        """The `wanted` outputs (all, where none are named).

        Raises:
            FaultError: the engine does not take these inputs, or failed.
            CudaError: the device failed.
        """
        self._check_names(inputs, wanted)
        profile = self._fitting({name: array.shape for name, array in inputs.items()})
        with listening() as said:
            self._bind_inputs(inputs, profile, said)
            self._bind_outputs(said)
            specs = [spec for spec in self.outputs if not wanted or spec.name in wanted]
            self._cuda.mark(self._marks[0])
            for name, array in inputs.items():
                self._buffers[name].push(array.nbytes)
            self._cuda.mark(self._marks[1])
            self._must(self._context.execute_async_v3(self._cuda.stream), said, "failed")
            self._cuda.mark(self._marks[2])
            shapes = {spec.name: self._shape_of(spec.name) for spec in specs}
            for spec in specs:
                self._buffers[spec.name].pull(_size(spec, shapes[spec.name]))
            self._cuda.mark(self._marks[3])
            self._cuda.wait(self._marks[3])
        spans = [self._cuda.seconds(*pair) for pair in pairwise(self._marks)]
        outputs = {spec.name: self._buffers[spec.name].read(shapes[spec.name], DTYPES[spec.dtype]) for spec in specs}
        return Run(outputs=outputs, input_s=spans[0], device_s=spans[1], output_s=spans[2])

    def close(self) -> None:
        """Give its memory back. Raises CudaError."""
        self._context = self._engine = None  # in this order: a context must not outlive its engine
        self._allocators.clear()
        for buffer in self._buffers.values():
            buffer.free()
        for mark in self._marks:
            self._cuda.destroy(mark)

    def _spec(self, name: str) -> TensorSpec:
        datatype = self._engine.get_tensor_dtype(name).name
        return TensorSpec(
            name=name, dtype=_DATATYPES.get(datatype, datatype), shape=_dims(self._engine.get_tensor_shape(name))
        )

    def _range(self, spec: TensorSpec, profile: int) -> ShapeRange:
        if -1 not in spec.shape:
            return ShapeRange(least=spec.shape, best=spec.shape, most=spec.shape)
        low, best, high = self._engine.get_tensor_profile_shape(spec.name, profile)
        return ShapeRange(least=_dims(low), best=_dims(best), most=_dims(high))

    def _what_is_unfit(self) -> str:
        """Why this engine can be described but not run; empty where it can be."""
        api = self._library.api
        for spec in (*self.inputs, *self.outputs):
            if spec.dtype not in DTYPES:
                return f"{spec.name!r} is {spec.dtype}, which numpy does not know: have the engine take and give FP32"
            if self._engine.get_tensor_format(spec.name) != api.TensorFormat.LINEAR:
                return f"{spec.name!r} is not laid out row by row: build the engine with linear inputs and outputs"
            if self._engine.get_tensor_location(spec.name) != api.TensorLocation.DEVICE:
                return f"{spec.name!r} is a shape tensor, which is not supported"
        return ""

    def _check_names(self, inputs: Mapping[str, Array], wanted: Sequence[str]) -> None:
        if self._unfit:
            raise FaultError(UNREADABLE.fault(f"{self._name}: {self._unfit}"))
        takes = {spec.name: spec.dtype for spec in self.inputs}
        for name, array in inputs.items():
            if name not in takes:
                raise self._rejected(f"has no input {name!r}; its inputs are {', '.join(takes)}")
            if (given := datatype_of(name, array)) != takes[name]:
                raise self._rejected(f"takes input {name!r} as {takes[name]}, not {given}")
        if missing := [name for name in takes if name not in inputs]:
            raise self._rejected(f"needs the input {missing[0]!r} too")
        gives = [spec.name for spec in self.outputs]
        if unknown := [name for name in wanted if name not in gives]:
            raise self._rejected(f"has no output {unknown[0]!r}; its outputs are {', '.join(gives)}")

    def _fitting(self, shapes: Mapping[str, tuple[int, ...]]) -> int:
        """The first profile that takes all the shapes."""
        for at, profile in enumerate(self.profiles):
            if all(_admits(profile[name], shape) for name, shape in shapes.items()):
                return at
        never = [name for name in shapes if not any(_admits(each[name], shapes[name]) for each in self.profiles)]
        name = (never or [name for name in shapes if not _admits(self.profiles[0][name], shapes[name])])[0]
        ranges = "; ".join(_told(profile[name]) for profile in self.profiles)
        raise self._rejected(f"does not take input {name!r} as {list(shapes[name])}; its profiles: {ranges}")

    def _bind_inputs(self, inputs: Mapping[str, Array], profile: int, said: Sequence[str]) -> None:
        context = self._context
        if profile != context.active_optimization_profile:
            switched = context.set_optimization_profile_async(profile, self._cuda.stream)
            self._must(switched, said, f"can't switch to profile {profile}")
        for name, array in inputs.items():
            self._buffers[name].reserve(max(1, array.nbytes))
            self._buffers[name].write(array)
            taken = context.set_input_shape(name, array.shape)
            taken = taken and context.set_tensor_address(name, self._buffers[name].device)
            self._must(taken, said, f"refuses input {name!r}")

    def _bind_outputs(self, said: Sequence[str]) -> None:
        for spec in self.outputs:
            shape = _dims(self._context.get_tensor_shape(spec.name))
            if min(shape, default=0) < 0:
                taken = self._context.set_output_allocator(spec.name, self._allocator(spec.name))
            else:
                self._buffers[spec.name].reserve(max(1, _size(spec, shape)))
                taken = self._context.set_tensor_address(spec.name, self._buffers[spec.name].device)
            self._must(taken, said, f"refuses a buffer for output {spec.name!r}")

    def _allocator(self, name: str) -> Any:
        """For an output whose shape only its values tell."""
        if name not in self._allocators:
            self._allocators[name] = _output_allocator(self._library.api, self._buffers[name])
        self._allocators[name].error = None
        return self._allocators[name]

    def _shape_of(self, name: str) -> tuple[int, ...]:
        return self._allocators[name].shape if name in self._allocators else _dims(self._context.get_tensor_shape(name))

    def _must(self, done: bool, said: Sequence[str], what: str) -> None:
        if not done:
            for allocator in self._allocators.values():
                if allocator.error is not None:
                    raise allocator.error
            raise FaultError(explained(f"{self._name} {what}", said))

    def _rejected(self, detail: str) -> FaultError:
        return FaultError(REJECTED.fault(f"{self._name} {detail}"))


def _output_allocator(api: Any, buffer: Buffer) -> Any:
    class OutputAllocator(api.IOutputAllocator):  # type: ignore[misc]  # its base is only known now
        """Lets TensorRT say how much room an output takes, and then which shape it has."""

        def __init__(self) -> None:
            api.IOutputAllocator.__init__(self)  # what pybind11 wants, rather than super()
            self.shape: tuple[int, ...] = ()
            self.error: CudaError | None = None

        def reallocate_output(self, _name: str, _memory: int, size: int, _alignment: int) -> int:
            try:
                buffer.reserve(max(1, size))
            except CudaError as error:  # must not pass through TensorRT
                self.error = error
                return 0
            return buffer.device  # from cudaMalloc, and so aligned to 256 bytes

        def reallocate_output_async(self, name: str, memory: int, size: int, alignment: int, _stream: int) -> int:
            return self.reallocate_output(name, memory, size, alignment)  # what TensorRT 10 asks first

        def notify_shape(self, _name: str, shape: Any) -> None:
            self.shape = _dims(shape)

    return OutputAllocator()


def _admits(range_: ShapeRange, shape: Sequence[int]) -> bool:
    return len(shape) == len(range_.least) and all(
        low <= dim <= high for low, dim, high in zip(range_.least, shape, range_.most, strict=True)
    )


def _told(range_: ShapeRange) -> str:
    return f"min {list(range_.least)}, opt {list(range_.best)}, max {list(range_.most)}"


def _dims(dims: Any) -> tuple[int, ...]:
    return tuple(int(dim) for dim in dims)


def _size(spec: TensorSpec, shape: Sequence[int]) -> int:
    return prod(shape) * DTYPES[spec.dtype].itemsize
