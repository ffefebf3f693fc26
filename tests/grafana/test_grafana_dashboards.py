"""What the checked-in dashboards are: made by their source, and whole."""

import json
import re
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from dashboards.build import PAGES, files
from watchdog.grafana.apply import DASHBOARDS
from watchdog.telemetry.declared import DECLARED, Kind

FILES = {path.stem: json.loads(content) for path, content in files()}
KINDS = {"row", "timeseries", "stat", "table", "heatmap", "state-timeline", "bargauge", "barchart"}
KNOWN = {
    f"{row.name}{ending}"
    for row in DECLARED
    for ending in (("_bucket", "_sum", "_count") if row.kind is Kind.HISTOGRAM else ("",))
}
OURS = re.compile(r"\bwatchdog_\w+")
every_page = pytest.mark.parametrize("name", FILES)


def panels(name: str) -> list[dict[str, Any]]:
    return [panel for panel in FILES[name]["panels"] if panel["type"] != "row"]


@pytest.mark.parametrize(("path", "content"), list(files()), ids=lambda value: getattr(value, "stem", ""))
def test_what_is_checked_in_is_what_the_source_makes(path: Path, content: str) -> None:
    assert path.read_text(encoding="utf-8") == content, "run `python -m dashboards.build`"


def test_the_command_applies_every_one() -> None:
    assert set(DASHBOARDS) == {page.name for page in PAGES}


def test_no_two_are_the_same_to_grafana() -> None:
    assert len({page["uid"] for page in FILES.values()}) == len(FILES)
    assert len({page["title"] for page in FILES.values()}) == len(FILES)


@every_page
def test_links_lead_to_the_others(name: str) -> None:
    leads_to = {link["url"].removeprefix("/d/") for link in FILES[name]["links"]}
    assert leads_to == {page["uid"] for other, page in FILES.items() if other != name}


@every_page
def test_every_panel_says_how_to_read_it(name: str) -> None:
    for panel in panels(name):
        assert panel["description"].endswith("."), panel["title"]
        assert panel["targets"], panel["title"]
        assert panel["type"] in KINDS, panel["title"]
        assert panel["datasource"]["uid"] == "${datasource}", panel["title"]


@every_page
def test_panels_lie_beside_one_another(name: str) -> None:
    places = [panel["gridPos"] for panel in FILES[name]["panels"]]
    assert all(p["x"] >= 0 and p["x"] + p["w"] <= 24 for p in places)
    for one, other in combinations(places, 2):
        apart_across = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        apart_down = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert apart_across or apart_down, (one, other)
    assert len({panel["id"] for panel in FILES[name]["panels"]}) == len(places)


@every_page
def test_only_metrics_that_there_are_and_variables_that_there_are(name: str) -> None:
    page = FILES[name]
    variables = [variable["name"] for variable in page["templating"]["list"]]
    queries = [target["expr"] for panel in panels(name) for target in panel["targets"]]
    queries += [annotation["expr"] for annotation in page["annotations"]["list"]]
    queries += [variable["definition"] for variable in page["templating"]["list"] if "definition" in variable]
    for query in queries:
        assert set(OURS.findall(query)) <= KNOWN, query
        chosen = set(re.findall(r"\$\{?(\w+)", query)) - {"__rate_interval", "__range"}
        assert chosen <= set(variables), query


def test_every_metric_is_shown_somewhere() -> None:
    shown = set(OURS.findall(json.dumps(FILES)))
    unseen = {row.name for row in DECLARED if not {row.name, f"{row.name}_bucket", f"{row.name}_sum"} & shown}
    assert unseen == {  # what no picture makes clearer
        "watchdog_config_last_reload_timestamp_seconds",
        "watchdog_last_probe_timestamp_seconds",
        "watchdog_probe_deadline_seconds",
        "watchdog_spans_total",
    }
