"""What the API takes and answers, as models: the OpenAPI document and the handlers have the same ones."""

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field

from watchdog.model.engine import Role
from watchdog.model.event import Command
from watchdog.model.gate import Gate, Passage
from watchdog.model.journal import Entry, EntryKind
from watchdog.model.route import Published

LONGEST_TEXT = 500


class Document(BaseModel):
    """Base of all: frozen, and the text under a field is its description."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True, from_attributes=True)


FreeText = Annotated[str, Field(max_length=LONGEST_TEXT)]
"""The bound also makes pydantic refuse half a character, which nobody can write down."""


class Wish(Document):
    """Who commands, and why: for the journal. Both may be left out."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        json_schema_extra={"example": {"actor": "ann", "why": "the new engine is being vetted"}},
    )

    actor: FreeText = ""
    """A person or a program; the caller's address where absent or empty."""
    why: FreeText = ""


class Problem(Document):
    """Why a request was not answered otherwise, and what to do."""

    error: str


class GateDocument(Document):
    """Whether a deployment of a model may go on."""

    model: str
    passage: Passage
    """`pass`: the fast engine serves, and answers rightly. `fail`: a fault of the engine is confirmed.
    `inconclusive`: not known now."""
    state: str
    """What the watchdog is doing about the model, such as `serving-fast` or `held`."""
    serves: Role
    """The engine that ordinary traffic should get."""
    reason: str
    """A bounded name."""
    detail: str
    """A sentence for people."""
    since: float
    """Since when it is in this state; Unix seconds."""
    healthy_at: float | None
    """When a canary last came back right through the public name; null where none has yet."""

    @classmethod
    def of(cls, gate: Gate) -> Self:
        return cls.model_validate(gate)


class DecisionDocument(Document):
    """One step of the policy."""

    trigger: str
    before: str
    """The state before."""
    after: str
    """The state after."""
    action: str
    reason: str
    """A bounded name."""
    detail: str


class CommandDocument(Document):
    """What came of a command."""

    model: str
    command: Command
    done: bool
    """Whether it is now as the command wanted it, by this command or already. rollback: the safe engine gets all
    traffic. promote: the fast engine gets all, or its first or next share in a return by steps. hold: held.
    release: neither held nor locked. look: canaries were asked."""
    fast_percent: int
    """The fast engine's share of ordinary traffic now."""
    gate: GateDocument
    """What is true now."""
    decisions: tuple[DecisionDocument, ...]
    """All that the command led to; a single one whose state is the same before and after changed nothing."""

    @classmethod
    def of(
        cls, command: Command, decisions: Iterable[Mapping[str, Any]], before: Published, after: Published, gate: Gate
    ) -> Self:
        steps = tuple(DecisionDocument.model_validate(each) for each in decisions)
        match command:
            case Command.ROLLBACK:
                done = after.fast_percent == 0
            case Command.PROMOTE:
                done = after.fast_percent == 100 or after.fast_percent > before.fast_percent
            case Command.HOLD:
                done = gate.state == "held"
            case Command.RELEASE:
                done = gate.state not in {"held", "locked"}
            case Command.LOOK:
                done = any(step.action == "diagnose" for step in steps)
        return cls(
            model=gate.model,
            command=command,
            done=done,
            fast_percent=after.fast_percent,
            gate=GateDocument.of(gate),
            decisions=steps,
        )


class AddressDocument(Document):
    """Where an engine's requests go."""

    endpoint: str
    """Its name in the configuration."""
    model: str
    version: str
    """Empty where requests don't pin one."""


class RouteDocument(Document):
    """The route that a gateway should have. Holds nothing that changes while the route doesn't."""

    model: str
    role: Role
    """The engine that gets the larger share."""
    fast_percent: Annotated[int, Field(ge=0, le=100)]
    """The fast engine's share of ordinary traffic; the safe engine gets the rest."""
    engines: Mapping[Role, AddressDocument]

    @classmethod
    def of(cls, route: Published) -> Self:
        """Roles always come in the same order, since a page's tag is its bytes'."""
        engines = {role: AddressDocument.model_validate(route.engines[role]) for role in Role if role in route.engines}
        return cls(model=route.model, role=route.role, fast_percent=route.fast_percent, engines=engines)


class EntryDocument(Document):
    """One entry of the journal."""

    seq: int
    """Its number; they rise, and other kinds of entry leave gaps."""
    at: float
    """Unix seconds."""
    kind: EntryKind
    model: str
    """Empty where it is about the whole watchdog."""
    data: Mapping[str, Any]
    """The facts, by kind; empty where they were forgotten."""


class JournalDocument(Document):
    """The journal's newest entries."""

    entries: tuple[EntryDocument, ...]
    """The newest first."""

    @classmethod
    def of(cls, entries: Iterable[Entry]) -> Self:
        """From the oldest to the newest, as the journal gives them."""
        return cls(entries=tuple(EntryDocument.model_validate(entry) for entry in entries)[::-1])


class Reloaded(Document):
    reloaded: bool


class Taken(Document):
    taken: int
    """How many."""
