"""When people are told of a GPU, how gravely, in which words, and for how long."""

from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.gpu_builders import ABSENT, GIB, GPU, UNSEEN, a_gpu, a_leak, a_lost_gpu, a_reading
from tests.core.virtual_time import EPOCH
from watchdog.gpu_health import ERROR_FOR_S, GpuHealth
from watchdog.model.gpu import Gpu, GpuReading, GpuState, Leak, MigInstance, SourceState
from watchdog.model.notice import Condition, Severity

HEADROOM = 0.05
EVERY_S = 10.0


class Ward:
    """What is remembered, and what people would know, as readings come."""

    def __init__(self) -> None:
        self.health = GpuHealth()
        self.at = EPOCH
        self.found: tuple[Condition, ...] = ()

    def see(self, *gpus: Gpu, leaks: Iterable[Leak] = (), later: float = EVERY_S) -> list[str]:
        return self.read(a_reading(*gpus), leaks=leaks, later=later)

    def read(self, reading: GpuReading, leaks: Iterable[Leak] = (), later: float = EVERY_S) -> list[str]:
        """The alerts after one more reading."""
        self.at += later
        self.health = self.health.after(reading, self.at)
        self.found = self.health.conditions(leaks, HEADROOM)
        return [condition.name for condition in self.found]

    def the_one(self) -> Condition:
        (found,) = self.found
        return found


def test_nothing_is_told_before_anything_was_seen_and_of_what_is_well() -> None:
    ward = Ward()
    assert ward.health.conditions((), HEADROOM) == ()
    assert ward.see(a_gpu(), a_gpu("GPU-2")) == []


def test_a_gpu_that_was_lost_is_told_until_it_is_back() -> None:
    ward = Ward()
    ward.see(a_gpu(), a_gpu("GPU-2"))
    assert ward.see(a_lost_gpu(), a_gpu("GPU-2")) == ["WatchdogGpuLost"]
    found = ward.the_one()
    assert (found.severity, found.labels) == (Severity.CRITICAL, {"gpu": GPU})
    assert found.summary == "GPU GPU-1 (NVIDIA A100) is gone"
    assert found.description == "the driver doesn't list it any more"
    assert ward.see(a_gpu(), a_gpu("GPU-2")) == []


@pytest.mark.parametrize("state", [GpuState.DENIED, GpuState.FAILING])
def test_a_gpu_that_can_not_be_asked_is_not_lost(state: GpuState) -> None:
    assert Ward().see(Gpu(uuid=GPU, state=state)) == []


def test_an_error_that_the_driver_told_once_is_told_for_an_hour() -> None:
    ward = Ward()
    assert ward.see(a_gpu(xids=(79,))) == ["WatchdogGpuError"]
    found = ward.the_one()
    assert found.severity is Severity.CRITICAL
    assert found.description == "the driver reported XID 79; look the number up in NVIDIA's list of XID errors", (
        "the number tells a person what to do"
    )
    assert ward.see(a_gpu()) == ["WatchdogGpuError"]
    assert ward.see(a_gpu(), later=ERROR_FOR_S - 2 * EVERY_S) == ["WatchdogGpuError"]
    assert ward.see(a_gpu(), later=EVERY_S) == []


def test_errors_of_one_hour_are_told_together_and_each_more_prolongs_it() -> None:
    ward = Ward()
    ward.see(a_gpu(xids=(48,)))
    ward.see(a_gpu(xids=(63, 48), ecc_uncorrected=1))
    ward.see(a_gpu(ecc_uncorrected=3), later=ERROR_FOR_S - 1)
    assert ward.the_one().description.startswith(
        "the driver reported XID 48, XID 63, 3 uncorrectable memory errors; look "
    )
    assert ward.see(a_gpu(ecc_uncorrected=3), later=ERROR_FOR_S - 1) == ["WatchdogGpuError"]
    assert ward.see(a_gpu(ecc_uncorrected=3), later=1) == []
    ward.see(a_gpu(ecc_uncorrected=4))
    assert ward.the_one().description == "the driver reported 1 uncorrectable memory error", "what was told is over"


def test_memory_errors_of_before_are_not_news_and_a_driver_that_counts_anew_has_none() -> None:
    ward = Ward()
    assert ward.see(a_gpu(ecc_uncorrected=7)) == []
    assert ward.see(a_gpu(ecc_uncorrected=None)) == []
    assert ward.see(a_gpu(ecc_uncorrected=0)) == []
    assert ward.see(a_gpu(ecc_uncorrected=1)) == ["WatchdogGpuError"]


def test_corrected_memory_errors_are_ordinary() -> None:
    ward = Ward()
    ward.see(a_gpu(ecc_corrected=3))
    assert ward.see(a_gpu(ecc_corrected=300)) == []


@pytest.mark.parametrize(
    ("reasons", "told"),
    [
        ({"hw-thermal-slowdown"}, True),
        ({"sw-thermal-slowdown", "sw-power-cap"}, True),
        ({"hw-power-brake-slowdown"}, True),
        ({"hw-slowdown"}, True),
        ({"sw-power-cap"}, False),
        ({"display-clock-setting"}, False),
        (set(), False),
        (None, False),
    ],
)
def test_slowed_clocks_are_told_only_if_harmful_and_lasting(reasons: set[str] | None, told: bool) -> None:
    ward = Ward()
    slowed = a_gpu(throttled_by=None if reasons is None else frozenset(reasons))
    for _ in range(5):
        assert ward.see(slowed) == []
    assert ward.see(slowed) == ["WatchdogGpuThrottled"] * told
    if told:
        assert ward.the_one().severity is Severity.WARNING
        assert ward.the_one().description == f"by {', '.join(sorted(reasons or ()))}"
    assert ward.see(a_gpu()) == []
    assert ward.see(slowed) == [], "a pause begins the count anew"


