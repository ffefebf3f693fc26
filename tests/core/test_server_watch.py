"""What a server tells of its engines: their load, what sets slowness apart, and whether they are the vetted ones."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from tests.core.builders import CANARIES, MODEL, World, a_canary, a_prober
from tests.core.gpu_builders import a_gpu, a_lost_gpu, a_reading
from tests.core.virtual_time import EPOCH, in_virtual_time
from watchdog.alerting import engine_conditions
from watchdog.model.engine import Role, ShapeRange
from watchdog.model.event import CycleFailed, EngineSeen, LoadSeen, Timed
from watchdog.model.fault import Blame, Fault, FaultKind
from watchdog.model.gpu import GpuReading
from watchdog.model.load import Statistics, Tally
from watchdog.model.probe import Attribution, Part
from watchdog.model.verdict import Finding, Reason, Verdict
from watchdog.ports import Event
from watchdog.server_watch import ServerWatch

AWAY = Fault(kind=FaultKind.REFUSED, blame=Blame.NETWORK, detail="nothing listens")


def counts(requests: int, *, device_ms: float = 1.0, queue_ms: float = 0.1) -> Statistics:
    """So many requests, each a batch of its own, since the model was loaded."""
    means = {Part.QUEUE: queue_ms, Part.INPUT: 0.1, Part.DEVICE: device_ms, Part.OUTPUT: 0.1}
    return Statistics(
        inferences=requests,
        executions=requests,
        succeeded=Tally(count=requests, seconds=requests * sum(means.values()) / 1e3),
        parts={part: Tally(count=requests, seconds=requests * ms / 1e3) for part, ms in means.items()},
    )


class Desk:
    """A watch of a server of which the test says everything, and what it told."""

    def __init__(self, **more: Any) -> None:
        self.world = World()
        self.events: list[Event] = []
        self.held: list[Mapping[Role, Sequence[Finding]]] = []
        self.reloads = 0
        self.healthy = True
        self.gpus: GpuReading | None = None
        self.prober = a_prober(self.world, self.events.append, **more)
        self.prober.judge = _with_tags(self.prober.judge)
        self.watch = ServerWatch(
            self.prober,
            runtimes={Role.FAST: "trt8.5.3-cuda11.8", Role.SAFE: None},
            healthy=lambda: self.healthy,
            gpus=lambda: self.gpus,
            loaded=self._loaded,
            hold=self.held.append,
        )

    def _loaded(self) -> None:
        self.reloads += 1

    async def count(self, fast: Statistics | Fault, safe: Statistics | Fault | None = None) -> None:
        """Ten seconds later, with these counts."""
        await asyncio.sleep(10 - 0.001)  # that is how long a server takes to tell
        self.world.statistics = {Role.FAST: fast, Role.SAFE: Statistics() if safe is None else safe}
        await self.watch.count()

    async def run(self, *rates: tuple[int, float]) -> None:
        """Intervals of ten seconds with so many requests each, and so many milliseconds of device time."""
        total = counts(0)
        await self.count(total)
        for requests, device_ms in rates:
            total = _sum(total, counts(requests, device_ms=device_ms))
            await self.count(total)

    async def look(self, tag: str | None = "trt8.5.3-cuda11.8", **more: Any) -> dict[Role, list[Reason]]:
        """What is held after the engines were looked at, by reason."""
        self.world.description = {"tag": tag, **more}
        await self.watch.look()
        return {role: [finding.reason for finding in found] for role, found in self.held[-1].items()}

    def alerts(self) -> list[tuple[str, str]]:
        return [(c.name, c.labels["engine"]) for c in engine_conditions(MODEL, self.held[-1])]

    def of(self, kind: type[Any]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]


def _with_tags(judge: Any) -> Any:
    """The same judge, whose baseline was captured from engines with the tag that they have."""
    engines = {role: replace(each, tag="trt8.5.3-cuda11.8") for role, each in judge.baseline.engines.items()}
    return replace(judge, baseline=replace(judge.baseline, engines=engines))


def _sum(a: Statistics, b: Statistics) -> Statistics:
    def tally(x: Tally, y: Tally) -> Tally:
        return Tally(count=x.count + y.count, seconds=x.seconds + y.seconds)

    return Statistics(
        inferences=a.inferences + b.inferences,
        executions=a.executions + b.executions,
        succeeded=tally(a.succeeded, b.succeeded),
        parts={part: tally(a.parts[part], b.parts[part]) for part in a.parts},
    )


# -- load ------------------------------------------------------------------------------------


@in_virtual_time
async def test_the_first_counts_are_no_load_and_each_later_ones_are_that_of_the_time_between() -> None:
    desk = Desk()
    await desk.count(counts(1000), counts(7))
    assert desk.events == []
    await desk.count(counts(1050), counts(7))
    loads = {event.role: event.load for event in desk.of(LoadSeen)}
    assert (loads[Role.FAST].over_s, loads[Role.FAST].requests_per_s) == pytest.approx((10, 5))
    assert loads[Role.FAST].mean_s[Part.DEVICE] == pytest.approx(0.001)
    assert (loads[Role.SAFE].requests_per_s, loads[Role.SAFE].mean_s) == (0, {})
    assert {(event.model, round(event.at - EPOCH, 3)) for event in desk.of(LoadSeen)} == {(MODEL, 20)}
    assert desk.reloads == 0


@in_virtual_time
async def test_counts_that_went_back_are_a_reload_and_no_load() -> None:
    desk = Desk()
    await desk.run((50, 1.0), (50, 1.0))
    await desk.count(counts(3))
    assert desk.reloads == 1
    assert len(desk.of(LoadSeen)) == 5, "two of the fast one's, three of the safe one's"
    assert desk.watch.circumstances(Role.FAST, False) == ""
    await desk.count(counts(13))
    assert desk.reloads == 1
    assert desk.of(LoadSeen)[-2].load.requests_per_s == pytest.approx(1.0)


@pytest.mark.parametrize(("after", "reloads"), [(counts(3), 1), (counts(150), 0)], ids=["restarted", "a hiccup"])
@in_virtual_time
async def test_a_server_that_was_away_was_reloaded_if_its_counts_went_back(after: Statistics, reloads: int) -> None:
    desk = Desk()
    await desk.run((100, 1.0))
    await desk.count(AWAY, AWAY)
    assert desk.watch.circumstances(Role.FAST, False) == "", "what was known of it is of before"
    await desk.count(after)
    assert desk.reloads == reloads
    if not reloads:
        assert desk.of(LoadSeen)[-2].load.over_s == pytest.approx(20), "its counts went on meanwhile"


@in_virtual_time
async def test_a_server_without_counts_is_no_trouble() -> None:
    desk = Desk()
    for _ in range(3):
        await desk.count(AWAY, AWAY)
    assert {(event.role, event.load) for event in desk.of(LoadSeen)} == {(role, None) for role in Role}
    assert len(desk.events) == 6
    assert (desk.reloads, desk.watch.circumstances(Role.FAST, False)) == (0, "")


@in_virtual_time
async def test_probes_that_nobody_traces_get_the_intervals_mean_and_say_so() -> None:
    desk = Desk()
    await desk.run((50, 1.0))
    await desk.prober.probe(CANARIES[0], Role.FAST, public=True)
    assert desk.of(Timed) == []
    await desk.count(counts(51))
    (timed,) = desk.of(Timed)
    assert timed.result.timing.device_s == pytest.approx(0.001)
    assert timed.result.timing.attribution is Attribution.SHARED


@in_virtual_time
async def test_slowness_is_held_against_what_was_usual_while_all_was_well() -> None:
    desk = Desk()
    await desk.run(*[(50, 1.0)] * 5)
    desk.healthy = False
    await desk.count(_sum(counts(250), counts(50, device_ms=3.0)))
    said = desk.watch.circumstances(Role.FAST, False)
    assert said.startswith("the engine itself is slow: its device time is 3.0 ms (usually 1.0 ms), ")
    assert desk.watch.circumstances(Role.SAFE, False) == "no request succeeded in the server within 10 s"
    for i in range(2, 60):
        await desk.count(_sum(counts(250), counts(50 * i, device_ms=3.0)))
    assert desk.watch.circumstances(Role.FAST, False) == said, "trouble does not become usual"


@pytest.mark.parametrize(
    ("busy", "neighbour"),
    [((0.95,), True), ((0.1,), False), ((0.95, 0.1), False), ((0.95, 0.9), True), ((None, 0.95), True), ((), False)],
)
@in_virtual_time
async def test_others_are_blamed_only_if_they_use_whichever_gpu_the_engine_runs_on(
    busy: tuple[float | None, ...], neighbour: bool
) -> None:
    desk = Desk()
    await desk.run(*[(50, 1.0)] * 5)
    desk.healthy = False
    desk.gpus = a_reading(*(a_gpu(f"GPU-{i}", busy_ratio=ratio) for i, ratio in enumerate(busy)))
    await desk.count(_sum(counts(250), counts(50, device_ms=3.0)))
    said = desk.watch.circumstances(Role.FAST, False)
    assert said.startswith("something else keeps the GPU busy" if neighbour else "the engine itself is slow")


# -- engines ---------------------------------------------------------------------------------


@in_virtual_time
async def test_engines_that_are_as_they_were_are_no_condition() -> None:
    desk = Desk()
    assert await desk.look() == {Role.FAST: [], Role.SAFE: []}
    assert [(event.role, event.tag, event.findings) for event in desk.of(EngineSeen)] == [
        (Role.FAST, "trt8.5.3-cuda11.8", ()),
        (Role.SAFE, "trt8.5.3-cuda11.8", ()),
    ]
    assert desk.alerts() == []


@in_virtual_time
async def test_a_tag_that_changes_while_running_is_a_condition_until_it_is_right_again() -> None:
    desk = Desk()
    await desk.look()
    assert (await desk.look("trt8.6.1-cuda11.8"))[Role.SAFE] == [Reason.ENGINE_TAG]
    assert desk.alerts() == [("WatchdogEngineTagMismatch", "fast"), ("WatchdogEngineTagMismatch", "safe")]
    seen = desk.of(EngineSeen)[-1]
    (finding,) = seen.findings
    assert (seen.tag, finding.verdict) == ("trt8.6.1-cuda11.8", Verdict.SUSPECT)
    assert "its tag is trt8.6.1-cuda11.8, and was trt8.5.3-cuda11.8 when the baseline was captured" in finding.detail
    fast = engine_conditions(MODEL, desk.held[-1])[0]
    assert "was trt8.5.3-cuda11.8 when the baseline was captured" in fast.description
    assert "the server runs 8.5.3" in fast.description, "both that it changed, and that it does not fit"
    await desk.look()
    assert desk.alerts() == []


@in_virtual_time
async def test_an_engine_that_has_no_tag_any_more_is_another_one() -> None:
    desk = Desk()
    assert (await desk.look(None))[Role.FAST] == [Reason.ENGINE_TAG]
    assert "its tag is none, and was trt8.5.3-cuda11.8" in desk.held[-1][Role.FAST][0].detail


@in_virtual_time
async def test_a_server_that_can_not_be_asked_puts_nothing_right() -> None:
    desk = Desk()
    await desk.look("trt8.6.1-cuda11.8")
    before = desk.alerts()
    desk.world.fast = desk.world.safe = "refuse"
    await desk.look()
    assert desk.alerts() == before
    assert len(desk.of(EngineSeen)) == 2


@pytest.mark.parametrize(
    ("gpus", "fits"),
    [
        (None, True),
        (a_reading(a_gpu(compute_capability=(9, 0))), True),
        (a_reading(a_gpu(compute_capability=(8, 0))), False),
        (a_reading(a_gpu(compute_capability=(8, 0)), a_gpu("GPU-2", compute_capability=(9, 0))), True),
        (a_reading(a_gpu(compute_capability=(8, 0)), a_lost_gpu("GPU-2")), False),
        (a_reading(a_gpu(compute_capability=(9, 0)), cuda=(10, 2)), False),
    ],
    ids=["no GPU is seen", "its own", "another", "one of either", "another, and one is lost", "an old driver"],
)
@in_virtual_time
async def test_an_engine_is_held_against_the_gpu_and_its_driver(gpus: GpuReading | None, fits: bool) -> None:
    desk = Desk()
    desk.gpus = gpus
    found = await desk.look("trt8.5.3-cuda11.8-sm90")
    about_gpu = [f for f in desk.held[-1][Role.FAST] if "baseline" not in f.detail]
    assert (about_gpu == []) is fits
    assert found[Role.FAST] == [Reason.ENGINE_TAG] * (1 + len(about_gpu))


@in_virtual_time
async def test_a_tag_of_ones_own_form_is_only_held_against_the_baselines_where_nobody_promised_the_form() -> None:
    desk = Desk()
    found = await desk.look("nightly-7")
    assert [f.detail for f in desk.held[-1][Role.SAFE] if "can't be read" in f.detail] == []
    assert [f.detail for f in desk.held[-1][Role.FAST] if "can't be read" in f.detail], "its server's runtime is given"
    assert (len(found[Role.FAST]), len(found[Role.SAFE])) == (2, 1)


@in_virtual_time
async def test_shapes_far_from_the_engines_optimum_are_a_condition_of_their_own() -> None:
    profile = {"x": ShapeRange(least=(1, 8), best=(2, 64), most=(8, 512))}
    desk = Desk(canaries=[a_canary("c0"), a_canary("c1", 0.5)])
    assert (await desk.look(profiles=profile))[Role.FAST] == [Reason.OFF_PROFILE]
    assert desk.alerts() == [("WatchdogShapeOffProfile", "fast"), ("WatchdogShapeOffProfile", "safe")]
    (condition, _) = engine_conditions(MODEL, desk.held[-1])
    assert condition.description == (
        "the canaries' x 2x8 is 8 times smaller than 2x64, which the engine was optimised for"
    )
    near = {"x": ShapeRange(least=(1, 8), best=(2, 8), most=(8, 512)), "another": profile["x"]}
    assert (await desk.look(profiles=near))[Role.FAST] == []
    both = await desk.look("trt7.0.0-cuda11.8", profiles=profile)
    assert set(both[Role.FAST]) == {Reason.ENGINE_TAG, Reason.OFF_PROFILE}
    assert len(desk.alerts()) == 4


@in_virtual_time
async def test_a_bug_is_loud_and_ends_nothing() -> None:
    desk = Desk()
    await desk.look("trt8.6.1-cuda11.8")
    before = desk.alerts()

    def broken() -> GpuReading:
        raise ZeroDivisionError("a bug")

    healthy = desk.watch._gpus
    desk.watch._gpus = broken
    await desk.look()
    assert desk.alerts() == before
    desk.watch._gpus = healthy
    desk.watch._healthy = broken  # type: ignore[assignment]
    await desk.run((50, 1.0))
    assert [(event.model, event.error) for event in desk.of(CycleFailed)] == [
        (MODEL, "server: ZeroDivisionError: a bug")
    ] * 2


@in_virtual_time
async def test_what_a_server_says_of_itself_reaches_the_next_probe() -> None:
    desk = Desk()
    await desk.look(response_cache=True)
    assessment = await desk.prober.probe(CANARIES[0], Role.FAST, public=True)
    assert assessment.result.cached is False, "known, since the counts were read before it"
