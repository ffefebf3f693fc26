"""OTLP/HTTP bodies of traces: JSON and protobuf, of which only canaries' spans are kept.

The format: https://opentelemetry.io/docs/specs/otlp/#otlphttp. A body without a canary's trace id
is not parsed, so that the spans of patients' requests cost next to nothing.
"""

import json
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from watchdog.model.span import Span

MAX_BYTES = 8 * 2**20
"""Of a body, also of an unpacked one."""
MAX_PARSED_PROTOBUF_BYTES = 2 * 2**20
"""Empty messages take fifty times their size once they are parsed; 2 MiB are 10,000 spans of Triton's."""
_MOST_SPANS = 4096
_MOST_OBJECTS = 2**18
"""In a JSON body: 8 MiB of honest spans have fewer, and a nested one could have ten times as many."""
_MOST_EVENTS = _MOST_ATTRIBUTES = 128  # what OpenTelemetry's SDKs allow by default
_LONGEST = 1024

_ID = re.compile(r"[0-9a-f]{16}")
_NUMBER = re.compile(r"-?[0-9]{1,20}")
_PROTOBUF_IDS = re.compile(rb"\n\x10.{16}\x12\x08", re.DOTALL)
"""Field 1 with 16 bytes, then field 2 with 8: the two ids that a span begins with."""


class Format(StrEnum):
    """What a body is written in: its content type."""

    JSON = "application/json"
    PROTOBUF = "application/x-protobuf"


class MalformedError(ValueError):
    """A body that can't be read. Quotes nothing of it."""


class TooLargeError(ValueError):
    """A body that unpacks, or would have to be parsed, to more than is held here."""


