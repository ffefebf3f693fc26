"""What `check` says of device times and GPUs: what is right, what isn't, and what to do about it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.core.gpu_builders import ABSENT, UNSEEN, a_gpu, a_lost_gpu, a_reading
from tests.core.virtual_time import EPOCH
from tests.service.conftest import MODEL, Site, here
from tests.service.test_config_errors import VALID
from watchdog import check
from watchdog.config import Config, read
from watchdog.model.engine import Description, Role, Tracing
from watchdog.model.fault import Blame, Fault, FaultKind
from watchdog.model.gpu import GpuReading, SourceState
from watchdog.timekeeper import Timekeeper
from watchdog.traces import TracesSettings

SILENT = Fault(kind=FaultKind.REFUSED, blame=Blame.NETWORK, detail="nothing listens")
SOUND, CRASHING = "triton 2.58.0", "triton 2.51.0"
RIGHT = Tracing(on=True, mode="opentelemetry", rate=0, url="http://127.0.0.1:4318/v1/traces")
FLAGS = (
    "start Triton with --trace-config mode=opentelemetry --trace-config rate=0 --trace-config level=TIMESTAMPS "
    "--trace-config opentelemetry,url=http://127.0.0.1:4318/v1/traces "
    "--trace-config opentelemetry,bsp_schedule_delay=500"
)


def a_config(folder: Path, traces: Mapping[str, Any] | None, *, endpoints: Any = None, **model: Any) -> Config:
    document = yaml.safe_load(VALID)
    document["endpoints"] = endpoints or document["endpoints"]
    document["models"][0] |= model
    if traces is not None:
        document["traces"] = traces
    path = folder / "watchdog.yaml"
    path.write_text(yaml.safe_dump(document))
    return read(path)


def says(tracing: Tracing | None, server: str = SOUND) -> dict[Role, Description | Fault]:
    return dict.fromkeys(Role, Description(server=server, inputs=(), outputs=(), tracing=tracing))


def device_time(
    config: Config, said: Mapping[Role, Description | Fault], *, listening: bool = True
) -> tuple[bool, str]:
    keeper = Timekeeper(lambda: EPOCH, lambda _outcome, _count: None, listening=listening)
    item = check._tracing(config, config.models[0], said, keeper)
    assert item.what == "nodule device time"
    return item.ok, item.detail


def test_without_traces_it_says_how_device_times_are_known_and_how_to_know_better(tmp_path: Path) -> None:
    ok, detail = device_time(a_config(tmp_path, None), says(None))
    assert (ok, detail) == (
        True,
        f"only as a mean of all traffic (shared); for each probe's split put `traces: {{}}` here and {FLAGS}",
    )
    _, detail = device_time(a_config(tmp_path, None, device_output="device_seconds"), says(None))
    assert detail.startswith("from the model's own output; ")


@pytest.mark.parametrize(
    ("tracing", "ok", "detail"),
    [
        (RIGHT, True, "the server traces canaries, and sends to http://127.0.0.1:4318/v1/traces"),
        (None, True, f"the server does not say whether it traces; if it is a Triton, {FLAGS}"),
        (
            Tracing(on=False, mode="triton", rate=1000),
            False,
            f"the server does not trace (mode triton): {FLAGS}",
        ),
        (
            Tracing(on=True, mode="opentelemetry", rate=1),
            False,
            f"the server traces all requests (rate 1), which costs patients' traffic: {FLAGS}",
        ),
        (
            Tracing(on=True, mode="opentelemetry", rate=500),
            False,
            f"the server traces one request in 500 (rate 500), which costs patients' traffic: {FLAGS}",
        ),
    ],
)
def test_with_traces_it_says_whether_the_server_does_its_part(
    tmp_path: Path, tracing: Tracing | None, ok: bool, detail: str
) -> None:
    assert device_time(a_config(tmp_path, {}), says(tracing)) == (ok, detail)


def test_where_the_running_watchdog_gets_the_traces_what_the_server_does_is_told_all_the_same(tmp_path: Path) -> None:
    config = a_config(tmp_path, {})
    assert device_time(config, says(RIGHT), listening=False) == (
        True,
        "127.0.0.1:4318 is in use: by the watchdog that runs now, or else it can't start",
    )
    everything = Tracing(on=True, mode="opentelemetry", rate=1)
    assert device_time(config, says(everything), listening=False)[0] is False


def test_a_server_that_may_crash_of_tracing_is_not_asked_to_unless_somebody_says_so(tmp_path: Path) -> None:
    ok, detail = device_time(a_config(tmp_path, {}), says(RIGHT, CRASHING))
    assert not ok
    assert detail.startswith("triton 2.51.0 is not asked to trace, since it may crash of it: run 2.58 or newer, ")
    assert device_time(a_config(tmp_path, {"despite_crashes": True}), says(RIGHT, CRASHING))[0]


def test_one_engine_that_answers_is_enough_to_know_its_server(tmp_path: Path) -> None:
    config = a_config(tmp_path, {})
    assert device_time(config, says(RIGHT) | {Role.FAST: SILENT})[0]
    ok, detail = device_time(config, dict.fromkeys(Role, SILENT))
    assert (ok, detail.startswith("the server does not say")) == (True, True), (
        "that it is silent is told of its engines"
    )


def test_the_flags_name_the_address_that_is_listened_on() -> None:
    flags = check.trace_flags(TracesSettings(listen="10.0.0.7:9999"))
    assert "opentelemetry,url=http://10.0.0.7:9999/v1/traces" in flags


@pytest.mark.parametrize("listen", ["0.0.0.0:4318", "[::]:4318"])
def test_an_address_that_means_all_of_this_machines_is_left_to_the_user(listen: str) -> None:
    flags = check.trace_flags(TracesSettings(listen=listen))
    assert "opentelemetry,url=http://THIS-HOST:4318/v1/traces" in flags


def test_of_two_servers_the_one_that_does_not_do_its_part_is_told(tmp_path: Path) -> None:
    config = a_config(tmp_path, {})
    for one in Role:
        ok, detail = device_time(config, says(RIGHT) | {one: says(RIGHT, CRASHING)[one]})
        assert (ok, detail.startswith("triton 2.51.0 is not asked to trace")) == (False, True)


TENSORRT = [{"name": "triton", "kind": "tensorrt", "path": "engines"}]
OIP = [{"name": "triton", "kind": "oip-http", "url": "127.0.0.1:8000"}]


def test_engines_that_run_here_need_no_traces(tmp_path: Path) -> None:
    config = a_config(tmp_path, None, endpoints=TENSORRT)
    assert device_time(config, says(None)) == (True, "by CUDA events: its engines run in this process")


@pytest.mark.parametrize(
    ("traces", "changes", "unknown"),
    [
        (None, {}, ["host", "device", "queue", "network"]),
        (None, {"device_output": "device_seconds"}, ["queue", "network"]),
        (None, {"endpoints": TENSORRT}, ["network"]),
        (None, {"endpoints": OIP}, ["queue", "network"]),
        ({}, {}, []),
    ],
)
def test_an_objective_on_what_nothing_measures_is_a_mistake(
    tmp_path: Path, traces: dict[str, Any] | None, changes: dict[str, Any], unknown: list[str]
) -> None:
    windows = [{"measure": m, "limit": "5ms"} for m in ("total", "host", "device", "queue", "network")]
    config = a_config(tmp_path, traces, latency={"windows": windows}, **changes)
    items = check._objectives(config, config.models[0])
    assert [(item.ok, item.what) for item in items] == [(False, "nodule objective")] * len(unknown)
    assert [item.detail for item in items] == [
        f"the fast engine's {measure} time is not known without `traces`" for measure in unknown
    ]


@pytest.mark.parametrize(
    ("window", "said"),
    [
        ({"over": "200s"}, []),
        ({"over": "199s"}, ["the fast engine's total time is probed 19 times within 199 s, and `least` is 20"]),
        ({"over": "1m", "least": 6}, []),
    ],
)
def test_an_objective_whose_window_never_holds_enough_probes_is_a_mistake(
    tmp_path: Path, window: dict[str, Any], said: list[str]
) -> None:
    config = a_config(tmp_path, None, latency={"windows": [{"limit": "5ms", **window}]})
    assert [item.detail for item in check._objectives(config, config.models[0])] == said


async def test_an_intake_that_can_not_listen_at_all_is_told_as_what_it_is(tmp_path: Path) -> None:
    for listen in ("192.0.2.1:4318", "a..b:4318"):
        items = await check.check(a_config(tmp_path, {"listen": listen}))
        assert (items[-1].ok, items[-1].what) == (False, "traces")
        assert items[-1].detail.startswith(f"traces.listen: can't listen on {listen}: ")


@pytest.mark.parametrize(
    ("reading", "ok", "detail"),
    [
        (a_reading(a_gpu()), True, "by nvml: GPU-1 NVIDIA A100"),
        (a_reading(a_gpu(), a_gpu("GPU-2", name="")), True, "by nvml: GPU-1 NVIDIA A100, GPU-2"),
        (a_reading(a_gpu(), a_lost_gpu("GPU-2")), False, "by nvml: GPU-1 NVIDIA A100, GPU-2 NVIDIA A100 (lost)"),
        (ABSENT, True, "not watched (absent): there is no driver here"),
        (UNSEEN, False, "not watched (failing): the driver gave no answer within 5 s"),
        (a_reading(state=SourceState.DENIED, detail="run it so"), False, "not watched (denied): run it so"),
    ],
    ids=["up", "two", "one lost", "absent", "failing", "denied"],
)
def test_gpus_are_told_and_that_there_are_none_is_no_mistake(reading: GpuReading, ok: bool, detail: str) -> None:
    item = check._gpus(reading)
    assert (item.ok, item.what, item.detail) == (ok, "gpu", detail)


@pytest.mark.triton
def test_check_of_a_real_server_that_does_not_trace(site: Site, tmp_path: Path) -> None:
    done = here("check", site.configure(tmp_path, traces={"listen": "127.0.0.1:0"}, gpu=None))
    (wrong,) = (line for line in " ".join(done.stdout.split()).split("WRONG")[1:])
    assert wrong.startswith(f" {MODEL} device time the server does not trace (mode triton): start Triton with")
    assert " gpu " not in done.stdout
