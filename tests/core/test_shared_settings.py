"""Durations that a person can write, secrets that stay in files, and complaints that say where."""

import math
from pathlib import Path
from typing import Annotated, Literal, Self

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, TypeAdapter, ValidationError, model_validator

from watchdog.settings import BareNumber, Duration, FieldError, LocalPath, Secret, Settings, complaints, spell


class Inner(Settings):
    pause: Duration = 1.0


class Outer(Settings):
    name: str = Field(min_length=1)
    inner: tuple[Inner, ...] = ()
    wait: Duration = 2.0


def seconds(text: object) -> float:
    return TypeAdapter[float](Duration).validate_python(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("250ms", 0.25), ("10s", 10.0), (" 1.5 m ", 90.0), ("2h", 7200.0), ("1d", 86400.0), ("30us", 3e-5)],
)
def test_a_duration_has_a_unit(text: str, expected: float) -> None:
    assert seconds(text) == pytest.approx(expected)


@pytest.mark.parametrize(
    "text", ["10", "s", "-1s", "1e3s", "0s", "1 week", "", 10, True, None, ["1s"], "9" * 400 + "s", BareNumber(2.5)]
)
def test_what_is_no_duration_is_refused(text: object) -> None:
    with pytest.raises(ValidationError):
        seconds(text)


@given(st.floats(1e-6, 1e9))
def test_what_was_parsed_is_a_positive_finite_number_of_seconds(value: float) -> None:
    assert 0 < seconds(f"{value:f}s") < math.inf if f"{value:f}" != "0.000000" else True


def test_a_refusal_shows_what_to_write() -> None:
    with pytest.raises(ValidationError, match="write a number with a unit"):
        seconds(10)


def test_settings_are_strict_and_frozen() -> None:
    with pytest.raises(ValidationError, match="Extra inputs"):
        Outer.model_validate({"name": "a", "nmae": "b"})
    with pytest.raises(ValidationError, match="frozen"):
        Outer(name="a").name = "b"  # type: ignore[misc]


def test_complaints_name_path_fault_and_value() -> None:
    with pytest.raises(ValidationError) as caught:
        Outer.model_validate({"inner": [{"pause": "1s"}, {"pause": 3, "x": 1}], "wait": "z" * 200})
    said = complaints(caught.value)
    assert "name: is required" in said
    assert "inner[1].x: unknown key" in said
    assert any(line.startswith("inner[1].pause: 3 is not a duration") and line.endswith("(got 3)") for line in said)
    assert all(len(line) < 400 for line in said)


class Cat(Settings):
    kind: Literal["cat"]


class Dog(Settings):
    kind: Literal["dog"]
    legs: tuple[int, ...] = Field(default=(1, 2, 3, 4), min_length=2)
    kennel: Path = Path()

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if 0 in self.legs:
            raise FieldError(("legs", self.legs.index(0)), "a dog has no such leg")
        return self


class Zoo(Settings):
    pet: Annotated[Cat | Dog, Field(discriminator="kind")]


@pytest.mark.parametrize(
    ("pet", "says"),
    [
        ({}, "pet.kind: is required"),
        ({"kind": "cow"}, "pet.kind: 'cow' is not known; allowed are 'cat', 'dog'"),
        ({"kind": "dog", "legs": [1]}, "pet.dog.legs: needs at least 2, but there are 1"),
        ({"kind": "dog", "legs": 4}, "pet.dog.legs: must be a list (got 4)"),
        ({"kind": "dog", "kennel": 4}, "pet.dog.kennel: must be a path (got 4)"),
        ({"kind": "dog", "legs": [1, 0]}, "pet.dog.legs[1]: a dog has no such leg"),
        ("dog", "pet: must hold keys and values (got 'dog')"),
    ],
)
def test_a_complaint_says_what_to_write_instead(pet: object, says: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Zoo.model_validate({"pet": pet})
    assert complaints(caught.value) == [says]


def test_a_complaint_about_everything_still_has_a_subject() -> None:
    with pytest.raises(ValidationError) as caught:
        Outer.model_validate([])
    assert complaints(caught.value)[0].startswith("the document: ")


def test_a_path_is_spelt_as_in_the_file() -> None:
    assert spell(("models", 0, "outputs", 12, "name")) == "models[0].outputs[12].name"


def test_a_relative_path_starts_beside_the_file(tmp_path: Path) -> None:
    adapter = TypeAdapter[Path](LocalPath)
    assert adapter.validate_python("a/b", context={"folder": tmp_path}) == tmp_path / "a/b"
    assert adapter.validate_python("/a/b", context={"folder": tmp_path}) == Path("/a/b")
    assert adapter.validate_python("a/b") == Path("a/b")


def test_a_secret_is_read_afresh_without_white_space(tmp_path: Path) -> None:
    secret = Secret(file=tmp_path / "token")
    (tmp_path / "token").write_text(" one\n")
    assert secret.read() == "one"
    (tmp_path / "token").write_text("two")
    assert secret.read() == "two"


@pytest.mark.parametrize("content", [None, b"", b" \n", b"\xff\xfe"])
def test_a_secret_that_cannot_be_read_is_named(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "token"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ValueError, match="token"):
        Secret(file=file).read()
