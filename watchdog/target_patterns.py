"""Which servers may be asked, as patterns of their addresses (pure).

A star stands for letters, digits, hyphens and underscores of one label, and for nothing else: no dot, colon, slash or
``@`` can be smuggled in, so an address that matches differs from its pattern only inside a name that was left open.
"""

import re
from functools import cache

_STAR = "*"
_OPEN = "[a-z0-9_-]*"
_HOST = re.compile(r"(?:[a-z]+://)?(?P<host>\[[^\]]*\]|[^:/]*)")
_LONGEST = 300


def refuse(pattern: str) -> None:
    """Raises ValueError for a pattern that can't be meant, saying what is allowed."""
    if len(pattern) > _LONGEST or not pattern.isascii() or not pattern.isprintable() or " " in pattern:
        raise ValueError(f"{pattern[:80]!r} is no pattern of an address: write one such as triton-*.imaging:8001")
    host = _HOST.match(pattern.lower())
    if host is None or not re.search(r"[a-z0-9]", host["host"]):
        raise ValueError(
            f"{pattern!r} leaves the whole host open: secret headers would go to whoever is named; "
            "write as much of it as is known, such as triton-*.imaging:8001"
        )


def example(pattern: str) -> str:
    """One address that the pattern allows, to be checked as any other.

    >>> example("triton-*.imaging:*")
    'triton-1.imaging:1'
    """
    return pattern.replace(_STAR, "1")


def allows(pattern: str, target: str) -> bool:
    """Whether the whole of `target` is as the pattern has it; letters' case does not matter, as in DNS.

    >>> allows("triton-*.imaging:8001", "triton-7.imaging:8001")
    True
    >>> allows("triton-*:8001", "triton-7.elsewhere.example:8001")
    False
    """
    return _compiled(pattern.lower()).fullmatch(target.lower()) is not None


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(_OPEN.join(re.escape(part) for part in pattern.split(_STAR)), re.ASCII)
