"""The shipped alert rules, with seconds for minutes."""

import re
from collections.abc import Mapping
from typing import Any

import yaml

from watchdog.shipped import shipped

_SPAN = re.compile(r"(?<=\[)(\d+)([smh])(?=\])")
_SECONDS = {"s": 1, "m": 60, "h": 3600}


def shipped_rules() -> dict[str, Any]:
    """As they are for production.

    Raises:
        FileNotFoundError: this installation has none.
    """
    found: dict[str, Any] = yaml.safe_load(shipped("alerts", "watchdog.rules.yaml").read_text(encoding="utf-8"))
    return found


def scaled(plain: Mapping[str, Any], factor: float, least_s: int = 4) -> dict[str, Any]:
    """The rules with their windows and waits so many times as long; no window is shorter than a few scrapes."""

    def window(found: re.Match[str]) -> str:
        return f"{max(least_s, round(int(found[1]) * _SECONDS[found[2]] * factor))}s"

    def rule(one: Mapping[str, Any]) -> dict[str, Any]:
        changed = {**one, "expr": _SPAN.sub(window, one["expr"])}
        if "for" in one:
            wait = int(one["for"][:-1]) * _SECONDS[one["for"][-1]] * factor
            changed["for"] = f"{max(1, round(wait))}s"
        return changed

    return {"groups": [{**g, "rules": [rule(one) for one in g["rules"]]} for g in plain["groups"]]}
