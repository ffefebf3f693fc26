"""`watchdog gate`, against the real HTTP server with a service that says what it is told to."""

import asyncio
import dataclasses
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from tests.core.test_api import TOKEN
from tests.core.test_hooks import FAIL, INCONCLUSIVE, PASS, Ward, gate
from tests.service.conftest import Done, eventually
from watchdog.api.server import create
from watchdog.cli.gate import gate as gate_command
from watchdog.model.event import Command
from watchdog.model.gate import Gate, Passage
from watchdog.transport import serve

OK, FAULT, WRONG_CALL, NOT_KNOWN = range(4)

app = typer.Typer()
app.command()(gate_command)


@asynccontextmanager
async def listening(ward: Ward, listen: str = "127.0.0.1:0") -> AsyncIterator[str]:
    runner, url = await serve(create(ward), listen)
    try:
        yield url
    finally:
        await runner.cleanup()


async def ask(*arguments: object, env: dict[str, str] | None = None) -> Done:
    """The command in a thread, beside the server that it asks."""

    def call() -> Done:
        result = CliRunner().invoke(app, [str(each) for each in arguments], env=env, catch_exceptions=False)
        return Done(result.exit_code, result.stdout, result.stderr)

    return await asyncio.to_thread(call)


@pytest.fixture
def token(tmp_path: Path) -> Path:
    file = tmp_path / "token"
    file.write_text(f"{TOKEN.encode('ascii', 'ignore').decode()}\n")
    return file


@pytest.fixture
def ward(token: Path) -> Ward:
    ward = Ward()
    ward.the_token = token.read_text().strip()
    return ward


@pytest.mark.parametrize(("passage", "code"), [(PASS, OK), (FAIL, FAULT), (INCONCLUSIVE, NOT_KNOWN)])
async def test_the_exit_code_is_the_answer(ward: Ward, passage: Passage, code: int) -> None:
    ward.the_gate = dataclasses.replace(gate(passage), detail="probability [NaN] is wrong")
    async with listening(ward) as url:
        said = await ask("nodule", "--url", url)
        document = await ask("nodule", "--url", url, "--json")
    assert (said.returncode, said.stderr) == (code, "")
    assert said.stdout == f"nodule: {passage}  serving-fast, fast serves: probability [NaN] is wrong\n"
    assert document.returncode == code
    assert json.loads(document.stdout) == json.loads(json.dumps(dataclasses.asdict(ward.the_gate)))
    assert ward.commands == []


async def test_a_look_comes_before_the_answer(ward: Ward, token: Path) -> None:
    ward.the_gate, ward.after_look = gate(PASS), gate(FAIL)
    async with listening(ward) as url:
        done = await ask("nodule", "--url", url, "--look", env={"WATCHDOG_TOKEN_FILE": str(token)})
    assert done.returncode == FAULT
    [(model, command, actor, why)] = ward.commands
    assert (model, command, why) == ("nodule", Command.LOOK, "asked by `watchdog gate`")
    assert actor.endswith("command line)") or actor == "command line"


class Changing(Ward):
    """Says one thing after the other, and the last one for ever."""

    def __init__(self, *says: Gate | Exception) -> None:
        super().__init__()
        self.says = list(says)
        self.asked = 0

    def gate(self, model: str) -> Gate:
        self.asked += 1
        said = self.says.pop(0) if len(self.says) > 1 else self.says[0]
        if isinstance(said, Exception):
            raise said
        return said


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("watchdog.cli.gate._EVERY_S", 0.01)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    ("says", "code"),
    [
        ([gate(INCONCLUSIVE), gate(INCONCLUSIVE), gate(PASS)], OK),
        ([gate(INCONCLUSIVE), gate(FAIL), gate(PASS)], FAULT),
        ([RuntimeError("a bug"), gate(PASS)], OK),
    ],
)
async def test_waiting_ends_with_the_first_answer_that_concludes(says: Sequence[Gate | Exception], code: int) -> None:
    ward = Changing(*says)
    async with listening(ward) as url:
        done = await ask("nodule", "--url", url, "--wait", "1m")
    assert (done.returncode, done.stderr) == (code, "")


