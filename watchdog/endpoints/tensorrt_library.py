"""TensorRT's Python package: whether it serves our purpose, and what its log means.

TensorRT says only in its log why something failed; calls return None or False.
"""

import ctypes
import functools
import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from watchdog.endpoints.faults import NOT_READY, OVERLOADED, SERVER_ERROR, FaultError, Ruling
from watchdog.model.fault import Blame, Fault, FaultKind

UNEQUIPPED = Ruling(FaultKind.REFUSED, Blame.CLIENT, False)
"""What is needed for running engines isn't installed, or isn't found."""

_NEEDED = {
    "ICudaEngine": ("num_io_tensors", "get_tensor_name", "get_tensor_format", "get_tensor_profile_shape"),
    "IExecutionContext": ("set_input_shape", "set_tensor_address", "set_output_allocator", "execute_async_v3"),
}
"""Tensors by name, and how they are run: since TensorRT 8.5."""

_EXPLANATIONS: tuple[tuple[re.Pattern[str], Ruling, str], ...] = (
    (
        re.compile(r"IPluginCreator not found|[Pp]lugin [Rr]egistry"),
        NOT_READY,
        "it needs a plugin that is not there: give its library in plugins",
    ),
    (
        re.compile(r"expecting library version (?P<here>[^\s,]+) got (?P<there>[^\s,]+)"),
        NOT_READY,
        "it was built by TensorRT {there} and this is {here}: build it with this one",
    ),
    (
        re.compile(r"Current Version: (?P<here>\d+), Serialized Engine Version: (?P<there>\d+)"),
        NOT_READY,
        "it was built by {builder} (serialization {there}) and this is {running} ({here}): build it with this one",
    ),
    (
        re.compile(r"expecting compute (?P<here>[^\s,]+) got compute (?P<there>[^\s,]+)"),
        NOT_READY,
        "it was built for a GPU of compute capability {there} and this one has {here}: build it on this one",
    ),
    (
        re.compile(r"[Pp]latform specific tag mismatch"),
        NOT_READY,
        "it was built for another operating system or processor: build it on this machine",
    ),
    (
        re.compile(r"out of memory|could not be allocated|OutOfMemory", re.IGNORECASE),
        OVERLOADED,
        "the device's memory does not suffice",
    ),
    (
        re.compile(r"Error Code 1: Serialization|Serialization Error"),
        NOT_READY,
        "it is no plan, or a damaged one",
    ),
)
"""What TensorRT logs, from 8.0 to 10.x as people report it; the more special first."""

_heard = threading.local()
"""Where this thread's errors go: TensorRT has one log for all threads, and logs on the one that called it."""


def package() -> Any:
    """TensorRT's, imported. Raises FaultError: it is missing, or too old."""
    try:
        import tensorrt  # noqa: PLC0415 (heavy: only where an engine is run)
    except (ImportError, OSError) as error:  # the package, or a library that it loads
        raise FaultError(UNEQUIPPED.fault(f"TensorRT's Python package can't be imported: {error}")) from error
    lacking = [
        f"{kind}.{name}"
        for kind, names in _NEEDED.items()
        for name in names
        if not hasattr(getattr(tensorrt, kind, None), name)
    ]
    if lacking:
        detail = f"TensorRT {getattr(tensorrt, '__version__', '?')} lacks {', '.join(lacking)}: 8.5 or newer is needed"
        raise FaultError(UNEQUIPPED.fault(detail))
    return tensorrt


@contextmanager
def listening() -> Iterator[list[str]]:
    """The errors that TensorRT logs on this thread meanwhile, oldest first."""
    said: list[str] = []
    _heard.said = said
    try:
        yield said
    finally:
        _heard.said = None


class TensorRt:
    """The package and a runtime of its own, for one thread."""

    def __init__(self, api: Any, plugins: Sequence[Path]) -> None:
        """Of the `package`. Raises FaultError: a plugin can't be loaded, or TensorRT can't start."""
        self.api = api
        self.version: str = ".".join(str(api.__version__).split(".")[:3])
        self._log = _log_of(api)
        api.init_libnvinfer_plugins(self._log, "")  # TensorRT's own
        for plugin in plugins:
            _load_plugin(plugin)
        with listening() as said:
            try:
                self._runtime = api.Runtime(self._log)
            except Exception as error:
                detail = f"TensorRT {self.version} can't start: {_first(said) or type(error).__name__}"
                raise FaultError(SERVER_ERROR.fault(detail)) from error

    def deserialize(self, file: str, plan: bytes) -> Any:
        """The ``ICudaEngine`` of a plan; `file` names it in a fault.

        Raises:
            FaultError: TensorRT can't use it, and why.
        """
        with listening() as said:
            engine = self._runtime.deserialize_cuda_engine(plan)
        if engine is None:
            raise FaultError(
                explained(f"{file} can't be loaded", said, builder=_builder(plan), running=f"TensorRT {self.version}")
            )
        return engine


def explained(what: str, said: Sequence[str], *, builder: str = "another TensorRT", running: str = "") -> Fault:
    """What failed, with the reason found in what TensorRT said of it, and its own words."""
    whole = " ".join(said)
    for pattern, found, text in _EXPLANATIONS:
        if match := pattern.search(whole):
            reason = text.format(builder=builder, running=running, **match.groupdict())
            return found.fault(f"{what}: {reason} [{_first(said)}]")
    return SERVER_ERROR.fault(f"{what}: {_first(said) or 'TensorRT gives no reason'}")


def _first(said: Sequence[str]) -> str:
    """The cause; what follows in the log are its consequences."""
    return said[0].strip() if said else ""


@functools.cache
def _log_of(api: Any) -> Any:
    """One for the process's life: TensorRT keeps the first that it is given, and ignores any later one."""

    class Log(api.ILogger):  # type: ignore[misc]  # its base is only known now
        def __init__(self) -> None:
            api.ILogger.__init__(self)  # what pybind11 wants, rather than super()

        def log(self, severity: Any, msg: str) -> None:
            errors = (api.ILogger.Severity.INTERNAL_ERROR, api.ILogger.Severity.ERROR)
            said: list[str] | None = getattr(_heard, "said", None)
            if said is not None and severity in errors:
                said.append(msg)

    return Log()


def _load_plugin(library: Path) -> None:
    try:
        ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)  # its creators register themselves
    except OSError as error:
        raise FaultError(UNEQUIPPED.fault(f"the plugin {library} can't be loaded: {error}")) from error


def _builder(plan: bytes) -> str:
    """Which TensorRT built a plan, by its header; those before 8.6 don't say.

    Source: ``printPlanVersion`` in samples/common/sampleEngines.cpp of NVIDIA/TensorRT.
    """
    if len(plan) >= 28 and plan[:8] == b"ftrt\0\0\0\0" and plan[24] >= 8:
        return f"TensorRT {'.'.join(str(each) for each in plan[24:28])}"
    return "another TensorRT"
