"""Tensors as the Open Inference Protocol names them."""

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

DTYPES: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype(np.bool_),
    "UINT8": np.dtype(np.uint8),
    "UINT16": np.dtype(np.uint16),
    "UINT32": np.dtype(np.uint32),
    "UINT64": np.dtype(np.uint64),
    "INT8": np.dtype(np.int8),
    "INT16": np.dtype(np.int16),
    "INT32": np.dtype(np.int32),
    "INT64": np.dtype(np.int64),
    "FP16": np.dtype(np.float16),
    "FP32": np.dtype(np.float32),
    "FP64": np.dtype(np.float64),
}
"""Open Inference Protocol datatype → numpy dtype. ``BYTES`` and ``BF16`` are not images."""

_NAMES = {dtype: name for name, dtype in DTYPES.items()}


def dtype_name(array: Array) -> str:
    """The protocol's name of an array's dtype, or numpy's where the protocol has none."""
    return _NAMES.get(array.dtype) or str(array.dtype)
