"""What Grafana's dashboards are made of: queries, panels, variables, and a page that they flow over.

The JSON is that of schema 39 (Grafana 10 and later reads it). A query whose legend has "limit" in it is drawn as one:
dashed, red and unfilled, since limits are exported beside what they limit and no number is repeated here.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

COLUMNS = 24
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
TAG = "inference-watchdog"
_RATE = "$__rate_interval"

Json = dict[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Query:
    """A PromQL expression and how each of its series is called."""

    expr: str
    legend: str = "__auto"
    table: bool = False
    """The newest value of each series as a row, instead of a line."""
    exemplars: bool = False
    heat: bool = False
    """Series are a histogram's buckets."""

    def json(self, ref: str) -> Json:
        return {
            "datasource": SOURCE,
            "editorMode": "code",
            "exemplar": self.exemplars,
            "expr": self.expr,
            "format": "table" if self.table else "heatmap" if self.heat else "time_series",
            "instant": self.table,
            "legendFormat": self.legend,
            "range": not self.table,
            "refId": ref,
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class Panel:
    """One panel; `says` is how to read it."""

    kind: str
    title: str
    says: str
    queries: tuple[Query, ...]
    width: int = COLUMNS // 2
    height: int = 8
    defaults: Json = field(default_factory=dict)
    overrides: tuple[Json, ...] = ()
    options: Json = field(default_factory=dict)
    transformations: tuple[Json, ...] = ()

    def wide(self, width: int, height: int | None = None) -> "Panel":
        return replace(self, width=width, height=self.height if height is None else height)

    def json(self, number: int, x: int, y: int) -> Json:
        return {
            "id": number,
            "type": self.kind,
            "title": self.title,
            "description": self.says,
            "datasource": SOURCE,
            "gridPos": {"x": x, "y": y, "w": self.width, "h": self.height},
            "fieldConfig": {"defaults": self.defaults, "overrides": list(self.overrides)},
            "options": self.options,
            "targets": [query.json(chr(ord("A") + i)) for i, query in enumerate(self.queries)],
            **({"transformations": list(self.transformations)} if self.transformations else {}),
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class Section:
    """Panels under one heading, from left to right and then downward."""

    title: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Annotation:
    """Marks that begin when `expr` comes to have a value above 0: its window must hold two scrapes, however rare."""

    name: str
    expr: str
    title: str
    colour: str

    def json(self, selector: str) -> Json:
        expr = self.expr.replace("%s", selector)
        return {
            "name": self.name,
            "datasource": SOURCE,
            "enable": True,
            "expr": expr,  # where older Grafanas look; newer ones have it in the target
            "iconColor": self.colour,
            "step": "15s",
            "target": {"expr": expr, "refId": "Anno"},
            "titleFormat": self.title,
            "useValueForTime": False,
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class Variable:
    """A choice among the values of a label."""

    name: str
    label: str
    query: str
    several: bool = True

    def json(self) -> Json:
        return {
            "name": self.name,
            "label": self.label,
            "type": "query",
            "datasource": SOURCE,
            "definition": self.query,
            "query": {"query": self.query, "refId": self.name},
            "refresh": 2,
            "sort": 1,
            "multi": self.several,
            "includeAll": self.several,
            **({"allValue": ".*"} if self.several else {}),
        }


INSTANCE = Variable(name="instance", label="Watchdog", query="label_values(watchdog_up, instance)")
MODEL = Variable(
    name="model",
    label="Model",
    query='label_values(watchdog_probe_interval_seconds{instance=~"$instance"}, model)',
)
ENGINE = Variable(name="engine", label="Engine", query="label_values(watchdog_route_desired, engine)")
GPU = Variable(name="gpu", label="GPU", query='label_values(watchdog_gpu_state{instance=~"$instance"}, gpu)')
SWITCHES = Annotation(
    name="Switches",
    expr="sum by (model, to, outcome) (increase(watchdog_switches_total{%s}[2m])) > 0",
    title="{{model}} to {{to}}: {{outcome}}",
    colour="orange",
)
DIAGNOSES = Annotation(
    name="Diagnoses",
    expr="sum by (model, conclusion) (increase(watchdog_diagnoses_total{%s}[2m])) > 0",
    title="{{model}}: {{conclusion}}",
    colour="purple",
)
DESIRED = Annotation(
    name="Route changes",
    expr="sum by (model, engine) (changes(watchdog_route_desired{%s}[2m]) > 0 and watchdog_route_desired{%s} == 1)",
    title="{{model}}: {{engine}} shall serve",
    colour="blue",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Page:
    """One dashboard. `selector` narrows the annotations to what the variables choose."""

    name: str
    title: str
    says: str
    variables: tuple[Variable, ...]
    sections: tuple[Section, ...]
    annotations: tuple[Annotation, ...] = ()
    selector: str = ""
    span: str = "now-6h"

    @property
    def uid(self) -> str:
        return f"{TAG}-{self.name}"

    def json(self, pages: Sequence[tuple[str, str]]) -> Json:
        """The dashboard; `pages` are name and title of all, which it links to."""
        return {
            "uid": self.uid,
            "title": self.title,
            "description": self.says,
            "tags": [TAG],
            "schemaVersion": 39,
            "editable": True,
            "graphTooltip": 1,  # one crosshair for all panels
            "refresh": "10s",
            "time": {"from": self.span, "to": "now"},
            "timezone": "browser",
            "links": [_link(name, title) for name, title in pages if name != self.name],
            "annotations": {"list": [annotation.json(self.selector) for annotation in self.annotations]},
            "templating": {"list": [_DATASOURCE, *(variable.json() for variable in self.variables)]},
            "panels": list(_flow(self.sections)),
        }


_DATASOURCE: Json = {
    "name": "datasource",
    "label": "Prometheus",
    "type": "datasource",
    "query": "prometheus",
    "refresh": 1,
    "multi": False,
    "includeAll": False,
}


def _link(name: str, title: str) -> Json:
    return {
        "title": title,
        "type": "link",
        "icon": "dashboard",
        "url": f"/d/{TAG}-{name}",
        "includeVars": True,
        "keepTime": True,
        "targetBlank": False,
    }


def _flow(sections: Sequence[Section]) -> Iterator[Json]:
    """Each panel with its number and place."""
    number, top = 0, 0
    for section in sections:
        number += 1
        yield {
            "id": number,
            "type": "row",
            "title": section.title,
            "collapsed": False,
            "gridPos": {"x": 0, "y": top, "w": COLUMNS, "h": 1},
            "panels": [],
        }
        x, y, tallest = 0, top + 1, 0
        for panel in section.panels:
            if x + panel.width > COLUMNS:
                x, y, tallest = 0, y + tallest, 0
            number += 1
            yield panel.json(number, x, y)
            x, tallest = x + panel.width, max(tallest, panel.height)
        top = y + tallest


# -- panels ------------------------------------------------------------------------------

_LEGEND: Json = {"displayMode": "list", "placement": "bottom", "showLegend": True}
_LAST: Json = {"calcs": ["lastNotNull"], "fields": "", "values": False}
_LIMIT: Json = {
    "matcher": {"id": "byRegexp", "options": "/limit/"},
    "properties": [
        {"id": "color", "value": {"mode": "fixed", "fixedColor": "red"}},
        {"id": "custom.lineStyle", "value": {"fill": "dash", "dash": [10, 10]}},
        {"id": "custom.fillOpacity", "value": 0},
        {"id": "custom.stacking", "value": {"mode": "none", "group": "limit"}},
    ],
}
STATES: Json = {
    "serving-fast": "green",
    "serving-safe": "blue",
    "confirming": "yellow",
    "proving": "yellow",
    "switching": "orange",
    "recovering": "super-light-blue",
    "returning": "light-green",
    "probation": "light-green",
    "degraded": "red",
}
VERDICTS: Json = {"healthy": "green", "suspect": "yellow", "failed": "red", "inconclusive": "purple"}
ENGINES: Json = {"fast": "green", "safe": "blue"}


def lines(
    title: str,
    says: str,
    *queries: Query,
    unit: str = "short",
    stacked: bool = False,
    steps: bool = False,
    colours: Json | None = None,
    **more: Any,
) -> Panel:
    """A time series; limits among the queries are drawn as limits."""
    custom: Json = {"lineWidth": 1, "fillOpacity": 40 if stacked else 5, "showPoints": "never", "spanNulls": False}
    if stacked:
        custom["stacking"] = {"mode": "normal", "group": "A"}
    if steps:
        custom["lineInterpolation"] = "stepAfter"
    return Panel(
        kind="timeseries",
        title=title,
        says=says,
        queries=queries,
        defaults={"unit": unit, "custom": custom, **more},
        overrides=(_LIMIT, *_coloured(colours or {})),
        options={"legend": _LEGEND, "tooltip": {"mode": "multi", "sort": "desc"}},
    )


def _coloured(colours: Json) -> Iterator[Json]:
    for name, colour in colours.items():
        yield {
            "matcher": {"id": "byName", "options": name},
            "properties": [{"id": "color", "value": {"mode": "fixed", "fixedColor": colour}}],
        }


def number(
    title: str,
    says: str,
    query: Query,
    *,
    unit: str = "short",
    bad_above: float | None = None,
    good: float | None = None,
) -> Panel:
    """One newest number. It is red above `bad_above`, or unless it is `good`; both are of 0-or-1 metrics and counts."""
    steps: list[Json] = [{"color": "text", "value": None}]
    if bad_above is not None:
        steps = [{"color": "green", "value": None}, {"color": "red", "value": bad_above}]
    if good is not None:
        steps = [{"color": "red", "value": None}, {"color": "green", "value": good}]
    return Panel(
        kind="stat",
        title=title,
        says=says,
        queries=(query,),
        width=4,
        height=4,
        defaults={"unit": unit, "color": {"mode": "thresholds"}, "thresholds": {"mode": "absolute", "steps": steps}},
        options={"colorMode": "value", "graphMode": "area", "reduceOptions": _LAST, "textMode": "auto"},
    )


def bands(title: str, says: str, *queries: Query, colours: Json | None = None) -> Panel:
    """A state timeline of 0-or-1 series, a band each, empty where 0; a series takes the colour of its legend's end."""
    zero_or_one = {"0": {"text": " ", "color": "transparent"}, "1": {"text": "yes", "color": "green"}}
    return Panel(
        kind="state-timeline",
        title=title,
        says=says,
        queries=queries,
        defaults={"color": {"mode": "thresholds"}, "mappings": [{"type": "value", "options": zero_or_one}]},
        overrides=tuple(
            {
                "matcher": {"id": "byRegexp", "options": f"/(^|[ ,]){name}$/"},
                "properties": [
                    {
                        "id": "mappings",
                        "value": [
                            {
                                "type": "value",
                                "options": {**zero_or_one, "1": {"text": name, "color": colour}},
                            }
                        ],
                    }
                ],
            }
            for name, colour in (colours or {}).items()
        ),
        options={
            "mergeValues": True,
            "rowHeight": 0.8,
            "showValue": "auto",
            "legend": {**_LEGEND, "showLegend": False},
        },
    )


def table(title: str, says: str, *queries: Query, hide: Sequence[str] = (), names: Json | None = None) -> Panel:
    """Labels and values of instant queries, merged by their common labels."""
    excluded = dict.fromkeys(("Time", "__name__", "job", *hide), True)
    organise = {"id": "organize", "options": {"excludeByName": excluded, "renameByName": names or {}}}
    return Panel(
        kind="table",
        title=title,
        says=says,
        queries=queries,
        options={"cellHeight": "sm", "showHeader": True},
        transformations=({"id": "merge", "options": {}}, organise),
    )


def bars(title: str, says: str, *queries: Query, unit: str = "short") -> Panel:
    """The newest values beside one another."""
    return Panel(
        kind="bargauge",
        title=title,
        says=says,
        queries=queries,
        defaults={"unit": unit, "min": 0, "color": {"mode": "palette-classic"}},
        options={"orientation": "horizontal", "displayMode": "basic", "reduceOptions": _LAST, "showUnfilled": True},
    )


def heat(title: str, says: str, query: Query, *, unit: str = "s", buckets: bool = True) -> Panel:
    """How values are distributed over time."""
    return Panel(
        kind="heatmap",
        title=title,
        says=says,
        queries=(replace(query, heat=True),),
        options={
            "calculate": not buckets,
            "color": {"mode": "scheme", "scheme": "Spectral", "steps": 64},
            "yAxis": {"unit": unit, "axisPlacement": "left"},
            "cellGap": 1,
            "tooltip": {"mode": "single", "yHistogram": True},
            "legend": {"show": True},
        },
    )


def row_of(value: str, name: str) -> Query:
    """A row of a table for each series."""
    return Query(expr=value, legend=name, table=True)


def rate(metric: str, by: str, selector: str) -> str:
    """Events a second of a counter."""
    return f"sum by ({by}) (rate({metric}{{{selector}}}[{_RATE}]))"


def count(metric: str, by: str, selector: str) -> str:
    """Events since the previous point of a counter, which is what a person counts."""
    return f"sum by ({by}) (increase({metric}{{{selector}}}[{_RATE}]))"


def quantile(share: float, metric: str, by: str, selector: str) -> str:
    """A histogram's quantile."""
    return f"histogram_quantile({share:g}, {rate(f'{metric}_bucket', f'{by}, le', selector)})"


def ago(timestamp: str) -> str:
    """Seconds since; nothing where it never happened."""
    return f"time() - ({timestamp} > 0)"
