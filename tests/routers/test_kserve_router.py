"""The KServe router on an API server, with a controller that divides traffic by KServe's own rules."""

import asyncio
import copy
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from tests.kube_api import Call, Failure, KubeApi, Object, kube_api
from watchdog.model.engine import Address, Role
from watchdog.routers.kserve import KServeRouter, KServeSettings

EXAMPLE = Path(__file__).parents[2] / "examples/kserve"
SAFE, FAST, NEW = (f"nodule-predictor-0000{number}" for number in (1, 2, 3))
SHARES = [(Role.SAFE, 100), (Role.FAST, 30), (Role.SAFE, 1), (Role.FAST, 0)]


def manifest(file: str, kind: str) -> Object:
    found: list[Object] = [each for each in yaml.safe_load_all((EXAMPLE / file).read_text()) if each["kind"] == kind]
    assert len(found) == 1
    return found[0]


def router_to(api: KubeApi, **changes: Any) -> KServeRouter:
    written = yaml.safe_load((EXAMPLE / "router.yaml").read_text())["router"]
    data = {"url": api.url, "namespace": "clinic", "within": "5s", "timeout": "2s", "settle": "1ms"}
    return KServeRouter(KServeSettings.model_validate({**written, **data, **changes}))


class KServe:
    """An API server with the example's service, and its controller."""

    def __init__(self, api: KubeApi) -> None:
        self.api = api
        self.path = api.put(manifest("service.yaml", "InferenceService"))
        api.roles = [manifest("rbac.yaml", "Role")]

    def edit(self, change: Callable[[Object], object]) -> None:
        self.api.edit(self.path, change)

    def ask_for(self, model: str, percent: int | None) -> None:
        """As `kubectl apply` does; the controller has yet to see it."""

        def change(service: Object) -> None:
            predictor = service["spec"]["predictor"]
            predictor["model"]["storageUri"] = f"pvc://models/{model}"
            predictor.pop("canaryTrafficPercent", None)
            if percent is not None:
                predictor["canaryTrafficPercent"] = percent

        self.edit(change)

    def tell(self, **changes: Any) -> None:
        """What the status says of the predictor."""
        self.edit(lambda service: told(service).update(changes))

    def deploy(self, revision: str, percent: int | None = None) -> None:
        self.ask_for(revision, percent)
        self.tell(latestCreatedRevision=revision, latestReadyRevision=revision)
        self.reconcile()

    def reconcile(self, _call: object = None, turns: int = 3) -> None:
        for _ in range(turns):
            self.edit(_turn)

    @property
    def percent(self) -> int | None:
        percent: int | None = self.api.at(self.path)["spec"]["predictor"].get("canaryTrafficPercent")
        return percent


def told(service: Object) -> Object:
    components = service.setdefault("status", {}).setdefault("components", {})
    predictor: Object = components.setdefault("predictor", {})
    return predictor


def _turn(service: Object) -> None:
    """One turn of KServe's controller: the traffic by what was rolled out, and then what is rolled out by the traffic.

    A revision that has had all traffic and gets less is rolled back in two turns.
    """
    percent, status = service["spec"]["predictor"].get("canaryTrafficPercent"), told(service)
    newest, rolled = status["latestReadyRevision"], status.get("latestRolledoutRevision", "")
    share = 100 if percent is None or not rolled else percent
    traffic = [{"latestRevision": True, "percent": share, "revisionName": newest}]
    if share < 100:
        traffic.append({"latestRevision": False, "percent": 100 - share, "revisionName": rolled, "tag": "prev"})
    if rolled != newest and share == 100:
        status |= {"previousRolledoutRevision": rolled, "latestRolledoutRevision": newest}
    elif rolled == newest and share < 100 and status["latestCreatedRevision"] == newest:
        status["latestRolledoutRevision"] = status.get("previousRolledoutRevision") or rolled
    status["traffic"] = traffic


@pytest.fixture
async def kserve() -> AsyncIterator[KServe]:
    """The safe engine has served alone, and now the fast one does."""
    async with kube_api() as api:
        kserve = KServe(api)
        kserve.deploy(SAFE)
        kserve.deploy(FAST, 100)
        api.on_written = kserve.reconcile
        yield kserve


