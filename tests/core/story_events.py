"""A story with one event of each kind, for the observers."""

from tests.core.builders import MODEL, OUTPUT, a_finding, a_result, a_timing
from tests.core.gpu_builders import GIB, a_gpu, a_leak, a_process, a_reading
from tests.core.policy_story import Story, a_diagnosis
from tests.core.virtual_time import EPOCH
from watchdog.model.diagnosis import Conclusion
from watchdog.model.engine import Role
from watchdog.model.event import (
    Baselined,
    Beaten,
    Command,
    Commanded,
    CycleFailed,
    Delivered,
    Diagnosed,
    EngineSeen,
    GpuSeen,
    GrowthSeen,
    LoadSeen,
    Noticed,
    ObjectiveSeen,
    Probed,
    Proved,
    Reported,
    RouteSeen,
    SpansTaken,
    Switched,
    Timed,
)
from watchdog.model.fault import Blame, Fault, FaultKind
from watchdog.model.gpu import GpuReading, MigInstance
from watchdog.model.load import Load
from watchdog.model.notice import Condition, Delivery, Notice, NoticeKind, Severity
from watchdog.model.objective import Objective
from watchdog.model.probe import Attribution, Part, Timing
from watchdog.model.route import Applied, Observed
from watchdog.model.verdict import Assessment, Confidence, Finding, Reason, Verdict
from watchdog.ports import Event


def probed(
    *findings: Finding, verdict: Verdict = Verdict.HEALTHY, model: str = MODEL, score: float = 0.25, **result: object
) -> Probed:
    assessment = Assessment(
        result=a_result(model=model, **result),
        verdict=verdict,
        findings=findings,
        scores={(OUTPUT, "max_abs"): score},
        confidences={OUTPUT: Confidence(value=0.9, top=0.9, entropy=0.3)},
    )
    return Probed(model=model, at=EPOCH + 1, assessment=assessment)


FAULT = Fault(kind=FaultKind.TIMEOUT, blame=Blame.SERVER, detail="no answer within 2 s")
OBJECTIVE = Objective(role=Role.FAST, measure="total", quantile=0.99, limit_s=0.05)
CONDITION = Condition(
    name="WatchdogEngineFault",
    severity=Severity.CRITICAL,
    summary="it is wrong",
    description="…",
    labels={"model": MODEL},
)


LOAD = Load(
    over_s=10.0,
    requests_per_s=20.0,
    inferences_per_s=40.0,
    failures_per_s={"REJECTED": 0.5},
    mean_s={Part.QUEUE: 0.001, Part.INPUT: 0.0005, Part.DEVICE: 0.002, Part.OUTPUT: 0.0005},
    batch_size=2.0,
    cache_hit_ratio=0.25,
    busy_ratio=0.04,
)
GPUS = GpuReading(
    source="nvml",
    state=a_reading().state,
    driver="550.54",
    cuda=(12, 4),
    gpus=(
        a_gpu(
            xids=(79,),
            throttled_by=frozenset({"hw-slowdown", "board-limit"}),
            mig=(MigInstance(uuid="MIG-1", total_bytes=5 * GIB, used_bytes=GIB),),
            processes=(
                a_process(),
                a_process(GIB // 2, pid=43),
                a_process(None, pid=44, name=""),
                a_process(7, name=""),
            ),
        ),
    ),
)


def timed(timing: Timing | None = None, *, model: str = MODEL, **result: object) -> Timed:
    return Timed(model=model, at=EPOCH + 9, result=a_result(model=model, timing=timing or a_timing(), **result))


def what_is_measured(model: str = MODEL) -> list[Event]:
    """One of each event of times, servers and GPUs."""
    return [
        timed(model=model),
        LoadSeen(model=model, at=EPOCH + 10, role=Role.FAST, load=LOAD),
        EngineSeen(
            model=model,
            at=EPOCH + 11,
            role=Role.FAST,
            tag="trt8.6.1-cuda11.8",
            findings=(a_finding(Reason.ENGINE_TAG, Verdict.SUSPECT),),
        ),
        GpuSeen(at=EPOCH + 12, reading=GPUS),
        GrowthSeen(at=EPOCH + 12, leak=a_leak()),
        SpansTaken(at=EPOCH + 13, outcome="matched", count=3),
    ]


def one_of_each(model: str = MODEL) -> list[Event]:
    return [
        Baselined(
            model=model,
            at=EPOCH,
            canaries=5,
            captured_at="2026-01-01T00:00:00+00:00",
            latency_limits={(Role.FAST, "opt"): 0.06, (Role.SAFE, "opt"): float("inf")},
            score_limits={(OUTPUT, "max_abs"): 0.1},
            latency_objectives=(OBJECTIVE,),
            confidences={OUTPUT: (0.02, 0.5, 0.9, 0.9)},
        ),
        probed(model=model, timing=Timing(sent_at=EPOCH, total_s=0.01, device_s=0.004, attribution=Attribution.TRACE)),
        probed(a_finding(Reason.ALL_ZERO), verdict=Verdict.FAILED, model=model, score=float("nan")),
        probed(a_finding(score=float("inf")), verdict=Verdict.FAILED, model=model, fault=FAULT, public=False),
        Diagnosed(model=model, at=EPOCH + 2, diagnosis=a_diagnosis(Conclusion.ENGINE_FAULT)),
        Proved(model=model, at=EPOCH + 2, role=Role.SAFE, ok=True, detail="proven"),
        RouteSeen(model=model, at=EPOCH + 3, observed=Observed(role=Role.SAFE, detail="it gets safe")),
        Switched(
            model=model,
            at=EPOCH + 4,
            to=Role.SAFE,
            applied=Applied(ok=True, detail="done", took_s=0.1),
            applied_at=EPOCH + 3.5,
            proven=True,
            detail="answered rightly",
        ),
        Commanded(model=model, at=EPOCH + 5, command=Command.HOLD, actor="ann", why="because"),
        Noticed(
            at=EPOCH + 6, notice=Notice(kind=NoticeKind.FIRST, condition=CONDITION, started_at=EPOCH, ends_at=EPOCH)
        ),
        Delivered(at=EPOCH + 7, channel="pager", notices=2, delivery=Delivery(ok=False, detail="away")),
        CycleFailed(model=model, at=EPOCH + 8, error="ZeroDivisionError: a bug"),
        ObjectiveSeen(model=model, at=EPOCH + 1, objective=OBJECTIVE, met=True),
        ObjectiveSeen(model=model, at=EPOCH + 1, objective=OBJECTIVE, met=False),
        Reported(model=model, at=EPOCH + 1, reading=OUTPUT, values=(0.1, 0.2), usual=True),
        Reported(model=model, at=EPOCH + 2, reading=OUTPUT, values=(0.97, 0.99), usual=False),
        Beaten(heartbeat="snitch", at=EPOCH + 8, ok=False, detail="away"),
        *what_is_measured(model),
        Story().roll_back().decisions[-1],
    ]
