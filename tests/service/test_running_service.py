"""`watchdog run` as a real process against a real Triton: ready, scraped, asked, commanded, reloaded."""

import json
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.service.conftest import MODEL, TOKEN, Run, Site, eventually, here, watchdog
from tests.triton_fixture import Mood

pytestmark = pytest.mark.triton
Start = Callable[[Path], Run]


def change(config: Path, **changes: object) -> None:
    config.write_text(yaml.safe_dump(yaml.safe_load(config.read_text()) | changes, sort_keys=False))


def series_of(text: str, model: str) -> list[str]:
    return [line for line in text.splitlines() if f'model="{model}"' in line]


def test_it_becomes_ready_and_says_so_everywhere(site: Site, run: Start, tmp_path: Path) -> None:
    service = run(site.configure(tmp_path))
    service.await_healthy()

    assert service.ask("/-/ready") == (200, "ready\n")
    assert service.ask("/-/healthy")[0] == 200
    status = service.status()
    assert status["alerts"] == []
    assert status["models"][MODEL]["policy"]["state"] == "serving-fast"
    assert status["models"][MODEL]["last"]["public"]["answered_by"] == f"{MODEL}/2"
    assert status["models"][MODEL]["healthy_at"] <= status["at"]
    assert status["models"][MODEL]["baseline"]["canaries"] == 6


def test_its_metrics_are_what_prometheus_wants(site: Site, run: Start, tmp_path: Path) -> None:
    service = run(site.configure(tmp_path))
    service.await_healthy()
    code, text = service.ask("/metrics")

    assert code == 200
    assert f'watchdog_state{{model="{MODEL}",state="serving-fast"}} 1.0' in text
    assert f'watchdog_probes_total{{engine="fast",model="{MODEL}",path="public",verdict="healthy"}}' in text
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed: apt install prometheus")
    linted = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True, text=True, check=False)
    assert (linted.returncode, linted.stdout, linted.stderr) == (0, "", "")


def test_commands_move_the_route_and_say_what_came_of_it(site: Site, run: Start, tmp_path: Path) -> None:
    service = run(site.configure(tmp_path))
    service.await_healthy()

    token = tmp_path / "token"
    back = watchdog("rollback", MODEL, "--why", "a drill [/]", "--url", service.url, "--token-file", token)
    assert back.returncode == 0, back.stderr
    assert "serving-fast → proving  rollback" in back.stdout
    assert "a drill [/]" in back.stdout
    assert "switching → serving-safe  switch-proven" in back.stdout
    assert site.triton.ready_versions(MODEL) == [1]
    service.await_healthy(service.mark())
    assert service.state() == "serving-safe"
    assert service.status()["models"][MODEL]["last"]["public"]["answered_by"] == f"{MODEL}/1"

    probed = watchdog("probe", tmp_path / "watchdog.yaml", "--json")
    assert probed.returncode == 0, "the public name is held against the engine that serves"
    assert json.loads(probed.stdout)["expected"] == "safe"

    again = service.command("rollback", MODEL)
    assert again.returncode == 0
    assert "serving-safe already" in again.stdout

    forth = service.command("promote", MODEL, "--json")
    assert forth.returncode == 0, forth.stderr
    assert [d["after"] for d in json.loads(forth.stdout)["decisions"]] == ["proving", "switching", "serving-fast"]
    assert site.triton.ready_versions(MODEL) == [1, 2]
    service.await_healthy(service.mark())


def test_a_promotion_of_a_broken_engine_is_taken_back(site: Site, run: Start, tmp_path: Path) -> None:
    probe = {"every": "200ms", "deadline": "3s", "proof_within": "300ms"}
    service = run(site.configure(tmp_path, models=[site.model(probe=probe)]))
    service.await_healthy()
    assert service.command("rollback", MODEL).returncode == 0
    site.feel(2, Mood.NAN)

    done = service.command("promote", MODEL)

    assert done.returncode == 1
    assert "promote was not done" in done.stderr
    assert service.state() == "serving-safe"
    assert site.triton.ready_versions(MODEL) == [1]


def test_a_rollback_to_an_unproven_engine_is_refused(site: Site, run: Start, tmp_path: Path) -> None:
    service = run(site.configure(tmp_path))
    service.await_healthy()
    site.feel(1, Mood.ZEROS)

    done = service.command("rollback", MODEL)

    assert done.returncode == 1
    assert "rollback was not done" in done.stderr
    assert site.triton.ready_versions(MODEL) == [1, 2]


def test_a_hold_keeps_a_bad_engine_serving_until_it_is_released(site: Site, run: Start, tmp_path: Path) -> None:
    service = run(site.configure(tmp_path))
    service.await_healthy()
    assert service.command("hold", MODEL).returncode == 0
    site.feel(2, Mood.ZEROS)
    eventually(lambda: service.status()["alerts"], "an alert while held")

    assert service.state() == "held"
    assert site.triton.ready_versions(MODEL) == [1, 2]
    assert service.command("release", MODEL).returncode == 0
    service.expect("switch", to="safe", proven=True)
    service.await_state("serving-safe")
    assert site.triton.ready_versions(MODEL) == [1]


