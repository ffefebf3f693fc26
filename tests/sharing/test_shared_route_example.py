"""The example's role is enough for its configuration, and for nothing else."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import yaml

from tests.kube_api import KubeApi, kube_api
from tests.sharing.simulated import Clock
from watchdog.kubernetes import Kubernetes, KubernetesError, KubernetesSettings
from watchdog.sharing import SharingSettings, open_authority

EXAMPLE = Path(__file__).parents[2] / "examples/shared-route"
OBJECTS: list[dict[str, Any]] = list(yaml.safe_load_all((EXAMPLE / "rbac.yaml").read_text()))
ROLE = next(each for each in OBJECTS if each["kind"] == "Role")
SHARING: dict[str, Any] = yaml.safe_load((EXAMPLE / "watchdog.yaml").read_text())["sharing"]


@pytest_asyncio.fixture
async def api() -> AsyncIterator[KubeApi]:
    async with kube_api() as running:
        running.roles = [ROLE]
        yield running


async def test_the_role_is_enough(api: KubeApi) -> None:
    clock = Clock()
    data = {**SHARING, "lease": {**SHARING["lease"], "url": api.url}}
    one, two = (
        open_authority(SharingSettings.model_validate({**data, "identity": name}), elapsed=clock)
        for name in ("one", "two")
    )
    for _ in range(16):
        clock.now += 1
        await one.keep()
        await two.keep()
    follower, leader = await two.ask("nodule", "zeros"), await one.ask("nodule", "zeros")
    await one.close()
    heir = await two.ask("nodule", None)

    assert (follower.ok, leader.ok, heir.ok) == (False, True, True)


@pytest.mark.parametrize(
    ("verb", "namespace", "name"),
    [
        ("patch", "nodule-watchdogs", "nodule"),
        ("get", "kube-system", "kube-scheduler"),
        ("get", "clinic", "another"),
    ],
)
async def test_the_role_allows_nothing_else(api: KubeApi, verb: str, namespace: str, name: str) -> None:
    client = Kubernetes(KubernetesSettings(url=api.url, namespace=namespace))
    path = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases/{name}"

    with pytest.raises(KubernetesError, match="the service account's role must allow it"):
        await (client.patch(path, []) if verb == "patch" else client.get(path))


def test_the_manifests_agree() -> None:
    binding = next(each for each in OBJECTS if each["kind"] == "RoleBinding")
    deployment = yaml.safe_load((EXAMPLE / "deployment.yaml").read_text())
    (subject,) = binding["subjects"]

    assert ROLE["metadata"]["namespace"] == binding["metadata"]["namespace"] == SHARING["lease"]["namespace"]
    assert binding["roleRef"]["name"] == ROLE["metadata"]["name"]
    assert subject["name"] == deployment["spec"]["template"]["spec"]["serviceAccountName"]
    assert subject["namespace"] == deployment["metadata"]["namespace"]
