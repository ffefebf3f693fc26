"""Where the time of one traced request went: Triton's spans and the client's own clock, as parts of the whole.

Triton reports ``InferRequest`` (the front end), below it a span named like the model, below that
``compute``. An ensemble's span has its models' spans below it. Triton's clock may be another
machine's, so only differences of its own times are used.
"""

import math
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from watchdog.model.probe import Attribution, Part, Timing
from watchdog.model.span import Span

_FRONT_END = "InferRequest"
_COMPUTE = "compute"
_MODEL_NAME = "triton.model_name"

_RECEIVED = ("HTTP_RECV_START", "GRPC_WAITREAD_END")  # GRPC_WAITREAD_START: it began to wait for any request
_SENT = ("HTTP_SEND_END", "GRPC_SEND_START", "GRPC_SEND_END")  # the client may have it before GRPC_SEND_END
_STAGES = (
    (Part.QUEUE, "QUEUE_START", "COMPUTE_START"),
    (Part.INPUT, "COMPUTE_START", "COMPUTE_INPUT_END"),
    (Part.DEVICE, "COMPUTE_INPUT_END", "COMPUTE_OUTPUT_START"),
    (Part.OUTPUT, "COMPUTE_OUTPUT_START", "COMPUTE_END"),
)
_PRECEDENCE = (Part.DEVICE, Part.OUTPUT, Part.INPUT, Part.QUEUE)
"""Of models that run at once, whose stage a moment is counted for."""

_EXCESS = 0.05
_EXCESS_S = 0.0002
"""Two clocks and a thread that notices late: so much longer, and so much of it, a thing may be than what holds it."""


class Unusable(StrEnum):
    """Why spans can't be split."""

    INCOMPLETE = "incomplete"
    """Something is not there: on its way, lost, or never made, as with an answer from the response cache."""
    IMPLAUSIBLE = "implausible"
    """They contradict themselves or the client's clock, or two requests bore one trace id."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Request:
    fronts: Sequence[Span]
    """One, unless several requests bore the same trace id."""
    models: Mapping[str, Span]
    """By span id."""
    computes: Mapping[str, Span]
    """By the span id of their model."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Stage:
    part: Part
    start_ns: int
    end_ns: int


def whole(spans: Collection[Span]) -> bool:
    """Whether all that `split` needs has arrived: the front end's span, its model's, and each model's ``compute``.

    An answer from the response cache has no ``compute``, and so never becomes whole. Triton sends
    the front end's span last; were it to overtake a composing model's spans, they would be missed.
    """
    return _request(spans) is not None


def split(spans: Collection[Span], timing: Timing) -> Timing | Unusable:
    """The same timing with its parts, its device time and how that was learnt.

    The parts are not negative, and add up to ``total_s`` (but for rounding):

    ============= =====================================================================
    client        ``client_s``
    queue         ``QUEUE_START`` → ``COMPUTE_START``
    input-copy    ``COMPUTE_START`` → ``COMPUTE_INPUT_END``
    device        ``COMPUTE_INPUT_END`` → ``COMPUTE_OUTPUT_START``
    output-copy   ``COMPUTE_OUTPUT_START`` → ``COMPUTE_END``
    front-end     the rest of the server's time: HTTP from the first of the request to the last
                  of the answer, gRPC from having read the one to beginning to send the other
    network       the rest of the whole
    ============= =====================================================================

    Models of an ensemble add up; a moment at which several run is counted once. What a server does
    after that is no part of the request. Where client and server exceed the whole by at most
    5 % + 0.2 ms, as when a server notices late that it has sent, it is taken off the front end.

    Where the model told its own device time (`Attribution.MODEL`), that is kept, and the trace's
    is divided: device, and the rest as `Part.MODEL`.

    Args:
        spans: of one trace id, in any order, repeated or not.
        timing: the client's, of the request that bore it.
    """
    request = _request(spans)
    if request is None:
        return Unusable.INCOMPLETE
    stages = list(_stages(request))
    if len(stages) < len(_STAGES) * len(request.computes):
        return Unusable.INCOMPLETE
    if len(request.fronts) > 1:
        return Unusable.IMPLAUSIBLE
    begin, end = _served(request.fronts[0])
    if end < begin or any(not begin <= stage.start_ns <= stage.end_ns for stage in stages):
        return Unusable.IMPLAUSIBLE
    parts = _fitted(_shares(stages, begin, end), timing)
    return Unusable.IMPLAUSIBLE if parts is None else _attributed(parts, timing)


