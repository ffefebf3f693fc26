"""TensorRT engine files, run in the watchdog's own process (kind ``tensorrt``): for machines without a server.

A thread of its own does everything that TensorRT and CUDA are asked for; the event loop awaits it.
"""

import time
from typing import Literal

from pydantic import Field

from watchdog.endpoints.faults import REJECTED, SERVER_ERROR, settled
from watchdog.endpoints.tensorrt_repository import Repository
from watchdog.endpoints.worker import Worker
from watchdog.model.engine import Address, Answerer, Description
from watchdog.model.fault import Fault
from watchdog.model.load import Statistics
from watchdog.model.probe import Attribution, InferRequest, Part, Reply, Timing
from watchdog.settings import LocalPath, Settings

_CLOSE_S = 2.0


class TensorRtSettings(Settings):
    """Engine files of this machine."""

    kind: Literal["tensorrt"]
    name: str = Field(min_length=1)
    """What engines refer to this endpoint by."""
    path: LocalPath
    """A folder laid out as a Triton model repository: ``MODEL/VERSION/model.plan``."""
    device: int = Field(default=0, ge=0)
    """The GPU's number, as CUDA counts them."""
    cudart: LocalPath | None = None
    """The CUDA runtime library, where the system does not find ``libcudart.so`` by itself."""
    plugins: tuple[LocalPath, ...] = ()
    """Libraries of TensorRT plugins that the engines need, besides TensorRT's own."""

    @property
    def runtime(self) -> str | None:
        """None: there are no tags to compare, since TensorRT itself refuses what wasn't built for it."""
        return None


class TensorRtEngine:
    """TensorRT is loaded on the first call, an engine when it is first asked for.

    Where a kernel hangs, its caller and all later ones are answered with a timeout until it comes back.
    """

    def __init__(self, settings: TensorRtSettings) -> None:
        self._worker = Worker(f"tensorrt-{settings.name}")
        self._repository = Repository(
            settings.path, device=settings.device, cudart=settings.cudart, plugins=settings.plugins
        )

    async def infer(self, request: InferRequest, timeout_s: float) -> Reply | Fault:
        return await settled(self._infer(request), timeout_s, _unforeseen)

    async def describe(self, address: Address, timeout_s: float) -> Description | Fault:
        work = self._worker.do(lambda: self._repository.describe(address))
        return await settled(work, timeout_s, _unforeseen)

    async def statistics(self, address: Address, timeout_s: float) -> Statistics | Fault:  # noqa: ARG002 (a port's)
        """None to have: only the watchdog's own canaries run here, and their number says nothing of traffic."""
        return REJECTED.fault(f"{address.model} runs in the watchdog's own process, which sees no other traffic")

    async def close(self) -> None:
        """Give the device's memory back, unless the device hangs."""
        await self._worker.close(self._repository.close, _CLOSE_S)

    async def _infer(self, request: InferRequest) -> Reply:
        sent_at, start = time.time(), time.perf_counter()
        version, ready_at, run = await self._worker.do(lambda: self._repository.infer(request))
        parts = {
            Part.QUEUE: ready_at - start,  # for the thread, and at first for the engine to be loaded
            Part.INPUT: run.input_s,
            Part.DEVICE: run.device_s,
            Part.OUTPUT: run.output_s,
        }
        parts[Part.CLIENT] = max(0.0, time.perf_counter() - start - sum(parts.values()))
        timing = Timing(
            sent_at=sent_at,
            total_s=sum(parts.values()),
            client_s=parts[Part.CLIENT],
            device_s=run.device_s,
            attribution=Attribution.MODEL,
            parts=parts,
        )
        answered_by = Answerer(model=request.address.model, version=version)
        return Reply(outputs=run.outputs, answered_by=answered_by, timing=timing)


def _unforeseen(error: Exception) -> Fault:
    """The type alone, since its text might quote what was sent."""
    return SERVER_ERROR.fault(f"running the engine failed ({type(error).__name__})")
