"""The watch itself, in a world that goes wrong: in which order things happen, how many, and how soon."""

import asyncio
import itertools
from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.builders import (
    CANARIES,
    ENGINES,
    MODEL,
    OUTPUT,
    FakeChannel,
    FakeJournal,
    OneEngineRouter,
    Watch,
    World,
    a_canary,
    a_finding,
    a_suspicion,
    a_timing,
    a_watch,
)
from tests.core.live_world import MemoryEvidence
from tests.core.virtual_time import EPOCH, in_virtual_time, now
from watchdog import alerting
from watchdog.assess import LatencySettings, OutputKind, OutputSettings, ParityLimits
from watchdog.ledger import Resend
from watchdog.model.diagnosis import Conclusion
from watchdog.model.engine import Role
from watchdog.model.event import (
    Command,
    CycleFailed,
    Diagnosed,
    Probed,
    Proved,
    RouteSeen,
    Scored,
    Source,
    Suspected,
    Switched,
)
from watchdog.model.journal import EntryKind
from watchdog.model.probe import InferRequest, Part, Timing
from watchdog.model.route import Observed
from watchdog.model.verdict import Reason, Verdict
from watchdog.notifier import Notifier
from watchdog.panel import mixed
from watchdog.policy.memory import PolicyState
from watchdog.policy.settings import Allowed
from watchdog.policy.states import State


def story(watch: Watch) -> list[str]:
    """What was done, in order, in words: probes by path, journal entries by kind, calls of the router."""
    words = {"infer": "{1}", "journal": "journal {1}"}
    return [words.get(line[0], "{0}").format(*line) for line in watch.world.log if line[0] != "describe"]


@in_virtual_time
async def test_a_healthy_tick_is_one_probe_and_no_word_in_the_journal() -> None:
    watch = a_watch()
    for _ in range(7):
        await watch.cycle.tick()
    assert story(watch) == ["public"] * 7
    probed = [e.assessment.result.canary for e in watch.of(Probed)]
    assert probed == ["c0", "c3", "c1", "c4", "c2", "c0", "c3"], "the canaries take turns"
    assert watch.cycle.state == PolicyState(since=EPOCH)


@pytest.mark.parametrize("fault", ["zeros", "nan", "impostor"])
@in_virtual_time
async def test_one_bad_probe_is_confirmed_and_the_route_moved_in_one_tick(fault: str) -> None:
    watch = a_watch(World(fast=fault))
    await watch.cycle.tick()
    assert (watch.world.serving, watch.state()) == (Role.SAFE, State.SERVING_SAFE)
    assert story(watch) == [
        "public",
        "journal decision",
        *["fast"] * 3,
        *["safe"] * 3,
        "journal decision",
        "journal intent",
        "apply",
        *["public"] * 2,
        "journal outcome",
        "journal decision",
    ], "intent before action, outcome after; 9 probes from the first failure to the proof"
    assert now() - EPOCH < 0.05
    intent, outcome = (e.data for e in watch.journal.entries if e.kind in (EntryKind.INTENT, EntryKind.OUTCOME))
    assert intent == {"to": "safe", "percent": 100, "from": "fast"}
    assert (outcome["applied"], outcome["proven"]) == (True, True)
    (switched,) = watch.of(Switched)
    assert (switched.proven, switched.detail) == (True, "the public name is answered rightly by nodule/2")
    assert switched.applied_at < switched.at


@in_virtual_time
async def test_the_burst_goes_to_both_engines_at_once_with_the_same_canaries() -> None:
    watch = a_watch(World(fast="zeros"))
    for _ in range(2):
        watch.world.fast = "right"
        await watch.cycle.tick()
    watch.world.fast = "zeros"
    await watch.cycle.tick()
    burst = [line for line in watch.world.asked("infer") if line[1] in ("fast", "safe")]
    assert len({at for _, _, at, _ in burst}) == 1
    sent = {role: [round(mean, 2) for _, path, _, mean in burst if path == role] for role in ("fast", "safe")}
    assert sent["fast"] == sent["safe"] == [0.1, 0.8, 0.6], "the one that failed first, then the next in turn"


@given(st.integers(min_value=1, max_value=200))
def test_a_mixed_set_has_each_canary_once_and_its_likes_apart(count: int) -> None:
    order = [int(canary.id) for canary in mixed([a_canary(str(i)) for i in range(count)])]
    assert sorted(order) == list(range(count))
    if count >= 8:
        assert all(abs(a - b) > 1 for a, b in itertools.pairwise(order)), "an image's shapes are listed together"


@in_virtual_time
async def test_speed_is_measured_one_by_one() -> None:
    watch = a_watch(World(fast="slow"))
    await watch.cycle.tick()
    times = [at for _, path, at, _ in watch.world.asked("infer") if path != "public"]
    assert len(times) == 6
    assert all(b > a for a, b in itertools.pairwise(times))
    assert watch.state() is State.SERVING_SAFE
    (diagnosed,) = watch.of(Diagnosed)
    assert diagnosed.diagnosis.reason == Reason.LATENCY


