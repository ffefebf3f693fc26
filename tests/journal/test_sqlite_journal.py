"""The SQLite journal under kill -9, full disks, locks, foreign files and people who want to edit it."""

import asyncio
import os
import random
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.journal.journals import looked_at
from watchdog.journal.reading import opened
from watchdog.journal.sqlite import SqliteJournal
from watchdog.model.journal import Entry, EntryKind

KILLS = int(os.environ.get("JOURNAL_KILLS", "20"))
"""How many times the writer is killed."""

APPENDS_UNTIL_IT_ENDS = """
import asyncio, resource, sys
from pathlib import Path
from watchdog.journal.sqlite import SqliteJournal
from watchdog.model.journal import Entry, EntryKind

async def main(path, limit):
    journal = await SqliteJournal.open(Path(path))
    if limit:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    while True:
        try:
            entry = await journal.append(Entry(at=1.0, kind=EntryKind.INTENT, model="m", data={"text": "x" * 500}))
        except OSError as error:
            print("OSError", error, flush=True)
            return
        print(entry.seq, flush=True)

asyncio.run(main(sys.argv[1], int(sys.argv[2])))
"""


def an_entry(kind: EntryKind = EntryKind.DECISION, model: str = "m") -> Entry:
    return Entry(at=1.0, kind=kind, model=model, data={})


def writer(path: Path, limit: int = 0) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", APPENDS_UNTIL_IT_ENDS, str(path), str(limit)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


async def seqs(path: Path) -> list[int]:
    journal = await SqliteJournal.open(path)
    found = [entry.seq for entry in await journal.tail(1_000_000)]
    await journal.close()
    return found


async def test_kill_9_loses_no_acknowledged_entry(tmp_path: Path) -> None:
    path, chance = tmp_path / "j.db", random.Random(20240607)
    for _ in range(KILLS):
        with writer(path) as process:
            assert process.stdout is not None
            acknowledged = [int(process.stdout.readline()) for _ in range(chance.randint(1, 40))]
            deadline = time.perf_counter() + chance.uniform(0, 0.005)  # anywhere within an append
            while time.perf_counter() < deadline:
                pass
            process.kill()
            acknowledged += [int(line) for line in process.stdout if line.endswith("\n")]

        found = looked_at(path)  # with the WAL as the kill has left it
        assert found.misfit is None
        assert found.entries >= acknowledged[-1]
        kept = await seqs(path)

        assert kept == list(range(1, len(kept) + 1))
        assert len(kept) >= acknowledged[-1]


async def test_a_full_disk_is_an_oserror_and_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "j.db"
    with writer(path, limit=1_000_000) as process:
        assert process.stdout is not None
        *acknowledged, last = process.stdout.read().splitlines()

    assert last.startswith("OSError")
    assert str(path) in last
    kept = await seqs(path)
    assert len(acknowledged) > 50
    assert kept == list(range(1, len(kept) + 1))
    assert len(kept) >= int(acknowledged[-1])


async def test_it_goes_on_counting_after_a_restart(tmp_path: Path) -> None:
    for expected in (1, 2, 3):
        journal = await SqliteJournal.open(tmp_path / "j.db")
        assert (await journal.append(an_entry())).seq == expected
        await journal.close()


async def test_others_may_read_it_while_it_is_written(tmp_path: Path) -> None:
    writes, reads = await SqliteJournal.open(tmp_path / "j.db"), await SqliteJournal.open(tmp_path / "j.db")
    kept = await writes.append(an_entry())
    assert list(await reads.tail(1)) == [kept]
    await reads.close()
    await writes.close()


@pytest.mark.parametrize(
    "edit",
    [
        "UPDATE entries SET data = '{}'",
        "DELETE FROM entries",
        "INSERT OR REPLACE INTO entries VALUES (1, 1.0, 'intent', 'm', '{}', NULL, zeroblob(32))",
        "UPDATE OR REPLACE entries SET seq = 2 WHERE seq = 1",
        "INSERT INTO entries VALUES (-1, 1.0, 'intent', 'm', '{}', NULL, zeroblob(32))",
        "INSERT INTO entries VALUES (9, 1.0, 'intent', 'm', '{}', NULL, zeroblob(32))",
        "INSERT INTO entries VALUES (3, 1.0, 'intent', 'm', '{}', NULL, x'00')",
        "UPDATE entries SET data = NULL, digest = zeroblob(32)",
    ],
)
async def test_what_is_written_stays(tmp_path: Path, edit: str) -> None:
    journal = await SqliteJournal.open(tmp_path / "j.db")
    written = [await journal.append(an_entry()), await journal.append(an_entry())]
    other = sqlite3.connect(tmp_path / "j.db", isolation_level=None)

    with pytest.raises(sqlite3.IntegrityError):
        other.execute(edit)

    other.close()
    assert list(await journal.tail(10)) == written
    await journal.close()


async def test_the_loop_turns_while_a_lock_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "j.db"
    journal = await SqliteJournal.open(path, timeout_s=0.3)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    waiting = asyncio.create_task(journal.append(an_entry()))
    slowest = 0.0
    while not waiting.done():
        before = time.perf_counter()
        await asyncio.sleep(0.001)
        slowest = max(slowest, time.perf_counter() - before)

    with pytest.raises(OSError, match=r"lock.*j\.db"):
        await waiting

    assert slowest < 0.2
    other.execute("ROLLBACK")
    other.close()
    assert (await journal.append(an_entry())).seq == 1
    await journal.close()


async def test_a_file_locked_by_another_program_at_start(tmp_path: Path) -> None:
    path = tmp_path / "j.db"
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")

    with pytest.raises(OSError, match=r"stop the other watchdog.*j\.db"):
        await SqliteJournal.open(path, timeout_s=0.1)

    other.close()


