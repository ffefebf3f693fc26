"""Commands that are sent again because their answer was lost are answered again, and not carried out again.

In the manner of the IETF's draft "The Idempotency-Key HTTP Header Field". Kept in memory only:
a restart forgets all of it.
"""

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from weakref import WeakValueDictionary

from aiohttp import web

HEADER = "Idempotency-Key"
REPLAYED = "Idempotent-Replayed"
LONGEST_KEY = 255
_KEPT_S = 86400.0
_MOST_KEPT = 1000
_MOST_BYTES = 4 * 2**20

Place = tuple[str, str, str]
"""Method, path and key: a caller's key is its own on each path."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Kept:
    at: float
    digest: bytes
    body: bytes


class Answers:
    """What was answered to requests with a key, for a day.

    Only an answer of 200 is kept. With any other nothing was done, and the same request may find
    things mended.
    """

    def __init__(self) -> None:
        self._kept: OrderedDict[Place, _Kept] = OrderedDict()
        self._bytes = 0
        self._turns: WeakValueDictionary[Place, asyncio.Lock] = WeakValueDictionary()

    async def once(
        self, request: web.Request, body: bytes, carry_out: Callable[[], Awaitable[web.Response]]
    ) -> web.Response:
        """The answer to a request: the first one's, where there was one with its key.

        A request that comes while the first is being carried out waits for it.

        Args:
            request: what came.
            body: all of its body, by which it is known again.
            carry_out: does it; its answers of 200 are JSON.

        Raises:
            web.HTTPException: of `carry_out`; 400 for a key that is none; 422 where the key was
                another request's.
        """
        if (key := _key(request)) is None:
            return await carry_out()
        place = (request.method, request.path, key)
        digest = hashlib.sha256(body).digest()
        async with self._turns.setdefault(place, asyncio.Lock()):
            self._forget_old()
            if (kept := self._kept.get(place)) is not None:
                if kept.digest != digest:
                    raise web.HTTPUnprocessableEntity(
                        text=f"this {HEADER} was another request's: give each request its own, and repeat it unchanged"
                    )
                return web.Response(body=kept.body, content_type="application/json", headers={REPLAYED: "true"})
            answer = await carry_out()
            if answer.status == 200 and isinstance(answer.body, bytes):
                self._keep(place, _Kept(at=_now(), digest=digest, body=answer.body))
            return answer

    def _keep(self, place: Place, answer: _Kept) -> None:
        self._kept[place] = answer
        self._bytes += len(answer.body)
        while len(self._kept) > _MOST_KEPT or self._bytes > _MOST_BYTES:
            self._drop_oldest()

    def _forget_old(self) -> None:
        while self._kept and _now() - next(iter(self._kept.values())).at > _KEPT_S:
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        _, dropped = self._kept.popitem(last=False)
        self._bytes -= len(dropped.body)


def _now() -> float:
    return asyncio.get_running_loop().time()


def _key(request: web.Request) -> str | None:
    """The key as it is written, with quotes or without."""
    keys = request.headers.getall(HEADER, [])
    if not keys:
        return None
    key = keys[0]
    if len(keys) > 1 or not (0 < len(key) <= LONGEST_KEY and key.isascii() and key.isprintable()):
        raise web.HTTPBadRequest(text=f"{HEADER} must be one text of 1 to {LONGEST_KEY} printable ASCII characters")
    return key
