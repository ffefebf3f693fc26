"""Tries everything that a configuration names and changes nothing."""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

from watchdog.assembly import (
    AssemblyError,
    Inputs,
    ask_engines,
    ask_router,
    load_baseline,
    load_inputs,
    make_prober,
    open_endpoints,
    refuse_other_engine,
    surround,
)
from watchdog.config import Config, ModelSettings
from watchdog.model.baseline import Baseline
from watchdog.model.canary import Canary
from watchdog.model.engine import Description, Role, TensorSpec
from watchdog.model.fault import Fault
from watchdog.model.tensor import dtype_name
from watchdog.model.verdict import Verdict
from watchdog.ports import Endpoint
from watchdog.settings import Secret


@dataclass(frozen=True, kw_only=True, slots=True)
class Item:
    """One thing that was tried."""

    ok: bool
    what: str
    detail: str

    def to_json(self) -> dict[str, Any]:
        return {"ok": self.ok, "what": self.what, "detail": self.detail}


async def check(config: Config) -> list[Item]:
    """One item for each thing tried, in the order in which a person would mend them."""
    items: list[Item] = []
    async with AsyncExitStack() as stack:
        endpoints = open_endpoints(config, stack)
        if config.api.token is not None:
            items.append(_secrets("api.token", [config.api.token]))
        for channel in config.channels:
            secrets = [*channel.secret_headers.values(), *channel.secrets_of_kind]
            items.append(_secrets(f"channel {channel.name}", secrets))
        for model in config.models:
            items += await _model(model, endpoints)
    return items


def _secrets(what: str, secrets: Sequence[Secret]) -> Item:
    """Whether the files can be read; nobody is written to."""
    try:
        for secret in secrets:
            secret.read()
    except ValueError as error:
        return Item(ok=False, what=what, detail=str(error))
    files = ", ".join(str(secret.file) for secret in secrets)
    return Item(ok=True, what=what, detail=f"can be read: {files}" if files else "needs no secret")


async def _model(model: ModelSettings, endpoints: Mapping[str, Endpoint]) -> list[Item]:
    name = model.name
    said = await ask_engines(model, endpoints)
    items = [_engine(model, role, said[role]) for role in Role]
    route = await ask_router(model)
    if route is not None:
        items.append(Item(ok=route.role is not None, what=f"{name} router", detail=route.detail))
    try:
        inputs = await asyncio.to_thread(load_inputs, model)
    except AssemblyError as error:
        return [*items, Item(ok=False, what=f"{name} canaries", detail="\n".join(error.problems))]
    items += _canaries(model, inputs)
    safe = said[Role.SAFE]
    if not isinstance(safe, Fault):
        items += _fits(model, inputs.canaries.canaries, safe)
    try:
        baseline = await asyncio.to_thread(load_baseline, model, inputs)
        refuse_other_engine(model, baseline, said)
    except AssemblyError as error:
        return [*items, Item(ok=False, what=f"{name} baseline", detail="\n".join(error.problems))]
    captured = f"captured {baseline.created_at} on {baseline.server}"
    items.append(Item(ok=True, what=f"{name} baseline", detail=captured))
    items.append(_drift(model, baseline))
    serving = Role.FAST if route is None or route.role is None else route.role
    return [*items, *await _probes(model, inputs, baseline, endpoints, serving)]


def _engine(model: ModelSettings, role: Role, said: Description | Fault) -> Item:
    engine = model.engine(role)
    what = f"{model.name} {role} engine"
    if isinstance(said, Fault):
        return Item(ok=False, what=what, detail=f"{engine}: {said}")
    names = {spec.name for spec in said.outputs}
    missing = [output.name for output in model.outputs if output.name not in names]
    if missing:
        detail = f"{engine} has no output {missing[0]!r}; it has {', '.join(sorted(names))}"
        return Item(ok=False, what=what, detail=detail)
    cached = "; it has a response cache, so probes check that it did not answer" if said.response_cache else ""
    return Item(ok=True, what=what, detail=f"{engine} on {said.server}, tag {said.tag or 'none'}{cached}")


def _canaries(model: ModelSettings, inputs: Inputs) -> list[Item]:
    used = inputs.canaries.canaries
    profiles = ", ".join(sorted({canary.profile for canary in used}))
    refused = [
        Item(ok=False, what=f"{model.name} canary", detail=f"{r.source}: {r.reason}") for r in inputs.canaries.refused
    ]
    return [Item(ok=True, what=f"{model.name} canaries", detail=f"{len(used)} usable (profiles {profiles})"), *refused]


def _drift(model: ModelSettings, baseline: Baseline) -> Item:
    """What the sequential detectors promise, and whether the canaries' has what it needs."""
    promise, what = model.canary_promise(), f"{model.name} drift"
    told = [f"canaries: {promise}"] if promise else []
    told += [
        f"{kind}: {of.false_alarms}" for kind, of in (("live", model.drift.live), ("pairs", model.drift.shadow)) if of
    ]
    without = [role for role, engine in baseline.engines.items() if not any(engine.residuals.values())]
    if promise and without:
        detail = f"the baseline has no residuals of the {' and the '.join(without)} engine: give an output a kind"
        return Item(ok=True, what=what, detail=f"nothing to watch in canaries: {detail}")
    return Item(ok=True, what=what, detail="; ".join(told) or "off")


def _fits(model: ModelSettings, canaries: tuple[Canary, ...], said: Description) -> list[Item]:
    """Whether the canaries' tensors are what the engine says it takes; one item for each misfit profile."""
    wanted = {spec.name: spec for spec in said.inputs}
    misfits: dict[tuple[str, str], str] = {}
    for canary in canaries:
        for name, array in canary.inputs.items():
            problem = _misfit(name, dtype_name(array), array.shape, wanted.get(name))
            if problem is not None:
                misfits.setdefault((canary.profile, name), problem)
        for name in sorted(wanted.keys() - canary.inputs.keys()):
            misfits.setdefault((canary.profile, name), f"the engine wants the input {name!r}, the recipe makes none")
    return [
        Item(ok=False, what=f"{model.name} recipe", detail=f"profile {profile}: {problem}")
        for (profile, _), problem in misfits.items()
    ]


def _misfit(name: str, dtype: str, shape: tuple[int, ...], spec: TensorSpec | None) -> str | None:
    if spec is None:
        return f"the engine has no input {name!r}"
    if spec.dtype != dtype:
        return f"{name} is {dtype}, the engine wants {spec.dtype}"
    fits = len(shape) == len(spec.shape) and all(w in (-1, s) for s, w in zip(shape, spec.shape, strict=True))
    return None if fits else f"{name} has shape {list(shape)}, the engine wants {list(spec.shape)}"


async def _probes(
    model: ModelSettings, inputs: Inputs, baseline: Baseline, endpoints: Mapping[str, Endpoint], serving: Role
) -> list[Item]:
    """One canary through each engine and through the public name."""
    prober = make_prober(model, inputs, baseline, surround(endpoints))
    await prober.learn()
    canary = inputs.canaries.canaries[0]
    items = []
    for what, role, public in (("safe", Role.SAFE, False), ("fast", Role.FAST, False), ("public", serving, True)):
        assessment = await prober.probe(canary, role, public=public)
        took = f"{assessment.result.timing.total_s * 1e3:.1f} ms"
        detail = str(assessment.worst) if assessment.worst else f"{canary.id} came back right in {took}"
        items.append(Item(ok=assessment.verdict is Verdict.HEALTHY, what=f"{model.name} {what} probe", detail=detail))
    return items
