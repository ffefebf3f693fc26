"""The canary detector: do answers to known images differ from what this engine always said of them?

Canaries come again and again, so their answers are no sample of anything; what is tested is each
answer's *residual*, its logit less the golden answer's, against the residuals that this engine had
when the baseline was captured. All that varies between two probes of an unchanged engine is the
perturbation that the watchdog itself draws, so residuals of one canary are independent and alike.

The null is an envelope: residuals about any middle that their median at capture leaves possible,
with tails no heavier than Student's t with 5 degrees of freedom at a scale of `FLOOR` logits and
what was seen at capture, whichever is more. (A few repeats leave the middle uncertain by half a
scale or more; taken for the truth, that error would be evidence that grows with every probe. Over
m canaries such errors cancel out, down to a share of 1/√m.) Each hypothesis ("logits scaled by
about 0.8", "shifted by −0.3", …) predicts a residual for each canary, and its e-value is its
density divided by the greatest that the null allows. They are collected in Shiryaev–Roberts
mixtures (see `watchdog.drift.live`) over all canaries, over each stratum and over each canary by
itself, so a fault of one vendor's images is seen, and named, at once.
"""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from watchdog.drift import state as states
from watchdog.drift.links import LOGIT_LIMIT, Link
from watchdog.model.score import Alarm, Promise, Score, Unusable
from watchdog.model.tensor import Array

FLOOR = 0.01
"""Logits. Less than this is nobody's concern, and so never evidence."""
_FREEDOM = 5.0
_DOUBT = 2.0
"""The median of r residuals may be off by so many scales / √(r − 1): three of its deviations or more."""
_KEEPS = 0.02
"""The share of an e-value that one surprise can't take away."""
_WIDTH = 0.2
"""How precisely a hypothesis predicts a residual, as a share of it."""

_SCALES = (0.0, 0.25, 0.5, 0.7, 0.8, 0.9, 0.95, 1.1, 1.25, 1.5, 2.0)
_SHIFTS = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2)
_SCATTERS = (4.0, 15.0, 60.0, 250.0)
_SCALE_WEIGHT, _SHIFT_WEIGHT, _SCATTER_WEIGHT, _STUCK_WEIGHT, _ZERO_WEIGHT = 0.3, 0.3, 0.25, 0.05, 0.1
_ALL_WEIGHT, _STRATA_WEIGHT, _EACH_WEIGHT = 0.4, 0.3, 0.3
EVERYTHING = ""
"""The name of the group of all canaries."""
_ONE = "canary "
"""How the names of groups of one begin."""

Readings = Mapping[str, float]
"""Reading → its logit, for one canary's answer."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PairedReference:
    """How one engine answered its canaries at capture."""

    golden: Mapping[str, Readings]
    """Canary → reading → the golden answer's logit."""
    residuals: Mapping[str, Mapping[str, Sequence[float]]]
    """Canary → reading → this engine's logits less the golden one, a number a repeat."""
    strata: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Canary → the bounded groups that it is in, such as ``{"kernel": "sharp"}``."""


@dataclass(kw_only=True, slots=True)
class PairedState:
    """What a detector has gathered. `PairedDetector.update` uses it up and hands it on."""

    wealth: Array
    """[groups, readings, bets]"""
    began: Array
    """[groups, readings, bets]: the probe with which each one's present evidence began."""
    last: Array
    """[readings]: logits of the newest answer; NaN before there is one."""
    probes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class _Usual:
    """One canary's reading, as this engine usually has it."""

    golden: float
    middle: float
    doubt: float
    """How far the true middle may be from this one."""
    scale: float