def test_a_gpu_that_is_nearly_full_is_told_until_there_is_room() -> None:
    ward = Ward()
    assert ward.see(a_gpu(used_bytes=38 * GIB)) == [], "that is the limit itself"
    assert ward.see(a_gpu(used_bytes=39 * GIB)) == ["WatchdogGpuMemoryLow"]
    found = ward.the_one()
    assert found.severity is Severity.WARNING
    assert found.description.startswith("1.00 GiB of 40.00 GiB are free (limit 5%): loading an engine")
    assert ward.see(a_gpu(used_bytes=10 * GIB)) == []
    assert ward.see(a_gpu(used_bytes=None)) == ward.see(a_gpu(total_bytes=None)) == []


def test_a_slice_of_a_gpu_that_is_nearly_full_is_told_by_its_name() -> None:
    full = MigInstance(uuid="MIG-1", total_bytes=10 * GIB, used_bytes=10 * GIB - 1)
    empty = MigInstance(uuid="MIG-2", total_bytes=10 * GIB, used_bytes=0)
    ward = Ward()
    assert ward.see(a_gpu(mig=(full, empty))) == ["WatchdogGpuMemoryLow"]
    assert ward.the_one().labels == {"gpu": GPU, "mig": "MIG-1"}
    assert ward.the_one().summary == "MIG instance MIG-1 of GPU GPU-1 (NVIDIA A100) is nearly full"


def test_where_there_never_was_a_gpu_nobody_misses_one() -> None:
    ward = Ward()
    for reading in (ABSENT, UNSEEN, a_reading(state=SourceState.DENIED)):
        assert ward.read(reading) == []


def test_gpus_that_can_not_be_watched_any_more_are_told_with_why() -> None:
    ward = Ward()
    ward.see(a_gpu())
    assert [ward.read(UNSEEN) for _ in range(3)] == [[], [], ["WatchdogGpuUnseen"]], "a driver may be busy once"
    assert (ward.the_one().severity, ward.the_one().labels) == (Severity.WARNING, {})
    assert ward.the_one().description == "the driver gave no answer within 5 s"
    assert ward.see(a_gpu()) == []


def test_that_nothing_can_be_seen_puts_nothing_right() -> None:
    ward = Ward()
    slowed, lost = a_gpu("GPU-2", throttled_by=frozenset({"hw-slowdown"}), xids=(13,)), a_lost_gpu()
    for _ in range(6):
        ward.see(a_gpu(), slowed)
    before = ward.see(slowed, lost)
    assert before == ["WatchdogGpuError", "WatchdogGpuThrottled", "WatchdogGpuLost"]
    assert ward.read(UNSEEN) == ward.read(UNSEEN) == before
    for _ in range(3):
        assert ward.read(UNSEEN) == [*before, "WatchdogGpuUnseen"]
    assert ward.see(slowed, lost) == before, "and its being slowed goes on lasting"


def test_a_leak_is_told_with_its_rate_and_how_long_it_may_go_on() -> None:
    ward = Ward()
    assert ward.see(a_gpu(), leaks=[a_leak()]) == ["WatchdogGpuMemoryLeak"]
    found = ward.the_one()
    assert (found.severity, found.labels) == (Severity.WARNING, {"gpu": GPU, "process": "tritonserver"})
    assert found.description == (
        "tritonserver on GPU GPU-1 grew by 1.00 GiB an hour (at least 922 MiB) over 30 min, in 9 steps; "
        "at this rate no memory is left in 30.0 h"
    )
    assert ward.see(a_gpu()) == []


@pytest.mark.parametrize(
    ("more", "severity"),
    [
        ({"exhausted_in_s": 5.9 * 3600}, Severity.CRITICAL),
        ({"exhausted_in_s": 6.1 * 3600}, Severity.WARNING),
        ({"exhausted_in_s": None}, Severity.WARNING),
    ],
)
def test_a_leak_that_fills_the_memory_soon_is_for_now(more: dict[str, Any], severity: Severity) -> None:
    ward = Ward()
    ward.see(a_gpu(), leaks=[a_leak(**more)])
    assert ward.the_one().severity is severity
    assert ("no memory is left" in ward.the_one().description) is (more["exhausted_in_s"] is not None)


def test_growth_that_is_no_leak_is_not_told() -> None:
    assert Ward().see(a_gpu(), leaks=[a_leak(leaking=False)]) == []


@given(st.permutations([0.5, 1.0, 2.0]))
def test_of_several_processes_of_one_name_the_steepest_leak_is_told(rates: list[float]) -> None:
    ward = Ward()
    leaks = [a_leak(rate, pid=pid) for pid, rate in enumerate(rates, 1)]
    ward.see(a_gpu(), leaks=[*leaks, a_leak(9.0, leaking=False, pid=9)])
    assert "grew by 2.00 GiB an hour" in ward.the_one().description


def test_leaks_of_other_programs_and_gpus_are_conditions_of_their_own() -> None:
    ward = Ward()
    leaks = [a_leak(), a_leak(gpu="GPU-2"), a_leak(holder="all", pid=0)]
    assert ward.see(a_gpu(), leaks=leaks) == ["WatchdogGpuMemoryLeak"] * 3
    assert len({condition.key for condition in ward.found}) == 3
