"""Slices of one study, brought together again: they resemble one another, so they count as one observation. Pure."""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from watchdog.model.observation import Observation

_SILENT_S = 30.0
_OLDEST_S = 600.0
_MOST_STUDIES = 1_000
_MOST_VALUES = 1_000_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Slice:
    """One answer of a model, and the study that it belongs to."""

    readings: Mapping[str, tuple[float, ...]]
    study: str | None = None
    """An opaque key, never logged or stored; None for an image that is a study by itself."""


@dataclass(kw_only=True, slots=True)
class _Open:
    began: float
    touched: float
    values: dict[str, list[float]] = field(default_factory=dict)
    size: int = 0

    def add(self, readings: Mapping[str, Sequence[float]]) -> int:
        """How many values came."""
        for name, values in readings.items():
            self.values.setdefault(name, []).extend(values)
        came = sum(map(len, readings.values()))
        self.size += came
        return came

    def is_over(self, now: float) -> bool:
        return now - self.touched >= _SILENT_S or now - self.began >= _OLDEST_S


class Studies:
    """The studies that slices still come of.

    A study is over once nothing came of it for 30 s, or 10 minutes after it began. Studies may be
    interleaved, as they are where several machines share a server: another study ends none, except
    that beyond 1,000 of them (or a million values) the one that has been silent longest is ended.
    """

    def __init__(self) -> None:
        self._open: OrderedDict[str, _Open] = OrderedDict()  # the longest silent first
        self._size = 0

    def __len__(self) -> int:
        return len(self._open)

    def add(self, one: Slice, now: float) -> list[Observation]:
        """Take a slice; the studies that are over because of it.

        Args:
            one: an answer.
            now: seconds of a clock that never goes back.
        """
        if one.study is None:
            return [Observation(readings=dict(one.readings))]
        known = self._open.get(one.study)
        over = [self._end(one.study)] if known is not None and known.is_over(now) else []
        study = self._open.setdefault(one.study, _Open(began=now, touched=now))
        self._size += study.add(one.readings)
        study.touched = now
        self._open.move_to_end(one.study)
        while len(self._open) > _MOST_STUDIES or self._size > _MOST_VALUES:
            over.append(self._end(next(iter(self._open))))
        return over

    def expired(self, now: float) -> list[Observation]:
        """The studies that are over by now; looks at all, so ask once for many slices."""
        return [self._end(key) for key in [key for key, study in self._open.items() if study.is_over(now)]]

    def end_all(self) -> list[Observation]:
        """All of them, over or not."""
        return [self._end(key) for key in list(self._open)]

    def _end(self, key: str) -> Observation:
        study = self._open.pop(key)
        self._size -= study.size
        return Observation(readings={name: tuple(values) for name, values in study.values.items()})
