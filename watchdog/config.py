"""The configuration file: YAML → each component's own settings.

Nothing below this layer imports it. Every error names the file, the line, the path of the field,
what is wrong with it and what is allowed.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Self

import yaml
from pydantic import BeforeValidator, Field, ValidationError, field_validator, model_validator

from watchdog.assess import AssessSettings
from watchdog.channels import ChannelSettings
from watchdog.cycle import ProbeSettings
from watchdog.endpoints import EndpointSettings
from watchdog.model.engine import Address, Engine, Role
from watchdog.policy.decide import Allowed, PolicySettings
from watchdog.routers import RouterSettings
from watchdog.settings import LocalPath, Secret, Settings, complaint, spell

_MAX_BYTES = 4 * 2**20


class ConfigError(ValueError):
    """A configuration that can't be used. `problems` has a line for each thing to mend."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$")]


class EngineSettings(Settings):
    """Where one engine is asked for by itself. What is left out is as for the model."""

    version: Annotated[str, BeforeValidator(lambda v: str(v) if isinstance(v, int) else v)] = ""
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
    policy: PolicySettings = PolicySettings()
    router: RouterSettings | None = None

    def engine(self, role: Role) -> Engine:
        own = self.engines.fast if role is Role.FAST else self.engines.safe
        address = Address(endpoint=own.endpoint or self.endpoint, model=own.model or self.name, version=own.version)
        return Engine(role=role, address=address)

    @property
    def public_address(self) -> Address:
        return Address(endpoint=self.public.endpoint or self.endpoint, model=self.public.model or self.name)

    @model_validator(mode="after")
    def _coherent(self) -> Self:
        if self.engine(Role.FAST).address == self.engine(Role.SAFE).address:
            raise ValueError(
                "engines.fast and engines.safe are the same engine; give them different versions or models"
            )
        for role in Role:
            if self.engine(role).address == self.public_address:
                raise ValueError(
                    f"engines.{role} is the public name itself; give it a version, a model or an endpoint of its own"
                )
        if self.policy.action is Allowed.ROLLBACK and self.router is None:
            raise ValueError("policy.action is rollback, but there is no router to do it with")
        if self.router is not None:
            self.router.refuse({role: self.engine(role).address for role in Role})
        names = [output.name for output in self.outputs]
        if len(set(names)) < len(names):
            raise ValueError("outputs: two have the same name")
        return self


class ApiSettings(Settings):
    """The watchdog's own HTTP server."""

    listen: str = Field(default="127.0.0.1:9469", pattern=r"^(\[[0-9a-fA-F:]+\]|[^:\s]+):\d{1,5}$")
    """Host and port; port 0 takes any free one."""
    token: Secret | None = None
    """Without one, nobody can command the watchdog over HTTP."""

    @field_validator("listen")
    @classmethod
    def _port(cls, value: str) -> str:
        if int(value.rpartition(":")[2]) > 65535:
            raise ValueError("a port is at most 65535")
        return value

    @property
    def address(self) -> tuple[str, int]:
        host, _, port = self.listen.rpartition(":")
        return host.strip("[]"), int(port)


class Config(Settings):
    """The whole configuration file."""

    state: LocalPath = Path("watchdog-state")
    """The folder for the journal; it must outlive the process."""
    api: ApiSettings = ApiSettings()
    endpoints: tuple[EndpointSettings, ...] = Field(min_length=1)
    models: tuple[ModelSettings, ...] = Field(min_length=1)
    channels: tuple[ChannelSettings, ...] = ()

    @model_validator(mode="after")
    def _coherent(self) -> Self:
        for kind, named in (("endpoints", self.endpoints), ("models", self.models), ("channels", self.channels)):
            names = [item.name for item in named]
            if repeated := sorted({n for n in names if names.count(n) > 1}):
                raise ValueError(f"{kind}: the name {repeated[0]!r} is given twice")
        known = {endpoint.name for endpoint in self.endpoints}
        for i, model in enumerate(self.models):
            for address in (*(model.engine(role).address for role in Role), model.public_address):
                if address.endpoint not in known:
                    raise ValueError(
                        f"models[{i}] ({model.name}) names the endpoint {address.endpoint!r}; "
                        f"known are {', '.join(sorted(known))}"
                    )
        return self


def read(path: Path) -> Config:
    """Read and check a configuration file.

    Raises:
        ConfigError: with a line for each thing to mend.
    """
    try:
        with path.open("rb") as file:
            text = file.read(_MAX_BYTES + 1)
        if len(text) > _MAX_BYTES:
            raise ConfigError([f"{path}: larger than {_MAX_BYTES >> 20} MiB; is it the right file?"])
        tree = yaml.compose(text.decode(), Loader=yaml.SafeLoader)
        data = _Strict(text.decode()).get_single_data()
    except OSError as error:
        raise ConfigError([f"{path}: can't be read: {error.strerror}"]) from error
    except UnicodeDecodeError as error:
        raise ConfigError([f"{path}: not UTF-8 text: {error}"]) from error
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ConfigError([f"{path}:{line}: not YAML: {error.problem}"]) from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError([f"{path}: not YAML: {error}"]) from error
    if not isinstance(data, dict):
        raise ConfigError([f"{path}: must hold keys and values at its top level, such as `endpoints:` and `models:`"])
    try:
        return Config.model_validate(data, context={"folder": path.parent.resolve()})
    except ValidationError as error:
        raise ConfigError(_located(path, tree, error)) from error


class _Strict(yaml.SafeLoader):
    """A safe loader that refuses a key given twice instead of keeping the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, str) and key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"{key!r} is given twice", key_node.start_mark)
            seen.add(key if isinstance(key, str) else None)
        return super().construct_mapping(node, deep)


def _located(path: Path, tree: yaml.Node | None, error: ValidationError) -> list[str]:
    problems = []
    for one in error.errors(include_url=False):
        line, where = _locate(tree, one["loc"])
        problems.append(f"{path}:{line}: {spell(where) or 'the document'}: {complaint(one)}")
    return problems


def _locate(node: yaml.Node | None, path: tuple[int | str, ...]) -> tuple[int, tuple[int | str, ...]]:
    """The line of the deepest part of `path` that is in the file, and the path as the file has it.

    Pydantic puts the chosen kind of a union into the path; the file has no such step.
    """
    line = node.start_mark.line + 1 if node else 1
    seen: list[int | str] = []
    for i, part in enumerate(path):
        if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line + 1
            seen.append(part)
        elif isinstance(node, yaml.MappingNode):
            found = next(((k, v) for k, v in node.value if k.value == part), None)
            if found is not None:
                line, node = found[0].start_mark.line + 1, found[1]
                seen.append(part)
            elif i == len(path) - 1:
                seen.append(part)  # a required key that is not there
        elif i == len(path) - 1:
            seen.append(part)
    return line, tuple(seen)


def json_schema() -> dict[str, Any]:
    """The file's JSON Schema, for editors."""
    schema = Config.model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "The watchdog's configuration"
    return schema
