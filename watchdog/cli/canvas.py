"""Pictures of an answer in a terminal: two pixels a character in colours, or characters as shades where it has none."""

import io
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from watchdog.cli import terminal
from watchdog.model.event import Probed
from watchdog.model.tensor import Array
from watchdog.telemetry.gallery import Gallery, Picture

if TYPE_CHECKING:
    from rich.text import Text

    from watchdog.model.baseline import Baseline
    from watchdog.model.canary import Canary
    from watchdog.model.verdict import Assessment

_SHADES = " .:-=+*#%@"
_NOT_FINITE = "!"
_NOT_FINITE_COLOURS = ((255, 0, 170), (40, 0, 30))
"""The gallery's for what is no number."""
_GAP = 2
_WIDEST = 40


def pictures(assessment: "Assessment", canary: "Canary", baseline: "Baseline") -> list[tuple[str, Array]]:
    """Name and RGB pixels, [rows, columns, 3], of each picture that an answer has.

    At best what went in, what should have come out, what did, and how they differ.
    """
    from PIL import Image  # noqa: PLC0415 - where it is used

    gallery, result = Gallery(), assessment.result
    model, at = result.model, result.timing.sent_at
    gallery.know(model, [canary], baseline)
    kept = replace(assessment, result=replace(result, public=True))  # of others the gallery keeps wrong ones only
    gallery(Probed(model=model, at=at, assessment=kept))
    found = []
    for answer in gallery.document(model, at):
        for picture in Picture:
            drawing = gallery.drawing(model, answer["number"], picture)
            if drawing is not None:
                found.append((str(picture), np.asarray(Image.open(io.BytesIO(drawing.png())).convert("RGB"))))
    return found


def side_by_side(found: Sequence[tuple[str, Array]], width: int, *, coloured: bool) -> list["Text"]:
    """Lines of at most `width` characters, the names above."""
    from rich.text import Text  # noqa: PLC0415 - where it is used

    columns = max(4, min(_WIDEST, (width + _GAP) // max(1, len(found)) - _GAP))
    names = Text((" " * _GAP).join(name[:columns].ljust(columns) for name, _ in found).rstrip())
    drawn = [(_half_blocks if coloured else _shades)(_fitted(pixels, columns)) for _, pixels in found]
    height = max((len(lines) for lines in drawn), default=0)
    rows = [
        Text(" " * _GAP).join([lines[at] if at < len(lines) else Text(" " * columns) for lines in drawn])
        for at in range(height)
    ]
    return [names, *rows] if found else []


def _fitted(pixels: Array, columns: int) -> Array:
    """[rows, `columns`, 3], rows even: each the mean of what it covers, but what is no number is never lost in it."""
    height, width = pixels.shape[:2]
    rows = max(2, 2 * round(columns * height / width / 2))
    tall = (np.arange(rows + 1) * height) // rows
    wide = (np.arange(columns + 1) * width) // columns
    broken = _is_not_finite(pixels)
    made = np.empty((rows, columns, 3), dtype=np.uint8)
    for y in range(rows):
        for x in range(columns):
            at = (slice(tall[y], max(tall[y + 1], tall[y] + 1)), slice(wide[x], max(wide[x + 1], wide[x] + 1)))
            made[y, x] = _NOT_FINITE_COLOURS[0] if broken[at].any() else pixels[at].mean(axis=(0, 1))
    return made


def _is_not_finite(pixels: Array) -> Array:
    found = [np.all(pixels == np.array(colour, dtype=np.uint8), axis=-1) for colour in _NOT_FINITE_COLOURS]
    return np.asarray(found[0] | found[1])


def _half_blocks(pixels: Array) -> list["Text"]:
    from rich.style import Style  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    lines = []
    for upper, lower in zip(pixels[::2], pixels[1::2], strict=True):
        line = Text()
        for above, below in zip(upper.tolist(), lower.tolist(), strict=True):
            line.append("▀", Style.parse(f"rgb({_rgb(above)}) on rgb({_rgb(below)})"))
        lines.append(line)
    return lines


def _rgb(colour: Sequence[int]) -> str:
    return ",".join(map(str, colour))


def _shades(pixels: Array) -> list["Text"]:
    from rich.text import Text  # noqa: PLC0415

    broken = _is_not_finite(pixels)
    light = pixels.mean(axis=-1)
    return [
        Text(
            "".join(
                _NOT_FINITE
                if broken[y : y + 2, x].any()
                else _SHADES[int(light[y : y + 2, x].mean() / 256 * len(_SHADES))]
                for x in range(pixels.shape[1])
            )
        )
        for y in range(0, len(pixels), 2)
    ]


def show(assessment: "Assessment", canary: "Canary", baseline: "Baseline") -> None:
    """Print an answer's pictures, or that it has none."""
    out = terminal.out()
    found = pictures(assessment, canary, baseline)
    if not found:
        out.print("  there is nothing to draw: neither input nor outputs are images")
    width = out.width if out.is_terminal else 120
    coloured = out.color_system is not None and not out.no_color
    for line in side_by_side(found, width, coloured=coloured):
        out.print(line, no_wrap=True)
