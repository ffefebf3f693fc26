"""The recipe: how a DICOM image becomes the model's input tensors, as data.

The baseline is bound to the hash of the recipe's meaning: another window or size gives other
inputs, whose golden answers are unknown.
"""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
import yaml
from pydantic import AfterValidator, Field, FiniteFloat, PositiveInt, ValidationError, model_validator

from watchdog.model.tensor import DTYPES, Array
from watchdog.settings import Settings

_MAX_ELEMENTS = 1 << 28


def _known_dtype(name: str) -> str:
    if name not in DTYPES:
        raise ValueError(f"{name!r} is not a datatype; allowed are {', '.join(DTYPES)}")
    return name


def _numeric_dtype(name: str) -> str:
    if name == "BOOL":
        raise ValueError("an image can't be BOOL; use UINT8")
    return _known_dtype(name)


def _layout(axes: str) -> str:
    if len(set(axes)) != len(axes) or not set(axes) <= set("NCDHW"):
        raise ValueError(f"{axes!r} is not a layout; use each of the letters N, C, D, H and W at most once")
    if not {"H", "W"} <= set(axes):
        raise ValueError(f"{axes!r} lacks H or W")
    if "N" in axes[1:]:
        raise ValueError(f"{axes!r} has the batch axis N elsewhere than in front")
    return axes


class Profile(Settings):
    """One shape that the engine is exercised at; each image is made once for each profile."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_.-]{0,31}$")
    """Such as ``min``, ``opt`` or ``max``."""
    batch: int = Field(default=1, ge=1, le=1024)
    """Equal rows in one request."""
    size: tuple[PositiveInt, ...] = Field(min_length=2, max_length=3)
    """``[H, W]`` of a slice, ``[D, H, W]`` of a volume."""


class Window(Settings):
    """Which values matter: between `low` and `high`, or between two percentiles of the image."""

    low: FiniteFloat | None = None
    high: FiniteFloat | None = None
    """In the image's physical unit: Hounsfield units for CT."""
    percentile: tuple[float, float] | None = None
    """For images without a physical unit (MR, CR, DX)."""

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if self.percentile is not None:
            if (self.low, self.high) != (None, None):
                raise ValueError("give either low and high, or percentile")
            if not 0 <= self.percentile[0] < self.percentile[1] <= 100:
                raise ValueError("percentile takes two numbers from 0 to 100, the smaller first")
        elif self.low is None or self.high is None or self.low >= self.high:
            raise ValueError("give low and high with low < high, or percentile")
        return self


class Normalise(Settings):
    """``(x − mean) / std``, or the window stretched to `range`."""

    mean: FiniteFloat | None = None
    std: FiniteFloat | None = Field(default=None, gt=0)
    range: tuple[FiniteFloat, FiniteFloat] | None = None

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if self.range is not None:
            if (self.mean, self.std) != (None, None):
                raise ValueError("give either mean and std, or range")
            if self.range[0] >= self.range[1]:
                raise ValueError("range takes two numbers, the smaller first")
        elif self.mean is None or self.std is None:
            raise ValueError("give mean and std, or range")
        return self


class Constant(Settings):
    """An input tensor that is the same for every image."""

    name: str = Field(min_length=1)
    dtype: Annotated[str, AfterValidator(_known_dtype)]
    value: Any
    """A number, a boolean, or nested lists of them; without the batch axis."""

    @model_validator(mode="after")
    def _is_array(self) -> Self:
        self.array()
        return self

    def array(self) -> Array:
        """The tensor of one image.

        Raises:
            ValueError: the value is not a regular array, or does not fit the datatype.
        """
        wanted = DTYPES[self.dtype]
        try:
            given = np.asarray(self.value)
        except ValueError as error:
            raise ValueError("value must be a number, or lists of equal length") from error
        if given.dtype.kind not in "biuf":
            raise ValueError("value must be made of numbers or booleans")
        with np.errstate(over="ignore"):
            made = given.astype(wanted)
        if wanted.kind in "biu" and not np.array_equal(made, given):
            raise ValueError(f"value does not fit {self.dtype}")
        if wanted.kind == "f" and not np.isfinite(made).all():
            raise ValueError(f"value is not finite as {self.dtype}")
        return made


