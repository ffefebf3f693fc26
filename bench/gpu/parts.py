"""The parts of the scene: what is measured and what goes wrong, one function each.

A part is given the scene, all healthy, and returns what it saw, JSON-ready. It need not tidy up: the
scene is healed after each. Times are seconds, points in time Unix seconds.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.gpu import reading
from bench.gpu.repository import FAST
from bench.gpu.scene import Scene, SceneError
from bench.gpu.web import WebError
from watchdog.demo.service import Record
from watchdog.demo.traffic import Answer, Traffic

_CANARIES = 200
_LOOK_S = 0.1
"""Shorter than between two canaries, so that a difference of the server's counts is of one, mostly."""
_BEFORE_S, _AFTER_S = 2.0, 2.0
"""Of ordinary traffic, around what happens."""
_LEAK_BYTES = 2 * 2**20
"""Per request: what the driver hands out at least, so that it tells no other amount than was taken."""
_NEIGHBOUR_S = 15.0
_USUAL_S = 25.0
"""Before the neighbour comes: until the server's counts have shown what is usual."""
_NEIGHBOUR = Path(__file__).with_name("neighbour.py")

Seen = dict[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    name: str
    what: str
    play: Callable[[Scene, float], Seen]
    """Given the scene and a moment of `time.monotonic` by which it should have ended."""
    budget_s: float
    on_gpu: bool = False
    """Whether it makes no sense without one."""


def device_times(scene: Scene, until: float) -> Seen:
    """Canaries alone: their device time by three clocks, and where the rest of it goes."""
    since, before, mean_s = scene.mark(), scene.server.computed(FAST), []
    traced: list[Record] = []
    while len(traced) < _CANARIES and time.monotonic() < until:
        time.sleep(_LOOK_S)
        now = scene.server.computed(FAST)
        if now is not None and before is not None and now.count > before.count:
            mean_s.append((now.seconds - before.seconds) / (now.count - before.count))
        before = now
        traced = list(filter(reading.is_traced, scene.records(since)))
    if not traced:
        raise SceneError("no probe has been traced")
    profiles = sorted({reading.profile(record) for record in traced})
    return {
        "canaries": sum(map(reading.is_answered, scene.records(since))),
        "traced": len(traced),
        "spans": reading.spans(scene.status()),
        "attributions": sorted({record["attribution"] for record in traced}),
        "profiles": {each: _clocks([r for r in traced if reading.profile(r) == each]) for each in profiles},
        "statistics": reading.spread(mean_s),
    }


def _clocks(traced: Sequence[Record]) -> Seen:
    return {
        "cuda_event": reading.spread([r["device_ms"] / 1e3 for r in traced if r["attribution"] == "model"]),
        "trace": reading.spread([reading.executed_s(r) for r in traced]),
        "parts": reading.parts(traced),
    }


def overflow(scene: Scene, until: float) -> Seen:
    """An engine that overflows in FP16 takes the fast one's place under traffic."""
    with scene.traffic() as traffic:
        time.sleep(_BEFORE_S)
        since, began = scene.mark(), time.time()
        deploy_s = scene.deploy(scene.engines.overflowing)
        seen = _followed(scene, until, since, began)
        time.sleep(_AFTER_S)
        return {"deploy_s": deploy_s} | seen | _served(traffic, began)


def killed_stub(scene: Scene, until: float) -> Seen:
    """The process that serves the fast engine is killed."""
    with scene.traffic() as traffic:
        time.sleep(_BEFORE_S)
        pids = scene.server.stub_pids(FAST)
        if not pids:
            raise SceneError(f"there is no process that serves version {FAST}")
        since, began = scene.mark(), time.time()
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        seen = _followed(scene, until, since, began)
        time.sleep(_AFTER_S)
        after = scene.server.stub_pids(FAST)
        return {"killed": pids, "after": after, "server_runs": scene.server.running} | seen | _served(traffic, began)


def leak(scene: Scene, until: float) -> Seen:
    """Every request to the fast engine takes device memory that is never given back."""
    scene.deploy(scene.engines.fast, leak=_LEAK_BYTES)
    with scene.traffic() as traffic:
        *_, pid = scene.server.stub_pids(FAST)  # an older one may still be ending
        since, began = scene.mark(), time.time()
        computed, held = scene.server.computed(FAST), reading.held_bytes()
        found = scene.wait_for(lambda r: r["event"] == "leak", until - time.monotonic(), since)
        took_s = time.time() - began
        after, computed_after, document = reading.held_bytes(), scene.server.computed(FAST), scene.status()
        served = _served(traffic, began)
    requests = computed_after.count - computed.count if computed and computed_after else None
    return {
        "pid": pid,
        "found_after_s": took_s if found else None,
        "found_in": {"holder": found["holder"], "pids": found["pids"]} if found else None,
        "found_bytes_per_hour": found["bytes_per_hour"] if found else None,
        "true_bytes_per_hour": None if requests is None else requests * _LEAK_BYTES / took_s * 3600,
        "driver_bytes_per_hour": (after.get(pid, 0) - held.get(pid, 0)) / took_s * 3600,
        "requests": requests,
        "bytes_per_request": _LEAK_BYTES,
        "growth": reading.growths(document),
        "driver_bytes": {"before": held, "after": after},
        "gpu": reading.gpu(document),
        "told": reading.told(scene.records(since)),
    } | served


def neighbour(scene: Scene, until: float) -> Seen:
    """Another process keeps the GPU busy: canaries before, and meanwhile."""
    since = scene.mark()
    time.sleep(_USUAL_S)
    before = scene.records(since)
    command = [sys.executable, str(_NEIGHBOUR), "--seconds", str(_NEIGHBOUR_S)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as busy:
        assert busy.stdout is not None
        assert busy.stderr is not None
        timer = threading.Timer(max(1.0, until - time.monotonic()), busy.kill)
        timer.start()
        try:
            began = busy.stdout.readline()
            since = scene.mark()
            time.sleep(_NEIGHBOUR_S * 2 / 3 if began else 0)
            gpu, during = reading.gpu(scene.status()), scene.records(since)
            said, complaint = busy.stdout.read(), busy.stderr.read()
            busy.wait()
        finally:
            timer.cancel()
            busy.kill()
    if busy.returncode != 0:
        raise SceneError(f"the neighbour ended with {busy.returncode}:\n{complaint[-3000:]}")
    return {
        "before": _clocks(list(filter(reading.is_traced, before))),
        "during": _clocks(list(filter(reading.is_traced, during))),
        "told": reading.told(scene.records(since)),
        "gpu": gpu,
        "neighbour": json.loads(said.splitlines()[-1]),
    }


PARTS: Mapping[str, Part] = {
    part.name: part
    for part in (
        Part(name="device-times", what="device time by three clocks", play=device_times, budget_s=75),
        Part(name="overflow", what="an FP16 engine that overflows is deployed", play=overflow, budget_s=30),
        Part(name="leak", what="a leak of device memory", play=leak, budget_s=110, on_gpu=True),
        Part(name="neighbour", what="a busy neighbour", play=neighbour, budget_s=65, on_gpu=True),
        Part(name="killed-stub", what="the fast engine's process is killed", play=killed_stub, budget_s=30),
    )
}


def _followed(scene: Scene, until: float, since: int, began: float) -> Seen:
    """From a fault to the proven switch, or to what the watchdog said instead."""
    switched = scene.wait_for(lambda r: reading.is_proven_switch(r, "safe"), until - time.monotonic(), since)
    records = scene.records(since)
    diagnosis = next((r for r in records if reading.is_blaming(r)), {})
    # a deployment slows others down for a moment, and that is not the fault
    bad = next((r for r in records if reading.is_bad(r) and r["reason"] == diagnosis.get("reason")), None)
    return {
        "began": began,
        "rolled_back": switched is not None,
        "first_bad_after_s": bad["at"] - began if bad else None,
        "bad_to_switched_s": switched["applied_at"] - bad["at"] if bad and switched else None,
        "bad_to_proven_s": switched["at"] - bad["at"] if bad and switched else None,
        "reason": bad.get("reason") if bad else None,
        "conclusion": diagnosis.get("conclusion"),
        "told": reading.told(records),
        "ready": _ready(scene),
    }


def _ready(scene: Scene) -> list[int] | str:
    try:
        return scene.server.ready_versions()
    except WebError as error:
        return str(error)


def _served(traffic: Traffic, since: float) -> Seen:
    """What ordinary requests got, before `since` and from then on. NaN counts as wrong."""
    answers = traffic.answers()
    before, after = [a for a in answers if a.at < since], [a for a in answers if a.at >= since]
    return {"traffic": {"before": _counted(before), "after": _counted(after)}}


def _counted(answers: Sequence[Answer]) -> Seen:
    wrong = [a.at for a in answers if a.wrong]
    return {
        "requests": len(answers),
        "failed": sum(a.failed for a in answers),
        "wrong": len(wrong),
        "wrong_for_s": wrong[-1] - wrong[0] if wrong else 0.0,
    }
