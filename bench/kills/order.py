"""What one watchdog is to do in its life."""

import json
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from watchdog.model.event import Command
from watchdog.policy.states import State


@dataclass(frozen=True, kw_only=True)
class Order:
    """One watchdog's life."""

    state: Path
    """Its state folder, which must be there."""
    command: Command | None = None
    """What it is told once it has begun."""
    ends: Collection[State]
    """It ends by itself once its policy is in one of these; with a command, once that was carried out."""
    calm_rounds: int = 0
    """How many probes and looks in a row must change nothing before it ends."""
    kill_at: str = ""
    """The point that kills it, if it comes that far; empty for none."""

    def to_json(self) -> str:
        return json.dumps(
            {
                "state": str(self.state),
                "command": self.command,
                "ends": sorted(self.ends),
                "calm_rounds": self.calm_rounds,
                "kill_at": self.kill_at,
            }
        )

    @classmethod
    def from_json(cls, text: str) -> "Order":
        data = json.loads(text)
        return cls(
            state=Path(data["state"]),
            command=None if data["command"] is None else Command(data["command"]),
            ends=[State(each) for each in data["ends"]],
            calm_rounds=data["calm_rounds"],
            kill_at=data["kill_at"],
        )