@in_virtual_time
async def test_an_engine_known_to_be_slow_is_looked_at_afresh_one_by_one() -> None:
    watch = a_watch(World(fast="slow"), action=Allowed.ALERT)
    await watch.cycle.tick()
    assert watch.state() is State.DEGRADED
    watch.world.fast = "right"
    asked = len(watch.world.asked("infer"))
    await watch.cycle.tick()
    times = [at for _, path, at, _ in watch.world.asked("infer")[asked:] if path != "public"]
    assert len(set(times)) == len(times) == 6
    assert watch.cycle.state.trouble is None


@in_virtual_time
async def test_a_slow_server_is_no_reason_to_move() -> None:
    watch = a_watch(World(fast="slow", safe="slow"))
    await watch.cycle.tick()
    assert (watch.state(), watch.world.asked("apply")) == (State.DEGRADED, [])
    assert [d.diagnosis.conclusion for d in watch.of(Diagnosed)] == [Conclusion.OVERLOADED]


@in_virtual_time
async def test_a_slow_but_right_answer_proves_a_switch() -> None:
    watch = a_watch(World(fast="zeros", safe="slow"))
    await watch.cycle.tick()
    assert watch.state() is State.SERVING_SAFE


@in_virtual_time
async def test_chance_is_confirmed_away() -> None:
    watch, world = a_watch(), World()

    def recover(_: InferRequest) -> None:
        watch.world.fast = "zeros" if len(watch.world.asked("infer")) == 0 else "right"

    watch.world.on_infer = recover
    await watch.cycle.tick()
    assert (watch.state(), watch.cycle.state.trouble) == (State.SERVING_FAST, None)
    assert story(watch).count("apply") == 0
    assert world.serving is Role.FAST


@in_virtual_time
async def test_a_hung_engine_is_left_within_three_deadlines() -> None:
    watch = a_watch(World(fast="hang"))
    await watch.cycle.tick()
    assert watch.state() is State.SERVING_SAFE
    assert now() - EPOCH < 6.1


@in_virtual_time
async def test_a_server_that_is_down_moves_nothing_and_is_seen_to_come_back() -> None:
    watch = a_watch(World(fast="refuse", safe="refuse"))
    await watch.cycle.tick()
    await watch.cycle.tick()
    assert (watch.state(), watch.world.asked("apply")) == (State.BLIND, [])
    watch.world.fast = watch.world.safe = "right"
    await watch.cycle.tick()
    assert (watch.state(), watch.cycle.state.trouble) == (State.SERVING_FAST, None)


@in_virtual_time
async def test_both_wrong_moves_nothing() -> None:
    watch = a_watch(World(fast="zeros", safe="nan"))
    await watch.cycle.tick()
    assert (watch.state(), watch.world.serving) == (State.DEGRADED, Role.FAST)


@in_virtual_time
async def test_alert_only_moves_nothing() -> None:
    watch = a_watch(World(fast="zeros"), action=Allowed.ALERT)
    await watch.cycle.tick()
    assert (watch.state(), watch.world.asked("apply")) == (State.DEGRADED, [])


LOOSE = (OutputSettings(name=OUTPUT, kind=OutputKind.PROBABILITY, parity=ParityLimits(max_abs=0.9)),)


@in_virtual_time
async def test_a_collapse_shows_over_several_ticks() -> None:
    watch = a_watch(World(fast="flat"), outputs=LOOSE)
    verdicts = []
    for _ in range(3):
        await watch.cycle.tick()
        verdicts.append(watch.state())
    assert verdicts == [State.SERVING_FAST, State.SERVING_FAST, State.SERVING_SAFE]
    (diagnosed,) = watch.of(Diagnosed)
    assert diagnosed.diagnosis.reason == Reason.COLLAPSE


@in_virtual_time
async def test_one_canary_is_enough() -> None:
    watch = a_watch(World(fast="zeros"), canaries=CANARIES[:1])
    await watch.cycle.tick()
    assert watch.state() is State.SERVING_SAFE
    assert story(watch).count("fast") == 1


@in_virtual_time
async def test_a_route_that_takes_its_time_is_waited_for() -> None:
    watch = a_watch(World(fast="zeros"))
    watch.router.lag_s = 3.0
    await watch.cycle.tick()
    (switched,) = watch.of(Switched)
    assert switched.proven
    assert 3.0 <= switched.at - switched.applied_at < 3.1


