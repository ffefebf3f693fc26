"""Hypotheses: bets that expect to win nothing while nothing changed, and the smoothed samples they are made from."""

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from bench.drift.streams import BIMODAL, STREAMS
from watchdog.drift import hypotheses
from watchdog.drift.hypotheses import CELLS, CLOSE_CELLS, WAVES
from watchdog.drift.links import Link
from watchdog.drift.smooth import Smooth
from watchdog.model.tensor import Array

WIDTHS, CLOSE_WIDTHS = np.diff(CELLS), np.diff(CLOSE_CELLS)
RNG = np.random.default_rng(3)
SAMPLES = {
    "bimodal": (Link.LOGIT, Link.LOGIT.of_all(BIMODAL.healthy(RNG, (200,)))),
    "two values": (Link.LOGIT, np.repeat([-2.0, 2.0], [50, 150])),
    "surely so or not": (Link.LOGIT, np.repeat([-17.0, 17.0], [199, 1])),
    "one value and another": (Link.LOGIT, np.repeat([0.0, 0.1], [199, 1])),
    "seconds, some none": (Link.LOG, Link.LOG.of_all(np.where(RNG.random(300) < 0.3, 0.0, RNG.exponential(2.0, 300)))),
    "nearly the same": (Link.IDENTITY, 1 + 1e-13 * RNG.standard_normal(300)),
    "far and nearly the same": (Link.IDENTITY, 1e6 + 1e-10 * RNG.integers(0, 2, 300)),
    "tiny": (Link.IDENTITY, 1e-300 * RNG.standard_normal(300)),
    "huge": (Link.IDENTITY, 1e99 * RNG.standard_normal(300)),
    "heavy tails": (Link.IDENTITY, RNG.standard_cauchy(300)),
}
Sample = tuple[Link, Array]


@pytest.fixture(params=SAMPLES)
def sample(request: pytest.FixtureRequest) -> Sample:
    return SAMPLES[request.param]


def _smooth(sample: Sample) -> Smooth:
    return Smooth.of(sample[1], sample[0])


def test_cells_cut_the_ranks_completely() -> None:
    for cells in (CELLS, CLOSE_CELLS):
        assert (cells[0], cells[-1]) == (0.0, 1.0)
        assert (np.diff(cells) > 0).all()


def test_a_bets_mean_over_ranks_is_1_and_no_bet_is_negative(sample: Sample) -> None:
    for bet in hypotheses.named(_smooth(sample), sample[0]):
        assert bet.density @ WIDTHS == pytest.approx(1.0, abs=1e-12), bet.name
        assert bet.density.min() >= 0.0, bet.name


def test_so_it_is_over_ranks_of_closeness() -> None:
    bets = hypotheses.closeness(_smooth(SAMPLES["bimodal"]))
    assert len(bets) == 9
    for bet in bets:
        assert bet.density.shape == CLOSE_WIDTHS.shape
        assert bet.density @ CLOSE_WIDTHS == pytest.approx(1.0, abs=1e-12), bet.name
        assert bet.density.min() >= 0.0, bet.name


def test_names_are_distinct_and_sentences_are_for_people(sample: Sample) -> None:
    bets = hypotheses.named(_smooth(sample), sample[0])
    assert len({bet.name for bet in bets}) == len(bets)
    assert all(bet.weight > 0 and bet.sentence and "nan" not in bet.sentence for bet in bets)
    assert sum(bet.weight for bet in bets) < 1


def test_waves_have_mean_0_and_are_at_right_angles() -> None:
    waves = hypotheses.waves()
    assert waves.shape == (len(WIDTHS), WAVES)
    assert np.abs(waves.T @ WIDTHS).max() < 1e-12
    assert (waves.T * WIDTHS) @ waves == pytest.approx(np.eye(WAVES), abs=0.02)
    assert (np.abs(waves) <= np.sqrt(2 * np.arange(1, WAVES + 1) + 1)).all()


