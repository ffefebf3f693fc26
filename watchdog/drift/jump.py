"""The latency detector: does a part of a request's time take longer than it did at the baseline?

What comes in is a probe's *residual*, log(seconds / the baseline's median for images of that shape),
and it is held against the residuals that the baseline's own probes had. Latencies have heavy tails,
so their size is never evidence, only how often they exceed a few thresholds: upper order statistics
of the reference, each moved up by a margin below which a slowdown is nobody's concern.

The null: given all earlier probes, a residual is stochastically no larger than the reference's
distribution moved up by the margin. Probes may depend on one another and drift, within that
envelope; the reference's own are independent and alike. Then a threshold above which j of the n of
the reference lie is exceeded with a probability of at most p, where 1 − F of that order statistic
is Beta(j + 1, n − j) distributed and p its upper quantile (`watchdog.drift.bounds.share_upper`);
these bounds hold together for 95 % of references. A bet that a share q > p exceeds the threshold wins
q / p when it is exceeded and (1 − q) / (1 − p) otherwise, which is 1 on average at most. Bets are
collected in a Shiryaev–Roberts mixture (see `watchdog.drift.live`).

Of n probes nobody can learn how rare it is to be slower than all of them, beyond about 3 / n. So that a
stall in every fifth probe is found at all, bets on `TAILS` times the highest threshold rest on an
assumption more: of probes beyond it, no more than 1 in c take c times as long again (as in Pareto's
law of index 1, whose mean is infinite already), or no more than `STALLS` of all, if that is more.

A lasting 3 times longer is found by the 8th probe if 36 of the baseline spread by 10 %, at a promise
of one false alarm in 3 × 10⁷; 10 times longer in every fifth probe after 60. Where the baseline itself
had outliers of that size it takes longer, or can't be told from what is usual.
"""

import hashlib
import math
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from watchdog.drift import state as states
from watchdog.drift.bounds import share_upper
from watchdog.model.score import Alarm, Promise, Score, Unusable
from watchdog.model.tensor import Array

LEAST = 9
"""Probes of a baseline: with fewer, even the slowest says too little about what is usual."""
MARGIN = math.log(1.5)
"""Longer by less than this, in logarithms, is nobody's concern."""
TAILS = (2.0, 4.0)
STALLS = 0.02
"""The share of an unchanged engine's probes that may take any time, however fast the baseline's were."""

_ABOVE = (1, 2, 4, 8, 16, 32, 64)
"""How many of the reference lie above a threshold, apart from the highest, which none is above."""
_MOST_ABOVE = 0.5
_HIGHEST_DELTA, _OTHERS_DELTA = 0.04, 0.01
_HIGHEST_WEIGHT, _OTHERS_WEIGHT, _TAIL_WEIGHT = 1.0, 0.3, 0.4
_SHARES = (0.2, 0.5, 0.8, 0.98)
_NEARLY_ALL = f"{_SHARES[-1]:.0%}-"
"""How the names of bets begin that are about nearly all probes."""
_WORTHWHILE = 1.5
"""A share is bet on if it is more often than usual by this factor."""
_REMEMBERED = 1024
"""Probes; longer than any evidence lasts."""
_ENOUGH = 1e3
"""Evidence beyond so many thresholds adds nothing, and would keep an alarm up long after the jump."""
_FARTHEST = 700.0
"""Of residuals; e to a higher power is no float."""


@dataclass(kw_only=True, slots=True)
class JumpState:
    """What a detector has gathered. `JumpDetector.update` uses it up and hands it on."""

    wealth: Array
    """[bets]"""
    recent: deque[float]
    """The newest usable residuals, which tell when the jump was, and by how much."""
    probes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class _Bet:
    threshold: float
    """A residual."""
    usual: float
    """An upper bound of how often it is exceeded while nothing changed."""
    share: float
    """How often it is exceeded now."""
    weight: float


