import hashlib
import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest

from tests.canaries.samples import ALL_OF_IT, BUNDLED, REAL, enhanced, recipe, write_phantom
from watchdog.canaries.inspection import inspect
from watchdog.canaries.load import CanarySet, load
from watchdog.canaries.phantom import Nodule, Phantom, default_set, volume, write_series

TWO_PROFILES = [{"name": "min", "size": [32, 32]}, {"name": "max", "size": [48, 64], "batch": 4}]


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("phantoms")
    write_series(folder, default_set(size=128))
    return folder


@pytest.fixture(scope="module")
def loaded(phantoms: Path) -> CanarySet:
    return load(phantoms, recipe(profiles=TWO_PROFILES, tolerance=0.01))


def reasons(made: CanarySet) -> dict[str, str]:
    return {problem.source: problem.reason for problem in made.refused}


def test_each_image_at_each_profile(loaded: CanarySet) -> None:
    assert loaded.refused == ()
    assert len({canary.id for canary in loaded.canaries}) == len(loaded.canaries) == 24
    shapes = {canary.profile: canary.inputs["image"].shape for canary in loaded.canaries}
    assert shapes == {"min": (1, 1, 32, 32), "max": (4, 1, 48, 64)}


def test_canary_knows_its_file_truth_and_strata(phantoms: Path, loaded: CanarySet) -> None:
    canary = next(canary for canary in loaded.canaries if canary.id == "nodule-03@max")
    assert canary.source == "nodule-03.dcm"
    assert canary.sha256 == hashlib.sha256((phantoms / "nodule-03.dcm").read_bytes()).hexdigest()
    assert canary.truth["nodule"] == 1
    assert canary.truth["diameter_mm"] == 8
    assert canary.strata == {
        "modality": "CT",
        "manufacturer": "PHANTOM-B",
        "kernel": "SOFT",
        "pathology": "nodule",
        "nodule_size": "medium",
    }


def test_rows_of_a_batch_are_equal_before_and_after_perturbation(loaded: CanarySet) -> None:
    rng = np.random.default_rng(0)
    for canary in loaded.canaries:
        for image in (canary.inputs["image"], canary.perturbed(rng)["image"]):
            assert (image == image[:1]).all()


def test_perturbed_payloads_are_new_and_within_the_tolerance(loaded: CanarySet) -> None:
    rng = np.random.default_rng(0)
    canary = loaded.canaries[-1]
    before = canary.inputs["image"].copy()
    payloads = {canary.perturbed(rng)["image"].tobytes() for _ in range(50)}
    assert len(payloads) == 50
    for payload in payloads:
        moved = np.abs(np.frombuffer(payload, np.float32).reshape(before.shape) - before)
        assert 0 < moved.max() <= canary.tolerance * 1.001
        assert np.count_nonzero(moved[0]) <= 8
    np.testing.assert_array_equal(canary.inputs["image"], before)


