"""What every journal must do; run on the fake that other tests use and on the real one."""

import asyncio
import math
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from watchdog.journal.sqlite import SqliteJournal
from watchdog.journal.steady import SteadyJournal
from watchdog.model.journal import Entry, EntryKind
from watchdog.ports import Journal


class MemoryJournal:
    """The simplest thing that keeps the contract."""

    def __init__(self) -> None:
        self._entries: list[Entry] = []

    async def append(self, entry: Entry) -> Entry:
        self._entries.append(replace(entry, seq=len(self._entries) + 1))
        return self._entries[-1]

    async def tail(self, limit: int, model: str | None = None) -> Sequence[Entry]:
        chosen = [entry for entry in self._entries if model in (None, entry.model)]
        return chosen[-limit:] if limit > 0 else []

    async def last(self, kind: EntryKind, model: str) -> Entry | None:
        chosen = [entry for entry in self._entries if (entry.kind, entry.model) == (kind, model)]
        return chosen[-1] if chosen else None

    async def close(self) -> None: ...


def an_entry(model: str = "nodule", kind: EntryKind = EntryKind.DECISION, **data: object) -> Entry:
    return Entry(at=1_700_000_000.25, kind=kind, model=model, data=data)


async def made(kind: str, path: Path) -> Journal:
    match kind:
        case "memory":
            return MemoryJournal()
        case "sqlite":
            return await SqliteJournal.open(path)
        case _:
            return SteadyJournal(path)


@pytest.fixture(params=["memory", "sqlite", "steady"])
async def journal(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Journal]:
    made_ = await made(request.param, tmp_path / "j.db")
    yield made_
    await made_.close()


async def test_an_appended_entry_comes_back_as_it_was_with_the_next_number(journal: Journal) -> None:
    entry = an_entry(reason="non-finite", scores=[1.5, 2], nested={"ok": True, "none": None, "μ": "é"})

    first, second = await journal.append(entry), await journal.append(entry)

    assert (first, second) == (replace(entry, seq=1), replace(entry, seq=2))
    assert list(await journal.tail(10)) == [first, second]


async def test_tail_gives_the_newest_oldest_first(journal: Journal) -> None:
    kept = [await journal.append(an_entry(n=n)) for n in range(5)]

    assert list(await journal.tail(2)) == kept[-2:]
    assert list(await journal.tail(0)) == []


async def test_tail_of_one_model(journal: Journal) -> None:
    for model in ("a", "", "b", "a"):
        await journal.append(an_entry(model))

    assert [entry.seq for entry in await journal.tail(10, "a")] == [1, 4]
    assert [entry.seq for entry in await journal.tail(10, "")] == [2]
    assert list(await journal.tail(10, "c")) == []


async def test_last_is_the_newest_of_one_kind_about_one_model(journal: Journal) -> None:
    for kind, model in [
        (EntryKind.INTENT, "a"),
        (EntryKind.INTENT, "a"),
        (EntryKind.INTENT, "b"),
        (EntryKind.OUTCOME, "a"),
    ]:
        await journal.append(an_entry(model, kind))

    newest = await journal.last(EntryKind.INTENT, "a")

    assert newest is not None
    assert newest.seq == 2
    assert await journal.last(EntryKind.COMMAND, "a") is None


async def test_concurrent_appends_get_numbers_without_gaps(journal: Journal) -> None:
    done = await asyncio.gather(*(journal.append(an_entry(n=n)) for n in range(50)))

    assert sorted(entry.seq for entry in done) == list(range(1, 51))
    assert {entry.seq: entry.data["n"] for entry in done} == {e.seq: e.data["n"] for e in await journal.tail(50)}


async def test_close_may_be_called_twice(journal: Journal) -> None:
    await journal.close()
    await journal.close()


async def test_what_json_lacks_is_written_as_text(tmp_path: Path) -> None:
    journal = await SqliteJournal.open(tmp_path / "j.db")
    data = {"score": math.nan, "limits": (math.inf, -math.inf, 0.5), "kind": EntryKind.NOTICE}

    returned = await journal.append(Entry(at=1.0, kind=EntryKind.OUTCOME, model="m", data=data))

    assert returned.data == {"score": "NaN", "limits": ["Infinity", "-Infinity", 0.5], "kind": "notice"}
    assert list(await journal.tail(1)) == [returned]
    await journal.close()
