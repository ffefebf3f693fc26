"""What is known of canaries beside their pixels: a truth file's entries, and strata."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from watchdog.canaries.header import Header

_NAMES = ("truth.yaml", "truth.json")
SERIES = "."
"""Key of the entry that is about a folder's series as a whole."""
_KEY = re.compile(r"[a-z][a-z0-9_]{0,39}")
_MAX_TEXT = 40


@dataclass(frozen=True, kw_only=True, slots=True)
class Known:
    """One entry of a truth file."""

    truth: Mapping[str, float] = field(default_factory=dict)
    strata: Mapping[str, str] = field(default_factory=dict)


class Truths:
    """The truth files beside a set's images, each read once when first asked for."""

    def __init__(self) -> None:
        self._folders: dict[Path, dict[str, Known]] = {}
        self._asked: set[tuple[Path, str]] = set()
        self._broken: list[tuple[Path, str]] = []

    def of(self, folder: Path, name: str) -> Known:
        """What is known of a file in `folder`, or of its series as `SERIES`."""
        self._asked.add((folder, name))
        if folder not in self._folders:
            self._folders[folder] = self._read(folder)
        return self._folders[folder].get(name, Known())

    def problems(self) -> list[tuple[Path, str]]:
        """Truth files that can't be used, and entries that nothing asked for: typing errors, mostly."""
        unused = [
            (_file_in(folder) or folder, f"has an entry for {name}, which is not there")
            for folder, entries in self._folders.items()
            for name in sorted(entries)
            if (folder, name) not in self._asked
        ]
        return self._broken + unused

    def _read(self, folder: Path) -> dict[str, Known]:
        path = _file_in(folder)
        if path is None:
            return {}
        try:
            return _entries(path)
        except ValueError as error:
            self._broken.append((path, str(error)))
            return {}


def _file_in(folder: Path) -> Path | None:
    return next((folder / name for name in _NAMES if (folder / name).is_file()), None)


def _entries(path: Path) -> dict[str, Known]:
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))  # JSON is YAML, too
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(f"can't be read: {error}") from error
    if not isinstance(data, dict) or not all(isinstance(entry, dict) for entry in data.values()):
        raise ValueError("must map file names to mappings, such as x.dcm: {nodule: 1}")
    return {str(name): _known(str(name), entry) for name, entry in data.items()}


def _known(name: str, entry: dict[Any, Any]) -> Known:
    truth: dict[str, float] = {}
    strata: dict[str, str] = {}
    for key, value in entry.items():
        if not isinstance(key, str) or not _KEY.fullmatch(key):
            raise ValueError(f"{name}: {key!r} is no key; use lower-case letters, digits and _")
        if isinstance(value, str):
            strata[key] = clean(value)
        elif isinstance(value, bool | int | float) and math.isfinite(value):
            truth[key] = float(value)
        else:
            raise ValueError(f"{name}.{key} must be a finite number or a text")
    return Known(truth=truth, strata=strata)


def strata(header: Header, known: Known) -> dict[str, str]:
    """Groupings of an image: by equipment, from DICOM, and whatever texts its truth entry has."""
    equipment = {"modality": header.modality, "manufacturer": header.manufacturer, "kernel": header.kernel}
    return {key: clean(value) for key, value in equipment.items() if clean(value)} | dict(known.strata)


def clean(text: str) -> str:
    """Printable, short, and with single spaces: fit for a metric's label."""
    return " ".join(re.sub(r"[^A-Za-z0-9 ._/+-]", " ", text).split())[:_MAX_TEXT].rstrip()
