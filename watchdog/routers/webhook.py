"""Asks for the route with a signed POST whoever can move it, such as a controller of the user's own.

What the receiver shows on GET is what is observed; one without GET can be used, and then probes
alone tell where traffic goes.
"""

import asyncio
import json
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from watchdog.model.engine import Address, Role
from watchdog.model.route import Applied, Observed, share_of_fast
from watchdog.settings import Duration, Secret, complaints
from watchdog.signing import signed
from watchdog.transport import Server, one_line

if TYPE_CHECKING:
    from watchdog.exchange import Answer

_LOOK_S = 5.0
_POLL_S = 0.25
_REFUSED = frozenset({409, 412})
_AGAIN = frozenset({401, 403, 408, 425, 429})  # 401 and 403: secrets are read anew, so a rotated one heals them
_NO_GET = frozenset({404, 405, 501})


class WebhookRouterSettings(Server):
    """One receiver for one model: `url`, with its path, is asked by POST and by GET."""

    kind: Literal["webhook"]
    model: str = ""
    """The model's name for the receiver; where absent, the fast engine's."""
    signing_key: Secret
    """The key of the signature; read before every POST, so that it can be rotated."""
    timeout: Duration = 10.0
    """For one switch, with the time until the receiver shows it where it answers 202."""

    def refuse(self, engines: Mapping[Role, Address]) -> None:
        """Any two engines will do."""


class WebhookRouter:
    """The route as one JSON object, POSTed until it is taken.

    The body::

        {"version": 1,
         "model": "nodule",
         "desired": "safe",           the engine that gets `percent` of ordinary traffic,
         "percent": 100,              and the other one gets the rest
         "fast_percent": 0,           the same as the fast engine's share
         "engines": {"fast": {"endpoint": "triton", "model": "nodule", "version": "2"},
                     "safe": {"endpoint": "triton", "model": "nodule", "version": "1"}},
         "idempotency_key": "3f0c…"}

    The headers are the webhook channel's, ``X-Watchdog-Delivery`` and ``X-Watchdog-Signature``, and
    ``Idempotency-Key`` with the body's key. A wish that was not answered for good is sent again with
    the same key. One that was, done or refused, is over: the same route wished again, as after
    somebody else moved it, has a new key, so that a receiver which remembers keys does it again.

    Any 2xx takes the wish; with 202 it is done only once GET shows it. 409 and 412 refuse it for
    good, and so does every other 4xx but 401, 403, 408, 425 and 429, which ask for it again as 5xx do.

    GET answers ``{"fast_percent": 0}`` or ``{"role": "safe"}``, where a role gets all traffic; a
    text in ``detail`` is shown to people. 404, 405 and 501 say that the receiver can't tell.
    """

    weighted: ClassVar[bool] = True
    keeps_both: ClassVar[bool] = True
    look_every_s: ClassVar[float] = 30.0

    def __init__(
        self,
        settings: WebhookRouterSettings,
        engines: Mapping[Role, Address],
        clock: Callable[[], float] = time.time,
        new_key: Callable[[], str] = lambda: secrets.token_hex(16),
    ) -> None:
        self._settings = settings
        self._model = settings.model or engines[Role.FAST].model
        self._engines = {str(role): asdict(address) for role, address in engines.items()}
        self._clock = clock
        self._new_key = new_key
        self._open: _Wish | None = None
        """What was not yet answered for good."""

    async def apply(self, desired: Role, percent: int = 100) -> Applied:
        began = time.monotonic()
        if self._open is None or (self._open.desired, self._open.percent) != (desired, percent):
            self._open = _Wish(desired=desired, percent=percent, key=self._new_key())
        applied = await self._send(self._open, began + self._settings.timeout)
        if applied.ok or not applied.retry:
            self._open = None
        return replace(applied, took_s=time.monotonic() - began)

    async def observe(self) -> Observed:
        return _observed(await self._get(min(_LOOK_S, self._settings.timeout)))

    async def close(self) -> None:
        """Nothing is kept open."""

    async def _send(self, wish: "_Wish", give_up_at: float) -> Applied:
        answer = await self._post(wish)
        if isinstance(answer, str):
            return Applied(ok=False, detail=answer)
        if answer.status == 202:
            return await self._until_shown(wish, give_up_at)
        return _judged(answer)

    async def _until_shown(self, wish: "_Wish", give_up_at: float) -> Applied:
        accepted, shown = f"{wish} is accepted", "it was not asked"
        while (left_s := give_up_at - time.monotonic()) > 0:
            answer = await self._get(min(_LOOK_S, left_s))
            if not isinstance(answer, str) and answer.status in _NO_GET:
                return Applied(ok=True, detail=f"{accepted}; whether it is done, probes must show")
            observed = _observed(answer)
            if observed.fast_percent == wish.fast_percent:
                return Applied(ok=True, detail=f"{accepted} and done: {observed.detail}")
            shown = observed.detail
            await asyncio.sleep(_POLL_S)
        within = f"{self._settings.timeout:g} s"
        return Applied(ok=False, detail=f"{accepted}, but not done within {within}, and may yet be: {shown}")

    async def _post(self, wish: "_Wish") -> "Answer | str":
        settings = self._settings
        try:
            key = settings.signing_key.read()
        except ValueError as error:
            return str(error)
        body = json.dumps(self._body(wish), sort_keys=True).encode()
        headers = {"Content-Type": "application/json", "Idempotency-Key": wish.key}
        headers |= signed(body, key, int(self._clock()))
        return await self._ask("POST", settings.timeout, body, headers)

    def _body(self, wish: "_Wish") -> dict[str, object]:
        return {
            "version": 1,
            "model": self._model,
            "desired": str(wish.desired),
            "percent": wish.percent,
            "fast_percent": wish.fast_percent,
            "engines": self._engines,
            "idempotency_key": wish.key,
        }

    async def _get(self, limit_s: float) -> "Answer | str":
        return await self._ask("GET", limit_s, None, {"Accept": "application/json"})

    async def _ask(self, method: str, limit_s: float, body: bytes | None, headers: Mapping[str, str]) -> "Answer | str":
        """The answer, or why there is none."""
        from watchdog.exchange import UnansweredError, exchange  # noqa: PLC0415 (aiohttp; here, so that `--help` is quick)

        url = self._settings.base_url
        try:
            return await exchange(self._settings, method, url, timeout_s=limit_s, body=body, headers=headers)
        except UnansweredError as error:
            return str(error)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Wish:
    """A route that is asked for until it is answered for good."""

    desired: Role
    percent: int
    key: str

    @property
    def fast_percent(self) -> int:
        return share_of_fast(self.desired, self.percent)

    def __str__(self) -> str:
        return f"{self.percent} % to the {self.desired} engine"


