"""What the worker does with one file: parse, look for identifying attributes, check, decode."""

import hashlib
import io
import os
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import config, dcmread
from pydicom.dataset import Dataset
from pydicom.pixels.decoders.base import get_decoder

from watchdog.canaries.header import Header, read_header
from watchdog.canaries.identity import identifying
from watchdog.model.tensor import Array

config.settings.reading_validation_mode = config.IGNORE  # what matters is checked below

_UNCOMPRESS = "store the canary uncompressed, for example with dcmdjpeg or gdcmconv --raw"


class _Unusable(Exception):  # noqa: N818 - it carries a refusal's reason, and nothing went wrong here
    """Why a file can't be a canary."""


def answer(request: dict[str, Any], *, samples: int, file_bytes: int) -> tuple[dict[str, Any], Array | None]:
    """The reply to one request, and the pixels if they are to follow.

    Raises:
        MemoryError: the limit was met; the worker lives on.
    """
    reply: dict[str, Any] = {"reason": ""}
    try:
        dataset, sha256 = _parse(Path(request["path"]), file_bytes)
        header, names = _facts(dataset, sha256)
        reply["header"] = header.to_json()
        reply["identifying"] = sorted(set(names) - set(request["allow"]))
        if reply["identifying"] and not request["even_identifying"]:
            return reply, None
        _check(header, samples)
        pixels = _decode(dataset, header)
    except _Unusable as error:
        return reply | {"reason": str(error)}, None
    except RecursionError:
        return reply | {"reason": "is nested too deeply"}, None
    return reply | {"dtype": pixels.dtype.str, "shape": list(pixels.shape)}, pixels


def _parse(path: Path, most: int) -> tuple[Dataset, str]:
    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_size > most:
                raise _Unusable(f"is larger than {most >> 20} MiB")
            data = file.read()
    except OSError as error:
        raise _Unusable(f"can't be read: {error.strerror}") from error
    if data[128:132] != b"DICM":
        raise _Unusable("is not a DICOM file: it has no DICM marker")
    try:
        return dcmread(io.BytesIO(data)), hashlib.sha256(data).hexdigest()
    except (MemoryError, RecursionError):
        raise
    except Exception as error:  # a parser of damaged input raises anything; its text may quote values
        raise _Unusable(f"is damaged: it can't be parsed ({type(error).__name__})") from error


def _facts(dataset: Dataset, sha256: str) -> tuple[Header, list[str]]:
    try:
        return read_header(dataset, sha256), identifying(dataset)
    except (MemoryError, RecursionError):
        raise
    except Exception as error:  # as above
        raise _Unusable(f"is damaged: an attribute can't be read ({type(error).__name__})") from error


def _check(header: Header, most: int) -> None:
    """Before any pixel is touched: is this an image of a kind and size that can be used?"""
    samples = header.rows * header.columns * header.frames * header.samples
    if not samples or not header.integers:
        raise _Unusable("holds no image (or none made of integers)")
    if samples > most:
        raise _Unusable(f"claims {samples} pixels; at most {most} are decoded")
    if header.frames > len(header.rescale):
        raise _Unusable(f"claims {header.frames} frames; at most {len(header.rescale)} are looked at")
    if header.samples != 1 or header.photometric not in ("MONOCHROME1", "MONOCHROME2"):
        raise _Unusable(f"is a colour image ({header.photometric or 'unnamed'}); only grey ones can be canaries")
    if not 1 <= header.bits_stored <= 32:
        raise _Unusable(f"claims {header.bits_stored} bits a pixel; 1 to 32 are read")
    if header.lut:
        raise _Unusable("has a modality table (ModalityLUTSequence); store the canary rescaled linearly")


def _decode(dataset: Dataset, header: Header) -> Array:
    try:
        decoder = get_decoder(dataset.file_meta.TransferSyntaxUID)
    except NotImplementedError as error:
        raise _Unusable(f"{header.syntax} holds no pixels that can be decoded; {_UNCOMPRESS}") from error
    if not decoder.is_available:
        raise _Unusable(f"{header.syntax} can't be decoded here; {_UNCOMPRESS}")
    try:
        pixels, _ = decoder.as_array(dataset, allow_excess_frames=False)  # type: ignore[arg-type]  # pydicom types **kwargs as one dict
    except (MemoryError, RecursionError):
        raise
    except Exception as error:  # of pydicom, Pillow and pyjpegls; concerns pixels, quotes no attribute
        detail = " ".join(str(error).split())[:200]
        advice = f"; {_UNCOMPRESS}" if decoder.is_encapsulated else ""
        raise _Unusable(f"{header.syntax} pixels can't be decoded ({detail}){advice}") from error
    shape = (header.frames, header.rows, header.columns)
    if pixels.size != header.frames * header.rows * header.columns:
        raise _Unusable(f"holds {pixels.size} pixels where its attributes promise {shape}")
    return np.ascontiguousarray(pixels.reshape(shape))
