"""What every measurement stands on: a real Triton, canaries of phantoms, baselines and configurations."""

import py_compile
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from watchdog.canaries.phantom import default_set, write_series
from watchdog.demo import served
from watchdog.demo.repository import FAST, MODEL, SAFE, write_repository
from watchdog.demo.stage import OUTPUTS, RECIPE, SEED
from watchdog.demo.triton import TritonServer


@dataclass(frozen=True, kw_only=True)
class Case:
    """One model and the payload that it is probed with: batch 1, FP32."""

    model: str
    size: int
    """Rows and columns."""
    outputs: tuple[dict[str, str], ...]

    @property
    def payload_bytes(self) -> int:
        return 4 * self.size**2

    @property
    def payload(self) -> str:
        return f"1×1×{self.size}×{self.size} FP32 ({self.payload_bytes / 2**10:g} KiB)"


DETECTOR = Case(model=MODEL, size=512, outputs=tuple(OUTPUTS))
FREE = Case(model="free", size=64, outputs=({"name": "probability", "kind": "probability"},))
"""The harshest case: hardly any time goes into anything but the client."""

_FREE_CONFIG = f"""\
name: "{FREE.model}"
backend: "python"
max_batch_size: 8
input [ {{ name: "CT" data_type: TYPE_FP32 dims: [ 1, -1, -1 ] }} ]
output [ {{ name: "probability" data_type: TYPE_FP32 dims: [ 1 ] }} ]
instance_group [ {{ kind: KIND_CPU count: 1 }} ]
version_policy {{ specific {{ versions: [ {SAFE}, {FAST} ] }} }}
"""


class Ground:
    """A folder with a model repository, a Triton that serves it, and a configuration a case."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        repository = write_repository(folder / "models")
        _write_free(repository / FREE.model)
        self.server = TritonServer(repository, folder / "triton", models=[MODEL, FREE.model])

    def prepare(self, case: Case) -> None:
        """Write the case's canaries and recipe, and capture its baseline from the running server."""
        home = self.folder / case.model
        write_series(home / "canaries", default_set(SEED, case.size), SEED)
        recipe = RECIPE | {"profiles": [{"name": "opt", "batch": 1, "size": [case.size, case.size]}]}
        (home / "recipe.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False), encoding="utf-8")
        config = self.configure(case, "baseline", every="1s")
        command = [sys.executable, "-m", "watchdog", "baseline", str(config), "--repeats", "3"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"`{' '.join(command)}` failed:\n{done.stderr}")

    def configure(self, case: Case, name: str, *, every: str, grpc_url: str = "", listen: str = "127.0.0.1:0") -> Path:
        """A configuration of its own for one measurement; at the running Triton unless `grpc_url` says otherwise."""
        model: dict[str, Any] = {
            "name": case.model,
            "endpoint": "triton",
            "engines": {"fast": {"version": FAST}, "safe": {"version": SAFE}},
            "canaries": {"path": "canaries", "recipe": "recipe.yaml"},
            "baseline": "baseline",
            "outputs": list(case.outputs),
            "probe": {"every": every, "deadline": "5s"},
            # A busy machine must not start bursts of confirming probes, which nobody compares with.
            "latency": {"fast": "5s", "safe": "5s", "jump": None},  # the baseline was captured without other traffic
            "policy": {"action": "rollback"},
            "router": {"kind": "triton", "url": self.server.http_url},
        }
        config = {
            "state": f"state-{name}",
            "api": {"listen": listen},
            "endpoints": [{"name": "triton", "kind": "triton-grpc", "url": grpc_url or self.server.grpc_url}],
            "models": [model],
            "channels": [{"name": "pager", "kind": "alertmanager", "urls": ["http://127.0.0.1:9093"]}],
        }
        path = self.folder / case.model / f"{name}.yaml"
        path.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
        return path


def _write_free(folder: Path) -> None:
    sources = {
        "model.py": Path(__file__).with_name("free_model.py"),
        "tensors.py": Path(served.__file__).with_name("tensors.py"),
    }
    for version in (SAFE, FAST):
        (folder / str(version)).mkdir(parents=True)
        for name, source in sources.items():
            copy = folder / str(version) / name
            shutil.copyfile(source, copy)
            py_compile.compile(str(copy), doraise=True)  # at once, as bytecode that comes later means a rebuild
    (folder / "config.pbtxt").write_text(_FREE_CONFIG, encoding="utf-8")
