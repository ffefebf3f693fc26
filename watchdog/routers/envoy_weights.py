"""The model's routes in an Envoy ``RouteConfiguration``, and their weights."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from watchdog.settings import Settings

Clusters = Annotated[tuple[Annotated[str, Field(min_length=1)], ...], Field(min_length=1)]


class ClusterSettings(Settings):
    """Envoy's clusters by engine: several where HTTP and gRPC have clusters of their own."""

    fast: Clusters
    safe: Clusters

    @model_validator(mode="after")
    def _apart(self) -> Self:
        if both := sorted({*self.fast} & {*self.safe}):
            raise ValueError(f"{', '.join(both)} can't be fast and safe: give each engine clusters of its own")
        return self


@dataclass(frozen=True, kw_only=True, slots=True)
class Pair:
    """Two entries of a route's ``weighted_clusters``, as they stand in their document."""

    where: str
    fast: dict[str, Any]
    safe: dict[str, Any]

    @property
    def fast_percent(self) -> int | None:
        """None where the weights are no percentages."""
        match self.fast.get("weight"), self.safe.get("weight"):
            case int(fast), int(safe) if fast >= 0 and safe >= 0 and fast + safe == 100:
                return fast
            case _:
                return None

    def __str__(self) -> str:
        return ", ".join(f"{each['name']} {each.get('weight')}" for each in (self.fast, self.safe))


def agreed(pairs: Sequence[Pair]) -> int | None:
    """The fast engine's percentage, where all routes have the same."""
    shares = {pair.fast_percent for pair in pairs}
    return shares.pop() if len(shares) == 1 else None


def pairs_in(configurations: Iterable[Any], clusters: ClusterSettings) -> list[Pair]:
    """The model's routes in these ``RouteConfiguration`` objects.

    Raises:
        ValueError: they are none, or a route that is the model's has more than the two clusters.
    """
    try:
        return [
            pair
            for configuration in configurations
            for host in configuration.get("virtual_hosts", ())
            for number, route in enumerate(host.get("routes", ()))
            if (pair := _pair(f"{host['name']}.routes[{number}]", route, clusters)) is not None
        ]
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError("these are no RouteConfiguration objects with Envoy's own field names (snake_case)") from error


def _pair(where: str, route: dict[str, Any], clusters: ClusterSettings) -> Pair | None:
    weighted = route.get("route", {}).get("weighted_clusters", {})
    entries = weighted.get("clusters", ())
    fast = [entry for entry in entries if entry.get("name") in clusters.fast]
    safe = [entry for entry in entries if entry.get("name") in clusters.safe]
    if not fast and not safe:
        return None
    if (len(fast), len(safe), len(entries)) != (1, 1, 2):
        raise ValueError(f"{where}.route.weighted_clusters must have one fast and one safe cluster, and no other")
    if "runtime_key_prefix" in weighted:
        raise ValueError(f"{where}.route.weighted_clusters: remove runtime_key_prefix, which could override weights")
    return Pair(where=where, fast=fast[0], safe=safe[0])
