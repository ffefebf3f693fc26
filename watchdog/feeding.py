"""From a model's settings to what becomes of patients' answers: watched, compared, recorded, and looked into."""

from collections.abc import Mapping, Sequence

from watchdog.assembly import AssemblyError, Surroundings
from watchdog.assess import drifted
from watchdog.config import ModelSettings
from watchdog.cycle import Cycle
from watchdog.live import Answering, Feed, LiveWatch, Shadow, ShadowSettings, Subject
from watchdog.live.watch import Record
from watchdog.model.engine import Description, Role
from watchdog.model.event import Scored, Source, Suspected
from watchdog.model.fault import Fault
from watchdog.model.journal import Entry, EntryKind
from watchdog.policy.states import State
from watchdog.ports import Clock, Evidence, Journal
from watchdog.prober import Prober
from watchdog.readings import names_of


def open_feed(
    model: ModelSettings,
    said: Mapping[Role, Description | Fault],
    cycle: Cycle,
    *,
    prober: Prober,
    journal: Journal,
    evidence: Evidence,
    around: Surroundings,
) -> Feed:
    """Where one model's live answers go; an alarm makes the cycle ask its canaries.

    Raises:
        AssemblyError: the drift settings don't fit the model.
    """
    tags = {role: None if isinstance(answer, Fault) else answer.tag for role, answer in said.items()}
    engines = {role: Answering.of(model.engine(role), tags[role]) for role in Role}
    shadows: list[Shadow] = []

    def alarm(scored: Scored) -> None:
        finding = drifted(scored.score, str(scored.source))
        if finding is None:
            return
        cycle.suspect_soon(
            Suspected(model=scored.model, at=scored.at, source=scored.source, reading=scored.reading, finding=finding)
        )
        for shadow in shadows:
            shadow.hurry()

    try:
        watch = LiveWatch(
            subject=Subject(model=model.name, engines=engines),
            readings=names_of(model.outputs),
            live=model.drift.live,
            shadow=model.drift.shadow,
            evidence=evidence,
            observe=around.observe,
            clock=around.clock,
            healthy=lambda: cycle.state.state is State.SERVING_FAST and cycle.state.trouble is None,
            on_alarm=alarm,
            record=_recording(model.name, journal, around.clock) if model.drift.record else None,
        )
    except ValueError as error:
        raise AssemblyError([f"{model.name}: drift: {error}"]) from error
    if model.drift.shadow is None:
        return Feed(watch)
    shadows.append(_shadow(model, model.drift.shadow, watch, prober, around))
    return Feed(watch, shadows[0])


def _recording(model: str, journal: Journal, clock: Clock) -> Record:
    async def record(source: Source, reading: str, observations: Sequence[tuple[float, ...]]) -> None:
        data = {"source": source, "reading": reading, "observations": [list(each) for each in observations]}
        await journal.append(Entry(at=clock(), kind=EntryKind.SCORE, model=model, data=data))

    return record


def _shadow(
    model: ModelSettings, settings: ShadowSettings, watch: LiveWatch, prober: Prober, around: Surroundings
) -> Shadow:
    return Shadow(
        target=prober.target,
        outputs=model.outputs,
        batched=all(canary.batched for canary in prober.judge.canaries.values()),
        settings=settings,
        take=watch.take_pairs,
        observe=around.observe,
        clock=around.clock,
        chance=around.seeds,
    )
