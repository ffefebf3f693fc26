"""Opinions by Prometheus: a real one with real samples, and a faithful one for what a real one rarely says."""

import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from pydantic import ValidationError

from tests.sharing.prometheus import MISSING, exposition, prometheus
from watchdog.sharing.quorum import Tally, Uncounted
from watchdog.sharing.votes_prometheus import PrometheusQuorumSettings, PrometheusVotes

SAMPLES = {
    ("lung", "a"): (1, 0),
    ("lung", "b"): (1, 10),
    ("lung", "c"): (0, 20),
    ("lung", "gone"): (1, 200),
    ("sound", "a"): (0, 0),
    ("left", "a"): (1, 200),
    ('we"ird\\', "a"): (1, 0),
    ("blind", "a"): (float("nan"), 0),
}

real = pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    work: Path = tmp_path_factory.mktemp("prometheus")
    with prometheus(work, exposition(SAMPLES, time.time())) as url:
        yield url


def votes_at(url: str, **more: Any) -> PrometheusVotes:
    data = {"by": "prometheus", "url": url, "need": 2, "fresh": "100s", **more}
    return PrometheusVotes(PrometheusQuorumSettings.model_validate(data))


@real
@pytest.mark.parametrize(
    ("model", "tally"),
    [
        ("lung", Tally(faulty=2, alive=3)),
        ("sound", Tally(faulty=0, alive=1)),
        ('we"ird\\', Tally(faulty=1, alive=1)),
    ],
)
async def test_it_counts_what_was_scraped_lately(server: str, model: str, tally: Tally) -> None:
    assert await votes_at(server).count(model) == tally


@real
async def test_what_is_fresh_is_a_setting(server: str) -> None:
    assert await votes_at(server, fresh="290s").count("lung") == Tally(faulty=3, alive=4)


@real
@pytest.mark.parametrize("model", ["unknown", "left"])
async def test_a_model_that_nobody_speaks_of_is_not_taken_for_sound(server: str, model: str) -> None:
    counted = await votes_at(server).count(model)

    assert isinstance(counted, Uncounted)
    assert f"knows of no watchdog of {model}" in counted.detail


@real
@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"faulty": 'watchdog_engine_fault{model="$model"}'}, "gives 4 series: make them one, with sum() or count()"),
        ({"faulty": 'sum(watchdog_engine_fault{model="$model"}'}, "400"),
        ({"alive": 'watchdog_engine_fault{model="$model"}[5m]'}, "neither a scalar nor one series"),
        ({"alive": 'vector(0.5) or vector(1) * scalar(up{a="$model"})'}, "0.5 is no number of watchdogs"),
        ({"alive": '"$model"'}, "neither a scalar nor one series"),
    ],
)
async def test_an_expression_that_gives_no_number_is_named(server: str, more: dict[str, str], said: str) -> None:
    counted = await votes_at(server, **more).count("lung")

    assert isinstance(counted, Uncounted)
    assert said in counted.detail
    assert f"`{next(iter(more))}`" in counted.detail


@real
async def test_a_scalar_will_do(server: str) -> None:
    votes = votes_at(server, alive='scalar(count(watchdog_engine_fault{model="$model"}))')
    assert await votes.count("lung") == Tally(faulty=2, alive=4)


@real
async def test_what_is_no_number_is_not_counted(server: str) -> None:
    counted = await votes_at(server).count("blind")

    assert isinstance(counted, Uncounted)
    assert "NaN is no number of watchdogs" in counted.detail


@asynccontextmanager
async def answering(status: int, body: Any) -> AsyncIterator[tuple[str, list[web.Request]]]:
    """A server that answers every query so, below a path as behind a proxy."""
    asked: list[web.Request] = []

    async def answer(request: web.Request) -> web.Response:
        asked.append(request)
        return web.json_response(body, status=status) if not isinstance(body, str) else web.Response(text=body)

    app = web.Application()
    app.router.add_get("/prometheus/api/v1/query", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/prometheus", asked
    finally:
        await runner.cleanup()


def success(result: list[Any], kind: str = "vector", **more: Any) -> dict[str, Any]:
    return {"status": "success", "data": {"resultType": kind, "result": result}, **more}


ONE = [{"metric": {}, "value": [1.7e9, "1"]}]


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (200, success(ONE, warnings=["store 2 of 3 did not answer"]), "may be partial"),
        (200, {"status": "error", "error": "no"}, "no answer of Prometheus' HTTP API"),
        (200, [], "no answer of Prometheus' HTTP API"),
        (200, "<html>", "not in JSON"),
        (200, {"status": "success", "data": None}, "neither a scalar nor one series"),
        (200, success([{"metric": {}, "value": [1.7e9, 1]}]), "1 series"),
        (200, success([1.7e9, "-1"], "scalar"), "-1 is no number of watchdogs"),
        (200, success([1.7e9, "+Inf"], "scalar"), "+Inf is no number of watchdogs"),
        (200, success([1.7e9, "x\ny"], "scalar"), "x y is no number of watchdogs"),
        (401, {}, "secret_headers"),
        (503, {"status": "error", "errorType": "timeout", "error": "query timed out"}, "query timed out"),
    ],
)
async def test_an_answer_that_can_t_be_counted_on(status: int, body: Any, said: str) -> None:
    async with answering(status, body) as (url, _):
        counted = await votes_at(url).count("lung")

    assert isinstance(counted, Uncounted)
    assert said in counted.detail
    assert counted.detail.isprintable()


async def test_secrets_are_sent_and_notes_are_no_warnings(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("Bearer abc")
    async with answering(200, success(ONE, infos=["metric might not be a counter"])) as (url, asked):
        votes = votes_at(url, secret_headers={"Authorization": {"file": tmp_path / "token"}})
        assert await votes.count("lung") == Tally(faulty=1, alive=1)

    assert {request.headers["Authorization"] for request in asked} == {"Bearer abc"}


async def test_a_server_that_is_down() -> None:
    votes = votes_at("127.0.0.1:1")
    await votes.cast("lung", "zeros")
    await votes.keep()
    counted = await votes.count("lung")
    await votes.close()

    assert isinstance(counted, Uncounted)
    assert "can't connect" in counted.detail


def test_an_expression_must_name_the_model() -> None:
    with pytest.raises(ValidationError, match="must say which model it counts for"):
        votes_at("127.0.0.1:9090", alive="count(watchdog_engine_fault)")
