"""Why requests failed: Triton's statistics only count them, and its Prometheus page knows the reasons."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Mapping
from dataclasses import replace
from math import inf, isfinite
from typing import TYPE_CHECKING

from watchdog.model.engine import Address
from watchdog.model.fault import Fault
from watchdog.model.load import Statistics
from watchdog.transport import Server

if TYPE_CHECKING:
    from watchdog.scrape import Page, Unreadable

_FAILURES = "nv_inference_request_failure"
FRESH_S = 1.0
"""One reading serves all who ask within this: the page holds every model of the server, and is long."""


class Reasons:
    """One server's page, if there is one that tells why requests failed."""

    def __init__(self, page: Server | None) -> None:
        self._page = page
        self._read: Page | Unreadable | None = None
        self._read_at = -inf
        self._one_at_a_time = asyncio.Lock()

    async def added(
        self, counting: Awaitable[Statistics | Fault], address: Address, timeout_s: float
    ) -> Statistics | Fault:
        """What `counting` ends with, and the failures by reason.

        The page is read meanwhile and has half of the time, so that a slow one costs only the reasons.
        """
        if self._page is None:
            return await counting
        counted, page = await asyncio.gather(counting, self._newest(self._page, timeout_s / 2))
        return counted if isinstance(counted, Fault) else replace(counted, failures=_of(address, page))

    async def _newest(self, page: Server, timeout_s: float) -> "Page | Unreadable":
        from watchdog.scrape import scrape_server  # noqa: PLC0415 (aiohttp only where it is used)

        now = asyncio.get_running_loop().time
        async with self._one_at_a_time:
            if self._read is None or now() - self._read_at > FRESH_S:
                self._read = await scrape_server(page, names=[_FAILURES], timeout_s=timeout_s)
                self._read_at = now()
            return self._read


def _of(address: Address, page: "Page | Unreadable") -> Mapping[str, int]:
    """Empty where the page couldn't be had, or has nothing of the model."""
    from watchdog.scrape import Unreadable  # noqa: PLC0415 (as above)

    if isinstance(page, Unreadable):
        return {}
    reasons: Counter[str] = Counter()
    for labels, value in page.samples(_FAILURES):
        of_model = labels.get("model") == address.model and address.version in {"", labels.get("version")}
        if of_model and isfinite(value):
            reasons[labels.get("reason", "unknown")] += int(value)
    return reasons
