"""The scene on real parts without a GPU; what needs one, on stand-ins of the same shape."""

import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from rich.console import Console

from bench.gpu import parts, reading, report
from bench.gpu.machine import Machine, forget, tensorrt_folder
from bench.gpu.scene import Scene, SceneError
from bench.gpu.server import Computed
from watchdog.demo import triton
from watchdog.demo.service import Record

ROOT = Path(__file__).parents[2]
ABOUT = {"watchdog": "0", "date": "today", "gpu": {"name": "a GPU"}, "scene": {}}

_ISOLATED = """
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"onnx", "onnxruntime", "psutil", "pytriton", "tensorrt", "torch"}:
            raise ImportError(name)
sys.meta_path.insert(0, Missing())
import bench.gpu.__main__
"""


def timed(canary: str = "a@one", *, device_ms: float = 1.0, **more: Any) -> Record:
    known = {"event": "timed", "canary": canary, "address": "triton:m", "attribution": "model", "total_ms": 5.0}
    return known | {"device_ms": device_ms, "model_ms": 0.5} | more


@dataclass
class FakeScene:
    """Enough of a `Scene` for a part that needs a GPU."""

    log: list[Record] = field(default_factory=list)
    computed: Iterator[Computed] = field(default_factory=lambda: iter([Computed(count=0, seconds=0.0)] * 9))
    document: dict[str, Any] = field(default_factory=dict)
    leaking: int = 0

    @property
    def server(self) -> Any:
        return SimpleNamespace(stub_pids=lambda _: [3, 7], computed=lambda _: next(self.computed))

    engines = SimpleNamespace(fast=Path("fast.plan"))

    def deploy(self, _plan: Path, *, leak: int = 0) -> float:
        self.leaking = leak
        return 0.1

    @contextmanager
    def traffic(self) -> Iterator[Any]:
        yield SimpleNamespace(answers=list)

    def mark(self) -> int:
        return 0

    def records(self, since: int = 0) -> list[Record]:
        return self.log[since:]

    def wait_for(self, wanted: Callable[[Record], bool], _timeout_s: float, since: int) -> Any:
        return next(filter(wanted, self.log[since:]), None)

    def status(self) -> dict[str, Any]:
        return self.document


def shown(name: str, seen: dict[str, Any]) -> str:
    part = {"outcome": "played", "seen": seen, "healed": {"deploy_s": 0.5}}
    out = io.StringIO()
    report.show(ABOUT | {"parts": {name: part}}, Console(file=out, width=160))
    return out.getvalue()


