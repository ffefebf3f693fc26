"""What is computed for many streams at once says, step by step, what the ordinary call would."""

import numpy as np
import pytest
from scipy.stats import ks_2samp

from bench.drift import formulas
from bench.drift.formulas import MeanCusum, SlidingKs, SlidingPsi
from bench.drift.streams import BIMODAL, SKEWED, Array

Formula = SlidingKs | SlidingPsi | MeanCusum
FORMULAS: tuple[Formula, ...] = (
    SlidingKs(name="by p-value", window=50, p_value=0.01),
    SlidingKs(name="by distance", window=50, distance=0.23),
    SlidingPsi(name="index", window=50, limit=0.4),
    MeanCusum(name="sum", threshold=4.0, allowance=0.25),
)


def _data(*, ties: bool) -> tuple[Array, Array]:
    """Five references of 200, and streams of 500 that change half way."""
    rng = np.random.default_rng(7)
    references, before = SKEWED.healthy(rng, (5, 200)), SKEWED.healthy(rng, (5, 250))
    streams = np.concatenate([before, SKEWED.changed(SKEWED.changes["bias-1"], rng, (5, 250))], axis=1)
    return (np.round(references, 1), np.round(streams, 1)) if ties else (references, streams)


@pytest.mark.parametrize("formula", FORMULAS, ids=lambda formula: formula.name)
@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("block", [4096, 60])
def test_alarms_come_where_they_come_one_by_one(
    formula: Formula, ties: bool, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(formulas, "_BLOCK", block)
    rng = np.random.default_rng(0)
    references, streams = _data(ties=ties)
    found, counted = [], 0
    for reference, stream in zip(references, streams, strict=True):
        alarms = []
        update = formula._fresh(reference)
        for t, x in enumerate(stream.tolist()):
            if update(x):
                alarms.append(t)
                update = formula._fresh(reference)
        found.append(alarms[0] if alarms else -1)
        counted += len(alarms)
    assert formula.run(references, streams, rng).tolist() == found
    assert formula.count_alarms(references, streams, rng) == counted > 5


@pytest.mark.parametrize("ties", [False, True])
def test_the_distance_is_scipys_at_every_step(ties: bool) -> None:
    references, streams = _data(ties=ties)
    below, upto = formulas._ranks(np.sort(references, axis=1), streams)
    for i, end in ((i, end) for i in range(5) for end in range(40, 500, 9)):
        window = slice(end - 40, end)
        distance = formulas._distance(below[i, window], upto[i, window], 200) / (40 * 200)
        assert distance == pytest.approx(ks_2samp(streams[i, window], references[i]).statistic, abs=1e-12)


@pytest.mark.parametrize(("size", "window"), [(1000, 100), (10_000, 500)])
def test_the_least_distance_is_where_scipys_p_value_passes(size: int, window: int) -> None:
    steps = formulas._critical(size, window, 0.01) // window
    just, before = (ks_2samp(*formulas._pair(size, window, distance)) for distance in (steps, steps - 1))
    assert just.statistic == pytest.approx(steps / size)
    assert just.pvalue < 0.01 <= before.pvalue


def test_frouros_incremental_test_is_the_sliding_one() -> None:
    data_drift = pytest.importorskip("frouros.detectors.data_drift", reason="frouros is not for Python 3.13")
    rng = np.random.default_rng(3)
    reference = BIMODAL.healthy(rng, (1, 400))
    stream = BIMODAL.changed(BIMODAL.changes["temperature-2"], rng, (1, 300))
    theirs = data_drift.IncrementalKSTest(window_size=50)
    theirs.fit(X=reference[0])
    answers = [theirs.update(value=x)[0] for x in stream[0].tolist()]
    first = next(t for t, answer in enumerate(answers) if answer is not None and answer.p_value < 0.01)
    assert SlidingKs(name="", window=50, p_value=0.01).run(reference, stream, rng).tolist() == [first]


def test_the_index_is_the_sum_over_the_references_deciles() -> None:
    references, streams = _data(ties=False)
    edges, terms = formulas._bins(references, 100)
    index = formulas._psi(edges, terms, streams, 100)
    inner = np.quantile(references[2], np.linspace(0.1, 0.9, 9))
    bins = np.concatenate([[-np.inf], inner, [np.inf]])
    for step in (0, 17, 400):
        actual = np.maximum(np.histogram(-streams[2, step : step + 100], -bins[::-1])[0][::-1] / 100, 1e-4)
        assert index[2, step] == pytest.approx(((actual - 0.1) * np.log(actual / 0.1)).sum())
