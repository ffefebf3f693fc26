"""Prometheus Alertmanager: notices become its alerts, through its API version 2.

It keeps nothing for us: a firing alert lasts until its ``endsAt``, so a condition that lasts must
be sent again before then, as REPEAT notices are. The cluster's members don't relay alerts to one
another: each must get every notice.
"""

import asyncio
import json
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Field

from watchdog.channels.receiver import TellingSettings, rfc3339
from watchdog.ledger import Resend
from watchdog.model.notice import Delivery, Notice
from watchdog.settings import Duration, Url

LabelName = Annotated[str, Field(pattern=r"^[a-zA-Z_][a-zA-Z0-9_]*$")]


class AlertmanagerSettings(TellingSettings):
    """One Alertmanager, or all members of one cluster."""

    kind: Literal["alertmanager"]
    urls: tuple[Url, ...] = Field(min_length=1)
    """Every member's base URL, such as ``http://alertmanager-0:9093``, without ``/api/v2``."""
    labels: dict[LabelName, str] = Field(default_factory=dict)
    """Added to every alert, such as site or cluster; an alert's own labels win."""
    resend_every: Duration = 60.0
    """A firing alert is sent again this often, and is told to last four times as long."""
    resolved_for: Duration = 900.0
    """A resolved one is sent again for so long, for members that were away."""

    @property
    def resend(self) -> Resend:
        return Resend(every_s=self.resend_every, resolved_for_s=self.resolved_for)


class AlertmanagerChannel:
    """Delivered once one member has taken all notices; members that failed are named."""

    def __init__(self, settings: AlertmanagerSettings) -> None:
        from watchdog.channels.post import post  # noqa: PLC0415 (aiohttp; here, so that no delivery waits for it)

        self._settings = settings
        self._post = post

    async def deliver(self, notices: Sequence[Notice]) -> Delivery:
        if not notices:
            return Delivery(ok=True, detail="nothing to deliver")
        body = json.dumps([_alert(notice, self._settings) for notice in notices]).encode()
        endpoints = [f"{url.rstrip('/')}/api/v2/alerts" for url in self._settings.urls]
        answers = await asyncio.gather(*(self._post(self._settings, endpoint, body, {}) for endpoint in endpoints))
        failed = [answer for answer in answers if not answer.ok]
        return Delivery(
            ok=len(failed) < len(answers),
            detail="; ".join(answer.detail for answer in failed or answers),
            retry=any(answer.retry for answer in failed),
            retry_after_s=min((a.retry_after_s for a in failed if a.retry_after_s is not None), default=None),
        )

    async def close(self) -> None:
        """Nothing is kept open."""


def _alert(notice: Notice, settings: AlertmanagerSettings) -> dict[str, Any]:
    condition = notice.condition
    annotations = {"summary": condition.summary, "description": condition.description}
    if (runbook := settings.runbook(condition.name)) is not None:
        annotations["runbook_url"] = runbook
    alert: dict[str, Any] = {
        "labels": {
            **settings.labels,
            **condition.labels,
            "alertname": condition.name,
            "severity": str(condition.severity),
        },
        "annotations": annotations,
        "startsAt": rfc3339(notice.started_at),
        "endsAt": rfc3339(max(notice.started_at, notice.ends_at)),  # it refuses an end before the start
    }
    if settings.external_url is not None:
        alert["generatorURL"] = settings.external_url
    return alert