@in_virtual_time
async def test_a_router_that_only_pretends_is_found_out_in_time() -> None:
    watch = a_watch(World(fast="zeros"))
    watch.router.pretends = True
    await watch.cycle.tick()
    (switched,) = watch.of(Switched)
    assert (switched.applied.ok, switched.proven) == (True, False)
    assert 5.0 <= switched.at - switched.applied_at < 5.1
    assert switched.detail.startswith("the public name does not show the safe engine: all-zero: ")
    assert (watch.state(), watch.cycle.state.desired) == (State.DEGRADED, Role.FAST)
    assert [e.data["proven"] for e in watch.journal.entries if e.kind is EntryKind.OUTCOME] == [False]


@in_virtual_time
async def test_a_router_that_refuses_needs_no_proof_and_is_asked_again() -> None:
    watch = a_watch(World(fast="zeros"))
    watch.router.refuses = True
    await watch.cycle.tick()
    assert story(watch)[-3:] == ["apply", "journal outcome", "journal decision"]
    assert watch.cycle.state.trouble is not None
    assert (watch.cycle.state.trouble.conclusion, watch.cycle.state.trouble.detail) == (
        "switch-failed",
        "the router is away",
    )
    watch.router.refuses = False
    await watch.cycle.tick()
    assert watch.state() is State.SERVING_SAFE


@in_virtual_time
async def test_without_a_router_a_wish_is_answered_with_why_not() -> None:
    watch = a_watch(routed=False)
    decisions = await watch.cycle.command(Command.ROLLBACK, "ann", "")
    assert decisions[-1].detail == "no router is configured for this model"
    await watch.cycle.look_at_route()
    assert watch.of(RouteSeen) == []


@in_virtual_time
async def test_a_route_that_somebody_moved_is_put_back() -> None:
    watch = a_watch(World(serving=Role.SAFE))
    await watch.cycle.tick()
    assert (watch.world.serving, watch.state()) == (Role.FAST, State.SERVING_FAST)
    assert watch.cycle.state.reasserted is not None
    (diagnosed,) = watch.of(Diagnosed)
    assert (diagnosed.diagnosis.conclusion, diagnosed.diagnosis.reason) == (Conclusion.ROUTE_MOVED, "wrong-version")


@in_virtual_time
async def test_a_route_that_answers_do_not_name_is_seen_at_the_router() -> None:
    watch = a_watch(World(serving=Role.SAFE, names_versions=False))
    await watch.cycle.tick()
    assert watch.cycle.state.trouble is None, "the answers are right and name nobody"
    await watch.cycle.look_at_route()
    assert (watch.world.serving, watch.state()) == (Role.FAST, State.SERVING_FAST)


@in_virtual_time
async def test_a_router_that_cannot_be_asked_changes_nothing() -> None:
    watch = a_watch()
    watch.router.says = Observed(role=None, detail="no answer", known=False)
    await watch.cycle.look_at_route()
    assert watch.state() is State.SERVING_FAST
    assert [seen.observed.known for seen in watch.of(RouteSeen)] == [False]


@in_virtual_time
async def test_a_route_as_it_should_be_does_not_make_another_trouble_a_moved_one() -> None:
    watch = a_watch(World(fast="zeros", safe="zeros"))
    await watch.cycle.tick()
    watch.world.fast = watch.world.safe = "right"
    await watch.cycle.look_at_route()
    assert (watch.state(), watch.world.asked("apply")) == (State.DEGRADED, [])
    await watch.cycle.tick()
    assert (watch.state(), watch.cycle.state.trouble) == (State.SERVING_FAST, None)


@in_virtual_time
async def test_a_moved_route_is_a_trouble_until_the_router_itself_sees_it_back() -> None:
    """Where answers name nobody, a right answer is no news of the route: the alert must not flap."""
    watch = a_watch(World(serving=Role.SAFE, names_versions=False), action=Allowed.ALERT)
    await watch.cycle.look_at_route()
    for _ in range(3):
        await watch.cycle.tick()
        assert watch.cycle.state.trouble is not None
        assert watch.cycle.state.trouble.conclusion == Conclusion.ROUTE_MOVED
    watch.world.serving = Role.FAST
    await watch.cycle.tick()
    assert watch.cycle.state.trouble is None


@in_virtual_time
async def test_a_rollback_and_a_promotion_by_command() -> None:
    watch = a_watch()
    await watch.cycle.command(Command.ROLLBACK, "ann", "a new engine")
    assert (watch.world.serving, watch.state()) == (Role.SAFE, State.SERVING_SAFE)
    assert [(p.ok, p.detail) for p in watch.of(Proved)] == [(True, "the safe engine is proven")]
    command = watch.journal.entries[0]
    assert (command.kind, command.data) == (
        EntryKind.COMMAND,
        {"command": "rollback", "actor": "ann", "why": "a new engine"},
    )
    decisions = await watch.cycle.command(Command.PROMOTE, "ann", "")
    assert (watch.world.serving, watch.state()) == (Role.FAST, State.SERVING_FAST)
    assert [str(d.trigger) for d in decisions] == ["promote", "fast-proven", "switch-proven"]


