"""Histograms: against numpy and Prometheus, adding up, quantiles, JSON."""

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from prometheus_client import CollectorRegistry
from prometheus_client import Histogram as PrometheusHistogram

from watchdog.drift.histogram import CONFIDENCE_EDGES, Histogram, quantile_edges, sample, shares
from watchdog.model.tensor import Array
from watchdog.telemetry.metrics import BINS

SHAPES = hnp.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=8)
ON_AN_EDGE = st.sampled_from([0.0, -0.0, 0.05, 0.15, 0.3, 0.7, 1.0])
ANYTHING = hnp.arrays(np.float64, SHAPES, elements=st.floats(-0.5, 1.5) | ON_AN_EDGE | st.floats())
INSIDE = hnp.arrays(np.float64, st.integers(1, 40), elements=st.floats(0.0, 1.0) | ON_AN_EDGE)
EDGES = st.lists(st.floats(-1e9, 1e9), min_size=2, max_size=6, unique=True).map(sorted)
FEW = (0.0, 0.5, 1.0)


@st.composite
def histograms(draw: st.DrawFn) -> Histogram:
    edges = draw(EDGES)
    counts = draw(hnp.arrays(np.int64, len(edges) - 1, elements=st.integers(0, 2**50)))
    below, above, non_finite = draw(st.tuples(*[st.integers(0, 2**70)] * 3))
    return Histogram(edges=tuple(edges), counts=counts, below=below, above=above, non_finite=non_finite)


def test_bins_are_closed_above_and_the_first_below_too() -> None:
    seen = Histogram.of(np.array([-0.1, 0.0, 0.5, 0.6, 1.0, 1.1, np.nan, np.inf, -np.inf]), FEW)
    assert seen.counts.tolist() == [2, 2]
    assert (seen.below, seen.above, seen.non_finite, seen.total) == (1, 1, 3, 6)


def test_the_edges_are_those_that_the_metrics_export() -> None:
    assert (0.0, *map(float, BINS)) == CONFIDENCE_EDGES


@given(INSIDE)
def test_confidences_are_counted_as_prometheus_counts_them(values: Array) -> None:
    registry = CollectorRegistry()
    exported = PrometheusHistogram("c", "Confidences.", buckets=CONFIDENCE_EDGES[1:], registry=registry)
    for value in values:
        exported.observe(value)
    cumulative = [registry.get_sample_value("c_bucket", {"le": str(edge)}) for edge in CONFIDENCE_EDGES[1:]]
    assert np.cumsum(Histogram.of(values).counts).tolist() == cumulative


@given(INSIDE)
def test_within_the_edges_it_is_numpys_in_a_mirror(values: Array) -> None:
    mirrored, _ = np.histogram(-values, bins=-np.array(CONFIDENCE_EDGES)[::-1])  # numpy's bins are closed below
    assert Histogram.of(values).counts.tolist() == mirrored[::-1].tolist()


@given(ANYTHING)
def test_every_value_is_counted_once(values: Array) -> None:
    seen = Histogram.of(values)
    assert seen.total + seen.non_finite == values.size
    assert seen.counts.dtype == np.int64


@given(ANYTHING, ANYTHING, EDGES)
def test_histograms_add_up(a: Array, b: Array, edges: list[float]) -> None:
    together = np.concatenate([a.ravel(), b.ravel()])
    assert Histogram.of(a) + Histogram.of(b) == Histogram.of(together)
    assert Histogram.of(a, edges) + Histogram.of(b, edges) == Histogram.of(together, edges)


@given(ANYTHING)
def test_nothing_adds_nothing(values: Array) -> None:
    seen, nothing = Histogram.of(values), Histogram.of(np.array([]))
    assert seen + nothing == nothing + seen == seen
    assert (seen + Histogram.of(np.array([0.5]))) != seen


