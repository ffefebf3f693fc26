"""Whether a baseline belongs to what is in use. Pure."""

from collections.abc import Mapping, Sequence

from watchdog.model.baseline import Baseline
from watchdog.model.canary import Canary
from watchdog.model.engine import Description, Engine, Role


def against_inputs(baseline: Baseline, model: str, canaries: Sequence[Canary], recipe_sha256: str) -> list[str]:
    """What differs between a baseline and the canaries and recipe in use; empty if nothing does."""
    differs = []
    if baseline.model != model:
        differs.append(f"it was captured for model {baseline.model!r}, not {model!r}")
    if baseline.recipe_sha256 != recipe_sha256:
        differs.append(f"the recipe changed (then {baseline.recipe_sha256[:12]}…, now {recipe_sha256[:12]}…)")
    now = {canary.id: canary.sha256 for canary in canaries}
    differs += [f"canary {canary} is new" for canary in sorted(now.keys() - baseline.canaries.keys())]
    differs += [f"canary {canary} is missing" for canary in sorted(baseline.canaries.keys() - now.keys())]
    differs += [
        f"canary {canary} has another content (SHA-256)"
        for canary in sorted(now.keys() & baseline.canaries.keys())
        if now[canary] != baseline.canaries[canary]
    ]
    return differs


def against_versions(baseline: Baseline, engines: Mapping[Role, Engine]) -> list[str]:
    """What differs between the versions that a baseline was captured from and the configured ones."""
    return [
        f"the {role} engine was version {reference.version or 'unnamed'}, "
        f"the configuration says {engines[role].address.version or 'none'}"
        for role, reference in baseline.engines.items()
        if reference.version != engines[role].address.version
    ]


def against_tag(baseline: Baseline, safe: Description) -> list[str]:
    """What differs between the safe engine that made the golden answers and the one that is served now.

    The fast engine's tag does not bind: another fast engine is what the watchdog is there to judge.
    """
    then, now = baseline.engines[Role.SAFE].tag, safe.tag
    return [] if then == now else [f"the safe engine's tag was {then or 'none'}, now it is {now or 'none'}"]
