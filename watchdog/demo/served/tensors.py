"""Tensors in and out of Triton's Python backend, for models to copy beside their ``model.py``.

They go through DLPack, which every numpy speaks. The backend's own ``as_numpy`` and
``Tensor(name, array)`` are built for numpy 1: under numpy 2 they silently hand over nothing.
"""

import ctypes
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils  # type: ignore[import-not-found]  # only inside Triton

_CPU = (1, 0)  # DLPack's device: kDLCPU, number 0

_set_destructor = ctypes.pythonapi.PyCapsule_SetDestructor
_set_destructor.argtypes = [ctypes.py_object, ctypes.c_void_p]


class _Lent:
    """An array that Triton takes over, and frees once it has copied it."""

    def __init__(self, array: np.ndarray[Any, Any]) -> None:
        self._array = array

    def __dlpack__(self, stream: Any = None) -> Any:
        capsule = self._array.__dlpack__()
        # Triton renames the capsule to a name that numpy's destructor doesn't know, which would
        # print an error for each tensor. Triton owns the memory from here: the destructor is idle.
        _set_destructor(capsule, None)
        return capsule

    def __dlpack_device__(self) -> tuple[int, int]:
        return _CPU


def take(request: Any, name: str) -> np.ndarray[Any, Any]:
    """A request's input, as a view of the server's memory."""
    view: np.ndarray[Any, Any] = np.from_dlpack(pb_utils.get_input_tensor_by_name(request, name))
    return view


def give(name: str, array: np.ndarray[Any, Any]) -> Any:
    """A response's output."""
    return pb_utils.Tensor.from_dlpack(name, _Lent(np.ascontiguousarray(array)))