@in_virtual_time
async def test_a_rollback_to_an_engine_that_is_wrong_is_refused() -> None:
    watch = a_watch(World(safe="zeros"))
    decisions = await watch.cycle.command(Command.ROLLBACK, "ann", "")
    assert (watch.world.asked("apply"), watch.state()) == ([], State.SERVING_FAST)
    assert "are 0" in decisions[-1].detail


@in_virtual_time
async def test_a_promotion_to_an_engine_that_is_wrong_is_taken_back_at_once() -> None:
    watch = a_watch(World(fast="zeros"), router=OneEngineRouter)
    await watch.cycle.tick()
    decisions = await watch.cycle.command(Command.PROMOTE, "ann", "")
    assert [str(d.trigger) for d in decisions] == ["promote", "fast-proven", "promotion-failed", "switch-proven"]
    assert decisions[1].detail == "the fast engine can't be asked before it serves: it is proven at once after"
    assert (watch.world.serving, watch.state()) == (Role.SAFE, State.SERVING_SAFE)
    applied = [role for _, role in watch.world.asked("apply")]
    assert applied == [Role.SAFE, Role.FAST, Role.SAFE]


@in_virtual_time
async def test_a_promotion_to_an_engine_that_is_wrong_is_not_tried_where_it_can_be_asked_before() -> None:
    watch = a_watch(World(fast="zeros"))
    await watch.cycle.tick()
    asked = len(watch.world.asked("infer"))
    decisions = await watch.cycle.command(Command.PROMOTE, "ann", "")
    assert [str(d.trigger) for d in decisions] == ["promote", "target-unproven"]
    assert [path for _, path, _, _ in watch.world.asked("infer")[asked:]] == ["fast"] * len(CANARIES)
    assert watch.router.routes == [(Role.SAFE, 100)]


@in_virtual_time
async def test_held_moves_nothing_until_released() -> None:
    watch = a_watch(World(fast="zeros"))
    await watch.cycle.command(Command.HOLD, "ann", "")
    await watch.cycle.tick()
    assert (watch.state(), watch.world.asked("apply")) == (State.HELD, [])
    assert watch.cycle.state.trouble is not None
    await watch.cycle.command(Command.RELEASE, "ann", "")
    await watch.cycle.tick()
    assert watch.state() is State.SERVING_SAFE


@in_virtual_time
async def test_flapping_ends_in_a_lock() -> None:
    watch = a_watch(World(fast="zeros"), per_day=3, router=OneEngineRouter)
    watch.router.refuses = True
    for _ in range(6):
        await watch.cycle.tick()
    assert (watch.state(), len(watch.world.asked("apply"))) == (State.DEGRADED, 6), "a refused switch is no flapping"
    watch.router.refuses = False
    for _ in range(4):
        await watch.cycle.tick()
        await watch.cycle.command(Command.PROMOTE, "test", "")
    assert watch.state() is State.LOCKED


@in_virtual_time
async def test_nothing_is_applied_without_its_intent_on_disk() -> None:
    watch = a_watch(World(fast="zeros"))
    watch.journal.full_for = frozenset({EntryKind.INTENT})
    await watch.cycle.tick()
    assert (watch.world.asked("apply"), watch.world.serving) == ([], Role.FAST)
    (switched,) = watch.of(Switched)
    assert "not tried, as the journal can't record it" in switched.detail
    assert watch.state() is State.DEGRADED
    watch.journal.full_for = frozenset()
    await watch.cycle.tick()
    assert watch.state() is State.SERVING_SAFE


@pytest.mark.parametrize("kind", [EntryKind.DECISION, EntryKind.OUTCOME])
@in_virtual_time
async def test_what_has_happened_and_cannot_be_recorded_is_loud_but_stands(kind: EntryKind) -> None:
    watch = a_watch(World(fast="zeros"))
    watch.journal.full_for = frozenset({kind})
    await watch.cycle.tick()
    assert watch.state() is State.SERVING_SAFE
    assert {f.error for f in watch.of(CycleFailed)} == {"journal: [Errno 28] No space left on device"}


@in_virtual_time
async def test_a_command_that_cannot_be_recorded_is_not_carried_out() -> None:
    watch = a_watch()
    watch.journal.full_for = frozenset({EntryKind.COMMAND})
    with pytest.raises(OSError, match="No space left"):
        await watch.cycle.command(Command.ROLLBACK, "ann", "")
    assert (watch.events, watch.world.log, watch.state()) == ([], [], State.SERVING_FAST)


