"""The project's own detector, and a twin that runs many of it in lockstep, for counting and for delays."""

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from bench.drift.streams import Array, Rng
from bench.drift.subject import Cost, take_cost
from watchdog.drift import live
from watchdog.drift.hypotheses import CELLS, CLOSE_CELLS, WAVES
from watchdog.drift.links import LOGIT_LIMIT, Link
from watchdog.drift.live import LiveDetector
from watchdog.drift.reference import Reference
from watchdog.model.score import Promise

_WARM_UP = 200
_ABREAST = 64
"""Detectors in lockstep: more of them fill the cache, fewer leave too much to Python."""
_CHUNK = 2048
"""Observations of a stream that are looked at in one go."""
_KEPT = 256
"""Detectors that are kept: one change after another comes after the same references."""


@dataclass(frozen=True, kw_only=True)
class Ours:
    """The live detector at a promise."""

    name: str
    arl_promised: float
    learns: bool = True
    share: float = 1.0

    def run(self, references: Array, streams: Array, rng: Rng) -> Array:
        first = np.full(len(streams), -1)
        for some, twin in self._twins(references, rng):
            found = first[some]
            for t, statistics in enumerate(twin.follow(streams[some])):
                found[(statistics >= self.arl_promised) & (found < 0)] = t
                if (found >= 0).all():
                    break
        return first

    def count_alarms(self, references: Array, streams: Array, rng: Rng) -> int:
        return self.count_over(references, (streams,), rng)

    def count_over(self, references: Array, chunks: Iterable[Array], rng: Rng) -> int:
        """As `InChunks`. A restart keeps the pool, as in the running watchdog."""
        twins, alarms = self._twins(references, rng), 0
        for chunk in chunks:
            for some, twin in twins:
                for statistics in twin.follow(chunk[some]):
                    alarmed = statistics >= self.arl_promised
                    if alarmed.any():
                        alarms += int(alarmed.sum())
                        twin.restart(alarmed)
        return alarms

    def cost(self, reference: Array, stream: Array) -> Cost:
        learnt = Reference(values=reference, link=Link.LOGIT)
        promise = Promise(run_length=self.arl_promised)
        LiveDetector(learnt, promise)  # what the process keeps for all detectors is no detector's
        return take_cost(lambda: one_by_one(LiveDetector(_again(learnt), promise)), stream, warm_up=_WARM_UP)

    def _twins(self, references: Array, rng: Rng) -> list[tuple[slice, "Twin"]]:
        seeds = rng.integers(2**31, size=len(references))
        batches = [slice(begin, begin + _ABREAST) for begin in range(0, len(references), _ABREAST)]
        return [(some, Twin([_detector(one) for one in references[some]], seeds[some])) for some in batches]


def one_by_one(detector: LiveDetector) -> Callable[[float], bool]:
    """A detector that takes one value after the other."""
    state = detector.fresh()

    def update(x: float) -> bool:
        nonlocal state
        state, score = detector.update(state, (x,))
        return score.alarm is not None

    return update


def _again(reference: Reference) -> Reference:
    return Reference(values=reference.values, link=reference.link, studies=reference.studies)


_detectors: OrderedDict[bytes, LiveDetector] = OrderedDict()


def _detector(values: Array) -> LiveDetector:
    """What was learnt from single values depends neither on the promise nor on the seed, so it is learnt once."""
    key = hashlib.sha256(values.tobytes()).digest()
    found = _detectors.pop(key, None)
    if found is None:
        found = LiveDetector(Reference(values=values, link=Link.LOGIT), Promise(run_length=3e7))
    _detectors[key] = found
    if len(_detectors) > _KEPT:
        _detectors.popitem(last=False)
    return found


