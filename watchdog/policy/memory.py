"""What the policy remembers of one model between events, and across restarts."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Self

from watchdog.model.engine import Role
from watchdog.policy.states import State

DAY_S = 86400.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Trouble:
    """Why a model is not simply being served as it should be."""

    reason: str
    """A bounded name: a finding's reason, a conclusion, or ``switch-failed``."""
    conclusion: str
    detail: str
    since: float

    def same_as(self, other: "Trouble | None") -> bool:
        return other is not None and (self.reason, self.conclusion) == (other.reason, other.conclusion)


@dataclass(frozen=True, kw_only=True, slots=True)
class PolicyState:
    """All that the policy remembers of one model. Becomes JSON and back."""

    state: State = State.SERVING_FAST
    since: float = 0.0
    desired: Role = Role.FAST
    """The engine ordinary traffic should get; changes only when a switch has been proven."""
    target: Role | None = None
    """Where a switch under way is going."""
    commanded: bool = False
    """Whether the switch under way was a person's wish."""
    trouble: Trouble | None = None
    """What is wrong now; lasts until a diagnosis clears it."""
    cause: Trouble | None = None
    """Why the watchdog itself moved traffic to the safe engine; lasts until the return to fast."""
    reasserted: Trouble | None = None
    """The last time the route was found moved and put back."""
    drifted: Trouble | None = None
    """The last time that patients' answers had changed while both engines were right."""
    slowed: Trouble | None = None
    """The last time that the serving engine took longer than at the baseline, within its limits."""
    switches: tuple[float, ...] = ()
    """When switches were tried that no router has refused, in the last day."""

    @property
    def home(self) -> State:
        return State.SERVING_FAST if self.desired is Role.FAST else State.SERVING_SAFE

    def recent_switches(self, now: float) -> tuple[float, ...]:
        """Those of the last 24 hours."""
        return tuple(at for at in self.switches if now - DAY_S < at <= now)

    def resumed(self, now: float) -> Self:
        """The state to start from after a restart: what was under way is looked at afresh.

        A burst or a switch that was cut off leaves the desired route as it was; the first probe
        of the public name shows which engine answers, and the table does the rest.
        """
        if self.state in (State.CONFIRMING, State.PROVING, State.SWITCHING):
            return replace(self, state=self.home, since=now, target=None, commanded=False)
        return self

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"switches": list(self.switches)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """The inverse of `to_json`.

        Raises:
            ValueError: the data is not a policy state.
        """
        try:
            return cls(
                state=State(data["state"]),
                since=float(data["since"]),
                desired=Role(data["desired"]),
                target=None if data["target"] is None else Role(data["target"]),
                commanded=bool(data["commanded"]),
                trouble=_trouble(data["trouble"]),
                cause=_trouble(data["cause"]),
                reasserted=_trouble(data["reasserted"]),
                drifted=_trouble(data.get("drifted")),  # journals of before know nothing of it
                slowed=_trouble(data.get("slowed")),
                switches=tuple(float(at) for at in data["switches"]),
            )
        except (KeyError, TypeError, OverflowError) as error:
            raise ValueError(f"not a policy state: {error!r}") from error


def _trouble(data: Mapping[str, Any] | None) -> Trouble | None:
    return None if data is None else Trouble(**data)
