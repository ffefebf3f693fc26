"""The live detector: has a stream of confidences changed from what it was?

Three parts look at each observation, each a Shiryaev–Roberts mixture of e-values over the same kinds
of hypotheses; the detector alarms when one of them reaches the promise's threshold.

- **Ranks.** Where the value stands among the reference *and* the stream so far. While observations
  are exchangeable these ranks are independent and uniform, whatever the distribution and however
  small the reference is (Vovk, Gammerman and Shafer, "Algorithmic Learning in a Random World",
  2005), so bets on them are exact. It forgets: what stays becomes usual, in time.
- **Closeness.** The same for the rank of how near to 0.5 a confidence is, where engines collapse to.
- **Fixed reference.** The same bets against the reference alone, each divided by an upper bound of
  what it wins while nothing changes; and bets on single values (exactly 0, a coarse lattice, one
  value again and again). It never forgets, so slow drift can't hide. Its bounds hold together for
  95 % of references.

R_t = Σ_k R_t^k with R_t^k = (w_k + R_{t−1}^k) e_t^k grows by Σ w_k an observation, on average and at
most, while nothing changed; so an alarm within m observations has a probability of m / threshold at
most. Shin, Ramdas and Rinaldo, "E-detectors: a nonparametric framework for sequential change
detection" (2022).

An observation is a study: values of one study resemble one another, and taken as independent they
would break the promise of any detector. Ranks take one of its values, drawn at random; the fixed
part the mean of the e-values of all of them.
"""

import math
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from watchdog.drift import hypotheses
from watchdog.drift import state as states
from watchdog.drift.bounds import coincidence_upper, mean_upper, share_upper
from watchdog.drift.hypotheses import CELLS, CLOSE_CELLS, WAVES, Bet
from watchdog.drift.links import Link
from watchdog.drift.reference import Reference, required
from watchdog.drift.smooth import Smooth
from watchdog.model.score import Alarm, Promise, Score, Unusable
from watchdog.model.tensor import Array

__all__ = ["LiveDetector", "LiveState", "Reference", "required"]

_WAVE_MEMORIES, _WAVE_WEIGHT, _WAVE_BLOCK = (30, 100, 300, 1000), 0.06, 16
_CROWD_MEMORIES, _CROWD_WEIGHT, _CROWDS, _CROWD_KEEPS = (8, 32, 128), 0.04, 32, 0.25
_FIXED_WEIGHT, _FIXED_DELTA = 0.06, 0.01
_FIXED = ("scale", "shift", "part-0", "noise")
"""Hypotheses that are also held against the fixed reference: those that drift can creep towards."""
_LEVELS = (15, 16, 31, 32, 63, 64, 127, 128, 255, 256)
_FINEST = (256.0, 255.0, 127.0, 63.0, 31.0)
"""Whatever lies on one of those lattices lies on one of these: the quick look."""
_ZERO_WEIGHT, _ONE_WEIGHT, _LEVELS_WEIGHT, _SOME_WEIGHT = 0.015, 0.005, 0.02, 0.01
_ZERO_DELTA, _ONE_DELTA, _LEVELS_DELTA = 0.01, 0.002, 0.008
_RUNS, _RUN_SHARES = (2, 3, 4, 6), np.array([0.05, 0.70, 0.20, 0.05])
_RUN_WEIGHT, _RUN_DELTA = 0.03, 0.02
_POOL_BINS, _CLOSE_BINS = 320, 128
_ENOUGH = 1e150
"""Evidence beyond this adds nothing; it must not overflow while nobody restarts the detector."""
_REMEMBERED = 4096
"""The newest values are kept, to tell where a change began."""
_MASK = (1 << 64) - 1


