"""The net that is measured, as arrays, and what any engine of it should answer, in numpy.

An ordinary convolutional net over CT slices: 3 × 3 kernels with ReLU, the first two of which halve the
sides, then a logit for each of the remaining pixels. Their sigmoid is the heat-map; their peak and mean
make the whole image's probability. Input ``CT`` is FP32 [N, 1, H, W] in Hounsfield units, sides multiples
of 4; outputs are ``probability`` FP32 [N, 1] and ``heatmap`` FP32 [N, 1, H, W].

Imports nothing of the watchdog's: both interpreters read it, and Triton's stand-in runs a copy of it.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]

DARKEST, BRIGHTEST = -1000.0, 400.0
"""Hounsfield units that become 0 and 1."""
HALVINGS = 2
SHRINK = 2**HALVINGS
"""A pixel of the logits is so many pixels of the image wide."""
_HALF_MAX = 65504.0
"""The largest number of FP16."""


@dataclass(frozen=True)
class Net:
    """Everything that was drawn or fitted."""

    kernels: tuple[Array, ...]
    """Each [outputs, inputs, 3, 3]."""
    readout: Array
    """[outputs of the last kernel]: each one's part in a pixel's logit."""
    readout_bias: float
    pool: Array
    """[3]: the parts of the highest logit, of the mean logit, and of 1 in the image's logit."""

    def overflowing(self) -> "Net":
        """The same answers in FP32, and NaN in FP16: the last kernel scaled up, and the readout down as much.

        By the largest power of two with which every weight still fits FP16. The sums don't: infinities
        of both signs meet in the readout. The last layer, because a ReLU would make 0 of NaN again.
        """
        last = self.kernels[-1]
        scale = np.float32(2.0 ** np.floor(np.log2(_HALF_MAX / np.abs(last).max())))
        return replace(self, kernels=(*self.kernels[:-1], last * scale), readout=self.readout / scale)

    def features(self, images: Array, *, half: bool = False) -> Array:
        """What the readout reads of each pixel: [N, outputs, H/4, W/4]."""
        x = _rounded(brightness(images), half=half)
        for i, kernel in enumerate(self.kernels):
            made = convolved(x, kernel, stride_of(i))
            x = _rounded(np.maximum(made, np.float32(0)), half=half)
        return x

    def logits(self, features: Array) -> Array:
        """[N, H/4, W/4]."""
        made: Array = np.einsum("c,nchw->nhw", self.readout, features) + np.float32(self.readout_bias)
        return made

    def answer(self, images: Array, *, half: bool = False) -> dict[str, Array]:
        """Both outputs; with `half`, each layer's result is rounded to FP16, and overflows as it does there."""
        with np.errstate(over="ignore", invalid="ignore"):
            logits = _rounded(self.logits(self.features(images, half=half)), half=half)
            image = np.stack([logits.max((1, 2)), logits.mean((1, 2)), np.ones(len(logits), np.float32)], axis=1)
            pixels = _sigmoid(logits).repeat(SHRINK, axis=1).repeat(SHRINK, axis=2)
            return {"probability": _sigmoid(image @ self.pool)[:, None], "heatmap": pixels[:, None]}

    def save(self, path: Path) -> None:
        kernels = {f"kernel_{i}": kernel for i, kernel in enumerate(self.kernels)}
        bias = np.array([self.readout_bias], np.float32)
        np.savez(path, readout=self.readout, readout_bias=bias, pool=self.pool, **kernels)  # type: ignore[arg-type]

    @classmethod
    def load(cls, path: Path) -> "Net":
        with np.load(path) as file:
            depth = sum(name.startswith("kernel_") for name in file.files)
            kernels = tuple(file[f"kernel_{i}"] for i in range(depth))
            bias = float(file["readout_bias"][0])
            return cls(kernels=kernels, readout=file["readout"], readout_bias=bias, pool=file["pool"])


def brightness(images: Array) -> Array:
    """Hounsfield units as 0 to 1."""
    made: Array = (np.clip(images, DARKEST, BRIGHTEST) - DARKEST) / np.float32(BRIGHTEST - DARKEST)
    return made


def stride_of(layer: int) -> int:
    return 2 if layer < HALVINGS else 1


def convolved(x: Array, kernel: Array, stride: int) -> Array:
    """Padded by one, as convolutions of nets are: [N, inputs, h, w] → [N, outputs, h/stride, w/stride]."""
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    seen = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))[:, :, ::stride, ::stride]
    made: Array = np.moveaxis(np.tensordot(seen, kernel, axes=([1, 4, 5], [1, 2, 3])), 3, 1)
    return made


def _rounded(x: Array, *, half: bool) -> Array:
    with np.errstate(over="ignore"):
        return x.astype(np.float16).astype(np.float32) if half else x.astype(np.float32)


def _sigmoid(x: Array) -> Array:
    with np.errstate(over="ignore"):
        made: Array = (1 / (1 + np.exp(-x))).astype(np.float32)
    return made
