"""When a channel hears of what: each life's beginning, then its end, in order; never twice, never not."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from watchdog.ledger import Ledger, Resend
from watchdog.model.notice import Condition, LifeId, Notice, NoticeKind, Severity

ONCE = Resend()
OFTEN = Resend(every_s=60.0, resolved_for_s=300.0)


def a_condition(name: str = "A", **labels: str) -> Condition:
    return Condition(name=name, severity=Severity.CRITICAL, summary=name, description="…", labels=labels)


def said(*conditions: Condition) -> list[tuple[str, Condition]]:
    return [("nodule", condition) for condition in conditions]


A, B = a_condition("A"), a_condition("B")


class Receiver:
    """A channel's side of the ledger: sees conditions, takes what is due, or is away."""

    def __init__(self, resend: Resend = ONCE) -> None:
        self.resend = resend
        self.ledger = Ledger()
        self.told: list[tuple[float, str, str]] = []
        self.notices: list[Notice] = []

    def look(self, now: float, *holding: Condition, away: bool = False) -> list[str]:
        """What was due at `now`; handed over unless the receiver is away."""
        self.ledger = self.ledger.observe(said(*holding), now, self.resend)
        notices = self.ledger.due(now, self.resend)
        if not away:
            self.ledger = self.ledger.taken(notices, now, self.resend)
            self.told += [(now, str(n.kind), n.condition.name) for n in notices]
            self.notices += notices
        return [f"{n.kind} {n.condition.name}" for n in notices]


def test_first_then_nothing_then_resolved_then_forgotten() -> None:
    receiver = Receiver()
    assert receiver.look(0, A) == ["first A"]
    assert receiver.look(1e6, A) == []
    assert receiver.look(1e6 + 1) == ["resolved A"]
    assert receiver.look(1e6 + 2) == []
    assert receiver.ledger == Ledger()


def test_a_forgetful_receiver_is_told_again_and_for_a_while_after_the_end() -> None:
    receiver = Receiver(OFTEN)
    for now in range(0, 1000, 20):
        receiver.look(now, *((A,) if now < 200 else ()))
    kinds = [(now, kind) for now, kind, _ in receiver.told]
    assert kinds[:4] == [(0, "first"), (60, "repeat"), (120, "repeat"), (180, "repeat")]
    assert kinds[4:] == [(200 + 60 * i, "resolved") for i in range(6)]
    assert receiver.ledger == Ledger()


def test_what_lasts_is_said_to_last_for_four_repeats() -> None:
    ledger = Ledger().observe(said(A), 100.0, OFTEN)
    (notice,) = ledger.due(100.0, OFTEN)
    assert (notice.started_at, notice.ends_at) == (100.0, 340.0)
    (notice,) = ledger.observe(said(), 150.0, OFTEN).due(160.0, OFTEN)
    assert (notice.kind, notice.started_at, notice.ends_at) == (NoticeKind.RESOLVED, 100.0, 150.0)


def test_a_condition_that_came_and_went_while_the_receiver_was_away_is_still_told() -> None:
    receiver = Receiver()
    receiver.look(0, A, away=True)
    receiver.look(5, away=True)
    assert receiver.look(100) == ["first A", "resolved A"]
    assert receiver.look(200) == []


def test_a_condition_that_comes_back_is_a_new_one() -> None:
    receiver = Receiver()
    receiver.look(0, A)
    receiver.look(5)
    assert receiver.look(9, A) == ["first A"]
    assert [life.started_at for life in receiver.ledger.lives] == [9]


def test_one_that_comes_back_before_its_end_was_told_is_told_as_two() -> None:
    receiver = Receiver()
    receiver.look(0, A)
    receiver.look(5, away=True)
    assert receiver.look(9, A) == ["resolved A", "first A"]
    assert receiver.look(12) == ["resolved A"]


def test_a_forgetful_receiver_is_told_what_is_true_and_no_history() -> None:
    receiver = Receiver(OFTEN)
    receiver.look(0, A, away=True)
    receiver.look(5, away=True)
    receiver.look(9, A, away=True)
    assert receiver.look(12, A) == ["first A"]


def test_the_oldest_comes_first() -> None:
    receiver = Receiver()
    receiver.look(0, B, away=True)
    assert receiver.look(1, A, B) == ["first B", "first A"]


def test_a_delivery_that_arrives_late_does_not_mark_the_next_condition_of_that_name() -> None:
    ledger = Ledger().observe(said(A), 0.0, ONCE)
    notices = ledger.due(0.0, ONCE)
    moved_on = ledger.observe(said(), 1.0, ONCE).observe(said(A), 2.0, ONCE)
    after = moved_on.taken(notices, 3.0, ONCE)
    assert [n.started_at for n in after.due(3.0, ONCE) if n.kind is NoticeKind.FIRST] == [2.0]
    assert Ledger().taken(notices, 3.0, ONCE) == Ledger()


