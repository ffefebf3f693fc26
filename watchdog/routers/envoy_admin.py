"""Envoy's admin interface: which weights are in force, and whether it refused a file."""

import asyncio
import time
from typing import Any

from watchdog.exchange import UnansweredError, exchange
from watchdog.routers.envoy_weights import ClusterSettings, Pair, agreed, pairs_in
from watchdog.routers.refusal import RefusedError
from watchdog.transport import Server

_POLL_S = 0.02
_DUMP = "/config_dump?resource=dynamic_route_configs"
_REFUSALS = r"/stats?format=json&filter=\.rds\..*\.update_(rejected|failure)$"


class EnvoyAdmin:
    """Its admin interface, asked until a time of `time.monotonic`. Every method raises RefusedError."""

    def __init__(self, admin: Server, clusters: ClusterSettings) -> None:
        self._admin = admin
        self._clusters = clusters

    async def pairs(self, until: float) -> list[Pair]:
        """The model's routes that are in force, from whatever file; none where Envoy has taken no such file."""
        dump = await self._ask(_DUMP, until)
        try:
            return pairs_in([each["route_config"] for each in dump.get("configs", ())], self._clusters)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise RefusedError(f"{self._admin.base_url}: its config dump can't be used ({error})") from error

    async def refusals(self, until: float) -> int:
        """How many route files Envoy has rejected or could not read."""
        answer = await self._ask(_REFUSALS, until)
        try:
            return sum(each["value"] for each in answer["stats"])
        except (KeyError, TypeError) as error:
            raise RefusedError(f"{self._admin.base_url}: its statistics can't be used") from error

    async def take(self, fast_percent: int, refusals: int | None, until: float) -> None:
        """Wait until Envoy has these weights in force.

        Args:
            fast_percent: what the fast engine gets.
            refusals: how many there were before the file was written, where that is known.
            until: `time.monotonic` at which it is given up.
        """
        while True:
            try:
                problem = await self._problem(fast_percent, refusals, until)
            except RefusedError as error:
                problem = RefusedError(f"the file is written, but Envoy can't be asked: {error}")
            if problem is None:
                return
            if not problem.retry or time.monotonic() >= until:
                raise problem
            await asyncio.sleep(_POLL_S)

    async def _problem(self, fast_percent: int, refusals: int | None, until: float) -> RefusedError | None:
        """Why Envoy doesn't have these weights; None where it has."""
        refused = refusals is not None and await self.refusals(until) > refusals
        pairs = await self.pairs(until)
        if agreed(pairs) == fast_percent:
            return None
        has = f"Envoy did not take the file that was written; it has {'; '.join(map(str, pairs)) or 'no such routes'}"
        if refused:
            return RefusedError(f"{has}; it rejects the file: see 'config update' in its log", retry=False)
        return RefusedError(f"{has}; its watched_directory must be the file's folder")

    async def _ask(self, path: str, until: float) -> Any:
        limit_s = max(until - time.monotonic(), _POLL_S)
        try:
            answer = await exchange(self._admin, "GET", f"{self._admin.base_url}{path}", timeout_s=limit_s)
            found = answer.json()
        except UnansweredError as error:
            raise RefusedError(str(error)) from error
        if not answer.ok:
            raise RefusedError(f"{answer}; `admin` must be Envoy's admin interface")
        return found
