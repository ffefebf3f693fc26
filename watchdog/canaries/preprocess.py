"""From stored pixel values to an input tensor: pure numpy, as the recipe says.

The order is fixed: rescale to physical units, window, invert where white is stored low, resample,
normalise, arrange the axes, convert.
"""

from typing import Any

import numpy as np

from watchdog.canaries.header import Header
from watchdog.canaries.recipe import Profile, Recipe
from watchdog.model.tensor import DTYPES, Array

Limits = tuple[float, float]


def windowed(stored: Array, header: Header, frames: list[int], recipe: Recipe) -> tuple[Array, Limits]:
    """Physical values of the given frames, [D, H, W] float32, clipped to the window, and that window.

    `stored` holds those frames only. Padding becomes the darkest value.

    Raises:
        ValueError: the image lacks what the recipe needs; the message says what.
    """
    padding = _padding(stored, header)
    values = _rescaled(stored, header, frames, recipe)
    low, high = _limits(values if padding is None else values[~padding], header, frames, recipe)
    values = np.clip(values, low, high)
    if header.photometric == "MONOCHROME1":
        values = (low + high) - values
    if padding is not None:
        values[padding] = low
    return values, (low, high)


def tensor(values: Array, limits: Limits, recipe: Recipe, profile: Profile) -> Array:
    """The input tensor of windowed `values` [D, H, W] at one profile.

    Raises:
        ValueError: the result does not fit the recipe's datatype or tolerance.
    """
    size = profile.size if recipe.unit == "volume" else (1, *profile.size)
    image = _normalised(_resampled(values, size, recipe), limits, recipe)
    image = _arranged(image, recipe)
    image = _converted(image, recipe)
    return np.repeat(image[None], profile.batch, axis=0) if recipe.batched else image


def constants(recipe: Recipe, profile: Profile) -> dict[str, Array]:
    """The other input tensors, with the batch axis where the recipe has one."""
    made = {constant.name: constant.array() for constant in recipe.constants}
    if not recipe.batched:
        return made
    return {name: np.repeat(array[None], profile.batch, axis=0) for name, array in made.items()}


def _padding(stored: Array, header: Header) -> Array | None:
    if header.padding is None:
        return None
    mask: Array = (stored >= header.padding[0]) & (stored <= header.padding[1])
    return mask if mask.any() and not mask.all() else None


def _rescaled(stored: Array, header: Header, frames: list[int], recipe: Recipe) -> Array:
    physical = recipe.window is not None and recipe.window.low is not None
    if header.modality == "CT" and physical and None in [header.rescale[frame] for frame in frames]:
        raise ValueError("is CT without RescaleSlope and RescaleIntercept, so its window in HU means nothing")
    slopes, intercepts = zip(*_lines(header, frames), strict=True)
    values: Array = stored * _column(slopes) + _column(intercepts)
    return values


def _lines(header: Header, frames: list[int]) -> list[tuple[float, float]]:
    """Slope and intercept of each frame; an image without them is used as it is stored."""
    return [header.rescale[frame] or (1.0, 0.0) for frame in frames]


def _column(numbers: tuple[float, ...]) -> Array:
    return np.array(numbers, np.float32)[:, None, None]


def _limits(values: Array, header: Header, frames: list[int], recipe: Recipe) -> Limits:
    window = recipe.window
    if window is None:
        ends = [end * slope + intercept for end in header.range for slope, intercept in _lines(header, frames)]
        low, high = min(ends), max(ends)
    elif window.percentile is not None:
        low, high = np.percentile(values, window.percentile).tolist()
    else:
        assert window.low is not None  # noqa: S101 - the recipe is validated
        assert window.high is not None  # noqa: S101
        low, high = window.low, window.high
    if low >= high:
        raise ValueError("is uniform between the window's percentiles: there is nothing to see in it")
    return low, high


def _resampled(values: Array, size: tuple[int, ...], recipe: Recipe) -> Array:
    for axis, length in enumerate(size):
        if values.shape[axis] != length:
            values = _along(values, axis, length, nearest=recipe.resample == "nearest")
    return values


def _along(values: Array, axis: int, length: int, *, nearest: bool) -> Array:
    """One axis resampled to `length`, its first and last pixels' outer edges staying where they are."""
    have = values.shape[axis]
    at = np.clip((np.arange(length) + 0.5) * have / length - 0.5, 0, have - 1)
    if nearest:
        taken: Array = np.take(values, np.floor(at + 0.5).astype(np.intp), axis)
        return taken
    below = np.floor(at).astype(np.intp)
    weight = (at - below).astype(values.dtype).reshape([-1 if i == axis else 1 for i in range(values.ndim)])
    left: Array = np.take(values, below, axis)
    right: Array = np.take(values, np.minimum(below + 1, have - 1), axis)
    left += weight * (right - left)
    return left


def _normalised(values: Array, limits: Limits, recipe: Recipe) -> Array:
    how = recipe.normalise
    if how is None:
        return values
    if how.range is not None:
        (low, high), (a, b) = limits, how.range
        stretched: Array = np.clip(a + (values - low) / (high - low) * (b - a), a, b)
        return stretched
    assert how.mean is not None  # noqa: S101 - the recipe is validated
    assert how.std is not None  # noqa: S101
    standard: Array = (values - how.mean) / how.std
    return standard


def _arranged(image: Array, recipe: Recipe) -> Array:
    """[D, H, W] in the recipe's order of axes, N left out."""
    axes = "DHW"
    if "D" not in recipe.layout:
        image, axes = image[0], "HW"
    if "C" in recipe.layout:
        image, axes = np.repeat(image[None], recipe.channels, axis=0), "C" + axes
    return image.transpose([axes.index(axis) for axis in recipe.layout if axis != "N"])


def _ends(dtype: np.dtype[Any]) -> Limits:
    """The least and the greatest double that an integer type can hold."""
    info = np.iinfo(dtype)
    high = float(info.max)
    return float(info.min), high if int(high) == info.max else float(np.nextafter(high, 0))


def _converted(image: Array, recipe: Recipe) -> Array:
    dtype = DTYPES[recipe.dtype]
    if dtype.kind in "iu":
        return np.clip(np.rint(image.astype(np.float64)), *_ends(dtype)).astype(dtype, order="C")
    with np.errstate(over="ignore"):
        made = image.astype(dtype, order="C")
    if not np.isfinite(made).all():
        raise ValueError(f"has values that {recipe.dtype} can't hold; give the recipe a normalise")
    if 0 < recipe.tolerance < np.spacing(np.abs(made).max()):
        raise ValueError(f"would not change within the tolerance {recipe.tolerance:g}: {recipe.dtype} is too coarse")
    return made
