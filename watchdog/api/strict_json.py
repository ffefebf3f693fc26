"""JSON as RFC 8259 has it: what parsers disagree about is refused, and so nobody reads another thing than we do."""

import functools
import json
from collections import Counter
from typing import Any, NoReturn


class WrongBodyError(ValueError):
    """A body that can't be used: the path to the field, and what is wrong with it. Quotes no value."""

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(f"{path}: {problem}" if path else problem)


def parse_object(body: bytes, *, non_finite: bool = False) -> dict[str, Any]:
    """A JSON object, in UTF-8, in which no key comes twice.

    Args:
        body: all of it.
        non_finite: whether a bare ``NaN`` or ``Infinity`` is read as such. Many programs write
            them, and whoever looks for them must not turn them away.

    Raises:
        WrongBodyError: it is none.
    """
    try:
        text = body.decode()  # not json's own guess, which takes UTF-16 and lone surrogates, too
        parsed = _decoder(non_finite).decode(text)
    except json.JSONDecodeError as error:
        raise _not_json(f" (line {error.lineno}, column {error.colno})") from error
    except UnicodeDecodeError as error:
        raise _not_json(": it is not UTF-8") from error
    except RecursionError as error:
        raise _not_json(": it is nested too deeply") from error
    except WrongBodyError:
        raise
    except ValueError as error:  # of CPython, about the digits of an integer
        raise _not_json(": a number is too long") from error
    if not isinstance(parsed, dict):
        raise WrongBodyError("", "the body must be a JSON object")
    return parsed


@functools.cache
def _decoder(non_finite: bool) -> json.JSONDecoder:
    return json.JSONDecoder(object_pairs_hook=_once, parse_constant=None if non_finite else _no_number)


def _not_json(why: str) -> WrongBodyError:
    return WrongBodyError("", f"the body is not JSON{why}")


def _no_number(text: str) -> NoReturn:
    raise _not_json(f": {text} is no number there")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        [(twice, _)] = Counter(key for key, _ in pairs).most_common(1)
        raise _not_json(f": the key {twice!r:.80} comes twice in one object")
    return found
