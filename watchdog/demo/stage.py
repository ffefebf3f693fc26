"""Plays one fault on real parts: sets the stage, lets it happen, and tells what was seen."""

import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml
from rich.markup import escape

from watchdog.canaries.phantom import default_set, write_series
from watchdog.demo import alertmanager as alertmanagers
from watchdog.demo import prometheus as prometheuses
from watchdog.demo import triton as tritons
from watchdog.demo.alertmanager import Alertmanager
from watchdog.demo.faults import FAULTS
from watchdog.demo.outcome import EXPECTED, Outcome
from watchdog.demo.program import Program, ProgramError, free_port
from watchdog.demo.prometheus import Prometheus
from watchdog.demo.repository import FAST, MODEL, SAFE, write_repository
from watchdog.demo.rules import scaled, shipped_rules
from watchdog.demo.service import Record, Service
from watchdog.demo.traffic import Traffic
from watchdog.demo.training import SIZE, slices_of
from watchdog.demo.triton import TritonError, TritonServer
from watchdog.model.engine import Role

if TYPE_CHECKING:
    from rich.console import Console

SEED = 7
_EVERY = "500ms"
_DEADLINE = "1s"
_HEALTHY_PROBES = 5
_QUIET_S = 8.0
"""How long a run without a fault must stay quiet."""
_OUTCOME_S = 60.0
_PATIENTS = 24
_LIVE_REFERENCE = 400
"""Patients' answers that are learnt: just enough for a promise of one false alarm a year."""
_TRAFFIC, _LIVE_TRAFFIC = (0.1, 0.0), (0.01, 4.0)
"""Seconds between a client's requests, and each image's own noise in Hounsfield units."""
_LEARNT_S = 60.0
SCALE = 0.02
"""Of the rules' windows and waits: 5 minutes become 6 seconds."""
_RULES_S = 15.0
_AFTERMATH_S = 1.5
"""Traffic goes on for so long after the outcome, to show that it is served."""

RECIPE = {
    "input": "CT",
    "dtype": "FP32",
    "layout": "NCHW",
    "profiles": [
        {"name": "min", "batch": 1, "size": [128, 128]},
        {"name": "opt", "batch": 1, "size": [SIZE, SIZE]},
        {"name": "max", "batch": 2, "size": [SIZE, SIZE]},
    ],
    "window": {"low": -1000, "high": 400},
    "normalise": {"range": [-1000, 400]},
    "resample": "linear",
    "tolerance": 0.5,
}
"""The detector takes Hounsfield units; half a unit is far below any scanner's noise."""

OUTPUTS = [
    {"name": "probability", "kind": "probability"},
    {"name": "heatmap", "kind": "mask"},
]


class StageError(RuntimeError):
    """The stage could not be set; the message says what to do."""


def play(fault: str, console: "Console", *, folder: Path | None = None, stay: bool = False) -> Outcome:
    """Play `fault` and tell the story on `console`.

    Raises:
        StageError: something it needs is missing or does not start.
    """
    missing = tritons.available()
    if missing is not None:
        raise StageError(f"the demo needs a real Triton: {missing}")
    with ExitStack() as stack:
        if folder is None:
            place = Path(tempfile.mkdtemp(prefix="watchdog-demo-"))
            stack.callback(shutil.rmtree, place, ignore_errors=True)
        elif folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise StageError(f"--folder {folder}: is not an empty folder")
        else:
            place = folder
        try:
            return Play(fault, console, place.resolve(), stack, kept=folder is not None).run(stay=stay)
        except (TritonError, ProgramError) as error:
            raise StageError(str(error)) from error


