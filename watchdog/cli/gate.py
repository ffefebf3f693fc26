"""Whether a deployment may go on: for scripts, pipelines and jobs."""

import time
import uuid
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from watchdog.cli import client, terminal
from watchdog.cli.client import URL, AsJson, Model, NoAnswerError, RefusedError, TokenFile, Url

_ASK_S, _LOOK_S = 10.0, 90.0
"""How long an answer may take; canaries may have to wait for a switch that is under way."""
_EVERY_S = 1.0
_EXIT_CODES = {"pass": 0, "fail": terminal.NOT_RIGHT}
_STYLES = {"pass": "green", "fail": "bold red"}


def gate(
    model: Model,
    url: Url = URL,
    token: TokenFile = None,
    *,
    look: Annotated[
        bool, typer.Option("--look", help="Ask canaries about both engines first; needs the API's token.")
    ] = False,
    wait: Annotated[
        str, typer.Option(help="How long to ask again while the answer is inconclusive or there is none, such as 5m.")
    ] = "0s",
    as_json: AsJson = False,
) -> None:
    """Ask whether a deployment of MODEL may go on.

    Exits with 0 for yes, 1 for no, since a fault of the engine is confirmed, 3 if that is not known (inconclusive,
    or no watchdog answers), 2 if the call is wrong (an unknown model, or a token that is not the right one).
    """
    if look and token is None:
        terminal.fail(terminal.WRONG_CALL, "--look commands the watchdog: give the API's token with --token-file")
    headers = client.authorised(token) if look else None
    try:
        answer = _conclusion(_Model(url, model), headers, _seconds(wait))
    except RefusedError as error:
        terminal.fail(terminal.WRONG_CALL, str(error))
    except NoAnswerError as error:
        terminal.fail(terminal.UNREACHABLE, str(error))
    passage = answer["passage"]
    if as_json:
        terminal.print_json(answer)
    else:
        said = f"{answer['state']}, {answer['serves']} serves: {answer['detail'] or answer['reason']}"
        terminal.out().print(
            f"{terminal.plain(model)}: [{_STYLES.get(passage, 'magenta')}]{passage}[/]  {terminal.plain(said)}"
        )
    raise typer.Exit(_EXIT_CODES.get(passage, terminal.UNREACHABLE))


def _seconds(wait: str) -> float:
    from watchdog.settings import parse_duration  # noqa: PLC0415 - heavy

    try:
        return float(parse_duration(wait))
    except ValueError as error:
        terminal.fail(terminal.WRONG_CALL, f"--wait {wait}: {error}")


def _conclusion(model: "_Model", look_with: Mapping[str, str] | None, wait_s: float) -> dict[str, Any]:
    """The first answer that concludes, or the last one when the time is up.

    Args:
        model: what to ask about.
        look_with: headers to have canaries asked with, first and once; None to ask none.
        wait_s: for how long to ask again.

    Raises:
        NoAnswerError: the time is up, and the last that came was no answer.
        RefusedError: asking again would come to the same.
    """
    give_up_at = time.monotonic() + wait_s
    to_look = look_with
    with terminal.progress() as bar:
        task = bar.add_task(f"{model.name}: asking", total=None)
        while True:
            try:
                if to_look is not None:
                    model.look(to_look)
                    to_look = None
                answer = model.gate()
                if answer["passage"] in _EXIT_CODES or time.monotonic() >= give_up_at:
                    return answer
                bar.update(task, description=f"{model.name}: {answer['passage']}, {answer['state']}")
            except NoAnswerError as error:
                if time.monotonic() >= give_up_at:
                    raise
                bar.update(task, description=terminal.plain(str(error)))
            time.sleep(max(0.0, min(_EVERY_S, give_up_at - time.monotonic())))


class _Model:
    """One model of a running watchdog."""

    def __init__(self, url: str, name: str) -> None:
        self.name = name
        self._url = url
        self._key = uuid.uuid4().hex

    def gate(self) -> dict[str, Any]:
        return client.ask(self._url, client.path_of(self.name, "gate"), "passage", timeout_s=_ASK_S)

    def look(self, headers: Mapping[str, str]) -> None:
        """Have canaries asked. To say it again, after no answer came, asks them no second time."""
        said = {"actor": client.user(), "why": "asked by `watchdog gate`"}
        sent = {**headers, "Idempotency-Key": self._key}
        client.ask(
            self._url, client.path_of(self.name, "look"), "decisions", timeout_s=_LOOK_S, body=said, headers=sent
        )
