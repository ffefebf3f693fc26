"""Watchdogs' opinions as a Prometheus knows them, from the metrics that they have anyway."""

import asyncio
import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal
from urllib.parse import urlencode

from pydantic import AfterValidator

from watchdog.settings import Duration
from watchdog.sharing.quorum import Need, Tally, Uncounted
from watchdog.transport import Server, one_line

_MODEL, _FRESH = "$model", "$fresh"
_FAULT = f'watchdog_engine_fault{{model="{_MODEL}"}}'
_SEEN = f"{_FAULT} and time() - timestamp({_FAULT}) < {_FRESH}"


def _names_model(expression: str) -> str:
    if _MODEL not in expression:
        raise ValueError(f'must say which model it counts for, as in metric{{model="{_MODEL}"}}')
    return expression


Expression = Annotated[str, AfterValidator(_names_model)]
"""PromQL that gives one number, or none, which counts as 0; ``$model`` stands for the model's name, within quotes."""


class PrometheusQuorumSettings(Server):
    """A Prometheus that scrapes all watchdogs of the route; any server of its HTTP API will do."""

    by: Literal["prometheus"]
    need: Need
    """How many must see a fault, such as 2, or what share of those alive, such as 51%."""
    faulty: Expression = f"sum({_SEEN})"
    """How many see a fault. ``$fresh`` stands for `fresh`, in seconds."""
    alive: Expression = f"count({_SEEN})"
    """How many are alive."""
    fresh: Duration = 60.0
    """What was scraped longer ago does not count: at least twice the scrape interval."""
    timeout: Duration = 5.0
    """For the answers."""


class _UnusableError(Exception):
    """An answer can't be counted on; the text tells what to do."""


class PrometheusVotes:
    """Asks for two numbers. Opinions arrive there by being scraped, this watchdog's own too.

    A fault is therefore seen by all only after everyone's next scrape, and a quorum by Prometheus
    is reached by asking again.
    """

    def __init__(self, settings: PrometheusQuorumSettings) -> None:
        from watchdog.exchange import UnansweredError, exchange  # noqa: PLC0415 (aiohttp; no switch waits for it)

        self._settings = settings
        self._exchange = exchange
        self._unanswered = UnansweredError

    async def cast(self, model: str, fault: str | None) -> None:
        """There is nothing to do: it is scraped."""

    async def count(self, model: str) -> Tally | Uncounted:
        settings = self._settings
        try:
            faulty, alive = await asyncio.gather(
                self._number("faulty", settings.faulty, model), self._number("alive", settings.alive, model)
            )
        except (_UnusableError, self._unanswered) as error:
            return Uncounted(detail=str(error))
        if not alive:
            detail = f"{settings.base_url} knows of no watchdog of {model}: does it scrape them, and match `alive`?"
            return Uncounted(detail=detail)
        return Tally(faulty=faulty, alive=alive)

    async def keep(self) -> None:
        """There is nothing to renew."""

    async def close(self) -> None:
        """Nothing is kept open."""

    async def _number(self, field: str, expression: str, model: str) -> int:
        settings = self._settings
        query = expression.replace(_MODEL, _escaped(model)).replace(_FRESH, f"{settings.fresh:g}")
        url = f"{settings.base_url}/api/v1/query?{urlencode({'query': query, 'timeout': f'{settings.timeout:g}'})}"
        answer = await self._exchange(settings, "GET", url, timeout_s=settings.timeout)
        if answer.status in {401, 403}:
            raise _UnusableError(f"{answer}; add the header that it asks for to `secret_headers`")
        if not answer.ok:
            raise _UnusableError(f"{answer.origin}: {answer.status} {answer.text}; see the quorum's `{field}`")
        try:
            return _whole(answer.json())
        except _UnusableError as error:
            raise _UnusableError(f"{answer.origin}, for the quorum's `{field}`: {error}") from error


def _whole(answer: Any) -> int:
    """The number in an instant query's answer. Raises _UnusableError."""
    if not isinstance(answer, Mapping) or answer.get("status") != "success":
        raise _UnusableError("this is no answer of Prometheus' HTTP API; check `url`")
    if answer.get("warnings"):
        raise _UnusableError(f"the answer may be partial ({one_line(str(answer['warnings']))})")
    match answer.get("data"):
        case {"resultType": "scalar", "result": [_, str(text)]}:
            return _count(text)
        case {"resultType": "vector", "result": []}:
            return 0
        case {"resultType": "vector", "result": [{"value": [_, str(text)]}]}:
            return _count(text)
        case {"resultType": "vector", "result": [*several]}:
            raise _UnusableError(f"the expression gives {len(several)} series: make them one, with sum() or count()")
        case _:
            raise _UnusableError("the expression gives neither a scalar nor one series")


def _count(text: str) -> int:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (value >= 0 and value.is_integer()):
        raise _UnusableError(f"{one_line(text)} is no number of watchdogs")
    return int(value)


def _escaped(model: str) -> str:
    """For a PromQL string in either kind of quotes."""
    return model.replace("\\", r"\\").replace('"', r"\"").replace("'", r"\'").replace("\n", r"\n")
