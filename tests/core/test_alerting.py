"""What people should know of a model, by its state."""

import pytest

from tests.core.builders import a_finding
from tests.core.policy_story import ALERT, Story
from watchdog import alerting
from watchdog.model.diagnosis import Conclusion
from watchdog.model.engine import Role
from watchdog.model.event import Command, Source
from watchdog.model.notice import Severity
from watchdog.model.verdict import Reason
from watchdog.policy.memory import PolicyState, Trouble
from watchdog.policy.settings import Allowed, PolicySettings
from watchdog.policy.states import State, Trigger


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
