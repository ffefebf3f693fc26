"""What `status` shows a person of times and GPUs, from the document as the running watchdog makes it."""

import io
import json
from typing import Any

from rich.console import Console

from tests.core.builders import MODEL, a_score
from tests.core.gpu_builders import GIB, a_gpu, a_leak, a_lost_gpu, a_process, a_reading
from tests.core.story_events import one_of_each, probed, timed
from tests.core.virtual_time import EPOCH
from watchdog.cli.picture import overview
from watchdog.model.event import GpuSeen, GrowthSeen, Scored, Source
from watchdog.model.gpu import GpuReading, Leak
from watchdog.ports import Event
from watchdog.telemetry.board import Board


def picture(*events: Event) -> list[str]:
    board = Board(EPOCH)
    for event in events:
        board(event)
    document: dict[str, Any] = json.loads(json.dumps(board.document(EPOCH + 60)))
    console = Console(file=io.StringIO(), width=250)
    console.print(overview(document | {"alerts": []}))
    assert isinstance(console.file, io.StringIO)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def the_gpus(reading: GpuReading, *leaks: Leak) -> list[str]:
    lines = picture(GpuSeen(at=EPOCH, reading=reading), *(GrowthSeen(at=EPOCH, leak=leak) for leak in leaks))
    header = next(i for i, line in enumerate(lines) if line.startswith("gpu "))
    return [" ".join(line.split()) for line in lines[header + 1 :]]


def test_all_that_happens_can_be_shown() -> None:
    lines = picture(*one_of_each())
    assert any(line.startswith(MODEL) for line in lines)


def test_a_probes_device_time_is_shown_with_how_it_is_known_once_it_is() -> None:
    before = picture(probed(trace_id="a"))
    assert not any("trace" in line for line in before)
    (row,) = (line for line in picture(probed(trace_id="a"), timed(trace_id="a")) if line.startswith(MODEL))
    assert "5.0 ms" in row
    assert "2.00 ms trace" in row


def test_evidence_of_slowness_is_shown_beside_that_of_drift() -> None:
    of = (("canary", "fast"), ("timing", "fast.device"))
    scored = [
        Scored(model=MODEL, at=EPOCH, source=Source(source), reading=reading, score=a_score(alarm=False))
        for source, reading in of
    ]
    rows = [" ".join(line.split()[:4]) for line in picture(*scored) if line.startswith(f"{MODEL} ") and "3" in line]
    assert rows == [f"{MODEL} canaries fast 3", f"{MODEL} latency fast.device 3"]


def test_gpus_are_shown_where_there_are_any() -> None:
    assert the_gpus(a_reading(a_gpu())) == ["NVIDIA A100 up 10.0 GiB of 40.0 GiB 25% 50 °C tritonserver 1.0 GiB"]
    assert the_gpus(a_reading(a_lost_gpu())) == ["NVIDIA A100 lost"]
    assert not any(line.startswith("gpu ") for line in picture(GpuSeen(at=EPOCH, reading=a_reading())))
    assert not any(line.startswith("gpu ") for line in picture())


def test_a_leak_is_shown_beside_whose_it_is() -> None:
    gpu = a_gpu(
        processes=(a_process(pid=1), a_process(2 * GIB, pid=2), a_process(None, pid=3), a_process(pid=4, name=""))
    )
    (row,) = the_gpus(a_reading(gpu), a_leak(0.5, pid=2), a_leak(9.0, pid=1, leaking=False))
    assert row.endswith("tritonserver 1.0 GiB, tritonserver 2.0 GiB (leaks 512 MiB/h), 4 1.0 GiB")


def test_a_leak_of_nobody_in_particular_is_shown_beside_all_the_memory() -> None:
    (row,) = the_gpus(a_reading(a_gpu(processes=None)), a_leak(2.0, holder="all", pid=0))
    assert row == "NVIDIA A100 up 10.0 GiB of 40.0 GiB (leaks 2.0 GiB/h) 25% 50 °C"
