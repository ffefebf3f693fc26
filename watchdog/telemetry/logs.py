"""What happens, as log lines: one JSON object a line, or coloured text on a terminal."""

import logging
import sys
from typing import Any, TextIO, assert_never

import structlog

from watchdog.model.event import (
    Baselined,
    Beaten,
    Commanded,
    CycleFailed,
    Delivered,
    Diagnosed,
    EngineSeen,
    GpuSeen,
    GrowthSeen,
    Ignored,
    Learning,
    LoadSeen,
    Noticed,
    Probed,
    RouteSeen,
    Scored,
    SpansTaken,
    Suspected,
    Switched,
    Timed,
)
from watchdog.model.verdict import Verdict
from watchdog.policy.decide import Decision
from watchdog.ports import Event


def configure(level: str = "info", stream: TextIO = sys.stderr) -> None:
    """Set up logging for the process: JSON unless the stream is a terminal."""
    terminal = stream.isatty()
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.dev.ConsoleRenderer() if terminal else structlog.processors.JSONRenderer(sort_keys=False),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(stream),
        cache_logger_on_first_use=False,
    )
    logging.basicConfig(stream=stream, level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    # A tick that is still confirming or switching when the next is due is as it should be.
    logging.getLogger("apscheduler").setLevel(logging.ERROR)


def log_listening(url: str) -> None:
    """The server listens: where."""
    structlog.get_logger().info("listening", url=url)


def log_event(event: Event) -> None:
    """An observer. Ordinary probes are debug; what a person may want to know is info or above."""
    log = structlog.get_logger()
    match event:
        case Probed():
            _probed(log, event)
        case Decision() if event.changed:
            log.info(
                "decision",
                model=event.model,
                trigger=event.trigger,
                before=event.before,
                after=event.after.state,
                action=event.action,
                reason=event.reason,
                detail=event.detail,
            )
        case Diagnosed() | Switched():
            _acted(log, event)
        case Commanded():
            log.warning("command", model=event.model, command=event.command, actor=event.actor, why=event.why)
        case Noticed():
            n = event.notice
            log.info(
                "notice",
                kind=n.kind,
                alert=n.condition.name,
                severity=n.condition.severity,
                summary=n.condition.summary,
            )
        case Delivered() if not event.delivery.ok:
            log.warning(
                "delivery failed", channel=event.channel, retry=event.delivery.retry, detail=event.delivery.detail
            )
        case RouteSeen():
            log.debug("route", model=event.model, role=event.observed.role, detail=event.observed.detail)
        case Timed() | LoadSeen() | EngineSeen() | GpuSeen() | GrowthSeen() | SpansTaken():
            _measured(log, event)
        case Scored() | Suspected() | Learning() | Ignored():
            _drift(log, event)
        case CycleFailed() | Beaten():
            _of_itself(log, event)
        case Baselined():
            log.info("watching", model=event.model, canaries=event.canaries, baseline=event.captured_at)
        case _:
            pass


def _acted(log: Any, event: Diagnosed | Switched) -> None:
    match event:
        case Diagnosed():
            d = event.diagnosis
            log.warning(
                "diagnosis", model=event.model, at=event.at, conclusion=d.conclusion, reason=d.reason, detail=d.detail
            )
        case Switched():
            write = log.warning if event.proven else log.error
            write(
                "switch",
                model=event.model,
                at=event.at,
                applied_at=event.applied_at,
                to=event.to,
                applied=event.applied.ok,
                proven=event.proven,
                took_s=round(event.applied.took_s, 6),
                detail=event.detail,
            )
        case _:
            assert_never(event)


def _of_itself(log: Any, event: CycleFailed | Beaten) -> None:
    if isinstance(event, CycleFailed):
        log.error("watchdog failure", model=event.model, error=event.error)
        return
    tell = log.debug if event.ok else log.warning
    tell("heartbeat", heartbeat=event.heartbeat, ok=event.ok, detail=event.detail)


def _drift(log: Any, event: Scored | Suspected | Learning | Ignored) -> None:
    match event:
        case Scored() if event.score.alarm is not None:
            log.warning(
                "drift",
                model=event.model,
                at=event.at,
                source=event.source,
                reading=event.reading,
                evidence=event.score.statistic,
                limit=event.score.threshold,
                observations_ago=event.score.alarm.observations_ago,
                detail=event.score.alarm.sentence,
            )
        case Suspected():
            log.info(
                "suspected", model=event.model, source=event.source, reading=event.reading, detail=event.finding.detail
            )
        case Learning():
            log.debug("learning", model=event.model, reading=event.reading, have=event.have, want=event.want)
        case Ignored():
            log.warning(
                "ignored",
                model=event.model,
                source=event.source,
                reading=event.reading,
                condition=event.condition,
                count=event.count,
            )
        case _:
            pass


def _measured(log: Any, event: Timed | LoadSeen | EngineSeen | GpuSeen | GrowthSeen | SpansTaken) -> None:
    match event:
        case Timed():
            timing = event.result.timing
            log.debug(
                "timed",
                model=event.model,
                canary=event.result.canary,
                address=str(event.result.address),
                attribution=timing.attribution,
                total_ms=_ms(timing.total_s),
                **{f"{part}_ms": _ms(seconds) for part, seconds in timing.parts.items()},
            )
        case EngineSeen() if event.findings:
            for finding in event.findings:
                log.debug("engine", model=event.model, role=event.role, reason=finding.reason, detail=finding.detail)
        case GrowthSeen() if event.leak.growth.leaking:
            log.debug(
                "leak",
                gpu=event.leak.gpu,
                holder=event.leak.holder,
                pids=event.leak.pids,
                bytes_per_hour=round(event.leak.growth.bytes_per_hour),
            )
        case GpuSeen():
            log.debug("gpus", source=event.reading.source, state=event.reading.state, detail=event.reading.detail)
        case _:
            pass


def _ms(seconds: float) -> float:
    return round(seconds * 1e3, 3)


def _probed(log: Any, event: Probed) -> None:
    a = event.assessment
    healthy = a.verdict is Verdict.HEALTHY
    write = log.debug if healthy else log.warning
    write(
        "probe",
        model=event.model,
        at=event.at,
        public=a.result.public,
        canary=a.result.canary,
        address=str(a.result.address),
        verdict=a.verdict,
        total_ms=_ms(a.result.timing.total_s),
        **({} if healthy or a.worst is None else {"reason": a.worst.reason, "detail": a.worst.detail}),
    )
