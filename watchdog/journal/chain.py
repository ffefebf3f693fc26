"""What ties an entry to the one before it: a hash that anybody can compute again. Pure.

``hash = SHA-256(previous ‖ seq ‖ at ‖ SHA-256(kind) ‖ SHA-256(model) ‖ SHA-256(data))`` over 144 bytes: the hash of
the entry before (32 bytes, zeros for the first), its number (unsigned 64 bits), its time (IEEE 754 binary64), both
big-endian, and the hashes of three texts in UTF-8. Every part has a fixed length, so no two entries share an
encoding. The data takes part by its hash alone, and can be forgotten without breaking the chain.
"""

import hashlib
import struct
from dataclasses import dataclass

GENESIS = bytes(32)
"""What the first entry of a journal follows."""
_PARTS = struct.Struct(">32sQd32s32s32s")


@dataclass(frozen=True, kw_only=True, slots=True)
class Link:
    """All of an entry that its hash depends on."""

    seq: int
    at: float
    kind: str
    model: str
    digest: bytes
    """Of its data, by `digest_of`."""

    def after(self, previous: bytes, *, seq: int | None = None) -> bytes:
        """The entry's hash, 32 bytes, where it follows `previous`; as if its number were `seq`, if that is given."""
        number = self.seq if seq is None else seq
        return hashlib.sha256(
            _PARTS.pack(previous, number, self.at, digest_of(self.kind), digest_of(self.model), self.digest)
        ).digest()


def digest_of(text: str) -> bytes:
    """SHA-256 of a text as SQLite holds it; bytes that are no UTF-8 are those that Python escapes."""
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()
