import os
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import DeflatedExplicitVRLittleEndian

from tests.canaries.samples import ALL_OF_IT, BUNDLED, REAL, write_phantom
from watchdog.canaries.decode import Decoded, DecodeLimits, Decoder


@pytest.fixture(scope="module")
def decoder() -> Iterator[Decoder]:
    with Decoder(DecodeLimits()) as made:
        yield made


def read(decoder: Decoder, path: Path) -> Decoded:
    return decoder.read(path, allow=ALL_OF_IT)


@pytest.mark.parametrize(
    "name",
    [
        "MR_small.dcm",
        "MR_small_RLE.dcm",
        "MR_small_bigendian.dcm",
        "MR_small_implicit.dcm",
        "MR_small_jp2klossless.dcm",
        "MR_small_jpeg_ls_lossless.dcm",
    ],
)
def test_every_lossless_syntax_gives_the_same_pixels(decoder: Decoder, name: str) -> None:
    got, expected = read(decoder, BUNDLED / name), pydicom.dcmread(BUNDLED / "MR_small.dcm").pixel_array
    assert got.reason == ""
    assert got.pixels is not None
    np.testing.assert_array_equal(got.pixels[0], expected)


@pytest.mark.parametrize(
    ("path", "says"),
    [
        (REAL / "JPEG-LL.dcm", "JPEG Lossless, Non-Hierarchical, First-Order Prediction"),
        (REAL / "SC_rgb.dcm", "colour image (RGB)"),
        (REAL / "mlut_18.dcm", "ModalityLUTSequence"),
        (BUNDLED / "MR_truncated.dcm", "8130 vs 8192 bytes"),
        (BUNDLED / "rtplan.dcm", "holds no image"),
        (BUNDLED / "README.txt", "not a DICOM file"),
        (BUNDLED / "badVR.dcm", "is damaged"),
        (BUNDLED / "nowhere.dcm", "can't be read: No such file"),
        (BUNDLED, "can't be read: Is a directory"),
    ],
)
def test_reasons(decoder: Decoder, path: Path, says: str) -> None:
    got = read(decoder, path)
    assert says in got.reason
    assert got.pixels is None


def test_lossless_jpeg_says_what_to_do(decoder: Decoder) -> None:
    assert "store the canary uncompressed" in read(decoder, REAL / "JPEG-LL.dcm").reason


def test_identifying_attributes_stop_the_decoding(decoder: Decoder) -> None:
    path = BUNDLED / "CT_small.dcm"
    refused = decoder.read(path)
    assert "PatientName" in refused.identifying
    assert "private" in refused.identifying
    assert refused.pixels is None
    assert decoder.read(path, even_identifying=True).pixels is not None
    assert decoder.read(path, allow=refused.identifying).pixels is not None


