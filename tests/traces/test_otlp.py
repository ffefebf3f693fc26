"""OTLP bodies: Triton's own, protobuf of the library, and whatever else may come."""

import contextlib
import gzip
import json
import tracemalloc
import zlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from tests.traces.bodies import OTHERS, OURS, TRITON, a_body, in_protobuf
from watchdog.model.probe import Attribution, Part, Timing
from watchdog.model.span import Span
from watchdog.split import split
from watchdog.traces.otlp import (
    MAX_BYTES,
    MAX_PARSED_PROTOBUF_BYTES,
    Decoded,
    Format,
    MalformedError,
    TooLargeError,
    UnsupportedError,
    answer,
    decode,
    unpack,
)

BODIES = {Format.JSON: TRITON, Format.PROTOBUF: in_protobuf(TRITON)}
SPAN: dict[str, Any] = {
    "traceId": OURS + "1" * 24,
    "spanId": "2" * 16,
    "parentSpanId": "3" * 16,
    "name": "compute",
    "startTimeUnixNano": "10",
    "endTimeUnixNano": "20",
}


def json_spans(body: bytes, prefix: str = OURS) -> tuple[Span, ...]:
    return decode(body, Format.JSON, prefix).spans


def test_tritons_json_is_read() -> None:
    decoded = decode(TRITON, Format.JSON, OURS)
    assert [span.name for span in decoded.spans] == ["compute", "lung_nodule", "InferRequest"] * 2
    assert (decoded.rejected, decoded.foreign_about) == (0, 0)
    compute, model, front = decoded.spans[:3]
    assert {span.trace_id for span in decoded.spans[:3]} == {"0000000000000000000000000000abc2"}
    assert (compute.parent_id, model.parent_id) == (model.span_id, front.span_id)
    assert front.parent_id == "0000000000000007"
    assert compute.end_ns - compute.start_ns == 1_066_509
    assert [(name, at - compute.start_ns) for name, at in compute.events] == [
        ("COMPUTE_START", 0),
        ("COMPUTE_INPUT_END", 14_352),
        ("COMPUTE_OUTPUT_START", 1_035_183),
        ("COMPUTE_END", 1_066_509),
    ]
    assert model.attributes["triton.model_name"] == "lung_nodule"
    assert model.attributes["triton.model_version"] == "2"


def test_protobuf_says_the_same() -> None:
    assert decode(BODIES[Format.PROTOBUF], Format.PROTOBUF, OURS) == decode(TRITON, Format.JSON, OURS)


@pytest.mark.parametrize("trace", ["abc2", "abd2"])
def test_what_triton_sends_can_be_split(trace: str) -> None:
    spans = [span for span in json_spans(TRITON) if span.trace_id.endswith(trace)]
    got = split(spans, Timing(sent_at=0.0, total_s=0.003, client_s=0.0001))
    assert isinstance(got, Timing)
    assert got.attribution is Attribution.TRACE
    assert 0.0009 < got.parts[Part.DEVICE] < 0.0018
    assert sum(got.parts.values()) == pytest.approx(0.003)


@pytest.mark.parametrize("form", Format)
def test_spans_of_others_are_counted_unparsed(form: Format) -> None:
    assert decode(BODIES[form], form, OTHERS) == Decoded(foreign_about=6)


def test_what_is_not_ours_need_not_be_json() -> None:
    assert decode(b'{"spanId": "ab"', Format.JSON, OURS) == Decoded(foreign_about=1)


@pytest.mark.parametrize("form", Format)
def test_others_spans_beside_ours_are_left(form: Format) -> None:
    decoded = decode(BODIES[form], form, "0000000000000000000000000000abd2")
    assert [span.name for span in decoded.spans] == ["compute", "lung_nodule", "InferRequest"]
    assert decoded.foreign_about == 3


def test_lists_may_be_left_out() -> None:
    body = json.dumps({"resourceSpans": [{}, {"scopeSpans": [{"scope": {"name": SPAN["traceId"]}}]}]}).encode()
    assert decode(body, Format.JSON, OURS) == Decoded()


def test_ids_may_be_written_in_capitals() -> None:
    prefix = "abcdef01"
    body = a_body(SPAN | {"traceId": "ABCDEF01" + "E" * 24, "spanId": "AB" * 8, "parentSpanId": "CD" * 8})
    (span,) = json_spans(body, prefix)
    assert (span.trace_id, span.span_id, span.parent_id) == (prefix + "e" * 24, "ab" * 8, "cd" * 8)


def test_numbers_may_be_texts_or_numbers() -> None:
    (span,) = json_spans(a_body(SPAN | {"startTimeUnixNano": 10, "events": [{"name": "E", "timeUnixNano": 11}]}))
    assert (span.start_ns, span.end_ns, span.events) == (10, 20, (("E", 11),))


