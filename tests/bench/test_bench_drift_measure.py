"""How delays and false alarms are counted, shown on detectors whose alarms are known beforehand."""

from dataclasses import dataclass

import numpy as np
import pytest

from bench.drift import measure
from bench.drift.calibrate import Calibrated
from bench.drift.formulas import MeanCusum
from bench.drift.measure import RUN_IN
from bench.drift.peers import OTHERS
from bench.drift.streams import BIMODAL, SKEWED, Array, Rng
from bench.drift.subject import Cost, OneByOne, count_by_restarting


@dataclass(frozen=True, kw_only=True)
class At:
    """Alarms at one index in every stream or, with a share, in so many of them at another."""

    index: int
    early: float = 0.0
    name: str = "at"
    arl_promised: float | None = None
    learns: bool = True
    share: float = 1.0

    def run(self, references: Array, streams: Array, rng: Rng) -> Array:
        assert len(references) == len(streams)
        return np.where(rng.random(len(streams)) < self.early, 99, self.index)

    def count_alarms(self, references: Array, streams: Array, rng: Rng) -> int:
        return count_by_restarting(self.run, references, streams, rng)

    def cost(self, _reference: Array, _stream: Array) -> Cost:
        raise NotImplementedError


def _delays(subject: At, runs: int = 40) -> measure.Delays:
    change = BIMODAL.changes["bias-1"]
    return measure.delays(subject, BIMODAL, change, 10, runs=runs, bound=100, seed=1)


def test_an_alarm_at_the_first_changed_observation_is_a_delay_of_one() -> None:
    taken = _delays(At(index=RUN_IN))
    assert taken.found.tolist() == [1] * 40
    assert (taken.missed, taken.median_at_bound) == (0, 1.0)
    assert (taken.run_in.observations, taken.run_in.alarms) == (40 * RUN_IN, 0)


def test_an_alarm_in_the_run_in_is_false_and_its_run_begins_anew() -> None:
    taken = _delays(At(index=RUN_IN + 6, early=0.5))
    assert taken.found.tolist() == [7] * 40
    assert taken.run_in.alarms > 10
    assert taken.run_in.observations == 40 * RUN_IN + taken.run_in.alarms * 100


def test_what_is_not_found_is_missed_and_counts_as_found_at_the_bound() -> None:
    taken = _delays(At(index=-1))
    assert (len(taken.found), taken.missed, taken.median_at_bound) == (0, 40, 100.0)


def test_a_detector_that_always_alarms_early_comes_to_no_delay() -> None:
    taken = _delays(At(index=3))
    assert (len(taken.found), taken.missed, taken.median_at_bound) == (0, 0, None)


def test_false_alarms_are_counted_from_afresh_until_the_stream_ends() -> None:
    counted = measure.quiet(At(index=30), BIMODAL, 10, streams=3, length=100, seed=1, part=0)
    assert (counted.observations, counted.alarms) == (300, 3 * 3)  # at 30, 61, 92


def test_bounds_follow_the_oracle_within_limits() -> None:
    assert [measure.bound_for(median) for median in (1, 100, 5_000)] == [1_000, 2_500, 30_000]


def test_calibration_finds_the_threshold_of_the_wanted_rate() -> None:
    def at(threshold: float) -> MeanCusum:
        return MeanCusum(name="sum", threshold=threshold, allowance=0.5)

    contestant = Calibrated(name="sum", arl=2_000, at=at, between=(2.0, 20.0))
    threshold = contestant.search(SKEWED, 500, 400_000, np.random.default_rng(1))
    counted = measure.quiet(at(threshold), SKEWED, 500, streams=30, length=20_000, seed=2, part=0)
    assert counted.observations / counted.alarms == pytest.approx(2_000, rel=0.3)


PACKAGES = [contestant for contestant in OTHERS if isinstance(contestant, OneByOne)]


@pytest.mark.parametrize("subject", PACKAGES, ids=lambda subject: subject.name)
@pytest.mark.parametrize("to", [0.0, 1.0])
def test_packages_see_the_mean_rise_and_fall_or_are_known_not_to(subject: OneByOne, to: float) -> None:
    rng = np.random.default_rng(5)
    before = 0.5 + 0.05 * rng.standard_normal((1, 600))
    streams = np.concatenate([before, np.full((1, 900), to)], axis=1)
    found = subject.run(np.empty((1, 0)), streams, rng)[0]
    if "GeometricMovingAverage" in subject.name:
        assert found == -1  # its limit is 1, and the mean of confidences can't move so far
    else:
        assert 600 <= found < 1400
    assert subject.cost(np.empty(0), streams[0, :400]).us_per_observation > 0
