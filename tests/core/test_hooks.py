"""Controllers' hooks over real sockets: what each is answered, above all when something is wrong."""

import asyncio
import dataclasses
import io
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.test_api import AUTH, GATE, TOKEN, FakeService, error_of, listening
from tests.core.virtual_time import in_virtual_time
from watchdog.api import hooks, hooks_call, hooks_doc
from watchdog.api.hooks_call import PATIENCE_S, Commands, Recent
from watchdog.api.hooks_flagger import Hook, judge
from watchdog.api.service import NoSuchModelError
from watchdog.model.authority import NotLeadingError
from watchdog.model.event import Command
from watchdog.model.gate import Gate, Passage
from watchdog.policy.states import State

PASS, FAIL, INCONCLUSIVE = Passage.PASS, Passage.FAIL, Passage.INCONCLUSIVE


def gate(passage: Passage, state: State = State.SERVING_FAST) -> Gate:
    return dataclasses.replace(GATE, passage=passage, state=state, reason=f"because-{passage}")


class Ward(FakeService):
    """Watches ``nodule`` and ``lesion``, and keeps what it was told."""

    def __init__(self) -> None:
        super().__init__()
        self.the_token = TOKEN
        self.notes: list[tuple[str, str, dict[str, str | bool]]] = []
        self.journal_fails: Exception | None = None
        self.gate_fails: Exception | None = None
        self.after_look: Gate | None = None
        """What canaries will show."""
        self.began = 0

    async def command(self, model: str, command: Command, actor: str, why: str) -> Sequence[dict[str, Any]]:
        self.began += 1
        done = await super().command(model, command, actor, why)
        self.the_gate = self.after_look or self.the_gate
        return done

    def gate(self, model: str) -> Gate:
        if self.gate_fails:
            raise self.gate_fails
        return super().gate(model)

    async def note(self, model: str, actor: str, said: Mapping[str, str | bool]) -> None:
        self._watched(model)
        if self.journal_fails:
            raise self.journal_fails
        self.notes.append((model, actor, dict(said)))

    def _watched(self, model: str) -> None:
        if self.not_ready or model not in {"nodule", "lesion"}:
            raise NoSuchModelError(f"no model {model!r} is watched; there are: nodule, lesion")


@pytest.fixture
def ward() -> Ward:
    return Ward()


@pytest.fixture
async def client(ward: Ward) -> AsyncIterator[aiohttp.ClientSession]:
    async with listening(ward) as session:
        yield session


# Flagger

CANARY: dict[str, Any] = {
    "name": "lung-nodule",
    "namespace": "imaging",
    "phase": "Progressing",
    "checksum": "6f8d7c5b9d",
    "metadata": {"token": TOKEN},
}
ASKING = [hook for hook in Hook if hook not in {Hook.POST_ROLLOUT, Hook.EVENT}]
LOOKING = [Hook.PRE_ROLLOUT, Hook.CONFIRM_PROMOTION]
FORWARD = [hook for hook in ASKING if hook is not Hook.ROLLBACK]


def what_says_yes(hook: Hook) -> Gate:
    return gate(FAIL if hook is Hook.ROLLBACK else PASS)


async def ask(client: aiohttp.ClientSession, hook: str, body: Any = CANARY, model: str = "nodule") -> tuple[int, str]:
    async with client.post(f"/hooks/flagger/{model}/{hook}", json=body) as response:
        assert response.content_type == "text/plain"
        text = await response.text()
        assert text.count("\n") == 1  # what Flagger shows is a line
        return response.status, text.strip()


@pytest.mark.parametrize(
    ("passage", "state", "start", "go_on", "roll_back"),
    [
        (PASS, State.SERVING_FAST, 200, 200, 409),
        (PASS, State.PROBATION, 200, 200, 409),
        (FAIL, State.DEGRADED, 409, 409, 200),
        (FAIL, State.SERVING_SAFE, 409, 409, 200),
        (FAIL, State.HELD, 409, 409, 200),
        (INCONCLUSIVE, State.CONFIRMING, 200, 425, 425),
        (INCONCLUSIVE, State.BLIND, 200, 425, 425),
        (INCONCLUSIVE, State.HELD, 425, 425, 425),
        (INCONCLUSIVE, State.LOCKED, 425, 425, 425),
    ],
)
async def test_every_type_is_answered_by_the_gate(
    ward: Ward,
    client: aiohttp.ClientSession,
    passage: Passage,
    state: State,
    *,
    start: int,
    go_on: int,
    roll_back: int,
) -> None:
    ward.the_gate = gate(passage, state)
    wanted = dict.fromkeys(FORWARD, go_on) | {Hook.CONFIRM_ROLLOUT: start, Hook.ROLLBACK: roll_back}
    assert {hook: (await ask(client, hook))[0] for hook in ASKING} == wanted


