"""When people should know of a GPU. Pure, and the only place that compares its numbers with limits."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from watchdog.model.gpu import Gpu, GpuReading, GpuState, Leak, SourceState
from watchdog.model.notice import Condition, Severity

ERROR_FOR_S = 3600.0
"""How long a critical error goes on being told: the driver reports each only once."""
_SOON_S = 6 * 3600.0
"""A leak that fills the memory within this is for now; a slower one for office hours."""
_LASTING = 6
"""Readings in a row before slowed clocks are worth a notice: a short burst of heat is ordinary."""
_BLIND = 3
"""Readings in a row without an answer: a driver may be busy once."""
_HARMFUL = ("hw-slowdown", "hw-thermal-slowdown", "hw-power-brake-slowdown", "sw-thermal-slowdown")


@dataclass(frozen=True, kw_only=True, slots=True)
class _Errors:
    """What the driver reported of one GPU, without an hour's pause in between."""

    at: float
    """When the last one was."""
    xids: frozenset[int] = frozenset()
    uncorrectable: int = 0

    def and_then(self, gpu: Gpu, uncorrectable: int, at: float) -> "_Errors":
        """With the errors of one more reading."""
        return _Errors(at=at, xids=self.xids | set(gpu.xids), uncorrectable=self.uncorrectable + uncorrectable)

    def __str__(self) -> str:
        said = [f"XID {xid}" for xid in sorted(self.xids)]
        if self.uncorrectable:
            said.append(f"{self.uncorrectable} uncorrectable memory error{'s' * (self.uncorrectable > 1)}")
        hint = "; look the number up in NVIDIA's list of XID errors" if self.xids else ""
        return f"the driver reported {', '.join(said)}{hint}"


@dataclass(frozen=True, kw_only=True, slots=True)
class GpuHealth:
    """What is remembered of the GPUs from reading to reading."""

    reading: GpuReading | None = None
    at: float = 0.0
    gpus: tuple[Gpu, ...] = ()
    """As they were told of last: that they can't be watched any more puts none of them right."""
    ecc: Mapping[str, int] = field(default_factory=dict)
    """UUID → uncorrected errors at the last reading."""
    errors: Mapping[str, _Errors] = field(default_factory=dict)
    slowed: Mapping[str, int] = field(default_factory=dict)
    """UUID → readings in a row with clocks slowed for a harmful reason."""
    was_up: bool = False
    unseen: int = 0
    """Readings in a row that showed nothing."""

    def after(self, reading: GpuReading, at: float) -> "GpuHealth":
        """With one more reading."""
        ecc, errors, slowed = dict(self.ecc), self._errors_at(at), {}
        for gpu in reading.gpus:
            more = 0
            if gpu.ecc_uncorrected is not None:
                more = max(0, gpu.ecc_uncorrected - ecc.get(gpu.uuid, gpu.ecc_uncorrected))
                ecc[gpu.uuid] = gpu.ecc_uncorrected
            if gpu.xids or more:
                errors[gpu.uuid] = errors.get(gpu.uuid, _Errors(at=at)).and_then(gpu, more, at)
            if gpu.throttled_by is not None and not gpu.throttled_by.isdisjoint(_HARMFUL):
                slowed[gpu.uuid] = self.slowed.get(gpu.uuid, 0) + 1
        return replace(
            self,
            reading=reading,
            at=at,
            gpus=reading.gpus or self.gpus,
            ecc=ecc,
            errors=errors,
            slowed=slowed if reading.gpus else self.slowed,
            was_up=self.was_up or reading.state is SourceState.UP,
            unseen=0 if reading.state is SourceState.UP else self.unseen + 1,
        )

    def conditions(self, leaks: Iterable[Leak], headroom: float) -> tuple[Condition, ...]:
        """All that people should know now.

        Args:
            leaks: the trends that are called leaks.
            headroom: the least share of a GPU's memory that should be free.
        """
        if self.reading is None:
            return ()
        found = [condition for gpu in self.gpus for condition in self._of(gpu, headroom)]
        if self.was_up and self.unseen >= _BLIND:
            found.append(
                _condition(
                    "WatchdogGpuUnseen", Severity.WARNING, {}, "GPUs can't be watched any more", self.reading.detail
                )
            )
        return (*found, *map(_leak, _steepest(leaks)))

    def _errors_at(self, at: float) -> dict[str, _Errors]:
        return {uuid: errors for uuid, errors in self.errors.items() if at - errors.at < ERROR_FOR_S}

    def _of(self, gpu: Gpu, headroom: float) -> Iterator[Condition]:
        labels = {"gpu": gpu.uuid}
        named = f"GPU {gpu.uuid}" + (f" ({gpu.name})" if gpu.name else "")
        if gpu.state is GpuState.LOST:
            yield _condition("WatchdogGpuLost", Severity.CRITICAL, labels, f"{named} is gone", gpu.detail)
        errors = self.errors.get(gpu.uuid)
        if errors is not None:
            yield _condition("WatchdogGpuError", Severity.CRITICAL, labels, f"{named} had an error", str(errors))
        if self.slowed.get(gpu.uuid, 0) >= _LASTING and gpu.throttled_by is not None:
            why = ", ".join(sorted(gpu.throttled_by))
            yield _condition("WatchdogGpuThrottled", Severity.WARNING, labels, f"{named} is slowed down", f"by {why}")
        if gpu.total_bytes and gpu.used_bytes is not None:
            yield from _full(named, labels, gpu.total_bytes, gpu.used_bytes, headroom)
        for each in gpu.mig:
            of_slice = f"MIG instance {each.uuid} of {named}"
            yield from _full(of_slice, labels | {"mig": each.uuid}, each.total_bytes, each.used_bytes, headroom)


def _full(named: str, labels: Mapping[str, str], total: int, used: int, headroom: float) -> Iterator[Condition]:
    if total - used < headroom * total:
        free = f"{_size(total - used)} of {_size(total)} are free"
        detail = f"{free} (limit {headroom:.0%}): loading an engine, or a larger batch, may fail"
        yield _condition("WatchdogGpuMemoryLow", Severity.WARNING, labels, f"{named} is nearly full", detail)


def _steepest(leaks: Iterable[Leak]) -> Iterable[Leak]:
    """One for each program on each GPU: an alert doesn't tell its processes apart."""
    leaking = sorted((leak for leak in leaks if leak.growth.leaking), key=lambda leak: leak.growth.bytes_per_hour)
    return {(leak.gpu, leak.holder): leak for leak in leaking}.values()


def _leak(leak: Leak) -> Condition:
    growth, left = leak.growth, leak.growth.exhausted_in_s
    soon = left is not None and left < _SOON_S
    until = "" if left is None else f"; at this rate no memory is left in {left / 3600:.1f} h"
    detail = (
        f"{leak.holder} on GPU {leak.gpu} grew by {_size(growth.bytes_per_hour)} an hour "
        f"(at least {_size(growth.low)}) over {growth.over_s / 60:.0f} min, in {growth.rises} steps{until}"
    )
    return _condition(
        "WatchdogGpuMemoryLeak",
        Severity.CRITICAL if soon else Severity.WARNING,
        {"gpu": leak.gpu, "process": leak.holder},
        f"GPU memory of {leak.holder} leaks",
        detail,
    )


def _condition(name: str, severity: Severity, labels: Mapping[str, str], summary: str, detail: str) -> Condition:
    return Condition(name=name, severity=severity, summary=summary, description=detail, labels=labels)


def _size(number: float) -> str:
    return f"{number / 2**30:.2f} GiB" if abs(number) >= 2**30 else f"{number / 2**20:.0f} MiB"
