"""One probe against its baseline: every finding where it is due, none where it is not, never an exception."""

import math
import re
import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tests.core.builders import (
    CANARIES,
    ENGINES,
    OUTPUT,
    a_baseline,
    a_canary,
    a_judge,
    a_result,
    a_score,
    a_timed_judge,
    a_timing,
    right_answer,
    settings,
)
from watchdog.assess import (
    Judge,
    LatencySettings,
    OutputKind,
    OutputSettings,
    ParityLimits,
    WindowSettings,
    jumped,
    over_window,
)
from watchdog.model.baseline import Golden
from watchdog.model.engine import Answerer, Role
from watchdog.model.fault import Blame, Fault, FaultKind
from watchdog.model.probe import Part, ProbeResult, Timing
from watchdog.model.tensor import DTYPES, Array
from watchdog.model.verdict import Assessment, Reason, Verdict

RIGHT = right_answer(CANARIES[0].inputs)[OUTPUT]


def judge_of(output: OutputSettings, golden: Array | None = None, *, rows: int = 1) -> Judge:
    """A judge of one output whose golden answer is `golden`."""
    canary = a_canary(inputs={"x": np.zeros((rows, 4), np.float32)})
    baseline = None
    if golden is not None:
        baseline = a_baseline([canary], golden={"c0": Golden(outputs={output.name: golden}, spread={output.name: 0.0})})
    return Judge(settings=settings(outputs=(output,)), engines=ENGINES, canaries={"c0": canary}, baseline=baseline)


def reasons(assessment: Assessment) -> list[Reason]:
    return [f.reason for f in assessment.findings]


def found(output: OutputSettings, got: Array, golden: Array | None = None, *, rows: int = 1) -> list[Reason]:
    return reasons(judge_of(output, golden, rows=rows).assess(a_result(outputs={output.name: got})))


def an_output(kind: OutputKind = OutputKind.TENSOR, **more: Any) -> OutputSettings:
    return OutputSettings(name=OUTPUT, kind=kind, **more)


def test_the_right_answer_is_healthy_and_its_scores_are_kept() -> None:
    assessment = a_judge().assess(a_result(outputs={OUTPUT: RIGHT}))
    assert (assessment.verdict, assessment.findings, assessment.worst, assessment.reason) == (
        Verdict.HEALTHY,
        (),
        None,
        None,
    )
    assert assessment.scores == {(OUTPUT, "max_abs"): 0.0, (OUTPUT, "kl"): 0.0, (OUTPUT, "rows"): 0.0}
    assert assessment.confidences[OUTPUT].value == pytest.approx(0.95)


@pytest.mark.parametrize(
    ("got", "reason"),
    [
        (np.full_like(RIGHT, np.nan), Reason.NON_FINITE),
        (np.array([[0.95], [np.inf]], np.float32), Reason.NON_FINITE),
        (np.zeros_like(RIGHT), Reason.ALL_ZERO),
        (-np.zeros_like(RIGHT), Reason.ALL_ZERO),
        (RIGHT.astype(np.float16), Reason.WRONG_DTYPE),
        (RIGHT[:1], Reason.WRONG_SHAPE),
        (RIGHT[:0], Reason.WRONG_SHAPE),
        (np.array([[0.95], [0.90]], np.float32), Reason.ROWS_DIFFER),
        (RIGHT + np.float32(0.06), Reason.OUT_OF_RANGE),
        (RIGHT - np.float32(0.2), Reason.PARITY),
    ],
)
def test_what_is_wrong_with_an_answer_is_named(got: Array, reason: Reason) -> None:
    assessment = a_judge().assess(a_result(outputs={OUTPUT: got}))
    assert (assessment.verdict, assessment.reason) == (Verdict.FAILED, reason)
    assert assessment.worst is not None
    assert assessment.worst.output == OUTPUT
    assert str(assessment.worst).startswith(f"{reason}: ")


def test_a_missing_output_is_found_and_an_extra_one_is_not_looked_at() -> None:
    assessment = a_judge().assess(a_result(outputs={"other": np.full(3, np.nan)}))
    assert reasons(assessment) == [Reason.MISSING_OUTPUT]