@pytest.mark.parametrize("attempt", range(10))
async def test_those_that_start_at_once_share_one_journal(tmp_path: Path, attempt: int) -> None:
    journals = await asyncio.gather(*(SqliteJournal.open(tmp_path / "j.db") for _ in range(4)))
    entries = await asyncio.gather(*(journal.append(an_entry()) for journal in journals))
    assert sorted(entry.seq for entry in entries) == [1, 2, 3, 4]
    for journal in journals:
        await journal.close()


async def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    path = tmp_path / "j.db"
    path.write_text("not a database, but a long enough text " * 50)
    before = path.read_bytes()

    with pytest.raises(OSError, match=r"not an SQLite file.*j\.db"):
        await SqliteJournal.open(path)

    assert path.read_bytes() == before


async def test_somebody_elses_database_is_left_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "j.db"
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE theirs (x)")
    other.close()
    before = path.read_bytes()

    with pytest.raises(OSError, match=r"not a watchdog's journal.*j\.db"):
        await SqliteJournal.open(path)

    assert path.read_bytes() == before


async def test_a_journal_of_a_newer_watchdog(tmp_path: Path) -> None:
    path = tmp_path / "j.db"
    await (await SqliteJournal.open(path)).close()
    other = sqlite3.connect(path)
    other.execute("PRAGMA user_version = 99")
    other.close()

    with pytest.raises(OSError, match=r"version 99.*newer watchdog.*j\.db"):
        await SqliteJournal.open(path)


async def test_a_damaged_journal(tmp_path: Path) -> None:
    path = tmp_path / "j.db"
    journal = await SqliteJournal.open(path)
    for _ in range(200):
        await journal.append(Entry(at=1.0, kind=EntryKind.NOTICE, model="m", data={"text": "x" * 200}))
    await journal.close()
    whole = path.read_bytes()
    path.write_bytes(whole[:4096] + b"\xff" * (len(whole) - 4096))

    damaged = await SqliteJournal.open(path)
    with pytest.raises(OSError, match=r"damaged.*j\.db"):
        await damaged.tail(100)
    await damaged.close()


@pytest.mark.parametrize("place", ["missing/j.db", "file/j.db", "."])
async def test_a_place_that_cannot_be_written(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="folder must exist and this user may read and write"):
        await SqliteJournal.open(tmp_path / place)


async def test_damage_that_sqlite_cannot_put_into_words(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    journal = await SqliteJournal.open(path)
    await journal.close()
    spoilt = path.read_bytes().replace(b"CREATE INDEX entries_by_model", b"CREATE \x80NDEX entries_by_model")
    path.write_bytes(spoilt.replace(b"entries_by_model", b"\x80ntries_by_model"))
    with pytest.raises(OSError, match="the journal is damaged"):
        await SqliteJournal.open(path)
    with pytest.raises(OSError, match="the journal is damaged"), opened(path) as reader:
        reader.bounds()


async def test_a_closed_journal_says_so(tmp_path: Path) -> None:
    journal = await SqliteJournal.open(tmp_path / "j.db")
    await journal.close()
    with pytest.raises(OSError, match="closed"):
        await journal.append(an_entry())


async def test_whoever_gave_up_finds_nothing_done_afterwards(tmp_path: Path) -> None:
    path = tmp_path / "j.db"
    journal = await SqliteJournal.open(path, timeout_s=60.0)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    waiting = asyncio.create_task(journal.append(an_entry()))
    await asyncio.sleep(0)  # it is handed to the worker, which waits for the lock
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    other.execute("ROLLBACK")
    other.close()

    assert list(await journal.tail(10)) == []
    await journal.close()


async def test_what_was_given_up_in_the_queue_is_not_even_begun(tmp_path: Path) -> None:
    path = tmp_path / "j.db"
    journal = await SqliteJournal.open(path, timeout_s=60.0)
    await journal.append(an_entry(EntryKind.SCORE))
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    first = asyncio.create_task(journal.append(an_entry()))
    second = asyncio.create_task(journal.forget(EntryKind.SCORE, before=2.0, now=2.0))
    await asyncio.sleep(0)  # the worker waits for the lock with the first, and has the second in its queue
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second
    other.execute("ROLLBACK")
    other.close()

    assert (await first).seq == 2
    assert [one.kind for one in await journal.tail(10)] == [EntryKind.SCORE, EntryKind.DECISION]
    await journal.close()


@pytest.mark.parametrize("replaced", [False, True])
async def test_a_file_that_was_moved_takes_no_more_entries(tmp_path: Path, replaced: bool) -> None:
    path = tmp_path / "j.db"
    journal = await SqliteJournal.open(path)
    await journal.append(an_entry())
    path.rename(tmp_path / "away.db")
    if replaced:
        path.touch()

    with pytest.raises(OSError, match=r"moved, deleted or replaced.*j\.db"):
        await journal.append(an_entry())

    await journal.close()


async def test_an_entry_in_doubt_that_is_there_is_retracted(tmp_path: Path) -> None:
    journal = await SqliteJournal.open(tmp_path / "j.db")
    for kind in (EntryKind.DECISION, EntryKind.INTENT, EntryKind.NOTICE):
        await journal.append(an_entry(kind))
    doubted = [an_entry(EntryKind.INTENT), an_entry(EntryKind.DECISION)]  # the second only before what is known

    assert await journal.settle(1, doubted, now=7.0) == 4

    *_, newest = await journal.tail(10)
    assert newest == Entry(at=7.0, kind=EntryKind.RETRACTED, model="m", data={"seq": 2}, seq=4)
    await journal.close()
    assert looked_at(tmp_path / "j.db").switches.open == {}
