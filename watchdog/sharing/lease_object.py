"""``coordination.k8s.io/v1`` Leases, as their JSON has them."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import Field

from watchdog.kubernetes import Kubernetes, NotFoundError, Object

_LABEL = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"

LeaseName = Annotated[str, Field(pattern=f"^{_LABEL}$", max_length=63)]
"""Without dots, so that it can be a label's value, and begin other objects' names without being taken for one."""
Identity = Annotated[str, Field(pattern=rf"^{_LABEL}(\.{_LABEL})*$", max_length=180)]
"""What can end an object's name, as a pod's name can."""


def collection(api: Kubernetes) -> str:
    """The path of all Leases in the namespace; raises KubernetesError where that isn't known."""
    return f"/apis/coordination.k8s.io/v1/namespaces/{api.namespace()}/leases"


async def find(api: Kubernetes, name: str) -> Object | None:
    """The Lease; None where there is none. Raises KubernetesError."""
    try:
        return await api.get(f"{collection(api)}/{name}")
    except NotFoundError:
        return None


async def write(
    api: Kubernetes,
    name: str,
    before: Object | None,
    *,
    spec: Mapping[str, Any],
    labels: Mapping[str, str] | None = None,
    annotations: Mapping[str, str] | None = None,
) -> Object:
    """Create the Lease, or replace `before`, as it was read, and keep whatever else it has.

    Raises:
        KubernetesError: of its kinds, ConflictError where another was quicker.
    """
    metadata = {"name": name, **part(before, "metadata")}
    for key, more in (("labels", labels), ("annotations", annotations)):
        if more:
            metadata[key] = {**part(metadata, key), **more}
    new = {
        **(before or {}),
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": metadata,
        "spec": {**part(before, "spec"), **spec},
    }
    if before is None:
        return await api.create(collection(api), new)
    return await api.replace(f"{collection(api)}/{name}", new)


def part(whole: Any, key: str) -> Object:
    """One mapping of an object; empty where there is none."""
    found = whole.get(key) if isinstance(whole, dict) else None
    return found if isinstance(found, dict) else {}


def micro_time() -> str:
    """Now, for people who look at a Lease, and so that every renewal changes it. Nobody compares it with a clock."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
