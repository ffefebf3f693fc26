"""What a scrape gets: parseable, bounded, clean by promtool's rules, and forgotten when it should be."""

import itertools
import math
import shutil
import subprocess
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_plain

from tests.core.builders import MODEL, a_finding, a_score, a_timing
from tests.core.gpu_builders import ABSENT, GIB, GPU, UNSEEN, a_gpu, a_leak, a_lost_gpu, a_process, a_reading
from tests.core.policy_story import a_diagnosis
from tests.core.story_events import CONDITION, FAULT, GPUS, LOAD, one_of_each, probed, timed, what_is_measured
from tests.core.virtual_time import EPOCH
from watchdog import __version__
from watchdog.drift.histogram import CONFIDENCE_EDGES
from watchdog.model.diagnosis import Conclusion
from watchdog.model.engine import Answerer, Role
from watchdog.model.event import (
    Baselined,
    Beaten,
    CycleFailed,
    Delivered,
    Diagnosed,
    EngineSeen,
    GpuSeen,
    GrowthSeen,
    Ignored,
    Learning,
    LoadSeen,
    Reported,
    RouteSeen,
    Scored,
    Source,
    Switched,
)
from watchdog.model.gpu import GpuReading
from watchdog.model.notice import Delivery, Queue
from watchdog.model.probe import Attribution
from watchdog.model.route import Applied, Observed
from watchdog.model.verdict import Reason, Verdict
from watchdog.policy.memory import PolicyState
from watchdog.policy.states import State
from watchdog.telemetry.declared import DECLARED, Kind
from watchdog.telemetry.metrics import BINS, Metrics
from watchdog.telemetry.snapshot import Snapshot

OPENMETRICS = "application/openmetrics-text;version=1.0.0,text/plain;q=0.5"


NOW = Snapshot(
    up=True,
    conditions=[CONDITION],
    queues=[
        Queue(channel="pager", pending=2, oldest_at=EPOCH, up=False, delivered_at=EPOCH - 60),
        Queue(channel="tickets", pending=0, oldest_at=None, up=None, delivered_at=None),
    ],
    leads={MODEL: True},
    configured_at=EPOCH,
)


def told(*models: str) -> Metrics:
    metrics = Metrics()
    for model in models:
        for event in one_of_each(model):
            metrics(event)
        metrics.know(model, PolicyState())
    return metrics


