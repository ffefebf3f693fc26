"""The examples for controllers, as they are in the folder: called, evaluated and run as their readers do it."""

import asyncio
import json
import re
import shutil
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml
from yarl import URL

from tests.core.test_api import listening
from tests.core.test_hooks import FAIL, INCONCLUSIVE, PASS, Ward, gate
from tests.service.conftest import eventually
from tests.service.test_gate_command import ask
from tests.service.test_gate_command import listening as serving
from watchdog.api.hooks_flagger import Hook
from watchdog.api.service import NoSuchModelError
from watchdog.demo import alertmanager
from watchdog.demo.alertmanager import Alertmanager
from watchdog.model.event import Command
from watchdog.model.gate import Gate, Passage
from watchdog.policy.states import State

EXAMPLES = Path(__file__).parents[2] / "examples"
MODEL = "lung_nodule"
TOKEN = "TOKEN"  # as the examples have it


def read(name: str) -> Any:
    return yaml.safe_load((EXAMPLES / name).read_text())


class Site(Ward):
    """Watches the examples' model, and has their token."""

    def __init__(self) -> None:
        super().__init__()
        self.model = MODEL
        self.the_token = TOKEN

    def _watched(self, model: str) -> None:
        if self.not_ready or model != self.model:
            raise NoSuchModelError(f"no model {model!r} is watched")


@pytest.fixture
def site() -> Site:
    return Site()


@pytest.fixture
async def client(site: Site) -> AsyncIterator[aiohttp.ClientSession]:
    async with listening(site) as session:
        yield session


# Flagger

WEBHOOKS = read("flagger/canary.yaml")["spec"]["analysis"]["webhooks"]
PHASES = {Hook.CONFIRM_ROLLOUT: "Waiting", Hook.POST_ROLLOUT: "Succeeded"}


async def call(client: aiohttp.ClientSession, webhook: dict[str, Any]) -> bool:
    """One of the Canary's webhooks, as Flagger calls it and takes the answer."""
    canary = read("flagger/canary.yaml")["metadata"]
    told = {"eventMessage": "New revision detected!", "eventType": "Normal", "timestamp": "1767268800000"}
    payload = {
        "name": canary["name"],
        "namespace": canary["namespace"],
        "phase": PHASES.get(webhook["type"], "Progressing"),
        "checksum": "5d8b6cf9c4",
        "metadata": (webhook["metadata"] | told) if webhook["type"] == Hook.EVENT else webhook["metadata"],
    }
    headers = {"Content-Type": "application/json", "User-Agent": "Go-http-client/1.1"}
    data = json.dumps(payload, separators=(",", ":"), sort_keys=True).encode()
    async with client.post(URL(webhook["url"]).path, data=data, headers=headers) as response:
        return response.status <= 202


def test_every_type_of_webhook_is_in_the_example_at_the_service_that_can_answer() -> None:
    assert [webhook["type"] for webhook in WEBHOOKS] == list(Hook)
    for webhook in WEBHOOKS:
        url = URL(webhook["url"])
        assert url.path == f"/hooks/flagger/{MODEL}/{webhook['type']}"
        runs_no_canary = webhook["type"] in {Hook.CONFIRM_ROLLOUT, Hook.POST_ROLLOUT, Hook.EVENT}
        assert url.host == f"lung-nodule-{'primary' if runs_no_canary else 'canary'}.imaging"
        assert url.port == 9469


@pytest.mark.parametrize("webhook", WEBHOOKS, ids=[webhook["type"] for webhook in WEBHOOKS])
@pytest.mark.parametrize("passage", Passage)
async def test_flaggers_webhooks_say_what_the_gate_says(
    site: Site, client: aiohttp.ClientSession, webhook: dict[str, Any], passage: Passage
) -> None:
    site.the_gate = gate(passage)
    yes = {
        Hook.CONFIRM_ROLLOUT: passage is not FAIL,
        Hook.ROLLBACK: passage is FAIL,
        Hook.POST_ROLLOUT: True,
        Hook.EVENT: True,
    }
    assert await call(client, webhook) is yes.get(webhook["type"], passage is PASS)
    assert TOKEN not in str(site.notes)