@pytest.mark.usefixtures("quick")
async def test_waiting_ends_when_the_time_is_up(ward: Ward) -> None:
    ward = Changing(gate(INCONCLUSIVE))
    async with listening(ward) as url:
        done = await ask("nodule", "--url", url, "--wait", "100ms")
    assert done.returncode == NOT_KNOWN
    assert done.stdout.startswith("nodule: inconclusive  ")
    assert ward.asked > 1


@pytest.mark.usefixtures("quick")
async def test_waiting_outlasts_a_start_and_looks_once(ward: Ward, token: Path) -> None:
    """Something hangs up, then the server starts, then it has a full disk, and then it is well."""
    calls: list[object] = []

    async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        calls.append(writer)
        writer.close()

    async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as other:
        address = f"127.0.0.1:{other.sockets[0].getsockname()[1]}"
        arguments = ("nodule", "--url", f"http://{address}", "--look", "--token-file", token, "--wait", "1m")
        asking = asyncio.create_task(ask(*arguments))
        await asyncio.to_thread(eventually, lambda: len(calls) > 1, "it is asked again")
    ward.not_ready, ward.fails = "the canaries are being loaded", OSError("disk full")
    async with listening(ward, address):
        ward.not_ready = None
        await asyncio.to_thread(eventually, lambda: ward.began > 1, "the look is asked for again")
        ward.fails = None
        done = await asking
    assert done.returncode == OK
    assert len(ward.commands) == 1


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["liver"], WRONG_CALL, "says 404: no model 'liver' is watched; there are: nodule, lesion"),
        (["nodule", "--look"], WRONG_CALL, "--look commands the watchdog: give the API's token with --token-file"),
        (["nodule", "--look", "--token-file", "absent"], WRONG_CALL, "--token-file: absent can't be read"),
        (["nodule", "--look", "--token-file", "{wrong}"], WRONG_CALL, "says 401: this needs the header"),
        (["nodule", "--wait", "5"], WRONG_CALL, "--wait 5: '5' is not a duration"),
        (["nodule", "--url", "watchdog:9469"], WRONG_CALL, "must begin with http:// or https://"),
        (["nodule", "--url", "http://127.0.0.1:1"], NOT_KNOWN, "no watchdog answers at http://127.0.0.1:1: "),
    ],
)
async def test_what_is_wrong_is_never_taken_for_a_fault(
    ward: Ward, tmp_path: Path, arguments: list[str], code: int, says: str
) -> None:
    (tmp_path / "wrong").write_text("wrong\n")
    given = [each.format(wrong=tmp_path / "wrong") for each in arguments]
    async with listening(ward) as url:
        done = await ask(*(given if "--url" in given else [*given, "--url", url]), "--json")
    assert (done.returncode, done.stdout) == (code, "")
    assert says in done.stderr
    assert ward.commands == []


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"not_ready": "the canaries are being loaded"}, "503"),
        ({"gate_fails": RuntimeError("a bug")}, "500"),
    ],
)
async def test_a_server_that_can_not_tell_is_not_known(ward: Ward, changes: dict[str, Any], says: str) -> None:
    for name, value in changes.items():
        setattr(ward, name, value)
    async with listening(ward) as url:
        done = await ask("nodule", "--url", url)
    assert (done.returncode, done.stdout) == (NOT_KNOWN, "")
    assert f"says {says}" in done.stderr


async def test_another_server_is_told_from_a_watchdog() -> None:
    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.0 200 OK\r\n\r\n{}")
        writer.close()

    async with await asyncio.start_server(greet, "127.0.0.1", 0) as server:
        done = await ask("nodule", "--url", f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    assert done.returncode == NOT_KNOWN
    assert "is no watchdog" in done.stderr
