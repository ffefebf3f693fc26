"""A folder of engine files, opened on one device as they are asked for. Everything here belongs to one thread."""

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, TypeVar

from watchdog.endpoints.cuda import OUT_OF_MEMORY, Cuda, CudaError, runtime_library
from watchdog.endpoints.faults import NOT_READY, OVERLOADED, SERVER_ERROR, UNKNOWN, FaultError, Ruling
from watchdog.endpoints.tensorrt_library import UNEQUIPPED, TensorRt, package
from watchdog.endpoints.tensorrt_plan import Plan, Run
from watchdog.model.engine import Address, Description
from watchdog.model.fault import Blame, Fault, FaultKind
from watchdog.model.probe import InferRequest

T = TypeVar("T")

_FILE = "model.plan"
_NO_DEVICE = Ruling(FaultKind.REFUSED, Blame.SERVER, True)
_LOST = Ruling(FaultKind.SERVER_ERROR, Blame.SERVER, False)


class Answer(NamedTuple):
    version: str
    ready_at: float
    """When the engine was loaded and the thread free for this request, by ``time.perf_counter``."""
    run: Run


class _Kept(NamedTuple):
    stamp: tuple[int, int, int]
    """Of the file, so that one built anew is loaded anew."""
    plan: Plan


class Repository:
    """Raises FaultError for everything that TensorRT, CUDA and the file system do."""

    def __init__(self, models: Path, *, device: int, cudart: Path | None, plugins: Sequence[Path]) -> None:
        """Nothing is opened yet; the arguments are `TensorRtSettings`' own."""
        self._models = models
        self._device = device
        self._cudart = cudart
        self._plugins = plugins
        self._cuda: Cuda | None = None
        self._library: TensorRt | None = None
        self._kept: dict[Path, _Kept] = {}
        self._lost: Fault | None = None

    def infer(self, request: InferRequest) -> Answer:
        def work() -> Answer:
            version, plan = self._plan(request.address)
            return Answer(version, time.perf_counter(), plan.run(request.inputs, request.outputs))

        return self._guarded(work)

    def describe(self, address: Address) -> Description:
        def work() -> Description:
            _, plan = self._plan(address)
            library, cuda = self._open()
            return Description(
                server=f"tensorrt {library.version}",
                inputs=plan.inputs,
                outputs=plan.outputs,
                versions=self._versions(address.model),
                tag=f"trt{library.version}-cuda{cuda.version()}",
                profiles=plan.profiles[0] if len(plan.profiles) == 1 else {},  # several have no one range
            )

        return self._guarded(work)

    def close(self) -> None:
        """Give back what the device holds; after its context was lost, nothing can be."""
        if self._cuda is None or self._lost is not None:
            return
        kept, self._kept = self._kept, {}
        with suppress(CudaError):
            for each in kept.values():
                each.plan.close()
            self._cuda.close()

    def _guarded(self, work: Callable[[], T]) -> T:
        """`work`, unless the context is lost; and what CUDA does to it, as a fault."""
        if self._lost is not None:
            raise FaultError(self._lost)
        try:
            return work()
        except FaultError as error:
            raise FaultError(self._if_lost(error.fault)) from error
        except CudaError as error:
            found = OVERLOADED if error.code == OUT_OF_MEMORY else SERVER_ERROR
            raise FaultError(self._if_lost(found.fault(str(error)))) from error

    def _if_lost(self, fault: Fault) -> Fault:
        """`fault`, or what to do where it has cost this process its CUDA context."""
        if self._cuda is None:
            return fault
        try:
            self._cuda.settle()
        except CudaError as error:
            detail = f"the CUDA context of this process is lost, restart the watchdog: {error}, after {fault.detail}"
            fault = self._lost = _LOST.fault(detail)
        return fault

    def _open(self) -> tuple[TensorRt, Cuda]:
        api = package()  # before CUDA's library, since it may bring one
        self._cuda = self._cuda or self._open_device()
        self._library = self._library or TensorRt(api, self._plugins)
        return self._library, self._cuda

    def _open_device(self) -> Cuda:
        try:
            return Cuda(runtime_library(self._cudart), self._device)
        except OSError as error:
            raise FaultError(UNEQUIPPED.fault(f"the CUDA runtime can't be loaded: {error}")) from error
        except CudaError as error:
            raise FaultError(_NO_DEVICE.fault(f"GPU {self._device} can't be used: {error}")) from error

    def _plan(self, address: Address) -> tuple[str, Plan]:
        """The version that an address means, and its engine."""
        versions = self._versions(address.model)
        version = address.version or (versions[-1] if versions else "VERSION")
        if version not in versions:
            raise FaultError(UNKNOWN.fault(f"there is no {address.model}/{version}/{_FILE} in {self._models}"))
        file = self._models / address.model / version / _FILE
        try:
            return version, self._current(file, f"{address.model}/{version}")
        except OSError as error:
            raise FaultError(NOT_READY.fault(f"cannot read {file}: {error.strerror}")) from error

    def _current(self, file: Path, name: str) -> Plan:
        """The engine of a file, loaded where it isn't, or where the file was built anew since. Raises OSError."""
        status = file.stat()
        stamp = (status.st_mtime_ns, status.st_size, status.st_ino)
        kept = self._kept.get(file)
        if kept is not None and kept.stamp == stamp:
            return kept.plan
        if kept is not None:
            del self._kept[file]
            kept.plan.close()  # first, since there may be no room for both
        plan = self._load(name, file.read_bytes())
        self._kept[file] = _Kept(stamp, plan)
        return plan

    def _load(self, name: str, plan: bytes) -> Plan:
        library, cuda = self._open()
        return Plan(library, cuda, name, library.deserialize(name, plan))

    def _versions(self, model: str) -> tuple[str, ...]:
        """Those with an engine file, lowest first. Names are compared with what is there, so none leads elsewhere."""
        with suppress(OSError):
            if any(each.name == model for each in self._models.iterdir()):
                found = [file.parent.name for file in (self._models / model).glob(f"*/{_FILE}")]
                return tuple(sorted((each for each in found if each.isascii() and each.isdecimal()), key=int))
        return ()
