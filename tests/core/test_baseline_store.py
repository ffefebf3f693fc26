"""Baselines on disk: what was written comes back, and what was tampered with is refused by name."""

import hashlib
import json
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.core.builders import CANARIES, a_baseline
from watchdog.baselines import store
from watchdog.baselines.store import BaselineError
from watchdog.model.baseline import Baseline, Golden, Latency
from watchdog.model.engine import Role
from watchdog.model.tensor import DTYPES

ODD_NAMES = ["out/put", "../../up", "é μ", "a" * 300, "with space", "x.npy", "quote\"'", "0", ""]


def same(a: Baseline, b: Baseline) -> bool:
    for canary, golden in a.golden.items():
        for name, array in golden.outputs.items():
            other = b.golden[canary].outputs[name]
            if (array.dtype, array.shape, array.tobytes()) != (other.dtype, other.shape, other.tobytes()):
                return False
    spreads = ({c: dict(g.spread) for c, g in x.golden.items()} for x in (a, b))
    return replace(a, golden={}) == replace(b, golden={}) and next(spreads) == next(spreads)


@pytest.mark.parametrize("dtype", list(DTYPES.values()), ids=str)
def test_what_was_written_comes_back(tmp_path: Path, dtype: Any) -> None:
    rng = np.random.default_rng(3)
    arrays = {name: rng.integers(0, 2, (2, i + 1)).astype(dtype) for i, name in enumerate(ODD_NAMES)}
    golden = {c.id: Golden(outputs=arrays, spread={name: float(i) for i, name in enumerate(arrays)}) for c in CANARIES}
    baseline = a_baseline(golden=golden)
    store.write(tmp_path / "b", baseline)
    back = store.read(tmp_path / "b")
    assert same(baseline, back)
    assert not back.golden["c0"].outputs["0"].flags.writeable
    assert sorted(p.name for p in (tmp_path / "b").iterdir()) == ["golden.npz", "manifest.json"]


def test_the_manifest_is_for_people(tmp_path: Path) -> None:
    store.write(tmp_path / "b", a_baseline())
    manifest = json.loads((tmp_path / "b/manifest.json").read_text())
    assert (manifest["format"], manifest["model"], manifest["engines"]["safe"]["version"]) == (3, "nodule", "2")
    assert manifest["engines"]["fast"]["latency"]["opt"]["median_s"] == 0.02


def test_a_newer_one_replaces_the_older_as_a_whole(tmp_path: Path) -> None:
    store.write(tmp_path / "b", a_baseline())
    (tmp_path / "b/note.txt").write_text("beside a manifest this goes with it")
    store.write(tmp_path / "b", a_baseline(server="fake 2.0"))
    assert store.read(tmp_path / "b").server == "fake 2.0"
    assert [p.name for p in tmp_path.iterdir()] == ["b"], "nothing is left lying about"
    assert sorted(p.name for p in (tmp_path / "b").iterdir()) == ["golden.npz", "manifest.json"]


def test_folders_on_the_way_are_made(tmp_path: Path) -> None:
    store.write(tmp_path / "a/b/c", a_baseline())
    (tmp_path / "empty").mkdir()
    store.write(tmp_path / "empty", a_baseline())
    assert same(store.read(tmp_path / "a/b/c"), store.read(tmp_path / "empty"))


def test_something_else_is_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(BaselineError, match=r"holds files but no manifest\.json; name an empty or a new folder"):
        store.write(tmp_path, a_baseline())
    with pytest.raises(BaselineError, match=r"thesis\.txt"):
        store.write(tmp_path / "thesis.txt", a_baseline())
    with pytest.raises(BaselineError, match=r"can't write the baseline"):
        store.write(tmp_path / "thesis.txt/b", a_baseline())
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_what_cannot_be_written_leaves_the_old_one_whole(tmp_path: Path) -> None:
    old = a_baseline()
    store.write(tmp_path / "b", old)
    engine = replace(old.engines[Role.SAFE], latency={"opt": Latency(median_s=float("nan"), p99_s=1.0)})
    with pytest.raises(BaselineError, match="can't write the baseline"):
        store.write(tmp_path / "b", replace(old, engines={**old.engines, Role.SAFE: engine}))
    assert same(store.read(tmp_path / "b"), old)
    assert [p.name for p in tmp_path.iterdir()] == ["b"]