def test_an_answer_by_another_version_is_wrong_whatever_it_says() -> None:
    assessment = a_judge().assess(a_result(outputs={OUTPUT: RIGHT}, answered_by=Answerer(version="2")))
    assert (reasons(assessment), assessment.verdict) == ([Reason.WRONG_VERSION], Verdict.FAILED)
    assert "answered by ?/2, not by fast e:nodule/1" in assessment.findings[0].detail


def test_a_server_that_names_nobody_contradicts_nothing() -> None:
    assert not a_judge().assess(a_result(outputs={OUTPUT: RIGHT}, answered_by=Answerer())).findings


def test_a_cached_answer_measured_nothing() -> None:
    assessment = a_judge().assess(a_result(outputs={OUTPUT: RIGHT}, cached=True))
    assert (reasons(assessment), assessment.verdict) == ([Reason.CACHED], Verdict.INCONCLUSIVE)
    assert not a_judge().assess(a_result(outputs={OUTPUT: RIGHT}, cached=False)).findings


def test_no_answer_measured_nothing_and_says_why() -> None:
    fault = Fault(kind=FaultKind.TIMEOUT, blame=Blame.SERVER, detail="no answer within 2 s")
    assessment = a_judge().assess(a_result(fault=fault))
    assert (reasons(assessment), assessment.verdict) == ([Reason.NO_ANSWER], Verdict.INCONCLUSIVE)
    assert assessment.findings[0].measure == "timeout"
    assert "no answer within 2 s" in assessment.findings[0].detail


def test_slow_is_suspect_and_exactly_the_limit_is_not_slow() -> None:
    judge = a_judge()
    limit = judge.latency_limit(Role.FAST, "opt")
    assert limit == pytest.approx(0.06)
    for took, verdict in ((limit, Verdict.HEALTHY), (math.nextafter(limit, 1), Verdict.SUSPECT)):
        assessment = judge.assess(a_result(outputs={OUTPUT: RIGHT}, timing=Timing(sent_at=0, total_s=took)))
        assert assessment.verdict is verdict


def test_the_latency_limit_is_ones_own_or_the_baselines_for_the_shape_or_none() -> None:
    judge = a_judge(latency=LatencySettings(fast=0.5, floor=0.1))
    assert judge.latency_limit(Role.FAST, "opt") == 0.5
    assert judge.latency_limit(Role.SAFE, "opt") == 0.1
    assert judge.latency_limit(Role.SAFE, "max") == math.inf
    assert replace(judge, baseline=None).latency_limit(Role.SAFE, "opt") == math.inf


def test_findings_come_most_specific_first_and_the_verdict_is_the_gravest() -> None:
    slow = Timing(sent_at=0, total_s=1.0)
    got = a_result(outputs={OUTPUT: np.zeros_like(RIGHT)}, timing=slow, cached=True, answered_by=Answerer(version="2"))
    assessment = a_judge().assess(got)
    expected = [Reason.ALL_ZERO, Reason.PARITY, Reason.WRONG_VERSION, Reason.LATENCY, Reason.CACHED]
    assert (reasons(assessment), assessment.verdict) == (expected, Verdict.FAILED)
    cached_and_slow = a_judge().assess(a_result(outputs={OUTPUT: RIGHT}, timing=slow, cached=True))
    assert cached_and_slow.verdict is Verdict.INCONCLUSIVE
    assert [reason.rank for reason in Reason] == list(range(len(Reason)))


@pytest.mark.parametrize("off", [0.25, 0.2500001])
def test_a_score_at_its_limit_is_allowed(off: float) -> None:
    output = an_output(parity=ParityLimits(max_abs=0.25))
    broken = found(output, np.array([1.0, off]), np.array([1.0, 0.0]))
    assert broken == ([] if off == 0.25 else [Reason.PARITY])


def test_where_larger_is_better_the_limit_is_a_least() -> None:
    golden = np.array([1.0, 1.0, 0.0, 0.0])
    half = np.array([1.0, 0.0, 0.0, 0.0])
    score = 2 * 1 / 3
    assert found(an_output(parity=ParityLimits(dice=score)), half, golden) == []
    assert found(an_output(parity=ParityLimits(dice=math.nextafter(score, 1))), half, golden) == [Reason.PARITY]
    assert found(an_output(parity=ParityLimits(cosine=0.8)), half, golden) == [Reason.PARITY]


