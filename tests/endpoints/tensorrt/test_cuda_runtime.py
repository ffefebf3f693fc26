"""Where the CUDA runtime is looked for."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from watchdog.endpoints import cuda


def test_the_one_that_the_process_has_is_taken(built_cudart: Path) -> None:
    program = (
        "import ctypes, sys\n"
        "from watchdog.endpoints.cuda import runtime_library\n"
        "loaded = ctypes.CDLL(sys.argv[1])\n"
        "assert runtime_library(None)._handle == loaded._handle"
    )
    subprocess.run([sys.executable, "-c", program, str(built_cudart)], check=True, timeout=60)


def test_a_wheels_is_found(built_cudart: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library = tmp_path / "nvidia/cuda_runtime/lib/libcudart.so.11.0"
    library.parent.mkdir(parents=True)
    shutil.copy(built_cudart, library)
    monkeypatch.setattr(cuda, "_NAMES", ())
    monkeypatch.syspath_prepend(tmp_path)
    assert cuda.runtime_library(None)._name == str(library)


def test_none_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda, "_NAMES", ("libcudart.so.0",))
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.delitem(sys.modules, "nvidia", raising=False)
    with pytest.raises(OSError, match="libcudart is not found: install the CUDA runtime, or give its path as cudart"):
        cuda.runtime_library(None)