@pytest.mark.triton
@pytest.mark.system
@pytest.mark.skipif(triton.available() is not None, reason="no Triton here")
def test_a_scene_without_a_gpu_finds_the_overflow_and_is_healthy_again(tmp_path: Path) -> None:
    out = tmp_path / "found.json"
    command = [sys.executable, "-m", "bench.gpu", "--backend", "numpy", "--part", "overflow", "--part", "leak"]
    done = subprocess.run(
        [*command, "--out", str(out), "--work", str(tmp_path / "work")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(out.read_text())["parts"]
    seen = found["overflow"]["seen"]
    assert (seen["reason"], seen["conclusion"], seen["rolled_back"]) == ("non-finite", "engine-fault", True)
    assert seen["ready"] == [1]
    assert seen["traffic"]["after"]["failed"] == 0
    assert seen["traffic"]["before"]["wrong"] == 0
    assert "promote_s" in found["overflow"]["healed"]
    assert found["leak"] == {"outcome": "left out", "why": "there is no GPU"}
    assert "first bad canary → proven switch" in done.stdout


def test_the_watchdogs_side_needs_nothing_but_its_own_dependencies() -> None:
    done = subprocess.run([sys.executable, "-c", _ISOLATED], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_leaks_rate_is_told_beside_the_truth(monkeypatch: pytest.MonkeyPatch) -> None:
    held = iter([{7: 1000}, {7: 5000}])
    monkeypatch.setattr(reading, "held_bytes", lambda: next(held))
    growth = {"gpu": "G", "holder": "triton_python_backend_stub", "pids": [7], "bytes_per_hour": 3e9}
    scene = FakeScene(
        log=[{"event": "leak", "holder": growth["holder"], "pids": [7], "bytes_per_hour": 3e9}],
        computed=iter([Computed(count=10, seconds=1.0), Computed(count=30, seconds=2.0)]),
        document={"gpu": {"source": "nvml", "gpus": [{"name": "G"}], "growth": [growth]}},
    )
    seen = parts.leak(cast("Scene", scene), time.monotonic() + 5)
    assert scene.leaking == 2 * 2**20
    assert seen["pid"] == 7  # the newest
    assert seen["requests"] == 20
    assert seen["true_bytes_per_hour"] / seen["driver_bytes_per_hour"] == pytest.approx(20 * 2 * 2**20 / 4000)
    assert seen["found_bytes_per_hour"] == 3e9
    assert seen["growth"] == [growth]
    assert "2.79 GiB/h" in shown("leak", seen)


def test_a_leak_that_is_not_found_is_told_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "held_bytes", dict)
    seen = parts.leak(cast("Scene", FakeScene()), time.monotonic() + 5)
    assert seen["found_after_s"] is None
    assert "never" in shown("leak", seen)


def _neighbour(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    path = folder / "neighbour.py"
    path.write_text(script)
    monkeypatch.setattr(parts, "_NEIGHBOUR", path)
    monkeypatch.setattr(parts, "_NEIGHBOUR_S", 0.01)
    monkeypatch.setattr(parts, "_USUAL_S", 0.01)


def test_a_neighbours_effect_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _neighbour(tmp_path, monkeypatch, "print('busy', flush=True)\nprint('{\"flops\": 1e15}')")
    scene = FakeScene(log=[timed(device_ms=2.0), timed(address="triton:m/1", device_ms=9.0)])
    seen = parts.neighbour(cast("Scene", scene), time.monotonic() + 20)
    assert seen["neighbour"] == {"flops": 1e15}
    assert seen["during"]["cuda_event"]["n"] == 1  # the public name's alone
    assert seen["during"]["trace"]["max"] == pytest.approx(0.0025)
    assert "nothing" in shown("neighbour", seen)


@pytest.mark.parametrize("script", ["raise SystemExit('no card')", "import time; time.sleep(60)"])
def test_a_neighbour_that_fails_or_hangs_ends_its_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str
) -> None:
    _neighbour(tmp_path, monkeypatch, script)
    with pytest.raises(SceneError, match="the neighbour ended with"):
        parts.neighbour(cast("Scene", FakeScene()), time.monotonic())


def test_what_was_not_played_is_shown_with_its_cause() -> None:
    story = "Traceback …\nbench.gpu.scene.SceneError: no probe\n\nthe watchdog's last words:\n{}"
    out = io.StringIO()
    found = {"leak": {"outcome": "left out", "why": "there is no GPU"}, "overflow": {"outcome": "failed", "why": story}}
    report.show(ABOUT | {"parts": found, "failed": story}, Console(file=out, width=160))
    lines = out.getvalue().splitlines()
    assert any("leak" in line and "there is no GPU" in line for line in lines)
    assert sum("SceneError: no probe" in line for line in lines) == 2


def test_the_same_thing_is_told_once() -> None:
    bad = {"event": "probe", "public": True, "verdict": "failed", "reason": "non-finite", "canary": "a@one"}
    healthy = {"event": "probe", "public": True, "verdict": "healthy"}
    log = [healthy, bad, bad | {"canary": "b@one"}, timed(), {"event": "switch", "to": "safe", "proven": True}]
    assert [(r["event"], r.get("canary")) for r in reading.told(log)] == [("probe", "a@one"), ("switch", None)]


def test_each_kind_of_program_gets_an_environment_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packages, tool = tmp_path / "trt", tmp_path / "py310/bin"
    (packages / "tensorrt").mkdir(parents=True)
    (packages / "tensorrt/__init__.py").touch()
    for name, value in {
        "PATH": f"{tool}:/usr/bin",
        "PYTHONPATH": f"{packages}:/deps",
        "LD_LIBRARY_PATH": "/trt/lib",
        "CUDART": "/trt/libcudart.so",
        "SECRET": "x",
    }.items():
        monkeypatch.setenv(name, value)
    assert tensorrt_folder(os.environ) == packages
    machine = Machine(
        python=tool / "python3.10",
        tritonserver=tmp_path,
        backends=tmp_path,
        packages=packages,
        libraries="/trt/lib",
        cudart=Path("/trt/libcudart.so"),
    )
    theirs = machine.environment()
    assert theirs["PYTHONPATH"] == f"{packages}:{ROOT}"
    assert theirs["PATH"].startswith(f"{tool}:")
    assert (theirs["LD_LIBRARY_PATH"], theirs["CUDART"]) == ("/trt/lib", "/trt/libcudart.so")
    assert "SECRET" not in theirs
    forget(machine)
    assert (os.environ["PATH"], os.environ["PYTHONPATH"]) == ("/usr/bin", f"{ROOT}:/deps")
    assert not {"LD_LIBRARY_PATH", "CUDART"} & os.environ.keys()
