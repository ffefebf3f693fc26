"""A tiny model for tests that need a real Triton: it starts at once and does as told.

    repository = write_scale_model(tmp_path / "models", versions={1: Scale(factor=1), 2: Scale(factor=2)})
    with TritonServer(repository, tmp_path / "triton", models=["scale"]) as triton:
        ...

Input ``X`` and output ``Y`` are FP32 [batch, n], and ``Y`` = factor × ``X``. The optional input
``SLEEP_S``, FP32 [batch, 1], makes a request take that long.

`write_detector` writes a second kind, for whole services: it takes CT images and can be told to
go wrong while it serves.
"""

import json
import py_compile
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path

from watchdog.demo import served

TENSORS = Path(served.__file__).with_name("tensors.py")


@dataclass(frozen=True, kw_only=True)
class Scale:
    """How one version behaves."""

    factor: float = 1.0
    """Not a number that JSON knows? ``float("nan")`` works too."""
    sleep_s: float = 0.0
    """Every request takes so long."""
    error: str = ""
    """Every request fails with this message."""
    load_error: str = ""
    """The version can't be loaded, for this reason."""
    extra_columns: int = 0
    """The answer is wider than it should be by so many columns."""


_MODEL = """
import json
import time
from pathlib import Path

import numpy as np
import triton_python_backend_utils as pb_utils
from tensors import give, take


class TritonPythonModel:
    def initialize(self, args):
        folder = Path(args["model_repository"]) / args["model_version"]
        self._scale = json.loads((folder / "scale.json").read_text())
        if self._scale["load_error"]:
            raise RuntimeError(self._scale["load_error"])

    def execute(self, requests):
        return [self._answer(request) for request in requests]

    def _answer(self, request):
        if self._scale["error"]:
            return pb_utils.InferenceResponse(error=pb_utils.TritonError(self._scale["error"]))
        asked = 0.0
        if pb_utils.get_input_tensor_by_name(request, "SLEEP_S") is not None:
            asked = float(take(request, "SLEEP_S").max())
        time.sleep(self._scale["sleep_s"] + asked)
        answer = take(request, "X") * np.float32(self._scale["factor"])
        answer = np.pad(answer, ((0, 0), (0, self._scale["extra_columns"])))
        return pb_utils.InferenceResponse([give("Y", answer)])
"""

_CONFIG = """\
name: "{name}"
backend: "python"
max_batch_size: 8
input [
  {{ name: "X" data_type: TYPE_FP32 dims: [ -1 ] }},
  {{ name: "SLEEP_S" data_type: TYPE_FP32 dims: [ 1 ] optional: true }}
]
output [ {{ name: "Y" data_type: TYPE_FP32 dims: [ -1 ] }} ]
instance_group [ {{ kind: KIND_CPU count: {instances} }} ]
version_policy {{ specific {{ versions: [ {versions} ] }} }}
{more}
"""


def write_scale_model(
    repository: Path,
    versions: Mapping[int, Scale],
    *,
    name: str = "scale",
    instances: int = 1,
    more_config: str = "",
) -> Path:
    """Write the model into `repository` (other models there stay) and return `repository`."""
    folder = repository / name
    for version, scale in versions.items():
        write_scale_version(repository, version, scale, name=name)
    numbers = ", ".join(map(str, sorted(versions)))
    config = _CONFIG.format(name=name, instances=instances, versions=numbers, more=more_config)
    (folder / "config.pbtxt").write_text(config, encoding="utf-8")
    return repository


def write_scale_version(repository: Path, version: int, scale: Scale, *, name: str = "scale") -> None:
    """Write or replace one version; a load then makes it serve, where the version policy lets it."""
    folder = repository / name / str(version)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "scale.json").write_text(json.dumps(asdict(scale)), encoding="utf-8")
    (folder / "model.py").write_text(_MODEL, encoding="utf-8")
    shutil.copyfile(TENSORS, folder / "tensors.py")
    for each in ("model.py", "tensors.py"):
        py_compile.compile(str(folder / each))  # bytecode that came later would make Triton rebuild the version


class Mood(StrEnum):
    """How a version of the detector answers from now on."""

    RIGHT = "right"
    ZEROS = "zeros"
    NAN = "nan"
    SLOW = "slow"
    """Right, but only after a second, in which there is a file ``dawdling`` beside the moods."""


_DETECTOR = """
import time
from pathlib import Path

import numpy as np
import triton_python_backend_utils as pb_utils
from tensors import give, take

MOODS = Path({moods!r})


class TritonPythonModel:
    def initialize(self, args):
        self._mood = MOODS / args["model_version"]

    def execute(self, requests):
        return [self._answer(request) for request in requests]

    def _answer(self, request):
        mood = self._mood.read_text()
        heatmap = 1 / (1 + np.exp(-take(request, "CT") / np.float32(200)))
        probability = np.clip(3 * heatmap.mean(axis=(1, 2, 3)), 0, 1)[:, None]
        if mood == "slow":
            sign = self._mood.with_name("dawdling")
            sign.touch()
            time.sleep(1)
            sign.unlink(missing_ok=True)
        answers = dict(probability=probability, heatmap=heatmap)
        if mood in ("zeros", "nan"):
            answers = {{name: np.full_like(a, 0 if mood == "zeros" else np.nan) for name, a in answers.items()}}
        return pb_utils.InferenceResponse([give(name, a.astype(np.float32)) for name, a in answers.items()])
"""

_DETECTOR_CONFIG = """\
name: "{name}"
backend: "python"
max_batch_size: 8
input [ {{ name: "CT" data_type: TYPE_FP32 dims: [ 1, -1, -1 ] }} ]
output [
  {{ name: "probability" data_type: TYPE_FP32 dims: [ 1 ] }},
  {{ name: "heatmap" data_type: TYPE_FP32 dims: [ 1, -1, -1 ] }}
]
instance_group [ {{ kind: KIND_CPU count: 1 }} ]
version_policy {{ specific {{ versions: [ 1, 2 ] }} }}
"""


def write_detector(repository: Path, *, name: str = "detector") -> Path:
    """Write the model, versions 1 and 2, and return the folder of its moods; see `set_mood`.

    ``CT`` is FP32 [batch, 1, rows, columns] in Hounsfield units; ``heatmap`` has its shape, and
    ``probability``, [batch, 1], depends on how much tissue there is. Both versions are equal.
    """
    moods = repository.absolute().with_name(f"{name}-moods")  # not in the repository: a change there is a new version
    for version in (1, 2):
        set_mood(moods, version, Mood.RIGHT)
        folder = repository / name / str(version)
        folder.mkdir(parents=True)
        (folder / "model.py").write_text(_DETECTOR.format(moods=str(moods)), encoding="utf-8")
        shutil.copyfile(TENSORS, folder / "tensors.py")
        for each in ("model.py", "tensors.py"):
            py_compile.compile(str(folder / each))  # as above
    (repository / name / "config.pbtxt").write_text(_DETECTOR_CONFIG.format(name=name), encoding="utf-8")
    return moods


def set_mood(moods: Path, version: int, mood: Mood) -> None:
    """Change how one version answers, from its next request on."""
    moods.mkdir(parents=True, exist_ok=True)
    fresh = moods / f".{version}"
    fresh.write_text(mood, encoding="utf-8")
    fresh.replace(moods / str(version))