class Recipe(Settings):
    """Preprocessing as data."""

    input: str = Field(min_length=1)
    """Name of the input tensor that gets the image."""
    dtype: Annotated[str, AfterValidator(_numeric_dtype)] = "FP32"
    layout: Annotated[str, AfterValidator(_layout)] = "NCHW"
    """Axes of the tensor: batch N (in front, or absent), channels C, depth D, rows H, columns W."""
    unit: Literal["slice", "volume"] = "slice"
    """What one canary shows: a frame, or a whole multi-frame instance or series."""
    frames: Literal["all", "middle"] | tuple[PositiveInt, ...] = "all"
    """Which frames of a multi-frame instance become slices; numbers start at 1."""
    profiles: tuple[Profile, ...] = Field(min_length=1)
    window: Window | None = None
    """Without one, all that the stored bits can express."""
    normalise: Normalise | None = None
    resample: Literal["linear", "nearest"] = "linear"
    """Pixel areas are aligned at their corners, as in ``align_corners=False``; no antialiasing."""
    channels: int = Field(default=1, ge=1, le=64)
    """Copies of the grey image along C."""
    tolerance: FiniteFloat = Field(default=0.0, ge=0)
    """How far an input element may be moved, in the tensor's own units, without changing what
    the image shows; 0 forbids it, and then a server's response cache can't be told apart."""
    constants: tuple[Constant, ...] = ()

    @property
    def batched(self) -> bool:
        return self.layout.startswith("N")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        for problem in self._problems():
            raise ValueError(problem)
        return self

    def _problems(self) -> Iterator[str]:
        volume = self.unit == "volume"
        if volume is not ("D" in self.layout):
            yield f"layout {self.layout} {'lacks' if volume else 'has'} the depth axis D, but unit is {self.unit}"
        if self.channels > 1 and "C" not in self.layout:
            yield f"layout {self.layout} has no axis C for {self.channels} channels"
        if volume and self.frames != "all":
            yield "frames can only be chosen where unit is slice"
        if DTYPES[self.dtype].kind in "iu" and self.tolerance % 1:
            yield f"tolerance must be a whole number for {self.dtype}"
        yield from _repeated("profiles", [profile.name for profile in self.profiles])
        yield from _repeated("inputs", [self.input, *(constant.name for constant in self.constants)])
        for profile in self.profiles:
            yield from self._profile_problems(profile)

    def _profile_problems(self, profile: Profile) -> Iterator[str]:
        axes = "[D, H, W]" if self.unit == "volume" else "[H, W]"
        if len(profile.size) != (3 if self.unit == "volume" else 2):
            yield f"profile {profile.name}: size must be {axes} for a {self.unit}"
        if profile.batch > 1 and not self.batched:
            yield f"profile {profile.name}: batch {profile.batch} needs the batch axis N in layout {self.layout}"
        if np.prod([profile.batch, self.channels, *profile.size], dtype=float) > _MAX_ELEMENTS:
            yield f"profile {profile.name}: more than {_MAX_ELEMENTS} elements in one request"


def _repeated(what: str, names: list[str]) -> Iterator[str]:
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield f"{what}: {name!r} is there twice"


def read_recipe(path: Path) -> tuple[Recipe, str]:
    """The recipe in a YAML file, and the SHA-256 of its meaning.

    Raises:
        ValueError: it can't be read or is no recipe; one line for each problem, with its place.
    """
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(f"cannot read the recipe {path}: {error}") from error
    if not isinstance(data, dict):
        raise ValueError(f"the recipe {path} must be a mapping with at least input and profiles")  # noqa: TRY004 - the file is wrong, not a caller
    try:
        recipe = Recipe.model_validate(data)
    except ValidationError as error:
        raise ValueError("\n".join(f"{path}: {line}" for line in _lines(error))) from error
    return recipe, meaning_sha256(recipe)


def meaning_sha256(recipe: Recipe) -> str:
    """Of what the recipe means: comments, order of keys and spelled-out defaults don't change it."""
    canonical = json.dumps(recipe.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def _lines(error: ValidationError) -> Iterator[str]:
    for problem in error.errors(include_url=False, include_input=False):
        place = ".".join(str(part) for part in problem["loc"] if not str(part).startswith(("literal[", "tuple[")))
        yield f"{place or 'recipe'}: {problem['msg'].removeprefix('Value error, ')}"
