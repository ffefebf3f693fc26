"""A Kubernetes API server in this process, on a real socket: as strict as the real one about who overwrites whom.

::

    async with kube_api() as api:
        path = api.put(manifest)                  # as `kubectl apply` would; returns the object's path
        client = Kubernetes(KubernetesSettings(url=api.url, namespace="clinic"))
        api.edit(path, lambda o: o["metadata"]["labels"].update(a="b"))    # another writer
        assert api.at(path)["metadata"]["resourceVersion"] == "3"          # a copy, as stored now
        api.remove(path)

- ``api.on_write = hook`` is called with each `Call` that writes, just before it takes effect: whatever the
  hook edits, it does between the client's read and its write. It may set ``api.on_write = None`` itself.
  ``api.on_written`` is called just after, before the answer: there a test plays the controller.
- ``api.failures.append(Failure(...))``: the next call that it fits fails so, once.
- ``api.token = "…"`` asks all for that bearer token; ``api.roles = [role]`` allows what these Roles allow.
- ``api.calls`` is what was asked, in order; ``api.writes`` those that would change something.

Kinds are those of `KINDS`; all are namespaced. Lists know the label selectors ``a=b``, ``a==b``, ``a!=b``.
"""

import copy
import json
import re
import ssl
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from aiohttp import web

Object = dict[str, Any]

WRITES = ("POST", "PUT", "PATCH")


@dataclass(frozen=True, kw_only=True, slots=True)
class Kind:
    """One resource of the API."""

    group: str
    version: str
    plural: str
    custom: bool = False
    """Of a CustomResourceDefinition with a status subresource: has a generation, and ``/status``."""
    unconditional: bool = False
    """Whether a PUT without a resourceVersion overwrites whatever is there."""

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def resource(self) -> str:
        return f"{self.plural}.{self.group}" if self.group else self.plural

    def collection(self, namespace: str) -> str:
        return f"/{'apis' if self.group else 'api'}/{self.api_version}/namespaces/{namespace}/{self.plural}"


KINDS: Mapping[str, Kind] = {
    "ConfigMap": Kind(group="", version="v1", plural="configmaps", unconditional=True),
    "Lease": Kind(group="coordination.k8s.io", version="v1", plural="leases"),
    "HTTPRoute": Kind(group="gateway.networking.k8s.io", version="v1", plural="httproutes", custom=True),
    "GRPCRoute": Kind(group="gateway.networking.k8s.io", version="v1", plural="grpcroutes", custom=True),
    "InferenceService": Kind(group="serving.kserve.io", version="v1beta1", plural="inferenceservices", custom=True),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Call:
    """One request, as it came."""

    method: str
    path: str
    """Without the query."""
    body: Any = None
    content_type: str = ""
    query: Mapping[str, str]


@dataclass(frozen=True, kw_only=True, slots=True)
class Failure:
    """What becomes of one call."""

    status: int = 0
    """Of the answer; 0 drops the connection without one."""
    took_effect: bool = False
    """Whether the call is carried out all the same, before it fails."""
    on: Collection[str] = WRITES
    """The methods that it fits."""


class _StatusError(Exception):
    def __init__(self, code: int, reason: str, message: str, **details: Any) -> None:
        super().__init__(message)
        self.body = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": message,
            "reason": reason,
            "details": details,
            "code": code,
        }
        self.code = code


@dataclass(frozen=True, kw_only=True, slots=True)
class _Target:
    """What a path names."""

    kind_name: str
    kind: Kind
    namespace: str
    name: str = ""
    """Empty for the collection."""
    status: bool = False

    @property
    def path(self) -> str:
        collection = self.kind.collection(self.namespace)
        return f"{collection}/{self.name}" if self.name else collection

    def error(self, code: int, reason: str, said: str, name: str = "") -> _StatusError:
        message = said.format(f'{self.kind.resource} "{name or self.name}"')
        causes = {"causes": [{"message": message}]} if reason == "Invalid" else {}
        return _StatusError(
            code, reason, message, name=name or self.name, group=self.kind.group, kind=self.kind.plural, **causes
        )


