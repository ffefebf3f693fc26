"""Canaries: images whose right answer is known."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from watchdog.model.tensor import Array


@dataclass(frozen=True, kw_only=True, slots=True)
class Canary:
    """One de-identified image, preprocessed to the model's input tensors.

    `inputs` hold a leading batch axis where the recipe asks for one; the rows of a batch are
    copies of one image, so that an engine which treats equal rows differently is caught.
    """

    id: str
    """Unique in its set: ``<file stem>[#frame]@<profile>``."""
    inputs: Mapping[str, Array]
    sha256: str
    """Of the source file's bytes (of all of them, in order, for a volume)."""
    source: str
    """The file or folder it came from, relative to the set's root."""
    profile: str
    """The recipe's shape profile that it exercises, such as ``opt``."""
    image: str = ""
    """The input that shows the image; empty where it is the only one."""
    tolerance: float = 0.0
    """How much an input element may be changed without changing what the image shows, in the
    input's own units; 0 forbids perturbation."""
    batched: bool = True
    """Whether axis 0 of every input is the batch."""
    strata: Mapping[str, str] = field(default_factory=dict)
    """Bounded groupings, such as manufacturer, kernel and pathology. Never identifying."""
    truth: Mapping[str, float] = field(default_factory=dict)
    """What is known of the right answer, such as ``{"nodule": 1.0, "diameter_mm": 8.0}``."""

    def perturbed(self, rng: np.random.Generator) -> dict[str, Array]:
        """The inputs with a few elements of the image moved by at most `tolerance`: a new payload.

        Only 8 elements move, alike in every row of a batch, so the cost is one copy. A server's
        response cache keys on the bytes; a payload never sent before can't be answered by it.
        """
        image = self.image or next(iter(self.inputs))
        return {
            name: _perturb(array, self.tolerance, self.batched, rng) if name == image else array
            for name, array in self.inputs.items()
        }


_MOVED_ELEMENTS = 8


def _perturb(array: Array, tolerance: float, batched: bool, rng: np.random.Generator) -> Array:
    moved = array.copy()
    if tolerance <= 0 or array.size == 0:
        return moved
    rows = moved.reshape(moved.shape[0], -1) if batched and moved.ndim > 1 else moved.reshape(1, -1)
    at = rng.integers(0, rows.shape[1], _MOVED_ELEMENTS)
    if np.issubdtype(array.dtype, np.floating):
        rows[:, at] += rng.uniform(-tolerance, tolerance, _MOVED_ELEMENTS).astype(array.dtype)
    elif np.issubdtype(array.dtype, np.integer):
        info = np.iinfo(array.dtype)
        steps = rng.integers(1, max(1, int(tolerance)), _MOVED_ELEMENTS, endpoint=True)
        here = rows[0, at].astype(object)  # no fixed width holds the sums of every integer type
        # Up or down at random, but away from an end of the range: a step cut to nothing is no change.
        down = (rng.integers(0, 2, _MOVED_ELEMENTS) == 1) & (here - steps >= info.min) | (here + steps > info.max)
        there = here + np.where(down, -steps, steps)
        rows[:, at] = np.clip(there, int(info.min), int(info.max)).astype(array.dtype)
    return moved