class PairedDetector:
    """One engine's canary detector. Immutable; what it gathers is in a `PairedState`.

    Raises:
        ValueError: there is no canary, or none that has residuals.
    """

    def __init__(self, reference: PairedReference, promise: Promise) -> None:
        self.promise = promise
        self._threshold = promise.threshold
        self.readings = tuple(sorted({r for of_canary in reference.residuals.values() for r in of_canary}))
        self._usual = _usual(reference)
        if not self._usual:
            raise ValueError("the baseline holds no residuals: there is nothing to hold answers against")
        self._groups, members = _grouped(reference)
        self._members = {canary: np.array(at) for canary, at in members.items()}
        sizes = np.bincount(np.concatenate(list(self._members.values())), minlength=len(self._groups))
        self._shares = 1 / np.sqrt(sizes)
        self._names, self._sentences, bets = _bets()
        groups = _group_weights(self._groups)
        readings = np.full((1, len(self.readings), 1), 1 / len(self.readings))
        self._weights = groups[:, None, None] * readings * bets
        self._bets = bets
        self._reference = reference

    def fresh(self) -> PairedState:
        """The state of a detector that has seen nothing."""
        return PairedState(
            wealth=np.zeros_like(self._weights),
            began=np.ones(self._weights.shape, dtype=np.int64),
            last=np.full(len(self.readings), np.nan),
            probes=0,
        )

    def update(self, state: PairedState, canary: str, readings: Readings) -> tuple[PairedState, Score]:
        """The state after one more answer, and the score. `state` is used up.

        Args:
            state: from `fresh`, `load` or the last update.
            canary: its id; one that the reference does not know says nothing.
            readings: its answer's logits.
        """
        usable = self._usable(canary, readings)
        if usable is None:
            return state, self._score(state, Unusable.NON_FINITE if readings else Unusable.EMPTY)
        groups = self._members[canary]
        state.probes += 1
        for i, e in self._e_values(canary, usable, state.last, self._shares[groups]):
            before, weights = state.wealth[groups, i], self._weights[groups, i]
            state.began[groups, i] = np.where(before < weights, state.probes, state.began[groups, i])
            state.wealth[groups, i] = np.minimum((before + weights) * e, _ENOUGH)
        for i, reading in enumerate(self.readings):
            state.last[i] = usable.get(reading, np.nan)
        return state, self._score(state, None)

    def burst(self, answers: Sequence[tuple[str, Readings]]) -> tuple[float, Alarm]:
        """How many times likelier a few answers together are under the mixture of hypotheses than usually.

        An e-value: while nothing changed it is 1 on average, so it reaches L with a probability of
        1 / L at most. With the hypothesis, and the group, that explain them best.
        """
        fortunes = self._weights.copy()
        last = np.full(len(self.readings), np.nan)
        for canary, readings in answers:
            usable = self._usable(canary, readings)
            if usable is None:
                continue
            groups = self._members[canary]
            for i, e in self._e_values(canary, usable, last, self._shares[groups]):
                fortunes[groups, i] = np.minimum(fortunes[groups, i] * e, _ENOUGH)
            last = np.array([usable.get(reading, np.nan) for reading in self.readings])
        group, reading, bet = np.unravel_index(int(np.argmax(fortunes)), fortunes.shape)
        alarm = self._alarm(len(answers), int(reading), int(bet), self._groups[group])
        return float(fortunes.sum()), alarm

    def members(self, group: str) -> tuple[str, ...]:
        """The canaries of a group that an alarm named."""
        at = self._groups.index(group)
        return tuple(canary for canary, groups in self._members.items() if at in groups)

    def dump(self, state: PairedState) -> bytes:
        """`state` as bytes for `load`, bound to this detector's reference and promise."""
        values = {"wealth": state.wealth, "began": state.began, "last": state.last, "probes": state.probes}
        return states.pack(self._identity(), values)

    def load(self, data: bytes) -> PairedState:
        """The inverse of `dump`.

        Raises:
            ValueError: the bytes are no state, or one of another detector.
        """
        found, fresh = states.unpack(self._identity(), data), self.fresh()
        last = found.get("last")
        if last is None or last.shape != fresh.last.shape:
            raise ValueError("the state's newest answer is missing")
        return PairedState(
            wealth=states.shaped(found, "wealth", fresh.wealth),
            began=states.shaped(found, "began", fresh.began),
            last=last.astype(np.float64),
            probes=int(states.number(found, "probes")),
        )

    def _usable(self, canary: str, readings: Readings) -> dict[str, float] | None:
        known = self._usual.get(canary, {})
        usable = {name: value for name, value in readings.items() if name in known and math.isfinite(value)}
        return {name: min(max(value, -_FARTHEST), _FARTHEST) for name, value in usable.items()} or None

    def _e_values(self, canary: str, usable: Readings, last: Array, shares: Array) -> list[tuple[int, Array]]:
        """(reading's place, [groups, bets] e-values) of one answer."""
        found = []
        for i, reading in enumerate(self.readings):
            if reading in usable:
                usual = self._usual[canary][reading]
                found.append((i, _e_values(usual, usable[reading], float(last[i]), shares)))
        return found

    def _score(self, state: PairedState, unusable: Unusable | None) -> Score:
        statistic = float(state.wealth.sum())
        alarm = None
        if statistic >= self._threshold and unusable is None:
            group, reading, bet = np.unravel_index(int(np.argmax(state.wealth)), state.wealth.shape)
            ago = state.probes - int(state.began[group, reading, bet]) + 1
            alarm = self._alarm(ago, int(reading), int(bet), self._groups[group])
        return Score(
            statistic=statistic,
            threshold=self._threshold,
            promise=self.promise,
            observations=state.probes,
            unusable=unusable,
            alarm=alarm,
        )

    def _alarm(self, ago: int, reading: int, bet: int, group: str) -> Alarm:
        said = "other answers than ever" if group.startswith(_ONE) else self._sentences[bet]
        on = f" on {group}" if group else ""
        said = f"{self.readings[reading]}: {said}{on}"
        return Alarm(observations_ago=ago, bet=self._names[bet], sentence=said, group=group)

    def _identity(self) -> str:
        r = self._reference
        known = [
            {c: dict(of) for c, of in sorted(r.golden.items())},
            {c: {n: list(v) for n, v in of.items()} for c, of in sorted(r.residuals.items())},
            {c: dict(of) for c, of in sorted(r.strata.items())},
        ]
        digest = hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()[:16]
        return f"paired-1 {digest} {self.promise.run_length!r}"


