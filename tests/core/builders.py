"""A small world for the core: two engines that compute, a route that moves, and all that can go wrong.

Every fake keeps its port's promises, and what each of them does lands in one list, in order.
"""

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np

from tests.core.virtual_time import EPOCH, now
from watchdog import measures
from watchdog.assess import AssessSettings, Judge, LatencySettings, OutputKind, OutputSettings, drifted
from watchdog.canary_drift import CanaryDrift, golden_logits
from watchdog.cycle import Cycle
from watchdog.latency_watch import LatencyWatch
from watchdog.model.authority import Permission
from watchdog.model.baseline import Baseline, EngineReference, Golden, Latency
from watchdog.model.canary import Canary
from watchdog.model.engine import Address, Answerer, Counters, Description, Engine, Role
from watchdog.model.event import Source, Suspected, Timed
from watchdog.model.fault import Blame, Fault, FaultKind
from watchdog.model.journal import Entry, EntryKind
from watchdog.model.load import Statistics
from watchdog.model.notice import Delivery, Notice
from watchdog.model.probe import Attribution, InferRequest, Part, ProbeResult, Reply, Timing
from watchdog.model.route import Applied, Observed
from watchdog.model.score import Alarm, Promise, Score
from watchdog.model.tensor import Array
from watchdog.model.verdict import Assessment, Finding, Reason, Verdict
from watchdog.panel import ProbeSettings
from watchdog.policy.memory import PolicyState
from watchdog.policy.settings import Allowed, PolicySettings
from watchdog.policy.states import State
from watchdog.ports import Event
from watchdog.prober import Prober, Target
from watchdog.routers.refusal import refused_share
from watchdog.timekeeper import Timekeeper

MODEL = "nodule"
OUTPUT = "p"
PUBLIC = Address(endpoint="e", model=MODEL)
ENGINES = {
    role: Engine(role=role, address=Address(endpoint="e", model=MODEL, version=version))
    for role, version in ((Role.FAST, "1"), (Role.SAFE, "2"))
}
VERSIONS = {engine.address.version: role for role, engine in ENGINES.items()}


def a_canary(id: str = "c0", probability: float = 0.9, **more: Any) -> Canary:  # noqa: A002 - the field's name
    """Its right answer is `probability`: the engines of this world answer with their input's mean."""
    inputs = {"x": np.full((2, 8), probability, dtype=np.float32)}
    given: dict[str, Any] = {"inputs": inputs, "sha256": "0" * 64, "source": f"{id}.dcm", "profile": "opt"} | more
    return Canary(id=id, **given)


CANARIES = tuple(a_canary(f"c{i}", p, tolerance=1e-3) for i, p in enumerate((0.95, 0.1, 0.6, 0.3, 0.8)))


def right_answer(inputs: Mapping[str, Array]) -> dict[str, Array]:
    return {OUTPUT: np.asarray(inputs["x"].mean(axis=1, keepdims=True), dtype=np.float32)}


def a_baseline(canaries: Sequence[Canary] = CANARIES, **more: Any) -> Baseline:
    habit = EngineReference(version="", tag=None, latency={"opt": Latency(median_s=0.02, p99_s=0.1)})
    given: dict[str, Any] = {
        "model": MODEL,
        "created_at": "2026-01-01T00:00:00+00:00",
        "server": "fake 1.0",
        "recipe_sha256": "a" * 64,
        "canaries": {c.id: c.sha256 for c in canaries},
        "engines": {role: replace(habit, version=ENGINES[role].address.version) for role in Role},
        "golden": {c.id: Golden(outputs=right_answer(c.inputs), spread={OUTPUT: 0.0}) for c in canaries},
        "repeats": 1,
    }
    return Baseline(**(given | more))


def settings(**more: Any) -> AssessSettings:
    outputs = (OutputSettings(name=OUTPUT, kind=OutputKind.PROBABILITY),)
    return AssessSettings(**({"outputs": outputs, "latency": LatencySettings()} | more))


def a_judge(canaries: Sequence[Canary] = CANARIES, *, baseline: bool = True, **more: Any) -> Judge:
    return Judge(
        settings=settings(**more),
        engines=ENGINES,
        canaries={c.id: c for c in canaries},
        baseline=a_baseline(canaries) if baseline else None,
    )


