"""How many watchdogs must agree that an engine is at fault before one of them may act (pure)."""

import re
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BeforeValidator, WithJsonSchema

_PERCENT = re.compile(r"([1-9]\d?|100)%")


def _checked(need: Any) -> Any:
    if isinstance(need, int) and not isinstance(need, bool) and need >= 1:
        return need
    if isinstance(need, str) and _PERCENT.fullmatch(need):
        return need
    raise ValueError("write how many must agree, such as 2, or what share of those alive, such as 51%")


Need = Annotated[
    int | str,
    BeforeValidator(_checked),
    WithJsonSchema(
        {"anyOf": [{"type": "integer", "minimum": 1}, {"type": "string", "pattern": f"^{_PERCENT.pattern}$"}]}
    ),
]
"""So many watchdogs, or such a share of those that are alive."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Tally:
    """What the watchdogs of one route think of one model's serving engine."""

    faulty: int
    """How many see a fault."""
    alive: int
    """How many are alive, whatever they see.

    Those without an opinion are among them: they can't measure, and that is no sign of health nor
    of a fault. Left out, they would let fewer decide just when the most are blind.
    """


@dataclass(frozen=True, kw_only=True, slots=True)
class Uncounted:
    """Why it can't be known what they think."""

    detail: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    reached: bool
    detail: str


def needed(need: Need, alive: int) -> int:
    """How many must agree; a share is rounded up, and is never less than one.

    >>> needed("50%", 5), needed("50%", 4), needed("1%", 0), needed(2, 1)
    (3, 2, 1, 2)
    """
    if isinstance(need, int):
        return need
    return max(1, -(-int(need.removesuffix("%")) * alive // 100))


def judge(votes: Tally | Uncounted, need: Need) -> Outcome:
    """Whether enough of those who are alive agree. What can't be counted is not reached."""
    if isinstance(votes, Uncounted):
        return Outcome(reached=False, detail=f"the watchdogs' opinions can't be counted: {votes.detail}")
    enough, tally = needed(need, votes.alive), f"{votes.faulty} of {votes.alive} watchdogs see a fault"
    if votes.faulty > votes.alive:
        return Outcome(reached=False, detail=f"{tally}, which can't be: both must be counted over the same ones")
    return Outcome(reached=votes.faulty >= enough, detail=f"{tally}; {enough} must")
