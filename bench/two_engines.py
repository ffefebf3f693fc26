"""A real Triton with a fast and a safe engine of one small model, of which the fast one can be made to answer zeros."""

import py_compile
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from bench.gateways import MODEL
from bench.ground import FREE
from watchdog.canaries.phantom import default_set, write_series
from watchdog.demo import served
from watchdog.demo.repository import FAST, SAFE
from watchdog.demo.stage import RECIPE, SEED
from watchdog.demo.triton import TritonServer
from watchdog.model.engine import Role

EVERY_S = 1.0
"""From probe to probe, whoever acts on them."""
TOKEN = "bench"
"""Of every watchdog here, for its commands."""
VERSION = {Role.FAST: FAST, Role.SAFE: SAFE}

_CONFIG = f"""\
name: "{MODEL}"
backend: "python"
max_batch_size: 8
input [ {{ name: "CT" data_type: TYPE_FP32 dims: [ 1, -1, -1 ] }} ]
output [ {{ name: "probability" data_type: TYPE_FP32 dims: [ 1 ] }} ]
instance_group [ {{ kind: KIND_CPU count: 1 }} ]
version_policy {{ specific {{ versions: [ {SAFE}, {FAST} ] }} }}
"""


class TwoEngines:
    """A folder with the model repository, canaries, their baseline, and a configuration for each watchdog."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._zeros = folder / f"zeros-{FAST}"
        _write_model(folder / "models" / MODEL)
        (folder / "token").write_text(TOKEN, encoding="utf-8")
        self.server = TritonServer(folder / "models", folder / "triton", models=[MODEL])

    def prepare(self) -> None:
        """Write canaries and recipe, and capture the baseline from the running server."""
        write_series(self.folder / "canaries", default_set(SEED, FREE.size), SEED)
        recipe = RECIPE | {"profiles": [{"name": "opt", "batch": 1, "size": [FREE.size, FREE.size]}]}
        (self.folder / "recipe.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False), encoding="utf-8")
        config = self.configure("baseline", self.server.http_url)
        command = [sys.executable, "-m", "watchdog", "baseline", str(config), "--repeats", "3"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"`{' '.join(command)}` failed:\n{done.stderr}")

    def configure(
        self, name: str, public: str, *, router: Mapping[str, Any] | None = None, listen: str = "127.0.0.1:0"
    ) -> Path:
        """A configuration of its own for one watchdog, which only tells where it has no router.

        Args:
            name: unique.
            public: host and port that ordinary requests go to.
            router: its settings.
            listen: where the watchdog itself does.
        """
        model: dict[str, Any] = {
            "name": MODEL,
            "endpoint": "triton",
            "engines": {role.value: {"version": version} for role, version in VERSION.items()},
            "public": {"endpoint": "public"},
            "canaries": {"path": "canaries", "recipe": "recipe.yaml"},
            "baseline": "baseline",
            "outputs": list(FREE.outputs),
            "probe": {"every": f"{EVERY_S:g}s", "deadline": "5s"},
            # The baseline was captured without other traffic, and speed is not the matter here.
            "latency": {"fast": "5s", "safe": "5s", "jump": None},
            "policy": {"action": "alert" if router is None else "rollback"},
            "router": router,
        }
        config = {
            "state": f"state-{name}",
            "api": {"listen": listen, "token": {"file": "token"}},
            "endpoints": [
                {"name": "triton", "kind": "triton-http", "url": self.server.http_url},
                {"name": "public", "kind": "triton-http", "url": public},
            ],
            "models": [model],
        }
        path = self.folder / f"{name}.yaml"
        path.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
        return path

    def spoil(self) -> None:
        """The fast engine answers zeros from its next request on."""
        self._zeros.touch()

    def heal(self) -> None:
        self._zeros.unlink(missing_ok=True)


def _write_model(folder: Path) -> None:
    sources = {
        "model.py": Path(__file__).with_name("switch_model.py"),
        "tensors.py": Path(served.__file__).with_name("tensors.py"),
    }
    for version in VERSION.values():
        (folder / str(version)).mkdir(parents=True)
        for name, source in sources.items():
            copy = folder / str(version) / name
            shutil.copyfile(source, copy)
            py_compile.compile(str(copy), doraise=True)  # at once, as bytecode that comes later means a rebuild
    (folder / "config.pbtxt").write_text(_CONFIG, encoding="utf-8")
