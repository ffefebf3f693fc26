"""A Grafana that answers as its HTTP API is documented (10.x), as far as it is asked here. No real one was to be had.

It keeps folders, data sources, dashboards (with versions) and alert rules, adds what the real one adds, and refuses
what it refuses: a wrong token, a stale version, a name or uid that is taken, a title twice, a rule without a condition.
"""

import copy
import re
from typing import Any

from aiohttp import web

from watchdog.transport import serve

TOKEN = "glsa_a-token-for-tests"
VIEWER = "glsa_viewer"
Json = dict[str, Any]


def _says(code: int, message: str, **more: Any) -> web.Response:
    return web.json_response({"message": message, **more}, status=code)


class FakeGrafana:
    """What it holds, and every call that would have changed something."""

    def __init__(self) -> None:
        self.folders: dict[str, Json] = {}
        self.sources: dict[str, Json] = {}
        self.dashboards: dict[str, Json] = {}
        """By uid: ``dashboard`` and ``meta``."""
        self.rules: dict[str, Json] = {}
        self.written: list[str] = []
        self.meanwhile: str | None = None
        """Somebody saves this dashboard between it being read and being written."""
        self._numbers = iter(range(1, 1000))

    async def start(self, prefix: str = "") -> tuple[web.AppRunner, str]:
        app = web.Application(middlewares=[self._guard])
        at = f"{prefix}/api"
        app.add_routes(
            [
                web.get(f"{at}/health", self._health),
                web.get(f"{at}/folders", self._list_folders),
                web.post(f"{at}/folders", self._new_folder),
                web.get(f"{at}/datasources", self._list_sources),
                web.post(f"{at}/datasources", self._new_source),
                web.get(f"{at}/datasources/uid/{{uid}}", self._source),
                web.put(f"{at}/datasources/uid/{{uid}}", self._change_source),
                web.get(f"{at}/datasources/name/{{name}}", self._source_named),
                web.get(f"{at}/dashboards/uid/{{uid}}", self._dashboard),
                web.post(f"{at}/dashboards/db", self._save_dashboard),
                web.get(f"{at}/v1/provisioning/alert-rules", self._list_rules),
                web.post(f"{at}/v1/provisioning/alert-rules", self._new_rule),
                web.put(f"{at}/v1/provisioning/alert-rules/{{uid}}", self._change_rule),
            ]
        )
        runner, url = await serve(app, "127.0.0.1:0")
        return runner, f"{url}{prefix}"

    @web.middleware
    async def _guard(self, request: web.Request, handler: Any) -> web.StreamResponse:
        if request.path.endswith("/health"):
            return await handler(request)  # type: ignore[no-any-return]
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if token not in {TOKEN, VIEWER}:
            return _says(401, "Invalid API key")
        if request.method != "GET":
            if token == VIEWER:
                return _says(403, "You'll need additional permissions to perform this action.", accessErrorId="ACE1")
            self.written.append(f"{request.method} {request.path}")
        try:
            return await handler(request)  # type: ignore[no-any-return]
        except web.HTTPNotFound:
            return _says(404, "Not found")

    async def _health(self, request: web.Request) -> web.Response:
        return web.json_response({"commit": "abc", "database": "ok", "version": "10.4.2"})

    # -- folders -------------------------------------------------------------------------

    async def _list_folders(self, request: web.Request) -> web.Response:
        return web.json_response(list(self.folders.values()))

    async def _new_folder(self, request: web.Request) -> web.Response:
        title = (await request.json())["title"]
        if any(each["title"] == title for each in self.folders.values()):
            return _says(409, "a folder with the same name already exists in the current location")
        return web.json_response(self.folder(title))

    def folder(self, title: str) -> Json:
        number = next(self._numbers)
        made = {"id": number, "uid": f"f{number}", "title": title}
        self.folders[f"f{number}"] = made
        return made

    # -- data sources --------------------------------------------------------------------

    async def _list_sources(self, request: web.Request) -> web.Response:
        return web.json_response(list(self.sources.values()))

    async def _source(self, request: web.Request) -> web.Response:
        found = self.sources.get(request.match_info["uid"])
        return _says(404, "Data source not found") if found is None else web.json_response(found)

    async def _source_named(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        found = next((each for each in self.sources.values() if each["name"] == name), None)
        return _says(404, "Data source not found") if found is None else web.json_response(found)

    async def _new_source(self, request: web.Request) -> web.Response:
        new = await request.json()
        if any(new["name"] == each["name"] or new["uid"] == each["uid"] for each in self.sources.values()):
            return _says(409, "data source with the same name already exists")
        return web.json_response({"datasource": self.source(**new), "message": "Datasource added"})

    async def _change_source(self, request: web.Request) -> web.Response:
        found = self.sources.get(request.match_info["uid"])
        if found is None:
            return _says(404, "Data source not found")
        found |= await request.json() | {"version": found["version"] + 1}
        return web.json_response({"datasource": found, "message": "Datasource updated"})

    def source(self, **fields: Any) -> Json:
        made = {"id": next(self._numbers), "orgId": 1, "version": 1, "isDefault": False, "readOnly": False, **fields}
        self.sources[made["uid"]] = made
        return made

    # -- dashboards ----------------------------------------------------------------------

    async def _dashboard(self, request: web.Request) -> web.Response:
        found = self.dashboards.get(request.match_info["uid"])
        if found is None:
            return _says(404, "Dashboard not found")
        answer = copy.deepcopy(found)
        if self.meanwhile == request.match_info["uid"]:
            found["dashboard"]["version"] += 1
        return web.json_response(answer)

    async def _save_dashboard(self, request: web.Request) -> web.Response:
        body = await request.json()
        new, folder_uid = body["dashboard"], body.get("folderUid", "")
        if not re.fullmatch(r"[A-Za-z0-9_-]{1,40}", new["uid"]):
            return _says(400, "uid contains illegal characters or is too long")
        if folder_uid and folder_uid not in self.folders:
            return _says(400, "folder not found")
        there = self.dashboards.get(new["uid"])
        if there is not None and not body.get("overwrite"):
            if new.get("id") != there["dashboard"]["id"]:
                return _says(412, "A dashboard with the same uid already exists", status="name-exists")
            if new.get("version") != there["dashboard"]["version"]:
                return _says(412, "The dashboard has been changed by someone else", status="version-mismatch")
        if there is not None and there["meta"]["provisioned"]:
            return _says(400, "Cannot save provisioned dashboard")
        self.dashboard(new, folder_uid)
        kept = self.dashboards[new["uid"]]["dashboard"]
        return web.json_response(
            {"id": kept["id"], "uid": kept["uid"], "status": "success", "version": kept["version"]}
        )

    def dashboard(self, new: Json, folder_uid: str, **meta: Any) -> None:
        there = self.dashboards.get(new["uid"], {}).get("dashboard", {})
        kept = {
            **copy.deepcopy(new),
            "id": there.get("id") or next(self._numbers),
            "version": there.get("version", 0) + 1,
            "fiscalYearStartMonth": 0,
            "weekStart": "",
        }
        for panel in kept.get("panels", ()):
            panel["pluginVersion"] = "10.4.2"
        title = self.folders.get(folder_uid, {}).get("title", "General")
        about = {"folderUid": folder_uid, "folderTitle": title, "provisioned": False, "canSave": True, **meta}
        self.dashboards[new["uid"]] = {"dashboard": kept, "meta": about}

    # -- alert rules ---------------------------------------------------------------------

    async def _list_rules(self, request: web.Request) -> web.Response:
        return web.json_response(list(self.rules.values()))

    async def _new_rule(self, request: web.Request) -> web.Response:
        rule = await request.json()
        if rule["uid"] in self.rules:
            return _says(
                409, "a conflicting alert rule is found: rule UID under the same organisation should be unique"
            )
        return self._keep(rule, request, 201)

    async def _change_rule(self, request: web.Request) -> web.Response:
        if request.match_info["uid"] not in self.rules:
            return _says(404, "alert rule not found")
        return self._keep(await request.json(), request, 200)

    def _keep(self, rule: Json, request: web.Request, status: int) -> web.Response:
        if rule["folderUID"] not in self.folders:
            return _says(404, "folder does not exist")
        if not re.fullmatch(r"[A-Za-z0-9_-]{1,40}", rule["uid"]):
            return _says(400, "invalid alert rule: cannot create rule with UID")
        if rule["condition"] not in {query["refId"] for query in rule["data"]}:
            return _says(400, "invalid alert rule: condition does not exist among its queries")
        if any(
            each["title"] == rule["title"] and uid != rule["uid"] and each["folderUID"] == rule["folderUID"]
            for uid, each in self.rules.items()
        ):
            return _says(409, "a rule of this title is there", messageId="alerting.alert-rule.conflict")
        kept = {"id": next(self._numbers), "orgID": 1, "updated": "2026-01-01T00:00:00Z", **copy.deepcopy(rule)}
        for query in kept["data"]:
            query["queryType"] = ""
            query["model"] |= {"intervalMs": 1000, "maxDataPoints": 43200}
        if request.headers.get("X-Disable-Provenance") != "true":
            kept["provenance"] = "api"
        self.rules[rule["uid"]] = kept
        return web.json_response(kept, status=status)