def test_the_newest_words_of_a_lasting_condition_are_used() -> None:
    receiver = Receiver(OFTEN)
    receiver.look(0, A)
    worse = replace(A, description="worse")
    receiver.ledger = receiver.ledger.observe(said(worse), 60.0, OFTEN)
    assert receiver.ledger.due(60.0, OFTEN)[0].condition.description == "worse"


def test_labels_are_a_conditions_identity() -> None:
    assert a_condition(model="a").key != a_condition(model="b").key
    assert a_condition(x="1", model="a").key == a_condition(model="a", x="1").key


STEPS = st.lists(
    st.tuples(st.floats(0.5, 120.0), st.sets(st.sampled_from("AB")), st.booleans()), min_size=1, max_size=25
)


@given(STEPS, st.sampled_from([ONCE, OFTEN]))
def test_whoever_heard_a_beginning_hears_its_end_and_nothing_twice(
    steps: list[tuple[float, set[str], bool]], resend: Resend
) -> None:
    receiver, now = Receiver(resend), 0.0
    held_ever: set[str] = set()
    for wait, holding, away in steps:
        now += wait
        held_ever |= holding
        receiver.look(now, *(a_condition(name) for name in sorted(holding)), away=away)
    for _ in range(20):
        now += 60.0
        receiver.look(now)

    assert receiver.ledger == Ledger(), "what ended and was told is forgotten"
    for name in held_ever:
        kinds = [kind for _, kind, who in receiver.told if who == name]
        assert kinds[-1] == "resolved"
    if resend is ONCE:
        said = [(n.kind, n.condition.name, n.started_at) for n in receiver.notices]
        assert len(set(said)) == len(said)
        assert NoticeKind.REPEAT not in {kind for kind, _, _ in said}


@given(STEPS)
def test_a_receiver_that_is_there_hears_each_beginning_and_end_once(
    steps: list[tuple[float, set[str], bool]],
) -> None:
    receiver, now, heard, held = Receiver(), 0.0, [], set[str]()
    for wait, holding, _ in steps:
        now += wait
        receiver.look(now, *(a_condition(name) for name in sorted(holding)))
        heard += [(now, "resolved", name) for name in held - holding] + [
            (now, "first", name) for name in holding - held
        ]
        held = holding
    assert sorted(receiver.told) == sorted(heard)


# -- across restarts, in order, whatever happens -------------------------------------------------

STORY = st.lists(st.tuples(st.sets(st.sampled_from("ABC")), st.sampled_from(["taken", "away", "killed", "restart"])))


@given(STORY)
def test_every_life_is_told_as_a_beginning_and_an_end_in_order_whatever_the_receiver_and_the_process_do(
    story: list[tuple[set[str], str]],
) -> None:
    """`killed`: the receiver took it, but the process ended before it could note that."""
    ledger, now, lives = Ledger(), 0.0, list[tuple[str, float, str]]()
    sent: list[tuple[str, str, float]] = []
    taken: list[tuple[str, str, float]] = []
    held: set[str] = set()
    for holding, then in [*story, (set(), "taken")]:
        now += 1.0
        lives += [(name, now, "resolved") for name in sorted(held - holding)]
        lives += [(name, now, "first") for name in sorted(holding - held)]
        held = holding
        ledger = ledger.observe(said(*(a_condition(name) for name in sorted(holding))), now, ONCE)
        assert Ledger.from_bytes(ledger.to_bytes()) == ledger
        notices = ledger.due(now, ONCE)
        told = [(n.condition.name, str(n.kind), n.started_at) for n in notices]
        if then in {"taken", "killed"}:
            sent += [one for one in told if one not in sent]  # the receiver knows those that it has had
        if then == "taken":
            assert not set(told) & set(taken), "what was taken is not sent again"
            taken += told
            ledger = ledger.taken(notices, now, ONCE)
        if then in {"killed", "restart"}:
            ledger = Ledger.from_bytes(ledger.to_bytes())
    assert ledger == Ledger()
    for name in "ABC":
        of_it = [kind for who, kind, _ in sent if who == name]
        assert of_it == [kind for who, _, kind in lives if who == name], "each life, in its order"


