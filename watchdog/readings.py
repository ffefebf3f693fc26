"""A model's answer as readings: the few numbers in which its drift is watched. Pure.

A reading is named after its output, or ``output.measure`` where an output is read in several ways.
What can't be read is a number too, one that no such reading can be, so that whoever counts what
goes wrong need not look at tensors: NaN where an element is NaN or infinite, `OUTSIDE` where one
lies outside [0, 1].
"""

import math
from collections.abc import Callable, Iterable, Mapping

import numpy as np

from watchdog.assess import OutputKind, OutputSettings, confidence_of
from watchdog.drift import mask
from watchdog.drift.links import Link
from watchdog.model.tensor import Array

OUTSIDE = -1.0
"""An answer outside its range: no confidence, volume or count can be this."""

Measure = Callable[[OutputSettings, Array], float]
"""From one row of an answer, finite and within its range."""

_AMOUNTS = frozenset({"volume", "count"})


def _value(output: OutputSettings, row: Array) -> float:
    found = confidence_of(output, row)
    return math.nan if found is None else found.value


def _top(output: OutputSettings, row: Array) -> float:
    found = confidence_of(output, row)
    return math.nan if found is None else found.top


def _foreground(output: OutputSettings, row: Array) -> float:
    return mask.foreground_confidence(np.atleast_2d(row), spatial=_spatial(row), threshold=_cut(output))


def _volume(output: OutputSettings, row: Array) -> float:
    return mask.volume(np.atleast_2d(row), spatial=_spatial(row), threshold=_cut(output))


def _count(output: OutputSettings, row: Array) -> float:
    return mask.components(np.atleast_2d(row), spatial=_spatial(row), threshold=_cut(output))


_OF_CLASSES: Mapping[str, Measure] = {"": _value, "top": _top}

MEASURES: Mapping[OutputKind, Mapping[str, Measure]] = {
    OutputKind.PROBABILITY: {"": _value},
    OutputKind.LOGIT: {"": _value},
    OutputKind.PROBABILITIES: _OF_CLASSES,
    OutputKind.LOGITS: _OF_CLASSES,
    OutputKind.MASK: {"peak": _value, "foreground": _foreground, "volume": _volume, "count": _count},
    OutputKind.TENSOR: {},
}
"""How each kind of output is read: the measure's name (empty: the output's own) → its function."""

_LEAST_AXES = {OutputKind.PROBABILITIES: 2, OutputKind.LOGITS: 2, OutputKind.MASK: 3}
"""An answer with fewer axes than this has no batch axis, whatever its model says."""
_IN_UNIT = frozenset({OutputKind.PROBABILITY, OutputKind.PROBABILITIES, OutputKind.MASK})


def names_of(outputs: Iterable[OutputSettings]) -> tuple[str, ...]:
    """Every reading that a model with these outputs has."""
    return tuple(_name(output, measure) for output in outputs for measure in MEASURES[output.kind])


def link_of(reading: str) -> Link:
    """The line on which a reading's changes are straight: LOG for volumes and counts, LOGIT for confidences.

    >>> link_of("nodules.volume").value, link_of("probability").value
    ('log', 'logit')
    """
    output, _, measure = reading.rpartition(".")
    return Link.LOG if output and measure in _AMOUNTS else Link.LOGIT


def read_answer(
    outputs: Iterable[OutputSettings], answer: Mapping[str, Array], *, batched: bool = True
) -> dict[str, tuple[float, ...]]:
    """Every reading of an answer, a value for each row of its batch; an output that did not come has none."""
    readings: dict[str, tuple[float, ...]] = {}
    for output in outputs:
        if output.name in answer:
            readings |= read_output(output, answer[output.name], batched=batched)
    return readings


def read_output(output: OutputSettings, array: Array, *, batched: bool = True) -> dict[str, tuple[float, ...]]:
    """One output's readings.

    Args:
        output: what it means.
        array: [rows, ...], or one row without an axis for it.
        batched: whether axis 0 of the model's tensors is the batch.

    Returns:
        Reading → its value for each row, but for rows without an element.
    """
    rows = [row for row in _rows(output, array, batched=batched) if row.size]
    strange = [_strange(output, row) for row in rows]
    return {
        _name(output, name): tuple(
            measure(output, row) if odd is None else odd for row, odd in zip(rows, strange, strict=True)
        )
        for name, measure in MEASURES[output.kind].items()
    }


def _name(output: OutputSettings, measure: str) -> str:
    return f"{output.name}.{measure}" if measure else output.name


def _rows(output: OutputSettings, array: Array, *, batched: bool) -> Array:
    return array if batched and array.ndim >= _LEAST_AXES.get(output.kind, 1) else array[np.newaxis]


def _strange(output: OutputSettings, row: Array) -> float | None:
    """What stands for a row that can't be read; None for one that can."""
    if not np.isfinite(row).all():
        return math.nan
    slack = output.range_slack
    if output.kind in _IN_UNIT and (float(np.min(row)) < -slack or float(np.max(row)) > 1.0 + slack):
        return OUTSIDE
    return None


def _spatial(row: Array) -> int:
    """[D, H, W] of a volume comes with a channel axis, as the protocol's models have it; all else is planes."""
    return 3 if row.ndim >= 4 else 2


def _cut(output: OutputSettings) -> float:
    """A mask's threshold within [0, 1), where masks are read: beyond it all or nothing is foreground anyway."""
    return min(max(output.threshold, 0.0), 1.0 - 2.0**-53)
