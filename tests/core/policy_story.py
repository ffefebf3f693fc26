"""Events for the policy, and a driver that answers its actions as a cycle would."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from tests.core.builders import MODEL, a_finding, a_suspicion, assessed
from tests.core.virtual_time import EPOCH
from watchdog.model.diagnosis import Conclusion, Diagnosis
from watchdog.model.engine import Role
from watchdog.model.event import (
    Beside,
    Command,
    Commanded,
    Diagnosed,
    Probed,
    Proved,
    RouteSeen,
    Source,
    Switched,
    Ticked,
)
from watchdog.model.route import Applied, Observed
from watchdog.policy.decide import Decision, Input, step
from watchdog.policy.memory import PolicyState
from watchdog.policy.settings import Allowed, PolicySettings
from watchdog.policy.states import Action, State

ROLLBACK = PolicySettings(action=Allowed.ROLLBACK)
ALERT = PolicySettings(action=Allowed.ALERT)


@dataclass(kw_only=True)
class Story:
    """One model's policy, told event by event; the time is the story's own."""

    settings: PolicySettings = ROLLBACK
    state: PolicyState = field(default_factory=lambda: PolicyState(since=EPOCH))
    now: float = EPOCH
    decisions: list[Decision] = field(default_factory=list)

    def tell(self, event: Input) -> Decision:
        decision = step(self.state, event, self.settings)
        self.state = decision.after
        self.decisions.append(decision)
        return decision

    def later(self, seconds: float) -> "Story":
        self.now += seconds
        return self

    def probe(self, *, bad: bool = False) -> Decision:
        findings = (a_finding(),) if bad else ()
        return self.tell(Probed(model=MODEL, at=self.now, assessment=assessed(*findings)))

    def suspect(self, source: Source = Source.LIVE) -> Decision:
        return self.tell(a_suspicion(source, at=self.now))

    def diagnosed(self, conclusion: Conclusion, serving: Role | None = None) -> Decision:
        return self.tell(
            Diagnosed(model=MODEL, at=self.now, diagnosis=a_diagnosis(conclusion, serving or self.state.desired))
        )

    def proved(self, role: Role = Role.SAFE, *, ok: bool = True) -> Decision:
        return self.tell(Proved(model=MODEL, at=self.now, role=role, ok=ok, detail="as probed"))

    def switched(self, *, proven: bool = True) -> Decision:
        to, percent = (self.state.target, self.state.target_percent) if self.state.target else self.state.route
        return self.tell(
            Switched(
                model=MODEL,
                at=self.now,
                to=to,
                percent=percent,
                applied=Applied(ok=True, detail="done"),
                applied_at=self.now,
                proven=proven,
                detail="so",
            )
        )

    def tick(self) -> Decision:
        return self.tell(Ticked(model=MODEL, at=self.now))

    def beside(self, *, bad: bool = False) -> Decision:
        findings = (a_finding(),) if bad else ()
        return self.tell(Beside(model=MODEL, at=self.now, assessment=assessed(*findings, public=False)))

    def route(self, role: Role | None, *, known: bool = True) -> Decision:
        return self.tell(RouteSeen(model=MODEL, at=self.now, observed=Observed(role=role, detail="seen", known=known)))

    def command(self, command: Command, why: str = "because") -> Decision:
        return self.tell(Commanded(model=MODEL, at=self.now, command=command, actor="ann", why=why))

    def roll_back(self) -> "Story":
        """A whole automatic rollback."""
        self.probe(bad=True)
        self.diagnosed(Conclusion.ENGINE_FAULT)
        self.switched()
        return self

    def promote(self, *, proven: bool = True) -> "Story":
        self.command(Command.PROMOTE)
        self.proved(Role.FAST)
        self.switched(proven=proven)
        return self

    @property
    def path(self) -> list[tuple[State, Action]]:
        return [(d.after.state, d.action) for d in self.decisions]


def a_diagnosis(conclusion: Conclusion, serving: Role = Role.FAST, **more: Any) -> Diagnosis:
    given: dict[str, Any] = {
        "conclusion": conclusion,
        "serving": serving,
        "finding": None if conclusion is Conclusion.TRANSIENT else a_finding(),
        "detail": f"{conclusion} it is",
        "serving_bad": 3,
        "serving_probes": 3,
        "other_bad": 0,
        "other_probes": 3,
    }
    return Diagnosis(**(given | more))


def states_of(story: Iterable[tuple[State, Action]]) -> list[State]:
    return [state for state, _ in story]
