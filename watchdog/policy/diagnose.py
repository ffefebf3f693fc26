"""The differential diagnosis: same canaries, the serving engine against the other, at once."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import Field

from watchdog.model.diagnosis import Conclusion, Diagnosis
from watchdog.model.engine import Role
from watchdog.model.event import Source
from watchdog.model.verdict import Assessment, Finding, Reason, Verdict
from watchdog.settings import Settings


class ConfirmSettings(Settings):
    """How a first bad probe is confirmed."""

    canaries: int = Field(default=3, ge=1, le=64)
    """Canaries sent to each engine: the one that failed, and others."""
    need: int = Field(default=2, ge=1, le=64)
    """How many of them must be bad, unless the one that failed is wrong again."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Lane:
    """One engine's answers in the burst, with what the set of them shows."""

    assessments: Sequence[Assessment]
    over_set: Sequence[Finding] = ()
    at_once: bool = False
    """Whether the probes were sent together, and so queued behind one another: then slowness is ours."""
    slower: Finding | None = None
    """That they take longer than at the baseline; asked only where that is suspected, and not `at_once`."""

    def count(self, *verdicts: Verdict) -> int:
        return sum(a.verdict in verdicts for a in self.assessments)

    @property
    def slow(self) -> int:
        return 0 if self.at_once else self.count(Verdict.SUSPECT)

    @property
    def bad(self) -> int:
        return self.count(Verdict.FAILED, Verdict.INCONCLUSIVE) + self.slow

    @property
    def median_s(self) -> float:
        """Of the answers; infinite where there is none."""
        took = [a.result.timing.total_s for a in self.assessments if a.result.fault is None]
        return statistics.median(took) if took else math.inf

    @property
    def silent(self) -> bool:
        """Whether nothing could be measured at all."""
        return self.count(Verdict.INCONCLUSIVE) == len(self.assessments)

    @property
    def cached(self) -> bool:
        """Whether a response cache answered for the engine."""
        return any(f.reason is Reason.CACHED for a in self.assessments for f in a.findings)

    @property
    def right(self) -> bool:
        """Whether every answer came and was right, fast or slow."""
        return bool(self.assessments) and not self.over_set and not self.count(Verdict.FAILED, Verdict.INCONCLUSIVE)

    @property
    def finding(self) -> Finding | None:
        """The most specific one."""
        ours = {Reason.LATENCY} if self.at_once else set()
        found = [*self.over_set, *(f for a in self.assessments for f in a.findings if f.reason not in ours)]
        return min(found, key=lambda f: f.reason.rank, default=None)


def diagnose(
    *,
    serving: Role,
    first: Assessment | None,
    moved: bool,
    serving_lane: Lane,
    other_lane: Lane,
    need: int,
    suspected: Finding | None = None,
    source: Source | None = None,
    by_itself: bool = False,
    unheard: bool = False,
    unloaded: bool = False,
    circumstances: str = "",
) -> Diagnosis:
    """Tell an engine's fault from the server's, the route's, the canary's and from chance.

    Args:
        serving: the engine that ordinary traffic should get.
        first: the probe of the public name that started this; None if something else did.
        moved: whether the public name, or the router, was seen to have another engine.
        serving_lane: answers of the serving engine, asked for by its own version.
        other_lane: answers of the other engine to the same canaries.
        need: how many bad answers confirm a fault that the first canary doesn't show again.
        suspected: what a detector saw over many answers, if that started this.
        source: in which answers it saw that.
        by_itself: whether that stands even if the burst shows nothing.
        unheard: whether the public name did not answer again, when it was asked after the burst.
        unloaded: whether an engine that does not serve can't be asked, as with Triton's version policy.
        circumstances: what the server's own counts say, in a sentence, for a fault of speed.
    """
    conclusion = _conclude(first, serving_lane, other_lane, need, moved=moved, unheard=unheard)
    if moved and unloaded and serving is Role.SAFE and serving_lane.silent:
        conclusion = Conclusion.ROUTE_MOVED  # to load it is to put it back, and it is proven at once after
    if suspected is not None and conclusion is Conclusion.TRANSIENT:
        conclusion = _of_suspicion(source, serving_lane, other_lane, by_itself=by_itself)
    finding = _headline(first, serving_lane, moved=conclusion is Conclusion.ROUTE_MOVED) or suspected
    told = _sentence(conclusion, serving, serving_lane, other_lane, finding)
    if circumstances and conclusion in OF_SPEED:
        told = f"{told}; {circumstances}"
    return Diagnosis(
        conclusion=conclusion,
        serving=serving,
        finding=None if conclusion is Conclusion.TRANSIENT else finding,
        detail=told,
        serving_bad=serving_lane.bad,
        serving_probes=len(serving_lane.assessments),
        other_bad=other_lane.bad,
        other_probes=len(other_lane.assessments),
    )


OF_SPEED = frozenset({Conclusion.OVERLOADED, Conclusion.OTHER_SLOWER, Conclusion.SLOWED, Conclusion.ENGINE_FAULT})
"""Conclusions that may be about how long answers take."""