@in_virtual_time
async def test_ticks_and_commands_exclude_one_another() -> None:
    watch = a_watch(World(fast="zeros"))
    switching: list[float] = []
    watch.world.on_apply = lambda _: switching.append(now())
    await asyncio.gather(
        watch.cycle.tick(),
        watch.cycle.command(Command.ROLLBACK, "ann", ""),
        watch.cycle.look_at_route(),
        watch.cycle.tick(),
    )
    assert len(switching) == 1, "the command found the safe engine serving already"
    kinds = story(watch)
    assert kinds.index("journal command") > kinds.index("journal outcome")
    assert watch.state() is State.SERVING_SAFE


@in_virtual_time
async def test_a_bug_in_a_tick_is_loud_and_the_watch_goes_on() -> None:
    watch = a_watch(World(fast="raise"))
    await watch.cycle.tick()
    (failed,) = watch.of(CycleFailed)
    assert failed.error == "ZeroDivisionError: a bug in the adapter"
    watch.world.fast = "zeros"
    await watch.cycle.tick()
    assert watch.state() is State.SERVING_SAFE


@in_virtual_time
async def test_a_bug_in_the_middle_of_a_burst_leaves_nothing_under_way() -> None:
    watch = a_watch(World(fast="zeros", safe="raise"))
    await watch.cycle.tick()
    assert watch.state() is State.SERVING_FAST
    watch.world.safe = "right"
    await watch.cycle.tick()
    assert watch.state() is State.SERVING_SAFE


@in_virtual_time
async def test_a_bug_in_a_command_reaches_who_asked_and_leaves_nothing_under_way() -> None:
    watch = a_watch(World(safe="raise"))
    with pytest.raises(ZeroDivisionError):
        await watch.cycle.command(Command.ROLLBACK, "ann", "")
    assert watch.state() is State.SERVING_FAST
    assert len(watch.of(CycleFailed)) == 1
    watch.world.safe, watch.world.fast = "right", "zeros"
    await watch.cycle.tick()
    assert watch.state() is State.SERVING_SAFE


@in_virtual_time
async def test_a_bug_in_a_look_at_the_route_is_loud() -> None:
    watch = a_watch(World(serving=Role.SAFE, names_versions=False, safe="raise"))
    await watch.cycle.look_at_route()
    assert [f.error for f in watch.of(CycleFailed)] == ["ZeroDivisionError: a bug in the adapter"]
    assert watch.state() is State.SERVING_FAST


@in_virtual_time
async def test_a_slow_channel_does_not_delay_a_tick() -> None:
    channel = FakeChannel()
    channel.takes_s = 3600
    world = World(fast="zeros")
    async with Notifier(
        {"slow": (channel, Resend())}, FakeJournal(world), MemoryEvidence(), lambda _: None, now
    ) as notifier:
        notifier.begin()
        watch = a_watch(world, observe=notifier.observe)
        await watch.cycle.tick()
        await watch.cycle.tick()
        assert now() - EPOCH < 0.1
        await asyncio.sleep(1)
        assert (len(channel.attempts), channel.took) == (1, [])


@in_virtual_time
async def test_closing_waits_for_what_is_in_flight_and_begins_nothing_more() -> None:
    watch = a_watch(World(fast="hang"))
    tick = asyncio.create_task(watch.cycle.tick())
    await asyncio.sleep(0.5)
    await watch.cycle.close()
    assert tick.done()
    assert watch.state() is State.SERVING_SAFE
    asked = len(watch.world.log)
    await watch.cycle.tick()
    await watch.cycle.look_at_route()
    with pytest.raises(OSError, match="stopping"):
        await watch.cycle.command(Command.HOLD, "ann", "")
    assert len(watch.world.log) == asked


@in_virtual_time
async def test_verdicts_are_of_the_engine_that_should_serve() -> None:
    watch = a_watch(World(serving=Role.SAFE), state=PolicyState(state=State.SERVING_SAFE, desired=Role.SAFE))
    await watch.cycle.tick()
    (probed,) = watch.of(Probed)
    assert (probed.assessment.result.expected, probed.assessment.verdict) == (Role.SAFE, Verdict.HEALTHY)


@in_virtual_time
async def test_a_shift_that_breaks_no_limit_is_found_confirmed_and_moved_away_from() -> None:
    watch = a_watch(World(fast="shifted"), drift=True)
    for _ in range(2):
        await watch.cycle.tick()
    assert (watch.world.serving, watch.state()) == (Role.SAFE, State.SERVING_SAFE)
    (diagnosed,) = watch.of(Diagnosed)
    assert (diagnosed.diagnosis.conclusion, diagnosed.diagnosis.reason) == (Conclusion.ENGINE_FAULT, "drift")
    assert "logits s" in diagnosed.diagnosis.detail
    scored = watch.of(Scored)
    assert {(s.source, s.reading) for s in scored} == {(Source.CANARY, "fast")}
    assert scored[-1].score.alarm is not None
    assert watch.cycle.state.cause is not None


