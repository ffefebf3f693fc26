"""What can go wrong with the served detector: each really happens, in the graph that is served or in its process.

A fault tells the watchdog nothing; it has to find out. Graph faults are deployed as a bad build
would be: the fast engine's file is replaced, and the model loaded again.
"""

import os
import signal
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import onnxruntime as ort
import tritonclient.grpc as triton_grpc

from watchdog.canaries.phantom import default_set, make_slice
from watchdog.demo.graphs import Weights, fp16, fp32
from watchdog.demo.quantized import calibrated, miscalibrated, narrowed
from watchdog.demo.repository import FAST, MODEL, SAFE, promote_graph, served_graph, set_versions, write_version
from watchdog.demo.training import SIZE, slices_of, trained
from watchdog.demo.triton import TritonError, TritonServer
from watchdog.model.tensor import Array

NEXT = 3
"""The version that nobody has vetted."""

_OUTPUTS = ["probability", "heatmap"]
_ANSWER_S, _WAIT_S = 5.0, 20.0
_ILL = 24
_TOLERANCE = 1e-4
"""Between Triton's answer and the graph's own in this process; the same bits are expected."""

Change = Callable[[TritonServer, Path], None]
"""Given the server and its model repository. Returns once the change is in force."""


@dataclass(frozen=True, kw_only=True)
class Fault:
    name: str
    description: str
    inject: Change
    heal: Change
    """Undoes it, and keeps the version policy that is in force then, unless that is what was wrong."""
    prepare: Callable[[], object] = dict
    """Does beforehand what takes long, such as building graphs, so that it slows nobody down."""
    patients: Callable[[], list[Array]] | None = None
    """Other patients who come from then on, as CT batches [1, 1, rows, columns]; None for the same as before."""


def _engines(name: str, description: str, make: Callable[[Weights], Mapping[int, bytes]]) -> Fault:
    """A fault of the graphs that `make` gives, by version."""

    @cache
    def graphs() -> Mapping[int, bytes]:
        return make(trained())

    def inject(server: TritonServer, repository: Path) -> None:
        _deploy(server, repository, graphs())

    def heal(server: TritonServer, repository: Path) -> None:
        right = {SAFE: fp32(trained()), FAST: fp16(trained())}
        _deploy(server, repository, {version: right[version] for version in graphs()})

    return Fault(name=name, description=description, inject=inject, heal=heal, prepare=graphs)


def _fast(name: str, description: str, make: Callable[[Weights], bytes]) -> Fault:
    return _engines(name, description, lambda weights: {FAST: make(weights)})


def _deploy(server: TritonServer, repository: Path, graphs: Mapping[int, bytes]) -> None:
    """Replace graphs, load them under the version policy in force, and wait until they answer."""
    for version, graph in graphs.items():
        promote_graph(repository, version, graph)
    serving = server.ready_versions(MODEL)
    server.load(MODEL, server.config(MODEL) | {"version_policy": {"specific": {"versions": serving}}})
    for version in set(graphs) & set(serving):
        _await_answer(server, repository, version)


def _await_answer(server: TritonServer, repository: Path, version: int) -> None:
    """Until Triton answers as the graph on disk does, or a quick watchdog has moved traffic away from it already.

    Raises:
        TritonError: it does not, in time.
    """
    spec = default_set(size=SIZE)[-1]
    image = make_slice(spec, np.random.default_rng(0))[None, None]
    session = ort.InferenceSession(served_graph(repository, version), providers=["CPUExecutionProvider"])
    expected = session.run(_OUTPUTS, {"CT": image})
    deadline = time.monotonic() + _WAIT_S
    while (answer := _ask(server, version, image)) is not None and not all(map(_same, answer, expected)):
        if time.monotonic() > deadline:
            raise TritonError(f"version {version} does not answer as its graph does; see {server.log_path}")
        time.sleep(0.02)


def _same(one: Array, other: Array) -> bool:
    return bool(np.allclose(one, other, rtol=0, atol=_TOLERANCE, equal_nan=True))