def test_nan_in_a_score_breaks_the_limit() -> None:
    """A golden answer is finite by construction; a NaN that got in all the same must not pass for right."""
    golden = np.array([0.5, np.nan])
    assert found(an_output(parity=ParityLimits(max_abs=0.1)), np.array([0.5, 0.5]), golden) == [Reason.PARITY]


def test_one_parity_finding_names_every_broken_measure() -> None:
    judge = a_judge()
    assessment = judge.assess(a_result(outputs={OUTPUT: np.full_like(RIGHT, 0.05)}))
    parity = [f for f in assessment.findings if f.reason is Reason.PARITY]
    assert len(parity) == 1
    assert "max_abs 0.9 (limit 0.1)" in parity[0].detail
    assert "kl " in parity[0].detail
    assert (parity[0].measure, parity[0].limit) == ("max_abs", 0.1)


def test_no_golden_answer_still_leaves_what_needs_none() -> None:
    judge = a_judge(baseline=False)
    assert not judge.assess(a_result(outputs={OUTPUT: RIGHT.astype(np.float16)})).findings
    assert not judge.assess(a_result(outputs={OUTPUT: np.zeros_like(RIGHT)})).findings, "one number may be 0"
    assert reasons(judge.assess(a_result(outputs={OUTPUT: RIGHT + 1}))) == [Reason.OUT_OF_RANGE]
    assert reasons(judge.assess(a_result(outputs={OUTPUT: RIGHT * np.nan}))) == [Reason.NON_FINITE]
    tensor = an_output()
    assert found(tensor, np.zeros(4)) == [Reason.ALL_ZERO]
    assert found(tensor, np.full(4, 3.0)) == [Reason.CONSTANT]
    assert found(tensor, np.array([3.0])) == []


def test_an_empty_mask_may_be_all_zero_where_the_golden_one_is() -> None:
    output = an_output(OutputKind.MASK)
    something = np.array([0.0, 1.0, 1.0])
    assert found(output, np.zeros(3), np.zeros(3)) == []
    assert found(output, np.zeros(3), np.full(3, 5e-5)) == [Reason.PARITY], "below zero_floor: left to parity"
    assert found(output, np.zeros(3), something)[0] is Reason.ALL_ZERO
    assert found(output, np.ones(3), something)[0] is Reason.CONSTANT


@pytest.mark.parametrize(
    ("got", "golden", "reason"),
    [
        (np.ones(4, np.bool_), np.array([1, 0, 1, 0], np.bool_), Reason.CONSTANT),
        (np.zeros(4, np.bool_), np.array([1, 0, 1, 0], np.bool_), Reason.ALL_ZERO),
        (np.full(3, 7, np.int8), np.array([-128, 0, 127], np.int8), Reason.CONSTANT),
        (np.zeros(3, np.int8), np.full(3, -128, np.int8), Reason.ALL_ZERO),
        (np.full(3, 7, np.float16), np.array([-65504, 0, 65504], np.float16), Reason.CONSTANT),
        (np.full(3, 7, np.uint64), np.array([0, 1, 2**64 - 1], np.uint64), Reason.CONSTANT),
    ],
)
def test_flat_answers_are_found_in_every_datatype(got: Array, golden: Array, reason: Reason) -> None:
    assert found(an_output(), got, golden)[0] is reason


@pytest.mark.parametrize("kind", [OutputKind.PROBABILITIES, OutputKind.LOGITS])
def test_classes_need_an_axis(kind: OutputKind) -> None:
    assert found(an_output(kind), np.array(0.5)) == [Reason.WRONG_SHAPE]


def test_a_golden_answer_of_another_kind_has_no_confidence() -> None:
    """A baseline outlives a change of an output's kind in the configuration."""
    assert judge_of(an_output(OutputKind.LOGITS), np.array(0.5)).collapse([]) == ()


