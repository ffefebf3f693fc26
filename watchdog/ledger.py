"""What one channel has been told, and what it still has to be told, in order.

Pure. A condition that begins, lasts and ends is one *life*. A receiver that is told once hears of every life's
beginning and then of its end, also if both were while it was away. One that forgets (Alertmanager) is told of what is
true, again and again, and of an end for a while.
"""

import hashlib
import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self, TypeVar

from watchdog.model.notice import Condition, LifeId, Notice, NoticeKind, Severity

_Key = TypeVar("_Key")

_VERSION = 1
_APART_S = 0.001
_GROUP = "group"
"""The label of many alerts that are told as one."""
_MOST_WAITING = 8
"""Lives of one condition that wait to be told; of more the middle ones become one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Resend:
    """How a receiver wants to be told: once, or again and again because it forgets."""

    every_s: float | None = None
    """None: of every beginning and every end, once."""
    resolved_for_s: float = 0.0
    """How long an ended condition is told again."""
    group_above: int | None = None
    """More beginnings of one alert than this, at once, are told as one; None: never."""
    one_by_one: bool = False
    """For a receiver that takes one notice at a time: each is known to be taken before the next is sent."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Life:
    """One condition from its beginning to its end, and what a channel has been told of it."""

    condition: Condition
    started_at: float
    source: str = ""
    """Who says that it holds: a model's name, ``gpu`` or another."""
    ended_at: float | None = None
    told_at: float | None = None
    repeated_at: float | None = field(default=None, compare=False)
    """When it was told last; of no use to another process."""
    end_told_at: float | None = None
    times: int = 1
    """How many lives it stands for."""
    group: str | None = None
    """The group that its beginning is told with, empty where it is told alone; None until it was first tried."""

    @property
    def id(self) -> LifeId:
        return self.condition.key, self.started_at, self.times

    @property
    def over(self) -> bool:
        return self.ended_at is not None

    @property
    def waits(self) -> bool:
        """Whether something of it was not taken yet."""
        return self.told_at is None or (self.over and self.end_told_at is None)


