"""Tensors off the wire: strictly what the protocol says, or a fault that names the output."""

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from watchdog.endpoints.faults import REJECTED, UNREADABLE, FaultError, garbled
from watchdog.model.tensor import DTYPES, Array, dtype_name

_NO_IMAGES = frozenset({"BYTES", "BF16"})


def datatype_of(name: str, array: Array) -> str:
    """The protocol's datatype of an input."""
    datatype = dtype_name(array)
    if datatype not in DTYPES:
        raise FaultError(REJECTED.fault(f"input {name!r} is {datatype}, which the protocol can't carry"))
    return datatype


def from_bytes(name: str, datatype: Any, shape: Sequence[Any], raw: bytes | memoryview) -> Array:
    """A read-only view of the protocol's row-major, little-endian bytes; a copy where they lie askew."""
    dtype = _dtype(name, datatype)
    dims = _dims(name, shape)
    if len(raw) != prod(dims) * dtype.itemsize:
        raise garbled(
            f"output {name!r}: {len(raw)} bytes for shape {list(dims)} of {datatype}, "
            f"which takes {prod(dims) * dtype.itemsize}"
        )
    array = np.frombuffer(raw, dtype=dtype).reshape(dims)
    return array if array.flags.aligned else array.copy()


def from_json(name: str, datatype: Any, shape: Sequence[Any], data: Any) -> Array:
    """A tensor from JSON numbers, flat or nested. For a float, ``null`` is NaN: some servers write it so."""
    dtype = _dtype(name, datatype)
    dims = _dims(name, shape)
    if not isinstance(data, list):
        raise garbled(f"output {name!r} has neither data nor binary data")
    values = _numbers(name, data, dtype)
    if values.size != prod(dims):
        raise garbled(f"output {name!r}: {values.size} values for shape {list(dims)}")
    return values.reshape(dims)


def _numbers(name: str, data: list[Any], dtype: np.dtype[Any]) -> Array:
    try:
        raw = np.array(data)
        if raw.dtype == object and dtype.kind == "f":
            raw = np.array([np.nan if each is None else each for each in raw.ravel()])
        elif raw.dtype.kind == "f" and dtype == np.uint64:  # numpy's choice for integers on both sides of 2**63
            raw = np.array(data, dtype=object)
    except ValueError as error:  # rows of different lengths
        raise garbled(f"output {name!r}: the data is ragged") from error
    if raw.size and not _fits(raw, dtype):
        raise garbled(f"output {name!r}: the data holds values that are no {dtype}")
    with np.errstate(over="ignore", invalid="ignore"):  # past FP16's range: infinity, as on the wire
        return raw.astype(dtype)


def _fits(raw: Array, dtype: np.dtype[Any]) -> bool:
    if dtype.kind == "f":
        return raw.dtype.kind in "fiu"
    if dtype.kind == "b" and raw.dtype.kind == "b":
        return True
    low, high = (0, 1) if dtype.kind == "b" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    whole = raw.dtype.kind in "iu" or (raw.dtype == object and all(type(each) is int for each in raw.ravel()))
    return whole and low <= int(raw.min()) and int(raw.max()) <= high


def _dtype(name: str, datatype: Any) -> np.dtype[Any]:
    if isinstance(datatype, str) and datatype in DTYPES:
        return DTYPES[datatype]
    if isinstance(datatype, str) and datatype in _NO_IMAGES:
        raise FaultError(UNREADABLE.fault(f"output {name!r} is {datatype}: name the numeric outputs to ask for"))
    raise garbled(f"output {name!r} has an unknown datatype")


def _dims(name: str, shape: Sequence[Any]) -> tuple[int, ...]:
    if any(type(dim) is not int or dim < 0 for dim in shape):
        raise garbled(f"output {name!r} has an impossible shape")
    return tuple(shape)
