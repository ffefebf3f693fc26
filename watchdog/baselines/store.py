"""A baseline as a folder: ``manifest.json`` for people and reviews, ``golden.npz`` for the numbers.

The manifest carries the SHA-256 of the arrays, so that the two can't be mixed up.
"""

import hashlib
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field, ValidationError

from watchdog.model.baseline import Baseline, EngineReference, Golden, Latency
from watchdog.model.engine import Role
from watchdog.model.probe import Attribution
from watchdog.model.tensor import DTYPES
from watchdog.settings import Settings, complaints

FORMAT = 3
_MAX_BYTES = 4 * 2**30
_MANIFEST, _ARRAYS = "manifest.json", "golden.npz"


class BaselineError(ValueError):
    """A baseline that can't be used; the message names the file, what is wrong and what to do."""


class _LatencyManifest(Settings):
    median_s: float = Field(ge=0)
    p99_s: float = Field(ge=0)
    attribution: Attribution
    measures: dict[str, tuple[Annotated[float, Field(ge=0)], ...]]


class _EngineManifest(Settings):
    version: str
    tag: str | None
    latency: dict[str, _LatencyManifest]
    parity: dict[str, float]
    residuals: dict[str, dict[str, tuple[float, ...]]]


class _Manifest(Settings):
    format: Literal[3]
    model: str
    created_at: str
    server: str
    recipe_sha256: str = Field(pattern="^[0-9a-f]{64}$")
    arrays_sha256: str = Field(pattern="^[0-9a-f]{64}$")
    repeats: int = Field(ge=1)
    canaries: dict[str, str]
    engines: dict[Role, _EngineManifest]
    spread: dict[str, dict[str, float]]


def write(folder: Path, baseline: Baseline) -> None:
    """Write a baseline, replacing an older one in the folder as a whole or not at all.

    Raises:
        BaselineError: the folder can't be written, or holds something else.
    """
    try:
        _refuse_strange(folder)
        folder.parent.mkdir(parents=True, exist_ok=True)
        fresh = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        try:
            _write_files(fresh, baseline)
            fresh.chmod(0o755)
            _swap(fresh, folder)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
    except BaselineError:
        raise
    except (OSError, ValueError) as error:  # ValueError: a number that JSON has no word for
        raise BaselineError(f"{folder}: can't write the baseline: {error}") from error


def _refuse_strange(folder: Path) -> None:
    if folder.exists() and any(folder.iterdir()) and not (folder / _MANIFEST).exists():
        raise BaselineError(f"{folder}: holds files but no {_MANIFEST}; name an empty or a new folder")


