"""The webhook's signature and delivery id, checked as a receiver would, over real TLS as well."""

import hashlib
import hmac
import json
import ssl
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import trustme
from aiohttp import web

from watchdog.channels.webhook import WebhookChannel, WebhookSettings
from watchdog.model.notice import Condition, Notice, NoticeKind, Severity
from watchdog.settings import Secret
from watchdog.transport import Tls

NOW = 1_700_000_100.7

NOTICE = Notice(
    kind=NoticeKind.FIRST,
    condition=Condition(
        name="WatchdogBlind",
        severity=Severity.WARNING,
        summary="blind",
        description="No engine of « nodule » answers.",
        labels={"model": "nodule"},
    ),
    started_at=1_700_000_000.5,
    ends_at=1_700_000_240.0,
)


class Inbox:
    """A receiver that keeps what it was sent."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.posts: list[tuple[dict[str, str], bytes]] = []

    async def take(self, request: web.Request) -> web.Response:
        self.posts.append((dict(request.headers), await request.read()))
        return web.Response(status=202)


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
async def inbox(authority: trustme.CA) -> AsyncIterator[Inbox]:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED  # mutual TLS
    inbox = Inbox("")
    app = web.Application()
    app.router.add_post("/hook", inbox.take)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    inbox.url = f"https://127.0.0.1:{runner.addresses[0][1]}/hook"
    yield inbox
    await runner.cleanup()


@pytest.fixture
async def channel(inbox: Inbox, authority: trustme.CA, tmp_path: Path) -> AsyncIterator[WebhookChannel]:
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    us = authority.issue_cert("watchdog.example")
    us.private_key_pem.write_to_path(tmp_path / "us.key")
    us.cert_chain_pems[0].write_to_path(tmp_path / "us.pem")
    (tmp_path / "key").write_text("first key\n")
    settings = WebhookSettings(
        kind="webhook",
        name="hook",
        url=inbox.url,
        tls=Tls(ca=tmp_path / "ca.pem", cert=tmp_path / "us.pem", key=tmp_path / "us.key"),
        signing_key=Secret(file=tmp_path / "key"),
    )
    channel = WebhookChannel(settings, clock=lambda: NOW)
    yield channel
    await channel.close()


def expected(key: str, body: bytes) -> str:
    digest = hmac.new(key.encode(), b"1700000100." + body, hashlib.sha256).hexdigest()
    return f"t=1700000100,v1={digest}"


async def test_the_signature_verifies_and_a_rotated_key_is_used(
    channel: WebhookChannel, inbox: Inbox, tmp_path: Path
) -> None:
    assert (await channel.deliver([NOTICE])).ok
    (tmp_path / "key").write_text("second key")
    assert (await channel.deliver([NOTICE])).ok

    (first, body), (second, _) = inbox.posts
    assert first["X-Watchdog-Signature"] == expected("first key", body)
    assert second["X-Watchdog-Signature"] == expected("second key", body)
    assert first["Content-Type"] == "application/json"


async def test_a_retry_carries_the_same_id_and_other_notices_another(channel: WebhookChannel, inbox: Inbox) -> None:
    resolved = replace(NOTICE, kind=NoticeKind.RESOLVED)
    for notices in ([NOTICE], [NOTICE], [resolved], [NOTICE, resolved]):
        assert (await channel.deliver(notices)).ok

    ids = [headers["X-Watchdog-Delivery"] for headers, _ in inbox.posts]
    assert ids[0] == ids[1]
    assert len(set(ids)) == 3


async def test_the_body_says_what_the_docstring_says(channel: WebhookChannel, inbox: Inbox) -> None:
    await channel.deliver([NOTICE, replace(NOTICE, kind=NoticeKind.RESOLVED, ends_at=1_700_000_050.0)])

    body = json.loads(inbox.posts[0][1])
    first, resolved = body["notices"]
    assert body["version"] == 1
    assert first == {
        "id": resolved["id"],
        "kind": "first",
        "name": "WatchdogBlind",
        "severity": "warning",
        "summary": "blind",
        "description": "No engine of « nodule » answers.",
        "labels": {"model": "nodule"},
        "started_at": "2023-11-14T22:13:20.500+00:00",
        "ends_at": "2023-11-14T22:17:20.000+00:00",
    }
    assert (resolved["kind"], resolved["ends_at"]) == ("resolved", "2023-11-14T22:14:10.000+00:00")


async def test_a_missing_key_is_named_and_sends_nothing(channel: WebhookChannel, inbox: Inbox, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("")

    delivery = await channel.deliver([NOTICE])

    assert (delivery.ok, delivery.retry) == (False, True)
    assert str(tmp_path / "key") in delivery.detail
    assert not inbox.posts


async def test_a_certificate_of_an_unknown_authority_is_refused(inbox: Inbox, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("key")
    settings = WebhookSettings(kind="webhook", name="hook", url=inbox.url, signing_key=Secret(file=tmp_path / "key"))
    channel = WebhookChannel(settings)

    delivery = await channel.deliver([NOTICE])
    await channel.close()

    assert (delivery.ok, delivery.retry) == (False, True)
    assert "not trusted" in delivery.detail
    assert not inbox.posts


async def test_tls_files_that_are_none_are_a_value(inbox: Inbox, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("no certificate")
    secret = Secret(file=tmp_path / "key")
    settings = WebhookSettings(
        kind="webhook", name="hook", url=inbox.url, signing_key=secret, tls=Tls(ca=tmp_path / "key")
    )

    delivery = await WebhookChannel(settings).deliver([NOTICE])

    assert (delivery.ok, delivery.retry) == (False, True)
    assert "`tls`" in delivery.detail


async def test_a_receiver_that_wants_our_certificate(inbox: Inbox, authority: trustme.CA, tmp_path: Path) -> None:
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    (tmp_path / "key").write_text("key")
    secret = Secret(file=tmp_path / "key")
    settings = WebhookSettings(
        kind="webhook", name="hook", url=inbox.url, signing_key=secret, tls=Tls(ca=tmp_path / "ca.pem")
    )

    delivery = await WebhookChannel(settings).deliver([NOTICE])

    assert (delivery.ok, delivery.retry) == (False, True)
    assert "broke before an answer" in delivery.detail  # TLS 1.3 says no more
    assert not inbox.posts