@in_virtual_time
async def test_a_shift_of_both_engines_moves_nothing() -> None:
    watch = a_watch(World(fast="shifted", safe="shifted"), drift=True)
    for _ in range(2):
        await watch.cycle.tick()
    (diagnosed,) = watch.of(Diagnosed)
    assert diagnosed.diagnosis.conclusion is Conclusion.BOTH_WRONG
    assert (watch.world.serving, watch.state()) == (Role.FAST, State.DEGRADED)


@in_virtual_time
async def test_healthy_engines_give_no_evidence_against_themselves() -> None:
    watch = a_watch(drift=True)
    for _ in range(300):
        await watch.cycle.tick()
    assert watch.of(Diagnosed) == []
    assert max(s.score.statistic for s in watch.of(Scored)) < 1e4


@in_virtual_time
async def test_a_drift_of_patients_answers_that_canaries_do_not_confirm_is_told_and_moves_nothing() -> None:
    watch = a_watch(drift=True)
    await watch.cycle.suspect(a_suspicion(at=now()))
    (diagnosed,) = watch.of(Diagnosed)
    assert diagnosed.diagnosis.conclusion is Conclusion.DATA_DRIFT
    assert len(watch.world.asked("infer")) == 2 * len(CANARIES), "a thorough burst: every canary to both engines"
    assert (watch.world.serving, watch.state()) == (Role.FAST, State.SERVING_FAST)
    assert watch.cycle.state.drifted is not None
    assert "logits scaled by about 0.5" in watch.cycle.state.drifted.detail
    await watch.cycle.tick()
    assert watch.state() is State.SERVING_FAST, "and the watch goes on"


@in_virtual_time
async def test_a_drift_of_patients_answers_that_canaries_confirm_moves_traffic() -> None:
    watch = a_watch(World(fast="shifted"), drift=True)
    await watch.cycle.suspect(a_suspicion(at=now()))
    assert (watch.world.serving, watch.state()) == (Role.SAFE, State.SERVING_SAFE)


@in_virtual_time
async def test_pairs_move_traffic_where_canaries_see_nothing_but_only_to_a_proven_engine() -> None:
    watch = a_watch(drift=True)
    await watch.cycle.suspect(a_suspicion(Source.SHADOW, at=now()))
    assert (watch.world.serving, watch.state()) == (Role.SAFE, State.SERVING_SAFE)
    await asyncio.sleep(1000)
    await watch.cycle.suspect(a_suspicion(Source.SHADOW, at=now()))
    assert len(watch.of(Diagnosed)) == 1, "while the safe engine serves, the other harms nobody"
    unproven = a_watch(World(safe="zeros"), drift=True)
    await unproven.cycle.suspect(a_suspicion(Source.SHADOW, at=now()))
    assert unproven.world.serving is Role.FAST


@in_virtual_time
async def test_a_drift_that_lasts_is_not_looked_into_without_end() -> None:
    watch = a_watch(drift=True)
    for _ in range(10):
        await watch.cycle.suspect(a_suspicion(at=now()))
        await asyncio.sleep(100)
    assert len(watch.of(Suspected)) == 10
    assert len(watch.of(Diagnosed)) == 4


@in_virtual_time
async def test_a_closed_watch_looks_into_nothing() -> None:
    watch = a_watch(drift=True)
    await watch.cycle.close()
    await watch.cycle.suspect(a_suspicion(at=now()))
    assert watch.events == []


# -- slowness within the limits --------------------------------------------------------------


def slowed(longer: dict[Part, float], *roles: Role) -> Callable[[Role], Timing]:
    """What is told of where time goes, which is more in those engines, and varies by 5 %."""
    rng = np.random.default_rng(9)
    return lambda role: a_timing(longer=longer if role in roles else None, scale=float(rng.normal(1.0, 0.05)))


async def pass_probes(watch: Watch, count: int) -> None:
    """So many probes at their cadence; what is known of each probe's time comes a while after it."""
    for _ in range(count):
        await watch.cycle.tick()
        await asyncio.sleep(10)
        watch.prober.timekeeper.sweep()


def alerts(watch: Watch) -> list[str]:
    return [condition.name for condition in alerting.conditions(MODEL, watch.cycle.state, now())]


