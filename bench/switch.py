"""Measures the way from an engine's fault to the proven switch, beside what stock parts take for the same.

    python -m bench.switch [--quick] [--out FILE]

One real Triton serves a fast and a safe engine: by itself, behind Envoy and behind HAProxy. Clients send
ordinary requests at their own pace, the fast engine begins to answer zeros, and the route is moved by

- the watchdog: a whole `watchdog run`, from its first failed probe to the proof at the public name;
- Prometheus: a watchdog that only tells is scraped and its counts evaluated once a second, the alert goes to
  Alertmanager without any waiting, and its webhook calls the very same router.

Both take turns, and both probe once a second. A fault comes at the same times after a probe for both, spread
evenly over the interval, so that neither has luck with the wait for the next one. Prometheus' own waits, for
a scrape and an evaluation, differ from fault to fault. Afterwards the engine is healed and the route brought
back under the same load.
"""

import argparse
import http.client
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from bench import about, stock
from bench.crowd import Answer, Crowd
from bench.gateways import KINDS, MODEL, Kind, Way
from bench.patience import until
from bench.stock import Prometheus, Receiver
from bench.two_engines import EVERY_S, TOKEN, VERSION, TwoEngines
from watchdog.demo.alertmanager import Alertmanager
from watchdog.demo.program import free_port
from watchdog.demo.service import Record, Service
from watchdog.model.diagnosis import Conclusion
from watchdog.model.engine import Address, Role
from watchdog.model.verdict import Verdict
from watchdog.routers import RouterSettings, open_router

_OUT = Path(__file__).with_name("results") / "switch.json"
_PUBLIC = f"/v2/models/{MODEL}/infer"
_COMMAND_S = 30.0
_AFTERMATH_S = 0.5
"""Clients go on for so long after a switch, to show who answers them."""
_PACKAGES = ("inference-watchdog", "nvidia-pytriton")

Marks = Mapping[str, float]
"""What happened, in seconds from the fault."""
Done = Callable[[str], None]
"""Told after each repetition, with what it was."""


@dataclass(frozen=True, kw_only=True)
class Size:
    """How much is measured of each router."""

    repetitions: int
    calm_probes: int
    """Canaries under load before each fault, whose round trips are what the proof is held against."""


_FULL, _QUICK = Size(repetitions=5, calm_probes=3), Size(repetitions=1, calm_probes=1)


@dataclass(frozen=True, kw_only=True)
class Tally:
    """What became of ordinary requests."""

    requests: int
    failed: int
    wrong: int
    """Answered, by the faulty engine."""


@dataclass(frozen=True, kw_only=True)
class Repetition:
    """One fault and the way back from it."""

    marks: Marks
    there: Tally
    """From before the fault until the engine was healed."""
    back: Tally
    late: int
    """Wrong answers to requests that were sent when the switch was over, by the last of the marks given."""
    round_trips_s: Sequence[float]
    """Of healthy canaries under the same load."""


@dataclass(frozen=True, kw_only=True)
class Aim:
    """A limit of one figure of a router."""

    key: str
    limit: float
    at_most: bool

    def met(self, row: Mapping[str, Any]) -> bool:
        found: float = row[self.key]
        return found <= self.limit if self.at_most else found >= self.limit

    def __str__(self) -> str:
        return f"{self.limit:g}" if self.limit == 0 else f"{'≤' if self.at_most else '≥'} {self.limit:g}"


AIMS = (
    Aim(key="failed_requests", limit=0, at_most=True),
    Aim(key="back_failed_requests", limit=0, at_most=True),
    Aim(key="wrong_after_proof", limit=0, at_most=True),
    Aim(key="round_trips", limit=10, at_most=True),
    Aim(key="times_faster", limit=10, at_most=False),
    Aim(key="times_faster_from_probe", limit=10, at_most=False),
)


def tally(answers: Sequence[Answer]) -> Tally:
    failed, wrong = sum(not answer.version for answer in answers), sum(answer.wrong for answer in answers)
    return Tally(requests=len(answers), failed=failed, wrong=wrong)


