"""Bodies as servers send them."""

import json
from pathlib import Path
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

TRITON = Path(__file__).with_name("triton.json").read_bytes()
"""What Triton 2.51 sent for one request over HTTP and one over gRPC."""
OURS = "00000000"
"""How its trace ids begin; no other id in it does."""
OTHERS = "ffffffff"


def spans_of(body: bytes) -> list[dict[str, Any]]:
    (resource,) = json.loads(body)["resourceSpans"]
    (scope,) = resource["scopeSpans"]
    spans: list[dict[str, Any]] = scope["spans"]
    return spans


def a_body(*spans: Any) -> bytes:
    return json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": spans}]}]}).encode()


def in_protobuf(body: bytes) -> bytes:
    """The same spans, made with OpenTelemetry's own library."""
    request = ExportTraceServiceRequest()
    scope = request.resource_spans.add().scope_spans.add()
    for span in spans_of(body):
        made = scope.spans.add(
            trace_id=bytes.fromhex(span["traceId"]),
            span_id=bytes.fromhex(span["spanId"]),
            parent_span_id=bytes.fromhex(span["parentSpanId"]),
            name=span["name"],
            start_time_unix_nano=int(span["startTimeUnixNano"]),
            end_time_unix_nano=int(span["endTimeUnixNano"]),
        )
        for event in span["events"]:
            made.events.add(name=event["name"], time_unix_nano=int(event["timeUnixNano"]))
        for attribute in span.get("attributes", ()):
            value = made.attributes.add(key=attribute["key"]).value
            if "intValue" in attribute["value"]:
                value.int_value = int(attribute["value"]["intValue"])
            else:
                value.string_value = attribute["value"]["stringValue"]
    return bytes(request.SerializeToString())
