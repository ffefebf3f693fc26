"""The few calls of the Kubernetes API that routes and leases need, each with optimistic concurrency.

A ``PUT`` that carries ``metadata.resourceVersion`` is refused with 409 if the object has changed
since it was read; a JSON patch whose ``test`` fails with 422. Both are a `ConflictError`.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Self

from pydantic import AfterValidator, model_validator

from watchdog.settings import Duration, LocalPath, Secret
from watchdog.transport import Place, Remote, Tls, one_line

if TYPE_CHECKING:
    from watchdog.exchange import Answer

_IN_CLUSTER = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_URL = "https://kubernetes.default.svc:443"

Object = dict[str, Any]
"""An API object as its JSON has it."""


def _checked_url(url: str) -> str:
    if not Place.parse(url).scheme:
        raise ValueError(f"{url!r} has no scheme: write https://{url}")
    return url


class KubernetesSettings(Remote):
    """The API server. What is left out is as a pod's service account has it."""

    url: Annotated[str, AfterValidator(_checked_url)] = _URL
    token: Secret | None = None
    """Read for every call, since Kubernetes rotates it."""
    namespace_file: LocalPath = _IN_CLUSTER / "namespace"
    namespace: str = ""
    """Of the objects; the pod's own where absent."""
    timeout: Duration = 5.0
    """For one call."""

    @model_validator(mode="after")
    def _tls_is_used(self) -> Self:
        if self.tls is not None and self.url.startswith("http://"):
            raise ValueError("tls is given, but url says http://: write https://, or remove tls")
        return self


class KubernetesError(Exception):
    """The API server did not do it; the text tells what to do and holds no secret."""

    def __init__(self, detail: str, *, status: int = 0) -> None:
        super().__init__(detail)
        self.status = status
        """Of HTTP; 0 where there was no answer."""

    @property
    def retry(self) -> bool:
        """Whether asking again can help: not where the request itself or a role is wrong."""
        return self.status in {0, 401, 409, 429} or self.status >= 500


class NotFoundError(KubernetesError):
    """There is no such object, or no such kind."""


class ConflictError(KubernetesError):
    """The object has changed since it was read, or one of that name is there already."""


class Kubernetes:
    """Every method raises KubernetesError. Paths are as the API has them, from ``/api`` or ``/apis``."""

    def __init__(self, settings: KubernetesSettings) -> None:
        self._settings = settings
        in_cluster = settings.url == _URL and settings.tls is None
        self._remote = settings.model_copy(update={"tls": Tls(ca=_IN_CLUSTER / "ca.crt")}) if in_cluster else settings
        self._token = settings.token or (Secret(file=_IN_CLUSTER / "token") if in_cluster else None)

    def namespace(self) -> str:
        """Where the objects are."""
        if self._settings.namespace:
            return self._settings.namespace
        try:
            return self._settings.namespace_file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise KubernetesError(f"the namespace is not known ({error}); set `namespace`") from error

    async def get(self, path: str) -> Object:
        """One object, or a list with its ``items``."""
        return await self._ask("GET", path)

    async def create(self, path: str, new: Mapping[str, Any]) -> Object:
        """A new object in the collection at `path`; ConflictError where the name is taken."""
        return await self._ask("POST", path, json.dumps(new).encode(), "application/json")

    async def replace(self, path: str, changed: Mapping[str, Any]) -> Object:
        """The whole object, as read and then changed; ConflictError where another was quicker."""
        return await self._ask("PUT", path, json.dumps(changed).encode(), "application/json")

    async def patch(self, path: str, operations: Sequence[Mapping[str, Any]]) -> Object:
        """By JSON patch (RFC 6902); ConflictError where a ``test`` of it fails."""
        return await self._ask("PATCH", path, json.dumps(list(operations)).encode(), "application/json-patch+json")

    async def _ask(self, method: str, path: str, body: bytes | None = None, content_type: str = "") -> Object:
        from watchdog.exchange import UnansweredError, exchange  # noqa: PLC0415 (aiohttp; only where it is used)

        settings = self._settings
        headers = {"Accept": "application/json"} | ({"Content-Type": content_type} if content_type else {})
        try:
            answer = await exchange(
                self._remote,
                method,
                f"{settings.url.rstrip('/')}{path}",
                timeout_s=settings.timeout,
                body=body,
                headers=headers,
                bearer="" if self._token is None else self._token.read(),
            )
            found = answer.json() if answer.ok else None
        except (UnansweredError, ValueError) as error:
            raise KubernetesError(str(error)) from error
        if not answer.ok:
            raise _refusal(answer, method, path)
        if not isinstance(found, dict):
            raise KubernetesError(f"{answer.origin} answers, but not with a Kubernetes object")
        return found


def _refusal(answer: "Answer", method: str, path: str) -> KubernetesError:
    told = _told(answer)
    said = f"{method} {path}: {answer.status} {one_line(str(told['message']), answer.hidden)}"
    match answer.status:
        case 404:
            return NotFoundError(said, status=404)
        case 409:
            return ConflictError(said, status=409)
        case 422 if method == "PATCH" and not told["causes"]:  # a test of it failed; what is invalid has causes
            return ConflictError(said, status=409)
        case 401:
            return KubernetesError(f"{said}; the token is not accepted", status=401)
        case 403:
            return KubernetesError(f"{said}; the service account's role must allow it", status=403)
        case status:
            return KubernetesError(said, status=status)


def _told(answer: "Answer") -> dict[str, Any]:
    """The message and the causes of a ``Status`` object; whatever else came is a message."""
    try:
        found = json.loads(answer.raw)
        return {"message": found["message"], "causes": (found.get("details") or {}).get("causes")}
    except (ValueError, RecursionError, LookupError, TypeError, AttributeError):
        return {"message": answer.text, "causes": None}
