"""The model repository, and the engines that go into it: version 1 in FP32, version 2 in FP16."""

import json
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from bench.gpu.machine import ROOT, Machine
from bench.gpu.net import Net
from watchdog.demo import served as tensors
from watchdog.model.tensor import Array

MODEL = "lung_nodule"
SAFE, FAST = 1, 2

_HERE = Path(__file__).parent
_TENSORS = Path(tensors.__file__).with_name("tensors.py")
_BUILD_S = 240.0

_CONFIG = """\
name: "{model}"
backend: "python"
max_batch_size: 8
input [ {{ name: "CT" data_type: TYPE_FP32 dims: [ 1, -1, -1 ] }} ]
output [
  {{ name: "probability" data_type: TYPE_FP32 dims: [ 1 ] }},
  {{ name: "heatmap" data_type: TYPE_FP32 dims: [ 1, -1, -1 ] }},
  {{ name: "device_seconds" data_type: TYPE_FP32 dims: [ 1 ] }}
]
instance_group [ {{ kind: KIND_CPU count: 1 }} ]
version_policy {{ specific {{ versions: [ {safe}, {fast} ] }} }}
parameters [
  {{ key: "engine_tag.{safe}" value: {{ string_value: "{tag}" }} }},
  {{ key: "engine_tag.{fast}" value: {{ string_value: "{tag}" }} }},
  {{ key: "profile.CT" value: {{ string_value: "1x1x64x64 1x1x512x512 8x1x512x512" }} }}
]
"""


class BuildError(Exception):
    """An engine could not be built, or does not do as meant; the message has what its builder said."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Engines:
    """What a version serves, ready to be put in its place."""

    artefact: str
    """The file's name in a version's folder."""
    safe: Path
    fast: Path
    overflowing: Path
    sources: tuple[Path, ...]
    """The Python files of each version."""
    tag: str
    built: Mapping[str, Any] = field(default_factory=dict)
    """What building them told."""


def build_tensorrt(machine: Machine, net: Net, images: Array, work: Path) -> Engines:
    """Real engines, each tried with `images` [N, 1, H, W]. Up to a minute or two. Raises BuildError."""
    net.save(work / "net.npz")
    np.save(work / "images.npy", images)
    command = [str(machine.python), "-m", "bench.gpu.build_engines"]
    command += ["--weights", str(work / "net.npz"), "--images", str(work / "images.npy"), "--out", str(work)]
    try:
        done = subprocess.run(
            command,
            cwd=ROOT,
            env=machine.environment(),
            capture_output=True,
            text=True,
            timeout=_BUILD_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise BuildError(f"the engines were not built within {_BUILD_S:g} s:\n{error.stderr!r}") from error
    if done.returncode != 0:
        raise BuildError(f"`{' '.join(command)}` failed:\n{done.stdout[-3000:]}\n{done.stderr[-6000:]}")
    return Engines(
        artefact="model.plan",
        safe=work / "fp32.plan",
        fast=work / "fp16.plan",
        overflowing=work / "overflow.plan",
        sources=(_HERE / "served/model.py", _HERE / "served/engine.py", _TENSORS),
        tag="trt8.5.3-cuda11.8",
        built=json.loads(done.stdout.splitlines()[-1]),
    )


def build_stand_in(net: Net, work: Path) -> Engines:
    """The net in numpy, which rounds as FP16 does: for a scene without a GPU."""
    net.save(work / "net.npz")
    net.overflowing().save(work / "overflow.npz")
    return Engines(
        artefact="model.npz",
        safe=work / "net.npz",
        fast=work / "net.npz",
        overflowing=work / "overflow.npz",
        sources=(_HERE / "stand_in/model.py", _HERE / "net.py", _TENSORS),
        tag="numpy",
    )


def write_repository(folder: Path, engines: Engines) -> None:
    for version, plan in ((SAFE, engines.safe), (FAST, engines.fast)):
        home = folder / MODEL / str(version)
        home.mkdir(parents=True)
        for source in engines.sources:
            shutil.copy(source, home)
        place(folder, engines, version, plan)
    config = _CONFIG.format(model=MODEL, safe=SAFE, fast=FAST, tag=engines.tag)
    (folder / MODEL / "config.pbtxt").write_text(config, encoding="utf-8")


def place(folder: Path, engines: Engines, version: int, plan: Path) -> None:
    """Make `plan` the version's engine, in one step; in force once the model is loaded again."""
    path = folder / MODEL / str(version) / engines.artefact
    fresh = path.with_suffix(".new")
    shutil.copyfile(plan, fresh)
    fresh.replace(path)


def set_leak(folder: Path, version: int, bytes_per_request: int) -> None:
    """Have the version leak device memory, or with 0 no more; in force once the model is loaded again."""
    leak = folder / MODEL / str(version) / "leak"
    if bytes_per_request:
        leak.write_text(str(bytes_per_request), encoding="ascii")
    else:
        leak.unlink(missing_ok=True)
