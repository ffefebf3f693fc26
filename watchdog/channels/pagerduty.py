"""PagerDuty, by its Events API version 2: a beginning triggers an incident, an end resolves it."""

import hashlib
import json
import socket
from collections.abc import Sequence
from typing import Any, Literal

from pydantic import Field

from watchdog.channels.receiver import TellingSettings, rfc3339
from watchdog.ledger import Resend
from watchdog.model.notice import Delivery, Notice, NoticeKind, Severity
from watchdog.settings import Secret, Url

_KEY_CHARACTERS = 32
_SUMMARY_CHARACTERS = 1024
_DETAIL_CHARACTERS = 100_000
"""Some 400,000 bytes at most, where an event may have 512,000."""


class PagerDutySettings(TellingSettings):
    """One service's integration."""

    kind: Literal["pagerduty"]
    routing_key: Secret
    """The integration's key; read before every event, so that it can be rotated."""
    url: Url = "https://events.pagerduty.com/v2/enqueue"
    source: str = Field(default_factory=socket.gethostname, min_length=1, max_length=255)
    """Who tells, such as the site's name. Part of an incident's identity: give watchdogs of one service different ones,
    or one resolves the other's incidents."""
    group_above: int = Field(default=5, ge=1)
    """More alerts of one name than this, at once, are one incident that names them all."""

    @property
    def secrets_of_kind(self) -> tuple[Secret, ...]:
        return (self.routing_key,)

    @property
    def resend(self) -> Resend:
        return Resend(group_above=self.group_above, one_by_one=True)


class PagerDutyChannel:
    """An event for each notice, in order, up to the first that is not taken.

    The notifier hands over one at a time, so only that one is ever sent twice. PagerDuty knows it by its ``dedup_key``:
    a second trigger adds a line to the open incident's log and pages nobody, a second resolve does nothing.
    """

    def __init__(self, settings: PagerDutySettings) -> None:
        from watchdog.channels.post import post  # noqa: PLC0415 (aiohttp; here, so that no delivery waits for it)

        self._settings = settings
        self._post = post

    async def deliver(self, notices: Sequence[Notice]) -> Delivery:
        try:
            key = _routing_key(self._settings.routing_key)
        except ValueError as error:
            return Delivery(ok=False, detail=str(error))
        refused: Delivery | None = None
        answer = Delivery(ok=True, detail="nothing to deliver")
        for count, notice in enumerate(notices):
            event = json.dumps(_event(notice, self._settings, key)).encode()
            answer = await self._post(self._settings, self._settings.url, event, {})
            if not answer.ok and answer.retry:
                detail = f"{answer.detail}; {count} of {len(notices)} events were taken before it"
                return Delivery(ok=False, detail=detail, retry_after_s=answer.retry_after_s)
            if not answer.ok:
                refused = answer  # the others may be right
        return refused or answer

    async def close(self) -> None:
        """Nothing is kept open."""


def _routing_key(secret: Secret) -> str:
    key = secret.read()
    if len(key) != _KEY_CHARACTERS or not key.isalnum() or not key.isascii():
        what = f"the secret file {secret.file} must hold an integration key of Events API v2: 32 letters and digits"
        raise ValueError(what)
    return key


def _event(notice: Notice, settings: PagerDutySettings, routing_key: str) -> dict[str, Any]:
    event = {"routing_key": routing_key, "dedup_key": _dedup_key(notice, settings.source)}
    if notice.kind is NoticeKind.RESOLVED:
        return event | {"event_action": "resolve"}
    condition = notice.condition
    details = {"description": _cut(condition.description, _DETAIL_CHARACTERS), **condition.labels}
    event |= {"event_action": "trigger", "client": "inference-watchdog"}
    if settings.external_url is not None:
        event["client_url"] = settings.external_url
    more: dict[str, Any] = {}
    if (runbook := settings.runbook(condition.name)) is not None:
        more["links"] = [{"href": runbook, "text": "Runbook"}]
    payload = {
        "summary": _cut(condition.summary, _SUMMARY_CHARACTERS),
        "source": settings.source,
        "severity": "critical" if condition.severity is Severity.CRITICAL else "warning",
        "timestamp": rfc3339(notice.started_at),
        "component": condition.labels.get("model") or condition.labels.get("gpu") or "watchdog",
        "class": condition.name,
        "custom_details": details,
    }
    return event | more | {"payload": payload}


def _dedup_key(notice: Notice, source: str) -> str:
    """Alike for the beginning and the end of one condition."""
    return hashlib.sha256("\n".join((source, *notice.condition.key)).encode()).hexdigest()


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[: longest - 1]}…"
