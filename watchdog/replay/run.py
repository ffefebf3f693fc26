"""Running a recorded stream through detectors: when each would have alarmed, and what it would have said."""

import math
from array import array
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from watchdog.drift import jensen_shannon, kolmogorov_smirnov, psi, wasserstein
from watchdog.drift.histogram import CONFIDENCE_EDGES, Histogram, quantile_edges
from watchdog.drift.links import Link
from watchdog.drift.live import LiveDetector, Reference
from watchdog.drift.promise import parse
from watchdog.model.score import Alarm, Promise, Unusable
from watchdog.model.tensor import Array
from watchdog.replay.outcome import LISTED, Alarmed, Described, Replay, Replayed, Watched
from watchdog.replay.practices import PRACTICES, Practice
from watchdog.replay.practices import alarms as practice_alarms
from watchdog.replay.recording import (
    NothingToReplayError,
    Recording,
    ReplayError,
    Series,
    parse_time,
    spell_time,
)

CUSTOMARY = ("1 per year", "1 per month", "1 per week")
"""What is compared if nobody says otherwise."""
_MOST_REFERENCE = 10_000
_LAST = 1000
_RATE_PER_S = 1.0
"""Observations a second, where the file does not say when they were made."""
_GUESS = 0.99
"""A link is guessed if it allows so large a share of the reference."""
_TICK = 1000

Tick = Callable[[int], None]
"""Is told that so many observations more are done."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What a person asked for."""

    false_alarms: Sequence[str] = CUSTOMARY
    """Promises as texts."""
    lenient: bool = False
    """Leave out promises that the file's rate is too low for, instead of refusing them."""
    reference: int | None = None
    """Observations at the file's beginning; None: 10,000, or half of the file if that is less."""
    link: Link | None = None
    """None: guessed from the reference."""
    changed_at: str | None = None
    """An observation's index in the file, or a time: from there on the stream is known to have changed."""


def replay(
    recording: Recording, plan: Plan, *, reference: Recording | None = None, tick: Tick = lambda _: None
) -> Replay:
    """Run every reading through a detector for each setting, and through the customary practices.

    Each reading has detectors of its own, which keep the promise together, as in the running watchdog; after an
    alarm one gathers evidence anew. Cost: some 20 µs an observation and setting.

    Args:
        recording: the stream, and the reference before it unless there is another one.
        plan: what to compare.
        reference: a healthy recording that has all of the stream's readings.
        tick: is told of the progress; `work` says of how much.

    Raises:
        ReplayError: the plan does not fit the file.
        NothingToReplayError: no reading can be replayed; the message has a reason for each.
    """
    done: list[Replayed] = []
    refused: dict[str, str] = {}
    sharing = Counter(series.source for series in recording.readings.values())
    for name, series in recording.readings.items():
        other = None if reference is None else _same(reference, name)
        try:
            done.append(_reading(name, series, plan, other, sharing=sharing[series.source], tick=tick))
        except NothingToReplayError as error:
            refused[name] = str(error)
    if not done:
        raise NothingToReplayError("\n".join(f"{name}: {why}" for name, why in refused.items()))
    return Replay(source=recording.source, readings=done, refused=refused, marks=recording.marks, notes=recording.notes)


def work(recording: Recording, plan: Plan, *, has_reference: bool) -> int:
    """How many observations `tick` will be told of, at most."""
    streams = (n if has_reference else n - _split(n, plan) for n in map(len, recording.readings.values()))
    return sum(max(stream, 0) for stream in streams) * len(plan.false_alarms)


def _same(reference: Recording, name: str) -> Series:
    bare = name.rpartition("/")[2]
    found = reference.readings.get(name) or reference.readings.get(bare)
    if found is None:
        raise ReplayError(f"{reference.source}: has no reading {name}; it has {', '.join(reference.readings)}")
    return found


