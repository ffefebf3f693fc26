"""What is left of a killed watchdog, and of the one that was started after it, looked at from outside."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from bench.kills.scenarios import Scenario
from bench.kills.stage import Answer
from bench.two_engines import VERSION
from watchdog.journal.reading import Reader, Stored, opened
from watchdog.journal.verify import verify
from watchdog.model.engine import Role
from watchdog.model.journal import EntryKind
from watchdog.policy.memory import PolicyState
from watchdog.policy.states import State


class Wrong(StrEnum):
    """What must not be."""

    ROUTE = "wrong route"
    RECORD = "lost record"
    OUTCOME = "double or missing outcome"
    STATE = "policy not as the journal has it"
    FAILURE = "failure within the watchdog"


@dataclass(frozen=True, kw_only=True)
class Finding:
    wrong: Wrong
    detail: str


@dataclass(frozen=True, kw_only=True)
class Left:
    """All that several lives of a watchdog with one state folder have left behind."""

    appended: Mapping[int, str] = field(default_factory=dict)
    """Number → hash of each entry that the journal had said is durable."""
    failures: Sequence[str] = ()
    """What went wrong within them, by their own account."""
    rests: PolicyState
    """The policy, as the last watchdog had it in memory."""
    answers: Sequence[Answer | None]
    """Ordinary answers, since."""


def look(scenario: Scenario, state: Path, left: Left) -> list[Finding]:
    """Everything that is not as it must be."""
    failed = [Finding(wrong=Wrong.FAILURE, detail=failure) for failure in left.failures]
    with opened(state) as journal:
        return [*failed, *_records(journal, left.appended), *_outcomes(journal), *_policy(scenario, journal, left)]


def _records(journal: Reader, appended: Mapping[int, str]) -> Iterator[Finding]:
    kept = {stored.link.seq: stored.hash for stored in journal.entries()}
    for seq, told in appended.items():
        held = kept.get(seq)
        if held is None or held.hex() != told:
            what = "is not there" if held is None else "was changed"
            yield Finding(wrong=Wrong.RECORD, detail=f"entry {seq}, of which the journal said it is durable, {what}")
    verified = verify(journal)
    if not verified.right:
        why = verified.misfit or verified.switches.unpaired
        yield Finding(wrong=Wrong.RECORD, detail=f"the journal doesn't verify: {why}")


def _outcomes(journal: Reader) -> Iterator[Finding]:
    intents = [stored.link.seq for stored in journal.entries(kinds=[EntryKind.INTENT])]
    outcomes = [_data(stored)["intent"] for stored in journal.entries(kinds=[EntryKind.OUTCOME])]
    for intent in sorted({*intents, *outcomes}):
        if (intents.count(intent), outcomes.count(intent)) != (1, 1):
            counted = f"{intents.count(intent)} intents and {outcomes.count(intent)} outcomes have number {intent}"
            yield Finding(wrong=Wrong.OUTCOME, detail=counted)


def _policy(scenario: Scenario, journal: Reader, left: Left) -> Iterator[Finding]:
    told = _replayed(journal)
    if _timeless(told) != _timeless(left.rests):
        yield Finding(wrong=Wrong.STATE, detail=f"the journal has {told}, the watchdog {left.rests}")
    if left.rests.state not in scenario.ends:
        wanted = " or ".join(sorted(scenario.ends))
        yield Finding(wrong=Wrong.ROUTE, detail=f"the policy came to no rest in {wanted}: {left.rests}")
    version = VERSION[Role.FAST if told.share == 100 else Role.SAFE]
    if told.share not in (0, 100) or any(a is None or a.version != version or not a.right for a in left.answers):
        given = ", ".join(sorted({str(answer) for answer in left.answers}))
        detail = f"the fast engine's share is {told.share} % by the journal, and ordinary requests got {given}"
        yield Finding(wrong=Wrong.ROUTE, detail=detail)


def _replayed(journal: Reader) -> PolicyState:
    """The policy's state by the journal alone: a switch that no intent followed was never begun."""
    told, seq = PolicyState(), 0
    for stored in journal.entries(kinds=[EntryKind.DECISION]):
        told, seq = PolicyState.from_json(_data(stored)["after"]), stored.link.seq
    told = told.resumed(0)
    begun = any(journal.entries(after=seq, kinds=[EntryKind.INTENT]))
    return told.at_home(0) if told.state is State.SWITCHING and not begun else told


def _timeless(state: PolicyState) -> PolicyState:
    """Without what a restart may begin anew."""
    return replace(state, since=0.0)


def _data(stored: Stored) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(stored.data or "{}")
    return data