async def test_the_answer_says_why(ward: Ward, client: aiohttp.ClientSession) -> None:
    ward.the_gate = dataclasses.replace(gate(FAIL, State.DEGRADED), detail="probability: 3 of 4\nare NaN" + "!" * 999)
    status, text = await ask(client, Hook.ROLLOUT)
    assert status == 409
    assert text.startswith("nodule: fail, degraded: probability: 3 of 4 are NaN!!!")
    assert len(text) < 400


@given(st.sampled_from(ASKING), st.sampled_from(Passage), st.sampled_from(State))
def test_a_confirmed_fault_is_the_only_yes_to_a_rollback_and_never_a_yes_to_more(
    hook: Hook, passage: Passage, state: State
) -> None:
    yes = judge(hook, gate(passage, state)).yes
    if hook is Hook.ROLLBACK or passage is FAIL:
        assert yes == (hook is Hook.ROLLBACK and passage is FAIL)
    if passage is PASS and state not in {State.HELD, State.LOCKED}:
        assert yes == (hook is not Hook.ROLLBACK)


@pytest.mark.parametrize("hook", ASKING)
async def test_canaries_are_asked_where_the_last_probe_is_not_enough(
    ward: Ward, client: aiohttp.ClientSession, hook: Hook
) -> None:
    ward.the_gate, ward.after_look = gate(PASS), gate(FAIL)
    status, _ = await ask(client, hook)
    if hook in LOOKING:
        assert status == 409
        assert ward.commands == [("nodule", Command.LOOK, "flagger", f"{hook} of imaging/lung-nodule")]
    else:
        assert status == (409 if hook is Hook.ROLLBACK else 200)
        assert ward.commands == []


@pytest.mark.parametrize("hook", LOOKING)
async def test_a_look_that_takes_too_long_is_a_not_yet_and_goes_on_for_all_who_ask(
    ward: Ward, client: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch, hook: Hook
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(hooks_call, "PATIENCE_S", 0.02)
        ward.may_go_on.clear()
        for _ in range(3):
            assert await ask(client, hook) == (425, "not yet: canaries are still being asked")
    assert (ward.began, ward.commands) == (1, [])
    ward.may_go_on.set()
    assert (await ask(client, hook))[0] == 200
    assert all(command is Command.LOOK for _, command, _, _ in ward.commands)


def without(key: str) -> dict[str, Any]:
    return {k: v for k, v in CANARY.items() if k != key}


@pytest.mark.parametrize("hook", Hook)
@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        (without("metadata"), 401, "Authorization"),
        (CANARY | {"metadata": {}}, 401, "Authorization"),
        (CANARY | {"metadata": {"token": ""}}, 401, "Authorization"),
        (CANARY | {"metadata": {"token": f"{TOKEN}x"}}, 401, "Authorization"),
        (CANARY | {"metadata": {"token": 12345}}, 400, "metadata.token: Input should be a valid string"),
        (CANARY | {"metadata": {"token": "\ud800"}}, 400, "metadata.token"),
        (CANARY | {"metadata": None}, 400, "metadata"),
        (CANARY | {"name": 1}, 400, "name"),
        (CANARY | {"phase": "x" * 254}, 400, "phase"),
        (without("namespace"), 400, "namespace"),
        ([CANARY], 400, "the body must be a JSON object"),
        (CANARY | {"metadata": {"token": TOKEN, "x": "y" * 70_000}}, 413, "Maximum request body size"),
    ],
)
async def test_a_wrong_call_is_refused_with_the_field_and_without_its_value(
    ward: Ward, client: aiohttp.ClientSession, hook: Hook, body: Any, *, status: int, says: str
) -> None:
    ward.the_gate = what_says_yes(hook)
    got, text = await ask(client, hook, body)
    assert got == status
    assert says in text
    assert "12345" not in text
    assert (ward.commands, ward.notes) == ([], [])


