"""The client of the Kubernetes API on the tests' API server, and that server against what the real one does."""

import json
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import trustme
from pydantic import ValidationError

from tests.endpoints.hostile import close_at_once, hang, says_json, tcp_server
from tests.kube_api import Failure, KubeApi, Object, PatchError, json_patch, kube_api, merge_patch
from watchdog.kubernetes import ConflictError, Kubernetes, KubernetesError, KubernetesSettings, NotFoundError
from watchdog.settings import Secret
from watchdog.transport import Tls

MAPS = "/api/v1/namespaces/clinic/configmaps"
LEASES = "/apis/coordination.k8s.io/v1/namespaces/clinic/leases"
ROUTES = "/apis/gateway.networking.k8s.io/v1/namespaces/clinic/httproutes"


@pytest.fixture
async def api() -> AsyncIterator[KubeApi]:
    async with kube_api() as api:
        yield api


@pytest.fixture
def client(api: KubeApi) -> Kubernetes:
    return client_to(api)


def client_to(api: KubeApi, **changes: Any) -> Kubernetes:
    return Kubernetes(KubernetesSettings.model_validate({"url": api.url, "timeout": "5s", **changes}))


def lease(name: str = "nodule", holder: str = "a", **labels: str) -> Object:
    return {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": name, "namespace": "clinic", "labels": labels},
        "spec": {"holderIdentity": holder, "renewTime": "2026-01-02T03:04:05.678901Z", "leaseDurationSeconds": 15},
    }


def route(weight: int = 1) -> Object:
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {"name": "nodule", "namespace": "clinic"},
        "spec": {"rules": [{"backendRefs": [{"name": "fp16", "weight": weight}]}]},
    }


async def test_an_object_is_made_read_and_replaced(client: Kubernetes) -> None:
    made = await client.create(LEASES, lease())
    replaced = await client.replace(f"{LEASES}/nodule", {**made, "spec": {**made["spec"], "holderIdentity": "b"}})

    assert made["spec"]["renewTime"] == "2026-01-02T03:04:05.678901Z"
    assert replaced["spec"]["holderIdentity"] == "b"
    assert replaced["metadata"]["uid"] == made["metadata"]["uid"]
    assert int(replaced["metadata"]["resourceVersion"]) > int(made["metadata"]["resourceVersion"])
    assert await client.get(f"{LEASES}/nodule") == replaced


async def test_the_second_of_two_that_read_the_same_is_told(client: Kubernetes) -> None:
    made = await client.create(LEASES, lease())
    await client.replace(f"{LEASES}/nodule", {**made, "spec": {"holderIdentity": "first"}})

    with pytest.raises(ConflictError, match="409 Operation cannot be fulfilled on leases"):
        await client.replace(f"{LEASES}/nodule", {**made, "spec": {"holderIdentity": "second"}})
    with pytest.raises(ConflictError, match=r"409 leases.* already exists"):
        await client.create(LEASES, lease())
    assert (await client.get(f"{LEASES}/nodule"))["spec"] == {"holderIdentity": "first"}


async def test_an_object_made_anew_is_another(api: KubeApi, client: Kubernetes) -> None:
    made = await client.create(LEASES, lease())
    api.remove(f"{LEASES}/nodule")
    await client.create(LEASES, lease(holder="b"))
    with pytest.raises(ConflictError):
        await client.replace(f"{LEASES}/nodule", made)


async def test_a_patch_is_done_if_its_tests_hold(api: KubeApi, client: Kubernetes) -> None:
    path = api.put(route())
    weight = "/spec/rules/0/backendRefs/0/weight"

    patched = await client.patch(
        path, [{"op": "test", "path": weight, "value": 1}, {"op": "add", "path": weight, "value": 0}]
    )
    with pytest.raises(ConflictError):
        await client.patch(
            path, [{"op": "test", "path": weight, "value": 1}, {"op": "add", "path": weight, "value": 7}]
        )

    assert patched["spec"] == api.at(path)["spec"] == route(0)["spec"]


