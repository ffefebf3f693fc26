"""``/probe`` over real sockets: as blackbox's callers know it, and what a caller can get wrong."""

import math
import re
from collections.abc import AsyncIterator

import aiohttp
import pytest

from tests.core.builders import a_finding, a_result, assessed
from tests.core.test_api import FakeService, error_of, listening
from watchdog.model.engine import Answerer
from watchdog.model.fault import Blame, Fault, FaultKind
from watchdog.model.module_probe import ModuleProbe, Refusal, Refused
from watchdog.model.probe import Attribution, Part, Timing
from watchdog.model.verdict import Assessment, Confidence, Reason, Verdict
from watchdog.telemetry import probe_metrics
from watchdog.telemetry.declared import DECLARED

QUERY = {"module": "m", "target": "triton:8001"}


@pytest.fixture
def service() -> FakeService:
    return FakeService()


@pytest.fixture
async def client(service: FakeService) -> AsyncIterator[aiohttp.ClientSession]:
    async with listening(service) as session:
        yield session


async def test_metrics_are_as_the_scraper_wants_them(client: aiohttp.ClientSession) -> None:
    async with client.get("/probe", params=QUERY) as response:
        assert response.status == 200
        assert response.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        assert "probe_success 1.0\n" in await response.text()


async def test_with_debug_they_come_with_their_story(client: aiohttp.ClientSession) -> None:
    async with client.get("/probe", params=QUERY | {"debug": "true"}) as response:
        text = await response.text()
    assert (response.status, response.content_type) == (200, "text/plain")
    assert "sent canary c0 (shape opt, payload seed 7) to nodule" in text
    assert "probe_success 1.0\n" in text


@pytest.mark.parametrize(("said", "within_s"), [(None, None), ("10", 9.5), ("2.25", 1.75), ("0.1", -0.4)])
async def test_the_scrapes_timeout_less_half_a_second_is_what_it_may_take(
    service: FakeService, client: aiohttp.ClientSession, said: str | None, within_s: float | None
) -> None:
    headers = {} if said is None else {"X-Prometheus-Scrape-Timeout-Seconds": said}
    async with client.get("/probe", params=QUERY, headers=headers) as response:
        assert response.status == 200
    assert service.probes == [("m", "triton:8001", within_s if within_s is None else pytest.approx(within_s))]


@pytest.mark.parametrize(
    ("query", "within", "said"),
    [
        ("", "10", "must have a `module` and a `target`"),
        ("module=m", "10", "must have a `module` and a `target`"),
        ("module=m&target=", "10", "must have a `module` and a `target`"),
        ("module=m&target=t&target=u", "10", "each once"),
        ("module=m&target=t&modle=x", "10", "nothing else"),
        ("module=m&target=t&debug=1", "10", "debug: write true or false"),
        ("module=m&target=t", "ten", "write seconds"),
        ("module=m&target=t", "-1", "write seconds"),
        ("module=m&target=t", "1e9", "write seconds"),
    ],
)
async def test_a_malformed_call_asks_nobody(
    service: FakeService, client: aiohttp.ClientSession, query: str, within: str, said: str
) -> None:
    headers = {"X-Prometheus-Scrape-Timeout-Seconds": within}
    async with client.get(f"/probe?{query}", headers=headers) as response:
        assert response.status == 400
        assert said in await error_of(response)
    assert service.probes == []


@pytest.mark.parametrize(
    ("reason", "status"),
    [
        (Refusal.NO_SUCH_MODULE, 400),
        (Refusal.MALFORMED, 400),
        (Refusal.NO_TIME, 400),
        (Refusal.NOT_ALLOWED, 403),
        (Refusal.BUSY, 503),
    ],
)
async def test_a_refusal_has_its_status_and_says_what_to_do(
    service: FakeService, client: aiohttp.ClientSession, reason: Refusal, status: int
) -> None:
    service.refuses = Refused(reason=reason, detail="do this")
    async with client.get("/probe", params=QUERY) as response:
        assert (response.status, await error_of(response)) == (status, "do this")
        assert response.headers.get("Retry-After") == ("1" if status == 503 else None)


