"""Ordinary traffic: clients that know nothing of versions, and count what patients would get."""

import http.client
import json
import threading
import time
from collections.abc import Sequence
from contextlib import closing, suppress
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
    """A few clients that send images to the unversioned name, one after the other, with a pause.

    Args:
        url: Triton's gRPC address.
        model: the unversioned name.
        images: patients' images, again and again.
        clients: so many ask at the same time.
        pause_s: after each answer.
        noise_hu: of the scanner, anew for each request: no two answers are then the same.
    """

    def __init__(
        self,
        url: str,
        model: str,
        images: Sequence[Array],
        *,
        clients: int = 2,
        pause_s: float = 0.1,
        noise_hu: float = 0.0,
    ) -> None:
        self._url = url
        self._model = model
        self._images = images
        self._pause_s = pause_s
        self._noise_hu = noise_hu
        self._right: list[float] = []
        self._report_to = ""
        self._safe_version = ""
        self._answers: list[Answer] = []
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(i,), name=f"client {i}", daemon=True) for i in range(clients)
        ]

    def start(self, safe_version: str) -> None:
        """Learn the right answers from the safe engine, and begin."""
        self._safe_version = safe_version
        self._right = self._learn(self._images)
        for thread in self._threads:
            thread.start()

    def report_to(self, address: str) -> None:
        """Tell a watchdog each answer from now on, as a gateway would; `address` is ``host:port``."""
        self._report_to = address

    def become(self, images: Sequence[Array]) -> None:
        """Other patients come from now on; at least as many as before."""
        right = self._learn(images)
        self._images, self._right = images, right

    def _learn(self, images: Sequence[Array]) -> list[float]:
        client = grpc.InferenceServerClient(self._url)
        right = [_probability(_infer(client, self._model, image, 30.0, self._safe_version)) for image in images]
        client.close()
        return right

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
        rng = np.random.default_rng(first)
        i = first
        while not self._stop.is_set():
            i = (i + 1) % len(self._images)
            image, right = self._images[i], self._right[i]
            if self._noise_hu:
                image = image + rng.normal(0.0, self._noise_hu, image.shape).astype(image.dtype)
            try:
                result = _infer(client, self._model, image, _DEADLINE_S)
                probability = _probability(result)
                if self._report_to:
                    _report(self._report_to, self._model, probability)
                wrong = not abs(probability - right) <= _WRONG  # NaN is wrong
                version = result.get_response().model_version
                self._answers.append(Answer(at=time.time(), version=version, wrong=wrong))
            except InferenceServerException:
                self._answers.append(Answer(at=time.time(), version=""))
            self._stop.wait(self._pause_s)
        client.close()


def _report(address: str, model: str, probability: float) -> None:
    body = json.dumps({"observations": [{"readings": {"probability": probability}}]})
    with closing(http.client.HTTPConnection(address, timeout=_DEADLINE_S)) as connection, suppress(OSError):
        connection.request("POST", f"/api/v1/models/{model}/observations", body, {"Content-Type": "application/json"})
        connection.getresponse().read()


def _infer(
    client: grpc.InferenceServerClient, model: str, image: Array, deadline_s: float, version: str = ""
) -> grpc.InferResult:
    tensor = grpc.InferInput("CT", list(image.shape), "FP32")
    tensor.set_data_from_numpy(image)
    return client.infer(model, [tensor], model_version=version, client_timeout=deadline_s)


def _probability(result: grpc.InferResult) -> float:
    probability = result.as_numpy("probability")
    return float("nan") if probability is None else float(np.ravel(probability)[0])
