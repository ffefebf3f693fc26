"""The synthetic thorax: its shapes, and how they are painted in Hounsfield units.

Lengths are millimetres from the middle of the body: x grows towards the image's right, y
downwards (to the back).
"""

from typing import NamedTuple

import numpy as np

from watchdog.model.tensor import Array

_AIR, _FAT, _MUSCLE, _BLOOD, _MARROW, _CORTEX = -1000.0, -95.0, 50.0, 42.0, 190.0, 620.0


class Ellipse(NamedTuple):
    x: float
    y: float
    a: float
    b: float
    tilt: float = 0.0
    """Radians, from x towards y."""

    def holds(self, x: float, y: float, part: float = 1.0) -> bool:
        """Whether a point lies in the inner `part`; of an upright ellipse."""
        return float(np.hypot((x - self.x) / self.a, (y - self.y) / self.b)) < part


class Tube(NamedTuple):
    """A vessel's piece between two points, its radius going from `r0` to `r1`."""

    x0: float
    y0: float
    x1: float
    y1: float
    r0: float
    r1: float


class Body(NamedTuple):
    skin: Ellipse
    lungs: tuple[Ellipse, Ellipse]
    heart: Ellipse
    vessels: tuple[Tube, ...]


class _Shoot(NamedTuple):
    """Where a vessel starts, its direction away from the heart, its length and its radius."""

    x: float
    y: float
    angle: float
    length: float
    radius: float


class Canvas:
    """An image that shapes are blended into; a pixel on an edge is part shape, part ground."""

    def __init__(self, size: int, spacing_mm: float) -> None:
        self.image: Array = np.full((size, size), _AIR, np.float32)
        self._spacing = spacing_mm
        self._at = ((np.arange(size) - (size - 1) / 2) * spacing_mm).astype(np.float32)

    def ellipse(self, shape: Ellipse, hu: float, slope_hu: float = 0.0) -> None:
        """Fill with `hu`, growing by `slope_hu` a millimetre downwards."""
        reach = max(shape.a, shape.b)
        window, x, y = self._around(shape.x - reach, shape.x + reach, shape.y - reach, shape.y + reach)
        x, y = x - shape.x, y - shape.y
        cos, sin = float(np.cos(shape.tilt)), float(np.sin(shape.tilt))
        radius = np.hypot((x * cos + y * sin) / shape.a, (y * cos - x * sin) / shape.b)
        self._blend(window, (radius - 1) * min(shape.a, shape.b), hu + slope_hu * y)

    def tube(self, shape: Tube, hu: float) -> None:
        reach = max(shape.r0, shape.r1)
        window, x, y = self._around(
            min(shape.x0, shape.x1) - reach,
            max(shape.x0, shape.x1) + reach,
            min(shape.y0, shape.y1) - reach,
            max(shape.y0, shape.y1) + reach,
        )
        dx, dy = shape.x1 - shape.x0, shape.y1 - shape.y0
        along = np.clip(((x - shape.x0) * dx + (y - shape.y0) * dy) / max(dx * dx + dy * dy, 1e-6), 0, 1)
        outside = np.hypot(x - shape.x0 - along * dx, y - shape.y0 - along * dy)
        self._blend(window, outside - (shape.r0 + along * (shape.r1 - shape.r0)), hu)

    def _around(self, x0: float, x1: float, y0: float, y1: float) -> tuple[tuple[slice, slice], Array, Array]:
        columns = slice(*np.searchsorted(self._at, (x0 - self._spacing, x1 + self._spacing)).tolist())
        rows = slice(*np.searchsorted(self._at, (y0 - self._spacing, y1 + self._spacing)).tolist())
        return (rows, columns), self._at[None, columns], self._at[rows, None]

    def _blend(self, window: tuple[slice, slice], distance: Array, hu: Array | float) -> None:
        ground = self.image[window]
        ground += np.clip(0.5 - distance / self._spacing, 0, 1) * (hu - ground)


