"""What the policy remembers of one model between events, and across restarts."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Self

from watchdog.model.diagnosis import OF_THE_ENGINE
from watchdog.model.engine import Role
from watchdog.model.route import share_of_fast
from watchdog.policy.states import State

DAY_S = 86400.0

WRONG_LATELY_S = 3600.0
"""How long an engine that is wrong now and then, where that moves nothing, goes on being told and held against it."""


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

    def is_recent(self, now: float, within_s: float) -> bool:
        """Whether it is no older; of a time to come it is not either, since clocks are set back at times."""
        return abs(now - self.since) < within_s


@dataclass(frozen=True, kw_only=True, slots=True)
class PolicyState:
    """All that the policy remembers of one model. Becomes JSON and back."""

    state: State = State.SERVING_FAST
    since: float = 0.0
    desired: Role = Role.FAST
    """The engine ordinary traffic should get; changes only when a switch has been proven."""
    share: int = 100
    """The fast engine's share of ordinary traffic in percent; between 0 and 100 only while it returns in steps."""
    target: Role | None = None
    """Where a switch under way is going."""
    target_percent: int = 100
    """How much of ordinary traffic `target` is to get."""
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
    """When switches were tried that no router has refused, in the last day. Steps of one return count once."""
    wrong: tuple[float, ...] = ()
    """When the serving engine was wrong once, and right when it was asked again."""
    intermittent: Trouble | None = None
    """The last time that this was too often, where it moves nothing."""
    waits_since: float = 0.0
    """From when the time is counted that the way back must wait, or that a probation lasts."""
    failed_returns: int = 0
    """How often in a row the fast engine failed on its way back by itself."""
    good: int = 0
    """Right answers of the fast engine in the present stage of its way back."""
    by_itself: bool = False
    """Whether the way back to the fast engine, until its probation is over, is the watchdog's own."""

    @property
    def home(self) -> State:
        if self.desired is Role.FAST:
            return State.PROBATION if self.by_itself else State.SERVING_FAST
        return State.RETURNING if self.share > 0 else State.SERVING_SAFE

    @property
    def fault(self) -> str | None:
        """What is held against the engine that should be serving; a route's own troubles are none of it."""
        trouble = self.trouble
        return trouble.conclusion if trouble is not None and trouble.conclusion in OF_THE_ENGINE else None

    @property
    def on_trial(self) -> Role:
        """The engine whose fault would be a reason to move."""
        return Role.FAST if self.share > 0 else Role.SAFE

    @property
    def route(self) -> tuple[Role, int]:
        """The route as a router is asked for it: a role, and its share in percent."""
        return (Role.FAST, self.share) if self.share > 0 else (Role.SAFE, 100)

    @property
    def wanted_share(self) -> int:
        """The fast engine's share as it should be now: while a switch is under way, its target's."""
        return self.share if self.target is None else share_of_fast(self.target, self.target_percent)

    def recent_switches(self, now: float) -> tuple[float, ...]:
        """Those of the last 24 hours; a clock that was set back since has undone none of them."""
        return tuple(min(at, now) for at in self.switches if now - DAY_S < at)

    def wrong_now_and_then(self, now: float) -> Trouble | None:
        """The intermittent fault that was seen lately, if one was."""
        seen = self.intermittent
        return seen if seen is not None and seen.is_recent(now, WRONG_LATELY_S) else None

    @classmethod
    def found(cls, share: int, now: float) -> Self:
        """The state to begin with where nothing is remembered: the route as it is found was somebody's wish.

        One that is divided is not led on before a person says so.
        """
        if share == 100:
            return cls(since=now)
        state = State.SERVING_SAFE if share == 0 else State.HELD
        return cls(state=state, since=now, desired=Role.SAFE, share=share, waits_since=now)

    def resumed(self, now: float) -> Self:
        """The state to start from after a restart: what was under way is looked at afresh.

        A burst or a proof that was cut off leaves the route as it was, and the first probe begins
        anew. A switch may or may not have happened: its journal entries and its router must tell.
        """
        if self.state in (State.CONFIRMING, State.PROVING):
            return self.at_home(now)
        if self.state in (State.RECOVERING, State.RETURNING):
            return replace(self, since=now, good=0)  # nobody looked meanwhile
        return self

    def towards(self, target: Role, percent: int, now: float) -> Self:
        """In the middle of a switch."""
        if self.state is State.SWITCHING and (self.target, self.target_percent) == (target, percent):
            return self
        return replace(self, state=State.SWITCHING, since=now, target=target, target_percent=percent)

    def at_home(self, now: float) -> Self:
        """With nothing under way."""
        return replace(self, state=self.home, since=now, target=None, target_percent=100, commanded=False)

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"switches": list(self.switches), "wrong": list(self.wrong)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """The inverse of `to_json`.

        Raises:
            ValueError: the data is not a policy state.
        """
        try:
            desired = Role(data["desired"])
            return cls(
                state=State(data["state"]),
                since=float(data["since"]),
                desired=desired,
                share=int(data.get("share", 100 if desired is Role.FAST else 0)),  # older journals know no shares
                target=None if data["target"] is None else Role(data["target"]),
                target_percent=int(data.get("target_percent", 100)),
                commanded=bool(data["commanded"]),
                trouble=_trouble(data["trouble"]),
                cause=_trouble(data["cause"]),
                reasserted=_trouble(data["reasserted"]),
                drifted=_trouble(data.get("drifted")),  # journals of before know nothing of it
                slowed=_trouble(data.get("slowed")),
                switches=tuple(float(at) for at in data["switches"]),
                wrong=tuple(float(at) for at in data.get("wrong", ())),
                intermittent=_trouble(data.get("intermittent")),
                waits_since=float(data.get("waits_since", data["since"])),
                failed_returns=int(data.get("failed_returns", 0)),
                good=int(data.get("good", 0)),
                by_itself=bool(data.get("by_itself", False)),
            )
        except (KeyError, TypeError, OverflowError) as error:
            raise ValueError(f"not a policy state: {error!r}") from error


def _trouble(data: Mapping[str, Any] | None) -> Trouble | None:
    return None if data is None else Trouble(**data)