def a_captured_judge(judge: Judge, repeats: int = 5) -> Judge:
    """The same judge, whose baseline knows how both engines' answers vary by themselves."""
    assert judge.baseline is not None
    rng, right = np.random.default_rng(1), golden_logits(judge.settings, judge.baseline.golden)
    engines = {
        role: replace(
            engine,
            residuals={
                canary: {reading: tuple(rng.normal(0.0, 2e-3, repeats).tolist()) for reading in readings}
                for canary, readings in right.items()
            },
        )
        for role, engine in judge.baseline.engines.items()
    }
    return replace(judge, baseline=replace(judge.baseline, engines=engines))


PARTS = {
    Part.CLIENT: 0.2e-3,
    Part.NETWORK: 1.0e-3,
    Part.FRONT_END: 0.5e-3,
    Part.QUEUE: 0.3e-3,
    Part.INPUT: 0.5e-3,
    Part.DEVICE: 2.0e-3,
    Part.OUTPUT: 0.5e-3,
}
"""Where 5 ms go."""


def a_timing(
    attribution: Attribution = Attribution.TRACE, *, longer: Mapping[Part, float] | None = None, scale: float = 1.0
) -> Timing:
    """Of a probe of `PARTS`, of which only a trace tells all.

    Args:
        attribution: how its device time is known.
        longer: factors of single parts.
        scale: a factor of all.
    """
    parts = {part: scale * (longer or {}).get(part, 1.0) * seconds for part, seconds in PARTS.items()}
    return Timing(
        sent_at=EPOCH,
        total_s=sum(parts.values()),
        device_s=None if attribution is Attribution.NONE else parts[Part.DEVICE],
        attribution=attribution,
        parts=parts if attribution is Attribution.TRACE else {},
    )


def a_timed_judge(judge: Judge, attribution: Attribution = Attribution.TRACE, probes: int = 36) -> Judge:
    """The same judge, whose baseline knows how long both engines' probes took: as `a_timing`, give or take 5 %."""
    assert judge.baseline is not None
    scales = np.exp(np.random.default_rng(4).normal(0.0, 0.05, probes)).tolist()
    timings = [a_timing(attribution, scale=scale) for scale in scales]
    latency = {"opt": measures.reference(timings, median_s=0.005, p99_s=0.006)}
    engines = {role: replace(engine, latency=latency) for role, engine in judge.baseline.engines.items()}
    return replace(judge, baseline=replace(judge.baseline, engines=engines))


def a_score(*, alarm: bool = True, **more: Any) -> Score:
    """A detector's score; at its alarm, or well below it."""
    promise = Promise(run_length=1e6)
    said = Alarm(observations_ago=40, bet="scale-0.5", sentence="logits scaled by about 0.5") if alarm else None
    given: dict[str, Any] = {"statistic": 2e6 if alarm else 3.0, "threshold": promise.threshold, "promise": promise}
    return Score(**(given | {"observations": 500, "alarm": said} | more))


def a_result(**more: Any) -> ProbeResult:
    given: dict[str, Any] = {
        "model": MODEL,
        "canary": "c0",
        "profile": "opt",
        "address": PUBLIC,
        "expected": Role.FAST,
        "public": True,
        "seed": 7,
        "timing": Timing(sent_at=EPOCH, total_s=0.005),
        "answered_by": Answerer(model=MODEL, version="1"),
    }
    return ProbeResult(**(given | more))


def a_finding(reason: Reason = Reason.PARITY, verdict: Verdict = Verdict.FAILED, **more: Any) -> Finding:
    given: dict[str, Any] = {"score": 1.0, "limit": 0.1, "detail": f"{reason} was found"} | more
    return Finding(reason=reason, verdict=verdict, **given)


def assessed(*findings: Finding, verdict: Verdict | None = None, **more: Any) -> Assessment:
    """An assessment of a probe: healthy without findings, else as bad as the first of them."""
    judged = verdict or (findings[0].verdict if findings else Verdict.HEALTHY)
    return Assessment(result=a_result(**more), verdict=judged, findings=findings)