class KubeApi:
    """See the module."""

    def __init__(self) -> None:
        self.url = ""
        self.token = ""
        self.roles: Sequence[Object] | None = None
        self.on_write: Callable[[Call], None] | None = None
        self.on_written: Callable[[Call], None] | None = None
        self.failures: list[Failure] = []
        self.calls: list[Call] = []
        self._objects: dict[str, Object] = {}
        self._counter = 0

    @property
    def writes(self) -> list[Call]:
        return [call for call in self.calls if call.method in WRITES]

    def put(self, manifest: Mapping[str, Any]) -> str:
        """Create or overwrite, with its status, as one who may do everything; the object's path."""
        kind = KINDS[manifest["kind"]]
        assert manifest["apiVersion"] == kind.api_version
        new = copy.deepcopy(dict(manifest))
        target = _Target(
            kind_name=manifest["kind"], kind=kind, namespace=new["metadata"]["namespace"], name=new["metadata"]["name"]
        )
        self._store(target, new, self._objects.get(target.path))
        return target.path

    def at(self, path: str) -> Object:
        """A copy of what is stored."""
        return copy.deepcopy(self._objects[path])

    def edit(self, path: str, change: Callable[[Object], object]) -> None:
        """Change the object in place, as another writer that is always right."""
        changed = self.at(path)
        change(changed)
        self._store(_target(path), changed, self._objects[path])

    def remove(self, path: str) -> None:
        del self._objects[path]

    async def handle(self, request: web.Request) -> web.StreamResponse:
        raw = await request.read()
        call = Call(
            method=request.method,
            path=request.path,
            body=json.loads(raw) if raw else None,
            content_type=request.content_type if raw else "",
            query=dict(request.query),
        )
        self.calls.append(call)
        failure = next((f for f in self.failures if call.method in f.on), None)
        code, body = 0, {}
        if failure is None or failure.took_effect:
            try:
                code, body = 201 if call.method == "POST" else 200, self._answer(call, request.headers)
            except _StatusError as error:
                code, body = error.code, error.body
        if failure is not None:
            self.failures.remove(failure)
            code, body = failure.status, _StatusError(failure.status, "", f"injected {failure.status}").body
        if not code:
            assert request.transport is not None
            request.transport.abort()
        return web.json_response(body, status=code or 500)

    def _answer(self, call: Call, headers: Mapping[str, str]) -> Object:
        if self.token and headers.get("Authorization") != f"Bearer {self.token}":
            raise _StatusError(401, "Unauthorized", "Unauthorized")
        target = _target(call.path)
        self._authorize(call, target)
        if call.method == "GET":
            return self._read(target) if target.name else self._list(target, call.query.get("labelSelector", ""))
        if call.method not in WRITES or (call.method == "POST") is bool(target.name):
            raise _StatusError(
                405, "MethodNotAllowed", "the server does not allow this method on the requested resource"
            )
        _check_content_type(call)
        if self.on_write is not None:
            self.on_write(call)
        stored = self._create(target, call.body) if call.method == "POST" else self._update(target, call)
        if self.on_written is not None:
            self.on_written(call)
        return stored

    def _authorize(self, call: Call, target: _Target) -> None:
        if self.roles is None:
            return
        verb = {"GET": "get" if target.name else "list", "POST": "create", "PUT": "update", "PATCH": "patch"}.get(
            call.method, call.method.lower()
        )
        resource = target.kind.plural + ("/status" if target.status else "")
        for role in self.roles:
            for rule in role["rules"] if role["metadata"]["namespace"] == target.namespace else []:
                names = rule.get("resourceNames", [])
                if (
                    target.kind.group in rule["apiGroups"]
                    and resource in rule["resources"]
                    and verb in rule["verbs"]
                    and (not names or target.name in names)
                ):
                    return
        raise target.error(
            403,
            "Forbidden",
            f'{{}} is forbidden: User "watchdog" cannot {verb} resource "{resource}"'
            f' in API group "{target.kind.group}" in the namespace "{target.namespace}"',
        )

    def _read(self, target: _Target) -> Object:
        if target.path not in self._objects:
            raise target.error(404, "NotFound", "{} not found")
        return self.at(target.path)

    def _list(self, target: _Target, selector: str) -> Object:
        items = [
            copy.deepcopy(found)
            for path, found in sorted(self._objects.items())
            if path.rpartition("/")[0] == target.path and _selected(found["metadata"].get("labels", {}), selector)
        ]
        if not target.kind.custom:  # built-in kinds leave it to the list to say what its items are
            items = [{key: item[key] for key in item if key not in {"kind", "apiVersion"}} for item in items]
        return {
            "kind": f"{target.kind_name}List",
            "apiVersion": target.kind.api_version,
            "metadata": {"resourceVersion": str(self._counter)},
            "items": items,
        }

    def _create(self, collection: _Target, body: Any) -> Object:
        new = _checked(copy.deepcopy(body), collection)
        name = new["metadata"].get("name")
        if not name:
            raise collection.error(422, "Invalid", "{} is invalid: metadata.name: Required value")
        if "resourceVersion" in new["metadata"]:
            raise _StatusError(400, "BadRequest", "resourceVersion should not be set on objects to be created")
        target = _target(f"{collection.path}/{name}")
        if target.path in self._objects:
            raise target.error(409, "AlreadyExists", "{} already exists")
        if target.kind.custom:
            new.pop("status", None)
        return self._store(target, new, None)

    def _update(self, target: _Target, call: Call) -> Object:
        before = self._read(target)
        changed = _checked(_merged(before, call), target)
        if changed["metadata"].get("name") != target.name:
            raise _StatusError(
                400,
                "BadRequest",
                f"the name of the object ({changed['metadata'].get('name')}) does not match"
                f" the name on the URL ({target.name})",
            )
        meta, old = changed["metadata"], before["metadata"]
        if not meta.get("resourceVersion") and not target.kind.unconditional:
            raise target.error(
                422,
                "Invalid",
                "{} is invalid: metadata.resourceVersion: Invalid value: 0: must be specified for an update",
            )
        fresh = meta.get("resourceVersion") or old["resourceVersion"], meta.get("uid", old["uid"])
        if fresh != (old["resourceVersion"], old["uid"]):
            raise target.error(
                409,
                "Conflict",
                "Operation cannot be fulfilled on {}: the object has been modified;"
                " please apply your changes to the latest version and try again",
            )
        if target.kind.custom:  # each of the two leaves the other's half alone
            mine, others = (changed, before) if target.status else (before, changed)
            changed = {**others, **({"status": mine["status"]} if "status" in mine else {})}
            if "status" not in mine:
                changed.pop("status", None)
        return self._store(target, changed, before)

    def _store(self, target: _Target, new: Object, before: Object | None) -> Object:
        old = before["metadata"] if before is not None else {}
        kept = {key: old[key] for key in ("uid", "resourceVersion", "generation") if key in old}
        new["metadata"] = {**new["metadata"], **kept}
        if new != before:  # writing what is there already is no change
            self._counter += 1
            new["metadata"]["resourceVersion"] = str(self._counter)
            new["metadata"].setdefault("uid", f"uid-{self._counter}")
            if target.kind.custom and (before is None or _spec(new) != _spec(before)):
                new["metadata"]["generation"] = old.get("generation", 0) + 1
            self._objects[target.path] = new
        return self.at(target.path)


