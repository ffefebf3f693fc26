"""NVML that plays what a test tells it to; each test has a library of its own, with nothing left in its memory."""

import ctypes
import shutil
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pynvml
import pytest

from tests.gpu.fake_nvml import COMPILER, FakeNvml, compiled
from watchdog.gpu.nvml import NvmlGpus


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if COMPILER is None:
        pytest.skip("needs a C compiler (cc or gcc) for the fake NVML")
    return compiled(tmp_path_factory.mktemp("nvml"))


@pytest.fixture
def fake(library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeNvml]:
    own = shutil.copy(library, tmp_path / library.name)
    fake = FakeNvml(tmp_path / "state")
    fake.play()
    monkeypatch.setenv("FAKE_NVML", str(fake.state))
    monkeypatch.setattr(pynvml, "nvmlLib", ctypes.CDLL(str(own)))
    monkeypatch.setattr(pynvml, "_nvmlGetFunctionPointer_cache", {})
    yield fake
    fake.play()  # lets go of what hangs
    for thread in threading.enumerate():
        if thread.name == "nvml":
            thread.join()


@pytest.fixture
async def gpus(fake: FakeNvml) -> AsyncIterator[NvmlGpus]:
    gpus = NvmlGpus()
    yield gpus
    await gpus.close()
