"""Learns what one model's answers to patients' images are like, and watches them for drift ever after."""

import asyncio
import itertools
import math
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

from watchdog.drift.links import Link
from watchdog.drift.live import LiveDetector
from watchdog.drift.promise import parse
from watchdog.live.learnt import Learnt, Subject, Unfit
from watchdog.live.settings import LiveSettings, ShadowSettings, chosen, observations_a_day, promise_of_each
from watchdog.live.track import Build, Phase, Track, usable
from watchdog.model.engine import Role
from watchdog.model.event import CycleFailed, Ignored, Learning, Reported, Scored, Source
from watchdog.model.observation import Observation, Pair
from watchdog.model.score import Promise
from watchdog.ports import Clock, Evidence, Observer
from watchdog.readings import link_of

_SAVE_EVERY_S = 10.0
_TRY_AGAIN_S = 10.0
_AT_ONCE = 64
"""So many observations keep the event loop for a few milliseconds."""

NOT_HEALTHY = "not-healthy"
"""Came while a reference was learnt but the engine was not known to be right."""
NO_EVIDENCE = "no-evidence"
"""Came while what had been learnt before could not be read."""


Readings = Mapping[str, tuple[float, ...]]


Record = Callable[[Source, str, Sequence[tuple[float, ...]]], Awaitable[None]]
"""Given a reading's observations that came together. Raises OSError where they can't be kept."""