def a_probe(assessment: Assessment, limit_s: float = 0.1) -> ModuleProbe:
    return ModuleProbe(
        module="m",
        target="triton:8001",
        took_s=0.02,
        waited_s=0.001,
        deadline_s=2.0,
        assessment=assessment,
        latency_limit_s=limit_s,
        score_limits={("p", "max_abs"): 0.1, ("p", "cosine"): 0.9},
        settings={"name": "m"},
    )


def samples(probe: ModuleProbe) -> dict[str, float]:
    lines = (line for line in probe_metrics.render(probe).decode().splitlines() if not line.startswith("#"))
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}


WHOLE = Timing(
    sent_at=0.0,
    total_s=0.005,
    device_s=0.002,
    attribution=Attribution.TRACE,
    parts={Part.QUEUE: 0.003, Part.DEVICE: 0.002},
)


def test_a_probe_has_all_its_numbers() -> None:
    result = a_result(timing=WHOLE, answered_by=Answerer(model="nodule", version="2"))
    assessment = Assessment(
        result=result,
        verdict=Verdict.FAILED,
        findings=(a_finding(Reason.PARITY), a_finding(Reason.PARITY), a_finding(Reason.LATENCY, Verdict.SUSPECT)),
        scores={("p", "max_abs"): math.nan},
        confidences={"p": Confidence(value=0.75, top=0.75, entropy=0.5)},
    )
    found = samples(a_probe(assessment, math.inf))
    assert math.isnan(found.pop('watchdog_probe_score{measure="max_abs",output="p"}'))
    assert found == {
        "probe_success": 0,
        "probe_duration_seconds": 0.02,
        **{f'watchdog_probe_verdict{{verdict="{v}"}}': float(v is Verdict.FAILED) for v in Verdict},
        'watchdog_probe_finding{reason="parity"}': 1,
        'watchdog_probe_finding{reason="latency"}': 1,
        'watchdog_probe_score_limit{measure="max_abs",output="p"}': 0.1,
        'watchdog_probe_score_limit{measure="cosine",output="p"}': 0.9,
        "watchdog_probe_answer_seconds": 0.005,
        "watchdog_probe_answer_limit_seconds": math.inf,
        'watchdog_probe_answer_device_seconds{attribution="trace"}': 0.002,
        'watchdog_probe_answer_host_seconds{attribution="trace"}': 0.003,
        'watchdog_probe_answer_part_seconds{part="queue"}': 0.003,
        'watchdog_probe_answer_part_seconds{part="device"}': 0.002,
        'watchdog_probe_confidence_ratio{output="p"}': 0.75,
        'watchdog_probe_answered_info{model="nodule",version="2"}': 1,
        'watchdog_probe_canary_info{canary="c0",profile="opt"}': 1,
    }


def test_without_an_answer_there_is_no_time_of_one() -> None:
    fault = Fault(kind=FaultKind.REFUSED, blame=Blame.NETWORK, detail="nothing listens")
    probe = a_probe(assessed(a_finding(Reason.NO_ANSWER, Verdict.INCONCLUSIVE), fault=fault))
    found = samples(probe)
    assert found["probe_success"] == 0
    assert found['watchdog_probe_verdict{verdict="inconclusive"}'] == 1
    assert not any("answered" in name or name == "watchdog_probe_answer_seconds" for name in found)
    assert "nothing listens" in probe_metrics.story(probe)


def test_a_slow_answer_is_no_success() -> None:
    assert samples(a_probe(assessed(a_finding(Reason.LATENCY, Verdict.SUSPECT))))["probe_success"] == 0


def test_no_metric_is_also_one_of_the_watchdogs_own() -> None:
    own = {row.name for row in DECLARED}
    assert not own & set(probe_metrics.NAMES)
    assert all(re.fullmatch(r"(watchdog_)?probe_[a-z_]+", name) for name in probe_metrics.NAMES)
