"""Tries everything that a configuration names and changes nothing."""

import asyncio
import os
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from watchdog.assembly import (
    AssemblyError,
    Inputs,
    Surroundings,
    ask_engines,
    ask_router,
    keep_time,
    load_baseline,
    load_inputs,
    make_prober,
    open_endpoints,
    refuse_other_engine,
    surround,
)
from watchdog.config import ApiSettings, Config, ModelSettings
from watchdog.gpu import open_gpus
from watchdog.journal.reading import FILE_NAME, opened
from watchdog.kubernetes import Kubernetes, KubernetesError, NotFoundError
from watchdog.model.baseline import Baseline
from watchdog.model.canary import Canary
from watchdog.model.engine import Description, Role, TensorSpec
from watchdog.model.fault import Fault
from watchdog.model.gpu import GpuReading, GpuState, SourceState
from watchdog.model.probe import Timing
from watchdog.model.tensor import dtype_name
from watchdog.model.verdict import Verdict
from watchdog.prober import Prober
from watchdog.server_tls import server_context
from watchdog.settings import Secret, Settings
from watchdog.sharing import SharingSettings
from watchdog.timekeeper import Timekeeper
from watchdog.traces import TracesSettings
from watchdog.tracing import FIRST_SOUND, may_crash


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
        items += _api(config.api)
        items.append(_journal(config.state))
        if config.sharing is not None:
            items.append(await _lease(config.sharing))
        for channel in config.channels:
            secrets = [*channel.secret_headers.values(), *channel.secrets_of_kind]
            items.append(_secrets(f"channel {channel.name}", secrets))
        gpus = await _read_gpus(config, stack)
        if gpus is not None:
            items.append(_gpus(gpus))
        try:
            timekeeper = await stack.enter_async_context(keep_time(config.traces))
        except AssemblyError as error:
            return [*items, Item(ok=False, what="traces", detail="\n".join(error.problems))]
        around = surround(endpoints, timekeeper)
        for model in config.models:
            items += await _model(config, model, around, gpus)
    return items


def _api(settings: ApiSettings) -> list[Item]:
    tokens = {"api.token": settings.token, "api.hook_token": settings.hook_token}
    items = [_secrets(what, [token]) for what, token in tokens.items() if token is not None]
    if settings.tls is not None:
        try:
            server_context(settings.tls, lambda _: None)
            items.append(Item(ok=True, what="api.tls", detail=f"can be used: {settings.tls.cert}"))
        except ValueError as error:
            items.append(Item(ok=False, what="api.tls", detail=str(error)))
    return items


def _journal(state: Path) -> Item:
    file = state / FILE_NAME
    if not file.exists():
        beside = next(folder for folder in (state, *state.parents) if folder.exists())
        ok = beside.is_dir() and os.access(beside, os.W_OK)
        return Item(ok=ok, what="journal", detail=f"{file} will be made" if ok else f"{beside} can't be written to")
    try:
        with opened(file) as journal:
            first, last = journal.bounds()
    except OSError as error:
        return Item(ok=False, what="journal", detail=f"{file}: {error.strerror}")
    return Item(ok=True, what="journal", detail=f"{file} has {last - first + 1} entries")


