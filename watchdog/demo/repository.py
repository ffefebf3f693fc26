"""The detector as a Triton model repository: version 1 in FP32, version 2 in FP16."""

import py_compile
import shutil
from collections.abc import Iterable
from importlib.metadata import version as installed
from pathlib import Path

from watchdog.demo import served
from watchdog.demo.graphs import Weights, fp16, fp32
from watchdog.demo.training import trained

MODEL = "lung_nodule"
SAFE, FAST = 1, 2
"""Versions. Triton gives unversioned requests to the highest one, and so to the fast engine."""

_SERVED = Path(served.__file__).parent
_FILES = ("model.py", "tensors.py")

_CONFIG = """\
name: "{model}"
backend: "python"
max_batch_size: 8
input [ {{ name: "CT" data_type: TYPE_FP32 dims: [ 1, -1, -1 ] }} ]
output [
  {{ name: "probability" data_type: TYPE_FP32 dims: [ 1 ] }},
  {{ name: "heatmap" data_type: TYPE_FP32 dims: [ 1, -1, -1 ] }}
]
instance_group [ {{ kind: KIND_CPU count: {instances} }} ]
version_policy {{ specific {{ versions: [ {safe}, {fast} ] }} }}
parameters [
  {{ key: "engine_tag.{safe}" value: {{ string_value: "onnxruntime{runtime}-cpu-fp32" }} }},
  {{ key: "engine_tag.{fast}" value: {{ string_value: "onnxruntime{runtime}-cpu-fp16" }} }}
]
"""


def write_repository(folder: Path, weights: Weights | None = None, *, instances: int = 1) -> Path:
    """Write the model into the repository `folder`, with `instances` processes a version, and return `folder`.

    Takes some seconds the first time, because the detector is trained (unless `weights` are given).
    """
    weights = weights or trained()
    write_version(folder, SAFE, fp32(weights))
    write_version(folder, FAST, fp16(weights))
    runtime = installed("onnxruntime")
    config = _CONFIG.format(model=MODEL, instances=instances, safe=SAFE, fast=FAST, runtime=runtime)
    (folder / MODEL / "config.pbtxt").write_text(config, encoding="utf-8")
    return folder


def write_version(repository: Path, version: int, graph: bytes) -> None:
    """Add a version. It serves once the version policy lets it and the model is loaded again."""
    folder = repository / MODEL / str(version)
    folder.mkdir(parents=True, exist_ok=True)
    promote_graph(repository, version, graph)
    for name in _FILES:
        shutil.copyfile(_SERVED / name, folder / name)
        # bytecode that appeared at the first start would make Triton rebuild the version at the next load
        py_compile.compile(str(folder / name), doraise=True)


def set_versions(repository: Path, versions: Iterable[int]) -> None:
    """Write another version policy, as a deployment does. It is in force once the model is loaded again."""
    path = repository / MODEL / "config.pbtxt"
    policy = f"version_policy {{ specific {{ versions: [ {', '.join(map(str, versions))} ] }} }}"
    lines = path.read_text(encoding="utf-8").splitlines()
    changed = [policy if line.startswith("version_policy") else line for line in lines]
    path.write_text("\n".join([*changed, ""]), encoding="utf-8")


def promote_graph(repository: Path, version: int, graph: bytes) -> None:
    """Replace a version's graph in one step. It serves once the model is loaded again.

    Triton then builds the versions whose files changed beside those that serve, and no request fails.
    """
    path = _graph_path(repository, version)
    new = path.with_suffix(".new")
    new.write_bytes(graph)
    new.replace(path)


def served_graph(repository: Path, version: int) -> bytes:
    """The graph that a version has on disk."""
    return _graph_path(repository, version).read_bytes()


def _graph_path(repository: Path, version: int) -> Path:
    return repository / MODEL / str(version) / "model.onnx"
