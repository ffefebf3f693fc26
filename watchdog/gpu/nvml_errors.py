"""What NVML's return codes mean for a field, for a GPU, and for all of them."""

from collections.abc import Mapping
from enum import IntEnum

from watchdog.model.gpu import SourceState


class Code(IntEnum):
    """Of ``nvmlReturn_t`` in nvml.h, those that are told apart here."""

    UNINITIALIZED = 1
    NOT_SUPPORTED = 3
    NO_PERMISSION = 4
    NOT_FOUND = 6
    DRIVER_NOT_LOADED = 9
    LIBRARY_NOT_FOUND = 12
    FUNCTION_NOT_FOUND = 13
    GPU_IS_LOST = 15
    RESET_REQUIRED = 16
    OPERATING_SYSTEM = 17
    LIB_RM_VERSION_MISMATCH = 18
    NO_DATA = 21
    VGPU_ECC_NOT_SUPPORTED = 22
    ARGUMENT_VERSION_MISMATCH = 25
    DEPRECATED = 26
    GPU_NOT_FOUND = 28


NOT_OFFERED = frozenset({Code.FUNCTION_NOT_FOUND, Code.ARGUMENT_VERSION_MISMATCH})
"""The installed driver is older than the function."""

NOT_TOLD = frozenset({Code.NOT_SUPPORTED, Code.NOT_FOUND, Code.NO_DATA, Code.VGPU_ECC_NOT_SUPPORTED, Code.DEPRECATED})
"""This GPU or its mode has no such thing; nothing is wrong."""

DENIED = frozenset({Code.NO_PERMISSION, Code.OPERATING_SYSTEM})

LOST: Mapping[int, str] = {
    Code.GPU_IS_LOST: "it has fallen off the bus: look for Xid in the kernel's log, and restart the machine",
    Code.RESET_REQUIRED: "it needs a reset: end what uses it, then nvidia-smi --gpu-reset",
    Code.GPU_NOT_FOUND: "the driver doesn't find it any more",
}
"""The GPU is gone, and why."""

_GIVE_GPUS = "run the container with the NVIDIA runtime (--gpus, or runtimeClassName: nvidia)"

UNUSABLE: Mapping[int, tuple[SourceState, str]] = {
    Code.UNINITIALIZED: (SourceState.FAILING, "NVML was shut down by other code of this process"),
    Code.LIBRARY_NOT_FOUND: (SourceState.ABSENT, f"there is no libnvidia-ml.so.1: {_GIVE_GPUS}"),
    Code.DRIVER_NOT_LOADED: (SourceState.ABSENT, f"the NVIDIA driver is not loaded, or not to be seen: {_GIVE_GPUS}"),
    Code.LIB_RM_VERSION_MISMATCH: (
        SourceState.FAILING,
        "the driver was upgraded underneath: restart the watchdog (and its container), to load the new one's library",
    ),
}
"""No GPU can be asked, on what condition, and what to do."""

NO_GPU = f"the driver sees no GPU: {_GIVE_GPUS}"
NOT_ALLOWED = "the driver may not be asked: let this user, or the container's cgroup, open /dev/nvidia*"
