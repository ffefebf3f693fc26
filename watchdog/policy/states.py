"""The policy as a table: (state, trigger) → (next state, action).

Two rules of what belongs here: a *state* says what the watchdog is doing about a model, and a
*trigger* is what was learnt, already judged. Whatever needs a number, a clock or a memory is
turned into a trigger by ``decide.py``; pairs that are not listed change nothing.

The diagram in ``docs/policy.md`` is drawn from this table.
"""

from enum import StrEnum


class State(StrEnum):
    SERVING_FAST = "serving-fast"
    SERVING_SAFE = "serving-safe"
    CONFIRMING = "confirming"
    """A burst of probes of both engines is under way."""
    PROVING = "proving"
    """The engine that somebody wants to serve is being proven."""
    SWITCHING = "switching"
    RECOVERING = "recovering"
    """The safe engine serves, and the fast one is proven beside it, canary by canary."""
    RETURNING = "returning"
    """The fast engine serves a part of ordinary traffic, and each step is judged."""
    PROBATION = "probation"
    """The fast engine serves again, by the watchdog's own doing."""
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
    ROUTE_FOLLOWED = "route-followed"
    """The watchdog that decides about a shared route has moved it."""
    NO_TARGET = "no-target"
    NOT_ALLOWED = "not-allowed"
    OVER_BUDGET = "over-budget"
    SERVER_FAULT = "server-fault"
    SAFE_PROVEN = "safe-proven"
    FAST_PROVEN = "fast-proven"
    TARGET_UNPROVEN = "target-unproven"
    SWITCH_PROVEN = "switch-proven"
    SWITCH_FAILED = "switch-failed"
    PROMOTION_FAILED = "promotion-failed"
    """The return to the fast engine was not proven."""
    TIME_PASSED = "time-passed"
    """A stage of the way back goes on."""
    RECOVERY_DUE = "recovery-due"
    STAGE_DONE = "stage-done"
    """The fast engine was right all through a stage of the way back."""
    FAST_WRONG = "fast-wrong"
    """The fast engine was not right in a stage of the way back."""
    ROLLBACK = "rollback"
    PROMOTE = "promote"
    HOLD = "hold"
    RELEASE = "release"
    LOOK = "look"


class Action(StrEnum):
    NONE = "none"
    DIAGNOSE = "diagnose"
    """Probe both engines with the same canaries, at once."""
    PROVE_SAFE = "prove-safe"
    PROVE_FAST = "prove-fast"
    """Ask the fast engine every canary, beside the one that serves, where it can be asked."""
    PROBE_FAST = "probe-fast"
    """The same with the next canary alone."""
    SWITCH_TO_SAFE = "switch-to-safe"
    SWITCH_TO_FAST = "switch-to-fast"
    """Of which there may be several steps."""
    REASSERT = "reassert"
    """Ask the router again for the route that is already desired."""


S, T, A = State, Trigger, Action

HOME = None
"""Stands for SERVING_FAST, PROBATION, RETURNING or SERVING_SAFE, whichever the memory says."""

Rows = dict[Trigger, tuple[State | None, Action]]

_CONFIRM: Rows = {
    T.PROBE_RECOVERED:      (S.CONFIRMING, A.DIAGNOSE),
    T.PROBE_BAD:            (S.CONFIRMING, A.DIAGNOSE),
    T.LOOK:                 (S.CONFIRMING, A.DIAGNOSE),
}  # fmt: skip
_HOLD: Rows = {
    T.HOLD:                 (S.HELD, A.NONE),
}  # fmt: skip
_LOOKS = (*_CONFIRM, T.DRIFT_SUSPECTED)

