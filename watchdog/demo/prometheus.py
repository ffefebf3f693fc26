"""A real Prometheus on this machine, which scrapes a watchdog each second, with its data in a folder of ours."""

import json
import math
import time
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from watchdog.demo.program import Program, installed

_NAMES = ("prometheus",)
_MISSING = "Prometheus is not installed: apt install prometheus, or put `prometheus` on the PATH."


def available() -> str | None:
    """None where Prometheus can run, otherwise a sentence: what is missing and how to get it."""
    return _MISSING if installed(_NAMES) is None else None


class Prometheus(Program):
    """One Prometheus on 127.0.0.1.

    Args:
        work: a folder for its configuration, data and log.
        targets: what it scrapes, each as host:port.
        rules: what it evaluates each second; None for nothing.
        alertmanager: whom it tells, as host:port; None for nobody.
        port: a free one where None.
    """

    def __init__(
        self,
        work: Path,
        targets: Sequence[str],
        *,
        rules: Mapping[str, Any] | None = None,
        alertmanager: str | None = None,
        port: int | None = None,
    ) -> None:
        super().__init__("Prometheus", _NAMES, _MISSING, work, port)
        self._rules = rules
        self._config: dict[str, Any] = {
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "scrape_configs": [{"job_name": "watchdog", "static_configs": [{"targets": [*targets]}]}],
        }
        if rules is not None:
            self._config["rule_files"] = ["rules.json"]
        if alertmanager is not None:
            whom = {"api_version": "v2", "static_configs": [{"targets": [alertmanager]}]}
            self._config["alerting"] = {"alertmanagers": [whom]}

    def arguments(self) -> list[str]:
        config = self.work / "prometheus.yml"
        config.write_text(json.dumps(self._config), encoding="utf-8")  # JSON is YAML
        if self._rules is not None:
            (self.work / "rules.json").write_text(json.dumps(self._rules), encoding="utf-8")
        return [
            f"--config.file={config}",
            f"--storage.tsdb.path={self.work / 'data'}",
            f"--web.listen-address=127.0.0.1:{self.port}",
            "--enable-feature=exemplar-storage",
            "--log.level=warn",
        ]

    def fired_since(self, at: float) -> set[str]:
        """The names of the alerts that have fired since then (Unix seconds), by its own rules.

        Raises:
            OSError: it did not answer.
        """
        over_s = max(1, math.ceil(time.time() - at))
        query = f'count by (alertname) (max_over_time(ALERTS{{alertstate="firing"}}[{over_s}s]))'
        return {found["metric"]["alertname"] for found in self.ask("query", query=query)["result"]}

    def ask(self, what: str, **parameters: str | float) -> Any:
        """The ``data`` of an answer of its API, such as ``ask("query", query="up")``.

        Raises:
            OSError: it did not answer, or calls the question wrong.
        """
        query = urllib.parse.urlencode(parameters)
        with urllib.request.urlopen(f"{self.url}/api/v1/{what}?{query}", timeout=20) as response:  # noqa: S310 (our own)
            return json.load(response)["data"]
