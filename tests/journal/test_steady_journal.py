"""The journal while its disk is full, its file locked, forbidden, damaged or gone, and afterwards."""

import asyncio
import os
import re
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, closing, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.journal.journals import entry, looked_at, version_1, written
from watchdog.journal.sqlite import SqliteJournal
from watchdog.journal.steady import SteadyJournal
from watchdog.model.journal import EntryKind

HOLDS_THE_LOCK = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("PRAGMA locking_mode = EXCLUSIVE")
connection.execute("BEGIN EXCLUSIVE")
print("held", flush=True)
sys.stdin.read()
"""

AS_NOBODY = """
import asyncio, os, sys
from pathlib import Path
from tests.journal.journals import entry
from watchdog.journal.steady import SteadyJournal

async def main(path):
    journal = SteadyJournal(path)
    try:
        await journal.append(entry())
    except OSError as error:
        print(error)
    print(journal.trouble)
    await journal.close()

os.setgid(65534), os.setuid(65534)
asyncio.run(main(Path(sys.argv[1])))
"""


class Hands:
    """A clock that stands still unless it is moved."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Watched:
    """A steady journal, its clock, and what it told of its troubles."""

    def __init__(self, path: Path, timeout_s: float = 5.0) -> None:
        self.clock = Hands()
        self.journal = SteadyJournal(path, timeout_s=timeout_s, monotonic=self.clock)
        self.told: list[str | None] = []
        self.journal.watch(self.told.append)

    async def fails(self, said: str) -> None:
        """An append does, and says so; so does a question."""
        with pytest.raises(OSError, match=said):
            await self.journal.append(entry())
        with pytest.raises(OSError, match=said):
            await self.journal.last(EntryKind.DECISION, "nodule")
        assert self.journal.trouble is not None
        assert re.search(said, self.journal.trouble)

    async def works_again(self) -> None:
        self.clock.now += 60.0
        await self.journal.append(entry(again=True))
        assert self.journal.trouble is None
        assert self.told[-1] is None


@asynccontextmanager
async def watched(path: Path, timeout_s: float = 5.0) -> AsyncIterator[Watched]:
    made = Watched(path, timeout_s)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(made.journal.close)
        yield made


async def test_a_folder_that_comes_later(tmp_path: Path) -> None:
    path = tmp_path / "state" / "j.db"
    async with watched(path) as it:
        await it.fails("folder must exist")
        path.parent.mkdir()
        await it.works_again()
        assert len(it.told) == 2
    assert looked_at(path).right


async def test_between_tries_it_is_refused_at_once_and_they_get_rarer(tmp_path: Path) -> None:
    path = tmp_path / "state" / "j.db"
    async with watched(path) as it:
        waits = []
        for _ in range(9):
            with pytest.raises(OSError, match="folder must exist") as tried:
                await it.journal.append(entry())
            assert "tried again" not in str(tried.value)
            with pytest.raises(OSError, match=r"folder must exist.*tried again in") as refused:
                await it.journal.append(entry())
            found = re.search(r"again in (\d+) s", str(refused.value))
            assert found
            waits.append(int(found[1]))
            it.clock.now += waits[-1]
        path.parent.mkdir()

        assert waits == [1, 2, 4, 8, 16, 32, 60, 60, 60]
        assert it.told == [it.journal.trouble]
        await it.works_again()


async def test_check_notices_trouble_and_its_end_without_an_entry(tmp_path: Path) -> None:
    path = tmp_path / "j.db"
    async with watched(path) as it:
        assert await it.journal.check() is None
        path.rename(tmp_path / "away.db")
        assert "moved" in str(await it.journal.check())
        assert "moved" in str(await it.journal.check())
        it.clock.now += 1.0
        assert await it.journal.check() is None
        assert list(await it.journal.tail(10)) == []
    assert len(it.told) == 2