def test_half_precision_and_flags_are_counted_as_the_numbers_they_are() -> None:
    assert Histogram.of(np.array([0.5, 0.75], dtype=np.float16)) == Histogram.of(np.array([0.5, 0.75]))
    assert Histogram.of(np.array([True, False]), FEW).counts.tolist() == [1, 1]


def test_other_edges_do_not_add_up() -> None:
    with pytest.raises(ValueError, match=r"different edges \(2 bins over \[0, 1\] and 20 bins over \[0, 1\]\)"):
        Histogram.of(np.array([0.5]), FEW) + Histogram.of(np.array([0.5]))


def test_a_sum_that_int64_cannot_hold_is_refused() -> None:
    full = Histogram(edges=(0.0, 1.0), counts=np.array([2**63 - 1]))
    with pytest.raises(ValueError, match="from 0 to 2⁶³ − 1"):
        full + Histogram.of(np.array([0.5]), (0.0, 1.0))


def test_quantiles_by_hand() -> None:
    seen = Histogram(edges=(0.0, 1.0, 2.0, 4.0, 8.0), counts=np.array([0, 4, 0, 4]))
    assert [seen.quantile(q) for q in (0.0, 0.125, 0.5, 0.75, 1.0)] == [1.0, 1.25, 2.0, 6.0, 8.0]


def test_quantiles_outside_the_bins_are_the_nearest_edge() -> None:
    seen = Histogram(edges=FEW, counts=np.array([0, 2]), below=4, above=4)
    assert [seen.quantile(q) for q in (0.0, 0.4, 0.5, 0.6, 0.61, 1.0)] == [0.0, 0.0, 0.75, 1.0, 1.0, 1.0]


@given(INSIDE, st.floats(0.0, 1.0))
def test_a_quantile_is_a_bins_width_from_the_samples(values: Array, q: float) -> None:
    exact = float(np.quantile(values, q, method="inverted_cdf"))
    assert Histogram.of(values).quantile(q) == pytest.approx(exact, abs=0.05 + 1e-9)


@given(histograms(), st.floats(0.0, 1.0), st.floats(0.0, 1.0))
def test_quantiles_rise_and_stay_within_the_edges(seen: Histogram, p: float, q: float) -> None:
    if seen.total:
        low, high = seen.quantile(min(p, q)), seen.quantile(max(p, q))
        assert seen.edges[0] <= low <= high * (1 + math.copysign(1e-12, high)) + 1e-300
        assert high <= seen.edges[-1]


@pytest.mark.parametrize("q", [-0.01, 1.01, math.nan])
def test_a_share_outside_0_to_1_is_no_quantile(q: float) -> None:
    with pytest.raises(ValueError, match=r"q must be a share in \[0, 1\]"):
        Histogram.of(np.array([0.5])).quantile(q)


def test_nothing_has_no_quantile() -> None:
    with pytest.raises(ValueError, match="without finite values"):
        Histogram.of(np.array([np.nan])).quantile(0.5)


@given(histograms())
def test_json_gives_the_same_one_back(seen: Histogram) -> None:
    assert Histogram.from_json(seen.to_json()) == seen


def test_json_is_an_object_of_plain_numbers() -> None:
    assert json.loads(Histogram.of(np.array([0.1, 0.9, 2.0]), FEW).to_json()) == {
        "edges": [0.0, 0.5, 1.0],
        "counts": [1, 1],
        "below": 0,
        "above": 1,
        "non_finite": 0,
    }


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"edges": [0.0, 1.0]}, "counts must be 1 whole numbers"),
        ({"edges": [0.0, 1.0, 0.5]}, "edges must be"),
        ({"edges": [0.0, 0.5, math.nan]}, "edges must be"),
        ({"edges": [0.5]}, "edges must be"),
        ({"edges": ["0", 0.5, 1.0]}, r"edges\[0\]: .*number"),
        ({"counts": [1, -1]}, "counts must be 2 whole numbers"),
        ({"counts": [1, 2**63]}, "counts must be 2 whole numbers"),
        ({"counts": [1, 2**64]}, "counts must be 2 whole numbers"),
        ({"counts": [1, 0.5]}, r"counts\[1\]: .*integer"),
        ({"counts": [1, True]}, r"counts\[1\]: .*integer"),
        ({"counts": None}, "counts: must be a list"),
        ({"below": -1}, "below .* can't be negative"),
        ({"non_finite": "1"}, "non_finite: .*integer"),
        ({"beneath": 1}, "beneath: unknown key"),
    ],
)
def test_json_that_is_no_histogram_is_refused_by_the_fields_name(change: dict[str, Any], problem: str) -> None:
    good = json.loads(Histogram.of(np.array([0.1, 0.9]), FEW).to_json())
    with pytest.raises(ValueError, match=problem):
        Histogram.from_json(json.dumps(good | change))


