"""A real Alertmanager on this machine, alone in its cluster, with its data in a folder of ours."""

import json
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from watchdog.demo.program import Program, installed

_NAMES = ("prometheus-alertmanager", "alertmanager")
_MISSING = "Alertmanager is not installed: apt install prometheus-alertmanager, or put `alertmanager` on the PATH."


def available() -> str | None:
    """None where Alertmanager can run, otherwise a sentence: what is missing and how to get it."""
    return _MISSING if installed(_NAMES) is None else None


class Alertmanager(Program):
    """One Alertmanager on 127.0.0.1.

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
        super().__init__("Alertmanager", _NAMES, _MISSING, work, port)
        self._config = config if config is not None else _config(receiver_url)

    def arguments(self) -> list[str]:
        config = self.work / "alertmanager.yml"
        config.write_text(json.dumps(self._config), encoding="utf-8")  # JSON is YAML
        return [
            f"--config.file={config}",
            f"--storage.path={self.work / 'data'}",
            f"--web.listen-address=127.0.0.1:{self.port}",
            "--cluster.listen-address=",
        ]

    def alerts(self) -> list[dict[str, Any]]:
        """The alerts that fire now, as its API tells them.

        Raises:
            OSError: it did not answer.
        """
        with urllib.request.urlopen(f"{self.url}/api/v2/alerts", timeout=10) as response:  # noqa: S310 (our own http URL)
            alerts: list[dict[str, Any]] = json.load(response)
        return alerts


def _config(receiver_url: str | None) -> dict[str, Any]:
    """Everything at once to one receiver: a demonstration has no time for grouping."""
    receiver: dict[str, Any] = {"name": "watchdog"}
    if receiver_url is not None:
        receiver["webhook_configs"] = [{"url": receiver_url, "send_resolved": True}]
    route = {"receiver": "watchdog", "group_by": ["..."], "group_wait": "0s", "group_interval": "1s"}
    return {"route": route, "receivers": [receiver]}
