"""The configuration file: YAML → each component's own settings.

Nothing below this layer imports it. Every error names the file, the line, the path of the field,
what is wrong with it and what is allowed.
"""

from collections.abc import Iterable, Iterator, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Self

import yaml
from pydantic import BeforeValidator, Field, ValidationError, WithJsonSchema, model_validator
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import ErrorDetails
from pydantic_core.core_schema import WithDefaultSchema

from watchdog.assess import AssessSettings
from watchdog.canary_drift import CanaryDriftSettings
from watchdog.channels import ChannelSettings
from watchdog.drift.promise import parse
from watchdog.endpoints import EndpointSettings
from watchdog.endpoints.server import ServerSettings
from watchdog.gpu import GpuSettings
from watchdog.heartbeat import HeartbeatSettings
from watchdog.journal.retention import JournalSettings
from watchdog.live.settings import LiveSettings, ShadowSettings, chosen, promise_of_each
from watchdog.model.engine import Address, Engine, Role
from watchdog.model.score import Promise
from watchdog.panel import ProbeSettings
from watchdog.policy.settings import Allowed, PolicySettings
from watchdog.readings import names_of
from watchdog.routers import RouterSettings, means_of
from watchdog.server_tls import ServerTls
from watchdog.settings import (
    BareNumber,
    Duration,
    FieldError,
    Listen,
    LocalPath,
    Secret,
    Settings,
    complaint,
    place,
    spell,
)
from watchdog.sharing import SharingSettings
from watchdog.target_patterns import allows, example, refuse
from watchdog.traces import TracesSettings

_MAX_BYTES = 4 * 2**20

Location = tuple[int | str, ...]


class ConfigError(ValueError):
    """A configuration that can't be used. `problems` has a line for each thing to mend."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$")]


def _as_text(version: Any) -> Any:
    return str(version) if isinstance(version, int) and not isinstance(version, bool) else version


Version = Annotated[str, BeforeValidator(_as_text), WithJsonSchema({"type": ["string", "integer"]})]


class EngineSettings(Settings):
    """Where one engine is asked for by itself. What is left out is as for the model."""

    version: Version = ""
    model: str = ""
    endpoint: str = ""


class EnginesSettings(Settings):
    fast: EngineSettings
    safe: EngineSettings


class PublicSettings(Settings):
    """The name that ordinary traffic uses, where it is not the model's name at its endpoint."""

    model: str = ""
    endpoint: str = ""


class CanarySettings(Settings):
    path: LocalPath
    """A DICOM file, or a folder of them."""
    recipe: LocalPath
    """How an image becomes the model's input (YAML)."""
    allow: tuple[str, ...] = ()
    """Identifying attributes that may stay, each by its DICOM keyword."""


class DriftSettings(Settings):
    """Small, lasting changes, found by sequential detectors that promise how rarely they are wrong."""

    canary: CanaryDriftSettings | None = CanaryDriftSettings()
    """Canaries' answers; null turns it off."""
    live: LiveSettings | None = None
    """Answers to patients' images, as a gateway reports them."""
    shadow: ShadowSettings | None = None
    """Mirrored requests, sent to both engines."""
    record: bool = False
    """Whether observations go into the journal, for ``watchdog replay``: numbers, and nothing of a patient."""


