"""Measures what probing once a second costs a model's other traffic: its p99 latency and its throughput.

    python -m bench.interference [--quick] [--out FILE]

One real Triton serves the same traffic in short blocks: beside a whole `watchdog run`, and beside the
same process while it is stopped (SIGSTOP), which keeps its memory and sends nothing. Blocks come in
rounds of four in ABBA order with the same random times in each, so that neither a drift of the machine
nor chance favours one side; intervals resample rounds, and the stopped blocks of each round beside one
another show what noise alone gives. Two kinds of traffic:

- open loop, for p99: requests are due at random times of a fixed rate, and latency counts from then.
  Clients who wait for an answer before they ask again hide how long the others would have waited, and
  evenly spaced requests would keep their distance to the probes.
- closed loop, for throughput: a few clients that pause for a random time after each answer.

Both load the model moderately, by how long one request takes on this machine. Run it on a quiet one.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from enum import StrEnum
from functools import partial
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from bench import about
from bench.footprint import Running, running
from bench.ground import DETECTOR, FREE, Case, Ground
from watchdog.model.tensor import Array

_OUT = Path(__file__).with_name("results") / "interference.json"
_PACKAGES = ("inference-watchdog", "numpy", "tritonclient", "grpcio", "nvidia-pytriton")
_CASES = (DETECTOR, FREE)

_BUSY = 0.4
"""The share of time that open-loop traffic alone would keep a model busy with one request after the other."""
_CONNECTIONS = 8
"""Of open-loop traffic: more than ever wait at the same time under such a load."""
_CLIENTS = 2
"""Of closed-loop traffic."""
_PAUSE = 3.0
"""Their mean pause, in times that a request takes: with two clients, the model is busy half of the time."""
_DEADLINE_S = 10.0
_RESAMPLED = 2000
_INTERVAL = (0.025, 0.975)

Ask = Callable[[], object]


class Loop(StrEnum):
    OPEN = "open"
    CLOSED = "closed"


class Outcome(StrEnum):
    MET = "met"
    MISSED = "missed"
    UNDECIDED = "undecided"
    """Within the noise."""


@dataclass(frozen=True, kw_only=True)
class Block:
    """How long traffic runs before it counts, and while it does."""

    settle_s: float
    """A watchdog that goes on first does, once, whatever it missed."""
    counted_s: float

    @property
    def length_s(self) -> float:
        return self.settle_s + self.counted_s


@dataclass(frozen=True, kw_only=True)
class Size:
    """How much is measured of one kind of traffic."""

    rounds: int
    block: Block


Plan = Mapping[tuple[str, Loop], Size]
"""By model and kind of traffic."""

_FULL: Plan = {
    (DETECTOR.model, Loop.OPEN): Size(rounds=8, block=Block(settle_s=1.0, counted_s=4.0)),
    (DETECTOR.model, Loop.CLOSED): Size(rounds=8, block=Block(settle_s=1.0, counted_s=2.0)),
    (FREE.model, Loop.OPEN): Size(rounds=7, block=Block(settle_s=1.0, counted_s=2.0)),
    (FREE.model, Loop.CLOSED): Size(rounds=6, block=Block(settle_s=1.0, counted_s=1.0)),
}
_QUICK: Plan = {of: Size(rounds=2, block=Block(settle_s=0.1, counted_s=0.6)) for of in _FULL}


@dataclass(frozen=True, kw_only=True)
class Sample:
    """What one block's traffic got."""

    latencies_s: Array
    per_s: float


