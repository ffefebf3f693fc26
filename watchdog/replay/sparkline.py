"""A statistic over time in characters: blocks on a logarithmic scale, with its threshold as the uppermost line."""

import math
from collections.abc import Sequence

import numpy as np

from watchdog.model.tensor import Array

_BLOCKS = " ▁▂▃▄▅▆▇█"
_ALARM, _CHANGE, _BOTH = "▲", "│", "┃"


def highest(values: Array, columns: int) -> Array:
    """[columns] the largest value of each equal part of [t]; a part without any repeats its neighbour's.

    >>> highest(np.array([1.0, 5.0, 2.0, 3.0]), 2).tolist()
    [5.0, 3.0]
    """
    edges = np.minimum(np.arange(columns) * values.size // columns, values.size - 1)
    return np.asarray(np.maximum.reduceat(values, edges))


def bars(statistics: Array, threshold: float, *, columns: int, rows: int) -> list[str]:
    """`rows` lines of `columns` characters, from 1 at the bottom to the threshold at the top, and no higher.

    >>> bars(np.array([1.0, 10.0, 100.0]), 100.0, columns=3, rows=1)
    [' ▄█']
    """
    if not statistics.size:
        return [" " * columns] * rows
    share = np.log(np.clip(highest(statistics, columns), 1.0, threshold)) / math.log(threshold)
    eighths = np.rint(share * rows * 8).astype(int)
    lines = (np.clip(eighths - 8 * row, 0, 8).tolist() for row in reversed(range(rows)))
    return ["".join(_BLOCKS[height] for height in line) for line in lines]


def marks(places: Sequence[int], observations: int, *, columns: int, changed: int | None = None) -> str:
    """A line that shows alarms and where the stream is known to have changed.

    Args:
        places: where alarms were, in observations of the stream from 0.
        observations: of the whole stream.
        columns: characters.
        changed: as `places`.

    >>> marks([9], 10, columns=5, changed=4)
    '  │ ▲'
    """
    line = [" "] * columns
    for place in places:
        line[_column(place, observations, columns)] = _ALARM
    if changed is not None:
        column = _column(changed, observations, columns)
        line[column] = _BOTH if line[column] == _ALARM else _CHANGE
    return "".join(line)


def _column(place: int, observations: int, columns: int) -> int:
    """The character whose part of the stream, as `highest` cuts it, holds an observation."""
    edges = np.arange(columns) * observations // columns
    return int(np.searchsorted(edges, place, side="right")) - 1