@dataclass(frozen=True, kw_only=True, slots=True)
class Ledger:
    """All lives that one channel is not done with, oldest first."""

    lives: tuple[Life, ...] = ()

    def observe(self, current: Iterable[tuple[str, Condition]], now: float, resend: Resend) -> Self:
        """After seeing which conditions hold now, and by whom: new ones begin, missing ones end."""
        holding = {condition.key: (source, condition) for source, condition in current}
        after: list[Life] = []
        for life in self.lives:
            key = life.condition.key
            if life.over:
                superseded = key in holding and (resend.every_s is not None or not life.waits)
                after += [] if superseded and not life.group else [life]
            elif key in holding:
                source, condition = holding.pop(key)
                after.append(replace(life, source=source, condition=condition))
            else:
                after.append(replace(life, ended_at=max(now, life.started_at)))  # clocks are put back
        newest = {life.condition.key: _when_last(life) for life in after}
        for source, condition in holding.values():
            # known by its beginning, and after the end of the one before it, whatever the clock says
            started_at = max(now, newest.get(condition.key, -math.inf) + _APART_S)
            after.append(Life(condition=condition, started_at=started_at, source=source))
        return replace(self, lives=_bounded(after))

    def due(self, now: float, resend: Resend) -> tuple[Notice, ...]:
        """What the channel should be told now, in the order in which it happened."""
        if resend.every_s is not None:
            found = [notice for life in self.lives if (notice := _repeated(life, now, resend.every_s)) is not None]
        else:
            begun = list(self._beginnings(resend.group_above))
            found = [*begun, *self.tried(begun)._ends()]  # noqa: SLF001 - one's own; a group begins and ends as one
        return tuple(sorted(found, key=_when))

    def tried(self, notices: Iterable[Notice]) -> Self:
        """Before the channel is given `notices`: alone or in which group a beginning is told changes no more.

        The receiver may have taken it although nobody heard so, and must know it when it comes again.
        """
        told_with = {
            life: notice.condition.labels.get(_GROUP, "")
            for notice in notices
            if notice.kind is NoticeKind.FIRST
            for life in notice.lives
        }
        lives = (
            replace(life, group=told_with[life.id]) if life.group is None and life.id in told_with else life
            for life in self.lives
        )
        return replace(self, lives=tuple(lives))

    def taken(self, notices: Sequence[Notice], now: float, resend: Resend) -> Self:
        """After the channel took `notices`; what needs no more telling is forgotten."""
        told = {life for notice in notices for life in notice.lives}
        ended = {life for notice in notices for life in notice.lives if notice.kind is NoticeKind.RESOLVED}
        after = []
        for life in self.tried(notices).lives:
            if life.id in told:
                life = replace(life, told_at=life.told_at or now, repeated_at=now)  # noqa: PLW2901
            if life.id in ended:
                life = replace(life, end_told_at=life.end_told_at or now)  # noqa: PLW2901
            if not _is_done(life, now, resend):
                after.append(life)
        return replace(self, lives=tuple(after))

    def waiting(self) -> tuple[int, float | None]:
        """How many notices were not taken yet, and since when the oldest waits."""
        lasting = {life.group for life in self.lives if life.group and not life.over}
        begun = [life.started_at for life in self.lives if life.told_at is None]
        ended = [
            life.ended_at
            for life in self.lives
            if life.ended_at is not None and life.end_told_at is None and life.group not in lasting
        ]
        return len(begun) + len(ended), min((*begun, *ended), default=None)

    def _beginnings(self, group_above: int | None) -> Iterator[Notice]:
        untold = [life for life in self.lives if life.told_at is None]
        for name, lives in _by(lambda life: life.group, untold).items():
            if name:
                yield _of_group(NoticeKind.FIRST, name, lives)
            elif name is not None:
                yield from (_notice(NoticeKind.FIRST, life) for life in lives)
        for lives in _by(lambda life: life.condition.name, (life for life in untold if life.group is None)).values():
            if group_above is not None and len(lives) > group_above:
                yield _of_group(NoticeKind.FIRST, _group_name(lives), lives)
            else:
                yield from (_notice(NoticeKind.FIRST, life) for life in lives)

    def _ends(self) -> Iterator[Notice]:
        for name, lives in _by(lambda life: life.group or "", self.lives).items():
            if not name:
                yield from (
                    _notice(NoticeKind.RESOLVED, life) for life in lives if life.over and life.end_told_at is None
                )
            elif all(life.over for life in lives):
                yield _of_group(NoticeKind.RESOLVED, name, lives)

    def to_bytes(self) -> bytes:
        """For another process; `from_bytes` gets it back, but for when something was repeated last."""
        document = {"version": _VERSION, "lives": [_life_json(life) for life in self.lives]}
        return json.dumps(document, sort_keys=True).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """The inverse of `to_bytes`.

        Raises:
            ValueError: the bytes are no ledger.
        """
        try:
            document = json.loads(data)
            if document["version"] != _VERSION:
                raise ValueError(f"it has version {document['version']}, this watchdog knows {_VERSION}")
            return cls(lives=tuple(_life(each) for each in document["lives"]))
        except (KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ValueError(f"it is no ledger: {error!r}") from error


def _by(key: Callable[[Life], _Key], lives: Iterable[Life]) -> dict[_Key, list[Life]]:
    """Each key's lives, all in their order."""
    found: dict[_Key, list[Life]] = {}
    for life in lives:
        found.setdefault(key(life), []).append(life)
    return found


def _when_last(life: Life) -> float:
    return life.started_at if life.ended_at is None else life.ended_at


def _when(notice: Notice) -> float:
    return notice.ends_at if notice.kind is NoticeKind.RESOLVED else notice.started_at


def _repeated(life: Life, now: float, every_s: float) -> Notice | None:
    waited = life.repeated_at is None or now - life.repeated_at >= every_s
    if life.over:
        return _notice(NoticeKind.RESOLVED, life) if waited or life.end_told_at is None else None
    if not waited:
        return None
    kind = NoticeKind.FIRST if life.told_at is None else NoticeKind.REPEAT
    return replace(_notice(kind, life), ends_at=now + 4 * every_s)


def _notice(kind: NoticeKind, life: Life) -> Notice:
    condition = replace(life.condition, description=_description(life))
    return Notice(
        kind=kind, condition=condition, started_at=life.started_at, ends_at=_when_last(life), lives=(life.id,)
    )


def _description(life: Life) -> str:
    often = f" (it came and went {life.times} times)" if life.times > 1 else ""
    return life.condition.description + often


def _group_name(lives: Iterable[Life]) -> str:
    return hashlib.sha256(json.dumps([life.id for life in lives]).encode()).hexdigest()[:12]


def _of_group(kind: NoticeKind, name: str, lives: list[Life]) -> Notice:
    """Many alerts of one name as one. Its identity is the group's, so that its end is known as such."""
    first = lives[0].condition
    pages = any(life.condition.severity is Severity.CRITICAL for life in lives)
    merged = Condition(
        name=first.name,
        severity=Severity.CRITICAL if pages else Severity.WARNING,
        summary=f"{len(lives)} alerts: {first.summary}, and {len(lives) - 1} more",
        description="\n".join(f"{life.condition.summary}: {_description(life)}" for life in lives),
        labels={_GROUP: name},
    )
    return Notice(
        kind=kind,
        condition=merged,
        started_at=min(life.started_at for life in lives),
        ends_at=max(_when_last(life) for life in lives),
        lives=tuple(life.id for life in lives),
    )


def _is_done(life: Life, now: float, resend: Resend) -> bool:
    if life.ended_at is None or life.end_told_at is None:
        return False
    return resend.every_s is None or now - life.ended_at >= resend.resolved_for_s


def _bounded(lives: list[Life]) -> tuple[Life, ...]:
    """A condition that comes and goes in front of a dead receiver must not fill the memory."""
    crowded = [key for key, count in Counter(life.condition.key for life in lives).items() if count > _MOST_WAITING]
    for key in crowded:
        mergeable = [
            i
            for i, one in enumerate(lives)
            if one.condition.key == key and one.over and one.told_at is None and not one.group
        ]
        if len(mergeable) > 1:
            i, j = mergeable[-2:]  # the oldest ones keep their own times
            times = lives[i].times + lives[j].times
            lives[i] = replace(lives[i], condition=lives[j].condition, ended_at=lives[j].ended_at, times=times)
            del lives[j]
    return tuple(lives)


def _life_json(life: Life) -> dict[str, Any]:
    c = life.condition
    return {
        "name": c.name,
        "severity": str(c.severity),
        "summary": c.summary,
        "description": c.description,
        "labels": dict(c.labels),
        "source": life.source,
        "started_at": life.started_at,
        "ended_at": life.ended_at,
        "told_at": life.told_at,
        "end_told_at": life.end_told_at,
        "times": life.times,
        "group": life.group,
    }


def _life(data: Mapping[str, Any]) -> Life:
    condition = Condition(
        name=str(data["name"]),
        severity=Severity(data["severity"]),
        summary=str(data["summary"]),
        description=str(data["description"]),
        labels={str(name): str(value) for name, value in data["labels"].items()},
    )
    return Life(
        condition=condition,
        source=str(data["source"]),
        started_at=_at(data["started_at"]),
        ended_at=_time(data["ended_at"]),
        told_at=_time(data["told_at"]),
        end_told_at=_time(data["end_told_at"]),
        times=int(data["times"]),
        group=None if data["group"] is None else str(data["group"]),
    )


def _time(value: Any) -> float | None:
    return None if value is None else _at(value)


def _at(value: Any) -> float:
    at = float(value)
    if not math.isfinite(at):  # JSON knows none, but Python reads some
        raise ValueError(f"it has a time that is none: {at}")
    return at
