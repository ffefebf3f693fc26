"""States as bytes: what is damaged, strange or another detector's is a ValueError."""

import io
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from watchdog.drift import state
from watchdog.model.tensor import Array

NUMBERS = hnp.arrays(
    st.sampled_from([np.float64, np.int64, np.float32]), hnp.array_shapes(max_dims=3), elements=st.integers(-99, 99)
)
GOOD = state.pack("a detector", {"wealth": np.arange(12.0).reshape(3, 4), "run": 3, "recent": [0.5, 0.25]})


def _same(a: dict[str, Array], b: dict[str, Array]) -> bool:
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


@given(st.dictionaries(st.sampled_from(["wealth", "pool", "run"]), NUMBERS), st.text(max_size=20))
def test_what_is_packed_comes_back(values: dict[str, Array], identity: str) -> None:
    identity = identity.rstrip("\0")  # numpy's texts end there
    found = state.unpack(identity, state.pack(identity, values))
    assert _same(found, values)
    assert all(found[name].dtype == values[name].dtype for name in values)


def test_another_detectors_state_is_refused() -> None:
    with pytest.raises(ValueError, match="another reference, promise or version"):
        state.unpack("another detector", GOOD)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"PK",
        b"\0" * 1000,
        pickle.dumps({"wealth": 1}),
        pickle.dumps(np.arange(3)),
        GOOD[:-1],
    ],
)
def test_what_is_no_state_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"state"):
        state.unpack("a detector", data)


def test_a_lone_array_is_no_state() -> None:
    file = io.BytesIO()
    np.save(file, np.arange(3.0))
    with pytest.raises(ValueError, match="not a detector's state"):
        state.unpack("a detector", file.getvalue())


@pytest.mark.parametrize("value", ["text", [True], 1j, [b"x"]])
def test_what_holds_no_numbers_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="the state's run is no number"):
        state.unpack("a detector", state.pack("a detector", {"run": value}))


def test_objects_are_never_unpickled() -> None:
    file = io.BytesIO()
    np.savez(file, identity=np.array("a detector"), run=np.array([{}], dtype=object))
    with pytest.raises(ValueError, match="not a detector's state"):
        state.unpack("a detector", file.getvalue())


@given(st.binary(max_size=200))
def test_no_bytes_raise_anything_else(data: bytes) -> None:
    with pytest.raises(ValueError, match="state"):
        state.unpack("a detector", data)


@settings(max_examples=300)
@given(st.integers(0, len(GOOD) - 1), st.integers(1, 255))
def test_a_flipped_byte_is_noticed_or_harmless(at: int, flip: int) -> None:
    data = bytearray(GOOD)
    data[at] ^= flip
    try:
        found = state.unpack("a detector", bytes(data))
    except ValueError:
        return
    good = state.unpack("a detector", GOOD)
    assert all(np.array_equal(found[name], good[name]) for name in found.keys() & good.keys())


@given(st.integers(0, len(GOOD) - 1))
def test_a_truncated_state_is_refused(length: int) -> None:
    with pytest.raises(ValueError, match="state"):
        state.unpack("a detector", GOOD[:length])


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({}, "missing"),
        ({"wealth": np.zeros(3)}, "another shape"),
        ({"wealth": np.array([[1.0, np.nan]])}, "another shape"),
        ({"wealth": np.array([[np.inf, 1.0]])}, "another shape"),
    ],
)
def test_an_array_must_have_its_shape_and_be_finite(values: dict[str, Array], problem: str) -> None:
    with pytest.raises(ValueError, match=f"wealth is missing or has {problem}|wealth is {problem}"):
        state.shaped(values, "wealth", np.zeros((1, 2)))


def test_an_array_takes_the_type_of_its_place() -> None:
    assert state.shaped({"a": np.array([1.0, 2.0])}, "a", np.zeros(2, dtype=np.int64)).dtype == np.int64
    assert state.number({"a": np.array(3)}, "a") == 3.0
    with pytest.raises(ValueError, match="a is missing"):
        state.number({"a": np.array([3.0])}, "a")