async def test_what_is_invalid_is_no_conflict(client: Kubernetes) -> None:
    """Both are 422: only what is wrong with the object has causes."""
    await client.create(LEASES, lease())
    wrong = {"op": "add", "path": "/spec/leaseDurationSeconds", "value": 0}
    with pytest.raises(KubernetesError, match=r"422 leases.*must be greater than 0") as found:
        await client.patch(f"{LEASES}/nodule", [wrong])
    assert (isinstance(found.value, ConflictError), found.value.retry) == (False, False)


async def test_a_list_is_of_those_that_a_selector_picks(client: Kubernetes) -> None:
    for name, group in (("a", "x"), ("b", "x"), ("c", "y")):
        await client.create(LEASES, lease(name, group=group))

    async def names(selector: str) -> list[str]:
        return [item["metadata"]["name"] for item in (await client.get(f"{LEASES}?labelSelector={selector}"))["items"]]

    assert await names("group=x") == ["a", "b"]
    assert await names("group!%3Dx") == ["c"]
    assert await names("group==x,other=1") == []


@pytest.mark.parametrize(
    ("status", "retry"),
    [(400, False), (401, True), (403, False), (404, False), (409, True), (415, False), (429, True), (500, True)],
)
async def test_a_refusal_says_whether_asking_again_can_help(
    api: KubeApi, client: Kubernetes, status: int, *, retry: bool
) -> None:
    api.failures = [Failure(status=status)]
    with pytest.raises(KubernetesError, match=f"POST {LEASES}: {status} injected {status}") as found:
        await client.create(LEASES, lease())
    assert (found.value.status, found.value.retry) == (status, retry)
    assert isinstance(found.value, ConflictError) is (status == 409)
    assert isinstance(found.value, NotFoundError) is (status == 404)


@pytest.mark.parametrize("took_effect", [False, True])
async def test_a_connection_that_breaks_says_nothing_of_the_write(
    api: KubeApi, client: Kubernetes, *, took_effect: bool
) -> None:
    api.failures = [Failure(took_effect=took_effect)]
    with pytest.raises(KubernetesError, match="the connection broke") as found:
        await client.create(LEASES, lease())
    assert (found.value.status, found.value.retry) == (0, True)
    if took_effect:
        assert (await client.get(f"{LEASES}/nodule"))["spec"]["holderIdentity"] == "a"
    else:
        with pytest.raises(NotFoundError):
            await client.get(f"{LEASES}/nodule")


async def test_no_write_is_sent_twice_behind_the_callers_back(api: KubeApi, client: Kubernetes) -> None:
    """The second would be a conflict with the first, and so a failure that never was."""
    made = await client.create(LEASES, lease())
    api.failures = [Failure(took_effect=True)]
    with pytest.raises(KubernetesError, match="the connection broke") as found:
        await client.replace(f"{LEASES}/nodule", {**made, "spec": {"holderIdentity": "b"}})
    assert not isinstance(found.value, ConflictError)
    assert [call.method for call in api.writes] == ["POST", "PUT"]


