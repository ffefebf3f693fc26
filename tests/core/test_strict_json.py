"""Any JSON object is read as others read it, or refused where they would not agree."""

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from watchdog.api.strict_json import WrongBodyError, parse_object

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=8,
)


@given(document=st.dictionaries(st.text(max_size=5), JSON), ascii_only=st.booleans())
def test_an_object_is_read_as_it_was_written(document: dict[str, Any], ascii_only: bool) -> None:
    body = json.dumps(document, ensure_ascii=ascii_only).encode()
    assert parse_object(body, non_finite=True) == document


@given(body=st.binary(max_size=40) | st.text('{}[]":,1eNaI ', max_size=12).map(str.encode))
def test_any_bytes_are_an_object_or_a_wrong_body(body: bytes) -> None:
    try:
        parsed = parse_object(body)
    except WrongBodyError:
        return
    assert parsed == json.loads(body)


@pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity"])
def test_what_is_no_number_is_read_only_where_it_is_looked_for(text: str) -> None:
    body = f'{{"a": [{text}]}}'.encode()
    with pytest.raises(WrongBodyError, match=f"{text} is no number there"):
        parse_object(body)
    assert not math.isfinite(parse_object(body, non_finite=True)["a"][0])


@pytest.mark.parametrize("body", [b'{"a": 1, "a": 1}', b'{"x": [{"a": 1, "\\u0061": 2}]}'])
@pytest.mark.parametrize("non_finite", [False, True])
def test_a_key_that_comes_twice_is_named(body: bytes, non_finite: bool) -> None:
    with pytest.raises(WrongBodyError, match="the key 'a' comes twice in one object"):
        parse_object(body, non_finite=non_finite)
