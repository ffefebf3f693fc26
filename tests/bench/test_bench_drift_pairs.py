"""Faults that really happen in a network, seen by pairs; and studies, whose slices are no observations."""

import numpy as np
import pytest

from bench.drift import pairs, studies
from bench.drift.classifier import learnt, photograph
from bench.drift.measure import RUN_IN, Quiet
from bench.drift.pairs import FAULTS, PAIRS, CountPairs, TakePairs, TakePairsCost
from bench.drift.studies import CountStudies, TakeStudiesCost
from watchdog.drift.links import LOGIT_LIMIT


def _seen(count: int) -> tuple[np.ndarray, np.ndarray]:
    rng, known = np.random.default_rng(1), learnt()
    which = rng.integers(len(known.images), size=count)
    return photograph(known.images[which], rng), known.labels[which]


def test_the_fast_engine_differs_a_little_and_really() -> None:
    fast, safe = pairs._engines()
    images, digits = _seen(2_000)
    off = fast(images, digits) - safe(images, digits)
    assert 1e-4 < np.std(off) < 0.01
    assert (off != 0).mean() > 0.99


@pytest.mark.parametrize("name", FAULTS)
def test_faults_move_answers(name: str) -> None:
    fast, _ = pairs._engines()
    images, digits = _seen(2_000)
    healthy = fast(images, digits)
    moved = 0
    for seed in range(8):
        faulty = FAULTS[name].strike(fast, np.random.default_rng(seed), digits)
        answers = faulty(images, digits)
        assert np.isfinite(answers).all()
        moved += bool(np.abs(answers - healthy).max() > 0.01)
        match name:
            case "zero":
                assert (answers == -LOGIT_LIMIT).all()
            case "stuck":
                assert (answers == healthy[0]).all()
            case "bias-0.3":
                assert answers == pytest.approx(healthy + 0.3)
            case "one-digit-darker":
                assert len(set(digits[np.abs(answers - healthy) > 1e-9])) == 1
            case _:
                pass
    assert moved == 8 or (name == "corrupted-weight" and moved > 2)


def test_a_corrupted_weight_is_one_and_by_a_power_of_two() -> None:
    fast, _ = pairs._engines()
    for seed in range(20):
        faulty = FAULTS["corrupted-weight"].strike(fast, np.random.default_rng(seed), np.arange(10))
        assert isinstance(faulty, pairs._Computed)
        ratios = [
            np.abs(now[now != before] / before[now != before])
            for now, before in zip(faulty.network.weights, fast.network.weights, strict=True)
        ]
        (ratio,) = np.concatenate(ratios)
        assert np.log2(ratio) == pytest.approx(round(np.log2(ratio)), abs=0.5)  # subnormal ones lose digits


def test_canaries_come_each_once_a_round_and_never_twice_alike() -> None:
    watch = PAIRS["watchdog canaries"].learn(np.random.default_rng(2))
    fast, _ = pairs._engines()
    seen = list(watch.observe(fast, np.random.default_rng(3), 70))
    order = [canary for canary, _ in seen]
    assert sorted(order[:32]) == sorted(order[32:64]) == sorted(map(str, range(32)))
    assert order[:32] != order[32:64]
    assert len({answer for _, answer in seen}) == 70


def test_pairs_find_what_the_unpaired_stream_hides_and_say_the_same_again() -> None:
    task = TakePairs(pairs="watchdog canaries", begin=0, end=2, seed=1)
    found, again = task(), task()
    assert found.run_in == Quiet(observations=2 * RUN_IN, alarms=0)
    for name in FAULTS:
        assert found.delays[name].found.tolist() == again.delays[name].found.tolist()
        assert len(found.delays[name].found) + found.delays[name].missed == 2
    for name in ("zero", "stuck", "temperature-2", "bias-1", "bias-0.3", "int8-clipping"):
        assert found.delays[name].found.max() <= 10
    both = pairs.together([found.delays, found.delays])
    assert (both["zero"].found.tolist(), both["zero"].missed) == (2 * found.delays["zero"].found.tolist(), 0)


@pytest.mark.parametrize("name", PAIRS)
def test_quiet_pairs_raise_no_alarm(name: str) -> None:
    assert CountPairs(pairs=name, observations=700, part=0, seed=1)() == Quiet(observations=700, alarms=0)
    cost = TakePairsCost(pairs=name, observations=60, seed=1)()
    assert cost.us_per_observation > 0
    assert cost.kib > 10


def test_slices_of_a_study_resemble_one_another_and_are_bimodal() -> None:
    x = studies.drawn(np.random.default_rng(1), 20_000)
    z = np.log(x) - np.log1p(-x)
    assert z.mean() == pytest.approx(-1.0, abs=0.05)
    assert (z > 0).mean() == pytest.approx(0.3, abs=0.01)
    assert 0.3 < np.corrcoef(z[:, 0], z[:, 1])[0, 1] < 0.55
    assert abs(np.corrcoef(z[:-1, 0], z[1:, 0])[0, 1]) < 0.03


def test_a_study_is_one_observation_however_many_slices_it_has() -> None:
    quiet = CountStudies(studies="watchdog, studies", observations=1_500, part=0, seed=1)()
    assert quiet == Quiet(observations=1_500, alarms=0)
    assert TakeStudiesCost(studies="watchdog, studies", observations=40, seed=1)().kib > 10


def test_slices_taken_one_by_one_break_the_promise() -> None:
    alarms = sum(
        CountStudies(studies="watchdog, slices one by one", observations=2_500, part=part, seed=1)().alarms
        for part in range(3)
    )
    assert alarms >= 1