Behaviour = str
"""``right``, ``zeros``, ``nan``, ``flat``, ``shifted`` (logits by 0.3, within every limit),
``slow``, ``hang``, ``refuse``, ``impostor`` or ``raise``."""


@dataclass(kw_only=True)
class World:
    """What is true: how each engine behaves, which one the public name gets, what a disk does."""

    fast: Behaviour = "right"
    safe: Behaviour = "right"
    serving: Role = Role.FAST
    percent: int = 100
    """How much of ordinary traffic `serving` gets; the other engine gets the rest."""
    names_versions: bool = True
    response_cache: bool = False
    log: list[tuple[Any, ...]] = field(default_factory=list)
    """What was asked of the world, in order."""
    on_infer: Callable[[InferRequest], None] | None = None
    """Told of each request before it is answered, so that a test may change the world."""
    statistics: dict[Role, Statistics | Fault] = field(default_factory=dict)
    description: dict[str, Any] = field(default_factory=dict)
    """What the server says of its engines, beside the rest."""
    timing: Callable[[Role], Timing] | None = None
    """What is told of where an answer's time went, if it is not only that it took as long as it did."""
    on_apply: Callable[[Role], None] | None = None
    """Told when a router is asked for a route."""
    _owed: int = 0

    def behaviour(self, role: Role) -> Behaviour:
        return self.fast if role is Role.FAST else self.safe

    def answers_public(self) -> Role:
        """Who gets the next ordinary request: as evenly divided as can be."""
        self._owed += self.percent
        if self._owed < 100:
            return self.serving.other
        self._owed -= 100
        return self.serving

    def asked(self, verb: str) -> list[tuple[Any, ...]]:
        return [line for line in self.log if line[0] == verb]


class FakeEndpoint:
    """Answers as the world is when the request arrives."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.counters = Counters()

    async def infer(self, request: InferRequest, timeout_s: float) -> Reply | Fault:
        world, version = self.world, request.address.version
        if world.on_infer is not None:
            world.on_infer(request)
        role = VERSIONS[version] if version else world.answers_public()
        path = str(role) if version else "public"
        world.log.append(("infer", path, now(), float(np.mean(request.inputs["x"]))))
        behaviour = world.behaviour(role)
        took = {"slow": 0.5, "hang": timeout_s}.get(behaviour, 0.005)
        await asyncio.sleep(took)
        if behaviour == "raise":
            raise ZeroDivisionError("a bug in the adapter")
        if behaviour == "hang":
            return Fault(kind=FaultKind.TIMEOUT, blame=Blame.SERVER, detail=f"no answer within {timeout_s:g} s")
        if behaviour == "refuse":
            return Fault(kind=FaultKind.REFUSED, blame=Blame.NETWORK, detail="nothing listens")
        timing = Timing(sent_at=now() - took, total_s=took)
        if world.timing is not None:
            timing = replace(world.timing(role), sent_at=timing.sent_at)
        answerer = Answerer(model=MODEL, version="9" if behaviour == "impostor" else ENGINES[role].address.version)
        return Reply(
            outputs={OUTPUT: _spoilt(behaviour, right_answer(request.inputs)[OUTPUT])},
            answered_by=answerer if world.names_versions else Answerer(),
            timing=timing,
        )

    async def describe(self, address: Address, timeout_s: float) -> Description | Fault:
        world = self.world
        world.log.append(("describe", str(address), now()))
        await asyncio.sleep(0.001)
        if world.behaviour(VERSIONS.get(address.version, world.serving)) in ("refuse", "hang"):
            return Fault(kind=FaultKind.REFUSED, blame=Blame.NETWORK, detail="nothing listens")
        return Description(
            inputs=(),
            outputs=(),
            **{
                "server": "fake 1.0",
                "tag": f"tag-{address.version}",
                "response_cache": world.response_cache,
                "counters": self.counters,
                **world.description,
            },
        )

    async def statistics(self, address: Address, timeout_s: float) -> Statistics | Fault:
        await asyncio.sleep(0.001)
        return self.world.statistics.get(VERSIONS[address.version], Statistics())

    async def close(self) -> None: ...


def _spoilt(behaviour: Behaviour, right: Array) -> Array:
    """What an engine that went wrong in this way says instead of `right`."""
    match behaviour:
        case "zeros":
            return np.zeros_like(right)
        case "nan":
            return np.full_like(right, np.nan)
        case "flat":
            return np.full_like(right, 0.5)
        case "shifted":
            odds = 1.35 * right / (1 - right)
            return np.asarray(odds / (1 + odds), dtype=right.dtype)
        case _:
            return right


class FakeRouter:
    """Really moves the world's route, unless told to refuse or to pretend."""

    weighted: ClassVar[bool] = False
    keeps_both: ClassVar[bool] = True
    look_every_s: ClassVar[float] = 30.0

    def __init__(self, world: World) -> None:
        self.world = world
        self.routes: list[tuple[Role, int]] = []
        """What it was asked for."""
        self.refuses = False
        self.pretends = False
        self.lag_s = 0.0
        """How long after `apply` the route really moves."""
        self.says: Observed | None = None

    async def apply(self, desired: Role, percent: int = 100) -> Applied:
        self.world.log.append(("apply", desired))
        self.routes.append((desired, percent))
        if self.world.on_apply is not None:
            self.world.on_apply(desired)
        await asyncio.sleep(0.01)
        if self.refuses:
            return Applied(ok=False, detail="the router is away", took_s=0.01)
        if percent != 100 and not self.weighted:
            return refused_share(self)
        if not self.pretends:
            asyncio.get_running_loop().call_later(self.lag_s, self._move, desired, percent)
            await asyncio.sleep(0)
        return Applied(ok=True, detail=f"{desired} it is", took_s=0.01)

    async def observe(self) -> Observed:
        self.world.log.append(("observe",))
        await asyncio.sleep(0.001)
        role, percent = self.world.serving, self.world.percent
        return self.says or Observed(role=role, detail=f"traffic gets {role}", percent=percent)

    def _move(self, desired: Role, percent: int) -> None:
        self.world.serving, self.world.percent = desired, percent

    async def close(self) -> None: ...


