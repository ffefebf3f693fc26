"""What verify tells of journals that were changed, cut, reordered, damaged or written by an older watchdog."""

import asyncio
import hashlib
import sqlite3
import struct
from collections.abc import Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.journal.journals import all_of, entry, looked_at, tamper, version_1, written
from watchdog.journal.chain import GENESIS, Link, digest_of
from watchdog.journal.reading import opened
from watchdog.journal.sqlite import SqliteJournal
from watchdog.journal.verify import How
from watchdog.model.journal import Entry, EntryKind


async def ten(folder: Path) -> Path:
    return await written(folder / "j.db", *(entry(n=n) for n in range(1, 11)))


async def test_a_journal_as_it_was_written_is_right(tmp_path: Path) -> None:
    found = looked_at(await ten(tmp_path))

    assert found.right
    assert (found.entries, found.first, found.misfit) == (10, 1, None)


async def test_the_hashes_are_those_of_the_documentation(tmp_path: Path) -> None:
    path = await written(tmp_path / "j.db", entry(text="é", at=0.125), entry(EntryKind.STARTED, model=""))

    def sha(data: bytes) -> bytes:
        return hashlib.sha256(data).digest()

    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute("SELECT seq, at, kind, model, data, hash FROM entries ORDER BY seq").fetchall()
    previous = bytes(32)
    for seq, at, kind, model, data, stored in rows:
        texts = sha(kind.encode()) + sha(model.encode()) + sha(data.encode())
        previous = sha(previous + struct.pack(">Qd", seq, at) + texts)
        assert stored == previous
    assert looked_at(path).head == previous


@pytest.mark.parametrize("changed", ["seq", "at", "kind", "model", "digest"])
def test_a_hash_depends_on_every_part(changed: str) -> None:
    parts = {"seq": 1, "at": 1.0, "kind": "intent", "model": "m", "digest": digest_of("{}")}
    other = {"seq": 2, "at": 1.0000000000000002, "kind": "intentm", "model": "", "digest": digest_of("{} ")}
    link = Link(**parts)  # type: ignore[arg-type] # as the table has them

    assert link.after(GENESIS) != Link(**(parts | {changed: other[changed]})).after(GENESIS)  # type: ignore[arg-type]
    assert link.after(GENESIS) != link.after(b"\1" + bytes(31))


SWAP = (
    "UPDATE entries SET seq = -1 WHERE seq = {0}",
    "UPDATE entries SET seq = {0} WHERE seq = {1}",
    "UPDATE entries SET seq = {1} WHERE seq = -1",
)


def swapped(one: int, other: int) -> list[str]:
    return ["PRAGMA ignore_check_constraints = ON", *(statement.format(one, other) for statement in SWAP)]


@pytest.mark.parametrize(
    ("statements", "seq", "how"),
    [
        (["UPDATE entries SET data = '{}' WHERE seq = 4"], 4, How.CHANGED),
        (["UPDATE entries SET at = at + 1e-6 WHERE seq = 1"], 1, How.CHANGED),
        (["UPDATE entries SET kind = 'intent' WHERE seq = 10"], 10, How.CHANGED),
        (["UPDATE entries SET model = 'other' WHERE seq = 3"], 3, How.CHANGED),
        (["UPDATE entries SET hash = zeroblob(32) WHERE seq = 5"], 5, How.CHANGED),
        (["UPDATE entries SET at = 'soon' WHERE seq = 5"], 5, How.CHANGED),
        (["UPDATE entries SET model = x'ff' WHERE seq = 5"], 5, How.CHANGED),
        (["UPDATE entries SET model = CAST(x'ff' AS TEXT) WHERE seq = 5"], 5, How.CHANGED),
        (["DELETE FROM entries WHERE seq = 4"], 4, How.MISSING),
        (["DELETE FROM entries WHERE seq BETWEEN 4 AND 6"], 4, How.MISSING),
        (["DELETE FROM entries WHERE seq < 4"], 1, How.MISSING),
        (swapped(4, 5), 4, How.REORDERED),
        (swapped(3, 8), 3, How.REORDERED),
        (swapped(1, 10), 1, How.REORDERED),
        (["DELETE FROM entries WHERE seq = 4", "UPDATE entries SET seq = 4 WHERE seq = 10"], 4, How.REORDERED),
    ],
)
async def test_the_first_entry_that_does_not_fit_is_named(
    tmp_path: Path, statements: Sequence[str], seq: int, how: How
) -> None:
    path = await ten(tmp_path)
    tamper(path, *statements)

    misfit = looked_at(path).misfit

    assert misfit is not None
    assert (misfit.seq, misfit.how) == (seq, how)


