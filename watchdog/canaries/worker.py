"""The process that DICOM files are read in; started by `decode`, never by hand.

A damaged or hostile file can make a parser use all memory, spin, or crash. Here that ends one
small process. One request is a line of JSON; one reply is 8 bytes of length, that much JSON, and
then the pixels. The limit on time is each file's, the one on memory the process's.
"""

import json
import os
import resource
import sys
from typing import Any, BinaryIO

from watchdog.model.tensor import Array

_BLOCKED = ("gdcm", "pylibjpeg", "openjpeg", "libjpeg", "rle")
"""Decoders that a byte flip makes hang, eat memory or panic; not to be used even where installed."""


def main() -> None:
    """Answer requests until standard input ends."""
    limits = json.loads(sys.argv[1])
    reply_to = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not look like a reply
    _confine(limits["memory_bytes"])
    for name in _BLOCKED:
        sys.modules[name] = None  # type: ignore[assignment]  # makes an import of it fail
    from watchdog.canaries.reading import answer  # noqa: PLC0415 - under the limits, without the blocked

    _send(reply_to, {"ready": True})
    for line in sys.stdin:
        _allow_cpu(limits["cpu_s"])
        request = json.loads(line)
        try:
            reply, pixels = answer(request, samples=limits["samples"], file_bytes=limits["file_bytes"])
        except MemoryError:
            reply, pixels = {"reason": f"needs more than {limits['memory_bytes'] >> 20} MiB of memory"}, None
        _send(reply_to, reply, pixels)


def _confine(memory_bytes: int) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _allow_cpu(seconds: float) -> None:
    used = resource.getrusage(resource.RUSAGE_SELF)
    soft = int(used.ru_utime + used.ru_stime + seconds) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (soft, resource.getrlimit(resource.RLIMIT_CPU)[1]))


def _send(reply_to: BinaryIO, reply: dict[str, Any], pixels: Array | None = None) -> None:
    text = json.dumps(reply).encode()
    reply_to.write(len(text).to_bytes(8, "big") + text)
    if pixels is not None:
        reply_to.write(pixels.data.cast("B"))
    reply_to.flush()


if __name__ == "__main__":
    main()
