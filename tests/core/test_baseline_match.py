"""Whether a baseline belongs to what is in use: each difference is a line, and only a difference is."""

from dataclasses import replace

from tests.core.builders import CANARIES, ENGINES, MODEL, a_baseline, a_canary
from watchdog.baselines import match
from watchdog.model.engine import Description, Engine, Role

RECIPE = "a" * 64


def test_what_it_was_captured_for_matches() -> None:
    assert match.against_inputs(a_baseline(), MODEL, CANARIES, RECIPE) == []
    assert match.against_versions(a_baseline(), ENGINES) == []


def test_every_difference_is_a_line() -> None:
    canaries = [*CANARIES[2:], a_canary("c1", 0.1, sha256="1" * 64), a_canary("new")]
    assert match.against_inputs(a_baseline(), "other", canaries, "b" * 64) == [
        "it was captured for model 'nodule', not 'other'",
        "the recipe changed (then aaaaaaaaaaaa…, now bbbbbbbbbbbb…)",
        "canary new is new",
        "canary c0 is missing",
        "canary c1 has another content (SHA-256)",
    ]


def test_versions_bind() -> None:
    address = replace(ENGINES[Role.SAFE].address, version="3")
    moved = {**ENGINES, Role.SAFE: Engine(role=Role.SAFE, address=address)}
    assert match.against_versions(a_baseline(), moved) == ["the safe engine was version 2, the configuration says 3"]
    unnamed = {**ENGINES, Role.FAST: Engine(role=Role.FAST, address=replace(address, version=""))}
    assert match.against_versions(a_baseline(), unnamed) == [
        "the fast engine was version 1, the configuration says none"
    ]


def test_only_the_safe_engines_tag_binds() -> None:
    tagged = Description(server="s", inputs=(), outputs=(), tag="trt10")
    assert match.against_tag(a_baseline(), replace(tagged, tag=None)) == []
    assert match.against_tag(a_baseline(), tagged) == ["the safe engine's tag was none, now it is trt10"]
