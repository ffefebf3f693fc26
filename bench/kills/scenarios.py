"""What the watchdog is doing when it is killed, and what must be so once it has been started again."""

from dataclasses import dataclass

from watchdog.model.engine import Role
from watchdog.model.event import Command
from watchdog.policy.states import State


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """A change of the route, from a watchdog at rest until one is at rest again."""

    name: str
    commanded: Command | None = None
    """What a person asks for; None where the watchdog acts by itself."""
    serves: State = State.SERVING_FAST
    """The state to begin from."""
    had_rolled_back: bool = False
    """Whether that state came of a fault, and not of a command."""
    crashed: str = ""
    """The point at which a rollback has been cut off already, so that what it left is to be settled."""
    fast_is_wrong: bool = False
    moved_to: Role | None = None
    """Where the route has been moved meanwhile, by whomever."""
    in_steps: bool = False
    ends: frozenset[State]
    """States that are right, once the watchdog is at rest: a wish that was cut off need not come true."""


_SAFE = frozenset({State.SERVING_SAFE})
_EITHER = frozenset({State.SERVING_FAST, State.SERVING_SAFE})

SCENARIOS = (
    Scenario(name="automatic rollback", fast_is_wrong=True, ends=_SAFE),
    Scenario(name="commanded rollback", commanded=Command.ROLLBACK, ends=_EITHER),
    Scenario(name="commanded promotion", commanded=Command.PROMOTE, serves=State.SERVING_SAFE, ends=_EITHER),
    Scenario(
        name="promotion gone wrong",
        commanded=Command.PROMOTE,
        serves=State.SERVING_SAFE,
        fast_is_wrong=True,
        ends=_SAFE,
    ),
    Scenario(
        name="route moved by others",
        serves=State.SERVING_SAFE,
        fast_is_wrong=True,
        moved_to=Role.FAST,
        ends=_SAFE,
    ),
    Scenario(
        name="return in steps",
        serves=State.SERVING_SAFE,
        had_rolled_back=True,
        in_steps=True,
        ends=frozenset({State.SERVING_FAST}),
    ),
    Scenario(name="restart, not switched", crashed="after journal intent (1)", fast_is_wrong=True, ends=_SAFE),
    Scenario(
        name="restart, switched",
        crashed="before journal outcome (1)",
        fast_is_wrong=True,
        moved_to=Role.SAFE,
        ends=_SAFE,
    ),
)
