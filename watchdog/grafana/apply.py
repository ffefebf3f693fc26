"""Puts folder, data source, dashboards and alert rules into a Grafana: reads what is there, changes what differs."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from urllib.parse import quote

import yaml

from watchdog.grafana.api import Grafana, GrafanaError
from watchdog.grafana.compare import difference
from watchdog.grafana.rules import managed
from watchdog.shipped import shipped

DASHBOARDS = ("fleet", "model", "switch", "gpu")
_SOURCE_UID, _SOURCE_NAME = "inference-watchdog-prometheus", "Inference watchdog"
_RULES = "/v1/provisioning/alert-rules"


class Change(StrEnum):
    CREATED = "created"
    CHANGED = "changed"
    UNCHANGED = "unchanged"


@dataclass(frozen=True, kw_only=True, slots=True)
class Applied:
    """What became, or would become, of one object."""

    kind: str
    name: str
    change: Change
    diff: tuple[str, ...] = ()
    """From what was there to what is now, a unified diff's lines."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Wanted:
    """What a Grafana should have."""

    folder: str = "Inference watchdog"
    """Its title; made where there is none of that title."""
    prometheus_url: str = ""
    """Of a data source of our own, as Grafana itself reaches it; empty for none."""
    datasource: str = ""
    """The name of one that is there."""
    alerts: bool = False
    runbooks: str = ""
    """Where an alert's runbook is, ``<runbooks>/<alert>``."""
    force: bool = False
    """Take a dashboard back from another folder."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Source:
    uid: str
    name: str


def apply(grafana: Grafana, wanted: Wanted, *, dry_run: bool = False) -> Iterator[Applied]:
    """One object after another, each told once it is done.

    Raises:
        GrafanaError: Grafana is not there or refuses; what was told before it is done.
        FileNotFoundError: this installation has no dashboards or rules.
    """
    grafana.meet()
    work = _Work(grafana, wanted, dry_run)
    folder_uid, folder = work.folder()
    yield folder
    source, applied = work.source()
    if applied is not None:
        yield applied
    for name in DASHBOARDS:
        yield work.dashboard(name, folder_uid, source)
    if wanted.alerts:
        yield from work.rules(folder_uid, source or work.only_source())


class _Work:
    def __init__(self, grafana: Grafana, wanted: Wanted, dry_run: bool) -> None:
        self._grafana = grafana
        self._wanted = wanted
        self._dry_run = dry_run

    def folder(self) -> tuple[str, Applied]:
        """Its uid, by its title among the top folders."""
        title = self._wanted.folder
        for found in self._list("/folders?limit=1000"):
            if found.get("title") == title:
                return str(found["uid"]), Applied(kind="folder", name=title, change=Change.UNCHANGED)
        made: list[Any] = []
        applied = self._put("folder", title, None, {"title": title}, lambda ours: made.append(self._made(ours)))
        return made[0] if made else "(to be made)", applied

    def _made(self, folder: dict[str, Any]) -> str:
        match self._grafana.post("/folders", folder):
            case {"uid": str(uid)}:
                return uid
            case _:
                raise GrafanaError(f"{self._grafana.origin} made a folder, but does not say which")

    def source(self) -> tuple[_Source | None, Applied | None]:
        """What dashboards and rules ask, and what became of it where it is ours."""
        if self._wanted.datasource:
            name = self._wanted.datasource
            match self._grafana.get(f"/datasources/name/{quote(name, safe='')}"):
                case {"uid": str(uid)}:
                    return _Source(uid=uid, name=name), None
                case _:
                    raise GrafanaError(f"there is no data source {name!r}: name one that is there, or --prometheus-url")
        if not self._wanted.prometheus_url:
            return None, None
        ours: dict[str, Any] = {
            "uid": _SOURCE_UID,
            "name": _SOURCE_NAME,
            "type": "prometheus",
            "access": "proxy",
            "url": self._wanted.prometheus_url,
            "jsonData": {"httpMethod": "POST"},
        }
        theirs = self._object(f"/datasources/uid/{_SOURCE_UID}")

        def write(document: dict[str, Any]) -> None:
            if theirs is None:
                self._grafana.post("/datasources", document)
            else:
                kept = {**theirs.get("jsonData", {}), **document["jsonData"]}
                self._grafana.put(f"/datasources/uid/{_SOURCE_UID}", {**theirs, **document, "jsonData": kept})

        applied = self._put("data source", _SOURCE_NAME, theirs, ours, write)
        return _Source(uid=_SOURCE_UID, name=_SOURCE_NAME), applied

    def only_source(self) -> _Source:
        """The one Prometheus that is there."""
        found = [each for each in self._list("/datasources") if each.get("type") == "prometheus"]
        if len(found) != 1:
            names = ", ".join(sorted(str(each.get("name")) for each in found)) or "none"
            raise GrafanaError(f"alert rules need one Prometheus, and there are: {names}; choose with --datasource")
        return _Source(uid=str(found[0]["uid"]), name=str(found[0]["name"]))

    def dashboard(self, name: str, folder_uid: str, source: _Source | None) -> Applied:
        ours = json.loads(shipped("dashboards", f"{name}.json").read_text(encoding="utf-8"))
        if source is not None:
            chosen = {"text": source.name, "value": source.uid}
            ours["templating"]["list"][0]["current"] = chosen
        there, meta = self._dashboard(ours["uid"])
        if meta.get("provisioned"):
            raise GrafanaError(
                f"{ours['title']!r} comes from a provisioning file ({meta.get('provisionedExternalId')}) and can't be"
                " changed by the API: change it there, or remove it there and apply again"
            )
        moved = there is not None and meta.get("folderUid", "") != folder_uid
        if moved and not self._wanted.force:
            raise GrafanaError(
                f"{ours['title']!r} is in the folder {meta.get('folderTitle', '')!r}: name that with --folder, or take"
                " the dashboard back with --force"
            )

        def write(document: dict[str, Any]) -> None:
            # Its version says what was read: whoever has saved since is not overwritten.
            version = {} if there is None else {"id": there.get("id"), "version": there.get("version")}
            body = {"dashboard": {**document, **version}, "folderUid": folder_uid, "overwrite": False}
            self._grafana.post("/dashboards/db", {**body, "message": "watchdog grafana apply"})

        return self._put("dashboard", ours["title"], there, ours, write, moved=moved)

    def rules(self, folder_uid: str, source: _Source) -> Iterator[Applied]:
        plain = yaml.safe_load(shipped("alerts", "watchdog.rules.yaml").read_text(encoding="utf-8"))
        there = {each.get("uid"): each for each in self._list(_RULES)}
        for rule in managed(plain, folder_uid=folder_uid, datasource_uid=source.uid, runbooks=self._wanted.runbooks):
            yield self._put("alert rule", rule["title"], there.get(rule["uid"]), rule, self._rule_writer(there))

    def _rule_writer(self, there: dict[Any, Any]) -> Callable[[dict[str, Any]], None]:
        def write(rule: dict[str, Any]) -> None:
            editable = {"X_Disable_Provenance": "true"}  # a person may silence or tune it on the page
            if rule["uid"] in there:
                self._grafana.put(f"{_RULES}/{rule['uid']}", {**there[rule["uid"]], **rule}, **editable)
            else:
                self._grafana.post(_RULES, rule, **editable)

        return write

    def _dashboard(self, uid: str) -> tuple[dict[str, Any] | None, dict[str, Any]]:
        """The dashboard, and what Grafana says about it."""
        match self._object(f"/dashboards/uid/{uid}"):
            case None:
                return None, {}
            case {"dashboard": dict(there), "meta": dict(meta)}:
                return there, meta
            case _:
                raise self._stranger(f"/dashboards/uid/{uid}")

    def _object(self, path: str) -> dict[str, Any] | None:
        match self._grafana.get(path):
            case None | dict() as found:
                return found
            case _:
                raise self._stranger(path)

    def _list(self, path: str) -> list[dict[str, Any]]:
        match self._grafana.get(path):
            case list(found) if all(isinstance(each, dict) and "uid" in each for each in found):
                return found
            case _:
                raise self._stranger(path)

    def _stranger(self, path: str) -> GrafanaError:
        return GrafanaError(
            f"{self._grafana.origin} has no such /api{path} as Grafana 10 and later have, with alerting"
        )

    def _put(
        self,
        kind: str,
        name: str,
        theirs: Any,
        ours: dict[str, Any],
        write: Callable[[dict[str, Any]], object],
        *,
        moved: bool = False,
    ) -> Applied:
        diff = tuple(difference(theirs, ours, f"{kind}/{name}"))
        if not diff and not moved:
            return Applied(kind=kind, name=name, change=Change.UNCHANGED)
        if not self._dry_run:
            write(ours)
        return Applied(kind=kind, name=name, change=Change.CREATED if theirs is None else Change.CHANGED, diff=diff)
