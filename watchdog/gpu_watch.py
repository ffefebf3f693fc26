"""Watches the GPUs beside the server: their health, and whether somebody's memory only ever grows."""

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from watchdog.drift.leak import LeakDetector
from watchdog.gpu_health import GpuHealth
from watchdog.model.event import CycleFailed, GpuSeen, GrowthSeen
from watchdog.model.gpu import Gpu, GpuReading, GpuState, Leak
from watchdog.model.notice import Condition
from watchdog.ports import Clock, GpuSource, Observer

EVERYBODY = "all"
"""The holder of a GPU's memory where processes can't be told apart."""

Hold = Callable[[Sequence[Condition]], None]
"""Told which conditions hold, each time."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Holding:
    """GPU memory that one holder has at one moment."""

    gpu: str
    holder: str
    pid: int
    """0 where processes can't be told apart."""
    used_bytes: int
    room_bytes: int | None
    """What is left on the GPU, or in its slice of it."""

    @property
    def key(self) -> tuple[str, str, int]:
        return self.gpu, self.holder, self.pid


class GpuWatch:
    """One host's GPUs.

    Args:
        source: tells of them.
        make_detector: of leaks, one for each holder.
        programs: whose memory is the server's; a leak of others is theirs to find.
        headroom: the least share of a GPU's memory that should be free.
        deadline_s: for one reading.
        observe: told each reading and each trend.
        hold: told which conditions hold.
        clock: Unix seconds.
    """

    def __init__(
        self,
        source: GpuSource,
        *,
        make_detector: Callable[[], LeakDetector],
        programs: Sequence[str],
        headroom: float,
        deadline_s: float,
        observe: Observer,
        hold: Hold,
        clock: Clock,
    ) -> None:
        self._source = source
        self._make_detector = make_detector
        self._programs = frozenset(programs)
        self._headroom = headroom
        self._deadline_s = deadline_s
        self._observe = observe
        self._hold = hold
        self._clock = clock
        self._health = GpuHealth()
        self._detectors: dict[tuple[str, str, int], LeakDetector] = {}
        self._leaks: tuple[Leak, ...] = ()
        self._one_at_a_time = asyncio.Lock()

    @property
    def reading(self) -> GpuReading | None:
        """The newest one."""
        return self._health.reading

    async def look(self) -> None:
        """One reading, and what follows from it."""
        async with self._one_at_a_time:
            try:
                reading = await self._source.read(self._deadline_s)
                now = self._clock()
                self._health = self._health.after(reading, now)
                leaks = []
                for leak in self._trends(reading, now):
                    leaks.append(leak)
                    await asyncio.sleep(0)  # it took some milliseconds, and elsewhere a probe may be timed
                self._observe(GpuSeen(at=now, reading=reading))
                for leak in leaks:
                    self._observe(GrowthSeen(at=now, leak=leak))
                unseen = [leak for leak in self._leaks if _unknown(reading, leak.gpu)]  # which ends no leak
                self._leaks = (*leaks, *unseen)
                self._hold(self._health.conditions(self._leaks, self._headroom))
            except Exception as error:  # noqa: BLE001 - a bug must neither end the watch nor be silent
                said = f"gpu: {type(error).__name__}: {error}"
                self._observe(CycleFailed(model="", at=self._clock(), error=said))

    def take_over(self, old: "GpuWatch") -> None:
        """Go on where the watch of an earlier configuration stopped, with the same settings."""
        self._health, self._detectors, self._leaks = old._health, old._detectors, old._leaks  # noqa: SLF001 - of the same class

    def loaded(self) -> None:
        """A model was loaded or unloaded: what the memory did until now says nothing of a leak."""
        for detector in self._detectors.values():
            detector.reset()

    def _trends(self, reading: GpuReading, now: float) -> Iterator[Leak]:
        holdings = {each.key: each for gpu in reading.gpus for each in self._holdings(gpu)}
        for key in self._detectors.keys() - holdings.keys():
            if not _unknown(reading, key[0]):  # a GPU that was lost for a while forgets nobody
                del self._detectors[key]
        for key, holding in holdings.items():
            if key not in self._detectors:
                self._detectors[key] = self._make_detector()
            detector = self._detectors[key]
            detector.update(now, holding.used_bytes)
            growth = detector.growth(holding.room_bytes)
            if growth is not None:
                yield Leak(
                    gpu=holding.gpu, holder=holding.holder, pids=(holding.pid,) * (holding.pid > 0), growth=growth
                )

    def _holdings(self, gpu: Gpu) -> Iterator[_Holding]:
        if gpu.state is not GpuState.UP:
            return
        room = None if gpu.total_bytes is None or gpu.used_bytes is None else gpu.total_bytes - gpu.used_bytes
        rooms = {each.uuid: each.total_bytes - each.used_bytes for each in gpu.mig}
        known = [each for each in gpu.processes or () if each.used_bytes is not None and each.name in self._programs]
        for each in known:
            assert each.used_bytes is not None  # noqa: S101 - as just asked
            own = rooms.get(each.mig, room)
            yield _Holding(gpu=gpu.uuid, holder=each.name, pid=each.pid, used_bytes=each.used_bytes, room_bytes=own)
        if not known and gpu.used_bytes is not None:
            yield _Holding(gpu=gpu.uuid, holder=EVERYBODY, pid=0, used_bytes=gpu.used_bytes, room_bytes=room)


def _unknown(reading: GpuReading, uuid: str) -> bool:
    states: Mapping[str, GpuState] = {gpu.uuid: gpu.state for gpu in reading.gpus}
    return states.get(uuid) is not GpuState.UP
