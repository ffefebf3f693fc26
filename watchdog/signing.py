"""How a receiver knows that a POST is the watchdog's own, and whether it has had it before (pure)."""

import hashlib
import hmac


def signed(body: bytes, key: str, at: int) -> dict[str, str]:
    """The headers to send with `body`.

    Args:
        body: as it goes out.
        key: the secret that the receiver shares.
        at: Unix seconds.

    Returns:
        ``X-Watchdog-Delivery``, alike for the same body, so that a retry is known, and
        ``X-Watchdog-Signature`` as `sign` makes it.
    """
    return {
        "X-Watchdog-Delivery": hashlib.sha256(body).hexdigest()[:32],
        "X-Watchdog-Signature": sign(body, key, at),
    }


def sign(body: bytes, key: str, at: int) -> str:
    """The time, and the HMAC-SHA256 (RFC 2104) of "<time>.<body>" in hex.

    >>> sign(b"{}", "key", 1)
    't=1,v1=1ba6b8171186efc613e8bcc0cbdab2748f24984d7c5a84faa2637afa0e40d224'
    """
    digest = hmac.new(key.encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={at},v1={digest}"
