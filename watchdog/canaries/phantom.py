"""A synthetic thorax in CT: canaries for those who have none, and traffic for tests and demos.

Nothing here was ever a patient. Lengths are millimetres from the middle of the body: x grows
towards the image's right, y downwards (to the back), z along the table.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian

from watchdog.canaries.anatomy import Body, Canvas, Ellipse, inside, make_body, paint
from watchdog.model.tensor import Array

_DARKEST, _BRIGHTEST = -1024, 3071


class Kernel(StrEnum):
    """How the scanner reconstructs: what its noise looks like, and how crisp edges are."""

    SOFT = "SOFT"
    """Noise is correlated over neighbouring pixels, edges are blurred."""
    SHARP = "SHARP"
    """Noise is white and stronger."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Scanner:
    """What differs between makers' images of the same body."""

    name: str
    """Written as Manufacturer."""
    fov_mm: float
    """Side of the square image."""
    offset_hu: float
    """Calibration error."""
    noise_hu: float
    """Standard deviation with a soft kernel; a sharp one has 1.8 times as much."""
    intercept: int
    bits_stored: int
    signed: bool


SCANNERS = (
    Scanner(name="PHANTOM-A", fov_mm=360, offset_hu=0, noise_hu=12, intercept=-1024, bits_stored=12, signed=False),
    Scanner(name="PHANTOM-B", fov_mm=345, offset_hu=6, noise_hu=17, intercept=0, bits_stored=16, signed=True),
    Scanner(name="PHANTOM-C", fov_mm=385, offset_hu=-5, noise_hu=14, intercept=-8192, bits_stored=16, signed=False),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Nodule:
    """A solid ball in a lung."""

    x_mm: float
    y_mm: float
    diameter_mm: float
    z_mm: float = 0.0
    hu: float = 35.0

    def diameter_at(self, z_mm: float) -> float:
        """Of its cross-section in the slice at `z_mm`; 0 where the slice misses it."""
        squared = (self.diameter_mm / 2) ** 2 - (z_mm - self.z_mm) ** 2
        return 2 * float(np.sqrt(max(squared, 0.0)))


@dataclass(frozen=True, kw_only=True, slots=True)
class Phantom:
    """One slice through one body, as one scanner shows it."""

    name: str
    """The file's stem; unique in its series."""
    scanner: Scanner = SCANNERS[0]
    kernel: Kernel = Kernel.SOFT
    size: int = 512
    """Rows and columns."""
    anatomy: int = 0
    """Seed of the vessels and of the body's proportions: slices of one body share it."""
    z_mm: float = 0.0
    nodules: tuple[Nodule, ...] = ()

    @property
    def spacing_mm(self) -> float:
        return self.scanner.fov_mm / self.size

    def pixel(self, nodule: Nodule) -> tuple[float, float]:
        """Column and row of a nodule's middle, counted from 0 at the first pixel's middle."""
        middle = (self.size - 1) / 2
        return middle + nodule.x_mm / self.spacing_mm, middle + nodule.y_mm / self.spacing_mm

    def truth(self) -> dict[str, float | str]:
        """The right answer, in the form that a truth file has."""
        seen = [nodule for nodule in self.nodules if nodule.diameter_at(self.z_mm) > 0]
        known: dict[str, float | str] = {"nodule": float(bool(seen)), "nodules": float(len(seen))}
        if not seen:
            return known | {"pathology": "none"}
        largest = max(seen, key=lambda nodule: nodule.diameter_at(self.z_mm))
        diameter = largest.diameter_at(self.z_mm)
        column, row = self.pixel(largest)
        return known | {
            "diameter_mm": round(diameter, 3),
            "column": round(column, 2),
            "row": round(row, 2),
            "pathology": "nodule",
            "nodule_size": "small" if diameter < 6 else "medium" if diameter < 12 else "large",
        }


def make_slice(spec: Phantom, rng: np.random.Generator) -> Array:
    """Hounsfield units of one slice, float32 [rows, columns]; `rng` only makes the noise.

    Pure, and about 25 ms for 512 × 512.
    """
    canvas = Canvas(spec.size, spec.spacing_mm)
    paint(canvas, make_body(spec.anatomy))
    for nodule in spec.nodules:
        radius = nodule.diameter_at(spec.z_mm) / 2
        if radius > 0:
            canvas.ellipse(Ellipse(nodule.x_mm, nodule.y_mm, radius, radius), nodule.hu)
    return _reconstruct(canvas.image, spec, rng)


def _reconstruct(image: Array, spec: Phantom, rng: np.random.Generator) -> Array:
    noise = rng.standard_normal(image.shape, dtype=np.float32)
    if spec.kernel is Kernel.SOFT:
        image, noise = _smooth(image), _smooth(_smooth(noise))
        level = spec.scanner.noise_hu
    else:
        level = 1.8 * spec.scanner.noise_hu
    noise *= level / max(float(noise.std()), 1e-6)
    image += noise + np.float32(spec.scanner.offset_hu)
    return np.clip(image, _DARKEST, _BRIGHTEST)


def _smooth(image: Array) -> Array:
    for axis in (0, 1):
        image = 0.5 * image + 0.25 * (np.roll(image, 1, axis) + np.roll(image, -1, axis))
    return image


def draw(rng: np.random.Generator, *, name: str, size: int = 512, nodules: int = 0) -> Phantom:
    """A body, scanner and kernel at random, with `nodules` of 4 to 20 mm somewhere in its lungs."""
    anatomy = int(rng.integers(2**31))
    body = make_body(anatomy)
    return Phantom(
        name=name,
        scanner=SCANNERS[int(rng.integers(len(SCANNERS)))],
        kernel=tuple(Kernel)[int(rng.integers(len(Kernel)))],
        size=size,
        anatomy=anatomy,
        nodules=tuple(_draw_nodule(body, rng) for _ in range(nodules)),
    )


def _draw_nodule(body: Body, rng: np.random.Generator) -> Nodule:
    diameter = float(rng.uniform(4, 20))
    while True:
        x, y = inside(body.lungs[int(rng.integers(2))], 0.75, rng)
        if not body.heart._replace(tilt=0).holds(x, y, 1.2 + diameter / 60) and abs(x) > 26 + diameter / 2:
            return Nodule(x_mm=x, y_mm=y, diameter_mm=diameter)


_PLACES = (
    # x, y and diameter in mm: both lungs, front and back, from the smallest worth finding
    (-82.0, -38.0, 4.5),
    (84.0, 30.0, 6.0),
    (-70.0, 36.0, 8.0),
    (92.0, -20.0, 11.0),
    (-95.0, 4.0, 15.0),
    (72.0, 48.0, 20.0),
)


def default_set(seed: int = 0, size: int = 512) -> list[Phantom]:
    """Twelve slices: each scanner and kernel twice, once with a nodule and once without."""
    anatomies = np.random.default_rng(seed).integers(2**31, size=12).tolist()
    variants = [(scanner, kernel) for scanner in SCANNERS for kernel in Kernel]
    healthy = [
        Phantom(name=f"clear-{i + 1:02d}", scanner=scanner, kernel=kernel, size=size, anatomy=anatomies[i])
        for i, (scanner, kernel) in enumerate(variants)
    ]
    ill = [
        replace(
            spec,
            name=f"nodule-{i + 1:02d}",
            anatomy=anatomies[i + 6],
            z_mm=10.0,
            nodules=(Nodule(x_mm=x, y_mm=y, z_mm=10.0, diameter_mm=diameter),),
        )
        for i, (spec, (x, y, diameter)) in enumerate(zip(healthy, _PLACES, strict=True))
    ]
    return healthy + ill


def volume(spec: Phantom, *, slices: int, spacing_mm: float = 2.5) -> list[Phantom]:
    """Neighbouring slices of one body, centred on `spec`: one series."""
    first = spec.z_mm - spacing_mm * (slices - 1) / 2
    return [
        replace(spec, name=f"{spec.name}-{i + 1:03d}", z_mm=round(first + i * spacing_mm, 4)) for i in range(slices)
    ]


def write_series(folder: Path, specs: Sequence[Phantom], seed: int = 0) -> list[Path]:
    """Write each slice as an uncompressed CT Image, and ``truth.yaml`` with the right answers.

    Slices of one scanner and kernel make one series. The same seed gives the same bytes (with the
    same releases of numpy and pydicom).
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number, spec in enumerate(specs, start=1):
        path = folder / f"{spec.name}.dcm"
        hu = make_slice(spec, np.random.default_rng((seed, number)))
        _dataset(spec, hu, number, seed).save_as(path, enforce_file_format=True, overwrite=True)
        paths.append(path)
    truth = {path.name: spec.truth() for path, spec in zip(paths, specs, strict=True)}
    (folder / "truth.yaml").write_text(yaml.safe_dump(truth), encoding="utf-8")
    return paths


def _uid(*parts: object) -> str:
    """A UID under the root for UUIDs, which names nobody, that depends on `parts` alone."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return f"2.25.{int.from_bytes(digest[:16], 'big')}"


def _dataset(spec: Phantom, hu: Array, number: int, seed: int) -> Dataset:
    dataset = Dataset()
    dataset.file_meta = _file_meta()
    dataset.SOPClassUID = CTImageStorage
    dataset.SOPInstanceUID = _uid(seed, spec, number)
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.StudyInstanceUID = _uid(seed, "study")
    dataset.SeriesInstanceUID = _uid(seed, "series", spec.scanner.name, spec.kernel)
    dataset.FrameOfReferenceUID = _uid(seed, "frame of reference", spec.scanner.name)
    _update(dataset, _NOBODY)
    _update(dataset, _geometry(spec, number))
    _update(dataset, _pixels(spec, hu))
    return dataset


def _update(dataset: Dataset, values: dict[str, Any]) -> None:
    for keyword, value in values.items():
        setattr(dataset, keyword, value)


def _file_meta() -> FileMetaDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = UID(_uid("inference-watchdog phantom"))
    meta.ImplementationVersionName = "WATCHDOG_PHANTOM"
    return meta


_NOBODY: dict[str, Any] = {
    # attributes that must be there and may be empty
    "PatientName": "",
    "PatientID": "",
    "PatientBirthDate": "",
    "PatientSex": "",
    "StudyDate": "",
    "StudyTime": "",
    "StudyID": "",
    "AccessionNumber": "",
    "ReferringPhysicianName": "",
    "PositionReferenceIndicator": "",
    "KVP": None,
    "AcquisitionNumber": None,
    "PatientIdentityRemoved": "YES",
    "DeidentificationMethod": "Synthetic: computed, never a patient",
    "BurnedInAnnotation": "NO",
    "Modality": "CT",
    "ImageType": ["DERIVED", "PRIMARY", "AXIAL"],
    "PatientPosition": "HFS",
    "BodyPartExamined": "CHEST",
}


def _geometry(spec: Phantom, number: int) -> dict[str, Any]:
    corner = -(spec.size - 1) / 2 * spec.spacing_mm
    return {
        "Manufacturer": spec.scanner.name,
        "ConvolutionKernel": str(spec.kernel),
        "SeriesNumber": 1,
        "InstanceNumber": number,
        "PixelSpacing": [round(spec.spacing_mm, 6)] * 2,
        "SliceThickness": 2.5,
        "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
        "ImagePositionPatient": [round(corner, 6), round(corner, 6), spec.z_mm],
    }


def _pixels(spec: Phantom, hu: Array) -> dict[str, Any]:
    scanner = spec.scanner
    stored = np.rint(hu).astype(np.int32) - scanner.intercept
    return {
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "Rows": spec.size,
        "Columns": spec.size,
        "BitsAllocated": 16,
        "BitsStored": scanner.bits_stored,
        "HighBit": scanner.bits_stored - 1,
        "PixelRepresentation": int(scanner.signed),
        "RescaleIntercept": scanner.intercept,
        "RescaleSlope": 1,
        "RescaleType": "HU",
        "WindowCenter": -600,
        "WindowWidth": 1500,
        "PixelData": stored.astype("<i2" if scanner.signed else "<u2").tobytes(),
    }
