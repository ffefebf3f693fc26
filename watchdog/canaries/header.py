"""What the watchdog needs to know of a DICOM image beside its pixels."""

import hashlib
import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:  # the watchdog itself reads headers without pydicom
    from pydicom.dataset import Dataset

Vector = tuple[float, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Header:
    """Technical facts of one DICOM image; none of them identifies anyone."""

    sha256: str
    """Of the whole file."""
    modality: str
    manufacturer: str
    kernel: str
    syntax: str
    """The transfer syntax's name."""
    photometric: str
    rows: int
    columns: int
    frames: int
    samples: int
    bits_stored: int
    signed: bool
    integers: bool
    """Whether pixels are stored as integers, which all but parametric maps are."""
    window: bool
    """Whether the file proposes one."""
    lut: bool
    """Whether stored values become physical ones through a table rather than a line."""
    series: str
    """The same for instances of one series; made from its UID, and not to be turned back."""
    rescale: tuple[tuple[float, float] | None, ...]
    """Slope and intercept of each frame, where it has them."""
    padding: tuple[float, float] | None
    """The range of stored values that mean "no image here"."""
    orientation: Vector | None
    """Direction cosines of a row and of a column, of the first frame."""
    positions: tuple[Vector | None, ...]
    """Where each frame's first pixel is, in mm."""

    @property
    def range(self) -> tuple[int, int]:
        """The least and the greatest value that the stored bits can express."""
        if self.signed:
            return -(1 << (self.bits_stored - 1)), (1 << (self.bits_stored - 1)) - 1
        return 0, (1 << self.bits_stored) - 1

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """The inverse of `to_json`, from JSON's lists."""
        return cls(**{key: _tuples(value) for key, value in data.items()})


def _tuples(value: Any) -> Any:
    return tuple(_tuples(part) for part in value) if isinstance(value, list | tuple) else value


def read_header(dataset: "Dataset", sha256: str) -> Header:
    """The facts of a dataset.

    Raises:
        ValueError, TypeError, AttributeError, OverflowError: an attribute is not what it must be.
    """
    frames = max(1, int(dataset.get("NumberOfFrames") or 1))
    groups = [_groups(dataset, index) for index in range(min(frames, 1 << 16))]
    series = str(dataset.get("SeriesInstanceUID", ""))
    return Header(
        sha256=sha256,
        modality=_text(dataset, "Modality"),
        manufacturer=_text(dataset, "Manufacturer"),
        kernel=_text(dataset, "ConvolutionKernel"),
        syntax=dataset.file_meta.TransferSyntaxUID.name,
        photometric=_text(dataset, "PhotometricInterpretation"),
        rows=int(dataset.get("Rows") or 0),
        columns=int(dataset.get("Columns") or 0),
        frames=frames,
        samples=int(dataset.get("SamplesPerPixel") or 1),
        bits_stored=int(dataset.get("BitsStored") or 0),
        signed=bool(dataset.get("PixelRepresentation")),
        integers="PixelData" in dataset,
        window=any(_first(group, "FrameVOILUTSequence", "WindowCenter") is not None for group in groups[:1]),
        lut="ModalityLUTSequence" in dataset,
        series=hashlib.sha256(series.encode()).hexdigest()[:16] if series else "",
        rescale=tuple(_rescale(group) for group in groups),
        padding=_padding(dataset),
        orientation=_vector(_first(groups[0], "PlaneOrientationSequence", "ImageOrientationPatient"), 6),
        positions=tuple(_vector(_first(group, "PlanePositionSequence", "ImagePositionPatient"), 3) for group in groups),
    )


def _groups(dataset: "Dataset", index: int) -> "list[Dataset]":
    """Where to look for a frame's attributes: its own group, the shared one, the dataset."""
    own = dataset.get("PerFrameFunctionalGroupsSequence") or []
    return [*own[index : index + 1], *(dataset.get("SharedFunctionalGroupsSequence") or [])[:1], dataset]


def _first(groups: "list[Dataset]", sequence: str, keyword: str) -> Any:
    """An attribute from the innermost group that has it, within `sequence` or by itself."""
    for group in groups:
        for holder in (*(group.get(sequence) or [])[:1], group):
            value = holder.get(keyword)
            if value is not None:
                return value
    return None


def _rescale(groups: "list[Dataset]") -> tuple[float, float] | None:
    slope = _first(groups, "PixelValueTransformationSequence", "RescaleSlope")
    intercept = _first(groups, "PixelValueTransformationSequence", "RescaleIntercept")
    if slope is None or intercept is None:
        return None
    line = float(slope), float(intercept)
    if not all(map(math.isfinite, line)) or line[0] == 0:
        raise ValueError("RescaleSlope or RescaleIntercept is no usable number")
    return line


def _padding(dataset: "Dataset") -> tuple[float, float] | None:
    value = dataset.get("PixelPaddingValue")
    if value is None:
        return None
    other = dataset.get("PixelPaddingRangeLimit")
    ends = sorted((float(value), float(value if other is None else other)))
    return ends[0], ends[1]


def _vector(value: Any, length: int) -> Vector | None:
    if value is None or isinstance(value, str) or len(value) != length:
        return None
    return tuple(float(part) for part in value)


def _text(dataset: "Dataset", keyword: str) -> str:
    value = dataset.get(keyword)
    if value is None:
        return ""
    text = value if isinstance(value, str) else "/".join(map(str, value))
    return "".join(character for character in text if character.isprintable())[:64].strip()
