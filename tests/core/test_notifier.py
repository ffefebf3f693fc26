"""Channels are told beside the probing: at once, in spite of anything, and of the truth as it is then."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import pytest

from tests.core.builders import MODEL, FakeChannel, FakeJournal, World
from tests.core.live_world import MemoryEvidence
from tests.core.policy_story import ALERT, Story
from tests.core.virtual_time import EPOCH, in_virtual_time, now
from watchdog.ledger import Ledger, Resend
from watchdog.model.diagnosis import Conclusion
from watchdog.model.event import CycleFailed, Delivered, Noticed
from watchdog.model.journal import EntryKind
from watchdog.model.notice import Condition, Delivery, Notice, Severity
from watchdog.notifier import Notifier
from watchdog.policy.memory import PolicyState
from watchdog.ports import Event

WELL = Story().state
ROLLED_BACK = Story().roll_back().state
ONCE = Resend()
AWAY = Delivery(ok=False, detail="connection refused")


@dataclass(kw_only=True)
class Desk:
    notifier: Notifier
    journal: FakeJournal
    events: list[Event]

    def of(self, kind: type[Any]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]


class SlowEvidence(MemoryEvidence):
    """Its disk takes a second."""

    async def save(self, name: str, data: bytes) -> None:
        await asyncio.sleep(1.0)
        await super().save(name, data)


class Unheard:
    """A channel whose receiver takes what it is given, and whose answer never arrives."""

    def __init__(self) -> None:
        self.given: list[Notice] = []

    async def deliver(self, notices: Sequence[Notice]) -> Delivery:
        self.given += notices
        return AWAY

    async def close(self) -> None: ...


@asynccontextmanager
async def a_desk(*channels: FakeChannel, resend: Resend = ONCE) -> AsyncIterator[Desk]:
    events: list[Event] = []
    journal = FakeJournal(World())
    outlets = {f"ch{i}": (channel, resend) for i, channel in enumerate(channels)}
    async with Notifier(outlets, journal, MemoryEvidence(), events.append, now) as notifier:
        notifier.begin()
        yield Desk(notifier=notifier, journal=journal, events=events)


@in_virtual_time
async def test_every_channel_is_told_first_and_resolved() -> None:
    one, two = FakeChannel(), FakeChannel()
    async with a_desk(one, two) as desk:
        desk.notifier.know(MODEL, ROLLED_BACK)
        assert await desk.notifier.flush(1.0)
        desk.notifier.know(MODEL, WELL)
        assert await desk.notifier.flush(1.0)
        await asyncio.sleep(1000)
    told = [("first", "WatchdogEngineRolledBack"), ("resolved", "WatchdogEngineRolledBack")]
    assert one.told() == two.told() == told
    assert one.attempts == [EPOCH, EPOCH], "at once"
    assert [(e.data["channel"], e.data["kind"], e.data["delivered"]) for e in desk.journal.entries] == [
        ("ch0", "first", True),
        ("ch1", "first", True),
        ("ch0", "resolved", True),
        ("ch1", "resolved", True),
    ]
    assert {(e.kind, e.model) for e in desk.journal.entries} == {(EntryKind.NOTICE, MODEL)}
    assert len(desk.of(Noticed)) == 4


@in_virtual_time
async def test_a_flush_waits_for_what_was_learnt_since_the_last() -> None:
    channel = FakeChannel()
    channel.takes_s = 1.0
    async with a_desk(channel) as desk:
        for told, state in enumerate((ROLLED_BACK, WELL), start=1):
            desk.notifier.know(MODEL, state)
            assert await desk.notifier.flush(5.0)
            assert len(channel.took) == told


@in_virtual_time
async def test_nothing_is_told_where_nothing_is_the_matter() -> None:
    channel = FakeChannel()
    async with a_desk(channel) as desk:
        desk.notifier.know(MODEL, WELL)
        assert await desk.notifier.flush(1.0)
        await asyncio.sleep(100)
    assert channel.attempts == []


@in_virtual_time
async def test_only_settled_decisions_are_taken_note_of() -> None:
    channel, story = FakeChannel(), Story(settings=ALERT)
    async with a_desk(channel) as desk:
        desk.notifier.observe(story.probe(bad=True))
        assert desk.notifier.conditions() == ()
        desk.notifier.observe(story.diagnosed(Conclusion.ENGINE_FAULT))
        assert [c.name for c in desk.notifier.conditions()] == ["WatchdogEngineFault"]
        desk.notifier.observe(CycleFailed(model=MODEL, at=now(), error="not a decision"))
        assert await desk.notifier.flush(1.0)
    assert channel.told() == [("first", "WatchdogEngineFault")]


@in_virtual_time
async def test_the_way_to_a_dead_receiver_is_tried_less_and_less_often() -> None:
    channel = FakeChannel()
    channel.answer = AWAY
    async with a_desk(channel) as desk:
        desk.notifier.know(MODEL, ROLLED_BACK)
        await asyncio.sleep(200)
        waits = [b - a for a, b in zip(channel.attempts, channel.attempts[1:], strict=False)]
        for waited, most in zip(waits, [1, 2, 4, 8, 16, 32, 60, 60], strict=False):
            assert most / 2 <= waited <= most, "scattered, so that many don't come at once"
        assert len(waits) >= 7
        assert not desk.journal.entries
        assert {e.delivery.detail for e in desk.of(Delivered)} == {"connection refused"}
        channel.answer = Delivery(ok=True)
        assert await desk.notifier.flush(100)
        assert channel.told() == [("first", "WatchdogEngineRolledBack")]
        channel.answer = AWAY
        attempts = len(channel.attempts)
        desk.notifier.know(MODEL, WELL)
        await asyncio.sleep(1.5)
        assert len(channel.attempts) == attempts + 2, "what worked in between starts the waiting afresh"


@in_virtual_time
async def test_a_receiver_that_is_away_for_days_is_told_when_it_is_back() -> None:
    channel = FakeChannel()
    channel.answer = AWAY
    async with a_desk(channel) as desk:
        desk.notifier.know(MODEL, ROLLED_BACK)
        await asyncio.sleep(3 * 86400)
        assert len(channel.attempts) > 1100
        channel.answer = Delivery(ok=True)
        assert await desk.notifier.flush(100)
    assert channel.told() == [("first", "WatchdogEngineRolledBack")]


@in_virtual_time
async def test_news_does_not_defeat_the_backing_off() -> None:
    channel = FakeChannel()
    channel.answer = AWAY
    async with a_desk(channel) as desk:
        for i in range(100):
            desk.notifier.know(MODEL, ROLLED_BACK if i % 2 else WELL)
            desk.notifier.know(f"other{i}", ROLLED_BACK)
            await asyncio.sleep(0.1)
    assert len(channel.attempts) <= 5


@in_virtual_time
async def test_what_came_and_went_while_the_receiver_was_away_is_still_told() -> None:
    channel = FakeChannel()
    channel.answer = AWAY
    async with a_desk(channel) as desk:
        desk.notifier.know(MODEL, ROLLED_BACK)
        await asyncio.sleep(2.5)
        desk.notifier.know(MODEL, WELL)
        await asyncio.sleep(2.5)
        channel.answer = Delivery(ok=True)
        assert await desk.notifier.flush(100)
    assert channel.told() == [("first", "WatchdogEngineRolledBack"), ("resolved", "WatchdogEngineRolledBack")]


@in_virtual_time
async def test_a_receiver_that_calls_the_message_wrong_is_not_asked_again() -> None:
    channel = FakeChannel()
    channel.answer = Delivery(ok=False, detail="400: unknown key", retry=False)
    async with a_desk(channel) as desk:
        desk.notifier.know(MODEL, ROLLED_BACK)
        assert await desk.notifier.flush(1.0)
        await asyncio.sleep(500)
    assert len(channel.attempts) == 1
    assert [(e.data["delivered"], e.data["detail"]) for e in desk.journal.entries] == [(False, "400: unknown key")]


@in_virtual_time
async def test_a_forgetful_receiver_is_told_again_without_a_word_in_the_journal() -> None:
    channel = FakeChannel()
    async with a_desk(channel, resend=Resend(every_s=60, resolved_for_s=100)) as desk:
        desk.notifier.know(MODEL, ROLLED_BACK)
        await asyncio.sleep(200)
        desk.notifier.know(MODEL, WELL)
        await asyncio.sleep(500)
    kinds = [kind for kind, _ in channel.told()]
    assert kinds == ["first", "repeat", "repeat", "repeat", "resolved", "resolved", "resolved"]
    assert {e.data["kind"] for e in desk.journal.entries} == {"first", "resolved"}


@in_virtual_time
async def test_a_condition_that_ends_by_the_clock_alone_is_noticed() -> None:
    story, channel = Story(), FakeChannel()
    story.probe(bad=True)
    story.diagnosed(Conclusion.ROUTE_MOVED)
    story.switched()
    async with a_desk(channel) as desk:
        desk.notifier.know(MODEL, story.state)
        await asyncio.sleep(1000)
    assert [kind for kind, _ in channel.told()] == ["first", "resolved"]
    assert 900 <= channel.attempts[1] - channel.attempts[0] <= 906


@in_virtual_time
async def test_a_slow_channel_delays_no_other() -> None:
    slow, quick = FakeChannel(), FakeChannel()
    slow.takes_s = 3600
    async with a_desk(slow, quick) as desk:
        desk.notifier.know(MODEL, ROLLED_BACK)
        assert not await desk.notifier.flush(10.0), "one is not told yet"
        assert quick.took
        assert not slow.took
    assert not slow.took, "an end of the notifier ends what is in flight"


@in_virtual_time
async def test_what_changes_during_a_delivery_is_told_after_it() -> None:
    channel = FakeChannel()
    channel.takes_s = 10
    async with a_desk(channel) as desk:
        desk.notifier.know(MODEL, ROLLED_BACK)
        await asyncio.sleep(5)
        desk.notifier.know(MODEL, WELL)
        assert await desk.notifier.flush(60)
    assert [kind for kind, _ in channel.told()] == ["first", "resolved"]
    assert channel.attempts == [EPOCH, EPOCH + 10]


def _a_bug(channel: FakeChannel) -> None:
    channel.raises = ZeroDivisionError("a bug in the channel")


def _no_bug(channel: FakeChannel) -> None:
    channel.raises = None


@in_virtual_time
async def test_a_channel_with_a_bug_is_loud_and_goes_on() -> None:
    channel = FakeChannel()
    _a_bug(channel)
    async with a_desk(channel) as desk:
        desk.notifier.know(MODEL, ROLLED_BACK)
        await asyncio.sleep(2)
        assert {e.error for e in desk.of(CycleFailed)} == {"channel ch0: ZeroDivisionError: a bug in the channel"}
        _no_bug(channel)
        assert await desk.notifier.flush(100)
    assert channel.told() == [("first", "WatchdogEngineRolledBack")]


@in_virtual_time
async def test_a_full_disk_does_not_stop_the_telling() -> None:
    channel = FakeChannel()
    async with a_desk(channel) as desk:
        desk.journal.full_for = frozenset(EntryKind)
        desk.notifier.know(MODEL, ROLLED_BACK)
        assert await desk.notifier.flush(1.0)
    assert len(channel.took) == 1


@pytest.mark.parametrize("same_name", [True, False])
@in_virtual_time
async def test_a_reload_tells_nothing_twice(same_name: bool) -> None:
    channel = FakeChannel()
    async with a_desk(channel) as old:
        old.notifier.know(MODEL, ROLLED_BACK)
        await old.notifier.flush(1.0)
        name = "ch0" if same_name else "new"
        async with Notifier({name: (channel, ONCE)}, old.journal, MemoryEvidence(), old.events.append, now) as fresh:
            fresh.take_over(old.notifier)
            fresh.know(MODEL, ROLLED_BACK)
            fresh.begin()
            assert await fresh.flush(1.0)
            assert len(channel.took) == (1 if same_name else 2)
            fresh.know(MODEL, WELL)
            assert await fresh.flush(1.0)
    assert channel.told()[-1] == ("resolved", "WatchdogEngineRolledBack")


@in_virtual_time
async def test_a_reload_ends_what_the_old_one_was_about_to_tell_and_write() -> None:
    """Until it is closed it would tell people, too, and write what it knows over what its successor does."""
    channel, evidence = FakeChannel(), MemoryEvidence()
    channel.takes_s = 10
    async with a_process(channel, evidence, (MODEL, ROLLED_BACK)) as old:
        await asyncio.sleep(5)
        async with Notifier({"pager": (channel, ONCE)}, old.journal, evidence, old.events.append, now) as fresh:
            fresh.take_over(old.notifier)
            fresh.know(MODEL, ROLLED_BACK)
            fresh.begin()
            await asyncio.sleep(7)
            fresh.know(MODEL, WELL)
            assert await fresh.flush(60.0)
            assert channel.told() == [("first", "WatchdogEngineRolledBack"), ("resolved", "WatchdogEngineRolledBack")]
            assert Ledger.from_bytes(evidence.blobs["channel/pager"]) == Ledger()


@in_virtual_time
async def test_a_flush_waits_for_what_comes_while_the_ledger_is_written() -> None:
    channel, evidence = FakeChannel(), SlowEvidence()
    async with a_process(channel, evidence, (MODEL, ROLLED_BACK)) as desk:
        assert await desk.notifier.flush(10.0)
        desk.notifier.hold("gpu", [FULL])
        assert await desk.notifier.flush(10.0)
        desk.notifier.hold("gpu", [replace(FULL, description="other words, which are written and not told")])
        await asyncio.sleep(0.5)
        desk.notifier.hold("gpu", [FULL, LOST])
        await asyncio.sleep(1.0)
        assert not await desk.notifier.flush(0.1)
        assert await desk.notifier.flush(10.0)
    assert channel.told()[-1] == ("first", LOST.name)


@in_virtual_time
async def test_what_was_tried_is_on_disk_in_the_form_in_which_it_was() -> None:
    channel, evidence = Unheard(), MemoryEvidence()
    pager = Resend(group_above=2, one_by_one=True)
    full = [replace(FULL, labels={"gpu": f"GPU-{i}"}) for i in range(4)]
    tried: list[Notice] = []
    for held in (full[:3], full):
        async with Notifier({"pager": (channel, pager)}, FakeJournal(World()), evidence, lambda _: None, now) as one:
            await one.recall()
            one.hold("gpu", held)
            one.begin()
            await asyncio.sleep(0.1)
        tried.append(channel.given[-1])
    assert [len(notice.lives) for notice in tried] == [3, 3]
    assert tried[0].condition.key == tried[1].condition.key, "the receiver may have taken it before the kill"


@in_virtual_time
async def test_a_model_that_is_watched_no_longer_is_resolved() -> None:
    channel = FakeChannel()
    async with a_desk(channel) as old:
        old.notifier.know(MODEL, ROLLED_BACK)
        await old.notifier.flush(1.0)
        async with Notifier({"ch0": (channel, ONCE)}, old.journal, MemoryEvidence(), old.events.append, now) as fresh:
            fresh.take_over(old.notifier)
            fresh.begin()
            fresh.know("another", WELL)
            assert await fresh.flush(1.0)
    assert [kind for kind, _ in channel.told()] == ["first", "resolved"]


FULL = Condition(
    name="WatchdogGpuMemoryLow", severity=Severity.WARNING, summary="full", description="…", labels={"gpu": "GPU-1"}
)
LOST = Condition(name="WatchdogGpuLost", severity=Severity.CRITICAL, summary="gone", description="…")


@in_virtual_time
async def test_what_other_sources_hold_is_told_as_long_as_they_hold_it() -> None:
    channel = FakeChannel()
    async with a_desk(channel) as desk:
        desk.notifier.know(MODEL, ROLLED_BACK)
        desk.notifier.hold("gpu", [FULL])
        desk.notifier.hold("engines of nodule", [LOST])
        assert await desk.notifier.flush(1.0)
        assert {name for _, name in channel.told()} == {"WatchdogEngineRolledBack", FULL.name, LOST.name}
        desk.notifier.hold("gpu", [LOST])
        desk.notifier.hold("engines of nodule", [])
        assert await desk.notifier.flush(1.0)
        desk.notifier.hold("gpu", [])
        assert await desk.notifier.flush(1.0)
        assert [c.name for c in desk.notifier.conditions()] == ["WatchdogEngineRolledBack"]
    assert channel.told()[3:] == [("resolved", FULL.name), ("resolved", LOST.name)], "one holds what the other let go"
    assert {entry.model for entry in desk.journal.entries} == {MODEL, ""}


@in_virtual_time
async def test_what_is_held_on_and_on_is_told_once() -> None:
    channel = FakeChannel()
    async with a_desk(channel) as desk:
        for i in range(100):
            desk.notifier.hold("gpu", [replace(FULL, description=f"{i} MiB are free")])
            await asyncio.sleep(10)
        assert channel.told() == [("first", FULL.name)]
        assert [c.description for c in desk.notifier.conditions()] == ["99 MiB are free"]


@in_virtual_time
async def test_a_reload_does_not_end_what_a_source_has_not_been_asked_about_yet() -> None:
    channel = FakeChannel()
    async with a_desk(channel) as old:
        old.notifier.hold("gpu", [FULL])
        old.notifier.hold("engines of one that is watched no longer", [LOST])
        await old.notifier.flush(1.0)
        async with Notifier({"ch0": (channel, ONCE)}, old.journal, MemoryEvidence(), old.events.append, now) as fresh:
            fresh.take_over(old.notifier)
            fresh.begin()
            fresh.know(MODEL, WELL)
            assert await fresh.flush(1.0)
            await asyncio.sleep(30)
            fresh.hold("gpu", [FULL])
            await asyncio.sleep(60)
            assert [kind for kind, _ in channel.told()] == ["first", "first"]
            await asyncio.sleep(60)
            assert channel.told()[2:] == [("resolved", LOST.name)], "nobody speaks for it any more"
            async with Notifier(
                {"ch0": (channel, ONCE)}, old.journal, MemoryEvidence(), old.events.append, now
            ) as third:
                third.hold("engines of nodule", [])
                fresh.hold("engines of nodule", [LOST])
                third.take_over(fresh)
                third.begin()
                assert [c.name for c in third.conditions()] == [FULL.name], "who has spoken knows better"
                third.hold("gpu", [])
                assert await third.flush(1.0)
    assert ("resolved", FULL.name) in channel.told()[-2:]


@in_virtual_time
async def test_without_channels_there_is_nothing_to_wait_for() -> None:
    async with a_desk() as desk:
        desk.notifier.know(MODEL, ROLLED_BACK)
        assert await desk.notifier.flush(0.1)


# -- across the end of the process ---------------------------------------------------------------


@asynccontextmanager
async def a_process(
    channel: FakeChannel, evidence: MemoryEvidence, *states: tuple[str, PolicyState]
) -> AsyncIterator[Desk]:
    """A watchdog that starts with what the last one left on the disk; leaving it is its kill -9."""
    events: list[Event] = []
    journal = FakeJournal(World())
    async with Notifier({"pager": (channel, ONCE)}, journal, evidence, events.append, now) as notifier:
        await notifier.recall()
        for model, state in states:
            notifier.know(model, state)
        notifier.begin()
        yield Desk(notifier=notifier, journal=journal, events=events)


@in_virtual_time
async def test_what_a_dead_receiver_did_not_take_is_told_by_the_next_process_with_its_own_times() -> None:
    channel, evidence = FakeChannel(), MemoryEvidence()
    channel.answer = AWAY
    async with a_process(channel, evidence, (MODEL, ROLLED_BACK)):
        await asyncio.sleep(10)
    channel.answer = Delivery(ok=True)
    await asyncio.sleep(600)
    async with a_process(channel, evidence, (MODEL, WELL)) as desk:
        assert await desk.notifier.flush(1.0)
    assert channel.told() == [("first", "WatchdogEngineRolledBack"), ("resolved", "WatchdogEngineRolledBack")]
    assert channel.took[0].started_at == EPOCH


@in_virtual_time
async def test_what_was_taken_is_not_told_again_by_the_next_process_and_its_end_is() -> None:
    channel, evidence = FakeChannel(), MemoryEvidence()
    for state in (ROLLED_BACK, ROLLED_BACK, WELL, WELL):
        async with a_process(channel, evidence, (MODEL, state)) as desk:
            assert await desk.notifier.flush(1.0)
            await asyncio.sleep(100)
    assert channel.told() == [("first", "WatchdogEngineRolledBack"), ("resolved", "WatchdogEngineRolledBack")]


@in_virtual_time
async def test_a_source_that_has_not_spoken_since_the_start_ends_nothing_at_once() -> None:
    channel, evidence = FakeChannel(), MemoryEvidence()
    async with a_process(channel, evidence, (MODEL, WELL)) as desk:
        desk.notifier.hold("gpu", [FULL])
        assert await desk.notifier.flush(1.0)
    async with a_process(channel, evidence, (MODEL, WELL)) as desk:
        await asyncio.sleep(60)
        assert [kind for kind, _ in channel.told()] == ["first"]
        assert [c.name for c in desk.notifier.conditions()] == [FULL.name]
        desk.notifier.hold("gpu", [])
        assert await desk.notifier.flush(1.0)
    assert [kind for kind, _ in channel.told()] == ["first", "resolved"]


@in_virtual_time
async def test_a_ledger_that_is_damaged_is_told_of_and_people_are_told_again() -> None:
    channel, evidence = FakeChannel(), MemoryEvidence()
    async with a_process(channel, evidence, (MODEL, ROLLED_BACK)) as desk:
        assert await desk.notifier.flush(1.0)
    for damage in (b"damaged", b"no ledger"):
        evidence.blobs["channel/pager"] = damage
        async with a_process(channel, evidence, (MODEL, ROLLED_BACK)) as desk:
            assert await desk.notifier.flush(1.0)
            (failed,) = desk.of(CycleFailed)
            assert failed.error.startswith("channel pager: what it was told is not known any more")
    assert [kind for kind, _ in channel.told()] == ["first"] * 3


@in_virtual_time
async def test_a_disk_that_fails_is_told_of_once_and_stops_nobody_from_being_told() -> None:
    channel, evidence = FakeChannel(), MemoryEvidence()
    async with a_process(channel, evidence, (MODEL, WELL)) as desk:
        evidence.fails = OSError(28, "no space")
        for state in (ROLLED_BACK, WELL, ROLLED_BACK):
            desk.notifier.know(MODEL, state)
            assert await desk.notifier.flush(1.0)
        assert len(channel.took) == 3
        assert len(desk.of(CycleFailed)) == 1


@in_virtual_time
async def test_nobody_waits_again_and_again_for_a_disk_that_hangs_and_it_is_written_to_once_it_is_well() -> None:
    channel, evidence = FakeChannel(), SlowEvidence()
    pager = Resend(one_by_one=True)
    async with Notifier({"pager": (channel, pager)}, FakeJournal(World()), evidence, lambda _: None, now) as notifier:
        evidence.fails = TimeoutError("the disk did not answer")
        notifier.hold("gpu", [replace(FULL, labels={"gpu": f"GPU-{i}"}) for i in range(50)])
        notifier.begin()
        assert await notifier.flush(2.5)
        assert len(channel.took) == 50
        evidence.fails = None
        await asyncio.sleep(20)
        written = Ledger.from_bytes(evidence.blobs["channel/pager"])
        assert [life.told_at is None for life in written.lives] == [False] * 50


@in_virtual_time
async def test_a_receiver_that_asks_to_be_left_alone_is() -> None:
    channel, evidence = FakeChannel(), MemoryEvidence()
    channel.answer = Delivery(ok=False, detail="429", retry_after_s=120.0)
    async with a_process(channel, evidence, (MODEL, ROLLED_BACK)):
        await asyncio.sleep(119)
        assert len(channel.attempts) == 1
        await asyncio.sleep(2)
        assert len(channel.attempts) == 2


@in_virtual_time
async def test_how_a_channel_stands_can_be_asked() -> None:
    channel, evidence = FakeChannel(), MemoryEvidence()
    channel.answer = AWAY
    async with a_process(channel, evidence, (MODEL, ROLLED_BACK)) as desk:
        await asyncio.sleep(10)
        (queue,) = desk.notifier.queues()
        assert (queue.channel, queue.pending, queue.oldest_at, queue.up) == ("pager", 1, EPOCH, False)
        assert (queue.delivered_at, queue.detail) == (None, "connection refused")
        channel.answer = Delivery(ok=True)
        assert await desk.notifier.flush(60)
        (queue,) = desk.notifier.queues()
        assert (queue.pending, queue.oldest_at, queue.up) == (0, None, True)


@in_virtual_time
async def test_what_came_and_went_while_a_channel_was_busy_is_on_disk_at_once_and_told_after_it() -> None:
    channel, evidence = FakeChannel(), MemoryEvidence()
    channel.takes_s = 3600
    async with a_process(channel, evidence, (MODEL, ROLLED_BACK)) as desk:
        await asyncio.sleep(1)
        desk.notifier.hold("gpu", [FULL])
        desk.notifier.hold("gpu", [])
        await asyncio.sleep(1)
        assert not channel.took
    channel.takes_s = 0
    async with a_process(channel, evidence, (MODEL, ROLLED_BACK)) as desk:
        assert await desk.notifier.flush(1.0)
    assert channel.told() == [
        ("first", "WatchdogEngineRolledBack"),
        ("first", FULL.name),
        ("resolved", FULL.name),
    ]
