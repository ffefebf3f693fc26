"""Talking to a running watchdog over its HTTP API."""

from pathlib import Path
from typing import Annotated, Any

import typer

from watchdog.cli import client, live_status, picture, terminal
from watchdog.cli.client import URL, AsJson, Model, TokenFile, Url

_TIMEOUT_S = 90.0
"""A command may wait for an engine to be loaded."""

_FAILURES = ("target-unproven", "fast-wrong", "promotion-failed", "switch-failed")
"""Triggers whose detail says why a command came to nothing."""
_WRONG_CALLS = frozenset({400, 401, 403, 404})
_BOUND = ("held", "locked")
"""States in which a person's release has to come first."""

Why = Annotated[str, typer.Option("--why", help="A reason, for the journal.")]


def status(
    url: Url = URL,
    as_json: AsJson = False,
    watch: Annotated[bool, typer.Option("--watch", help="Go on showing it, until q or Ctrl-C.")] = False,
    interval: Annotated[
        float, typer.Option("--interval", min=0.2, max=3600, help="With --watch: seconds from one look to the next.")
    ] = 1.0,
) -> None:
    """Show what the running watchdog knows. Exits with 1 if anything is alerting, with --watch 0 when it is ended."""
    if watch:
        live_status.watch(url, interval)
        return
    document = _status(url)
    if as_json:
        terminal.print_json(document)
    else:
        terminal.out().print(picture.overview(document))
    raise typer.Exit(terminal.NOT_RIGHT if document["alerts"] else 0)


def rollback(model: Model, url: Url = URL, token: TokenFile = None, why: Why = "", as_json: AsJson = False) -> None:
    """Move MODEL to its safe engine, once that is proven."""
    _command("rollback", model, url, token, why=why, as_json=as_json)


def promote(model: Model, url: Url = URL, token: TokenFile = None, why: Why = "", as_json: AsJson = False) -> None:
    """Return MODEL to its fast engine; if it does not prove itself at once, it is moved back."""
    _command("promote", model, url, token, why=why, as_json=as_json)


def hold(model: Model, url: Url = URL, token: TokenFile = None, why: Why = "", as_json: AsJson = False) -> None:
    """Move nothing of MODEL until it is released; probing and alerting go on."""
    _command("hold", model, url, token, why=why, as_json=as_json)


def release(model: Model, url: Url = URL, token: TokenFile = None, why: Why = "", as_json: AsJson = False) -> None:
    """End a hold of MODEL, or its lock after flapping."""
    _command("release", model, url, token, why=why, as_json=as_json)


def look(model: Model, url: Url = URL, token: TokenFile = None, why: Why = "", as_json: AsJson = False) -> None:
    """Ask canaries about both engines of MODEL now, and let the policy draw its conclusions."""
    _command("look", model, url, token, why=why, as_json=as_json)


def _command(command: str, model: str, url: str, token_file: Path | None, *, why: str, as_json: bool) -> None:
    body = {"actor": client.user(), "why": why}
    answer = _ask(url, client.path_of(model, command), "decisions", body, client.authorised(token_file))
    decisions = answer["decisions"]
    if as_json:
        terminal.print_json(answer)
    for d in () if as_json else decisions:
        moves = f"{d['before']} → {d['after']}" if d["before"] != d["after"] else f"{d['after']} already"
        terminal.out().print(f"{moves}  [bold]{d['reason']}[/]  {terminal.plain(d['detail'])}")
    if not answer["done"]:
        terminal.fail(terminal.NOT_RIGHT, f"{command} was not done: {_why_not(model, decisions)}")


def _why_not(model: str, decisions: list[dict[str, Any]]) -> str:
    """What stood in the way; the last decision may tell only how that ended."""
    for decision in decisions:
        if decision["trigger"] in _FAILURES:
            return str(decision["detail"])
    end = decisions[-1]["after"]
    return f"{model} is {end}" + (f"; `watchdog release {model}` ends that" if end in _BOUND else "")


def _status(url: str) -> Any:
    return _ask(url, "/api/v1/status", "models")


def _ask(
    url: str, path: str, key: str, body: dict[str, str] | None = None, headers: dict[str, str] | None = None
) -> Any:
    """`client.ask`; ends the program where there is no answer."""
    try:
        return client.ask(url, path, key, timeout_s=_TIMEOUT_S, body=body, headers=headers)
    except client.NoAnswerError as error:
        terminal.fail(terminal.UNREACHABLE, str(error))
    except client.RefusedError as error:
        terminal.fail(terminal.WRONG_CALL if error.status in _WRONG_CALLS else terminal.NOT_RIGHT, str(error))
