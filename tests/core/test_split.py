"""A request's time in parts: on Triton's own figures, and adding up whatever comes."""

import math
import random
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from watchdog.model.probe import Attribution, Part, Timing
from watchdog.model.span import Span
from watchdog.split import Unusable, split, whole

US = 1000
BEGIN_NS = 1_795_560_742_570_000_000
TIMING = Timing(sent_at=1_795_560_742.5, total_s=0.0017, client_s=0.0002)
FRONT, MODEL, COMPUTE = "f" * 16, "a" * 16, "c" * 16


def a_span(name: str, id: str, parent: str, times: tuple[float, float], **events: float) -> Span:  # noqa: A002
    """Times in µs since the test's beginning."""
    return Span(
        trace_id="0" * 28 + "abc2",
        span_id=id,
        parent_id=parent,
        name=name,
        start_ns=at(times[0]),
        end_ns=at(times[1]),
        events=tuple((event, at(us)) for event, us in events.items()),
    )


def at(us: float) -> int:
    return BEGIN_NS + round(us * US)


def front(**events: float) -> Span:
    return a_span("InferRequest", FRONT, "7" * 16, (0, 1190), **events)


def a_model(name: str = "lung_nodule", id: str = MODEL, parent: str = FRONT, start: float = 40) -> Span:  # noqa: A002
    span = a_span(name, id, parent, (start, start + 1112), REQUEST_START=start, QUEUE_START=start + 12)
    return replace(span, attributes={"triton.model_name": name, "triton.model_version": "2"})


def compute(id: str = COMPUTE, parent: str = MODEL, start: float = 72, slow: float = 1.0) -> Span:  # noqa: A002
    steps = ("COMPUTE_START", "COMPUTE_INPUT_END", "COMPUTE_OUTPUT_START", "COMPUTE_END")
    events = {step: start + slow * us for step, us in zip(steps, (0, 14, 1035, 1066), strict=True)}
    return a_span("compute", id, parent, (start, start + slow * 1066), **events)


HTTP = (compute(), a_model(), front(HTTP_RECV_START=-79, HTTP_RECV_END=-20, HTTP_SEND_START=1182, HTTP_SEND_END=1188))
GRPC = (*HTTP[:2], front(GRPC_WAITREAD_START=-5474, GRPC_WAITREAD_END=-24, GRPC_SEND_START=1150, GRPC_SEND_END=1169))
SILENT = (*HTTP[:2], front())


def in_us(timing: Timing | Unusable) -> dict[str, float]:
    assert isinstance(timing, Timing)
    return {part: round(1e6 * seconds, 3) for part, seconds in timing.parts.items()}


@pytest.mark.parametrize(
    ("spans", "served"),
    [
        pytest.param(HTTP, 79 + 1188, id="http"),
        pytest.param(GRPC, 24 + 1150, id="grpc"),
        pytest.param(SILENT, 1190, id="a front end without events"),
    ],
)
def test_tritons_spans_are_split_into_parts(spans: Sequence[Span], served: float) -> None:
    assert whole(spans)
    got = split(spans, TIMING)
    assert in_us(got) == {
        "client": 200,
        "network": 1500 - served,
        "front-end": served - 20 - 1066,
        "queue": 20,
        "input-copy": 14,
        "device": 1021,
        "output-copy": 31,
    }
    assert isinstance(got, Timing)
    assert got.device_s == pytest.approx(1021e-6)
    assert got.attribution is Attribution.TRACE
    assert (got.sent_at, got.total_s, got.client_s) == (TIMING.sent_at, TIMING.total_s, TIMING.client_s)


def test_parts_come_in_the_order_in_which_they_pass() -> None:
    got = split(HTTP, replace(TIMING, device_s=0.0005, attribution=Attribution.MODEL))
    assert list(in_us(got)) == list(Part)


def test_a_client_that_did_not_time_itself_is_part_of_the_network() -> None:
    parts = in_us(split(HTTP, replace(TIMING, client_s=None)))
    assert (parts["client"], parts["network"]) == (0, 1700 - 79 - 1188)


@pytest.mark.parametrize(
    ("told_us", "device", "rest"),
    [(600, 600, 421), (0, 0, 1021), (1021, 1021, 0), (1100, 1021, 0)],
)
def test_a_model_that_timed_its_device_divides_its_execution(told_us: float, device: float, rest: float) -> None:
    timing = replace(TIMING, device_s=told_us / 1e6, attribution=Attribution.MODEL)
    got = split(HTTP, timing)
    parts = in_us(got)
    assert (parts["device"], parts["model"]) == (device, rest)
    assert isinstance(got, Timing)
    assert (got.device_s, got.attribution) == (timing.device_s, Attribution.MODEL)


@pytest.mark.parametrize("told_s", [0.0015, -1e-6, math.nan, math.inf])
def test_a_model_can_not_have_been_on_the_device_for_longer_than_it_ran(told_s: float) -> None:
    assert split(HTTP, replace(TIMING, device_s=told_s, attribution=Attribution.MODEL)) is Unusable.IMPLAUSIBLE