class Play:
    """One performance. `stack` ends everything that it starts."""

    def __init__(self, fault: str, console: "Console", folder: Path, stack: ExitStack, *, kept: bool) -> None:
        self._console = console
        self._folder = folder
        self._kept = kept
        self._stack = stack
        self._fault = FAULTS[fault]
        self._expected = EXPECTED[fault]
        self._outcome = Outcome(fault=fault)
        self._began = time.monotonic()
        self._listen = f"127.0.0.1:{free_port()}"

    def run(self, *, stay: bool) -> Outcome:
        server = self._start_triton()
        alertmanager = self._start_alertmanager()
        prometheus = self._start_prometheus(alertmanager)  # early: it looks for targets only every 5 seconds
        traffic = self._start_traffic(server)
        config = self._configure(server, alertmanager)
        self._capture(config)
        with Service(config, self._narrate) as service:
            self._await_healthy(service)
            if self._expected.live:
                self._await_learnt(service, traffic)
            self._make_it_happen(server, service, traffic)
            self._await_outcome(service)
            self._await_alert(service, alertmanager)
            self._await_rules(prometheus, alertmanager)
            time.sleep(_AFTERMATH_S)
            self._see_route(traffic)
            self._count(traffic)
            self._outcome.judge()
            self._conclude()
            if stay:
                self._linger(service, prometheus, alertmanager)
        return self._outcome

    # -- setting the stage ---------------------------------------------------------------

    def _start_triton(self) -> TritonServer:
        with self._console.status("making phantoms, training the detector, starting Triton …"):
            write_repository(self._folder / "models")
            self._fault.prepare()
            server = TritonServer(self._folder / "models", self._folder / "triton", models=[MODEL])
            self._stack.callback(server.kill)
            server.start()
        self._say(f"Triton serves [bold]{MODEL}[/]: version {SAFE} in FP32, version {FAST} in FP16 ({server.grpc_url})")
        return server

    def _start_alertmanager(self) -> Alertmanager | None:
        missing = alertmanagers.available()
        if missing is not None:
            self._say(f"[yellow]no Alertmanager:[/] {missing}")
            return None
        alertmanager = self._stack.enter_context(Alertmanager(self._folder / "alertmanager"))
        self._say(f"Alertmanager listens at {alertmanager.url}")
        return alertmanager

    def _start_prometheus(self, alertmanager: Alertmanager | None) -> Prometheus | None:
        missing = prometheuses.available()
        if missing is not None:
            self._say(f"[yellow]no Prometheus:[/] {missing}")
            return None
        whom = None if alertmanager is None else alertmanager.url.removeprefix("http://")
        rules = scaled(shipped_rules(), SCALE)
        prometheus = Prometheus(self._folder / "prometheus", [self._listen], rules=rules, alertmanager=whom)
        self._stack.enter_context(prometheus)
        self._say(f"Prometheus at {prometheus.url} has the shipped rules, with short windows, and scrapes each second")
        return prometheus

    @staticmethod
    def _url_of(service: Service) -> str:
        listening = service.wait_for(lambda r: r["event"] == "listening", 20)
        if listening is None:
            raise StageError("the watchdog does not say where it listens")
        return str(listening["url"])

    def _start_traffic(self, server: TritonServer) -> Traffic:
        rng = np.random.default_rng(SEED + 1)
        images = [hu[None, None] for _, hu in slices_of(_PATIENTS, rng)]
        pause_s, noise_hu = _LIVE_TRAFFIC if self._expected.live else _TRAFFIC
        traffic = Traffic(server.grpc_url, MODEL, images, pause_s=pause_s, noise_hu=noise_hu)
        traffic.start(str(SAFE))
        self._stack.callback(traffic.stop)
        self._say("ordinary traffic flows to the unversioned name, which Triton gives to version 2")
        return traffic

    def _configure(self, server: TritonServer, alertmanager: Alertmanager | None) -> Path:
        write_series(self._folder / "canaries", default_set(SEED, SIZE), SEED)
        (self._folder / "recipe.yaml").write_text(yaml.safe_dump(RECIPE, sort_keys=False), encoding="utf-8")
        channels = (
            [] if alertmanager is None else [{"name": "pager", "kind": "alertmanager", "urls": [alertmanager.url]}]
        )
        config = {
            "state": "state",
            "api": {"listen": self._listen},
            "endpoints": [{"name": "triton", "kind": "triton-grpc", "url": server.grpc_url}],
            "models": [
                {
                    "name": MODEL,
                    "endpoint": "triton",
                    "engines": {"fast": {"version": FAST}, "safe": {"version": SAFE}},
                    "canaries": {"path": "canaries", "recipe": "recipe.yaml"},
                    "baseline": "baseline",
                    "outputs": OUTPUTS,
                    "probe": {"every": _EVERY, "deadline": _DEADLINE},
                    "policy": {"action": "rollback"},
                    "drift": {"live": {"reference": _LIVE_REFERENCE, "readings": ["probability"]}, "record": True},
                    "router": {"kind": "triton", "url": server.http_url},
                }
            ],
            "channels": channels,
        }
        path = self._folder / "watchdog.yaml"
        path.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
        return path

    def _capture(self, config: Path) -> None:
        with self._console.status("capturing a baseline from the FP32 engine …"):
            command = [sys.executable, "-m", "watchdog", "baseline", str(config), "--json"]
            done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
        if done.returncode != 0:
            raise StageError(f"`{' '.join(command)}` failed:\n{done.stderr}")
        (summary,) = json.loads(done.stdout)
        engines = summary["engines"]
        took = ", ".join(
            f"{role} {engine['latency']['opt']['median_s'] * 1e3:.1f} ms" for role, engine in engines.items()
        )
        self._say(f"baseline of {summary['canaries']} canaries captured (median round trip: {took})")
        for warning in summary["warnings"]:
            self._say(f"[yellow]mind:[/] {warning}")

    # -- letting it happen ---------------------------------------------------------------

    def _await_healthy(self, service: Service) -> None:
        took: list[float] = []

        def enough(record: Record) -> bool:
            if record["event"] == "probe" and record["verdict"] == "healthy":
                took.append(record["total_ms"] / 1e3)
            return len(took) >= _HEALTHY_PROBES

        if service.wait_for(enough, timeout_s=30) is None:
            said = "\n".join(json.dumps(r) for r in service.records()[-5:])
            raise StageError(f"the watchdog did not see a healthy engine; its last words:\n{said}")
        self._outcome.canary_round_trip_s = statistics.median(took)
        self._say("the watchdog probes every 500 ms and finds the FP16 engine [green]healthy[/]")

    def _await_learnt(self, service: Service, traffic: Traffic) -> None:
        """Have patients' answers reported, and wait until the watchdog knows what is usual."""
        traffic.report_to(self._url_of(service).removeprefix("http://"))
        self._say(f"patients' answers are reported; the first {_LIVE_REFERENCE} show what is usual")
        if service.wait_for(lambda r: r["event"] == "learning" and r["have"] >= r["want"], _LEARNT_S) is None:
            raise StageError(f"{_LIVE_REFERENCE} answers did not come within {_LEARNT_S:g} s")
        self._say("what is usual has been learnt; from now on a detector watches, one false alarm a year at most")

    def _make_it_happen(self, server: TritonServer, service: Service, traffic: Traffic) -> None:
        self._since = len(service.records())
        self._outcome.injected_at = time.time()  # before: probes may meet it while it is being made sure of
        self._fault.inject(server, self._folder / "models")
        if self._fault.patients is not None:
            traffic.become(self._fault.patients())
        self._say(f"[bold]fault {self._fault.name}[/]: {self._fault.description}")

    def _await_outcome(self, service: Service) -> None:
        """Until the switch was tried, or the diagnosis says that there is nothing to switch."""
        expected = self._expected

        def final(record: Record) -> bool:
            return bool(record["event"] == ("switch" if expected.switches else "diagnosis"))

        service.wait_for(final, _OUTCOME_S if self._fault.name != "none" else _QUIET_S, self._since)
        for record in service.records(self._since):
            self._take(record)

    def _take(self, record: Record) -> None:
        """The first of each kind of event is what happened; later ones are the same told again."""
        o, event = self._outcome, record["event"]
        if event == "probe" and record["verdict"] != "healthy" and o.detected_at is None:
            o.detected_at, o.failed_round_trip_s = record["at"], record["total_ms"] / 1e3
        elif event == "drift" and o.observations_to_alarm is None:
            o.detected_at, o.observations_to_alarm = o.detected_at or record["at"], record["observations_ago"]
        elif event == "watchdog failure":
            o.watchdog_failures += 1
        elif event == "diagnosis" and o.confirmed_at is None and record["conclusion"] == "transient":
            o.detected_at = None  # something else, such as the load of an engine, not the fault
        elif event == "diagnosis" and o.confirmed_at is None:
            o.confirmed_at = record["at"]
            o.verdict, o.reason, o.detail = record["conclusion"], record["reason"], record["detail"]
        elif event == "switch" and record["proven"] and o.proven_at is None:
            o.switched_at, o.proven_at = record["applied_at"], record["at"]

    def _await_alert(self, service: Service, alertmanager: Alertmanager | None) -> None:
        if self._expected.alert is None:
            return
        notice = service.wait_for(lambda r: r["event"] == "notice", 10, self._since)
        self._outcome.alert = notice["alert"] if notice else None
        if alertmanager is None:
            return
        give_up_at = time.monotonic() + 10
        while not (firing := self._firing(alertmanager)) and time.monotonic() < give_up_at:
            time.sleep(0.05)
        self._outcome.alert_seen_at_alertmanager = bool(firing)
        if firing:
            self._say(f"Alertmanager shows [bold red]{self._expected.alert}[/]: {firing[0]['annotations']['summary']}")

    def _await_rules(self, prometheus: Prometheus | None, alertmanager: Alertmanager | None) -> None:
        """Prometheus' own rules come to the same, and Alertmanager makes one alert of both ways."""
        if prometheus is None:
            return
        wanted, fired = self._expected.rules, set[str]()
        give_up_at = time.monotonic() + _RULES_S
        while not wanted <= (fired := prometheus.fired_since(self._outcome.injected_at or time.time())):
            if time.monotonic() > give_up_at:
                break
            time.sleep(0.2)
        self._outcome.rules = sorted(fired)
        if not wanted:
            return
        self._say(f"Prometheus' own rules fire: [bold red]{', '.join(sorted(wanted & fired)) or 'none'}[/]")
        if alertmanager is not None:
            self._outcome.alerts_of_that_name = len(self._firing(alertmanager))

    def _firing(self, alertmanager: Alertmanager) -> list[dict[str, Any]]:
        return [a for a in alertmanager.alerts() if a["labels"]["alertname"] == self._expected.alert]

    # -- seeing what came of it -----------------------------------------------------------

    def _see_route(self, traffic: Traffic) -> None:
        last = traffic.answers()[-1]
        self._outcome.route = {str(FAST): str(Role.FAST), str(SAFE): str(Role.SAFE)}.get(last.version)

    def _count(self, traffic: Traffic) -> None:
        o = self._outcome
        traffic.stop()
        answers = traffic.answers()
        o.ordinary_requests = len(answers)
        o.ordinary_failures = sum(a.failed for a in answers)
        o.ordinary_wrong = sum(a.wrong for a in answers)
        if o.proven_at is not None and o.detected_at is not None and o.canary_round_trip_s:
            o.round_trips_to_proof = (o.proven_at - o.detected_at) / o.canary_round_trip_s

    def _narrate(self, record: Record) -> None:
        """A line of the story for each record that a person wants to read."""
        match record["event"]:
            case "probe" if record["verdict"] != "healthy" and self._outcome.injected_at and record["public"]:
                self._say(f"probe [bold red]{record['verdict']}[/]: {escape(record['detail'])}")
            case "drift":
                odds = record["evidence"] / record["limit"]
                self._say(
                    f"[bold red]drift[/] of {record['source']} answers, evidence {odds:.3g} × the threshold: "
                    f"{escape(record['detail'])}, {record['observations_ago']} observations ago"
                )
            case "diagnosis":
                self._say(f"diagnosis [bold]{record['conclusion']}[/]: {escape(record['detail'])}")
            case "switch":
                mark = "[bold green]proven[/]" if record["proven"] else "[bold red]not proven[/]"
                self._say(
                    f"switch to {record['to']} in {record['took_s'] * 1e3:.1f} ms, {mark}: {escape(record['detail'])}"
                )
            case "notice":
                self._say(f"notice {record['kind']}: [bold]{record['alert']}[/] ({record['severity']})")
            case "text" | "watchdog failure":
                self._say(f"[red]{escape(record.get('text') or record['error'])}[/]")
            case _:
                pass

    def _conclude(self) -> None:
        o = self._outcome
        if o.injected_at and o.detected_at and o.proven_at and o.canary_round_trip_s:
            self._say(
                f"from the fault to the first bad probe {o.detected_at - o.injected_at:.2f} s; from there to the "
                f"proven switch [bold]{(o.proven_at - o.detected_at) * 1e3:.0f} ms[/], or {o.round_trips_to_proof:.1f} "
                f"round trips of a canary ({o.canary_round_trip_s * 1e3:.1f} ms)"
            )
        if self._expected.live and self._kept:
            self._say(f"recorded: `watchdog replay {self._folder}/state/journal.sqlite --reference {_LIVE_REFERENCE}`")
        wrong = f", {o.ordinary_wrong} answered wrongly before the switch" if o.ordinary_wrong else ""
        self._say(f"{o.ordinary_requests} ordinary requests, [bold]{o.ordinary_failures} failed[/]{wrong}")
        if o.right:
            self._say("[bold green]the outcome is the right one[/]")

    def _linger(self, service: Service, *others: Program | None) -> None:
        self._say(
            f"still running: watchdog {self._url_of(service)} (`watchdog status --url …`), files in {self._folder}"
        )
        for other in others:
            if other is not None:
                self._say(f"  {type(other).__name__} {other.url}/")
        self._say("Ctrl-C ends it")
        try:
            while True:
                time.sleep(1)
        except KeyboardInterrupt:
            self._say("ending")

    def _say(self, text: str) -> None:
        self._console.print(f"[dim]{time.monotonic() - self._began:6.2f} s[/]  {text}")
