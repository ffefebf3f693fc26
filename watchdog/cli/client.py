"""Talking to a running watchdog's HTTP API, as all commands do."""

import getpass
import http.client
import json
import os
import ssl
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from watchdog.cli import terminal

Url = Annotated[
    str,
    typer.Option(
        envvar="WATCHDOG_URL",
        help="The running watchdog. Where it is https://, SSL_CERT_FILE names whom to trust, and WATCHDOG_CLIENT_CERT "
        "and WATCHDOG_CLIENT_KEY what to show.",
    ),
]
TokenFile = Annotated[
    Path | None,
    typer.Option("--token-file", envvar="WATCHDOG_TOKEN_FILE", help="The file that holds the token of `api.token`."),
]
AsJson = Annotated[bool, typer.Option("--json", help="The server's JSON as it is.")]
Model = Annotated[str, typer.Argument(metavar="MODEL", help="The model's name in the configuration.")]

URL = "http://127.0.0.1:9469"

CERT_ENV, KEY_ENV = "WATCHDOG_CLIENT_CERT", "WATCHDOG_CLIENT_KEY"
"""Name the PEM files of a client's certificate, for an API that asks for one; SSL_CERT_FILE names whom to trust."""


_HINTS = {401: "; give the one of api.token with --token-file"}
"""What an answer means to somebody who sends no headers by hand."""


class NoAnswerError(Exception):
    """There is none now; later there may be."""


class RefusedError(Exception):
    """Asking again would come to the same."""

    def __init__(self, detail: str, *, status: int) -> None:
        super().__init__(detail)
        self.status = status
        """Of HTTP."""


def ask(
    url: str,
    path: str,
    key: str,
    *,
    timeout_s: float,
    body: Mapping[str, str] | None = None,
    headers: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """The JSON object that a watchdog answers with. Ends the program where `url` is none.

    Args:
        url: where it is.
        path: what is asked of it, from the first slash.
        key: one that the object has, which tells a watchdog from any other server.
        timeout_s: for the answer.
        body: is POSTed as JSON; without one it is a GET.
        headers: more of them.

    Raises:
        NoAnswerError: nobody answers there, or not now.
        RefusedError: the call is wrong.
    """
    if not url.startswith(("http://", "https://")):
        terminal.fail(terminal.WRONG_CALL, f"--url {url}: must begin with http:// or https://")
    sent = dict(headers or {}) | ({"Content-Type": "application/json"} if body is not None else {})
    data = None if body is None else json.dumps(body).encode()
    try:
        request = urllib.request.Request(f"{url.rstrip('/')}{path}", data=data, headers=sent)  # noqa: S310 - checked above
        with _opener(url).open(request, timeout=timeout_s) as response:
            answer = json.load(response)
    except urllib.error.HTTPError as error:
        with error:
            said = f"{url} says {error.code}: {_said(error)}{_HINTS.get(error.code, '')}"
        if error.code >= 500:
            raise NoAnswerError(said) from error
        raise RefusedError(said, status=error.code) from error
    except (OSError, ValueError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        raise NoAnswerError(f"no watchdog answers at {url}: {reason}; name another with --url") from error
    if not isinstance(answer, dict) or key not in answer:
        raise NoAnswerError(f"what answers at {url} is no watchdog; name another with --url")
    return answer


def path_of(model: str, what: str) -> str:
    """The path of something that the API has for each model."""
    return f"/api/v1/models/{urllib.parse.quote(model, safe='')}/{what}"


def authorised(token_file: Path | None) -> dict[str, str]:
    """The header that shows the token; none without a file.

    Of a file with several lines the first counts: it may be the watchdog's own, which has the newest token on top
    while it is rotated. Ends the program where the file can't be used.
    """
    if token_file is None:
        return {}
    try:
        token = token_file.read_text(encoding="utf-8").strip().partition("\n")[0].strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        terminal.fail(terminal.WRONG_CALL, f"--token-file: {token_file} can't be read: {reason}")
    if not token.isascii() or not token.isprintable():  # the client library's own error would show it
        terminal.fail(terminal.WRONG_CALL, f"--token-file: {token_file} must hold printable ASCII")
    return {"Authorization": f"Bearer {token}"}


def user() -> str:
    """Who calls, for the journal."""
    try:
        return f"{getpass.getuser()} (command line)"
    except (KeyError, OSError):
        return "command line"


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A watchdog redirects nobody, and the token is for nobody else."""

    def redirect_request(self, *_: Any) -> None: ...


def _opener(url: str) -> urllib.request.OpenerDirector:
    # The environment's proxies are not for a sidecar.
    handlers: list[urllib.request.BaseHandler] = [urllib.request.ProxyHandler({}), _NoRedirect()]
    if url.startswith("https://"):
        context = ssl.create_default_context()
        if CERT_ENV in os.environ:
            try:
                context.load_cert_chain(os.environ[CERT_ENV], os.environ.get(KEY_ENV), password="")
            except OSError as error:  # one of ssl's own is one
                terminal.fail(terminal.WRONG_CALL, f"the files of {CERT_ENV} and {KEY_ENV} can't be used: {error}")
        handlers.append(urllib.request.HTTPSHandler(context=context))
    return urllib.request.build_opener(*handlers)


def _said(error: urllib.error.HTTPError) -> str:
    try:
        return str(json.load(error)["error"])
    except (OSError, ValueError, KeyError, TypeError):
        return str(error.reason)