@pytest.mark.parametrize("rolled_back", [False, True])
@pytest.mark.parametrize(("desired", "percent"), SHARES)
async def test_what_is_applied_is_observed(kserve: KServe, desired: Role, percent: int, *, rolled_back: bool) -> None:
    if rolled_back:
        kserve.edit(lambda service: service["spec"]["predictor"].update(canaryTrafficPercent=10))
        kserve.reconcile()
    before = kserve.api.at(kserve.path)
    router = router_to(kserve.api)

    applied, observed = await router.apply(desired, percent), await router.observe()
    again = await router.apply(desired, percent)
    back = await router.apply(Role.FAST)

    fast = percent if desired is Role.FAST else 100 - percent
    assert applied.ok
    assert (observed.known, observed.fast_percent) == (True, fast)
    assert again.detail.startswith("already so: ")
    assert back.ok
    assert (await router.observe()).fast_percent == 100
    assert len(kserve.api.writes) == 2
    after = kserve.api.at(kserve.path)
    assert without_route(after) == without_route(before)


def without_route(service: Object) -> Object:
    kept = copy.deepcopy(service)
    del kept["status"], kept["metadata"]["resourceVersion"], kept["metadata"]["generation"]
    kept["spec"]["predictor"].pop("canaryTrafficPercent", None)
    return kept


async def test_no_percentage_is_all_for_the_newest(kserve: KServe) -> None:
    kserve.ask_for("nodule-fp16", None)
    kserve.reconcile()
    router = router_to(kserve.api)

    assert (await router.apply(Role.FAST)).detail == f"already so: {FAST} gets 100 %"
    assert kserve.percent is None
    assert (await router.apply(Role.SAFE)).ok
    assert kserve.percent == 0


async def test_a_rollback_is_done_once_kserve_says_so(kserve: KServe) -> None:
    """Its first turn still gives all traffic to the fast engine, as the one that served alone."""
    written = asyncio.Event()

    def first_turn(call: Call) -> None:
        kserve.reconcile(call, turns=1)
        written.set()

    kserve.api.on_written = first_turn
    router = router_to(kserve.api)
    moving = asyncio.create_task(router.apply(Role.SAFE))
    async with asyncio.timeout(5):
        await written.wait()
    meanwhile, unfinished = await router.observe(), not moving.done()
    kserve.reconcile()
    applied = await moving

    assert (meanwhile.fast_percent, unfinished) == (100, True)
    assert applied.ok
    assert applied.detail == f"{SAFE} gets 100 %"
    assert (await router.observe()).role is Role.SAFE


def raw_by_status(service: Object) -> None:
    service["status"] = {"deploymentMode": "Standard", "components": {"predictor": {}}}


def raw_by_annotation(service: Object) -> None:
    service["metadata"]["annotations"]["serving.kserve.io/deploymentMode"] = "RawDeployment"
    service["status"] = {}


@pytest.mark.parametrize(
    ("change", "said", "retry"),
    [
        (raw_by_status, "is in mode Standard, which has no revisions", False),
        (raw_by_annotation, "is in mode RawDeployment, which has no revisions", False),
        (lambda service: service.pop("status"), "KServe tells of no revision", True),
        (lambda service: told(service).update(latestCreatedRevision=NEW), f"the newest revision is {NEW}, not", False),
        (lambda service: told(service).update(latestReadyRevision=SAFE), f"{FAST} is not ready", True),
        (lambda service: told(service).pop("previousRolledoutRevision"), "the rest to no other revision", False),
        (lambda service: told(service).update(previousRolledoutRevision=NEW), f"the rest to {NEW}, not", False),
    ],
)
async def test_a_service_that_would_not_divide_traffic_between_the_two_is_left_alone(
    kserve: KServe, change: Callable[[Object], object], said: str, *, retry: bool
) -> None:
    kserve.edit(change)

    applied = await router_to(kserve.api).apply(Role.SAFE)

    assert (applied.ok, applied.retry) == (False, retry)
    assert said in applied.detail
    assert kserve.api.writes == []


async def test_traffic_of_a_new_revision_is_named(kserve: KServe) -> None:
    kserve.deploy(NEW, 20)
    router = router_to(kserve.api)

    observed, applied = await router.observe(), await router.apply(Role.FAST)

    assert (observed.known, observed.role) == (True, None)
    assert observed.detail.startswith(f"{NEW} gets 20 %, {FAST} gets 80 %; the fast one is {FAST}")
    assert (applied.ok, applied.retry) == (False, False)
    assert kserve.percent == 20


async def test_a_service_without_traffic(kserve: KServe) -> None:
    kserve.edit(raw_by_status)
    observed = await router_to(kserve.api).observe()
    assert (observed.known, observed.role) == (True, None)
    assert "no revision gets traffic" in observed.detail


