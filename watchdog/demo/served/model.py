"""The lung nodule detector, as Triton's Python backend runs it: the graph beside this file, on one CPU thread."""

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import triton_python_backend_utils as pb_utils  # type: ignore[import-not-found]  # only inside Triton
from tensors import give, take  # type: ignore[import-not-found]  # copied beside this file

_OUTPUTS = ["probability", "heatmap"]
_SMALLEST = 64


class TritonPythonModel:
    """One version. The backend calls these methods by name."""

    def initialize(self, args: dict[str, str]) -> None:
        graph = Path(args["model_repository"]) / args["model_version"] / "model.onnx"
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = ort.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])

    def execute(self, requests: list[Any]) -> list[Any]:
        return [self._answer(request) for request in requests]

    def _answer(self, request: Any) -> Any:
        images = take(request, "CT")
        rows, columns = images.shape[2:]
        if min(rows, columns) < _SMALLEST or rows % 4 or columns % 4:
            reason = f"CT is {rows} × {columns}; rows and columns must be multiples of 4, and at least {_SMALLEST}"
            return pb_utils.InferenceResponse(error=pb_utils.TritonError(reason))
        # a copy, because the server's memory need not be aligned as the runtime wants it
        answers = self._session.run(_OUTPUTS, {"CT": np.array(images)})
        return pb_utils.InferenceResponse([give(name, array) for name, array in zip(_OUTPUTS, answers, strict=True)])
