"""What came of a demonstration, and whether that was right."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from watchdog.model.diagnosis import Conclusion
from watchdog.model.engine import Role
from watchdog.model.verdict import Reason

HEALTHY = "healthy"
HEARTBEAT = "WatchdogHeartbeat"
"""The rule that always fires."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Expected:
    """The right outcome of one fault."""

    verdict: str
    reasons: frozenset[str] = frozenset()
    """Any of these names the fault; empty for no finding at all."""
    route: Role | None
    """Who should serve in the end; None where nobody can."""
    switches: bool
    alert: str | None
    may_fail: bool = False
    """Whether ordinary requests can't but fail meanwhile."""
    live: bool = False
    """Whether it shows in patients' answers alone, so that these must be reported and learnt first."""
    symptoms: frozenset[str] = frozenset()
    """Shipped rules that fire for it, beside the one of `alert`."""

    @property
    def rules(self) -> frozenset[str]:
        """All shipped rules that must fire."""
        return self.symptoms | ({self.alert} if self.alert is not None else frozenset())


def _rolled_back(*reasons: Reason, symptoms: tuple[str, ...] = (), may_fail: bool = False) -> Expected:
    return Expected(
        verdict=Conclusion.ENGINE_FAULT,
        reasons=frozenset(reasons),
        route=Role.SAFE,
        switches=True,
        alert="WatchdogEngineRolledBack",
        symptoms=frozenset(symptoms),
        may_fail=may_fail,
    )


EXPECTED: Mapping[str, Expected] = {
    "zeros": _rolled_back(Reason.ALL_ZERO, symptoms=("WatchdogAllZero",)),
    "nan": _rolled_back(Reason.NON_FINITE, symptoms=("WatchdogNonFinite",)),
    "collapse": _rolled_back(Reason.COLLAPSE, symptoms=("WatchdogConfidenceCollapse",)),
    "int8": _rolled_back(Reason.PARITY, Reason.COLLAPSE, symptoms=("WatchdogParity",)),
    "latency": _rolled_back(Reason.LATENCY, symptoms=("WatchdogSlow",)),
    "hang": _rolled_back(Reason.NO_ANSWER, may_fail=True),
    "wrong-version": Expected(
        verdict=Conclusion.ROUTE_MOVED,
        reasons=frozenset({Reason.WRONG_VERSION}),
        route=Role.FAST,
        switches=True,
        alert="WatchdogRouteReasserted",
    ),
    "both-wrong": Expected(
        verdict=Conclusion.BOTH_WRONG,
        reasons=frozenset({Reason.PARITY, Reason.COLLAPSE}),
        route=Role.FAST,
        switches=False,
        alert="WatchdogBothEnginesWrong",
        symptoms=frozenset({"WatchdogParity"}),
    ),
    "server-down": Expected(
        verdict=Conclusion.SERVER_FAULT,
        reasons=frozenset({Reason.NO_ANSWER}),
        route=None,
        switches=False,
        alert="WatchdogServerDown",
        symptoms=frozenset({"WatchdogBlind"}),
        may_fail=True,
    ),
    "temperature": _rolled_back(Reason.DRIFT, symptoms=("WatchdogDrift",)),
    "one-vendor": _rolled_back(Reason.DRIFT, symptoms=("WatchdogDrift",)),
    "other-patients": Expected(
        verdict=Conclusion.DATA_DRIFT,
        reasons=frozenset({Reason.DRIFT}),
        route=Role.FAST,
        switches=False,
        alert="WatchdogDataDrift",
        symptoms=frozenset({"WatchdogDrift"}),
        live=True,
    ),
    "none": Expected(verdict=HEALTHY, route=Role.FAST, switches=False, alert=None),
}


@dataclass(kw_only=True, slots=True)
class Outcome:
    """What was seen. Times are Unix seconds; None for what did not happen."""

    fault: str
    injected_at: float | None = None
    """When the fault began to be made."""
    detected_at: float | None = None
    """When the first bad probe's answer was there."""
    confirmed_at: float | None = None
    """When the differential diagnosis was made."""
    switched_at: float | None = None
    """When the router said that the switch is done."""
    proven_at: float | None = None
    """When the public name had been seen to answer rightly with the new engine."""
    verdict: str = HEALTHY
    reason: str | None = None
    detail: str = ""
    route: str | None = None
    """The engine that an ordinary request got in the end."""
    ordinary_requests: int = 0
    ordinary_failures: int = 0
    """Requests without an answer, over the whole run."""
    ordinary_wrong: int = 0
    """Answers to patients that were wrong, until the switch or the end."""
    canary_round_trip_s: float | None = None
    """The median of the watchdog's own probes of the public name, before the fault."""
    failed_round_trip_s: float | None = None
    """How long the first bad probe took."""
    round_trips_to_proof: float | None = None
    """From the first bad answer to the proof, in round trips of a canary before the fault. An engine
    that has become slow, or hangs, is confirmed at its own pace: hold that against the one above."""
    alert: str | None = None
    alert_seen_at_alertmanager: bool | None = None
    """None where no Alertmanager is installed."""
    rules: list[str] | None = None
    """The shipped rules that fired in a real Prometheus; None where none is installed."""
    alerts_of_that_name: int | None = None
    """At Alertmanager, told of by the watchdog and by Prometheus: one. None where not both are there."""
    observations_to_alarm: int | None = None
    """Patients' answers, or probes, that a sequential detector needed from the change that it names to its alarm."""
    watchdog_failures: int = 0
    """Errors of the watchdog itself, of which there must be none."""
    complaints: list[str] = field(default_factory=list)

    @property
    def right(self) -> bool:
        return not self.complaints

    def judge(self) -> None:
        """Hold what was seen against what is right for this fault; fills `complaints`."""
        expected = EXPECTED[self.fault]
        route = None if expected.route is None else str(expected.route)
        for what, seen, wanted in (
            ("verdict", self.verdict, str(expected.verdict)),
            ("route", self.route, route),
            ("alert", self.alert, expected.alert),
            ("proven switch", self.proven_at is not None, expected.switches),
        ):
            if seen != wanted:
                self.complaints.append(f"{what} is {seen}, should be {wanted}")
        if expected.reasons and self.reason not in expected.reasons:
            self.complaints.append(f"reason is {self.reason}, should be {' or '.join(sorted(expected.reasons))}")
        if self.ordinary_failures and not expected.may_fail:
            self.complaints.append(f"{self.ordinary_failures} ordinary requests failed")
        if self.watchdog_failures:
            self.complaints.append(f"the watchdog itself failed {self.watchdog_failures} times")
        if self.alert_seen_at_alertmanager is False and expected.alert is not None:
            self.complaints.append("the alert did not reach Alertmanager")
        self._judge_rules(expected)

    def _judge_rules(self, expected: Expected) -> None:
        fired = None if self.rules is None else set(self.rules) - {HEARTBEAT}
        if fired is not None and not expected.rules <= fired:
            self.complaints.append(f"no rule of Prometheus fired for {', '.join(sorted(expected.rules - fired))}")
        if fired and not expected.rules:
            self.complaints.append(f"rules fired though nothing is wrong: {', '.join(sorted(fired))}")
        if self.alerts_of_that_name not in {None, 1}:
            self.complaints.append(f"Alertmanager has {self.alerts_of_that_name} alerts of what should be one")

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"right": self.right}
