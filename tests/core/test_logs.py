"""Log lines: one JSON object each, ordinary probes only when asked for, never a tensor or a secret."""

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from tests.core.builders import MODEL, a_suspicion, a_timing
from tests.core.gpu_builders import a_leak
from tests.core.policy_story import Story
from tests.core.story_events import one_of_each, probed, timed, what_is_measured
from tests.core.virtual_time import EPOCH
from watchdog.model.engine import Role
from watchdog.model.event import Delivered, EngineSeen, GrowthSeen, Source, Switched
from watchdog.model.notice import Delivery
from watchdog.model.probe import Attribution
from watchdog.model.route import Applied
from watchdog.telemetry import logs


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    handlers = list(logging.getLogger().handlers)
    level = logging.getLogger("apscheduler").level
    yield
    structlog.reset_defaults()
    logging.getLogger().handlers[:] = handlers
    logging.getLogger("apscheduler").setLevel(level)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def lines(level: str, *events: Any) -> list[dict[str, Any]]:
    stream = io.StringIO()
    logs.configure(level, stream)
    for event in events:
        logs.log_event(event)
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_every_event_has_its_line_and_level() -> None:
    said = [(line["level"], line["event"]) for line in lines("debug", *one_of_each())]
    assert said == [
        ("info", "watching"),
        ("debug", "probe"),
        ("warning", "probe"),
        ("warning", "probe"),
        ("warning", "diagnosis"),
        ("debug", "route"),
        ("warning", "switch"),
        ("warning", "command"),
        ("info", "notice"),
        ("warning", "delivery failed"),
        ("error", "watchdog failure"),
        ("warning", "heartbeat"),
        ("debug", "timed"),
        ("debug", "engine"),
        ("debug", "gpus"),
        ("debug", "leak"),
        ("info", "decision"),
    ]


def test_ordinary_probes_are_not_news() -> None:
    assert lines("info", probed()) == []
    (line,) = lines("debug", probed())
    assert (line["verdict"], line["total_ms"], line["canary"]) == ("healthy", 5.0, "c0")
    assert "reason" not in line


def test_a_bad_probe_says_why() -> None:
    line = lines("info", one_of_each()[2])[0]
    assert (line["reason"], line["detail"], line["verdict"]) == ("all-zero", "all-zero was found", "failed")


def test_what_changes_nothing_and_what_worked_is_not_news() -> None:
    delivered = Delivered(at=EPOCH, channel="pager", notices=1, delivery=Delivery(ok=True))
    assert lines("info", Story().probe(), delivered) == []


def test_what_is_measured_and_as_it_should_be_is_not_news() -> None:
    events = [
        timed(),
        EngineSeen(model=MODEL, at=EPOCH, role=Role.FAST, tag=None, findings=()),
        GrowthSeen(at=EPOCH, leak=a_leak(leaking=False)),
    ]
    assert lines("info", *events) == []


def test_a_probes_time_is_told_part_by_part_where_it_was_traced() -> None:
    (line,) = lines("debug", timed())
    parts = {key: value for key, value in line.items() if key.endswith("_ms") and key != "total_ms"}
    assert parts == {
        "client_ms": 0.2,
        "network_ms": 1.0,
        "front-end_ms": 0.5,
        "queue_ms": 0.3,
        "input-copy_ms": 0.5,
        "device_ms": 2.0,
        "output-copy_ms": 0.5,
    }
    assert (line["total_ms"], line["attribution"]) == (5.0, "trace")
    (untraced,) = lines("debug", timed(a_timing(Attribution.NONE)))
    assert (untraced["attribution"], "device_ms" in untraced) == ("none", False)


def test_engines_and_leaks_that_people_should_look_at_have_notices_and_at_debug_level_their_numbers() -> None:
    assert lines("info", *what_is_measured()) == []
    said = lines("debug", *what_is_measured())
    engine, leak = (next(line for line in said if line["event"] == event) for event in ("engine", "leak"))
    assert (engine["role"], engine["reason"], engine["detail"]) == ("fast", "engine-tag", "engine-tag was found")
    assert (leak["gpu"], leak["holder"], leak["pids"], leak["bytes_per_hour"]) == (
        "GPU-1",
        "tritonserver",
        [42],
        2**30,
    )


def test_a_suspicion_is_told_with_its_detector() -> None:
    (line,) = lines("info", a_suspicion(Source.TIMING))
    assert (line["event"], line["source"]) == ("suspected", "timing")


def test_a_switch_that_is_not_proven_is_an_error() -> None:
    switched = Switched(
        model=MODEL,
        at=EPOCH,
        to=Role.SAFE,
        applied=Applied(ok=False, detail="away"),
        applied_at=EPOCH,
        proven=False,
        detail="away",
    )
    assert [line["level"] for line in lines("info", switched)] == ["error"]


def test_a_decision_is_named() -> None:
    line = lines("info", Story().probe(bad=True))[0]
    assert (line["before"], line["after"], line["action"], line["reason"]) == (
        "serving-fast",
        "confirming",
        "diagnose",
        "parity",
    )
    assert line["timestamp"].endswith("Z")


def test_text_that_is_no_text_does_not_break_a_line() -> None:
    story = Story()
    story.probe(bad=True)
    (line,) = lines(
        "info", Delivered(at=EPOCH, channel="p", notices=1, delivery=Delivery(ok=False, detail="\ud800\n\x1b[31m"))
    )
    assert line["detail"] == "\ud800\n\x1b[31m"


def test_a_terminal_gets_text_for_people() -> None:
    stream = Terminal()
    logs.configure("info", stream)
    logs.log_listening("http://127.0.0.1:1")
    assert "listening" in stream.getvalue()
    with pytest.raises(ValueError, match="Expecting value"):
        json.loads(stream.getvalue())