def test_a_range_of_ones_own_and_its_slack() -> None:
    output = an_output(range=(-10.0, 10.0), range_slack=0.5, parity=ParityLimits())
    assert found(output, np.array([-10.5, 1.0])) == []
    assert found(output, np.array([-10.6, 1.0])) == [Reason.OUT_OF_RANGE]
    assert found(output, np.array([0.0, 10.6])) == [Reason.OUT_OF_RANGE]


def test_rows_are_compared_only_where_the_batch_holds_copies() -> None:
    output = an_output(parity=ParityLimits())
    apart = np.array([[1.0], [2.0]])
    assert found(output, apart, rows=2) == [Reason.ROWS_DIFFER]
    assert found(output.model_copy(update={"rows_max_abs": 1.0}), apart, rows=2) == [], "as far as it may"
    assert found(output, apart, rows=1) == []
    assert found(output, apart, rows=3) == [], "not a row per image: nothing to compare"
    whole = a_canary(inputs={"x": np.zeros((2, 4), np.float32)}, batched=False)
    judge = replace(judge_of(output, rows=2), canaries={"c0": whole})
    assert not judge.assess(a_result(outputs={OUTPUT: apart})).findings


def test_an_unknown_canary_is_judged_without_a_golden_answer() -> None:
    assert not a_judge().assess(a_result(canary="new", outputs={OUTPUT: RIGHT - np.float32(0.5)})).findings


@pytest.mark.parametrize("kind", list(OutputKind))
def test_the_same_answer_is_healthy_for_every_kind(kind: OutputKind) -> None:
    answer = np.array([[0.7, 0.2, 0.1]], np.float32)
    assert found(an_output(kind), answer.copy(), answer) == []