def _of_suspicion(source: Source | None, serving: Lane, other: Lane, *, by_itself: bool) -> Conclusion:
    """What a detector saw, and a burst within limits does not show.

    Pairs ask both engines about the same images, which shows an engine's fault by itself, and so do
    other watchdogs' canaries where enough agree; a stream alone can't tell a fault from other
    patients. Slowness must still be there, unless it is of some probes only, or an objective that is
    missed.
    """
    match source:
        case Source.SHADOW | Source.PEERS if other.right:
            return Conclusion.ENGINE_FAULT
        case Source.PEERS:
            return Conclusion.TARGET_UNPROVEN
        case Source.TIMING | Source.OBJECTIVE:
            return Conclusion.SLOWED if by_itself or serving.slower is not None else Conclusion.TRANSIENT
        case _:
            return Conclusion.DATA_DRIFT


def _conclude(
    first: Assessment | None, serving: Lane, other: Lane, need: int, *, moved: bool, unheard: bool
) -> Conclusion:
    if not _is_bad(None if moved else first, serving, need):  # what another engine answered tells nothing of this one
        return _of_the_way(moved=moved, unheard=unheard)
    if serving.silent and other.silent and (first is None or first.verdict is Verdict.INCONCLUSIVE):
        return Conclusion.SERVER_FAULT
    wrong = bool(serving.over_set) or serving.count(Verdict.FAILED) > 0
    if serving.cached and not wrong:
        return Conclusion.SERVER_FAULT  # the engine was not exercised, so nothing is known against it
    only_slow = not wrong and serving.count(Verdict.INCONCLUSIVE) == 0
    if only_slow and 2 * other.slow > len(other.assessments):
        return Conclusion.OVERLOADED
    if only_slow and other.right and other.median_s > serving.median_s:
        return Conclusion.OTHER_SLOWER
    if other.right:
        return Conclusion.ENGINE_FAULT
    if wrong and (other.over_set or other.count(Verdict.FAILED)):
        return Conclusion.BOTH_WRONG
    return Conclusion.TARGET_UNPROVEN


def _of_the_way(*, moved: bool, unheard: bool) -> Conclusion:
    """What lies before an engine that is right."""
    if moved:
        return Conclusion.ROUTE_MOVED
    return Conclusion.SERVER_FAULT if unheard else Conclusion.TRANSIENT


def _is_bad(first: Assessment | None, serving: Lane, need: int) -> bool:
    """Confirmed: the same canary is wrong again, or enough others are bad.

    Without a bad first probe (a fresh look at an old trouble, or a mere suspicion) one wrong answer
    is enough, and most must be slow or missing: of so many one is late by chance now and then.
    """
    if serving.over_set:
        return True
    if first is None or first.verdict is Verdict.HEALTHY:
        return serving.count(Verdict.FAILED) > 0 or 2 * serving.bad > len(serving.assessments)
    again = any(a.verdict is Verdict.FAILED and a.result.canary == first.result.canary for a in serving.assessments)
    return again or serving.bad >= min(need, len(serving.assessments))


def _headline(first: Assessment | None, serving: Lane, *, moved: bool) -> Finding | None:
    if moved and first is not None:
        return next((f for f in first.findings if f.reason is Reason.WRONG_VERSION), first.worst)
    return serving.finding or serving.slower or (first.worst if first else None)


def _sentence(conclusion: Conclusion, serving: Role, lane: Lane, other: Lane, finding: Finding | None) -> str:
    drift = next((f for f in lane.over_set if f.reason is Reason.DRIFT and f is not finding), None)
    if conclusion is Conclusion.SLOWED and other.slower is not None:
        drift = other.slower
    counts = f"canaries on {serving}: {_told(lane)}; on {serving.other}: {_told(other)}"
    what = f"; {finding.detail}" if finding and conclusion is not Conclusion.TRANSIENT else ""
    more = f"; {drift.detail}" if drift else ""
    return f"{_MEANING[conclusion].format(serving=serving, other=serving.other)} ({counts}){what}{more}"


def _told(lane: Lane) -> str:
    wrong, silent = lane.count(Verdict.FAILED), lane.count(Verdict.INCONCLUSIVE)
    kinds = ((wrong, "wrong"), (lane.slow, "slow"), (silent, "without an answer"))
    said = ", ".join(f"{count} {kind}" for count, kind in kinds if count)
    if said:
        return f"{said} of {len(lane.assessments)}"
    if lane.over_set:
        return f"all {len(lane.assessments)} within limits, but not together"
    return f"all {len(lane.assessments)} right"


_MEANING = {
    Conclusion.TRANSIENT: "the {serving} engine is right",
    Conclusion.DATA_DRIFT: "patients' answers changed while the engines are right: the images changed",
    Conclusion.ENGINE_FAULT: "the {serving} engine is at fault and the {other} engine is proven",
    Conclusion.BOTH_WRONG: "both engines are wrong: moving traffic would not help",
    Conclusion.TARGET_UNPROVEN: "the {serving} engine is at fault, but the {other} engine could not be proven",
    Conclusion.OVERLOADED: "both engines are right but slow: the server, not one engine",
    Conclusion.OTHER_SLOWER: "the {serving} engine is right but slow, and the {other} engine would take longer",
    Conclusion.SLOWED: "the {serving} engine is right, but takes longer than it should",
    Conclusion.SERVER_FAULT: "the server can't be measured: no engine or no public name answers, or a cache does",
    Conclusion.ROUTE_MOVED: "the {serving} engine is right, but the public name is answered by another",
}
