"""TensorRT endpoints on machines without a GPU: real code down to ctypes, a fake runtime and package below."""

import ctypes
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.endpoints.tensorrt import fake_tensorrt
from watchdog.endpoints.tensorrt_engine import TensorRtEngine, TensorRtSettings

Open = Callable[..., TensorRtEngine]
Write = Callable[..., Path]


@pytest.fixture(scope="session")
def built_cudart(tmp_path_factory: pytest.TempPathFactory) -> Path:
    library = tmp_path_factory.mktemp("cudart") / "libcudart.so.11.0"
    options = ["-Wall", "-Wextra", "-Werror", "-O1", "-shared", "-fPIC", "-pthread", f"-Wl,-soname,{library.name}"]
    source = Path(__file__).with_name("fake_cudart.c")
    subprocess.run(["cc", *options, "-o", str(library), str(source)], check=True, timeout=60)
    return library


@pytest.fixture
def cudart_path(built_cudart: Path, tmp_path: Path) -> Path:
    """A copy of its own: a library's globals are as many as its files."""
    return Path(shutil.copy(built_cudart, tmp_path))


@pytest.fixture
def cudart(cudart_path: Path) -> Iterator[ctypes.CDLL]:
    library = ctypes.CDLL(str(cudart_path))
    yield library
    library.fake_hold(0)  # so that no thread stays behind


@pytest.fixture
def use(cudart: ctypes.CDLL, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """Installs the TensorRT of a version."""

    def installed(version: str) -> ModuleType:
        package = fake_tensorrt.make(cudart, version)
        monkeypatch.setitem(sys.modules, "tensorrt", package)
        return package

    installed("8.5.3.1")
    return installed


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a plan, of ``MODEL/VERSION``, with the defaults of a model that doubles images."""

    def written(place: str = "lung/1", content: bytes | None = None, **spec: Any) -> Path:
        whole = {
            "program": "double",
            "tensors": [
                fake_tensorrt.tensor("X", -1, 1, -1, -1),
                fake_tensorrt.tensor("Y", -1, 1, -1, -1, output=True),
            ],
            "profiles": [{"X": [[1, 1, 2, 2], [1, 1, 4, 4], [2, 1, 8, 8]]}],
            **spec,
        }
        file = tmp_path / "models" / place / "model.plan"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(fake_tensorrt.write_plan(**whole) if content is None else content)
        return file

    return written


@pytest.fixture
async def open_engine(
    tmp_path: Path, cudart_path: Path, use: Callable[[str], ModuleType], cudart: ctypes.CDLL
) -> AsyncIterator[Open]:
    """Opens endpoints; after the test all are closed, and whoever asks then finds that no memory is left behind."""
    opened: list[TensorRtEngine] = []

    def at(**more: Any) -> TensorRtEngine:
        settings = {"kind": "tensorrt", "name": "jetson", "path": tmp_path / "models", "cudart": cudart_path, **more}
        opened.append(TensorRtEngine(TensorRtSettings.model_validate(settings)))
        return opened[-1]

    yield at
    cudart.fake_hold(0)
    for endpoint in opened:
        await endpoint.close()
