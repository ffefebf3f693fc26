"""One reading's way: its reference is learnt, then it is watched. No clock, no disk, no events."""

import asyncio
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

from watchdog.drift.links import Link
from watchdog.drift.reference import Reference
from watchdog.live.learnt import Learnt, Sample, Subject, Unfit, fingerprint
from watchdog.model.event import Source
from watchdog.model.score import Alarm, Promise, Score, Unusable

_FINGERPRINT_BYTES = 32
_MOST_TIMES_LONGER = 16


class Detector(Protocol):
    """A sequential detector, as `watchdog.drift.live.LiveDetector` is one. States are used up by what takes them."""

    def fresh(self) -> Any:
        """The state of a detector that has seen nothing."""

    def restarted(self, state: Any) -> Any:
        """The state without its evidence: what was learnt of the healthy stream since the reference stays."""

    def update(self, state: Any, study: Sequence[float]) -> tuple[Any, Score]:
        """The state after one more study, and what it says."""

    def dump(self, state: Any) -> bytes: ...

    def load(self, data: bytes) -> Any:
        """Raises ValueError: the bytes are no state of this detector."""


Build = Callable[[Reference, Promise], Detector]
"""Makes a detector, in about a second of the processor. Raises ValueError: the reference can't bear the promise."""


class Phase(StrEnum):
    LEARNING = "learning"
    WATCHING = "watching"


@dataclass(kw_only=True, slots=True)
class Track:
    """One reading from one source."""

    source: Source
    reading: str
    link: Link
    """How values become what is watched; IDENTITY for differences that are on the line already."""
    promise: Promise
    """The detector's own: its share of what all readings together may do."""
    subject: Subject
    reference: int
    """How many observations are wanted."""
    want: int = 0
    """How many until the next try to make a reference."""
    sample: Sample = field(default_factory=Sample)
    detector: Detector | None = None
    mark: bytes = b""
    """Of the sample that the detector was made of."""
    state: Any = None
    score: Score | None = None
    alarms: int = 0
    last_alarm: Alarm | None = None
    ignored: Counter[str] = field(default_factory=Counter)
    unsaved_sample: bool = False
    unsaved_state: bool = False

    def __post_init__(self) -> None:
        self.want = self.reference

    @property
    def phase(self) -> Phase:
        return Phase.LEARNING if self.detector is None else Phase.WATCHING

    @property
    def learnt(self) -> Learnt:
        return Learnt(subject=self.subject, link=self.link, sample=self.sample)

    def learn(self, values: Sequence[float]) -> bool:
        """Take one more study into the sample; True where it is time to `build`."""
        self.sample.add(values)
        self.unsaved_sample = True
        return len(self.sample) >= self.want

    def watch(self, values: Sequence[float]) -> Score:
        """Show the detector one more study; after an alarm it gathers evidence anew."""
        detector = self.detector
        if detector is None:
            raise RuntimeError(f"{self.reading} is still being learnt")
        try:
            self.state, score = detector.update(self.state, values)
        except Exception:
            self.state = detector.fresh()  # the old one is used up even so
            raise
        if score.alarm is not None:
            self.state = detector.restarted(self.state)
            self.alarms, self.last_alarm = self.alarms + 1, score.alarm
        self.score, self.unsaved_state = score, True
        return score

    async def build(self, build: Build) -> None:
        """Make a detector of what was learnt.

        Raises:
            ValueError: it makes none. Then more is learnt first, and in the end all of it anew; as for
                any error, so that a costly failure is not repeated at every observation.
        """
        try:
            detector, self.mark = await asyncio.to_thread(self._built, build)
        except Exception:
            while self.want <= len(self.sample):
                self.want *= 2
            if self.want > _MOST_TIMES_LONGER * self.reference:
                self.forget()
            raise
        self.detector, self.state, self.unsaved_state = detector, detector.fresh(), True

    def _built(self, build: Build) -> tuple[Detector, bytes]:
        return build(self.sample.reference(self.link), self.promise), fingerprint(self.sample)

    def forget(self) -> None:
        """Learn anew."""
        self.sample, self.want = Sample(), self.reference
        self.detector = self.state = self.score = None
        self.unsaved_sample = self.unsaved_state = False

    def remember(self, stored: Learnt) -> Unfit | None:
        """Go on with what was learnt before, or say why that can't be."""
        unfit = stored.unfit(self.subject, self.link)
        if unfit is None:
            self.sample = stored.sample
            self.subject = self.subject.completed(stored.subject)
        return unfit

    def dump(self) -> bytes | None:
        """The detector's state, bound to the sample; None while there is no detector."""
        if self.detector is None:
            return None
        return self.mark + self.detector.dump(self.state)

    def load(self, data: bytes) -> None:
        """The inverse of `dump`.

        Raises:
            ValueError: the bytes are no state, or not one that belongs to this sample.
        """
        if self.detector is None or data[:_FINGERPRINT_BYTES] != self.mark:
            raise ValueError("it belongs to another reference")
        self.state = self.detector.load(data[_FINGERPRINT_BYTES:])


def usable(values: Sequence[float], link: Link) -> tuple[Sequence[float], Unusable | None]:
    """Those of a study's values that such a reading can have, and what is wrong with the others, if any."""
    if not values:
        return values, Unusable.EMPTY
    finite = [value for value in values if math.isfinite(value)]
    allowed = [value for value in finite if link.allows(value)]
    if len(finite) < len(values):
        return allowed, Unusable.NON_FINITE
    return (allowed, Unusable.OUT_OF_RANGE) if len(allowed) < len(finite) else (values, None)
