"""Whether what Grafana has is what it should have. It adds defaults and numbers of its own, which don't count."""

import difflib
import json
from collections.abc import Iterator, Mapping
from typing import Any


def visible(theirs: Any, ours: Any) -> Any:
    """What `theirs` says of all that `ours` speaks of.

    >>> visible({"title": "a", "version": 7}, {"title": "b"})
    {'title': 'a'}
    """
    if isinstance(theirs, Mapping) and isinstance(ours, Mapping):
        return {key: visible(theirs[key], value) for key, value in ours.items() if key in theirs}
    if isinstance(theirs, list) and isinstance(ours, list):
        extra = theirs[len(ours) :]  # Grafana adds no elements: a person did
        return [*(visible(each, other) for each, other in zip(theirs, ours, strict=False)), *extra]
    return theirs


def difference(theirs: Any, ours: Any, name: str) -> list[str]:
    """A unified diff from what is there to what should be; empty where they are the same.

    Args:
        theirs: None where nothing is there.
        ours: what should be.
        name: for the diff's heading.
    """
    before = [] if theirs is None else list(_text(visible(theirs, ours)))
    return list(difflib.unified_diff(before, list(_text(ours)), f"grafana/{name}", f"shipped/{name}", lineterm=""))


def _text(document: Any) -> Iterator[str]:
    yield from json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False).splitlines()