class Twin:
    """S detectors in lockstep: `LiveDetector.update` for single values, vectorised over detectors.

    What bets win depends on values alone, so that it is computed for a block of observations at once;
    evidence, which restarts put aside, is gathered step by step. A test holds it against the
    detectors themselves.
    """

    def __init__(self, detectors: Sequence[LiveDetector], seeds: Array) -> None:
        one, count = detectors[0], len(detectors)
        self._places = [_Places(d._edges, d._value_cells) for d in detectors]
        self._close_places = _Close(np.array(one._close_edges))
        self._seeds = _mixed(np.asarray(seeds).astype(np.uint64))
        self._by_cell = _Table([d._by_cell for d in detectors])
        self._by_closeness = _Table([d._by_closeness for d in detectors])
        self._by_value = _Table([d._by_value for d in detectors])
        self._pool = _Pools([d._pool for d in detectors])
        self._close_pool = _Pools([d._close_pool for d in detectors])
        self._pooled = np.array([float(d._pool[-1]) for d in detectors])
        self._waves, self._crowds = _Waves(one._waves, count), _Crowds(count)
        self._sets = _Sets(np.stack([d._sets.pays for d in detectors]), one._sets.levels)
        self._runs = _Runs(np.stack([d._run_pays for d in detectors]), one._run_weight)
        self._weights = one._weights
        ends = np.append(one._parts[1:], len(self._weights))
        bets = np.arange(len(self._weights))
        self._parts = ((bets >= one._parts[:, None]) & (bets < ends[:, None])).astype(np.float64)
        self._wealth = np.zeros((count, len(self._weights)))
        self._seen = 0

    def follow(self, streams: Array) -> Iterator[Array]:
        """[S] the statistics after each of the [S, T] values. What comes next may be given to another call."""
        for begin in range(0, streams.shape[1], _CHUNK):
            looked = self._look(streams[:, begin : begin + _CHUNK])
            at = 0
            while at < len(looked.values):
                block = looked.part(at, at + live._WAVE_BLOCK - self._seen % live._WAVE_BLOCK)
                yield from self._gather(block.values, self._won(block))
                at += len(block.values)

    def restart(self, at: Array) -> None:
        """`LiveDetector.restarted` for some of them."""
        self._wealth[at] = 0.0
        self._runs.restart(at)

    def _look(self, streams: Array) -> "_Looked":
        """All that depends on values alone."""
        pairs = zip(self._places, streams, strict=True)
        places, cells = zip(*(places.of(row) for places, row in pairs), strict=True)
        return _Looked(
            values=np.ascontiguousarray(streams.T),
            places=np.ascontiguousarray(np.array(places).T),
            close=self._close_places.of(streams.T),
            cells=np.ascontiguousarray(np.array(cells).T),
        )

    def _won(self, block: "_Looked") -> Array:
        """[T, S, K] what every bet wins."""
        count = len(block.values)
        drawn = np.arange(self._seen + 1, self._seen + count + 1, dtype=np.uint64)
        first, second = _uniforms(self._seeds, drawn[:, None])
        pooled = self._pooled + np.arange(self._seen, self._seen + count)[:, None]
        rank = self._pool.ranks(block.places, first, pooled)
        near = self._close_pool.ranks(block.close, second, pooled)
        cell = np.searchsorted(CELLS[1:-1], rank, "right")
        self._seen += count
        return np.concatenate(
            [
                self._by_cell.rows(cell),
                self._waves.won(cell),
                self._crowds.won((rank * live._CROWDS).astype(int)),
                self._by_closeness.rows(np.searchsorted(CLOSE_CELLS[1:-1], near, "right")),
                self._by_value.rows(block.cells),
                self._sets.won(block.values),
            ],
            axis=2,
        )

    def _gather(self, values: Array, won: Array) -> Iterator[Array]:
        for x, e in zip(values, won, strict=True):
            self._wealth += self._weights
            self._wealth *= e
            parts = self._parts @ self._wealth.T
            self._runs.add(x, parts[-1])
            statistics = parts.max(axis=0)
            if statistics.max() > live._ENOUGH:
                rich = statistics > live._ENOUGH
                self._wealth[rich] = np.minimum(self._wealth[rich], live._ENOUGH)
            yield statistics


@dataclass(frozen=True, kw_only=True)
class _Looked:
    """[T, S] values, and where they lie."""

    values: Array
    places: Array
    """In the pools."""
    close: Array
    cells: Array

    def part(self, begin: int, end: int) -> "_Looked":
        some = slice(begin, end)
        return _Looked(
            values=self.values[some], places=self.places[some], close=self.close[some], cells=self.cells[some]
        )


class _Places:
    """How many of some edges lie at or below each value's logit, told without taking any logarithm."""

    def __init__(self, *edges: Sequence[float]) -> None:
        cuts = [_least(np.array(some)) for some in edges]
        self._cuts = np.sort(np.concatenate(cuts))
        self._counts = [_counted(some, self._cuts) for some in cuts]

    def of(self, values: Array) -> list[Array]:
        at = np.searchsorted(self._cuts, values, "right")
        return [counts[at] for counts in self._counts]


