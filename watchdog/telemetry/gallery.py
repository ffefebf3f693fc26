"""The newest canaries as pictures: what went in, what should have come out, what did, and the difference.

Only tensors are kept and shown, as they went to the model and came from it: nothing of a DICOM header is known here.
"""

import io
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

import numpy as np

from watchdog.assess import LARGER_IS_BETTER
from watchdog.model.baseline import Baseline, Golden
from watchdog.model.canary import Canary
from watchdog.model.event import Baselined, Probed
from watchdog.model.tensor import Array
from watchdog.model.verdict import Assessment, Verdict
from watchdog.ports import Event
from watchdog.telemetry.board import assessment_json, finite

SIDE = 128
"""A kept picture has at most so many rows and columns."""
MOST_NEWEST, MOST_WRONG = 8, 4
WRONG_FOR_S = 3600.0
"""How long a wrong answer is shown after newer ones of its canary were right."""
_STAYS_S = 10.0
"""How long a wrong answer is shown at least."""
_LEAST_SIDE = 16
"""An output with fewer rows or columns is no picture."""
_MOST_CHANNELS = 4
_MOST_BARS = 16
_TOP, _CHECKERED, _NOT_FINITE = 253, 254, 255
"""Levels: 0 to `_TOP` are values; not-finite ones are drawn as a chequerboard of the other two."""
_CHECK = 4
_OPACITY, _UNDER = 2.0, 0.45
"""Heat hides what it lies over from the middle of its scale on; the input is dimmed."""


class Picture(StrEnum):
    INPUT = "input"
    """The slice that the model was given."""
    GOLDEN = "golden"
    """The output as it should be."""
    CURRENT = "current"
    """The output as it came."""
    DIFFERENCE = "difference"
    """How far each element is from the golden one, as a share of the golden picture's scale."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Drawing:
    """What a picture is drawn from. `png` takes milliseconds, and may be called in any thread."""

    picture: Picture
    plane: Array
    """[rows, columns]: levels, at most `SIDE` a side, or values of any size."""
    under: Array | None = None
    """The input, over which a heat map is laid; of the same proportions."""

    def png(self) -> bytes:
        from PIL import Image  # noqa: PLC0415 - where it is used

        levels = self._levels()
        if self.under is None:
            colours = _PALETTES[self.picture][_chequered(levels)]
        else:
            under = _of_input(self.under)
            size = max(levels.shape, under.shape)
            levels, under = (
                np.asarray(Image.fromarray(each).resize(size[::-1], Image.Resampling.NEAREST))
                for each in (levels, under)
            )
            shown = np.clip(levels / _TOP * _OPACITY, 0.0, 1.0)[..., np.newaxis]
            colours = _PALETTES[self.picture][_chequered(levels)]
            colours = shown * colours + (1.0 - shown) * _UNDER * under[..., np.newaxis]
        file = io.BytesIO()
        Image.fromarray(colours.astype(np.uint8)).save(file, "PNG")
        return file.getvalue()

    def _levels(self) -> Array:
        match self.picture:
            case Picture.INPUT:
                return _of_input(self.plane)
            case Picture.GOLDEN:
                plane = _narrow(self.plane)
                return _levels(_reduced(plane, np.maximum), _scale(plane))
            case _:
                return self.plane


@dataclass(frozen=True, kw_only=True, slots=True)
class _Right:
    """A canary's golden answer, and which of it is shown."""

    outputs: Mapping[str, Array]
    output: str = ""
    """The first that is a picture; empty where none is."""
    index: int = 0
    """Its plane."""

    @classmethod
    def of(cls, golden: Golden) -> "_Right":
        name = _first_picture(golden.outputs)
        index = _fullest(golden.outputs[name]) if name else 0
        return cls(outputs=golden.outputs, output=name, index=index)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Kept:
    """One answer, made small."""

    number: int
    at: float
    assessment: Assessment
    """Without its tensors."""
    output: str = ""
    """The one that is shown as a picture; empty where none can be."""
    levels: Mapping[Picture, Array] = field(default_factory=dict)
    """CURRENT and DIFFERENCE, uint8, as far as they could be made."""
    bars: tuple[Mapping[str, Any], ...] = ()
    """Outputs that are no pictures."""


