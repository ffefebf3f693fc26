"""Flagger's webhooks: may a rollout start, go on, be promoted, and must it be rolled back?

Flagger reads an answer in its own way. Up to 202 is yes, anything else no. It shows people the body of a 4xx but
drops that of a 5xx, so each no is a 4xx with a short text. A yes to ``rollback`` rolls back, so that one answers
yes to nothing but a confirmed fault.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

from aiohttp import web
from pydantic import Field

from watchdog.api.answers import missing
from watchdog.api.hooks_call import Accepts, Call, Commands, Recent, Text, bearer, read
from watchdog.api.service import NoSuchModelError, Service
from watchdog.model.event import Command
from watchdog.model.gate import Gate, Passage
from watchdog.policy.states import State
from watchdog.transport import one_line

_ACTOR = "flagger"
_MOST_BYTES = 64 * 1024
_MOST_TEXT = 300
_MOST_REMEMBERED = 1024
YES, CONFLICT, TOO_EARLY = 200, 409, 425


class Hook(StrEnum):
    """Flagger's types of webhooks."""

    CONFIRM_ROLLOUT = "confirm-rollout"
    """Before the canary is scaled up. No: it waits."""
    PRE_ROLLOUT = "pre-rollout"
    """Before the canary gets traffic. No: a failed check."""
    ROLLOUT = "rollout"
    """In each interval of the analysis. No: a failed check."""
    CONFIRM_TRAFFIC_INCREASE = "confirm-traffic-increase"
    """Before the canary's weight grows. No: it waits."""
    CONFIRM_PROMOTION = "confirm-promotion"
    """Before the canary becomes the primary. No: it waits."""
    ROLLBACK = "rollback"
    """In each interval. **Yes: it is rolled back.**"""
    POST_ROLLOUT = "post-rollout"
    """After the end, whichever it was. The answer changes nothing."""
    EVENT = "event"
    """At anything that Flagger tells. The answer changes nothing."""


_LOOKS_FIRST = frozenset({Hook.PRE_ROLLOUT, Hook.CONFIRM_PROMOTION})
"""What is not to rest on the last probe, but on canaries asked now."""
_TELLS = frozenset({Hook.POST_ROLLOUT, Hook.EVENT})
_NEEDS_A_PERSON = frozenset({State.HELD, State.LOCKED})

Name = Annotated[str, Field(max_length=253)]


class FlaggerCall(Call):
    """The body of every Flagger webhook."""

    name: Name
    """The Canary's name."""
    namespace: Name
    phase: Name
    """The Canary's, such as ``Progressing``."""
    checksum: Name = ""
    """Of the revision that is rolled out."""
    metadata: Annotated[dict[str, Text], Field(default_factory=dict)]
    """``token``, and of an event also ``eventMessage`` and ``eventType``."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    status: int
    reason: str
    """A short name of why; with the status, what makes an answer another one."""
    text: str

    @property
    def yes(self) -> bool:
        return self.status == YES


def judge(hook: Hook, gate: Gate) -> Answer:
    """What to answer, of the hooks that ask for something. Pure.

    A rollout may *start* while nothing is known, since what starts may be the cure. Everything after that needs
    to be known.
    """
    match hook:
        case Hook.ROLLBACK:
            yes = gate.passage is Passage.FAIL
        case Hook.CONFIRM_ROLLOUT:
            yes = gate.passage is not Passage.FAIL and gate.state not in _NEEDS_A_PERSON
        case _:
            yes = gate.passage is Passage.PASS
    no = TOO_EARLY if gate.passage is Passage.INCONCLUSIVE else CONFLICT
    because = one_line(gate.detail, most=_MOST_TEXT)
    return Answer(
        status=YES if yes else no,
        reason=gate.reason,
        text=f"{gate.model}: {gate.passage}, {gate.state}" + (f": {because}" if because else ""),
    )


def routes(service: Service, accepts: Accepts, commands: Commands) -> list[web.RouteDef]:
    flagger = _Flagger(service, accepts, commands)
    return [web.post("/hooks/flagger/{model}/{type}", flagger.hook)]


class _Flagger:
    def __init__(self, service: Service, accepts: Accepts, commands: Commands) -> None:
        self._service = service
        self._accepts = accepts
        self._commands = commands
        self._told: Recent[tuple[str, Hook, str, str], tuple[str, int, str]] = Recent(_MOST_REMEMBERED)

    async def hook(self, request: web.Request) -> web.Response:
        try:
            answer = await self._answer(request)
        except web.HTTPServerError as error:
            answer = Answer(status=TOO_EARLY, reason="not-ready", text=f"not yet: {error.text}")
        except web.HTTPException as error:
            return web.Response(status=error.status, text=f"{error.text}\n")
        return web.Response(status=answer.status, text=f"{answer.text}\n")

    async def _answer(self, request: web.Request) -> Answer:
        try:
            hook = Hook(request.match_info["type"])
        except ValueError:
            raise web.HTTPNotFound(text=f"no such type of hook; there are {', '.join(Hook)}") from None
        call = await read(request, FlaggerCall, _MOST_BYTES)
        self._accepts(call.metadata.get("token") or bearer(request))
        model = request.match_info["model"]
        try:
            answer = _heard(hook, call) if hook in _TELLS else await self._asked(hook, model, call)
            return await self._recorded(hook, model, call, answer)
        except NoSuchModelError as error:
            raise missing(self._service, error) from error

    async def _asked(self, hook: Hook, model: str, call: FlaggerCall) -> Answer:
        if hook in _LOOKS_FIRST:
            why = f"{hook} of {call.namespace}/{call.name}"
            try:
                looked = await self._commands.carry_out(model, Command.LOOK, _ACTOR, why)
            except OSError as error:
                text = f"not yet: canaries can't be asked: {one_line(str(error))}"
                return Answer(status=TOO_EARLY, reason="not-asked", text=text)
            if not looked:
                return Answer(status=TOO_EARLY, reason="under-way", text="not yet: canaries are still being asked")
        return judge(hook, self._service.gate(model))

    async def _recorded(self, hook: Hook, model: str, call: FlaggerCall, answer: Answer) -> Answer:
        """The answer, once the journal has it if it is a new one: most hooks are called each minute for hours.

        What can't be recorded is no ground for more traffic, and none for keeping it either.
        """
        key = (model, hook, call.namespace, call.name)
        told = (call.checksum, answer.status, answer.reason)
        if self._told.get(key) == told:
            return answer
        said: dict[str, str | bool] = {
            "hook": hook,
            "canary": f"{call.namespace}/{call.name}",
            "phase": call.phase,
            "checksum": call.checksum,
            "yes": answer.yes,
            "text": answer.text,
        }
        try:
            await self._service.note(model, _ACTOR, said)
        except OSError as error:
            if not answer.yes or hook is Hook.ROLLBACK:
                return answer
            text = f"not yet: the journal can't record a yes: {one_line(str(error))}"
            return Answer(status=TOO_EARLY, reason="not-recorded", text=text)
        self._told.put(key, told)
        return answer


def _heard(hook: Hook, call: FlaggerCall) -> Answer:
    text = call.phase
    if hook is Hook.EVENT:
        kind, message = call.metadata.get("eventType", ""), call.metadata.get("eventMessage", "")
        text = one_line(f"{kind}: {message}", most=_MOST_TEXT)
    return Answer(status=YES, reason=text, text=text)
