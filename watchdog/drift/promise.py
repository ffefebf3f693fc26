"""Writing a promise the way people make one: ``1 per year at 1/s``."""

import math
import re
from typing import Annotated, Any

from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema

from watchdog.model.score import Promise

_SECONDS = {"s": 1.0, "second": 1.0, "min": 60.0, "minute": 60.0, "h": 3600.0, "hour": 3600.0, "d": 86400.0}
_SECONDS |= {"day": 86400.0, "week": 7 * 86400.0, "month": 365.25 / 12 * 86400.0, "year": 365.25 * 86400.0}
_NUMBER = r"(\d+(?:\.\d+)?)"
_TEXT = re.compile(rf"{_NUMBER}\s*(?:per|/)\s*([a-z]+)(?:\s+at\s+{_NUMBER}\s*(?:per|/)\s*([a-z]+))?")
_LEAST_RUN = 1000.0


def parse(text: str, *, rate_per_s: float | None = None) -> Promise:
    """A promise from ``1 per year at 1/s``.

    Args:
        text: how many false alarms in what time, and how many observations come in what time.
        rate_per_s: observations a second, where the text need not say it.

    Raises:
        ValueError: it is not such a text, or it allows a false alarm more often than every
            1,000 observations, which is no promise.
    """
    match = _TEXT.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is not a promise; write `1 per year at 1/s`: false alarms, and observations")
    count, span, rate, per = match.groups()
    for unit in filter(None, (span, per)):
        if unit not in _SECONDS:
            raise ValueError(f"{unit!r} is not a unit of time; write one of {', '.join(sorted(_SECONDS))}")
    if rate is not None:
        rate_per_s = float(rate) / _SECONDS[per]
    if rate_per_s is None:
        raise ValueError(f"{text!r} does not say how often observations come; write `{text.strip()} at 1/s`")
    if float(count) == 0 or rate_per_s == 0:
        raise ValueError(f"{text!r}: nobody can promise 0 false alarms, or anything of a stream that does not flow")
    run_length = _SECONDS[span] / float(count) * rate_per_s
    if not _LEAST_RUN <= run_length < math.inf:
        raise ValueError(
            f"{text!r} allows a false alarm every {run_length:.3g} observations; at least {_LEAST_RUN:g} make a promise"
        )
    return Promise(run_length=run_length)


def _checked(value: Any) -> Any:
    if not isinstance(value, str):
        raise ValueError("write a promise such as `1 per year at 1/s`")  # noqa: TRY004 - pydantic wants ValueError
    parse(value, rate_per_s=1e9)
    return value.strip()


PromiseText = Annotated[
    str,
    BeforeValidator(_checked),
    PlainSerializer(str, return_type=str),
    WithJsonSchema({"type": "string", "examples": ["1 per year", "1 per year at 1/s"]}),
]
"""A promise as the configuration file has it; `parse` reads it once the rate is known."""