@dataclass(kw_only=True, slots=True)
class _Shelf:
    """One model's."""

    canaries: Mapping[str, Canary] = field(default_factory=dict)
    right: Mapping[str, _Right] = field(default_factory=dict)
    limits: Mapping[tuple[str, str], float] = field(default_factory=dict)
    newest: dict[str, _Kept] = field(default_factory=dict)
    """Canary → the newest answer through the public name, the oldest first."""
    wrong: dict[str, _Kept] = field(default_factory=dict)
    """Canary → the newest wrong answer, by whichever way, the oldest first."""


class Gallery:
    """An observer that keeps of each model the newest answers, at most `MOST_NEWEST`, and wrong ones, `MOST_WRONG`."""

    def __init__(self) -> None:
        self._shelves: dict[str, _Shelf] = {}
        self._numbers = itertools.count(1)

    def know(self, model: str, canaries: Sequence[Canary], baseline: Baseline) -> None:
        """Take what a model is asked and what it should answer. Nothing is copied: both are in memory anyway.

        Golden volumes are gone through once, which for large sets may take a second: that is for the start.
        """
        shelf = self._shelf(model)
        shelf.canaries = {canary.id: canary for canary in canaries}
        shelf.right = {name: _Right.of(golden) for name, golden in baseline.golden.items()}

    def forget(self, model: str) -> None:
        self._shelves.pop(model, None)

    def __call__(self, event: Event) -> None:
        match event:
            case Probed() if event.assessment.result.public or event.assessment.verdict is Verdict.FAILED:
                self._keep(self._shelf(event.model), event)
            case Baselined():
                self._shelf(event.model).limits = event.score_limits
            case _:
                pass

    def document(self, model: str, now: float) -> list[dict[str, Any]]:
        """The kept answers, JSON-ready: wrong ones first, and the newest first among each."""
        shelf = self._shelves.get(model, _Shelf())
        wrong = [kept for kept in shelf.wrong.values() if now - kept.at < WRONG_FOR_S]
        shown = {kept.number for kept in wrong}
        others = [kept for kept in shelf.newest.values() if kept.number not in shown]
        return [_json(shelf, kept) for kept in (*reversed(wrong), *reversed(others))]

    def drawing(self, model: str, number: int, picture: Picture) -> Drawing | None:
        """One of an answer's pictures; None where there is none, or no more."""
        shelf = self._shelves.get(model, _Shelf())
        kept = next((k for k in (*shelf.newest.values(), *shelf.wrong.values()) if k.number == number), None)
        plane = None if kept is None else _plane(shelf, kept, picture)
        if kept is None or plane is None:
            return None
        return Drawing(picture=picture, plane=plane, under=_under(shelf, kept, picture))

    def _shelf(self, model: str) -> _Shelf:
        return self._shelves.setdefault(model, _Shelf())

    def _keep(self, shelf: _Shelf, event: Probed) -> None:
        result = event.assessment.result
        kept = _made_small(next(self._numbers), event, shelf.right.get(result.canary))
        if result.public:
            _put(shelf.newest, result.canary, kept, MOST_NEWEST)
        if event.assessment.verdict is Verdict.FAILED and _has_room(shelf.wrong, result.canary, event.at):
            _put(shelf.wrong, result.canary, kept, MOST_WRONG)


def _has_room(wrong: Mapping[str, _Kept], canary: str, now: float) -> bool:
    """Bursts of an engine that stays wrong must not push answers out faster than they can be looked at."""
    oldest = wrong.get(canary) or next(iter(wrong.values()), None)
    return oldest is None or (canary not in wrong and len(wrong) < MOST_WRONG) or not 0 <= now - oldest.at < _STAYS_S


def _put(kept: dict[str, _Kept], canary: str, one: _Kept, most: int) -> None:
    kept.pop(canary, None)
    kept[canary] = one
    while len(kept) > most:
        del kept[next(iter(kept))]