@asynccontextmanager
async def kube_api(tls: ssl.SSLContext | None = None) -> AsyncIterator[KubeApi]:
    """An empty API server on a free port."""
    api = KubeApi()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", api.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
    api.url = f"{'https' if tls else 'http'}://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield api
    finally:
        await runner.cleanup()


def _target(path: str) -> _Target:
    for name, kind in KINDS.items():
        match = re.fullmatch(f"{kind.collection('([^/]+)')}(?:/([^/]+)(/status)?)?", path)
        if match and (kind.custom or not match[3]):
            return _Target(
                kind_name=name, kind=kind, namespace=match[1], name=match[2] or "", status=match[3] is not None
            )
    raise _StatusError(404, "NotFound", "the server could not find the requested resource")


def _spec(whole: Object) -> Object:
    return {key: value for key, value in whole.items() if key not in {"metadata", "status"}}


def _selected(labels: Mapping[str, str], selector: str) -> bool:
    for term in filter(None, selector.split(",")):
        match = re.fullmatch(r"([^=!]+)(==|=|!=)([^=!]*)", term)
        if match is None:
            raise _StatusError(400, "BadRequest", f"unable to parse requirement: {term}")
        if (labels.get(match[1]) == match[3]) is (match[2] == "!="):
            return False
    return True


