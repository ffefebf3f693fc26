"""What drives the watch: when which part has its turn, and what is left when it ends."""

import asyncio
import threading
from contextlib import AsyncExitStack
from datetime import UTC
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from apscheduler.schedulers.asyncio import AsyncIOScheduler

from tests.core.builders import MODEL, a_result, a_timekeeper
from tests.core.gpu_builders import FakeGpus
from tests.core.virtual_time import EPOCH
from tests.service.test_config_errors import VALID
from watchdog.app import Watchdog
from watchdog.config import Config, read
from watchdog.gpu import GpuSettings
from watchdog.gpu_watch import GpuWatch
from watchdog.model.event import Timed
from watchdog.model.probe import ProbeResult
from watchdog.policy.memory import PolicyState
from watchdog.timekeeper import WAIT_S, Timekeeper
from watchdog.watching import Watching

Settings = dict[str, Any] | None


def a_config(folder: Path, every: str = "10s", *, gpu: Settings = None, name: str = MODEL) -> Config:
    document = yaml.safe_load(VALID)
    document["models"][0] |= {"name": name, "probe": {"every": every}}
    (folder / "watchdog.yaml").write_text(yaml.safe_dump(document | {"gpu": gpu}))
    return read(folder / "watchdog.yaml")


class Part:
    """A cycle, a server's watch, a notifier or evidence: told when it has its turn."""

    state = PolicyState()

    async def tick(self) -> None: ...

    look_every_s = 1.0

    async def look_at_route(self) -> None: ...

    async def count(self) -> None: ...

    async def look(self) -> None: ...

    async def save(self) -> None: ...

    async def recall(self) -> None: ...

    async def close(self) -> None: ...

    def hold(self, source: str, conditions: Any) -> None: ...

    def know(self, model: str, state: PolicyState) -> None: ...

    def conditions(self) -> tuple[()]:
        return ()

    def take_over(self, old: Any) -> None: ...

    def begin(self) -> None: ...

    def queues(self) -> tuple[()]:
        return ()


def a_watching(config: Config, timekeeper: Timekeeper | None = None) -> Watching:
    part: Any = Part()
    names = [model.name for model in config.models]
    return Watching(
        config=config,
        cycles=dict.fromkeys(names, part),
        notifier=part,
        evidence=part,
        feeds={},
        servers=dict.fromkeys(names, part),
        gpus=None if config.gpu is None else a_gpu_watch(config.gpu),
        timekeeper=timekeeper or a_timekeeper(),
        authority=None,
        targets=part,
        scheduler=AsyncIOScheduler(timezone=UTC),
        stack=AsyncExitStack(),
    )


def a_gpu_watch(settings: GpuSettings) -> GpuWatch:
    return GpuWatch(
        FakeGpus(),
        make_detector=settings.leak.detector,
        programs=settings.processes,
        headroom=settings.headroom,
        deadline_s=settings.deadline,
        observe=lambda _: None,
        hold=lambda _: None,
        clock=lambda: EPOCH,
    )


@pytest.mark.parametrize("every", ["1s", "2s", "5s", "10s", "20s", "60s"])
async def test_what_servers_are_asked_of_themselves_comes_between_probes(tmp_path: Path, every: str) -> None:
    watching = a_watching(a_config(tmp_path, every))
    watching.go()
    jobs = {job.func.__name__: job for job in watching.scheduler.get_jobs()}
    probe_s = jobs["tick"].trigger.interval.total_seconds()
    for name in ("count", "look"):
        at_s = (jobs[name].next_run_time - jobs["tick"].next_run_time).total_seconds()
        for turn in range(60):
            off_s = (at_s + turn * jobs[name].trigger.interval.total_seconds()) % probe_s
            assert min(off_s, probe_s - off_s) >= 0.5, "neither with a probe nor on its heels"
    await watching.close()


async def test_what_has_waited_too_long_is_told_where_the_watch_itself_runs(tmp_path: Path) -> None:
    """A scheduler runs plain functions in threads, where no burst can be begun and nothing is safe."""
    at, told = EPOCH, asyncio.get_running_loop().create_future()
    keeper = Timekeeper(lambda: at, lambda _outcome, _count: None, listening=False)
    keeper.answered(a_result(trace_id=keeper.begin(traced=False)), lambda _: told.set_result(threading.get_ident()))
    watching = a_watching(a_config(tmp_path), keeper)
    at += WAIT_S + 1
    watching.go()
    assert await asyncio.wait_for(told, 30) == threading.get_ident()
    await watching.close()


async def test_whoever_is_told_where_a_probes_time_went_is_told_before_the_watch_ends(tmp_path: Path) -> None:
    keeper, told = a_timekeeper(), list[ProbeResult]()
    waits = a_result(trace_id=keeper.begin(traced=False))
    keeper.answered(waits, told.append)
    watching = a_watching(a_config(tmp_path), keeper)
    assert told == []
    await watching.drain()
    assert told == [waits]
    await watching.close()


def a_watchdog(config: Config) -> Watchdog:
    journal: Any = SimpleNamespace(watch=lambda _: None, trouble=None)
    return Watchdog(Path("watchdog.yaml"), config, journal)


async def test_a_model_that_is_watched_no_longer_is_not_shown_again_by_what_was_still_to_be_told(
    tmp_path: Path,
) -> None:
    keeper = a_timekeeper()
    old, fresh = (a_watching(a_config(tmp_path, name=name), keeper) for name in (MODEL, "another"))
    watchdog = a_watchdog(old.config)
    watchdog._know_states(old)
    result = a_result(trace_id=keeper.begin(traced=False))
    keeper.answered(result, lambda told: watchdog._observe(Timed(model=MODEL, at=EPOCH, result=told)))
    await watchdog._replace(old, fresh)
    keeper.sweep()
    assert list(watchdog.status()["models"]) == ["another"]
    assert f'model="{MODEL}"' not in watchdog.metrics("")[0].decode()
    await fresh.close()


@pytest.mark.parametrize(
    ("before", "after", "kept"),
    [({"every": "10s"}, {"every": "10s"}, True), ({"every": "10s"}, {"every": "5s"}, False)],
    ids=["equal settings", "other settings"],
)
async def test_what_was_learnt_of_gpus_outlives_a_reload_with_equal_settings(
    tmp_path: Path, before: dict[str, Any], after: dict[str, Any], kept: bool
) -> None:
    old, fresh = (a_watching(a_config(tmp_path, gpu=gpu)) for gpu in (before, after))
    assert old.gpus is not None
    assert fresh.gpus is not None
    await old.gpus.look()
    await a_watchdog(fresh.config)._replace(old, fresh)
    assert (fresh.gpus.reading == old.gpus.reading) is kept
    await fresh.close()


async def test_gpus_that_are_watched_no_longer_are_not_shown_either(tmp_path: Path) -> None:
    old, fresh = a_watching(a_config(tmp_path, gpu={})), a_watching(a_config(tmp_path))
    assert old.gpus is not None
    watchdog = a_watchdog(old.config)
    old.gpus._observe = watchdog._observe
    await old.gpus.look()
    assert watchdog.status()["gpu"]
    await watchdog._replace(old, fresh)
    assert watchdog.status()["gpu"] == {}
    await fresh.close()