def _usual(reference: PairedReference) -> dict[str, dict[str, _Usual]]:
    """Canary → reading → where its residuals lie and how far they spread, never less than seen anywhere."""
    seen = {canary: _finite(reference, canary) for canary in reference.residuals}
    readings = {reading for of_canary in seen.values() for reading in of_canary}
    pooled = {reading: _pooled([held[reading] for held in seen.values() if reading in held]) for reading in readings}
    return {
        canary: {
            reading: _one(reference.golden[canary][reading], residuals, pooled[reading])
            for reading, residuals in of_canary.items()
        }
        for canary, of_canary in seen.items()
        if of_canary
    }


def _finite(reference: PairedReference, canary: str) -> dict[str, Array]:
    """Reading → residuals, as far as both they and the golden answer are numbers."""
    golden = reference.golden.get(canary, {})
    found = {}
    for reading, residuals in reference.residuals[canary].items():
        finite = np.array([each for each in residuals if math.isfinite(each)])
        if len(finite) and math.isfinite(golden.get(reading, math.nan)):
            found[reading] = finite
    return found


def _one(golden: float, residuals: Array, pooled: float) -> _Usual:
    middle, freedom = float(np.median(residuals)), max(len(residuals) - 1, 1)
    own = math.sqrt(float(np.square(residuals - middle).sum()) / freedom)
    scale = math.hypot(pooled, 1.5 * own, _half_step(golden + residuals))
    return _Usual(golden=golden, middle=middle, doubt=_DOUBT * scale / math.sqrt(freedom), scale=scale)


def _half_step(answers: Array) -> float:
    """Where all answers are half precision's: from one to the next nearer to 0.5, in logits; else 0.

    It is 0.16 at 0.997 and 0.001 at 0.3. An engine that answers in FP16 moves by one such step for a
    perturbation that means nothing.
    """
    confidences = 1 / (1 + np.exp(-np.clip(answers, -LOGIT_LIMIT, LOGIT_LIMIT)))
    halves = confidences.astype(np.float16)
    if np.any(np.abs(confidences - halves) > 1e-6 * confidences):
        return 0.0
    nearer = np.nextafter(halves, np.float16(0.5))
    return float(np.max(np.abs(Link.LOGIT.of_all(halves) - Link.LOGIT.of_all(nearer))))


def _pooled(samples: Sequence[Array]) -> float:
    """A scale of which the most extreme residual of all samples is no surprise, and never below the floor."""
    from scipy.special import stdtrit  # noqa: PLC0415 - needed once a baseline

    off = np.concatenate([sample - np.median(sample) for sample in samples])
    freedom = max(len(off) - len(samples), 1)
    scale = math.hypot(FLOOR, math.sqrt(float(np.square(off).sum()) / freedom))
    expected = float(stdtrit(_FREEDOM, 1 - 0.5 / max(len(off), 4)))
    return max(scale, float(np.max(np.abs(off))) / expected)


