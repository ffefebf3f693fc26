"""A signed POST for whoever speaks nothing else: a chat bridge, a ticket system, a script."""

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from typing import Any, Literal

from watchdog.channels.receiver import ReceiverSettings, rfc3339
from watchdog.model.notice import Delivery, Notice
from watchdog.settings import Secret, Url
from watchdog.signing import signed


class WebhookSettings(ReceiverSettings):
    """One receiver of signed JSON."""

    kind: Literal["webhook"]
    url: Url
    signing_key: Secret
    """The key of the signature; read before every POST, so that it can be rotated."""

    @property
    def secrets_of_kind(self) -> tuple[Secret, ...]:
        return (self.signing_key,)


class WebhookChannel:
    """POSTs all notices as one JSON object.

    The body, with times in RFC 3339, UTC::

        {"version": 1, "notices": [{
            "id": "3f0c…",            the condition's identity: alike in first, repeat and resolved
            "kind": "first",          or "repeat" or "resolved"
            "name": "WatchdogEngineRolledBack",
            "severity": "critical",   or "warning"
            "summary": "…", "description": "…",
            "labels": {"model": "nodule"},
            "started_at": "2024-05-01T12:00:00.000+00:00",
            "ends_at": "2024-05-01T12:04:00.000+00:00"}]}

    `ends_at` is when the condition ended (resolved), or until when it may be taken to last.
    Later versions may add keys; one that changes the meaning of a key counts `version` up.

    The headers::

        X-Watchdog-Delivery: <32 hex digits>     alike for the same notices, so that a retry is known
        X-Watchdog-Signature: t=<unix seconds>,v1=<hex HMAC-SHA256 of "<t>.<body>" with the key>

    A receiver should compare `v1` in constant time, and refuse a `t` that is minutes away from
    its own clock. Any 2xx takes the notices; 401, 403, 408, 425, 429 and 5xx ask for them again.
    """

    def __init__(self, settings: WebhookSettings, clock: Callable[[], float] = time.time) -> None:
        from watchdog.channels.post import post  # noqa: PLC0415 (aiohttp; here, so that no delivery waits for it)

        self._settings = settings
        self._clock = clock
        self._post = post

    async def deliver(self, notices: Sequence[Notice]) -> Delivery:
        if not notices:
            return Delivery(ok=True, detail="nothing to deliver")
        try:
            key = self._settings.signing_key.read()
        except ValueError as error:
            return Delivery(ok=False, detail=str(error))
        body = json.dumps({"version": 1, "notices": [_notice(notice) for notice in notices]}, sort_keys=True).encode()
        headers = signed(body, key, int(self._clock()))
        return await self._post(self._settings, self._settings.url, body, headers)

    async def close(self) -> None:
        """Nothing is kept open."""


def _notice(notice: Notice) -> dict[str, Any]:
    condition = notice.condition
    return {
        "id": hashlib.sha256("\n".join(condition.key).encode()).hexdigest()[:32],
        "kind": str(notice.kind),
        "name": condition.name,
        "severity": str(condition.severity),
        "summary": condition.summary,
        "description": condition.description,
        "labels": dict(condition.labels),
        "started_at": rfc3339(notice.started_at),
        "ends_at": rfc3339(notice.ends_at),
    }