@in_virtual_time
async def test_a_device_that_takes_three_times_as_long_is_told_with_its_circumstances_and_moves_nothing() -> None:
    watch = a_watch(
        World(timing=slowed({})),
        timed=True,
        circumstances=lambda role, slow: f"something else keeps {role}'s GPU busy" * slow,
    )
    await pass_probes(watch, 60)
    assert watch.of(Suspected) == watch.of(Diagnosed) == []
    watch.world.timing = slowed({Part.DEVICE: 3.0}, Role.FAST)
    await pass_probes(watch, 12)
    assert watch.of(Suspected), "ten probes, and two more until the server has told of the tenth"
    (diagnosed,) = watch.of(Diagnosed)
    diagnosis = diagnosed.diagnosis
    assert (diagnosis.conclusion, diagnosis.reason) == (Conclusion.SLOWED, Reason.LATENCY)
    assert diagnosis.finding is not None
    assert diagnosis.finding.measure == "device"
    assert "the fast engine's device time is " in diagnosis.detail
    assert " times that of the baseline (limit 1.5): " in diagnosis.detail
    assert diagnosis.detail.endswith("; something else keeps fast's GPU busy")
    assert alerts(watch) == ["WatchdogLatencyJump"]
    assert (watch.world.serving, watch.state(), watch.world.asked("apply")) == (Role.FAST, State.SERVING_FAST, [])


@in_virtual_time
async def test_the_part_that_grew_is_named_where_requests_are_traced() -> None:
    watch = a_watch(World(timing=slowed({Part.QUEUE: 20.0}, *Role)), timed=True)
    await pass_probes(watch, 15)
    (diagnosed,) = watch.of(Diagnosed)
    assert diagnosed.diagnosis.conclusion is Conclusion.SLOWED
    assert diagnosed.diagnosis.finding.measure == "queue"
    assert "most of it queue: " in diagnosed.diagnosis.detail
    assert diagnosed.diagnosis.detail.count("most of it queue") == 2, "and so it is on the other engine"


@in_virtual_time
async def test_speed_within_limits_is_looked_into_one_by_one_beside_whatever_goes_on() -> None:
    watch = a_watch(World(timing=slowed({Part.DEVICE: 3.0}, Role.FAST)), timed=True)
    suspicion = a_suspicion(Source.TIMING, at=now(), finding=a_finding(Reason.LATENCY, Verdict.SUSPECT))
    watch.cycle.suspect_soon(suspicion)
    assert watch.events == [], "whoever suspects does not wait"
    await watch.cycle.tick()
    await asyncio.sleep(1)
    assert [d.diagnosis.conclusion for d in watch.of(Diagnosed)] == [Conclusion.SLOWED]
    times = [at for _, path, at, _ in watch.world.asked("infer") if path != "public"]
    assert len(times) == len(set(times)) == 2 * len(CANARIES)
    watch.cycle.suspect_soon(suspicion)
    await watch.cycle.close()
    await asyncio.sleep(1)
    assert len(watch.of(Suspected)) == 1, "a closed watch looks into nothing"


@in_virtual_time
async def test_slowness_that_is_gone_when_it_is_looked_into_is_chance() -> None:
    watch = a_watch(World(timing=slowed({})), timed=True)
    finding = a_finding(Reason.LATENCY, Verdict.SUSPECT)
    await watch.cycle.suspect(a_suspicion(Source.TIMING, at=now(), finding=finding))
    assert [d.diagnosis.conclusion for d in watch.of(Diagnosed)] == [Conclusion.TRANSIENT]
    assert alerts(watch) == []
    await watch.cycle.suspect(a_suspicion(Source.OBJECTIVE, at=now(), finding=finding, by_itself=True))
    assert [d.diagnosis.conclusion for d in watch.of(Diagnosed)][1:] == [Conclusion.SLOWED], "that is a fact already"
    assert alerts(watch) == ["WatchdogLatencyJump"]


def for_once(watch: Watch, fault: str, which: int) -> Callable[[InferRequest], None]:
    """The fast engine is right, but for one of its probes by version."""
    asked = itertools.count()

    def on_infer(request: InferRequest) -> None:
        pinned = request.address == ENGINES[Role.FAST].address
        watch.world.fast = fault if pinned and next(asked) == which else "right"

    return on_infer


@pytest.mark.parametrize("fault", ["slow", "hang", "refuse"])
@in_virtual_time
async def test_one_probe_that_is_late_while_slowness_is_looked_into_moves_nobody(fault: str) -> None:
    watch = a_watch(timed=True)
    watch.world.on_infer = for_once(watch, fault, 3)
    finding = a_finding(Reason.LATENCY, Verdict.SUSPECT)
    await watch.cycle.suspect(a_suspicion(Source.TIMING, at=now(), finding=finding))
    (diagnosed,) = watch.of(Diagnosed)
    assert (diagnosed.diagnosis.conclusion, diagnosed.diagnosis.serving_bad) == (Conclusion.TRANSIENT, 1)
    assert (watch.world.serving, watch.world.asked("apply"), watch.cycle.state.trouble) == (Role.FAST, [], None)


