"""The Open Inference Protocol's HTTP answer: JSON, with or without the binary tensor extension."""

import json
from collections.abc import Collection
from typing import Any

from watchdog.endpoints.faults import garbled
from watchdog.endpoints.tensors import from_bytes, from_json
from watchdog.model.engine import Answerer
from watchdog.model.tensor import Array


def decode(body: bytes, header_length: str | None, wanted: Collection[str]) -> tuple[dict[str, Array], Answerer]:
    """The wanted outputs (all, where none are named) and who answered.

    With `header_length` the body is that much JSON and then the outputs' raw bytes, in order. A
    wanted output that did not come is just not there: that is for the assessment to judge.
    """
    split = len(body) if header_length is None else _split(header_length, len(body))
    answer = parse_object(body[:split])
    listed = answer.get("outputs")
    if not isinstance(listed, list) or not listed:
        raise garbled("the answer holds no outputs")
    outputs: dict[str, Array] = {}
    rest = memoryview(body)[split:]
    for output in listed:
        name, raw, rest = _cut(output, rest)
        if name in outputs:
            raise garbled(f"output {name!r} comes twice")
        if not wanted or name in wanted:
            outputs[name] = _tensor(name, output, raw)
    if rest:
        raise garbled(f"{len(rest)} bytes too many after the outputs")
    return outputs, Answerer(model=_text(answer, "model_name"), version=_text(answer, "model_version"))


def parse_object(body: bytes) -> dict[str, Any]:
    """A JSON object. A bare ``NaN`` or ``Infinity`` is read as such: it is what we look for."""
    parsed = parse(body)
    if not isinstance(parsed, dict):
        raise garbled(f"the answer is JSON, but a {type(parsed).__name__} and no object")
    return parsed


def parse(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise garbled(f"the answer's {len(body)} bytes are not JSON") from error


def _split(header_length: str, size: int) -> int:
    if not (header_length.isdecimal() and len(header_length) < 12 and 0 < int(header_length) <= size):
        raise garbled(f"Inference-Header-Content-Length does not fit an answer of {size} bytes")
    return int(header_length)


def _cut(output: Any, rest: memoryview) -> tuple[str, memoryview | None, memoryview]:
    """An output's name, its raw bytes if it has any, and what follows them."""
    if not isinstance(output, dict) or not isinstance(output.get("name"), str):
        raise garbled("an output has no name")
    parameters = output.get("parameters")
    size = parameters.get("binary_data_size") if isinstance(parameters, dict) else None
    if size is None:
        return output["name"], None, rest
    if type(size) is not int or not 0 <= size <= len(rest):
        raise garbled(f"output {output['name']!r}: {len(rest)} bytes are left, which is not what it announces")
    return output["name"], rest[:size], rest[size:]


def _tensor(name: str, output: dict[str, Any], raw: memoryview | None) -> Array:
    shape = output.get("shape")
    if not isinstance(shape, list):
        raise garbled(f"output {name!r} has no shape")
    if raw is None:
        return from_json(name, output.get("datatype"), shape, output.get("data"))
    return from_bytes(name, output.get("datatype"), shape, raw)


def _text(answer: dict[str, Any], key: str) -> str:
    value = answer.get(key)
    return value if isinstance(value, str) else ""
