"""The twin counts what no detector could in the time; it is worth as much as it equals the detector."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pytest

from bench.drift import measure, ours
from bench.drift.contestants import ARL, terms
from bench.drift.measure import RUN_IN
from bench.drift.ours import Ours, Twin, one_by_one
from bench.drift.streams import BIMODAL, SKEWED, Array, Stream
from watchdog.drift import live
from watchdog.drift.links import Link
from watchdog.drift.live import LiveDetector
from watchdog.drift.reference import Reference
from watchdog.model.score import Promise

CLOSE = 1e-12
THRESHOLD = 1e5
SEEDS = np.array([3, 2**31 - 1, 0])


def _detectors(stream: Stream, size: int) -> list[LiveDetector]:
    references = stream.healthy(np.random.default_rng(size), (len(SEEDS), size))
    return [
        LiveDetector(Reference(values=values, link=Link.LOGIT), Promise(run_length=THRESHOLD), seed=int(seed))
        for values, seed in zip(references, SEEDS, strict=True)
    ]


def _ties(stream: Stream, rng: np.random.Generator) -> Array:
    """Some values again, some several times in a row, some on lattices, some at the very ends."""
    x = stream.healthy(rng, (len(SEEDS), 200))
    x[:, 20:60] = x[:, 60:100]
    x[:, 100:104], x[:, 120:122] = x[:, 104:105], x[:, 122:123]
    x[:, 140:180:5] = np.round(x[:, 140:180:5] * 255) / 255
    x[:, 185:200:3] = np.array([0.0, 1.0, 0.5, 0.25, 1e-9])
    return x


def _changed(name: str) -> Callable[[Stream, np.random.Generator], Array]:
    return lambda stream, rng: stream.changed(stream.changes[name], rng, (len(SEEDS), 250))


CHANGES: dict[str, Callable[[Stream, np.random.Generator], Array]] = {
    "ties": _ties,
    **{name: _changed(name) for name in ("all-zero", "stuck", "near-half", "bias-1", "16-levels", "tenth-collapsed")},
}


def _both(twin: Twin, detectors: Sequence[LiveDetector], chunks: Sequence[Array]) -> Iterator[tuple[Array, Array]]:
    """Statistics by the twin and by the detectors, which are restarted at their alarms."""
    states = [detector.fresh() for detector in detectors]
    for chunk in chunks:
        for t, statistics in enumerate(twin.follow(chunk)):
            found = np.empty(len(detectors))
            for i, detector in enumerate(detectors):
                states[i], score = detector.update(states[i], (float(chunk[i, t]),))
                found[i] = score.statistic
                if score.alarm is not None:
                    states[i] = detector.restarted(states[i])
            yield statistics, found
            if (statistics >= THRESHOLD).any():
                twin.restart(statistics >= THRESHOLD)


@pytest.mark.parametrize("stream", [BIMODAL, SKEWED], ids=lambda stream: stream.name)
@pytest.mark.parametrize("size", [1_000, 3_000])
def test_the_twin_is_the_detector_at_every_step(stream: Stream, size: int) -> None:
    detectors = _detectors(stream, size)
    for name, change in CHANGES.items():
        rng = np.random.default_rng(len(name))
        whole = np.concatenate([stream.healthy(rng, (len(SEEDS), 301)), change(stream, rng)], axis=1)
        chunks = np.split(whole, [7, 250, 333], axis=1)  # blocks of 16 begin anywhere in a chunk
        pairs = list(_both(Twin(detectors, SEEDS), detectors, chunks))
        ours_, theirs = (np.array(each) for each in zip(*pairs, strict=True))
        assert ours_ == pytest.approx(theirs, rel=CLOSE, abs=0), name
        restarts = int((theirs >= THRESHOLD).sum())
        assert restarts >= (0 if name in {"ties", "tenth-collapsed"} else len(SEEDS)), name


def test_evidence_that_nobody_puts_aside_stays_finite_and_the_same() -> None:
    detectors = _detectors(BIMODAL, 1_000)
    twin, states = Twin(detectors, SEEDS), [detector.fresh() for detector in detectors]
    zeros = np.zeros((len(SEEDS), 200))
    for t, statistics in enumerate(twin.follow(zeros)):
        for i, detector in enumerate(detectors):
            states[i], score = detector.update(states[i], (float(zeros[i, t]),))
            assert statistics[i] == pytest.approx(score.statistic, rel=CLOSE, abs=0)
    assert 1e150 < statistics.min() < 1e160


def _other_seed(twin: Twin) -> None:
    twin._seeds = twin._seeds + np.uint64(1)


def _one_more_in_a_pool(twin: Twin) -> None:
    twin._pool._below[1, 200:] += 1


def _other_wave(twin: Twin) -> None:
    twin._waves._shapes = twin._waves._shapes * (1 + 1e-9)


def _dearer_zero(twin: Twin) -> None:
    twin._sets._pays = twin._sets._pays * 1.01


def _shorter_run(twin: Twin) -> None:
    twin._runs._pays = twin._runs._pays * 1.01


@pytest.mark.parametrize("differ", [_other_seed, _one_more_in_a_pool, _other_wave, _dearer_zero, _shorter_run])
def test_a_difference_would_be_noticed(differ: Callable[[Twin], None]) -> None:
    detectors = _detectors(BIMODAL, 1_000)
    rng = np.random.default_rng(2)
    healthy, zeros = BIMODAL.healthy(rng, (len(SEEDS), 100)), np.zeros((len(SEEDS), 4))
    whole = np.concatenate([healthy, _ties(BIMODAL, rng), zeros], axis=1)
    twin = Twin(detectors, SEEDS)
    differ(twin)
    pairs = list(_both(twin, detectors, [whole]))
    assert any(statistics != pytest.approx(found, rel=CLOSE, abs=0) for statistics, found in pairs)


@pytest.mark.parametrize("stream", [BIMODAL, SKEWED], ids=lambda stream: stream.name)
def test_places_are_those_of_logits_to_the_last_tie(stream: Stream) -> None:
    rng = np.random.default_rng(4)
    x = np.concatenate([stream.healthy(rng, (3_000,)), [0.0, 0.5, 1.0]])
    edges = np.sort(Link.LOGIT.of_all(x[::10]))  # every edge ties with a value
    assert np.array_equal(ours._Places(edges.tolist()).of(x)[0], np.searchsorted(edges, Link.LOGIT.of_all(x), "right"))
    distances = np.unique(np.abs(edges[edges != 0]))
    expected = np.searchsorted(distances, np.abs(Link.LOGIT.of_all(x)), "right")
    assert np.array_equal(ours._Close(distances).of(x), expected)


def test_alarms_are_counted_alike_in_chunks_in_batches_and_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ours, "_ABREAST", 2)
    monkeypatch.setattr(measure, "_CHUNK", 90)
    rng = np.random.default_rng(6)
    references = BIMODAL.healthy(rng, (5, 1_000))
    streams = np.concatenate(
        [BIMODAL.healthy(rng, (5, 50)), BIMODAL.changed(BIMODAL.changes["bias-1"], rng, (5, 350))], axis=1
    )
    subject = Ours(name="ours", arl_promised=THRESHOLD)
    first = subject.run(references, streams, np.random.default_rng(0))
    assert ((first >= 50) & (first < 150)).all()
    counted = subject.count_alarms(references, streams, np.random.default_rng(0))
    assert counted >= 2 * 5
    in_chunks = subject.count_over(references, np.split(streams, [30, 31, 200], axis=1), np.random.default_rng(0))
    assert in_chunks == counted
    seeds = np.random.default_rng(0).integers(2**31, size=5)
    for reference, stream, seed, at in zip(references, streams, seeds, first, strict=True):
        learnt = Reference(values=reference, link=Link.LOGIT)
        update = one_by_one(LiveDetector(learnt, Promise(run_length=THRESHOLD), seed=int(seed)))
        assert next(t for t, x in enumerate(stream.tolist()) if update(x)) == at
    quiet = measure.quiet(subject, BIMODAL, 1_000, streams=3, length=200, seed=1, part=0)
    assert (quiet.observations, quiet.alarms) == (600, 0)


def test_a_reference_is_learnt_once_and_few_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ours, "_KEPT", 2)
    monkeypatch.setattr(ours, "_detectors", type(ours._detectors)())
    references = BIMODAL.healthy(np.random.default_rng(7), (3, 500))
    first, second = ours._detector(references[0]), ours._detector(references[1])
    assert ours._detector(references[0].copy()) is first
    ours._detector(references[2])
    assert ours._detector(references[0]) is first
    assert ours._detector(references[1]) is not second


def test_what_a_detector_holds_includes_its_reference() -> None:
    rng = np.random.default_rng(8)
    cost = Ours(name="ours", arl_promised=ARL).cost(BIMODAL.healthy(rng, (1_000,)), BIMODAL.healthy(rng, (400,)))
    assert 100 < cost.kib < 1_000
    assert cost.us_per_observation > 1


def test_a_settled_detector_has_a_longer_run_in_and_the_small_reference_only() -> None:
    assert (terms("watchdog, settled").run_in, terms("watchdog, settled").sizes) == (10_000, (1_000,))
    assert terms("watchdog").run_in == RUN_IN
    assert live._WAVE_BLOCK == 16