class ModelSettings(AssessSettings):
    """One watched model."""

    name: Name
    endpoint: str
    """The endpoint that serves it, by name."""
    engines: EnginesSettings
    public: PublicSettings = PublicSettings()
    canaries: CanarySettings
    baseline: LocalPath
    """The folder that ``watchdog baseline`` writes."""
    probe: ProbeSettings = ProbeSettings()
    objective: float = Field(default=0.999, gt=0, lt=1)
    """The share of probes of the public name that should be answered rightly and in time; alerts about how fast its
    error budget burns hold against it."""
    policy: PolicySettings = PolicySettings()
    drift: DriftSettings = DriftSettings()
    router: RouterSettings | None = None
    shared: bool = False
    """Whether other watchdogs watch, and may move, the same route; `sharing` says which of them does."""
    device_output: str = ""
    """An output in which the model tells its own device time in seconds, as one that times its CUDA
    events can; it is asked for with each probe, and is no answer."""

    def engine(self, role: Role) -> Engine:
        own = self.engines.fast if role is Role.FAST else self.engines.safe
        address = Address(endpoint=own.endpoint or self.endpoint, model=own.model or self.name, version=own.version)
        return Engine(role=role, address=address)

    @property
    def public_address(self) -> Address:
        return Address(endpoint=self.public.endpoint or self.endpoint, model=self.public.model or self.name)

    def endpoints(self) -> Iterator[tuple[tuple[str, ...], str]]:
        """Every field that names an endpoint, and the name."""
        yield ("endpoint",), self.endpoint
        yield ("engines", "fast", "endpoint"), self.engines.fast.endpoint
        yield ("engines", "safe", "endpoint"), self.engines.safe.endpoint
        yield ("public", "endpoint"), self.public.endpoint

    def canary_promise(self) -> Promise | None:
        """What the canaries' detector promises, at this model's cadence; None where it is off."""
        canary = self.drift.canary
        return None if canary is None else parse(canary.false_alarms, rate_per_s=1 / self.probe.every)

    def latency_promise(self) -> Promise | None:
        """The same for jumps of their latency."""
        jump = self.latency.jump
        return None if jump is None else parse(jump.false_alarms, rate_per_s=1 / self.probe.every)

    def _refuse_small_references(self) -> None:
        readings = names_of(self.outputs)
        live, shadow = self.drift.live, self.drift.shadow
        for kind, settings, named in (("live", live, live.readings if live else ()), ("shadow", shadow, ())):
            if settings is None:
                continue
            try:
                promise_of_each(settings, len(chosen(readings, named)))
            except ValueError as error:
                raise FieldError(["drift", kind], str(error)) from error

    def _refuse_route(self, router: RouterSettings) -> None:
        try:
            router.refuse({role: self.engine(role).address for role in Role})
        except ValueError as error:
            raise FieldError(["router"], str(error)) from error
        means = means_of(router)
        if self.policy.steps != (100,) and not means.weighted:
            raise FieldError(["policy", "steps"], f"a {router.kind} router moves all traffic or none: remove them")
        if self.policy.recovery is not None and not means.keeps_both:
            problem = (
                f"a {router.kind} router unloads the fast engine, which then can't be proven beside: promote by hand"
            )
            raise FieldError(["policy", "recovery"], problem)

    @model_validator(mode="after")
    def _coherent(self) -> Self:
        try:
            self.canary_promise()
        except ValueError as error:
            raise FieldError(["drift", "canary", "false_alarms"], str(error)) from error
        try:
            self.latency_promise()
        except ValueError as error:
            raise FieldError(["latency", "jump", "false_alarms"], str(error)) from error
        self._refuse_small_references()
        if self.device_output in (output.name for output in self.outputs):
            raise FieldError(["device_output"], f"{self.device_output!r} is one of outputs: remove it there")
        if self.engine(Role.FAST).address == self.engine(Role.SAFE).address:
            raise FieldError(["engines"], "fast and safe are the same engine; give them different versions or models")
        for role in Role:
            if self.engine(role).address == self.public_address:
                problem = "is the public name itself; give it a version, a model or an endpoint of its own"
                raise FieldError(["engines", role], problem)
        if self.policy.action is Allowed.ROLLBACK and self.router is None:
            raise FieldError(["policy", "action"], "is rollback, but there is no router to do it with")
        if self.router is not None:
            self._refuse_route(self.router)
        _refuse_repeated("outputs", [output.name for output in self.outputs])
        return self


class Asked(StrEnum):
    """Under which of a model's addresses a target is asked."""

    PUBLIC = "public"
    FAST = "fast"
    SAFE = "safe"


class ModuleSettings(Settings):
    """Lends a watched model's canaries, limits and headers to ``/probe?module=&target=``."""

    name: Name
    model: str
    """The watched model, by name."""
    engine: Asked = Asked.PUBLIC
    """Whether the target is asked for its public name, or for one engine."""
    targets: tuple[str, ...] = Field(min_length=1)
    """Whom it may be asked of, such as ``triton-*.imaging:8001``, as the endpoint's `url` has it: the model's secret
    headers go to nobody else. A star stands for a part of one label, and for no dot, colon or slash."""
    deadline: Duration | None = None
    """By default the model's."""

    @property
    def role(self) -> Role | None:
        """The engine that is asked by itself; None for the public name."""
        return None if self.engine is Asked.PUBLIC else Role(self.engine)

    def allows(self, target: str) -> bool:
        """Whether one of the patterns names it."""
        return any(allows(pattern, target) for pattern in self.targets)

    def endpoint_of(self, model: ModelSettings) -> str:
        """The endpoint whose kind, TLS and headers it borrows, by name."""
        return (model.public_address if self.role is None else model.engine(self.role).address).endpoint

    def check(self, models: Sequence[ModelSettings], endpoints: Sequence[EndpointSettings]) -> None:
        """Raises FieldError for what doesn't fit the rest of the configuration."""
        model = next((one for one in models if one.name == self.model), None)
        if model is None:
            known = ", ".join(one.name for one in models)
            raise FieldError(["model"], f"there is no model {self.model!r}; known are {known}")
        endpoint = next(one for one in endpoints if one.name == self.endpoint_of(model))
        for i, pattern in enumerate(self.targets):
            try:
                refuse(pattern)
                at_target(endpoint, example(pattern))
            except ValidationError as error:
                said = complaint(error.errors(include_url=False)[0])
                raise FieldError(
                    ["targets", i], f"{pattern!r} is nothing that {endpoint.name} could be: {said}"
                ) from error
            except ValueError as error:
                raise FieldError(["targets", i], str(error)) from error


