"""What `fake_nvml.c` plays, as tests write it."""

import shutil
import subprocess
from pathlib import Path

SOURCE = Path(__file__).with_suffix(".c")
COMPILER = shutil.which("cc") or shutil.which("gcc")

GIB = 2**30
DRIVER = ("driver 570.86.15", "cuda 12080")
H100 = {
    "total": 80 * GIB,
    "used": 20 * GIB,
    "busy": 37,
    "memory_busy": 12,
    "temperature": 54,
    "power": 311_500,
    "sm_clock": 1980,
    "memory_clock": 2619,
    "reasons": 0,
    "corrected": 3,
    "uncorrected": 0,
    "mig": 0,
    "major": 9,
    "minor": 0,
}


def compiled(folder: Path) -> Path:
    """The library, made from its source."""
    assert COMPILER is not None
    library = folder / "libnvidia-ml.so.1"
    flags = ["-std=c11", "-D_DEFAULT_SOURCE", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]
    subprocess.run([COMPILER, *flags, "-o", str(library), str(SOURCE)], check=True)
    return library


def gpu(uuid: str, *, without: str = "", **more: int) -> tuple[str, ...]:
    """The lines of one GPU: an H100, `without` the named fields, and with others of its own."""
    fields = {name: value for name, value in (H100 | more).items() if name not in without.split()}
    return f"gpu {uuid}", *(f"of {uuid} {name} {value}" for name, value in fields.items())


class FakeNvml:
    """One library's state file, and what the library wrote down."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self._log = state.with_name(f"{state.name}.log")

    def play(self, *lines: str) -> None:
        """From now on the library plays this and nothing else."""
        new = self.state.with_suffix(".new")
        new.write_text("".join(f"{line}\n" for line in (*DRIVER, *lines)), encoding="utf-8")
        new.replace(self.state)  # at once: the library may read it at any time

    def calls(self) -> list[str]:
        """Every ``init`` and ``shutdown`` so far."""
        return self._log.read_text(encoding="utf-8").split() if self._log.exists() else []
