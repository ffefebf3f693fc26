"""`watchdog grafana apply`, against a Grafana that answers as its API is documented."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from typer.testing import CliRunner

from tests.grafana.fake_grafana import TOKEN, VIEWER, FakeGrafana
from tests.service.conftest import Done
from watchdog.cli.grafana import app
from watchdog.grafana.apply import DASHBOARDS
from watchdog.transport import serve

OK, WOULD_CHANGE, WRONG_CALL, REFUSED = range(4)
FOLDER = "Inference watchdog"
FLEET = "inference-watchdog-fleet"
PROMETHEUS = "http://prometheus:9090"


@pytest.fixture
def token(tmp_path: Path) -> Path:
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    return file


@pytest.fixture
async def grafana() -> FakeGrafana:
    return FakeGrafana()


@pytest.fixture
async def url(grafana: FakeGrafana) -> AsyncIterator[str]:
    runner, url = await grafana.start()
    yield url
    await runner.cleanup()


async def apply(url: str, token: Path, *more: object) -> Done:
    """The command in a thread, beside the server that it asks."""

    def call() -> Done:
        arguments = ["apply", "--url", url, "--token-file", str(token), *map(str, more)]
        result = CliRunner().invoke(app, arguments, catch_exceptions=False)
        return Done(result.exit_code, result.stdout, result.stderr)

    return await asyncio.to_thread(call)


async def applied(url: str, token: Path, *more: object) -> dict[str, str]:
    """What became of each object."""
    done = await apply(url, token, "--json", *more)
    assert done.returncode in {OK, WOULD_CHANGE}, done.stderr
    return {f"{each['kind']} {each['name']}": each["change"] for each in json.loads(done.stdout)}


async def test_all_is_made_once_and_then_left_alone(grafana: FakeGrafana, url: str, token: Path) -> None:
    options = ("--prometheus-url", PROMETHEUS, "--alerts")
    first = await applied(url, token, *options)
    assert set(first.values()) == {"created"}
    (folder,) = grafana.folders.values()
    assert folder["title"] == FOLDER
    assert {each["meta"]["folderUid"] for each in grafana.dashboards.values()} == {folder["uid"]}
    assert len(grafana.dashboards) == len(DASHBOARDS)
    assert len(grafana.rules) > 40
    (source,) = grafana.sources.values()
    assert (source["url"], source["type"]) == (PROMETHEUS, "prometheus")

    grafana.written.clear()
    again = await applied(url, token, *options)
    assert again == dict.fromkeys(first, "unchanged")
    assert grafana.written == []


async def test_only_what_differs_is_written(grafana: FakeGrafana, url: str, token: Path) -> None:
    options = ("--prometheus-url", PROMETHEUS, "--alerts")
    await apply(url, token, *options)
    fleet = grafana.dashboards[FLEET]["dashboard"]
    fleet["panels"][1]["title"] = "edited on the page"
    grafana.rules["watchdog-locked"]["labels"]["severity"] = "info"
    grafana.written.clear()

    became = await applied(url, token, *options)
    assert {name for name, change in became.items() if change != "unchanged"} == {
        "dashboard Inference watchdog: fleet",
        "alert rule WatchdogLocked",
    }
    assert grafana.written == ["POST /api/dashboards/db", "PUT /api/v1/provisioning/alert-rules/watchdog-locked"]
    after = grafana.dashboards[FLEET]["dashboard"]
    assert (after["id"], after["version"]) == (fleet["id"], fleet["version"] + 1)
    assert after["panels"][1]["title"] != "edited on the page"
    assert grafana.rules["watchdog-locked"]["labels"]["severity"] == "critical"


async def test_a_panel_that_somebody_added_is_a_difference(grafana: FakeGrafana, url: str, token: Path) -> None:
    await apply(url, token)
    panels = grafana.dashboards[FLEET]["dashboard"]["panels"]
    panels.append({"title": "mine", "type": "text"})
    assert (await applied(url, token))["dashboard Inference watchdog: fleet"] == "changed"
    assert grafana.dashboards[FLEET]["dashboard"]["panels"] == panels[:-1]


async def test_a_dry_run_shows_and_writes_nothing(grafana: FakeGrafana, url: str, token: Path) -> None:
    done = await apply(url, token, "--dry-run", "--prometheus-url", PROMETHEUS, "--alerts")
    assert done.returncode == WOULD_CHANGE
    assert "would be created  folder  Inference watchdog" in done.stdout
    assert grafana.written == []

    await apply(url, token)
    grafana.dashboards[FLEET]["dashboard"]["title"] = "other"
    grafana.written.clear()
    done = await apply(url, token, "--dry-run")
    assert done.returncode == WOULD_CHANGE
    assert '-  "title": "other"' in done.stdout
    assert '+  "title": "Inference watchdog: fleet"' in done.stdout
    assert grafana.written == []

    await apply(url, token)
    done = await apply(url, token, "--dry-run")
    assert (done.returncode, "would be" in done.stdout) == (OK, False)


async def test_the_folder_is_found_by_its_title(grafana: FakeGrafana, url: str, token: Path) -> None:
    folder = grafana.folder("Radiology")
    became = await applied(url, token, "--folder", "Radiology")
    assert became["folder Radiology"] == "unchanged"
    assert grafana.dashboards[FLEET]["meta"]["folderUid"] == folder["uid"]


async def test_a_dashboard_in_another_folder_is_left_there_unless_forced(
    grafana: FakeGrafana, url: str, token: Path
) -> None:
    await apply(url, token)
    theirs = grafana.folder("Theirs")
    grafana.dashboards[FLEET]["meta"] |= {"folderUid": theirs["uid"], "folderTitle": "Theirs"}
    grafana.written.clear()

    done = await apply(url, token)
    assert done.returncode == REFUSED
    assert "is in the folder 'Theirs'" in done.stderr
    assert "--force" in done.stderr
    assert grafana.written == []

    assert (await applied(url, token, "--force"))["dashboard Inference watchdog: fleet"] == "changed"
    assert grafana.dashboards[FLEET]["meta"]["folderTitle"] == FOLDER


async def test_a_provisioned_dashboard_is_left_to_its_file(grafana: FakeGrafana, url: str, token: Path) -> None:
    folder = grafana.folder(FOLDER)
    grafana.dashboard({"uid": FLEET, "title": "x"}, folder["uid"], provisioned=True, provisionedExternalId="fleet.json")
    done = await apply(url, token)
    assert done.returncode == REFUSED
    assert "provisioning file (fleet.json)" in done.stderr


async def test_who_has_saved_meanwhile_is_not_overwritten(grafana: FakeGrafana, url: str, token: Path) -> None:
    await apply(url, token)
    grafana.dashboards[FLEET]["dashboard"]["title"] = "other"
    grafana.meanwhile = FLEET
    done = await apply(url, token)
    assert done.returncode == REFUSED
    assert "412" in done.stderr
    assert "apply again" in done.stderr
    assert grafana.dashboards[FLEET]["dashboard"]["title"] == "other"


async def test_a_named_data_source_is_chosen(grafana: FakeGrafana, url: str, token: Path) -> None:
    grafana.source(uid="p1", name="Mimir / EU", type="prometheus")
    grafana.source(uid="p2", name="other", type="prometheus")
    await apply(url, token, "--datasource", "Mimir / EU", "--alerts")
    first = grafana.dashboards[FLEET]["dashboard"]["templating"]["list"][0]
    assert first["current"] == {"text": "Mimir / EU", "value": "p1"}
    assert {rule["data"][0]["datasourceUid"] for rule in grafana.rules.values()} == {"p1"}

    done = await apply(url, token, "--datasource", "nobody")
    assert done.returncode == REFUSED
    assert "no data source 'nobody'" in done.stderr


async def test_what_others_set_of_our_data_source_stays(grafana: FakeGrafana, url: str, token: Path) -> None:
    await apply(url, token, "--prometheus-url", PROMETHEUS)
    (source,) = grafana.sources.values()
    source["jsonData"]["timeInterval"] = "5s"
    await apply(url, token, "--prometheus-url", "http://elsewhere:9090")
    assert source["url"] == "http://elsewhere:9090"
    assert source["jsonData"] == {"httpMethod": "POST", "timeInterval": "5s"}


async def test_rules_need_to_know_whom_to_ask(grafana: FakeGrafana, url: str, token: Path) -> None:
    grafana.source(uid="p1", name="one", type="prometheus")
    grafana.source(uid="l", name="logs", type="loki")
    await apply(url, token, "--alerts")
    assert {rule["data"][0]["datasourceUid"] for rule in grafana.rules.values()} == {"p1"}

    grafana.source(uid="p2", name="two", type="prometheus")
    done = await apply(url, token, "--alerts", "--json")
    assert done.returncode == REFUSED
    assert "one, two; choose with --datasource" in done.stderr
    assert len(json.loads(done.stdout)) == 1 + len(DASHBOARDS)  # what was done is told


async def test_runbooks_are_where_they_are_said_to_be(grafana: FakeGrafana, url: str, token: Path) -> None:
    grafana.source(uid="p1", name="one", type="prometheus")
    await apply(url, token, "--alerts", "--runbooks", "https://wiki/watchdog/")
    assert grafana.rules["watchdog-locked"]["annotations"]["runbook_url"] == "https://wiki/watchdog/WatchdogLocked"


async def test_a_prefix_is_kept(token: Path) -> None:
    grafana = FakeGrafana()
    runner, url = await grafana.start("/monitoring/grafana")
    try:
        assert set((await applied(f"{url}/", token)).values()) == {"created"}
    finally:
        await runner.cleanup()


@pytest.mark.parametrize(
    ("held", "advice"),
    [("glsa_old", "says 401: Invalid API key; the token is not accepted"), (VIEWER, "needs the role Editor")],
)
async def test_a_token_that_may_not_is_told_so(
    grafana: FakeGrafana, url: str, token: Path, held: str, advice: str
) -> None:
    token.write_text(held)  # noqa: ASYNC240 - a few bytes
    done = await apply(url, token)
    assert done.returncode == REFUSED
    assert advice in done.stderr
    assert held not in done.stderr


@asynccontextmanager
async def peer(answer: Callable[[web.Request], Any]) -> AsyncIterator[str]:
    async def handle(request: web.Request) -> web.StreamResponse:
        found: web.StreamResponse = answer(request)
        return found

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handle)
    runner, url = await serve(app, "127.0.0.1:0")
    try:
        yield url
    finally:
        await runner.cleanup()


def _page(status: int) -> Callable[[web.Request], web.Response]:
    def answer(request: web.Request) -> web.Response:
        return web.Response(status=status, text="<html>an error message</html>", content_type="text/html")

    return answer


def _closed(request: web.Request) -> web.Response:
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


def _elsewhere(request: web.Request) -> web.Response:
    return web.Response(status=302, headers={"Location": "https://login.example.org/"})


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (_page(200), "not in JSON"),
        (_page(404), "says 404: <html>an error message</html>"),
        (_page(502), "says 502: <html>an error message</html>"),
        (_closed, "does not answer"),
        (_elsewhere, "sends elsewhere"),
        (lambda _: web.json_response({"status": "ok"}), "is no Grafana"),
        (lambda _: web.json_response(7), "is no Grafana"),
        (lambda _: web.Response(status=204), "not in JSON"),
        (lambda _: web.json_response({"message": f"{TOKEN} is bad"}, status=500), "says 500: *** is bad"),
    ],
)
async def test_what_is_no_grafana_is_told_so(token: Path, answer: Callable[[web.Request], Any], said: str) -> None:
    async with peer(answer) as url:
        done = await apply(url, token)
    assert done.returncode == REFUSED
    assert said in done.stderr
    assert TOKEN not in done.stderr


@pytest.mark.parametrize("answer", [7, "x", {}, [7], [{"title": "x"}], None])
async def test_what_no_grafana_says_is_refused(token: Path, answer: Any) -> None:
    health = {"database": "ok"}
    async with peer(lambda r: web.json_response(health if r.path == "/api/health" else answer)) as url:
        done = await apply(url, token)
    assert done.returncode == REFUSED
    assert "has no such /api/folders" in done.stderr


async def test_a_dashboard_that_is_none_is_refused(grafana: FakeGrafana, url: str, token: Path) -> None:
    grafana.dashboards[FLEET] = {"dashboard": 7}
    done = await apply(url, token)
    assert done.returncode == REFUSED
    assert f"has no such /api/dashboards/uid/{FLEET}" in done.stderr


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--url", "grafana:3000"), "--url: not an http:// or https:// URL"),
        (("--prometheus-url", "http://p", "--datasource", "p"), "give one of them"),
        (("--prometheus-url", "p:9090"), "--prometheus-url: not an http"),
        (("--ca", "/nowhere.pem"), "--ca: there is no file /nowhere.pem"),
        (("--token-file", "/nowhere"), "--token-file: cannot read the secret file /nowhere"),
    ],
)
async def test_a_wrong_call_asks_nobody(token: Path, more: tuple[str, ...], said: str) -> None:
    done = await apply("http://127.0.0.1:1", token, *more)
    assert done.returncode == WRONG_CALL
    assert said in done.stderr