def test_another_device_time_gives_way_to_the_traces() -> None:
    got = split(HTTP, replace(TIMING, device_s=0.9, attribution=Attribution.SERVER_TIMING))
    assert isinstance(got, Timing)
    assert got.device_s == pytest.approx(1021e-6)
    assert got.attribution is Attribution.TRACE


FIRST, SECOND = "1" * 16, "2" * 16


def an_ensemble(second_at: float) -> tuple[Span, ...]:
    """Two models a tenth as slow."""
    return (
        compute("d" * 16, FIRST, start=72, slow=0.1),
        a_model("preprocess", FIRST, MODEL, start=50),
        compute("e" * 16, SECOND, start=second_at + 22, slow=0.1),
        a_model("lung_nodule", SECOND, MODEL, start=second_at),
        a_model("ensemble"),
        HTTP[-1],
    )


def test_an_ensembles_models_add_up() -> None:
    spans = an_ensemble(second_at=300)
    assert whole(spans)
    parts = in_us(split(spans, TIMING))
    assert parts["device"] == pytest.approx(2 * 102.1)
    assert parts["queue"] == pytest.approx(2 * 10)
    assert parts["input-copy"] == pytest.approx(2 * 1.4)


@pytest.mark.parametrize(
    ("second_at", "device", "queue"),
    [
        pytest.param(50, 102.1, 10, id="at the same time"),
        pytest.param(60, 112.1, 10, id="one queues while the other computes"),
        pytest.param(130, 182.1, 10, id="one follows upon the other"),
    ],
)
def test_models_of_an_ensemble_that_run_at_once_are_counted_once(second_at: float, device: float, queue: float) -> None:
    parts = in_us(split(an_ensemble(second_at), TIMING))
    assert [parts["device"], parts["queue"]] == pytest.approx([device, queue])
    assert sum(parts.values()) == pytest.approx(1700)


def test_what_a_server_does_after_its_answer_is_no_part_of_the_request() -> None:
    early = (*HTTP[:2], front(GRPC_WAITREAD_END=-24, GRPC_SEND_END=1120))
    parts = in_us(split(early, TIMING))
    assert parts["output-copy"] == 1120 - 1107
    assert parts["front-end"] == 24 + 52


@pytest.mark.parametrize("missing", range(3))
def test_nothing_is_split_before_all_is_there(missing: int) -> None:
    some = [span for n, span in enumerate(HTTP) if n != missing]
    assert not whole(some)
    assert split(some, TIMING) is Unusable.INCOMPLETE


@pytest.mark.parametrize("missing", [0, 2, 3, 4, 5])
def test_an_ensemble_wants_a_compute_for_each_of_its_models(missing: int) -> None:
    some = [span for n, span in enumerate(an_ensemble(300)) if n != missing]
    assert not whole(some)
    assert split(some, TIMING) is Unusable.INCOMPLETE


@pytest.mark.parametrize("event", ["QUEUE_START", "COMPUTE_START", "COMPUTE_INPUT_END", "COMPUTE_END"])
def test_a_span_without_its_events_is_incomplete(event: str) -> None:
    spans = [replace(span, events=tuple(e for e in span.events if e[0] != event)) for span in HTTP]
    assert split(spans, TIMING) is Unusable.INCOMPLETE


def test_spans_of_others_in_the_same_trace_do_not_matter() -> None:
    proxy = a_span("ingress", "9" * 16, "8" * 16, (-500, 1700))
    assert split([*HTTP, proxy], TIMING) == split(HTTP, TIMING)


def test_a_model_may_be_named_as_triton_names_its_spans() -> None:
    for name in ("compute", "InferRequest"):
        assert split((HTTP[0], a_model(name), HTTP[2]), TIMING) == split(HTTP, TIMING)


def moved(event: str, us: float) -> tuple[Span, ...]:
    return tuple(
        replace(span, events=tuple((name, at(us) if name == event else when) for name, when in span.events))
        for span in HTTP
    )


@pytest.mark.parametrize(
    "spans",
    [
        pytest.param(moved("QUEUE_START", 73), id="computes before it queues"),
        pytest.param(moved("COMPUTE_OUTPUT_START", 80), id="has an output before its input"),
        pytest.param(moved("COMPUTE_END", 1000), id="ends before its output"),
        pytest.param(moved("QUEUE_START", -80), id="queues before it is received"),
        pytest.param(moved("HTTP_SEND_END", -80), id="is answered before it is received"),
    ],
)
def test_an_event_that_runs_backwards_is_implausible(spans: Sequence[Span]) -> None:
    assert whole(spans)
    assert split(spans, TIMING) is Unusable.IMPLAUSIBLE


