"""A dead-man's switch hears of a watchdog that watches, and of no other."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from pydantic import ValidationError

from tests.core.builders import MODEL
from tests.core.story_events import probed
from tests.core.virtual_time import EPOCH
from watchdog.heartbeat import Heartbeat, HeartbeatSettings, Pulse, patience_s
from watchdog.model.event import Beaten
from watchdog.ports import Event


@dataclass
class Switch:
    url: str = ""
    status: int = 200
    calls: list[tuple[str, str]] = field(default_factory=list)


@pytest.fixture
async def switch() -> AsyncIterator[Switch]:
    found, app = Switch(), web.Application()

    async def take(request: web.Request) -> web.Response:
        found.calls.append((request.method, request.path))
        return web.Response(status=found.status, text="ping/s3cret was seen")

    app.router.add_route("*", "/{rest:.*}", take)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    found.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield found
    await runner.cleanup()


async def beat(settings: HeartbeatSettings, pulse: Pulse, at: float = EPOCH + 2) -> Beaten:
    events: list[Event] = []
    await Heartbeat(settings, pulse, events.append, lambda: at).beat()
    (event,) = events
    assert isinstance(event, Beaten)
    return event


def a_pulse(*models: str) -> Pulse:
    pulse = Pulse({model: patience_s(10.0, 2.0) for model in models or (MODEL,)})
    pulse(probed())  # at EPOCH + 1
    return pulse


def settings(**more: Any) -> HeartbeatSettings:
    return HeartbeatSettings(name="snitch", **more)


async def test_it_beats_while_models_are_probed_and_stops_with_the_probes(switch: Switch) -> None:
    pulse = a_pulse()
    assert (await beat(settings(url=f"{switch.url}/ping"), pulse, EPOCH + 33)).ok
    late = await beat(settings(url=f"{switch.url}/ping"), pulse, EPOCH + 34)
    assert (late.ok, late.detail) == (False, "not sent: nodule was probed 33 s ago, and should be within 32 s")
    assert switch.calls == [("GET", "/ping")]


async def test_a_model_that_was_never_probed_and_a_burst_that_asks_nobodys_way_are_no_pulse(switch: Switch) -> None:
    pulse = Pulse({MODEL: 32.0})
    pulse(probed(public=False))
    assert (await beat(settings(url=switch.url), pulse)).detail == "not sent: nodule has not been probed yet"
    assert not (await beat(settings(url=switch.url), a_pulse(MODEL, "another"))).ok
    assert switch.calls == []


async def test_wrong_answers_are_probes_too(switch: Switch) -> None:
    pulse = Pulse({MODEL: 32.0})
    pulse(replace(probed(), at=EPOCH))
    assert (await beat(settings(url=switch.url, method="POST"), pulse)).ok
    assert switch.calls == [("POST", "/")]


async def test_a_switch_that_fails_or_is_away_is_told_without_its_path(switch: Switch, tmp_path: Path) -> None:
    switch.status = 500
    (tmp_path / "url").write_text(f"{switch.url}/ping/s3cret\n")
    beaten = await beat(settings(url_file={"file": tmp_path / "url"}), a_pulse())
    assert not beaten.ok
    assert "500" in beaten.detail
    beaten = await beat(settings(url="http://127.0.0.1:1/ping/s3cret"), a_pulse())
    assert not beaten.ok
    assert "s3cret" not in beaten.detail


@pytest.mark.parametrize("content", ["", "no url", "ftp://x", "https://x/ y"])
async def test_a_file_that_holds_no_url_is_named_and_not_quoted(tmp_path: Path, content: str) -> None:
    (tmp_path / "url").write_text(content)
    beaten = await beat(settings(url_file={"file": tmp_path / "url"}), a_pulse())
    assert not beaten.ok
    assert str(tmp_path / "url") in beaten.detail
    assert not content or content not in beaten.detail


@pytest.mark.parametrize("urls", [{}, {"url": "http://a", "url_file": {"file": "f"}}])
def test_it_has_one_address(urls: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="give either url or url_file"):
        settings(**urls)
