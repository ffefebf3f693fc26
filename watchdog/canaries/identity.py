"""Which attributes of a dataset may still tell whose it is (DICOM PS3.15, Basic Profile).

The rule, for the dataset, its file meta information and every nested sequence:

- An attribute that the profile removes, empties or replaces must be empty, or hold one of the
  dummies that ``dicom-anonymizer`` writes (``ANONYMIZED``, 1 January of year 1).
- UIDs must stand under a root that says nothing of who made them: ``2.25.`` (UUIDs), pydicom's
  (random or hashed), or the standard's own.
- Sequences that the profile keeps once their UIDs are replaced are judged by what is in them.
- Nothing private, no burned-in annotation, no recognisable face, no text in the preamble.

Whatever else is known to be harmless is allowed by its keyword, file by file or for good.
Only names leave here, never values.
"""

from collections.abc import Iterator
from typing import Any

from dicomanonymizer.dicom_anonymization_databases.dicomfields_2026c import ALL_TAGS, U_TAGS, X_Z_U_STAR_TAGS
from pydicom.datadict import keyword_for_tag
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.tag import BaseTag

PRIVATE = "private"
"""Stands for all private attributes, among the names returned and in an allow-list."""
PREAMBLE = "preamble"
"""Stands for the 128 bytes before a DICOM file's own."""

_ANONYMOUS_ROOTS = ("2.25.", "1.2.826.0.1.3680043.8.498.", "1.2.840.10008.")
_DUMMIES = {"ANONYMIZED", "00010101", "00010101010101.000000+0000", "000000.00", "000Y", "http://anonymized.invalid"}
_EXACT = {tuple(entry) for entry in ALL_TAGS if len(entry) == 2} - {tuple(entry) for entry in X_Z_U_STAR_TAGS}
_RANGES = [tuple(entry) for entry in ALL_TAGS if len(entry) == 4]
_UIDS = {tuple(entry) for entry in U_TAGS}
_FILE_META = (
    # not in the profile's table, whose text has the file meta information written anew
    "SourceApplicationEntityTitle",
    "SendingApplicationEntityTitle",
    "ReceivingApplicationEntityTitle",
    "SourcePresentationAddress",
    "SendingPresentationAddress",
    "ReceivingPresentationAddress",
    "PrivateInformation",
)
_FLAGS = ("BurnedInAnnotation", "RecognizableVisualFeatures")


def identifying(dataset: Dataset) -> list[str]:
    """Keywords of the attributes that may identify a patient, sorted, each once."""
    return sorted(set(_everything(dataset)))


def _everything(dataset: Dataset) -> Iterator[str]:
    yield from _named(dataset)
    meta = getattr(dataset, "file_meta", Dataset())
    yield from _named(meta)
    yield from (keyword for keyword in _FILE_META if not _empty(meta.get(keyword)))
    if any(getattr(dataset, "preamble", b"")):
        yield PREAMBLE


def _named(dataset: Dataset) -> Iterator[str]:
    for tag in sorted(dataset.keys()):
        if tag.is_private:
            yield PRIVATE
            continue
        if _listed(tag) and not _harmless(dataset, tag):
            yield _name(tag)
        for item in _items(dataset, tag):
            yield from _named(item)
    yield from (flag for flag in _FLAGS if str(dataset.get(flag, "")).strip().upper() == "YES")


def _listed(tag: BaseTag) -> bool:
    return (tag.group, tag.element) in _EXACT or any(
        tag.group & group_mask == group and tag.element & element_mask == element
        for group, element, group_mask, element_mask in _RANGES
    )


def _harmless(dataset: Dataset, tag: BaseTag) -> bool:
    try:
        value = dataset[tag].value
    except Exception:  # noqa: BLE001 - what can't even be read can't be shown to be harmless
        return False
    if _empty(value):
        return True
    if isinstance(value, Sequence | bytes):
        return False
    texts = [str(part) for part in _parts(value)]
    if (tag.group, tag.element) in _UIDS:
        return all(text.startswith(_ANONYMOUS_ROOTS) for text in texts)
    return all(text in _DUMMIES for text in texts)


def _items(dataset: Dataset, tag: BaseTag) -> Sequence | tuple[()]:
    raw = dataset.get_item(tag)
    if raw.VR not in ("SQ", "UN", None):
        return ()  # most attributes: known to hold no items, and left unparsed
    value = dataset[tag].value
    return value if isinstance(value, Sequence) else ()


def _parts(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) or hasattr(value, "append") else [value]


def _empty(value: Any) -> bool:
    if value is None or isinstance(value, Sequence):
        return not value
    if isinstance(value, bytes):
        return not value.strip(b"\0 ")
    return not any(str(part).strip() for part in _parts(value))


def _name(tag: BaseTag) -> str:
    return keyword_for_tag(tag) or str(tag)
