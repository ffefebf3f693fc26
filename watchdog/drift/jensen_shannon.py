"""The Jensen–Shannon divergence: how much one value tells about which of two histograms it came from, in bits.

    JSD(p, q) = ½·KL(p ‖ m) + ½·KL(q ‖ m),   m = ½·(p + q),   logarithms to base 2

over the shares p and q of the bins. Lin, "Divergence Measures Based on the Shannon Entropy", IEEE Transactions on
Information Theory 37 (1991). Symmetric, and finite without a floor: 0 when the bins are filled alike, 1 when no bin is
shared. Its square root is the Jensen–Shannon *distance*, which SciPy's function of that name returns.

DESCRIPTIVE and NOT a decision rule: it knows no sample size. When nothing has changed, n against m observations still
give about (bins − 1)·(1/n + 1/m) / (8·ln 2) on average (an eighth of the PSI, in bits), so a fixed limit means another
false-alarm rate for every window and every choice of bins; and bins hide what moves within one of them.
"""

import math

import numpy as np

from watchdog.drift.histogram import Histogram, shares


def divergence(reference: Histogram, current: Histogram) -> float:
    """The divergence of two histograms over the same edges, in bits, in [0, 1].

    What lies below and above the edges counts as two more bins; NaN and infinities don't count.

    >>> low, high = (Histogram.of(np.array(v), (0, 0.5, 1)) for v in ([0.1, 0.2], [0.8, 0.9]))
    >>> divergence(low, low), divergence(low, high), round(divergence(low, low + high), 4)
    (0.0, 1.0, 0.3113)

    Raises:
        ValueError: other edges, or a histogram without finite values.
    """
    from scipy.special import rel_entr  # noqa: PLC0415 - heavy

    p, q = shares(reference, current)
    m = (p + q) / 2
    nats = float(np.sum(rel_entr(p, m) + rel_entr(q, m))) / 2
    return min(max(nats / math.log(2), 0.0), 1.0)  # rounding can lead just outside