@dataclass(kw_only=True, slots=True)
class LiveState:
    """All that a detector has learnt from its stream. `LiveDetector.update` uses it up and hands it on."""

    wealth: Array
    """[K] R^k of every bet, part after part."""
    pool: Array
    """[B + 1] how many of the pool lie below each bin."""
    close_pool: Array
    pooled: float
    """How many are in the pool."""
    drawn: int
    """Random numbers drawn so far."""
    block: list[int]
    """Cells of the newest observations, which the smooth bets will learn from."""
    wave_means: Array
    """[memories, waves]"""
    wave_bets: Array
    """[cells, memories]: the smooth bets in force."""
    crowds: Array
    """[places, memories]: what a value there wins, by how often values fell there lately."""
    run: int
    """How many times in a row the newest value came."""
    recent: deque[float]
    observations: int


@dataclass(frozen=True, kw_only=True, slots=True)
class _Sets:
    """Bets on single values: e = 1 / (an upper bound of their share), or 0."""

    names: tuple[str, ...]
    sentences: tuple[str, ...]
    weights: tuple[float, ...]
    pays: Array
    """[sets]"""
    levels: tuple[int, ...]


class LiveDetector:
    """One reading's detector. Immutable; what it learns is in a `LiveState`.

    Args:
        reference: the healthy stream.
        promise: how rarely it may be wrong.
        seed: of the random numbers that break ties between ranks.

    Raises:
        ValueError: the reference is too small for the promise.
    """

    def __init__(self, reference: Reference, promise: Promise, seed: int = 0) -> None:
        if reference.size < (wanted := required(promise)):
            raise ValueError(
                f"the reference has {reference.size} observations; this promise ({promise}) needs {wanted} or more"
            )
        self.reference = reference
        self.promise = promise
        self.smallest_divergence = math.log(promise.threshold) / (reference.size - reference.design_size)
        """Of changes that can be seen before the pool grows, in nats; smaller ones need a longer quiet stream."""
        self._seed = _mixed(seed)  # or the next seed's numbers were this one's, one later
        self._link, self._of = reference.link, reference.link.of
        self._low, self._high = reference.link.bounds
        self._threshold = promise.threshold
        ones = reference.link.of_all(reference.representatives(np.random.default_rng(seed)))
        design, held = ones[: reference.design_size], ones[reference.design_size :]
        self._smooth = Smooth.of(design, reference.link)
        self._build(design, held)

    def fresh(self) -> LiveState:
        """The state of a detector that has seen nothing."""
        return LiveState(
            wealth=np.zeros(len(self._weights)),
            pool=self._pool.copy(),
            close_pool=self._close_pool.copy(),
            pooled=float(self._pool[-1]),
            drawn=0,
            block=[],
            wave_means=np.zeros((len(_WAVE_MEMORIES), WAVES)),
            wave_bets=np.ones((len(CELLS) - 1, len(_WAVE_MEMORIES))),
            crowds=np.ones((_CROWDS, len(_CROWD_MEMORIES))),
            run=0,
            recent=deque(maxlen=_REMEMBERED),
            observations=0,
        )

    def restarted(self, state: LiveState) -> LiveState:
        """The evidence so far is put aside, such as after an alarm; the pool and the memories stay."""
        state.wealth, state.run, state.observations = np.zeros(len(self._weights)), 0, 0
        state.recent.clear()
        return state

    def update(self, state: LiveState, study: Sequence[float]) -> tuple[LiveState, Score]:
        """The state after one more observation, and the score. `state` is used up.

        Args:
            state: from `fresh`, `load` or the last update.
            study: the observation's values, one for each slice; usually one.
        """
        if len(study) == 1:
            value = study[0]
            usable: Sequence[float] = study
            unusable = self._unusable(value)
        else:
            usable = [each for each in study if self._unusable(each) is None]
            unusable = None if usable else self._unusable(study[0]) if study else Unusable.EMPTY
        if unusable is not None:
            return state, self._score(state, unusable)
        if len(study) > 1:
            value = usable[int(self._uniforms(state)[0] * len(usable))]
        self._take(state, value, usable)
        score = self._score(state, None)
        if score.statistic > _ENOUGH:
            np.minimum(state.wealth, _ENOUGH, out=state.wealth)
        return state, score

    def dump(self, state: LiveState) -> bytes:
        """`state` as bytes for `load`, bound to this detector's reference and promise."""
        return states.pack(self._identity(), {f.name: getattr(state, f.name) for f in fields(state)})

    def load(self, data: bytes) -> LiveState:
        """The inverse of `dump`.

        Raises:
            ValueError: the bytes are no state, or one of a detector with another reference or promise.
        """
        found, fresh = states.unpack(self._identity(), data), self.fresh()
        return LiveState(**{f.name: _like(getattr(fresh, f.name), found, f.name) for f in fields(fresh)})

    # -- what is made once ---------------------------------------------------------------

    def _build(self, design: Array, held: Array) -> None:
        bets = hypotheses.named(self._smooth, self._link)
        close = hypotheses.closeness(self._smooth) if self._link is Link.LOGIT else ()
        kept = [bet for bet in bets if bet.name.startswith(_FIXED)]
        self._cells, self._close_cells = CELLS[1:-1].tolist(), CLOSE_CELLS[1:-1].tolist()
        self._edges = np.unique(np.quantile(design, np.linspace(0, 1, _POOL_BINS)[1:-1])).tolist()
        self._close_edges = np.geomspace(2e-3, 14.0, _CLOSE_BINS - 1).tolist()
        self._pool = _pool(held, self._edges)
        self._close_pool = _pool(np.abs(held), self._close_edges)
        self._value_cells = self._smooth.quantile(CELLS)[1:-1].tolist()
        self._waves = hypotheses.waves()
        self._by_cell = np.stack([bet.density for bet in bets], axis=1)
        self._by_closeness = np.stack([bet.density for bet in close], axis=1) if close else np.zeros((1, 0))
        self._by_value = self._against_reference(kept)
        self._sets = _sets(self.reference, self._link)
        self._nothing = np.zeros(len(self._sets.pays))
        self._nothing[-1] = 0.9  # this one only ever loses its stake
        self._run_pays = 1 / np.array(
            coincidence_upper(_most_common(self.reference), self.reference.size, _RUNS, _RUN_DELTA)
        )
        self._lay_out(bets, close, kept)

    def _against_reference(self, kept: Sequence[Bet]) -> Array:
        """[J, bets]: densities over the cells of values, each divided by a bound of its mean."""
        densities = np.stack([bet.density for bet in kept])
        widths = np.diff(CELLS)
        deviations = np.sqrt(np.maximum(densities**2 @ widths - 1, 0.0))
        values, counts = self._held(densities)
        ends = densities.min(axis=1), densities.max(axis=1)
        bounds = mean_upper(values, counts, ends, deviations, _FIXED_DELTA / len(kept))
        return np.asarray((densities / np.maximum(bounds, 1e-12)[:, None]).T)

    def _held(self, densities: Array) -> tuple[Array, Array]:
        """What each bet would have won at each observation that did not design it, and how often."""
        reference, first = self.reference, self.reference.design_size
        if reference.singles:
            cells = self._cells_of(reference.values[first:])
            return densities, np.bincount(cells, minlength=len(CELLS) - 1).astype(np.float64)
        means = [densities[:, self._cells_of(reference.study(i))].mean(axis=1) for i in range(first, reference.size)]
        return np.stack(means, axis=1), np.ones(len(means))

    def _cells_of(self, values: Array) -> Array:
        return np.searchsorted(self._value_cells, self._link.of_all(values), side="right")

    def _lay_out(self, bets: Sequence[Bet], close: Sequence[Bet], kept: Sequence[Bet]) -> None:
        """Names, sentences and weights of all bets, part after part; weights sum to 1."""
        total = sum(bet.weight for bet in kept)
        moved = "the distribution moved, in no way that has a name"
        crowded = "values crowd where few were before"
        rows = [
            *((bet.name, bet.sentence, bet.weight) for bet in bets),
            *((f"waves-{m}", moved, _WAVE_WEIGHT / len(_WAVE_MEMORIES)) for m in _WAVE_MEMORIES),
            *((f"crowd-{m}", crowded, _CROWD_WEIGHT / len(_CROWD_MEMORIES)) for m in _CROWD_MEMORIES),
            *((bet.name, bet.sentence, bet.weight) for bet in close),
            *((f"fixed-{bet.name}", bet.sentence, bet.weight / total * _FIXED_WEIGHT) for bet in kept),
            *zip(self._sets.names, self._sets.sentences, self._sets.weights, strict=True),
        ]
        weights = np.array([weight for _, _, weight in rows])
        scale = weights.sum() + _RUN_WEIGHT
        self._names = [name for name, _, _ in rows]
        self._sentences = [sentence for _, sentence, _ in rows]
        self._weights = weights / scale
        self._run_weight = _RUN_WEIGHT / scale
        ranks = len(bets) + len(_WAVE_MEMORIES) + len(_CROWD_MEMORIES)
        self._parts = np.array([0, ranks, ranks + len(close)] if close else [0, ranks])
        self._static, self._ranked, self._closed = len(bets), ranks, ranks + len(close)

    # -- what is done at each observation --------------------------------------------------

    def _unusable(self, value: float) -> Unusable | None:
        if self._low <= value <= self._high:
            return None
        return Unusable.OUT_OF_RANGE if math.isfinite(value) else Unusable.NON_FINITE

    def _uniforms(self, state: LiveState) -> tuple[float, float]:
        """Two numbers in [0, 1), by the splitmix64 generator: the state needs to remember a count only."""
        state.drawn += 1
        bits = _mixed((self._seed + state.drawn) * 0x9E3779B97F4A7C15)
        return (bits >> 32) * 2.0**-32, (bits & 0xFFFFFFFF) * 2.0**-32

    def _take(self, state: LiveState, value: float, study: Sequence[float]) -> None:
        """Add an observation: a study, of which `value` is the one that is ranked."""
        z = self._of(value)
        first, second = self._uniforms(state)
        rank = _rank(state.pool, bisect_right(self._edges, z), first, state.pooled)
        cell = bisect_right(self._cells, rank)
        crowd = state.crowds[int(rank * _CROWDS)]
        rows = [self._by_cell[cell], state.wave_bets[cell], crowd]
        state.block.append(cell)
        if len(state.block) == _WAVE_BLOCK:
            self._learn_waves(state)
        if self._closed > self._ranked:
            near = _rank(state.close_pool, bisect_right(self._close_edges, abs(z)), second, state.pooled)
            rows.append(self._by_closeness[bisect_right(self._close_cells, near)])
        if len(study) == 1:
            rows += [self._by_value[bisect_right(self._value_cells, z)], self._sets_won(value)]
        else:
            cells = [bisect_right(self._value_cells, self._of(each)) for each in study]
            rows += [self._by_value[cells].mean(axis=0), np.mean([self._sets_won(each) for each in study], axis=0)]
        state.pooled += 1.0
        state.wealth += self._weights
        state.wealth *= np.concatenate(rows)
        state.crowds *= _CROWD_DECAYS  # after they have been asked: bets know the past alone
        state.crowds += _CROWD_RETURNS
        crowd += _CROWD_GAINS
        state.run = state.run + 1 if state.recent and state.recent[-1] == value else 1
        state.recent.append(value)
        state.observations += 1

    def _learn_waves(self, state: LiveState) -> None:
        """The smooth bets for the next block, 1 + Σ slope × wave: with slopes from the past alone."""
        mean = self._waves[state.block].mean(axis=0)
        state.block.clear()
        state.wave_means += _WAVE_RATES * (mean - state.wave_means)
        highest = np.abs(state.wave_means) @ _WAVE_HEIGHTS
        slopes = state.wave_means * np.minimum(1.0, 0.8 / np.maximum(highest, 1e-9))[:, None]
        state.wave_bets = 1.0 + self._waves @ slopes.T

    def _sets_won(self, value: float) -> Array:
        """What bets on single values win; usually nothing."""
        sets = self._sets
        if value != 0.0 and not (sets.levels and _on_a_lattice(value)):
            return self._nothing
        won = self._nothing.copy()
        if value == 0.0:
            won[0] = sets.pays[0]
            won[-1] += 0.1 * sets.pays[0]
        if sets.levels:
            won[1] = sets.pays[1] if value == 1.0 else 0.0
            hits = np.array([_is_multiple(value, level) for level in sets.levels])
            won[2:-1] = np.where(hits, sets.pays[2:-1], 0.0)
        return won

    def _run_won(self, run: int) -> float:
        """Over all starts within the run: runs of r equal values pay 1 / P(r equal values).

        A start's bet is an e-value whenever it is settled; so together they grow by one an observation
        on average, at most, although they are settled only r − 1 observations later.
        """
        return float((np.maximum(run - np.array(_RUNS) + 1, 0) * _RUN_SHARES) @ self._run_pays)

    # -- what is said ---------------------------------------------------------------------

    def _statistic(self, state: LiveState) -> float:
        parts: list[float] = np.add.reduceat(state.wealth, self._parts).tolist()
        if state.run > 1:
            parts[-1] += self._run_weight * self._run_won(state.run)
        return max(parts)

    def _score(self, state: LiveState, unusable: Unusable | None) -> Score:
        statistic = self._statistic(state)
        alarm = self._alarm(state) if statistic >= self._threshold and unusable is None else None
        return Score(
            statistic=statistic,
            threshold=self._threshold,
            promise=self.promise,
            observations=state.observations,
            unusable=unusable,
            alarm=alarm,
        )

    def _alarm(self, state: LiveState) -> Alarm:
        winner = int(np.argmax(state.wealth))
        runs = self._run_weight * self._run_won(state.run) if state.run > 1 else 0.0
        if runs > state.wealth[winner]:
            said = f"stuck at one value, {state.recent[-1]:.6g}"
            return Alarm(observations_ago=state.run, bet="stuck", sentence=said)
        ago = self._began(state, winner)
        return Alarm(observations_ago=ago, bet=self._names[winner], sentence=self._told(state, winner, ago))

    def _told(self, state: LiveState, winner: int, ago: int) -> str:
        usual = float(np.median(self.reference.values))
        now = float(np.median(list(state.recent)[-ago:]))
        return f"{self._sentences[winner]} (median {now:.3g}, usually {usual:.3g})"

    def _began(self, state: LiveState, winner: int) -> int:
        """The most likely start of the change: the suffix of the stream that wins most, by the winning bet."""
        values = np.array(state.recent)
        z = self._link.of_all(values)
        cells = self._cells_of(values)
        if winner < self._static:
            won = self._by_cell[cells, winner][:, None]
        elif self._ranked <= winner < self._closed:
            ranks = np.interp(np.abs(z), self._close_edges, self._close_pool[1:-1] / self._close_pool[-1])
            won = self._by_closeness[np.searchsorted(self._close_cells, ranks, "right"), winner - self._ranked][:, None]
        elif winner >= self._closed + self._by_value.shape[1]:
            at = winner - self._closed - self._by_value.shape[1]
            won = np.array([[self._sets_won(value)[at]] for value in values])
        else:  # bets that follow the stream have no shape of their own: whichever named one fits best
            won = self._by_cell[cells]
        gains = np.cumsum(np.log(np.maximum(won[::-1], 1e-9)), axis=0)
        return int(np.unravel_index(np.argmax(gains), gains.shape)[0]) + 1

    def _identity(self) -> str:
        return f"live-1 {self.reference.fingerprint()} {self.promise.run_length!r} {self._seed}"