async def _lease(settings: SharingSettings) -> Item:
    """Whether the API server can be asked; the Lease itself is made by who runs first."""
    what, lease = "sharing", settings.lease
    api = Kubernetes(lease)
    try:
        namespace = api.namespace()
        found = await api.get(f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases/{lease.name}")
    except NotFoundError:
        return Item(ok=True, what=what, detail=f"the Lease {namespace}/{lease.name} will be made")
    except KubernetesError as error:
        return Item(ok=False, what=what, detail=str(error))
    holder = found.get("spec", {}).get("holderIdentity") or "nobody"
    return Item(ok=True, what=what, detail=f"the Lease {namespace}/{lease.name} is held by {holder}")


async def _read_gpus(config: Config, stack: AsyncExitStack) -> GpuReading | None:
    if config.gpu is None:
        return None
    source = open_gpus(config.gpu)
    stack.push_async_callback(source.close)
    return await source.read(config.gpu.deadline)


def _gpus(reading: GpuReading) -> Item:
    """That there is no GPU to watch is told, and is no mistake: the server may be elsewhere."""
    if reading.state is not SourceState.UP:
        ok = reading.state is SourceState.ABSENT
        return Item(ok=ok, what="gpu", detail=f"not watched ({reading.state}): {reading.detail}")
    told = [
        f"{gpu.uuid} {gpu.name}".strip() + ("" if gpu.state is GpuState.UP else f" ({gpu.state})")
        for gpu in reading.gpus
    ]
    ok = all(gpu.state is GpuState.UP for gpu in reading.gpus)
    return Item(ok=ok, what="gpu", detail=f"by {reading.source}: {', '.join(told) or 'none'}")


_SILENT_ROUTERS = frozenset({"dry-run", "pull"})
"""Kinds that can't tell a route by their nature."""


def _secrets_in(settings: Settings) -> list[Secret]:
    """All that one component's settings name."""
    values = [value for _, value in settings]
    values += [one for value in values if isinstance(value, Mapping) for one in value.values()]
    return [value for value in values if isinstance(value, Secret)]


def _secrets(what: str, secrets: Sequence[Secret]) -> Item:
    """Whether the files can be read; nobody is written to."""
    try:
        for secret in secrets:
            secret.read()
    except ValueError as error:
        return Item(ok=False, what=what, detail=str(error))
    files = ", ".join(str(secret.file) for secret in secrets)
    return Item(ok=True, what=what, detail=f"can be read: {files}" if files else "needs no secret")


async def _model(config: Config, model: ModelSettings, around: Surroundings, gpus: GpuReading | None) -> list[Item]:
    name = model.name
    said = await ask_engines(model, around.endpoints)
    items = [_engine(model, role, said[role]) for role in Role]
    items.append(_tracing(config, model, said, around.timekeeper))
    items += _objectives(config, model)
    items += [
        Item(ok=False, what=f"{name} {role} engine", detail=problem)
        for role, one in said.items()
        if not isinstance(one, Fault)
        for problem in one.unreadable
    ]
    route = await ask_router(model)
    if route is not None and model.router is not None:
        secrets = _secrets_in(model.router)
        items += [_secrets(f"{name} router", secrets)] * bool(secrets)
        ok = route.role is not None or model.router.kind in _SILENT_ROUTERS
        items.append(Item(ok=ok, what=f"{name} router", detail=route.detail))
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
    prober = make_prober(model, inputs, baseline, around)
    runtimes = {endpoint.name: endpoint.runtime for endpoint in config.endpoints}
    for role, description in said.items():
        if not isinstance(description, Fault):
            prober.told(role, description)
            runtime = runtimes[model.engine(role).address.endpoint]
            found = prober.judge.of_engine(role, description, runtime=runtime, gpus=gpus)
            items += [Item(ok=False, what=f"{name} {role} engine", detail=str(finding)) for finding in found]
    serving = Role.FAST if route is None or route.role is None else route.role
    return [*items, *await _probes(prober, inputs.canaries.canaries[0], serving)]


def _tracing(
    config: Config, model: ModelSettings, said: Mapping[Role, Description | Fault], timekeeper: Timekeeper
) -> Item:
    """Whether each probe's own device time can be known, and what to do for it: by the server that is worst off."""
    what = f"{model.name} device time"
    if all(_kind(config, model, role) == "tensorrt" for role in Role):
        return Item(ok=True, what=what, detail="by CUDA events: its engines run in this process")
    flags = f"start Triton with {trace_flags(config.traces or TracesSettings())}"
    if config.traces is None:
        how = "from the model's own output" if model.device_output else "only as a mean of all traffic (shared)"
        return Item(ok=True, what=what, detail=f"{how}; for each probe's split put `traces: {{}}` here and {flags}")
    found = [
        _traced(one, config.traces, flags, listening=timekeeper.listening)
        for one in said.values()
        if not isinstance(one, Fault)
    ]
    ok, detail = min(found, key=lambda each: each[0], default=_untold(flags))
    return Item(ok=ok, what=what, detail=detail)


def _untold(flags: str) -> tuple[bool, str]:
    return True, f"the server does not say whether it traces; if it is a Triton, {flags}"


def _traced(said: Description, settings: TracesSettings, flags: str, *, listening: bool) -> tuple[bool, str]:
    """Whether one server does its part, and what is to be said of it."""
    told = said.tracing
    if told is None:
        return _untold(flags)
    if not told.on:
        return False, f"the server does not trace (mode {told.mode}): {flags}"
    if told.rate != 0:
        every = "all requests" if told.rate == 1 else f"one request in {told.rate}"
        return False, f"the server traces {every} (rate {told.rate}), which costs patients' traffic: {flags}"
    if may_crash(said) and not settings.despite_crashes:
        return False, (
            f"{said.server} is not asked to trace, since it may crash of it: run {FIRST_SOUND[0]}.{FIRST_SOUND[1]} or "
            "newer, or accept that with `traces.despite_crashes: true`; until then device times are shared"
        )
    if not listening:
        return True, f"{settings.listen} is in use: by the watchdog that runs now, or else it can't start"
    return True, f"the server traces canaries, and sends to {told.url}"


def _objectives(config: Config, model: ModelSettings) -> list[Item]:
    """Objectives that can never be judged: nothing here measures it, or too rarely."""
    problems = []
    for window in model.latency.windows:
        what, most = f"the {window.engine} engine's {window.measure} time", int(window.over / model.probe.every)
        if config.traces is None and window.measure not in _untraced(config, model, window.engine):
            problems.append(f"{what} is not known without `traces`")
        if most < window.least:
            problems.append(f"{what} is probed {most} times within {window.over:g} s, and `least` is {window.least}")
    return [Item(ok=False, what=f"{model.name} objective", detail=problem) for problem in problems]


def _untraced(config: Config, model: ModelSettings, role: Role) -> set[str]:
    """What of an engine's times can be known without a trace."""
    own = {"host", "device"}
    match _kind(config, model, role):
        case "tensorrt":
            return {"total", *own, "queue", "input-copy", "output-copy"}
        case "oip-http":  # where it sends Server-Timing
            return {"total", *own}
        case _:
            return {"total", *(own if model.device_output else ())}


def _kind(config: Config, model: ModelSettings, role: Role) -> str:
    endpoint = model.engine(role).address.endpoint
    return next(str(each.kind) for each in config.endpoints if each.name == endpoint)


def trace_flags(settings: TracesSettings) -> str:
    """What makes a Triton on this machine trace canaries, and nothing else, and send that here."""
    host, _, port = settings.listen.rpartition(":")
    reachable = "THIS-HOST" if host in ("0.0.0.0", "[::]") else host  # noqa: S104 - what the user wrote
    flags = (
        "mode=opentelemetry",
        "rate=0",
        "level=TIMESTAMPS",
        f"opentelemetry,url=http://{reachable}:{port}/v1/traces",
        "opentelemetry,bsp_schedule_delay=500",
    )
    return " ".join(f"--trace-config {flag}" for flag in flags)


def _engine(model: ModelSettings, role: Role, said: Description | Fault) -> Item:
    engine = model.engine(role)
    what = f"{model.name} {role} engine"
    if isinstance(said, Fault):
        return Item(ok=False, what=what, detail=f"{engine}: {said}")
    names = {spec.name for spec in said.outputs}
    wanted = [output.name for output in model.outputs] + [model.device_output] * bool(model.device_output)
    missing = [name for name in wanted if name not in names]
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


async def _probes(prober: Prober, canary: Canary, serving: Role) -> list[Item]:
    """One canary through each engine and through the public name."""
    model = prober.target.model
    items = []
    for what, role, public in (("safe", Role.SAFE, False), ("fast", Role.FAST, False), ("public", serving, True)):
        assessment = await prober.probe(canary, role, public=public)
        known = await prober.timekeeper.settled([assessment.result], prober.patience_s)
        took = _took(known[0].timing if known else assessment.result.timing)
        detail = str(assessment.worst) if assessment.worst else f"{canary.id} came back right in {took}"
        items.append(Item(ok=assessment.verdict is Verdict.HEALTHY, what=f"{model} {what} probe", detail=detail))
    return items


def _took(timing: Timing) -> str:
    whole = f"{timing.total_s * 1e3:.1f} ms"
    if timing.device_s is None:
        return whole
    return f"{whole}, of which the device {timing.device_s * 1e3:.2f} ms ({timing.attribution})"