def holder_of_the_lock(path: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", HOLDS_THE_LOCK, str(path)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


async def test_a_file_that_another_process_locks(tmp_path: Path) -> None:
    path = await written(tmp_path / "j.db", entry(n=1))
    async with watched(path, timeout_s=0.1) as it:
        with holder_of_the_lock(path) as other:
            assert other.stdout is not None
            assert other.stdout.readline() == "held\n"
            await it.fails("stop the other watchdog")
            other.communicate()
        await it.works_again()
    found = looked_at(path)
    assert (found.right, found.entries) == (True, 2), "a refused entry is not there"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become nobody")
def test_a_file_that_this_user_may_not_write() -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "j.db"
        Path(folder).chmod(0o755)
        asyncio.run(written(path, entry(n=1)))
        path.chmod(0o644)
        command = [sys.executable, "-c", AS_NOBODY, str(path)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        assert re.search("must be able to write folder and file.*\n.*must be able", done.stdout)
        assert looked_at(path).entries == 1


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of half a mebibyte."""
    folder = tmp_path / "small"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(folder)]
    try:
        done = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)
    except OSError as error:
        pytest.skip(f"there is no mount: {error}")
    if done.returncode:
        pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


async def test_a_full_disk_that_is_emptied_again(small_disk: Path) -> None:
    path = small_disk / "j.db"
    async with watched(path) as it:
        await it.journal.append(entry(n=1))
        ballast = small_disk / "ballast"
        with suppress(OSError), ballast.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))
        for n in range(1000):  # what SQLite had already taken from the disk
            try:
                await it.journal.append(entry(text="x" * 5000, n=n))
            except OSError:
                break
        it.clock.now += 60.0
        with pytest.raises(OSError, match="disk is full"):
            await it.journal.append(entry(text="x" * 500_000))
        ballast.unlink()
        await it.works_again()
        kept = await it.journal.tail(1000)
    assert [one.seq for one in kept] == list(range(1, len(kept) + 1))
    assert looked_at(path).right


async def test_a_damaged_file_is_kept_as_evidence_until_somebody_moves_it(tmp_path: Path) -> None:
    path = tmp_path / "j.db"
    path.write_bytes(b"SQLite format 3\0" + b"\xff" * 10_000)
    before = path.read_bytes()
    async with watched(path) as it:
        await it.fails("move it away together with its -wal and -shm")
        assert path.read_bytes() == before
        path.rename(tmp_path / "evidence.db")
        await it.works_again()
    assert (tmp_path / "evidence.db").read_bytes() == before
    assert looked_at(path).entries == 1


async def test_trouble_with_reading_lasts_until_reading_works(tmp_path: Path) -> None:
    path = await written(tmp_path / "j.db", *(entry(text="x" * 300) for _ in range(200)))
    with closing(sqlite3.connect(path)) as connection:
        (root,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'entries_by_model'").fetchone()
    page = bytearray(path.read_bytes())
    page[(root - 1) * 4096 : root * 4096] = b"\xff" * 4096
    path.write_bytes(page)
    async with watched(path) as it:
        for _ in range(2):
            with pytest.raises(OSError, match="damaged"):
                await it.journal.last(EntryKind.DECISION, "nodule")
            it.clock.now += 60.0
        assert len(it.told) == 1
        path.rename(tmp_path / "evidence.db")
        assert await it.journal.last(EntryKind.DECISION, "nodule") is None
        assert it.journal.trouble is None


async def test_a_refused_entry_that_is_there_is_retracted_before_anything_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "j.db"
    really = SqliteJournal.append

    async def lies(self: SqliteJournal, one: object) -> object:
        await really(self, one)  # type: ignore[arg-type] # passed on as it came
        raise OSError(5, "the disk said no, and did it", str(path))

    async with watched(path) as it:
        await it.journal.append(entry(n=1))
        monkeypatch.setattr(SqliteJournal, "append", lies)
        with pytest.raises(OSError, match="said no"):
            await it.journal.append(entry(EntryKind.INTENT, to="safe"))
        monkeypatch.undo()
        await it.works_again()
        kinds = [one.kind for one in await it.journal.tail(10)]
    assert kinds == [EntryKind.NOTICE, EntryKind.INTENT, EntryKind.RETRACTED, EntryKind.NOTICE]
    found = looked_at(path)
    assert found.right
    assert found.switches.open == {}


@pytest.mark.parametrize("turns", range(1, 12))
async def test_a_caller_that_was_cancelled_leaves_no_doubt_either(tmp_path: Path, turns: int) -> None:
    async with watched(tmp_path / "j.db") as it:
        await it.journal.append(entry(n=1))
        task = asyncio.create_task(it.journal.append(entry(EntryKind.INTENT)))
        for _ in range(turns):  # how far it has come by then is up to the disk
            await asyncio.sleep(0)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        await it.journal.append(entry(n=2))
        entries = await it.journal.tail(10)
    retracted = [one.data["seq"] for one in entries if one.kind is EntryKind.RETRACTED]
    standing = [one for one in entries if one.kind is EntryKind.INTENT and one.seq not in retracted]
    assert standing == ([] if task.cancelled() else [task.result()])


async def test_data_that_is_no_json_is_the_callers_mistake_and_no_trouble(tmp_path: Path) -> None:
    async with watched(tmp_path / "j.db") as it:
        with pytest.raises(TypeError):
            await it.journal.append(entry(what=object()))
        assert (await it.journal.append(entry())).seq == 1
    assert it.told == []


async def test_a_closed_journal_is_no_trouble(tmp_path: Path) -> None:
    async with watched(tmp_path / "j.db") as it:
        await it.journal.append(entry())
        await it.journal.close()
        with pytest.raises(OSError, match="closed"):
            await it.journal.append(entry())
    assert it.told == []


async def test_compaction_goes_by_its_own_clock(tmp_path: Path) -> None:
    path = version_1(tmp_path / "j.db", 1100)
    journal = SteadyJournal(path, clock=lambda: 500 * 86400.0)
    done = await journal.compact()
    await journal.close()
    assert done.removed == 100


@settings(max_examples=60, deadline=None)
@given(
    cut=st.none() | st.floats(0, 1), scribble=st.lists(st.tuples(st.floats(0, 1), st.binary(min_size=1, max_size=64)))
)
def test_damage_is_an_oserror_at_worst_and_the_file_stays(
    whole: Callable[[], bytes], cut: float | None, scribble: list[tuple[float, bytes]]
) -> None:
    damaged = bytearray(whole())
    for place, what in scribble:
        start = int(place * (len(damaged) - len(what)))
        damaged[start : start + len(what)] = what
    if cut is not None:
        damaged = damaged[: int(cut * len(damaged))]

    async def use(path: Path) -> None:
        journal = SteadyJournal(path)
        uses = (
            lambda: journal.append(entry()),
            lambda: journal.tail(100),
            lambda: journal.last(EntryKind.NOTICE, "nodule"),
            journal.check,
            journal.compact,
        )
        for one in uses:
            with suppress(OSError):
                await one()
        await journal.close()

    with TemporaryDirectory() as folder:
        path = Path(folder) / "j.db"
        path.write_bytes(damaged)
        before = path.stat().st_ino
        asyncio.run(use(path))
        assert path.stat().st_ino == before


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], bytes]:
    path = tmp_path_factory.mktemp("whole") / "j.db"
    asyncio.run(written(path, *(entry(n=n, text="x" * (n * 37 % 300)) for n in range(60))))
    return path.read_bytes