def at_target(endpoint: EndpointSettings, url: str) -> EndpointSettings:
    """The same way of speaking, to another server.

    Its page of metrics is left behind, which is of one server only.

    Raises:
        ValidationError: `url` is nothing that this kind takes.
        ValueError: it runs in-process, so that there is no other server.
    """
    if not isinstance(endpoint, ServerSettings):
        raise ValueError(f"{endpoint.name} is an engine in this process: a module needs a server's endpoint")  # noqa: TRY004 - a setting is wrong
    return type(endpoint).model_validate(endpoint.model_dump(exclude={"metrics"}) | {"url": url})


class ApiSettings(Settings):
    """The watchdog's own HTTP server."""

    listen: Listen = "127.0.0.1:9469"
    """Host and port; port 0 takes any free one."""
    tls: ServerTls | None = None
    """Plain HTTP without it."""
    token: Secret | None = None
    """Without one, nobody can command the watchdog over HTTP. While it is rotated, a line for each that is valid."""
    hook_token: Secret | None = None
    """A second one, which only controllers' hooks take: Flagger keeps its token where many can read it."""


class Config(Settings):
    """The whole configuration file."""

    state: LocalPath = Path("watchdog-state")
    """The folder for the journal; it must outlive the process."""
    api: ApiSettings = ApiSettings()
    endpoints: tuple[EndpointSettings, ...] = Field(min_length=1)
    models: tuple[ModelSettings, ...] = Field(min_length=1)
    channels: tuple[ChannelSettings, ...] = ()
    heartbeats: tuple[HeartbeatSettings, ...] = ()
    """Dead-man's switches, which notice when nobody watches any more."""
    modules: tuple[ModuleSettings, ...] = ()
    """What ``/probe`` can ask of servers that a caller names."""
    journal: JournalSettings = JournalSettings()
    """How long what was recorded is kept."""
    sharing: SharingSettings | None = None
    """Who decides about models whose route several watchdogs share."""
    traces: TracesSettings | None = None
    """Where servers send the traces of canaries' requests; without it device times are not each probe's own."""
    gpu: GpuSettings | None = GpuSettings()
    """How the GPUs beside the server are watched; null turns it off."""

    @model_validator(mode="after")
    def _coherent(self) -> Self:
        for kind, named in (
            ("endpoints", self.endpoints),
            ("models", self.models),
            ("channels", self.channels),
            ("heartbeats", self.heartbeats),
            ("modules", self.modules),
        ):
            _refuse_repeated(kind, [item.name for item in named])
        known = {endpoint.name for endpoint in self.endpoints}
        if self.sharing is not None and not any(model.shared for model in self.models):
            raise FieldError(["sharing"], "is given, but no model is `shared: true`")
        if self.api.token is not None and self.api.token == self.api.hook_token:
            raise FieldError(["api", "hook_token"], "is the same file as api.token: hooks would command")
        for i, model in enumerate(self.models):
            if model.shared and self.sharing is None:
                raise FieldError(["models", i, "shared"], "is true, but `sharing` does not say who decides")
            for at, name in model.endpoints():
                if name and name not in known:
                    problem = f"there is no endpoint {name!r}; known are {', '.join(sorted(known))}"
                    raise FieldError(["models", i, *at], problem)
        for i, module in enumerate(self.modules):
            try:
                module.check(self.models, self.endpoints)
            except FieldError as error:
                raise FieldError(["modules", i, *error.at], str(error)) from error
        return self


def _refuse_repeated(kind: str, names: Sequence[str]) -> None:
    for i, name in enumerate(names):
        if name in names[:i]:
            raise FieldError([kind, i, "name"], f"{name!r} is given twice")


def read(path: Path) -> Config:
    """Read and check a configuration file.

    Raises:
        ConfigError: with a line for each thing to mend.
    """
    tree, data = _parse(path, _text(path))
    if tree is None or not isinstance(data, dict):
        raise ConfigError([f"{path}: must hold keys and values at its top level, such as `endpoints:` and `models:`"])
    try:
        return Config.model_validate(data, context={"folder": path.parent.resolve()})
    except ValidationError as error:
        raise ConfigError(_located(path, tree, error)) from error


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            raw = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError([f"{path}: can't be read: {error.strerror}"]) from error
    if len(raw) > _MAX_BYTES:
        raise ConfigError([f"{path}: larger than {_MAX_BYTES >> 20} MiB; is it the right file?"])
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise ConfigError([f"{path}:{line}: not UTF-8 text: {error.reason} (byte {error.start})"]) from error


