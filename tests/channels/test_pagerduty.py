"""What PagerDuty is sent: triggers and resolves that belong together, within its limits."""

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from watchdog.channels.pagerduty import PagerDutyChannel, PagerDutySettings
from watchdog.ledger import Resend
from watchdog.model.notice import Condition, Notice, NoticeKind, Severity
from watchdog.settings import Secret

KEY = "0123456789abcdef" * 2
FIRST = Notice(
    kind=NoticeKind.FIRST,
    condition=Condition(
        name="WatchdogEngineRolledBack",
        severity=Severity.CRITICAL,
        summary="nodule was moved to the safe engine (confidence-collapse)",
        description="the spread is 0.02 of the golden one",
        labels={"model": "nodule"},
    ),
    started_at=1_700_000_000.5,
    ends_at=1_700_000_000.5,
)
RESOLVED = replace(FIRST, kind=NoticeKind.RESOLVED, ends_at=1_700_000_900.0)
OTHER = replace(FIRST, condition=replace(FIRST.condition, labels={"model": "lung"}, severity=Severity.WARNING))


class Desk:
    """Answers as the Events API does: 202, or what `answers` says next."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.answers: list[int] = []
        self.url = ""

    async def take(self, request: web.Request) -> web.Response:
        self.events.append(await request.json())
        status = self.answers.pop(0) if self.answers else 202
        return web.json_response({"status": "success"}, status=status, headers={"Retry-After": "30"})


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    desk, app = Desk(), web.Application()
    app.router.add_post("/v2/enqueue", desk.take)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    desk.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v2/enqueue"
    yield desk
    await runner.cleanup()


def channel(desk: Desk, folder: Path, key: str = KEY, **more: Any) -> PagerDutyChannel:
    (folder / "key").write_text(f"{key}\n")
    secret = Secret(file=folder / "key")
    more = {"url": desk.url, "source": "site-a", "routing_key": secret} | more
    return PagerDutyChannel(PagerDutySettings(kind="pagerduty", name="pager", **more))


async def test_a_beginning_triggers_and_its_end_resolves_the_same_incident(desk: Desk, tmp_path: Path) -> None:
    more = {"external_url": "http://watchdog:9469", "runbook_base": "https://runbooks.example.org/watchdog/"}
    delivery = await channel(desk, tmp_path, **more).deliver([FIRST, RESOLVED])
    assert delivery.ok
    trigger, resolve = desk.events
    assert trigger == {
        "routing_key": KEY,
        "dedup_key": resolve["dedup_key"],
        "event_action": "trigger",
        "client": "inference-watchdog",
        "client_url": "http://watchdog:9469",
        "links": [{"href": "https://runbooks.example.org/watchdog/WatchdogEngineRolledBack", "text": "Runbook"}],
        "payload": {
            "summary": "nodule was moved to the safe engine (confidence-collapse)",
            "source": "site-a",
            "severity": "critical",
            "timestamp": "2023-11-14T22:13:20.500+00:00",
            "component": "nodule",
            "class": "WatchdogEngineRolledBack",
            "custom_details": {"description": "the spread is 0.02 of the golden one", "model": "nodule"},
        },
    }
    assert resolve == {"routing_key": KEY, "dedup_key": trigger["dedup_key"], "event_action": "resolve"}


async def test_another_condition_and_another_watchdog_have_incidents_of_their_own(desk: Desk, tmp_path: Path) -> None:
    await channel(desk, tmp_path).deliver([FIRST, OTHER])
    await channel(desk, tmp_path, source="site-b").deliver([FIRST])
    assert len({event["dedup_key"] for event in desk.events}) == 3
    assert [event["payload"]["severity"] for event in desk.events] == ["critical", "warning", "critical"]


async def test_what_is_too_long_is_cut_and_still_whole_json(desk: Desk, tmp_path: Path) -> None:
    long = replace(FIRST.condition, summary="☠" * 5000, description="☠" * 300_000)
    assert (await channel(desk, tmp_path).deliver([replace(FIRST, condition=long)])).ok
    (event,) = desk.events
    assert len(event["payload"]["summary"]) == 1024
    assert event["payload"]["summary"].endswith("…")
    assert len(json.dumps(event, ensure_ascii=False).encode()) < 512_000


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_it_stops_at_the_first_that_must_be_sent_again_and_keeps_the_order(
    desk: Desk, tmp_path: Path, status: int
) -> None:
    desk.answers = [202, status]
    delivery = await channel(desk, tmp_path).deliver([FIRST, RESOLVED, OTHER])
    assert (delivery.ok, delivery.retry, delivery.retry_after_s) == (False, True, 30.0)
    assert "1 of 3 events were taken before it" in delivery.detail
    assert len(desk.events) == 2


async def test_one_event_that_it_calls_wrong_does_not_stop_the_others(desk: Desk, tmp_path: Path) -> None:
    desk.answers = [400, 202]
    delivery = await channel(desk, tmp_path).deliver([FIRST, OTHER])
    assert (delivery.ok, delivery.retry) == (False, False)
    assert len(desk.events) == 2


@pytest.mark.parametrize("key", ["short", "x" * 33, "ü" * 32, "a" * 31 + " b"])
async def test_a_key_that_is_none_is_named_by_its_file_and_never_shown(desk: Desk, tmp_path: Path, key: str) -> None:
    delivery = await channel(desk, tmp_path, key=key).deliver([FIRST])
    assert (delivery.ok, delivery.retry, desk.events) == (False, True, [])
    assert str(tmp_path / "key") in delivery.detail
    assert key not in delivery.detail


def test_a_flood_is_grouped(tmp_path: Path) -> None:
    settings = PagerDutySettings(kind="pagerduty", name="pager", routing_key=Secret(file=tmp_path / "key"))
    assert settings.resend == Resend(group_above=5, one_by_one=True)
    assert settings.url == "https://events.pagerduty.com/v2/enqueue"
