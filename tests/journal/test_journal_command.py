"""The commands on journals, as people and scripts call them."""

import asyncio
import csv
import errno
import hashlib
import io
import itertools
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from tests.journal.journals import looked_at, tamper, version_1, written
from watchdog.cli.journal import app
from watchdog.journal import reading
from watchdog.journal.sqlite import SqliteJournal
from watchdog.model.journal import Entry, EntryKind


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)


def at(text_s: float, kind: EntryKind = EntryKind.NOTICE, model: str = "nodule", **data: Any) -> Entry:
    return Entry(at=1_740_830_400.0 + text_s, kind=kind, model=model, data=data)  # 2025-03-01T12:00:00Z and later


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A state folder with a journal."""
    story = [
        at(0, EntryKind.STARTED, model=""),
        at(0.5, EntryKind.DECISION, reason="all-zero", before="watching", after={"state": "confirming", "x": [1]}),
        at(1, EntryKind.INTENT, to="safe"),
        at(2, EntryKind.OUTCOME, to="safe", applied=True),
        at(3, EntryKind.NOTICE, model="other", score="NaN", text="[bold]\x1b[31m, comma"),
    ]
    asyncio.run(written(tmp_path / "journal.sqlite", *story))
    return tmp_path


@pytest.mark.parametrize("name", ["", "journal.sqlite"])
def test_verify_shows_the_head_to_keep(state: Path, name: str) -> None:
    result = call("verify", state / name)

    assert result.exit_code == 0
    assert "5 entries fit" in result.stdout
    assert f"head {looked_at(state / 'journal.sqlite').head.hex()}" in result.stdout
    assert "keep it elsewhere" in result.stdout


def test_verify_for_scripts(state: Path) -> None:
    head = looked_at(state / "journal.sqlite").head.hex()

    result = call("verify", state, "--head", head, "--json")

    assert result.exit_code == 0
    assert json.loads(result.stdout) == {
        "right": True,
        "chained": True,
        "entries": 5,
        "first": 1,
        "forgotten": 0,
        "head": head,
        "misfit": None,
        "open": {},
        "interrupted": [],
        "unpaired": [],
    }


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        ("UPDATE entries SET data = '{}' WHERE seq = 3", "changed at entry 3"),
        ("DELETE FROM entries WHERE seq = 2", "missing at entry 2"),
        ("DELETE FROM entries WHERE seq = 5", "cut at entry 5"),
    ],
)
def test_verify_names_what_does_not_fit(state: Path, harm: str, said: str) -> None:
    head = looked_at(state / "journal.sqlite").head.hex()
    tamper(state / "journal.sqlite", harm)

    result = call("verify", state, "--head", head)

    assert result.exit_code == 1
    assert said in result.stdout
    assert json.loads(call("verify", state, "--head", head, "--json").stdout)["right"] is False


def test_verify_tells_of_switches(tmp_path: Path) -> None:
    story = [
        at(0, EntryKind.INTENT),
        at(1, EntryKind.INTENT),
        at(2, EntryKind.STARTED, model=""),
        at(3, EntryKind.INTENT),
    ]
    asyncio.run(written(tmp_path / "journal.sqlite", *story))

    result = call("verify", tmp_path)

    assert result.exit_code == 1
    assert "unpaired: entry 1 is an intent of nodule without an outcome" in result.stdout
    assert "open: entry 4 is an intent of nodule" in result.stdout
    assert "began anew: 2" in result.stdout


def test_verify_of_a_file_without_a_chain(tmp_path: Path) -> None:
    result = call("verify", version_1(tmp_path / "j.db", 3))

    assert result.exit_code == 1
    assert "no chain: the file is of version 1" in result.stdout
    assert call("verify", tmp_path / "j.db", "--json").exit_code == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["verify", "nowhere"], "there is no journal"),
        (["verify", "nowhere", "--head", "abc"], "--head abc: is not a hash"),
        (["export", "nowhere"], "there is no journal"),
        (["tail", "nowhere"], "there is no journal"),
        (["export", "STATE", "--since", "yesterday"], "--since yesterday: is no moment"),
        (["export", "STATE", "--until", "2025-03-01T12:00:00"], "with its zone"),
        (["export", "STATE", "-o", "STATE/journal.sqlite"], "is the journal itself"),
        (["export", "STATE", "-o", "STATE/missing/out"], "can't be written"),
    ],
)
def test_a_call_that_is_wrong(state: Path, arguments: list[str], said: str) -> None:
    before = (state / "journal.sqlite").read_bytes()
    result = call(*(argument.replace("STATE", str(state)) for argument in arguments))

    assert result.exit_code == 2
    assert said in result.stderr
    assert (state / "journal.sqlite").read_bytes() == before


def exported(*arguments: object) -> list[dict[str, Any]]:
    result = call("export", *arguments)
    assert result.exit_code == 0
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_export_as_json_lines(state: Path) -> None:
    first, _, intent, *_ = exported(state)

    assert list(first) == ["seq", "at", "unix", "kind", "model", "data", "digest", "hash"]
    assert (intent["seq"], intent["at"], intent["unix"]) == (3, "2025-03-01T12:00:01.000000Z", 1_740_830_401.0)
    assert (intent["kind"], intent["model"], intent["data"]) == ("intent", "nodule", {"to": "safe"})
    assert exported(state)[-1]["hash"] == looked_at(state / "journal.sqlite").head.hex()


@pytest.mark.parametrize(
    ("options", "seqs"),
    [
        ([], [1, 2, 3, 4, 5]),
        (["--kind", "intent", "--kind", "outcome"], [3, 4]),
        (["--model", "nodule"], [2, 3, 4]),
        (["--model", "nodule", "--kind", "notice"], []),
        (["--since", "2025-03-01T12:00:01Z"], [3, 4, 5]),
        (["--until", "2025-03-01T13:00:01+01:00"], [1, 2]),
        (["--since", "2025-03-01T12:00:00.5Z", "--until", "2025-03-01T12:00:02Z"], [2, 3]),
        (["--since", "1h"], []),
        (["--until", "1h"], [1, 2, 3, 4, 5]),
    ],
)
def test_export_of_a_part(state: Path, options: list[str], seqs: list[int]) -> None:
    assert [line["seq"] for line in exported(state, *options)] == seqs


def test_export_as_csv_into_a_file(state: Path) -> None:
    out = state / "out.csv"
    assert call("export", state, "--format", "csv", "-o", out).exit_code == 0

    rows = list(csv.DictReader(io.StringIO(out.read_text(encoding="utf-8"))))

    assert [row["seq"] for row in rows] == ["1", "2", "3", "4", "5"]
    assert json.loads(rows[4]["data"]) == {"score": "NaN", "text": "[bold]\x1b[31m, comma"}
    assert float(rows[1]["unix"]) == 1_740_830_400.5


def test_an_export_that_fails_leaves_the_older_one(state: Path) -> None:
    out = state / "out.jsonl"
    out.write_text("older", encoding="utf-8")
    tamper(state / "journal.sqlite", "UPDATE entries SET data = 'x' WHERE seq = 4")

    result = call("export", state, "-o", out)

    assert result.exit_code == 2
    assert "entry 4" in result.stderr
    assert out.read_text(encoding="utf-8") == "older"
    assert sorted(p.name for p in state.iterdir()) == ["journal.sqlite", "out.jsonl"]


def test_tail_is_a_line_an_entry_and_obeys_nothing_in_it(state: Path) -> None:
    result = call("tail", state, "-n", "4")

    lines = result.stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["2", "3", "4", "5"]
    assert "decision  nodule reason=all-zero before=watching after=confirming" in lines[0]
    assert "[bold] [31m, comma" in lines[3]
    assert "\x1b" not in result.stdout


def test_tail_follows_what_comes(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, waits = state / "journal.sqlite", iter([[at(9, n=6)], [], [at(10, n=7), at(11, n=8)], []])
    really, looks = reading.opened, itertools.count()

    def instead_of_waiting(_: float) -> None:
        try:
            coming = next(waits)
        except StopIteration:
            raise KeyboardInterrupt from None
        asyncio.run(written(path, *coming))

    @contextmanager
    def opened(where: Path) -> Iterator[reading.Reader]:
        with really(where) as reader:
            yield reader
        if next(looks) == 3:
            raise BlockingIOError(errno.EAGAIN, "a watchdog began to write it", str(where))

    monkeypatch.setattr("time.sleep", instead_of_waiting)
    monkeypatch.setattr(reading, "opened", opened)
    result = call("tail", state, "-n", "0", "--follow")

    assert result.exit_code == 0
    assert [line.split()[0] for line in result.stdout.splitlines()] == ["6", "7", "8"]


def test_an_entry_without_a_calendar_time_is_exported(tmp_path: Path) -> None:
    asyncio.run(written(tmp_path / "journal.sqlite", Entry(at=1e300, kind=EntryKind.NOTICE, model="m", data={})))

    (line,) = exported(tmp_path)

    assert (line["at"], line["unix"]) == (None, 1e300)
    assert call("tail", tmp_path).exit_code == 0


def test_a_forgotten_score_is_exported_by_its_hash(tmp_path: Path) -> None:
    async def forgotten() -> None:
        journal = await SqliteJournal.open(tmp_path / "journal.sqlite")
        await journal.append(at(0, EntryKind.SCORE, n=1))
        await journal.forget(EntryKind.SCORE, before=2e9, now=2e9)
        await journal.close()

    asyncio.run(forgotten())

    score, record = exported(tmp_path)
    assert (score["data"], score["digest"]) == (None, hashlib.sha256(b'{"n":1}').hexdigest())
    assert record["kind"] == "forgotten"
    assert "(forgotten)" in call("tail", tmp_path).stdout
    assert "1 scores were forgotten, as recorded" in call("verify", tmp_path).stdout


def test_a_file_without_a_chain_is_exported_without_hashes(tmp_path: Path) -> None:
    first, *_ = exported(version_1(tmp_path / "j.db", 3))
    assert (first["data"], first["hash"]) == ({"n": 1}, None)
