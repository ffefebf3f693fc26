"""A real Alertmanager on this machine, alone in its cluster, with its data in a folder of ours."""

import json
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

_NAMES = ("prometheus-alertmanager", "alertmanager")
_STOP_S = 10.0


class AlertmanagerError(Exception):
    """Alertmanager can't be run here or did not start."""


def available() -> str | None:
    """None where Alertmanager can run, otherwise a sentence: what is missing and how to get it."""
    if _program() is None:
        return "Alertmanager is not installed: apt install prometheus-alertmanager, or put `alertmanager` on the PATH."
    return None


class Alertmanager:
    """One Alertmanager on 127.0.0.1 with one route.

    Args:
        work: a folder for its configuration, data and log.
        receiver_url: where it sends its own webhook; without one it only keeps the alerts.
        config: its whole configuration instead.
        port: a free one where None.
    """

    def __init__(
        self,
        work: Path,
        *,
        receiver_url: str | None = None,
        config: Mapping[str, Any] | None = None,
        port: int | None = None,
    ) -> None:
        self.work = work.absolute()
        self.port = port or _free_port()
        self._config = config if config is not None else _config(receiver_url)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log_path(self) -> Path:
        return self.work / "alertmanager.log"

    def start(self, timeout_s: float = 30) -> None:
        """Start, and return once it is ready.

        Raises:
            AlertmanagerError: it can't run here or did not become ready; the message says why.
        """
        program, missing = _program(), available()
        if program is None or missing is not None:
            raise AlertmanagerError(missing)
        self.work.mkdir(parents=True, exist_ok=True)
        config = self.work / "alertmanager.yml"
        config.write_text(json.dumps(self._config), encoding="utf-8")  # JSON is YAML
        arguments = [
            program,
            f"--config.file={config}",
            f"--storage.path={self.work / 'data'}",
            f"--web.listen-address=127.0.0.1:{self.port}",
            "--cluster.listen-address=",
        ]
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(arguments, stdin=subprocess.DEVNULL, stdout=log, stderr=log)  # noqa: S603 (our own arguments, no shell)
        try:
            self._await_ready(time.monotonic() + timeout_s)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End it; idempotent."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def alerts(self) -> list[dict[str, Any]]:
        """The alerts that fire now, as its API tells them.

        Raises:
            OSError: it did not answer.
        """
        with urllib.request.urlopen(f"{self.url}/api/v2/alerts", timeout=10) as response:  # noqa: S310 (our own http URL)
            alerts: list[dict[str, Any]] = json.load(response)
        return alerts

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _await_ready(self, deadline: float) -> None:
        while not self._is_ready():
            if self._process is None or self._process.poll() is not None:
                raise AlertmanagerError(f"Alertmanager ended while it started; see {self.log_path}")
            if time.monotonic() > deadline:
                raise AlertmanagerError(f"Alertmanager was not ready in time; see {self.log_path}")
            time.sleep(0.02)

    def _is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/-/ready", timeout=2):  # noqa: S310 (our own http URL)
                return True
        except OSError:  # not listening, or 503 while it loads
            return False


def _program() -> str | None:
    return next((found for name in _NAMES if (found := shutil.which(name))), None)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def _config(receiver_url: str | None) -> dict[str, Any]:
    """Everything at once to one receiver: a demonstration has no time for grouping."""
    receiver: dict[str, Any] = {"name": "watchdog"}
    if receiver_url is not None:
        receiver["webhook_configs"] = [{"url": receiver_url, "send_resolved": True}]
    route = {"receiver": "watchdog", "group_by": ["..."], "group_wait": "0s", "group_interval": "1s"}
    return {"route": route, "receivers": [receiver]}
