"""The Alertmanager channel against the real program."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from watchdog.channels.alertmanager import AlertmanagerChannel, AlertmanagerSettings
from watchdog.demo.alertmanager import Alertmanager, available
from watchdog.model.notice import Condition, Notice, NoticeKind, Severity

pytestmark = pytest.mark.skipif(available() is not None, reason=str(available()))

_names = iter(range(1_000_000))


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Alertmanager, Alertmanager]]:
    """Two members that know nothing of each other, as when their gossip is cut."""
    work = tmp_path_factory.mktemp("alertmanager")
    with Alertmanager(work / "a") as one, Alertmanager(work / "b") as other:
        yield one, other


@pytest.fixture
def condition() -> Condition:
    return Condition(
        name="WatchdogEngineRolledBack",
        severity=Severity.CRITICAL,
        summary="nodule is served by the safe engine",
        description="non-finite: 2 of 2 outputs are NaN",
        labels={"model": f"nodule-{next(_names)}"},
    )


def channel_to(urls: Sequence[str], **more: Any) -> AlertmanagerChannel:
    data = {"kind": "alertmanager", "name": "am", "urls": urls, **more}
    return AlertmanagerChannel(AlertmanagerSettings.model_validate(data))


@pytest.fixture
async def channel(cluster: tuple[Alertmanager, Alertmanager]) -> AsyncIterator[AlertmanagerChannel]:
    channel = channel_to(
        [cluster[0].url, cluster[1].url + "/"],
        external_url="https://watchdog.example/status",
        runbook_base="https://runbooks.example/",
        labels={"site": "north", "severity": "overridden"},
    )
    yield channel
    await channel.close()


def a_notice(condition: Condition, kind: NoticeKind, *, began: float = -10.0, ends: float = 240.0) -> Notice:
    now = time.time()
    return Notice(kind=kind, condition=condition, started_at=now + began, ends_at=now + ends)


async def firing(server: Alertmanager, condition: Condition) -> list[dict[str, Any]]:
    alerts = await asyncio.to_thread(server.alerts)
    return [alert for alert in alerts if alert["labels"].get("model") == condition.labels["model"]]


def seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


async def test_a_first_notice_fires_at_every_member(
    channel: AlertmanagerChannel, cluster: tuple[Alertmanager, Alertmanager], condition: Condition
) -> None:
    notice = a_notice(condition, NoticeKind.FIRST)

    assert (await channel.deliver([notice])).ok

    for server in cluster:
        (alert,) = await firing(server, condition)
        assert alert["labels"] == {
            "alertname": "WatchdogEngineRolledBack",
            "severity": "critical",
            "site": "north",
            **condition.labels,
        }
        assert alert["annotations"] == {
            "summary": condition.summary,
            "description": condition.description,
            "runbook_url": "https://runbooks.example/WatchdogEngineRolledBack",
        }
        assert alert["generatorURL"] == "https://watchdog.example/status"
        assert seconds(alert["startsAt"]) == pytest.approx(notice.started_at, abs=0.002)
        assert seconds(alert["endsAt"]) == pytest.approx(notice.ends_at, abs=0.002)


async def test_a_repeat_keeps_it_and_resolved_ends_it(
    channel: AlertmanagerChannel, cluster: tuple[Alertmanager, Alertmanager], condition: Condition
) -> None:
    server = cluster[0]
    await channel.deliver([a_notice(condition, NoticeKind.FIRST, ends=60)])
    (first,) = await firing(server, condition)

    assert (await channel.deliver([a_notice(condition, NoticeKind.REPEAT, ends=600)])).ok
    (repeated,) = await firing(server, condition)

    assert repeated["fingerprint"] == first["fingerprint"]
    assert seconds(repeated["endsAt"]) - seconds(first["endsAt"]) == pytest.approx(540, abs=2)

    assert (await channel.deliver([a_notice(condition, NoticeKind.RESOLVED, ends=-0.1)])).ok
    assert await firing(server, condition) == []


async def test_a_clock_that_stepped_back_does_not_lose_the_resolution(
    channel: AlertmanagerChannel, cluster: tuple[Alertmanager, Alertmanager], condition: Condition
) -> None:
    await channel.deliver([a_notice(condition, NoticeKind.FIRST)])

    delivery = await channel.deliver([a_notice(condition, NoticeKind.RESOLVED, began=-10, ends=-30)])

    assert delivery.ok
    assert await firing(cluster[0], condition) == []


async def test_one_member_that_is_down_is_named_and_does_not_matter(
    cluster: tuple[Alertmanager, Alertmanager], condition: Condition
) -> None:
    channel = channel_to(["http://127.0.0.1:1", cluster[1].url])

    delivery = await channel.deliver([a_notice(condition, NoticeKind.FIRST)])
    await channel.close()

    assert delivery.ok
    assert "http://127.0.0.1:1: can't connect" in delivery.detail
    assert cluster[1].url not in delivery.detail
    assert len(await firing(cluster[1], condition)) == 1


async def test_all_members_down(condition: Condition) -> None:
    channel = channel_to(["http://127.0.0.1:1", "http://127.0.0.1:2"])

    delivery = await channel.deliver([a_notice(condition, NoticeKind.FIRST)])
    await channel.close()

    assert (delivery.ok, delivery.retry) == (False, True)
    assert "127.0.0.1:1" in delivery.detail
    assert "127.0.0.1:2" in delivery.detail


async def test_what_it_refuses_is_not_sent_again(cluster: tuple[Alertmanager, Alertmanager]) -> None:
    """No real condition is refused; a base URL that already holds the API's path is."""
    channel = channel_to([cluster[0].url + "/api/v2/alerts"])
    condition = Condition(name="X", severity=Severity.WARNING, summary="", description="")

    delivery = await channel.deliver([a_notice(condition, NoticeKind.FIRST)])
    await channel.close()

    assert (delivery.ok, delivery.retry) == (False, False)
    assert "404" in delivery.detail


async def test_it_reaches_the_receiver_behind_alertmanager(tmp_path: Path, condition: Condition) -> None:
    told: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    async def take(request: web.Request) -> web.Response:
        told.put_nowait(await request.json())
        return web.Response()

    app = web.Application()
    app.router.add_post("/", take)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    server = Alertmanager(tmp_path, receiver_url=f"http://127.0.0.1:{runner.addresses[0][1]}/")
    await asyncio.to_thread(server.start)
    channel = channel_to([server.url])
    try:
        await channel.deliver([a_notice(condition, NoticeKind.FIRST)])
        fired = await asyncio.wait_for(told.get(), 20)
        await channel.deliver([a_notice(condition, NoticeKind.RESOLVED, ends=-0.01)])
        resolved = await asyncio.wait_for(told.get(), 20)
    finally:
        await channel.close()
        await asyncio.to_thread(server.stop)
        await runner.cleanup()

    assert (fired["status"], resolved["status"]) == ("firing", "resolved")
    assert json.dumps(condition.labels)[1:-1] in json.dumps(fired["alerts"][0]["labels"])
