"""What every component's settings share: strictness, and durations that a person can write.

A component's settings class stands in the component's own file; ``config.py`` assembles them.
"""

import re
import reprlib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidationError,
    ValidationInfo,
    WithJsonSchema,
)
from pydantic_core import ErrorDetails

_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(us|ms|s|m|h|d)")


class Settings(BaseModel):
    """Base of all settings: frozen, unknown keys are errors, defaults are checked too.

    The text under a field is its description in the JSON Schema.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, use_attribute_docstrings=True)


class FieldError(ValueError):
    """A validator's complaint about a field below the one that it checks; `at` is the way down."""

    def __init__(self, at: Sequence[int | str], problem: str) -> None:
        super().__init__(problem)
        self.at = tuple(at)


class BareNumber(float):
    """A number with a point, as a configuration file has it: pydantic can't tell it from a default."""


def parse_duration(value: Any) -> Any:
    """Seconds from ``"250ms"``, ``"10s"``, ``"5m"``, ``"2h"`` or ``"1d"``; numbers are refused.

    A bare number is refused because nobody can see its unit in a review.
    """
    if isinstance(value, str):
        match = _DURATION.fullmatch(value.strip())
        if match:
            return float(match[1]) * _UNITS[match[2]]
    if isinstance(value, float) and not isinstance(value, BareNumber):  # a default, or code's own
        return value
    raise ValueError(f"{value!r} is not a duration; write a number with a unit: us, ms, s, m, h or d")


Duration = Annotated[
    float,
    BeforeValidator(parse_duration),
    Field(gt=0, allow_inf_nan=False),
    PlainSerializer(lambda seconds: f"{seconds:.15g}s", return_type=str, when_used="json"),
    WithJsonSchema({"type": "string", "pattern": r"^\d+(\.\d+)?\s*(us|ms|s|m|h|d)$"}),
]
"""A span of time in seconds, written with its unit in the configuration file."""


_LISTEN = re.compile(r"(\[[0-9a-fA-F:]+\]|[^:\s]+):[0-9]{1,5}")


def _host_and_port(value: str) -> str:
    if not _LISTEN.fullmatch(value) or int(value.rpartition(":")[2]) > 65535:
        raise ValueError("write host:port, such as 127.0.0.1:9469 or [::1]:9469, with a port up to 65535")
    return value


Listen = Annotated[str, AfterValidator(_host_and_port), Field(json_schema_extra={"pattern": f"^{_LISTEN.pattern}$"})]
"""Where to listen: host and port; port 0 takes any free one."""


def address_of(listen: Listen) -> tuple[str, int]:
    """The host, without an IPv6 address's brackets, and the port."""
    host, _, port = listen.rpartition(":")
    return host.strip("[]"), int(port)


def _checked_url(value: str) -> str:
    try:
        parts = urlsplit(value)
        parts.port  # noqa: B018 (raises for an impossible one)
    except ValueError as error:
        raise ValueError(f"not a URL: {error}") from error
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError("not an http:// or https:// URL with a host")
    if parts.username is not None or parts.password is not None:
        raise ValueError("credentials do not belong in a URL; put them into `secret_headers`")
    return value


Url = Annotated[str, AfterValidator(_checked_url), WithJsonSchema({"type": "string", "format": "uri"})]
"""An HTTP server's address, without credentials."""


def _beside_file(value: Any, info: ValidationInfo) -> Any:
    folder = (info.context or {}).get("folder")
    if isinstance(value, str) and "\0" in value:
        raise ValueError("a path can't hold a NUL character")
    return Path(folder) / value if folder is not None and isinstance(value, str | Path) else value


LocalPath = Annotated[Path, BeforeValidator(_beside_file)]
"""A path; a relative one starts at the configuration file's folder, wherever the watchdog was started."""


class Secret(Settings):
    """A secret that lives in a file, so that it can be rotated and never reaches a log."""

    file: LocalPath

    def read(self) -> str:
        """The secret as it is now, without surrounding white space.

        Raises:
            ValueError: the file can't be read or is empty; the message names it.
        """
        try:
            text = self.file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"cannot read the secret file {self.file}: {error}") from error
        if not text:
            raise ValueError(f"the secret file {self.file} is empty")
        return text


_brief = reprlib.Repr()  # a few aliases make a YAML value whose whole text fills the memory
_brief.maxlevel, _brief.maxlist, _brief.maxdict = 2, 4, 4
_brief.maxstring = _brief.maxlong = _brief.maxother = 80


def complaints(error: ValidationError) -> list[str]:
    """Pydantic's errors a line each, as ``path: what is wrong (got value)``."""
    return [f"{spell(place(e)) or 'the document'}: {complaint(e)}" for e in error.errors(include_url=False)]


def place(error: ErrorDetails) -> tuple[int | str, ...]:
    """The path of the field to mend."""
    more = error.get("ctx", {})
    if error["type"] in ("union_tag_invalid", "union_tag_not_found"):
        return (*error["loc"], more["discriminator"].strip("'"))
    cause = more.get("error")
    return (*error["loc"], *cause.at) if isinstance(cause, FieldError) else error["loc"]


def spell(path: tuple[int | str, ...]) -> str:
    """``("models", 0, "name")`` → ``models[0].name``."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def complaint(error: ErrorDetails) -> str:
    """What is wrong with one field, what is allowed, and what was found there."""
    match error["type"]:
        case "extra_forbidden":
            return "unknown key"
        case "missing" | "union_tag_not_found":
            return "is required"
        case "union_tag_invalid":
            return f"{error['ctx']['tag']!r} is not known; allowed are {error['ctx']['expected_tags']}"
        case "too_short":
            return "needs at least {min_length}, but there are {actual_length}".format(**error["ctx"])
        case "model_type" | "model_attributes_type" | "mapping_type":
            said = "must hold keys and values"
        case "tuple_type":
            said = "must be a list"
        case "path_type":
            said = "must be a path"
        case _:
            said = error["msg"].removeprefix("Value error, ")
    if isinstance(error["input"], dict):  # a whole section, of which the message names what matters
        return said
    return f"{said} (got {_brief.repr(error['input'])})"