def repetition(
    marks_at: Mapping[str, float], fault_at: float, back_at: float, answers: Sequence[Answer], calm: Sequence[Record]
) -> Repetition:
    """One repetition's account.

    Args:
        marks_at: what happened, in Unix seconds like all that follows.
        fault_at: when the fault was switched on.
        back_at: when the engine was right again, and the way back began.
        answers: every ordinary one, in the order of `Answer.at`.
        calm: the watchdog's records of healthy probes before the fault.

    Raises:
        ValueError: something was seen before the fault, so it was something else.
    """
    early = [name for name, at in marks_at.items() if at < fault_at]
    if early:
        raise ValueError(f"{', '.join(early)} came before the fault: another one was there")
    there = [answer for answer in answers if answer.sent_at < back_at]
    seen_at = {"right": next(a.at for a in there if a.at > fault_at and a.version == str(VERSION[Role.SAFE]))}
    wrong = [answer for answer in there if answer.wrong]
    seen_at["last_wrong"] = wrong[-1].at if wrong else fault_at
    over_at = max(marks_at.values())
    return Repetition(
        marks={name: at - fault_at for name, at in {**marks_at, **seen_at}.items()},
        there=tally(there),
        back=tally([answer for answer in answers if answer.sent_at >= back_at]),
        late=sum(answer.sent_at > over_at for answer in wrong),  # one sent before may end after it
        round_trips_s=[record["total_ms"] / 1e3 for record in calm],
    )


def figures_of(router: str, own: Sequence[Repetition], other: Sequence[Repetition]) -> dict[str, Any]:
    """One router's figures, from the watchdog's repetitions and those of the stock path. Times are medians."""

    def took(of: Sequence[Repetition], end: str, start: str = "") -> float:
        return statistics.median(one.marks[end] - (one.marks[start] if start else 0.0) for one in of)

    steps = ("confirmed", "applied", "proven")
    round_trip_s = statistics.median(seconds for one in own for seconds in one.round_trips_s)
    proven_s, proven_from_fault_s = took(own, "proven", "failed_probe"), took(own, "proven")
    path_s, from_probe_s, from_scrape_s = (took(other, "right", start) for start in ("", "failed_probe", "scraped"))
    row = {
        "router": router,
        "repetitions": len(own),
        "requests": sum(one.there.requests for one in own),
        "failed_requests": sum(one.there.failed for one in own),
        "wrong_after_proof": sum(one.late for one in own),
        "back_requests": sum(one.back.requests for one in own),
        "back_failed_requests": sum(one.back.failed for one in own),
        "prometheus_requests": sum(one.there.requests + one.back.requests for one in other),
        "prometheus_failed_requests": sum(one.there.failed + one.back.failed for one in other),
        "failed_probe_from_fault_s": took(own, "failed_probe"),
        **{f"{step}_s": took(own, step, "failed_probe") for step in steps},
        **{f"{step}_from_fault_s": took(own, step) for step in steps},
        "last_wrong_from_fault_s": took(own, "last_wrong"),
        "canary_round_trip_s": round_trip_s,
        "round_trips": proven_s / round_trip_s,
        "prometheus_path_s": path_s,
        "prometheus_path_from_probe_s": from_probe_s,
        "prometheus_path_from_scrape_s": from_scrape_s,
        "prometheus_last_wrong_from_fault_s": took(other, "last_wrong"),
        "times_faster": path_s / proven_from_fault_s,
        "times_faster_from_probe": from_probe_s / proven_s,
        "times_faster_from_scrape": from_scrape_s / proven_s,
    }
    aims = {aim.key: {"aim": str(aim), "met": aim.met(row)} for aim in AIMS}
    raw = {"watchdog": [asdict(one) for one in own], "prometheus": [asdict(one) for one in other]}
    return row | {"aims": aims, "raw": raw}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.switch", description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a smoke run; its figures mean little")
    parser.add_argument("--out", type=Path, default=_OUT, help="where the figures go (JSON)")
    arguments = parser.parse_args()
    missing = stock.available()
    if missing is not None:
        parser.exit(1, f"{missing}\n")
    figures = _measure(_QUICK if arguments.quick else _FULL) | {"quick": arguments.quick}
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    _show(figures)
    Console(soft_wrap=True, highlight=False).print(f"written to {arguments.out}")


def _measure(size: Size) -> dict[str, Any]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    console = Console(stderr=True)
    machine = about.machine()  # before the load is our own
    kinds = [kind for kind in KINDS if not kind.missing]
    with (
        tempfile.TemporaryDirectory(prefix="watchdog-bench-") as folder,
        Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar,
        ExitStack() as stack,
    ):
        task = bar.add_task("starting", total=2 * size.repetitions * len(kinds))
        bench = _Bench(Path(folder), size, stack, lambda what: bar.update(task, advance=1, description=what))
        rows = [bench.measure(kind) for kind in kinds]
    return {
        "routers": rows,
        "not_measured": {kind.name: kind.missing for kind in KINDS if kind.missing},
        "interval_s": EVERY_S,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine,
        "versions": {package: version(package) for package in _PACKAGES},
    }


