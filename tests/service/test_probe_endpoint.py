"""``/probe`` of a running watchdog, against a real Triton and by a real Prometheus."""

import json
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlencode

import pytest
import yaml

from tests.service.conftest import MODEL, Run, Site, eventually
from tests.triton_fixture import Mood
from watchdog.demo import prometheus
from watchdog.demo.prometheus import Prometheus

pytestmark = pytest.mark.triton
Start = Callable[[Path], Run]
EXAMPLE = Path(__file__).parents[2] / "examples" / "prometheus" / "probe.yaml"


@pytest.fixture
def service(site: Site, run: Start, tmp_path: Path) -> Run:
    modules = [
        {"name": "any", "model": MODEL, "targets": ["127.0.0.1:*", "127.0.0.*:1"]},
        {"name": "fast", "model": MODEL, "engine": "fast", "targets": ["127.0.0.1:*"], "deadline": "1s"},
    ]
    # Rarely itself: all its engines' answers here are the modules'.
    started = run(
        site.configure(tmp_path, modules=modules, models=[site.model(probe={"every": "1h", "deadline": "3s"})])
    )
    started.await_healthy()
    return started


def probe(service: Run, target: str, module: str = "any", **more: str) -> tuple[int, str]:
    return service.ask(f"/probe?{urlencode({'module': module, 'target': target} | more)}")


def value(text: str, name: str) -> float:
    return next(float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith(f"{name} "))


def test_a_healthy_server_succeeds_with_metrics_that_promtool_likes(service: Run, site: Site) -> None:
    before = service.ask("/metrics")[1].count("\nwatchdog_probes_total")
    code, text = probe(service, site.triton.grpc_url)
    assert (code, value(text, "probe_success")) == (200, 1)
    assert f'watchdog_probe_answered_info{{model="{MODEL}",version="2"}} 1.0' in text
    assert value(text, 'watchdog_probe_score{measure="dice",output="heatmap"}') > 0.99
    assert service.ask("/metrics")[1].count("\nwatchdog_probes_total") == before
    assert service.status()["models"][MODEL]["probes"] == 1, "the modules' probes are none of the model's"
    if (promtool := shutil.which("promtool")) is None:
        pytest.skip("promtool is not installed: apt install prometheus")
    linted = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True, text=True, check=False)
    assert (linted.returncode, linted.stdout, linted.stderr) == (0, "", "")


@pytest.mark.parametrize(("mood", "reason"), [(Mood.ZEROS, "all-zero"), (Mood.NAN, "non-finite")])
def test_a_wrong_answer_fails_with_its_reason_and_moves_nothing(
    service: Run, site: Site, mood: Mood, reason: str
) -> None:
    site.feel(2, mood)
    code, text = probe(service, site.triton.grpc_url)
    assert (code, value(text, "probe_success")) == (200, 0)
    assert f'watchdog_probe_finding{{reason="{reason}"}} 1.0' in text
    assert 'watchdog_probe_verdict{verdict="failed"} 1.0' in text
    assert service.state() == "serving-fast"
    assert site.triton.ready_versions(MODEL) == [1, 2]


def test_a_dead_target_is_a_failed_probe_and_no_error(service: Run) -> None:
    code, text = probe(service, "127.0.0.1:1")
    assert (code, value(text, "probe_success")) == (200, 0)
    assert 'watchdog_probe_finding{reason="no-answer"} 1.0' in text


@pytest.mark.parametrize(
    ("module", "target", "code", "said"),
    [
        ("other", "127.0.0.1:1", 400, "there are: any, fast"),
        ("any", "127.0.0.1:99999", 400, "is no server's address"),
        ("any", "127.0.0.1.evil.example:8001", 403, "add it to `targets`"),
        ("any", "http://127.0.0.1:8001", 403, "add it to `targets`"),
    ],
)
def test_what_can_be_wrong_with_a_call(service: Run, module: str, target: str, code: int, said: str) -> None:
    got, text = probe(service, target, module)
    assert got == code
    assert said in json.loads(text)["error"]


