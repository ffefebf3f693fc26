"""The GPUs beside the server, as gauges. A GPU that was lost keeps its state and loses everything else.

What the newest reading doesn't tell has no series: a number that nobody reads any more looks alive.
"""

from collections.abc import Iterator

from prometheus_client import Gauge

from watchdog.model.event import GpuSeen, GrowthSeen
from watchdog.model.gpu import Gpu, GpuReading, GpuState, SourceState
from watchdog.telemetry.declared import Group, Registered


class GpuMetrics:
    """The newest reading, and the newest trends."""

    def __init__(self, metrics: Registered) -> None:
        self._metrics = metrics
        self._shown: dict[tuple[str, str], tuple[bool, float]] = {}

    def take(self, event: GpuSeen | GrowthSeen) -> None:
        """Show the newest of either kind."""
        if isinstance(event, GrowthSeen):
            self._grew(event)
            return
        self.clear()
        for state in SourceState:
            self._gauge("source_state").labels(event.reading.source, state).set(state is event.reading.state)
        for gpu in event.reading.gpus:
            self._seen(gpu, event.reading)

    def clear(self) -> None:
        """Show nothing any more; what was counted stays."""
        self._metrics.clear_gauges(Group.GPU)
        self._shown.clear()

    def _gauge(self, name: str) -> Gauge:
        return self._metrics.gauge(f"watchdog_gpu_{name}")

    def _seen(self, gpu: Gpu, reading: GpuReading) -> None:
        for state in GpuState:
            self._gauge("state").labels(gpu.uuid, state).set(state is gpu.state)
        if gpu.name:
            self._gauge("info").labels(gpu.uuid, gpu.name, reading.driver).set(1)
        for name, value in _values(gpu):
            if value is not None:
                self._gauge(name).labels(gpu.uuid).set(value)
        for reason in gpu.throttled_by or ():
            self._gauge("throttled").labels(gpu.uuid, reason).set(1)
        for xid in gpu.xids:
            self._metrics.counter("watchdog_gpu_xid_errors_total").labels(gpu.uuid, xid).inc()
        for instance in gpu.mig:
            self._gauge("mig_memory_total_bytes").labels(gpu.uuid, instance.uuid).set(instance.total_bytes)
            self._gauge("mig_memory_used_bytes").labels(gpu.uuid, instance.uuid).set(instance.used_bytes)
        for process in gpu.processes or ():
            if process.used_bytes is not None:
                self._gauge("process_memory_bytes").labels(gpu.uuid, process.name or "unknown", process.mig).inc(
                    process.used_bytes
                )

    def _grew(self, event: GrowthSeen) -> None:
        leak, growth = event.leak, event.leak.growth
        at, rank = (leak.gpu, leak.holder), (growth.leaking, growth.bytes_per_hour)
        if rank < self._shown.get(at, rank):
            return  # of several processes of one name one that leaks is shown, and the steepest
        self._shown[at] = rank
        for bound, value in (("estimate", growth.bytes_per_hour), ("low", growth.low), ("high", growth.high)):
            self._gauge("memory_growth_bytes_per_hour").labels(*at, bound).set(value)
        self._gauge("memory_leaking").labels(*at).set(growth.leaking)


def _values(gpu: Gpu) -> Iterator[tuple[str, float | None]]:
    yield "memory_total_bytes", gpu.total_bytes
    yield "memory_used_bytes", gpu.used_bytes
    yield "busy_ratio", gpu.busy_ratio
    yield "memory_busy_ratio", gpu.memory_busy_ratio
    yield "temperature_celsius", gpu.temperature_c
    yield "power_watts", gpu.power_w
    yield "sm_clock_hertz", gpu.sm_clock_hz
    yield "memory_clock_hertz", gpu.memory_clock_hz
    yield "ecc_corrected", gpu.ecc_corrected
    yield "ecc_uncorrected", gpu.ecc_uncorrected