class _Close:
    """The same of the distances of logits from 0."""

    def __init__(self, edges: Array) -> None:
        above, below = _least(edges), _least(np.nextafter(-edges, np.inf))
        self._cuts = np.sort(np.concatenate([below, above]))
        self._counts = len(edges) - _counted(below, self._cuts) + _counted(above, self._cuts)

    def of(self, values: Array) -> Array:
        return np.asarray(self._counts[np.searchsorted(self._cuts, values, "right")])


def _counted(some: Array, cuts: Array) -> Array:
    """[cuts + 1] how many of some cuts there are up to each one."""
    return np.searchsorted(np.sort(some), np.append(-np.inf, cuts), "right").astype(np.int16)


def _least(edges: Array) -> Array:
    """The least confidences whose logits reach the edges; to be found among doubles, as logits themselves are."""
    low, high = expit(edges) * (1 - _NEAR), np.minimum(expit(edges) * (1 + _NEAR), 1.0)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        reached = Link.LOGIT.of_all(middle) >= edges
        low, high = np.where(reached, low, middle), np.where(reached, middle, high)
    return np.where(edges <= -LOGIT_LIMIT, -np.inf, np.where(edges > LOGIT_LIMIT, np.inf, high))


_NEAR, _HALVINGS = 1e-12, 15


class _Table:
    """S tables of [J, K], in which rows are looked up."""

    def __init__(self, tables: Sequence[Array]) -> None:
        self._all = np.concatenate(tables)
        self._begins = np.arange(len(tables)) * len(tables[0])

    def rows(self, at: Array) -> Array:
        """[T, S, K] of [T, S]."""
        return np.asarray(self._all.take(self._begins + at, axis=0))


class _Pools:
    """The pools of S detectors."""

    def __init__(self, cumulative: Sequence[Array]) -> None:
        places = max(map(len, cumulative))
        self._below = np.array([np.pad(sums, (0, places - len(sums)), mode="edge") for sums in cumulative])
        self._begins = np.arange(len(cumulative)) * places

    def ranks(self, places: Array, u: Array, pooled: Array) -> Array:
        """[T, S] smoothed ranks of values that join the pools one after the other."""
        at = self._begins + places
        flat = self._below.ravel()
        lower, equal = places[:, None] < places, places[:, None] == places  # [earlier, later, S]
        before = _BEFORE[: len(places), : len(places), None]
        below = flat[at] + (lower & before).sum(axis=0, dtype=np.uint8)
        ties = flat[at + 1] - flat[at] + (equal & before).sum(axis=0, dtype=np.uint8)
        joined = np.bincount(at.ravel() + 1, minlength=flat.size).reshape(self._below.shape)
        self._below += np.cumsum(joined, axis=1)
        return np.asarray((below + u * (ties + 1.0)) / (pooled + 1.0))


_BEFORE = np.triu(np.ones((live._WAVE_BLOCK, live._WAVE_BLOCK), dtype=bool), 1)
"""[earlier, later]"""


class _Waves:
    """The smooth bets of S detectors."""

    def __init__(self, shapes: Array, count: int) -> None:
        memories = len(live._WAVE_MEMORIES)
        self._shapes = shapes
        self._means = np.zeros((count, memories, WAVES))
        self._slopes = np.zeros((count, WAVES, memories))
        self._block = np.empty((0, count), dtype=np.int64)

    def won(self, cell: Array) -> Array:
        """[T, S, memories] of [T, S] cells, of one block at most."""
        shapes = self._shapes[cell]
        won = 1.0 + (shapes.transpose(1, 0, 2) @ self._slopes).transpose(1, 0, 2)
        self._block = np.concatenate([self._block, cell])
        if len(self._block) == live._WAVE_BLOCK:
            self._learn()
        return won

    def _learn(self) -> None:
        mean = self._shapes[self._block].mean(axis=0)
        self._means += live._WAVE_RATES * (mean[:, None] - self._means)
        highest = np.abs(self._means) @ live._WAVE_HEIGHTS
        self._slopes = (self._means * np.minimum(1.0, 0.8 / np.maximum(highest, 1e-9))[..., None]).transpose(0, 2, 1)
        self._block = self._block[:0]


