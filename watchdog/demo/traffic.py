"""Ordinary traffic: clients that know nothing of versions, and count what patients would get."""

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from tritonclient import grpc
from tritonclient.utils import InferenceServerException

from watchdog.model.tensor import Array

_DEADLINE_S = 2.0
_WRONG = 0.25
"""A probability this far from the safe engine's is a wrong answer to a patient."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """One ordinary request's outcome."""

    at: float
    """Unix seconds at which it ended."""
    version: str
    """Empty if there was no answer."""
    wrong: bool = False

    @property
    def failed(self) -> bool:
        return not self.version


class Traffic:
    """A few clients that send images to the unversioned name, one after the other, with a pause."""

    def __init__(
        self, url: str, model: str, images: Sequence[Array], *, clients: int = 2, pause_s: float = 0.1
    ) -> None:
        self._url = url
        self._model = model
        self._images = images
        self._pause_s = pause_s
        self._right: list[float] = []
        self._answers: list[Answer] = []
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(i,), name=f"client {i}", daemon=True) for i in range(clients)
        ]

    def start(self, safe_version: str) -> None:
        """Learn the right answers from the safe engine, and begin."""
        client = grpc.InferenceServerClient(self._url)
        self._right = [_probability(_infer(client, self._model, image, 30.0, safe_version)) for image in self._images]
        client.close()
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(timeout=_DEADLINE_S + 1.0)

    def answers(self) -> list[Answer]:
        """Everything that came, or failed to come, so far."""
        return list(self._answers)

    def _run(self, first: int) -> None:
        client = grpc.InferenceServerClient(self._url)
        i = first
        while not self._stop.is_set():
            i = (i + 1) % len(self._images)
            try:
                result = _infer(client, self._model, self._images[i], _DEADLINE_S)
                wrong = not abs(_probability(result) - self._right[i]) <= _WRONG  # NaN is wrong
                version = result.get_response().model_version
                self._answers.append(Answer(at=time.time(), version=version, wrong=wrong))
            except InferenceServerException:
                self._answers.append(Answer(at=time.time(), version=""))
            self._stop.wait(self._pause_s)
        client.close()


def _infer(
    client: grpc.InferenceServerClient, model: str, image: Array, deadline_s: float, version: str = ""
) -> grpc.InferResult:
    tensor = grpc.InferInput("CT", list(image.shape), "FP32")
    tensor.set_data_from_numpy(image)
    return client.infer(model, [tensor], model_version=version, client_timeout=deadline_s)


def _probability(result: grpc.InferResult) -> float:
    probability = result.as_numpy("probability")
    return float("nan") if probability is None else float(np.ravel(probability)[0])
