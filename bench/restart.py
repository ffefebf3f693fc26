"""Measures the gap after a restart of Triton: who answers until the watchdog has put the route back.

    python -m bench.restart [--quick] [--out FILE]

A real Triton serves a model whose files say that the fast engine serves, and a whole `watchdog run` has
moved its route to the safe one. The server is killed and started again, time after time, while a client
asks for ordinary answers without a pause. The gap is the time from the first answer of the restarted
server to the last one of the fast engine. All is done once more with a client that sends nothing while
the watchdog's readiness answer of the model is not 200, as a balancer would; where the watchdog has no
such answer, that part is left out.
"""

import argparse
import http.client
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path
from threading import Event, Thread
from typing import Any, Self

import psutil
import yaml
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from bench import about
from bench.footprint import Running
from bench.ground import FREE, Ground
from watchdog.demo.program import free_port
from watchdog.demo.repository import FAST, SAFE
from watchdog.demo.triton import TritonServer
from watchdog.policy.states import State

_OUT = Path(__file__).with_name("results") / "restart.json"
_RESTARTS, _QUICK_RESTARTS = 10, 2
_EVERY = "1s"
"""The probes' cadence, which is not what notices the restart: the router is asked for that."""
_CALM_S = 3.0
"""So long without an answer of the fast engine, and the route counts as put back."""
_PATIENCE_S = 90.0
_LOOK_S = 0.02
_AGAIN_S = 0.001
_DEADLINE_S = 5.0
_GATE = f"/-/ready/{FREE.model}"
_PACKAGES = ("inference-watchdog", "nvidia-pytriton")
_BODY = json.dumps({"inputs": [{"name": "CT", "shape": [1, 1, 1, 1], "datatype": "FP32", "data": [0.0]}]})

Done = Callable[[], object]
"""Told after each restart."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One that came back with 200."""

    at: float
    """Seconds, of `time.perf_counter`."""
    version: str
    """Who answered."""


@dataclass(frozen=True, kw_only=True)
class Gap:
    """What a client got of one restarted server."""

    gap_s: float
    """From the first answer of all to the last one of the fast engine; 0 where that gave none."""
    answered_by_fast: int
    held_s: float
    """From the server being ready to the first answer: what a gate costs."""


class Client:
    """Ordinary requests, one after another without a pause, over a connection of their own."""

    def __init__(self, port: int, is_open: Callable[[], bool]) -> None:
        self.answers: list[Answer] = []
        self._port = port
        self._is_open = is_open
        self._ended = Event()
        self._thread = Thread(target=self._send, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def since(self, at: float) -> list[Answer]:
        return [answer for answer in self.answers if answer.at > at]

    def _send(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=_DEADLINE_S)
        while not self._ended.is_set():
            answered_by = self._ask(connection) if self._is_open() else ""
            if answered_by:
                self.answers.append(Answer(at=time.perf_counter(), version=answered_by))
            else:
                time.sleep(_AGAIN_S)
        connection.close()

    def _ask(self, connection: http.client.HTTPConnection) -> str:
        """The version that answered; empty where nothing did."""
        try:
            connection.request("POST", f"/v2/models/{FREE.model}/infer", _BODY)
            response = connection.getresponse()
            body = response.read()
        except (OSError, http.client.HTTPException):
            connection.close()  # it connects anew by itself
            return ""
        return str(json.loads(body)["model_version"]) if response.status == http.client.OK else ""


def gap_of(answers: Sequence[Answer], ready_at: float) -> Gap:
    """What `answers`, all of one restarted server and in order, amount to."""
    fast = [answer.at for answer in answers if answer.version == str(FAST)]
    first = answers[0].at
    return Gap(gap_s=fast[-1] - first if fast else 0.0, answered_by_fast=len(fast), held_s=max(0.0, first - ready_at))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.restart", description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a smoke run; its figures mean little")
    parser.add_argument("--out", type=Path, default=_OUT, help="where the figures go (JSON)")
    arguments = parser.parse_args()
    figures = _measure(_QUICK_RESTARTS if arguments.quick else _RESTARTS) | {"quick": arguments.quick}
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    _show(figures)
    Console(soft_wrap=True, highlight=False).print(f"written to {arguments.out}")


def _measure(restarts: int) -> dict[str, Any]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    console = Console(stderr=True)
    machine = about.machine()  # before the load is our own
    with (
        tempfile.TemporaryDirectory(prefix="watchdog-bench-") as folder,
        Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar,
    ):
        task = bar.add_task("restarts", total=2 * restarts)
        ground = Ground(Path(folder))
        with ground.server:
            ground.prepare(FREE)
            with _rolled_back(ground) as watchdog:
                plain, gated = _take(ground.server, watchdog, restarts, lambda: bar.advance(task))
    return {
        "restarts": restarts,
        "gap_s_median": statistics.median(one.gap_s for one in plain),
        "gap_s_max": max(one.gap_s for one in plain),
        "answered_by_fast": sum(one.answered_by_fast for one in plain),
        "gated_answered_by_fast": sum(one.answered_by_fast for one in gated) if gated else None,
        "gated_held_s_median": statistics.median(one.held_s for one in gated) if gated else None,
        "raw": {"plain": [asdict(one) for one in plain], "gated": [asdict(one) for one in gated]},
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine,
        "versions": {package: version(package) for package in _PACKAGES},
    }


