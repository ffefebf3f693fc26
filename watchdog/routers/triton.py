"""Moves a model between its versions with Triton's own version policy. No gateway is needed.

Triton gives requests that name no version to the highest READY one. The fast engine is therefore
the higher version, and both are kept READY: taking the fast one away moves all such requests to
the safe one within milliseconds, since nothing must be loaded for it. The way back loads the fast
engine beside the serving one, and needs its memory meanwhile.
"""

import asyncio
import re
import time
from collections.abc import Collection, Mapping
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator

from watchdog.model.engine import Address, Role
from watchdog.model.route import Applied, Observed
from watchdog.routers.refusal import RefusedError, refused_share
from watchdog.settings import Duration
from watchdog.transport import Server

if TYPE_CHECKING:
    from watchdog.routers.triton_repository import Repository, Versions

_ASK_S = 5.0
_POLL_S = 0.05

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT])iB")


def _bytes(value: Any) -> Any:
    match = _SIZE.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f"{value!r} is not a size; write a number with a unit: KiB, MiB, GiB or TiB")
    return round(float(match[1]) * 2 ** (10 * ("KMGT".index(match[2]) + 1)))


Size = Annotated[
    int,
    BeforeValidator(_bytes),
    Field(gt=0),
    WithJsonSchema({"type": "string", "pattern": rf"^{_SIZE.pattern}$"}),
]
"""Bytes, written with their unit in the configuration file."""


class TritonRouterSettings(Server):
    """One Triton, which must run with ``--model-control-mode=explicit``.

    `url` is its HTTP address: of one server, never of a balancer in front of several, because a
    route is moved where the request arrives.
    """

    kind: Literal["triton"]
    timeout: Duration = 60.0
    """For one switch, the loading of an engine included; after it, Triton is only asked what serves."""
    metrics: Server | None = None
    """Triton's page of metrics, such as ``{url: 127.0.0.1:8002}``: its GPUs' memory is looked at before a load."""
    load_needs: Size | None = None
    """How much GPU memory must be free for each engine that a switch loads, such as ``3GiB``."""

    @model_validator(mode="after")
    def _metrics_with_needs(self) -> Self:
        if (self.metrics is None) != (self.load_needs is None):
            raise ValueError("metrics and load_needs belong together: give both or neither")
        return self

    def refuse(self, engines: Mapping[Role, Address]) -> None:
        """Raises ValueError where Triton's version policy can't choose between these engines."""
        fast, safe = engines[Role.FAST], engines[Role.SAFE]
        if fast.model != safe.model:
            raise ValueError(
                f"a triton router moves between versions of one model, not from {fast.model} to {safe.model}"
            )
        if fast.endpoint != safe.endpoint:
            raise ValueError(f"a triton router moves within one server, not from {fast.endpoint} to {safe.endpoint}")
        for role, address in engines.items():
            if not address.version.isdecimal() or int(address.version) < 1:
                raise ValueError(f"a triton router needs engines.{role}.version, a whole number from 1")
        if int(fast.version) <= int(safe.version):
            raise ValueError(
                "engines.fast.version must be higher than engines.safe.version:"
                " Triton gives requests that name no version to the highest READY one"
            )