_PATCHES = ("application/json-patch+json", "application/merge-patch+json")


def _check_content_type(call: Call) -> None:
    accepted = _PATCHES if call.method == "PATCH" else ("application/json",)
    if call.content_type not in accepted:
        raise _StatusError(
            415,
            "UnsupportedMediaType",
            f"the body of the request was in an unknown format - accepted media types include: {', '.join(accepted)}",
        )


_MICRO_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}(Z|[+-]\d\d:\d\d)")


def _checked(new: Any, target: _Target) -> Object:
    """What any write must be: of the path's kind and namespace, and a Lease's times as Kubernetes writes them."""
    if not isinstance(new, dict) or (new.get("kind"), new.get("apiVersion")) != (
        target.kind_name,
        target.kind.api_version,
    ):
        raise _StatusError(400, "BadRequest", f"this is no {target.kind_name} of {target.kind.api_version}")
    if new.setdefault("metadata", {}).setdefault("namespace", target.namespace) != target.namespace:
        raise _StatusError(400, "BadRequest", "the namespace of the provided object does not match the namespace sent")
    if target.kind_name == "Lease":
        spec = new.get("spec", {})
        for field in ("acquireTime", "renewTime"):
            if spec.get(field) is not None and not _MICRO_TIME.fullmatch(spec[field]):
                raise _StatusError(400, "BadRequest", f"Lease: spec.{field}: can't parse {spec[field]!r} as MicroTime")
        if not isinstance(spec.get("leaseDurationSeconds", 1), int) or spec.get("leaseDurationSeconds", 1) <= 0:
            raise target.error(422, "Invalid", "{} is invalid: spec.leaseDurationSeconds: must be greater than 0")
    return new


def _merged(before: Object, call: Call) -> Any:
    """The object that a PUT or PATCH asks for."""
    if call.method == "PUT":
        return copy.deepcopy(call.body)
    if call.content_type == "application/merge-patch+json":
        return merge_patch(before, call.body)
    try:
        return json_patch(before, call.body)
    except PatchError as error:
        # as seen: nothing tells a failed test from any other reason
        raise _StatusError(422, "Invalid", "the server rejected our request due to an error in our request") from error


def merge_patch(target: Any, patch: Any) -> Any:
    """RFC 7396."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = merge_patch(merged.get(key), value)
    return merged


class PatchError(Exception):
    """A JSON patch can't be applied, or a test of it failed."""


def json_patch(target: Any, operations: Sequence[Mapping[str, Any]]) -> Any:
    """RFC 6902 without ``move`` and ``copy``: all of `operations`, or PatchError and none."""
    document = {"": copy.deepcopy(target)}  # so that the root has a parent as everything else does
    for operation in operations:
        try:
            _apply(document, operation)
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise PatchError(f"{dict(operation)}: {error!r}") from error
    return document[""]


def _apply(document: Object, operation: Mapping[str, Any]) -> None:
    *way, last = [""] + [part.replace("~1", "/").replace("~0", "~") for part in operation["path"].split("/")[1:]]
    if operation["path"] and not operation["path"].startswith("/"):
        raise ValueError("a path is empty or begins with a slash")
    parent: Any = document
    for part in way:
        parent = parent[_index(part) if isinstance(parent, list) else part]
    in_list = isinstance(parent, list)
    at: Any = len(parent) if in_list and last == "-" else _index(last) if in_list else last
    match operation["op"]:
        case "add" if in_list:
            if at > len(parent):
                raise IndexError(at)
            parent.insert(at, copy.deepcopy(operation["value"]))
        case "add":
            parent[at] = copy.deepcopy(operation["value"])
        case "replace":
            _ = parent[at]  # must exist
            parent[at] = copy.deepcopy(operation["value"])
        case "remove":
            del parent[at]
        case "test":
            if not _same(parent[at], operation["value"]):
                raise ValueError("test failed")
        case other:
            raise ValueError(f"unknown operation {other!r}")


def _index(part: str) -> int:
    if not re.fullmatch(r"0|[1-9]\d*", part):
        raise ValueError(f"{part!r} is no index")
    return int(part)


def _same(one: Any, other: Any) -> bool:
    """As JSON has it: true is not 1."""
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
