"""One real Triton with a detector that can be told to go wrong, its canaries, baseline and configuration."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import settings
from typer.testing import CliRunner

from tests.triton_fixture import Mood, set_mood, write_detector
from watchdog.canaries.phantom import default_set, write_series
from watchdog.cli.main import app
from watchdog.demo.service import Record, Service
from watchdog.demo.triton import TritonServer, available

settings.register_profile("service", deadline=None, max_examples=150)
settings.load_profile("service")

MODEL = "detector"
TOKEN = "a-token-for-tests"
RECIPE = {
    "input": "CT",
    "dtype": "FP32",
    "layout": "NCHW",
    "profiles": [{"name": "opt", "batch": 1, "size": [64, 64]}],
    "window": {"low": -1000, "high": 400},
    "normalise": {"range": [-1000, 400]},
    "tolerance": 0.5,
}
PATIENCE_S = 20.0
"""What happens at all happens within this time, on the slowest machine."""


def eventually(happened: Callable[[], Any], what: str, timeout_s: float = PATIENCE_S) -> Any:
    """The first true answer of `happened`; it is asked until then."""
    give_up_at = time.monotonic() + timeout_s
    while time.monotonic() < give_up_at:
        if answer := happened():
            return answer
        time.sleep(0.02)
    pytest.fail(f"not within {timeout_s:g} s: {what}")


@dataclass(frozen=True)
class Site:
    """A hospital in a folder: Triton, canaries, recipe, and a baseline captured by the command."""

    folder: Path
    triton: TritonServer
    moods: Path

    def configure(self, folder: Path, **changes: Any) -> Path:
        """A configuration file in `folder`, whose top-level keys `changes` replace."""
        (folder / "token").write_text(f"{TOKEN}\n")
        config: dict[str, Any] = {
            "state": "state",
            "api": {"listen": "127.0.0.1:0", "token": {"file": "token"}},
            "endpoints": [{"name": "triton", "kind": "triton-grpc", "url": self.triton.grpc_url}],
            "models": [self.model()],
        }
        path = folder / "watchdog.yaml"
        path.write_text(yaml.safe_dump(config | changes, sort_keys=False))
        return path

    def model(self, **changes: Any) -> dict[str, Any]:
        """The detector's section, whose keys `changes` replace."""
        section: dict[str, Any] = {
            "name": MODEL,
            "endpoint": "triton",
            "engines": {"fast": {"version": 2}, "safe": {"version": 1}},
            "canaries": {"path": str(self.folder / "canaries"), "recipe": str(self.folder / "recipe.yaml")},
            "baseline": str(self.folder / "baseline"),
            "outputs": [{"name": "probability", "kind": "probability"}, {"name": "heatmap", "kind": "mask"}],
            "latency": {"fast": "5s", "safe": "5s"},  # speed is not the matter here
            "probe": {"every": "200ms", "deadline": "3s"},
            "policy": {"action": "rollback", "max_switches_per_day": 50},
            "router": {"kind": "triton", "url": self.triton.http_url},
        }
        return section | changes

    def feel(self, version: int, mood: Mood) -> None:
        set_mood(self.moods, version, mood)

    def is_dawdling(self) -> bool:
        """Whether a SLOW version is at work on a request."""
        return (self.moods / "dawdling").exists()


def watchdog(*arguments: object, timeout_s: float = 60, **more: Any) -> subprocess.CompletedProcess[str]:
    """The command as a process of its own."""
    command = [sys.executable, "-m", "watchdog", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False, **more)


@dataclass(frozen=True)
class Done:
    """What came of a command."""

    returncode: int
    stdout: str
    stderr: str


def here(*arguments: object, env: dict[str, str] | None = None) -> Done:
    """The command in this process, which saves its start; an exception that escapes it is the test's."""
    result = CliRunner().invoke(app, [str(each) for each in arguments], env=env, catch_exceptions=False)
    return Done(result.exit_code, result.stdout, result.stderr)


