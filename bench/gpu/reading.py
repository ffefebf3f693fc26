"""What the watchdog tells of itself, and what the driver tells beside it: the one place that knows the names.

Log records are those of ``watchdog run --log-level debug``; the document is ``/api/v1/status``.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from watchdog.demo.service import Record

_TOLD = (
    "probe",
    "suspected",
    "diagnosis",
    "decision",
    "switch",
    "drift",
    "leak",
    "engine",
    "notice",
    "watchdog failure",
)
"""Records that say what the watchdog made of something; a healthy probe is none of them."""


def spread(seconds: Sequence[float]) -> dict[str, float]:
    """How many, and percentiles in seconds; nothing of nothing."""
    if not seconds:
        return {"n": 0}
    p50, p90, p99 = np.percentile(seconds, [50, 90, 99]).tolist()
    return {"n": len(seconds), "p50": p50, "p90": p90, "p99": p99, "max": max(seconds)}


def is_public_probe(record: Record) -> bool:
    return bool(record["event"] == "probe" and record["public"])


def is_bad(record: Record) -> bool:
    return is_public_probe(record) and record["verdict"] != "healthy"


def is_blaming(record: Record) -> bool:
    """Whether it says that the serving engine is at fault, and the other proven."""
    return bool(record["event"] == "diagnosis" and record["conclusion"] == "engine-fault")


def is_proven_switch(record: Record, to: str) -> bool:
    return bool(record["event"] == "switch" and record["to"] == to and record["proven"])


def is_traced(record: Record) -> bool:
    """Whether it tells where the time of a probe of the public name went, by the server's trace."""
    return is_answered(record) and "device_ms" in record


def is_answered(record: Record) -> bool:
    """Whether it tells all that will ever be known of the timing of a probe of the public name."""
    return record["event"] == "timed" and "/" not in record["address"]


def profile(record: Record) -> str:
    """The shape profile of a probe's canary."""
    return str(record["canary"]).rpartition("@")[2]


def parts(records: Iterable[Record]) -> dict[str, dict[str, float]]:
    """Part of a probe's time → its percentiles; ``total`` is the round trip."""
    found: dict[str, list[float]] = defaultdict(list)
    for record in filter(is_traced, records):
        for key, value in record.items():
            if key.endswith("_ms"):
                found[key.removesuffix("_ms")].append(value / 1e3)
    return {part: spread(seconds) for part, seconds in found.items()}


def executed_s(record: Record) -> float:
    """How long the server's trace says that the model executed: its device time and its own code around it."""
    return float(record["device_ms"] + record.get("model_ms", 0.0)) / 1e3


def told(records: Iterable[Record]) -> list[Record]:
    """What the watchdog made of things, in order, and never the same twice in a row."""
    found: list[Record] = []
    for record in records:
        if record["event"] not in _TOLD or record.get("verdict") == "healthy":
            continue
        brief = {key: value for key, value in record.items() if key not in ("model", "timestamp", "level")}
        kind = ("event", "reason", "conclusion", "after", "alert", "holder", "kind", "to")
        if not found or any(found[-1].get(key) != brief.get(key) for key in kind):
            found.append(brief)
    return found


def desired(document: Mapping[str, Any], model: str) -> str:
    """The engine that ordinary traffic should get: ``fast`` or ``safe``."""
    return str(document["models"][model]["policy"]["desired"])


def state(document: Mapping[str, Any], model: str) -> str:
    return str(document["models"][model]["policy"]["state"])


def gpu(document: Mapping[str, Any]) -> dict[str, Any]:
    """What the watchdog sees of the first GPU; empty where there is none."""
    found: Mapping[str, Any] = document.get("gpu") or {}
    about = {key: found.get(key) for key in ("source", "driver", "cuda")}
    return {**about, **found["gpus"][0]} if found.get("gpus") else {}


def growths(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The trend of each process's GPU memory."""
    return list((document.get("gpu") or {}).get("growth", []))


def spans(document: Mapping[str, Any]) -> dict[str, int]:
    """What became of the spans that the watchdog received."""
    return dict(document.get("traces") or {})


def held_bytes() -> dict[int, int]:
    """GPU memory of each process, by its id, as the driver tells it; empty where there is no driver."""
    import pynvml  # noqa: PLC0415 (only where there is a GPU)

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return {}
    try:
        found: dict[int, int] = defaultdict(int)
        for i in range(pynvml.nvmlDeviceGetCount()):
            for process in pynvml.nvmlDeviceGetComputeRunningProcesses(pynvml.nvmlDeviceGetHandleByIndex(i)):
                found[process.pid] += process.usedGpuMemory or 0
        return dict(found)
    finally:
        pynvml.nvmlShutdown()
