"""The JSON Schema that editors complete and check the configuration with."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.service.test_config_errors import VALID
from watchdog.config import Config, json_schema, read
from watchdog.endpoints.server import ServerSettings
from watchdog.policy.settings import PolicySettings

ROOT = Path(__file__).parents[2]
SCHEMA = json_schema()


def nodes(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        yield node
    for inner in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from nodes(inner)


def sections() -> dict[str, dict[str, Any]]:
    return {"Config": SCHEMA, **{name: s for name, s in SCHEMA["$defs"].items() if s["type"] == "object"}}


def test_it_is_a_schema_of_the_draft_that_it_names() -> None:
    assert SCHEMA["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert json.loads(json.dumps(SCHEMA, allow_nan=False)) == SCHEMA
    known = {"string", "number", "integer", "boolean", "array", "object", "null"}
    for node in nodes(SCHEMA):
        if "$ref" in node:
            assert node["$ref"].removeprefix("#/$defs/") in SCHEMA["$defs"]
        if isinstance(node.get("type"), str | list):
            assert {node["type"]} if isinstance(node["type"], str) else set(node["type"]) <= known
        if isinstance(node.get("pattern"), str):
            re.compile(node["pattern"])


@pytest.mark.parametrize("name", sorted(sections()))
def test_every_section_refuses_keys_that_it_does_not_know(name: str) -> None:
    section = sections()[name]
    assert section["additionalProperties"] is False
    assert set(section.get("required", ())) <= set(section["properties"])


def test_the_text_under_a_field_is_its_description() -> None:
    every = SCHEMA["$defs"]["ProbeSettings"]["properties"]["every"]
    assert every["description"] == "From the start of one probe of the public name to the start of the next."
    described = [p for s in sections().values() for p in s["properties"].values() if "description" in p]
    assert len(described) > 40


@pytest.mark.parametrize("owner", [Config, PolicySettings, ServerSettings])
def test_every_documented_field_is_described(owner: type[Any]) -> None:
    assert [name for name, field in owner.model_fields.items() if field.description]
    for name, field in owner.model_fields.items():
        holders = [s["properties"][name] for s in sections().values() if name in s["properties"]]
        assert field.description is None or any(h.get("description") == field.description for h in holders), name


def test_durations_and_their_defaults_are_written_as_in_a_file() -> None:
    probe = SCHEMA["$defs"]["ProbeSettings"]["properties"]
    assert (probe["every"]["type"], probe["every"]["default"]) == ("string", "10s")
    assert SCHEMA["$defs"]["ModelSettings"]["properties"]["probe"]["default"]["deadline"] == "2s"
    for node in nodes(SCHEMA):
        if node.get("type") == "string" and "default" in node:
            assert isinstance(node["default"], str)
            assert re.search(node.get("pattern", ""), node["default"])


def test_a_version_may_be_a_number_as_everybody_writes_it() -> None:
    assert SCHEMA["$defs"]["EngineSettings"]["properties"]["version"]["type"] == ["string", "integer"]


def examples() -> list[Path]:
    found = [p for folder in ("examples", "docs") for p in (ROOT / folder).rglob("*.y*ml")]
    return [
        path
        for path in found
        for document in yaml.safe_load_all(path.read_text())
        if isinstance(document, dict) and {"models", "endpoints"} <= set(document)
    ]


@pytest.mark.parametrize("path", examples(), ids=str)
def test_every_example_in_the_repository_is_a_valid_configuration(path: Path) -> None:
    assert read(path).models


def test_the_configuration_of_these_tests_is_one_too(tmp_path: Path) -> None:
    (tmp_path / "watchdog.yaml").write_text(VALID)
    assert read(tmp_path / "watchdog.yaml").models[0].name == "nodule"
