"""The whole cycle beside a bare client, in one process and in turns: same server, model and tensors."""

import asyncio
import os
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any

from tritonclient.grpc import InferInput, InferRequestedOutput
from tritonclient.grpc.aio import InferenceServerClient

from bench.ground import Case
from watchdog import config
from watchdog.cycle import Cycle
from watchdog.evidence.files import FileEvidence
from watchdog.journal.sqlite import SqliteJournal
from watchdog.model.canary import Canary
from watchdog.ports import Event
from watchdog.telemetry import logs
from watchdog.telemetry.board import Board
from watchdog.telemetry.metrics import Metrics
from watchdog.timekeeper import Timekeeper
from watchdog.watching import assemble

Step = Callable[[], Awaitable[None]]
Progress = Callable[[], None]


@dataclass(frozen=True, kw_only=True)
class Size:
    """How much is measured."""

    rounds: int
    probes: int
    """Of each kind, in each round."""


@dataclass(frozen=True, kw_only=True)
class Throughput:
    """Probes per second, a figure a round."""

    watchdog: Sequence[float]
    bare: Sequence[float]

    @property
    def ratios(self) -> list[float]:
        return [w / b for w, b in zip(self.watchdog, self.bare, strict=True)]

    @property
    def ratio(self) -> float:
        """Of one round's figures, the median."""
        return statistics.median(self.ratios)

    def to_json(self) -> dict[str, Any]:
        ratios = self.ratios
        watchdog, bare = statistics.median(self.watchdog), statistics.median(self.bare)
        return {
            "ratio": self.ratio,
            "ratio_min": min(ratios),
            "ratio_max": max(ratios),
            "watchdog_per_s": watchdog,
            "bare_per_s": bare,
            "own_us_per_probe": (1 / watchdog - 1 / bare) * 1e6,
            "rounds": {"watchdog_per_s": list(self.watchdog), "bare_per_s": list(self.bare)},
        }


def compare(case: Case, path: Path, url: str, size: Size, done: Progress) -> Throughput:
    """Rounds of either kind in turns, the order swapped from round to round, after a warm-up of both.

    Raises:
        RuntimeError: a probe was not healthy, so that something else was measured.
    """
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere:
        logs.configure("info", nowhere)
        return asyncio.run(_compare(case, path, url, size, done))


async def _compare(case: Case, path: Path, url: str, size: Size, done: Progress) -> Throughput:
    async with AsyncExitStack() as stack:
        board = Board(time.time())
        one = await _cycle(path, board, stack)
        bare = await _bare(case, one._panel.canaries, url, stack)  # noqa: SLF001 - the very tensors that the cycle sends
        kinds: dict[str, Step] = {"watchdog": one.tick, "bare": bare}
        for step in kinds.values():
            await _per_s(step, size.probes)
        done()
        rates: dict[str, list[float]] = {kind: [] for kind in kinds}
        for i in range(size.rounds):
            for kind in list(kinds)[:: -1 if i % 2 else 1]:
                rates[kind].append(await _per_s(kinds[kind], size.probes))
            done()
        _all_healthy(board, case.model, (size.rounds + 1) * size.probes)
    return Throughput(watchdog=rates["watchdog"], bare=rates["bare"])


async def _cycle(path: Path, board: Board, stack: AsyncExitStack) -> Cycle:
    """The only cycle of a configuration, assembled and observed as `watchdog run` does it, with no cadence."""
    settings = config.read(path)
    observers = (Metrics(), board, logs.log_event)

    def observe(event: Event) -> None:
        for observer in observers:
            observer(event)

    settings.state.mkdir()
    journal = await SqliteJournal.open(settings.state / "journal.sqlite")
    stack.push_async_callback(journal.close)
    evidence = FileEvidence(settings.state / "evidence")
    timekeeper = Timekeeper(time.time, lambda _outcome, _count: None, listening=False)
    watching = await assemble(settings, journal, evidence, observe, clock=time.time, timekeeper=timekeeper)
    stack.push_async_callback(watching.close)
    (one,) = watching.cycles.values()
    return one


async def _bare(case: Case, canaries: Sequence[Canary], url: str, stack: AsyncExitStack) -> Step:
    """What anybody would write who only wants the answers."""
    client = InferenceServerClient(url)
    stack.push_async_callback(client.close)
    names = [output["name"] for output in case.outputs]
    payloads = cycle([canary.inputs for canary in canaries])

    async def step() -> None:
        inputs = [
            InferInput(name, list(array.shape), "FP32").set_data_from_numpy(array)
            for name, array in next(payloads).items()
        ]
        result = await client.infer(case.model, inputs, outputs=[InferRequestedOutput(name) for name in names])
        for name in names:
            result.as_numpy(name)

    return step


async def _per_s(step: Step, probes: int) -> float:
    began = time.perf_counter()
    for _ in range(probes):
        await step()
    return probes / (time.perf_counter() - began)


def _all_healthy(board: Board, model: str, probes: int) -> None:
    seen = board.document(time.time())["models"][model]
    if seen["probes"] != probes or "diagnosis" in seen:  # any other probe is diagnosed at once
        raise RuntimeError(f"not all of {probes} probes of {model} were healthy: {seen}")
