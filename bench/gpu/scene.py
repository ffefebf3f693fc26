"""The scene: a Triton that serves both engines, a watchdog that watches them, and ordinary traffic."""

import json
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import yaml

from bench.gpu import reading, repository
from bench.gpu.fitting import Shape, fit
from bench.gpu.machine import ROOT, Machine
from bench.gpu.net import Net
from bench.gpu.repository import FAST, MODEL, SAFE, Engines
from bench.gpu.server import Server
from bench.gpu.web import ask
from watchdog.canaries.phantom import default_set, draw, make_slice, write_series
from watchdog.demo.service import Record, Service
from watchdog.demo.traffic import Traffic
from watchdog.demo.triton import Ports
from watchdog.model.tensor import Array

_SEED = 7
_BASELINE_S, _LISTEN_S, _HEALTHY_S = 120.0, 30.0, 40.0
_PATIENTS = 8
_TAIL = 15

_RECIPE = {
    "input": "CT",
    "dtype": "FP32",
    "layout": "NCHW",
    "window": {"low": -1000, "high": 400},
    "normalise": {"range": [-1000, 400]},
    "resample": "linear",
    "tolerance": 0.5,
}
_OUTPUTS = [{"name": "probability", "kind": "probability"}, {"name": "heatmap", "kind": "mask"}]


class SceneError(Exception):
    """The scene is not as it should be; `Scene.tails` has what the programs said."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sizes:
    """How large everything is, and how fast canaries come."""

    net: Shape
    batch: int
    """Of the second shape profile; the first has one image."""
    every: str
    deadline: str
    latency: Mapping[str, str | None]
    """The model's latency settings."""
    on_gpu: bool


