"""Which servers may be asked to trace."""

import pytest

from watchdog.model.engine import Description
from watchdog.tracing import may_crash


@pytest.mark.parametrize(
    ("server", "extensions", "crashes"),
    [
        ("triton 2.51.0", (), True),
        ("triton 2.57.0", ("trace",), True),
        ("triton 2.57.0nv25.04", ("trace",), True),
        ("triton 2.58.0", ("trace",), False),
        ("triton 2.58.0dev", ("trace",), False),
        ("triton 3.0.0", ("trace",), False),
        ("ct-scanner 2.51.0", ("statistics", "trace"), True),
        ("the CT scanner 2.51.0", ("trace",), True),
        ("ct-scanner 2.58.0", ("trace",), False),
        ("triton", (), True),
        ("triton nightly", (), True),
        ("mlserver 1.3.5", (), False),
        ("tensorrt 8.5.3.1", (), False),
        ("", (), False),
    ],
)
def test_tritons_before_the_repair_may_crash_under_any_name(
    server: str, extensions: tuple[str, ...], crashes: bool
) -> None:
    assert may_crash(Description(server=server, inputs=(), outputs=(), extensions=extensions)) is crashes
