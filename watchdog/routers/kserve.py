"""Moves traffic between two revisions of one KServe InferenceService, by ``canaryTrafficPercent`` of its predictor.

KServe gives so many percent to the newest revision, and the rest to the one that had all traffic
before. So the fast engine must be the newest revision, and the safe one the last that served
alone. KServe has revisions in its serverless mode only, where Knative runs them.
"""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from typing import ClassVar, Literal, Self

from pydantic import model_validator

from watchdog.kubernetes import KubernetesError, KubernetesSettings
from watchdog.model.engine import Address, Role
from watchdog.model.route import Applied, Observed, share_of_fast
from watchdog.routers.kubernetes_object import Condition, ObjectName, Part, RouteObject, Step, Whole, seen
from watchdog.routers.refusal import RefusedError
from watchdog.settings import Duration

_SERVERLESS = frozenset({"", "Serverless", "Knative"})  # its name until KServe 0.15, and since; or none is told
_PERCENT = "/spec/predictor/canaryTrafficPercent"


class KServeSettings(KubernetesSettings):
    """One InferenceService in serverless mode.

    The service account needs the verbs ``get`` and ``patch`` on this one object.
    """

    kind: Literal["kserve"]
    name: ObjectName
    fast_revision: ObjectName
    """The newest revision, such as ``nodule-predictor-00002``; nothing is moved while another is the newest."""
    safe_revision: ObjectName
    """The one before, which has served alone."""
    within: Duration = 60.0
    """For one switch, until KServe reports it as true."""
    settle: Duration = 2.0
    """How long the service must have been unchanged before the fast engine gets more: KServe needs a moment to
    tell of a revision that was just deployed."""

    @model_validator(mode="after")
    def _two_revisions(self) -> Self:
        if self.fast_revision == self.safe_revision:
            raise ValueError("fast_revision and safe_revision are the same: traffic moves between two revisions")
        return self

    def refuse(self, engines: Mapping[Role, Address]) -> None:
        """Any two engines will do."""


class _Traffic(Part):
    revision_name: str = ""
    percent: int | None = None


class _PredictorStatus(Part):
    latest_created_revision: str = ""
    latest_ready_revision: str = ""
    latest_rolledout_revision: str = ""
    previous_rolledout_revision: str = ""
    traffic: Sequence[_Traffic] = ()

    @property
    def before(self) -> str:
        """The revision that gets what the newest doesn't."""
        if self.latest_rolledout_revision == self.latest_ready_revision:
            return self.previous_rolledout_revision
        return self.latest_rolledout_revision


class _Components(Part):
    predictor: _PredictorStatus = _PredictorStatus()


class _Status(Part):
    deployment_mode: str = ""
    components: _Components = _Components()
    conditions: Sequence[Condition] = ()


class _PredictorSpec(Part):
    canary_traffic_percent: int | None = None


class _Spec(Part):
    predictor: _PredictorSpec


class _Service(Whole):
    spec: _Spec
    status: _Status = _Status()

    @property
    def percent(self) -> int:
        """What the newest revision shall get."""
        percent = self.spec.predictor.canary_traffic_percent
        return 100 if percent is None else percent

    @property
    def told(self) -> _PredictorStatus:
        """What KServe says of the predictor's revisions."""
        return self.status.components.predictor

    @property
    def shares(self) -> Mapping[str, int]:
        """Percent by revision, of those that get any."""
        shares: Counter[str] = Counter()
        for traffic in self.told.traffic:
            shares[traffic.revision_name] += traffic.percent or 0
        return +shares

    @property
    def mode(self) -> str:
        return self.status.deployment_mode or self.metadata.annotations.get("serving.kserve.io/deploymentMode", "")

    @property
    def waits_for(self) -> str:
        """What the traffic that is told of still needs to be true."""
        routes = next((c for c in self.status.conditions if c.type == "PredictorRouteReady"), None)
        return "" if routes is None or routes.status == "True" else f"the network is not there yet: {routes}"

    def __str__(self) -> str:
        return ", ".join(f"{name} gets {share} %" for name, share in self.shares.items()) or "no revision gets traffic"


class KServeRouter:
    """The route of one model, as the traffic of two revisions of its predictor."""

    weighted: ClassVar[bool] = True
    keeps_both: ClassVar[bool] = True
    look_every_s: ClassVar[float] = 10.0

    def __init__(self, settings: KServeSettings) -> None:
        self._settings = settings
        self._object = RouteObject(
            settings,
            settings.name,
            api_version="serving.kserve.io/v1beta1",
            plural="inferenceservices",
            shape=_Service,
        )

    async def apply(self, desired: Role, percent: int = 100) -> Applied:
        """See the port. Returns once KServe reports the traffic to be so."""
        step = partial(self._step, share_of_fast(desired, percent), {})
        return await self._object.move(step, self._settings.within)

    async def observe(self) -> Observed:
        """By what KServe reports; what the spec asks for may not be true yet."""
        try:
            service = await self._object.read()
        except KubernetesError as error:
            return Observed(role=None, detail=str(error), known=False)
        shares, settings = service.shares, self._settings
        if service.waits_for:
            return Observed(role=None, detail=service.waits_for, known=False)
        if not shares or not set(shares) <= {settings.fast_revision, settings.safe_revision}:
            detail = f"{service}; the fast one is {settings.fast_revision}, the safe one {settings.safe_revision}"
            return Observed(role=None, detail=detail)
        return seen(shares.get(settings.fast_revision, 0), sum(shares.values()), str(service))

    async def close(self) -> None:
        """Nothing is kept open."""

    def _step(self, share: int, first_seen: dict[int, float], service: _Service) -> Step:
        """`first_seen`: when each generation was, of this one switch."""
        settings, wanted = self._settings, {}
        if share:
            wanted[settings.fast_revision] = share
        if share < 100:
            wanted[settings.safe_revision] = 100 - share
        if service.percent == share and service.shares == wanted:
            return Step(detail=str(service), waits_for=service.waits_for)
        self._check(service)
        if service.percent == share:
            return Step(detail=str(service), waits_for=f"KServe has not moved it yet: {service}")
        now = time.monotonic()
        if share > service.percent and now - first_seen.setdefault(service.metadata.generation, now) < settings.settle:
            return Step(detail=str(service), waits_for=f"whether {self._object} stays as it is")
        return Step(detail=str(service), operations=[{"op": "add", "path": _PERCENT, "value": share}])

    def _check(self, service: _Service) -> None:
        """Raises RefusedError where a percentage would not divide traffic between the two engines."""
        settings, told = self._settings, service.told
        if service.mode not in _SERVERLESS:
            raise RefusedError(
                f"{self._object} is in mode {service.mode}, which has no revisions: a kserve router needs Serverless",
                retry=False,
            )
        if not told.latest_created_revision:
            raise RefusedError(
                f"KServe tells of no revision of {self._object}: it is not ready yet, or not in mode Serverless"
            )
        if told.latest_created_revision != settings.fast_revision:
            raise RefusedError(
                f"the newest revision is {told.latest_created_revision}, not {settings.fast_revision}: somebody has"
                f" deployed {self._object} anew. Nothing is moved; set fast_revision and safe_revision once it is done",
                retry=False,
            )
        if told.latest_ready_revision != settings.fast_revision:
            raise RefusedError(f"{settings.fast_revision} is not ready; {service}")
        if told.before != settings.safe_revision:
            raise RefusedError(
                f"KServe would give the rest to {told.before or 'no other revision'}, not to {settings.safe_revision}:"
                " deploy the safe engine, let it serve alone, and then the fast one",
                retry=False,
            )