class _Shown(BaseModel):
    """What a receiver answers to GET."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    role: Role | None = None
    fast_percent: int | None = Field(default=None, ge=0, le=100)
    detail: str = ""

    @model_validator(mode="after")
    def _one_of_two(self) -> Self:
        if (self.role is None) == (self.fast_percent is None):
            raise ValueError('must hold either "role" or "fast_percent"')
        return self

    def observed(self) -> Observed:
        """The engine with the larger share, and that share."""
        if self.fast_percent is None:
            role, percent = self.role, 100
        else:
            role = Role.FAST if self.fast_percent >= 50 else Role.SAFE
            percent = max(self.fast_percent, 100 - self.fast_percent)
        said = f"the receiver shows {percent} % at the {role} engine"
        return Observed(role=role, percent=percent, detail=f"{said}: {one_line(self.detail)}" if self.detail else said)


def _observed(answer: "Answer | str") -> Observed:
    if isinstance(answer, str):
        return _unknown(answer)
    if answer.status in _NO_GET:
        return _unknown(f"{answer.origin}: GET is answered with {answer.status}, so it does not tell the route")
    if answer.status != 200:
        return _unknown(str(answer))
    try:
        return _Shown.model_validate_json(answer.raw).observed()
    except ValidationError as error:
        return _unknown(f"{answer.origin}: GET is not answered with a route: {one_line('; '.join(complaints(error)))}")


def _unknown(detail: str) -> Observed:
    return Observed(role=None, detail=detail, known=False)


def _judged(answer: "Answer") -> Applied:
    status = answer.status
    if answer.ok:
        return Applied(ok=True, detail=f"taken: {answer}")
    if status in _REFUSED:
        return Applied(ok=False, detail=f"refused: {answer}", retry=False)
    if 300 <= status < 400:
        return Applied(ok=False, detail=f"{answer.origin}: {status}, a redirect; set the final URL", retry=False)
    return Applied(ok=False, detail=str(answer), retry=status in _AGAIN or status >= 500)
