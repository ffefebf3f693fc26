"""The GPUs by NVML, the library of NVIDIA's driver."""

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

from watchdog.gpu.blocking import Blocking
from watchdog.gpu.nvml_errors import DENIED, LOST, NO_GPU, NOT_ALLOWED, UNUSABLE
from watchdog.gpu.nvml_session import Session, Sight
from watchdog.model.gpu import Gpu, GpuReading, GpuState, SourceState

_NAME = "nvml"
_CLOSE_S = 1.0


class NvmlGpus:
    """Asks the driver, in a thread: it may hang for good."""

    def __init__(self) -> None:
        self._driver = Driver()
        self._calls = Blocking(_NAME)

    async def read(self, timeout_s: float) -> GpuReading:
        try:
            async with asyncio.timeout(timeout_s):
                reading = await self._calls.run(self._driver.look)
        except TimeoutError:
            detail = f"the driver gave no answer within {timeout_s:g} s; if it lasts, restart the machine"
            return _reading(SourceState.FAILING, detail)
        gpus = tuple(replace(gpu, xids=self._driver.take_xids(gpu.uuid)) for gpu in reading.gpus)
        return replace(reading, gpus=gpus)

    async def close(self) -> None:
        """Shut NVML down, unless it hangs."""
        if self._calls.busy:
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_S):
                await self._calls.run(self._driver.close)


class Driver:
    """What the driver says, and remembers what it once said: which GPUs there are, errors that nobody was told yet.

    Methods block, and raise nothing.
    """

    def __init__(self) -> None:
        self._session: Session | None = None
        self._complete = True
        self._names: dict[str, str] = {}
        """Of all GPUs that were ever seen, by their UUIDs."""
        self._xids: defaultdict[str, list[int]] = defaultdict(list)

    def look(self) -> GpuReading:
        """The GPUs now, without their XIDs, which `take_xids` has: nobody may wait for this answer any more."""
        import pynvml  # noqa: PLC0415 (80 ms, in the thread that may take them)

        try:
            if self._session is not None:
                self._gather_xids(self._session)
                if not self._complete:
                    self.close()
            session = self._session = self._session or Session(pynvml)
            driver, cuda = session.versions()
            sight = session.look()
        except pynvml.NVMLError as error:
            self.close()
            return self._unusable(error.value, str(error))
        self._complete = sight.complete and {gpu.uuid for gpu in sight.gpus} >= self._names.keys()
        return replace(self._seen(sight), driver=driver, cuda=cuda)

    def take_xids(self, uuid: str) -> tuple[int, ...]:
        """A GPU's errors since the last call."""
        return tuple(self._xids.pop(uuid, ()))

    def close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            session.close()

    def _gather_xids(self, session: Session) -> None:
        for uuid, xid in session.xids():
            self._xids[uuid].append(xid)

    def _seen(self, sight: Sight) -> GpuReading:
        detail = "; ".join(sight.silent)
        if gpus := self._listed(sight.gpus, detail or "the driver doesn't list it any more"):
            return _reading(SourceState.UP, detail, gpus)
        if detail:
            return _reading(SourceState.FAILING, detail)
        return _reading(SourceState.DENIED, NOT_ALLOWED) if sight.denied else _reading(SourceState.ABSENT, NO_GPU)

    def _unusable(self, code: int, said: str) -> GpuReading:
        if code in DENIED:
            return _reading(SourceState.DENIED, NOT_ALLOWED)
        state, detail = UNUSABLE.get(code, (SourceState.FAILING, f"NVML: {said}"))
        gone = state is SourceState.ABSENT or code in LOST
        return _reading(state, detail, self._listed((), detail) if gone else ())

    def _listed(self, present: Sequence[Gpu], why_gone: str) -> tuple[Gpu, ...]:
        """All that were ever seen, in the order in which they were."""
        seen = {gpu.uuid: gpu for gpu in present}
        self._names |= {uuid: gpu.name or self._names.get(uuid, "") for uuid, gpu in seen.items()}
        gone = Gpu(uuid="", state=GpuState.LOST, detail=why_gone)
        return tuple(replace(seen.get(uuid, gone), uuid=uuid, name=name) for uuid, name in self._names.items())


def _reading(state: SourceState, detail: str, gpus: tuple[Gpu, ...] = ()) -> GpuReading:
    return GpuReading(source=_NAME, state=state, detail=detail, gpus=gpus)
