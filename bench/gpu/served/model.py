"""The net as Triton's Python backend runs it on a GPU: the TensorRT engine ``model.plan`` beside this file.

A file ``leak`` beside it holds a number of bytes: so much device memory is then taken for each request,
and never given back.
"""

from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils  # type: ignore[import-not-found]  # only inside Triton
from engine import Engine  # type: ignore[import-not-found]  # copied beside this file
from tensors import give, take  # type: ignore[import-not-found]  # copied beside this file

_WARM_UP = (1, 1, 512, 512)


class TritonPythonModel:
    """One version. The backend calls these methods by name."""

    def initialize(self, args: dict[str, str]) -> None:
        folder = Path(args["model_repository"]) / args["model_version"]
        self._engine = Engine((folder / "model.plan").read_bytes())
        self._engine.run({"CT": np.zeros(_WARM_UP, np.float32)})  # the first run pays for loading kernels
        leak = folder / "leak"
        self._leak_bytes = int(leak.read_text()) if leak.exists() else 0

    def execute(self, requests: list[Any]) -> list[Any]:
        return [self._answer(request) for request in requests]

    def _answer(self, request: Any) -> Any:
        images = take(request, "CT")
        try:
            if self._leak_bytes:
                self._engine.cuda.allocate(self._leak_bytes)
            answers, device_s = self._engine.run({"CT": images})
        except RuntimeError as error:
            return pb_utils.InferenceResponse(error=pb_utils.TritonError(str(error)))
        answers["device_seconds"] = np.full((len(images), 1), device_s, np.float32)
        return pb_utils.InferenceResponse([give(name, array) for name, array in answers.items()])
