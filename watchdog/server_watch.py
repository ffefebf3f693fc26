"""What a server tells of one model's engines: their load, and whether they are the ones that were vetted."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from watchdog import load as loads
from watchdog.load import Usual
from watchdog.model.engine import Role
from watchdog.model.event import CycleFailed, EngineSeen, LoadSeen
from watchdog.model.fault import Fault
from watchdog.model.gpu import GpuReading
from watchdog.model.load import Load, Statistics
from watchdog.model.verdict import Finding
from watchdog.prober import Prober

Changed = Callable[[], None]


@dataclass(kw_only=True, slots=True)
class _Lane:
    """One engine's counts."""

    at: float = 0.0
    statistics: Statistics | None = None
    load: Load | None = None
    usual: Usual = field(default_factory=Usual)


class ServerWatch:
    """One model's.

    Args:
        prober: knows the engines, where they are, and how they are judged.
        runtimes: what each engine's server runs, such as ``trt8.5.3-cuda11.8``, where the user says so.
        healthy: whether now is a time to learn what is usual from.
        gpus: the newest reading.
        loaded: told when a model was loaded or unloaded, as far as the counts show it.
        hold: told what people should know of the engines, each time.
    """

    def __init__(
        self,
        prober: Prober,
        *,
        runtimes: Mapping[Role, str | None],
        healthy: Callable[[], bool],
        gpus: Callable[[], GpuReading | None],
        loaded: Changed,
        hold: Callable[[Mapping[Role, Sequence[Finding]]], None],
    ) -> None:
        self._prober = prober
        self._runtimes = runtimes
        self._healthy = healthy
        self._gpus = gpus
        self._loaded = loaded
        self._hold = hold
        self._lanes = {role: _Lane() for role in Role}
        self._found: dict[Role, tuple[Finding, ...]] = {}

    async def count(self) -> None:
        """What both engines have done since the last time."""
        try:
            await asyncio.gather(*(self._count(role, lane) for role, lane in self._lanes.items()))
        except Exception as error:  # noqa: BLE001 - a bug must neither end the watch nor be silent
            self._fail(error)

    async def look(self) -> None:
        """Whether both engines are still the ones that were vetted, and fit for what runs them."""
        try:
            for role in self._lanes:
                await self._look(role)
        except Exception as error:  # noqa: BLE001 - as in `count`
            self._fail(error)
        self._hold(dict(self._found))

    def circumstances(self, role: Role, device_slow: bool) -> str:
        """What the newest counts say of an engine that is slow, in a sentence; empty where there are none.

        Args:
            role: the engine.
            device_slow: whether a burst of canaries has shown that its device time grew.
        """
        lane, reading = self._lanes[role], self._gpus()
        busy = [gpu.busy_ratio for gpu in reading.gpus if gpu.busy_ratio is not None] if reading is not None else []
        if lane.load is None:
            return f"the GPU is {min(busy):.0%} busy, by whomever" if busy else ""
        # Nobody tells on which of several GPUs the engine runs: on one that is as busy as this, at least.
        return loads.circumstances(lane.load, lane.usual.load, min(busy, default=None), device_slow=device_slow)

    async def _look(self, role: Role) -> None:
        target = self._prober.target
        address = target.engines[role].address
        said = await target.endpoints[address.endpoint].describe(address, target.deadline_s)
        if isinstance(said, Fault):
            return  # that nobody answers is for the probes to tell; it puts nothing right
        self._prober.told(role, said)
        findings = self._prober.judge.of_engine(role, said, runtime=self._runtimes[role], gpus=self._gpus())
        self._found[role] = findings
        self._prober.observe(
            EngineSeen(model=target.model, at=self._prober.clock(), role=role, tag=said.tag, findings=findings)
        )

    async def _count(self, role: Role, lane: _Lane) -> None:
        model, said = self._prober.target.model, await self._prober.statistics(role)
        now = self._prober.clock()
        if isinstance(said, Fault):
            lane.load = None  # the counts are kept: if they are lower next time, this was a reload
            self._prober.observe(LoadSeen(model=model, at=now, role=role, load=None))
            return
        before, since = lane.statistics, lane.at
        lane.statistics, lane.at = said, now
        if before is None:
            return
        lane.load = loads.between(before, said, now - since)
        if lane.load is None:
            self._loaded()
            return
        if self._healthy():
            lane.usual = lane.usual.after(lane.load)
        self._prober.observe(LoadSeen(model=model, at=now, role=role, load=lane.load))
        self._prober.timekeeper.load_seen(model, role, lane.load, now)

    def _fail(self, error: Exception) -> None:
        said = f"server: {type(error).__name__}: {error}"
        self._prober.observe(CycleFailed(model=self._prober.target.model, at=self._prober.clock(), error=said))
