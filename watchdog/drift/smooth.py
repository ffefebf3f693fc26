"""A smoothed distribution, and what becomes of it when something changes."""

from dataclasses import dataclass
from typing import Self

import numpy as np

from watchdog.drift.links import LOGIT_LIMIT, Link
from watchdog.model.tensor import Array

_POINTS = 4097
_HEAVY = 0.005
"""The share of a heavy-tailed distribution that is mixed in: nothing is impossible."""
_REACH = 12.0
"""Without natural ends, the grid reaches so many deviations from the median."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Smooth:
    """A distribution function on a regular grid of linked values."""

    grid: Array
    """[P], ascending."""
    cdf: Array
    """[P] from about 0 to 1."""
    unit: float
    """What a shift by 1 means: 1 for logits, else the sample's standard deviation."""
    middle: float
    """What scaling leaves where it is: 0 for logits, else the sample's median."""

    @classmethod
    def of(cls, z: Array, link: Link) -> Self:
        """A kernel estimate from a sample of linked values.

        The bandwidth is 0.6 of Silverman's rule of thumb ("Density Estimation", 1986, eq. 3.31):
        confidences have several modes, for which the rule is too wide.
        """
        median = float(np.median(z))
        deviation = max(float(z.std()), 1e-9 * max(1.0, abs(median)))  # the grid's steps must be steps
        logits = link is Link.LOGIT
        reach, centre = (LOGIT_LIMIT + 1, 0.0) if logits else (_REACH * deviation, median)
        grid = np.linspace(centre - reach, centre + reach, _POINTS)
        step = grid[1] - grid[0]
        edges = np.append(grid - step / 2, grid[-1] + step / 2)
        mass = np.histogram(np.clip(z, grid[0], grid[-1]), edges)[0].astype(np.float64)
        quartiles = float(np.subtract(*np.quantile(z, [0.75, 0.25]))) / 1.34
        spread = min(deviation, quartiles) if quartiles > 0 else deviation
        mass = _blur(mass, 0.54 * spread * len(z) ** -0.2 / step)
        tails = (1 + ((grid - median) / max(deviation, 0.1 if logits else 0.0)) ** 2) ** -1.5
        cdf = np.cumsum((1 - _HEAVY) * mass / mass.sum() + _HEAVY * tails / tails.sum())
        unit, middle = (1.0, 0.0) if logits else (deviation, median)
        return cls(grid=grid, cdf=cdf / cdf[-1], unit=unit, middle=middle)

    def at(self, z: Array) -> Array:
        return np.interp(z, self.grid, self.cdf, left=0.0, right=1.0)

    def quantile(self, u: Array) -> Array:
        return np.interp(u, self.cdf, self.grid)

    def scaled(self, factor: float) -> Array:
        """The distribution function once every value is `factor` times as far from the middle."""
        return self.at(self.middle + (self.grid - self.middle) / factor)

    def shifted(self, by: float) -> Array:
        """… once `by` units are added to every value."""
        return self.at(self.grid - by * self.unit)

    def noisy(self, factor: float, sigma: float) -> Array:
        """… once values are scaled, and normal noise of `sigma` units is added."""
        mass = np.diff(self.scaled(factor), prepend=0.0)
        return np.asarray(np.minimum(np.cumsum(_blur(mass, sigma * self.unit / (self.grid[1] - self.grid[0]))), 1.0))

    def gathered(self, at: float, sigma: float) -> Array:
        """… of values that are all near one place."""
        from scipy.special import ndtr  # noqa: PLC0415 - needed once a reference

        return np.asarray(ndtr((self.grid - at) / sigma))

    def cut_above(self, u: float) -> Array:
        """… once what lay above the quantile `u` lies about there."""
        at, width = float(self.quantile(np.array(u))), 0.1 * self._deviation()
        below = np.where(self.grid < at, self.cdf, u)
        return np.minimum(below + (1 - u) * self.gathered(at - width, width), 1.0)

    def cut_below(self, u: float) -> Array:
        """… once what lay below the quantile `u` lies about there."""
        at, width = float(self.quantile(np.array(u))), 0.1 * self._deviation()
        above = np.where(self.grid > at, self.cdf - u, 0.0)
        return np.minimum(np.maximum(above, 0.0) + u * self.gathered(at + width, width), 1.0)

    def _deviation(self) -> float:
        mass = np.diff(self.cdf, prepend=0.0)
        mean = float(mass @ self.grid)
        return float(np.sqrt(mass @ (self.grid - mean) ** 2))


def _blur(mass: Array, sigma: float) -> Array:
    """Masses on a regular grid convolved with a normal distribution of `sigma` steps, ends kept."""
    from scipy.ndimage import gaussian_filter1d  # noqa: PLC0415 - needed once a reference

    return np.asarray(gaussian_filter1d(mass, max(sigma, 0.5), mode="nearest", truncate=5.0))