@pytest.mark.parametrize("kind", list(OutputKind))
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_huge_finite_answers_do_not_warn(kind: OutputKind, dtype: type) -> None:
    huge: Array = np.array([[-1, 1, 0.5]], dtype) * np.finfo(dtype).max
    small: Array = np.array([[0.2, 0.5, 0.3]], dtype)
    everything = ParityLimits(max_abs=0.1, relative_l2=0.1, cosine=0.9, dice=0.9, kl=0.1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert found(an_output(kind, parity=everything), huge, small)
        found(an_output(kind, parity=everything), small, huge)


def test_the_limits_in_force_are_those_that_scores_are_compared_with() -> None:
    judge = a_judge()
    latencies, scores = judge.limits()
    assert latencies == {(role, "opt"): pytest.approx(0.06) for role in Role}
    assert set(scores) == set(judge.assess(a_result(outputs={OUTPUT: RIGHT})).scores)


def burst(judge: Judge, values: dict[str, float]) -> list[Assessment]:
    return [
        judge.assess(a_result(canary=canary, outputs={OUTPUT: np.full((2, 1), value, np.float32)}))
        for canary, value in values.items()
    ]


def collapsed(values: dict[str, float], judge: Judge | None = None) -> set[str]:
    judge = judge or a_judge()
    findings = judge.collapse(burst(judge, values))
    assert all(f.reason is Reason.COLLAPSE and f.verdict is Verdict.FAILED for f in findings)
    return {f.measure for f in findings}


def test_confidences_as_the_golden_ones_have_not_collapsed() -> None:
    assert collapsed({"c0": 0.95, "c1": 0.1, "c2": 0.6}) == set()


def test_confidences_that_no_longer_differ_have_collapsed() -> None:
    assert collapsed({"c0": 0.5, "c1": 0.5, "c2": 0.5}) == {"spread_ratio", "top_drop"}
    assert collapsed({"c0": 0.51, "c1": 0.49, "c2": 0.5, "c3": 0.5, "c4": 0.5}) >= {"spread_ratio"}


def test_confidences_that_became_unsure_have_collapsed() -> None:
    sure = [a_canary(f"c{i}", p) for i, p in enumerate((0.999, 0.001, 0.998))]
    values = {"c0": 0.65, "c1": 0.35, "c2": 0.6}
    assert collapsed(values, a_judge(sure)) == {"entropy_rise", "top_drop"}


def test_too_few_canaries_say_nothing_of_a_spread() -> None:
    assert collapsed({"c0": 0.5, "c1": 0.5}) == set()
    twice = burst(a_judge(), {"c0": 0.5, "c1": 0.5}) + burst(a_judge(), {"c0": 0.5, "c1": 0.5})
    assert a_judge().collapse(twice) == ()


def test_golden_answers_that_hardly_differ_have_no_spread_to_lose() -> None:
    """Three golden answers of 0.1 have a standard deviation of 1e-17, and FP16 may flatten 0.9999 and 0.9998."""
    alike = [a_canary(f"c{i}", p) for i, p in enumerate((0.9999, 0.9998, 0.9999))]
    assert collapsed({"c0": 1.0, "c1": 1.0, "c2": 1.0}, a_judge(alike)) == set()


def test_nothing_collapses_without_a_baseline() -> None:
    judge = a_judge(baseline=False)
    assert judge.collapse(burst(judge, {"c0": 0.5, "c1": 0.5, "c2": 0.5})) == ()


def test_an_output_that_cannot_be_read_has_no_confidence() -> None:
    judge = a_judge()
    assert not judge.assess(a_result(outputs={OUTPUT: RIGHT * np.nan})).confidences
    assert not judge.assess(a_result(outputs={OUTPUT: RIGHT[:1]})).confidences
    assert not judge.assess(a_result(outputs={})).confidences


# -- slowness, by a detector's account and in a burst ------------------------------------------


def burst_of(*timings: Timing, **result: Any) -> list[ProbeResult]:
    return [a_result(timing=timing, public=False, **result) for timing in timings]


def test_a_burst_that_takes_as_long_as_it_did_is_not_slower() -> None:
    judge = a_timed_judge(a_judge())
    assert judge.slower(burst_of(*[a_timing()] * 6)) is None
    assert judge.slower(burst_of(*[a_timing(scale=1.4)] * 6)) is None


def test_a_slower_burst_is_told_with_what_takes_longer_and_both_times() -> None:
    judge = a_timed_judge(a_judge())
    device = judge.slower(burst_of(*[a_timing(longer={Part.DEVICE: 3.0})] * 6))
    assert device is not None
    assert (device.reason, device.verdict, device.measure) == (Reason.LATENCY, Verdict.SUSPECT, "device")
    assert device.score == pytest.approx(3.0, rel=0.05)
    assert device.limit == 1.5
    said = r"the fast engine's device time is \S+ times that of the baseline \(limit 1.5\): 6 ms instead of \S+ ms"
    assert re.fullmatch(said, device.detail)
    queue = judge.slower(burst_of(*[a_timing(longer={Part.QUEUE: 20.0})] * 6))
    assert queue is not None
    assert queue.measure == "queue"
    assert "the fast engine's host time is 2.9 times" in queue.detail
    assert ", most of it queue: 6 ms instead of 0." in queue.detail


def test_a_slow_device_is_named_even_if_the_network_took_more_milliseconds_by_chance() -> None:
    judge = a_timed_judge(a_judge())
    found = judge.slower(burst_of(*[a_timing(longer={Part.NETWORK: 3.5, Part.DEVICE: 2.0})] * 6))
    assert found is not None
    assert found.measure == "device"


def test_one_stall_of_a_burst_does_not_make_it_slower() -> None:
    judge = a_timed_judge(a_judge())
    assert judge.slower(burst_of(*[a_timing()] * 4, *[a_timing(scale=9.0)] * 2)) is None


def test_a_burst_is_held_against_its_own_engines_past_and_each_probe_against_its_shapes() -> None:
    judge = a_timed_judge(a_judge())
    assert judge.baseline is not None
    engines = dict(judge.baseline.engines)
    latency = engines[Role.FAST].latency["opt"]
    large = replace(latency, measures={name: tuple(3 * s for s in times) for name, times in latency.measures.items()})
    engines[Role.SAFE] = replace(engines[Role.SAFE], latency={"opt": large})
    engines[Role.FAST] = replace(engines[Role.FAST], latency={"opt": latency, "large": large})
    judge = replace(judge, baseline=replace(judge.baseline, engines=engines))
    tripled = [a_timing(scale=3.0)] * 3
    assert judge.slower(burst_of(*tripled)) is not None
    assert judge.slower(burst_of(*tripled, expected=Role.SAFE)) is None
    assert judge.slower(burst_of(*tripled, profile="large")) is None
    assert judge.slower(burst_of(*tripled, profile="unheard of")) is None


@pytest.mark.parametrize(
    "judge",
    [
        a_judge(baseline=False),
        a_judge(),
        a_timed_judge(a_judge(latency=LatencySettings(jump=None))),
    ],
    ids=["no baseline", "a baseline of before", "turned off"],
)
def test_without_a_reference_nothing_is_slower(judge: Judge) -> None:
    assert judge.slower(burst_of(a_timing(scale=9.0))) is None


def test_a_burst_without_an_answer_is_not_slower() -> None:
    assert a_timed_judge(a_judge()).slower([]) is None


def test_a_detectors_score_is_a_finding_from_its_threshold_on() -> None:
    assert jumped(a_score(alarm=False), Role.FAST, "device") is None
    assert jumped(a_score(statistic=1.0), Role.FAST, "device") is None
    found = jumped(a_score(), Role.SAFE, "host")
    assert found is not None
    assert (found.reason, found.verdict, found.measure) == (Reason.LATENCY, Verdict.SUSPECT, "host")
    assert found.detail == "the safe engine's host time: logits scaled by about 0.5, since 40 probes ago"


@pytest.mark.parametrize(("seconds", "missed"), [(0.05, False), (0.050001, True)])
def test_an_objective_is_missed_beyond_its_limit(seconds: float, missed: bool) -> None:
    window = WindowSettings(engine=Role.SAFE, measure="queue", quantile=0.95, limit=0.05)
    assert (over_window(window, seconds) is not None) is missed


def tensors(shape: st.SearchStrategy[tuple[int, ...]] | tuple[int, ...]) -> st.SearchStrategy[Array]:
    return st.sampled_from(list(DTYPES.values())).flatmap(lambda dtype: hnp.arrays(dtype, shape))


SHAPES = hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3)


