"""Tells a dead-man's switch, again and again, that models are probed: something outside notices when that ends.

A watchdog whose process lives and whose probes don't is dead, and so says nothing.
"""

from collections.abc import Mapping
from typing import Literal, Self

from pydantic import Field, model_validator

from watchdog.model.event import Beaten, Probed
from watchdog.ports import Clock, Event, Observer
from watchdog.settings import Duration, FieldError, Secret, Url
from watchdog.transport import Remote

_MISSED = 3
"""Probes that may be missed before nobody can say that a model is watched."""


class HeartbeatSettings(Remote):
    """One dead-man's switch."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")
    url: Url | None = None
    url_file: Secret | None = None
    """Instead of `url`: a hosted switch has a token in its path, which is a secret."""
    method: Literal["GET", "POST", "HEAD"] = "GET"
    every: Duration = 60.0
    timeout: Duration = 10.0

    @model_validator(mode="after")
    def _one_url(self) -> Self:
        if (self.url is None) == (self.url_file is None):
            raise FieldError(["url"], "give either url or url_file")
        return self

    def target(self) -> str:
        """Where to.

        Raises:
            ValueError: the file can't be read, or holds no URL; the message doesn't quote it.
        """
        if self.url is not None:
            return self.url
        if self.url_file is None:
            raise ValueError("neither url nor url_file is given")
        found = self.url_file.read()
        if not found.startswith(("https://", "http://")) or not found.isprintable() or " " in found:
            raise ValueError(f"the secret file {self.url_file.file} must hold one http:// or https:// URL")
        return found


class Pulse:
    """An observer that knows whether every model is probed.

    Args:
        patience_s: model → how old its newest probe may be, in seconds.
    """

    def __init__(self, patience_s: Mapping[str, float]) -> None:
        self._patience_s = patience_s
        self._probed_at: dict[str, float] = {}

    def __call__(self, event: Event) -> None:
        if isinstance(event, Probed) and event.assessment.result.public:
            self._probed_at[event.model] = event.at

    def missing(self, now: float) -> str | None:
        """Why not all models can be said to be watched; None where they can."""
        for model, patience_s in self._patience_s.items():
            at = self._probed_at.get(model)
            if at is None:
                return f"{model} has not been probed yet"
            if not now - at <= patience_s:
                return f"{model} was probed {now - at:.0f} s ago, and should be within {patience_s:.0f} s"
        return None


def patience_s(every_s: float, deadline_s: float) -> float:
    """How old a model's newest probe may be."""
    return _MISSED * every_s + deadline_s


class Heartbeat:
    """Beats at one switch."""

    def __init__(self, settings: HeartbeatSettings, pulse: Pulse, observe: Observer, clock: Clock) -> None:
        self.every_s = settings.every
        self._settings = settings
        self._pulse = pulse
        self._observe = observe
        self._clock = clock

    async def beat(self) -> None:
        """Tell it once, if that is true."""
        why_not = self._pulse.missing(self._clock())
        ok, detail = (False, f"not sent: {why_not}") if why_not is not None else await self._send()
        self._observe(Beaten(heartbeat=self._settings.name, at=self._clock(), ok=ok, detail=detail))

    async def _send(self) -> tuple[bool, str]:
        from watchdog.exchange import UnansweredError, exchange  # noqa: PLC0415 - aiohttp; reading settings needs none

        settings = self._settings
        try:
            answer = await exchange(settings, settings.method, settings.target(), timeout_s=settings.timeout)
        except (UnansweredError, ValueError) as error:
            return False, str(error)
        return answer.ok, str(answer)
