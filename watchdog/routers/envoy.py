"""Divides a model's traffic by the weights in a route file that Envoy watches.

The file is the operator's: a ``DiscoveryResponse`` in JSON, whose matches, rewrites, time-outs and
other routes are nobody else's business. A route whose ``weighted_clusters`` are a fast and a safe
cluster is the model's, whatever it matches, HTTP or gRPC, and its two weights are all that the
watchdog changes. JSON, because YAML's comments would be lost in the rewriting.

Envoy (1.40) reads the file anew when one is renamed into the watched folder, takes it whole or
keeps what it has, and tells only by its admin interface which of the two it did. It gives the
reason in its log alone.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import AfterValidator

from watchdog.model.engine import Address, Role
from watchdog.model.route import Applied, Observed, share_of_fast
from watchdog.routers.envoy_file import RouteFile
from watchdog.routers.envoy_weights import ClusterSettings, Pair, agreed
from watchdog.routers.refusal import RefusedError
from watchdog.settings import Duration, LocalPath, Settings
from watchdog.transport import Server

if TYPE_CHECKING:
    from watchdog.routers.envoy_admin import EnvoyAdmin

_ASK_S = 2.0
_ASK_BEFORE_S = 0.5  # of what only makes a later complaint clearer


def _checked_path(path: Path) -> Path:
    if path.suffix.lower() != ".json":
        raise ValueError("the route file must be JSON and named so (.json), or Envoy would read it as something else")
    return path


class EnvoySettings(Settings):
    """One Envoy, which reads its routes from a file (``rds.config_source.path_config_source``)."""

    kind: Literal["envoy"]
    route_file: Annotated[LocalPath, AfterValidator(_checked_path)]
    """JSON; its folder must be the ``watched_directory``. Several models may share it."""
    clusters: ClusterSettings
    admin: Server | None = None
    """Envoy's admin interface. Without it nobody asks whether Envoy took what was written."""
    timeout: Duration = 5.0
    """For one switch, Envoy's taking it included."""

    def refuse(self, engines: Mapping[Role, Address]) -> None:
        """Any two engines will do."""


class EnvoyRouter:
    """The weights of one model's routes: in the file, and as Envoy has them.

    The file is replaced by renaming, so that Envoy and a crash find the old or the new one.
    A request belongs to an engine once its header has arrived: those under way, and gRPC streams
    that are open, stay where they are.
    """

    weighted: ClassVar[bool] = True
    keeps_both: ClassVar[bool] = True
    look_every_s: ClassVar[float] = 5.0

    def __init__(self, settings: EnvoySettings) -> None:
        self._settings = settings
        self._file = RouteFile(settings.route_file, settings.clusters)
        self._envoy = None if settings.admin is None else _admin(settings.admin, settings.clusters)
        self._one_at_a_time = asyncio.Lock()

    async def apply(self, desired: Role, percent: int = 100) -> Applied:
        """See the port. Says "already so" where nothing had to be written."""
        began = time.monotonic()
        until = began + self._settings.timeout
        try:
            detail = await self._move(share_of_fast(desired, percent), until)
        except RefusedError as error:
            return Applied(ok=False, detail=str(error), took_s=time.monotonic() - began, retry=error.retry)
        return Applied(ok=True, detail=detail, took_s=time.monotonic() - began)

    async def observe(self) -> Observed:
        """What Envoy has, or the file where Envoy can't be asked by configuration.

        A file that is missing or damaged tells nothing of what Envoy has, which is the last one it
        took: that is "cannot tell", and no moved route.
        """
        limit_s = min(_ASK_S, self._settings.timeout)
        try:
            if self._envoy is not None:
                return _judge("Envoy", await self._envoy.pairs(time.monotonic() + limit_s))
            async with asyncio.timeout(limit_s):
                pairs = await asyncio.to_thread(self._file.pairs)
        except RefusedError as error:
            return Observed(role=None, detail=str(error), known=False)
        except TimeoutError:
            detail = f"{self._file}: its disk did not answer within {limit_s:g} s"
            return Observed(role=None, detail=detail, known=False)
        return _judge(f"{self._file} (Envoy was not asked: there is no `admin`)", pairs)

    async def close(self) -> None:
        """Nothing is kept open."""

    async def _move(self, fast_percent: int, until: float) -> str:
        """Raises RefusedError."""
        shares = f"{fast_percent} % fast, {100 - fast_percent} % safe"
        async with self._one_at_a_time:
            so, refusals = await self._before(fast_percent)
            written = await self._write(fast_percent, until, anew=so is False)
            if self._envoy is None:
                said = f"{'written' if written else 'already so in the file'}: {shares}"
                return f"{said}; Envoy was not asked whether it took it: there is no `admin`"
            if so and not written:
                return f"already so: {shares}"
            await self._envoy.take(fast_percent, refusals, until)
            return f"Envoy has {shares}"

    async def _before(self, fast_percent: int) -> tuple[bool | None, int | None]:
        """Whether Envoy has these weights, and how many files it has refused; None where it can't be asked.

        To write matters more than to know this, so it is not waited for long.
        """
        if self._envoy is None:
            return None, None
        until = time.monotonic() + min(_ASK_BEFORE_S, self._settings.timeout / 2)
        try:
            refusals = await self._envoy.refusals(until)
            return agreed(await self._envoy.pairs(until)) == fast_percent, refusals
        except RefusedError:
            return None, None

    async def _write(self, fast_percent: int, until: float, *, anew: bool) -> bool:
        try:
            async with asyncio.timeout(until - time.monotonic()):
                return await asyncio.to_thread(self._file.write, fast_percent, anew=anew, until=until)
        except TimeoutError as error:
            limit = f"within {self._settings.timeout:g} s"
            why = "its disk hangs, or another watchdog holds its folder"
            raise RefusedError(f"{self._file} was not written {limit}, and may be yet: {why}") from error


def _judge(source: str, pairs: Sequence[Pair]) -> Observed:
    if not pairs:
        return Observed(role=None, detail=f"{source}: no route has a fast and a safe cluster in weighted_clusters")
    fast_percent = agreed(pairs)
    if fast_percent is None:
        each = "; ".join(f"{pair.where}: {pair}" for pair in pairs)
        detail = f"{source}: the weights must be percentages, and the same in each of the model's routes; {each}"
        return Observed(role=None, detail=detail)
    role = Role.FAST if fast_percent >= 50 else Role.SAFE
    return Observed(role=role, detail=f"{source}: {pairs[0]}", percent=share_of_fast(role, fast_percent))


def _admin(server: Server, clusters: ClusterSettings) -> "EnvoyAdmin":
    from watchdog.routers.envoy_admin import EnvoyAdmin  # noqa: PLC0415 (aiohttp; no switch waits for it)

    return EnvoyAdmin(server, clusters)
