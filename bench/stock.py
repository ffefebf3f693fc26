"""The path that is there without a watchdog's own: Prometheus → Alertmanager → a webhook → the router.

Each is as quick as it can be set: a scrape and an evaluation a second, an alert at the first sign, no
waiting for a group.
"""

import asyncio
import threading
import time
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from aiohttp import web

from bench.patience import until
from watchdog.demo import alertmanager, prometheus
from watchdog.model.engine import Role
from watchdog.model.route import Applied
from watchdog.ports import Router
from watchdog.transport import serve

SIGN = 'watchdog_probes_total{path="public",verdict="failed"}'
"""What Prometheus looks at: the count of canaries that came back wrong. Each watchdog's begins anew."""

_APPLY_S = 60.0

_Result = TypeVar("_Result")


def available() -> str | None:
    """None where the path can run, otherwise a sentence: what is missing and how to get it."""
    return prometheus.available() or alertmanager.available()


@dataclass(frozen=True, kw_only=True)
class Called:
    """What a firing alert led to; times are Unix seconds."""

    received_at: float
    applied_at: float
    applied: Applied


class Receiver:
    """Alertmanager's webhook: asks the router for the safe engine when something fires."""

    def __init__(self) -> None:
        self.url = ""
        self._router: Router | None = None
        self._called: list[Called] = []
        self._runner: web.AppRunner | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        app = web.Application()
        app.router.add_post("/", self._take)
        self._runner, self.url = self._do(serve(app, "127.0.0.1:0"))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._runner is not None:
            self._do(self._runner.cleanup())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def obey(self, router: Router) -> None:
        """Move this one from now on, and forget what was."""
        self._router, self._called = router, []

    def apply(self, desired: Role) -> Applied:
        """What a person does by hand."""
        if self._router is None:
            raise RuntimeError("no router to move")
        return self._do(self._router.apply(desired))

    def await_call(self) -> Called:
        """The first one since `obey`."""
        return until(lambda: self._called[0] if self._called else None, "Alertmanager to call")

    async def _take(self, request: web.Request) -> web.Response:
        received_at, message = time.time(), await request.json()
        if message["status"] == "firing" and self._router is not None:
            applied = await self._router.apply(Role.SAFE)
            self._called.append(Called(received_at=received_at, applied_at=time.time(), applied=applied))
        return web.Response()

    def _do(self, work: Coroutine[Any, Any, _Result]) -> _Result:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(_APPLY_S)


class Prometheus(prometheus.Prometheus):
    """One that scrapes watchdogs that come and go, and tells one Alertmanager.

    Args:
        work: a folder for its configuration, data and log.
        targets: each watchdog's host and port. It scrapes each at a time of its own within the second, and
            evaluates at another; both stay as they are, so that one target alone would always be lucky, or never.
        alertmanager_url: where alerts go.
    """

    def __init__(self, work: Path, *, targets: Sequence[str], alertmanager_url: str) -> None:
        rule = {"alert": "FastEngineWrong", "expr": f"{SIGN} > 0"}
        rules = {"groups": [{"name": "bench", "rules": [rule]}]}
        super().__init__(work, targets, rules=rules, alertmanager=alertmanager_url.removeprefix("http://"))

    def await_watching(self, target: str) -> None:
        """Until it has scraped a target, and knows where to send alerts: both take it seconds after a start."""
        until(lambda: self.ask("alertmanagers")["activeAlertmanagers"], "Prometheus to find Alertmanager")
        until(partial(self._query, f'up{{instance="{target}"}} == 1'), "Prometheus to scrape the watchdog")

    def seen_at(self, target: str) -> float:
        """When the first scrape of a target began that saw the sign, in Unix seconds."""
        return min(
            float(at)
            for series in self._query(f"{SIGN}[5m]")
            for at, count in series["values"]
            if series["metric"]["instance"] == target and float(count) > 0
        )

    def _query(self, query: str) -> list[dict[str, Any]]:
        result: list[dict[str, Any]] = self.ask("query", query=query)["result"]
        return result