def test_watchdog_itself_stays_free_of_dicom_parsers(phantoms: Path) -> None:
    code = """
import sys
from pathlib import Path
from watchdog.canaries.load import load
from watchdog.canaries.recipe import Recipe
recipe = Recipe.model_validate({"input": "x", "profiles": [{"name": "a", "size": [8, 8]}]})
made = load(Path(sys.argv[1]), recipe)
assert len(made.canaries) == 12, made.refused
assert not {"pydicom", "PIL", "dicomanonymizer"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-W", "error", "-c", code, phantoms], check=True, timeout=60)


def test_one_bad_file_never_stops_the_rest(tmp_path: Path) -> None:
    write_phantom(tmp_path / "good.dcm")
    write_phantom(tmp_path / "named.dcm", lambda dataset: setattr(dataset, "PatientName", "Doe^Jane"))
    (tmp_path / "empty.dcm").touch()
    (tmp_path / "text.dcm").write_text("hello")
    (tmp_path / "cut.dcm").write_bytes((tmp_path / "good.dcm").read_bytes()[:4000])
    (tmp_path / "DICOMDIR").write_bytes(b"x")
    (tmp_path / ".hidden").write_bytes(b"x")
    (tmp_path / "..data").mkdir()
    (tmp_path / "..data" / "good.dcm").write_bytes((tmp_path / "good.dcm").read_bytes())
    (tmp_path / "README.txt").write_text("what this is")
    (tmp_path / "notes.json").write_text("{}")
    made = load(tmp_path, recipe())
    assert [canary.id for canary in made.canaries] == ["good@opt"]
    got = reasons(made)
    assert set(got) == {"named.dcm", "empty.dcm", "text.dcm", "cut.dcm", "DICOMDIR", ".hidden"}
    assert got["named.dcm"] == "has identifying attributes: PatientName"
    assert "Doe" not in str(made.refused)
    (named,) = (problem for problem in made.refused if problem.source == "named.dcm")
    assert named.identifying == ("PatientName",)
    assert len(load(tmp_path, recipe(), allow=["PatientName"]).canaries) == 2


def test_a_single_file(phantoms: Path) -> None:
    made = load(phantoms / "clear-01.dcm", recipe())
    assert [(canary.id, canary.source) for canary in made.canaries] == [("clear-01@opt", "clear-01.dcm")]
    assert made.refused == ()
    assert made.canaries[0].truth["nodule"] == 0


def test_nothing_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there is no canary file or folder"):
        load(tmp_path / "nowhere", recipe())


def test_equal_names_get_numbers(tmp_path: Path) -> None:
    for folder in ("a", "b", "c"):
        (tmp_path / folder).mkdir()
        write_phantom(tmp_path / folder / "x y.dcm")
    made = load(tmp_path, recipe(profiles=TWO_PROFILES))
    assert [canary.id for canary in made.canaries if canary.profile == "max"] == [
        "x_y@max",
        "x_y~2@max",
        "x_y~3@max",
    ]


def test_progress_counts_files(phantoms: Path) -> None:
    seen: list[tuple[int, int]] = []
    load(phantoms, recipe(), progress=lambda done, total: seen.append((done, total)))
    assert seen == [(done, 12) for done in range(1, 13)]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[1]", "must map file names"),
        ("x.dcm: {nodule: [1]}", "x.dcm.nodule must be a finite number or a text"),
        ("x.dcm: {Nodule: 1}", "'Nodule' is no key"),
        ("y.dcm: {nodule: 1}", "has an entry for y.dcm, which is not there"),
        ("x: [", "can't be read"),
    ],
)
def test_mistakes_in_the_truth_are_told(tmp_path: Path, text: str, says: str) -> None:
    write_phantom(tmp_path / "x.dcm")
    (tmp_path / "truth.yaml").write_text(text)
    made = load(tmp_path, recipe())
    assert len(made.canaries) == 1
    assert says in reasons(made)["truth.yaml"]


def test_truth_may_be_json_and_texts_are_strata(tmp_path: Path) -> None:
    write_phantom(tmp_path / "x.dcm")
    (tmp_path / "truth.json").write_text(
        json.dumps({"x.dcm": {"nodule": True, "site": "left\nupper\u0000 lobe" + "!" * 99}})
    )
    (canary,) = load(tmp_path, recipe()).canaries
    assert canary.truth == {"nodule": 1.0}
    assert canary.strata["site"] == "left upper lobe"


def frames_of(tmp_path: Path, **changes: Any) -> CanarySet:
    path = write_phantom(tmp_path / "many.dcm", lambda d: enhanced(d, [(1, 0), (2, 5), (3, -7)], [10, 0, 5]))
    return load(path, recipe(window=None, normalise=None, profiles=[{"name": "a", "size": [8, 8]}], **changes))


def test_enhanced_frames_have_their_own_rescale(tmp_path: Path) -> None:
    made = frames_of(tmp_path)
    assert {canary.id: float(canary.inputs["image"].max()) for canary in made.canaries} == {
        "many#1@a": 100,
        "many#2@a": 405,
        "many#3@a": 893,
    }


@pytest.mark.parametrize(("frames", "ids"), [("middle", ["many#2@a"]), ([1, 3], ["many#1@a", "many#3@a"]), ([4], [])])
def test_frames_are_chosen_by_number(tmp_path: Path, frames: Any, ids: list[str]) -> None:
    made = frames_of(tmp_path, frames=frames)
    assert [canary.id for canary in made.canaries] == ids
    assert [problem.reason for problem in made.refused] == (
        [] if ids else ["has 3 frames, so none of the recipe's number 4"]
    )


def test_multi_frame_volume_is_stacked_by_position(tmp_path: Path) -> None:
    path = write_phantom(tmp_path / "v.dcm", lambda d: enhanced(d, [(1, 0), (2, 5), (3, -7)], [10, 0, 5]))
    how = recipe(unit="volume", layout="DHW", window=None, normalise=None, profiles=[{"name": "a", "size": [3, 8, 8]}])
    (canary,) = load(path, how).canaries
    assert canary.inputs["image"][:, 0, 0].tolist() == [405, 893, 100]
    assert not canary.batched


VOLUME: dict[str, Any] = {
    "unit": "volume",
    "layout": "NCDHW",
    "profiles": [{"name": "v", "size": [6, 32, 32], "batch": 2}],
}


def write_volume(folder: Path, slices: int = 6) -> list[Path]:
    nodule = Nodule(x_mm=-75, y_mm=0, diameter_mm=16)
    specs = volume(Phantom(name="v", size=32, nodules=(nodule,)), slices=slices, spacing_mm=4)
    paths = write_series(folder, specs)
    (folder / "truth.yaml").write_text(".: {nodule: 1}\n")
    return paths


def test_a_folder_of_slices_is_one_volume_whatever_the_files_are_called(tmp_path: Path) -> None:
    paths = write_volume(tmp_path / "chest")
    expected = load(tmp_path, recipe(**VOLUME))
    assert expected.refused == ()
    (canary,) = expected.canaries
    assert (canary.id, canary.source, canary.truth) == ("chest@v", "chest", {"nodule": 1.0})
    assert canary.inputs["image"].shape == (2, 1, 6, 32, 32)
    assert re.fullmatch("[0-9a-f]{64}", canary.sha256)
    for path in paths:  # the order of names turned round
        path.rename(path.with_name(f"{999 - int(path.stem[-3:])}.dcm"))
    (renamed,) = load(tmp_path, recipe(**VOLUME)).canaries
    assert renamed.sha256 == canary.sha256
    np.testing.assert_array_equal(renamed.inputs["image"], canary.inputs["image"])


@pytest.mark.parametrize(
    ("remove", "says"),
    [(slice(2, 3), "slices are missing"), (slice(1, 6), "a series of one slice")],
)
def test_incomplete_series_are_refused(tmp_path: Path, remove: slice, says: str) -> None:
    for path in write_volume(tmp_path)[remove]:
        path.unlink()
    made = load(tmp_path, recipe(**VOLUME))
    assert made.canaries == ()
    assert says in reasons(made)["."]


def _tilt(dataset: pydicom.FileDataset) -> None:
    dataset.ImageOrientationPatient = [0, 1, 0, 0, 0, 1]


def _lose_position(dataset: pydicom.FileDataset) -> None:
    del dataset.ImagePositionPatient


@pytest.mark.parametrize(
    ("change", "says"),
    [(_tilt, "different sizes, orientations"), (_lose_position, "without ImageOrientationPatient or ImagePosition")],
)
def test_slices_that_do_not_fit_are_refused(tmp_path: Path, change: Any, says: str) -> None:
    path = write_volume(tmp_path)[3]
    dataset = pydicom.dcmread(path)
    change(dataset)
    dataset.save_as(path)
    assert says in reasons(load(tmp_path, recipe(**VOLUME)))["."]


def test_slices_at_one_position_are_refused(tmp_path: Path) -> None:
    paths = write_volume(tmp_path)
    (tmp_path / "copy.dcm").write_bytes(paths[0].read_bytes())
    assert "several slices at one position" in reasons(load(tmp_path, recipe(**VOLUME)))["."]


PERCENTILE: dict[str, Any] = {"window": {"percentile": [1, 99]}}


REAL_FILES = {  # the modality of each, and how many canaries it makes
    BUNDLED / "CT_small.dcm": ("CT", 1),
    BUNDLED / "MR_small_RLE.dcm": ("MR", 1),
    BUNDLED / "693_J2KI.dcm": ("CT", 1),
    REAL / "693_UNCI.dcm": ("CT", 1),
    REAL / "explicit_VR-UN.dcm": ("CT", 1),
    REAL / "RG1_UNCI.dcm": ("CR", 1),
    REAL / "RG3_J2KR.dcm": ("CR", 1),
    REAL / "MR2_UNCR.dcm": ("MR", 1),
    REAL / "MR-SIEMENS-DICOM-WithOverlays.dcm": ("MR", 1),
    REAL / "eCT_Supplemental.dcm": ("CT", 2),
    REAL / "emri_small.dcm": ("MR", 10),
}


@pytest.fixture(scope="module")
def real_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("real")
    for path in REAL_FILES:
        (folder / path.name).symlink_to(path)
    return folder


@pytest.fixture(scope="module")
def real(real_folder: Path) -> CanarySet:
    return load(real_folder, recipe(**PERCENTILE), allow=ALL_OF_IT)


def test_real_files_are_refused_as_they_are(real_folder: Path) -> None:
    made = load(real_folder, recipe(**PERCENTILE))
    assert made.canaries == ()
    assert all(problem.identifying for problem in made.refused)


@pytest.mark.parametrize("path", REAL_FILES, ids=lambda path: path.name)
def test_real_files_make_canaries_once_allowed(real: CanarySet, path: Path) -> None:
    modality, count = REAL_FILES[path]
    assert real.refused == ()
    canaries = [canary for canary in real.canaries if canary.source == path.name]
    assert len(canaries) == count
    for canary in canaries:
        assert canary.strata["modality"] == modality
        image = canary.inputs["image"]
        assert (float(image.min()), float(image.max())) == pytest.approx((0, 1), abs=1e-6)
        assert 0.02 < float(image.std()) < 0.5


def test_real_enhanced_ct_is_in_hounsfield_units() -> None:
    how = recipe(window=None, normalise=None, profiles=[{"name": "a", "size": [512, 512]}])
    for canary in load(REAL / "eCT_Supplemental.dcm", how, allow=ALL_OF_IT).canaries:
        image = canary.inputs["image"]
        assert float(np.percentile(image, 2)) == pytest.approx(-1000, abs=100), "air around the patient"


def test_monochrome1_files_are_inverted(tmp_path: Path) -> None:
    write_phantom(tmp_path / "a.dcm")
    write_phantom(tmp_path / "b.dcm", lambda d: setattr(d, "PhotometricInterpretation", "MONOCHROME1"))
    plain, negative = load(tmp_path, recipe()).canaries
    np.testing.assert_allclose(plain.inputs["image"], 1 - negative.inputs["image"], atol=1e-6)


def test_inspection_tells_facts_and_names_only(tmp_path: Path) -> None:
    write_phantom(tmp_path / "good.dcm")
    write_phantom(tmp_path / "named.dcm", lambda dataset: setattr(dataset, "PatientName", "Doe^Jane"))
    (tmp_path / "text.dcm").write_text("hello")
    (tmp_path / "lossless.dcm").write_bytes((REAL / "JPEG-LL.dcm").read_bytes())
    seen = {one.source: one for one in inspect(tmp_path)}
    assert list(seen) == ["good.dcm", "lossless.dcm", "named.dcm", "text.dcm"]
    good = seen["good.dcm"]
    assert good.usable
    assert (good.modality, good.rows, good.frames, good.bits_stored, good.window) == ("CT", 64, 1, 12, True)
    assert good.syntax == "Explicit VR Little Endian"
    assert seen["named.dcm"] == replace(
        good, source="named.dcm", identifying=("PatientName",), sha256=seen["named.dcm"].sha256
    )
    assert not seen["named.dcm"].usable
    assert "JPEG Lossless" in seen["lossless.dcm"].reason
    assert "not a DICOM" in seen["text.dcm"].reason
    text = json.dumps([one.to_json() for one in seen.values()])
    assert "Doe" not in text
    patient = str(pydicom.dcmread(REAL / "JPEG-LL.dcm").PatientName)
    assert patient
    assert patient not in text