@st.composite
def answers(draw: st.DrawFn) -> tuple[OutputKind, dict[str, Array], Array | None]:
    """A kind, any outputs at all, and a golden answer such as a capture may have made, if any."""
    kind = draw(st.sampled_from(OutputKind))
    classes = kind in (OutputKind.PROBABILITIES, OutputKind.LOGITS)
    golden = draw(st.none() | tensors(hnp.array_shapes(min_dims=int(classes), max_dims=3, max_side=3)))
    if golden is not None and not np.isfinite(golden).all():
        golden = np.nan_to_num(golden, nan=0.0, posinf=1.0, neginf=-1.0)
    alike = st.nothing() if golden is None else hnp.arrays(golden.dtype, golden.shape)
    flat = alike.map(lambda a: np.full_like(a, a.flat[0]))
    return kind, draw(st.dictionaries(st.sampled_from([OUTPUT, "extra"]), alike | flat | tensors(SHAPES))), golden


@given(answer=answers(), rows=st.integers(1, 3), took=st.floats(0, 10), cached=st.none() | st.booleans())
@hypothesis_settings(max_examples=400)
def test_the_judge_never_raises_and_never_warns(
    answer: tuple[OutputKind, dict[str, Array], Array | None], rows: int, took: float, cached: bool | None
) -> None:
    kind, outputs, golden = answer
    everything = ParityLimits(max_abs=0.1, relative_l2=0.1, cosine=0.9, dice=0.9, kl=0.1)
    judge = judge_of(an_output(kind, parity=everything), golden, rows=rows)

    assessment = judge.assess(a_result(outputs=outputs, timing=Timing(sent_at=0, total_s=took), cached=cached))

    ranks = [f.reason.rank for f in assessment.findings]
    assert ranks == sorted(ranks)
    assert (assessment.verdict is Verdict.HEALTHY) == (not assessment.findings)
    assert all(0.0 <= c.value <= 1.0 and 0.0 <= c.top <= 1.0 for c in assessment.confidences.values())
    judge.collapse([assessment])


@pytest.mark.parametrize("ends", [(1.0, 0.0), (0.5, 0.5)])
def test_a_range_goes_upwards(ends: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="the smaller first"):
        OutputSettings(name="x", range=ends)
