"""What a machine has for the scene, and the environment that each kind of program gets there.

Two interpreters with packages of their own must not see each other's: the watchdog's has this process's
environment, cleared of what TensorRT's needs; TensorRT's and Triton's gets one that is made for it alone.
"""

import importlib.util
import os
import shutil
import sys
import sysconfig
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

ROOT = Path(__file__).parents[2]
"""The repository: `bench` and `watchdog` are imported from here."""

_STUB = "triton_python_backend_stub"
_KEPT = ("HOME", "LANG", "TMPDIR", "CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES")


class MachineError(Exception):
    """Something that the scene needs is missing; the message says what."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Machine:
    """Where everything is. `backends` has the Python backend with the stub of `python` beside it."""

    python: Path
    """The interpreter of models (and of TensorRT): Triton's stubs run it."""
    tritonserver: Path
    backends: Path
    packages: Path | None
    """The folder of the package `tensorrt`, where it is not installed in `python`."""
    libraries: str
    """LD_LIBRARY_PATH of Triton and of TensorRT."""
    cudart: Path | None = None
    """The CUDA runtime library, for ctypes."""

    def check(self) -> None:
        """Raises MachineError."""
        missing = [str(path) for path in (self.python, self.tritonserver, self.backends) if not path.exists()]
        if missing:
            raise MachineError(f"not found: {', '.join(missing)}")
        if not (self.python.parent / "python3").exists():
            raise MachineError(f"there is no python3 beside {self.python}, which Triton's stub would run")

    def environment(self) -> dict[str, str]:
        """For Triton and for what imports TensorRT. Bytecode is not written: Triton would take it for a change."""
        packages = [str(self.packages)] if self.packages is not None else []
        return {
            **{name: os.environ[name] for name in _KEPT if name in os.environ},
            "PATH": os.pathsep.join([str(self.python.parent), os.defpath]),
            "LD_LIBRARY_PATH": self.libraries,
            "PYTHONPATH": os.pathsep.join([*packages, str(ROOT)]),
            "PYTHONDONTWRITEBYTECODE": "1",
            **({"CUDART": str(self.cudart)} if self.cudart is not None else {}),
        }

    @classmethod
    def of_wheel(cls, work: Path) -> Self:
        """Triton from its wheel and this very interpreter, for a scene without a GPU.

        Raises:
            MachineError: the wheel is not installed.
        """
        spec = importlib.util.find_spec("pytriton")
        if spec is None or not spec.submodule_search_locations:
            raise MachineError("Triton's wheel is not installed; `make setup` does that")
        triton = Path(spec.submodule_search_locations[0]).absolute() / "tritonserver"
        backend = work / "backends" / "python"
        shutil.copytree(triton / "backends/python", backend)
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        shutil.copyfile(triton / "python_backend_stubs" / version / _STUB, backend / _STUB)
        for name in (_STUB, "libtriton_python.so"):
            (backend / name).chmod(0o755)
        folders = [triton.parents[1] / "nvidia_pytriton.libs", Path(sysconfig.get_config_var("LIBDIR"))]
        return cls(
            python=Path(sys.executable).absolute(),
            tritonserver=triton / "bin/tritonserver",
            backends=backend.parent,
            packages=None,
            libraries=os.pathsep.join(map(str, folders)),
        )


def tensorrt_folder(environment: Mapping[str, str]) -> Path | None:
    """The entry of PYTHONPATH that has the package `tensorrt`."""
    entries = (Path(entry) for entry in environment.get("PYTHONPATH", "").split(os.pathsep) if entry)
    return next((entry for entry in entries if (entry / "tensorrt/__init__.py").exists()), None)


def forget(machine: Machine) -> None:
    """Clear this process's environment of `machine`'s paths, for the programs of the watchdog that it starts."""
    for name in ("LD_LIBRARY_PATH", "CUDART"):
        os.environ.pop(name, None)
    foreign = {str(machine.python.parent), str(machine.packages)}
    for name, more in (("PATH", ()), ("PYTHONPATH", (str(ROOT),))):
        entries = [entry for entry in os.environ.get(name, "").split(os.pathsep) if entry and entry not in foreign]
        os.environ[name] = os.pathsep.join(dict.fromkeys([*more, *entries]))