async def test_data_that_is_gone_unrecorded_is_a_change(tmp_path: Path) -> None:
    text = '{"n":1}'
    statement = f"UPDATE entries SET data = NULL, digest = x'{digest_of(text).hex()}' WHERE seq = 1"
    notice = await written(tmp_path / "notice.db", entry(n=1), entry(n=2))
    score = await written(tmp_path / "score.db", entry(EntryKind.SCORE, n=1), entry(n=2))
    for path, said in ((notice, "of kind notice"), (score, "no entry records that it was forgotten")):
        tamper(path, statement)

        misfit = looked_at(path).misfit

        assert misfit is not None
        assert (misfit.seq, misfit.how) == (1, How.CHANGED)
        assert said in misfit.detail


async def test_a_cut_end_is_seen_by_a_head_that_was_kept(tmp_path: Path) -> None:
    path = await ten(tmp_path)
    head = looked_at(path).head
    tamper(path, "DELETE FROM entries WHERE seq > 7")

    assert looked_at(path).right, "nobody can tell without it"
    misfit = looked_at(path, head).misfit
    assert misfit is not None
    assert (misfit.seq, misfit.how) == (8, How.CUT)


async def test_a_head_is_still_good_when_the_journal_has_grown(tmp_path: Path) -> None:
    path = await ten(tmp_path)
    head = looked_at(path).head
    await written(path, entry(n=11))

    assert looked_at(path, head).right
    assert looked_at(path).head != head


def a_switch(*story: tuple[EntryKind, str]) -> list[Entry]:
    return [entry(kind, model) for kind, model in story]


INTENT, OUTCOME, STARTED = EntryKind.INTENT, EntryKind.OUTCOME, EntryKind.STARTED


@pytest.mark.parametrize(
    ("story", "unpaired", "still_open", "interrupted"),
    [
        ([(INTENT, "a"), (INTENT, "b"), (OUTCOME, "b"), (OUTCOME, "a")], [], {}, []),
        ([(INTENT, "a"), (OUTCOME, "a"), (INTENT, "a")], [], {"a": 3}, []),
        ([(OUTCOME, "a")], ["entry 1 is an outcome of a without an intent"], {}, []),
        (
            [(INTENT, "a"), (OUTCOME, "a"), (OUTCOME, "a")],
            ["entry 3 is an outcome of a without an intent"],
            {},
            [],
        ),
        (
            [(INTENT, "a"), (INTENT, "a"), (OUTCOME, "a")],
            ["entry 1 is an intent of a without an outcome"],
            {},
            [],
        ),
        ([(INTENT, "a"), (STARTED, ""), (INTENT, "a"), (OUTCOME, "a")], [], {}, [1]),
    ],
)
async def test_every_intent_has_one_outcome(
    tmp_path: Path,
    story: Sequence[tuple[EntryKind, str]],
    unpaired: Sequence[str],
    still_open: dict[str, int],
    interrupted: Sequence[int],
) -> None:
    found = looked_at(await written(tmp_path / "j.db", *a_switch(*story)))

    assert found.misfit is None
    assert found.right is not bool(unpaired)
    switches = found.switches
    assert (switches.unpaired, switches.open, switches.interrupted) == (unpaired, still_open, interrupted)


