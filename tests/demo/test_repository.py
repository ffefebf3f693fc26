"""The served detector answers as its graphs do, and a new graph takes over without a failed request."""

import threading
import time
from pathlib import Path

import numpy as np
import pytest
from tritonclient.utils import InferenceServerException

from tests.demo.conftest import ask, run
from watchdog.demo.graphs import Weights, fp16
from watchdog.demo.repository import FAST, MODEL, SAFE, promote_graph, served_graph
from watchdog.demo.triton import TritonServer
from watchdog.model.tensor import Array

pytestmark = pytest.mark.triton


@pytest.mark.parametrize("version", [SAFE, FAST])
def test_triton_answers_bit_for_bit_as_the_graph(
    server: TritonServer, repository: Path, canaries: Array, version: int
) -> None:
    batch = canaries[4:12]
    expected, asked = run(served_graph(repository, version), batch), ask(server, batch, version)
    assert asked.version == str(version)
    for name, answer in asked.outputs.items():
        assert answer.shape == expected[name].shape
        assert np.array_equal(answer, expected[name])


def test_tensors_pass_without_a_complaint_in_the_log(server: TritonServer, canaries: Array) -> None:
    ask(server, canaries[:2])
    assert "Capsule" not in server.log_path.read_text(encoding="utf-8")


def test_unversioned_requests_get_the_fast_engine(server: TritonServer, canaries: Array) -> None:
    assert ask(server, canaries[:1]).version == str(FAST)


@pytest.mark.parametrize("shape", [(32, 256), (256, 130)])
def test_an_image_it_cannot_take_is_refused_with_the_reason(server: TritonServer, shape: tuple[int, int]) -> None:
    with pytest.raises(InferenceServerException, match="multiples of 4"):
        ask(server, np.zeros((1, 1, *shape), np.float32))


def test_each_version_has_its_engine_tag(server: TritonServer) -> None:
    parameters = server.config(MODEL)["parameters"]
    assert parameters["engine_tag.1"]["string_value"].endswith("-cpu-fp32")
    assert parameters["engine_tag.2"]["string_value"].endswith("-cpu-fp16")


def test_narrowing_is_instant_because_nothing_appears_in_a_version_folder(
    server: TritonServer, canaries: Array
) -> None:
    config = server.config(MODEL)
    stubs = server.stub_pids(MODEL, SAFE)
    server.load(MODEL, config | {"version_policy": {"specific": {"versions": [SAFE]}}})
    assert ask(server, canaries[:1]).version == str(SAFE)
    server.load(MODEL, config)
    assert ask(server, canaries[:1]).version == str(FAST)
    assert server.stub_pids(MODEL, SAFE) == stubs  # version 1 was never rebuilt


def test_a_promoted_graph_takes_over_without_a_failed_request(
    server: TritonServer, repository: Path, canaries: Array, weights: Weights
) -> None:
    answers: list[tuple[float, float]] = []
    failures: list[Exception] = []
    enough = threading.Event()

    def traffic() -> None:
        while not enough.is_set():
            began = time.monotonic()
            try:
                answers.append((began, float(ask(server, canaries[-1:]).outputs["probability"].item())))
            except Exception as error:  # noqa: BLE001 (any failure is what is counted)
                failures.append(error)

    stubs = server.stub_pids(MODEL, SAFE)
    threads = [threading.Thread(target=traffic) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        loaded = []
        for graph in (fp16(weights.dead()), fp16(weights)):
            promote_graph(repository, FAST, graph)
            server.load(MODEL)
            loaded.append(time.monotonic())
            time.sleep(0.3)  # traffic on the new graph
    finally:
        enough.set()
        for thread in threads:
            thread.join()
    assert not failures
    between = [answer for began, answer in answers if loaded[0] <= began < loaded[1] - 0.3]
    after = [answer for began, answer in answers if began >= loaded[1]]
    assert between[0] == 0
    assert min(after) > 0.9
    assert server.stub_pids(MODEL, SAFE) == stubs  # the other version is left alone
