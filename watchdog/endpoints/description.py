"""What a server says of a model, from the answers to its metadata calls in their JSON form.

Triton's two protocols answer alike, but for 64-bit numbers (strings in protobuf's JSON) and for
defaults (left out there).
"""

from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from watchdog.endpoints.faults import FaultError
from watchdog.model.engine import Address, Counters, Description, TensorSpec
from watchdog.model.fault import FaultKind

T = TypeVar("T")
Json = Mapping[str, Any]

_NOT_OFFERED = frozenset({FaultKind.NOT_FOUND, FaultKind.REJECTED, FaultKind.FORBIDDEN})


@dataclass(frozen=True, kw_only=True, slots=True)
class Answers:
    """A server's answers; None for what it does not offer."""

    server: Json
    model: Json
    config: Json | None
    statistics: Json | None
    index: Sequence[Json] | None

    def describe(self, address: Address) -> Description:
        config = self.config or {}
        return Description(
            server=f"{self.server.get('name', '')} {self.server.get('version', '')}".strip(),
            inputs=_specs(self.model.get("inputs")),
            outputs=_specs(self.model.get("outputs")),
            versions=self._ready_versions(address),
            tag=_tag(config, address.version),
            response_cache=bool((config.get("response_cache") or {}).get("enable", False)),
            counters=_counters(self.statistics, address),
            extensions=tuple(str(each) for each in self.server.get("extensions") or ()),
        )

    def _ready_versions(self, address: Address) -> tuple[str, ...]:
        listed = [each for each in self.index or () if each.get("name") == address.model and each.get("version")]
        if listed:
            ready = [str(each["version"]) for each in listed if each.get("state") == "READY"]
        else:
            ready = [str(each) for each in self.model.get("versions") or ()]
        return tuple(sorted(ready, key=_order))


def _order(version: str) -> tuple[int, str]:
    return (int(version) if version.isdecimal() else 0, version)


def _specs(tensors: Sequence[Json] | None) -> tuple[TensorSpec, ...]:
    return tuple(
        TensorSpec(
            name=str(each["name"]), dtype=str(each["datatype"]), shape=tuple(int(dim) for dim in each.get("shape", ()))
        )
        for each in tensors or ()
    )


def _tag(config: Json, version: str) -> str | None:
    """``engine_tag.VERSION`` of a pinned version goes before ``engine_tag``."""
    parameters = config.get("parameters") or {}
    for key in ([f"engine_tag.{version}"] if version else []) + ["engine_tag"]:
        if key in parameters:
            return str(parameters[key].get("string_value", "")) or None
    return None


def _counters(statistics: Json | None, address: Address) -> Counters | None:
    """Of a pinned version. Triton's ``inference_count`` leaves out what its cache answered."""
    if statistics is None or not address.version:
        return None
    for each in statistics.get("model_stats") or ():
        if str(each.get("version")) == address.version:
            return Counters(
                inferences=int(each.get("inference_count", 0)),
                cache_hits=_count(each, "cache_hit"),
                failures=_count(each, "fail"),
            )
    return None


def _count(stats: Json, name: str) -> int:
    return int(((stats.get("inference_stats") or {}).get(name) or {}).get("count", 0))


async def optional(call: Awaitable[T]) -> T | None:
    """The answer to a call that a server need not offer, or may keep from us."""
    try:
        return await call
    except FaultError as error:
        if error.fault.kind in _NOT_OFFERED:
            return None
        raise