def make_body(seed: int) -> Body:
    rng = np.random.default_rng(seed)
    wide, deep = rng.uniform(0.94, 1.04), rng.uniform(0.94, 1.04)
    lungs = (
        Ellipse(-72 * wide, -4, 50 * wide, 78 * deep),
        Ellipse(72 * wide, -4, 48 * wide, 76 * deep),
    )
    heart = Ellipse(16 * wide, -22, 42 * wide, 34 * deep, rng.uniform(0.2, 0.6))
    vessels = tuple(vessel for lung in lungs for vessel in _vessels(lung, rng))
    return Body(Ellipse(0, 0, 155 * wide, 112 * deep), lungs, heart, vessels)


def _vessels(lung: Ellipse, rng: np.random.Generator) -> list[Tube]:
    """Branches fanning out from the hilum, and vessels that cross the slice and show as dots.

    A dot is at most 3 mm wide, so that the smallest nodule (4 mm) is not one.
    """
    side = float(np.sign(lung.x))
    tubes: list[Tube] = []
    for angle in rng.uniform(-1.1, 1.1, 7).tolist():
        root = _Shoot(
            lung.x - side * 0.7 * lung.a, lung.y + 28 * angle, angle, rng.uniform(24, 42), rng.uniform(1.5, 2.4)
        )
        tubes += _branch(lung, root, rng)
    for _ in range(22):
        (x, y), radius = inside(lung, 0.88, rng), rng.uniform(0.6, 1.5)
        tubes.append(Tube(x, y, x, y, radius, radius))
    return tubes


def _branch(lung: Ellipse, shoot: _Shoot, rng: np.random.Generator) -> list[Tube]:
    """A tapering tube that forks into thinner ones; what would leave the lung is left out."""
    x = shoot.x + float(np.sign(lung.x) * shoot.length * np.cos(shoot.angle))
    y = shoot.y + float(shoot.length * np.sin(shoot.angle))
    if not lung.holds(x, y, 0.95):
        return []
    thinner = 0.6 * shoot.radius
    tubes = [Tube(shoot.x, shoot.y, x, y, shoot.radius, thinner)]
    if thinner > 0.5:
        for turn in (-rng.uniform(0.25, 0.7), rng.uniform(0.25, 0.7)):
            tubes += _branch(lung, _Shoot(x, y, shoot.angle + turn, 0.6 * shoot.length, thinner), rng)
    return tubes


def inside(lung: Ellipse, part: float, rng: np.random.Generator) -> tuple[float, float]:
    """A point in the inner `part` of a lung, evenly drawn."""
    radius, angle = part * np.sqrt(rng.uniform()), rng.uniform(0, 2 * np.pi)
    return float(lung.x + lung.a * radius * np.cos(angle)), float(lung.y + lung.b * radius * np.sin(angle))


def paint(canvas: Canvas, body: Body) -> None:
    skin = body.skin
    canvas.ellipse(skin, _FAT)
    canvas.ellipse(Ellipse(0, 0, skin.a - 14, skin.b - 12), _MUSCLE)
    for lung in body.lungs:
        canvas.ellipse(lung, -850.0, slope_hu=0.35)
    canvas.ellipse(body.heart, _BLOOD)
    canvas.ellipse(Ellipse(0, 20, 24, 62), _MUSCLE)  # the mediastinum, between the lungs
    canvas.ellipse(Ellipse(0, 12, 8, 7), _AIR + 10)  # the trachea
    canvas.ellipse(Ellipse(17, 46, 12, 12), _BLOOD)  # the aorta
    canvas.ellipse(Ellipse(0, 72, 21, 18), _CORTEX)
    canvas.ellipse(Ellipse(0, 72, 18.5, 15.5), _MARROW)
    _paint_ribs(canvas, skin)
    for vessel in body.vessels:
        canvas.tube(vessel, _BLOOD)


def _paint_ribs(canvas: Canvas, skin: Ellipse) -> None:
    """Oblique cuts of ribs, between the lungs and the skin."""
    for angle in np.linspace(-2.8, 2.8, 13):
        x, y = (skin.a - 24) * np.sin(angle), -(skin.b - 21) * np.cos(angle)
        tangent = float(np.arctan2((skin.b - 21) * np.sin(angle), (skin.a - 24) * np.cos(angle)))
        canvas.ellipse(Ellipse(x, y, 11, 4.5, tangent), _CORTEX)
        canvas.ellipse(Ellipse(x, y, 9.5, 3, tangent), _MARROW)