def value(metrics: Metrics, name: str, /, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(name, labels)


@pytest.mark.parametrize(
    ("accept", "parse"), [("", parse_plain), ("*/*", parse_plain), (OPENMETRICS, parse_openmetrics)]
)
def test_a_scrape_parses_in_both_formats(accept: str, parse: Any) -> None:
    body, content_type = told(MODEL, 'odd "name"\\\n').render(accept)
    assert content_type.startswith(
        "application/openmetrics-text" if accept == OPENMETRICS else "text/plain; version=0.0.4"
    )
    families = {family.name: family for family in parse(body.decode())}
    assert {"watchdog_probe_duration_seconds", "watchdog_state", "watchdog_score"} <= set(families)
    assert all(family.documentation for family in families.values())
    models = {s.labels["model"] for f in families.values() for s in f.samples if "model" in s.labels}
    assert models - {""} == {MODEL, 'odd "name"\\\n'}, "sources of the whole watchdog are of no model"


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not on PATH")
def test_promtool_finds_nothing_to_say() -> None:
    metrics = told(MODEL)
    metrics.look(NOW)
    metrics.lag(0.002)
    body, _ = metrics.render("")
    said = subprocess.run(["promtool", "check", "metrics"], input=body, capture_output=True, timeout=30, check=False)
    assert (said.returncode, said.stdout.decode(), said.stderr.decode()) == (0, "", "")


def test_probes_are_counted_by_engine_path_and_verdict() -> None:
    metrics = told(MODEL)
    by = {"model": MODEL, "engine": "fast", "path": "public"}
    assert value(metrics, "watchdog_probes_total", **by, verdict="healthy") == 1
    assert value(metrics, "watchdog_probes_total", **by, verdict="failed") == 1
    assert value(metrics, "watchdog_findings_total", **by, reason="all-zero") == 1
    assert value(metrics, "watchdog_last_healthy_probe_timestamp_seconds", model=MODEL) == EPOCH + 1
    assert value(metrics, "watchdog_probe_duration_seconds_count", **by, profile="opt") == 2
    bins = {"model": MODEL, "engine": "fast", "source": "canary", "output": "p"}
    assert value(metrics, "watchdog_confidences_total", **bins, bin="0.9") == 2
    assert value(metrics, "watchdog_confidences_total", **bins, bin="0.95") == 0, "they don't add up on the way"


def test_no_answer_has_no_duration() -> None:
    metrics = Metrics()
    metrics(probed(a_finding(Reason.NO_ANSWER), verdict=Verdict.INCONCLUSIVE, fault=FAULT))
    assert (
        value(
            metrics, "watchdog_probe_duration_seconds_count", model=MODEL, engine="fast", path="public", profile="opt"
        )
        is None
    )


def test_numbers_that_are_none_are_said_as_prometheus_says_them() -> None:
    metrics = told(MODEL)
    score = value(metrics, "watchdog_score", model=MODEL, engine="fast", path="public", output="p", measure="max_abs")
    assert score is not None
    assert math.isnan(score)
    assert (
        value(metrics, "watchdog_probe_duration_limit_seconds", model=MODEL, engine="safe", profile="opt") == math.inf
    )
    assert b"NaN" in metrics.render("")[0]


def test_a_state_is_one_hot() -> None:
    metrics = told(MODEL)
    metrics.know(MODEL, PolicyState(state=State.HELD, desired=Role.SAFE))
    hot = {state: value(metrics, "watchdog_state", model=MODEL, state=str(state)) for state in State}
    assert hot == {state: float(state is State.HELD) for state in State}
    assert [value(metrics, "watchdog_route_desired", model=MODEL, engine=e) for e in ("fast", "safe")] == [0, 1]


def observed(metrics: Metrics) -> list[float | None]:
    return [value(metrics, "watchdog_route_observed", model=MODEL, engine=e) for e in ("fast", "safe")]


def seen(role: Role | None, *, known: bool = True) -> RouteSeen:
    return RouteSeen(model=MODEL, at=EPOCH, observed=Observed(role=role, detail="", known=known))


def test_the_observed_route_is_the_routers_account() -> None:
    metrics = Metrics()
    metrics(seen(Role.SAFE))
    assert observed(metrics) == [0, 1]
    metrics(seen(None, known=False))
    assert observed(metrics) == [0, 1], "a router that can't be asked says nothing new"
    metrics(seen(None))
    assert observed(metrics) == [0, 0]


def test_the_observed_route_is_also_what_a_public_answer_says_of_itself() -> None:
    metrics = Metrics()
    metrics(probed(public=False))
    metrics(probed(answered_by=Answerer()))
    assert observed(metrics) == [None, None], "a pinned or a nameless answer says nothing of the route"
    metrics(probed())
    assert observed(metrics) == [1, 0]
    metrics(probed(a_finding(Reason.WRONG_VERSION), verdict=Verdict.FAILED))
    assert observed(metrics) == [0, 0]


@pytest.mark.parametrize(
    ("applied", "proven", "outcome"), [(True, True, "proven"), (True, False, "unproven"), (False, False, "refused")]
)
def test_switches_are_counted_by_outcome(applied: bool, proven: bool, outcome: str) -> None:
    metrics = Metrics()
    metrics(
        Switched(
            model=MODEL,
            at=EPOCH,
            to=Role.SAFE,
            applied=Applied(ok=applied, detail=""),
            applied_at=EPOCH,
            proven=proven,
            detail="",
        )
    )
    assert value(metrics, "watchdog_switches_total", model=MODEL, to="safe", outcome=outcome) == 1


@pytest.mark.parametrize(
    ("delivery", "outcome"),
    [
        (Delivery(ok=True), "delivered"),
        (Delivery(ok=False), "retried"),
        (Delivery(ok=False, retry=False), "refused"),
    ],
)
def test_deliveries_are_counted_by_outcome(delivery: Delivery, outcome: str) -> None:
    metrics = Metrics()
    metrics(Delivered(at=EPOCH, channel="pager", notices=3, delivery=delivery))
    assert value(metrics, "watchdog_deliveries_total", channel="pager", outcome=outcome) == 3


def test_what_may_go_wrong_is_counted_from_zero_or_its_first_time_would_be_no_increase() -> None:
    metrics = Metrics()
    metrics(one_of_each()[0])
    assert value(metrics, "watchdog_cycle_failures_total", model=MODEL) == 0
    assert value(metrics, "watchdog_diagnoses_total", model=MODEL, conclusion="both-wrong") == 0
    for to, outcome in itertools.product(("fast", "safe"), ("proven", "unproven", "refused")):
        assert value(metrics, "watchdog_switches_total", model=MODEL, to=to, outcome=outcome) == 0
    metrics(CycleFailed(model=MODEL, at=EPOCH, error="a bug"))
    metrics(Diagnosed(model=MODEL, at=EPOCH, diagnosis=a_diagnosis(Conclusion.BOTH_WRONG)))
    assert value(metrics, "watchdog_cycle_failures_total", model=MODEL) == 1
    assert value(metrics, "watchdog_diagnoses_total", model=MODEL, conclusion="both-wrong") == 1


def test_series_of_a_forgotten_model_vanish_and_the_others_stay() -> None:
    metrics = told(MODEL, "other")
    metrics.forget(MODEL)
    metrics.forget("never heard of")
    text = metrics.render("")[0].decode()
    assert f'model="{MODEL}"' not in text
    assert 'watchdog_state{model="other",state="held"} 0.0' in text
    assert 'channel="pager"' in text
    assert 'gpu="GPU-1"' in text, "GPUs are of no model"
    assert f'watchdog_build_info{{version="{__version__}"}} 1.0' in text


def test_labels_are_bounded_and_never_name_a_canary() -> None:
    metrics = told(MODEL)
    before = len(metrics.render("")[0].splitlines())
    for i in range(50):
        metrics(probed(canary=f"patient-{i}", seed=i, timing=one_of_each()[1].assessment.result.timing))  # type: ignore[union-attr]
        metrics(timed(canary=f"patient-{i}", seed=i, trace_id=f"patient-{i}"))
    text = metrics.render("")[0].decode()
    assert len(text.splitlines()) == before
    assert "patient" not in text


# -- where time goes -------------------------------------------------------------------------


def test_device_time_is_observed_once_it_is_known_and_by_how_it_is_known() -> None:
    metrics = Metrics()
    metrics(probed(timing=a_timing()))
    by = {"model": MODEL, "engine": "fast", "path": "public"}
    assert value(metrics, "watchdog_probe_device_seconds_sum", **by, profile="opt", attribution="trace") is None
    metrics(timed())
    metrics(timed(replace(a_timing(Attribution.NONE), device_s=0.007, attribution=Attribution.SHARED)))
    metrics(timed(a_timing(Attribution.NONE)))
    sums = {
        way: value(metrics, "watchdog_probe_device_seconds_sum", **by, profile="opt", attribution=way)
        for way in ("trace", "shared", "none")
    }
    assert sums == {"trace": 0.002, "shared": 0.007, "none": None}
    counted = {
        way: value(metrics, "watchdog_probes_attributed_total", model=MODEL, engine="fast", attribution=way)
        for way in ("trace", "shared", "none")
    }
    assert counted == {"trace": 1, "shared": 1, "none": 1}


def test_the_parts_of_a_traced_probe_are_the_whole_of_it() -> None:
    metrics = Metrics()
    metrics(timed())
    by = {"model": MODEL, "engine": "fast", "path": "public"}
    parts = ["client", "network", "front-end", "queue", "input-copy", "device", "output-copy"]
    sums = [value(metrics, "watchdog_probe_part_seconds_sum", **by, part=part) or 0.0 for part in parts]
    assert sum(sums) == pytest.approx(0.005)
    assert value(metrics, "watchdog_probe_part_seconds_sum", **by, part="model") is None


def test_detectors_of_time_show_their_evidence() -> None:
    metrics = Metrics()
    for alarm in (False, True):
        score = a_score(alarm=alarm)
        metrics(Scored(model=MODEL, at=EPOCH, source=Source.TIMING, reading="fast.device", score=score))
    by = {"model": MODEL, "source": "timing", "reading": "fast.device"}
    assert value(metrics, "watchdog_drift_evidence", **by) == 2e6
    assert value(metrics, "watchdog_drift_alarms_total", **by) == 1


# -- servers and their engines ---------------------------------------------------------------


def test_a_servers_load_is_shown_and_what_had_no_traffic_has_no_series() -> None:
    metrics = Metrics()
    busy = what_is_measured()[1]
    metrics(busy)
    by = {"model": MODEL, "engine": "fast"}
    names = (
        "requests_per_second",
        "inferences_per_second",
        "batch_size",
        "cache_hit_ratio",
        "queue_ratio",
        "busy_ratio",
    )
    assert [value(metrics, f"watchdog_server_{name}", **by) for name in names] == [20, 40, 2, 0.25, 0.25, 0.04]
    assert value(metrics, "watchdog_server_request_seconds", **by, part="device") == 0.002
    assert value(metrics, "watchdog_server_failures_per_second", **by, reason="REJECTED") == 0.5
    other = LoadSeen(model="other", at=EPOCH, role=Role.FAST, load=LOAD)
    idle = replace(
        LOAD,
        requests_per_s=0.0,
        inferences_per_s=0.0,
        failures_per_s={},
        mean_s={},
        batch_size=None,
        cache_hit_ratio=None,
    )
    metrics(other)
    metrics(LoadSeen(model=MODEL, at=EPOCH, role=Role.FAST, load=idle))
    assert [value(metrics, f"watchdog_server_{name}", **by) for name in names] == [0, 0, None, None, None, 0.04]
    assert value(metrics, "watchdog_server_request_seconds", **by, part="device") is None
    assert value(metrics, "watchdog_server_failures_per_second", **by, reason="REJECTED") is None
    assert value(metrics, "watchdog_server_failures_per_second", model="other", engine="fast", reason="REJECTED") == 0.5


def test_an_engine_whose_counts_can_not_be_read_has_no_load() -> None:
    metrics = Metrics()
    for role in Role:
        metrics(LoadSeen(model=MODEL, at=EPOCH, role=role, load=LOAD))
    metrics(LoadSeen(model=MODEL, at=EPOCH, role=Role.FAST, load=None))
    text = metrics.render("")[0].decode()
    shown = [line for line in text.splitlines() if line.startswith("watchdog_server_")]
    assert shown
    assert all('engine="safe"' in line for line in shown)


def test_an_engine_that_does_not_match_is_shown_until_it_does() -> None:
    metrics = Metrics()

    def shown(*reasons: Reason) -> list[float | None]:
        findings = tuple(a_finding(reason, Verdict.SUSPECT) for reason in reasons)
        metrics(EngineSeen(model=MODEL, at=EPOCH, role=Role.FAST, tag="t", findings=findings))
        by = {"model": MODEL, "engine": "fast"}
        return [value(metrics, "watchdog_engine_mismatch", **by, reason=r) for r in ("engine-tag", "off-profile")]

    assert shown() == [0, 0]
    assert shown(Reason.ENGINE_TAG, Reason.ENGINE_TAG) == [1, 0]
    assert shown(Reason.OFF_PROFILE) == [0, 1]


# -- GPUs ------------------------------------------------------------------------------------

GAUGES = (
    "memory_total_bytes",
    "memory_used_bytes",
    "busy_ratio",
    "memory_busy_ratio",
    "temperature_celsius",
    "power_watts",
    "sm_clock_hertz",
    "memory_clock_hertz",
    "ecc_corrected",
    "ecc_uncorrected",
)


def seen_gpus(metrics: Metrics, reading: GpuReading) -> list[str]:
    """The series of GPUs after this reading, but for the counter of errors, which only grows."""
    metrics(GpuSeen(at=EPOCH, reading=reading))
    text = metrics.render("")[0].decode()
    return [line for line in text.splitlines() if line.startswith("watchdog_gpu") and "xid" not in line]


def test_a_gpu_is_shown_with_all_that_it_tells() -> None:
    metrics = Metrics()
    seen_gpus(metrics, GPUS)
    shown = [value(metrics, f"watchdog_gpu_{name}", gpu=GPU) for name in GAUGES]
    assert shown == [40 * GIB, 10 * GIB, 0.25, 0.125, 50, 250, 1.4e9, 1.2e9, 3, 0]
    assert value(metrics, "watchdog_gpu_info", gpu=GPU, name="NVIDIA A100", driver="550.54") == 1
    assert value(metrics, "watchdog_gpu_throttled", gpu=GPU, reason="hw-slowdown") == 1
    of_triton = {"gpu": GPU, "process": "tritonserver", "mig": ""}
    assert value(metrics, "watchdog_gpu_process_memory_bytes", **of_triton) == 1.5 * GIB, "of both processes"
    assert value(metrics, "watchdog_gpu_process_memory_bytes", gpu=GPU, process="unknown", mig="") == 7
    assert value(metrics, "watchdog_gpu_mig_memory_used_bytes", gpu=GPU, mig="MIG-1") == GIB
    seen_gpus(metrics, GPUS)
    assert value(metrics, "watchdog_gpu_process_memory_bytes", **of_triton) == 1.5 * GIB, "not once for each reading"


def test_what_a_gpu_does_not_tell_has_no_series() -> None:
    metrics = Metrics()
    seen_gpus(metrics, a_reading(a_gpu()))
    seen_gpus(metrics, a_reading(a_gpu(busy_ratio=None, processes=None, throttled_by=None)))
    assert value(metrics, "watchdog_gpu_busy_ratio", gpu=GPU) is None
    assert value(metrics, "watchdog_gpu_temperature_celsius", gpu=GPU) == 50


def test_of_a_gpu_that_was_lost_its_state_is_left() -> None:
    metrics = Metrics()
    other = a_gpu("GPU-2")
    seen_gpus(metrics, replace(GPUS, gpus=(*GPUS.gpus, other)))
    metrics(GrowthSeen(at=EPOCH, leak=a_leak()))
    left = [line for line in seen_gpus(metrics, a_reading(a_lost_gpu(), other)) if f'gpu="{GPU}"' in line]
    assert {line.split("{")[0] for line in left} == {"watchdog_gpu_state", "watchdog_gpu_info"}
    states = {state: value(metrics, "watchdog_gpu_state", gpu=GPU, state=state) for state in ("up", "lost", "failing")}
    assert states == {"up": 0, "lost": 1, "failing": 0}
    assert value(metrics, "watchdog_gpu_memory_used_bytes", gpu="GPU-2") == 10 * GIB
    assert value(metrics, "watchdog_gpu_xid_errors_total", gpu=GPU, xid="79") == 1
    seen_gpus(metrics, a_reading(a_gpu()))
    assert value(metrics, "watchdog_gpu_memory_used_bytes", gpu=GPU) == 10 * GIB


@pytest.mark.parametrize("reading", [UNSEEN, ABSENT])
def test_gpus_that_can_not_be_watched_any_more_leave_no_numbers_that_look_alive(reading: GpuReading) -> None:
    metrics = Metrics()
    seen_gpus(metrics, GPUS)
    left = seen_gpus(metrics, reading)
    assert all(line.startswith("watchdog_gpu_source_state{") for line in left)
    assert value(metrics, "watchdog_gpu_source_state", source="nvml", state=str(reading.state)) == 1
    assert value(metrics, "watchdog_gpu_source_state", source="nvml", state="up") == 0


def test_where_another_source_stands_in_the_first_is_not_up_any_more() -> None:
    metrics = Metrics()
    seen_gpus(metrics, a_reading(a_gpu()))
    seen_gpus(metrics, a_reading(a_gpu(), source="triton"))
    ups = [value(metrics, "watchdog_gpu_source_state", source=source, state="up") for source in ("nvml", "triton")]
    assert ups == [None, 1]


def test_gpus_that_are_watched_no_longer_are_not_shown_either() -> None:
    metrics = Metrics()
    assert seen_gpus(metrics, GPUS)
    metrics(GrowthSeen(at=EPOCH, leak=a_leak()))
    metrics.forget_gpus()
    text = metrics.render("")[0].decode()
    assert [line for line in text.splitlines() if line.startswith("watchdog_gpu") and "xid" not in line] == []


def test_errors_of_gpus_are_counted() -> None:
    metrics = Metrics()
    for xids in ((79,), (), (79, 79, 13)):
        seen_gpus(metrics, a_reading(a_gpu(xids=xids)))
    counted = [value(metrics, "watchdog_gpu_xid_errors_total", gpu=GPU, xid=xid) for xid in ("79", "13")]
    assert counted == [3, 1]


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_of_several_processes_of_one_name_a_leak_is_shown_before_all_else(order: tuple[int, ...]) -> None:
    trends = [a_leak(1.0, pid=1), a_leak(2.0, pid=2), a_leak(9.0, pid=3, leaking=False)]
    metrics = Metrics()
    seen_gpus(metrics, a_reading(a_gpu(processes=tuple(a_process(pid=pid) for pid in (1, 2, 3)))))
    for i in order:
        metrics(GrowthSeen(at=EPOCH, leak=trends[i]))
    by = {"gpu": GPU, "process": "tritonserver"}
    bounds = [
        value(metrics, "watchdog_gpu_memory_growth_bytes_per_hour", **by, bound=bound) or 0.0
        for bound in ("low", "estimate", "high")
    ]
    assert [bound / GIB for bound in bounds] == pytest.approx([1.8, 2.0, 2.2])
    assert value(metrics, "watchdog_gpu_memory_leaking", **by) == 1
    seen_gpus(metrics, a_reading(a_gpu()))
    assert value(metrics, "watchdog_gpu_memory_leaking", **by) is None, "a trend is of its reading"
    metrics(GrowthSeen(at=EPOCH, leak=a_leak(0.5, leaking=False)))
    assert value(metrics, "watchdog_gpu_memory_leaking", **by) == 0


# -- what is true at a scrape ------------------------------------------------------------------


def test_every_declared_metric_is_used() -> None:
    metrics = told(MODEL)
    metrics.look(NOW)
    metrics.lag(0.002)
    for outcome in (True, False):
        metrics(Beaten(heartbeat="snitch", at=EPOCH, ok=outcome, detail=""))
    metrics(Learning(model=MODEL, at=EPOCH, source=Source.LIVE, reading="p", have=1, want=2))
    metrics(Ignored(model=MODEL, at=EPOCH, source=Source.LIVE, reading="p", condition="empty", count=1))
    metrics(Scored(model=MODEL, at=EPOCH, source=Source.CANARY, reading="fast", score=a_score()))
    shown = {sample.name for family in metrics.registry.collect() for sample in family.samples}
    suffix = {Kind.HISTOGRAM: "_count"}
    assert {row.name + suffix.get(row.kind, "") for row in DECLARED} - shown == set()


def test_a_condition_is_shown_with_the_labels_that_its_alert_has_and_goes_with_it() -> None:
    metrics = told(MODEL)
    metrics.look(NOW)
    by = {"model": MODEL, "engine": "", "gpu": "", "process": "", "mig": ""}
    name = {"condition": "WatchdogEngineFault", "severity": "critical"}
    assert value(metrics, "watchdog_condition", **name, **by) == 1
    metrics.look(replace(NOW, conditions=()))
    assert value(metrics, "watchdog_condition", **name, **by) is None


def test_channels_are_shown_and_one_that_is_no_longer_configured_is_not() -> None:
    metrics = told(MODEL)
    metrics.look(NOW)
    assert value(metrics, "watchdog_channel_pending", channel="pager") == 2
    assert value(metrics, "watchdog_channel_oldest_pending_timestamp_seconds", channel="pager") == EPOCH
    assert value(metrics, "watchdog_channel_up", channel="pager") == 0
    assert value(metrics, "watchdog_channel_up", channel="tickets") is None, "nobody knows yet"
    assert value(metrics, "watchdog_channel_oldest_pending_timestamp_seconds", channel="tickets") == 0
    metrics.look(replace(NOW, queues=NOW.queues[1:]))
    assert value(metrics, "watchdog_channel_pending", channel="pager") is None


def test_it_is_up_only_once_all_models_are_watched_and_says_so_from_the_first_scrape_on() -> None:
    metrics = Metrics()
    assert value(metrics, "watchdog_up") == 0
    metrics.look(NOW)
    assert value(metrics, "watchdog_up") == 1


def test_sources_tell_whether_they_tell_and_since_when_not() -> None:
    metrics = told(MODEL)
    endpoint = {"source": "endpoint", "model": MODEL}
    metrics(probed())
    assert value(metrics, "watchdog_source_up", **endpoint) == 1
    metrics(replace(probed(a_finding(Reason.NO_ANSWER), fault=FAULT), at=EPOCH + 99))
    assert value(metrics, "watchdog_source_up", **endpoint) == 0
    assert value(metrics, "watchdog_source_last_success_timestamp_seconds", **endpoint) == EPOCH + 1
    metrics.look(replace(NOW, journal_trouble="the disk is full"))
    assert value(metrics, "watchdog_source_up", source="journal", model="") == 0
    metrics(GpuSeen(at=EPOCH, reading=ABSENT))
    assert value(metrics, "watchdog_source_up", source="gpu", model="") == 0


def test_bins_of_a_fleet_add_up_to_psi_against_the_reference() -> None:
    metrics = told(MODEL)
    of = {"model": MODEL, "source": "live", "output": "p"}
    counts = [value(metrics, "watchdog_confidences_total", **of, engine="fast", bin=name) for name in BINS]
    usual = [value(metrics, "watchdog_confidence_reference_observations", **of, bin=name) for name in BINS]
    assert (sum(map(float, filter(None, counts))), counts[-1]) == (2.0, 2.0)
    assert (usual[1], usual[3], sum(map(float, filter(None, usual)))) == (1.0, 1.0, 2.0)


def test_an_objectives_probes_and_misses_are_counted_from_0() -> None:
    metrics = Metrics()
    by = {"model": MODEL, "engine": "fast", "measure": "total", "share": "0.99"}
    metrics(one_of_each()[0])
    assert value(metrics, "watchdog_latency_objective_misses_total", **by) == 0
    metrics = told(MODEL)
    assert value(metrics, "watchdog_latency_objective_probes_total", **by) == 2
    assert value(metrics, "watchdog_latency_objective_misses_total", **by) == 1
    assert value(metrics, "watchdog_latency_objective_ratio", **by) == 0.99


def test_what_may_go_wrong_is_counted_from_0() -> None:
    metrics = Metrics()
    metrics(one_of_each()[0])
    by = {"model": MODEL, "engine": "fast", "path": "public"}
    assert value(metrics, "watchdog_findings_total", **by, reason="confidence-collapse") == 0
    assert value(metrics, "watchdog_switch_reasons_total", model=MODEL, reason="parity") == 0


def test_a_traced_probe_is_an_exemplar_of_its_device_time() -> None:
    metrics = told(MODEL)
    metrics(timed(trace_id="ab" * 16, timing=replace(a_timing(), device_s=0.004, attribution=Attribution.TRACE)))
    parse: Any = parse_openmetrics
    families = {family.name: family for family in parse(metrics.render(OPENMETRICS)[0].decode())}
    found = [s.exemplar for s in families["watchdog_probe_device_seconds"].samples if s.exemplar is not None]
    assert {"trace_id": "ab" * 16} in [exemplar.labels for exemplar in found]


def test_the_page_states_how_many_series_there_are() -> None:
    metrics = told(MODEL)
    metrics.look(NOW)
    metrics.look(NOW)  # the first added series of its own
    body, _ = metrics.render("")
    ours = [line for line in body.decode().splitlines() if line.startswith("watchdog_") and "_created" not in line]
    assert value(metrics, "watchdog_series") == len(ours)


def test_gpus_that_are_watched_no_longer_leave_no_source_that_would_be_missed() -> None:
    metrics = told(MODEL)
    metrics(GpuSeen(at=EPOCH, reading=ABSENT))
    metrics.forget_gpus()
    assert value(metrics, "watchdog_source_up", source="gpu", model="") is None
    assert value(metrics, "watchdog_source_last_success_timestamp_seconds", source="gpu", model="") is None


def test_one_engine_that_is_not_loaded_has_no_counts_and_that_is_no_silence() -> None:
    metrics = Metrics()
    of = {"source": "statistics", "model": MODEL}
    for at, role, load in ((1, Role.FAST, LOAD), (2, Role.SAFE, None), (3, Role.SAFE, None)):
        metrics(LoadSeen(model=MODEL, at=EPOCH + at, role=role, load=load))
    assert value(metrics, "watchdog_source_up", **of) == 1
    assert value(metrics, "watchdog_source_last_success_timestamp_seconds", **of) == EPOCH + 1
    metrics.forget(MODEL)
    metrics(LoadSeen(model=MODEL, at=EPOCH + 4, role=Role.SAFE, load=None))
    assert value(metrics, "watchdog_source_up", **of) == 0


def test_a_reload_that_drops_an_objective_drops_its_series() -> None:
    metrics = Metrics()
    first = one_of_each()[0]
    assert isinstance(first, Baselined)
    metrics(first)
    metrics(replace(first, latency_objectives=(), score_limits={}))
    text = metrics.render("")[0].decode()
    assert "watchdog_latency_objective_seconds{" not in text
    assert "watchdog_score_limit{" not in text


@given(st.lists(st.floats(0.0, 1.0) | st.sampled_from([*CONFIDENCE_EDGES, -0.1, 1.1, math.nan]), max_size=30))
def test_confidences_are_counted_in_the_bins_of_their_reference(values: list[float]) -> None:
    metrics = Metrics()
    for usual in (True, False):
        metrics(Reported(model=MODEL, at=EPOCH, reading="p", values=tuple(values), usual=usual))
    of = {"model": MODEL, "source": "live", "output": "p"}
    for name in BINS:
        counted = value(metrics, "watchdog_confidences_total", **of, engine="fast", bin=name)
        assert counted == value(metrics, "watchdog_confidence_reference_observations", **of, bin=name)
