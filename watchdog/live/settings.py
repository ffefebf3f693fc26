"""What can be set about watching patients' answers."""

import re
from collections.abc import Sequence
from typing import Annotated

from pydantic import AfterValidator, Field

from watchdog.drift.promise import PromiseText, parse
from watchdog.drift.reference import required
from watchdog.model.score import Promise
from watchdog.settings import Settings

_DAY_S = 86400.0
_ANY_RATE = 1e9


def _whole(text: str) -> str:
    parse(text)
    return text


RatedPromise = Annotated[PromiseText, AfterValidator(_whole)]
"""A promise that also says how often observations come: nobody else can know."""


class LiveSettings(Settings):
    """Answers to patients' images, as somebody reports them, against what they were like at first."""

    false_alarms: RatedPromise = "1 per year at 1/s"
    """How rarely all readings together may alarm while nothing changes, and how often observations come."""
    reference: int = Field(default=10_000, ge=1, le=100_000)
    """How many observations of the healthy stream are learnt: the more, the smaller a change that can be seen."""
    readings: tuple[str, ...] = ()
    """Those to watch; all of the model's where none is named."""


class ShadowSettings(Settings):
    """Mirrored requests, sent to both engines: the differences of their answers against what they were at first."""

    rate: float = Field(default=0.02, gt=0, le=1)
    """The share of mirrored requests that both engines are asked."""
    false_alarms: RatedPromise = "1 per year at 1/s"
    """As for live answers; what counts are the pairs that come of `rate`."""
    reference: int = Field(default=2_000, ge=1, le=100_000)
    """How many pairs of the healthy engines are learnt."""
    queue: int = Field(default=16, ge=1, le=1024)
    """At most so many requests wait, each with its image in memory; what comes meanwhile is left out."""


def chosen(readings: Sequence[str], named: Sequence[str]) -> tuple[str, ...]:
    """The readings that are watched: those named, or all.

    Raises:
        ValueError: there are none, or one is named that there is not.
    """
    if not readings:
        raise ValueError("no output can be read as a confidence: give one a kind, such as probability")
    for name in named:
        if name not in readings:
            raise ValueError(f"readings: there is no {name!r}; the outputs have {', '.join(readings)}")
    return tuple(dict.fromkeys(named or readings))


def promise_of_each(settings: LiveSettings | ShadowSettings, readings: int) -> Promise:
    """What each reading's detector must promise so that all together keep the settings' promise.

    Raises:
        ValueError: the reference is too small for it.
    """
    each = Promise(run_length=parse(settings.false_alarms).run_length * readings)
    if settings.reference < (least := required(each)):
        said = f"{readings} readings with {settings.false_alarms!r} need {least} observations or more"
        raise ValueError(f"reference: {settings.reference} are too few; {said}")
    return each


def observations_a_day(promise: str) -> float:
    """How many observations a day the text of a promise expects.

    >>> observations_a_day("1 per year at 6/min")
    8640.0
    """
    alarms = re.split(r"\s+at\s+", promise)[0]
    between_alarms_s = parse(alarms, rate_per_s=_ANY_RATE).run_length / _ANY_RATE
    return _DAY_S * parse(promise).run_length / between_alarms_s