class _Crowds:
    """Bets on places where values fell lately: kept as what is above the least that a place wins."""

    def __init__(self, count: int) -> None:
        self._above = np.full((count, live._CROWDS, len(live._CROWD_MEMORIES)), 1 - live._CROWD_KEEPS)
        self._rows = np.arange(count)

    def won(self, place: Array) -> Array:
        """[T, S, memories] of [T, S] places."""
        count = len(place)
        decays = _FADED[:count]
        won = live._CROWD_KEEPS + self._above[self._rows, place] * decays[:, None]
        same = (place[:, None] == place).astype(np.float64)  # [later, earlier, S]
        gained = _GAINED[:count, :, :count] @ same
        self._above *= _FADED[count]
        at = (self._rows * live._CROWDS + place).ravel()
        for i, gains in enumerate((live._CROWD_GAINS * _FADED[count - 1 :: -1][:count]).T):
            added = np.bincount(at, np.repeat(gains, len(self._rows)), self._rows.size * live._CROWDS)
            self._above[..., i] += added.reshape(-1, live._CROWDS)
        return np.asarray(won + gained.transpose(0, 2, 1))


_AGES = np.arange(live._WAVE_BLOCK + 1)[:, None]
_FADED = live._CROWD_DECAYS[0] ** _AGES
"""[age, memories]"""
_GAINED = np.zeros((live._WAVE_BLOCK, len(live._CROWD_MEMORIES), live._WAVE_BLOCK))
"""[later, memories, earlier]"""
for _later in range(live._WAVE_BLOCK):
    _GAINED[_later, :, :_later] = (live._CROWD_GAINS * _FADED[:_later][::-1]).T


class _Sets:
    """Bets on single values, of S detectors."""

    def __init__(self, pays: Array, levels: Sequence[int]) -> None:
        self._pays, self._levels = pays, np.array(levels, dtype=np.float64)

    def won(self, values: Array) -> Array:
        """[T, S, sets] of [T, S] values."""
        won = np.zeros((*values.shape, self._pays.shape[1]))
        won[..., -1] = 0.9
        times, rows = np.nonzero((values == 0.0) | _on_any(values, live._FINEST).any(axis=0))
        x, pays = values[times, rows], self._pays[rows]
        hits = np.concatenate([[x == 0.0, x == 1.0], _on_any(x, self._levels)]).T
        won[times, rows, :-1] = hits * pays[:, :-1]
        won[times, rows, -1] += 0.1 * pays[:, 0] * hits[:, 0]
        return won


def _on_any(x: Array, levels: Sequence[float] | Array) -> Array:
    """[levels, …] which lattices values lie on, as `live._is_multiple` has it."""
    each = np.reshape(levels, (-1, *(1 for _ in x.shape)))
    off = x * each
    off -= np.floor(off)
    return np.asarray((off < 1e-6 * each) | (off > 1.0 - 1e-6 * each))


class _Runs:
    """Runs of equal values, of S detectors."""

    def __init__(self, pays: Array, weight: float) -> None:
        self._pays, self._weight = pays, weight
        self._length, self._last = np.ones(len(pays), dtype=np.int64), np.full(len(pays), np.nan)

    def add(self, x: Array, part: Array) -> None:
        """Adds to a part's [S] statistics what runs have won after one more value."""
        same = x == self._last
        self._last = x.copy()
        if same.any():
            self._length = np.where(same, self._length + 1, 1)
            starts = np.maximum(self._length[:, None] - np.array(live._RUNS) + 1, 0) * live._RUN_SHARES
            part += np.where(self._length > 1, self._weight * (starts * self._pays).sum(axis=1), 0.0)
        else:
            self._length[:] = 1

    def restart(self, at: Array) -> None:
        self._length[at], self._last[at] = 0, np.nan


def _uniforms(seeds: Array, drawn: Array) -> tuple[Array, Array]:
    with np.errstate(over="ignore"):
        bits = _mixed((seeds + drawn) * np.uint64(0x9E3779B97F4A7C15))
    return (bits >> np.uint64(32)) * 2.0**-32, (bits & np.uint64(0xFFFFFFFF)) * 2.0**-32


def _mixed(bits: Array) -> Array:
    with np.errstate(over="ignore"):
        bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(bits ^ (bits >> np.uint64(31)))