_WAVE_RATES = 1 - (1 - 1 / np.array(_WAVE_MEMORIES)[:, None]) ** _WAVE_BLOCK
_WAVE_HEIGHTS = np.sqrt(2 * np.arange(1, WAVES + 1) + 1)
_CROWD_DECAYS = np.tile(1 - 1 / np.array(_CROWD_MEMORIES), (_CROWDS, 1))
_CROWD_RETURNS = np.tile(_CROWD_KEEPS / np.array(_CROWD_MEMORIES), (_CROWDS, 1))
"""Together with the gains, each step leaves the mean over all places at 1."""
_CROWD_GAINS = (1 - _CROWD_KEEPS) * _CROWDS / np.array(_CROWD_MEMORIES)


def _mixed(bits: int) -> int:
    """A permutation of 64 bits that leaves no pattern.

    Steele, Lea and Flood, "Fast splittable pseudorandom number generators" (2014).
    """
    bits &= _MASK
    bits = ((bits ^ (bits >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    bits = ((bits ^ (bits >> 27)) * 0x94D049BB133111EB) & _MASK
    return bits ^ (bits >> 31)


def _rank(pool: Array, place: int, u: float, pooled: float) -> float:
    """A smoothed conformal p-value, by which the pool grows: uniform on [0, 1] while nothing changed."""
    below = pool.item(place)
    upto = pool.item(place + 1)
    above = pool[place + 1 :]
    above += 1.0
    return float((below + u * (upto - below + 1.0)) / (pooled + 1.0))


def _pool(z: Array, edges: Sequence[float]) -> Array:
    counts = np.bincount(np.searchsorted(edges, z, side="right"), minlength=len(edges) + 1)
    return np.concatenate([[0.0], np.cumsum(counts, dtype=np.float64)])


def _is_multiple(value: float, levels: float) -> bool:
    """Whether the value is k / levels, as near as float32 can say it."""
    off = value * levels % 1.0
    return off < 1e-6 * levels or off > 1.0 - 1e-6 * levels


def _are_multiples(values: Array, levels: int) -> Array:
    off = values * levels % 1.0
    return (off < 1e-6 * levels) | (off > 1.0 - 1e-6 * levels)


def _on_a_lattice(value: float) -> bool:
    for levels in _FINEST:  # noqa: SIM110 - a generator would cost as much again
        if _is_multiple(value, levels):
            return True
    return False


def _sets(reference: Reference, link: Link) -> _Sets:
    levels = _LEVELS if link is Link.LOGIT else ()
    tests: list[tuple[str, str, float, float, Callable[[Array], Array]]] = [
        ("zero", "exactly 0", _ZERO_WEIGHT, _ZERO_DELTA, lambda x: x == 0.0)
    ]
    if levels:
        tests.append(("one", "exactly 1", _ONE_WEIGHT, _ONE_DELTA, lambda x: x == 1.0))
    tests += [
        (
            f"levels-{n}",
            f"only {n + n % 2} levels are left",
            _LEVELS_WEIGHT / len(levels),
            _LEVELS_DELTA / len(levels),
            lambda x, n=n: _are_multiples(x, n),  # type: ignore[misc]
        )
        for n in levels
    ]
    pays = [1 / share_upper(_often(reference, test), reference.size, delta) for *_, delta, test in tests]
    return _Sets(
        names=(*(name for name, *_ in tests), "some-zero"),
        sentences=(*(said for _, said, *_ in tests), f"{0.1:.0%} of the stream or so exactly 0"),
        weights=(*(weight for _, _, weight, *_ in tests), _SOME_WEIGHT),
        pays=np.array([*pays, pays[0]]),
        levels=levels,
    )


def _often(reference: Reference, test: Callable[[Array], Array]) -> int:
    """How many observations have such a value: a bound for the mean share of a study's values, too."""
    hits = test(reference.values)
    if reference.singles:
        return int(hits.sum())
    return sum(bool(reference.within(i, hits).any()) for i in range(reference.size))


def _most_common(reference: Reference) -> int:
    ones = reference.representatives(np.random.default_rng(0))
    return int(np.unique(ones, return_counts=True)[1].max())


def _like(fresh: Any, found: Mapping[str, Array], name: str) -> Any:
    """What was stored, as the field's own type and shape."""
    if isinstance(fresh, np.ndarray):
        return states.shaped(found, name, fresh)
    if isinstance(fresh, int | float):
        return type(fresh)(states.number(found, name))
    stored = found.get(name)
    if stored is None or not np.isfinite(stored).all():
        raise ValueError(f"the state's {name} is missing or not finite")
    if isinstance(fresh, list):
        return [int(each) % (len(CELLS) - 1) for each in stored.ravel()]
    return deque(stored.astype(np.float64).ravel().tolist(), maxlen=_REMEMBERED)
