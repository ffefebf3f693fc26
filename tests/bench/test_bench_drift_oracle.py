"""The oracle is what everything is measured against, so that its rate of false alarms must be right."""

import numpy as np
import pytest

from bench.drift import oracle
from bench.drift.streams import BIMODAL, SKEWED, Stream


@pytest.mark.parametrize(("stream", "change"), [(BIMODAL, "bias-1"), (SKEWED, "tenth-biased")])
def test_its_threshold_gives_the_run_length_that_simulation_finds(stream: Stream, change: str) -> None:
    rng = np.random.default_rng(1)
    aim = stream.changes[change]
    threshold = oracle.threshold_for(stream, aim, 1e4, rng)
    levels = oracle._follow(np.zeros(150), stream.llr(aim, stream.healthy(rng, (150, 30_000))))
    over = levels >= threshold
    observed = np.where(over.any(axis=1), over.argmax(axis=1) + 1, levels.shape[1])
    # some 140 alarms, so one part in twelve; exponential, hence observations ÷ alarms
    assert observed.sum() / over.any(axis=1).sum() == pytest.approx(1e4, rel=0.25)


def test_a_year_without_a_false_alarm_costs_what_theory_says() -> None:
    rng = np.random.default_rng(2)
    found = oracle.ask(BIMODAL, BIMODAL.changes["tenth-biased"], rng, runs=300)
    assert found.threshold is not None
    x = BIMODAL.changed(BIMODAL.changes["tenth-biased"], rng, (200_000,))
    divergence = BIMODAL.llr(BIMODAL.changes["tenth-biased"], x).mean()
    assert found.median == pytest.approx(found.threshold / divergence, rel=0.25)  # Lorden 1971: h / divergence


@pytest.mark.parametrize("change", ["all-zero", "stuck", "16-levels"])
def test_what_gives_itself_away_is_found_at_once(change: str) -> None:
    found = oracle.ask(BIMODAL, BIMODAL.changes[change], np.random.default_rng(3), runs=5)
    assert (found.median, found.p95, found.threshold) == (1.0, 1.0, None)


def test_it_aims_at_the_stage_of_a_ramp_that_is_found_soonest() -> None:
    ramp = BIMODAL.changes["ramp"]
    found = oracle.ask(BIMODAL, ramp, np.random.default_rng(4), runs=200, arl=1e4)
    assert found.aims_at in {stage.name for stage in ramp.stages[:-1]}
    complete = ramp.stages[-1]
    rng = np.random.default_rng(5)
    threshold = oracle.threshold_for(BIMODAL, complete, 1e4, rng)
    draws = oracle._healthy(BIMODAL, complete, rng), oracle._changed(BIMODAL, ramp, complete, rng)
    assert found.median < np.median(oracle._delays(*draws, threshold, (200, 500)))
