"""What people should know, and when they are told: first, again, resolved; never twice, never not."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.builders import a_finding
from tests.core.policy_story import ALERT, Story
from watchdog import alerting
from watchdog.alerting import Ledger, Resend, Told
from watchdog.model.diagnosis import Conclusion
from watchdog.model.engine import Role
from watchdog.model.event import Command, Source
from watchdog.model.notice import Condition, Notice, NoticeKind, Severity
from watchdog.model.verdict import Reason
from watchdog.policy.memory import PolicyState, Trouble
from watchdog.policy.settings import Allowed, PolicySettings
from watchdog.policy.states import State, Trigger

ONCE = Resend()
OFTEN = Resend(every_s=60.0, resolved_for_s=300.0)


def a_condition(name: str = "A", **labels: str) -> Condition:
    return Condition(name=name, severity=Severity.CRITICAL, summary=name, description="…", labels=labels)


A, B = a_condition("A"), a_condition("B")


class Receiver:
    """A channel's side of the ledger: sees conditions, takes what is due, or is away."""

    def __init__(self, resend: Resend = ONCE) -> None:
        self.resend = resend
        self.ledger: Ledger = {}
        self.told: list[tuple[float, str, str]] = []
        self.notices: list[Notice] = []

    def look(self, now: float, *holding: Condition, away: bool = False) -> list[str]:
        """What was due at `now`; handed over unless the receiver is away."""
        self.ledger = alerting.observe(self.ledger, holding, now)
        notices = alerting.due(self.ledger, now, self.resend)
        if not away:
            self.ledger = alerting.delivered(self.ledger, notices, now, self.resend)
            self.told += [(now, str(n.kind), n.condition.name) for n in notices]
            self.notices += notices
        return [f"{n.kind} {n.condition.name}" for n in notices]


def test_first_then_nothing_then_resolved_then_forgotten() -> None:
    receiver = Receiver()
    assert receiver.look(0, A) == ["first A"]
    assert receiver.look(1e6, A) == []
    assert receiver.look(1e6 + 1) == ["resolved A"]
    assert receiver.look(1e6 + 2) == []
    assert receiver.ledger == {}


def test_a_forgetful_receiver_is_told_again_and_for_a_while_after_the_end() -> None:
    receiver = Receiver(OFTEN)
    for now in range(0, 1000, 20):
        receiver.look(now, *((A,) if now < 200 else ()))
    kinds = [(now, kind) for now, kind, _ in receiver.told]
    assert kinds[:4] == [(0, "first"), (60, "repeat"), (120, "repeat"), (180, "repeat")]
    assert kinds[4:] == [(200 + 60 * i, "resolved") for i in range(6)]
    assert receiver.ledger == {}


def test_what_lasts_is_said_to_last_for_four_repeats() -> None:
    ledger = alerting.observe({}, [A], 100.0)
    (notice,) = alerting.due(ledger, 100.0, OFTEN)
    assert (notice.started_at, notice.ends_at) == (100.0, 340.0)
    (notice,) = alerting.due(alerting.observe(ledger, [], 150.0), 160.0, OFTEN)
    assert (notice.kind, notice.started_at, notice.ends_at) == (NoticeKind.RESOLVED, 100.0, 150.0)


def test_a_condition_that_came_and_went_while_the_receiver_was_away_is_still_told() -> None:
    receiver = Receiver()
    receiver.look(0, A, away=True)
    receiver.look(5, away=True)
    assert receiver.look(100) == ["resolved A"]
    assert receiver.look(200) == []


def test_a_condition_that_comes_back_is_a_new_one() -> None:
    receiver = Receiver()
    receiver.look(0, A)
    receiver.look(5)
    assert receiver.look(9, A) == ["first A"]
    assert receiver.ledger[A.key].started_at == 9


def test_one_that_comes_back_before_its_end_was_told_is_told_as_new() -> None:
    receiver = Receiver()
    receiver.look(0, A)
    receiver.look(5, away=True)
    assert receiver.look(9, A) == ["first A"]
    assert receiver.look(12) == ["resolved A"]


def test_the_oldest_comes_first() -> None:
    receiver = Receiver()
    receiver.look(0, B, away=True)
    assert receiver.look(1, A, B) == ["first B", "first A"]


def test_a_delivery_that_arrives_late_does_not_mark_the_next_condition_of_that_name() -> None:
    ledger = alerting.observe({}, [A], 0.0)
    notices = alerting.due(ledger, 0.0, ONCE)
    moved_on = alerting.observe(alerting.observe(ledger, [], 1.0), [A], 2.0)
    assert alerting.delivered(moved_on, notices, 3.0, ONCE) == moved_on
    assert alerting.delivered({}, notices, 3.0, ONCE) == {}


def test_the_newest_words_of_a_lasting_condition_are_used() -> None:
    receiver = Receiver(OFTEN)
    receiver.look(0, A)
    worse = replace(A, description="worse")
    receiver.ledger = alerting.observe(receiver.ledger, [worse], 60.0)
    assert alerting.due(receiver.ledger, 60.0, OFTEN)[0].condition.description == "worse"


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

    assert receiver.ledger == {}, "what ended and was told is forgotten"
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


