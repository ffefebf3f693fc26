"""What goes when a journal grows old or large, what stays, and that the chain holds over it."""

import asyncio
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from tests.journal.journals import all_of, looked_at, tamper, version_1, written
from watchdog.journal import retention
from watchdog.journal.retention import Compacted, JournalSettings
from watchdog.journal.sqlite import SqliteJournal
from watchdog.journal.verify import How
from watchdog.model.journal import Entry, EntryKind

DAY = 86400.0
DECISION, INTENT, OUTCOME, SCORE, NOTICE = (
    EntryKind.DECISION,
    EntryKind.INTENT,
    EntryKind.OUTCOME,
    EntryKind.SCORE,
    EntryKind.NOTICE,
)


def on_day(day: float, kind: EntryKind = NOTICE, model: str = "nodule", **data: Any) -> Entry:
    return Entry(at=day * DAY, kind=kind, model=model, data=data)


def keeping(days: float = 10, *, newest: int = 1, entries: int = 5_000_000, scores: float = 10) -> JournalSettings:
    return JournalSettings(keep=days * DAY, keep_scores=scores * DAY, keep_newest=newest, max_entries=entries)


async def compact(path: Path, day: float, settings: JournalSettings) -> Compacted:
    journal = await SqliteJournal.open(path)
    done = await journal.compact(day * DAY, settings)
    await journal.close()
    return done


async def test_the_oldest_go_and_the_chain_goes_on_from_what_they_left(tmp_path: Path) -> None:
    path = await written(tmp_path / "j.db", *(on_day(n) for n in range(1, 21)))
    head = looked_at(path).head

    done = await compact(path, 20.5, keeping(10))

    assert done == Compacted(removed=10, forgotten=0)
    kept = await all_of(path)
    assert [one.seq for one in kept] == list(range(11, 22))
    assert kept[-1].kind is EntryKind.COMPACTED
    assert {key: kept[-1].data[key] for key in ("first", "last", "count")} == {"first": 1, "last": 10, "count": 10}
    found = looked_at(path, head)
    assert (found.right, found.first, found.entries) == (True, 11, 11)


async def test_nothing_is_written_where_nothing_is_due(tmp_path: Path) -> None:
    path = await written(tmp_path / "j.db", *(on_day(n) for n in range(1, 6)))

    assert await compact(path, 6, keeping(10)) == Compacted(removed=0, forgotten=0)
    assert len(await all_of(path)) == 5


async def test_an_empty_journal_has_nothing_to_remove(tmp_path: Path) -> None:
    path = await written(tmp_path / "j.db")
    assert await compact(path, 1000, keeping(10)) == Compacted(removed=0, forgotten=0)
    assert looked_at(path).right


async def test_the_newest_stay_even_if_the_clock_is_wrong_by_years(tmp_path: Path) -> None:
    path = await written(tmp_path / "j.db", *(on_day(n) for n in range(1, 11)))

    await compact(path, 100_000, keeping(10, newest=4))

    assert [one.seq for one in await all_of(path)] == [7, 8, 9, 10, 11]


async def test_too_many_go_however_young(tmp_path: Path) -> None:
    path = await written(tmp_path / "j.db", *(on_day(1) for _ in range(50)))

    assert (await compact(path, 1, keeping(10, entries=20))).removed == 30
    assert len(await all_of(path)) == 21
    assert looked_at(path).right


async def test_only_what_is_before_everything_young_goes(tmp_path: Path) -> None:
    path = await written(tmp_path / "j.db", on_day(1), on_day(50), on_day(2), on_day(51))

    await compact(path, 52, keeping(10))

    assert [one.seq for one in await all_of(path)] == [2, 3, 4, 5]


async def test_what_is_needed_to_resume_outlives_its_row_again_and_again(tmp_path: Path) -> None:
    decision, intent = on_day(1, DECISION, state="safe", score="NaN"), on_day(2, INTENT, to="safe")
    path = await written(tmp_path / "j.db", on_day(1, DECISION, state="old"), decision, intent)
    for day in (100, 200, 300):
        await compact(path, day, keeping(10))
        journal = await SqliteJournal.open(path)
        found = [await journal.last(kind, "nodule") for kind in (DECISION, INTENT, OUTCOME)]
        await journal.close()

        assert found[0] is not None
        assert (found[0].seq, found[0].at, found[0].data) == (2, DAY, decision.data)
        assert found[1] is not None
        assert (found[1].seq, found[1].at, found[1].data) == (3, 2 * DAY, intent.data)
        assert found[2] is None
        verified = looked_at(path)
        assert verified.right
        assert list(verified.switches.open) == ["nodule"]


async def test_what_came_later_wins_over_what_was_carried(tmp_path: Path) -> None:
    path = await written(tmp_path / "j.db", on_day(1, DECISION, n=1), on_day(1, INTENT))
    await compact(path, 100, keeping(10))
    await written(path, on_day(100, DECISION, n=2), on_day(100, OUTCOME))

    journal = await SqliteJournal.open(path)
    newest = await journal.last(DECISION, "nodule")
    await journal.close()

    assert newest is not None
    assert newest.data == {"n": 2}
    assert looked_at(path).switches.open == {}
    await compact(path, 300, keeping(10))
    assert looked_at(path).switches.open == {}, "a switch that has its outcome is not carried"


async def test_an_outcome_may_outlive_its_intent(tmp_path: Path) -> None:
    path = await written(tmp_path / "j.db", on_day(1, INTENT), on_day(50, OUTCOME), on_day(50))

    await compact(path, 52, keeping(10))

    assert (await all_of(path))[0].kind is OUTCOME
    assert looked_at(path).right


