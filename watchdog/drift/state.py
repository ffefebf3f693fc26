"""Detectors' states as bytes: arrays and numbers, bound to the detector that they are of."""

import io
from collections.abc import Mapping
from typing import Any

import numpy as np

from watchdog.model.tensor import Array


def pack(identity: str, values: Mapping[str, Any]) -> bytes:
    """Arrays and numbers by name, as bytes for `unpack`."""
    file = io.BytesIO()
    arrays: Any = {"identity": np.array(identity), **{name: np.asarray(value) for name, value in values.items()}}
    np.savez(file, **arrays)
    return file.getvalue()


def unpack(identity: str, data: bytes) -> dict[str, Array]:
    """The inverse of `pack`.

    Raises:
        ValueError: the bytes are damaged, or of another detector than `identity` says.
    """
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as stored:
            found = {name: stored[name] for name in stored.files}
    except Exception as error:
        raise ValueError(f"not a detector's state: {error}") from error  # zipfile's errors have no common base
    if str(found.pop("identity", "")) != identity:
        raise ValueError("the state is of a detector with another reference, promise or version")
    for name, array in found.items():
        if array.dtype.kind not in "iuf":
            raise ValueError(f"the state's {name} is no number")
    return found


def shaped(found: Mapping[str, Array], name: str, like: Array) -> Array:
    """One array, which must have the shape of `like` and hold numbers.

    Raises:
        ValueError: it is missing or has not.
    """
    array = found.get(name)
    if array is None or array.shape != like.shape or not np.isfinite(array).all():
        raise ValueError(f"the state's {name} is missing or has another shape")
    return array.astype(like.dtype)


def number(found: Mapping[str, Array], name: str) -> float:
    """One finite number.

    Raises:
        ValueError: it is missing or is none.
    """
    return float(shaped(found, name, np.zeros(())))