class JumpDetector:
    """One part's detector, such as of device time. Immutable; what it gathers is in a `JumpState`.

    Args:
        reference: [n] residuals of the baseline's own probes.
        promise: how rarely it may be wrong.
        margin: how much longer, in logarithms, is no jump yet.

    Raises:
        ValueError: the reference has fewer than `LEAST` residuals or one that is no number, or the
            margin is negative.
    """

    def __init__(self, reference: Sequence[float] | Array, promise: Promise, margin: float = MARGIN) -> None:
        residuals = np.sort(np.asarray(reference, dtype=np.float64).ravel())
        if residuals.size < LEAST:
            raise ValueError(f"the baseline has {residuals.size} latencies; {LEAST} or more are needed")
        if not np.isfinite(residuals).all():
            raise ValueError("the baseline's latencies must all be finite and above 0")
        if not 0 <= margin < math.inf:
            raise ValueError(f"a margin of {margin:g} is none; it is the logarithm of a factor of 1 or more")
        self.promise = promise
        self.margin = margin
        self._threshold = promise.threshold
        self._fingerprint = hashlib.sha256(residuals.tobytes()).hexdigest()[:16]
        self._bets = tuple(_bets(residuals, margin))
        weights = np.array([bet.weight for bet in self._bets])
        self._weights = weights / weights.sum()
        self._thresholds = np.array([bet.threshold for bet in self._bets])
        self._exceeded = np.array([bet.share / bet.usual for bet in self._bets])
        self._missed = np.array([(1 - bet.share) / (1 - bet.usual) for bet in self._bets])

    def fresh(self) -> JumpState:
        """The state of a detector that has seen nothing."""
        return JumpState(
            wealth=np.zeros(len(self._bets)),
            recent=deque(maxlen=_REMEMBERED),
            probes=0,
        )

    def update(self, state: JumpState, residual: float) -> tuple[JumpState, Score]:
        """The state after one more probe, and the score. `state` is used up.

        Args:
            state: from `fresh`, `load` or the last update.
            residual: from `residual`.
        """
        if not math.isfinite(residual):
            return state, self._score(state, Unusable.OUT_OF_RANGE if residual == -math.inf else Unusable.NON_FINITE)
        state.probes += 1
        state.wealth += self._weights
        state.wealth *= np.where(residual > self._thresholds, self._exceeded, self._missed)
        np.minimum(state.wealth, _ENOUGH * self._threshold, out=state.wealth)
        state.recent.append(residual)
        return state, self._score(state, None)

    def dump(self, state: JumpState) -> bytes:
        """`state` as bytes for `load`, bound to this detector's reference, promise and margin."""
        values = {"wealth": state.wealth, "recent": state.recent, "probes": state.probes}
        return states.pack(self._identity(), values)

    def load(self, data: bytes) -> JumpState:
        """The inverse of `dump`.

        Raises:
            ValueError: the bytes are no state, or one of another detector.
        """
        found, fresh = states.unpack(self._identity(), data), self.fresh()
        probes = int(states.number(found, "probes"))
        fresh.recent.extend(states.shaped(found, "recent", np.zeros(min(probes, _REMEMBERED))).tolist())
        return JumpState(
            wealth=states.shaped(found, "wealth", fresh.wealth),
            recent=fresh.recent,
            probes=probes,
        )

    def _score(self, state: JumpState, unusable: Unusable | None) -> Score:
        statistic = float(state.wealth.sum())
        return Score(
            statistic=statistic,
            threshold=self._threshold,
            promise=self.promise,
            observations=state.probes,
            unusable=unusable,
            alarm=self._alarm(state) if statistic >= self._threshold and unusable is None else None,
        )

    def _alarm(self, state: JumpState) -> Alarm:
        winner = int(np.argmax(state.wealth))
        bet, residuals = self._bets[winner], np.array(state.recent)
        ago = self._began(winner, residuals > bet.threshold)
        return Alarm(
            observations_ago=ago,
            bet=f"{bet.share:.0%}-beyond-{_times(_factor(bet.threshold))}",
            sentence=_told(residuals[-ago:], bet.threshold),
        )

    def _began(self, bet: int, slow: Array) -> int:
        """How many probes ago the jump was, most likely: from which slow one on the bet wins most."""
        gains = np.cumsum(np.log(np.where(slow, self._exceeded[bet], self._missed[bet]))[::-1])
        return int(np.argmax(np.where(slow[::-1], gains, -math.inf))) + 1

    def _identity(self) -> str:
        return f"jump-1 {self._fingerprint} {self.margin!r} {self.promise.run_length!r}"


def occasional(score: Score) -> bool:
    """Whether an alarm is about some of the probes only, which a burst of a few need not show."""
    return score.alarm is not None and not score.alarm.bet.startswith(_NEARLY_ALL)


def _bets(residuals: Array, margin: float) -> Iterator[_Bet]:
    """All bets against a sorted reference; each is that more exceed a threshold than can be usual."""
    n = residuals.size
    highest = float(residuals[-1]) + margin
    rarest = share_upper(0, n, _HIGHEST_DELTA)
    others = [above for above in _ABOVE if above <= _MOST_ABOVE * n]
    thresholds = [
        (highest, rarest, _HIGHEST_WEIGHT),
        *(
            (float(residuals[-1 - above]) + margin, share_upper(above, n, _OTHERS_DELTA / len(others)), _OTHERS_WEIGHT)
            for above in others
        ),
        *((highest + math.log(c), min(rarest, max(rarest / c, STALLS)), _TAIL_WEIGHT) for c in TAILS),
    ]
    for threshold, usual, weight in thresholds:
        for share in _SHARES:
            if share > _WORTHWHILE * usual:
                yield _Bet(threshold=threshold, usual=usual, share=share, weight=weight)


def _told(residuals: Array, threshold: float) -> str:
    """What probes since the jump look like: all of them, or those that are slow if most are not."""
    slow = residuals[residuals > threshold]
    if 2 * len(slow) >= len(residuals):
        return f"takes about {_times(_factor(float(np.median(residuals))))} times as long"
    share = len(slow) / len(residuals)
    return f"{share:.0%} of probes take about {_times(_factor(float(np.median(slow))))} times as long"


def _factor(residual: float) -> float:
    return math.exp(min(residual, _FARTHEST))


def _times(factor: float) -> str:
    """Two digits, or all before the point."""
    return f"{factor:.2g}" if factor < 99.5 or factor >= 1e6 else f"{factor:.0f}"