@pytest.mark.parametrize(
    "content", [b"", b"hello", b"\0" * 128, b"\0" * 128 + b"DICM", b"\0" * 128 + b"DICM" + b"\xff" * 64]
)
def test_files_that_are_no_dicom(decoder: Decoder, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.dcm"
    path.write_bytes(content)
    got = read(decoder, path)
    assert got.reason
    assert got.pixels is None


def test_claimed_size_is_capped_before_pixels_are_touched(decoder: Decoder, tmp_path: Path) -> None:
    def bomb(dataset: pydicom.FileDataset) -> None:
        dataset.Rows = dataset.Columns = 65535
        dataset.NumberOfFrames = 1000

    assert "claims 4294836225000 pixels" in read(decoder, write_phantom(tmp_path / "x.dcm", bomb)).reason


def test_large_files_are_not_read(tmp_path: Path) -> None:
    path = tmp_path / "x.dcm"
    with path.open("wb") as file:
        file.truncate(3 << 20)
    with Decoder(DecodeLimits(file_mib=2)) as decoder:
        assert decoder.read(path).reason == "is larger than 2 MiB"


def test_memory_limit_holds(tmp_path: Path) -> None:
    def inflate(dataset: pydicom.FileDataset) -> None:
        dataset.PixelData = bytes(220 << 20)
        dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian

    path = write_phantom(tmp_path / "bomb.dcm", inflate)
    assert path.stat().st_size < 1 << 20
    with Decoder(DecodeLimits(memory_mib=256)) as decoder:
        assert decoder.read(path).reason == "needs more than 256 MiB of memory"
        assert decoder.read(write_phantom(tmp_path / "fine.dcm")).pixels is not None


def slow(tmp_path: Path) -> Path:
    """Some seconds' worth of decoding."""
    dataset = pydicom.dcmread(REAL / "RG1_J2KR.dcm")
    frame = next(generate_frames(dataset.PixelData, number_of_frames=1))
    dataset.NumberOfFrames = 12
    dataset.PixelData = encapsulate([frame] * 12)
    dataset.save_as(tmp_path / "slow.dcm")
    return tmp_path / "slow.dcm"


@pytest.mark.parametrize(
    ("limits", "says"),
    [({"wall": "1s"}, "took too long"), ({"cpu": "1ms"}, "took more than 0.001 s of processor time")],
)
def test_time_limits_hold_and_the_next_file_is_read(tmp_path: Path, limits: dict[str, str], says: str) -> None:
    path, fine = slow(tmp_path), write_phantom(tmp_path / "fine.dcm")
    with Decoder(DecodeLimits.model_validate(limits)) as decoder:
        assert decoder.read(fine).pixels is not None
        assert says in read(decoder, path).reason
        assert decoder.read(fine).pixels is not None


def test_a_killed_worker_is_a_refusal(tmp_path: Path) -> None:
    path = write_phantom(tmp_path / "x.dcm")
    with Decoder(DecodeLimits()) as decoder:
        decoder.read(path)
        assert decoder._worker is not None
        os.kill(decoder._worker.pid, signal.SIGKILL)
        assert "killed" in decoder.read(path).reason
        assert decoder.read(path).pixels is not None


def test_no_worker_is_left_behind(tmp_path: Path) -> None:
    with Decoder(DecodeLimits()) as decoder:
        decoder.read(write_phantom(tmp_path / "x.dcm"))
        worker = decoder._worker
    assert worker is not None
    assert worker.returncode == -signal.SIGKILL


def test_dangerous_decoders_are_not_even_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    marker = tmp_path / "imported"
    for name in ("gdcm", "pylibjpeg", "openjpeg", "libjpeg", "rle"):
        (tmp_path / f"{name}.py").write_text(f"import sys\n__version__ = '99.0'\nopen({str(marker)!r}, 'w')\n")
    monkeypatch.syspath_prepend(tmp_path)
    with Decoder(DecodeLimits()) as decoder:
        assert "can't be decoded here" in read(decoder, REAL / "JPEG-LL.dcm").reason
    assert not marker.exists()


SAMPLES = [
    BUNDLED / "MR_small_jp2klossless.dcm",
    BUNDLED / "MR_small_RLE.dcm",
    REAL / "emri_small_jpeg_ls_lossless.dcm",
]


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    sample=st.sampled_from(SAMPLES),
    flips=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 7)), min_size=1, max_size=12),
    cut=st.none() | st.floats(0, 1),
)
def test_damage_is_a_refusal_or_an_image_never_an_error(
    decoder: Decoder,
    tmp_path_factory: pytest.TempPathFactory,
    sample: Path,
    flips: list[tuple[float, int]],
    cut: float | None,
) -> None:
    data = bytearray(sample.read_bytes())
    for place, bit in flips:
        data[int(place * len(data))] ^= 1 << bit
    path = tmp_path_factory.mktemp("damaged") / "x.dcm"
    path.write_bytes(data[: int(cut * len(data))] if cut is not None else data)
    got = read(decoder, path)
    assert (got.pixels is None) is bool(got.reason)
    if got.pixels is not None:
        assert got.header is not None
        assert got.pixels.shape == (got.header.frames, got.header.rows, got.header.columns)
