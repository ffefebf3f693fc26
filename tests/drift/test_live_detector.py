"""The live detector: what it promises, what it finds, and what it keeps."""

import math
from collections.abc import Callable
from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kstest, norm

from bench.drift.streams import BIMODAL, SKEWED, STREAMS, Stream
from tests.drift.healthy import YEARLY, detector, fed, first_alarm, top
from watchdog.drift import live as module
from watchdog.drift import state as states
from watchdog.drift.bounds import coincidence_upper, mean_upper, share_upper
from watchdog.drift.hypotheses import CELLS, CLOSE_CELLS
from watchdog.drift.links import Link
from watchdog.drift.live import LiveDetector, LiveState, Reference
from watchdog.model.score import Promise, Score, Unusable
from watchdog.model.tensor import Array

LAX = Promise(run_length=1e5)
STUDY = st.lists(st.floats(0.0, 1.0, width=16) | st.sampled_from([math.nan, 2.0]), max_size=4)


@pytest.fixture(scope="module")
def usual() -> LiveDetector:
    return detector()


def _changed(stream: Stream, name: str, n: int, seed: int = 1) -> Array:
    return stream.changed(stream.changes[name], np.random.default_rng(seed), (n,))


def _healthy(stream: Stream, n: int, seed: int = 2) -> Array:
    return stream.healthy(np.random.default_rng(seed), (n,))


def _same(a: LiveState, b: LiveState) -> bool:
    return all(np.array_equal(getattr(a, f.name), getattr(b, f.name)) for f in fields(a))


# -- states ------------------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(st.lists(STUDY, max_size=40), st.lists(STUDY, min_size=1, max_size=20))
def test_a_stored_state_goes_on_as_if_nothing_had_been(before: list[list[float]], after: list[list[float]]) -> None:
    live = FIXED
    state = live.fresh()
    for study in before:
        state, _ = live.update(state, study)
    other = live.load(live.dump(state))
    assert _same(state, other)
    for study in after:
        state, score = live.update(state, study)
        other, again = live.update(other, study)
        assert score == again
    assert _same(state, other)