@dataclass(frozen=True, kw_only=True)
class Traffic:
    """Other clients' requests to a model's public name. Sent from a process of their own."""

    url: str
    model: str
    size: int
    """Rows and columns."""

    def service_s(self, wall_s: float) -> float:
        """How long a request takes that nothing else disturbs: the median of all within `wall_s`."""
        taken = []
        with self._connected(1) as (ask,):
            give_up_at = time.perf_counter() + wall_s
            while (began := time.perf_counter()) < give_up_at:
                ask()
                taken.append(time.perf_counter() - began)
        return statistics.median(taken)

    def open_loop(self, service_s: float, block: Block, seed: int) -> Sample:
        """Requests at random times, as many in each block: a Poisson process, given its count."""
        due = np.sort(np.random.default_rng(seed).uniform(0, block.length_s, round(_BUSY / service_s * block.length_s)))
        with self._connected(_CONNECTIONS) as asks:
            latencies = send_when_due(due, asks)
        counted = latencies[due >= block.settle_s]
        return Sample(latencies_s=counted, per_s=len(counted) / block.counted_s)

    def closed_loop(self, service_s: float, block: Block, seed: int) -> Sample:
        """As many requests and the same pauses in each block, so that only the answers' times can differ."""
        each = max(1, round(block.length_s / (service_s * (1 + _PAUSE))))
        settled = int(each * block.settle_s / block.length_s)
        pauses = np.random.default_rng(seed).exponential(_PAUSE * service_s, (_CLIENTS, each))
        with self._connected(_CLIENTS) as asks, ThreadPoolExecutor(_CLIENTS) as pool:
            taken = np.stack(list(pool.map(send_with_pauses, asks, pauses)))[:, settled:]
        return Sample(latencies_s=taken[..., 0].ravel(), per_s=_CLIENTS / float(taken[..., 1].mean()))

    @contextmanager
    def _connected(self, connections: int) -> Iterator[list[Ask]]:
        from tritonclient.grpc import InferenceServerClient, InferInput  # noqa: PLC0415 - in the sending process only

        image = np.random.default_rng(0).uniform(-1000, 400, (1, 1, self.size, self.size)).astype(np.float32)
        tensor = InferInput("CT", list(image.shape), "FP32").set_data_from_numpy(image)
        apart = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", -1)]
        with ExitStack() as stack:
            clients = [
                stack.enter_context(InferenceServerClient(self.url, channel_args=apart)) for _ in range(connections)
            ]
            for client in clients:
                client.is_server_ready(client_timeout=_DEADLINE_S)  # connects
            yield [partial(one.infer, self.model, [tensor], client_timeout=_DEADLINE_S) for one in clients]


def send_when_due(due: Array, asks: Sequence[Ask]) -> Array:
    """Latencies of requests, by connections in turns.

    Args:
        due: seconds from now, ascending.
        asks: each sends a request and returns when it is answered.

    Returns:
        For each, seconds from when it was due; waiting for a connection counts.
    """
    latencies, began = np.empty(len(due)), time.perf_counter()

    def connection(number: int) -> None:
        for i in range(number, len(due), len(asks)):
            time.sleep(max(0.0, began + due[i] - time.perf_counter()))
            asks[number]()
            latencies[i] = time.perf_counter() - began - due[i]

    with ThreadPoolExecutor(len(asks)) as pool:
        list(pool.map(connection, range(len(asks))))
    return latencies


def send_with_pauses(ask: Ask, pauses: Array) -> Array:
    """For each pause, the latency of the request before it, and the time of both together, in seconds."""
    taken = []
    for pause in pauses.tolist():
        began = time.perf_counter()
        ask()
        latency = time.perf_counter() - began
        time.sleep(pause)
        taken.append((latency, time.perf_counter() - began))
    return np.array(taken)


@dataclass(frozen=True, kw_only=True)
class Round:
    """Four blocks: probed, alone, alone, probed."""

    probed: tuple[Sample, Sample]
    alone: tuple[Sample, Sample]


Figure = Callable[[Sequence[Sample]], float]
Send = Callable[[float, Block, int], Sample]
"""A kind of traffic: given how long one request takes, the block, and the seed of its random times."""
Done = Callable[[], object]
"""Told after each round."""


def p99_s(samples: Sequence[Sample]) -> float:
    return float(np.quantile(np.concatenate([sample.latencies_s for sample in samples]), 0.99))


def per_s(samples: Sequence[Sample]) -> float:
    return statistics.fmean(sample.per_s for sample in samples)


