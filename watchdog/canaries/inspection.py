"""What DICOM files are, for a person who wonders why they are refused."""

from collections.abc import Collection
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from watchdog.canaries.decode import Decoded, DecodeLimits, Decoder
from watchdog.canaries.files import find, root_of
from watchdog.canaries.truth import clean


@dataclass(frozen=True, kw_only=True, slots=True)
class Inspection:
    """One file. Holds names of attributes and technical facts, never a patient's data."""

    source: str
    decodable: bool
    reason: str = ""
    """Why it can't be decoded, or was not looked into."""
    identifying: tuple[str, ...] = ()
    """Attributes to remove or to allow."""
    sha256: str = ""
    modality: str = ""
    rows: int = 0
    columns: int = 0
    frames: int = 0
    bits_stored: int = 0
    signed: bool = False
    photometric: str = ""
    syntax: str = ""
    """Transfer syntax."""
    rescaled: bool = False
    """Whether stored values can be turned into physical ones."""
    window: bool = False
    """Whether the file proposes a display window."""
    manufacturer: str = ""
    kernel: str = ""

    @property
    def usable(self) -> bool:
        """Whether the file can become a canary, if the recipe suits it."""
        return self.decodable and not self.identifying

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"usable": self.usable}


def inspect(path: Path, allow: Collection[str] = (), limits: DecodeLimits | None = None) -> list[Inspection]:
    """Look at every file at or under `path`, identifying ones included.

    Raises:
        ValueError: there is nothing at `path`.
    """
    files, refused = find(path)
    root = root_of(path)
    seen = [Inspection(source=problem.source, decodable=False, reason=problem.reason) for problem in refused]
    with Decoder(limits or DecodeLimits()) as decoder:
        for file in files:
            decoded = decoder.read(file, allow=allow, even_identifying=True)
            seen.append(_inspection(str(file.relative_to(root)), decoded))
    return sorted(seen, key=lambda inspection: inspection.source)


def _inspection(source: str, decoded: Decoded) -> Inspection:
    header = decoded.header
    if header is None:
        return Inspection(source=source, decodable=False, reason=decoded.reason)
    return Inspection(
        source=source,
        decodable=decoded.pixels is not None,
        reason=decoded.reason,
        identifying=decoded.identifying,
        sha256=header.sha256,
        modality=clean(header.modality),
        rows=header.rows,
        columns=header.columns,
        frames=header.frames,
        bits_stored=header.bits_stored,
        signed=header.signed,
        photometric=clean(header.photometric),
        syntax=header.syntax,
        rescaled=None not in header.rescale,
        window=header.window,
        manufacturer=clean(header.manufacturer),
        kernel=clean(header.kernel),
    )