def test_a_state_of_another_detector_is_refused(usual: LiveDetector) -> None:
    data = usual.dump(usual.fresh())
    values = usual.reference.values
    for other in (
        LiveDetector(Reference(values=values[::-1], link=Link.LOGIT), YEARLY),
        LiveDetector(Reference(values=values, link=Link.LOG), YEARLY),
        LiveDetector(usual.reference, Promise(run_length=2 * YEARLY.run_length)),
        LiveDetector(usual.reference, YEARLY, seed=1),
    ):
        with pytest.raises(ValueError, match="another reference, promise or version"):
            other.load(data)
    assert _same(LiveDetector(usual.reference, YEARLY).load(data), usual.fresh())


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_damaged_bytes_are_refused_or_harmless(data: st.DataObject) -> None:
    stored = bytearray(STORED)
    for at in data.draw(st.lists(st.integers(0, len(stored) - 1), min_size=1, max_size=4)):
        stored[at] ^= data.draw(st.integers(1, 255))
    try:
        state = FIXED.load(bytes(stored[: data.draw(st.integers(len(stored) // 2, len(stored)))]))
    except ValueError:
        return
    assert _same(state, FIXED.load(STORED))


@pytest.mark.parametrize("name", [f.name for f in fields(LiveState)])
@pytest.mark.parametrize("value", [math.nan, "text", [math.inf] * 2, 1j])
def test_a_field_of_another_kind_is_refused(name: str, value: object) -> None:
    known = {f.name: getattr(FIXED.fresh(), f.name) for f in fields(LiveState)}
    with pytest.raises(ValueError, match=f"the state's {name}"):
        FIXED.load(states.pack(FIXED._identity(), known | {name: value}))


def test_the_same_seed_says_the_same(usual: LiveDetector) -> None:
    values = np.concatenate([_healthy(BIMODAL, 100), _changed(BIMODAL, "temperature-2", 30)])
    again = LiveDetector(usual.reference, YEARLY)
    assert list(fed(usual, values)) == list(fed(again, values))


def test_another_seed_breaks_ties_otherwise_and_changes_nothing_else() -> None:
    reference = Reference(values=_healthy(SKEWED, 1000), link=Link.LOGIT)
    found = []
    for seed in (0, 1):
        live = LiveDetector(reference, YEARLY, seed=seed)
        state = live.fresh()
        for value in _healthy(SKEWED, 200).tolist():
            state, _ = live.update(state, [value])
        found.append(state)
    one, other = found
    assert not np.array_equal(one.wealth[: live._closed], other.wealth[: live._closed])
    assert np.array_equal(one.wealth[live._closed :], other.wealth[live._closed :])
    assert np.array_equal(one.pool, other.pool)
    assert (one.recent, one.run) == (other.recent, other.run)


def test_seeds_next_to_each_other_draw_unlike_numbers() -> None:
    drawn = []
    for seed in (0, 1, 2):
        live = LiveDetector(FIXED.reference, YEARLY, seed=seed)
        state = live.fresh()
        drawn.append([live._uniforms(state) for _ in range(2000)])
    flat = [[u for pair in pairs for u in pair] for pairs in drawn]
    assert len({u for us in flat for u in us}) > 0.999 * 3 * 4000
    for us in flat:
        assert kstest(us, "uniform").pvalue > 0.001
    first, second = np.array(drawn[1]).T
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.08
    assert abs(np.corrcoef(first[1:], first[:-1])[0, 1]) < 0.08


def test_a_restart_puts_evidence_aside_and_keeps_what_is_usual(usual: LiveDetector) -> None:
    state = usual.fresh()
    *_, score = fed(usual, _changed(BIMODAL, "near-half", 40), state)
    assert score.alarm is not None
    pooled, pool = state.pooled, state.pool.copy()
    state = usual.restarted(state)
    assert (state.pooled, state.observations) == (pooled, 0)
    assert np.array_equal(state.pool, pool)
    state, score = usual.update(state, [0.5])
    assert score.alarm is None
    assert score.observations == 1


# -- observations ------------------------------------------------------------------------


def test_any_sequence_is_a_study(usual: LiveDetector) -> None:
    one, other = usual.fresh(), usual.fresh()
    for value in _healthy(BIMODAL, 50).tolist():
        one, score = usual.update(one, [value])
        other, again = usual.update(other, (value,))
        assert score == again


def test_equal_values_of_a_study_count_as_one_value_for_what_is_fixed(usual: LiveDetector) -> None:
    one, other, third = usual.fresh(), usual.fresh(), usual.fresh()
    for value in (*_healthy(BIMODAL, 50).tolist(), 0.0, 0.25):
        one, _ = usual.update(one, [value])
        other, _ = usual.update(other, [value] * 3)
        third, _ = usual.update(third, [math.nan, value, 7.0])
    fixed = slice(usual._closed, None)
    assert other.wealth[fixed] == pytest.approx(one.wealth[fixed], rel=1e-9)
    assert np.array_equal(third.wealth[fixed], one.wealth[fixed])
    assert np.array_equal(other.pool, one.pool)


def test_a_studys_mean_is_what_counts(usual: LiveDetector) -> None:
    state, _ = usual.update(usual.fresh(), [0.0, 0.3, 0.6, 0.9])
    alone, _ = usual.update(usual.fresh(), [0.0])
    zero = usual._names.index("zero")
    assert state.wealth[zero] == pytest.approx(alone.wealth[zero] / 4)
    assert state.observations == 1


@pytest.mark.parametrize(
    ("study", "why"),
    [
        ([math.nan], Unusable.NON_FINITE),
        ([math.inf], Unusable.NON_FINITE),
        ([-math.inf], Unusable.NON_FINITE),
        ([-1e-9], Unusable.OUT_OF_RANGE),
        ([1.0000001], Unusable.OUT_OF_RANGE),
        ([1e300], Unusable.OUT_OF_RANGE),
        ([], Unusable.EMPTY),
        ([math.nan, 2.0], Unusable.NON_FINITE),
        ([2.0, math.nan], Unusable.OUT_OF_RANGE),
    ],
)
@pytest.mark.parametrize("before", [[], [0.3, 0.3, 0.3], [0.5] * 40])
def test_what_cannot_be_used_is_named_and_changes_nothing(
    usual: LiveDetector, study: list[float], why: Unusable, before: list[float]
) -> None:
    state, untouched = usual.fresh(), usual.fresh()
    scores = list(fed(usual, before, state))
    list(fed(usual, before, untouched))
    state, score = usual.update(state, study)
    assert (score.unusable, score.alarm, score.observations) == (why, None, len(before))
    assert score.statistic == (scores[-1].statistic if scores else 0.0)
    assert _same(state, untouched)


def test_a_study_is_used_as_far_as_it_can_be(usual: LiveDetector) -> None:
    state, score = usual.update(usual.fresh(), [0.3, math.nan, 2.0])
    assert (score.unusable, score.observations) == (None, 1)
    assert list(state.recent) == [0.3]


@pytest.mark.parametrize("value", [0.0, -0.0, 1.0, 5e-324, math.nextafter(1.0, 0.0), 0.5])
def test_evidence_is_a_number_however_long_nobody_asks(usual: LiveDetector, value: float) -> None:
    *_, score = fed(usual, [value] * 150)
    assert math.isfinite(score.statistic)
    assert score.alarm is not None


def test_a_score_says_what_it_is_held_against(usual: LiveDetector) -> None:
    _, score = usual.update(usual.fresh(), [0.2])
    assert (score.threshold, score.promise, score.observations) == (YEARLY.threshold, YEARLY, 1)


# -- e-values: while nothing changed, nothing is won on average --------------------------


def _after(live: LiveDetector, values: Array) -> LiveState:
    state = live.fresh()
    list(fed(live, values, state))
    return state


@pytest.mark.parametrize("stream", STREAMS.values(), ids=STREAMS)
def test_bets_on_ranks_have_mean_1_exactly(stream: Stream) -> None:
    live = detector(stream)
    assert np.diff(CELLS) @ live._by_cell == pytest.approx(np.ones(live._static), abs=1e-12)
    close = np.diff(CLOSE_CELLS) @ live._by_closeness
    assert close == pytest.approx(np.ones(len(close)), abs=1e-12)
    for values in (_healthy(stream, 300), _changed(stream, "near-half", 300), np.zeros(300), np.ones(300)):
        state = _after(live, values)
        assert np.diff(CELLS) @ state.wave_bets == pytest.approx(np.ones(4), abs=1e-12)
        assert state.wave_bets.min() >= 0.2 - 1e-12
        assert state.crowds.mean(axis=0) == pytest.approx(np.ones(3), abs=1e-12)
        assert state.crowds.min() >= 0.0


def test_bets_know_the_past_alone(usual: LiveDetector) -> None:
    """What is won by the next value is settled before it comes: by its rank, and the state."""
    state = _after(usual, _healthy(BIMODAL, 47))  # one before the smooth bets learn
    stored = usual.dump(state)
    waves, crowds = state.wave_bets.copy(), state.crowds.copy()
    for value in (0.01, 0.5, 0.97):
        after, _ = usual.update(usual.load(stored), [value])
        before = usual.load(stored)
        won = after.wealth / (before.wealth + usual._weights)
        names = usual._names
        first, last = names.index("waves-30"), names.index("crowd-128")
        assert any(won[first : last + 1] == pytest.approx([*w, *c], rel=1e-12) for w in waves for c in crowds)


@pytest.mark.parametrize("levels", [2, 7, 1000, 10**9])
def test_ranks_are_uniform_and_independent_however_much_ties(levels: int) -> None:
    rng = np.random.default_rng(levels)
    ranks = np.empty((3000, 4))
    for found in ranks:
        values = np.floor(rng.random(30) ** 2 * levels) / levels
        edges = np.unique(values[:10]).tolist()
        pool = module._pool(values[10:26], edges)
        for t, value in enumerate(values[26:].tolist()):
            place = int(np.searchsorted(edges, value, side="right"))
            found[t] = module._rank(pool, place, float(rng.random()), 16.0 + t)
    for column in ranks.T:
        assert kstest(column, "uniform").pvalue > 0.001
    for columns in (ranks.T, (ranks.T - 0.5) ** 2):
        correlations = np.asarray(np.corrcoef(columns))[np.triu_indices(4, 1)]
        assert np.abs(correlations).max() < 4 / math.sqrt(len(ranks))


def _bimodal_cells(live: LiveDetector) -> Array:
    """The true probabilities of the cells of values."""
    edges = np.array([-np.inf, *live._value_cells, np.inf])
    return np.diff(0.7 * norm.cdf(edges, -2.5, 1.0) + 0.3 * norm.cdf(edges, 2.5, 1.0))


def _exceeding(densities: Callable[[LiveDetector], Array]) -> float:
    """The share of references for which a bet on values expects to win."""
    lives = [detector(seed=seed) for seed in range(40)]
    return float(np.mean([(_bimodal_cells(live) @ densities(live)).max() > 1.0 for live in lives]))


def test_bets_on_values_win_nothing_for_nearly_all_references() -> None:
    assert _exceeding(lambda live: live._by_value) <= 0.05


def test_they_would_if_the_sample_itself_were_taken_for_the_truth() -> None:
    def naive(live: LiveDetector) -> Array:
        cells = live._cells_of(live.reference.values[live.reference.design_size :])
        kept = [name.removeprefix("fixed-") for name in live._names if name.startswith("fixed-")]
        chosen = live._by_cell[:, [live._names.index(name) for name in kept]]
        return np.asarray(chosen / chosen[cells].mean(axis=0))

    assert _exceeding(naive) > 0.5


def _of_levels(n: int) -> Array:
    return np.arange(n + 1) / n


LATTICES = {
    "a byte": (_of_levels(255), np.ones(256)),
    "16 levels": (_of_levels(15), np.ones(16)),
    "thousandths": (_of_levels(1000), np.ones(1001)),
    "half precision": (np.arange(0x3C00, dtype=np.uint16).view(np.float16).astype(float), np.ones(0x3C00)),
    "mostly 0": (_of_levels(1000), np.concatenate([[3000.0], np.ones(1000)])),
    "rarely 0": (_of_levels(5000), np.concatenate([[10.0], np.ones(5000)])),
    "0 or 1": (np.array([0.0, 1.0, 0.3]), np.array([6.0, 3.0, 1.0])),
}


@pytest.mark.parametrize("lattice", LATTICES)
@pytest.mark.parametrize("n", [400, 1000])
def test_bets_on_single_values_win_nothing_however_coarse_values_are(lattice: str, n: int) -> None:
    values, shares = LATTICES[lattice]
    shares = shares / shares.sum()
    is_level = np.array([[module._is_multiple(v, level) for level in module._LEVELS] for v in values.tolist()])
    truth = shares @ np.column_stack([values == 0.0, values == 1.0, is_level])
    coincidences = np.array([np.sum(shares**r) for r in module._RUNS])
    rng = np.random.default_rng(n)
    exceeding = 0
    for _ in range(40):
        reference = Reference(values=rng.choice(values, n, p=shares), link=Link.LOGIT)
        pays = module._sets(reference, Link.LOGIT).pays
        most = module._most_common(reference)
        runs = coincidence_upper(most, n, module._RUNS, module._RUN_DELTA)
        exceeding += bool((pays[:-1] * truth > 1.0).any() or (coincidences > np.array(runs)).any())
    assert exceeding <= 5  # of 40, two are allowed


def test_what_sets_win_is_what_they_pay() -> None:
    for value, names in ((0.0, {"zero"}), (1.0, {"one"}), (3 / 255, set()), (0.123456, set())):
        won = FIXED._sets_won(value)
        hits = {f"levels-{n}" for n in module._LEVELS if module._is_multiple(value, n)} | names
        paid = dict(zip(FIXED._sets.names, won.tolist(), strict=True))
        pays = dict(zip(FIXED._sets.names, FIXED._sets.pays.tolist(), strict=True))
        assert {name for name, each in paid.items() if each and name != "some-zero"} == hits
        assert all(paid[name] == pays[name] for name in hits)
        assert paid["some-zero"] == pytest.approx(0.9 + (0.1 * pays["zero"] if value == 0.0 else 0.0))


def test_runs_win_no_more_than_one_start_an_observation() -> None:
    """Over streams of a few values: the sum over starts, at each time, is 1 a start on average, at most."""
    rng = np.random.default_rng(0)
    shares = np.array([0.4, 0.3, 0.2, 0.1])
    pays = 1 / np.array([np.sum(shares**r) for r in module._RUNS])
    runs = np.ones(20_000, dtype=int)
    last = rng.choice(4, 20_000, p=shares)
    for t in range(2, 31):
        value = rng.choice(4, 20_000, p=shares)
        runs, last = np.where(value == last, runs + 1, 1), value
        won = np.maximum(runs[:, None] - np.array(module._RUNS) + 1, 0) * module._RUN_SHARES @ pays
        assert won.mean() <= t + 4 * won.std() / math.sqrt(len(won))


def test_a_pair_counts_already_and_an_end_of_a_run_ends_its_evidence(usual: LiveDetector) -> None:
    state = usual.fresh()
    for value, run in ((0.3, 1), (0.3, 2), (0.3, 3), (0.31, 1)):
        state, score = usual.update(state, [value])
        *parts, last = np.add.reduceat(state.wealth, usual._parts).tolist()
        runs = [max(run - r + 1, 0) for r in module._RUNS]
        last += usual._run_weight * float(np.sum(runs * module._RUN_SHARES * usual._run_pays))
        assert score.statistic == pytest.approx(max(*parts, last))


# -- quiet streams -----------------------------------------------------------------------

QUIET_RUNS, QUIET_LENGTH = 160, 5


def _growth(lives: list[LiveDetector]) -> Array:
    """[detectors × runs, parts]: each part's evidence after a short quiet stream, for each unit that it was given."""
    rng = np.random.default_rng(11)
    found = []
    for live in lives:
        stakes = np.add.reduceat(live._weights, live._parts)
        for values in BIMODAL.healthy(rng, (QUIET_RUNS, QUIET_LENGTH)):
            state = _after(live, values)
            found.append(np.add.reduceat(state.wealth, live._parts) / stakes)
    return np.array(found)


def _error(found: Array) -> Array:
    return np.asarray(found.std(axis=0) / math.sqrt(len(found)))


def test_evidence_grows_by_one_an_observation_at_most_and_on_ranks_exactly() -> None:
    found = _growth([detector(seed=seed) for seed in range(25)])
    mean, error = found.mean(axis=0), _error(found)
    assert (mean <= QUIET_LENGTH + 3 * error).all()
    assert error[0] < 0.2
    assert mean[0] == pytest.approx(QUIET_LENGTH, abs=3 * error[0])


def test_bets_that_won_more_would_be_noticed() -> None:
    lives = [detector(seed=seed) for seed in range(25)]
    for live in lives:
        live._by_cell = 1.07 * live._by_cell
    found = _growth(lives)
    assert found.mean(axis=0)[0] > QUIET_LENGTH + 3 * _error(found)[0]


@pytest.mark.parametrize("stream", STREAMS.values(), ids=STREAMS)
def test_quiet_streams_raise_no_alarm(stream: Stream) -> None:
    for seed in range(3):
        live = detector(stream, seed=seed)
        assert first_alarm(live, _healthy(stream, 5000, seed=seed + 100)) is None


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1000, 2000), st.sampled_from([BIMODAL, SKEWED]))
def test_no_order_of_the_reference_is_an_alarm(seed: int, size: int, stream: Stream) -> None:
    values = _healthy(stream, size, seed)
    live = LiveDetector(Reference(values=values, link=Link.LOGIT), YEARLY)
    assert top(live, np.random.default_rng(seed).permutation(values)) < YEARLY.threshold / 100


@pytest.mark.parametrize(
    ("link", "values"),
    [
        (Link.LOGIT, np.random.default_rng(0).choice([0.1, 0.9], 1000)),
        (Link.LOGIT, np.random.default_rng(0).choice([0.0, 1.0], 1000)),
        (Link.LOGIT, np.array([0.5] * 999 + [0.6])),
        (Link.LOG, np.where(np.arange(1000) % 3, np.random.default_rng(0).exponential(1.0, 1000), 0.0)),
        (Link.IDENTITY, 1e6 + 1e-10 * np.random.default_rng(0).integers(0, 2, 1000)),
        (Link.IDENTITY, 1e99 * np.random.default_rng(0).standard_normal(1000)),
        (Link.IDENTITY, np.random.default_rng(0).standard_cauchy(1000)),
    ],
)
def test_no_stream_is_too_strange(link: Link, values: Array) -> None:
    live = LiveDetector(Reference(values=values, link=link), YEARLY)
    state = live.fresh()
    scores = list(fed(live, np.random.default_rng(1).permutation(values), state))
    assert max(score.statistic for score in scores) < YEARLY.threshold / 100
    assert np.isfinite(state.wealth).all()


# -- changes -----------------------------------------------------------------------------

NAMED: dict[str, tuple[int, str]] = {
    "all-zero": (5, "zero"),
    "stuck": (5, "stuck"),
    "near-half": (12, "half-"),
    "temperature-2": (60, "scale-0.5|noise-|half-|scale-0.65"),
    "bias-1": (160, "shift|noise-|part-|low-|tilt-"),
    "16-levels": (25, "levels-15"),
    "tenth-collapsed": (700, "half-.*-0.1|half-.*-0.3"),
}
"""Observations within which it is found, and by which bets."""


@pytest.mark.parametrize("quiet", [0, 500])
@pytest.mark.parametrize("change", NAMED)
def test_changes_are_found_and_named(change: str, quiet: int) -> None:
    within, bets = NAMED[change]
    for seed in (1, 2):
        live = detector(size=4000, seed=seed)
        state = _after(live, _healthy(BIMODAL, quiet, seed))
        found = first_alarm(live, _changed(BIMODAL, change, within, seed), state)
        assert found is not None, f"{change} was missed"
        delay, score = found
        assert score.alarm is not None
        assert any(score.alarm.bet.startswith(bet.split(".*")[0]) for bet in bets.split("|")), score.alarm
        assert score.observations == quiet + delay
        assert abs(score.alarm.observations_ago - delay) <= max(3, 0.6 * delay), (delay, score.alarm)
        assert "median" in score.alarm.sentence or "stuck" in score.alarm.sentence


def test_a_change_of_a_lattice_is_found() -> None:
    found = first_alarm(detector(SKEWED, size=4000), _changed(SKEWED, "temperature-2", 100))
    assert found is not None


def test_what_creeps_is_found_although_ranks_get_used_to_it() -> None:
    values = BIMODAL.changed(BIMODAL.changes["ramp"], np.random.default_rng(3), (2500,))
    found = first_alarm(detector(size=10_000), values)
    assert found is not None


@pytest.mark.parametrize(
    ("link", "draw"),
    [
        (Link.LOG, lambda r, n: r.lognormal(0.0, 0.5, n)),
        (Link.IDENTITY, lambda r, n: r.normal(0.0, 0.01, n)),
    ],
)
def test_other_readings_have_changes_too(link: Link, draw: Callable[[np.random.Generator, int], Array]) -> None:
    rng = np.random.default_rng(7)
    live = LiveDetector(Reference(values=draw(rng, 2000), link=link), YEARLY)
    assert top(live, draw(rng, 2000)) < YEARLY.threshold / 100
    deviation = draw(rng, 2000).std()
    found = first_alarm(live, draw(rng, 200) + 1.5 * deviation)
    assert found is not None
    assert found[0] < 60


def test_an_alarm_lasts_until_somebody_restarts(usual: LiveDetector) -> None:
    scores = list(fed(usual, _changed(BIMODAL, "near-half", 60)))
    alarmed = [score.alarm is not None for score in scores]
    assert alarmed == sorted(alarmed)
    assert alarmed[-1]


# -- studies -----------------------------------------------------------------------------

SLICES = 10


def _studies(rng: np.random.Generator, n: int) -> Array:
    """[n, 10] confidences whose logits correlate by 0.5 within a study."""
    own, shared = rng.standard_normal((n, SLICES)), rng.standard_normal((n, 1))
    logits = -1.5 + 1.5 * (math.sqrt(0.5) * own + math.sqrt(0.5) * shared)
    return np.asarray(1 / (1 + np.exp(-logits)), dtype=np.float32).astype(np.float64)


def _of_studies(rng: np.random.Generator, n: int = 1000) -> LiveDetector:
    values, studies = _studies(rng, n).ravel(), np.repeat(np.arange(n), SLICES)
    return LiveDetector(Reference(values=values, studies=studies, link=Link.LOGIT), LAX)


def _fed_studies(live: LiveDetector, studies: Array) -> list[Score]:
    state, scores = live.fresh(), []
    for study in studies.tolist():
        state, score = live.update(state, study)
        scores.append(score)
    return scores


def test_slices_that_resemble_one_another_raise_no_alarm() -> None:
    for seed in range(4):
        rng = np.random.default_rng(seed)
        live = _of_studies(rng)
        assert max(score.statistic for score in _fed_studies(live, _studies(rng, 5000))) < LAX.threshold


def test_taken_one_by_one_they_would() -> None:
    """Which shows that the test above tests something."""
    rng = np.random.default_rng(0)
    live = LiveDetector(Reference(values=_studies(rng, 100).ravel(), link=Link.LOGIT), LAX)
    assert first_alarm(live, _studies(rng, 3000).ravel()) is not None


def test_any_value_of_a_study_is_ranked_alike(usual: LiveDetector) -> None:
    state = usual.fresh()
    for _ in range(1000):
        state, _ = usual.update(state, [0.1, math.nan, 0.6, 0.9])
    assert [list(state.recent).count(value) for value in (0.1, 0.6, 0.9)] == pytest.approx([333] * 3, abs=50)


def test_a_study_with_a_single_value_in_it_counts_as_one_that_has_it() -> None:
    """The bound of a share of slices is that of studies with any: a study may be all of them."""
    rng = np.random.default_rng(3)
    values = _studies(rng, 500)
    values[:50, 3] = 0.0
    reference = Reference(values=values.ravel(), studies=np.repeat(np.arange(500), SLICES), link=Link.LOGIT)
    assert 1 / module._sets(reference, Link.LOGIT).pays[0] == pytest.approx(share_upper(50, 500, module._ZERO_DELTA))


@pytest.mark.parametrize("name", ["zero", "half", "shift"])
def test_a_change_of_studies_is_found(name: str) -> None:
    rng = np.random.default_rng(9)
    live = _of_studies(rng)
    healthy = _studies(rng, 100)
    logits = np.log(healthy) - np.log1p(-healthy)
    changed = {
        "zero": np.zeros_like(healthy),
        "half": 0.5 + 0.02 * rng.standard_normal(healthy.shape),
        "shift": 1 / (1 + np.exp(-logits - 2.0)),
    }[name]
    scores = _fed_studies(live, np.concatenate([healthy, changed]))
    alarms = [i for i, score in enumerate(scores) if score.alarm is not None]
    assert alarms
    assert 100 <= alarms[0] < 150
    assert scores[-1].observations == 200


def test_a_studys_bets_are_bounded_by_what_slices_can_win_not_by_what_was_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def spy(values: Array, counts: Array, ends: tuple[Array, Array], deviations: Array, delta: float) -> Array:
        asked.append((values, ends))
        return mean_upper(values, counts, ends, deviations, delta)

    monkeypatch.setattr(module, "mean_upper", spy)
    live = _of_studies(np.random.default_rng(1), 400)
    ((values, (low, high)),) = asked
    assert (low <= values.min(axis=1)).all()
    assert (high > values.max(axis=1)).all()
    bets = [live._names.index(name.removeprefix("fixed-")) for name in live._names if name.startswith("fixed-")]
    assert np.array_equal(high, live._by_cell[:, bets].max(axis=0))


def test_a_studys_bets_on_values_win_nothing() -> None:
    live = _of_studies(np.random.default_rng(1), 400)
    rng = np.random.default_rng(2)
    cells = live._cells_of(_studies(rng, 20_000))
    means = live._by_value[cells].mean(axis=1)
    error = means.std(axis=0) / math.sqrt(len(means))
    assert (means.mean(axis=0) <= 1.0 + 3 * error).all()


FIXED = detector(SKEWED, size=500, seed=4)
STORED = FIXED.dump(_after(FIXED, _healthy(SKEWED, 100)))