class LiveWatch:
    """Watches one model's readings, each with a detector of its own.

    A reading learns first: only while `healthy` says that the engine is right, and until it has
    seen as many observations as the settings want. Then it watches, against what it learnt, which
    never changes. What it learnt belongs to the model and its engines; other engines are learnt anew.

    `take` and `take_pairs` may be called at any time, also at the same time. Nothing that comes in
    raises, and nothing that the disk does.
    """

    def __init__(
        self,
        *,
        subject: Subject,
        readings: Sequence[str],
        live: LiveSettings | None,
        shadow: ShadowSettings | None,
        evidence: Evidence,
        observe: Observer,
        clock: Clock,
        healthy: Callable[[], bool],
        on_alarm: Callable[[Scored], None],
        build: Build = LiveDetector,
        record: Record | None = None,
    ) -> None:
        """Reads nothing yet.

        Args:
            subject: the model, and both of its engines.
            readings: all that the model has, see `watchdog.readings.names_of`.
            live: how answers are watched; None for not at all.
            shadow: the same for pairs of answers.
            evidence: where what was learnt is kept.
            observe: told what happens.
            clock: Unix seconds.
            healthy: whether the policy believes the fast engine, and it serves.
            on_alarm: told of every alarm at once; must return at once.
            build: makes a detector.
            record: given every observation of what is watched, such as for a replay.

        Raises:
            ValueError: the settings name a reading that there is not, or a reference that is too small.
        """
        self.model = subject.model
        self.readings = tuple(readings)
        self._evidence = evidence
        self._observe = observe
        self._clock = clock
        self._healthy = healthy
        self._on_alarm = on_alarm
        self._build = build
        self._record = record
        self._promises: dict[Source, tuple[Promise, float]] = {}
        self._tracks = {
            Source.LIVE: self._live_tracks(live, subject),
            Source.SHADOW: self._shadow_tracks(shadow, subject),
        }
        self._one_at_a_time = asyncio.Lock()
        self._one_save = asyncio.Lock()
        self._opened = self._closed = False
        self._failed_at = -math.inf
        self._saved_at = clock()

    @property
    def sources(self) -> frozenset[Source]:
        """What is watched at all."""
        return frozenset(source for source, tracks in self._tracks.items() if tracks)

    async def open(self) -> None:
        """Go on where the last process stopped; the first observation does it otherwise."""
        async with self._one_at_a_time:
            await self._ready()

    async def take(self, observations: Sequence[Observation]) -> None:
        """Learn from, or judge, one observation a study."""
        await self._take(Source.LIVE, [observation.readings for observation in observations])

    async def take_pairs(self, pairs: Sequence[Pair], *, as_one: bool = False) -> None:
        """The same for both engines' answers to one input each.

        Args:
            pairs: differences are taken on the line of each reading's link.
            as_one: whether they are rows of one request, which count as one observation.
        """
        rows = [_residuals(pair, self._tracks[Source.SHADOW]) for pair in pairs]
        await self._take(Source.SHADOW, [_together(rows)] if as_one else rows)

    async def close(self) -> None:
        """Take nothing more, and save what is there."""
        async with self._one_at_a_time:
            was_open, self._closed = self._opened and not self._closed, True
        if was_open:
            await self._save()

    def status(self) -> dict[str, Any]:
        """Source → reading → how it stands; JSON-ready."""
        return {
            source: {name: self._track_status(track) for name, track in tracks.items()}
            for source, tracks in self._tracks.items()
            if tracks
        }

    # -- made once ------------------------------------------------------------------------

    def _live_tracks(self, settings: LiveSettings | None, subject: Subject) -> dict[str, Track]:
        if settings is None:
            return {}
        names = chosen(self.readings, settings.readings)
        return self._made(Source.LIVE, settings, names, subject.only(Role.FAST))

    def _shadow_tracks(self, settings: ShadowSettings | None, subject: Subject) -> dict[str, Track]:
        if settings is None:
            return {}
        return self._made(Source.SHADOW, settings, chosen(self.readings, ()), subject.only(Role.FAST, Role.SAFE))

    def _made(
        self, source: Source, settings: LiveSettings | ShadowSettings, names: Sequence[str], subject: Subject
    ) -> dict[str, Track]:
        """All together keep the promise, so each makes one that is as many times stronger as there are."""
        each = promise_of_each(settings, len(names))
        self._promises[source] = parse(settings.false_alarms), observations_a_day(settings.false_alarms)
        return {
            name: Track(
                source=source,
                reading=name,
                link=link_of(name) if source is Source.LIVE else Link.IDENTITY,
                promise=each,
                subject=subject,
                reference=settings.reference,
            )
            for name in names
        }

    # -- what comes in ---------------------------------------------------------------------

    async def _take(self, source: Source, studies: Sequence[Readings]) -> None:
        async with self._one_at_a_time:
            if self._closed or not studies:
                return
            try:
                if await self._ready():
                    for track in self._tracks[source].values():
                        mine = [study[track.reading] for study in studies if track.reading in study]
                        await self._feed(track, mine)
                        if self._record is not None and mine:
                            await self._record(source, track.reading, mine)
                else:
                    self._ignore(source, "", NO_EVIDENCE, len(studies))
            except Exception as error:  # noqa: BLE001 - a bug must neither end the watch nor be silent
                self._fail(f"{type(error).__name__}: {error}")
        if abs(self._clock() - self._saved_at) >= _SAVE_EVERY_S and not self._one_save.locked():
            await self._save()

    async def _feed(self, track: Track, studies: Sequence[Sequence[float]]) -> None:
        """One reading's part of a batch: observers hear of its end, of every alarm and of what was not used."""
        batch = _Batch()
        for count, study in enumerate(studies, start=1):
            await self._one(track, study, batch)
            if count % _AT_ONCE == 0:
                await asyncio.sleep(0)
        if batch.news is not None:
            self._observe(batch.news)
        self._report(track, batch.means, usual=False)
        for condition, count in batch.ignored.items():
            track.ignored[condition] += count
            self._ignore(track.source, track.reading, condition, count)

    async def _one(self, track: Track, study: Sequence[float], batch: "_Batch") -> None:
        values, unusable = usable(study, track.link)
        if unusable is not None:
            batch.ignored[unusable] += 1
        if not values:
            return
        if track.phase is Phase.WATCHING:
            batch.means.append(fmean(values))
            batch.news = self._watch(track, values)
        elif not self._healthy():
            batch.ignored[NOT_HEALTHY] += 1
        else:
            if track.learn(values):
                await self._make_detector(track)
                self._saved_at = -math.inf  # the end of learning is worth a save at once
            batch.news = self._learning(track)

    def _watch(self, track: Track, values: Sequence[float]) -> Scored | None:
        """The score, unless it is an alarm, of which everybody has been told."""
        score = track.watch(values)
        scored = Scored(model=self.model, at=self._clock(), source=track.source, reading=track.reading, score=score)
        if score.alarm is None:
            return scored
        self._observe(scored)
        self._on_alarm(scored)
        return None

    def _learning(self, track: Track) -> Learning:
        return Learning(
            model=self.model,
            at=self._clock(),
            source=track.source,
            reading=track.reading,
            have=len(track.sample),
            want=track.want,
        )

    async def _make_detector(self, track: Track) -> None:
        """A detector of what was learnt: a second in a thread. What can't be one is told, and learnt further."""
        have = len(track.sample)
        try:
            await track.build(self._build)
        except Exception as error:  # noqa: BLE001 - ValueError is what is foreseen; a bug must not end the watch either
            self._unfit(track, Unfit.NO_REFERENCE, have)
            self._fail(f"{track.source} {track.reading}: {have} observations make no reference: {error}")
        else:
            self._report(track, track.sample.means(), usual=True)

    # -- what outlives the process -----------------------------------------------------------

    async def _ready(self) -> bool:
        """Whether what was learnt before has been read; a disk that fails is asked again, not overwritten."""
        if not self._opened and abs(self._clock() - self._failed_at) >= _TRY_AGAIN_S:
            try:
                for track in self._all():
                    await self._restore(track)
                self._opened = True
            except Exception as error:  # noqa: BLE001 - OSError is what is foreseen; a bug must not be silent either
                self._failed_at = self._clock()
                self._fail(f"what was learnt before can't be read, so nothing is watched: {error}")
        return self._opened

    async def _restore(self, track: Track) -> None:
        """Raises OSError: the evidence can't be read now."""
        track.forget()
        stored = await self._stored(track)
        if stored is None:
            return
        if (unfit := track.remember(stored)) is not None:
            self._unfit(track, unfit, len(stored.sample))
            return
        if len(track.sample) >= track.want:
            await self._make_detector(track)
        if track.phase is Phase.WATCHING and (state := await self._load(track, _state_of(track))) is not None:
            try:
                track.load(state)
                track.unsaved_state = False
            except ValueError:
                self._unfit(track, Unfit.ANOTHER_REFERENCE, 1)

    async def _stored(self, track: Track) -> Learnt | None:
        data = await self._load(track, _sample_of(track))
        try:
            return None if data is None else Learnt.from_bytes(data)
        except ValueError as error:
            self._unfit(track, Unfit.DAMAGED, 1)
            self._fail(f"{track.source} {track.reading} is learnt anew: {error}")
            return None

    async def _load(self, track: Track, part: str) -> bytes | None:
        try:
            return await self._evidence.load(f"{self.model}/{part}")
        except ValueError as error:
            self._unfit(track, Unfit.DAMAGED, 1)
            self._fail(f"{track.source} {track.reading}: {error}")
            return None

    async def _save(self) -> None:
        async with self._one_save:
            self._saved_at = self._clock()
            for track in self._all():
                if not await self._save_track(track):
                    break

    async def _save_track(self, track: Track) -> bool:
        """Whether it is worth going on with others: not where the disk doesn't answer, which takes its time.

        The sample goes before the state that belongs to it: a crash between them costs the state alone.
        """
        sample = track.learnt.to_bytes() if track.unsaved_sample else None
        state = track.dump() if track.unsaved_state else None
        track.unsaved_sample = track.unsaved_state = False
        try:
            if sample is not None:
                await self._evidence.save(f"{self.model}/{_sample_of(track)}", sample)
                sample = None
            if state is not None:
                await self._evidence.save(f"{self.model}/{_state_of(track)}", state)
                state = None
        except (OSError, ValueError) as error:
            self._fail(f"what was learnt can't be saved: {error}")
            track.unsaved_sample |= sample is not None
            track.unsaved_state |= state is not None
            return not isinstance(error, TimeoutError)
        return True

    # -- what is said -----------------------------------------------------------------------

    def _all(self) -> Iterator[Track]:
        return (track for tracks in self._tracks.values() for track in tracks.values())

    def _report(self, track: Track, values: Sequence[float], *, usual: bool) -> None:
        if values and track.source is Source.LIVE and track.link is Link.LOGIT:
            self._observe(
                Reported(model=self.model, at=self._clock(), reading=track.reading, values=tuple(values), usual=usual)
            )

    def _unfit(self, track: Track, unfit: Unfit, count: int) -> None:
        track.ignored[unfit] += 1
        self._ignore(track.source, track.reading, unfit, count)

    def _ignore(self, source: Source, reading: str, condition: str, count: int) -> None:
        self._observe(
            Ignored(
                model=self.model,
                at=self._clock(),
                source=source,
                reading=reading,
                condition=str(condition),
                count=count,
            )
        )

    def _fail(self, error: str) -> None:
        self._observe(CycleFailed(model=self.model, at=self._clock(), error=error))

    def _track_status(self, track: Track) -> dict[str, Any]:
        score = track.score
        promise, a_day = self._promises[track.source]
        return {
            "state": track.phase,
            "have": len(track.sample),
            "want": track.want,
            "observations": 0 if score is None else score.observations,
            "statistic": None if score is None else _finite(score.statistic),
            "threshold": _finite(track.promise.threshold),
            "promise": f"{promise}, over all readings",
            "false_alarm_within_a_day": promise.false_alarm_probability(a_day),
            "alarms": track.alarms,
            "last_alarm": None if track.last_alarm is None else track.last_alarm.sentence,
            "ignored": dict(track.ignored),
        }


