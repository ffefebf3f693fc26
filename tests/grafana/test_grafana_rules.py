"""Prometheus' rules as Grafana's own: what is said in their place says the same."""

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from watchdog.demo.rules import shipped_rules
from watchdog.grafana.compare import difference, visible
from watchdog.grafana.rules import inlined, managed

PLAIN = shipped_rules()
RULES = list(managed(PLAIN, folder_uid="f", datasource_uid="p"))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=3),
    max_leaves=8,
)


def test_each_alert_becomes_a_rule() -> None:
    alerts = [rule["alert"] for group in PLAIN["groups"] for rule in group["rules"] if "alert" in rule]
    assert [rule["title"].partition(" ")[0] for rule in RULES] == alerts
    assert len({rule["title"] for rule in RULES}) == len({rule["uid"] for rule in RULES}) == len(alerts)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["uid"])
def test_a_rule_stands_by_itself(rule: dict[str, Any]) -> None:
    assert re.fullmatch(r"[a-z0-9-]{1,40}", rule["uid"])
    assert "watchdog:" not in rule["data"][0]["model"]["expr"]
    assert "$value " not in str(rule["annotations"])
    assert rule["condition"] == rule["data"][1]["refId"]


def test_a_value_is_that_of_the_query() -> None:
    (burn,) = (rule for rule in RULES if rule["uid"] == "watchdog-error-budget-burn-6h")
    assert burn["annotations"]["description"].startswith("{{ $values.query.Value | humanizePercentage }}")
    assert burn["labels"] == {"severity": "warning", "window": "6h"}


@pytest.mark.parametrize(
    ("expr", "becomes"),
    [
        ("watchdog:a > 0", "(sum by (r) (watchdog_x)) > 0"),
        ('watchdog:a{r="1"}', '(sum by (r) (watchdog_x{r="1"}))'),
        ('watchdog:b{r="1"}', '(sum by (r) (watchdog_x{r="1"}) + watchdog_y{z="2", r="1"})'),
        ("watchdog:c", "((sum by (r) (watchdog_x)) * 2)"),
        ("watchdog_x", "watchdog_x"),
    ],
)
def test_a_recording_is_said_in_full(expr: str, becomes: str) -> None:
    recorded = {
        "watchdog:a": "sum by (r) (watchdog_x)",
        "watchdog:b": 'sum by (r) (watchdog_x) + watchdog_y{z="2"}',
        "watchdog:c": "watchdog:a * 2",
    }
    assert inlined(expr, recorded) == becomes


@given(JSON)
def test_what_is_as_it_should_be_differs_in_nothing(document: Any) -> None:
    assert difference(document, document, "x") == [] or document is None


@given(st.dictionaries(st.text(max_size=2), JSON, max_size=3), st.integers())
def test_what_grafana_adds_is_not_seen(document: dict[str, Any], added: int) -> None:
    assert visible({**document, "added by it": added}, document) == document
