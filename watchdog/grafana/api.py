"""Grafana's HTTP API, by way of `grafana_api`, with its failures in words."""

import json
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from grafana_api.grafana_face import GrafanaFace

from watchdog.transport import one_line

_HINTS = {
    401: "the token is not accepted: make one for a service account with the role Editor (Admin for a data source)",
    403: "the token may not do that: its service account needs the role Editor (Admin for a data source)",
    409: "something else in this Grafana has that name, or manages it: look there first",
    412: "somebody has changed it meanwhile: apply again",
}


class GrafanaError(Exception):
    """Grafana did not do it; the text tells what to do and holds no secret."""

    def __init__(self, detail: str, *, status: int = 0) -> None:
        super().__init__(detail)
        self.status = status
        """Of HTTP; 0 where there was no usable answer."""


class Grafana:
    """One Grafana. Every method raises GrafanaError. Paths begin after ``/api``.

    Args:
        url: its address, with a prefix where it has one.
        token: of a service account.
        ca: PEM file of the authorities to trust; those of `certifi` where absent.
        timeout_s: to connect, and for each silence while it answers.
    """

    def __init__(self, url: str, token: str, *, ca: Path | None = None, timeout_s: float = 10.0) -> None:
        parts = urlsplit(url)
        prefix = parts.path.strip("/")
        self.origin = f"{parts.scheme}://{parts.netloc}"
        self._token = token
        self._api = GrafanaFace(
            token,
            host=parts.netloc,
            protocol=parts.scheme,
            url_path_prefix=f"{prefix}/" if prefix else "",
            verify=True if ca is None else str(ca),
            timeout=timeout_s,
        ).api
        # Before the library looks: it fails on a proxy's error page, and would follow a redirect.
        self._api.s.hooks["response"].append(self._refuse)

    def meet(self) -> str:
        """Its version; GrafanaError where something else answers."""
        match self.get("/health"):
            case {"database": _, **more}:
                return str(more.get("version", ""))
            case _:
                raise GrafanaError(f"{self.origin} answers, but is no Grafana: does its address have a prefix?")

    def get(self, path: str) -> Any:
        """What is there; None where nothing is."""
        try:
            return self._ask("GET", path)
        except _NothingThereError:
            return None

    def post(self, path: str, body: Any, **headers: str) -> Any:
        """Something new."""
        return self._ask("POST", path, body, headers)

    def put(self, path: str, body: Any, **headers: str) -> Any:
        """Something in the place of what is there."""
        return self._ask("PUT", path, body, headers)

    def _ask(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Any:
        sent = {name.replace("_", "-"): value for name, value in (headers or {}).items()}
        try:
            return getattr(self._api, method)(path, json=body, headers=sent)
        except ValueError as error:  # before OSError, since the client's own complaint of JSON is both
            raise GrafanaError(f"{self.origin} answers {method} /api{path}, but not in JSON: is it Grafana?") from error
        except OSError as error:  # every failure of the client's is one
            detail = one_line(str(error), [self._token])
            raise GrafanaError(f"{self.origin} does not answer {method} /api{path}: {detail}") from error

    def _refuse(self, response: Any, **_: Any) -> None:
        """Raises for every answer that is not what was asked for."""
        status: int = response.status_code
        if status < 300:
            return
        asked = f"{response.request.method} {urlsplit(response.request.url).path}"
        if status < 400:
            raise GrafanaError(f"{asked}: {self.origin} sends elsewhere; give the address that it has", status=status)
        told = _told(response.content)
        if status == 404 and told is not None and response.request.method == "GET":
            raise _NothingThereError("", status=status)
        said = one_line(told if told is not None else response.text, [self._token])
        hint = f"; {_HINTS[status]}" if status in _HINTS else ""
        raise GrafanaError(f"{asked}: {self.origin} says {status}: {said}{hint}", status=status)


class _NothingThereError(GrafanaError):
    """Grafana itself says so: a proxy's 404 is none."""


def _told(raw: bytes) -> str | None:
    """The message of an error of Grafana's own."""
    try:
        return str(json.loads(raw)["message"])
    except (ValueError, RecursionError, LookupError, TypeError):
        return None