class DividingRouter(FakeRouter):
    """Like a gateway."""

    weighted: ClassVar[bool] = True


class OneEngineRouter(FakeRouter):
    """Like Triton's version policy: the fast engine is there only while it serves."""

    look_every_s: ClassVar[float] = 1.0
    keeps_both: ClassVar[bool] = False


class FakeAuthority:
    """Says what a test makes it say."""

    keep_every_s = 2.0

    def __init__(self, *, leads: bool = True, agreed: bool = True) -> None:
        self.leads = leads
        self.agreed = agreed
        """Whether the others see the fault too, if there is one."""
        self.asked: list[str | None] = []
        self.others_see: str | None = None

    async def ask(self, model: str, fault: str | None) -> Permission:
        self.asked.append(fault)
        ok = self.leads and (self.agreed or fault is None)
        return Permission(ok=ok, leads=self.leads, detail="as the others say")

    async def called(self, model: str) -> str | None:
        return self.others_see

    async def keep(self) -> None: ...

    async def close(self) -> None: ...


class FakeJournal:
    """The simplest journal, whose disk can be full for some kinds of entry."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.entries: list[Entry] = []
        self.full_for: frozenset[EntryKind] = frozenset()
        self.unreadable = False

    async def append(self, entry: Entry) -> Entry:
        await asyncio.sleep(0)
        if entry.kind in self.full_for:
            raise OSError(28, "No space left on device")
        self.world.log.append(("journal", entry.kind, dict(entry.data)))
        self.entries.append(replace(entry, seq=len(self.entries) + 1))
        return self.entries[-1]

    async def tail(self, limit: int, model: str | None = None) -> Sequence[Entry]:
        return [e for e in self.entries if model in (None, e.model)][-limit:]

    async def last(self, kind: EntryKind, model: str) -> Entry | None:
        if self.unreadable:
            raise OSError(5, "Input/output error")
        return next((e for e in reversed(self.entries) if (e.kind, e.model) == (kind, model)), None)

    async def close(self) -> None: ...


class FakeChannel:
    """Remembers what it was handed; its receiver can be away, slow, dead or of another opinion."""

    def __init__(self) -> None:
        self.took: list[Notice] = []
        self.attempts: list[float] = []
        """When something was handed over, taken or not."""
        self.answer = Delivery(ok=True)
        self.takes_s = 0.0
        self.raises: Exception | None = None

    async def deliver(self, notices: Sequence[Notice]) -> Delivery:
        self.attempts.append(now())
        await asyncio.sleep(self.takes_s)
        if self.raises is not None:
            raise self.raises
        if self.answer.ok:
            self.took += notices
        return self.answer

    def told(self) -> list[tuple[str, str]]:
        return [(str(n.kind), n.condition.name) for n in self.took]

    async def close(self) -> None: ...


def a_prober(world: World, observe: Callable[[Event], None] = lambda _: None, **more: Any) -> Prober:
    target = Target(model=MODEL, engines=ENGINES, public=PUBLIC, endpoints={"e": FakeEndpoint(world)}, deadline_s=2.0)
    judge, timekeeper = a_judge(**more), a_timekeeper()
    return Prober(target, judge, observe, now, seeds=random.Random(5), timekeeper=timekeeper)


def a_timekeeper(**more: Any) -> Timekeeper:
    """One that has no intake, unless told otherwise."""
    return Timekeeper(now, lambda _outcome, _count: None, **({"listening": False} | more))


def a_suspicion(
    source: Source = Source.LIVE, *, at: float = EPOCH, finding: Finding | None = None, **more: Any
) -> Suspected:
    found = finding or drifted(a_score(), str(source))
    assert found is not None
    return Suspected(model=MODEL, at=at, source=source, reading=OUTPUT, finding=found, **more)


@dataclass(kw_only=True)
class Watch:
    """A cycle in a world, and all that it touched."""

    world: World
    router: FakeRouter
    journal: FakeJournal
    prober: Prober
    cycle: Cycle
    events: list[Event]

    def state(self) -> State:
        return self.cycle.state.state

    def of(self, kind: type[Any]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]


def a_watch(
    world: World | None = None,
    *,
    action: Allowed = Allowed.ROLLBACK,
    state: PolicyState | None = None,
    informed: bool = True,
    routed: bool = True,
    router: type[FakeRouter] = FakeRouter,
    journal: FakeJournal | None = None,
    authority: FakeAuthority | None = None,
    canaries: Sequence[Canary] = CANARIES,
    per_day: int = 6,
    policy: Mapping[str, Any] | None = None,
    probe: ProbeSettings | None = None,
    observe: Callable[[Event], None] = lambda _: None,
    drift: bool = False,
    timed: bool = False,
    circumstances: Callable[[Role, bool], str] = lambda _role, _device_slow: "",
    **judge: Any,
) -> Watch:
    """A cycle and its world; `policy` has more of the policy's settings, and not `informed` is a journal unread."""
    world = world or World()
    route, journal = router(world), journal or FakeJournal(world)
    events: list[Event] = []

    def tell(event: Event) -> None:
        events.append(event)
        observe(event)
        if timed and isinstance(event, Timed):
            for suspicion in latency.take(event):
                cycle.suspect_soon(suspicion)

    prober = a_prober(world, tell, **judge)
    if drift:
        prober.judge = a_captured_judge(prober.judge)
    if timed:
        prober.judge = a_timed_judge(prober.judge)
    latency = LatencyWatch(prober.judge, Promise(run_length=3e6), tell)
    cycle = Cycle(
        prober=prober,
        canaries=canaries,
        router=route if routed else None,
        journal=journal,
        observe=tell,
        clock=now,
        probe=probe or ProbeSettings(),
        policy=PolicySettings(**({"action": action, "max_switches_per_day": per_day} | dict(policy or {}))),
        state=(state or PolicyState(since=EPOCH)) if informed else None,
        authority=authority,
        drift=CanaryDrift(prober.judge, Promise(run_length=3e6)) if drift else None,
        circumstances=circumstances,
    )
    return Watch(world=world, router=route, journal=journal, prober=prober, cycle=cycle, events=events)