def _made_small(number: int, event: Probed, right: _Right | None) -> _Kept:
    assessment, outputs = event.assessment, event.assessment.result.outputs
    if right is None:  # nothing to lay it beside
        right = _Right(outputs={}, output=_first_picture(outputs))
    names = dict.fromkeys((*right.outputs, *outputs))
    return _Kept(
        number=number,
        at=event.at,
        assessment=replace(assessment, result=replace(assessment.result, outputs={})),
        output=right.output,
        levels=_levels_of(outputs.get(right.output), right),
        bars=tuple(_bar(n, right.outputs.get(n), outputs.get(n)) for n in names if n != right.output),
    )


def _levels_of(got: Array | None, right: _Right) -> dict[Picture, Array]:
    """What is kept of an output's answer; nothing where none came, or it can't be laid beside the golden one."""
    golden = right.outputs.get(right.output)
    if got is None or not _is_picture(got) or (golden is not None and golden.shape != got.shape):
        return {}
    plane = _narrow(_planes(got)[right.index])
    if golden is None:
        return {Picture.CURRENT: _levels(_reduced(plane, np.maximum), _scale(plane))}
    wanted = _narrow(_planes(golden)[right.index])
    low, high = _scale(wanted)
    with np.errstate(invalid="ignore", over="ignore"):  # infinity less infinity
        apart = np.abs(plane - wanted)
    return {
        Picture.CURRENT: _levels(_reduced(plane, np.maximum), (low, high)),
        Picture.DIFFERENCE: _levels(_reduced(apart, np.maximum), (0.0, high - low)),
    }


def _plane(shelf: _Shelf, kept: _Kept, picture: Picture) -> Array | None:
    """What the picture is drawn from. Quick: nothing is computed."""
    if picture in kept.levels:
        return kept.levels[picture]
    name = kept.assessment.result.canary
    canary, right = shelf.canaries.get(name), shelf.right.get(name)
    if picture is Picture.GOLDEN and right is not None and right.output:
        return np.asarray(_planes(right.outputs[right.output])[right.index])
    if picture is Picture.INPUT and canary is not None:
        planes = _planes(canary.inputs[canary.image or next(iter(canary.inputs))])
        # Of an image with fewer planes than its output has, such as one without classes, the one at the same depth.
        plane = np.asarray(planes[0 if right is None else right.index % len(planes)])
        return plane if min(plane.shape) >= _LEAST_SIDE else None
    return None


def _under(shelf: _Shelf, kept: _Kept, picture: Picture) -> Array | None:
    """The input, where a heat map has its proportions and so can be laid over it."""
    if picture not in {Picture.GOLDEN, Picture.CURRENT}:
        return None
    image, golden = (_plane(shelf, kept, of) for of in (Picture.INPUT, Picture.GOLDEN))
    if image is None or golden is None:
        return None
    return image if image.shape[0] * golden.shape[1] == image.shape[1] * golden.shape[0] else None


def _first_picture(outputs: Mapping[str, Array]) -> str:
    return next((name for name, array in outputs.items() if _is_picture(array)), "")


def _is_picture(array: Array) -> bool:
    return array.ndim > 2 and min(_planes(array).shape[-2:]) >= _LEAST_SIDE


def _planes(array: Array) -> Array:
    """[planes, rows, columns]: all that is before the last two axes as one, with channels that come last put first."""
    if array.ndim > 2 and array.shape[-1] <= _MOST_CHANNELS < min(array.shape[-3:-1]):
        array = np.moveaxis(array, -1, -3)
    return array.reshape(-1, *array.shape[-2:]) if array.ndim > 1 else array.reshape(1, 1, -1)


def _of_input(plane: Array) -> Array:
    narrow = _narrow(plane)
    return _levels(_reduced(narrow, np.add), _range(narrow))


def _narrow(plane: Array) -> Array:
    """In 32 bits, of which what does not fit is infinite."""
    with np.errstate(over="ignore"):
        return np.asarray(plane, dtype=np.float32)


def _fullest(golden: Array) -> int:
    """Which plane is shown: the one of which the golden answer has most to say."""
    planes = _planes(golden)
    with np.errstate(over="ignore", invalid="ignore"):
        said = [float(np.abs(plane, dtype=np.float32).sum()) for plane in planes]
    return int(np.argmax(np.nan_to_num(said)))


