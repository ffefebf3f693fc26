"""What a scrape gets: parseable, bounded, clean by promtool's rules, and forgotten when it should be."""

import itertools
import math
import shutil
import subprocess
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_plain

from tests.core.builders import MODEL, a_finding
from tests.core.policy_story import a_diagnosis
from tests.core.story_events import FAULT, one_of_each, probed
from tests.core.virtual_time import EPOCH
from watchdog import __version__
from watchdog.model.diagnosis import Conclusion
from watchdog.model.engine import Answerer, Role
from watchdog.model.event import CycleFailed, Delivered, Diagnosed, RouteSeen, Switched
from watchdog.model.notice import Delivery
from watchdog.model.route import Applied, Observed
from watchdog.model.verdict import Reason, Verdict
from watchdog.policy.memory import PolicyState
from watchdog.policy.states import State
from watchdog.telemetry.metrics import Metrics

OPENMETRICS = "application/openmetrics-text;version=1.0.0,text/plain;q=0.5"


def told(*models: str) -> Metrics:
    metrics = Metrics()
    for model in models:
        for event in one_of_each(model):
            metrics(event)
        metrics.know(model, PolicyState())
    return metrics


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
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
    assert models == {MODEL, 'odd "name"\\\n'}


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not on PATH")
def test_promtool_finds_nothing_to_say() -> None:
    body, _ = told(MODEL).render("")
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
    shared = {**by, "profile": "opt", "attribution": "trace"}
    assert value(metrics, "watchdog_probe_device_seconds_sum", **shared) == 0.004
    assert value(metrics, "watchdog_confidence_ratio_bucket", **by, output="p", le="0.9") == 2


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
    assert f'watchdog_build_info{{version="{__version__}"}} 1.0' in text


def test_labels_are_bounded_and_never_name_a_canary() -> None:
    metrics = told(MODEL)
    before = len(metrics.render("")[0].splitlines())
    for i in range(50):
        metrics(probed(canary=f"patient-{i}", seed=i, timing=one_of_each()[1].assessment.result.timing))  # type: ignore[union-attr]
    text = metrics.render("")[0].decode()
    assert len(text.splitlines()) == before
    assert "patient" not in text
