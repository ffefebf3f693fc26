"""The detector, trained once, and one Triton that serves it to all tests here."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
import tritonclient.grpc as triton_grpc

from watchdog.canaries.phantom import default_set, make_slice
from watchdog.demo.graphs import Weights
from watchdog.demo.repository import MODEL, write_repository
from watchdog.demo.training import SIZE, trained
from watchdog.demo.triton import TritonServer, available
from watchdog.model.tensor import Array

OUTPUTS = ["probability", "heatmap"]


def run(graph: bytes, images: Array) -> dict[str, Array]:
    """A graph's answers in this process."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    return dict(zip(OUTPUTS, session.run(OUTPUTS, {"CT": images}), strict=True))


@dataclass(frozen=True)
class Asked:
    outputs: Mapping[str, Array]
    version: str


def ask(server: TritonServer, images: Array, version: int | None = None, timeout_s: float = 10) -> Asked:
    tensor = triton_grpc.InferInput("CT", list(images.shape), "FP32")
    tensor.set_data_from_numpy(images)
    with triton_grpc.InferenceServerClient(server.grpc_url) as client:
        answer: Any = client.infer(
            MODEL, [tensor], model_version="" if version is None else str(version), client_timeout=timeout_s
        )
    return Asked({name: answer.as_numpy(name) for name in OUTPUTS}, answer.get_response().model_version)


@pytest.fixture(scope="session")
def weights() -> Weights:
    return trained()


@pytest.fixture(scope="session")
def canaries() -> Array:
    """Six healthy slices, then six with a nodule of 4.5, 6, 8, 11, 15 and 20 mm: [12, 1, 256, 256]."""
    slices = [make_slice(spec, np.random.default_rng(i)) for i, spec in enumerate(default_set(size=SIZE))]
    return np.stack(slices)[:, None]


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory, weights: Weights) -> Path:
    return write_repository(tmp_path_factory.mktemp("models"), weights)


@pytest.fixture(scope="session")
def server(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TritonServer]:
    if (missing := available()) is not None:
        pytest.skip(missing)
    server = TritonServer(repository, tmp_path_factory.mktemp("triton"), models=[MODEL])
    server.start()
    yield server
    server.kill()
