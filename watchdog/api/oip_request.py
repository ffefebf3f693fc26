"""The Open Inference Protocol's HTTP request: JSON, with or without the binary tensor extension."""

from typing import Any

from watchdog.api.strict_json import WrongBodyError, parse_object
from watchdog.endpoints.faults import FaultError
from watchdog.endpoints.tensors import from_bytes, from_json
from watchdog.live.shadow import Mirrored
from watchdog.model.tensor import Array

__all__ = ["WrongBodyError", "decode"]


def decode(body: bytes, header_length: str | None) -> Mirrored:
    """The inputs of a request, as views of `body` where they came as raw bytes.

    With `header_length` (the header ``Inference-Header-Content-Length``) the body is that much JSON
    and then the inputs' raw bytes, in order.

    Raises:
        WrongBodyError: it is no such request, or has inputs that are no numbers.
    """
    split = len(body) if header_length is None else _split(header_length, len(body))
    request = parse_object(body[:split], non_finite=True)
    listed = request.get("inputs")
    if not isinstance(listed, list) or not listed:
        raise WrongBodyError("inputs", "must be a list of at least one tensor")
    inputs: dict[str, Array] = {}
    rest = memoryview(body)[split:]
    for at, tensor in enumerate(listed):
        name, array, rest = _input(f"inputs[{at}]", tensor, rest)
        if name in inputs:
            raise WrongBodyError(f"inputs[{at}].name", "comes twice")
        inputs[name] = array
    if rest:
        raise WrongBodyError("", f"{len(rest)} bytes too many after the inputs")
    said = request.get("id")
    return Mirrored(inputs=inputs, id=said if isinstance(said, str) else "")


def _split(header_length: str, size: int) -> int:
    text = header_length.strip()
    if not (text.isascii() and text.isdecimal() and len(text) < 12 and 0 < int(text) <= size):
        raise WrongBodyError("Inference-Header-Content-Length", f"does not fit a body of {size} bytes")
    return int(text)


def _input(path: str, tensor: Any, rest: memoryview) -> tuple[str, Array, memoryview]:
    """An input's name and array, and what follows its raw bytes."""
    if not isinstance(tensor, dict):
        raise WrongBodyError(path, "must be an object")
    name, shape = tensor.get("name"), tensor.get("shape")
    if not isinstance(name, str) or not name:
        raise WrongBodyError(f"{path}.name", "must be a text")
    if not isinstance(shape, list):
        raise WrongBodyError(f"{path}.shape", "must be a list of whole numbers")
    size = _binary_size(path, tensor, len(rest))
    try:
        if size is None:
            return name, from_json(name, tensor.get("datatype"), shape, tensor.get("data")), rest
        return name, from_bytes(name, tensor.get("datatype"), shape, rest[:size]), rest[size:]
    except FaultError as error:
        raise WrongBodyError(path, _about_input(error, name)) from error
    except (ValueError, TypeError, OverflowError) as error:  # such as dimensions that no array can have
        raise WrongBodyError(path, "makes no tensor") from error


def _binary_size(path: str, tensor: dict[str, Any], left: int) -> int | None:
    parameters = tensor.get("parameters")
    size = parameters.get("binary_data_size") if isinstance(parameters, dict) else None
    if size is not None and (type(size) is not int or not 0 <= size <= left):
        raise WrongBodyError(f"{path}.parameters.binary_data_size", f"must be a number of bytes; {left} are left")
    return size


def _about_input(error: FaultError, name: str) -> str:
    """The endpoints' words for a tensor that is wrong, which speak of an output."""
    return error.fault.detail.removeprefix(f"output {name!r}").removeprefix(":").strip()