def test_a_swap_that_fails_puts_the_old_one_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = a_baseline()
    store.write(tmp_path / "b", old)
    rename = Path.replace

    def fail_at_the_second(self: Path, target: Any) -> Path:
        if Path(target).name == "b" and not self.name.endswith(".old"):
            raise OSError(5, "Input/output error")
        return rename(self, target)

    monkeypatch.setattr(Path, "replace", fail_at_the_second)
    with pytest.raises(BaselineError, match="Input/output error"):
        store.write(tmp_path / "b", replace(old, server="fake 2.0"))
    assert same(store.read(tmp_path / "b"), old)


@pytest.fixture
def written(tmp_path: Path) -> Path:
    store.write(tmp_path / "b", a_baseline())
    return tmp_path / "b"


def seal(folder: Path) -> None:
    """Make the manifest vouch for the arrays as they are now."""
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["arrays_sha256"] = hashlib.sha256((folder / "golden.npz").read_bytes()).hexdigest()
    (folder / "manifest.json").write_text(json.dumps(manifest))


def truncate(folder: Path) -> None:
    data = (folder / "golden.npz").read_bytes()
    (folder / "golden.npz").write_bytes(data[: len(data) // 2])


def swap(folder: Path) -> None:
    other = a_baseline(CANARIES[:2])
    store.write(folder.with_name("other"), other)
    (folder / "golden.npz").write_bytes((folder.with_name("other") / "golden.npz").read_bytes())


def pickled(folder: Path) -> None:
    arrays: dict[str, Any] = {f"a{i}": np.array([{"evil": 1}], dtype=object) for i in range(len(CANARIES))}
    np.savez(folder / "golden.npz", **arrays)


class _Touches:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[[Path], None], tuple[Path]]:
        return Path.touch, (self.path,)


def test_nothing_is_ever_unpickled(written: Path) -> None:
    trace = written / "executed"
    arrays: dict[str, Any] = {f"a{i}": np.array([_Touches(trace)], dtype=object) for i in range(len(CANARIES))}
    np.savez(written / "golden.npz", **arrays)
    seal(written)
    with pytest.raises(BaselineError, match="malformed"):
        store.read(written)
    assert not trace.exists()


def other_names(folder: Path) -> None:
    arrays: dict[str, Any] = {f"b{i}": np.zeros(2) for i in range(len(CANARIES))}
    np.savez(folder / "golden.npz", **arrays)


def single_array(folder: Path) -> None:
    with (folder / "golden.npz").open("wb") as file:
        np.save(file, np.zeros(3))


def texts(folder: Path) -> None:
    arrays: dict[str, Any] = {f"a{i}": np.array(["no", "tensor"]) for i in range(len(CANARIES))}
    np.savez(folder / "golden.npz", **arrays)


def spoilt_members(folder: Path) -> None:
    with zipfile.ZipFile(folder / "golden.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        for i in range(len(CANARIES)):
            archive.writestr(f"a{i}.npy", b"\x93NUMPY\x01\x00v\x00{'descr': '<f4', 'fortran_order': False" + b" " * 100)


def spoilt_stream(folder: Path) -> None:
    data = bytearray((folder / "golden.npz").read_bytes())
    with zipfile.ZipFile(folder / "golden.npz") as archive:
        start = archive.infolist()[0].header_offset + 60
    data[start : start + 30] = b"\xff" * 30
    (folder / "golden.npz").write_bytes(bytes(data))


def empty(folder: Path) -> None:
    (folder / "golden.npz").write_bytes(b"")


Damage = Callable[[Path], None]
DAMAGES: list[Damage] = [
    truncate,
    swap,
    pickled,
    other_names,
    single_array,
    texts,
    spoilt_members,
    spoilt_stream,
    empty,
]


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("sealed", [False, True])
def test_damaged_arrays_are_refused_with_the_file_and_the_remedy(written: Path, damage: Damage, sealed: bool) -> None:
    damage(written)
    if sealed:
        seal(written)
    with pytest.raises(BaselineError) as caught:
        store.read(written)
    assert str(caught.value).startswith(f"{written / 'golden.npz'}: ")
    assert str(caught.value).endswith("capture the baseline again")


def test_missing_parts_are_named(written: Path) -> None:
    (written / "golden.npz").unlink()
    with pytest.raises(BaselineError, match=r"golden\.npz: can't be read: No such file"):
        store.read(written)
    (written / "manifest.json").unlink()
    with pytest.raises(BaselineError, match=r"manifest\.json: not there; capture one with `watchdog baseline CONFIG`"):
        store.read(written)
    (written / "manifest.json").mkdir()
    with pytest.raises(BaselineError, match=r"manifest\.json: can't be read: Is a directory"):
        store.read(written)


def test_an_engine_that_is_missing_is_named(written: Path) -> None:
    edit(written, lambda m: m["engines"].pop("safe"))
    with pytest.raises(BaselineError, match=r"engines\.safe is required; capture the baseline again"):
        store.read(written)


def test_arrays_too_large_to_be_one_are_not_even_read(written: Path) -> None:
    with (written / "golden.npz").open("r+b") as file:
        file.truncate(5 * 2**30)
    with pytest.raises(BaselineError, match="larger than 4 GiB"):
        store.read(written)


def edit(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    change(manifest)
    (folder / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda m: m.update(format=1), r"manifest\.json: format: .*; capture the baseline again"),
        (lambda m: m.pop("model"), "model: is required"),
        (lambda m: m.update(extra=1), "extra: unknown key"),
        (lambda m: m.update(recipe_sha256="x"), "recipe_sha256: "),
        (
            lambda m: m["engines"]["fast"]["latency"]["opt"].update(median_s=-1),
            r"engines\.fast\.latency\.opt\.median_s: ",
        ),
        (lambda m: m["canaries"].pop("c0"), "5 arrays for 5 outputs|canaries"),
        (lambda m: m["spread"].pop("c0"), "5 arrays for 4 outputs"),
        (lambda m: m["spread"]["c0"].update(more=1.0), "5 arrays for 6 outputs"),
    ],
)
def test_a_manifest_that_is_wrong_says_where(written: Path, change: Callable[[dict[str, Any]], Any], says: str) -> None:
    edit(written, change)
    with pytest.raises(BaselineError, match=says):
        store.read(written)


@pytest.mark.parametrize("text", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b"[]", b"null", b"9" * 10_000])
def test_a_manifest_that_is_no_object_is_refused(written: Path, text: bytes) -> None:
    (written / "manifest.json").write_bytes(text)
    with pytest.raises(BaselineError, match=r"manifest\.json: .*capture the baseline again"):
        store.read(written)