def _write_files(folder: Path, baseline: Baseline) -> None:
    arrays = [array for golden in baseline.golden.values() for array in golden.outputs.values()]
    named: dict[str, Any] = {f"a{i}": array for i, array in enumerate(arrays)}
    np.savez_compressed(folder / _ARRAYS, **named)
    manifest = {
        "format": FORMAT,
        "model": baseline.model,
        "created_at": baseline.created_at,
        "server": baseline.server,
        "recipe_sha256": baseline.recipe_sha256,
        "arrays_sha256": _sha256(folder / _ARRAYS),
        "repeats": baseline.repeats,
        "canaries": dict(baseline.canaries),
        "engines": {
            role: {
                "version": engine.version,
                "tag": engine.tag,
                "latency": {profile: _latency(latency) for profile, latency in engine.latency.items()},
                "parity": dict(engine.parity),
                "residuals": {canary: dict(readings) for canary, readings in engine.residuals.items()},
            }
            for role, engine in baseline.engines.items()
        },
        "spread": {canary: dict(golden.spread) for canary, golden in baseline.golden.items()},
    }
    (folder / _MANIFEST).write_text(json.dumps(manifest, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def _latency(latency: Latency) -> dict[str, Any]:
    rounded = {name: [float(f"{value:.6g}") for value in values] for name, values in latency.measures.items()}
    return {
        "median_s": latency.median_s,
        "p99_s": latency.p99_s,
        "attribution": latency.attribution,
        "measures": rounded,
    }


def _swap(fresh: Path, folder: Path) -> None:
    """Put `fresh` in `folder`'s place; the old one goes only when the new one is there."""
    if not folder.exists():
        fresh.replace(folder)
        return
    old = fresh.with_name(fresh.name + ".old")
    folder.replace(old)
    try:
        fresh.replace(folder)
    except OSError:
        old.replace(folder)
        raise
    shutil.rmtree(old, ignore_errors=True)


def read(folder: Path) -> Baseline:
    """Read a baseline back.

    Raises:
        BaselineError: it is missing, malformed, or its two files don't belong together.
    """
    manifest = _read_manifest(folder / _MANIFEST)
    if missing := [str(role) for role in Role if role not in manifest.engines]:
        raise BaselineError(f"{folder / _MANIFEST}: engines.{missing[0]} is required; capture the baseline again")
    arrays = folder / _ARRAYS
    try:
        _refuse_other_arrays(arrays, manifest)
        golden = _read_golden(arrays, manifest)
    except BaselineError:
        raise
    except OSError as error:
        raise BaselineError(f"{arrays}: can't be read: {error.strerror or error}") from error
    except Exception as error:  # numpy, zipfile and zlib have a dozen kinds for a malformed file
        raise BaselineError(f"{arrays}: malformed: {error}; capture the baseline again") from error
    return Baseline(
        model=manifest.model,
        created_at=manifest.created_at,
        server=manifest.server,
        recipe_sha256=manifest.recipe_sha256,
        canaries=manifest.canaries,
        engines={
            role: EngineReference(
                version=e.version,
                tag=e.tag,
                latency={profile: Latency(**one.model_dump()) for profile, one in e.latency.items()},
                parity=e.parity,
                residuals=e.residuals,
            )
            for role, e in manifest.engines.items()
        },
        golden=golden,
        repeats=manifest.repeats,
    )


def _read_manifest(path: Path) -> _Manifest:
    try:
        data: Any = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise BaselineError(f"{path}: not there; capture one with `watchdog baseline CONFIG`") from error
    except OSError as error:
        raise BaselineError(f"{path}: can't be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise BaselineError(f"{path}: not JSON: {error}; capture the baseline again") from error
    try:
        return _Manifest.model_validate(data)
    except ValidationError as error:
        said = "; ".join(complaints(error))
        raise BaselineError(f"{path}: {said}; capture the baseline again") from error


def _refuse_other_arrays(path: Path, manifest: _Manifest) -> None:
    if path.stat().st_size > _MAX_BYTES:
        raise BaselineError(f"{path}: larger than {_MAX_BYTES >> 30} GiB, which no baseline is")
    if _sha256(path) != manifest.arrays_sha256:
        raise BaselineError(f"{path}: not the arrays that {_MANIFEST} was written with; capture the baseline again")


def _read_golden(path: Path, manifest: _Manifest) -> dict[str, Golden]:
    """The arrays in the order in which `_write_files` numbered them: by canary, then output."""
    wanted = [(canary, output) for canary, spread in manifest.spread.items() for output in spread]
    with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
        if len(stored.files) != len(wanted) or set(manifest.spread) != set(manifest.canaries):
            raise BaselineError(
                f"{path}: {len(stored.files)} arrays for {len(wanted)} outputs; capture the baseline again"
            )
        outputs: dict[str, dict[str, Any]] = {canary: {} for canary in manifest.spread}
        for i, (canary, output) in enumerate(wanted):
            array = stored[f"a{i}"]
            if array.dtype not in DTYPES.values():
                raise ValueError(f"a{i} holds {array.dtype}, which no tensor does")
            array.flags.writeable = False
            outputs[canary][output] = array
    return {canary: Golden(outputs=outputs[canary], spread=spread) for canary, spread in manifest.spread.items()}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_SEQUENTIAL)
        return hashlib.file_digest(file, "sha256").hexdigest()