@pytest.mark.parametrize("ends_at", [150.0, 50.0])
def test_a_clock_that_is_put_back_turns_no_order_around(ends_at: float) -> None:
    ledger = Ledger().observe(said(A), 100.0, ONCE).observe(said(), ends_at, ONCE)
    ledger = ledger.observe(said(A), 60.0, ONCE).observe(said(), 60.0, ONCE)
    kinds = [str(notice.kind) for notice in ledger.due(60.0, ONCE)]
    assert kinds == ["first", "resolved", "first", "resolved"]


PAGED = st.lists(
    st.tuples(
        st.floats(-30.0, 120.0),
        st.sets(st.sampled_from("ABCDE")),
        st.sampled_from(["taken", "answer lost", "away", "restart"]),
    )
)


@given(PAGED)
def test_no_incident_is_left_open_or_closed_too_soon_by_groups_lost_answers_restarts_and_the_clock(
    story: list[tuple[float, set[str], str]],
) -> None:
    """The receiver is one that takes a notice at a time, and knows an incident by its key alone."""
    resend = Resend(group_above=2, one_by_one=True)
    ledger, now = Ledger(), 1e6
    open_now: dict[tuple[str, ...], tuple[LifeId, ...]] = {}
    opened: set[LifeId] = set()
    begun: set[LifeId] = set()
    for step, holding, then in [*story, *[(1.0, set[str](), "taken")] * 40]:
        now += step
        ledger = ledger.observe(said(*(a_condition("Down", model=name) for name in sorted(holding))), now, resend)
        begun |= {life.id for life in ledger.lives}
        if then == "restart":
            ledger = Ledger.from_bytes(ledger.to_bytes())
        if then in {"away", "restart"} or not (notices := ledger.due(now, resend)[:1]):
            continue
        ledger = ledger.tried(notices)
        (notice,) = notices
        if notice.kind is NoticeKind.FIRST:
            assert open_now.setdefault(notice.condition.key, notice.lives) == notice.lives, "one that is open already"
            opened |= set(notice.lives)
        else:
            assert set(notice.lives) <= opened
            assert set(open_now.pop(notice.condition.key, notice.lives)) == set(notice.lives)
        if then == "taken":
            ledger = ledger.taken(notices, now, resend)
    assert ledger == Ledger()
    assert open_now == {}
    assert len(opened) == len(begun) or len(story) > 16, "each life was told of; of many the middle ones become one"


def test_a_condition_that_flaps_for_hours_is_kept_in_bounds_and_nothing_is_hidden() -> None:
    ledger = Ledger()
    for i in range(1000):
        ledger = ledger.observe(said(A) if i % 2 == 0 else (), float(i), ONCE)
    assert len(ledger.lives) <= 8
    assert sum(life.times for life in ledger.lives) == 500
    notices = ledger.due(1e4, ONCE)
    assert [n.kind for n in notices] == [NoticeKind.FIRST, NoticeKind.RESOLVED] * len(ledger.lives)
    assert any("it came and went 493 times" in n.condition.description for n in notices)
    assert (notices[0].started_at, notices[-1].ends_at) == (0.0, 999.0)


def test_what_becomes_one_with_a_life_while_that_is_on_its_way_is_told_after_it() -> None:
    ledger = Ledger()
    for i in range(16):
        ledger = ledger.observe(said(A) if i % 2 == 0 else (), float(i), ONCE)
    on_their_way = ledger.due(16.0, ONCE)
    for i in range(16, 30):
        ledger = ledger.observe(said(A) if i % 2 == 0 else (), float(i), ONCE)
    ledger = ledger.taken(on_their_way, 30.0, ONCE)
    assert sum(life.times for life in ledger.lives) >= 7, "those that came meanwhile"
    assert [n.kind for n in ledger.due(30.0, ONCE)] == [NoticeKind.FIRST, NoticeKind.RESOLVED] * len(ledger.lives)


def test_a_group_that_was_tried_keeps_its_members_while_they_flap_on() -> None:
    ledger = Ledger()
    for i in range(16):
        ledger = ledger.observe(said(A) if i % 2 == 0 else (), float(i), GROUPED)
    (first, _) = ledger.due(16.0, GROUPED)
    ledger = ledger.tried([first])
    for i in range(16, 200):
        ledger = ledger.observe(said(A) if i % 2 == 0 else (), float(i), GROUPED)
    assert ledger.due(200.0, GROUPED)[0].lives == first.lives
    assert len(ledger.lives) <= 11
    assert sum(life.times for life in ledger.lives) == 100


# -- a flood ----------------------------------------------------------------------------------------

GROUPED = Resend(group_above=3)
MODELS = [a_condition("WatchdogServerDown", model=f"m{i}") for i in range(12)]