@pytest.mark.parametrize("hook", Hook)
@pytest.mark.parametrize("raw", [b"", b"{", b"\xff", b"null", b"[" * 60_000, b'{"name": NaN}', b'{"a": 1, "a": 1}'])
async def test_a_body_that_is_no_json_is_refused(
    ward: Ward, client: aiohttp.ClientSession, hook: Hook, raw: bytes
) -> None:
    ward.the_gate = what_says_yes(hook)
    headers = AUTH | {"Content-Type": "application/json"}
    async with client.post(f"/hooks/flagger/nodule/{hook}", data=raw, headers=headers) as response:
        assert response.status == 400


@pytest.mark.parametrize("hook", ASKING)
@pytest.mark.parametrize(
    ("wrong", "status"),
    [
        ({"the_token": None}, 403),
        ({"the_token": ValueError("the secret file /run/token is empty")}, 425),
        ({"not_ready": "the canaries are being loaded"}, 425),
        ({"gate_fails": NoSuchModelError("no model 'nodule' is watched; there are: lesion")}, 404),
        ({"gate_fails": RuntimeError("a bug")}, 500),
    ],
)
async def test_what_goes_wrong_is_never_a_yes(
    ward: Ward, client: aiohttp.ClientSession, hook: Hook, wrong: dict[str, Any], status: int
) -> None:
    ward.the_gate = what_says_yes(hook)
    for name, value in wrong.items():
        setattr(ward, name, value)
    async with client.post(f"/hooks/flagger/nodule/{hook}", json=CANARY) as response:
        assert response.status == status


@pytest.mark.parametrize("hook", LOOKING)
@pytest.mark.parametrize(("fails", "status"), [(OSError("disk full"), 425), (RuntimeError("a bug"), 500)])
async def test_a_look_that_fails_is_no_yes_and_can_be_asked_again(
    ward: Ward, client: aiohttp.ClientSession, hook: Hook, fails: Exception, status: int
) -> None:
    ward.fails = fails
    async with client.post(f"/hooks/flagger/nodule/{hook}", json=CANARY) as response:
        assert response.status == status
    ward.fails = None
    assert (await ask(client, hook))[0] == 200


@pytest.mark.parametrize(
    ("hook", "passage", "status"),
    [
        *((hook, PASS, 425) for hook in FORWARD),
        *((hook, FAIL, 409) for hook in FORWARD),
        (Hook.ROLLBACK, FAIL, 200),
        (Hook.ROLLBACK, PASS, 409),
        (Hook.POST_ROLLOUT, PASS, 425),
        (Hook.EVENT, PASS, 425),
    ],
)
async def test_a_journal_that_fails_stops_what_adds_traffic_and_not_what_takes_it_away(
    ward: Ward, client: aiohttp.ClientSession, hook: Hook, passage: Passage, status: int
) -> None:
    ward.the_gate, ward.journal_fails = gate(passage), OSError("disk full")
    got, text = await ask(client, hook)
    assert got == status
    assert ("disk full" in text) == (status == 425)
    ward.journal_fails = None
    assert (await ask(client, hook))[0] == (200 if status == 425 else status)
    assert len(ward.notes) == 1  # what was not recorded then is now


@pytest.mark.parametrize("hook", Hook)
async def test_models_and_types_that_are_not_there_are_not_found(client: aiohttp.ClientSession, hook: Hook) -> None:
    status, text = await ask(client, hook, model="liver")
    assert (status, text) == (404, "no model 'liver' is watched; there are: nodule, lesion")
    status, text = await ask(client, f"{hook}s")
    assert status == 404
    assert hook in text


async def test_a_token_in_the_header_does_too_and_new_keys_are_let_pass(client: aiohttp.ClientSession) -> None:
    body = without("metadata") | {"canaryWeight": 10, "metadata": {"site": "a"}}
    async with client.post("/hooks/flagger/nodule/rollout", json=body, headers=AUTH) as response:
        assert response.status == 200


async def test_only_a_change_of_the_answer_is_recorded(ward: Ward, client: aiohttp.ClientSession) -> None:
    async def three_times(**changes: Any) -> None:
        for _ in range(3):
            await ask(client, Hook.ROLLOUT, CANARY | changes)

    await three_times()
    assert ward.notes == [
        (
            "nodule",
            "flagger",
            {
                "hook": "rollout",
                "canary": "imaging/lung-nodule",
                "phase": "Progressing",
                "checksum": "6f8d7c5b9d",
                "yes": True,
                "text": "nodule: pass, serving-fast: as it should be",
            },
        )
    ]
    ward.the_gate = gate(FAIL)
    await three_times()
    ward.the_gate = gate(PASS)
    await three_times()
    await three_times(checksum="another revision")
    await three_times(name="another")
    assert [said["yes"] for _, _, said in ward.notes] == [True, False, True, True, True]
    assert TOKEN not in str(ward.notes)


