"""Images and recipes for the tests of canaries: phantoms, changed on purpose, and real files."""

import tempfile
from collections.abc import Callable
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom._dicom_dict import DicomDictionary
from pydicom.datadict import keyword_for_tag
from pydicom.dataset import Dataset, FileDataset
from pydicom.sequence import Sequence

from watchdog.canaries.phantom import Phantom, write_series
from watchdog.canaries.recipe import Recipe
from watchdog.model.tensor import Array

BUNDLED = Path(pydicom.__file__).parent / "data" / "test_files"
REAL = Path(str(distribution("pydicom-data").locate_file("data_store/data")))

ALL_OF_IT = frozenset(keyword_for_tag(tag) for tag in DicomDictionary) | {
    "OverlayData",
    "preamble",
    "private",
}
"""An allow-list with every name there is."""


def recipe(**changes: Any) -> Recipe:
    """For CT slices: 64 × 64, from −1000 to 400 HU, as 0 to 1."""
    usual: dict[str, Any] = {
        "input": "image",
        "profiles": [{"name": "opt", "size": [64, 64]}],
        "window": {"low": -1000, "high": 400},
        "normalise": {"range": [0, 1]},
    }
    return Recipe.model_validate(usual | changes)


def write_phantom(path: Path, change: Callable[[FileDataset], None] | None = None) -> Path:
    """One phantom slice of 64 × 64, `change`d."""
    with tempfile.TemporaryDirectory() as folder:
        (made,) = write_series(Path(folder), [Phantom(name="x", size=64)])
        dataset = pydicom.dcmread(made)
    if change is not None:
        change(dataset)
    dataset.save_as(path)
    return path


def set_pixels(dataset: Dataset, stored: Array) -> None:
    """Give a dataset other pixels of the same datatype: [rows, columns] or [frames, rows, columns]."""
    if stored.ndim == 3:
        dataset.NumberOfFrames = stored.shape[0]
    dataset.Rows, dataset.Columns = stored.shape[-2:]
    dataset.PixelData = stored.astype("<i2" if dataset.PixelRepresentation else "<u2").tobytes()


def item(**values: Any) -> Dataset:
    dataset = Dataset()
    for keyword, value in values.items():
        setattr(dataset, keyword, Sequence(value) if isinstance(value, list) and _is_items(value) else value)
    return dataset


def _is_items(value: list[Any]) -> bool:
    return all(isinstance(part, Dataset) for part in value)


def enhanced(dataset: FileDataset, lines: list[tuple[float, float]], heights: list[float]) -> None:
    """Turn a slice into a multi-frame instance with a rescale line and a height for each frame.

    Frame i is filled with the stored value 100 × (i + 1).
    """
    del dataset.RescaleSlope, dataset.RescaleIntercept, dataset.ImagePositionPatient
    frames = [np.full((8, 8), 100 * (i + 1)) for i in range(len(lines))]
    set_pixels(dataset, np.stack(frames))
    dataset.SharedFunctionalGroupsSequence = Sequence(
        [item(PlaneOrientationSequence=[item(ImageOrientationPatient=[1, 0, 0, 0, 1, 0])])]
    )
    dataset.PerFrameFunctionalGroupsSequence = Sequence(
        item(
            PixelValueTransformationSequence=[item(RescaleSlope=slope, RescaleIntercept=intercept)],
            PlanePositionSequence=[item(ImagePositionPatient=[0, 0, height])],
        )
        for (slope, intercept), height in zip(lines, heights, strict=True)
    )
