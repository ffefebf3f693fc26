"""As slow as an imaging net on a GPU, and with a fault that a file switches on; run by Triton's Python backend."""

import time
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils  # type: ignore[import-not-found]  # only inside Triton
from tensors import give, take  # type: ignore[import-not-found]  # copied beside this file

DEVICE_S = 0.010
"""What the device would take for an image; the processor is free meanwhile, as it is beside a GPU."""


class TritonPythonModel:
    """Both versions. The backend calls these methods by name."""

    def initialize(self, args: dict[str, str]) -> None:
        home = Path(args["model_repository"]).parents[1]  # outside the repository, where a new file is a new version
        self._zeros = home / f"zeros-{args['model_version']}"

    def execute(self, requests: list[Any]) -> list[Any]:
        return [self._answer(request) for request in requests]

    def _answer(self, request: Any) -> Any:
        time.sleep(DEVICE_S)
        rows = take(request, "CT")[:, 0, 0]
        brightness = np.clip((rows.mean(axis=1, keepdims=True) + 1000) / 1400, 0, 1)
        if self._zeros.exists():
            brightness = np.zeros_like(brightness)
        return pb_utils.InferenceResponse([give("probability", brightness.astype(np.float32))])
