"""One model's canaries, and how they are asked: in turn, in bursts of both engines, as a proof."""

import asyncio
import itertools
import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace

from pydantic import Field

from watchdog.canary_drift import CanaryDrift
from watchdog.model.canary import Canary
from watchdog.model.engine import Address, Role
from watchdog.model.verdict import Assessment, Finding, Reason, Verdict
from watchdog.policy.diagnose import ConfirmSettings, Lane
from watchdog.prober import Prober
from watchdog.settings import Duration, Settings

_PROOF_PAUSE_S = 0.02
_GOLDEN_SECTION = 0.618
_WRONG_AGAIN = 2

ANSWERED = frozenset({Verdict.HEALTHY, Verdict.SUSPECT})
"""Right answers, slow ones included."""


class ProbeSettings(Settings):
    """The cadence of a model's probes."""

    every: Duration = 10.0
    """From the start of one probe of the public name to the start of the next."""
    deadline: Duration = 2.0
    """How long an answer may take before the engine counts as hung."""
    confirm: ConfirmSettings = ConfirmSettings()
    proof_canaries: int = Field(default=2, ge=1, le=64)
    """Canaries that must come back right through the public name to prove a switch."""
    proof_within: Duration = 5.0
    """How long a switch may take to show at the public name."""


class Panel:
    """Asks one model's canaries."""

    def __init__(
        self,
        prober: Prober,
        canaries: Sequence[Canary],
        probe: ProbeSettings,
        drift: CanaryDrift | None,
        drift_burst: int,
    ) -> None:
        self.canaries = mixed(canaries)
        self._lightest = sorted(self.canaries, key=lambda c: sum(array.nbytes for array in c.inputs.values()))
        self._rotation: Iterator[int] = itertools.cycle(range(len(self.canaries)))
        self._prober = prober
        self._probe = probe
        self._drift = drift
        self._drift_burst = drift_burst

    def next(self) -> Canary:
        """The one whose turn it is."""
        return self.canaries[next(self._rotation)]

    async def lanes(self, serving: Role, canaries: Sequence[Canary], *, timed: bool) -> tuple[Lane, Lane]:
        """The same canaries to both engines: at once, but one by one where speed is in question."""
        if not timed:
            return await asyncio.gather(self.lane(serving, canaries), self.lane(serving.other, canaries))
        first, second = [await self.lane(role, canaries, one_by_one=True) for role in (serving, serving.other)]
        return replace(first, slower=await self._slower(first)), replace(second, slower=await self._slower(second))

    async def lane(self, role: Role, canaries: Sequence[Canary], *, one_by_one: bool = False) -> Lane:
        if one_by_one:
            answers = [await self._prober.probe(canary, role, public=False) for canary in canaries]
        else:
            answers = await asyncio.gather(*(self._prober.probe(canary, role, public=False) for canary in canaries))
        over_set = self._prober.judge.collapse(answers)
        if self._drift is not None:
            over_set += self._drift.over(role, answers)
        return Lane(assessments=answers, over_set=over_set, at_once=not one_by_one)

    async def _slower(self, lane: Lane) -> Finding | None:
        """Whether these probes took longer than at the baseline, and which part of them did."""
        results = await self._prober.timekeeper.settled(a.result for a in lane.assessments)
        return self._prober.judge.slower(results)

    def burst(
        self, first: Assessment | None, *, thorough: bool = False, wrong_on: Collection[str] = ()
    ) -> Sequence[Canary]:
        """The canary that failed, those that did before, and the next ones of the rotation or the suspected group."""
        failed = [c for c in self.canaries if first is not None and c.id == first.result.canary]
        failed += [c for c in self.canaries if c.id in wrong_on and c not in failed]
        others = [self.next() for _ in self.canaries]
        wanted = self._probe.confirm.canaries
        if thorough or (first is not None and first.reason is Reason.DRIFT):  # what is plainly wrong needs no more
            wanted = max(wanted, self._drift_burst)
            suspects = self._drift.suspects if self._drift is not None and first is not None else ()
            others.sort(key=lambda c: c.id not in suspects)
        return [*failed, *(c for c in others if c not in failed)][:wanted]

    async def shows(self, to: Role, percent: int, wrong_on: Collection[str] = ()) -> tuple[bool, str]:
        """Whether the public name is answered rightly, by `to` or, where it gets a part only, by either.

        Canaries that were answered wrongly before are asked first: not every server names who answers. Where `to`
        itself answers wrongly, and again, there is nothing to wait for: patients get the same.
        """
        engine, wrong = self._prober.target.engines[to].address, 0
        give_up_at = self._prober.clock() + self._probe.proof_within
        canaries = sorted(self._lightest, key=lambda c: c.id not in wrong_on)[: self._probe.proof_canaries]
        either = percent < 100
        while True:
            answers = await asyncio.gather(*(self._prober.probe(c, to, public=True, either=either) for c in canaries))
            if all(a.verdict in ANSWERED for a in answers):
                return True, f"the public name is answered rightly by {answers[0].result.answered_by}"
            wrong += any(a.verdict is Verdict.FAILED and _is_by(a, engine) for a in answers)
            if wrong >= _WRONG_AGAIN or self._prober.clock() >= give_up_at:
                return False, f"the public name does not show the {to} engine: {why(answers)}"
            await asyncio.sleep(_PROOF_PAUSE_S)


def _is_by(assessment: Assessment, engine: Address) -> bool:
    """Whether the answer says that this engine gave it."""
    by = assessment.result.answered_by
    return bool(by.version if engine.version else by.model) and by.is_at(engine)


def mixed(canaries: Sequence[Canary]) -> tuple[Canary, ...]:
    """All of them, those that follow one another as different as a fixed order can make them.

    A set lists one image's shapes together, and similar images beside one another. Steps of about
    the golden section of the set's size, coprime to it, visit each once and keep likes apart.
    """
    count = len(canaries)
    near = round(count * _GOLDEN_SECTION)
    step = next((s for s in range(max(near, 1), count) if math.gcd(s, count) == 1), 1)
    return tuple(canaries[i * step % count] for i in range(count))


def names(assessment: Assessment, reason: Reason) -> bool:
    """Whether this is among what was found."""
    return any(f.reason is reason for f in assessment.findings)


def why(assessments: Sequence[Assessment]) -> str:
    """The first complaint of several answers."""
    return next((str(a.worst) for a in assessments if a.worst is not None), "no canary came back")