async def test_what_flagger_tells_is_recorded_in_short(ward: Ward, client: aiohttp.ClientSession) -> None:
    ward.the_gate = gate(FAIL)
    event = {"eventMessage": "Advance lung-nodule\ncanary" + "!" * 999, "eventType": "Normal", "timestamp": "1"}
    told = CANARY | {"metadata": event | {"token": TOKEN}}
    for hook, body in ((Hook.EVENT, told), (Hook.EVENT, told), (Hook.POST_ROLLOUT, CANARY | {"phase": "Failed"})):
        assert (await ask(client, hook, body))[0] == 200
    texts = [str(said["text"]) for _, _, said in ward.notes]
    assert len(texts) == 2
    assert texts[0].startswith("Normal: Advance lung-nodule canary!!!")
    assert len(texts[0]) <= 300
    assert texts[1] == "Failed"
    assert ward.commands == []


@given(st.lists(st.integers(0, 9)))
def test_the_memory_holds_what_was_touched_last(keys: list[int]) -> None:
    recent: Recent[int, int] = Recent(3)
    for key in keys:
        if recent.get(key) is None:
            recent.put(key, key)
    last = list(dict.fromkeys(reversed(keys)))
    assert {key for key in range(10) if recent.get(key) is not None} == set(last[:3])


@in_virtual_time
async def test_a_command_is_waited_for_less_long_than_flagger_waits_and_is_not_cut_off() -> None:
    class Slow(Ward):
        async def command(self, model: str, command: Command, actor: str, why: str) -> Sequence[dict[str, Any]]:
            await asyncio.sleep(60)
            return await super().command(model, command, actor, why)

    ward, loop = Slow(), asyncio.get_running_loop()
    commands = Commands(ward)
    assert not await commands.carry_out("nodule", Command.LOOK, "flagger", "")
    assert loop.time() == PATIENCE_S < 10
    assert not await commands.carry_out("nodule", Command.LOOK, "another", "")
    await asyncio.sleep(60)
    assert ward.commands == [("nodule", Command.LOOK, "flagger", "")]


# Alertmanager


def alert(name: str = "ScoresLow", **changes: Any) -> dict[str, Any]:
    """An alert as Alertmanager sends it; `model` and `summary` go where they belong."""
    model, summary = changes.pop("model", "nodule"), changes.pop("summary", "half as many findings")
    return {
        "status": "firing",
        "labels": {"alertname": name} | ({"model": model} if model else {}),
        "annotations": {"summary": summary},
        "startsAt": "2026-01-01T12:00:00.000Z",
        "endsAt": "0001-01-01T00:00:00Z",
        "generatorURL": "http://prometheus.example.org/graph",
        "fingerprint": f"{name}-{model}",
    } | changes


def resolved(name: str = "ScoresLow", **changes: Any) -> dict[str, Any]:
    return alert(name, status="resolved", endsAt="2026-01-01T12:30:00.000Z", **changes)


async def notify(
    client: aiohttp.ClientSession, *alerts: dict[str, Any], path: str = "", token: str = TOKEN
) -> tuple[int, Any]:
    body = {
        "version": "4",
        "groupKey": "{}:{}",
        "truncatedAlerts": 0,
        "status": "firing",
        "receiver": "watchdog",
        "groupLabels": {},
        "commonLabels": {},
        "commonAnnotations": {},
        "externalURL": "http://alertmanager.example.org",
        "alerts": alerts,
    }
    headers = {"Authorization": f"Bearer {token}"}
    async with client.post(f"/hooks/alertmanager{path}", json=body, headers=headers) as response:
        return response.status, await response.json()


def taken(*, commanded: Sequence[str] = (), under_way: Sequence[str] = (), noted: Sequence[str] = ()) -> dict[str, Any]:
    return {"commanded": list(commanded), "under_way": list(under_way), "noted": list(noted)}


@pytest.mark.parametrize(
    ("path", "command"),
    [
        ("", Command.LOOK),
        ("?do=look", Command.LOOK),
        ("?do=rollback", Command.ROLLBACK),
        ("/nodule", Command.LOOK),
        ("/nodule?do=rollback", Command.ROLLBACK),
    ],
)
async def test_an_alert_that_fires_is_a_command_and_once(
    ward: Ward, client: aiohttp.ClientSession, path: str, command: Command
) -> None:
    assert await notify(client, alert(), path=path) == (200, taken(commanded=["nodule"]))
    for _ in range(3):
        assert await notify(client, alert(), path=path) == (200, taken())
    assert ward.commands == [("nodule", command, "alertmanager", "ScoresLow: half as many findings")]
    await notify(client, alert(startsAt="2026-01-02T12:00:00.000Z"), path=path)
    await notify(client, alert(fingerprint="another"), path=path)
    assert len(ward.commands) == 3