@pytest.mark.parametrize("parent", [{}, {"parentSpanId": ""}, {"parentSpanId": None}])
def test_a_root_has_no_parent(parent: dict[str, Any]) -> None:
    (span,) = json_spans(a_body({key: SPAN[key] for key in SPAN if key != "parentSpanId"} | parent))
    assert not span.parent_id


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ({"stringValue": "a"}, "a"),
        ({"intValue": "-3"}, "-3"),
        ({"intValue": 3}, "3"),
        ({"doubleValue": 0.5}, "0.5"),
        ({"boolValue": True}, "true"),
        ({"arrayValue": {"values": []}}, None),
        ({"intValue": "three"}, None),
        ({}, None),
        ("a", None),
    ],
)
def test_attributes_are_written_out(value: Any, written: str | None) -> None:
    (span,) = json_spans(a_body(SPAN | {"attributes": [{"key": "k", "value": value}]}))
    assert span.attributes.get("k") == written


def test_attributes_of_protobuf_too() -> None:
    request = ExportTraceServiceRequest.FromString(in_protobuf(a_body(SPAN | {"events": []})))
    attributes = request.resource_spans[0].scope_spans[0].spans[0].attributes
    attributes.add(key="truth").value.bool_value = True
    attributes.add(key="half").value.double_value = 0.5
    attributes.add(key="list").value.array_value.SetInParent()
    (span,) = decode(request.SerializeToString(), Format.PROTOBUF, OURS).spans
    assert span.attributes == {"truth": "true", "half": "0.5"}


@pytest.mark.parametrize(
    "change",
    [
        {"traceId": OURS},
        {"traceId": OURS + "g" * 24},
        {"spanId": "2"},
        {"spanId": None},
        {"parentSpanId": 7},
        {"parentSpanId": "parent"},
        {"name": None},
        {"startTimeUnixNano": -1},
        {"startTimeUnixNano": "1e9"},
        {"startTimeUnixNano": True},
        {"endTimeUnixNano": 2**64},
        {"endTimeUnixNano": None},
    ],
)
def test_a_span_of_ours_without_ids_or_times_is_rejected_alone(change: dict[str, Any]) -> None:
    decoded = decode(a_body(SPAN | change, SPAN), Format.JSON, OURS)
    assert (len(decoded.spans), decoded.rejected) == (1, 1)


def test_so_is_one_in_protobuf() -> None:
    request = ExportTraceServiceRequest.FromString(BODIES[Format.PROTOBUF])
    request.resource_spans[0].scope_spans[0].spans[0].span_id = b"short"
    decoded = decode(request.SerializeToString(), Format.PROTOBUF, OURS)
    assert (len(decoded.spans), decoded.rejected) == (5, 1)


MARK = f'"{OURS}"'.encode()


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(MARK, id="a text"),
        pytest.param(b'{"resourceSpans": [' + MARK, id="cut"),
        pytest.param(b'{"resourceSpans": [' + MARK + b"]}", id="a list of texts"),
        pytest.param(b'{"resourceSpans": ' + MARK + b"}", id="no list"),
        pytest.param(b'{"resourceSpans": [{"scopeSpans": {"spans": ' + MARK + b"}}]}", id="no list below"),
        pytest.param(b"[" * 100_000 + MARK + b"]" * 100_000, id="deep"),
        pytest.param(b"[" + MARK + b",[]" * 300_000 + b"]", id="many"),
        pytest.param(b"[" + MARK + b"," + b"9" * 10_000 + b"]", id="a long number"),
        pytest.param(b'{"a": "\xff"' + MARK + b"}", id="no unicode"),
    ],
)
def test_what_can_not_be_read_is_malformed(body: bytes) -> None:
    with pytest.raises(MalformedError):
        decode(body, Format.JSON, OURS)


def test_protobuf_that_can_not_be_read_is_malformed() -> None:
    with pytest.raises(MalformedError):
        decode(BODIES[Format.PROTOBUF][:-3], Format.PROTOBUF, OURS)


def test_protobuf_is_not_parsed_beyond_a_size() -> None:
    """Its many messages would fill the memory."""
    body = BODIES[Format.PROTOBUF] + b"\n\x00" * MAX_PARSED_PROTOBUF_BYTES
    with pytest.raises(TooLargeError, match="protobuf"):
        decode(body, Format.PROTOBUF, OURS)
    assert decode(body, Format.PROTOBUF, OTHERS) == Decoded(foreign_about=6)


def test_a_span_is_bounded() -> None:
    long = SPAN | {
        "name": "n" * 5000,
        "events": [{"name": "e" * 5000, "timeUnixNano": "1"}] * 500,
        "attributes": [{"key": f"{n}", "value": {"stringValue": "v" * 5000}} for n in range(500)],
    }
    (span,) = json_spans(a_body(long))
    assert (len(span.name), len(span.events), len(span.attributes)) == (1024, 128, 128)
    assert len(span.events[0][0]) == len(span.attributes["0"]) == 1024


