"""What ``watchdog probe`` does more than once: every canary, or one each second."""

import asyncio
import math
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from statistics import median
from typing import TYPE_CHECKING

from watchdog.cli import terminal

if TYPE_CHECKING:
    from watchdog.config import Config, ModelSettings
    from watchdog.model.baseline import Baseline
    from watchdog.model.canary import Canary
    from watchdog.model.engine import Role
    from watchdog.model.verdict import Assessment
    from watchdog.prober import Prober

Limits = Mapping[tuple[str, str], float]
"""(output, measure) → limit; ("", "seconds") is the answer's."""
_EVERY_S = 1.0
_WORST_FIRST = ("failed", "inconclusive", "suspect", "healthy")


@dataclass(kw_only=True, slots=True)
class Asking:
    """One model, ready to be asked."""

    prober: "Prober"
    canaries: Sequence["Canary"]
    baseline: "Baseline"
    role: "Role"
    public: bool

    async def ask(self, canary: "Canary") -> tuple["Assessment", Limits]:
        """One answer, with all that is known of its time, and the limits that it is held against."""
        from watchdog.measures import shared  # noqa: PLC0415 - heavy

        before = await self.prober.statistics(self.role)
        assessment = await self.prober.probe(canary, self.role, public=self.public)
        known = await self.prober.timekeeper.settled([assessment.result], self.prober.patience_s)
        if known:
            timing = shared(known[0].timing, before, await self.prober.statistics(self.role))
            assessment = replace(assessment, result=replace(assessment.result, timing=timing))
        latency, scores = self.prober.judge.limits()
        return assessment, scores | {("", "seconds"): latency[self.role, canary.profile]}


@asynccontextmanager
async def asking(settings: "Config", model: "ModelSettings", engine: str) -> AsyncIterator[Asking]:
    """Everything opened that a probe needs; `engine` is public, fast or safe."""
    from watchdog.assembly import (  # noqa: PLC0415 - heavy
        ask_router,
        keep_time,
        load_baseline,
        load_inputs,
        make_prober,
        open_endpoints,
        surround,
    )
    from watchdog.model.engine import Role  # noqa: PLC0415

    async with AsyncExitStack() as stack:
        inputs = load_inputs(model)
        timekeeper = await stack.enter_async_context(keep_time(settings.traces))
        around = surround(open_endpoints(settings, stack), timekeeper)
        baseline = load_baseline(model, inputs)
        prober = make_prober(model, inputs, baseline, around)
        public = engine == "public"
        serving = await ask_router(model) if public else None
        role = serving.role if serving is not None and serving.role is not None else Role.FAST
        await prober.learn()
        yield Asking(
            prober=prober,
            canaries=inputs.canaries.canaries,
            baseline=baseline,
            role=Role.SAFE if engine == "safe" else role,
            public=public,
        )


@dataclass(kw_only=True, slots=True)
class Tally:
    """What came of many probes."""

    verdicts: dict[str, int] = field(default_factory=dict)
    took_s: list[float] = field(default_factory=list)
    """Of those that were answered."""

    def take(self, assessment: "Assessment") -> None:
        self.verdicts[assessment.verdict] = self.verdicts.get(assessment.verdict, 0) + 1
        if assessment.result.fault is None:
            self.took_s.append(assessment.result.timing.total_s)

    def __str__(self) -> str:
        came = ", ".join(f"{self.verdicts[v]} {v}" for v in reversed(_WORST_FIRST) if v in self.verdicts)
        times = ""
        if self.took_s:
            low, middle, high = (f"{s * 1e3:.1f}" for s in (min(self.took_s), median(self.took_s), max(self.took_s)))
            times = f"; took {low} / {middle} / {high} ms (least, median, most)"
        return f"{sum(self.verdicts.values())} probes: {came or 'none'}{times}"

    @property
    def code(self) -> int:
        """The command's exit code: the worst of all."""
        if {"failed", "suspect"} & set(self.verdicts):
            return terminal.NOT_RIGHT
        return terminal.UNREACHABLE if "inconclusive" in self.verdicts or not self.verdicts else 0


async def repeat(subject: Asking, canaries: Sequence["Canary"], tally: Tally) -> None:
    """One after the other, a line and a second each, until cancelled."""
    at = 0
    while True:
        began = asyncio.get_running_loop().time()
        assessment, limits = await subject.ask(canaries[at % len(canaries)])
        tally.take(assessment)
        clock = time.strftime("%H:%M:%S", time.localtime(assessment.result.timing.sent_at))
        terminal.out().print(f"{clock}  {_line(assessment, limits)}")
        at += 1
        await asyncio.sleep(max(0.0, began + _EVERY_S - asyncio.get_running_loop().time()))


def _line(assessment: "Assessment", limits: Limits) -> str:
    result, timing, limit_s = assessment.result, assessment.result.timing, limits["", "seconds"]
    device = "" if timing.device_s is None else f", device {timing.device_s * 1e3:.2f}"
    of = f" of {limit_s * 1e3:.0f}" if math.isfinite(limit_s) else ""
    worst = "" if assessment.worst is None else f"  {terminal.plain(str(assessment.worst))}"
    by = "" if result.fault is not None else f" by {terminal.plain(str(result.answered_by))}"
    styled, canary = terminal.styled(assessment.verdict), terminal.plain(result.canary)
    return f"{styled} {canary}{by}  {timing.total_s * 1e3:.1f}{of} ms{device}{worst}"


async def each(subject: Asking, tally: Tally) -> list[tuple["Assessment", Limits]]:
    """Every canary once, the worst answers first and the slowest first among equals."""
    found = []
    with terminal.progress() as bar:
        task = bar.add_task("asking canaries", total=len(subject.canaries))
        for canary in subject.canaries:
            found.append(await subject.ask(canary))
            tally.take(found[-1][0])
            bar.advance(task)
    return sorted(found, key=lambda one: (_WORST_FIRST.index(one[0].verdict), -one[0].result.timing.total_s))


def show_each(found: Sequence[tuple["Assessment", Limits]]) -> None:
    """A row for each answer."""
    from rich.table import Table  # noqa: PLC0415 - keeps `--help` quick

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("canary", "verdict", "took", "limit", "device", "answered by", "what is wrong"):
        table.add_column(column)
    for assessment, limits in found:
        result, limit_s = assessment.result, limits["", "seconds"]
        table.add_row(
            terminal.plain(result.canary),
            terminal.styled(assessment.verdict),
            f"{result.timing.total_s * 1e3:.1f} ms",
            f"{limit_s * 1e3:.0f} ms" if math.isfinite(limit_s) else "",
            "" if result.timing.device_s is None else f"{result.timing.device_s * 1e3:.2f} ms",
            "" if result.fault is not None else terminal.plain(str(result.answered_by)),
            "" if assessment.worst is None else terminal.plain(str(assessment.worst)),
        )
    terminal.out().print(table)