def _request(spans: Collection[Span]) -> _Request | None:
    """None where it lacks something."""
    known = {span.span_id: span for span in spans}
    models = {id: span for id, span in known.items() if _MODEL_NAME in span.attributes}  # noqa: A001 - a span's id
    others = [span for span in known.values() if span.span_id not in models]
    fronts = [span for span in others if span.name == _FRONT_END]
    computes = {span.parent_id: span for span in others if span.name == _COMPUTE}
    have_models = {span.parent_id for span in models.values()}
    if not fronts or not all(span.span_id in have_models for span in fronts):
        return None
    if not computes.keys() <= models.keys() <= computes.keys() | have_models:
        return None
    return _Request(fronts=fronts, models=models, computes=computes)


def _stages(request: _Request) -> Iterator[_Stage]:
    """Those whose events are there."""
    for model, compute in request.computes.items():
        at = dict(request.models[model].events) | dict(compute.events)
        for part, start, end in _STAGES:
            if start in at and end in at:
                yield _Stage(part=part, start_ns=at[start], end_ns=at[end])


def _served(front: Span) -> tuple[int, int]:
    """From when to when the server had the request."""
    at = dict(front.events)
    begin = next((at[name] for name in _RECEIVED if name in at), front.start_ns)
    end = next((at[name] for name in _SENT if name in at), front.end_ns)
    return begin, end


def _shares(stages: Collection[_Stage], begin: int, end: int) -> dict[Part, float]:
    """Seconds from `begin` to `end` by part, each moment counted for one."""
    edges = [(min(stage.start_ns, end), 1, stage.part) for stage in stages]
    edges += [(min(stage.end_ns, end), -1, stage.part) for stage in stages]
    shares = dict.fromkeys((Part.FRONT_END, *_PRECEDENCE), 0)
    running: Counter[Part] = Counter()
    since = begin
    for at, change, part in [*sorted(edges), (end, 0, Part.FRONT_END)]:
        shares[next((p for p in _PRECEDENCE if running[p] > 0), Part.FRONT_END)] += at - since
        running[part] += change
        since = at
    return {part: ns / 1e9 for part, ns in shares.items()}


def _fitted(shares: Mapping[Part, float], timing: Timing) -> dict[Part, float] | None:
    """The server's shares with what surrounds them; None where they don't fit into the whole."""
    total, client = timing.total_s, timing.client_s or 0.0
    if not (math.isfinite(total) and 0 <= client <= total):
        return None
    network = total - client - sum(shares.values())
    excess = max(0.0, -network)
    if excess > _EXCESS * total + _EXCESS_S or excess > shares[Part.FRONT_END]:
        return None
    return {
        **shares,
        Part.CLIENT: client,
        Part.NETWORK: max(0.0, network),
        Part.FRONT_END: shares[Part.FRONT_END] - excess,
    }


def _attributed(parts: dict[Part, float], timing: Timing) -> Timing | Unusable:
    executed = parts[Part.DEVICE]
    if timing.attribution is not Attribution.MODEL or timing.device_s is None:
        return replace(timing, parts=_in_order(parts), device_s=executed, attribution=Attribution.TRACE)
    if not 0 <= timing.device_s <= executed * (1 + _EXCESS) + _EXCESS_S:
        return Unusable.IMPLAUSIBLE
    device = min(timing.device_s, executed)
    return replace(timing, parts=_in_order(parts | {Part.DEVICE: device, Part.MODEL: executed - device}))


def _in_order(parts: Mapping[Part, float]) -> dict[Part, float]:
    return {part: parts[part] for part in Part if part in parts}
