"""Names from a /proc that holds what real ones hold."""

from pathlib import Path

import pytest

from watchdog.gpu.processes import merged, program
from watchdog.model.gpu import ProcessMemory


@pytest.mark.parametrize(
    ("cmdline", "comm", "name"),
    [
        (b"/opt/tritonserver/bin/tritonserver\0--model-repository=/m\0", b"tritonserver\n", "tritonserver"),
        (b"/b/python/triton_python_backend_stub\0/m/1/model.py\0", b"triton_python_b\n", "triton_python_backend_stub"),
        (b"tritonserver", b"tritonserver\n", "tritonserver"),
        (b"", b"nvidia-modeset/\n", "nvidia-modeset/"),  # a kernel's thread
        (None, b"tritonserver\n", "tritonserver"),
        (None, None, ""),
        (b"/usr/bin/\0", b"odd\n", "bin"),
        (b"\xff\x1b[31m\nname\0", b"x\n", "\ufffd [31m name"),
        (b"a" * 500, b"a\n", "a" * 63 + "…"),
    ],
)
def test_the_name_of_a_program(tmp_path: Path, cmdline: bytes | None, comm: bytes | None, name: str) -> None:
    own = tmp_path / "42"
    own.mkdir()
    for file, content in (("cmdline", cmdline), ("comm", comm)):
        if content is not None:
            (own / file).write_bytes(content)
    assert program(42, tmp_path) == name


def test_a_process_that_has_ended_has_no_name(tmp_path: Path) -> None:
    assert program(42, tmp_path) == ""


@pytest.mark.parametrize(
    ("amounts", "used"),
    [((5, 5), 5), ((5, 7), 7), ((None, 5), 5), ((5, None), 5), ((0, None), 0), ((None, None), None)],
)
def test_a_process_that_is_told_twice_is_counted_once(amounts: tuple[int | None, ...], used: int | None) -> None:
    nobody = 4_000_001  # above the kernel's highest
    told = [(nobody, "MIG-1", amount) for amount in amounts]
    assert merged([*told, (nobody, "MIG-2", 1)]) == (
        ProcessMemory(pid=nobody, name="", used_bytes=used, mig="MIG-1"),
        ProcessMemory(pid=nobody, name="", used_bytes=1, mig="MIG-2"),
    )
