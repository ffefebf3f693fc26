"""Measures drift detectors side by side, and beside the oracle: false alarms, delays, cost and memory.

    python -m bench.drift.run [--quick] [--out FILE] [--only NAME ...] [--streams NAME ...] [--seed N] [--report]

Everything is measured in one run, from seeds. A detector, a stream, a change and a reference's size
make a row. What is calibrated is calibrated on the quiet stream itself, which no user could do.
"""

import argparse
import json
import os
import platform
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from bench.drift import classifier, figures, oracle, pairs, peers, report, studies
from bench.drift.contestants import CONTESTANTS, OURS, STREAMS, terms
from bench.drift.figures import Beside, Measured, Oracles, Row
from bench.drift.measure import Delays, Quiet, bound_for
from bench.drift.pairs import PAIRS, CountPairs, TakePairs, TakePairsCost
from bench.drift.studies import STUDIES, CountStudies, TakeStudiesCost
from bench.drift.subject import Cost, ToCalibrate
from bench.drift.tasks import AskOracle, Calibrate, Case, CountAlarms, TakeCost, TakeDelays

_OUT = Path(__file__).parents[1] / "results" / "drift.json"
_PACKAGES = ("inference-watchdog", "numpy", "scipy", "river", "frouros", "scikit-learn")
_PART, _LONG_PART = 20, 64
"""Quiet streams to a task: keeps the cores busy and memory small."""
_PAIRS_PART, _PAIRS_RUNS = 25_000, 10
"""Quiet observations of pairs to a task, and runs."""
_EVERYBODY = (*CONTESTANTS, *PAIRS, *STUDIES)
_EVERYWHERE = (*STREAMS, pairs.STREAM, studies.STREAM)

Result = TypeVar("Result")


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How much is measured, of a detector whose share is 1."""

    runs: int
    """Of each change, each with a reference of its own."""
    fewest_runs: int
    """However small a detector's share is."""
    oracle_runs: int
    frontier: tuple[float, ...]
    """Laxer run lengths at which the oracle is asked too."""
    quiet_streams: int
    """References, each followed by a quiet stream."""
    quiet_length: int
    long_quiet: tuple[int, int]
    """The same two of detectors whose false alarms are too rare for that."""
    pairs_runs: int
    """Captures, after each of which every fault comes once."""
    pairs_quiet: int
    """Quiet observations of pairs."""
    studies: tuple[int, int]
    """References, and studies after each."""
    calibration: int
    """Quiet observations by which a threshold is found."""
    cost_observations: int


_FULL = Plan(
    runs=160,
    fewest_runs=20,
    oracle_runs=4000,
    frontier=(1e4, 1e5, 1e6),
    quiet_streams=250,
    quiet_length=20_000,
    long_quiet=(512, 330_000),
    pairs_runs=160,
    pairs_quiet=1_000_000,
    studies=(20, 10_000),
    calibration=4_000_000,
    cost_observations=5000,
)
_QUICK = Plan(
    runs=20,
    fewest_runs=4,
    oracle_runs=400,
    frontier=(1e5,),
    quiet_streams=20,
    quiet_length=10_000,
    long_quiet=(40, 10_000),
    pairs_runs=20,
    pairs_quiet=100_000,
    studies=(4, 2_500),
    calibration=400_000,
    cost_observations=1000,
)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.drift.run", description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a smoke run; its figures mean little")
    parser.add_argument("--out", type=Path, default=_OUT, help="where the figures go (JSON); a summary beside it")
    parser.add_argument("--only", nargs="+", choices=_EVERYBODY, default=_EVERYBODY, metavar="DETECTOR")
    parser.add_argument("--streams", nargs="+", choices=_EVERYWHERE, default=_EVERYWHERE, metavar="STREAM")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--report", action="store_true", help="write docs/drift-benchmark.md and its plots anew")
    arguments = parser.parse_args()
    plan = _QUICK if arguments.quick else _FULL
    began = time.monotonic()
    measured, beside, oracles, frontier, seconds = _measure(plan, arguments.only, arguments.streams, arguments.seed)
    rows = figures.rows(measured, oracles, arguments.seed) + figures.rows_beside(beside, arguments.seed)
    _write(arguments.out, rows)
    summary = _summary_file(arguments.out)
    ours = [contestant.name for contestant in OURS if contestant.name in arguments.only]
    about = {"ours": ours, "quick": arguments.quick, "seed": arguments.seed, "plan": asdict(plan)}
    about |= {"minutes": round((time.monotonic() - began) / 60, 1), "seconds": seconds}
    about["at_bound"] = figures.at_bound(beside)
    asked = {"oracle": figures.oracle_rows(oracles), "frontier": frontier}
    _write(summary, {"summary": figures.summary(measured, oracles)} | asked | about | _circumstances())
    if arguments.report:
        report.write(arguments.out, summary)
    _show(json.loads(summary.read_text(encoding="utf-8"))["summary"])
    Console(soft_wrap=True, highlight=False).print(f"written to {arguments.out} and {summary}")


