"""Measures the cycle beside a bare client, and a running watchdog's memory, start and idle cost.

    python -m bench.cycle [--quick] [--out FILE]

Everything is measured in one run, on a real Triton of this machine. The two clients take turns, so
that whatever else the machine does hits both; run it on a quiet machine all the same.
"""

import argparse
import json
import os
import statistics
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from bench import about, footprint
from bench.ground import DETECTOR, FREE, Case, Ground
from bench.throughput import Size, Throughput, compare

_OUT = Path(__file__).with_name("results") / "cycle.json"
_CASES = (DETECTOR, FREE)
Done = Callable[[str], None]
"""Told after each step, with the name of the next."""

_PACKAGES = ("inference-watchdog", "numpy", "tritonclient", "grpcio", "aiohttp", "pydantic", "nvidia-pytriton")


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How much is measured."""

    sizes: dict[str, Size]
    """Model → rounds and probes."""
    memory_probes: int
    starts: int
    idle_s: float

    @property
    def steps(self) -> int:
        """Of the progress bar: the ground, the rounds with a warm-up a case, memory a case, starts, idle."""
        return 1 + sum(size.rounds + 1 for size in self.sizes.values()) + len(self.sizes) + self.starts + 1


_FULL = Plan(
    sizes={DETECTOR.model: Size(rounds=8, probes=100), FREE.model: Size(rounds=12, probes=400)},
    memory_probes=1000,
    starts=5,
    idle_s=40.0,
)
_QUICK = Plan(
    sizes={DETECTOR.model: Size(rounds=2, probes=12), FREE.model: Size(rounds=2, probes=50)},
    memory_probes=24,
    starts=1,
    idle_s=3.0,
)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.cycle", description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a smoke run; its figures mean little")
    parser.add_argument("--out", type=Path, default=_OUT, help="where the figures go (JSON)")
    arguments = parser.parse_args()
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # as the command does
    figures = _measure(_QUICK if arguments.quick else _FULL) | {"quick": arguments.quick}
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
    ):
        task = bar.add_task("training the detector", total=plan.steps)

        def done(what: str) -> None:
            bar.update(task, advance=1, description=what)

        ground = Ground(Path(folder))
        with ground.server:
            for case in _CASES:
                ground.prepare(case)
            done("the cycle beside a bare client")
            return _take(plan, ground, done)


def _take(plan: Plan, ground: Ground, done: Done) -> dict[str, Any]:
    rates = {case.model: _compare(plan, ground, case, done) for case in _CASES}
    memory = {}
    for case in _CASES:
        memory[case.model] = footprint.memory(ground, case, plan.memory_probes)
        done("memory")
    starts = []
    for i in range(plan.starts):
        starts.append(footprint.ready_s(ground, DETECTOR, i))
        done("starts")
    idle = footprint.idle(ground, DETECTOR, plan.idle_s)
    done("idle")
    return {
        "ratio_to_bare_client": rates[DETECTOR.model].ratio,
        "ratio_to_bare_client_free_model": rates[FREE.model].ratio,
        "rss_mib": memory[DETECTOR.model]["rss_mib"],
        "rss_mib_free_model": memory[FREE.model]["rss_mib"],
        "ready_s": statistics.median(starts),
        "idle_cpu_ratio": idle["ratio"],
        "payloads": {case.model: case.payload for case in _CASES},
        "raw": {
            "throughput": {model: rate.to_json() for model, rate in rates.items()},
            "memory": memory,
            "ready_s": starts,
            "idle": idle,
        },
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": about.machine(),
        "versions": {package: version(package) for package in _PACKAGES},
    }


def _compare(plan: Plan, ground: Ground, case: Case, done: Done) -> Throughput:
    config = ground.configure(case, "cycle", every="1s")
    url, size = ground.server.grpc_url, plan.sizes[case.model]
    return compare(case, config, url, size, lambda: done(f"{case.model} beside a bare client"))


def _show(figures: dict[str, Any]) -> None:
    machine, versions = figures["machine"], figures["versions"]
    title = f"inference-watchdog {versions['inference-watchdog']}, Python {machine['python']}, {machine['cores']} cores"
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for name in ("what", "payload", "figure", "aim", "measured"):
        table.add_column(name, justify="right" if name in ("figure", "aim") else "left")
    for row in _rows(figures):
        table.add_row(*row)
    Console(highlight=False).print(table)


def _rows(figures: dict[str, Any]) -> list[tuple[str, str, str, str, str]]:
    idle, starts = figures["raw"]["idle"], figures["raw"]["ready_s"]
    started = f"{min(starts):.2f}-{max(starts):.2f} in {len(starts)} starts, no Triton"
    used = f"{idle['cpu_s']:.2f} s in {idle['wall_s']:.0f} s at a probe a second"
    return [
        _ratio_row("cycle ÷ bare client", "≥ 0.9", figures, DETECTOR),
        _ratio_row("… free model (worst case)", "", figures, FREE),
        _memory_row("resident set", "≤ 100 MiB", figures, DETECTOR),
        _memory_row("… small canaries", "", figures, FREE),
        ("ready after", _side(DETECTOR), f"{figures['ready_s']:.2f} s", "≤ 2 s", started),
        ("idle processor share", _side(DETECTOR), f"{figures['idle_cpu_ratio']:.4f}", "≤ 0.01", used),
    ]


def _ratio_row(what: str, aim: str, figures: dict[str, Any], case: Case) -> tuple[str, str, str, str, str]:
    rate = figures["raw"]["throughput"][case.model]
    spread = f"{rate['ratio_min']:.3f}-{rate['ratio_max']:.3f} in {len(rate['rounds']['bare_per_s'])} rounds"
    took = f"{1e3 / rate['bare_per_s']:.3g} ms + {rate['own_us_per_probe'] / 1e3:.2g} ms a probe"
    return what, _side(case), f"{rate['ratio']:.3f}", aim, f"{spread}; {took}"


def _memory_row(what: str, aim: str, figures: dict[str, Any], case: Case) -> tuple[str, str, str, str, str]:
    memory = figures["raw"]["memory"][case.model]
    how = f"{memory['canaries_mib']:.3g} of it canaries; peak {memory['peak_mib']:.0f}; {memory['probes']} probes"
    return what, _side(case), f"{memory['rss_mib']:.0f} MiB", aim, how


def _side(case: Case) -> str:
    return f"{case.size}×{case.size}"


if __name__ == "__main__":
    main()
