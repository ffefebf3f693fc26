"""Proves the watchdog on a GPU, part by part, in less than eight minutes.

    python3.12 -m bench.gpu --out FILE.json --work DIR [--part NAME …] [--backend numpy]

Paths default to the environment variables TRITONSERVER, TRITON_BACKENDS, CUDART, LD_LIBRARY_PATH and
PYTHONPATH. With ``--backend numpy`` the scene is played without a GPU (where no Triton is given, by its
wheel and this interpreter), and parts that need one are left out. FILE is written after each part.
Exits with 1 where a part failed or the scene was not healthy after it.
"""

import argparse
import json
import os
import platform
import shutil
import signal
import sys
import time
import traceback
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from bench.gpu import reading, report
from bench.gpu.fitting import Shape
from bench.gpu.machine import Machine, MachineError, forget, tensorrt_folder
from bench.gpu.net import Net
from bench.gpu.parts import PARTS, Part
from bench.gpu.repository import Engines, build_stand_in, build_tensorrt
from bench.gpu.scene import Scene, Sizes
from watchdog import __version__
from watchdog.model.tensor import Array

_WHOLE_S = 450.0
"""After this no part is begun, so that a run under a limit of eight minutes ends by itself."""
_PLAYED, _FAILED, _BROKEN, _LEFT_OUT = "played", "failed", "not healed", "left out"
_TENSORRT = Sizes(
    net=Shape(size=512, width=128, depth=4, bodies=64),
    batch=4,
    every="250ms",
    deadline="1s",
    latency={},
    on_gpu=True,
)
_NUMPY = Sizes(
    net=Shape(size=128, width=16, depth=4, bodies=64),
    batch=2,
    every="250ms",
    deadline="1s",
    latency={"fast": "5s", "safe": "5s", "jump": None},  # a busy machine's pauses are nothing to be found here
    on_gpu=False,
)


def main() -> int:
    arguments = _arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # end what was started
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    if arguments.work.exists() and any(arguments.work.iterdir()):
        sys.exit(f"--work {arguments.work}: is not an empty folder")
    arguments.work.mkdir(parents=True, exist_ok=True)
    work = arguments.work.resolve()
    try:
        machine, sizes = _machine(arguments, work), _TENSORRT if arguments.backend == "tensorrt" else _NUMPY
        machine.check()
    except MachineError as error:
        sys.exit(str(error))
    forget(machine)

    def build(net: Net, images: Array) -> Engines:
        return build_tensorrt(machine, net, images, work) if sizes.on_gpu else build_stand_in(net, work)

    found = _play(Scene(work, machine, sizes, build), [PARTS[name] for name in arguments.part], arguments.out)
    report.show(found, Console(width=160, highlight=False))
    print(f"written to {arguments.out}")
    right = all(part["outcome"] in (_PLAYED, _LEFT_OUT) for part in found["parts"].values())
    return 0 if right and "failed" not in found else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.gpu", description=__doc__.partition("\n")[0])
    place = partial(parser.add_argument, type=Path)
    place("--trt-python", default=_default(shutil.which("python3.10")), help="has TensorRT's wheel")
    place("--tritonserver", default=_default(os.environ.get("TRITONSERVER")))
    place("--backends", default=_default(os.environ.get("TRITON_BACKENDS")), help="Triton's backend directory")
    place("--tensorrt", default=tensorrt_folder(os.environ), help="the folder of the package, if not installed")
    place("--cudart", default=_default(os.environ.get("CUDART")), help="the CUDA runtime library")
    place("--out", required=True, help="where the figures go (JSON)")
    place("--work", required=True, help="an empty folder")
    parser.add_argument("--libraries", default=os.environ.get("LD_LIBRARY_PATH", ""), help="Triton's and TensorRT's")
    parser.add_argument("--backend", choices=("tensorrt", "numpy"), default="tensorrt")
    parser.add_argument("--part", action="append", choices=list(PARTS), help="only this; again for more")
    arguments = parser.parse_args()
    arguments.part = arguments.part or list(PARTS)
    return arguments


def _default(value: str | None) -> Path | None:
    return None if value is None else Path(value)


def _machine(arguments: argparse.Namespace, work: Path) -> Machine:
    if arguments.backend == "numpy" and arguments.tritonserver is None:
        return Machine.of_wheel(work)
    for name in ("trt_python", "tritonserver", "backends"):
        if getattr(arguments, name) is None:
            raise MachineError(f"--{name.replace('_', '-')} is not given, and the environment doesn't tell")
    return Machine(
        python=arguments.trt_python.absolute(),
        tritonserver=arguments.tritonserver.absolute(),
        backends=arguments.backends.absolute(),
        packages=arguments.tensorrt,
        libraries=arguments.libraries,
        cudart=arguments.cudart,
    )


def _play(scene: Scene, parts: list[Part], out: Path) -> dict[str, Any]:
    """Everything, written to `out` after each part."""
    began = time.monotonic()
    found: dict[str, Any] = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "watchdog": __version__,
        "python": platform.python_version(),
        "gpu": {},
        "scene": scene.told,
        "parts": {},
    }
    try:
        with scene:
            _say(began, "the scene is set")
            for part in parts:
                found["parts"][part.name] = _part(scene, part, began)
                found["gpu"], found["took_s"] = reading.gpu(scene.status()), time.monotonic() - began
                _write(out, found)
                if found["parts"][part.name]["outcome"] == _BROKEN:
                    break
    except Exception as error:  # noqa: BLE001 - whatever it is, what was seen until then must be written
        found["failed"] = _told(error, scene)
    found["took_s"] = time.monotonic() - began
    _write(out, found)
    return found


def _part(scene: Scene, part: Part, began: float) -> dict[str, Any]:
    if part.on_gpu and not scene.sizes.on_gpu:
        return {"outcome": _LEFT_OUT, "why": "there is no GPU"}
    if time.monotonic() - began + part.budget_s > _WHOLE_S:
        return {"outcome": _LEFT_OUT, "why": f"{_WHOLE_S:g} s would not have sufficed"}
    _say(began, f"{part.name}: {part.what}")
    started = time.monotonic()
    found: dict[str, Any] = {"what": part.what, "outcome": _PLAYED}
    try:
        found["seen"] = part.play(scene, started + part.budget_s)
    except Exception as error:  # noqa: BLE001 - the other parts are worth playing all the same
        found |= {"outcome": _FAILED, "why": _told(error, scene)}
    try:
        found["healed"] = scene.heal()
    except Exception as error:  # noqa: BLE001 - what was seen must be written all the same
        found |= {"outcome": _BROKEN, "why": "\n".join([found.get("why", ""), _told(error, scene)]).strip()}
    found["took_s"] = time.monotonic() - started
    _say(began, f"{part.name}: {found['outcome']} in {found['took_s']:.1f} s")
    return found


def _told(error: Exception, scene: Scene) -> str:
    """The whole story of a failure, which is printed at once."""
    story = "".join([*traceback.format_exception(error), scene.tails()])
    print(story, file=sys.stderr, flush=True)
    return story


def _write(out: Path, found: dict[str, Any]) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    fresh = out.with_suffix(".new")
    fresh.write_text(json.dumps(found, indent=1, default=str) + "\n", encoding="utf-8")
    fresh.replace(out)


def _say(began: float, text: str) -> None:
    print(f"{time.monotonic() - began:6.1f} s  {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
