"""What an engine was built for and what it meets: its tag, and its optimisation profile. Pure.

A tag is what a deployment writes beside an engine, such as ``trt8.5.3-cuda11.8-sm90``. Why each of
its parts matters, by NVIDIA's account:

- TensorRT: an engine runs on the very version that built it. From 8.6 on it may be built
  version-compatible, and then runs on later ones too (TensorRT documentation, "Version Compatibility").
- CUDA: a driver runs programs of its own major version and of older ones, whatever the minor one
  (CUDA documentation, "CUDA Compatibility": minor version and backward compatibility).
- Compute capability: an engine runs on the GPUs that it was built on, unless it was built
  hardware-compatible (TensorRT documentation, "Hardware Compatibility").
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from math import log2, prod

from watchdog.model.engine import ShapeRange

FORM = "write the versions of TensorRT and CUDA as in trt8.5.3-cuda11.8 or, with the GPU's, trt8.5.3-cuda11.8-sm90"

_TAG = re.compile(
    r"trt(?P<tensorrt>\d{1,4}(?:\.\d{1,4}){1,3})-cuda(?P<cuda>\d{1,4}\.\d{1,4})(?:-sm(?P<sm>\d{1,3}\d)[a-z]?)?(?:-.+)?",
    re.ASCII,
)
_VERSION_COMPATIBLE = (8, 6)
_FAR = 2.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Tag:
    tensorrt: tuple[int, ...]
    """Major and minor version, then patch and build as far as they are given."""
    cuda: tuple[int, int]
    capability: tuple[int, int] | None = None
    """The GPU's: ``sm90`` is (9, 0)."""


def parse(tag: str) -> Tag | None:
    """The tag's meaning; None where it isn't ``trtX.Y[.Z[.W]]-cudaA.B[-smNN][-anything]``.

    >>> parse("trt8.5.3-cuda11.8-sm90-fp16")
    Tag(tensorrt=(8, 5, 3), cuda=(11, 8), capability=(9, 0))
    """
    found = _TAG.fullmatch(tag)
    if found is None:
        return None
    major, minor = _numbers(found["cuda"])
    sm = found["sm"]
    return Tag(
        tensorrt=_numbers(found["tensorrt"]),
        cuda=(major, minor),
        capability=(int(sm[:-1]), int(sm[-1])) if sm else None,
    )


def mismatches(
    tag: str, *, runtime: str | None, cuda: tuple[int, int] | None, capability: tuple[int, int] | None
) -> list[str]:
    """Why an engine with this tag will not run, or not as it was tested: a sentence each.

    Args:
        tag: the engine's.
        runtime: the tag of what the server runs.
        cuda: the newest version that the driver supports.
        capability: the GPU's compute capability.

    None is for what isn't known.
    """
    built = parse(tag)
    if built is None:
        return [f"the engine's tag {tag!r} can't be read; {FORM}"]
    found = [_too_new_for_driver(built, cuda), _other_gpu(built, capability)]
    if runtime is not None and (runs := parse(runtime)) is not None:
        found = [_other_tensorrt(built, runs), _other_cuda(built, runs), *found]
    return [each for each in found if each]


def off_profile(shape: Sequence[int], profile: ShapeRange) -> str | None:
    """Why an input of this shape is served badly or not at all; None where it lies near the profile's optimum.

    Near is within a factor of four of the optimum's number of elements: TensorRT times its kernels
    there, and they may be slow, or round otherwise, far from it.
    """
    text = _spelt(shape)
    if len(shape) != len(profile.best) or not all(
        low <= dim <= high for low, dim, high in zip(profile.least, shape, profile.most, strict=True)
    ):
        return f"{text} is outside the engine's profile, {_spelt(profile.least)} to {_spelt(profile.most)}"
    away = log2(prod(shape) / prod(profile.best))
    if abs(away) <= _FAR:
        return None
    size = f"{2 ** abs(away):.0f} times {'larger' if away > 0 else 'smaller'}"
    return f"{text} is {size} than {_spelt(profile.best)}, which the engine was optimised for"


def _other_tensorrt(built: Tag, runs: Tag) -> str | None:
    """By major, minor and patch version, as far as both tell."""
    told = min(len(built.tensorrt), len(runs.tensorrt), 3)
    if built.tensorrt[:told] == runs.tensorrt[:told]:
        return None
    said = f"built by TensorRT {_dotted(built.tensorrt)}, and the server runs {_dotted(runs.tensorrt)}"
    if built.tensorrt[:2] >= _VERSION_COMPATIBLE and built.tensorrt[:told] < runs.tensorrt[:told]:
        return f"{said}: unless it was built version-compatible, an engine runs only on the TensorRT that built it"
    return f"{said}: an engine runs only on the TensorRT that built it"


def _other_cuda(built: Tag, runs: Tag) -> str | None:
    if built.cuda[0] == runs.cuda[0]:
        return None
    return f"built with CUDA {_dotted(built.cuda)}, and the server runs {_dotted(runs.cuda)}: another major version"


def _too_new_for_driver(built: Tag, cuda: tuple[int, int] | None) -> str | None:
    if cuda is None or built.cuda[0] <= cuda[0]:
        return None
    return f"built with CUDA {_dotted(built.cuda)}, and the driver supports none newer than {_dotted(cuda)}"


def _other_gpu(built: Tag, capability: tuple[int, int] | None) -> str | None:
    if capability is None or built.capability is None or built.capability == capability:
        return None
    return (
        f"built for GPUs of compute capability {_dotted(built.capability)}, and this one has {_dotted(capability)}: "
        "an engine runs on no other unless it was built hardware-compatible"
    )


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(each) for each in text.split("."))


def _dotted(version: Sequence[int]) -> str:
    return ".".join(map(str, version))


def _spelt(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))