STORY = st.lists(
    st.tuples(st.sampled_from([DECISION, INTENT, OUTCOME, SCORE, NOTICE]), st.sampled_from("ab")), max_size=40
)


@settings(max_examples=40, deadline=None)
@given(story=STORY, days=st.lists(st.integers(1, 60), min_size=1, max_size=4), newest=st.integers(1, 5))
def test_compaction_changes_no_answer_and_breaks_no_chain(
    tmp_path_factory: pytest.TempPathFactory,
    story: Sequence[tuple[EntryKind, str]],
    days: Sequence[int],
    newest: int,
) -> None:
    path = tmp_path_factory.mktemp("story") / "j.db"

    async def last() -> list[Entry | None]:
        journal = await SqliteJournal.open(path)
        found = [await journal.last(DECISION, model) for model in "ab"]
        await journal.close()
        return found

    async def run() -> None:
        await written(path, *(on_day(n, kind, model, n=n) for n, (kind, model) in enumerate(story)))
        before, still_open = await last(), set(looked_at(path).switches.open)
        for day in sorted(days):
            await compact(path, day, keeping(10, newest=newest, scores=5))
            assert await last() == before
            found = looked_at(path)
            assert found.misfit is None
            assert set(found.switches.open) == still_open

    asyncio.run(run())


async def test_more_than_a_batch_goes_while_appends_go_on(tmp_path: Path) -> None:
    path = version_1(tmp_path / "j.db", 3500)
    journal = await SqliteJournal.open(path)

    compacting = asyncio.create_task(journal.compact(1000 * DAY, keeping(10)))
    appended = [await journal.append(on_day(1000)) for _ in range(5)]

    done = await compacting
    await journal.close()
    assert done.removed >= 3000
    assert [one.seq for one in appended] == sorted({one.seq for one in appended})
    assert looked_at(path).right


async def test_a_score_is_forgotten_but_its_place_is_not(tmp_path: Path) -> None:
    path = await written(
        tmp_path / "j.db", on_day(1, SCORE, n=1), on_day(1, DECISION, n=2), on_day(9, SCORE, n=3), on_day(1, SCORE, n=4)
    )
    head = looked_at(path).head

    assert await compact(path, 10, keeping(100, scores=5)) == Compacted(removed=0, forgotten=2)

    assert [one.data.get("n") for one in await all_of(path)][:4] == [None, 2, 3, None]
    found = looked_at(path, head)
    assert (found.right, found.forgotten) == (True, 2)
    assert await compact(path, 10, keeping(100, scores=5)) == Compacted(removed=0, forgotten=0)


async def test_only_scores_can_be_forgotten(tmp_path: Path) -> None:
    journal = await SqliteJournal.open(tmp_path / "j.db")
    await journal.append(on_day(1, DECISION, n=1))

    with pytest.raises(ValueError, match="decision are kept whole"):
        await journal.forget(DECISION, before=5 * DAY, now=5 * DAY)

    assert [one.data for one in await journal.tail(10)] == [{"n": 1}]
    await journal.close()


@pytest.mark.parametrize(
    "edit",
    [
        "DELETE FROM entries WHERE seq = 4",
        "DELETE FROM entries",
        "UPDATE entries SET data = NULL, digest = zeroblob(32) WHERE kind = 'score' AND seq = 5",
        "UPDATE entries SET data = NULL, digest = zeroblob(32) WHERE kind = 'notice' AND seq = 4",
        "UPDATE entries SET data = '{}' WHERE seq = 3",
        "UPDATE entries SET digest = zeroblob(32) WHERE seq = 3",
    ],
)
async def test_what_compaction_left_stays(tmp_path: Path, edit: str) -> None:
    story = [on_day(1), on_day(2), on_day(50, SCORE), on_day(60), on_day(60, SCORE)]
    path = await written(tmp_path / "j.db", *story)
    assert await compact(path, 60, keeping(20, scores=5)) == Compacted(removed=2, forgotten=1)

    with pytest.raises(sqlite3.IntegrityError):
        tamper(path, edit, keep=True)

    assert looked_at(path).right


@pytest.mark.parametrize(
    "harm",
    [
        "UPDATE entries SET data = replace(data, 'anchor', 'anchor2') WHERE kind = 'compacted'",
        "DELETE FROM entries WHERE seq = 11",
    ],
)
async def test_a_removal_that_the_journal_does_not_record(tmp_path: Path, harm: str) -> None:
    path = await written(tmp_path / "j.db", *(on_day(n) for n in range(1, 21)))
    await compact(path, 20.5, keeping(10))
    tamper(path, harm)

    misfit = looked_at(path).misfit

    assert misfit is not None
    assert (misfit.seq, misfit.how) == (1, How.MISSING)


async def test_a_batch_is_all_or_nothing(tmp_path: Path) -> None:
    path = await written(tmp_path / "j.db", *(on_day(n) for n in range(1, 21)))
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(
            "CREATE TRIGGER fails AFTER DELETE ON entries WHEN OLD.seq = 5 BEGIN SELECT RAISE(ABORT, 'no'); END"
        )
        due = retention.plan(connection, 20.5 * DAY, keeping(10))
        with pytest.raises(sqlite3.IntegrityError, match="no"):
            retention.remove_some(connection, due)

    found = looked_at(path)
    assert (found.right, found.entries) == (True, 20)


def test_settings_that_contradict_one_another() -> None:
    with pytest.raises(ValidationError, match="keep_newest is 1000, more than max_entries"):
        JournalSettings(max_entries=10)