class _Bench:
    """All parts, running until `stack` ends them; a watchdog is started afresh for each fault."""

    def __init__(self, folder: Path, size: Size, stack: ExitStack, done: Done) -> None:
        self._folder = folder
        self._size = size
        self._done = done
        self._engines = TwoEngines(folder)
        self._unscraped = [f"127.0.0.1:{free_port()}" for _ in range(size.repetitions * len(KINDS))]
        self._receiver = stack.enter_context(Receiver())
        alertmanager = stack.enter_context(Alertmanager(folder / "alertmanager", receiver_url=self._receiver.url))
        self._prometheus = stack.enter_context(
            Prometheus(folder / "prometheus", targets=self._unscraped, alertmanager_url=alertmanager.url)
        )
        self._crowd = stack.enter_context(Crowd())
        stack.enter_context(self._engines.server)
        self._engines.prepare()

    def measure(self, kind: Kind) -> dict[str, Any]:
        """One router's figures."""
        place = self._folder / f"through-{kind.name}"
        place.mkdir()
        own: list[Repetition] = []
        other: list[Repetition] = []
        with kind.open(self._engines.server, place) as way:
            for i in range(self._size.repetitions):
                name, phase = f"{kind.name}-{i}", (i + 0.5) / self._size.repetitions
                turns = [(own, self._by_watchdog), (other, self._by_prometheus)]
                for found, take in turns if i % 2 == 0 else reversed(turns):
                    found.append(take(name, way, phase))
                    self._done(kind.name)
        return figures_of(kind.name, own, other)

    def _by_watchdog(self, name: str, way: Way, phase: float) -> Repetition:
        config = self._engines.configure(f"{name}-watchdog", way.address, router=way.router)
        with Service(config, _unheard) as watchdog:
            url = _record(watchdog, "listening")["url"]
            _record(watchdog, "probe", verdict=Verdict.HEALTHY)  # the first one takes longer than all others
            with self._crowd.sending(way.address, _PUBLIC) as answers:
                calm, fault_at = self._spoil(watchdog, phase)
                switched = _switched(watchdog, Role.SAFE)
                time.sleep(_AFTERMATH_S)
                self._engines.heal()
                back_at = time.time()
                _promote(url)
                _switched(watchdog, Role.FAST)
                time.sleep(_AFTERMATH_S)
            marks_at = {
                "failed_probe": _record(watchdog, "probe", public=True, verdict=Verdict.FAILED)["at"],
                "confirmed": _record(watchdog, "diagnosis", conclusion=Conclusion.ENGINE_FAULT)["at"],
                "applied": switched["applied_at"],
                "proven": switched["at"],
            }
        return repetition(marks_at, fault_at, back_at, answers, calm)

    def _by_prometheus(self, name: str, way: Way, phase: float) -> Repetition:
        settings: RouterSettings = TypeAdapter(RouterSettings).validate_python(way.router)
        self._receiver.obey(open_router(settings, {role: _address(role) for role in Role}))
        target = self._unscraped.pop()
        config = self._engines.configure(f"{name}-prometheus", way.address, listen=target)
        with Service(config, _unheard) as watchdog:
            self._prometheus.await_watching(target)
            _record(watchdog, "probe", verdict=Verdict.HEALTHY)  # as above
            with self._crowd.sending(way.address, _PUBLIC) as answers:
                calm, fault_at = self._spoil(watchdog, phase)
                called = self._receiver.await_call()
                time.sleep(_AFTERMATH_S)
                self._engines.heal()
                back_at = time.time()
                back = self._receiver.apply(Role.FAST)
                time.sleep(_AFTERMATH_S)
            if not (called.applied.ok and back.ok):
                raise RuntimeError(f"the router refused: {called.applied.detail}; {back.detail}")
            marks_at = {
                "failed_probe": _record(watchdog, "probe", public=True, verdict=Verdict.FAILED)["at"],
                "scraped": self._prometheus.seen_at(target),
                "received": called.received_at,
                "applied": called.applied_at,
            }
        return repetition(marks_at, fault_at, back_at, answers, calm)

    def _spoil(self, watchdog: Service, phase: float) -> tuple[list[Record], float]:
        """The fault, `phase` of an interval after a healthy probe: those before it, and when it came."""
        first = len(watchdog.records())

        def calm() -> list[Record]:
            return [r for r in watchdog.records(first) if (r["event"], r.get("verdict")) == ("probe", Verdict.HEALTHY)]

        until(lambda: len(calm()) >= self._size.calm_probes, "healthy probes under load")
        time.sleep(max(0.0, calm()[-1]["at"] + phase * EVERY_S - time.time()))
        probes, fault_at = calm(), time.time()
        self._engines.spoil()
        return probes, fault_at


