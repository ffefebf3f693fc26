"""What people should know: conditions made from the policy's state. Pure; `ledger` says when they are told."""

from collections.abc import Mapping, Sequence

from watchdog.model.engine import Role
from watchdog.model.notice import Condition, Severity
from watchdog.model.verdict import Finding, Reason
from watchdog.policy.memory import WRONG_LATELY_S, PolicyState, Trouble
from watchdog.policy.states import State

REASSERTED_FOR_S = 900.0
"""How long a route that was found moved and put back goes on being told."""

DRIFTED_FOR_S = 3600.0
"""How long a drift of the data goes on being told, unless it is seen again."""

SLOWED_FOR_S = 1800.0
"""The same for a jump of latency within the limits."""

INTERMITTENT_FOR_S = WRONG_LATELY_S
"""The same for an engine that is wrong now and then, where that moves nothing."""

_BY_CONCLUSION = {
    "engine-fault": ("WatchdogEngineFault", Severity.CRITICAL, "is wrong and still serves"),
    "intermittent": ("WatchdogEngineFault", Severity.CRITICAL, "is wrong now and then and still serves"),
    "both-wrong": ("WatchdogBothEnginesWrong", Severity.CRITICAL, "is wrong on both engines"),
    "target-unproven": ("WatchdogNoSafeTarget", Severity.CRITICAL, "is wrong and has no proven engine to move to"),
    "overloaded": ("WatchdogServerOverloaded", Severity.WARNING, "is slow on both engines"),
    "other-slower": ("WatchdogEngineSlow", Severity.CRITICAL, "is slow, and the other engine is slower still"),
    "server-fault": ("WatchdogServerDown", Severity.CRITICAL, "can't be measured: no engine answers for itself"),
    "route-moved": ("WatchdogRouteMoved", Severity.CRITICAL, "is served by an engine that nobody chose"),
    "switch-failed": ("WatchdogSwitchFailed", Severity.CRITICAL, "could not be moved"),
    "promotion-failed": ("WatchdogSwitchFailed", Severity.CRITICAL, "could not be returned to the fast engine"),
}
"""A trouble's conclusion → the alert's name, its severity and what it says of the model."""

_UNDER_WAY = frozenset({State.CONFIRMING, State.PROVING, State.SWITCHING})


def conditions(model: str, state: PolicyState, now: float) -> tuple[Condition, ...]:
    """All that people should know of one model in this (settled) state."""
    found = []
    if state.cause is not None and state.desired is Role.SAFE:
        found.append(
            _condition(
                "WatchdogEngineRolledBack", Severity.CRITICAL, model, "was moved to the safe engine", state.cause
            )
        )
    if state.trouble is not None:
        found.append(_condition(*_named(state.trouble, model), state.trouble))
    elif (intermittent := state.wrong_now_and_then(now)) is not None:
        found.append(_condition(*_named(intermittent, model), intermittent))
    if state.failed_returns and state.share < 100 and state.cause is not None:  # else a person has ended it
        again = Trouble(
            reason="return-failed",
            conclusion="return-failed",
            detail=f"{state.failed_returns} returns to the fast engine failed in a row",
            since=state.waits_since,
        )
        found.append(_condition("WatchdogReturnFailed", Severity.WARNING, model, "could not return to fast", again))
    if state.reasserted is not None and state.reasserted.is_recent(now, REASSERTED_FOR_S):
        found.append(
            _condition("WatchdogRouteReasserted", Severity.WARNING, model, "had its route moved back", state.reasserted)
        )
    if state.drifted is not None and state.drifted.is_recent(now, DRIFTED_FOR_S):
        says = "answers patients' images otherwise than it did, and both engines are right"
        found.append(_condition("WatchdogDataDrift", Severity.WARNING, model, says, state.drifted))
    if state.slowed is not None and state.slowed.is_recent(now, SLOWED_FOR_S):
        says = "answers rightly, but takes longer than it should"
        found.append(_condition("WatchdogLatencyJump", Severity.WARNING, model, says, state.slowed))
    if state.state is State.LOCKED:
        spent = Trouble(
            reason="over-budget",
            conclusion="over-budget",
            detail=f"{len(state.recent_switches(now))} switches in 24 hours: a person must release it",
            since=state.since,
        )
        found.append(_condition("WatchdogLocked", Severity.CRITICAL, model, "is locked after flapping", spent))
    return tuple(found)


ROUTER_SILENT_S = 60.0
"""How long a router that could tell the route before may be silent before people are told."""


def router_conditions(model: str, silent: str | None) -> tuple[Condition, ...]:
    """What people should know of a router that no longer tells, before it is needed.

    Args:
        model: whose route it is.
        silent: why it does not tell; None while it does.
    """
    if silent is None:
        return ()
    summary = f"{model}'s router can't be asked: a switch would fail"
    labels = {"model": model}
    return (
        Condition(
            name="WatchdogRouterSilent", severity=Severity.WARNING, summary=summary, description=silent, labels=labels
        ),
    )


def journal_conditions(trouble: str | None) -> tuple[Condition, ...]:
    """What people should know of a journal that can't record."""
    if trouble is None:
        return ()
    says = "the watchdog can't record, and so moves nothing"
    failing = Condition(
        name="WatchdogJournalFailing", severity=Severity.CRITICAL, summary=says, description=trouble, labels={}
    )
    return (failing,)


def engine_conditions(model: str, found: Mapping[Role, Sequence[Finding]]) -> tuple[Condition, ...]:
    """What people should know of a model's engines before traffic suffers."""
    return tuple(
        Condition(
            name=name,
            severity=Severity.WARNING,
            summary=f"{model}'s {role} engine {says}",
            description="; ".join(finding.detail for finding in findings if finding.reason is reason),
            labels={"model": model, "engine": str(role)},
        )
        for role, findings in found.items()
        for reason, (name, says) in _OF_ENGINE.items()
        if any(finding.reason is reason for finding in findings)
    )


_OF_ENGINE = {
    Reason.ENGINE_TAG: (
        "WatchdogEngineTagMismatch",
        "is not the one that was vetted, or not built for what runs it",
    ),
    Reason.OFF_PROFILE: ("WatchdogShapeOffProfile", "is asked for shapes far from those it was optimised for"),
}
"""A finding's reason → the alert's name and what it says of the engine."""


def is_settled(state: PolicyState) -> bool:
    """Whether the policy waits for the next event rather than for its own action's outcome."""
    return state.state not in _UNDER_WAY


def _named(trouble: Trouble, model: str) -> tuple[str, Severity, str, str]:
    name, severity, says = _BY_CONCLUSION[trouble.conclusion]
    return name, severity, model, says


def _condition(name: str, severity: Severity, model: str, says: str, trouble: Trouble) -> Condition:
    return Condition(
        name=name,
        severity=severity,
        summary=f"{model} {says} ({trouble.reason})",
        description=trouble.detail,
        labels={"model": model},
    )
