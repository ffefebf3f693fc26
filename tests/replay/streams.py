"""Recorded streams for tests: healthy at first, changed later."""

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from watchdog.model.tensor import Array
from watchdog.replay.recording import Recording, Series

BEGAN_AT = 1_740_000_000.0
EVERY_S = 60.0


def confidences(count: int, *, changed_at: int | None = None, seed: int = 1) -> Array:
    """[count] a nodule detector's; from `changed_at` on their logits are half of what they were."""
    rng = np.random.default_rng(seed)
    p = np.where(rng.random(count) < 0.3, rng.beta(8, 2, count), rng.beta(1.5, 12, count))
    if changed_at is not None:
        z = np.log(p[changed_at:] / (1 - p[changed_at:])) / 2
        p[changed_at:] = 1 / (1 + np.exp(-z))
    return np.round(p, 7)


def times(count: int) -> Array:
    """[count] unix seconds, one a minute."""
    return BEGAN_AT + EVERY_S * np.arange(count)


def series(values: Iterable[float], at: Array | None = None) -> Series:
    """One value an observation."""
    array = np.array(list(values), dtype=np.float64)
    return Series(values=array, starts=np.arange(len(array) + 1), at=at)


def recording(**readings: Series) -> Recording:
    return Recording(source="here", readings=readings)


def write_csv(path: Path, header: Sequence[str], columns: Sequence[Iterable[object]], delimiter: str = ",") -> Path:
    with path.open("w", newline="") as file:
        writer = csv.writer(file, delimiter=delimiter)
        writer.writerow(header)
        writer.writerows(zip(*columns, strict=True))
    return path