async def test_one_alert_may_make_canaries_look_and_then_move_the_route(
    ward: Ward, client: aiohttp.ClientSession
) -> None:
    for path in ("", "?do=rollback"):
        assert await notify(client, alert(), path=path) == (200, taken(commanded=["nodule"]))
    assert [command for _, command, _, _ in ward.commands] == [Command.LOOK, Command.ROLLBACK]


async def test_many_alerts_are_one_command_for_each_model(ward: Ward, client: aiohttp.ClientSession) -> None:
    alerts = [alert("A"), alert("B"), alert("C", model="lesion"), alert("D", summary="x\ny" + "z" * 999)]
    assert await notify(client, *alerts) == (200, taken(commanded=["nodule", "lesion"]))
    whys = {model: why for model, _, _, why in ward.commands}
    assert whys == {"nodule": "A: half as many findings (and 2 more)", "lesion": "C: half as many findings"}
    await notify(client, alert("E", summary="x\ny" + "z" * 999))
    assert ward.commands[-1][-1].startswith("E: x yzzz")
    assert len(ward.commands[-1][-1]) <= 300


async def test_an_alert_that_is_over_is_noted_once_and_commands_nothing(
    ward: Ward, client: aiohttp.ClientSession
) -> None:
    for path in ("", "", "?do=rollback"):
        await notify(client, resolved(), path=path)
    assert ward.commands == []
    said = {"hook": "resolved", "text": "ScoresLow: half as many findings"}
    assert ward.notes == [("nodule", "alertmanager", said)]


@pytest.mark.parametrize("name", ["Watchdog", "WatchdogEngineFault", "WatchdogDataDrift"])
async def test_our_own_alerts_are_no_trigger(ward: Ward, client: aiohttp.ClientSession, name: str) -> None:
    own = [alert(name), alert(name, model=None), resolved(name), alert(name, model="liver")]
    assert await notify(client, *own, path="?do=rollback") == (200, taken())
    assert (ward.commands, ward.notes) == ([], [])


@pytest.mark.parametrize(
    ("wrong", "status", "says"),
    [
        (alert("B", model=None), 400, "alerts[0].labels.model: is required"),
        (alert("B", model=""), 400, "alerts[0].labels.model: is required"),
        (alert("B", model="liver"), 404, "no model 'liver' is watched; there are: nodule, lesion"),
    ],
)
async def test_what_can_be_done_is_done_and_the_rest_is_told(
    ward: Ward, client: aiohttp.ClientSession, wrong: dict[str, Any], status: int, says: str
) -> None:
    got, answer = await notify(client, wrong, alert())
    assert got == status
    assert says in answer["error"]
    assert [model for model, _, _, _ in ward.commands] == ["nodule"]


@pytest.mark.parametrize(
    ("wrong", "status"),
    [
        ({"fails": OSError("disk full")}, 503),
        ({"not_ready": "the canaries are being loaded"}, 503),
        ({"the_token": ValueError("the secret file /run/token is empty")}, 503),
        ({"fails": NotLeadingError("site-b decides about it")}, 409),
    ],
)
async def test_what_may_pass_is_asked_for_again_and_done_then(
    ward: Ward, client: aiohttp.ClientSession, wrong: dict[str, Any], status: int
) -> None:
    before = {name: getattr(ward, name) for name in wrong}
    for name, value in wrong.items():
        setattr(ward, name, value)
    got, answer = await notify(client, alert(), path="?do=rollback")
    assert got == status
    assert "error" in answer
    for name, value in before.items():
        setattr(ward, name, value)
    assert await notify(client, alert(), path="?do=rollback") == (200, taken(commanded=["nodule"]))


async def test_what_should_be_tried_again_outweighs_what_need_not_be(ward: Ward, client: aiohttp.ClientSession) -> None:
    ward.journal_fails = OSError("disk full")
    status, answer = await notify(client, alert(model=None), alert("B", model="liver"), resolved("C"))
    assert status == 503
    assert all(part in answer["error"] for part in ("alerts[0]", "liver", "disk full"))
    ward.journal_fails = None
    assert await notify(client, resolved("C")) == (200, taken(noted=["nodule"]))


