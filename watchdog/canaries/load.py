"""From a file or folder and a recipe to a set of canaries. One bad file never stops the rest."""

import hashlib
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path

import numpy as np

from watchdog.canaries.decode import Decoded, DecodeLimits, Decoder
from watchdog.canaries.files import Refused, find, root_of
from watchdog.canaries.header import Header
from watchdog.canaries.preprocess import constants, tensor, windowed
from watchdog.canaries.recipe import Recipe
from watchdog.canaries.truth import SERIES, Known, Truths, strata
from watchdog.canaries.volume import frame_order, order
from watchdog.model.canary import Canary
from watchdog.model.tensor import Array

Progress = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class CanarySet:
    """What came of a file or folder."""

    canaries: tuple[Canary, ...]
    refused: tuple[Refused, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Image:
    """What will be one canary at each profile."""

    name: str
    path: Path
    header: Header
    frames: list[int]
    """Those that it shows, from 0."""
    stored: Array
    """Their stored values, [D, H, W]."""
    known: Known


def load(
    path: Path,
    recipe: Recipe,
    *,
    allow: Collection[str] = (),
    limits: DecodeLimits | None = None,
    progress: Progress | None = None,
) -> CanarySet:
    """Make the canaries of the DICOM files at or under `path`.

    Images with identifying attributes whose names are not in `allow` are refused. Takes about a
    second to start and some milliseconds an image; `progress` gets the files done and all of them.

    Raises:
        ValueError: there is nothing at `path`.
    """
    files, refused = find(path)
    root, truths = root_of(path), Truths()
    canaries: dict[str, Canary] = {}
    with Decoder(limits or DecodeLimits()) as decoder:
        decoded = _decoded(files, decoder, allow, progress)
        for image in _images(decoded, recipe, root, truths):
            made = image if isinstance(image, Refused) else _canaries(image, recipe, root, canaries)
            if isinstance(made, Refused):
                refused.append(made)
            else:
                canaries |= {canary.id: canary for canary in made}
    if path.is_dir():  # a file alone leaves its neighbours' entries unused
        refused += [Refused(source=_source(file, root), reason=reason) for file, reason in truths.problems()]
    return CanarySet(
        canaries=tuple(canaries.values()), refused=tuple(sorted(refused, key=lambda problem: problem.source))
    )


def _source(path: Path, root: Path) -> str:
    return str(path.relative_to(root))


def _decoded(
    files: Sequence[Path], decoder: Decoder, allow: Collection[str], progress: Progress | None
) -> Iterator[tuple[Path, Decoded]]:
    for done, file in enumerate(files, start=1):
        yield file, decoder.read(file, allow=allow)
        if progress is not None:
            progress(done, len(files))


def _images(
    decoded: Iterator[tuple[Path, Decoded]], recipe: Recipe, root: Path, truths: Truths
) -> Iterator[_Image | Refused]:
    """Slices and multi-frame volumes as they come, then the volumes made of single-frame instances."""
    series: dict[tuple[Path, str], list[tuple[Header, Array]]] = {}
    for file, result in decoded:
        known = truths.of(file.parent, file.name)
        if result.header is None or result.pixels is None:
            yield _refused(_source(file, root), result)
        elif recipe.unit == "volume" and result.header.frames == 1:
            series.setdefault((file.parent, result.header.series), []).append((result.header, result.pixels))
        else:
            yield from _of_file(file, root, recipe, (result.header, result.pixels), known)
    for (folder, _), slices in series.items():
        yield _of_series(folder, root, slices, truths.of(folder, SERIES))


def _refused(source: str, result: Decoded) -> Refused:
    if result.identifying:
        reason = f"has identifying attributes: {', '.join(result.identifying)}"
        return Refused(source=source, reason=reason, identifying=result.identifying)
    return Refused(source=source, reason=result.reason)


def _of_file(
    file: Path, root: Path, recipe: Recipe, image: tuple[Header, Array], known: Known
) -> Iterator[_Image | Refused]:
    header, stored = image
    try:
        chosen = [frame_order(header)] if recipe.unit == "volume" else [[frame] for frame in _frames(header, recipe)]
    except ValueError as error:
        yield Refused(source=_source(file, root), reason=str(error))
        return
    for frames in chosen:
        numbered = header.frames > 1 and recipe.unit == "slice"
        name = f"{_label(file.stem)}#{frames[0] + 1}" if numbered else _label(file.stem)
        yield _Image(name=name, path=file, header=header, frames=frames, stored=stored[frames], known=known)


def _frames(header: Header, recipe: Recipe) -> list[int]:
    if header.frames == 1:
        return [0]
    if recipe.frames == "all":
        return list(range(header.frames))
    if recipe.frames == "middle":
        return [header.frames // 2]
    missing = [number for number in recipe.frames if number > header.frames]
    if missing:
        raise ValueError(f"has {header.frames} frames, so none of the recipe's number {missing[0]}")
    return [number - 1 for number in recipe.frames]


def _of_series(folder: Path, root: Path, slices: Sequence[tuple[Header, Array]], known: Known) -> _Image | Refused:
    try:
        in_order = [slices[index] for index in order([header for header, _ in slices])]
    except ValueError as error:
        return Refused(source=_source(folder, root), reason=str(error))
    headers = [header for header, _ in in_order]
    merged = replace(
        headers[0],
        sha256=hashlib.sha256("".join(header.sha256 for header in headers).encode()).hexdigest(),
        frames=len(headers),
        rescale=tuple(header.rescale[0] for header in headers),
        positions=tuple(header.positions[0] for header in headers),
    )
    stored = np.concatenate([pixels for _, pixels in in_order])
    name = _label(folder.resolve().name)
    return _Image(name=name, path=folder, header=merged, frames=list(range(len(headers))), stored=stored, known=known)


def _label(name: str) -> str:
    return re.sub(r"[^\w.+-]", "_", name)


def _canaries(image: _Image, recipe: Recipe, root: Path, taken: Collection[str]) -> list[Canary] | Refused:
    name = _free_name(image.name, recipe, taken)
    try:
        values, limits = windowed(image.stored, image.header, image.frames, recipe)
        return [
            Canary(
                id=f"{name}@{profile.name}",
                inputs={recipe.input: tensor(values, limits, recipe, profile)} | constants(recipe, profile),
                sha256=image.header.sha256,
                source=_source(image.path, root),
                profile=profile.name,
                image=recipe.input,
                tolerance=recipe.tolerance,
                batched=recipe.batched,
                strata=strata(image.header, image.known),
                truth=image.known.truth,
            )
            for profile in recipe.profiles
        ]
    except ValueError as error:
        return Refused(source=_source(image.path, root), reason=str(error))


def _free_name(name: str, recipe: Recipe, taken: Collection[str]) -> str:
    """The name, or with ``~2``, ``~3``… where an earlier file had it already."""
    profile = recipe.profiles[0].name
    names = (name if number == 1 else f"{name}~{number}" for number in count(1))
    return next(free for free in names if f"{free}@{profile}" not in taken)
