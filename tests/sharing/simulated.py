"""Contenders for one Lease over lines that lose, delay and cut, in virtual time; and a clock that is set by hand."""

import asyncio
import json
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

from tests.kube_api import Call, KubeApi, _StatusError
from watchdog.exchange import Answer
from watchdog.kubernetes import Kubernetes, KubernetesError, Object, _refusal
from watchdog.sharing.lease import Lease, LeaseSettings

NAMESPACE = "clinic"
LEASE = f"/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases/lung"


def lease_settings(**more: Any) -> LeaseSettings:
    return LeaseSettings.model_validate({"name": "lung", "namespace": NAMESPACE, **more})


@dataclass
class Clock:
    """Seconds that pass when a test says so."""

    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@dataclass(frozen=True, kw_only=True)
class Trouble:
    """What happens to one contender from `at` on, for `lasts` seconds where it ends at all."""

    kind: str
    who: int
    at: float
    lasts: float

    def is_on(self, now: float) -> bool:
        return self.at <= now < self.at + self.lasts


@dataclass
class Line(Kubernetes):
    """One contender's way to the API server. A request may arrive after its sender gave up."""

    settings: LeaseSettings
    api: KubeApi
    troubled: Callable[[str], bool]
    chance: random.Random
    stopped_s: Callable[[], float] = lambda: 0.0
    """For how long its owner is stopped from now on."""
    under_way: set[asyncio.Task[Object]] = field(default_factory=set)

    def __post_init__(self) -> None:
        super().__init__(self.settings)

    async def _ask(self, method: str, path: str, body: bytes | None = None, content_type: str = "") -> Object:
        task = asyncio.ensure_future(self._carried(method, path, body, content_type))
        self.under_way.add(task)
        try:
            async with asyncio.timeout(self.settings.timeout):
                return await asyncio.shield(task)
        except TimeoutError as error:
            task.add_done_callback(lambda done: done.cancelled() or done.exception())  # nobody is there for it
            raise KubernetesError("no answer in time") from error
        finally:
            await asyncio.sleep(self.stopped_s())

    async def _carried(self, method: str, path: str, body: bytes | None, content_type: str) -> Object:
        await asyncio.sleep(self._delay_s())
        if self.troubled("cut"):
            await asyncio.sleep(3600)
        where, _, query = path.partition("?")
        call = Call(
            method=method,
            path=where,
            body=json.loads(body) if body else None,
            content_type=content_type,
            query=dict(parse_qsl(query)),
        )
        try:
            found, status = self.api._answer(call, {}), 200
        except _StatusError as error:
            found, status = error.body, error.code
        await asyncio.sleep(3600 if self.troubled("mute") else self._delay_s())
        if status != 200:
            raise _refusal(
                Answer(origin="sim", status=status, headers={}, raw=json.dumps(found).encode()), method, path
            )
        return found

    def _delay_s(self) -> float:
        return self.chance.uniform(0, 12 if self.troubled("slow") else 0.4)


@dataclass(frozen=True, kw_only=True)
class Yes:
    who: int
    at: float


@dataclass
class Election:
    """Contenders who each renew every `retry`, and watched all the while."""

    leases: list[Lease]
    settings: LeaseSettings
    yes: list[Yes] = field(default_factory=list)
    released: set[int] = field(default_factory=set)

    def holders(self) -> list[int]:
        holding = [who for who, lease in enumerate(self.leases) if lease.holds]
        assert len(holding) <= 1, f"{holding} hold at once"
        return holding

    async def contend(self, who: int, troubled: Callable[[str], bool]) -> None:
        while not troubled("crash"):
            standing = await self.leases[who].renew()
            if troubled("crash"):
                return
            self.holders()
            if standing.renewed:
                now = asyncio.get_running_loop().time()
                window = self.settings.duration - self.settings.renew_deadline
                clash = [yes for yes in self.yes if yes.who not in {who, *self.released} and now < yes.at + window]
                assert not clash, f"{who} was told yes at {now}, though {clash}"
                self.yes.append(Yes(who=who, at=now))
            if troubled("close"):
                self.released.add(who)
                await self.leases[who].release()
                return
            await asyncio.sleep(self.settings.retry)

    async def watch(self) -> None:
        while True:
            self.holders()
            await asyncio.sleep(0.1)
