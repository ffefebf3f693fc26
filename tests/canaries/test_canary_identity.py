from pathlib import Path
from typing import Any

import pydicom
import pytest
from dicomanonymizer import anonymize_dataset
from pydicom.sequence import Sequence
from pydicom.uid import UID

from tests.canaries.samples import BUNDLED, item, write_phantom
from watchdog.canaries.identity import identifying


def changed(tmp_path: Path, **values: Any) -> pydicom.FileDataset:
    dataset = pydicom.dcmread(write_phantom(tmp_path / "x.dcm"))
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    return dataset


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("PatientName", "Doe^Jane"),
        ("PatientID", "4711"),
        ("PatientBirthDate", "19700101"),
        ("PatientSex", "F"),
        ("PatientAge", "051Y"),
        ("StudyDate", "20240101"),
        ("InstitutionName", "St Elsewhere"),
        ("StationName", "CT-3"),
        ("ProtocolName", "Thorax routine"),
        ("SeriesDescription", "Jane's thorax"),
        ("OperatorsName", ["A^B", "C^D"]),
        ("DeviceSerialNumber", "123"),
        ("StudyInstanceUID", "1.3.12.2.1107.5.1.4.1"),
        ("SOPInstanceUID", "1.3.12.2.1107.5.1.4.2"),
        ("FrameOfReferenceUID", "1.3.12.2.1107.5.1.4.3"),
        ("BurnedInAnnotation", "YES"),
        ("RecognizableVisualFeatures", "YES"),
    ],
)
def test_names_what_identifies_and_never_its_value(tmp_path: Path, keyword: str, value: Any) -> None:
    assert identifying(changed(tmp_path, **{keyword: value})) == [keyword]


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("PatientName", ""),
        ("PatientName", "ANONYMIZED"),
        ("PatientBirthDate", "00010101"),
        ("StudyInstanceUID", "2.25.1"),
        ("StudyInstanceUID", "1.2.826.0.1.3680043.8.498.1"),
        ("Manufacturer", "Somebody"),
        ("ReferencedImageSequence", []),
    ],
)
def test_empty_and_dummy_values_pass(tmp_path: Path, keyword: str, value: Any) -> None:
    assert identifying(changed(tmp_path, **{keyword: value})) == []


def test_looks_into_nested_sequences(tmp_path: Path) -> None:
    inner = item(ReferencedSOPInstanceUID="1.2.3", PatientName="Doe^Jane")
    source = item(ReferencedSOPInstanceUID="2.25.5", PurposeOfReferenceCodeSequence=[inner])
    dataset = changed(tmp_path, SourceImageSequence=Sequence([source]))
    assert identifying(dataset) == ["PatientName", "ReferencedSOPInstanceUID"]


def test_private_attributes_are_one_name(tmp_path: Path) -> None:
    dataset = changed(tmp_path)
    dataset.private_block(0x0011, "ACME", create=True).add_new(1, "LO", "x")
    nested = changed(tmp_path)
    hidden = item()
    hidden.private_block(0x0011, "ACME", create=True).add_new(1, "LO", "x")
    nested.SourceImageSequence = Sequence([hidden])
    assert identifying(dataset) == identifying(nested) == ["private"]


def test_overlays_and_curves(tmp_path: Path) -> None:
    dataset = changed(tmp_path)
    dataset.add_new(0x60023000, "OW", b"\1\0")
    dataset.add_new(0x50000010, "US", 1)
    assert identifying(dataset) == ["NumberOfPoints", "OverlayData"]


def test_file_meta_and_preamble_count(tmp_path: Path) -> None:
    dataset = changed(tmp_path)
    dataset.file_meta.SourceApplicationEntityTitle = "PACS"
    dataset.file_meta.MediaStorageSOPInstanceUID = UID("1.2.3")
    dataset.preamble = b"Jane".ljust(128, b"\0")
    assert identifying(dataset) == ["MediaStorageSOPInstanceUID", "SourceApplicationEntityTitle", "preamble"]


def test_what_the_anonymiser_leaves_is_little(tmp_path: Path) -> None:
    dataset = pydicom.dcmread(BUNDLED / "CT_small.dcm")
    assert len(identifying(dataset)) > 10
    anonymize_dataset(dataset)
    assert identifying(dataset) == ["SourceApplicationEntityTitle", "preamble"]
