"""Reading scores back from a watchdog's journal, while it is written, and from what is none."""

import asyncio
import json
import math
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from tests.replay.streams import BEGAN_AT
from watchdog.drift.links import Link
from watchdog.journal.sqlite import SqliteJournal
from watchdog.model.journal import Entry, EntryKind
from watchdog.replay import files
from watchdog.replay.recording import NothingToReplayError, ReplayError


def score(value: Any, *, source: str = "live", reading: str = "probability", model: str = "m", at: float = 0) -> Entry:
    observations = [value if isinstance(value, list) else [value]]
    data = {"source": source, "reading": reading, "observations": observations}
    return Entry(at=BEGAN_AT + at, kind=EntryKind.SCORE, model=model, data=data)


def decision(before: str, after: str, *, at: float, reason: str = "all-zero") -> Entry:
    data = {"before": before, "reason": reason, "after": {"state": after}}
    return Entry(at=BEGAN_AT + at, kind=EntryKind.DECISION, model="m", data=data)


async def journal(folder: Path, *entries: Entry) -> Path:
    path = folder / "journal.sqlite"
    book = await SqliteJournal.open(path)
    for entry in entries:
        await book.append(entry)
    await book.close()
    return path


async def test_scores_become_series_and_decisions_marks(tmp_path: Path) -> None:
    path = await journal(
        tmp_path,
        score(0.1),
        score([0.2, math.nan], at=1),
        score([], at=2),
        score(3.5, reading="nodules.volume", at=3),
        score(-0.25, source="shadow", at=4),
        score(0.5, source="canary", at=5),
        score(0.9, model="other"),
        decision("serving-fast", "confirming", at=6),
        decision("confirming", "confirming", at=7),
        Entry(at=BEGAN_AT + 8, kind=EntryKind.OUTCOME, model="m", data={"to": "safe", "applied": True, "proven": True}),
        Entry(at=BEGAN_AT + 9, kind=EntryKind.NOTICE, model="m", data={}),
    )
    found = files.read(path, model="m")
    assert {name: str(series.studies()) for name, series in found.readings.items()} == {
        "live/probability": "[[0.1], [0.2, nan], []]",
        "live/nodules.volume": "[[3.5]]",
        "shadow/probability": "[[-0.25]]",
    }
    assert [(s.source, s.link) for s in found.readings.values()] == [
        ("live", Link.LOGIT),
        ("live", Link.LOG),
        ("shadow", Link.IDENTITY),
    ]
    at = found.readings["live/probability"].at
    assert at is not None
    assert (at - BEGAN_AT).tolist() == [0, 1, 2]
    assert [(mark.at - BEGAN_AT, mark.kind, mark.text) for mark in found.marks] == [
        (6, "decision", "serving-fast → confirming: all-zero"),
        (8, "outcome", "switch to safe: proven"),
    ]
    assert list(files.read(path, model="m", readings=["canary/probability"]).readings) == ["canary/probability"]
    assert len(files.read(path, model="m", readings=["probability"]).readings) == 3
    with pytest.raises(ReplayError, match="about several models; name one with --model: m, other"):
        files.read(path)
    with pytest.raises(ReplayError, match=r"--reading x: .* has live/probability, "):
        files.read(path, model="m", readings=["x"])
    with pytest.raises(ReplayError, match=r"--model x: .* has scores of m, other"):
        files.read(path, model="x")
    assert list(found.of_source("shadow").readings) == ["shadow/probability"]
    with pytest.raises(NothingToReplayError, match="has no canary scores, but live/probability"):
        found.of_source("canary")


async def test_a_clock_that_was_put_back_does_not_turn_time_around(tmp_path: Path) -> None:
    path = await journal(tmp_path, score(0.1, at=50), score(0.2, at=10), score(0.3, at=60))
    at = files.read(path).readings["live/probability"].at
    assert at is not None
    assert (at - BEGAN_AT).tolist() == [50, 50, 60]


async def test_without_scores_it_is_said_what_to_record(tmp_path: Path) -> None:
    path = await journal(tmp_path, decision("serving-fast", "confirming", at=0))
    with pytest.raises(NothingToReplayError, match=r"no score was recorded .* set `record: true`"):
        files.read(path)
    (tmp_path / "b").mkdir()
    path = await journal(tmp_path / "b", score(0.5, source="canary"))
    with pytest.raises(NothingToReplayError, match=r"scores of canaries alone.*canary/probability"):
        files.read(path)


async def test_a_running_watchdog_is_neither_held_up_nor_missed(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    book = await SqliteJournal.open(path)
    try:
        for i in range(5):
            await book.append(score(i / 10))
            assert len(files.read(path).readings["live/probability"]) == i + 1
    finally:
        await book.close()


def test_a_copy_where_nothing_may_be_written(tmp_path: Path) -> None:
    """Such as a journal on another machine: WAL mode, but no shared memory beside it."""
    path = asyncio.run(journal(tmp_path, score(0.5)))
    assert [each.name for each in tmp_path.iterdir()] == ["journal.sqlite"]
    path.chmod(0o400)
    tmp_path.chmod(0o500)
    try:
        assert len(files.read(path).readings["live/probability"]) == 1
    finally:
        tmp_path.chmod(0o700)


async def test_reading_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    path = await journal(tmp_path, score(0.5))
    before = path.read_bytes()
    files.read(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"source": "live", "reading": "p", "observations": [1]}, "entry 1 is a score without a list of observations"),
        ({"source": "live", "reading": "p"}, "entry 1 is a score without a list of observations"),
        (
            {"source": "live", "reading": "p", "observations": [["high"]]},
            "entry 1 is a score whose value is 'high', not a number",
        ),
        ({"source": "live", "reading": "p", "observations": [[0.1, None]]}, "entry 1 is a score whose value is 'None'"),
        ({"source": "live", "reading": "p", "observations": [[True]]}, "entry 1 is a score whose value is 'True'"),
        (
            {"source": "moon", "reading": "p", "observations": [[1]]},
            "entry 1 is a score of nothing that is known: 'moon', 'p'",
        ),
        ({"source": "live", "observations": [[1]]}, "entry 1 is a score of nothing that is known: 'live', None"),
        ([1], "entry 1 can't be read: it is no object"),
    ],
)
async def test_an_entry_that_is_wrong_is_named(tmp_path: Path, data: Any, said: str) -> None:
    path = await journal(tmp_path)
    with sqlite3.connect(path) as connection:
        insert = "INSERT INTO entries (seq, at, kind, model, data, hash) VALUES (1, 0, 'score', 'm', ?, zeroblob(32))"
        connection.execute(insert, [json.dumps(data)])
    connection.close()
    with pytest.raises(ReplayError) as caught:
        files.read(path)
    assert said in str(caught.value)


async def test_what_is_no_journal(tmp_path: Path) -> None:
    other = tmp_path / "other.sqlite"
    connection = sqlite3.connect(other)
    connection.execute("CREATE TABLE x (y)")
    connection.commit()
    connection.close()
    with pytest.raises(ReplayError, match="an SQLite file, but not a watchdog's journal"):
        files.read(other)
    path = await journal(tmp_path, *(score(0.5) for _ in range(300)))
    whole = path.read_bytes()
    for length in (16, 100, 5000, len(whole) - 4096):
        path.write_bytes(whole[:length])
        with pytest.raises(ReplayError, match=r"damaged or cut short|not an SQLite file|can't be"):
            files.read(path)
