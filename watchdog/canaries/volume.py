"""Putting the slices of a series in order."""

from collections.abc import Sequence

import numpy as np

from watchdog.canaries.header import Header, Vector

_UNEVEN = 0.1
"""A gap that differs from the usual one by more than this part is a missing slice."""


def order(headers: Sequence[Header]) -> list[int]:
    """Indices of single-frame instances of one series, by position along their normal.

    Raises:
        ValueError: they make no volume; the message says why.
    """
    first = headers[0]
    if len(headers) < 2:
        raise ValueError("is a series of one slice, which is no volume")
    alike = {(h.rows, h.columns, h.orientation, h.photometric, h.signed, h.bits_stored) for h in headers}
    if len(alike) > 1:
        raise ValueError("has slices of different sizes, orientations or pixel formats")
    positions = [header.positions[0] for header in headers]
    if first.orientation is None or None in positions:
        raise ValueError("has slices without ImageOrientationPatient or ImagePositionPatient")
    return _sorted(first.orientation, positions)


def frame_order(header: Header) -> list[int]:
    """Indices of a multi-frame instance's frames; as stored where it has no positions.

    Raises:
        ValueError: they make no volume.
    """
    if header.frames < 2:
        raise ValueError("has one frame, which is no volume")
    if header.orientation is None or None in header.positions or len(set(header.positions)) == 1:
        return list(range(header.frames))
    return _sorted(header.orientation, header.positions)


def _sorted(orientation: Vector, positions: Sequence[Vector | None]) -> list[int]:
    normal = np.cross(orientation[:3], orientation[3:])
    along = np.array(positions, float) @ normal
    by_position = np.argsort(along, kind="stable")
    gaps = np.diff(along[by_position])
    usual = float(np.median(gaps))
    if float(gaps.min()) <= 1e-3:
        raise ValueError("has several slices at one position: store one volume a series")
    if float(np.abs(gaps - usual).max()) > _UNEVEN * usual:
        raise ValueError(f"has uneven gaps of {gaps.min():.2f} to {gaps.max():.2f} mm: slices are missing")
    return [int(index) for index in by_position]