@dataclass(frozen=True, kw_only=True)
class Ratio:
    """Of one figure on two sides, with its 95 % interval."""

    point: float
    low: float
    high: float

    @property
    def interval(self) -> str:
        return f"{self.low:.3f}-{self.high:.3f}"


def ratio(figure: Figure, pairs: Sequence[tuple[Sequence[Sample], Sequence[Sample]]]) -> Ratio:
    """The figure of all left sides together ÷ that of all right sides.

    The interval is the percentile bootstrap over rounds (Efron & Tibshirani 1993, chapter 13): both sides of a
    round stay together, since they share its random times and the machine's mood.
    """

    def of(picked: Iterable[int]) -> float:
        chosen = [pairs[i] for i in picked]
        return figure([s for left, _ in chosen for s in left]) / figure([s for _, right in chosen for s in right])

    picks = np.random.default_rng(0).integers(len(pairs), size=(_RESAMPLED, len(pairs)))
    low, high = np.quantile([of(some) for some in picks], _INTERVAL)
    return Ratio(point=of(range(len(pairs))), low=float(low), high=float(high))


@dataclass(frozen=True, kw_only=True)
class Question:
    """What one kind of traffic is asked, and the answer that is aimed at."""

    what: str
    figure: Figure
    key: str
    """Of the ratio, in the file."""
    limit: float
    at_most: bool
    unit: str
    per_unit: float
    """How many of the unit shown are one of the figure's."""

    @property
    def aim(self) -> str:
        return f"{'≤' if self.at_most else '≥'} {self.limit:g}"

    def outcome(self, found: Ratio) -> Outcome:
        """Decided only where the whole interval is on one side of the limit."""
        if found.high <= self.limit if self.at_most else found.low >= self.limit:
            return Outcome.MET
        if found.low > self.limit if self.at_most else found.high < self.limit:
            return Outcome.MISSED
        return Outcome.UNDECIDED