def refusal(folder: Path) -> str:
    """Why the baseline is refused, or its folder where it is read; anything else is a surprise."""
    try:
        store.read(folder)
    except BaselineError as error:
        return str(error)
    return str(folder / "golden.npz")


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)
KEYS = [
    "format",
    "model",
    "created_at",
    "server",
    "recipe_sha256",
    "arrays_sha256",
    "repeats",
    "canaries",
    "engines",
    "spread",
]


@given(st.dictionaries(st.sampled_from(KEYS), JSON, min_size=1, max_size=3))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_manifest_is_read_or_refused_never_a_surprise(written: Path, changes: dict[str, Any]) -> None:
    before = (written / "manifest.json").read_text()
    edit(written, lambda m: m.update(changes))
    try:
        refused = refusal(written)
    finally:
        (written / "manifest.json").write_text(before)
    assert refused.startswith(str(written))


@given(st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
def test_any_bytes_for_arrays_are_read_or_refused_never_a_surprise(written: Path, data: st.DataObject) -> None:
    path, manifest = written / "golden.npz", (written / "manifest.json").read_text()
    before = path.read_bytes()
    spoilt = bytearray(before)
    for _ in range(data.draw(st.integers(1, 4))):
        spoilt[data.draw(st.integers(0, len(spoilt) - 1))] = data.draw(st.integers(0, 255))
    try:
        path.write_bytes(bytes(spoilt))
        seal(written)
        refused = refusal(written)
    finally:
        path.write_bytes(before)
        (written / "manifest.json").write_text(manifest)
    assert refused.startswith(str(path))
