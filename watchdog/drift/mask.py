"""A mask or heat-map read as scalars: how much is marked, in how many pieces, and how surely.

A mask is [..., H, W] or [..., D, H, W]; `spatial`, 2 or 3, says how many of the last axes are one mask, since [4, H, W]
can be four slices or one volume. The other axes are a batch, over which the results are averaged. Foreground is
what exceeds `threshold`, as in `confidence.of_mask` and `parity.dice`.

DESCRIPTIVE and NOT a decision rule: volume and pieces follow the anatomy in the picture more than the engine that reads
it, so they move with the next patient, and one noisy element more is a piece more. What a broken engine does to a mask
shows on the same input: `parity.dice` against the golden mask.
"""

import math

import numpy as np

from watchdog.model.tensor import Array


def volume(mask: Array, *, spatial: int, threshold: float = 0.5, element_mm3: float = 1.0) -> float:
    """The mean volume of the foreground: in elements, or in mm³ where `element_mm3` is one element's volume.

    From 0 to a whole mask's volume. (With `spatial` 2 and one element's area in mm² it is an area in mm².)

    >>> volume(np.array([[0.9, 0.6, 0.2]]), spatial=2, element_mm3=0.5)
    1.0

    Raises:
        ValueError: a mask that is empty, not finite or of fewer axes than `spatial`; `spatial` neither 2 nor 3; a
            threshold outside [0, 1); an element's volume that is not positive.
    """
    if not 0.0 < element_mm3 < math.inf:
        raise ValueError(f"element_mm3 must be a positive volume in mm³ (got {element_mm3}); 1.0 counts elements")
    masks = _masks(mask, spatial, threshold)
    return float(np.count_nonzero(masks > threshold)) / len(masks) * element_mm3


def components(mask: Array, *, spatial: int, threshold: float = 0.5) -> float:
    """The mean number of connected pieces of foreground, 0 or more.

    Elements are connected across a shared side (4 neighbours in 2-D, 6 in 3-D), not across a corner. Rosenfeld and
    Pfaltz, "Sequential Operations in Digital Picture Processing", Journal of the ACM 13 (1966), as SciPy's ``label``.

    >>> components(np.array([[0.9, 0.1, 0.8], [0.9, 0.1, 0.1]]), spatial=2)
    2.0

    Raises:
        ValueError: a mask that is empty, not finite or of fewer axes than `spatial`; `spatial` neither 2 nor 3; a
            threshold outside [0, 1).
    """
    masks = _masks(mask, spatial, threshold)
    from scipy.ndimage import label  # noqa: PLC0415 - heavy

    return float(np.mean([label(foreground)[1] for foreground in masks > threshold]))


def foreground_confidence(mask: Array, *, spatial: int, threshold: float = 0.5) -> float:
    """The mean over masks of the mean probability of the foreground, in [0, 1]; an empty foreground counts as 0.

    What is above 1 counts as 1, as everywhere in `confidence`. Otherwise it lies above `threshold`, or is 0.

    >>> foreground_confidence(np.array([[[0.75, 1.0, 0.25]], [[0.0, 0.0, 0.0]]]), spatial=2)
    0.4375

    Raises:
        ValueError: a mask that is empty, not finite or of fewer axes than `spatial`; `spatial` neither 2 nor 3; a
            threshold outside [0, 1).
    """
    foregrounds = (one[one > threshold] for one in _masks(mask, spatial, threshold))
    return float(np.mean([_mean_probability(foreground) for foreground in foregrounds]))


def _mean_probability(foreground: Array) -> float:
    return float(np.mean(np.minimum(foreground, 1.0), dtype=np.float64)) if foreground.size else 0.0


def _masks(mask: Array, spatial: int, threshold: float) -> Array:
    """The masks as [masks, *spatial axes], in the dtype they came in: a volume can be large."""
    array = np.asarray(mask)
    if spatial not in {2, 3}:
        raise ValueError(f"spatial must be 2 for [..., H, W] or 3 for [..., D, H, W] (got {spatial})")
    if not 0.0 <= threshold < 1.0:
        raise ValueError(f"threshold must be a probability in [0, 1) (got {threshold}); 0.5 is customary")
    if array.dtype.kind not in "biuf":
        raise ValueError(f"mask must be real numbers (got dtype {array.dtype}); convert it first")
    if array.ndim < spatial or not array.size:
        raise ValueError(f"mask must have {spatial} axes or more and no empty one (got shape {array.shape})")
    if not np.isfinite(array).all():
        raise ValueError("mask holds NaN or infinity; that is a fault by itself: report it, and don't read the mask")
    return array.reshape(-1, *array.shape[-spatial:])