@dataclass(kw_only=True, slots=True)
class _Batch:
    """What a batch has to tell of one reading."""

    news: Scored | Learning | None = None
    means: list[float] = field(default_factory=list)
    """Of each study that was watched."""
    ignored: Counter[str] = field(default_factory=Counter)


def _sample_of(track: Track) -> str:
    return f"{track.source}/{track.reading}/reference"


def _state_of(track: Track) -> str:
    return f"{track.source}/{track.reading}/state"


def _residuals(pair: Pair, names: Iterable[str]) -> Readings:
    return {name: (_residual(pair, name),) for name in names if name in pair.fast or name in pair.safe}


def _together(rows: Sequence[Readings]) -> Readings:
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: tuple(itertools.chain.from_iterable(row.get(name, ()) for row in rows)) for name in names}


def _residual(pair: Pair, name: str) -> float:
    """The difference on the reading's line; NaN where either side has no such number."""
    link = link_of(name)
    sides = (pair.fast.get(name, math.nan), pair.safe.get(name, math.nan))
    if not all(math.isfinite(side) and link.allows(side) for side in sides):
        return math.nan
    fast, safe = (link.of(side) for side in sides)
    return fast - safe


def _finite(number: float) -> float | None:
    """JSON has no NaN and no infinity: None stands for them."""
    return number if math.isfinite(number) else None
