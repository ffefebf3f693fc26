"""Each fault really happens at a real Triton, and can be undone."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pytest
from tritonclient.utils import InferenceServerException

from tests.demo.conftest import Asked, ask
from watchdog.demo.faults import FAULTS, NEXT
from watchdog.demo.repository import FAST, MODEL, SAFE
from watchdog.demo.triton import TritonServer
from watchdog.model.tensor import Array

pytestmark = pytest.mark.triton


@contextmanager
def during(name: str, server: TritonServer) -> Iterator[None]:
    FAULTS[name].inject(server, server.repository)
    try:
        yield
    finally:
        FAULTS[name].heal(server, server.repository)


def drift(one: Asked, other: Asked, output: str) -> Array:
    """The largest difference of each row."""
    difference = np.abs(one.outputs[output] - other.outputs[output])
    rows: Array = difference.reshape(len(difference), -1).max(axis=1)
    return rows


SEEN: dict[str, Callable[[Asked, Asked], bool]] = {
    "zeros": lambda fast, safe: not any(each.any() for each in fast.outputs.values()),
    "nan": lambda fast, safe: bool(np.isnan(fast.outputs["probability"]).all()),
    "collapse": lambda fast, safe: bool(np.abs(fast.outputs["probability"] - 0.5).max() < 0.05),
    "int8": lambda fast, safe: bool((drift(fast, safe, "probability") > 0.1).sum() >= 3),
}


@pytest.mark.parametrize("name", SEEN)
def test_the_fast_engine_goes_wrong_and_the_safe_one_stays_right(
    name: str, server: TritonServer, canaries: Array
) -> None:
    batch = canaries[:8]
    before = ask(server, batch, SAFE)
    stubs = server.stub_pids(MODEL, SAFE)
    with during(name, server):
        public, safe = ask(server, batch), ask(server, batch, SAFE)
        assert public.version == str(FAST)
        assert SEEN[name](public, safe)
        assert all(np.array_equal(safe.outputs[each], before.outputs[each]) for each in safe.outputs)
        assert server.stub_pids(MODEL, SAFE) == stubs
    healed = ask(server, batch)
    assert healed.version == str(FAST)
    assert drift(healed, before, "probability").max() < 0.03


def test_latency_grows_and_answers_stay_right(server: TritonServer, canaries: Array) -> None:
    right, usual = ask(server, canaries[:1], FAST), fastest(server, canaries[:1])
    with during("latency", server):
        assert drift(ask(server, canaries[:1]), right, "probability").max() < 1e-3
        assert fastest(server, canaries[:1]) > 2.5 * usual


def fastest(server: TritonServer, images: Array) -> float:
    best = float("inf")
    for _ in range(12):
        began = time.perf_counter()
        ask(server, images)
        best = min(best, time.perf_counter() - began)
    return best


def test_both_engines_are_wrong(server: TritonServer, canaries: Array) -> None:
    with during("both-wrong", server):
        for version in (SAFE, FAST):
            assert ask(server, canaries[:6], version).outputs["probability"].min() > 0.7
    for version in (SAFE, FAST):
        assert ask(server, canaries[:6], version).outputs["probability"].max() < 0.3


def test_an_unvetted_version_takes_the_traffic(server: TritonServer, canaries: Array) -> None:
    with during("wrong-version", server):
        assert ask(server, canaries[:1]).version == str(NEXT)
    assert ask(server, canaries[:1]).version == str(FAST)


def test_a_hang_is_not_seen_by_triton_and_ends_with_a_narrowed_route(server: TritonServer, canaries: Array) -> None:
    config = server.config(MODEL)
    with during("hang", server):
        with pytest.raises(InferenceServerException, match="Deadline Exceeded"):
            ask(server, canaries[:1], timeout_s=0.5)
        assert server.request("GET", f"/v2/models/{MODEL}/versions/{FAST}/ready")[0] == 200
        began = time.monotonic()
        server.load(MODEL, config | {"version_policy": {"specific": {"versions": [SAFE]}}})
        assert time.monotonic() - began < 0.5  # it does not wait for the request that hangs
        assert ask(server, canaries[:1], timeout_s=2).version == str(SAFE)
    assert ask(server, canaries[:1]).version == str(SAFE)  # healing leaves the route alone
    server.load(MODEL, config)
    assert ask(server, canaries[:1]).version == str(FAST)


def test_a_hang_that_nobody_reacted_to_can_be_healed(server: TritonServer, canaries: Array) -> None:
    with during("hang", server), pytest.raises(InferenceServerException, match="not healthy"):
        ask(server, canaries[:1], FAST)
    assert ask(server, canaries[:1]).version == str(FAST)


def test_the_server_is_down(server: TritonServer, canaries: Array) -> None:
    with during("server-down", server), pytest.raises(OSError, match="refused"):
        server.request("GET", "/v2/health/live")
    assert ask(server, canaries[:1]).version == str(FAST)


def test_nothing_happens(server: TritonServer, canaries: Array) -> None:
    before = ask(server, canaries[:1])
    with during("none", server):
        assert drift(ask(server, canaries[:1]), before, "heatmap").max() == 0


def test_every_fault_has_a_sentence() -> None:
    assert all(fault.name == name and fault.description for name, fault in FAULTS.items())
