"""Prometheus' alert rules as rules that Grafana evaluates itself, for those who can't load rules into Prometheus.

A recording rule's expression takes the place of its name, since nothing records it there. What differs otherwise:
Prometheus alerts where an expression has a value, Grafana where it isn't 0; so Grafana is asked whether there is one.
Two rules of one name need two titles, and Grafana makes the alert's name of the title.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

_RECORDED = re.compile(r"(watchdog:[\w:]+)(?:\{([^}]*)\})?")
_RAW = re.compile(r"\b(watchdog_\w+)(?:\{([^}]*)\})?")
_QUERY, _FIRING = "query", "firing"
_VALUE = re.compile(r"\$value\b")
_HUMP = re.compile(r"(?<=[a-z])(?=[A-Z])")


def managed(
    plain: Mapping[str, Any], *, folder_uid: str, datasource_uid: str, runbooks: str = ""
) -> Iterator[dict[str, Any]]:
    """Each alert rule as ``/api/v1/provisioning/alert-rules`` takes it.

    Args:
        plain: the rules' file.
        folder_uid: where they shall be.
        datasource_uid: the Prometheus that they ask.
        runbooks: where an alert's runbook is, ``<runbooks>/<alert>``; the file's own where empty.
    """
    recorded = {
        rule["record"]: rule["expr"] for group in plain["groups"] for rule in group["rules"] if "record" in rule
    }
    titles: set[str] = set()
    for group in plain["groups"]:
        for rule in group["rules"]:
            if "alert" not in rule:
                continue
            title = _title(rule, titles)
            titles.add(title)
            annotations = {k: _VALUE.sub(f"$values.{_QUERY}.Value", v) for k, v in rule["annotations"].items()}
            if runbooks:
                annotations["runbook_url"] = f"{runbooks.rstrip('/')}/{rule['alert']}"
            yield {
                "uid": _uid(title),
                "title": title,
                "ruleGroup": group["name"],
                "folderUID": folder_uid,
                "condition": _FIRING,
                "data": _data(inlined(rule["expr"], recorded), datasource_uid),
                "noDataState": "OK",
                "execErrState": "Error",
                "for": rule.get("for", "0s"),
                "labels": rule["labels"],
                "annotations": annotations,
                "isPaused": False,
            }


def inlined(expr: str, recorded: Mapping[str, str]) -> str:
    """The expression with every recording rule's own in the place of its name.

    A matcher beside the name goes to each of the raw metrics, which is the same wherever they are summed by its label.
    """

    def whole(found: re.Match[str]) -> str:
        inner = inlined(recorded[found[1]], recorded)
        return f"({_narrowed(inner, found[2]) if found[2] else inner})"

    return _RECORDED.sub(whole, expr)


def _narrowed(expr: str, matchers: str) -> str:
    return _RAW.sub(lambda found: f"{found[1]}{{{', '.join(filter(None, (found[2], matchers)))}}}", expr)


def _title(rule: Mapping[str, Any], taken: set[str]) -> str:
    name: str = rule["alert"]
    labels = rule["labels"]
    return name if name not in taken else f"{name} ({labels.get('window', labels['severity'])})"


def _uid(title: str) -> str:
    """``WatchdogErrorBudgetBurn (6h)`` → ``watchdog-error-budget-burn-6h``."""
    return re.sub(r"[^a-z0-9]+", "-", _HUMP.sub("-", title).lower()).strip("-")


def _data(expr: str, datasource_uid: str) -> list[dict[str, Any]]:
    """The query, and whether it has a value at all, be it 0."""
    present = f"is_number(${_QUERY}) || is_nan(${_QUERY}) || is_inf(${_QUERY})"
    return [
        {
            "refId": _QUERY,
            "datasourceUid": datasource_uid,
            "relativeTimeRange": {"from": 600, "to": 0},
            "model": {"expr": expr, "instant": True, "range": False, "refId": _QUERY},
        },
        {
            "refId": _FIRING,
            "datasourceUid": "__expr__",
            "relativeTimeRange": {"from": 0, "to": 0},
            "model": {"type": "math", "expression": present, "refId": _FIRING},
        },
    ]
