"""What tells of the GPUs beside the server: their driver, or else the server's own metrics.

An adapter of the `GpuSource` port belongs here, one source a file, and what it needs to ask. Nothing here judges
what is told: a GPU that can't be watched, or a driver that hangs, is a value like any other.
"""

from pydantic import Field

from watchdog.drift.leak import LeakDetector
from watchdog.gpu.nvml import NvmlGpus
from watchdog.ports import GpuSource
from watchdog.settings import Duration, Settings
from watchdog.transport import Server


class LeakSettings(Settings):
    """When growing GPU memory is called a leak."""

    over: Duration = 1800.0
    """The trend's window: memory must have grown all through it, not once."""
    least_bytes_per_hour: int = Field(default=64 * 2**20, gt=0)
    """Slower growth is left alone."""
    confidence: float = Field(default=0.99, gt=0.5, lt=1)
    """How sure the trend's bounds are."""

    def detector(self) -> LeakDetector:
        """Of one holder's memory."""
        return LeakDetector(self.over, self.least_bytes_per_hour, self.confidence)


class GpuSettings(Settings):
    """The GPUs beside the server, and how they are watched."""

    every: Duration = 10.0
    """From one reading to the next."""
    deadline: Duration = 5.0
    """A driver that hasn't answered by then counts as failing."""
    processes: tuple[str, ...] = ("tritonserver", "triton_python_backend_stub")
    """The programs whose memory counts as the server's."""
    fallback: Server | None = None
    """Triton's metrics, such as ``127.0.0.1:8002``, for where the driver can't be asked."""
    headroom: float = Field(default=0.05, ge=0, lt=1)
    """The least share of a GPU's memory that should be free."""
    leak: LeakSettings = Field(default_factory=LeakSettings)


def open_gpus(settings: GpuSettings) -> GpuSource:
    """The driver; where it isn't there or may not be asked, the fallback. Neither is asked before the first reading."""
    nvml = NvmlGpus()
    if settings.fallback is None:
        return nvml
    from watchdog.gpu.fallback import WithFallback  # noqa: PLC0415 (aiohttp only where it is used)
    from watchdog.gpu.triton_metrics import TritonMetrics  # noqa: PLC0415 (as above)

    return WithFallback(nvml, TritonMetrics(settings.fallback))
