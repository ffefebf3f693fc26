"""What a server says that it has counted, from the answer to its statistics call in its JSON form.

Protobuf's JSON has 64-bit numbers as strings and leaves out zeros; HTTP's has neither habit.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from watchdog.endpoints.faults import NOT_READY, FaultError
from watchdog.model.engine import Address
from watchdog.model.load import Statistics, Tally
from watchdog.model.probe import Part

Json = Mapping[str, Any]

_PARTS: Mapping[Part, str] = {
    Part.QUEUE: "queue",
    Part.INPUT: "compute_input",
    Part.DEVICE: "compute_infer",
    Part.OUTPUT: "compute_output",
}


def read_statistics(answer: Json, address: Address) -> Statistics:
    """The counts of a pinned version, or of all that the server lists: Triton lists those that are READY.

    Raises:
        FaultError: the answer holds none of them.
    """
    listed: Sequence[Json] = answer.get("model_stats") or ()
    versions = [each for each in listed if not address.version or str(each.get("version")) == address.version]
    if not versions:
        raise FaultError(NOT_READY.fault(f"the server counts nothing of {address}"))
    return Statistics(
        inferences=_sum(versions, "inference_count"),
        executions=_sum(versions, "execution_count"),
        succeeded=_tally(versions, "success"),
        parts={part: _tally(versions, name) for part, name in _PARTS.items()},
        failed=_tally(versions, "fail").count,
        cache_hits=_tally(versions, "cache_hit").count,
        cache_misses=_tally(versions, "cache_miss").count,
    )


def _tally(versions: Sequence[Json], name: str) -> Tally:
    durations = [(each.get("inference_stats") or {}).get(name) or {} for each in versions]
    return Tally(count=_sum(durations, "count"), seconds=_sum(durations, "ns") / 1e9)


def _sum(objects: Sequence[Json], key: str) -> int:
    return sum(int(each.get(key, 0)) for each in objects)
