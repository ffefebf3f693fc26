"""The GPUs beside the server, as gauges. A GPU that was lost keeps its state and loses everything else.

What the newest reading doesn't tell has no series: a number that nobody reads any more looks alive.
"""

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Gauge

from watchdog.model.event import GpuSeen, GrowthSeen
from watchdog.model.gpu import Gpu, GpuReading, GpuState, SourceState


class GpuMetrics:
    """The newest reading, and the newest trends."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._source = Gauge(
            "watchdog_gpu_source_state",
            "1 for the condition on which GPUs can be watched.",
            ["source", "state"],
            registry=registry,
        )
        self._state = Gauge("watchdog_gpu_state", "1 for a GPU's condition.", ["gpu", "state"], registry=registry)
        self._info = Gauge(
            "watchdog_gpu_info", "1, with what a GPU and its driver are.", ["gpu", "name", "driver"], registry=registry
        )
        self._gauges = {
            name: Gauge(f"watchdog_gpu_{name}", said, ["gpu"], registry=registry)
            for name, said in (
                ("memory_total_bytes", "Memory of the GPU."),
                ("memory_used_bytes", "Memory in use, by whomever."),
                ("busy_ratio", "Share of the last sample period in which a kernel ran."),
                ("memory_busy_ratio", "Share of the last sample period in which memory was read or written."),
                ("temperature_celsius", "Temperature of the GPU."),
                ("power_watts", "Power drawn."),
                ("sm_clock_hertz", "Clock of the multiprocessors."),
                ("memory_clock_hertz", "Clock of the memory."),
                ("ecc_corrected", "Memory errors that were corrected since the driver was loaded."),
                ("ecc_uncorrected", "Memory errors that were not corrected since the driver was loaded."),
            )
        }
        self._throttled = Gauge(
            "watchdog_gpu_throttled",
            "1 for each reason for which the clocks are lowered.",
            ["gpu", "reason"],
            registry=registry,
        )
        self._xids = Counter(
            "watchdog_gpu_xid_errors", "Critical errors by XID number.", ["gpu", "xid"], registry=registry
        )
        self._process = Gauge(
            "watchdog_gpu_process_memory_bytes",
            "GPU memory of a process; of all processes of one name together.",
            ["gpu", "process", "mig"],
            registry=registry,
        )
        self._mig_total = Gauge(
            "watchdog_gpu_mig_memory_total_bytes", "Memory of a MIG instance.", ["gpu", "mig"], registry=registry
        )
        self._mig_used = Gauge(
            "watchdog_gpu_mig_memory_used_bytes", "Memory in use there.", ["gpu", "mig"], registry=registry
        )
        self._growth = Gauge(
            "watchdog_gpu_memory_growth_bytes_per_hour",
            "Trend of a process' GPU memory over the window; its bound is what it grows by at least.",
            ["gpu", "process", "bound"],
            registry=registry,
        )
        self._leaking = Gauge(
            "watchdog_gpu_memory_leaking", "1 while a trend is a leak.", ["gpu", "process"], registry=registry
        )
        self._shown: dict[tuple[str, str], tuple[bool, float]] = {}

    def take(self, event: GpuSeen | GrowthSeen) -> None:
        """Show the newest of either kind."""
        if isinstance(event, GrowthSeen):
            self._grew(event)
            return
        self.clear()
        for state in SourceState:
            self._source.labels(event.reading.source, state).set(state is event.reading.state)
        for gpu in event.reading.gpus:
            self._seen(gpu, event.reading)

    def clear(self) -> None:
        """Show nothing any more; what was counted stays."""
        for metric in (*vars(self).values(), *self._gauges.values()):
            if isinstance(metric, Gauge):
                metric.clear()
        self._shown.clear()

    def _seen(self, gpu: Gpu, reading: GpuReading) -> None:
        for state in GpuState:
            self._state.labels(gpu.uuid, state).set(state is gpu.state)
        if gpu.name:
            self._info.labels(gpu.uuid, gpu.name, reading.driver).set(1)
        for name, value in _values(gpu):
            if value is not None:
                self._gauges[name].labels(gpu.uuid).set(value)
        for reason in gpu.throttled_by or ():
            self._throttled.labels(gpu.uuid, reason).set(1)
        for xid in gpu.xids:
            self._xids.labels(gpu.uuid, xid).inc()
        for instance in gpu.mig:
            self._mig_total.labels(gpu.uuid, instance.uuid).set(instance.total_bytes)
            self._mig_used.labels(gpu.uuid, instance.uuid).set(instance.used_bytes)
        for process in gpu.processes or ():
            if process.used_bytes is not None:
                self._process.labels(gpu.uuid, process.name or "unknown", process.mig).inc(process.used_bytes)

    def _grew(self, event: GrowthSeen) -> None:
        leak, growth = event.leak, event.leak.growth
        at, rank = (leak.gpu, leak.holder), (growth.leaking, growth.bytes_per_hour)
        if rank < self._shown.get(at, rank):
            return  # of several processes of one name one that leaks is shown, and the steepest
        self._shown[at] = rank
        for bound, value in (("estimate", growth.bytes_per_hour), ("low", growth.low), ("high", growth.high)):
            self._growth.labels(*at, bound).set(value)
        self._leaking.labels(*at).set(growth.leaking)


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