async def test_a_command_under_way_is_accepted_and_not_given_again(
    ward: Ward, client: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hooks_call, "PATIENCE_S", 0.02)
    ward.may_go_on.clear()
    assert await notify(client, alert()) == (202, taken(commanded=["nodule"], under_way=["nodule"]))
    assert await notify(client, alert()) == (200, taken())
    assert ward.began == 1
    ward.may_go_on.set()


@pytest.mark.parametrize("do", ["promote", "release", "hold", "", "LOOK"])
async def test_nothing_else_can_be_commanded(ward: Ward, client: aiohttp.ClientSession, do: str) -> None:
    status, answer = await notify(client, alert(), path=f"?do={do}")
    assert (status, answer) == (400, {"error": "do: must be one of look, rollback"})
    assert ward.commands == []


@pytest.mark.parametrize("path", ["", "/nodule", "/liver", "?do=promote"])
async def test_without_the_token_an_alert_is_nothing(ward: Ward, client: aiohttp.ClientSession, path: str) -> None:
    assert (await notify(client, alert(), path=path, token="wrong"))[0] == 401
    ward.the_token = None
    assert (await notify(client, alert(), path=path))[0] == 403
    assert (ward.commands, ward.notes) == ([], [])


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"version": "3", "alerts": []}, "version: "),
        ({"version": "4"}, "alerts: "),
        ({"version": "4", "alerts": [alert(), alert(startsAt=1)]}, "alerts[1].startsAt: "),
        ({"version": "4", "alerts": [alert(status="maybe")]}, "alerts[0].status: "),
        ({"version": "4", "alerts": [alert(labels={"model": 3})]}, "alerts[0].labels.model: "),
    ],
)
async def test_a_notification_that_is_none_is_refused_with_the_field(
    ward: Ward, client: aiohttp.ClientSession, body: Any, says: str
) -> None:
    async with client.post("/hooks/alertmanager", json=body, headers=AUTH) as response:
        assert response.status == 400
        assert (await error_of(response)).startswith(says)
    assert ward.commands == []


async def test_a_notification_too_large_or_of_another_type_is_refused(client: aiohttp.ClientSession) -> None:
    body = json.dumps({"version": "4", "alerts": [], "groupKey": "x" * 2**20}).encode()
    for content_type, data, status in (("application/json", body, 413), ("text/plain", b"{}", 415)):
        headers = AUTH | {"Content-Type": content_type}
        async with client.post("/hooks/alertmanager", data=io.BytesIO(data), headers=headers) as response:
            assert response.status == status


# Their description


def test_the_description_has_the_routes_and_every_schema() -> None:
    routes = {(route.method.lower(), route.path) for route in hooks.routes(Ward(), lambda _: None, lambda _: None)}
    assert {(method, path) for path, methods in hooks_doc.PATHS.items() for method in methods} == routes
    text = json.dumps([hooks_doc.PATHS, hooks_doc.SCHEMAS])
    named = {f"#/components/schemas/{name}" for name in (*hooks_doc.SCHEMAS, "Problem")}
    refs = {part.split('"')[0] for part in text.split('"$ref": "')[1:]}
    assert refs <= named | {"#/components/parameters/model"}


async def test_a_token_of_its_own_is_good_for_hooks_and_nothing_else(ward: Ward, client: aiohttp.ClientSession) -> None:
    ward.for_hooks = "readable"
    call = CANARY | {"metadata": {"token": "readable"}}
    ward.the_gate = gate(PASS)
    assert (await ask(client, Hook.ROLLOUT, call))[0] == 200
    assert (await ask(client, Hook.ROLLOUT))[0] == 200, "the other is good for both"

    async with client.post("/api/v1/models/nodule/hold", headers={"Authorization": "Bearer readable"}) as response:
        assert response.status == 401
    ward.for_hooks = None
    assert (await ask(client, Hook.ROLLOUT, call))[0] == 401


async def test_to_roll_back_an_alert_needs_the_token_that_commands(ward: Ward, client: aiohttp.ClientSession) -> None:
    ward.for_hooks = "readable"
    body = {"version": "4", "alerts": []}
    for token, do, status in (("readable", "look", 200), ("readable", "rollback", 401), (TOKEN, "rollback", 200)):
        headers = {"Authorization": f"Bearer {token}"}
        async with client.post(f"/hooks/alertmanager?do={do}", json=body, headers=headers) as response:
            assert response.status == status, (token, do)