def test_debug_tells_the_whole_story(service: Run, site: Site) -> None:
    code, text = probe(service, site.triton.grpc_url, "fast", debug="true")
    assert code == 200
    assert f"to {MODEL}/2" in text
    assert f"answered by {MODEL}/2 after " in text
    assert "heatmap dice 1, at least 0.9" in text
    assert "probe_success 1.0" in text
    assert json.loads(text.partition("The module:\n")[2]) == {
        "name": "fast",
        "model": MODEL,
        "engine": "fast",
        "targets": ["127.0.0.1:*"],
        "deadline": "1s",
    }


def test_a_silent_server_is_given_up_before_the_scrape_is(service: Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"{service.url}/probe?module=any&target=127.0.0.1:{silent.getsockname()[1]}"
        asked = urllib.request.Request(url, headers={"X-Prometheus-Scrape-Timeout-Seconds": "1.2"})
        began = time.monotonic()
        with urllib.request.urlopen(asked, timeout=20) as response:
            text = response.read().decode()
    assert value(text, "probe_success") == 0
    assert 0.5 < value(text, "probe_duration_seconds") < min(3, time.monotonic() - began)


def test_fifty_targets_are_asked_side_by_side(service: Run, site: Site) -> None:
    dead = [f"127.0.0.{i}:1" for i in range(2, 27)]
    alive = [site.triton.grpc_url, f"127.0.0.1:{site.triton.grpc_url.rpartition(':')[2]}"]
    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(lambda target: probe(service, target), [*dead, *(alive * 13)[:25]]))
    assert {code for code, _ in answers} <= {200, 503}
    successes = [value(text, "probe_success") for code, text in answers if code == 200]
    assert 0 in successes
    assert 1 in successes
    assert probe(service, alive[0])[0] == 200


def test_a_reload_lets_go_of_all_targets_and_knows_new_ones(service: Run, site: Site, tmp_path: Path) -> None:
    assert value(probe(service, site.triton.grpc_url)[1], "probe_success") == 1
    config = yaml.safe_load(service.config.read_text())
    config["modules"] = [config["modules"][0] | {"name": "renamed"}]
    service.config.write_text(yaml.safe_dump(config))
    assert service.ask("/-/reload", method="POST", token="a-token-for-tests")[0] == 200
    assert probe(service, site.triton.grpc_url)[0] == 400
    assert value(probe(service, site.triton.grpc_url, "renamed")[1], "probe_success") == 1


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not on PATH")
def test_promtool_accepts_the_example() -> None:
    checked = subprocess.run(["promtool", "check", "config", str(EXAMPLE)], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.skipif(prometheus.available() is not None, reason=str(prometheus.available()))
def test_a_real_prometheus_scrapes_through_the_examples_relabelling(service: Run, site: Site, tmp_path: Path) -> None:
    (job,) = yaml.safe_load(EXAMPLE.read_text())["scrape_configs"]
    targets = [site.triton.grpc_url, "127.0.0.1:1"]
    job |= {"scrape_interval": "1s", "scrape_timeout": "1s", "params": {"module": ["any"]}}
    job["static_configs"] = [{"targets": targets}]
    job["relabel_configs"][-1]["replacement"] = service.url.removeprefix("http://")
    scraping = Prometheus(tmp_path / "prometheus", [])
    scraping._config["scrape_configs"] = [job]

    def successes() -> dict[str, str]:
        found = scraping.ask("query", query="probe_success")["result"]
        return {each["metric"]["instance"]: each["value"][1] for each in found}

    with scraping:
        wanted = dict(zip(targets, ("1", "0"), strict=True))
        eventually(lambda: successes() == wanted, f"{wanted}; now {successes()}")
        ups = scraping.ask("query", query="up")["result"]
    assert [each["value"][1] for each in ups] == ["1", "1"], "a failed probe is no failed scrape"
