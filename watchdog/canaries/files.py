"""Finding the files of a canary set."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_SIDECARS = {".yaml", ".yml", ".json", ".md", ".sha256"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Refused:
    """A file, or a series, that did not become a canary."""

    source: str
    """Relative to the set's root."""
    reason: str
    """What is wrong with `source`; reads on from it, as in "x.dcm is a colour image"."""
    identifying: tuple[str, ...] = ()
    """The attributes to remove, or to allow, if that is the reason."""


def root_of(path: Path) -> Path:
    """The folder that sources are named relative to."""
    return path if path.is_dir() else path.parent


def find(path: Path) -> tuple[list[Path], list[Refused]]:
    """All files that may be DICOM under a folder, sorted; or the file itself.

    Raises:
        ValueError: there is nothing at `path`.
    """
    if not path.exists():
        raise ValueError(f"there is no canary file or folder {path}")
    if not path.is_dir():
        return [path], []
    files: list[Path] = []
    refused: list[Refused] = []
    for file in _walk(path):
        reason = _objection(file.relative_to(path))
        if reason:
            refused.append(Refused(source=str(file.relative_to(path)), reason=reason))
        else:
            files.append(file)
    return files, refused


def _walk(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        if any(part.startswith("..") for part in parts):
            continue  # Kubernetes keeps a mounted ConfigMap's files there; they show up as links too
        if path.is_file() and path.suffix.lower() not in _SIDECARS and not path.name.startswith(("README", "LICENSE")):
            yield path


def _objection(file: Path) -> str:
    if any(part.startswith(".") for part in file.parts):
        return "is hidden"
    if file.name.upper() == "DICOMDIR":
        return "is a directory of other files, not an image"
    return ""