def _take(server: TritonServer, watchdog: Running, restarts: int, done: Done) -> tuple[list[Gap], list[Gap]]:
    plain = _restarts(server, watchdog, restarts, lambda: True, done)
    if watchdog.get(_GATE)[0] == http.client.NOT_FOUND:
        return plain, []
    return plain, _restarts(server, watchdog, restarts, lambda: watchdog.get(_GATE)[0] == http.client.OK, done)


def _restarts(
    server: TritonServer, watchdog: Running, restarts: int, is_open: Callable[[], bool], done: Done
) -> list[Gap]:
    gaps = []
    with Client(server.ports.http, is_open) as client:
        for _ in range(restarts):
            _await(partial(_rests, watchdog), "the watchdog to rest")
            _await(partial(client.since, time.perf_counter()), "ordinary answers")
            server.kill()
            killed_at = time.perf_counter()
            server.start()
            ready_at = time.perf_counter()
            _await(partial(_is_calm, client, killed_at), "the route to be put back")
            gaps.append(gap_of(client.since(killed_at), ready_at))
            done()
    return gaps


def _rests(watchdog: Running) -> bool:
    return bool(watchdog.status()["policy"]["state"] == State.SERVING_SAFE)


def _is_calm(client: Client, since: float) -> bool:
    """Whether only the safe engine has answered for a while."""
    answers = client.since(since)
    fast = [answer.at for answer in answers if answer.version != str(SAFE)]
    return bool(answers) and answers[-1].at - (fast[-1] if fast else answers[0].at) >= _CALM_S


def _await(is_so: Callable[[], object], what: str) -> None:
    give_up_at = time.perf_counter() + _PATIENCE_S
    while not is_so():
        if time.perf_counter() > give_up_at:
            raise RuntimeError(f"waited {_PATIENCE_S:g} s for {what}")
        time.sleep(_LOOK_S)


@contextmanager
def _rolled_back(ground: Ground) -> Iterator[Running]:
    """A `watchdog run` that has moved the route to the safe engine, killed on leaving."""
    port = free_port()
    path = ground.configure(FREE, "restart", every=_EVERY, listen=f"127.0.0.1:{port}")
    config = yaml.safe_load(path.read_text(encoding="utf-8"))
    config["models"][0]["policy"]["max_switches_per_day"] = 1000  # every restart takes one
    config["api"]["token"] = {"file": "token"}
    path.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    path.with_name("token").write_text("bench", encoding="utf-8")
    log = path.with_suffix(".log")
    with log.open("wb") as stderr:
        started = time.perf_counter()
        process = psutil.Popen([sys.executable, "-m", "watchdog", "run", str(path)], stderr=stderr)
    try:
        running = Running(process=process, port=port, started=started, log=log)
        running.await_ready()
        _roll_back(running)
        yield running
    finally:
        process.kill()
        process.wait()


def _roll_back(watchdog: Running) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", watchdog.port, timeout=_DEADLINE_S)
    try:
        connection.request("POST", f"/api/v1/models/{FREE.model}/rollback", headers={"Authorization": "Bearer bench"})
        response = connection.getresponse()
        answer = response.read()
    finally:
        connection.close()
    if response.status != http.client.OK:
        raise RuntimeError(f"the watchdog did not roll back: {response.status} {answer.decode()}")


def _show(figures: dict[str, Any]) -> None:
    machine, versions = figures["machine"], figures["versions"]
    title = f"inference-watchdog {versions['inference-watchdog']}, Python {machine['python']}, {machine['cores']} cores"
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for name in (f"{figures['restarts']} restarts", "median", "greatest", "answers of the fast engine"):
        table.add_column(name, justify="left" if "restarts" in name else "right")
    gap = f"{figures['gap_s_median'] * 1e3:.0f} ms", f"{figures['gap_s_max'] * 1e3:.0f} ms"
    table.add_row("gap", *gap, str(figures["answered_by_fast"]))
    if figures["gated_answered_by_fast"] is None:
        table.add_row("gated", "", "", f"not measured: {_GATE} is not there")
    else:
        held = [one["held_s"] for one in figures["raw"]["gated"]]
        told = f"{statistics.median(held):.2f} s", f"{max(held):.2f} s"
        table.add_row("gated: held back for", *told, str(figures["gated_answered_by_fast"]))
    Console(highlight=False).print(table)


if __name__ == "__main__":
    main()