def test_json_with_a_field_missing_names_it() -> None:
    with pytest.raises(ValueError, match=r"no histogram: above: is required; non_finite: is required"):
        Histogram.from_json('{"edges": [0, 1], "counts": [1], "below": 0}')


@pytest.mark.parametrize("text", ["", "{", "null", "[]", "1", "[" * 100_000])
def test_text_that_is_no_object_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="this is no histogram"):
        Histogram.from_json(text)


@pytest.mark.parametrize("edges", [(), (0.5,), (0.0, 0.0), (1.0, 0.0), (0.0, math.inf), (math.nan, 1.0)])
def test_edges_must_rise(edges: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="edges must be two finite numbers or more"):
        Histogram.of(np.array([0.5]), edges)


@pytest.mark.parametrize("values", [np.array(["0.5"]), np.array([0.5j]), np.array([None])])
def test_values_must_be_numbers(values: Array) -> None:
    with pytest.raises(ValueError, match="values must be real numbers"):
        Histogram.of(values)


def test_nobody_can_change_a_count() -> None:
    counts = np.array([1, 2])
    seen = Histogram(edges=FEW, counts=counts)
    counts[0] = 7
    assert seen.counts.tolist() == [1, 2]
    with pytest.raises(ValueError, match="read-only"):
        seen.counts[0] = 7


def test_it_equals_its_likes_alone_and_is_no_key() -> None:
    assert Histogram.of(np.array([0.5])) != "a histogram"
    with pytest.raises(TypeError, match="unhashable"):
        hash(Histogram.of(np.array([0.5])))


def test_shares_count_the_outside_too() -> None:
    reference, current = shares(Histogram.of(np.array([-1.0, 0.2, 0.3, 0.9]), FEW), Histogram.of(np.array([2.0]), FEW))
    assert reference.tolist() == [0.25, 0.5, 0.25, 0.0]
    assert current.tolist() == [0.0, 0.0, 0.0, 1.0]


@given(INSIDE, st.integers(2, 12))
@example(np.array([0.0] * 5 + [1.0] * 95), 10)
@example(np.array([0.0] * 95 + [1.0] * 5), 10)
def test_quantile_edges_leave_no_bin_empty(values: Array, bins: int) -> None:
    edges = quantile_edges(values, bins)
    held = np.bincount(np.searchsorted(edges, values, side="left"), minlength=edges.size + 1)
    assert edges.size <= bins - 1
    assert (held > 0).all()
    assert (edges.size == 0) == (np.unique(values).size == 1)


@given(st.integers(2, 60), st.integers(2, 12))
def test_quantile_edges_cut_a_sample_without_ties_evenly(size: int, bins: int) -> None:
    values = np.random.default_rng(size).permutation(size).astype(np.float64)
    held = np.bincount(np.searchsorted(quantile_edges(values, bins), values, side="left"))
    assert held.size == min(bins, size)
    assert held.max() - held.min() <= 1


def test_a_sample_is_taken_as_doubles() -> None:
    assert sample(np.array([1, 2], dtype=np.int8), "reference").dtype == np.float64
