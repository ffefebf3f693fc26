"""Alertmanager's webhook as a trigger: an alert that fires makes canaries look, and can move to the safe engine.

Alertmanager takes 2xx for accepted, tries again after a 5xx, and counts a 4xx as failed for good. It repeats an
alert for as long as it fires, so each one acts once. Nothing that it sends brings the fast engine back.
"""

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from aiohttp import web
from pydantic import Field

from watchdog.api.answers import document, missing, problem
from watchdog.api.documents import Document
from watchdog.api.hooks_call import Accepts, Call, Commands, Recent, Text, bearer, read
from watchdog.api.service import NoSuchModelError, Service
from watchdog.model.authority import NotLeadingError
from watchdog.model.event import Command
from watchdog.transport import one_line

COMMANDS = {"look": Command.LOOK, "rollback": Command.ROLLBACK}
"""What ``?do=`` may say."""
_ACTOR = "alertmanager"
_MOST_BYTES = 2**20
_MOST_REMEMBERED = 4096
_OURS = "Watchdog"
"""How the watchdog's own alerts begin: acting on those would be a loop. The dead man's switch that comes with
many a Prometheus has this very name, and is no reason to act either."""


class Alert(Call):
    status: Literal["firing", "resolved"]
    labels: dict[str, Text]
    """``alertname``, and ``model`` where the path names none."""
    annotations: Annotated[dict[str, Text], Field(default_factory=dict)]
    starts_at: Annotated[str, Field(alias="startsAt", max_length=64)]
    fingerprint: Annotated[str, Field(max_length=64)]
    """Of the labels; with `starts_at` it tells one alert from all others."""

    @property
    def firing(self) -> bool:
        return self.status == "firing"

    @property
    def name(self) -> str:
        return self.labels.get("alertname", "")


class AlertmanagerNotification(Call):
    """The body of Alertmanager's webhook."""

    version: Literal["4"]
    alerts: list[Alert]


class AlertsTaken(Document):
    """What became of a notification: the names of models."""

    commanded: list[str]
    """A new alert fires: the command was given."""
    under_way: list[str]
    """Of these, those for which it is not done yet."""
    noted: list[str]
    """An alert is over: the journal has it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Outcome:
    """What became of one model's alerts."""

    model: str
    commanded: bool = False
    under_way: bool = False
    noted: bool = False
    problem: str = ""
    status: int = 200


def routes(service: Service, accepts: Accepts, may_command: Accepts, commands: Commands) -> list[web.RouteDef]:
    alertmanager = _Alertmanager(service, accepts, may_command, commands)
    return [
        web.post("/hooks/alertmanager", alertmanager.notified),
        web.post("/hooks/alertmanager/{model}", alertmanager.notified),
    ]


class _Alertmanager:
    def __init__(self, service: Service, accepts: Accepts, may_command: Accepts, commands: Commands) -> None:
        self._service = service
        self._accepts = accepts
        self._may_command = may_command
        self._commands = commands
        self._seen: Recent[tuple[str, str, str, str], Literal[True]] = Recent(_MOST_REMEMBERED)

    async def notified(self, request: web.Request) -> web.Response:
        """Each model's alerts are seen to, whatever becomes of the others', and then all that is wrong is told."""
        self._accepts(bearer(request))
        command = COMMANDS.get(request.query.get("do", "look"))
        if command is None:
            raise web.HTTPBadRequest(text=f"do: must be one of {', '.join(COMMANDS)}")
        if command is not Command.LOOK:
            self._may_command(bearer(request))
        body = await read(request, AlertmanagerNotification, _MOST_BYTES)
        models, problems = _by_model(body.alerts, request.match_info.get("model"))
        found = await asyncio.gather(*(self._see_to(model, command, alerts) for model, alerts in models.items()))
        failed = [each for each in found if each.problem]
        if problems or failed:
            # That one should be tried again outweighs that others need not be.
            status = max((each.status for each in failed), default=400)
            return problem(status, "; ".join([*problems, *(each.problem for each in failed)]))
        answer = AlertsTaken(
            commanded=[each.model for each in found if each.commanded],
            under_way=[each.model for each in found if each.under_way],
            noted=[each.model for each in found if each.noted],
        )
        return document(answer, 202 if answer.under_way else 200)

    async def _see_to(self, model: str, command: Command, alerts: Sequence[Alert]) -> _Outcome:
        keys = {(model, command if a.firing else a.status, a.fingerprint, a.starts_at): a for a in alerts}
        fresh = {key: alert for key, alert in keys.items() if self._seen.get(key) is None}
        for key in fresh:  # at once, since the same may come again while canaries are asked
            self._seen.put(key, True)
        done = False
        try:
            outcome = await self._act(model, command, list(fresh.values()))
            done = not outcome.problem
        finally:
            for key in () if done else fresh:
                self._seen.drop(key)
        return outcome

    async def _act(self, model: str, command: Command, alerts: Sequence[Alert]) -> _Outcome:
        firing, resolved = [a for a in alerts if a.firing], [a for a in alerts if not a.firing]
        finished = True
        try:
            if firing:
                finished = await self._commands.carry_out(model, command, _ACTOR, _why(firing))
            if resolved:
                await self._service.note(model, _ACTOR, {"hook": "resolved", "text": _why(resolved)})
        except NoSuchModelError as error:
            response = missing(self._service, error)
            return _Outcome(model=model, problem=response.text or "", status=response.status)
        except NotLeadingError as error:
            return _Outcome(model=model, problem=f"{model}: {error}", status=409)
        except OSError as error:
            return _Outcome(
                model=model, problem=f"{model}: try again, the journal can't record it: {error}", status=503
            )
        return _Outcome(model=model, commanded=bool(firing), under_way=not finished, noted=bool(resolved))


def _by_model(alerts: Iterable[Alert], named: str | None) -> tuple[Mapping[str, list[Alert]], list[str]]:
    """The alerts that count, by model, and what is wrong with others."""
    models: defaultdict[str, list[Alert]] = defaultdict(list)
    problems = []
    for at, alert in enumerate(alerts):
        if alert.name.startswith(_OURS):
            continue
        if model := named or alert.labels.get("model"):
            models[model].append(alert)
        else:
            problems.append(f"alerts[{at}].labels.model: is required where the path names no model")
    return models, problems


def _why(alerts: Sequence[Alert]) -> str:
    """The first alert's name and summary, and how many more there are: a line for the journal."""
    first = alerts[0]
    text = ": ".join(part for part in (first.name, first.annotations.get("summary", "")) if part)
    return one_line(text) + (f" (and {len(alerts) - 1} more)" if len(alerts) > 1 else "")