def _measure(
    plan: Plan, everybody: Sequence[str], everywhere: Sequence[str], seed: int
) -> tuple[list[Measured], list[Beside], Oracles, list[Row], dict[str, float]]:
    detectors, streams = [one for one in everybody if one in CONTESTANTS], [one for one in everywhere if one in STREAMS]
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(name, "1")  # there is a worker for each core already
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    console = Console(stderr=True)
    with (
        Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar,
        ProcessPoolExecutor(len(os.sched_getaffinity(0)), mp_context=get_context("forkserver")) as pool,
    ):
        crew = _Crew(pool, bar)
        if classifier.NAME in streams and detectors:
            crew.begin("preparing the classifier", 1)
            classifier.prepare()
        asked = streams if detectors else []
        oracles = _ask_oracles(crew, plan, asked, seed, oracle.ARL)
        laxer = {arl: _ask_oracles(crew, plan, asked, seed, arl) for arl in plan.frontier}
        cases = _cases(crew, plan, detectors, streams, seed)
        delays = _take_delays(crew, plan, cases, oracles, seed)
        quiet = _count_alarms(crew, plan, cases, seed)
        beside = _take_pairs(crew, plan, everybody if pairs.STREAM in everywhere else (), seed)
        beside += _count_studies(crew, plan, everybody if studies.STREAM in everywhere else (), seed)
        costs = _take_costs(crew, plan, cases, seed)
    measured = []
    for case in cases:
        run_ins = sum((one.run_in for one in delays[case].values()), Quiet())
        measured.append(Measured(case=case, quiet=quiet[case] + run_ins, delays=delays[case], cost=costs[case]))
    return measured, beside, oracles, figures.frontier(laxer, oracles), crew.seconds


class _Crew:
    """Does pieces of work in any order, all cores at once, and shows how far it has come."""

    def __init__(self, pool: ProcessPoolExecutor, bar: Progress) -> None:
        self._pool, self._bar, self._shown = pool, bar, bar.add_task("")
        self.seconds: dict[str, float] = {}
        """That each kind of work took."""

    def do(self, what: str, tasks: Sequence[Callable[[], Result]]) -> list[Result]:
        self.begin(what, len(tasks))
        began = time.monotonic()
        futures = [self._pool.submit(task) for task in tasks]
        try:
            for future in as_completed(futures):
                future.result()
                self.advance()
        finally:
            for future in futures:
                future.cancel()
        self.seconds[what] = round(self.seconds.get(what, 0.0) + time.monotonic() - began, 1)
        return [future.result() for future in futures]

    def begin(self, what: str, total: int) -> None:
        self._bar.reset(self._shown, total=total, description=what)

    def advance(self) -> None:
        self._bar.advance(self._shown)


def _ask_oracles(crew: _Crew, plan: Plan, streams: Sequence[str], seed: int, arl: float) -> Oracles:
    changes = [(stream, change) for stream in streams for change in STREAMS[stream].changes]
    asked = [
        AskOracle(stream=stream, change=change, runs=plan.oracle_runs, seed=seed, arl=arl) for stream, change in changes
    ]
    return dict(zip(changes, crew.do("asking the oracle", asked), strict=True))


def _cases(crew: _Crew, plan: Plan, detectors: Sequence[str], streams: Sequence[str], seed: int) -> list[Case]:
    """Every detector on every stream, its threshold found where it has none of its own."""
    wanted = [
        (detector, stream, size)
        for detector in detectors
        for stream in streams
        for size in (terms(detector).sizes if CONTESTANTS[detector].learns else (0,))
    ]
    searches = {
        (detector, stream, size): Calibrate(
            detector=detector, stream=stream, size=size, observations=plan.calibration, seed=seed
        )
        for detector, stream, size in wanted
        if isinstance(CONTESTANTS[detector], ToCalibrate)
    }
    found = dict(zip(searches, crew.do("calibrating", list(searches.values())), strict=True))
    return [
        Case(detector=detector, stream=stream, size=size, threshold=found.get((detector, stream, size)))
        for detector, stream, size in wanted
    ]


def _take_delays(
    crew: _Crew, plan: Plan, cases: Sequence[Case], oracles: Oracles, seed: int
) -> dict[Case, dict[str, Delays]]:
    tasks = [
        TakeDelays(
            case=case,
            change=change,
            runs=max(plan.fewest_runs, round(case.subject.share * plan.runs)),
            bound=bound_for(oracles[case.stream, change].median),
            seed=seed,
        )
        for case in cases
        for change in STREAMS[case.stream].changes
    ]
    delays: dict[Case, dict[str, Delays]] = {case: {} for case in cases}
    for task, taken in zip(tasks, crew.do("changes", tasks), strict=True):
        delays[task.case][task.change] = taken
    return delays


