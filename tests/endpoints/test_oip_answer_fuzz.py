"""Whatever JSON or bytes come back over HTTP: a reply that holds together, or a fault."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from watchdog.endpoints.description import Answers
from watchdog.endpoints.faults import FaultError, settled
from watchdog.endpoints.oip_answer import decode
from watchdog.endpoints.statistics import read_statistics
from watchdog.model.engine import Address, Answerer, Description
from watchdog.model.fault import Fault, FaultKind
from watchdog.model.load import Statistics
from watchdog.model.tensor import DTYPES, Array

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=8,
)
NUMBERS = st.lists(st.integers(-300, 300) | st.floats() | st.none() | st.booleans() | st.integers(), max_size=6)


def _object(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.fixed_dictionaries({}, optional={name: JSON | field for name, field in fields.items()})


OUTPUT = _object(
    name=st.sampled_from("YZ"),
    datatype=st.sampled_from([*DTYPES, "BYTES"]),
    shape=st.lists(st.integers(-1, 3), max_size=3),
    data=NUMBERS | st.lists(NUMBERS, max_size=3),
    parameters=st.fixed_dictionaries({"binary_data_size": st.integers(-1, 12) | JSON}),
)
ANSWER = _object(model_name=st.text(max_size=3), model_version=st.just("1"), outputs=st.lists(OUTPUT, max_size=3))


def _decoded(
    body: bytes, header_length: str | None, wanted: tuple[str, ...]
) -> tuple[dict[str, Array], Answerer] | Fault:
    try:
        return decode(body, header_length, wanted)
    except FaultError as error:
        return error.fault


def _holds_together(body: bytes, header_length: str | None, wanted: tuple[str, ...]) -> None:
    decoded = _decoded(body, header_length, wanted)
    if isinstance(decoded, Fault):
        assert decoded.kind is FaultKind.GARBLED
        assert decoded.detail.isprintable()
        return
    outputs, answerer = decoded
    assert all(array.dtype in DTYPES.values() and array.flags.aligned for array in outputs.values())
    assert all(isinstance(text, str) for text in (answerer.model, answerer.version))
    assert not wanted or set(outputs) <= set(wanted)


@settings(max_examples=200, deadline=None)
@given(answer=ANSWER, raw=st.binary(max_size=24), split=st.booleans(), wanted=st.sampled_from([(), ("Y",), ("Q",)]))
def test_any_json(answer: Any, raw: bytes, split: bool, wanted: tuple[str, ...]) -> None:
    head = json.dumps(answer).encode()
    _holds_together(head + raw if split else head, str(len(head)) if split else None, wanted)


@settings(max_examples=200, deadline=None)
@given(body=st.binary(max_size=60), header_length=st.none() | st.text(max_size=6) | st.integers().map(str))
@example(body=b"{}", header_length="²")
@example(body=b"{}", header_length="٢")
def test_any_bytes(body: bytes, header_length: str | None) -> None:
    _holds_together(body, header_length, ())


@settings(max_examples=200, deadline=None)
@given(datatype=st.sampled_from(sorted(DTYPES)), shape=st.lists(st.integers(0, 3), max_size=3), data=st.data())
def test_sound_answers_are_read_exactly(datatype: str, shape: list[int], data: st.DataObject) -> None:
    dtype, size = DTYPES[datatype], int(np.prod(shape, dtype=int))
    raw = data.draw(st.binary(min_size=size * dtype.itemsize, max_size=size * dtype.itemsize))
    sent = np.frombuffer(bytes(each % 2 for each in raw) if datatype == "BOOL" else raw, dtype).reshape(shape)
    output: dict[str, Any] = {"name": "Y", "datatype": datatype, "shape": shape}
    plain = json.dumps({"outputs": [{**output, "data": sent.ravel().tolist()}]}).encode()
    head = json.dumps({"outputs": [{**output, "parameters": {"binary_data_size": sent.nbytes}}]}).encode()
    for body, header_length in ((plain, None), (head + sent.tobytes(), str(len(head)))):
        got = decode(body, header_length, ())[0]["Y"]
        assert got.dtype == sent.dtype
        np.testing.assert_array_equal(got, sent)


@pytest.mark.filterwarnings("error")
@settings(max_examples=300, deadline=None)
@given(
    server=_object(name=JSON),
    model=_object(inputs=JSON, outputs=JSON, versions=JSON),
    config=st.none() | _object(parameters=JSON, response_cache=JSON),
    statistics=st.none() | _object(model_stats=JSON),
    index=st.none() | st.lists(_object(name=st.just("m"), version=JSON, state=st.just("READY")), max_size=3),
    tracing=st.none() | _object(trace_level=JSON, trace_mode=JSON, trace_rate=JSON, bsp_schedule_delay=JSON),
)
async def test_any_metadata(**said: Any) -> None:
    async def describe() -> Description:
        return Answers(**said).describe(Address(endpoint="e", model="m", version="1"))

    assert isinstance(await settled(describe(), 1), Description | Fault)


_STATISTICS = _object(success=_object(count=JSON, ns=JSON), fail=_object(count=JSON), queue=JSON)
_ROW = _object(version=st.sampled_from(["1", "2"]), inference_count=JSON, inference_stats=_STATISTICS)


@settings(max_examples=200, deadline=None)
@given(answer=_object(model_stats=st.lists(_ROW, max_size=3)), version=st.sampled_from(["", "1"]))
async def test_any_statistics(answer: Any, version: str) -> None:
    async def read() -> Statistics:
        return read_statistics(answer, Address(endpoint="e", model="m", version=version))

    assert isinstance(await settled(read(), 1), Statistics | Fault)


@given(text=st.text(alphabet="0123456789x \t-²", max_size=24))
@example("1x1x64x64 1x1x512x512 8x1x512x512")
@example("0x1 1x1 1x1")
def test_any_profile(text: str) -> None:
    answers = Answers(
        server={},
        model={"inputs": [{"name": "X", "datatype": "FP32"}]},
        config={"parameters": {"profile.X": {"string_value": text}}},
        statistics=None,
        index=None,
        tracing=None,
    )
    description = answers.describe(Address(endpoint="e", model="m"))
    assert len(description.profiles) + len(description.unreadable) == bool(text)
    for shapes in description.profiles.values():
        assert len(shapes.least) == len(shapes.best) == len(shapes.most) > 0
        for least, best, most in zip(shapes.least, shapes.best, shapes.most, strict=True):
            assert 0 < least <= best <= most
