"""Puts what is shipped for Grafana into one: folder, data source, dashboards, alert rules. Told by the command line."""

from watchdog.grafana.api import Grafana, GrafanaError
from watchdog.grafana.apply import Applied, Change, Wanted, apply

__all__ = ["Applied", "Change", "Grafana", "GrafanaError", "Wanted", "apply"]