def names(story: Story) -> dict[str, Severity]:
    return {c.name: c.severity for c in alerting.conditions("nodule", story.state, story.now)}


def test_a_rollback_is_told_until_the_return() -> None:
    story = Story().roll_back()
    (condition,) = alerting.conditions("nodule", story.state, story.now)
    assert (condition.name, condition.severity) == ("WatchdogEngineRolledBack", Severity.CRITICAL)
    assert condition.summary == "nodule was moved to the safe engine (parity)"
    assert condition.description == "engine-fault it is"
    assert condition.labels == {"model": "nodule"}
    assert names(story.promote()) == {}


@pytest.mark.parametrize("conclusion", [c for c in Conclusion if c is not Conclusion.TRANSIENT])
def test_every_conclusion_has_an_alert(conclusion: Conclusion) -> None:
    story = Story(settings=ALERT)
    story.probe(bad=True)
    story.diagnosed(conclusion)
    assert len(names(story)) == 1


@pytest.mark.parametrize("trigger", [Trigger.SWITCH_FAILED, Trigger.PROMOTION_FAILED])
def test_every_failed_switch_has_an_alert(trigger: Trigger) -> None:
    trouble = Trouble(reason=str(trigger), conclusion=str(trigger), detail="…", since=0)
    (condition,) = alerting.conditions("nodule", PolicyState(trouble=trouble), 0.0)
    assert (condition.name, condition.severity) == ("WatchdogSwitchFailed", Severity.CRITICAL)


def test_a_route_put_back_is_told_for_a_while() -> None:
    story = Story()
    story.probe(bad=True)
    story.diagnosed(Conclusion.ROUTE_MOVED)
    story.switched()
    assert names(story) == {"WatchdogRouteReasserted": Severity.WARNING}
    assert names(story.later(alerting.REASSERTED_FOR_S - 1)) == {"WatchdogRouteReasserted": Severity.WARNING}
    assert names(story.later(1)) == {}


def test_a_jump_of_latency_is_told_for_half_an_hour_after_it_was_last_seen() -> None:
    story = Story()
    for _ in range(2):
        story.later(600).suspect(Source.TIMING)
        story.diagnosed(Conclusion.SLOWED)
    (condition,) = alerting.conditions("nodule", story.state, story.now)
    assert (condition.name, condition.severity) == ("WatchdogLatencyJump", Severity.WARNING)
    assert condition.summary.startswith("nodule answers rightly, but takes longer than it should (")
    assert condition.labels == {"model": "nodule"}
    assert names(story.later(alerting.SLOWED_FOR_S - 1)) == {"WatchdogLatencyJump": Severity.WARNING}
    assert names(story.later(1)) == {}


def test_an_engines_findings_are_a_condition_for_each_kind_that_tells_all_of_that_kind() -> None:
    found = {
        Role.FAST: [
            a_finding(Reason.ENGINE_TAG, detail="its tag changed"),
            a_finding(Reason.OFF_PROFILE, detail="CT is too small"),
            a_finding(Reason.ENGINE_TAG, detail="built with CUDA 12.4"),
        ],
        Role.SAFE: [],
    }
    tag, profile = alerting.engine_conditions("nodule", found)
    assert (tag.name, tag.severity) == ("WatchdogEngineTagMismatch", Severity.WARNING)
    assert tag.description == "its tag changed; built with CUDA 12.4"
    assert tag.summary == "nodule's fast engine is not the one that was vetted, or not built for what runs it"
    assert (profile.name, profile.description) == ("WatchdogShapeOffProfile", "CT is too small")
    assert tag.labels == profile.labels == {"model": "nodule", "engine": "fast"}
    assert tag.key != profile.key


def test_a_lock_is_told_with_its_count() -> None:
    story = Story(settings=PolicySettings(action=Allowed.ROLLBACK, max_switches_per_day=1)).roll_back()
    story.command(Command.PROMOTE)
    story.proved(Role.FAST)
    assert names(story) == {"WatchdogEngineRolledBack": Severity.CRITICAL, "WatchdogLocked": Severity.CRITICAL}
    locked = alerting.conditions("nodule", story.state, story.now)[-1]
    assert locked.description == "1 switches in 24 hours: a person must release it"


def test_only_a_settled_state_is_told_of() -> None:
    under_way = {State.CONFIRMING, State.PROVING, State.SWITCHING}
    assert {s for s in State if not alerting.is_settled(PolicyState(state=s))} == under_way


def test_a_ledger_is_never_changed_in_place() -> None:
    ledger = {A.key: Told(condition=A, started_at=0.0)}
    before = dict(ledger)
    alerting.observe(ledger, [B], 1.0)
    notices: tuple[Notice, ...] = alerting.due(ledger, 1.0, ONCE)
    alerting.delivered(ledger, notices, 1.0, ONCE)
    assert ledger == before
