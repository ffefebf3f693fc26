"""The net as Triton's Python backend runs it where there is no GPU: in numpy, from ``model.npz`` beside this file.

Version 2 rounds each layer's result to FP16. Its "device time" is the time that numpy took.
"""

import time
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils  # type: ignore[import-not-found]  # only inside Triton
from net import Net  # type: ignore[import-not-found]  # copied beside this file
from tensors import give, take  # type: ignore[import-not-found]  # copied beside this file

_HALF = "2"


class TritonPythonModel:
    """One version. The backend calls these methods by name."""

    def initialize(self, args: dict[str, str]) -> None:
        self._net = Net.load(Path(args["model_repository"]) / args["model_version"] / "model.npz")
        self._half = args["model_version"] == _HALF

    def execute(self, requests: list[Any]) -> list[Any]:
        return [self._answer(request) for request in requests]

    def _answer(self, request: Any) -> Any:
        images = np.array(take(request, "CT"))  # a copy: the server's memory need not be aligned
        began = time.perf_counter()
        answers = self._net.answer(images, half=self._half)
        answers["device_seconds"] = np.full((len(images), 1), time.perf_counter() - began, np.float32)
        return pb_utils.InferenceResponse([give(name, array) for name, array in answers.items()])
