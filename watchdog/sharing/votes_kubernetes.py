"""Watchdogs' opinions as Leases in Kubernetes, one for each watchdog, beside the Lease of the one that leads."""

import asyncio
import json
import math
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Literal
from urllib.parse import quote

from watchdog.kubernetes import ConflictError, Kubernetes, KubernetesError, NotFoundError, Object
from watchdog.settings import Duration, Settings
from watchdog.sharing.elapsed import Elapsed
from watchdog.sharing.lease_object import collection, find, micro_time, part, write
from watchdog.sharing.quorum import Need, Tally, Uncounted

LABEL = "watchdog.dev/shared"
FAULTS = "watchdog.dev/faults"
"""The annotation: a JSON object, model → the name of its serving engine's fault, or null where it has none."""


class KubernetesQuorumSettings(Settings):
    """Opinions are kept by the API server and in the namespace of the Lease."""

    by: Literal["kubernetes"]
    need: Need
    """How many must see a fault, such as 2, or what share of those alive, such as 51%."""
    alive_for: Duration = 15.0
    """Who is not seen to renew its Lease for so long is not alive; it is renewed three times as often."""
    opinion_for: Duration = 300.0
    """How long an opinion lasts after it was last confirmed; then the watchdog has none."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Opinion:
    fault: str | None
    at: float


@dataclass(frozen=True, kw_only=True, slots=True)
class _Sighting:
    """Another watchdog's Lease, as it was seen last."""

    spec: Object
    faults: Object
    at: float
    """Since when it has been seen unchanged."""
    renewing: bool
    """Whether it has been seen to change: only then is its age known."""


class KubernetesVotes:
    """Counts those that are seen to renew, by this machine's clock: no two clocks are compared.

    A Lease that is seen for the first time, or again after a long while, may have been left behind
    by a watchdog that is gone. Until it is seen to change, its opinion does not count, and it counts
    as alive until `alive_for` is over: both make a quorum harder to reach, never easier.

    Args:
        settings: of the quorum.
        api: the API server.
        group: the name of the Lease that all of them contend for.
        identity: a name that no other watchdog of the group has.
        timeout_s: for one call, and for all of `keep`, so that it doesn't hold up the leader's renewal.
        elapsed: the clock.
    """

    def __init__(
        self,
        settings: KubernetesQuorumSettings,
        *,
        api: Kubernetes,
        group: str,
        identity: str,
        timeout_s: float,
        elapsed: Elapsed,
    ) -> None:
        self._settings = settings
        self._api = api
        self._group = group
        self._name = f"{group}.{identity}"
        self._timeout_s = timeout_s
        self._elapsed = elapsed
        self._one_at_a_time = asyncio.Lock()
        self._closed = False
        self._opinions: dict[str, _Opinion] = {}
        self._own: Object | None = None
        self._said: dict[str, str | None] = {}
        """What the others can read of this one."""
        self._why_not = ""
        """Why it could not be written last."""
        self._written_at = self._looked_at = -math.inf
        self._others: dict[str, _Sighting] = {}

    async def cast(self, model: str, fault: str | None) -> None:
        """Make this watchdog's opinion known; where that fails, `count` says so."""
        async with self._one_at_a_time:
            self._opinions[model] = _Opinion(fault=fault, at=self._elapsed())
            if self._said != self._lasting():
                with suppress(KubernetesError):
                    await self._publish()

    async def count(self, model: str) -> Tally | Uncounted:
        """What all of them think of `model`'s serving engine."""
        async with self._one_at_a_time:
            own = self._lasting().get(model)
            if own != self._said.get(model):
                return Uncounted(detail=f"this one's own is not known to the others: {self._why_not}")
            try:
                await self._look()
            except KubernetesError as error:
                return Uncounted(detail=str(error))
            others = list(self._alive())
            faulty = sum(other.renewing and bool(other.faults.get(model)) for other in others)
            return Tally(faulty=faulty + bool(own), alive=len(others) + 1)

    async def keep(self) -> None:
        """Renew this one's Lease and look at the others', as often as that is needed."""
        every = self._settings.alive_for / 3
        with suppress(KubernetesError, TimeoutError):  # the next `keep` tries again
            async with asyncio.timeout(self._timeout_s), self._one_at_a_time:
                if self._said != self._lasting() or self._elapsed() >= self._written_at + every:
                    await self._publish()
                if self._elapsed() >= self._looked_at + every:
                    await self._look()

    async def close(self) -> None:
        """Count no longer as alive."""
        async with self._one_at_a_time:
            self._closed = True
            if self._own is not None:
                with suppress(KubernetesError):  # it then counts as alive for a little longer
                    await write(self._api, self._name, self._own, spec={"holderIdentity": ""})

    async def _publish(self) -> None:
        if self._closed:
            return
        try:
            with suppress(ConflictError, NotFoundError):  # changed or removed by another: see what is there
                await self._write(self._own or await find(self._api, self._name))
                return
            await self._write(await find(self._api, self._name))
        except KubernetesError as error:
            self._why_not = str(error)
            raise

    async def _write(self, before: Object | None) -> None:
        said = self._lasting()
        spec = {
            "holderIdentity": self._name,
            "leaseDurationSeconds": math.ceil(self._settings.alive_for),
            "renewTime": micro_time(),
        }
        annotations = {FAULTS: json.dumps(said, sort_keys=True)}
        self._own = await write(
            self._api, self._name, before, spec=spec, labels={LABEL: self._group}, annotations=annotations
        )
        self._said, self._written_at = said, self._elapsed()

    def _lasting(self) -> dict[str, str | None]:
        """This one's opinions that are recent enough to be any."""
        oldest = self._elapsed() - self._settings.opinion_for
        return {model: opinion.fault for model, opinion in self._opinions.items() if opinion.at > oldest}

    async def _look(self) -> None:
        selector = quote(f"{LABEL}={self._group}", safe="")
        listed = (await self._api.get(f"{collection(self._api)}?labelSelector={selector}")).get("items")
        if not isinstance(listed, list):
            raise KubernetesError("the API server answers, but not with a list of Leases")
        now = self._elapsed()
        if now - self._looked_at > self._settings.alive_for:
            self._others.clear()  # what has changed since then may have done so long ago
        self._looked_at = now
        found = {str(part(item, "metadata").get("name")): item for item in listed}
        self._others = {name: self._seen(name, item) for name, item in found.items() if name != self._name}

    def _seen(self, name: str, item: Object) -> _Sighting:
        spec, faults, before = part(item, "spec"), _faults(item), self._others.get(name)
        if before is not None and before.spec == spec:
            return replace(before, faults=faults)
        return _Sighting(spec=spec, faults=faults, at=self._looked_at, renewing=before is not None)

    def _alive(self) -> Iterator[_Sighting]:
        for other in self._others.values():
            if other.spec.get("holderIdentity") and self._looked_at - other.at < self._settings.alive_for:
                yield other


def _faults(item: Object) -> Object:
    """What one watchdog says of each model; nothing where it can't be read."""
    try:
        found = json.loads(part(part(item, "metadata"), "annotations").get(FAULTS, "{}"))
    except (TypeError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