@pytest.mark.parametrize(("before", "fault"), [("slow", "slow"), ("refuse", "refuse"), ("refuse", "hang")])
@in_virtual_time
async def test_one_probe_that_is_late_while_a_server_recovers_moves_nobody(before: str, fault: str) -> None:
    watch = a_watch(World(fast=before, safe=before))
    await watch.cycle.tick()
    assert watch.state() in (State.DEGRADED, State.BLIND)
    watch.world.safe = "right"
    watch.world.on_infer = for_once(watch, fault, 1)
    await watch.cycle.tick()
    assert (watch.world.serving, watch.world.asked("apply"), watch.state()) == (Role.FAST, [], State.SERVING_FAST)


def stalls(*roles: Role, every: int = 5, times: float = 10.0) -> Callable[[Role], Timing]:
    """What is told of where time goes: in those engines, each so many-th probe takes much longer on the device."""
    asked: Counter[Role] = Counter()

    def timing(role: Role) -> Timing:
        asked[role] += 1
        stalled = role in roles and asked[role] % every == 0
        return a_timing(longer={Part.DEVICE: times} if stalled else None)

    return timing


@in_virtual_time
async def test_stalls_of_some_probes_are_told_even_if_a_burst_meets_none_and_move_nothing() -> None:
    patient = LatencySettings(times_baseline=100.0)
    watch = a_watch(World(timing=stalls(Role.FAST)), timed=True, latency=patient)
    await pass_probes(watch, 150)
    suspected = watch.of(Suspected)
    assert suspected
    assert all(event.source is Source.TIMING and event.by_itself for event in suspected)
    assert {d.diagnosis.conclusion for d in watch.of(Diagnosed)} == {Conclusion.SLOWED}
    assert "% of probes take about 10 times as long" in watch.of(Diagnosed)[0].diagnosis.detail
    assert alerts(watch) == ["WatchdogLatencyJump"]
    assert (watch.world.serving, watch.world.asked("apply")) == (Role.FAST, [])


@in_virtual_time
async def test_a_second_objective_that_is_missed_is_looked_into_too_and_the_same_one_not_again() -> None:
    watch = a_watch(timed=True)
    finding = a_finding(Reason.LATENCY, Verdict.SUSPECT)
    for reading in ("fast.total.q0.99", "fast.device.q0.5", "fast.total.q0.99"):
        missed = Suspected(
            model=MODEL, at=now(), source=Source.OBJECTIVE, reading=reading, finding=finding, by_itself=True
        )
        await watch.cycle.suspect(missed)
    assert [d.diagnosis.conclusion for d in watch.of(Diagnosed)] == [Conclusion.SLOWED] * 2
    assert len(watch.of(Suspected)) == 3, "each is told"


@in_virtual_time
async def test_slowness_that_lasts_is_looked_into_every_five_minutes_and_told_until_half_an_hour_after_it() -> None:
    watch = a_watch(World(timing=slowed({Part.DEVICE: 3.0}, Role.FAST)), timed=True)
    await pass_probes(watch, 180)
    at = [d.at for d in watch.of(Diagnosed)]
    assert 4 <= len(at) <= 6
    assert all(b - a >= 300 for a, b in itertools.pairwise(at))
    watch.world.timing = slowed({})
    await pass_probes(watch, 100)
    assert [d.at for d in watch.of(Diagnosed)] == at
    await asyncio.sleep(at[-1] + alerting.SLOWED_FOR_S - now() - 1)
    assert alerts(watch) == ["WatchdogLatencyJump"]
    await asyncio.sleep(2)
    assert alerts(watch) == []
    assert watch.of(CycleFailed) == []


@in_virtual_time
async def test_slowness_of_an_engine_that_is_wrong_is_not_what_is_told() -> None:
    watch = a_watch(World(fast="zeros", timing=slowed({Part.DEVICE: 3.0}, Role.FAST)), timed=True)
    finding = a_finding(Reason.LATENCY, Verdict.SUSPECT)
    await watch.cycle.suspect(a_suspicion(Source.TIMING, at=now(), finding=finding))
    (diagnosed,) = watch.of(Diagnosed)
    assert (diagnosed.diagnosis.conclusion, diagnosed.diagnosis.reason) == (Conclusion.ENGINE_FAULT, Reason.ALL_ZERO)
    assert watch.world.serving is Role.SAFE


@in_virtual_time
async def test_circumstances_are_asked_only_where_speed_is_in_question() -> None:
    asked: list[Role] = []

    def circumstances(role: Role, _device_slow: bool) -> str:
        asked.append(role)
        return "the server is overloaded"

    watch = a_watch(World(fast="zeros"), circumstances=circumstances)
    await watch.cycle.tick()
    assert (asked, watch.world.serving) == ([], Role.SAFE)
    slow = a_watch(World(fast="slow", safe="slow"), circumstances=circumstances)
    await slow.cycle.tick()
    assert asked == [Role.FAST]
    (diagnosed,) = slow.of(Diagnosed)
    assert diagnosed.diagnosis.conclusion is Conclusion.OVERLOADED
    assert diagnosed.diagnosis.detail.endswith("; the server is overloaded")
