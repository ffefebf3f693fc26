"""A canary's payloads are new each time, and still show the same image."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.builders import a_canary
from watchdog.model.tensor import DTYPES, Array

NUMBERS = [d for d in DTYPES.values() if d.kind in "iuf"]


def with_input(array: Array, tolerance: float, *, batched: bool = True) -> Any:
    return a_canary(inputs={"x": array}, tolerance=tolerance, batched=batched)


@given(
    dtype=st.sampled_from(NUMBERS),
    tolerance=st.integers(1, 200),
    shape=st.sampled_from([(1, 3), (2, 4, 5), (3, 1, 6, 6), (7,)]),
    batched=st.booleans(),
    seed=st.integers(0, 2**63 - 1),
    at_the_edge=st.sampled_from(["lowest", "highest", "middle"]),
)
def test_few_elements_move_and_none_by_more_than_the_tolerance(
    *, dtype: np.dtype[Any], tolerance: int, shape: tuple[int, ...], batched: bool, seed: int, at_the_edge: str
) -> None:
    whole = np.iinfo(dtype) if dtype.kind in "iu" else None
    value = 100 if whole is None or at_the_edge == "middle" else whole.min if at_the_edge == "lowest" else whole.max
    array = np.full(shape, value, dtype=dtype)

    moved = with_input(array, tolerance, batched=batched).perturbed(np.random.default_rng(seed))["x"]

    assert (moved.dtype, moved.shape) == (array.dtype, array.shape)
    difference = np.array([int(a) - int(b) for a, b in zip(moved.ravel(), array.ravel(), strict=True)], dtype=object)
    if whole is None:
        difference = moved.astype(np.float64).ravel() - array.astype(np.float64).ravel()
    assert max(abs(d) for d in difference) <= tolerance
    rows = moved.shape[0] if batched and moved.ndim > 1 else 1
    assert np.count_nonzero(moved != array) <= 8 * rows


def test_the_rows_of_a_batch_move_alike() -> None:
    array = np.zeros((4, 100), dtype=np.float32)
    moved = with_input(array, 0.5).perturbed(np.random.default_rng(1))["x"]
    assert moved.any()
    assert (moved == moved[:1]).all()


def test_a_seed_makes_one_payload_and_another_seed_another() -> None:
    canary = with_input(np.zeros((2, 64), dtype=np.float32), 1e-3)
    first, again, other = (canary.perturbed(np.random.default_rng(s))["x"].tobytes() for s in (1, 1, 2))
    assert first == again != other


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.uint8, np.int16, np.uint64])
def test_payloads_do_not_repeat(dtype: type) -> None:
    canary = with_input(np.full((1, 512), 100, dtype=dtype), 1)
    rng = np.random.default_rng(0)
    assert len({canary.perturbed(rng)["x"].tobytes() for _ in range(100)}) == 100


@pytest.mark.parametrize("dtype", [np.int16, np.float32])
def test_a_tolerance_of_0_forbids_perturbation(dtype: type) -> None:
    array: Array = np.full((1, 64), 7, dtype=dtype)
    assert (with_input(array, 0.0).perturbed(np.random.default_rng(0))["x"] == array).all()


@pytest.mark.parametrize("value", [0, 255, 7])
def test_every_payload_of_whole_numbers_differs_from_the_image_itself(value: int) -> None:
    canary = with_input(np.full((1, 1), value, dtype=np.uint8), 1)
    rng = np.random.default_rng(0)
    assert all((canary.perturbed(rng)["x"] != value).any() for _ in range(200))


def test_only_the_image_moves_where_there_are_other_inputs() -> None:
    inputs = {"age": np.zeros((1, 1), np.float32), "x": np.zeros((1, 32), np.float32)}
    moved = a_canary(inputs=inputs, tolerance=0.1, image="x").perturbed(np.random.default_rng(0))
    assert moved["x"].any()
    assert not moved["age"].any()


@pytest.mark.parametrize(
    "array", [np.zeros((2, 0), np.float32), np.ones((1, 3), np.bool_), np.asfortranarray(np.ones((3, 4), np.float32))]
)
def test_odd_arrays_come_back_as_copies_of_their_shape(array: Array) -> None:
    canary = with_input(array, 1e-3)
    moved = canary.perturbed(np.random.default_rng(0))["x"]
    assert moved.shape == array.shape
    assert not np.shares_memory(moved, canary.inputs["x"])


def test_the_canary_itself_never_changes() -> None:
    canary = with_input(np.zeros((2, 16), dtype=np.float32), 0.1)
    canary.perturbed(np.random.default_rng(0))
    assert not canary.inputs["x"].any()