class UnsupportedError(ValueError):
    """A body in an encoding that isn't known here."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Decoded:
    """What one body held."""

    spans: tuple[Span, ...] = ()
    """Those whose trace id has the prefix. Of more than 128 events or attributes, and of long texts, the beginning."""
    rejected: int = 0
    """Spans with the prefix that lack ids or times, or are too many."""
    foreign_about: int = 0
    """Spans of others; where the body was not parsed, by counting what looks like a span's ids, links' too."""


def unpack(body: bytes, encoding: str) -> bytes:
    """A body without its ``Content-Encoding``, which is empty, ``identity``, ``gzip`` or ``deflate``.

    Raises:
        UnsupportedError: another encoding.
        MalformedError: it is not packed like that.
        TooLargeError: there is more in it than `MAX_BYTES`.
    """
    if encoding in {"", "identity"}:
        return body
    if encoding not in {"gzip", "deflate"}:
        raise UnsupportedError("the content encoding must be gzip or deflate, or none")
    unpacker = zlib.decompressobj(zlib.MAX_WBITS | 32)  # gzip or zlib, by its header
    try:
        unpacked = unpacker.decompress(body, MAX_BYTES + 1)
    except zlib.error as error:
        raise MalformedError(f"the body is not {encoding}") from error
    if len(unpacked) > MAX_BYTES:
        raise TooLargeError(f"the body unpacks to more than {MAX_BYTES} bytes")
    if not unpacker.eof or unpacker.unused_data:
        raise MalformedError(f"the {encoding} body ends too early or too late")
    return unpacked


def decode(body: bytes, form: Format, prefix: str) -> Decoded:
    """The spans whose trace id begins with `prefix`.

    Parsing the worst body takes about 110 MiB and a second; of 512 spans, a millisecond.

    Args:
        body: at most `MAX_BYTES`, unpacked.
        form: of the body.
        prefix: an even number of lower-case hexadecimal digits, enough that no other trace begins so.

    Raises:
        MalformedError: it can't be parsed. A body without `prefix` is not looked at so closely.
        TooLargeError: it has a span of ours, and is more protobuf than is parsed.
    """
    if form is Format.PROTOBUF:
        if b"\n\x10" + bytes.fromhex(prefix) not in body:
            return Decoded(foreign_about=sum(1 for _ in _PROTOBUF_IDS.finditer(body)))
        return _sifted(_listed_in_protobuf(body), prefix, _from_protobuf)
    lower = body.lower()  # ids may be written in either case
    if f'"{prefix}'.encode() not in lower:
        return Decoded(foreign_about=lower.count(b'"spanid"'))
    return _sifted(_listed(_parsed(body)), prefix, _from_json)


def answer(form: Format, rejected: int) -> bytes:
    """An ``ExportTraceServiceResponse``: all was taken, or all but so many spans."""
    why = "they bear a canary's trace id, and have no usable ids or times, or are too many"
    if not rejected:
        return b"{}" if form is Format.JSON else b""
    if form is Format.JSON:
        return json.dumps({"partialSuccess": {"rejectedSpans": str(rejected), "errorMessage": why}}).encode()
    from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as service  # noqa: PLC0415 (heavy)

    partial = service.ExportTracePartialSuccess(rejected_spans=rejected, error_message=why)
    return bytes(service.ExportTraceServiceResponse(partial_success=partial).SerializeToString())


@dataclass(frozen=True, kw_only=True, slots=True)
class _Found:
    """A span as one of the formats has it."""

    trace_id: str
    span: Any


def _sifted(found: Iterable[_Found], prefix: str, read: Callable[[_Found], Span | None]) -> Decoded:
    spans: list[Span] = []
    rejected = foreign = 0
    for each in found:
        if not each.trace_id.startswith(prefix):
            foreign += 1
        elif len(spans) < _MOST_SPANS and (span := read(each)) is not None:
            spans.append(span)
        else:
            rejected += 1
    return Decoded(spans=tuple(spans), rejected=rejected, foreign_about=foreign)


def _parsed(body: bytes) -> Any:
    if body.count(b"{") + body.count(b"[") > _MOST_OBJECTS:
        raise MalformedError(f"the body has more than {_MOST_OBJECTS} objects and lists")
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        where = f" (line {error.lineno}, column {error.colno})" if isinstance(error, json.JSONDecodeError) else ""
        raise MalformedError(f"the body is not JSON{where}") from error


def _listed(request: Any) -> Iterator[_Found]:
    for resource in _objects(request, "resourceSpans"):
        for scope in _objects(resource, "scopeSpans"):
            for span in _objects(scope, "spans"):
                trace_id = span.get("traceId")
                yield _Found(trace_id=trace_id.lower() if isinstance(trace_id, str) else "", span=span)


def _objects(holder: Any, key: str) -> Iterator[dict[str, Any]]:
    if not isinstance(holder, dict):
        raise MalformedError(f"what should hold {key} is no object")
    listed = holder.get(key)
    if listed is None:
        return
    if not isinstance(listed, list) or not all(isinstance(each, dict) for each in listed):
        raise MalformedError(f"{key} must be a list of objects")
    yield from listed


def _from_json(found: _Found) -> Span | None:
    span = found.span
    events = [(each.get("name"), _time(each.get("timeUnixNano"))) for each in _some(span, "events", _MOST_EVENTS)]
    attributes = [
        (each.get("key"), _written(each.get("value"))) for each in _some(span, "attributes", _MOST_ATTRIBUTES)
    ]
    return _span(
        ids=(found.trace_id, _lower(span.get("spanId")), _lower(span.get("parentSpanId") or "")),
        name=span.get("name"),
        times=(_time(span.get("startTimeUnixNano")), _time(span.get("endTimeUnixNano"))),
        events=((name, at) for name, at in events if isinstance(name, str)),
        attributes=((key, text) for key, text in attributes if isinstance(key, str)),
    )


def _some(span: Mapping[str, Any], key: str, most: int) -> list[dict[str, Any]]:
    listed = span.get(key)
    return [each for each in listed[:most] if isinstance(each, dict)] if isinstance(listed, list) else []


def _lower(value: Any) -> str | None:
    return value.lower() if isinstance(value, str) else None


def _time(value: Any) -> int | None:
    """Unsigned nanoseconds, as a number or as text."""
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        value = int(value)
    return value if type(value) is int and 0 <= value < 2**64 else None


def _written(value: Any) -> str | None:
    """An ``AnyValue`` of one text, number or truth value."""
    match value:
        case {"stringValue": str(text)}:
            return text
        case {"boolValue": bool(truth)}:
            return "true" if truth else "false"
        case {"intValue": str(number)} if _NUMBER.fullmatch(number):
            return number
        case {"intValue": int(number)} | {"doubleValue": int(number) | float(number)}:
            return str(number)
        case _:
            return None


def _listed_in_protobuf(body: bytes) -> Iterator[_Found]:
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # noqa: PLC0415 (heavy; no types)
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest  # noqa: PLC0415

    if len(body) > MAX_PARSED_PROTOBUF_BYTES:
        raise TooLargeError(f"protobuf with a canary's span may have {MAX_PARSED_PROTOBUF_BYTES} bytes, unpacked")
    try:
        request = ExportTraceServiceRequest.FromString(body)
    except DecodeError as error:
        raise MalformedError("the body is not protobuf of an ExportTraceServiceRequest") from error
    for resource in request.resource_spans:
        for scope in resource.scope_spans:
            for span in scope.spans:
                yield _Found(trace_id=span.trace_id.hex(), span=span)


def _from_protobuf(found: _Found) -> Span | None:
    span = found.span
    return _span(
        ids=(found.trace_id, span.span_id.hex(), span.parent_span_id.hex()),
        name=span.name,
        times=(span.start_time_unix_nano, span.end_time_unix_nano),
        events=((event.name, event.time_unix_nano) for event in span.events[:_MOST_EVENTS]),
        attributes=((each.key, _told(each.value)) for each in span.attributes[:_MOST_ATTRIBUTES]),
    )


def _told(value: Any) -> str | None:
    match value.WhichOneof("value"):
        case "bool_value":
            return "true" if value.bool_value else "false"
        case "string_value" | "int_value" | "double_value" as kind:
            return str(getattr(value, kind))
        case _:
            return None


def _span(
    *,
    ids: tuple[str, str | None, str | None],
    name: Any,
    times: tuple[int | None, int | None],
    events: Iterable[tuple[str, int | None]],
    attributes: Iterable[tuple[str, str | None]],
) -> Span | None:
    """None where ids, name or times are none."""
    trace_id, span_id, parent_id = ids
    start, end = times
    if not (len(trace_id) == 32 and _is_id(trace_id[:16]) and _is_id(trace_id[16:]) and span_id and _is_id(span_id)):
        return None
    if parent_id is None or (parent_id and not _is_id(parent_id)):
        return None
    if not isinstance(name, str) or start is None or end is None:
        return None
    return Span(
        trace_id=trace_id,
        span_id=span_id,
        parent_id=parent_id,
        name=name[:_LONGEST],
        start_ns=start,
        end_ns=end,
        events=tuple((event[:_LONGEST], at) for event, at in events if at is not None),
        attributes={key[:_LONGEST]: text[:_LONGEST] for key, text in attributes if text is not None},
    )


def _is_id(digits: str) -> bool:
    return _ID.fullmatch(digits) is not None
