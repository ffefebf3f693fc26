"""What is known of the GPUs beside the server, and on what condition."""

from dataclasses import dataclass
from enum import StrEnum


class SourceState(StrEnum):
    """Whether the GPUs can be watched at all."""

    UP = "up"
    ABSENT = "absent"
    """There is no driver, or no library to ask it, or it sees no GPU."""
    DENIED = "denied"
    """The process may not ask it."""
    FAILING = "failing"
    """It is there, and answers with errors, or not in time."""


class GpuState(StrEnum):
    """Whether one GPU can be watched."""

    UP = "up"
    LOST = "lost"
    """It was there and is not any more: fallen off the bus, or being reset."""
    DENIED = "denied"
    """The process may not ask about it."""
    FAILING = "failing"


@dataclass(frozen=True, kw_only=True, slots=True)
class ProcessMemory:
    """GPU memory of one process on one GPU (or MIG instance)."""

    pid: int
    name: str
    """The program's name, such as ``tritonserver``; empty where the process can't be seen from here."""
    used_bytes: int | None
    """None where the driver doesn't tell, such as in another container's name space."""
    mig: str = ""
    """The MIG instance's UUID; empty for the whole GPU."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MigInstance:
    """A slice of a GPU."""

    uuid: str
    total_bytes: int
    used_bytes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Gpu:
    """One GPU at one moment. None is for what it, or its driver, doesn't tell."""

    uuid: str
    name: str = ""
    state: GpuState = GpuState.UP
    detail: str = ""
    """Why, where it isn't UP; or what could not be read."""
    total_bytes: int | None = None
    used_bytes: int | None = None
    """What the driver keeps for itself included, so that the rest can really be had."""
    busy_ratio: float | None = None
    """The share of the last sample period in which a kernel ran, in [0, 1]; None under MIG."""
    memory_busy_ratio: float | None = None
    temperature_c: float | None = None
    power_w: float | None = None
    sm_clock_hz: float | None = None
    memory_clock_hz: float | None = None
    throttled_by: frozenset[str] | None = None
    """Why the clocks are below what was asked for, such as ``hw-thermal-slowdown``; idleness is no reason."""
    ecc_corrected: int | None = None
    """Since the driver was loaded."""
    ecc_uncorrected: int | None = None
    xids: tuple[int, ...] = ()
    """Critical errors that the driver reported since the last reading, by their XID numbers."""
    mig: tuple[MigInstance, ...] = ()
    processes: tuple[ProcessMemory, ...] | None = None
    compute_capability: tuple[int, int] | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class GpuReading:
    """All GPUs at one moment, by one source."""

    source: str
    """``nvml``, or ``triton`` for the server's own metrics."""
    state: SourceState
    detail: str = ""
    """Why, and what to do, where it isn't UP; or what else is to be said, such as of a GPU that can't be named."""
    driver: str = ""
    cuda: tuple[int, int] | None = None
    """The newest CUDA version that the driver supports."""
    gpus: tuple[Gpu, ...] = ()
    """In the driver's order; one that was lost is still listed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Growth:
    """A trend of a series of bytes."""

    bytes_per_hour: float
    low: float
    """Lower confidence bound of `bytes_per_hour`."""
    high: float
    over_s: float
    """From the oldest sample used to the newest."""
    samples: int
    rises: int
    """Separate steps upwards: a leak has many, a load has one."""
    leaking: bool
    """Whether it grew and goes on growing, rather than having grown once."""
    exhausted_in_s: float | None = None
    """Until no memory is left at this rate; None while it isn't leaking, or where the room is unknown."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Leak:
    """GPU memory that grows and is not given back."""

    gpu: str
    """UUID."""
    holder: str
    """Whose: a program's name, or ``all`` where processes can't be told apart."""
    pids: tuple[int, ...]
    growth: Growth
