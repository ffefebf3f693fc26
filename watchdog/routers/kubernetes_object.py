"""A route that is part of a Kubernetes object: read, write or wait, and read again, until it is as wanted.

Others write the object too. A write therefore says which generation it was decided on, and whatever
becomes of it, a conflict or a connection that broke, the object is read again before anything else.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from watchdog.kubernetes import ConflictError, Kubernetes, KubernetesError, KubernetesSettings
from watchdog.model.engine import Role
from watchdog.model.route import Applied, Observed
from watchdog.routers.refusal import RefusedError
from watchdog.settings import complaints

_POLL_S = 0.2
_PAUSE_S = 0.1
_ATTEMPTS = 5

ObjectName = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$", max_length=253)]


class Part(BaseModel):
    """A part of an object, as far as a router looks at it."""

    model_config = ConfigDict(alias_generator=to_camel, frozen=True)


class Metadata(Part):
    name: str
    uid: str
    generation: int
    """Counts the changes of the spec, whoever made them."""
    annotations: Mapping[str, str] = {}


class Condition(Part):
    type: str
    status: str
    """``True``, ``False`` or ``Unknown``."""
    reason: str = ""
    message: str = ""
    observed_generation: int = 0

    def __str__(self) -> str:
        return f"{self.type} is {self.status} ({': '.join(filter(None, (self.reason, self.message)))})"


class Whole(Part):
    metadata: Metadata


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """What to do about an object as it was read: write, or wait, or nothing more."""

    detail: str
    """How it is."""
    operations: Sequence[Mapping[str, Any]] = ()
    """Of JSON patch (RFC 6902)."""
    waits_for: str = ""


W = TypeVar("W", bound=Whole)


class RouteObject(Generic[W]):
    """One object and what moves it. `api_version` and `plural` are of its kind, `shape` is what is read of it."""

    def __init__(
        self, settings: KubernetesSettings, name: str, *, api_version: str, plural: str, shape: type[W]
    ) -> None:
        self._api = Kubernetes(settings)
        self._name = name
        self._api_version = api_version
        self._plural = plural
        self._shape = shape

    def __str__(self) -> str:
        return f"{self._plural}/{self._name}"

    async def read(self) -> W:
        """Raises KubernetesError."""
        found = await self._api.get(self._path())
        try:
            return self._shape.model_validate(found)
        except ValidationError as error:
            raise KubernetesError(f"{self} is not what is known as one: {'; '.join(complaints(error))}") from error

    async def move(self, step: Callable[[W], Step], within_s: float) -> Applied:
        """Take steps until none is left to do.

        Args:
            step: raises RefusedError where the object can't become what is wanted.
            within_s: for all of it. What has been written by then stays.
        """
        began, attempts, progress = time.monotonic(), 0, "no answer of the API server yet"
        try:
            async with asyncio.timeout(within_s):
                while True:
                    found = await self._read_surely()
                    left = step(found)
                    if left.operations:
                        if attempts == _ATTEMPTS:
                            detail = f"{self} can't be changed: {progress} ({attempts} attempts); {left.detail}"
                            return Applied(ok=False, detail=detail, took_s=time.monotonic() - began)
                        attempts += 1
                        progress = await self._write(found.metadata, left.operations)
                    elif left.waits_for:
                        progress = left.waits_for
                        await asyncio.sleep(_POLL_S)
                    else:
                        detail = left.detail if attempts else f"already so: {left.detail}"
                        return Applied(ok=True, detail=detail, took_s=time.monotonic() - began)
        except (RefusedError, KubernetesError) as error:
            return Applied(ok=False, detail=str(error), took_s=time.monotonic() - began, retry=error.retry)
        except TimeoutError:
            detail = f"{self} is not as wanted within {within_s:g} s, and may yet be: {progress}"
            return Applied(ok=False, detail=detail, took_s=time.monotonic() - began)

    async def _read_surely(self) -> W:
        """One failure to look is no answer, since something may have been written."""
        for _ in range(_ATTEMPTS - 1):
            try:
                return await self.read()
            except KubernetesError as error:
                if not error.retry:
                    raise
            await asyncio.sleep(_PAUSE_S)
        return await self.read()

    async def _write(self, read: Metadata, operations: Sequence[Mapping[str, Any]]) -> str:
        """Write once, unless the object has changed since; what came of it, as far as is known."""
        unchanged: list[Mapping[str, Any]] = [
            {"op": "test", "path": "/metadata/uid", "value": read.uid},
            {"op": "test", "path": "/metadata/generation", "value": read.generation},
        ]
        try:
            await self._api.patch(self._path(), [*unchanged, *operations])
        except ConflictError:
            return "somebody else changed it just then"
        except KubernetesError as error:
            if not error.retry:
                raise
            await asyncio.sleep(_PAUSE_S)
            return str(error)
        return "somebody else changed it back"

    def _path(self) -> str:
        return f"/apis/{self._api_version}/namespaces/{self._api.namespace()}/{self._plural}/{self._name}"


def seen(fast: int, total: int, detail: str) -> Observed:
    """What `fast` parts of `total` say. Only all is 100 %, and only nothing is 0 %: a trickle is not rounded away."""
    percent = round(100 * fast / total)
    if 0 < fast < total:
        percent = min(99, max(1, percent))
    role = Role.FAST if percent >= 50 else Role.SAFE
    return Observed(role=role, detail=detail, percent=percent if role is Role.FAST else 100 - percent)
