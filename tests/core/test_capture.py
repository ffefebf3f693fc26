"""A baseline is captured from a safe engine that is sane and repeats itself, or not at all."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from tests.core.builders import CANARIES, MODEL, OUTPUT, World, a_canary, a_prober, a_timing
from tests.core.virtual_time import in_virtual_time, now
from watchdog.assess import LatencySettings, OutputKind, OutputSettings, ParityLimits
from watchdog.capture import Captured, CaptureError, capture
from watchdog.model.canary import Canary
from watchdog.model.engine import Role
from watchdog.model.probe import Attribution, InferRequest, Timing


async def captured(
    world: World, canaries: Sequence[Canary] = CANARIES, *, repeats: int = 2, progress: Any = None, **judge: Any
) -> Captured:
    return await capture(
        a_prober(world, canaries=canaries, baseline=False, **judge),
        canaries,
        recipe_sha256="b" * 64,
        repeats=repeats,
        clock=now,
        progress=progress or (lambda *_: None),
    )


@in_virtual_time
async def test_a_baseline_is_what_the_safe_engine_said() -> None:
    done: list[tuple[Role, int, int]] = []
    got = await captured(World(fast="slow"), progress=lambda *step: done.append(step))
    baseline = got.baseline
    assert (baseline.model, baseline.server, baseline.repeats, baseline.recipe_sha256) == (
        MODEL,
        "fake 1.0",
        2,
        "b" * 64,
    )
    assert baseline.created_at == "2023-11-14T22:13:26+00:00"
    assert baseline.canaries == {c.id: c.sha256 for c in CANARIES}
    for canary in CANARIES:
        golden = baseline.golden[canary.id]
        assert golden.outputs[OUTPUT] == pytest.approx(float(canary.inputs["x"][0, 0]), abs=1e-3)
        assert 0 < golden.spread[OUTPUT] < 2e-3, "payloads were perturbed, as they will be later"
    safe, fast = baseline.engines[Role.SAFE], baseline.engines[Role.FAST]
    assert (safe.version, safe.tag, fast.version, fast.tag) == ("2", "tag-2", "1", "tag-1")
    assert safe.latency["opt"].median_s == pytest.approx(0.005)
    assert fast.latency["opt"].median_s == pytest.approx(0.5)
    assert set(fast.parity) == {"p.max_abs", "p.kl"}
    assert 0 < fast.parity["p.max_abs"] < 2e-3
    assert got.warnings == (), "the fast engine's own speed is its habit"
    assert [step for step in done if step[1] in (1, 10)] == [
        (Role.SAFE, 1, 10),
        (Role.SAFE, 10, 10),
        (Role.FAST, 1, 10),
        (Role.FAST, 10, 10),
    ]


@in_virtual_time
async def test_each_shape_has_a_habit_of_its_own() -> None:
    canaries = [a_canary("small", 0.9, profile="min"), a_canary("large", 0.2, profile="max")]
    got = await captured(World(), canaries, repeats=1)
    assert set(got.baseline.engines[Role.FAST].latency) == {"min", "max"}


@pytest.mark.parametrize(
    ("known", "expected"), [(set(Role), True), ({Role.SAFE}, False), ({Role.FAST}, False), (set[Role](), False)]
)
@in_virtual_time
async def test_a_baseline_knows_device_times_only_if_it_has_those_of_both_engines(
    known: set[Role], expected: bool
) -> None:
    def timing(role: Role) -> Timing:
        return a_timing(Attribution.MODEL if role in known else Attribution.NONE)

    got = await captured(World(timing=timing))
    assert got.knows_device_times is expected


@in_virtual_time
async def test_a_wrong_fast_engine_is_a_warning_a_kind() -> None:
    got = await captured(World(fast="zeros"))
    assert len(got.warnings) == 2
    assert got.warnings[0].startswith("the fast engine is not right even now, on 5 canaries, such as c0: all-zero: ")
    assert "parity: " in got.warnings[1]


@in_virtual_time
async def test_the_parity_kept_is_the_worst_over_the_canaries() -> None:
    cut = OutputSettings(name=OUTPUT, kind=OutputKind.MASK, parity=ParityLimits(dice=0.9, max_abs=0.1))
    got = await captured(World(fast="zeros"), outputs=(cut,))
    parity = got.baseline.engines[Role.FAST].parity
    assert parity["p.dice"] == 0.0, "the emptiest"
    assert parity["p.max_abs"] == pytest.approx(0.95, abs=1e-2), "the furthest"


@in_virtual_time
async def test_a_fast_engine_that_says_nan_has_no_parity() -> None:
    got = await captured(World(fast="nan"))
    assert got.baseline.engines[Role.FAST].parity == {}
    assert "non-finite" in got.warnings[0]


@pytest.mark.parametrize(
    ("world", "says"),
    [
        (World(safe="nan"), "the safe engine e:nodule/2 is not fit to be a reference: canary c0: non-finite"),
        (World(safe="zeros"), "p is all zero for every canary"),
        (World(safe="impostor"), "not fit to be a reference: canary c0: wrong-version"),
        (World(safe="refuse"), "the safe engine e:nodule/2 can't be asked about itself: refused"),
        (World(fast="hang"), "the fast engine e:nodule/1 can't be asked about itself"),
    ],
)
@in_virtual_time
async def test_what_is_in_the_way_of_a_baseline_is_named(world: World, says: str) -> None:
    with pytest.raises(CaptureError, match=says):
        await captured(world)


@in_virtual_time
async def test_an_engine_that_falls_silent_on_the_way_is_named() -> None:
    world = World()

    def fall_silent(request: InferRequest) -> None:
        if request.address.version == "1":
            world.fast = "refuse"

    world.on_infer = fall_silent
    with pytest.raises(CaptureError, match="the fast engine did not answer: no-answer"):
        await captured(world)


@in_virtual_time
async def test_a_safe_engine_that_does_not_repeat_itself_is_no_reference() -> None:
    strict = OutputSettings(name=OUTPUT, kind=OutputKind.PROBABILITY, parity=ParityLimits(max_abs=1e-6))
    with pytest.raises(CaptureError, match=r"does not repeat itself: canary c0: parity.*loosen the limit"):
        await captured(World(), outputs=(strict,))


@in_virtual_time
async def test_a_safe_engine_slower_than_a_limit_of_ones_own_can_still_be_a_reference() -> None:
    got = await captured(World(safe="slow"), repeats=1, latency=LatencySettings(safe=0.1))
    assert got.baseline.engines[Role.SAFE].latency["opt"].median_s == pytest.approx(0.5)


@in_virtual_time
async def test_an_answer_from_a_cache_is_no_reference() -> None:
    world = World(response_cache=True)
    prober = a_prober(world, baseline=False)
    endpoint: Any = prober.target.endpoints["e"]

    def hit(_: InferRequest) -> None:
        endpoint.counters = type(endpoint.counters)(cache_hits=endpoint.counters.cache_hits + 1)

    world.on_infer = hit
    with pytest.raises(CaptureError, match="from a response cache"):
        await capture(prober, CANARIES, recipe_sha256="b" * 64, repeats=1, clock=now, progress=lambda *_: None)


@in_virtual_time
async def test_what_was_captured_judges_as_it_should() -> None:
    world = World()
    baseline = (await captured(world)).baseline
    assert all(np.isfinite(g.outputs[OUTPUT]).all() for g in baseline.golden.values())