def test_an_engine_that_goes_wrong_is_rolled_back_and_status_shows_it(site: Site, run: Start, tmp_path: Path) -> None:
    service = run(site.configure(tmp_path))
    service.await_healthy()
    calm = here("status", "--url", service.url)
    site.feel(2, Mood.NAN)

    diagnosis = service.expect("diagnosis")
    service.expect("switch", to="safe", proven=True)
    service.await_state("serving-safe")

    alarmed = here("status", "--url", service.url)
    as_json = here("status", "--url", service.url, "--json")

    assert (calm.returncode, alarmed.returncode, as_json.returncode) == (0, 1, 1)
    assert "serving-fast" in calm.stdout
    assert "WatchdogEngineRolledBack" in alarmed.stdout
    assert "\x1b" not in calm.stdout + alarmed.stdout
    assert json.loads(as_json.stdout)["alerts"][0]["alert"] == "WatchdogEngineRolledBack"
    assert (diagnosis["conclusion"], diagnosis["reason"]) == ("engine-fault", "non-finite")
    assert site.triton.ready_versions(MODEL) == [1]


def test_commands_need_the_right_token(site: Site, run: Start, tmp_path: Path) -> None:
    service = run(site.configure(tmp_path))
    service.await_healthy()
    path = f"/api/v1/models/{MODEL}/hold"

    assert service.ask(path, body={})[0] == 401
    assert service.ask(path, body={}, token="wrong")[0] == 401
    assert service.ask("/-/reload", method="POST", token="wrong")[0] == 401
    assert service.state() == "serving-fast"
    assert service.ask(path, body={}, token=TOKEN)[0] == 200
    assert service.state() == "held"
    (tmp_path / "token").write_text("rotated")
    assert service.ask(path, body={}, token=TOKEN)[0] == 401
    (tmp_path / "token").unlink()
    assert service.ask(path, body={}, token=TOKEN)[0] == 503


def test_without_a_token_there_are_no_commands(site: Site, run: Start, tmp_path: Path) -> None:
    service = run(site.configure(tmp_path, api={"listen": "127.0.0.1:0"}))
    service.await_healthy()

    code, text = service.ask(f"/api/v1/models/{MODEL}/hold", body={}, token=TOKEN)

    assert code == 403
    assert "api.token.file" in text


@pytest.mark.parametrize("how", ["SIGHUP", "POST"])
def test_a_reload_takes_models_in_and_forgets_them(site: Site, run: Start, tmp_path: Path, how: str) -> None:
    config = site.configure(tmp_path)
    service = run(config)
    service.await_healthy()

    def reload() -> None:
        if how == "SIGHUP":
            service.signal(signal.SIGHUP)
        else:
            assert service.ask("/-/reload", method="POST", token=TOKEN) == (200, '{"reloaded":true}')

    second = site.model(
        name="second", engines={r: {"model": MODEL, "version": v} for r, v in (("fast", 2), ("safe", 1))}
    )
    second |= {"public": {"model": MODEL}, "policy": {"action": "alert"}, "baseline": str(tmp_path / "second")}
    shutil.copytree(site.folder / "baseline", tmp_path / "second")
    manifest = next((tmp_path / "second").glob("*.json"))
    manifest.write_text(manifest.read_text().replace(f'"model": "{MODEL}"', '"model": "second"'))
    change(config, models=[site.model(), second])
    reload()
    service.await_healthy(model="second")
    service.await_healthy(service.mark())
    assert set(service.status()["models"]) == {MODEL, "second"}
    assert series_of(service.ask("/metrics")[1], "second")

    change(config, models=[site.model()])
    reload()
    eventually(lambda: set(service.status()["models"]) == {MODEL}, "the second model is forgotten")
    service.await_healthy(service.mark())
    assert series_of(service.ask("/metrics")[1], "second") == []
    assert series_of(service.ask("/metrics")[1], MODEL)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"models": []}, "models: needs at least 1"),
        ({"state": "elsewhere"}, "api.listen, api.tls, state and traces change only with a restart"),
        ({"endpoints": [{"name": "triton", "kind": "triton-grpc", "url": "nonsense"}]}, "endpoints[0].url"),
    ],
)
def test_a_bad_reload_changes_nothing_and_says_why(
    site: Site, run: Start, tmp_path: Path, changes: dict[str, object], said: str
) -> None:
    config = site.configure(tmp_path)
    service = run(config)
    service.await_healthy()

    change(config, **changes)
    code, text = service.ask("/-/reload", method="POST", token=TOKEN)
    service.signal(signal.SIGHUP)
    failure = service.expect("watchdog failure")

    assert code == 409
    assert said in text
    assert "the old configuration goes on" in failure["error"]
    assert said in failure["error"]
    service.await_healthy(service.mark())
    assert service.state() == "serving-fast"


def test_a_reload_without_its_baseline_is_refused(site: Site, run: Start, tmp_path: Path) -> None:
    config = site.configure(tmp_path)
    service = run(config)
    service.await_healthy()

    change(config, models=[site.model(baseline="nowhere")])
    code, text = service.ask("/-/reload", method="POST", token=TOKEN)

    assert code == 409
    assert "capture one with `watchdog baseline" in text
    service.await_healthy(service.mark())


def test_a_reload_keeps_what_the_policy_remembers(site: Site, run: Start, tmp_path: Path) -> None:
    service = run(site.configure(tmp_path))
    service.await_healthy()
    assert service.command("hold", MODEL).returncode == 0

    assert service.ask("/-/reload", method="POST", token=TOKEN)[0] == 200

    service.await_healthy(service.mark())
    assert service.state() == "held"
