"""What every hook needs: its caller's token and body, commands on its behalf, and a memory that can't grow."""

import asyncio
import functools
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Annotated, Any, Generic, TypeVar

from aiohttp import web
from pydantic import ConfigDict, Field, ValidationError

from watchdog.api import body
from watchdog.api.documents import Document
from watchdog.api.service import Service
from watchdog.api.strict_json import WrongBodyError, parse_object
from watchdog.model.event import Command
from watchdog.settings import spell

PATIENCE_S = 8.0
"""How long a call waits for a command: Flagger gives it up after 10 s, and Alertmanager no sooner."""

Accepts = Callable[[str], None]
"""Raises what is to be answered to a caller with another token."""

Text = Annotated[str, Field(max_length=64 * 1024)]
"""The bound also makes pydantic refuse half a character, which nobody can write down."""

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
C = TypeVar("C", bound="Call")


class Call(Document):
    """What a caller sends. It may grow keys that are unknown here, but those known must be what they were."""

    model_config = ConfigDict(extra="ignore", strict=True)


class Recent(Generic[K, V]):
    """A mapping that forgets what was not touched for longest."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._held: OrderedDict[K, V] = OrderedDict()

    def get(self, key: K) -> V | None:
        if key in self._held:
            self._held.move_to_end(key)
        return self._held.get(key)

    def put(self, key: K, value: V) -> None:
        self._held[key] = value
        self._held.move_to_end(key)
        if len(self._held) > self._most:
            self._held.popitem(last=False)

    def drop(self, key: K) -> None:
        self._held.pop(key, None)


class Commands:
    """Commands on controllers' behalf, of each kind and model one at a time.

    A caller's patience ends before a command does, at times. The command goes on then, since a switch must
    not be left halfway, and whoever asks for the same meanwhile waits for that one.
    """

    def __init__(self, service: Service) -> None:
        self._service = service
        self._under_way: dict[tuple[str, Command], asyncio.Task[Any]] = {}

    async def carry_out(self, model: str, command: Command, actor: str, why: str) -> bool:
        """Whether it was carried out within a controller's patience; if not, it still is under way.

        Raises:
            NoSuchModelError, NotLeadingError, OSError: as `Service.command`; nothing was done.
        """
        key = (model, command)
        task = self._under_way.get(key)
        if task is None:
            task = asyncio.create_task(self._service.command(model, command, actor, why))
            self._under_way[key] = task
            task.add_done_callback(functools.partial(self._ended, key))
        done, _ = await asyncio.wait({task}, timeout=PATIENCE_S)
        if done:
            task.result()
        return bool(done)

    def _ended(self, key: tuple[str, Command], task: "asyncio.Task[Any]") -> None:
        del self._under_way[key]
        if not task.cancelled():
            task.exception()  # asyncio complains of one that nobody has looked at; the cycle has told of it


def bearer(request: web.Request) -> str:
    """The token of the header ``Authorization``; empty where it has none."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return token if scheme.lower() == "bearer" else ""


async def read(request: web.Request, kind: type[C], most_bytes: int) -> C:
    """The request's body.

    Raises:
        web.HTTPException: it is too large, too slow, or not of this kind; with the path to what is wrong, and
            without any value, which might be a secret.
    """
    raw = await body.read(request, most_bytes)
    if request.content_type != "application/json":
        raise web.HTTPUnsupportedMediaType(text="send the body as `Content-Type: application/json`")
    try:
        return kind.model_validate(parse_object(raw))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise web.HTTPBadRequest(text=f"{spell(first['loc'])}: {first['msg']}") from None
    except WrongBodyError as error:
        raise web.HTTPBadRequest(text=str(error)) from None
