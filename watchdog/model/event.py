"""What happens, as records: the policy consumes some of them, observers see them all."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from watchdog.model.authority import Permission
from watchdog.model.diagnosis import Diagnosis
from watchdog.model.engine import Role
from watchdog.model.gpu import GpuReading, Leak
from watchdog.model.load import Load
from watchdog.model.notice import Delivery, Notice
from watchdog.model.objective import Objective
from watchdog.model.probe import ProbeResult
from watchdog.model.route import Applied, Observed, share_of_fast
from watchdog.model.score import Score
from watchdog.model.verdict import Assessment, Finding


class Command(StrEnum):
    """What a person or a deployment controller may tell the watchdog about one model."""

    ROLLBACK = "rollback"
    """Move to the safe engine, once it is proven."""
    PROMOTE = "promote"
    """Return to the fast engine; it is proven at once and moved away from again if it fails."""
    HOLD = "hold"
    """Move nothing until released; go on probing and alerting."""
    RELEASE = "release"
    """End a hold or a lock."""
    LOOK = "look"
    """Ask canaries about both engines now; what follows is the policy's."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Probed:
    """A canary came back (or did not) and was assessed."""

    model: str
    at: float
    assessment: Assessment


@dataclass(frozen=True, kw_only=True, slots=True)
class Ticked:
    """Time has passed, and a probe of the public name has shown nothing new."""

    model: str
    at: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Beside:
    """A canary came back from the fast engine itself, while it serves little or nothing."""

    model: str
    at: float
    assessment: Assessment


@dataclass(frozen=True, kw_only=True, slots=True)
class Diagnosed:
    model: str
    at: float
    diagnosis: Diagnosis
    began_wrong: bool = False
    """Whether a wrong answer of the serving engine was the occasion."""
    permission: Permission | None = None
    """Of a shared route: whether this watchdog may move it."""
    observed: Observed | None = None
    """Of a shared route, what its router says, if this watchdog follows another."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Proved:
    """A switch's target was probed, before anything is switched."""

    model: str
    at: float
    role: Role
    ok: bool
    detail: str
    assessment: Assessment | None = None
    """The first that was not right."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RouteSeen:
    """A router was asked what is true."""

    model: str
    at: float
    observed: Observed


@dataclass(frozen=True, kw_only=True, slots=True)
class Switched:
    """A switch was tried: what the router said, and whether the public name proved it."""

    model: str
    at: float
    to: Role
    percent: int = 100
    """How much of ordinary traffic `to` should get."""
    applied: Applied
    applied_at: float
    """When the router was done; `at` is when the proof was."""
    proven: bool
    detail: str

    @property
    def fast_percent(self) -> int:
        """The share that the fast engine should then have."""
        return share_of_fast(self.to, self.percent)


@dataclass(frozen=True, kw_only=True, slots=True)
class Commanded:
    model: str
    at: float
    command: Command
    actor: str
    why: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Noticed:
    """A notice was handed to the channels' queues."""

    at: float
    notice: Notice


@dataclass(frozen=True, kw_only=True, slots=True)
class Delivered:
    """A channel was given notices."""

    at: float
    channel: str
    notices: int
    delivery: Delivery


@dataclass(frozen=True, kw_only=True, slots=True)
class Beaten:
    """A dead-man's switch was told that the watchdog lives, or was to be."""

    heartbeat: str
    at: float
    ok: bool
    detail: str


@dataclass(frozen=True, kw_only=True, slots=True)
class CycleFailed:
    """The watchdog's own bug or an impossible state: the loop goes on, and this is loud."""

    model: str
    at: float
    error: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Baselined:
    """A model's baseline and limits are in force (at start and after a reload)."""

    model: str
    at: float
    canaries: int
    captured_at: str
    latency_limits: Mapping[tuple[Role, str], float]
    """(engine, shape profile) → seconds."""
    score_limits: Mapping[tuple[str, str], float]
    """(output, measure) → the limit of that score."""
    every_s: float = 10.0
    """The cadence of probes of the public name."""
    deadline_s: float = 2.0
    """How long an answer may take before the engine counts as hung."""
    objective: float = 0.999
    """The share of those probes that should be answered rightly and in time."""
    latency_objectives: tuple[Objective, ...] = ()
    confidences: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    """Output → the golden answers' confidences, a number for each canary."""


class Source(StrEnum):
    """Where the numbers come from that a detector watches."""

    CANARY = "canary"
    """Canaries' answers, held against their golden ones."""
    LIVE = "live"
    """Answers to patients' images."""
    SHADOW = "shadow"
    """Differences between the two engines' answers to the same patient's image."""
    TIMING = "timing"
    """How long canaries take, by measure, held against the baseline."""
    OBJECTIVE = "objective"
    """A quantile of how long canaries take, over a window."""
    PEERS = "peers"
    """What other watchdogs of the same route hold against the serving engine."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Scored:
    """A detector's newest score: of a batch of observations the last one, and each one that alarms."""

    model: str
    at: float
    source: Source
    reading: str
    score: Score


@dataclass(frozen=True, kw_only=True, slots=True)
class Suspected:
    """Answers are not what they were, or take longer: a burst of canaries must show whose fault that is."""

    model: str
    at: float
    source: Source
    reading: str
    finding: Finding
    by_itself: bool = False
    """Whether it stands even if a burst shows nothing: it is of some answers only, or a fact already."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Learning:
    """A reference grows: nothing is watched in this reading yet."""

    model: str
    at: float
    source: Source
    reading: str
    have: int
    want: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Ignored:
    """Observations, or what had been learnt of them, that were not used."""

    model: str
    at: float
    source: Source
    reading: str
    """Empty where it is about all of them."""
    condition: str
    """Why, as one of a few fixed names, such as ``non-finite`` or ``another-engine``."""
    count: int
    """How many by this event alone."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Timed:
    """Where a probe's time went, as far as will ever be known: once for each probe that was answered.

    Later than `Probed`, since a server tells of a request after it has answered it.
    """

    model: str
    at: float
    result: ProbeResult
    """Without its outputs."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ObjectiveSeen:
    """A probe was held against one objective."""

    model: str
    at: float
    objective: Objective
    met: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Reported:
    """Studies' answers by the fast engine were reported, or learnt of before: a number for each study."""

    model: str
    at: float
    reading: str
    values: tuple[float, ...]
    usual: bool
    """Whether they are the reference, told once and as a whole, rather than news."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LoadSeen:
    """All traffic of one engine since the last time, by the server's own counts."""

    model: str
    at: float
    role: Role
    load: Load | None
    """None where they can't be read."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineSeen:
    """What a server said of an engine, held against what was vetted and what runs it."""

    model: str
    at: float
    role: Role
    tag: str | None
    findings: tuple[Finding, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class GpuSeen:
    at: float
    reading: GpuReading


@dataclass(frozen=True, kw_only=True, slots=True)
class GrowthSeen:
    """The trend of one holder's GPU memory, leaking or not."""

    at: float
    leak: Leak


@dataclass(frozen=True, kw_only=True, slots=True)
class SpansTaken:
    """What became of spans that the trace intake received."""

    at: float
    outcome: str
    """One of a few fixed names, such as ``matched`` or ``foreign``."""
    count: int