def test_so_is_their_number() -> None:
    decoded = decode(a_body(*[SPAN] * 5000), Format.JSON, OURS)
    assert (len(decoded.spans), decoded.rejected) == (4096, 904)


@pytest.mark.parametrize(
    ("packed", "encoding"),
    [(TRITON, ""), (TRITON, "identity"), (gzip.compress(TRITON), "gzip"), (zlib.compress(TRITON), "deflate")],
)
def test_a_body_is_unpacked(packed: bytes, encoding: str) -> None:
    assert unpack(packed, encoding) == TRITON


@pytest.mark.parametrize(
    ("packed", "encoding", "error"),
    [
        pytest.param(gzip.compress(bytes(MAX_BYTES + 1)), "gzip", TooLargeError, id="a bomb"),
        pytest.param(zlib.compress(bytes(MAX_BYTES * 10)), "deflate", TooLargeError, id="a large bomb"),
        pytest.param(TRITON, "gzip", MalformedError, id="not packed"),
        pytest.param(gzip.compress(TRITON)[:-9], "gzip", MalformedError, id="cut"),
        pytest.param(gzip.compress(TRITON) + b"more", "gzip", MalformedError, id="too long"),
        pytest.param(b"", "gzip", MalformedError, id="empty"),
        pytest.param(TRITON, "br", UnsupportedError, id="another encoding"),
    ],
)
def test_what_can_not_be_unpacked_is_refused(packed: bytes, encoding: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        unpack(packed, encoding)


def test_a_bomb_is_not_unpacked_to_its_end() -> None:
    bomb = gzip.compress(bytes(20 * MAX_BYTES))
    tracemalloc.start()
    with pytest.raises(TooLargeError):
        unpack(bomb, "gzip")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * MAX_BYTES


def test_answers_say_what_was_rejected() -> None:
    assert json.loads(answer(Format.JSON, 0)) == {}
    assert answer(Format.PROTOBUF, 0) == b""
    assert json.loads(answer(Format.JSON, 3))["partialSuccess"]["rejectedSpans"] == "3"
    partial = ExportTraceServiceResponse.FromString(answer(Format.PROTOBUF, 3)).partial_success
    assert partial.rejected_spans == 3
    assert partial.error_message


def decoded_or_malformed(body: bytes, form: Format, prefix: str = OURS) -> None:
    try:
        decoded = decode(body, form, prefix)
    except MalformedError:
        return
    for span in decoded.spans:
        assert span.trace_id.startswith(prefix)
        assert (len(span.trace_id), len(span.span_id)) == (32, 16)
        assert 0 <= span.start_ns < 2**64


@settings(deadline=None, max_examples=200)
@given(form=st.sampled_from(Format), at=st.integers(0, 10_000), cut=st.integers(0, 40), put=st.binary(max_size=40))
def test_a_mutated_body_is_decoded_or_malformed(form: Format, at: int, cut: int, put: bytes) -> None:
    body = BODIES[form]
    at %= len(body)
    decoded_or_malformed(body[:at] + put + body[at + cut :], form)


@settings(deadline=None)
@given(form=st.sampled_from(Format), before=st.binary(), after=st.binary())
def test_so_are_random_bytes(form: Format, before: bytes, after: bytes) -> None:
    mark = MARK if form is Format.JSON else b"\n\x10" + bytes.fromhex(OURS)
    decoded_or_malformed(before + mark + after, form)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.just(SPAN["traceId"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@settings(deadline=None, max_examples=200)
@given(key=st.sampled_from([*SPAN, "events", "attributes"]), value=JSON_VALUES)
def test_so_is_any_value_in_any_field(key: str, value: Any) -> None:
    decoded_or_malformed(a_body(SPAN | {key: value}, SPAN), Format.JSON)
    decoded_or_malformed(a_body(SPAN | {"events": [{"name": value, "timeUnixNano": value}]}), Format.JSON)
    decoded_or_malformed(a_body(SPAN | {"attributes": [{"key": value, "value": value}]}), Format.JSON)
    decoded_or_malformed(json.dumps({"resourceSpans": [value, SPAN["traceId"]]}).encode(), Format.JSON)


@settings(deadline=None)
@given(packed=st.binary(), encoding=st.text(max_size=8) | st.sampled_from(["gzip", "deflate"]))
def test_any_encoding_is_unpacked_or_refused(packed: bytes, encoding: str) -> None:
    with contextlib.suppress(MalformedError, UnsupportedError):
        assert len(unpack(packed, encoding)) <= MAX_BYTES


def test_spans_are_all_that_is_kept() -> None:
    body = a_body(SPAN, *(SPAN | {"traceId": OTHERS + "1" * 24, "name": f"{n}" * 50} for n in range(5000)))
    decode(body, Format.JSON, OURS)
    tracemalloc.start()
    kept = decode(body, Format.JSON, OURS)
    remains = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert len(kept.spans) == 1
    assert remains < 20_000 < len(body)
