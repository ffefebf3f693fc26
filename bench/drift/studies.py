"""Studies of many slices that resemble one another, in which nothing changes: a trap for what counts slices.

A study is one observation of the live detector, however many slices it has. Beside it the same detector
takes each slice for an observation, which breaks the promise of any detector.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.special import expit, ndtr

from bench.drift.contestants import ARL
from bench.drift.measure import Quiet, generator
from bench.drift.streams import BIMODAL, Array, Rng
from bench.drift.subject import Cost, Update, take_cost
from watchdog.drift.links import Link
from watchdog.drift.live import LiveDetector
from watchdog.drift.reference import Reference
from watchdog.model.score import Promise

STREAM = "bimodal studies"
SLICES, CORRELATION = 10, 0.5
"""Of a study, and of the normal scores of any two of them."""
REFERENCE = 1_000
"""Observations."""
_GRID = np.linspace(-9.0, 9.0, 20_001)
_BELOW = np.cumsum(BIMODAL.density(_GRID)) * (_GRID[1] - _GRID[0])


@dataclass(frozen=True, kw_only=True)
class Studies:
    name: str
    whole: bool
    """Whether a study is one observation; else each of its slices is."""


STUDIES = {
    studies.name: studies
    for studies in (
        Studies(name="watchdog, studies", whole=True),
        Studies(name="watchdog, slices one by one", whole=False),
    )
}


def drawn(rng: Rng, count: int) -> Array:
    """[count, SLICES] confidences: each by itself is one of the bimodal stream."""
    common, own = rng.standard_normal((count, 1)), rng.standard_normal((count, SLICES))
    ranks = ndtr(np.sqrt(CORRELATION) * common + np.sqrt(1 - CORRELATION) * own)
    return BIMODAL.emit(expit(np.interp(ranks, _BELOW, _GRID)))


def _learn(studies: Studies, rng: Rng) -> LiveDetector:
    values = drawn(rng, REFERENCE if studies.whole else REFERENCE // SLICES).ravel()
    ids = np.arange(len(values)) // SLICES if studies.whole else None
    reference = Reference(values=values, link=Link.LOGIT, studies=ids)
    return LiveDetector(reference, Promise(run_length=ARL), seed=int(rng.integers(2**31)))


def _observations(studies: Studies, rng: Rng, count: int) -> Iterator[list[float]]:
    """So many, whatever they are."""
    seen = drawn(rng, count if studies.whole else -(-count // SLICES))
    yield from (seen if studies.whole else seen.reshape(-1, 1)[:count]).tolist()


@dataclass(frozen=True, kw_only=True)
class CountStudies:
    """False alarms in so many observations after one reference, starting afresh after each."""

    studies: str
    observations: int
    part: int
    seed: int

    def __call__(self) -> Quiet:
        studies, rng = STUDIES[self.studies], generator(self.seed, "studies", self.studies, self.part)
        detector = _learn(studies, rng)
        state, alarms = detector.fresh(), 0
        for observed in _observations(studies, rng, self.observations):
            state, score = detector.update(state, observed)
            if score.alarm is not None:
                alarms, state = alarms + 1, detector.restarted(state)
        return Quiet(observations=self.observations, alarms=alarms)


@dataclass(frozen=True, kw_only=True)
class TakeStudiesCost:
    """For a quiet machine: never beside other work."""

    studies: str
    observations: int
    seed: int

    def __call__(self) -> Cost:
        studies, rng = STUDIES[self.studies], generator(self.seed, "cost", self.studies)
        shown = list(_observations(studies, rng, self.observations))

        def fresh() -> Update:
            detector = _learn(studies, generator(self.seed, "cost", self.studies, "reference"))
            state = detector.fresh()

            def update(at: float) -> bool:
                nonlocal state
                state, score = detector.update(state, shown[int(at)])
                return score.alarm is not None

            return update

        return take_cost(fresh, np.arange(self.observations))
