"""Moves traffic between two Services by the weights of one rule of an HTTPRoute or a GRPCRoute (Gateway API v1).

Only these two weights are ever written. A controller makes them true in the gateway, and its
conditions tell whether it has.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from watchdog.kubernetes import KubernetesError, KubernetesSettings
from watchdog.model.engine import Address, Role
from watchdog.model.route import Applied, Observed, share_of_fast
from watchdog.routers.kubernetes_object import Condition, ObjectName, Part, RouteObject, Step, Whole, seen
from watchdog.routers.refusal import RefusedError
from watchdog.settings import Duration

Backend = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?(:\d{1,5})?$")]
"""The name of a backendRef, and its port where that alone tells two apart: ``nodule-fp16`` or ``nodule-fp16:8000``."""


class GatewayApiSettings(KubernetesSettings):
    """One rule of a route whose backends are the two engines, a Service each.

    The service account needs the verbs ``get`` and ``patch`` on this one object.
    """

    kind: Literal["gateway-api"]
    route: Literal["HTTPRoute", "GRPCRoute"] = "HTTPRoute"
    name: ObjectName
    rule: Annotated[int, Field(ge=0, strict=True)] | Annotated[str, Field(min_length=1)] = 0
    """Its name, or its place in the route, from 0."""
    fast: Backend
    safe: Backend
    within: Duration = 10.0
    """For one switch, until the gateway's controller has taken it."""

    @model_validator(mode="after")
    def _two_backends(self) -> Self:
        (fast, _, fast_port), (safe, _, safe_port) = self.fast.partition(":"), self.safe.partition(":")
        if fast == safe and (fast_port == safe_port or "" in {fast_port, safe_port}):
            raise ValueError(f"fast ({self.fast}) and safe ({self.safe}) must name two backends: name or name:port")
        return self

    def refuse(self, engines: Mapping[Role, Address]) -> None:
        """Any two engines will do: a backendRef may also rewrite what it passes on."""


class _BackendRef(Part):
    name: str
    port: int | None = None
    weight: int = 1

    def is_called(self, backend: Backend) -> bool:
        return backend in {self.name, f"{self.name}:{self.port}"}

    def __str__(self) -> str:
        return f"{self.name}{f':{self.port}' if self.port else ''} (weight {self.weight})"


class _Rule(Part):
    name: str = ""
    backend_refs: Sequence[_BackendRef] = ()


class _Parent(Part):
    controller_name: str = ""
    conditions: Sequence[Condition] = ()


class _Spec(Part):
    rules: Sequence[_Rule] = ()


class _Status(Part):
    parents: Sequence[_Parent] = ()


class _Route(Whole):
    spec: _Spec
    status: _Status = _Status()


@dataclass(frozen=True, kw_only=True, slots=True)
class _Split:
    """How one rule divides its traffic."""

    fast: int
    safe: int
    paths: Mapping[Role, str]
    """Of the weights, as JSON pointers."""
    detail: str

    @property
    def total(self) -> int:
        return self.fast + self.safe

    def gives(self, share: int) -> bool:
        """Whether the fast engine gets exactly so many percent."""
        return self.total > 0 and self.fast * 100 == share * self.total


class GatewayApiRouter:
    """The route of one model, as the weights of two backendRefs."""

    weighted: ClassVar[bool] = True
    keeps_both: ClassVar[bool] = True
    look_every_s: ClassVar[float] = 10.0

    def __init__(self, settings: GatewayApiSettings) -> None:
        self._settings = settings
        self._object = RouteObject(
            settings,
            settings.name,
            api_version="gateway.networking.k8s.io/v1",
            plural=f"{settings.route.lower()}s",
            shape=_Route,
        )

    async def apply(self, desired: Role, percent: int = 100) -> Applied:
        """See the port. Returns once every controller that reports on the route accepts it as it is now."""
        return await self._object.move(partial(self._step, share_of_fast(desired, percent)), self._settings.within)

    async def observe(self) -> Observed:
        """By the weights; "cannot tell" while a controller has not taken them."""
        try:
            route = await self._object.read()
        except KubernetesError as error:
            return Observed(role=None, detail=str(error), known=False)
        try:
            split = self._split(route)
        except RefusedError as error:
            return Observed(role=None, detail=str(error))
        if not split.total:
            return Observed(role=None, detail=f"no backend gets traffic: {split.detail}")
        try:
            waits_for, taken = _standing(route)
        except RefusedError as error:
            return Observed(role=None, detail=str(error), known=False)
        if waits_for:
            return Observed(role=None, detail=waits_for, known=False)
        return seen(split.fast, split.total, f"{split.detail}; {taken}")

    async def close(self) -> None:
        """Nothing is kept open."""

    def _step(self, share: int, route: _Route) -> Step:
        split = self._split(route)
        if not split.gives(share):
            weights = {Role.FAST: share, Role.SAFE: 100 - share}
            operations = [
                {"op": "add", "path": path, "value": weights[role]} for role, path in split.paths.items()
            ]  # in an object, `add` also replaces
            return Step(detail=split.detail, operations=operations)
        waits_for, taken = _standing(route)
        return Step(detail=f"{split.detail}; {taken}", waits_for=waits_for)

    def _split(self, route: _Route) -> _Split:
        """Raises RefusedError where this rule is not one between the two engines alone."""
        at, rule = self._rule(route.spec.rules)
        settings, refs = self._settings, rule.backend_refs
        detail = f"rule {settings.rule} of {self._object}: {', '.join(map(str, refs)) or 'no backendRefs'}"
        index = {}
        for role, name in ((Role.FAST, settings.fast), (Role.SAFE, settings.safe)):
            found = [place for place, ref in enumerate(refs) if ref.is_called(name)]
            if len(found) != 1:
                raise RefusedError(
                    f"{detail}; `{role}` must be one of them, and is {name} (write name:port where two share a name)",
                    retry=False,
                )
            index[role] = found[0]
        others = [str(ref) for place, ref in enumerate(refs) if ref.weight and place not in index.values()]
        if others:
            raise RefusedError(f"{detail}; not only the two engines get traffic, but {', '.join(others)}", retry=False)
        return _Split(
            fast=refs[index[Role.FAST]].weight,
            safe=refs[index[Role.SAFE]].weight,
            paths={role: f"/spec/rules/{at}/backendRefs/{place}/weight" for role, place in index.items()},
            detail=detail,
        )

    def _rule(self, rules: Sequence[_Rule]) -> tuple[int, _Rule]:
        wanted = self._settings.rule
        for index, rule in enumerate(rules):
            if wanted in {index, rule.name}:
                return index, rule
        named = ", ".join(rule.name or str(index) for index, rule in enumerate(rules)) or "none"
        raise RefusedError(f"{self._object} has no rule {wanted!r}; its rules are {named}", retry=False)


def _standing(route: _Route) -> tuple[str, str]:
    """What is still awaited of the controllers that report on the route, and who has taken it.

    Raises:
        RefusedError: one of them does not accept the route as it is now.
    """
    generation, taken = route.metadata.generation, []
    for parent in route.status.parents:
        conditions = [c for c in parent.conditions if c.type in {"Accepted", "ResolvedRefs"}]
        for condition in conditions:
            if condition.observed_generation < generation or condition.status == "Unknown":
                return f"{parent.controller_name} has not taken the latest change (generation {generation}) yet", ""
            if condition.status != "True":
                raise RefusedError(f"{parent.controller_name} does not take the route as it is: {condition}")
        if conditions:
            taken.append(parent.controller_name)
    return "", f"taken by {', '.join(taken)}" if taken else "no controller reports whether it has taken this"