QUESTIONS = {
    Loop.OPEN: Question(what="p99", figure=p99_s, key="p99_ratio", limit=1.01, at_most=True, unit="ms", per_unit=1e3),
    Loop.CLOSED: Question(
        what="throughput", figure=per_s, key="throughput_ratio", limit=0.99, at_most=False, unit="/s", per_unit=1.0
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.interference", description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a smoke run; its figures mean little")
    parser.add_argument("--out", type=Path, default=_OUT, help="where the figures go (JSON)")
    arguments = parser.parse_args()
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # as the command does
    machine = about.machine()  # before the load is our own
    figures = _measure(_QUICK if arguments.quick else _FULL) | {"machine": machine, "quick": arguments.quick}
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    _show(figures)
    Console(soft_wrap=True, highlight=False).print(f"written to {arguments.out}")


def _measure(plan: Plan) -> dict[str, Any]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    console = Console(stderr=True)
    with (
        tempfile.TemporaryDirectory(prefix="watchdog-bench-") as folder,
        Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar,
        ProcessPoolExecutor(1, get_context("spawn")) as sender,
    ):
        task = bar.add_task("training the detector", total=sum(1 + size.rounds for size in plan.values()))
        ground = Ground(Path(folder))
        with ground.server:
            for case in _CASES:
                ground.prepare(case)
            raw = {}
            for case in _CASES:
                done = partial(bar.update, task, advance=1, description=f"{case.model}, probed and alone")
                raw[case.model] = _case(plan, ground, case, sender, done)
    return {
        **_ratios(raw[DETECTOR.model]),
        **{f"{key}_free_model": value for key, value in _ratios(raw[FREE.model]).items()},
        "payloads": {case.model: case.payload for case in _CASES},
        "raw": raw,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {package: version(package) for package in _PACKAGES},
    }


def _case(plan: Plan, ground: Ground, case: Case, sender: Executor, done: Done) -> dict[str, Any]:
    traffic = Traffic(url=ground.server.grpc_url, model=case.model, size=case.size)
    service_s = sender.submit(traffic.service_s, 1.0).result()
    send = {Loop.OPEN: traffic.open_loop, Loop.CLOSED: traffic.closed_loop}
    found: dict[str, Any] = {"service_s": service_s}
    for loop, question in QUESTIONS.items():
        size = plan[case.model, loop]
        take = partial(_take, sender, send[loop], service_s, size.block)
        with running(ground, case, f"beside-{loop}", every="1s") as watchdog:
            found[loop] = _summary(question, _rounds(watchdog, size.rounds, take, done))
    return found


def _take(sender: Executor, send: Send, service_s: float, block: Block, seed: int) -> Sample:
    return sender.submit(send, service_s, block, seed).result()


def _rounds(watchdog: Running, rounds: int, take: Callable[[int], Sample], done: Done) -> list[Round]:
    watchdog.await_ready()
    take(0)  # for what start-up leaves behind
    done()
    taken = []
    for seed in range(rounds):
        first = take(seed)
        with _stopped(watchdog):
            alone = take(seed), take(seed)
        taken.append(Round(probed=(first, take(seed)), alone=alone))
        done()
    _refuse_trouble(watchdog)
    return taken


@contextmanager
def _stopped(watchdog: Running) -> Iterator[None]:
    """From right after a probe on: one that was under way would have missed its deadline when it goes on."""
    watchdog.await_probes(watchdog.status()["probes"] + 1)
    watchdog.process.suspend()
    try:
        yield
    finally:
        watchdog.process.resume()


def _refuse_trouble(watchdog: Running) -> None:
    status = watchdog.status()
    if "diagnosis" in status or "failure" in status:  # it sent more than its probes
        raise RuntimeError(f"not all probes were healthy: {status}")


def _summary(question: Question, rounds: Sequence[Round]) -> dict[str, Any]:
    found = ratio(question.figure, [(one.probed, one.alone) for one in rounds])
    swapped = [one.alone[:: -1 if i % 2 else 1] for i, one in enumerate(rounds)]  # a drift must not look like an effect
    noise = ratio(question.figure, [((left,), (right,)) for left, right in swapped])
    return {
        "ratio": asdict(found),
        "ratio_alone": asdict(noise),
        "outcome": question.outcome(found),
        "probed": question.figure([s for one in rounds for s in one.probed]),
        "alone": question.figure([s for one in rounds for s in one.alone]),
        "rounds": [
            {"probed": [_told(s) for s in one.probed], "alone": [_told(s) for s in one.alone]} for one in rounds
        ],
    }


def _told(sample: Sample) -> dict[str, float]:
    p50, p99 = np.quantile(sample.latencies_s, [0.5, 0.99]).tolist()
    return {"requests": len(sample.latencies_s), "per_s": sample.per_s, "p50_s": p50, "p99_s": p99}


def _ratios(found: Mapping[str, Any]) -> dict[str, float]:
    return {question.key: found[loop]["ratio"]["point"] for loop, question in QUESTIONS.items()}


def _show(figures: dict[str, Any]) -> None:
    machine, versions = figures["machine"], figures["versions"]
    title = f"inference-watchdog {versions['inference-watchdog']}, Python {machine['python']}, {machine['cores']} cores"
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, collapse_padding=True)
    for name in ("", "probed ÷ alone, 95 %", "aim", "", "noise alone", "alone → probed"):
        table.add_column(name)
    for case in _CASES:
        found = figures["raw"][case.model]
        table.add_row(f"{case.size}×{case.size}", f"{1e3 * found['service_s']:.3g} ms a request")
        for loop, question in QUESTIONS.items():
            table.add_row(f"  {question.what}", *_cells(question, found[loop]))
    Console(highlight=False).print(table)


def _cells(question: Question, found: Mapping[str, Any]) -> tuple[str, ...]:
    measured, noise = Ratio(**found["ratio"]), Ratio(**found["ratio_alone"])
    alone, probed = (f"{question.per_unit * found[side]:.3g}" for side in ("alone", "probed"))
    said = f"{alone} → {probed} {question.unit}"
    return f"{measured.point:.3f} ({measured.interval})", question.aim, found["outcome"], noise.interval, said


if __name__ == "__main__":
    main()