@pytest.mark.parametrize("webhook", WEBHOOKS, ids=[webhook["type"] for webhook in WEBHOOKS])
@pytest.mark.parametrize("token", ["wrong", "", None])
async def test_flaggers_webhooks_are_nothing_without_the_token(
    site: Site, client: aiohttp.ClientSession, webhook: dict[str, Any], token: str | None
) -> None:
    site.the_gate = gate(FAIL if webhook["type"] == Hook.ROLLBACK else PASS)
    metadata = {} if token is None else {"token": token}
    assert not await call(client, webhook | {"metadata": metadata})
    assert (site.commands, site.notes) == ([], [])


# Argo Rollouts

METRIC = read("argo-rollouts/analysis-template.yaml")["spec"]["metrics"][0]


def fill(text: str, **arguments: str) -> str:
    """The template's text, with its arguments."""
    return re.sub(r"\{\{args\.([a-z]+)\}\}", lambda match: arguments[match[1]], text)


def condition(text: str, result: Any) -> bool:
    """A condition in the only form that the example has."""
    match = re.fullmatch(r'result == "([a-z]+)"', text)
    assert match, text
    return bool(result == match[1])


async def measure(url: str, model: str) -> str:
    """One measurement by the provider `web`: its phase."""
    web = METRIC["provider"]["web"]
    target = fill(web["url"], watchdog=url.removeprefix("http://"), model=model)
    timeout = aiohttp.ClientTimeout(total=web["timeoutSeconds"])
    try:
        async with aiohttp.ClientSession(timeout=timeout) as session, session.get(target) as response:
            if not 200 <= response.status < 300:
                return "Error"
            text = await response.text()
    except (aiohttp.ClientError, TimeoutError):
        return "Error"
    try:
        data = json.loads(text, parse_constant=_refuse)
    except ValueError:
        return "Successful"  # so it is: what is no JSON skips the conditions
    path = re.fullmatch(r"\{\$\.([a-z_]+)\}", web["jsonPath"])
    assert path
    if path[1] not in data:
        return "Error"
    result = data[path[1]]
    if condition(METRIC["failureCondition"], result):
        return "Failed"
    return "Successful" if condition(METRIC["successCondition"], result) else "Inconclusive"


def _refuse(constant: str) -> float:
    raise ValueError(constant)


@pytest.mark.parametrize(
    ("says", "phase"),
    [
        *((gate(PASS, state), "Successful") for state in (State.SERVING_FAST, State.PROBATION)),
        *((gate(FAIL, state), "Failed") for state in (State.SERVING_SAFE, State.DEGRADED, State.HELD)),
        *((gate(INCONCLUSIVE, state), "Inconclusive") for state in State),
    ],
    ids=lambda value: f"{value.passage}-{value.state}" if isinstance(value, Gate) else value,
)
async def test_every_state_of_the_gate_is_the_right_phase_to_argo(site: Site, says: Gate, phase: str) -> None:
    site.the_gate = says
    async with serving(site) as url:
        assert await measure(url, MODEL) == phase


@pytest.mark.parametrize(
    "wrong",
    [{"not_ready": "the canaries are being loaded"}, {"model": "liver"}, {"gate_fails": RuntimeError("a bug")}],
)
async def test_what_can_not_be_asked_is_an_error_to_argo(site: Site, wrong: dict[str, Any]) -> None:
    for name, value in wrong.items():
        setattr(site, name, value)
    async with serving(site) as url:
        assert await measure(url, MODEL) == "Error"
    assert await measure("http://127.0.0.1:1", MODEL) == "Error"


