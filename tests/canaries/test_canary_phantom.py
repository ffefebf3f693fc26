import hashlib
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
import yaml
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from watchdog.canaries.identity import identifying
from watchdog.canaries.phantom import (
    SCANNERS,
    Kernel,
    Nodule,
    Phantom,
    default_set,
    draw,
    make_slice,
    volume,
    write_series,
)


def rng() -> np.random.Generator:
    return np.random.default_rng(7)


def test_same_seed_same_bytes_and_another_seed_other_bytes(tmp_path: Path) -> None:
    def hashes(folder: str, seed: int) -> list[str]:
        paths = write_series(tmp_path / folder, default_set(seed, size=64), seed)
        return [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths]

    first = hashes("a", 1)
    assert first == hashes("b", 1)
    assert len(set(first)) == 12
    assert not set(first) & set(hashes("c", 2))


def test_default_set_covers_scanners_kernels_and_sizes() -> None:
    specs = default_set()
    ill = [spec for spec in specs if spec.nodules]
    assert len(ill) == len(specs) / 2
    for group in (ill, [spec for spec in specs if not spec.nodules]):
        assert {(spec.scanner, spec.kernel) for spec in group} == {(s, k) for s in SCANNERS for k in Kernel}
    assert {spec.truth()["nodule_size"] for spec in ill} == {"small", "medium", "large"}


def test_file_is_a_complete_ct_image_of_nobody(tmp_path: Path) -> None:
    for path in write_series(tmp_path, default_set(size=64)):
        dataset = pydicom.dcmread(path)
        assert dataset.SOPClassUID == dataset.file_meta.MediaStorageSOPClassUID == CTImageStorage
        assert dataset.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
        assert dataset.PatientIdentityRemoved == "YES"
        assert identifying(dataset) == []
        low, high = dataset.pixel_array.min(), dataset.pixel_array.max()
        assert int(high) - int(low) < 2**dataset.BitsStored


@pytest.mark.parametrize("scanner", SCANNERS)
def test_stored_values_rescale_to_the_hounsfield_units_made(tmp_path: Path, scanner: object) -> None:
    spec = Phantom(name="x", scanner=scanner, size=64)  # type: ignore[arg-type]
    (path,) = write_series(tmp_path, [spec], seed=3)
    dataset = pydicom.dcmread(path)
    hu = dataset.pixel_array.astype(float) * float(dataset.RescaleSlope) + float(dataset.RescaleIntercept)
    assert np.abs(hu - make_slice(spec, np.random.default_rng((3, 1)))).max() <= 0.5


def test_lungs_are_air_and_the_heart_is_not() -> None:
    spec = Phantom(name="x", size=256)
    hu = make_slice(spec, rng())
    row, left_lung, heart = 128, 128 - int(105 / spec.spacing_mm), 128 + int(15 / spec.spacing_mm)
    assert np.median(hu[row - 10 : row + 10, left_lung - 10 : left_lung + 10]) == pytest.approx(-850, abs=40)
    assert np.median(hu[row - 20 : row - 5, heart - 5 : heart + 5]) == pytest.approx(42, abs=15)


@pytest.mark.parametrize("spec", [spec for spec in default_set(size=256) if spec.nodules], ids=lambda s: s.name)
def test_nodule_is_where_and_as_wide_as_the_truth_says(spec: Phantom) -> None:
    difference = make_slice(spec, rng()) - make_slice(replace(spec, nodules=()), rng())
    rows, columns = np.nonzero(difference > 100)
    truth = spec.truth()
    assert columns.mean() == pytest.approx(truth["column"], abs=1.5)
    assert rows.mean() == pytest.approx(truth["row"], abs=1.5)
    widest = (columns.max() - columns.min() + 1) * spec.spacing_mm
    assert widest == pytest.approx(truth["diameter_mm"], abs=3 * spec.spacing_mm)


def test_noise_is_white_with_a_sharp_kernel_and_correlated_with_a_soft_one() -> None:
    def neighbours(kernel: Kernel) -> tuple[float, float]:
        air = make_slice(Phantom(name="x", kernel=kernel, size=256, scanner=replace(SCANNERS[0], offset_hu=200)), rng())
        corner = air[:40, :40] - air[:40, :40].mean()
        return float((corner[:, 1:] * corner[:, :-1]).mean() / corner.var()), float(corner.std())

    (soft, soft_level), (sharp, sharp_level) = neighbours(Kernel.SOFT), neighbours(Kernel.SHARP)
    assert soft > 0.5
    assert abs(sharp) < 0.1
    assert sharp_level > 1.5 * soft_level


def test_volume_cuts_a_ball_into_discs() -> None:
    nodule = Nodule(x_mm=-75, y_mm=0, z_mm=0, diameter_mm=10)
    specs = volume(Phantom(name="v", nodules=(nodule,)), slices=7, spacing_mm=2.5)
    assert [spec.z_mm for spec in specs] == [-7.5, -5, -2.5, 0, 2.5, 5, 7.5]
    assert [spec.truth()["nodule"] for spec in specs] == [0, 0, 1, 1, 1, 0, 0]
    assert specs[3].truth()["diameter_mm"] == 10
    assert specs[2].truth()["diameter_mm"] == pytest.approx(2 * np.sqrt(25 - 6.25), abs=1e-3)


def test_truth_file_names_every_image(tmp_path: Path) -> None:
    paths = write_series(tmp_path, default_set(size=64))
    truth = yaml.safe_load((tmp_path / "truth.yaml").read_text())
    assert set(truth) == {path.name for path in paths}
    assert {entry["nodule"] for entry in truth.values()} == {0.0, 1.0}


def test_drawn_bodies_differ_and_hold_as_many_nodules_as_asked() -> None:
    specs = [draw(np.random.default_rng(seed), name="x", nodules=2) for seed in range(20)]
    assert len({spec.anatomy for spec in specs}) == 20
    assert all(len(spec.nodules) == 2 and spec.truth()["nodule"] == 1 for spec in specs)
    assert all(4 <= nodule.diameter_mm <= 20 for spec in specs for nodule in spec.nodules)


def test_a_slice_is_quick_to_make() -> None:
    spec = Phantom(name="x")

    def once() -> float:
        started = time.perf_counter()
        make_slice(spec, rng())
        return time.perf_counter() - started

    assert min(once() for _ in range(5)) < 0.05