class TritonRouter:
    """The route of one model, as the versions that one Triton holds READY.

    READY versions below the one that shall serve stay so, for requests that name them; those above
    are unloaded.
    A load waits until the one before it is done, so that a switch to the safe engine asked for
    while the fast one is still loading takes as long as that load. A version whose files have
    changed since it was loaded is loaded anew by any switch. A restart of Triton, or a plain load
    of changed files, brings back the version policy of ``config.pbtxt``: the route must then be
    applied again.

    A load that would not fit beside what serves is refused before it begins, where `metrics` are given.
    """

    weighted: ClassVar[bool] = False
    keeps_both: ClassVar[bool] = False
    look_every_s: ClassVar[float] = 1.0  # after a restart, so long at most until the route is put back

    def __init__(self, settings: TritonRouterSettings, engines: Mapping[Role, Address]) -> None:
        from watchdog.routers.triton_repository import connected  # noqa: PLC0415 (aiohttp; no switch waits for it)

        settings.refuse(engines)
        self._settings = settings
        self._model = engines[Role.FAST].model
        self._version = {role: int(address.version) for role, address in engines.items()}
        self._connected = partial(connected, settings)

    async def apply(self, desired: Role, percent: int = 100) -> Applied:
        """See the port. Says "already so" where nothing had to be done."""
        if percent != 100:
            return refused_share(self)
        began, settings = time.monotonic(), self._settings
        try:
            async with asyncio.timeout(settings.timeout), self._connected() as repository:
                detail = await self._move(repository, desired)
        except RefusedError as error:
            return Applied(ok=False, detail=str(error), took_s=time.monotonic() - began, retry=error.retry)
        except TimeoutError:
            late = f"Triton did not finish within {settings.timeout:g} s, and may yet"
            detail = f"{late}; now, {(await self.observe()).detail}"
            return Applied(ok=False, detail=detail, took_s=time.monotonic() - began)
        return Applied(ok=True, detail=detail, took_s=time.monotonic() - began)

    async def observe(self) -> Observed:
        limit_s = min(_ASK_S, self._settings.timeout)
        try:
            async with asyncio.timeout(limit_s), self._connected() as repository:
                return self._judge((await repository.versions(self._model)).ready)
        except RefusedError as error:
            return Observed(role=None, detail=str(error), known=False)
        except TimeoutError:
            return Observed(role=None, detail=f"Triton gave no index within {limit_s:g} s", known=False)

    async def close(self) -> None:
        """Nothing is kept open."""

    async def _move(self, repository: "Repository", desired: Role) -> str:
        model = self._model
        before = await repository.versions(model)
        wanted = self._wanted(desired, before.ready)
        if before.are(wanted):
            return f"already so: {before}"
        config = await repository.config(model)
        config["version_policy"] = {"specific": {"versions": sorted(wanted)}}
        unseen = await self._refuse_crowded(desired, len(wanted - before.ready - before.loading))
        failure = await repository.load(model, config)
        said = f"{failure}:" if failure else f"Triton took the load of {model}, but"
        try:
            after = await _settled(repository, model, wanted)
        except RefusedError as error:
            raise RefusedError(f"{said} what serves now is not known: {error}") from error
        if not after.are(wanted):  # a 200 doesn't mean that anything was done, nor a broken connection that nothing was
            raise RefusedError(f"{said} {after.against(wanted)}; {self._judge(after.ready).detail}")
        return f"{after}; before, {before}{unseen}"

    async def _refuse_crowded(self, desired: Role, loads: int) -> str:
        """Refuse loads that there is no room for.

        Where nobody can tell, the safe engine is loaded all the same: it is wanted because the other one is wrong,
        and Triton keeps what serves if the load fails. The fast one can wait.

        Returns:
            What is to be said of a load that is dared; empty otherwise.

        Raises:
            RefusedError: nothing may be loaded.
        """
        from watchdog.routers.triton_repository import UnseenError, refuse_crowded  # noqa: PLC0415 (aiohttp; as above)

        settings = self._settings
        if not loads or settings.metrics is None or settings.load_needs is None:
            return ""
        try:
            await refuse_crowded(settings.metrics, loads * settings.load_needs)
        except UnseenError as error:
            if desired is Role.FAST:
                raise
            return f"; loaded without knowing the room for it: {error}"
        return ""

    def _wanted(self, desired: Role, ready: Collection[int]) -> set[int]:
        serving = self._version[desired]
        return {version for version in ready if version < serving} | {serving, self._version[Role.SAFE]}

    def _judge(self, ready: Collection[int]) -> Observed:
        if not ready:
            return Observed(role=None, detail=f"no version of {self._model} is READY")
        serving, listed = max(ready), ", ".join(map(str, sorted(ready)))
        role = next((role for role, version in self._version.items() if version == serving), None)
        if role is None:
            safe, fast = self._version[Role.SAFE], self._version[Role.FAST]
            detail = (
                f"version {serving} serves, neither the fast one ({fast}) nor the safe one ({safe}); READY: {listed}"
            )
            return Observed(role=None, detail=detail)
        return Observed(role=role, detail=f"version {serving} serves; READY: {listed}")


async def _settled(repository: "Repository", model: str, wanted: Collection[int]) -> "Versions":
    """The versions once they are as wanted, or once nothing is loading any more."""
    while True:
        versions = await repository.versions(model)
        if versions.are(wanted) or not versions.loading:
            return versions
        await asyncio.sleep(_POLL_S)