async def test_an_old_file_has_no_chain_until_it_is_opened_to_write(tmp_path: Path) -> None:
    path = version_1(tmp_path / "j.db", 100)
    before = path.read_bytes()

    found = looked_at(path)

    assert (found.chained, found.right, found.entries) == (False, False, 100)
    assert path.read_bytes() == before
    assert [one.data for one in await all_of(path)] == [{"n": n} for n in range(1, 101)]
    assert (await all_of(path))[0] == Entry(seq=1, at=1.1, kind=EntryKind.DECISION, model="nodule", data={"n": 1})
    await written(path, entry(n=101))
    found = looked_at(path)
    assert (found.right, found.entries) == (True, 101)
    with closing(sqlite3.connect(path)) as connection, pytest.raises(sqlite3.IntegrityError, match="append-only"):
        connection.execute("DELETE FROM entries")


async def test_a_migration_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    path = version_1(tmp_path / "j.db", 5)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE entries_1 (x)")  # in the way
    with pytest.raises(OSError, match=r"j\.db"):
        await SqliteJournal.open(path)

    found = looked_at(path)
    assert (found.chained, found.entries) == (False, 5)


def names_in(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


async def test_reading_leaves_no_trace(tmp_path: Path) -> None:
    path = await ten(tmp_path)
    before = path.read_bytes()

    assert looked_at(path).right

    assert names_in(tmp_path) == ["j.db"]
    assert path.read_bytes() == before


async def test_a_journal_in_use_is_read_up_to_its_newest_entry(tmp_path: Path) -> None:
    journal = await SqliteJournal.open(tmp_path / "j.db")
    for n in range(3):
        await journal.append(entry(n=n))
        assert looked_at(tmp_path / "j.db").entries == n + 1
    await journal.close()


async def test_a_wal_that_was_copied_along_is_read_but_not_touched(tmp_path: Path) -> None:
    journal = await SqliteJournal.open(tmp_path / "j.db")
    for n in range(3):
        await journal.append(entry(n=n))
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in ("j.db", "j.db-wal"):
        (copy / name).write_bytes((tmp_path / name).read_bytes())
    await journal.close()
    before = {p.name: p.read_bytes() for p in copy.iterdir()}

    found = looked_at(copy / "j.db")

    assert (found.right, found.entries) == (True, 3)
    assert {p.name: p.read_bytes() for p in copy.iterdir()} == before


@pytest.mark.parametrize(
    ("content", "said"), [(None, "there is no journal"), (b"", "empty"), (b"x" * 5000, "not an SQ")]
)
def test_what_is_no_journal(tmp_path: Path, content: bytes | None, said: str) -> None:
    path = tmp_path / "j.db"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(OSError, match=said), opened(path):
        pass


Rows = list[tuple[Link, str | None]]


@dataclass(frozen=True, repr=False)
class Intact:
    """A journal before anything happened to it."""

    file: bytes
    head: bytes
    rows: Rows


@pytest.fixture(scope="module")
def intact(tmp_path_factory: pytest.TempPathFactory) -> Intact:
    path = tmp_path_factory.mktemp("intact") / "j.db"
    asyncio.run(written(path, *(entry(n=n, text="x" * (n * 37 % 300)) for n in range(60))))
    return Intact(file=path.read_bytes(), head=looked_at(path).head, rows=rows_of(path))


def rows_of(path: Path) -> Rows:
    with opened(path) as reader:
        return [(stored.link, stored.data) for stored in reader.entries()]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    cut=st.none() | st.floats(0, 1), scribble=st.lists(st.tuples(st.floats(0, 1), st.binary(min_size=1, max_size=64)))
)
def test_damage_is_never_taken_for_a_journal_that_is_right(
    intact: Intact, cut: float | None, scribble: list[tuple[float, bytes]]
) -> None:
    damaged = bytearray(intact.file)
    for place, what in scribble:
        start = int(place * (len(damaged) - len(what)))
        damaged[start : start + len(what)] = what
    if cut is not None:
        damaged = damaged[: int(cut * len(damaged))]
    with TemporaryDirectory() as folder:
        path = Path(folder) / "j.db"
        path.write_bytes(damaged)
        right = False
        with suppress(OSError):
            right = looked_at(path, intact.head).right
        assert not right or rows_of(path) == intact.rows
        assert path.read_bytes() == bytes(damaged)
