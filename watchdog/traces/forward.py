"""Hands the bodies received on to the user's own collector, beside and never in the way."""

import asyncio
import contextlib
import io
import ssl
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

import aiohttp
from aiohttp import hdrs

from watchdog.http_failure import said
from watchdog.traces import Outcome
from watchdog.transport import Server

MOST_BYTES = 32 * 2**20
MOST_BATCHES = 1024
_RETRY = frozenset({429, 502, 503, 504})  # as the specification has it; anything else would be refused again
_WITHIN_S = 10.0
_FIRST_RETRY_S = 1.0
_LAST_RETRY_S = 60.0
_MOST_PATIENCE_S = 600.0
"""However long a collector asks us to stay away."""

Clock = Callable[[], float]
Sleep = Callable[[float], Awaitable[object]]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Batch:
    """A body as it came."""

    body: bytes
    content_type: str
    encoding: str = ""
    """Its ``Content-Encoding``."""

    @property
    def headers(self) -> dict[str, str]:
        encoded = {"Content-Encoding": self.encoding} if self.encoding else {}
        return {"Content-Type": self.content_type, **encoded}


@dataclass(frozen=True, kw_only=True, slots=True)
class _Sent:
    trouble: str | None
    """Why the collector does not have it: one line, without secrets."""
    retry: bool = False
    retry_after_s: float = 0.0


class Forwarder:
    """Sends batches in order, one at a time.

    Where the collector is away or busy, the oldest is tried again until it is taken, or newer ones
    have pushed it out.
    """

    def __init__(
        self,
        collector: Server,
        count: Callable[[str, int], None],
        *,
        sleep: Sleep = asyncio.sleep,
        clock: Clock = time.time,
    ) -> None:
        """Nobody is contacted before there is something to send.

        Args:
            collector: has ``/v1/traces`` below its URL.
            count: given an `Outcome` and a number of bodies.
            sleep: for the time between two tries.
            clock: Unix seconds, for a ``Retry-After`` that names a time.
        """
        self._collector = collector
        self._count = count
        self._sleep = sleep
        self._clock = clock
        self._waiting: deque[Batch] = deque()
        self._bytes = 0
        self._filled = asyncio.Event()
        self._session: aiohttp.ClientSession | None = None
        self._task: asyncio.Task[None] | None = None
        self.trouble: str | None = None
        """Why the last try failed; None where it did not."""

    def put(self, batch: Batch) -> None:
        """Take it to the collector in its turn; for its sake the oldest may be dropped."""
        self._waiting.append(batch)
        self._bytes += len(batch.body)
        while self._bytes > MOST_BYTES or len(self._waiting) > MOST_BATCHES:
            self._remove_oldest()
            self._count(Outcome.FORWARD_DROPPED, 1)
        self._filled.set()

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="trace forwarder")

    async def close(self) -> None:
        """Stop; what is still waiting is dropped."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        if self._waiting:
            self._count(Outcome.FORWARD_DROPPED, len(self._waiting))
            self._waiting.clear()
            self._bytes = 0
        await self._disconnect()

    async def _run(self) -> None:
        pause = _FIRST_RETRY_S
        while True:
            await self._filled.wait()
            oldest = self._waiting[0]
            sent = await self._send(oldest)
            self.trouble = sent.trouble
            if sent.retry:
                await self._sleep(max(pause, sent.retry_after_s))
                pause = min(_LAST_RETRY_S, 2 * pause)
                continue
            pause = _FIRST_RETRY_S
            if self._waiting[0] is oldest:  # else it was pushed out meanwhile, and counted
                self._remove_oldest()
                self._count(Outcome.FORWARDED if sent.trouble is None else Outcome.FORWARD_REFUSED, 1)

    def _remove_oldest(self) -> None:
        self._bytes -= len(self._waiting.popleft().body)
        if not self._waiting:
            self._filled.clear()

    async def _send(self, batch: Batch) -> _Sent:
        where = self._collector.place.host_port
        try:
            headers = {**self._collector.headers, **self._collector.secrets(), **batch.headers}
            session = await self._connected()
            async with session.post(
                f"{self._collector.base_url}/v1/traces",
                data=io.BytesIO(batch.body),  # sent in pieces: other work goes on meanwhile
                headers=headers,
                allow_redirects=False,
            ) as response:
                return self._judged(where, response)
        except ValueError as error:  # a secret's or a certificate's file, which may be mended
            return _Sent(trouble=f"{where}: {error}", retry=True)
        except TimeoutError:
            trouble = f"{where}: no answer within {_WITHIN_S:g} s"
        except (aiohttp.ClientError, OSError) as error:
            trouble = f"{where}: {said(error)}"
        await self._disconnect()  # the next try reads certificates anew
        return _Sent(trouble=trouble, retry=True)

    async def _connected(self) -> aiohttp.ClientSession:
        if self._session is None:
            tls = self._collector.tls
            trusted: ssl.SSLContext | bool = True if tls is None else await asyncio.to_thread(tls.context)
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(ssl=trusted, limit=1),
                timeout=aiohttp.ClientTimeout(total=_WITHIN_S),
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        return self._session

    async def _disconnect(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def _judged(self, where: str, response: aiohttp.ClientResponse) -> _Sent:
        if 200 <= response.status < 300:
            return _Sent(trouble=None)
        wait_s = _seconds(response.headers.get(hdrs.RETRY_AFTER, ""), self._clock())
        return _Sent(trouble=f"{where}: {response.status}", retry=response.status in _RETRY, retry_after_s=wait_s)


def _seconds(retry_after: str, now: float) -> float:
    """From a ``Retry-After``, which is a number or a date; 0 where it says nothing."""
    text = retry_after.strip()
    if text.isascii() and text.isdecimal() and len(text) < 10:
        wait = float(text)
    else:
        try:
            wait = parsedate_to_datetime(text).timestamp() - now
        except (ValueError, OverflowError):
            wait = 0.0
    return min(max(0.0, wait), _MOST_PATIENCE_S)