def test_amounts_are_in_the_readings_own_terms() -> None:
    said = {link: " ".join(b.sentence for b in hypotheses.named(_smooth(SAMPLES[name]), link)) for name, link in NAMED}
    assert "logits shifted by about -0.5" in said[Link.LOGIT]
    assert "values shifted by about a factor of" in said[Link.LOG]
    assert re.search(r"values shifted by about \+[12](\.\d)?e\+99", said[Link.IDENTITY])


NAMED = (("bimodal", Link.LOGIT), ("seconds, some none", Link.LOG), ("huge", Link.IDENTITY))


@pytest.mark.parametrize("stream", STREAMS.values(), ids=STREAMS)
@pytest.mark.parametrize(
    ("name", "moved"),
    [
        ("scale-0.5", lambda z, _: z * 0.5),
        ("scale-1.6", lambda z, _: z * 1.6),
        ("shift+1", lambda z, _: z + 1.0),
        ("shift-0.5", lambda z, _: z - 0.5),
        ("noise-1-1.2", lambda z, r: z + 1.2 * r.standard_normal(z.shape)),
        ("cut-above-0.25", lambda z, r: np.minimum(z, np.quantile(z, 0.75) - 0.1 * r.random(z.shape))),
    ],
)
def test_the_bet_on_what_happened_wins_most_or_nearly(stream, name, moved) -> None:  # type: ignore[no-untyped-def]
    rng = np.random.default_rng(5)
    healthy, later = (Link.LOGIT.of_all(stream.healthy(rng, (n,))) for n in (2000, 4000))
    bets = hypotheses.named(Smooth.of(healthy, Link.LOGIT), Link.LOGIT)
    ranks = np.searchsorted(np.sort(healthy), moved(later, rng)) / len(healthy)
    cells = np.minimum(np.searchsorted(CELLS, ranks, side="right") - 1, len(WIDTHS) - 1)
    growth = {bet.name: float(np.log(bet.density[cells]).mean()) for bet in bets}
    assert growth[name] > 0.01
    assert growth[name] > max(growth.values()) - 0.1 * max(growth.values()) - 0.02


def test_a_smoothed_sample_is_a_distribution_function(sample: Sample) -> None:
    smooth = _smooth(sample)
    for cdf in (smooth.cdf, smooth.scaled(0.5), smooth.scaled(1.6), smooth.shifted(1.0), smooth.cut_above(0.7)):
        assert np.isfinite(cdf).all()
        assert -1e-9 <= cdf.min() <= cdf.max() <= 1 + 1e-9
    assert (np.diff(smooth.cdf) >= 0).all()
    assert smooth.cdf[-1] == pytest.approx(1.0)
    assert (np.diff(smooth.grid) > 0).all()


def test_a_smoothed_sample_is_near_the_truth() -> None:
    smooth = Smooth.of(np.random.default_rng(2).standard_normal(5000), Link.IDENTITY)
    assert smooth.cdf == pytest.approx(norm.cdf(smooth.grid), abs=0.03)
    assert smooth.shifted(1.0) == pytest.approx(norm.cdf(smooth.grid, 1.0, 1.0), abs=0.04)
    assert smooth.scaled(0.5) == pytest.approx(norm.cdf(smooth.grid, 0.0, 0.5), abs=0.04)
    assert smooth.noisy(1.0, 1.2) == pytest.approx(norm.cdf(smooth.grid, 0.0, np.hypot(1.0, 1.2)), abs=0.04)


@settings(max_examples=50)
@given(st.floats(-16.0, 16.0), st.floats(0.001, 0.999))
def test_quantiles_invert(z: float, u: float) -> None:
    smooth = _smooth(SAMPLES["bimodal"])
    assert float(smooth.at(smooth.quantile(np.array(u)))) == pytest.approx(u, abs=1e-9)
    assert 0.0 < float(smooth.at(np.array(z))) < 1.0
