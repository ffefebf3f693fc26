"""Runs the in-process TensorRT endpoint on a real GPU: how long an answer takes, and what its faults say.

    python bench/gpu/endpoint.py FOLDER MODEL [--version N] [--cudart LIBRARY] [--times 200]

FOLDER holds ``MODEL/VERSION/model.plan``, as a Triton repository does. Prints JSON.

TensorRT's last whole wheel (8.5.3.1) is for CPython 3.10, and the watchdog is for 3.11: `_fill_in`
gives 3.10 the few names that the endpoint's modules need of 3.11. Besides TensorRT that interpreter
needs numpy and pydantic only.
"""

import argparse
import asyncio
import datetime
import enum
import json
import os
import platform
import shutil
import sys
import tempfile
import typing
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from watchdog.endpoints.tensorrt_engine import TensorRtEngine
    from watchdog.model.engine import Description
    from watchdog.model.tensor import Array

_PATIENCE_S = 120.0
"""A first answer loads the engine, and CUDA before it."""


def _fill_in() -> None:
    """What 3.11 has and 3.10 lacks; nothing where it is there."""
    import typing_extensions  # noqa: PLC0415 (pydantic brings it)

    for module, name, value in (
        (asyncio, "timeout", _Timeout),
        (datetime, "UTC", datetime.timezone.utc),  # noqa: UP017 (this is what makes the alias)
        (enum, "StrEnum", _StrEnum),
        (typing, "Self", typing_extensions.Self),
        (typing, "assert_never", typing_extensions.assert_never),
    ):
        if not hasattr(module, name):
            setattr(module, name, value)


class _StrEnum(str, enum.Enum):  # noqa: UP042 (as above)
    __str__ = str.__str__


class _Timeout:
    """As much of ``asyncio.timeout`` as is used: it cancels the task, and makes that a TimeoutError."""

    def __init__(self, delay_s: float) -> None:
        self._delay_s = delay_s
        self._passed = False

    async def __aenter__(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._timer = asyncio.get_running_loop().call_later(self._delay_s, self._end, task)

    def _end(self, task: "asyncio.Task[Any]") -> None:
        self._passed = True
        task.cancel()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._timer.cancel()
        if self._passed and kind is asyncio.CancelledError:
            raise TimeoutError from error


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("model")
    parser.add_argument("--version", default="", help="the highest where left out")
    parser.add_argument("--cudart", type=Path, help="where the system does not find libcudart")
    parser.add_argument("--times", type=int, default=200)
    arguments = parser.parse_args()
    _fill_in()
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    print(json.dumps(asyncio.run(_measure(arguments)), indent=2))


async def _measure(arguments: argparse.Namespace) -> dict[str, Any]:
    from watchdog.model.engine import Address, Description  # noqa: PLC0415 (after `_fill_in`)
    from watchdog.model.fault import Fault  # noqa: PLC0415 (as above)

    address = Address(endpoint="bench", model=arguments.model, version=arguments.version)
    endpoint = _open(arguments.folder, arguments.cudart)
    said = await endpoint.describe(address, _PATIENCE_S)
    if isinstance(said, Fault):
        raise SystemExit(str(said))
    if not said.profiles:
        raise SystemExit("this engine has several profiles: bench one with a single one")
    assert isinstance(said, Description)
    figures = {
        "python": platform.python_version(),
        "server": said.server,
        "tag": said.tag,
        "inputs": {spec.name: [spec.dtype, list(said.profiles[spec.name].best)] for spec in said.inputs},
        "outputs": {spec.name: [spec.dtype, list(spec.shape)] for spec in said.outputs},
        "plan's first 28 bytes": list(_plan_of(arguments, said.versions).read_bytes()[:28]),
        "milliseconds": await _times(endpoint, address, said, arguments.times),
        "shape outside the profile": await _outside(endpoint, address, said),
    }
    await endpoint.close()
    return {**figures, "truncated plan": await _truncated(arguments, address, said.versions)}


def _open(folder: Path, cudart: Path | None) -> "TensorRtEngine":
    from watchdog.endpoints.tensorrt_engine import TensorRtEngine, TensorRtSettings  # noqa: PLC0415 (as above)

    return TensorRtEngine(TensorRtSettings(kind="tensorrt", name="bench", path=folder, cudart=cudart))


async def _times(endpoint: "TensorRtEngine", address: Any, said: "Description", times: int) -> dict[str, Any]:
    """Medians over `times` requests with new random inputs, each; the first, which is slower, apart."""
    from watchdog.model.fault import Fault  # noqa: PLC0415 (as above)
    from watchdog.model.probe import InferRequest  # noqa: PLC0415 (as above)

    rng = np.random.default_rng(1)
    timings = []
    for _ in range(times + 1):
        answer = await endpoint.infer(InferRequest(address=address, inputs=_random(said, rng)), _PATIENCE_S)
        if isinstance(answer, Fault):
            raise SystemExit(str(answer))
        timings.append(answer.timing)
    first, *others = timings
    return {
        "first": 1e3 * first.total_s,
        "total": _median_ms([each.total_s for each in others]),
        "device": _median_ms([each.device_s or 0.0 for each in others]),
        "parts": {str(part): _median_ms([each.parts[part] for each in others]) for part in first.parts},
        "worst difference of the parts' sum": 1e3
        * max(abs(each.total_s - sum(each.parts.values())) for each in others),
    }


def _median_ms(seconds: list[float]) -> float:
    return round(1e3 * float(np.median(seconds)), 4)


def _random(said: "Description", rng: np.random.Generator) -> "dict[str, Array]":
    from watchdog.model.tensor import DTYPES  # noqa: PLC0415 (as above)

    return {spec.name: rng.random(said.profiles[spec.name].best).astype(DTYPES[spec.dtype]) for spec in said.inputs}


async def _outside(endpoint: "TensorRtEngine", address: Any, said: "Description") -> str:
    """What is said of an input that is one larger everywhere than any profile takes."""
    from watchdog.model.probe import InferRequest  # noqa: PLC0415 (as above)
    from watchdog.model.tensor import DTYPES  # noqa: PLC0415 (as above)

    inputs = {
        spec.name: np.zeros([dim + 1 for dim in said.profiles[spec.name].most], DTYPES[spec.dtype])
        for spec in said.inputs
    }
    return str(await endpoint.infer(InferRequest(address=address, inputs=inputs), _PATIENCE_S))


def _plan_of(arguments: argparse.Namespace, versions: tuple[str, ...]) -> Path:
    plan: Path = arguments.folder / arguments.model / (arguments.version or versions[-1]) / "model.plan"
    return plan


async def _truncated(arguments: argparse.Namespace, address: Any, versions: tuple[str, ...]) -> str:
    """What is said of the first half of the plan."""
    plan = _plan_of(arguments, versions)
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / plan.relative_to(arguments.folder)
        copy.parent.mkdir(parents=True)
        shutil.copyfile(plan, copy)
        os.truncate(copy, copy.stat().st_size // 2)
        endpoint = _open(Path(folder), arguments.cudart)
        said = str(await endpoint.describe(address, _PATIENCE_S))
        await endpoint.close()
    return said


if __name__ == "__main__":
    main()
