"""Upper confidence bounds of what a reference sample can't tell exactly."""

from functools import lru_cache

import numpy as np

from watchdog.model.tensor import Array

_STAKES = np.array([0.35, 0.5, 0.7, 0.85, 1.0, 1.2, 1.5, 2.0])
_HALVINGS = 40


def mean_upper(values: Array, counts: Array, ends: tuple[Array, Array], deviations: Array, delta: float) -> Array:
    """What the means of K bounded variables stay below, each with probability ≥ 1 − `delta`.

    Betting against "the mean is μ or more" with stakes that were fixed beforehand makes the fortune
    Π(1 + λ(μ − X)) an e-value of that hypothesis; μ is refuted once a mixture of fortunes reaches
    1/δ. As tight as Bernstein's bound where that is tight, and valid for skewed variables too.
    Waudby-Smith and Ramdas, "Estimating means of bounded random variables by betting" (2023).

    Args:
        values: [K, M] what was seen of each variable.
        counts: [M] how often each column was seen.
        ends: [K] the least and [K] the greatest value that each variable can have, seen or not.
        deviations: [K] standard deviations expected beforehand; they only set the stakes.
        delta: probability of error for each variable.
    """
    n = float(counts.sum())
    stakes = np.sqrt(2 * np.log(1 / delta) / n) / np.maximum(deviations, 1e-6)[:, None] * _STAKES
    # no fortune may become negative; were the cap to depend on μ, μ's could be refuted in any order
    stakes = np.minimum(stakes, 0.95 / np.maximum(ends[1] - ends[0], 1e-9)[:, None])
    low, high = (values @ counts) / n, ends[1].copy()
    for _ in range(_HALVINGS):
        mean = (low + high) / 2
        refuted = _log_fortune(values, counts, stakes, mean) >= np.log(1 / delta)
        low, high = np.where(refuted, low, mean), np.where(refuted, mean, high)
    return np.asarray(high)


def _log_fortune(values: Array, counts: Array, stakes: Array, mean: Array) -> Array:
    logs = np.stack(
        [np.log1p(stakes[:, i, None] * (mean[:, None] - values)) @ counts for i in range(stakes.shape[1])], axis=1
    )
    best = logs.max(axis=1)
    return np.asarray(best + np.log(np.mean(np.exp(logs - best[:, None]), axis=1)))


def share_upper(seen: int, n: int, delta: float) -> float:
    """What a share stays below with probability ≥ 1 − `delta`, when `seen` of `n` had it.

    Clopper and Pearson, "The use of confidence or fiducial limits" (1934), one-sided.
    """
    from scipy.special import betaincinv  # noqa: PLC0415 - needed once a reference

    return 1.0 if seen >= n else float(betaincinv(seen + 1, n - seen, 1 - delta))


@lru_cache(maxsize=64)
def coincidence_upper(most: int, n: int, runs: tuple[int, ...], delta: float) -> tuple[float, ...]:
    """What P(r independent values are all equal) = Σ p^r stays below, for each r in `runs`.

    `most` is how often the commonest value was seen in `n`. Counts of different values are
    negatively associated, so P(no value more often than `most`) ≤ Π P(Bin(n, p) ≤ most), and with
    probability ≥ 1 − δ the "costs" −log P(Bin(n, p) ≤ most) of all values add up to log(1/δ) at
    most. Under that budget, and Σ p = 1, the largest possible Σ p^r is a linear programme in the
    measure of p's, bounded here by its dual. Joag-Dev and Proschan, "Negative association of random
    variables" (1983).
    """
    from scipy.special import bdtr  # noqa: PLC0415 - needed once a reference

    budget = np.log(1 / delta)
    shares = np.geomspace(1e-5 / n, 1.0, 5001)
    cost = -np.log(np.maximum(bdtr(most, n, shares[:-1]), 1e-300))
    affordable = cost <= budget
    low, high, cost = shares[:-1][affordable], shares[1:][affordable], cost[affordable]
    found = []
    for r in runs:
        prices = high[-1] ** r * np.geomspace(1e-12, 1e3, 600)[:, None]
        # of each p between two grid points: p^r by the upper one, its cost and Σ p by the lower one
        dual = prices[:, 0] * budget + ((high**r - prices * cost) / low).max(axis=1, initial=low[0] ** (r - 1))
        found.append(min(1.0, float(dual.min())))
    return tuple(found)