@pytest.mark.parametrize(("passage", "succeeds"), [(PASS, True), (FAIL, False)])
async def test_the_job_has_canaries_asked_and_succeeds_if_the_gate_passes(
    site: Site, tmp_path: Path, passage: Passage, *, succeeds: bool
) -> None:
    metric = read("argo-rollouts/analysis-template-job.yaml")["spec"]["metrics"][0]
    pod = metric["provider"]["job"]["spec"]["template"]["spec"]
    container = pod["containers"][0]
    (tmp_path / "token").write_text(TOKEN)
    site.the_gate, site.after_look = gate(INCONCLUSIVE), gate(passage)
    async with serving(site) as url:
        given = {"watchdog": url.removeprefix("http://"), "model": MODEL}
        words = [fill(each, **given) for each in (*container["command"], *container["args"])]
        assert words[:2] == ["watchdog", "gate"]
        secrets = container["volumeMounts"][0]["mountPath"]
        done = await ask(*(each.replace(secrets, str(tmp_path)) for each in words[2:]))
    assert (done.returncode == 0) is succeeds
    assert [command for _, command, _, _ in site.commands] == [Command.LOOK]


# Alertmanager

CONFIG = EXAMPLES / "alertmanager" / "alertmanager.yml"


@pytest.mark.skipif(
    shutil.which("amtool") is None, reason="amtool is not installed: apt install prometheus-alertmanager"
)
def test_alertmanager_takes_the_configuration() -> None:
    done = subprocess.run(["amtool", "check-config", CONFIG], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "SUCCESS" in done.stdout


@pytest.mark.skipif(alertmanager.available() is not None, reason=str(alertmanager.available()))
async def test_an_alert_in_the_real_alertmanager_makes_canaries_look(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "token").write_text(TOKEN)
    fire = [
        {
            "labels": {"alertname": name, "model": MODEL, **extra},
            "annotations": {"summary": "half as many findings as last week"},
        }
        for name, extra in {
            "ScoresLow": {"watchdog": "look"},
            "ScoresZero": {"watchdog": "rollback"},
            "WatchdogDataDrift": {"watchdog": "look"},
            "DiskFull": {},
        }.items()
    ]
    async with serving(site) as url:
        text = CONFIG.read_text().replace("http://watchdog.imaging:9469", url)
        text = text.replace("/run/secrets/watchdog-token", str(tmp_path / "token"))
        monkeypatch.setattr(alertmanager, "_config", lambda _: yaml.safe_load(text))
        server = Alertmanager(tmp_path / "alertmanager")
        try:
            await asyncio.to_thread(server.start)
            async with aiohttp.ClientSession(server.url) as client, client.post("/api/v2/alerts", json=fire) as posted:
                assert posted.status == 200
            await asyncio.to_thread(eventually, lambda: len(site.commands) == 2, "two commands")
        finally:
            await asyncio.to_thread(server.stop)
    assert sorted(site.commands) == [
        (MODEL, Command.LOOK, "alertmanager", "ScoresLow: half as many findings as last week"),
        (MODEL, Command.ROLLBACK, "alertmanager", "ScoresZero: half as many findings as last week"),
    ]


# Kubernetes


@pytest.mark.parametrize(("not_ready", "status"), [(None, 200), ("no canary came back right yet", 503)])
async def test_tritons_readiness_is_the_routes(
    site: Site, client: aiohttp.ClientSession, not_ready: str | None, status: int
) -> None:
    site.route_not_ready = not_ready
    triton, watchdog = read("kubernetes-readiness/pod.yaml")["spec"]["containers"]
    probe = triton["readinessProbe"]["httpGet"]
    assert probe["port"] == watchdog["ports"][0]["containerPort"]
    async with client.get(probe["path"]) as response:
        assert response.status == status
    async with client.get(watchdog["livenessProbe"]["httpGet"]["path"]) as response:
        assert response.status == 200