TABLE: dict[State, Rows] = {
    S.SERVING_FAST: _CONFIRM | _HOLD | {
        T.DRIFT_SUSPECTED:  (S.CONFIRMING, A.DIAGNOSE),
        T.ROLLBACK:         (S.PROVING, A.PROVE_SAFE),
    },
    S.SERVING_SAFE: _CONFIRM | _HOLD | {
        T.DRIFT_SUSPECTED:  (S.CONFIRMING, A.DIAGNOSE),
        T.PROMOTE:          (S.PROVING, A.PROVE_FAST),
        T.RECOVERY_DUE:     (S.RECOVERING, A.PROBE_FAST),
    },
    S.CONFIRMING: {
        T.TRANSIENT:        (HOME, A.NONE),
        T.DATA_DRIFT:       (HOME, A.NONE),
        T.SLOWED:           (HOME, A.NONE),
        T.ENGINE_FAULT:     (S.SWITCHING, A.SWITCH_TO_SAFE),
        T.ROUTE_MOVED:      (S.SWITCHING, A.REASSERT),
        T.ROUTE_FOLLOWED:   (HOME, A.NONE),
        T.NO_TARGET:        (S.DEGRADED, A.NONE),
        T.NOT_ALLOWED:      (S.DEGRADED, A.NONE),
        T.SERVER_FAULT:     (S.BLIND, A.NONE),
        T.OVER_BUDGET:      (S.LOCKED, A.NONE),
    },
    S.PROVING: {
        T.SAFE_PROVEN:      (S.SWITCHING, A.SWITCH_TO_SAFE),
        T.FAST_PROVEN:      (S.SWITCHING, A.SWITCH_TO_FAST),
        T.TARGET_UNPROVEN:  (HOME, A.NONE),
        T.FAST_WRONG:       (S.CONFIRMING, A.DIAGNOSE),
        T.OVER_BUDGET:      (S.LOCKED, A.NONE),
    },
    S.SWITCHING: {
        T.SWITCH_PROVEN:    (HOME, A.NONE),
        T.PROMOTION_FAILED: (S.SWITCHING, A.REASSERT),
        T.SWITCH_FAILED:    (S.DEGRADED, A.NONE),
    },
    S.RECOVERING: _CONFIRM | _HOLD | {
        T.DRIFT_SUSPECTED:  (S.CONFIRMING, A.DIAGNOSE),
        T.PROMOTE:          (S.PROVING, A.PROVE_FAST),
        T.TIME_PASSED:      (S.RECOVERING, A.PROBE_FAST),
        T.FAST_WRONG:       (S.SERVING_SAFE, A.NONE),
        T.STAGE_DONE:       (S.PROVING, A.PROVE_FAST),
    },
    S.RETURNING: _CONFIRM | _HOLD | {
        T.DRIFT_SUSPECTED:  (S.CONFIRMING, A.DIAGNOSE),
        T.ROLLBACK:         (S.PROVING, A.PROVE_SAFE),
        T.PROMOTE:          (S.PROVING, A.PROVE_FAST),
        T.TIME_PASSED:      (S.RETURNING, A.PROBE_FAST),
        T.FAST_WRONG:       (S.CONFIRMING, A.DIAGNOSE),
        T.STAGE_DONE:       (S.PROVING, A.PROVE_FAST),
    },
    S.PROBATION: _CONFIRM | _HOLD | {
        T.DRIFT_SUSPECTED:  (S.CONFIRMING, A.DIAGNOSE),
        T.ROLLBACK:         (S.PROVING, A.PROVE_SAFE),
        T.STAGE_DONE:       (S.SERVING_FAST, A.NONE),
    },
    S.DEGRADED: _CONFIRM | _HOLD | {
        T.ROLLBACK:         (S.PROVING, A.PROVE_SAFE),
        T.PROMOTE:          (S.PROVING, A.PROVE_FAST),
    },
    S.BLIND: _CONFIRM | _HOLD,
    S.HELD: dict.fromkeys(_LOOKS, (S.HELD, A.DIAGNOSE)) | {
        T.RELEASE:          (HOME, A.NONE),
    },
    S.LOCKED: dict.fromkeys(_LOOKS, (S.LOCKED, A.DIAGNOSE)) | _HOLD | {
        T.RELEASE:          (HOME, A.NONE),
    },
}  # fmt: skip