def _ask(server: TritonServer, version: int, image: Array) -> list[Array] | None:
    """Its answer; None where the version is not served any more."""
    tensor = triton_grpc.InferInput("CT", list(image.shape), "FP32")
    tensor.set_data_from_numpy(image)
    with triton_grpc.InferenceServerClient(server.grpc_url) as client:
        try:
            answer = client.infer(MODEL, [tensor], model_version=str(version), client_timeout=_ANSWER_S)
        except triton_grpc.InferenceServerException:
            if version not in server.ready_versions(MODEL):
                return None
            raise
    return [answer.as_numpy(name) for name in _OUTPUTS]


def _hang(server: TritonServer, _repository: Path) -> None:
    for pid in server.stub_pids(MODEL, FAST):
        os.kill(pid, signal.SIGSTOP)


def _unhang(server: TritonServer, repository: Path) -> None:
    """Load the version anew and end the stopped process.

    To let that one go on would crash Triton 2.51, which has given it up by then.
    """
    hung = server.stub_pids(MODEL, FAST)
    _deploy(server, repository, {FAST: served_graph(repository, FAST)})
    for pid in hung:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _add_version(server: TritonServer, repository: Path) -> None:
    write_version(repository, NEXT, calibrated(trained()))
    set_versions(repository, (SAFE, FAST, NEXT))
    server.load(MODEL)
    _await_answer(server, repository, NEXT)


def _drop_version(server: TritonServer, repository: Path) -> None:
    set_versions(repository, (SAFE, FAST))
    server.load(MODEL)
    _await_answer(server, repository, FAST)


def _kill(server: TritonServer, _repository: Path) -> None:
    server.kill()


def _start(server: TritonServer, _repository: Path) -> None:
    server.start()


def _nothing(_server: TritonServer, _repository: Path) -> None:
    """What a run without a fault does."""


def _ill() -> list[Array]:
    rng = np.random.default_rng(11)
    return [hu[None, None] for spec, hu in slices_of(2 * _ILL, rng) if spec.nodules]


_ALL = (
    _fast("zeros", "the FP16 engine has a dead layer: every output is exactly 0", lambda w: fp16(w.dead())),
    _fast("nan", "a layer of the FP16 engine goes beyond 65,504, and NaN comes out", lambda w: fp16(w.overflowing())),
    _fast(
        "collapse", "the FP16 engine's last layer has shrunk: it says 0.5 of everything", lambda w: fp16(w.collapsed())
    ),
    _fast("int8", "an INT8 engine takes the FP16 one's place, calibrated on the wrong images", miscalibrated),
    _fast(
        "temperature",
        "the FP16 engine's last layers are scaled down: each answer is near the right one, and none is sure enough",
        lambda w: fp16(w.tempered()),
    ),
    _fast(
        "one-vendor",
        "the FP16 engine's last layer was fitted anew on two vendors' slices: on the third's, the healthy look less so",
        narrowed,
    ),
    _fast("latency", "the FP16 engine's answers are right, and take five times as long", lambda w: fp16(w.slow())),
    Fault(
        name="hang",
        description="the FP16 engine's process stops in its tracks: no answer, and Triton calls it ready",
        inject=_hang,
        heal=_unhang,
    ),
    Fault(
        name="wrong-version",
        description="somebody deploys version 3, INT8 and never vetted, and Triton gives it all unversioned traffic",
        inject=_add_version,
        heal=_drop_version,
    ),
    _engines(
        "both-wrong",
        "both engines are built from wrong weights: a nodule in everybody",
        lambda w: {SAFE: fp32(w.wrong()), FAST: fp16(w.wrong())},
    ),
    Fault(name="server-down", description="Triton is killed", inject=_kill, heal=_start),
    Fault(
        name="other-patients",
        description="no engine's fault: from now on only patients come who have a nodule",
        inject=_nothing,
        heal=_nothing,
        patients=_ill,
    ),
    Fault(name="none", description="nothing goes wrong", inject=_nothing, heal=_nothing),
)

FAULTS: Mapping[str, Fault] = {fault.name: fault for fault in _ALL}