def _grouped(reference: PairedReference) -> tuple[list[str], dict[str, list[int]]]:
    """All groups of more than one canary, and each canary; and which of them a canary is in."""
    canaries = sorted(reference.residuals)
    strata: dict[str, list[str]] = {}
    for canary in canaries:
        for name, value in sorted(reference.strata.get(canary, {}).items()):
            strata.setdefault(f"{name}={value}", []).append(canary)
    proper = {name: held for name, held in strata.items() if 1 < len(held) < len(canaries)}
    groups = [EVERYTHING, *proper, *(f"{_ONE}{canary}" for canary in canaries)]
    members = {canary: [0] for canary in canaries}
    for i, held in enumerate(proper.values(), 1):
        for canary in held:
            members[canary].append(i)
    for i, canary in enumerate(canaries, 1 + len(proper)):
        members[canary].append(i)
    return groups, members


def _group_weights(groups: Sequence[str]) -> Array:
    each = sum(group.startswith(_ONE) for group in groups)
    strata = len(groups) - 1 - each
    weights = np.array(
        [_ALL_WEIGHT] + [_STRATA_WEIGHT / max(strata, 1)] * strata + [_EACH_WEIGHT / max(each, 1)] * each
    )
    return np.asarray(weights / weights.sum())


def _bets() -> tuple[list[str], list[str], Array]:
    """Names, sentences and weights of all hypotheses, in the order of `_e_values`."""
    shifts = [*(-by for by in reversed(_SHIFTS)), *_SHIFTS]
    names = [
        *(f"scale-{s:g}" for s in _SCALES),
        *(f"shift{by:+g}" for by in shifts),
        *(f"scatter-{s:g}" for s in _SCATTERS),
        "stuck",
        "zero",
    ]
    sentences = [
        *("logits collapsed to 0" if s == 0 else f"logits scaled by about {s:g}" for s in _SCALES),
        *(f"logits shifted by about {by:+g}" for by in shifts),
        *("answers scattered about the right ones" for _ in _SCATTERS),
        "the same answer to different canaries",
        "everything 0",
    ]
    weights = np.concatenate(
        [
            np.full(len(_SCALES), _SCALE_WEIGHT / len(_SCALES)),
            np.full(len(shifts), _SHIFT_WEIGHT / len(shifts)),
            np.full(len(_SCATTERS), _SCATTER_WEIGHT / len(_SCATTERS)),
            [_STUCK_WEIGHT, _ZERO_WEIGHT],
        ]
    )
    return names, sentences, weights


_FACTORS = np.array(_SCALES) - 1.0
_BOTH_SHIFTS = np.array([*(-by for by in reversed(_SHIFTS)), *_SHIFTS])
_SPREADS = np.array(_SCATTERS)
_POWER = (_FREEDOM + 1) / 2
_FARTHEST, _ENOUGH = 1e20, 1e150
"""Of logits and of evidence, more would say no more; and it must not overflow while nobody puts it aside."""


def _e_values(usual: _Usual, answer: float, last: float, shares: Array) -> Array:
    """[groups, bets] how many times likelier one answer is under each hypothesis than usually, at the least.

    `shares` are those of the middle's doubt that the groups have.
    """
    off = answer - usual.golden - usual.middle
    stuck = last - usual.golden if math.isfinite(last) else 0.0
    predicted = np.concatenate(
        [
            usual.golden * _FACTORS,
            _BOTH_SHIFTS,
            np.zeros(len(_SPREADS)),
            [stuck, -LOGIT_LIMIT - usual.golden],
        ]
    )
    widths = np.hypot(usual.scale, _WIDTH * predicted)
    widths[-2 - len(_SPREADS) : -2] = usual.scale * _SPREADS
    healthy = _tail(np.maximum(abs(off) - usual.doubt * shares, 0.0) / usual.scale)
    e = (healthy[:, None] / _tail((off - predicted) / widths)) ** _POWER * (usual.scale / widths)
    return np.asarray((1 - _KEEPS) * e + _KEEPS)


def _tail(x: Array) -> Array:
    """To the power −`_POWER`, Student's density up to a factor."""
    return np.asarray(1.0 + x * x / _FREEDOM)
