"""Whether a deployment may go on, made from the policy's state and the last right answer."""

from watchdog.model.diagnosis import Conclusion
from watchdog.model.engine import Role
from watchdog.model.gate import Gate, Passage
from watchdog.policy.memory import PolicyState, Trouble
from watchdog.policy.states import State, Trigger

_NOT_THE_ENGINE = frozenset({Conclusion.OVERLOADED, Conclusion.SERVER_FAULT, Conclusion.ROUTE_MOVED})
"""Troubles that say nothing against what is being deployed."""

_UNDECIDED = {
    State.CONFIRMING: "a bad probe is being confirmed",
    State.PROVING: "an engine is being proven",
    State.SWITCHING: "the route is being moved",
    State.RETURNING: "the fast engine returns in steps",
    State.PROBATION: "the fast engine serves on probation",
    State.BLIND: "nothing can be measured",
    State.HELD: "a person holds the route",
}


def gate(model: str, state: PolicyState, *, healthy_at: float | None, now: float, patience_s: float) -> Gate:
    """What a deployment controller should make of this state.

    Args:
        model: the watched model's name.
        state: what the policy remembers.
        healthy_at: when a canary last came back right through the public name.
        now: Unix seconds.
        patience_s: how old that may be.
    """
    fresh = healthy_at is not None and abs(now - healthy_at) <= patience_s  # an answer of the future is none
    passage, reason, detail = _judge(state, state.wrong_now_and_then(now), fresh=fresh)
    return Gate(
        model=model,
        passage=passage,
        state=str(state.state),
        serves=state.desired,
        reason=reason,
        detail=detail,
        since=state.since,
        healthy_at=healthy_at,
    )


def _judge(state: PolicyState, intermittent: Trouble | None, *, fresh: bool) -> tuple[Passage, str, str]:
    trouble = state.trouble
    fault = trouble if trouble is not None and trouble.conclusion not in _NOT_THE_ENGINE else intermittent
    if fault is not None:
        return Passage.FAIL, fault.reason, fault.detail
    if state.cause is not None and state.desired is Role.SAFE and state.share == 0:
        return Passage.FAIL, state.cause.reason, f"moved to the safe engine: {state.cause.detail}"
    if state.state is State.LOCKED:
        locked = "locked after too many switches: a person must release it"
        return Passage.INCONCLUSIVE, str(Trigger.OVER_BUDGET), locked
    if trouble is not None:
        return Passage.INCONCLUSIVE, trouble.reason, trouble.detail
    if state.state in _UNDECIDED:
        return Passage.INCONCLUSIVE, str(state.state), _UNDECIDED[state.state]
    if state.desired is Role.SAFE:
        return Passage.INCONCLUSIVE, str(state.state), "the safe engine serves, as somebody commanded"
    if not fresh:
        return Passage.INCONCLUSIVE, "not-probed", "no canary has come back right lately"
    return Passage.PASS, "healthy", "the fast engine serves, and answers rightly"
