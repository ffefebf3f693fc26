"""The policy as a table: (state, trigger) → (next state, action).

Two rules of what belongs here: a *state* says what the watchdog is doing about a model, and a
*trigger* is what was learnt, already judged. Whatever needs a number, a clock or a memory is
turned into a trigger by ``decide.py``; pairs that are not listed change nothing.
"""

from enum import StrEnum


class State(StrEnum):
    SERVING_FAST = "serving-fast"
    SERVING_SAFE = "serving-safe"
    CONFIRMING = "confirming"
    """A burst of probes of both engines is under way."""
    PROVING = "proving"
    """The safe engine is being proven because somebody asked for a rollback."""
    SWITCHING = "switching"
    DEGRADED = "degraded"
    """What serves is wrong or slow, and it is not to be moved: no proven target, or not allowed."""
    BLIND = "blind"
    """Nothing could be measured."""
    HELD = "held"
    """A person said: move nothing."""
    LOCKED = "locked"
    """The day's budget of switches is spent; a person must look, and release it."""


class Trigger(StrEnum):
    PROBE_HEALTHY = "probe-healthy"
    PROBE_RECOVERED = "probe-recovered"
    """A healthy probe while there is trouble: worth a fresh diagnosis."""
    PROBE_BAD = "probe-bad"
    DRIFT_SUSPECTED = "drift-suspected"
    """Answers to patients' images are not what they were, or canaries take longer than they did."""
    TRANSIENT = "transient"
    DATA_DRIFT = "data-drift"
    SLOWED = "slowed"
    ENGINE_FAULT = "engine-fault"
    ROUTE_MOVED = "route-moved"
    NO_TARGET = "no-target"
    NOT_ALLOWED = "not-allowed"
    OVER_BUDGET = "over-budget"
    SERVER_FAULT = "server-fault"
    TARGET_PROVEN = "target-proven"
    TARGET_UNPROVEN = "target-unproven"
    SWITCH_PROVEN = "switch-proven"
    SWITCH_FAILED = "switch-failed"
    PROMOTION_FAILED = "promotion-failed"
    """The return to the fast engine was not proven."""
    ROLLBACK = "rollback"
    PROMOTE = "promote"
    HOLD = "hold"
    RELEASE = "release"


class Action(StrEnum):
    NONE = "none"
    DIAGNOSE = "diagnose"
    """Probe both engines with the same canaries, at once."""
    PROVE_SAFE = "prove-safe"
    SWITCH_TO_SAFE = "switch-to-safe"
    SWITCH_TO_FAST = "switch-to-fast"
    REASSERT = "reassert"
    """Ask the router again for the route that is already desired."""


S, T, A = State, Trigger, Action

HOME = None
"""Stands for SERVING_FAST or SERVING_SAFE, whichever the desired route says."""

TABLE: dict[State, dict[Trigger, tuple[State | None, Action]]] = {
    S.SERVING_FAST: {
        T.PROBE_RECOVERED:  (S.CONFIRMING, A.DIAGNOSE),
        T.PROBE_BAD:        (S.CONFIRMING, A.DIAGNOSE),
        T.DRIFT_SUSPECTED:  (S.CONFIRMING, A.DIAGNOSE),
        T.ROLLBACK:         (S.PROVING, A.PROVE_SAFE),
        T.HOLD:             (S.HELD, A.NONE),
    },
    S.SERVING_SAFE: {
        T.PROBE_RECOVERED:  (S.CONFIRMING, A.DIAGNOSE),
        T.PROBE_BAD:        (S.CONFIRMING, A.DIAGNOSE),
        T.DRIFT_SUSPECTED:  (S.CONFIRMING, A.DIAGNOSE),
        T.PROMOTE:          (S.SWITCHING, A.SWITCH_TO_FAST),
        T.OVER_BUDGET:      (S.LOCKED, A.NONE),
        T.HOLD:             (S.HELD, A.NONE),
    },
    S.CONFIRMING: {
        T.TRANSIENT:        (HOME, A.NONE),
        T.DATA_DRIFT:       (HOME, A.NONE),
        T.SLOWED:           (HOME, A.NONE),
        T.ENGINE_FAULT:     (S.SWITCHING, A.SWITCH_TO_SAFE),
        T.ROUTE_MOVED:      (S.SWITCHING, A.REASSERT),
        T.NO_TARGET:        (S.DEGRADED, A.NONE),
        T.NOT_ALLOWED:      (S.DEGRADED, A.NONE),
        T.SERVER_FAULT:     (S.BLIND, A.NONE),
        T.OVER_BUDGET:      (S.LOCKED, A.NONE),
    },
    S.PROVING: {
        T.TARGET_PROVEN:    (S.SWITCHING, A.SWITCH_TO_SAFE),
        T.TARGET_UNPROVEN:  (HOME, A.NONE),
        T.OVER_BUDGET:      (S.LOCKED, A.NONE),
    },
    S.SWITCHING: {
        T.SWITCH_PROVEN:    (HOME, A.NONE),
        T.PROMOTION_FAILED: (S.SWITCHING, A.REASSERT),
        T.SWITCH_FAILED:    (S.DEGRADED, A.NONE),
    },
    S.DEGRADED: {
        T.PROBE_RECOVERED:  (S.CONFIRMING, A.DIAGNOSE),
        T.PROBE_BAD:        (S.CONFIRMING, A.DIAGNOSE),
        T.ROLLBACK:         (S.PROVING, A.PROVE_SAFE),
        T.HOLD:             (S.HELD, A.NONE),
    },
    S.BLIND: {
        T.PROBE_RECOVERED:  (S.CONFIRMING, A.DIAGNOSE),
        T.PROBE_BAD:        (S.CONFIRMING, A.DIAGNOSE),
        T.HOLD:             (S.HELD, A.NONE),
    },
    S.HELD: {
        T.PROBE_RECOVERED:  (S.HELD, A.DIAGNOSE),
        T.PROBE_BAD:        (S.HELD, A.DIAGNOSE),
        T.DRIFT_SUSPECTED:  (S.HELD, A.DIAGNOSE),
        T.RELEASE:          (HOME, A.NONE),
    },
    S.LOCKED: {
        T.PROBE_RECOVERED:  (S.LOCKED, A.DIAGNOSE),
        T.PROBE_BAD:        (S.LOCKED, A.DIAGNOSE),
        T.DRIFT_SUSPECTED:  (S.LOCKED, A.DIAGNOSE),
        T.HOLD:             (S.HELD, A.NONE),
        T.RELEASE:          (HOME, A.NONE),
    },
}  # fmt: skip
