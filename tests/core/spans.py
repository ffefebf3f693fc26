"""Spans as Triton makes them of one request."""

from typing import Any

from watchdog.model.span import Span

_BEGIN_NS = 1_800_000_000_000_000_000


def the_spans(trace_id: str, *, device_us: float = 1000.0, queue_us: float = 40.0, slower: float = 1.0) -> list[Span]:
    """An inference over gRPC of about 1.4 ms in the server, as Triton 2.51 tells of one.

    Args:
        trace_id: the request's.
        device_us: from the end of the input's copy to the start of the output's.
        queue_us: from the queue to the engine.
        slower: a factor for all times.
    """

    def at(us: float) -> int:
        return _BEGIN_NS + round(us * slower * 1e3)

    begin = 100.0 + queue_us
    done = begin + 80.0 + device_us
    compute = (
        ("COMPUTE_START", at(begin)),
        ("COMPUTE_INPUT_END", at(begin + 80.0)),
        ("COMPUTE_OUTPUT_START", at(done)),
        ("COMPUTE_END", at(done + 80.0)),
    )
    model = (("REQUEST_START", at(60)), ("QUEUE_START", at(100)), ("REQUEST_END", at(done + 100.0)))
    front = (
        ("GRPC_WAITREAD_START", at(-5000)),
        ("GRPC_WAITREAD_END", at(0)),
        ("INFER_RESPONSE_COMPLETE", at(done + 100.0)),
        ("GRPC_SEND_START", at(done + 100.0)),
        ("GRPC_SEND_END", at(done + 140.0)),
    )
    named = {"triton.model_name": "nodule", "triton.model_version": "1"}
    return [
        _span(3, "compute", compute, trace_id=trace_id),
        _span(2, "nodule", model, trace_id=trace_id, attributes=named),
        _span(1, "InferRequest", front, trace_id=trace_id),
    ]


def _span(number: int, name: str, events: tuple[tuple[str, int], ...], **more: Any) -> Span:
    """One whose parent is the one numbered below it."""
    times = [at for event, at in events if event != "GRPC_WAITREAD_START"]
    return Span(
        span_id=f"{number:016x}",
        parent_id=f"{number - 1:016x}",
        name=name,
        start_ns=min(times),
        end_ns=max(times),
        events=events,
        **more,
    )