def _unheard(_record: Record) -> None:
    """All records are read afterwards."""


def _address(role: Role) -> Address:
    return Address(endpoint="triton", model=MODEL, version=str(VERSION[role]))


def _record(watchdog: Service, event: str, **fields: object) -> Record:
    """The first record of an event with these fields, once it is there."""

    def wanted(record: Record) -> bool:
        return record["event"] == event and all(record[name] == value for name, value in fields.items())

    found = watchdog.wait_for(wanted, _COMMAND_S)
    if found is None:
        told = [record for record in watchdog.records() if record.get("level") != "debug"]
        raise RuntimeError(f"the watchdog tells of no {event} {fields}, but of {told[-10:]}")
    return found


def _switched(watchdog: Service, to: Role) -> Record:
    return _record(watchdog, "switch", to=to, proven=True)


def _promote(url: str) -> None:
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=_COMMAND_S)
    try:
        headers = {"Authorization": f"Bearer {TOKEN}"}
        connection.request("POST", f"/api/v1/models/{MODEL}/promote", headers=headers)
        response = connection.getresponse()
        answer = response.read()
    finally:
        connection.close()
    if response.status != http.client.OK:
        raise RuntimeError(f"the watchdog did not promote: {response.status} {answer.decode()}")


def _show(figures: dict[str, Any]) -> None:
    machine, versions, rows = figures["machine"], figures["versions"], figures["routers"]
    title = f"inference-watchdog {versions['inference-watchdog']}, Python {machine['python']}, {machine['cores']} cores"
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    table.add_column(f"medians of {rows[0]['repetitions']}, probing every {figures['interval_s']:g} s")
    for row in rows:
        table.add_column(row["router"], justify="right")
    table.add_column("aim", justify="right")
    aims = {aim.key: str(aim) for aim in AIMS}
    for key, (what, told) in _SHOWN.items():
        table.add_row(what, *(told(row[key]) for row in rows), aims.get(key, ""))
    console = Console(highlight=False)
    console.print(table)
    for name, missing in figures["not_measured"].items():
        console.print(f"{name} was not measured: {missing}")


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:.0f} ms" if seconds < 1 else f"{seconds:.2f} s"


def _times(ratio: float) -> str:
    return f"{ratio:.1f} ×"


_SHOWN: Mapping[str, tuple[str, Callable[[Any], str]]] = {
    "requests": ("ordinary requests, switch to safe", str),
    "failed_requests": ("  failed", str),
    "back_requests": ("ordinary requests, back to fast", str),
    "back_failed_requests": ("  failed", str),
    "failed_probe_from_fault_s": ("watchdog: fault → first failed probe", _ms),
    "confirmed_s": ("  first failed probe → confirmed", _ms),
    "applied_s": ("  first failed probe → applied", _ms),
    "proven_s": ("  first failed probe → proven", _ms),
    "canary_round_trip_s": ("  one canary's round trip, under the load", lambda seconds: f"{seconds * 1e3:.1f} ms"),
    "round_trips": ("  first failed probe → proven, in round trips", lambda ratio: f"{ratio:.1f}"),
    "wrong_after_proof": ("  wrong answers to requests after the proof", str),
    "proven_from_fault_s": ("  fault → proven", _ms),
    "prometheus_path_s": ("Prometheus' path: fault → first right answer", _ms),
    "prometheus_path_from_probe_s": ("  first failed probe → first right answer", _ms),
    "prometheus_path_from_scrape_s": ("  first scrape that saw it → first right answer", _ms),
    "times_faster": ("both from the fault, with their waits for the next probe", _times),
    "times_faster_from_probe": ("  both from the first failed probe", _times),
    "times_faster_from_scrape": ("  watchdog from the failed probe, Prometheus from its scrape", _times),
}


if __name__ == "__main__":
    main()