def _split(observations: int, plan: Plan) -> int:
    return min(_MOST_REFERENCE, observations // 2) if plan.reference is None else plan.reference


def _reading(name: str, series: Series, plan: Plan, other: Series | None, *, sharing: int, tick: Tick) -> Replayed:
    first = 0 if other is not None else _split(len(series), plan)
    if first >= len(series):
        what = f"there are {len(series):,} observations, and the first {first:,} are the reference: nothing is left"
        raise NothingToReplayError(what)
    changed = None if plan.changed_at is None else _place(series, plan.changed_at, first)
    ordinary = series.part(0, first) if other is None else other
    link = plan.link or series.link or _guessed(ordinary.values)
    healthy = _usable(ordinary, link)
    try:
        reference = Reference(values=healthy.series.values, studies=_ids(healthy.series), link=link)
    except ValueError as error:
        raise NothingToReplayError(str(error)) from error
    promises, notes = _promises(plan, series.rate_per_s)
    stage = _Stage(
        stream=_usable(series.part(first, len(series)), link),
        series=series,
        first=first,
        changed=changed,
        reference=reference,
        sharing=sharing,
        tick=tick,
    )
    settings = [stage.watched(text, promise) for text, promise in promises.items()]
    if all(one.refused for one in settings):
        raise NothingToReplayError(settings[-1].refused)
    return Replayed(
        reading=name,
        series=series,
        first=first,
        link=link,
        guessed=plan.link is None and series.link is None,
        reference=healthy.series,
        left_out=healthy.conditions,
        changed_at=changed,
        settings=settings,
        practices=[stage.practised(practice, _means(healthy.series)) for practice in PRACTICES],
        described=_describe(_means(healthy.series), _means(stage.stream.series)[-_LAST:], link),
        notes=notes,
    )


def _place(series: Series, text: str, first: int) -> int:
    """The observation at which a person says that the stream changed."""
    if text.isdecimal() and int(text) < len(series):
        place = int(text)
    elif series.at is None:
        raise ReplayError(f"--changed-at {text}: the file has {len(series):,} observations and no times")
    else:
        try:
            place = int(np.searchsorted(series.at, parse_time(text)))
        except ValueError as error:
            raise ReplayError(f"--changed-at: {error}") from error
        if place >= len(series):
            raise ReplayError(f"--changed-at {text}: the file ends at {spell_time(float(series.at[-1]))}")
    if place < first:
        raise ReplayError(
            f"--changed-at {text}: is within the reference, which must be healthy; it is the first {first:,} "
            "observations: take fewer with --reference, or another file with --reference-file"
        )
    return place


def _guessed(values: Array) -> Link:
    """The link that allows nearly all that is finite; what few it forbids are out of range.

    What is never above 0.5 is rather a time in seconds than a confidence; if it is one, near 0 both links are alike.
    """
    finite = values[np.isfinite(values)]
    if not finite.size or np.mean(finite >= 0.0) < _GUESS:
        return Link.IDENTITY
    as_confidences = np.mean(finite <= 1.0) >= _GUESS and np.any(finite > 0.5)
    return Link.LOGIT if as_confidences else Link.LOG


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Usable:
    """What a detector can use of a series."""

    series: Series
    """Without values that no such reading has, and without observations that held no other."""
    where: Array
    """[n] the observation of the whole series that each is."""
    conditions: Counter[Unusable]
    """How many observations held what is unusable: each counts once, by the worst of it."""


def _usable(series: Series, link: Link) -> _Usable:
    low, high = {Link.LOGIT: (0.0, 1.0), Link.LOG: (0.0, math.inf), Link.IDENTITY: (-math.inf, math.inf)}[link]
    finite = np.isfinite(series.values)
    good = finite & (series.values >= low) & (series.values <= high)
    kept = _up_to(good)[series.starts]
    where = np.flatnonzero(np.diff(kept) > 0)
    non_finite = np.diff(_up_to(~finite)[series.starts]) > 0
    outside = (np.diff(_up_to(finite & ~good)[series.starts]) > 0) & ~non_finite
    counts = {
        Unusable.NON_FINITE: np.count_nonzero(non_finite),
        Unusable.OUT_OF_RANGE: np.count_nonzero(outside),
        Unusable.EMPTY: np.count_nonzero(np.diff(series.starts) == 0),
    }
    return _Usable(
        series=replace(
            series,
            values=series.values[good],
            starts=np.concatenate([kept[where], kept[-1:]]),
            at=None if series.at is None else series.at[where],
        ),
        where=where,
        conditions=Counter({reason: int(count) for reason, count in counts.items() if count}),
    )


def _up_to(flags: Array) -> Array:
    """[v + 1] how many are set before each place."""
    return np.concatenate([[0], np.cumsum(flags)]).astype(np.int64)


def _ids(series: Series) -> Array | None:
    """[v] which study each value is of; None if each is one by itself."""
    lengths = np.diff(series.starts)
    return None if bool(np.all(lengths == 1)) else np.repeat(np.arange(len(series)), lengths)


def _promises(plan: Plan, rate_per_s: float | None) -> tuple[dict[str, Promise], list[str]]:
    """Each text's promise, and what there is to say about it."""
    found: dict[str, Promise] = {}
    notes = []
    if rate_per_s is None:
        notes.append("the file does not say when observations were made: taken as one a second")
    for text in plan.false_alarms:
        try:
            found[text] = parse(text, rate_per_s=rate_per_s or _RATE_PER_S)
        except ValueError as error:
            if not plan.lenient:
                raise ReplayError(f"--false-alarms: {error}") from error
            notes.append(f"left out: {error}")
    if not found:
        raise NothingToReplayError("; ".join(notes))
    return found, notes


# -- one setting -------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class _Stage:
    """What all settings and practices of a reading have in common."""

    stream: _Usable
    series: Series
    first: int
    changed: int | None
    reference: Reference
    sharing: int
    """So many readings keep a promise together."""
    tick: Tick

    def watched(self, text: str, promise: Promise) -> Watched:
        try:
            detector = LiveDetector(self.reference, Promise(run_length=promise.run_length * self.sharing))
        except ValueError as error:
            self.tick(len(self.series) - self.first)
            return Watched(name=text, promise=promise, refused=str(error))
        run = _Run(stage=self)
        run.through(detector)
        places = np.array(run.places, dtype=np.int64)
        return Watched(
            name=text,
            promise=promise,
            threshold=detector.promise.threshold,
            places=places,
            alarms=run.alarms,
            unusable=self.stream.conditions,
            smallest_divergence=detector.smallest_divergence,
            statistics=self._at_each(run.statistics),
            **_against_change(places, self.changed),
        )

    def practised(self, practice: Practice, reference: Array) -> Watched:
        """Practices know no condition such as NaN: what says nothing does not enter their windows."""
        values = _means(self.stream.series)
        if values.size < practice.window:
            return Watched(name=practice.name, refused=f"the stream is shorter than its window of {practice.window}")
        found = practice_alarms(practice.alarming(reference, values, practice.window), practice.window)
        places = self.stream.where[found] + self.first
        return Watched(name=practice.name, places=places, **_against_change(places, self.changed))

    def place(self, usable: int) -> int:
        """The observation in the file that a usable one of the stream is."""
        return self.first + int(self.stream.where[usable])

    def _at_each(self, statistics: Sequence[float]) -> Array:
        """A statistic after each observation: one that is unusable leaves it as it was."""
        flags = np.zeros(len(self.series) - self.first, dtype=bool)
        flags[self.stream.where] = True
        return np.array([0.0, *statistics])[_up_to(flags)[1:]]


def _against_change(places: Array, changed: int | None) -> dict[str, Any]:
    if changed is None:
        return {}
    before = int(np.count_nonzero(places < changed))
    return {"before_change": before, "delay": int(places[before]) - changed + 1 if before < len(places) else None}


@dataclass(kw_only=True, slots=True)
class _Run:
    """One detector on its way through a stream."""

    stage: _Stage
    places: "array[int]" = field(default_factory=lambda: array("q"))
    alarms: list[Alarmed] = field(default_factory=list)
    statistics: "array[float]" = field(default_factory=lambda: array("d"))
    begun: int = 0
    """The usable observation since which it has been running."""

    def through(self, detector: LiveDetector) -> None:
        tick, state = self.stage.tick, detector.fresh()
        studies = self.stage.stream.series.studies()
        for i, study in enumerate(studies):
            state, score = detector.update(state, study)
            self.statistics.append(score.statistic)
            if score.alarm is not None:
                self._note(i, score.statistic, score.alarm)
                state, self.begun = detector.restarted(state), i + 1
            if not (i + 1) % _TICK:
                tick(_TICK)
        tick(len(self.stage.series) - self.stage.first - len(studies) // _TICK * _TICK)

    def _note(self, usable: int, statistic: float, alarm: Alarm) -> None:
        index = self.stage.place(usable)
        self.places.append(index)
        if len(self.alarms) < LISTED:
            began = self.stage.place(max(usable + 1 - alarm.observations_ago, self.begun))
            self.alarms.append(
                Alarmed(
                    index=index,
                    at=self.stage.series.time(index),
                    statistic=float(statistic),
                    sentence=alarm.sentence,
                    bet=alarm.bet,
                    began=began,
                    began_at=self.stage.series.time(began),
                )
            )


# -- for comparison ----------------------------------------------------------------------------


def _means(series: Series) -> Array:
    """[n] one number an observation, as a person would plot it: its values' mean."""
    if not len(series):
        return np.zeros(0)
    return np.asarray(np.add.reduceat(series.values, series.starts[:-1]) / np.diff(series.starts))


def _describe(reference: Array, newest: Array, link: Link) -> Described | None:
    if not newest.size:
        return None
    test = kolmogorov_smirnov.two_sample(reference, newest)
    edges = CONFIDENCE_EDGES if link is Link.LOGIT else tuple(quantile_edges(reference, 20).tolist())
    bits = None
    if len(edges) > 1:
        bits = jensen_shannon.divergence(Histogram.of(reference, edges), Histogram.of(newest, edges))
    return Described(
        last=newest.size,
        psi=psi.of_samples(reference, newest) if np.ptp(reference) > 0 else None,
        jensen_shannon_bits=bits,
        ks=test.statistic,
        ks_p=test.p_value,
        wasserstein=wasserstein.distance(reference, newest),
    )
