"""Waiting for what another process does."""

import time
from collections.abc import Callable
from typing import TypeVar

_PATIENCE_S = 60.0
_LOOK_S = 0.02

_Result = TypeVar("_Result")


def until(happened: Callable[[], _Result | None], what: str) -> _Result:
    """The first true answer of `happened`.

    Raises:
        RuntimeError: there was none within a minute; `what` is said to be missing.
    """
    give_up_at = time.monotonic() + _PATIENCE_S
    while not (found := happened()):
        if time.monotonic() > give_up_at:
            raise RuntimeError(f"waited {_PATIENCE_S:g} s for {what}")
        time.sleep(_LOOK_S)
    return found