def _range(plane: Array) -> tuple[float, float]:
    known = plane[np.isfinite(plane)]
    return (float(known.min()), float(known.max())) if known.size else (0.0, 1.0)


def _scale(plane: Array) -> tuple[float, float]:
    """[0, 1] for what lies within it, else the values' own range."""
    low, high = _range(plane)
    return (0.0, 1.0) if low >= 0.0 and high <= 1.0 else (low, high)


def _reduced(plane: Array, pool: np.ufunc) -> Array:
    """At most `SIDE` a side, by the mean (np.add) or the largest (np.maximum) of each square; NaN stays NaN."""
    step = math.ceil(max(plane.shape) / SIDE)
    if step < 2:
        return plane
    with np.errstate(invalid="ignore", over="ignore"):
        for axis in (0, 1):
            starts = np.arange(0, plane.shape[axis], step)
            sizes = np.diff(starts, append=plane.shape[axis])
            plane = pool.reduceat(plane, starts, axis=axis)
            if pool is np.add:
                plane = plane / np.expand_dims(sizes, 1 - axis)
    return plane


def _levels(plane: Array, scale: tuple[float, float]) -> Array:
    low, high = scale
    with np.errstate(invalid="ignore", over="ignore"):
        shares = np.clip((plane - low) / ((high - low) or 1.0), 0.0, 1.0)
    return np.where(np.isfinite(plane), np.nan_to_num(shares) * _TOP, _NOT_FINITE).astype(np.uint8)


def _chequered(levels: Array) -> Array:
    rows, columns = np.indices(levels.shape)
    odd = (rows // _CHECK + columns // _CHECK) % 2 == 1
    return np.where((levels == _NOT_FINITE) & odd, _CHECKERED, levels).astype(np.uint8)


def _bar(name: str, golden: Array | None, current: Array | None) -> dict[str, Any]:
    return {"output": name, "golden": _first_row(golden), "current": _first_row(current)}


def _first_row(array: Array | None) -> list[float | None]:
    """Of a batch's first row at most `_MOST_BARS` numbers; null stands for NaN."""
    if array is None or not array.size:
        return []
    row = array[0] if array.ndim > 1 else array
    return [finite(float(each)) for each in np.ravel(row)[:_MOST_BARS]]


def _json(shelf: _Shelf, kept: _Kept) -> dict[str, Any]:
    told = assessment_json(kept.assessment)
    return {
        "number": kept.number,
        "at": kept.at,
        "profile": kept.assessment.result.profile,
        "output": kept.output,
        "pictures": [picture for picture in Picture if _plane(shelf, kept, picture) is not None],
        "bars": list(kept.bars),
        "limits": [
            {
                "output": output,
                "measure": measure,
                "score": finite(score),
                "limit": finite(shelf.limits.get((output, measure), math.nan)),
                "at_least": measure in LARGER_IS_BETTER,
            }
            for (output, measure), score in kept.assessment.scores.items()
        ],
        **{
            key: told[key]
            for key in ("canary", "expected", "public", "answered_by", "fault", "verdict", "findings", "total_s")
        },
    }


def _palette(*anchors: tuple[int, int, int]) -> Array:
    """[256, RGB]: the anchors at equal distances, what lies between them mixed, and the two of what is not finite."""
    at = np.linspace(0, _TOP, len(anchors))
    levels = np.arange(_TOP + 1)
    colours = np.stack([np.interp(levels, at, channel) for channel in np.transpose(anchors)], axis=1)
    return np.concatenate([np.rint(colours), [[255, 0, 170], [40, 0, 30]]])


_HEAT = _palette((6, 8, 20), (46, 22, 92), (140, 38, 108), (222, 84, 62), (250, 166, 50), (252, 246, 190))
_APART = _palette((6, 8, 20), (14, 62, 92), (24, 138, 150), (120, 214, 178), (240, 255, 236))
_PALETTES: Mapping[Picture, Array] = {
    Picture.INPUT: _palette((0, 0, 0), (255, 255, 255)),
    Picture.GOLDEN: _HEAT,
    Picture.CURRENT: _HEAT,
    Picture.DIFFERENCE: _APART,
}
