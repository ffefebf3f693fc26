"""What a server says of a model, from the answers to its metadata calls in their JSON form.

Triton's two protocols answer alike, but for 64-bit numbers (strings in protobuf's JSON) and for
defaults (left out there).
"""

import re
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from watchdog.endpoints.faults import FaultError
from watchdog.endpoints.statistics import Json, read_statistics
from watchdog.model.engine import Address, Counters, Description, ShapeRange, TensorSpec, Tracing
from watchdog.model.fault import FaultKind

T = TypeVar("T")

_EXAMPLE = "1x1x64x64 1x1x512x512 8x1x512x512"
_SHAPES = re.compile(r"\s*\d{1,9}(x\d{1,9})*(\s+\d{1,9}(x\d{1,9})*){2}\s*", re.ASCII)

_NOT_OFFERED = frozenset({FaultKind.NOT_FOUND, FaultKind.REJECTED, FaultKind.FORBIDDEN})


@dataclass(frozen=True, kw_only=True, slots=True)
class Answers:
    """A server's answers; None for what it does not offer."""

    server: Json
    model: Json
    config: Json | None
    statistics: Json | None
    index: Sequence[Json] | None
    tracing: Json | None

    def describe(self, address: Address) -> Description:
        config = self.config or {}
        inputs = _specs(self.model.get("inputs"))
        profiles, unreadable = _profiles(config, inputs, address.version)
        return Description(
            server=f"{self.server.get('name', '')} {self.server.get('version', '')}".strip(),
            inputs=inputs,
            outputs=_specs(self.model.get("outputs")),
            versions=self._ready_versions(address),
            tag=_parameter(config, "engine_tag", address.version),
            response_cache=bool((config.get("response_cache") or {}).get("enable", False)),
            counters=_counters(self.statistics, address),
            extensions=tuple(str(each) for each in self.server.get("extensions") or ()),
            tracing=_tracing(self.tracing),
            profiles=profiles,
            unreadable=unreadable,
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


def _parameter(config: Json, name: str, version: str) -> str | None:
    """A string among the model's parameters; ``NAME.VERSION`` of a pinned version goes before ``NAME``."""
    parameters = config.get("parameters") or {}
    for key in ([f"{name}.{version}"] if version else []) + [name]:
        if key in parameters:
            return str(parameters[key].get("string_value", "")) or None
    return None


def _profiles(
    config: Json, inputs: Sequence[TensorSpec], version: str
) -> tuple[dict[str, ShapeRange], tuple[str, ...]]:
    """The inputs' declared shapes, and what is wrong with those that can't be read."""
    profiles, unreadable = {}, []
    for name in (each.name for each in inputs):
        text = _parameter(config, f"profile.{name}", version)
        if text is None:
            continue
        shapes = _shape_range(text)
        if shapes is None:
            unreadable.append(
                f"profile.{name}: {text!r} is not a least, a best and a greatest shape, such as {_EXAMPLE}"
            )
        else:
            profiles[name] = shapes
    return profiles, tuple(unreadable)


def _shape_range(text: str) -> ShapeRange | None:
    """None unless the text is three shapes of one rank, none of whose dimensions shrinks."""
    if not _SHAPES.fullmatch(text):
        return None
    least, best, most = (tuple(int(dim) for dim in shape.split("x")) for shape in text.split())
    if not len(least) == len(best) == len(most):
        return None
    if not all(0 < low <= middle <= high for low, middle, high in zip(least, best, most, strict=True)):
        return None
    return ShapeRange(least=least, best=best, most=most)


def _tracing(settings: Json | None) -> Tracing | None:
    """From Triton's trace settings, whose values are strings or lists of one (gRPC)."""
    if not settings:
        return None
    said = {name: value if isinstance(value, str) else ",".join(value) for name, value in settings.items()}
    mode, delay_ms = said.get("trace_mode", ""), said.get("bsp_schedule_delay")
    return Tracing(
        on=mode == "opentelemetry" and said.get("trace_level", "OFF") != "OFF",
        mode=mode,
        rate=int(said.get("trace_rate", 0)),
        url=said.get("url", ""),
        delay_s=None if delay_ms is None else int(delay_ms) / 1000,
    )


def _counters(statistics: Json | None, address: Address) -> Counters | None:
    """Of a pinned version alone: with others' requests among them, nobody could tell who answered."""
    if statistics is None or not address.version:
        return None
    try:
        counted = read_statistics(statistics, address)
    except FaultError:
        return None
    return Counters(inferences=counted.inferences, cache_hits=counted.cache_hits, failures=counted.failed)


def offers_traces(server: Json) -> bool:
    return "trace" in (server.get("extensions") or ())


async def optional(call: Awaitable[T]) -> T | None:
    """The answer to a call that a server need not offer, or may keep from us."""
    try:
        return await call
    except FaultError as error:
        if error.fault.kind in _NOT_OFFERED:
            return None
        raise