def test_a_flood_is_one_notice_and_its_end_is_one_too_once_all_of_it_is_over() -> None:
    receiver = Receiver(GROUPED)
    assert receiver.look(0, *MODELS) == ["first WatchdogServerDown"]
    (first,) = receiver.notices
    assert first.condition.summary == "12 alerts: WatchdogServerDown, and 11 more"
    assert first.condition.severity is Severity.CRITICAL
    assert len(first.lives) == 12
    assert receiver.look(5, *MODELS[:6]) == [], "half of it is not over"
    receiver.ledger = Ledger.from_bytes(receiver.ledger.to_bytes())
    assert receiver.look(9) == ["resolved WatchdogServerDown"]
    assert receiver.notices[-1].condition.key == first.condition.key
    assert receiver.ledger == Ledger()


def test_few_at_once_are_told_one_by_one_and_a_new_one_is_not_lost_in_an_old_group() -> None:
    receiver = Receiver(GROUPED)
    assert len(receiver.look(0, *MODELS[:3])) == 3
    receiver = Receiver(GROUPED)
    receiver.look(0, *MODELS[:8])
    assert receiver.look(1, *MODELS[:9]) == ["first WatchdogServerDown"]
    assert receiver.notices[-1].condition.labels == {"model": "m8"}


def test_what_was_tried_keeps_its_identity_whatever_joins_it_before_it_is_known_to_be_taken() -> None:
    """The receiver may have taken it: another identity would open a second incident, and leave the first one open."""
    for tried_first, then in [(MODELS[:5], MODELS[:6]), (MODELS[:3], MODELS[:4])]:
        ledger = Ledger().observe(said(*tried_first), 0.0, GROUPED)
        before = ledger.due(0.0, GROUPED)
        ledger = Ledger.from_bytes(ledger.tried(before).to_bytes())
        after = ledger.observe(said(*then), 1.0, GROUPED).due(1.0, GROUPED)
        assert [n.lives for n in after[: len(before)]] == [n.lives for n in before]
        assert [n.condition.key for n in after[: len(before)]] == [n.condition.key for n in before]
        assert after[len(before) :], "and what joined is told beside it"


def test_what_ended_of_a_group_that_lasts_does_not_wait_for_the_receiver() -> None:
    receiver = Receiver(GROUPED)
    receiver.look(0, *MODELS)
    receiver.look(5, *MODELS[:1], away=True)
    assert receiver.ledger.waiting() == (0, None), "a channel that owes nothing is not late"
    receiver.look(9, away=True)
    assert receiver.ledger.waiting() == (12, 5)


def test_how_often_one_of_a_group_came_and_went_is_told() -> None:
    ledger = Ledger()
    for i in range(100):
        ledger = ledger.observe(said(A) if i % 2 == 0 else (), float(i), GROUPED)
    (first, _) = ledger.due(1e4, GROUPED)
    assert "it came and went 43 times" in first.condition.description


def test_one_of_a_group_that_comes_back_is_a_new_life() -> None:
    receiver = Receiver(GROUPED)
    receiver.look(0, *MODELS)
    receiver.look(1, *MODELS[1:])
    assert receiver.look(2, *MODELS) == ["first WatchdogServerDown"]
    assert receiver.look(3) == ["resolved WatchdogServerDown"] * 2
    assert receiver.ledger == Ledger()


# -- what is on disk ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"\xff",
        b"[]",
        b"{}",
        b'{"version": 1}',
        b'{"version": 1, "lives": 3}',
        b'{"version": 1, "lives": [{}]}',
        b'{"version": 2, "lives": []}',
        b"[" * 100_000,
    ],
)
def test_what_is_no_ledger_is_refused(damage: bytes) -> None:
    with pytest.raises(ValueError, match=r"it |Expecting|decode|JSON"):
        Ledger.from_bytes(damage)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *((field, "nonsense") for field in ("severity", "started_at", "labels", "times")),
        *((field, float("nan")) for field in ("started_at", "ended_at", "told_at")),
    ],
)
def test_a_life_that_is_none_is_refused(field: str, value: object) -> None:
    document = json.loads(Ledger().observe(said(A), 0.0, ONCE).to_bytes())
    document["lives"][0][field] = value
    with pytest.raises(ValueError, match=r"nonsense|ledger|a time that is none"):
        Ledger.from_bytes(json.dumps(document).encode())


def test_how_much_waits_and_since_when() -> None:
    ledger = Ledger().observe(said(A), 5.0, ONCE)
    assert ledger.waiting() == (1, 5.0)
    ledger = ledger.observe(said(B), 7.0, ONCE)
    assert ledger.waiting() == (3, 5.0)
    ledger = ledger.taken(ledger.due(8.0, ONCE), 8.0, ONCE)
    assert ledger.waiting() == (0, None)