def test_two_requests_with_one_trace_id_are_implausible() -> None:
    other = (
        replace(HTTP[0], span_id="3" * 16, parent_id="4" * 16),
        replace(HTTP[1], span_id="4" * 16, parent_id="5" * 16),
        replace(HTTP[2], span_id="5" * 16),
    )
    assert split([*HTTP, *other], TIMING) is Unusable.IMPLAUSIBLE


def test_a_server_that_notices_late_that_it_has_sent_gives_up_front_end_time() -> None:
    parts = in_us(split(HTTP, replace(TIMING, total_s=0.001400)))  # 67 µs less than client and server together
    assert (parts["network"], parts["front-end"]) == (0, 181 - 67)
    assert sum(parts.values()) == pytest.approx(1400)


@pytest.mark.parametrize("total_s", [0.001190, 0.0001, 0.0, -1.0, math.nan, math.inf])
def test_a_server_that_took_longer_than_the_whole_is_implausible(total_s: float) -> None:
    assert split(HTTP, replace(TIMING, total_s=total_s)) is Unusable.IMPLAUSIBLE


@pytest.mark.parametrize("client_s", [0.0018, -0.0001, math.nan])
def test_so_is_a_client_that_did(client_s: float) -> None:
    assert split(HTTP, replace(TIMING, client_s=client_s)) is Unusable.IMPLAUSIBLE


@given(order=st.permutations([*HTTP, *HTTP]), cut=st.integers(0, 6))
def test_order_and_repetition_change_nothing(order: list[Span], cut: int) -> None:
    some = order[cut:]
    assert whole(some) is (set(map(id, some)) == set(map(id, HTTP)))
    assert split(some, TIMING) == (split(HTTP, TIMING) if whole(some) else Unusable.INCOMPLETE)


@given(
    steps=st.lists(st.integers(0, 10**9), min_size=9, max_size=9),
    network_ns=st.integers(-(10**5), 10**9),
    told=st.none() | st.floats(0, 1),
    seed=st.integers(),
)
def test_the_parts_add_up_and_none_is_negative(
    steps: list[int], network_ns: int, told: float | None, seed: int
) -> None:
    times = [sum(steps[:n]) for n in range(1, 10)]
    names = ("QUEUE_START", "COMPUTE_START", "COMPUTE_INPUT_END", "COMPUTE_OUTPUT_START", "COMPUTE_END")
    moments = dict(zip(names, times[1:], strict=False))
    spans = [
        replace(HTTP[0], events=tuple(moments.items())),
        replace(HTTP[1], events=(("QUEUE_START", moments["QUEUE_START"]),)),
        replace(HTTP[2], events=(("HTTP_RECV_START", times[0]), ("HTTP_SEND_END", times[6]))),
    ]
    random.Random(seed).shuffle(spans)
    total = max(0, times[6] - times[0] + network_ns) / 1e9
    timing = Timing(sent_at=0.0, total_s=total, device_s=told, attribution=Attribution.MODEL)
    check(split(spans, timing), timing)


def check(got: Timing | Unusable, timing: Timing) -> None:
    if isinstance(got, Unusable):
        return
    assert all(seconds >= 0 for seconds in got.parts.values())
    assert math.fsum(got.parts.values()) == pytest.approx(timing.total_s, rel=1e-9, abs=1e-9)


EVENTS = ("QUEUE_START", "COMPUTE_START", "COMPUTE_INPUT_END", "COMPUTE_OUTPUT_START", "COMPUTE_END", "HTTP_SEND_END")
IDS = st.sampled_from(["", FRONT, MODEL, COMPUTE, FIRST])
TIMES = st.integers(0, 50) | st.integers(0, 2**64 - 1)
SPANS = st.builds(
    Span,
    trace_id=st.just("0" * 32),
    span_id=IDS,
    parent_id=IDS,
    name=st.sampled_from(["InferRequest", "compute", "m"]),
    start_ns=TIMES,
    end_ns=TIMES,
    events=st.lists(st.tuples(st.sampled_from(EVENTS), TIMES)).map(tuple),
    attributes=st.sampled_from([{}, {"triton.model_name": "m"}]),
)
SECONDS = st.floats() | st.floats(0, 1)
TIMINGS = st.builds(
    Timing,
    sent_at=st.just(0.0),
    total_s=SECONDS,
    client_s=st.none() | SECONDS,
    device_s=st.none() | SECONDS,
    attribution=st.sampled_from(Attribution),
)


@given(st.lists(SPANS, max_size=6), TIMINGS)
def test_garbage_is_unusable_or_adds_up(spans: list[Span], timing: Timing) -> None:
    check(split(spans, timing), timing)
    check(split([*HTTP, *spans], timing), timing)


def test_a_model_may_be_asked_for_thousands_of_tiles() -> None:
    tiles = [
        span
        for n in range(5000)
        for span in (compute(f"{n:016x}", f"{n:015x}m", start=72), a_model("tile", f"{n:015x}m", MODEL))
    ]
    parts = in_us(split([*HTTP, *tiles], TIMING))
    assert parts["device"] == 1021
