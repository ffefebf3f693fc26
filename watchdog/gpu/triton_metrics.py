"""The GPUs by Triton's own metrics: fewer facts, but the server is asked anyway."""

import math

from watchdog.model.gpu import Gpu, GpuReading, SourceState
from watchdog.scrape import Page, scrape_server
from watchdog.transport import Server

_TOTAL = "nv_gpu_memory_total_bytes"
_USED = "nv_gpu_memory_used_bytes"
_BUSY = "nv_gpu_utilization"
_POWER = "nv_gpu_power_usage"
_NONE = "Triton's metrics tell of no GPU: it must see one, and run without --allow-gpu-metrics=false"


class TritonMetrics:
    """Triton's page of metrics, at ``/metrics`` unless the URL has a path. It has no processes, and no lost GPUs."""

    def __init__(self, server: Server) -> None:
        self._server = server

    async def read(self, timeout_s: float) -> GpuReading:
        page = await scrape_server(self._server, names=(_TOTAL, _USED, _BUSY, _POWER), timeout_s=timeout_s)
        if not isinstance(page, Page):
            return _reading(SourceState.FAILING, page.detail)
        gpus = _gpus(page)
        return _reading(SourceState.UP, "", gpus) if gpus else _reading(SourceState.ABSENT, _NONE)

    async def close(self) -> None:
        """Nothing is held open."""


def _gpus(page: Page) -> tuple[Gpu, ...]:
    total, used, busy, power = (_by_uuid(page, name) for name in (_TOTAL, _USED, _BUSY, _POWER))
    return tuple(
        Gpu(
            uuid=uuid,
            total_bytes=_whole(total.get(uuid)),
            used_bytes=_whole(used.get(uuid)),
            busy_ratio=busy.get(uuid),
            power_w=power.get(uuid),
        )
        for uuid in total | used | busy | power
    )


def _by_uuid(page: Page, name: str) -> dict[str, float]:
    return {
        labels["gpu_uuid"]: value
        for labels, value in page.samples(name)
        if "gpu_uuid" in labels and math.isfinite(value)
    }


def _whole(value: float | None) -> int | None:
    return None if value is None else int(value)


def _reading(state: SourceState, detail: str, gpus: tuple[Gpu, ...] = ()) -> GpuReading:
    return GpuReading(source="triton", state=state, detail=detail, gpus=gpus)
