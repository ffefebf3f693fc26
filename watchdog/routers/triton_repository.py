"""What a route needs of Triton over HTTP: index, config and load, and whether its GPUs have room for a load."""

import asyncio
import json
import math
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import aiohttp

from watchdog.exchange import whole
from watchdog.http_failure import said
from watchdog.routers.refusal import RefusedError
from watchdog.scrape import Page, scrape_server
from watchdog.transport import Server, one_line

_METRICS_S = 2.0
_USED, _TOTAL = "nv_gpu_memory_used_bytes", "nv_gpu_memory_total_bytes"


@dataclass(frozen=True, slots=True)
class Versions:
    """The states of one model's versions, as the repository index tells them."""

    states: Mapping[int, tuple[str, str]]
    """Version → state, such as ``READY``, and the reason that goes with it."""

    @property
    def ready(self) -> frozenset[int]:
        return frozenset(version for version, (state, _) in self.states.items() if state == "READY")

    @property
    def loading(self) -> frozenset[int]:
        return frozenset(version for version, (state, _) in self.states.items() if state == "LOADING")

    def are(self, wanted: Collection[int]) -> bool:
        """Whether exactly these are READY, and none is on its way to be."""
        return self.ready == set(wanted) and not self.loading

    def against(self, wanted: Collection[int]) -> str:
        """What keeps them from being as wanted."""
        missing = (f"version {version} is {self._told(version)}" for version in sorted(set(wanted) - self.ready))
        extra = (f"version {version} is READY" for version in sorted(self.ready - set(wanted)))
        return "; ".join((*missing, *extra))

    def _told(self, version: int) -> str:
        state, reason = self.states.get(version, ("not in its model repository", ""))
        return one_line(f"{state}: {reason}" if reason else state)

    def __str__(self) -> str:
        return f"READY: {', '.join(map(str, sorted(self.ready))) or 'none'}"


class Repository:
    """One connection to one Triton. Every method raises RefusedError."""

    def __init__(self, session: aiohttp.ClientSession, settings: Server, secrets: Mapping[str, str]) -> None:
        self._session = session
        self._base = settings.base_url
        self._server_name = settings.tls.server_name if settings.tls else None
        self._headers = {**settings.headers, **secrets}
        self._hidden = list(secrets.values())

    async def versions(self, model: str) -> Versions:
        """The states of `model`'s versions; none where Triton doesn't know the model."""
        answer = await self._ask("POST", "/v2/repository/index", {})
        try:
            rows = [row for row in answer if row["name"] == model and "version" in row]
            return Versions({int(row["version"]): (row["state"], row.get("reason", "")) for row in rows})
        except (TypeError, KeyError, ValueError) as error:
            raise RefusedError(f"{self._base} answers, but not with Triton's repository index") from error

    async def config(self, model: str) -> dict[str, Any]:
        """The configuration in force. Its version policy may be an older one than the one in force."""
        answer = await self._ask("GET", f"/v2/models/{quote(model, safe='')}/config")
        if not isinstance(answer, dict):
            raise RefusedError(f"{self._base} answers, but not with a model configuration")
        return answer

    async def load(self, model: str, config: Mapping[str, Any]) -> str:
        """Load with `config` in place of ``config.pbtxt``; returns once Triton is done.

        Returns:
            That it failed; empty where it is not known to have. The index tells what came of it in either case.

        Raises:
            RefusedError: Triton did not try, and never will.
        """
        body = {"parameters": {"config": json.dumps(config)}}
        try:
            await self._ask("POST", f"/v2/repository/models/{quote(model, safe='')}/load", body)
        except RefusedError as error:
            if not error.retry:
                raise
            by_version = "load failed for model" in str(error)  # the index has the reasons, each at its version
            return f"the load of {model} failed" if by_version else f"the load of {model} failed ({error})"
        return ""

    async def _ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """The answer's JSON, or None for an empty body."""
        try:
            async with self._session.request(
                method,
                self._base + path,
                json=body,
                headers=self._headers,
                allow_redirects=False,
                server_hostname=self._server_name,
            ) as response:
                status, raw = response.status, await whole(response)
        except (aiohttp.ClientError, OSError) as error:
            raise RefusedError(f"{self._base}: {said(error)}") from error
        text = one_line(raw.decode(errors="replace"), self._hidden)
        if status != 200:
            raise self._refusal(status, text)
        try:
            return json.loads(raw) if raw else None
        except ValueError as error:
            raise RefusedError(f"{self._base} answers {path}, but not in JSON: {text}") from error

    def _refusal(self, status: int, text: str) -> RefusedError:
        said = f"{self._base}: {status} {text}"
        if status in {401, 403}:
            return RefusedError(f"{said}; add the header it asks for to `secret_headers`", retry=False)
        if "explicit model load" in text:
            return RefusedError(f"{said}; start Triton with --model-control-mode=explicit", retry=False)
        if "unknown model" in text:
            return RefusedError(f"{said}; it must be loaded once, as by Triton's --load-model, and `model` be its name")
        return RefusedError(said)


class UnseenError(RefusedError):
    """How much GPU memory is free can't be told."""


async def refuse_crowded(metrics: Server, needed_bytes: int) -> None:
    """Say no unless every GPU has so much memory free: Triton may put an engine on any of them.

    Raises:
        UnseenError: Triton's metrics can't be read, or tell of no GPU.
        RefusedError: there is less; the text has the numbers.
    """
    page = await scrape_server(metrics, names=(_USED, _TOTAL), timeout_s=_METRICS_S)
    if not isinstance(page, Page):
        raise UnseenError(f"Triton's metrics can't be read: {page.detail}")
    used, total = (
        {labels.get("gpu_uuid", ""): value for labels, value in page.samples(name)} for name in (_USED, _TOTAL)
    )
    free = {gpu: total[gpu] - used.get(gpu, math.nan) for gpu in total}
    if not free or not all(math.isfinite(each) for each in free.values()):
        raise UnseenError(
            "Triton's metrics don't tell the memory of its GPUs: it must run without --allow-gpu-metrics=false"
        )
    fullest = min(free, key=free.__getitem__)
    if free[fullest] < needed_bytes:
        has = f"{fullest} has {_gib(free[fullest])} of {_gib(total[fullest])} free"
        raise RefusedError(f"the load needs {_gib(needed_bytes)}, and {has}: nothing was begun")


def _gib(number: float) -> str:
    return f"{number / 2**30:.2f} GiB"


@asynccontextmanager
async def connected(settings: Server) -> AsyncIterator[Repository]:
    """A connection for a few calls: fresh, so that no stale one is taken for a dead server.

    Raises:
        RefusedError: the settings' files can't be used.
    """
    timeout = aiohttp.ClientTimeout(total=None)  # the caller bounds the time: a load may take minutes
    try:
        trusted = True if settings.tls is None else await asyncio.to_thread(settings.tls.context)
        secrets = settings.secrets()
    except ValueError as error:
        raise RefusedError(str(error)) from error
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=trusted), timeout=timeout) as session:
        yield Repository(session, settings, secrets)