async def test_the_token_is_read_for_every_call_and_never_told(api: KubeApi, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("first-token\n")
    client = client_to(api, token=Secret(file=tmp_path / "token"))
    api.token = "first-token"
    await client.create(LEASES, lease())
    api.token = "second-token"

    with pytest.raises(KubernetesError, match="401 Unauthorized; the token is not accepted") as found:
        await client.get(f"{LEASES}/nodule")
    (tmp_path / "token").write_text("second-token")
    await client.get(f"{LEASES}/nodule")

    assert found.value.retry
    assert "first-token" not in str(found.value)


async def test_a_missing_token_file_is_named(api: KubeApi, tmp_path: Path) -> None:
    with pytest.raises(KubernetesError, match=r"cannot read the secret file .*/none"):
        await client_to(api, token=Secret(file=tmp_path / "none")).get(LEASES)


async def test_a_server_that_repeats_the_token_is_not_repeated(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("a-token")
    echo = {"kind": "Status", "message": "no such user:\r\nBearer a-token", "code": 403}
    async with tcp_server(says_json(echo, status="403 Forbidden")) as address:
        settings = KubernetesSettings(url=f"http://{address}", token=Secret(file=tmp_path / "token"))
        with pytest.raises(KubernetesError) as found:
            await Kubernetes(settings).get(LEASES)
    assert "403 no such user: Bearer ***; the service account's role must allow it" in str(found.value)


@pytest.mark.parametrize("answer", [[], "text", None])
async def test_an_answer_that_is_no_object(answer: Any) -> None:
    async with tcp_server(says_json(answer)) as address:
        with pytest.raises(KubernetesError, match="not with a Kubernetes object"):
            await Kubernetes(KubernetesSettings(url=f"http://{address}")).get(LEASES)


@pytest.mark.parametrize(
    ("talk", "limit_s", "said"), [(hang, 0.2, "no answer within 0.2 s"), (close_at_once, 5.0, "broke")]
)
async def test_no_answer(talk: Any, limit_s: float, said: str) -> None:
    async with tcp_server(talk) as address:
        with pytest.raises(KubernetesError, match=said) as found:
            await Kubernetes(KubernetesSettings(url=f"http://{address}", timeout=limit_s)).get(LEASES)
    assert found.value.retry


async def test_its_certificate_is_checked(tmp_path: Path) -> None:
    authority, stranger = trustme.CA(), trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    stranger.cert_pem.write_to_path(tmp_path / "other.pem")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    async with kube_api(context) as api:
        assert (await client_to(api, tls=Tls(ca=tmp_path / "ca.pem")).get(LEASES))["kind"] == "LeaseList"
        with pytest.raises(KubernetesError, match="its certificate is not trusted"):
            await client_to(api, tls=Tls(ca=tmp_path / "other.pem")).get(LEASES)


def test_the_namespace_is_the_pods_own_unless_it_is_set(tmp_path: Path) -> None:
    (tmp_path / "namespace").write_text("radiology\n")
    own = KubernetesSettings(namespace_file=tmp_path / "namespace")

    assert Kubernetes(own).namespace() == "radiology"
    assert Kubernetes(own.model_copy(update={"namespace": "clinic"})).namespace() == "clinic"
    with pytest.raises(KubernetesError, match="set `namespace`"):
        Kubernetes(KubernetesSettings(namespace_file=tmp_path / "none")).namespace()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"url": "10.0.0.1:6443"}, "write https://10.0.0.1:6443"),
        ({"url": "https://kubernetes"}, "no server's address"),
        ({"url": "http://127.0.0.1:8001", "tls": {}}, "write https"),
        ({"timeout": 5}, "not a duration"),
    ],
)
def test_settings_that_cannot_work_are_refused(change: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        KubernetesSettings.model_validate(change)


# The tests' API server, where being laxer than the real one would make other tests worthless.


async def test_without_a_version_only_some_kinds_are_overwritten(client: Kubernetes) -> None:
    config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"}, "data": {"a": "1"}}
    await client.create(MAPS, config)
    await client.create(LEASES, lease())

    assert (await client.replace(f"{MAPS}/m", {**config, "data": {"a": "2"}}))["data"] == {"a": "2"}
    with pytest.raises(KubernetesError, match=r"422 .*metadata.resourceVersion") as found:
        await client.replace(f"{LEASES}/nodule", lease(holder="b"))
    assert not isinstance(found.value, ConflictError)


async def test_only_a_change_counts_and_only_one_of_the_spec_is_a_generation(api: KubeApi, client: Kubernetes) -> None:
    path = api.put(route())

    async def versions(*operations: dict[str, Any], below: str = "") -> tuple[int, int]:
        meta = (await client.patch(path + below, operations))["metadata"]
        return int(meta["resourceVersion"]), meta["generation"]

    assert await versions({"op": "replace", "path": "/spec", "value": route()["spec"]}) == (1, 1)
    assert await versions({"op": "add", "path": "/metadata/labels", "value": {"a": "b"}}) == (2, 1)
    assert await versions({"op": "replace", "path": "/spec", "value": route(7)["spec"]}) == (3, 2)
    assert await versions({"op": "add", "path": "/status", "value": {"parents": []}}) == (3, 2)
    assert await versions({"op": "add", "path": "/status", "value": {"parents": []}}, below="/status") == (4, 2)
    assert await versions({"op": "replace", "path": "/spec", "value": {}}, below="/status") == (4, 2)
    assert api.at(path)["spec"] == route(7)["spec"]


@pytest.mark.parametrize(
    ("change", "status"),
    [
        (lambda lease: lease["spec"].update(renewTime="2026-01-02T03:04:05Z"), 400),
        (lambda lease: lease["spec"].update(leaseDurationSeconds=0), 422),
        (lambda lease: lease.update(kind="Leash"), 400),
        (lambda lease: lease["metadata"].update(namespace="another"), 400),
        (lambda lease: lease["metadata"].update(resourceVersion="1"), 400),
        (lambda lease: lease["metadata"].pop("name"), 422),
    ],
)
async def test_it_takes_no_object_that_the_real_one_would_not(
    client: Kubernetes, change: Callable[[Object], object], status: int
) -> None:
    wrong = lease()
    change(wrong)
    with pytest.raises(KubernetesError, match=f": {status} "):
        await client.create(LEASES, wrong)


@pytest.mark.parametrize(
    ("document", "operation", "expected"),
    [
        ({"a": 1}, {"op": "add", "path": "/b", "value": 2}, {"a": 1, "b": 2}),
        ({"a": 1}, {"op": "add", "path": "/a", "value": 2}, {"a": 2}),
        ({"a": [1, 3]}, {"op": "add", "path": "/a/1", "value": 2}, {"a": [1, 2, 3]}),
        ({"a": [1]}, {"op": "add", "path": "/a/-", "value": 2}, {"a": [1, 2]}),
        ({"a": [1]}, {"op": "add", "path": "/a/2", "value": 2}, None),
        ({"a": 1}, {"op": "add", "path": "/b/c", "value": 2}, None),
        ({"a": 1}, {"op": "replace", "path": "/b", "value": 2}, None),
        ({"a": [1, 2]}, {"op": "replace", "path": "/a/0", "value": 3}, {"a": [3, 2]}),
        ({"a": [1, 2]}, {"op": "remove", "path": "/a/0"}, {"a": [2]}),
        ({"a": 1}, {"op": "remove", "path": "/b"}, None),
        ({"a/b": {"m~n": 1}}, {"op": "replace", "path": "/a~1b/m~0n", "value": 2}, {"a/b": {"m~n": 2}}),
        ({"a": {"b": 1, "c": 2}}, {"op": "test", "path": "/a", "value": {"c": 2, "b": 1}}, {"a": {"b": 1, "c": 2}}),
        ({"a": 1}, {"op": "test", "path": "/a", "value": "1"}, None),
        ({"a": 1}, {"op": "test", "path": "/a", "value": True}, None),
        ({"a": [1]}, {"op": "test", "path": "/a/01", "value": 1}, None),
        ({"a": 1}, {"op": "replace", "path": "", "value": [2]}, [2]),
    ],
)
def test_its_json_patch_is_rfc_6902(document: Any, operation: Object, expected: Any) -> None:
    before = json.dumps(document)
    if expected is None:
        with pytest.raises(PatchError):
            json_patch(document, [{"op": "add", "path": "/z", "value": 0}, operation])
    else:
        assert json_patch(document, [operation]) == expected
    assert json.dumps(document) == before


def test_its_merge_patch_is_rfc_7396() -> None:
    assert merge_patch({"a": {"b": 1, "c": 2}, "d": [1]}, {"a": {"b": None, "e": {"f": None}}, "d": [2]}) == {
        "a": {"c": 2, "e": {}},
        "d": [2],
    }