class Scene:
    """Everything that runs, from `__enter__` on. `build` is given the net and some images."""

    def __init__(self, folder: Path, machine: Machine, sizes: Sizes, build: Callable[[Net, Array], Engines]) -> None:
        self.sizes = sizes
        self.repository = folder / "models"
        self.told: dict[str, Any] = {}
        """What setting the scene told: seconds, versions, engines."""
        self._folder = folder
        self._build = build
        self._token = secrets.token_urlsafe(24)
        self._traces = f"127.0.0.1:{Ports.free().http}"
        self._config_path = folder / "watchdog.yaml"
        self.server = Server(machine, self.repository, MODEL, log=folder / "triton.log", traces=self._traces)
        self._service = Service(self._config_path, _show)
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._stack = stack
            self._set()
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def _set(self) -> None:
        began = time.monotonic()
        rng = np.random.default_rng(_SEED)
        net = fit(self.sizes.net)
        specs = [draw(rng, name=str(i), size=self.sizes.net.size, nodules=i % 2) for i in range(_PATIENTS)]
        self.patients = [make_slice(spec, rng)[None, None] for spec in specs]
        self.told["fit_s"] = time.monotonic() - began
        self.engines = self._build(net, np.concatenate(self.patients[:2]))
        self.told["engines"] = self.engines.built
        repository.write_repository(self.repository, self.engines)
        self._stack.callback(self.server.stop)
        self.told["triton_start_s"] = self.server.start()
        self._configure()
        self.told["baseline"] = self._capture()
        self._stack.enter_context(self._service)
        self._listens_at = self._wait(lambda r: r["event"] == "listening", _LISTEN_S, "it listens")["url"]
        self._wait(lambda r: reading.is_public_probe(r) and not reading.is_bad(r), _HEALTHY_S, "a probe is healthy")
        self.told["set_s"] = time.monotonic() - began

    # -- what parts do --------------------------------------------------------------------

    @contextmanager
    def traffic(self, *, clients: int = 2, pause_s: float = 0.05) -> Iterator[Traffic]:
        """Ordinary traffic, which knows the right answers from the safe engine."""
        traffic = Traffic(self.server.grpc, MODEL, self.patients, clients=clients, pause_s=pause_s)
        traffic.start(str(SAFE))
        try:
            yield traffic
        finally:
            traffic.stop()

    def deploy(self, plan: Path, *, leak: int = 0) -> float:
        """Replace the fast engine under the version policy in force, as a deployment would; seconds."""
        repository.place(self.repository, self.engines, FAST, plan)
        repository.set_leak(self.repository, FAST, leak)
        return self.server.load(self.server.ready_versions() or [SAFE, FAST])

    def heal(self) -> dict[str, float]:
        """The right fast engine in its place, traffic back to it, a healthy answer from it: seconds of each."""
        took = {}
        if self.server.running:
            took["deploy_s"] = self.deploy(self.engines.fast)
        else:
            repository.place(self.repository, self.engines, FAST, self.engines.fast)
            took["restart_s"] = self.server.start()
        self._settle()
        began, since = time.monotonic(), self.mark()
        if reading.desired(self.status(), MODEL) != "fast":
            body = {"actor": "bench", "why": "the right engine is back"}
            ask(f"{self._listens_at}/api/v1/models/{MODEL}/promote", body, token=self._token, timeout_s=_HEALTHY_S)
            self._wait(lambda r: reading.is_proven_switch(r, "fast"), _HEALTHY_S, "the promotion is proven", since)
            took["promote_s"], since = time.monotonic() - began, self.mark()
        self._wait(lambda r: reading.is_public_probe(r) and not reading.is_bad(r), _HEALTHY_S, "it is healthy", since)
        self._require_health()
        return took

    def status(self) -> dict[str, Any]:
        """The watchdog's document. Raises WebError."""
        document: dict[str, Any] = ask(f"{self._listens_at}/api/v1/status")
        return document

    def mark(self) -> int:
        """Where the log is now."""
        return len(self._service.records())

    def records(self, since: int = 0) -> list[Record]:
        return self._service.records(since)

    def wait_for(self, wanted: Callable[[Record], bool], timeout_s: float, since: int) -> Record | None:
        """The first such record from `since` on, or None if none comes in time."""
        return self._service.wait_for(wanted, timeout_s, since)

    def tails(self) -> str:
        """What the programs said last, as far as they have begun."""
        said = [json.dumps(record) for record in self._service.records()[-_TAIL:]]
        return "\n".join(["the watchdog's last words:", *said, self.server.tail()])

    # -- setting it -----------------------------------------------------------------------

    def _configure(self) -> None:
        size = self.sizes.net.size
        write_series(self._folder / "canaries", default_set(_SEED, size), _SEED)
        profiles = [
            {"name": "one", "batch": 1, "size": [size, size]},
            {"name": "batch", "batch": self.sizes.batch, "size": [size, size]},
        ]
        (self._folder / "recipe.yaml").write_text(yaml.safe_dump(_RECIPE | {"profiles": profiles}), encoding="utf-8")
        (self._folder / "token").write_text(self._token, encoding="ascii")
        self._config_path.write_text(yaml.safe_dump(self._config(), sort_keys=False), encoding="utf-8")

    def _config(self) -> dict[str, Any]:
        metrics = {"url": f"http://127.0.0.1:{self.server.ports.metrics}"}
        model = {
            "name": MODEL,
            "endpoint": "triton",
            "engines": {"fast": {"version": FAST}, "safe": {"version": SAFE}},
            "canaries": {"path": "canaries", "recipe": "recipe.yaml"},
            "baseline": "baseline",
            "outputs": _OUTPUTS,
            "device_output": "device_seconds",
            "probe": {"every": self.sizes.every, "deadline": self.sizes.deadline},
            "latency": dict(self.sizes.latency),
            "policy": {"action": "rollback", "max_switches_per_day": 100},
            "router": {"kind": "triton", "url": self.server.http},
        }
        return {
            "state": "state",
            "api": {"listen": "127.0.0.1:0", "token": {"file": "token"}},
            "traces": {"listen": self._traces, "despite_crashes": True},
            "gpu": {
                "every": "1s",
                "processes": ["tritonserver", "triton_python_backend_stub"],
                "leak": {"over": "60s"},
            },
            "endpoints": [{"name": "triton", "kind": "triton-grpc", "url": self.server.grpc, "metrics": metrics}],
            "models": [model],
        }

    def _capture(self) -> dict[str, Any]:
        command = [sys.executable, "-m", "watchdog", "baseline", str(self._config_path), "--json"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=_BASELINE_S, check=False)
        if done.returncode != 0:
            raise SceneError(f"`{' '.join(command)}` failed:\n{done.stderr}")
        (summary,) = json.loads(done.stdout)
        return {key: value for key, value in summary.items() if key != "baseline"}  # a path says nothing

    def _wait(self, wanted: Callable[[Record], bool], timeout_s: float, what: str, since: int = 0) -> Record:
        found = self._service.wait_for(wanted, timeout_s, since)
        if found is None:
            raise SceneError(f"not within {timeout_s:g} s: {what}")
        return found

    def _settle(self) -> None:
        """Wait until an engine serves, and no burst and no switch is under way: a command would come to nothing."""
        give_up_at = time.monotonic() + _HEALTHY_S
        while not (state := reading.state(self.status(), MODEL)).startswith("serving-"):
            if time.monotonic() > give_up_at:
                raise SceneError(f"the watchdog does not come to rest: it says {state}")
            time.sleep(0.05)

    def _require_health(self) -> None:
        """Raises SceneError unless the fast engine serves, as the watchdog and Triton both say."""
        self._settle()
        state, ready = reading.state(self.status(), MODEL), self.server.ready_versions()
        if state != "serving-fast" or ready != [SAFE, FAST]:
            raise SceneError(f"the watchdog says {state}, and Triton has {ready} READY")


def _show(record: Record) -> None:
    """At once what nobody expects."""
    if record["event"] in ("text", "watchdog failure"):
        print(f"the watchdog: {record.get('text') or record.get('error')}", file=sys.stderr, flush=True)