def _parse(path: Path, text: str) -> tuple[yaml.Node | None, Any]:
    """The YAML nodes, which know their lines, and what they mean."""
    try:
        loader = _Loader(text)
        tree = loader.get_single_node()
        return tree, None if tree is None else loader.construct_document(tree)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        problem = ", ".join(part for part in (error.context, error.problem) if part)
        advice = "; indent with spaces, not with tabs" if r"'\t'" in problem else ""
        raise ConfigError([f"{path}:{line}: not YAML: {problem}{advice}"]) from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise ConfigError([f"{path}:{line}: not YAML: the character U+{error.character:04X} is not allowed"]) from error
    except RecursionError as error:
        raise ConfigError([f"{path}: nested too deeply"]) from error


class _Loader(yaml.SafeLoader):
    """A safe loader that refuses a key given twice, and says where it is that a value can't be read."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node: yaml.MappingNode = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if (key.tag, key.value) in seen:
                    raise yaml.constructor.ConstructorError(None, None, f"{key.value!r} is given twice", key.start_mark)
                seen.add((key.tag, key.value))
        return node

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            value = super().construct_object(node, deep)
        except (ValueError, LookupError, AttributeError, TypeError, OverflowError) as error:  # as its parsers please
            kind = node.tag.rpartition(":")[2]
            problem = f"{str(node.value)[:80]!r} can't be read as {kind}: {error}"
            raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark) from error
        return BareNumber(value) if isinstance(value, float) else value


def _located(path: Path, tree: yaml.Node, error: ValidationError) -> list[str]:
    problems = []
    found = error.errors(include_url=False)
    for one in found:
        if one["type"] == "too_short" and any(_is_below(other["loc"], one["loc"]) for other in found):
            continue  # its entries are wrong, not missing
        node, line, where = _locate(tree, place(one))
        said = f"{complaint(one)}{_advice(one, node)}"
        problems.append(f"{path}:{line}: {spell(where) or 'the document'}: {said}")
    return problems


def _is_below(path: Location, other: Location) -> bool:
    return len(path) > len(other) and path[: len(other)] == other


def _advice(error: ErrorDetails, node: yaml.Node) -> str:
    """What pydantic can't know: the keys there are, and what YAML made of an unquoted word."""
    if error["type"] == "extra_forbidden":
        return f"; allowed are {', '.join(_keys(error['loc'][:-1]))}"
    wants_text = error["type"].startswith("string_") or error["type"] == "enum"
    if wants_text and isinstance(node, yaml.ScalarNode) and not isinstance(error["input"], str):
        return f"; YAML reads {node.value or 'nothing'} as {node.tag.rpartition(':')[2]}: put it into quotes"
    return ""


def _keys(path: Location) -> list[str]:
    """The keys of the section at `path`, which has pydantic's steps into the kinds of a union."""
    schema = Config.model_json_schema()
    section = schema
    for part in path:
        if isinstance(part, int):
            section = section["items"]
        elif "discriminator" in section:
            section = {"$ref": section["discriminator"]["mapping"][part]}
        else:
            section = section.get("properties", {}).get(part) or section["additionalProperties"]
        section = next((one for one in section.get("anyOf", ()) if one.get("type") != "null"), section)
        if "$ref" in section:
            section = schema["$defs"][section["$ref"].rpartition("/")[2]]
    return list(section["properties"])


def _locate(node: yaml.Node, path: Location) -> tuple[yaml.Node, int, Location]:
    """The deepest part of `path` that is in the file, its line, and the path as the file has it.

    Pydantic puts the chosen kind of a union into the path, and a mark for a key; the file has no
    such steps.
    """
    line = node.start_mark.line + 1
    seen: list[int | str] = []
    for part in path:
        if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line + 1
        elif isinstance(node, yaml.MappingNode):
            entries = {key.value: (key, value) for key, value in node.value if isinstance(key, yaml.ScalarNode)}
            if part in entries:
                key, node = entries[part]
                line = key.start_mark.line + 1
            elif "kind" in entries and part == entries["kind"][1].value:
                continue
        elif part == "[key]":
            continue
        seen.append(part)
    return node, line, tuple(seen)


class _InOurUnits(GenerateJsonSchema):
    """Writes a duration's default as the file would, which pydantic does for nested ones only."""

    def default_schema(self, schema: WithDefaultSchema) -> dict[str, Any]:
        made = super().default_schema(schema)
        if made.get("type") == "string" and isinstance(made.get("default"), float):
            made["default"] = f"{made['default']:.15g}s"
        return made


def json_schema() -> dict[str, Any]:
    """The file's JSON Schema, for editors."""
    schema = Config.model_json_schema(schema_generator=_InOurUnits)
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "The watchdog's configuration"
    return schema