@pytest.fixture(scope="session")
def whole_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    if (missing := available()) is not None:
        pytest.skip(missing)
    folder = tmp_path_factory.mktemp("site")
    moods = write_detector(folder / "models", name=MODEL)
    phantoms = default_set(seed=3, size=64)
    write_series(folder / "canaries", [*phantoms[:3], *phantoms[-3:]], seed=3)
    (folder / "recipe.yaml").write_text(yaml.safe_dump(RECIPE))
    triton = TritonServer(folder / "models", folder / "triton", models=[MODEL])
    triton.start()
    try:
        site = Site(folder, triton, moods)
        done = watchdog("baseline", site.configure(folder), "--repeats", 3, "--json")
        assert done.returncode == 0, done.stderr
        yield site
    finally:
        triton.kill()  # an orderly end would take seconds


@pytest.fixture
def site(whole_site: Site) -> Site:
    """Triton as it starts: both versions READY and right."""
    for version in (1, 2):
        whole_site.feel(version, Mood.RIGHT)
    if not whole_site.triton.running:
        whole_site.triton.start()
    eventually(lambda: _both_ready(whole_site.triton), "both versions READY")
    return whole_site


def _both_ready(triton: TritonServer) -> bool:
    """Asks for it, too, in so many words: a plain load of unchanged files leaves an override in force."""
    if triton.ready_versions(MODEL) != [1, 2]:
        triton.load(MODEL, triton.config(MODEL) | {"version_policy": {"specific": {"versions": [1, 2]}}})
    return triton.ready_versions(MODEL) == [1, 2]


class Run(Service):
    """``watchdog run`` as a process: its log, its HTTP API, its signals and its end."""

    def __init__(self, config: Path) -> None:
        super().__init__(config, lambda _: None)
        self.config = config

    @property
    def process(self) -> subprocess.Popen[str]:
        assert self._process is not None
        return self._process

    @property
    def url(self) -> str:
        return str(self.expect("listening")["url"])

    def expect(self, event: str, since: int = 0, **fields: Any) -> Record:
        """The first record of this kind whose fields are these; failing that, the test fails with the log."""
        found = self.wait_for(
            lambda r: r["event"] == event and all(r.get(k) == v for k, v in fields.items()), PATIENCE_S, since
        )
        if found is None:
            pytest.fail(f"no {event} {fields} in the log:\n" + "\n".join(map(str, self.records(since)[-40:])))
        return found

    def mark(self) -> int:
        """What comes in the log from now on is `since` this."""
        return len(self.records())

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.process.pid, number)

    def end(self, timeout_s: float = PATIENCE_S) -> int:
        return self.process.wait(timeout_s)

    def ask(
        self, path: str, *, body: dict[str, Any] | None = None, token: str | None = None, method: str | None = None
    ) -> tuple[int, str]:
        """One HTTP request: status and text."""
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data=data, headers=headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE_S) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def status(self) -> dict[str, Any]:
        code, text = self.ask("/api/v1/status")
        assert code == 200
        document: dict[str, Any] = json.loads(text)
        return document

    def state(self, model: str = MODEL) -> str:
        return str(self.status()["models"].get(model, {}).get("policy", {}).get("state", ""))

    def await_state(self, wanted: str) -> None:
        eventually(lambda: self.state() == wanted, f"{wanted}; now {self.state()}")

    def await_healthy(self, since: int = 0, model: str = MODEL) -> None:
        self.expect("probe", since, verdict="healthy", public=True, model=model)

    def command(self, *arguments: str) -> Done:
        """A command of the command line to this service, with its token."""
        return here(*arguments, "--url", self.url, "--token-file", self.config.parent / "token")


@pytest.fixture
def run() -> Iterator[Callable[[Path], Run]]:
    """Starts services; all are ended after the test, and none may have written anything but its log."""
    with ExitStack() as stack:
        started: list[Run] = []

        def start(config: Path) -> Run:
            started.append(stack.enter_context(Run(config)))
            return started[-1]

        yield start
    strays = [r for each in started for r in each.records() if r["event"] == "text"]
    assert strays == []