def _count_alarms(crew: _Crew, plan: Plan, cases: Sequence[Case], seed: int) -> dict[Case, Quiet]:
    tasks = [task for case in cases for task in _quiet_tasks(plan, case, seed)]
    quiet = dict.fromkeys(cases, Quiet())
    for task, counted in zip(tasks, crew.do("quiet streams", tasks), strict=True):
        quiet[task.case] += counted
    return quiet


def _quiet_tasks(plan: Plan, case: Case, seed: int) -> list[CountAlarms]:
    if terms(case.detector).long_quiet:
        (streams, length), most = plan.long_quiet, _LONG_PART
    else:
        streams, length, most = round(case.subject.share * plan.quiet_streams), plan.quiet_length, _PART
    return [
        CountAlarms(case=case, streams=some, length=length, part=part, seed=seed)
        for part, some in enumerate(_parts(max(1, streams), most))
    ]


def _parts(total: int, most: int) -> list[int]:
    return [min(most, total - begin) for begin in range(0, total, most)]


def _take_costs(crew: _Crew, plan: Plan, cases: Sequence[Case], seed: int) -> dict[Case, Cost]:
    """One after the other, in this process: the workers are idle by now."""
    crew.begin("cost", len(cases))
    costs = {}
    for case in cases:
        costs[case] = TakeCost(case=case, observations=plan.cost_observations, seed=seed)()
        crew.advance()
    return costs


def _take_pairs(crew: _Crew, plan: Plan, wanted: Sequence[str], seed: int) -> list[Beside]:
    names = [name for name in wanted if name in PAIRS]
    faults = [
        TakePairs(pairs=name, begin=begin, end=min(begin + _PAIRS_RUNS, plan.pairs_runs), seed=seed)
        for name in names
        for begin in range(0, plan.pairs_runs, _PAIRS_RUNS)
    ]
    found = list(zip(faults, crew.do("faults in pairs", faults), strict=True))
    quiet = [
        CountPairs(pairs=name, observations=some, part=part, seed=seed)
        for name in names
        for part, some in enumerate(_parts(plan.pairs_quiet, _PAIRS_PART))
    ]
    counted = list(zip(quiet, crew.do("quiet pairs", quiet), strict=True))
    beside = []
    for name in names:
        some = [taken for task, taken in found if task.pairs == name]
        run_ins = [taken.run_in for taken in some]
        beside.append(
            Beside(
                detector=name,
                stream=pairs.STREAM,
                reference=PAIRS[name].reference,
                quiet=sum([*run_ins, *(taken for task, taken in counted if task.pairs == name)], Quiet()),
                delays=pairs.together([taken.delays for taken in some]),
                cost=TakePairsCost(pairs=name, observations=plan.cost_observations, seed=seed)(),
            )
        )
    return beside


def _count_studies(crew: _Crew, plan: Plan, wanted: Sequence[str], seed: int) -> list[Beside]:
    references, length = plan.studies
    names = [name for name in wanted if name in STUDIES]
    tasks = [
        CountStudies(studies=name, observations=length, part=part, seed=seed)
        for name in names
        for part in range(references)
    ]
    counted = list(zip(tasks, crew.do("studies", tasks), strict=True))
    return [
        Beside(
            detector=name,
            stream=studies.STREAM,
            reference=studies.REFERENCE,
            quiet=sum((taken for task, taken in counted if task.studies == name), Quiet()),
            delays={},
            cost=TakeStudiesCost(studies=name, observations=plan.cost_observations, seed=seed)(),
        )
        for name in names
    ]


def _summary_file(out: Path) -> Path:
    return out.with_name(f"{out.stem}-summary.json")


def _write(file: Path, figures: Any) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


def _circumstances() -> dict[str, Any]:
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {
            "system": platform.platform(),
            "cores": len(os.sched_getaffinity(0)),
            "python": platform.python_version(),
            "load_1m": os.getloadavg()[0],
        },
        "versions": {
            package: version(package) for package in _PACKAGES if package != "frouros" or peers.frouros is not None
        },
    }


def _show(summary: Sequence[Row]) -> None:
    table = Table(box=None, pad_edge=False)
    for name in ("detector", "reference", "× oracle", "missed", "false alarms", "quiet observations"):
        table.add_column(name, justify="left" if name == "detector" else "right")
    for row in summary:
        ratio = row["ratio_to_oracle"]
        table.add_row(
            row["detector"],
            f"{row['reference']:,}" if row["reference"] else "none",
            f"{ratio:.2f}" if ratio else "–",
            f"{row['missed']} of {row['runs']}",
            str(row["quiet_alarms"]),
            f"{row['quiet_observations']:.2g}",
        )
    Console(highlight=False).print(table)


if __name__ == "__main__":
    main()
