"""Faults that no single answer gives away: within every default limit, and off by as much again and again."""

from collections.abc import Callable, Mapping
from statistics import fmean

import numpy as np
import onnxruntime as ort
import pytest

from tests.demo.conftest import OUTPUTS, run
from watchdog.assess import AssessSettings, Judge
from watchdog.canaries.load import load
from watchdog.canaries.phantom import SCANNERS, default_set, write_series
from watchdog.canaries.recipe import Recipe
from watchdog.demo import stage
from watchdog.demo.graphs import Weights, fp16, fp32, pools
from watchdog.demo.quantized import narrowed
from watchdog.demo.training import SIZE
from watchdog.model.baseline import Baseline, EngineReference, Golden
from watchdog.model.canary import Canary
from watchdog.model.engine import Address, Role
from watchdog.model.probe import ProbeResult, Timing
from watchdog.model.tensor import Array

Answers = Mapping[str, Mapping[str, Array]]
"""Canary id → output → the answer."""

ENGINES: Mapping[str, Callable[[Weights], bytes]] = {
    "healthy": fp16,
    "temperature": lambda weights: fp16(weights.tempered()),
    "one-vendor": narrowed,
}


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Canary]:
    """The demo's canaries, as the watchdog loads them."""
    folder = tmp_path_factory.mktemp("canaries")
    write_series(folder, default_set(stage.SEED, SIZE), stage.SEED)
    return {canary.id: canary for canary in load(folder, Recipe.model_validate(stage.RECIPE)).canaries}


@pytest.fixture(scope="module")
def golden(weights: Weights, watched: Mapping[str, Canary]) -> Answers:
    return answers(fp32(weights), watched)


@pytest.fixture(scope="module")
def served(weights: Weights, watched: Mapping[str, Canary]) -> Mapping[str, Answers]:
    return {name: answers(make(weights), watched) for name, make in ENGINES.items()}


def answers(graph: bytes, canaries: Mapping[str, Canary]) -> Answers:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    return {
        name: dict(zip(OUTPUTS, session.run(OUTPUTS, dict(canary.inputs)), strict=True))
        for name, canary in canaries.items()
    }


def judge(canaries: Mapping[str, Canary], golden: Answers) -> Judge:
    """With the limits that a configuration without any gets."""
    baseline = Baseline(
        model="m",
        created_at="2026-01-01T00:00:00Z",
        server="",
        recipe_sha256="",
        canaries={name: canary.sha256 for name, canary in canaries.items()},
        engines={role: EngineReference(version="", tag=None, latency={}) for role in Role},
        golden={name: Golden(outputs=outputs, spread={}) for name, outputs in golden.items()},
        repeats=1,
    )
    settings = AssessSettings.model_validate({"outputs": stage.OUTPUTS})
    return Judge(settings=settings, engines={}, canaries=canaries, baseline=baseline)


def probe(canary: Canary, outputs: Mapping[str, Array]) -> ProbeResult:
    return ProbeResult(
        model="m",
        canary=canary.id,
        profile=canary.profile,
        address=Address(endpoint="e", model="m"),
        expected=Role.FAST,
        public=True,
        seed=0,
        timing=Timing(sent_at=0.0, total_s=0.01),
        outputs=outputs,
    )


def logit(probability: Array) -> Array:
    p = np.asarray(probability, np.float64)
    return np.asarray(np.log(p / (1 - p)))


def shifts(got: Answers, golden: Answers) -> dict[str, float]:
    """How far each canary's logit moved."""
    return {
        name: float(np.mean(logit(got[name]["probability"]) - logit(right["probability"])))
        for name, right in golden.items()
    }


def by(stratum: str, moved: Mapping[str, float], canaries: Mapping[str, Canary]) -> dict[str, float]:
    """The mean shift in each of a stratum's values."""
    found: dict[str, list[float]] = {}
    for name, shift in moved.items():
        found.setdefault(canaries[name].strata[stratum], []).append(shift)
    return {value: fmean(each) for value, each in found.items()}


@pytest.mark.parametrize("name", ENGINES)
def test_no_limit_tells(
    name: str, watched: Mapping[str, Canary], golden: Answers, served: Mapping[str, Answers]
) -> None:
    judging = judge(watched, golden)
    assessed = [judging.assess(probe(watched[each], outputs)) for each, outputs in served[name].items()]
    assert [finding.detail for each in assessed for finding in each.findings] == []
    assert judging.collapse(assessed) == ()


def test_a_healthy_engine_hardly_moves(golden: Answers, served: Mapping[str, Answers]) -> None:
    moved = shifts(served["healthy"], golden).values()
    assert max(map(abs, moved)) < 0.15
    assert abs(fmean(moved)) < 0.04


def test_a_temperature_makes_every_answer_less_sure(
    watched: Mapping[str, Canary], golden: Answers, served: Mapping[str, Answers]
) -> None:
    moved, usual = shifts(served["temperature"], golden), shifts(served["healthy"], golden)
    assert fmean(map(abs, moved.values())) > 10 * fmean(map(abs, usual.values()))
    sides = by("pathology", moved, watched)
    assert sides["none"] > 0.2
    assert sides["nodule"] < -0.1  # together the two nearly cancel


def test_a_temperature_scales_what_is_pooled_and_what_comes_of_it(weights: Weights, canaries: Array) -> None:
    tempered = weights.tempered(pixels=0.9, image=0.7)
    (right_pools,), (mild_pools,) = (
        ort.InferenceSession(pools(each)).run(None, {"CT": canaries[:2]}) for each in (weights, tempered)
    )
    assert np.allclose(mild_pools, 0.9 * right_pools, rtol=1e-5)
    right, mild = (run(fp32(each), canaries)["probability"] for each in (weights, tempered))
    before = 6 * np.arctanh(logit(right) / 6)  # from before it levels off
    assert np.allclose(6 * np.arctanh(logit(mild) / 6), 0.7 * before, atol=0.01)


def test_a_narrow_calibration_moves_one_vendor(
    watched: Mapping[str, Canary], golden: Answers, served: Mapping[str, Answers]
) -> None:
    vendors = by("manufacturer", shifts(served["one-vendor"], golden), watched)
    forgotten = vendors.pop(SCANNERS[-1].name)
    assert forgotten > 0.12
    assert forgotten > 4 * max(map(abs, vendors.values()))


def test_a_narrow_calibration_leaves_heatmaps_alone(served: Mapping[str, Answers]) -> None:
    assert all(
        np.array_equal(outputs["heatmap"], served["healthy"][name]["heatmap"])
        for name, outputs in served["one-vendor"].items()
    )