@pytest.mark.parametrize("told_at_once", [False, True])
async def test_a_revision_deployed_between_read_and_write_keeps_its_share(
    kserve: KServe, *, told_at_once: bool
) -> None:
    """A write decided on the old one is refused by the API server, even before KServe tells of the new one."""

    def deploys(_call: Call) -> None:
        kserve.api.on_write = None
        kserve.ask_for("nodule-int8", 5)
        if told_at_once:
            kserve.deploy(NEW, 5)
        else:
            asyncio.get_running_loop().call_later(0.05, kserve.deploy, NEW, 5)

    kserve.edit(lambda service: service["spec"]["predictor"].update(canaryTrafficPercent=10))
    kserve.reconcile()
    kserve.api.on_write = deploys

    applied = await router_to(kserve.api, settle="300ms").apply(Role.FAST, 50)

    assert (applied.ok, applied.retry) == (False, False)
    assert f"the newest revision is {NEW}" in applied.detail
    assert kserve.percent == 5


async def test_a_revision_that_kserve_has_yet_to_tell_of_gets_nothing_more(kserve: KServe) -> None:
    kserve.deploy(FAST, 10)
    kserve.ask_for("nodule-int8", 10)
    asyncio.get_running_loop().call_later(0.1, kserve.deploy, NEW, 10)

    applied = await router_to(kserve.api, settle="500ms").apply(Role.FAST)

    assert not applied.ok
    assert f"the newest revision is {NEW}" in applied.detail
    assert kserve.api.writes == []


async def test_away_from_the_fast_engine_nothing_waits(kserve: KServe) -> None:
    assert (await router_to(kserve.api, settle="1h").apply(Role.SAFE)).ok
    assert (await router_to(kserve.api, settle="1h", within="1s").apply(Role.FAST)).detail.endswith(
        "whether inferenceservices/nodule stays as it is"
    )


async def test_a_revision_that_appears_while_it_waits_is_no_success(kserve: KServe) -> None:
    kserve.api.on_written = lambda _call: kserve.tell(latestCreatedRevision=NEW)

    applied = await router_to(kserve.api).apply(Role.SAFE)

    assert not applied.ok
    assert f"the newest revision is {NEW}" in applied.detail


async def test_a_controller_that_does_nothing(kserve: KServe) -> None:
    kserve.api.on_written = None
    router = router_to(kserve.api, within="1s")

    applied, observed = await router.apply(Role.SAFE), await router.observe()

    assert (applied.ok, applied.retry) == (False, True)
    assert f"may yet be: KServe has not moved it yet: {FAST} gets 100 %" in applied.detail
    assert observed.role is Role.FAST
    assert kserve.percent == 0


async def test_traffic_is_not_true_before_the_network_is_there(kserve: KServe) -> None:
    condition = {"type": "PredictorRouteReady", "status": "Unknown", "reason": "IngressNotConfigured"}
    kserve.edit(lambda service: service["status"].update(conditions=[condition]))
    router = router_to(kserve.api, within="1s")

    applied, observed = await router.apply(Role.SAFE), await router.observe()

    assert not applied.ok
    assert "PredictorRouteReady is Unknown (IngressNotConfigured)" in applied.detail
    assert (observed.known, observed.role) == (False, None)


@pytest.mark.parametrize("failure", [Failure(), Failure(took_effect=True), Failure(status=503)], ids=str)
async def test_a_write_without_an_answer_is_looked_at_before_it_is_judged(kserve: KServe, failure: Failure) -> None:
    kserve.api.failures = [failure]
    router = router_to(kserve.api)

    assert (await router.apply(Role.SAFE)).ok
    assert (await router.observe()).role is Role.SAFE
    assert len(kserve.api.writes) == (1 if failure.took_effect else 2)


async def test_the_role_allows_this_service_only(kserve: KServe) -> None:
    other = manifest("service.yaml", "InferenceService")
    other["metadata"]["name"] = "other"
    kserve.api.put(other)
    router = router_to(kserve.api, name="other")

    applied, observed = await router.apply(Role.SAFE), await router.observe()

    assert (applied.ok, applied.retry, observed.known) == (False, False, False)
    assert "must allow it" in applied.detail


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"safe_revision": FAST}, "the same"),
        ({"fast_revision": ""}, "fast_revision"),
        ({"name": "Nodule"}, "name"),
        ({"settle": 2}, "not a duration"),
    ],
)
def test_settings_that_cannot_work_are_refused_at_start(change: dict[str, Any], said: str) -> None:
    written = yaml.safe_load((EXAMPLE / "router.yaml").read_text())["router"]
    with pytest.raises(ValidationError, match=said):
        KServeSettings.model_validate({**written, **change})


def test_the_example_is_all_that_a_pod_needs_and_any_two_engines_will_do() -> None:
    settings = KServeSettings.model_validate(yaml.safe_load((EXAMPLE / "router.yaml").read_text())["router"])
    settings.refuse({role: Address(endpoint="gateway", model="nodule") for role in Role})
