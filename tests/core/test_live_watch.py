"""Live answers: learnt while all is well, watched ever after, across restarts, other engines and failing disks."""

import asyncio
import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.live_world import ENOUGH, SUBJECT, StandIn, Ward, healthy_stream, seen
from watchdog.drift.links import Link, logit
from watchdog.drift.live import LiveDetector
from watchdog.drift.promise import parse
from watchdog.live import Answering, LiveSettings, LiveWatch, ShadowSettings, Slice, Studies, Subject
from watchdog.live.learnt import Learnt, Sample
from watchdog.live.settings import observations_a_day
from watchdog.live.track import Track
from watchdog.model.engine import Address, Engine, Role
from watchdog.model.event import Learning, Scored, Source
from watchdog.model.observation import Observation, Pair
from watchdog.model.score import Promise


def live(watch: LiveWatch, reading: str = "p") -> dict[str, Any]:
    status: dict[str, Any] = watch.status()["live"][reading]
    return status


def parted(**engines: Answering) -> Subject:
    return replace(SUBJECT, engines={**SUBJECT.engines} | {Role(role): engine for role, engine in engines.items()})


# -- learning and watching ------------------------------------------------------------------


async def test_it_learns_then_watches_then_alarms_once() -> None:
    ward = Ward()
    watch = ward.watch()
    await watch.take(healthy_stream()[:-1])
    assert (live(watch)["state"], live(watch)["have"], live(watch)["want"]) == ("learning", ENOUGH - 1, ENOUGH)
    assert [(e.have, e.want) for e in ward.of(Learning)] == [(ENOUGH - 1, ENOUGH)]  # one a batch

    await watch.take(healthy_stream()[-1:])
    assert live(watch)["state"] == "watching"
    await watch.take(seen(*[0.95] * 9, 0.2))
    assert ward.alarms == []
    assert (live(watch)["statistic"], live(watch)["observations"]) == (9.0, 10)

    await watch.take(seen(0.95, *[0.2] * 5))
    (alarm,) = ward.alarms
    assert (alarm.model, alarm.source, alarm.reading, alarm.score.statistic) == ("nodule", Source.LIVE, "p", 10.0)
    assert alarm in ward.events
    assert (live(watch)["alarms"], live(watch)["last_alarm"]) == (1, "ten are high")
    assert (live(watch)["statistic"], live(watch)["observations"]) == (0.0, 5)  # it began anew
    await watch.take(seen(*[0.95] * 10))
    assert len(ward.alarms) == 2


async def test_observers_hear_of_a_batch_once_and_of_every_alarm() -> None:
    ward = Ward()
    watch = ward.watch()
    await watch.take(healthy_stream())
    ward.events.clear()
    await watch.take(seen(*[0.95] * 25))
    assert [(e.score.statistic, e.score.alarm is not None) for e in ward.of(Scored)] == [
        (10.0, True),
        (10.0, True),
        (5.0, False),
    ]


async def test_it_learns_only_while_the_model_is_healthy() -> None:
    ward = Ward(healthy=False)
    watch = ward.watch()
    await watch.take(healthy_stream(7))
    assert live(watch)["have"] == 0
    assert ward.ignored() == [("live", "p", "not-healthy", 7)]
    assert live(watch)["ignored"] == {"not-healthy": 7}
    ward.healthy = True
    await watch.take(healthy_stream())
    ward.healthy = False
    await watch.take(seen(*[0.95] * 10))
    assert len(ward.alarms) == 1  # watching goes on whatever the policy thinks


async def test_readings_share_the_promise() -> None:
    ward = Ward()
    watch = ward.watch(readings=("p", "q", "m.volume"), live=LiveSettings(reference=ENOUGH))
    status = watch.status()["live"]
    whole = parse("1 per year at 1/s")
    assert {each["threshold"] for each in status.values()} == {Promise(run_length=3 * whole.run_length).threshold}
    assert status["q"]["promise"] == f"{whole}, over all readings"
    assert status["q"]["false_alarm_within_a_day"] == pytest.approx(whole.false_alarm_probability(86400))
    json.dumps(watch.status(), allow_nan=False)


async def test_only_the_chosen_readings_are_watched_and_others_are_let_pass() -> None:
    ward = Ward()
    watch = ward.watch(readings=("p", "q"), live=LiveSettings(reference=ENOUGH, readings=("q",)), shadow=None)
    await watch.take([Observation(readings={"p": (0.5,), "q": (0.5,), "unheard of": (0.5,)})])
    assert list(watch.status()) == ["live"]
    assert {name: each["have"] for name, each in watch.status()["live"].items()} == {"q": 1}


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"live": LiveSettings(readings=("q",))}, "readings: there is no 'q'; the outputs have p"),
        ({"live": LiveSettings(reference=10)}, "reference: 10 are too few; 1 readings .* need [0-9]+ observations"),
        ({"shadow": ShadowSettings(reference=10)}, "reference: 10 are too few"),
        ({"readings": ()}, "give one a kind"),
    ],
)
def test_settings_that_cannot_be_kept_are_refused(more: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Ward().watch(**more)


@pytest.mark.parametrize("promise", ["1 per year", "0 per year at 1/s", "1 per second at 1/s", "often"])
def test_a_live_promise_must_say_how_often_observations_come(promise: str) -> None:
    with pytest.raises(ValueError, match=r"promise|rate|observations"):
        LiveSettings(false_alarms=promise)


def test_the_expected_rate_is_read_from_the_promise() -> None:
    assert observations_a_day("1 per year at 1/s") == pytest.approx(86400)
    assert observations_a_day("12 / year at 90 per hour") == pytest.approx(90 * 24)


# -- what can't be used ----------------------------------------------------------------------


async def test_unusable_values_are_counted_by_condition_and_judged_by_nobody() -> None:
    ward = Ward()
    watch = ward.watch()
    await watch.take(healthy_stream()[:10])
    strange = [*seen(math.nan, math.inf, -math.inf, 1.5, -0.1), Observation(readings={"p": ()})]
    await watch.take(strange)
    assert live(watch)["have"] == 10
    await watch.take(healthy_stream()[10:])
    ward.events.clear()
    await watch.take(strange * 20)
    assert ward.alarms == []
    assert sorted(ward.ignored()) == [
        ("live", "p", "empty", 20),
        ("live", "p", "non-finite", 60),
        ("live", "p", "out-of-range", 40),
    ]
    assert live(watch)["ignored"] == {"empty": 21, "non-finite": 63, "out-of-range": 42}
    assert live(watch)["observations"] == 0


async def test_of_a_study_the_usable_slices_count() -> None:
    ward = Ward()
    watch = ward.watch()
    await watch.take(healthy_stream())
    await watch.take([Observation(readings={"p": (0.95, math.nan)})])
    assert (live(watch)["statistic"], live(watch)["ignored"]) == (1.0, {"non-finite": 1})


async def test_a_stream_that_never_varies_makes_no_reference_and_is_told_ever_more_rarely() -> None:
    ward = Ward()
    watch = ward.watch(live=LiveSettings(reference=400))
    for _ in range(40):
        await watch.take(seen(*[0.5] * 400))
    doubled = [400, 800, 1600, 3200, 6400]
    assert [count for _, _, condition, count in ward.ignored()] == [*doubled, *doubled, *doubled[:4]]
    assert {condition for _, _, condition, _ in ward.ignored()} == {"no-reference"}
    assert "says nothing about what is usual" in ward.errors()[0]
    await watch.take(healthy_stream())
    await watch.take(seen(*[0.5] * 5000))
    assert live(watch)["state"] == "watching"


async def test_a_detectors_bug_neither_ends_the_watch_nor_is_silent() -> None:
    class Broken(StandIn):
        def update(self, state: Any, study: Any) -> Any:
            if study[0] == 0.666:
                raise ZeroDivisionError("a bug")
            return super().update(state, study)

    ward = Ward()
    watch = ward.watch(build=Broken)
    await watch.take(healthy_stream())
    await watch.take(seen(0.95, 0.666, 0.95))
    assert ward.errors() == ["ZeroDivisionError: a bug"]
    await watch.take(seen(0.95))
    assert live(watch)["statistic"] == 1.0


async def test_a_builders_bug_is_not_repeated_at_every_observation() -> None:
    calls = []

    def build(reference: Any, promise: Any) -> Any:
        calls.append(reference.size)
        raise IndexError("a bug")

    ward = Ward()
    watch = ward.watch(build=build)
    await watch.take(healthy_stream(1000))
    assert calls == [400, 800]
    assert ward.errors() == [f"live p: {have} observations make no reference: a bug" for have in calls]


# -- across processes --------------------------------------------------------------------------


async def test_a_restart_changes_no_statistic() -> None:
    stream = [*healthy_stream(), *seen(*[0.95, 0.3] * 8)]
    straight, restarted = Ward(), Ward()
    one = straight.watch()
    await one.take([*stream, *seen(0.95)])
    for start in range(0, len(stream), 90):
        watch = restarted.watch()
        await watch.take(stream[start : start + 90])
        await watch.close()
    last = restarted.watch()
    await last.open()
    assert live(last)["state"] == "watching"
    await last.take(seen(0.95))
    assert (restarted.errors(), restarted.ignored()) == ([], [])
    assert (live(last)["statistic"], live(last)["observations"]) == (9.0, 17)
    assert (live(one)["statistic"], live(one)["observations"]) == (9.0, 17)


async def test_it_saves_every_ten_seconds_while_observations_come_and_at_the_end_of_learning() -> None:
    ward = Ward()
    watch = ward.watch(shadow=None)
    for second in range(25):
        ward.at += 1
        await watch.take(seen(0.3 + second / 100))
    assert ward.evidence.saves == 2
    await watch.take(healthy_stream(ENOUGH - 25))
    assert ward.evidence.saves == 4  # reference and state
    ward.at += 9
    await watch.take(seen(0.2))
    assert ward.evidence.saves == 4
    ward.at += 1
    await watch.take(seen(0.2))
    assert ward.evidence.saves == 5  # the state alone: the reference is as it was
    await watch.close()
    assert ward.evidence.saves == 5
    await watch.take(seen(0.2))
    assert live(watch)["observations"] == 2


@pytest.mark.parametrize("step", [-1e6, -1.0, 1e6, 1e12])
async def test_a_clock_that_steps_does_no_harm(step: float) -> None:
    ward = Ward()
    watch = ward.watch(shadow=None)
    await watch.take(healthy_stream())
    await watch.take(seen(0.95))
    ward.at += step
    for _ in range(5):
        ward.at += 1
        await watch.take(seen(0.95))
    ward.at -= step
    await watch.take(seen(*[0.95] * 4))
    assert (len(ward.alarms), ward.errors(), ward.ignored()) == (1, [], [])
    assert ward.evidence.saves <= 6


@pytest.mark.parametrize(
    ("subject", "condition"),
    [
        (replace(SUBJECT, model="other"), None),  # another name of evidence: nothing to refuse
        (parted(fast=Answering(name="nodule/3", tag="trt8")), "another-engine"),
        (parted(fast=Answering(name="nodule/2", tag="trt10")), "another-engine"),
        (parted(safe=Answering(name="nodule/0", tag=None)), None),  # live answers are the fast engine's
    ],
)
async def test_another_engines_reference_is_refused_and_learnt_anew(subject: Subject, condition: str | None) -> None:
    ward = Ward()
    first = ward.watch()
    await first.take(healthy_stream())
    await first.close()
    second = ward.watch(subject=subject)
    await second.take(seen(0.95))
    kept = subject.engines[Role.FAST] == SUBJECT.engines[Role.FAST] and subject.model == SUBJECT.model
    assert live(second)["state"] == ("watching" if kept else "learning")
    assert ward.ignored() == ([] if condition is None else [("live", "p", condition, ENOUGH)])
    await second.take(healthy_stream())
    await second.close()
    third = ward.watch(subject=subject)
    await third.take(seen(0.2))
    assert live(third)["state"] == "watching"


async def test_a_server_that_says_no_tag_contradicts_nothing_and_erases_nothing() -> None:
    ward = Ward()
    first = ward.watch()
    await first.take(healthy_stream())
    await first.close()
    silent = ward.watch(subject=parted(fast=Answering(name="nodule/2")))
    await silent.take(seen(0.2))
    assert live(silent)["state"] == "watching"
    await silent.close()
    other = ward.watch(subject=parted(fast=Answering(name="nodule/2", tag="trt10")))
    await other.open()
    assert ward.ignored() == [("live", "p", "another-engine", ENOUGH)]


async def test_evidence_under_a_wrong_name_is_another_models() -> None:
    ward = Ward()
    first = ward.watch()
    await first.take(healthy_stream())
    await first.close()
    ward.evidence.blobs = {name.replace("nodule", "other"): data for name, data in ward.evidence.blobs.items()}
    second = ward.watch(subject=replace(SUBJECT, model="other"))
    await second.open()
    assert ward.ignored() == [("live", "p", "another-model", ENOUGH)]


async def test_a_state_of_another_reference_is_dropped_and_told_of() -> None:
    ward = Ward()
    first = ward.watch(shadow=None)
    await first.take([*healthy_stream(), *seen(0.95)])
    await first.close()
    foreign = Sample()
    for value in np.linspace(0.2, 0.8, ENOUGH):
        foreign.add([float(value)])
    subject = SUBJECT.only(Role.FAST)
    name = "nodule/live/p/reference"
    stored = Learnt.from_bytes(ward.evidence.blobs[name])
    assert stored.subject == subject
    ward.evidence.blobs[name] = replace(stored, sample=foreign).to_bytes()
    second = ward.watch(shadow=None)
    await second.take(seen(0.95))
    assert ward.ignored() == [("live", "p", "another-reference", 1)]
    assert (live(second)["state"], live(second)["statistic"]) == ("watching", 1.0)


async def test_another_promise_drops_the_state_and_keeps_the_reference() -> None:
    ward = Ward()
    first = ward.watch(shadow=None)
    await first.take([*healthy_stream(), *seen(0.95)])
    await first.close()
    second = ward.watch(shadow=None, live=LiveSettings(reference=ENOUGH, false_alarms="2 per year at 1/s"))
    await second.take(seen(0.95))
    assert ward.ignored() == [("live", "p", "another-reference", 1)]
    assert (live(second)["state"], live(second)["statistic"]) == ("watching", 1.0)


async def test_a_larger_reference_goes_on_learning_and_a_smaller_one_keeps_all() -> None:
    ward = Ward()
    first = ward.watch(shadow=None)
    await first.take(healthy_stream())
    await first.close()
    larger = ward.watch(shadow=None, live=LiveSettings(reference=2 * ENOUGH))
    await larger.take(healthy_stream(50))
    assert (live(larger)["state"], live(larger)["have"]) == ("learning", ENOUGH + 50)
    await larger.close()
    smaller = ward.watch(shadow=None)
    await smaller.open()
    assert (live(smaller)["state"], live(smaller)["have"]) == ("watching", ENOUGH + 50)


@pytest.mark.parametrize("blob", [b"damaged", b"", b"{}\n", b"[]\nx", b'{"format": 2}\n', b"\xff" * 100])
async def test_damaged_evidence_is_told_of_and_learnt_anew(blob: bytes) -> None:
    ward = Ward()
    ward.evidence.blobs["nodule/live/p/reference"] = blob
    watch = ward.watch(shadow=None)
    await watch.take(healthy_stream(5))
    assert ward.ignored() == [("live", "p", "damaged", 1)]
    assert len(ward.errors()) == 1
    assert live(watch)["have"] == 5


@given(data=st.binary(max_size=60), cut=st.integers(0, 400))
def test_whatever_bytes_are_no_learnt_thing_or_the_very_one(data: bytes, cut: int) -> None:
    sample = Sample()
    for value in (0.1, 0.2, 0.3):
        sample.add([value, value])
    whole = Learnt(subject=SUBJECT, link=Link.LOGIT, sample=sample).to_bytes()
    assert Learnt.from_bytes(whole).to_bytes() == whole
    for broken in (data, whole[:cut] + data, whole[: min(cut, len(whole) - 1)]):
        try:
            read = Learnt.from_bytes(broken)
        except ValueError:
            continue
        assert len(read.sample) == 3 or broken != whole


async def test_a_disk_that_cannot_be_read_is_asked_again_and_never_overwritten() -> None:
    ward = Ward()
    first = ward.watch(shadow=None)
    await first.take(healthy_stream())
    await first.close()
    kept = dict(ward.evidence.blobs)
    ward.evidence.fails = OSError(5, "Input/output error")
    second = ward.watch(shadow=None)
    for _ in range(20):
        ward.at += 1
        await second.take(seen(0.95))
    assert len(ward.errors()) == 2  # every ten seconds
    assert "can't be read, so nothing is watched" in ward.errors()[0]
    assert ward.ignored() == [("live", "", "no-evidence", 1)] * 20
    ward.evidence.fails = None
    assert ward.evidence.blobs == kept
    ward.at += 10
    await second.take(seen(0.95))
    assert (live(second)["state"], live(second)["statistic"]) == ("watching", 1.0)


async def test_a_disk_that_cannot_be_written_is_tried_again() -> None:
    ward = Ward()
    watch = ward.watch(shadow=None)
    await watch.take(healthy_stream(5))
    ward.evidence.fails = OSError(28, "No space left on device")
    ward.at += 10
    await watch.take(seen(0.25))
    assert ward.errors() == ["what was learnt can't be saved: [Errno 28] No space left on device"]
    ward.evidence.fails = None
    await watch.close()
    assert len(Learnt.from_bytes(ward.evidence.blobs["nodule/live/p/reference"]).sample) == 6


async def test_what_comes_at_the_same_time_is_taken_in_turn() -> None:
    ward = Ward()
    watch = ward.watch(shadow=None)
    await asyncio.gather(*(watch.take(healthy_stream(100)) for _ in range(8)))
    assert (live(watch)["have"], live(watch)["observations"]) == (ENOUGH, ENOUGH)


# -- pairs ------------------------------------------------------------------------------------


def a_pair(difference: float, safe: float = 0.5, reading: str = "p") -> Pair:
    fast = 1 / (1 + math.exp(-logit(safe) - difference))
    return Pair(fast={reading: fast}, safe={reading: safe})


async def test_pairs_are_watched_by_their_difference_on_the_readings_own_line() -> None:
    ward = Ward()
    watch = ward.watch(live=None)
    await watch.take_pairs([a_pair(i / 1e4, safe=0.2 + i / 1000) for i in range(ENOUGH)])
    status = watch.status()["shadow"]["p"]
    assert status["state"] == "watching"
    learnt = Learnt.from_bytes(ward.evidence.blobs["nodule/shadow/p/reference"]).sample
    values = np.frombuffer(learnt.to_bytes()[4 * ENOUGH :])
    np.testing.assert_allclose(values, np.arange(ENOUGH) / 1e4, atol=1e-9)
    await watch.take_pairs([a_pair(2.0)] * 10)
    (alarm,) = ward.alarms
    assert alarm.source is Source.SHADOW


async def test_a_pair_that_says_nothing_is_counted() -> None:
    ward = Ward()
    watch = ward.watch(readings=("p", "m.volume"), live=None)
    await watch.take_pairs(
        [
            Pair(fast={"p": math.nan}, safe={"p": 0.5}),
            Pair(fast={"p": 0.5}, safe={"p": 1.5}),
            Pair(fast={"p": 0.5}, safe={}),
            Pair(fast={"m.volume": -1.0}, safe={"m.volume": 3.0}),
            Pair(fast={"m.volume": 0.0}, safe={"m.volume": 0.0}),
        ]
    )
    assert sorted(ward.ignored()) == [("shadow", "m.volume", "non-finite", 1), ("shadow", "p", "non-finite", 3)]
    assert {name: each["have"] for name, each in watch.status()["shadow"].items()} == {"p": 0, "m.volume": 1}


async def test_rows_of_one_request_count_as_one() -> None:
    ward = Ward()
    watch = ward.watch(live=None)
    await watch.take_pairs([a_pair(0.1), a_pair(0.2), Pair(fast={"p": 0.5}, safe={"p": math.nan})], as_one=True)
    assert watch.status()["shadow"]["p"]["have"] == 1
    assert ward.ignored() == [("shadow", "p", "non-finite", 1)]


async def test_another_safe_engine_changes_the_differences() -> None:
    ward = Ward()
    first = ward.watch()
    await first.take_pairs([a_pair(0.1), a_pair(0.2)])
    await first.close()
    second = ward.watch(subject=parted(safe=Answering(name="nodule/0")))
    await second.open()
    assert ward.ignored() == [("shadow", "p", "another-engine", 2)]


def test_an_engine_is_known_by_model_version_and_tag() -> None:
    engine = Engine(role=Role.FAST, address=Address(endpoint="e", model="m", version="2"))
    assert Answering.of(engine, "t") == Answering(name="m/2", tag="t")


# -- the real detector --------------------------------------------------------------------------


async def test_the_real_detector_learns_is_quiet_survives_a_restart_and_alarms() -> None:
    rng = np.random.default_rng(7)

    def stream(count: int, scale: float = 1.0) -> list[Observation]:
        return seen(*(1 / (1 + np.exp(-scale * rng.normal(-1.5, 2.0, count)))).tolist())

    learnt, quiet = stream(2000), stream(1000)
    settings, straight, ward = LiveSettings(reference=2000), Ward(), Ward()
    uninterrupted = straight.watch(shadow=None, live=settings, build=LiveDetector)
    await uninterrupted.take([*learnt, *quiet])
    for part in (learnt[:900], learnt[900:], quiet[:500], quiet[500:-1]):
        watch = ward.watch(shadow=None, live=settings, build=LiveDetector)
        await watch.take(part)
        await watch.close()
    again = ward.watch(shadow=None, live=settings, build=LiveDetector)
    await again.take(quiet[-1:])
    assert live(again)["statistic"] == live(uninterrupted)["statistic"] > 0
    assert live(again)["observations"] == 1000
    assert ward.alarms == []
    await again.take(stream(400, scale=0.1))  # collapses towards 0.5
    assert ward.alarms
    assert ward.alarms[0].score.alarm is not None
    assert len(ward.alarms) <= 40
    assert (ward.errors(), ward.ignored()) == ([], [])


# -- studies -------------------------------------------------------------------------------------


def a_slice(study: str | None, *values: float) -> Slice:
    return Slice(study=study, readings={"p": values})


def test_slices_of_a_study_are_one_observation_however_they_are_interleaved() -> None:
    studies = Studies()
    for second, (study, value) in enumerate([("a", 0.1), ("b", 0.9), ("a", 0.2), ("b", 0.8), ("a", 0.3)]):
        assert studies.add(a_slice(study, value), float(second)) == []
    assert studies.add(a_slice(None, 0.5), 5.0) == [Observation(readings={"p": (0.5,)})]
    assert studies.expired(32.9) == []
    assert studies.expired(33.0) == [Observation(readings={"p": (0.9, 0.8)})]
    assert studies.expired(34.0) == [Observation(readings={"p": (0.1, 0.2, 0.3)})]
    assert len(studies) == 0


def test_a_study_that_went_silent_begins_anew() -> None:
    studies = Studies()
    studies.add(a_slice("a", 0.1), 0.0)
    assert studies.add(a_slice("a", 0.2), 30.0) == [Observation(readings={"p": (0.1,)})]
    assert studies.end_all() == [Observation(readings={"p": (0.2,)})]


def test_a_key_that_is_used_for_everything_does_not_hold_the_stream_back_for_ever() -> None:
    studies, over = Studies(), []
    for second in range(1200):
        over += studies.add(a_slice("same", 0.5), float(second))
    assert [len(o.readings["p"]) for o in over] == [600]
    assert len(studies.expired(1200.0)) == 1


def test_memory_is_bounded() -> None:
    studies = Studies()
    over = [o for i in range(1500) for o in studies.add(a_slice(f"s{i}", i / 1500), 0.0)]
    assert len(studies) == 1000
    assert [o.readings["p"][0] for o in over] == [i / 1500 for i in range(500)]
    studies = Studies()
    over = [o for i in range(120) for o in studies.add(a_slice(f"s{i}", *[0.5] * 10_000), 0.0)]
    assert (len(studies), len(over)) == (100, 20)
    assert studies.add(a_slice("huge", *[0.5] * 1_000_001), 0.0)
    assert len(studies) == 0


@given(
    steps=st.lists(st.tuples(st.sampled_from(["a", "b", "c", None]), st.floats(0, 1), st.floats(0, 40)), max_size=60)
)
def test_no_slice_is_lost_and_none_counts_twice(steps: list[tuple[str | None, float, float]]) -> None:
    studies, now, over, sent = Studies(), 0.0, [], []
    for study, value, pause in steps:
        now += pause
        over += studies.add(a_slice(study, value), now)
        over += studies.expired(now)
        sent.append(value)
    over += studies.end_all()
    assert sorted(v for o in over for v in o.readings["p"]) == sorted(sent)


def test_a_study_of_very_many_slices_is_learnt_by_a_sample_of_them() -> None:
    sample = Sample()
    sample.add([i / 1000 for i in range(1000)])
    sample.add([0.5])
    assert len(sample) == 2
    assert len(sample.to_bytes()) == 2 * 4 + (64 + 1) * 8


async def test_an_alarm_costs_the_evidence_but_not_the_pool_that_grew_with_the_healthy_stream() -> None:
    rng = np.random.default_rng(1)
    promise, engines = Promise(run_length=1e5), {Role.FAST: Answering(name="m/2")}
    track = Track(
        source=Source.LIVE,
        reading="p",
        link=Link.LOGIT,
        promise=promise,
        subject=Subject(model="m", engines=engines),
        reference=1000,
    )
    for value in rng.beta(2, 5, 1000).tolist():
        track.learn([value])
    await track.build(LiveDetector)
    pooled = track.state.pooled
    for value in rng.beta(2, 5, 300).tolist():
        assert track.watch([value]).alarm is None
    zeros = 0
    while track.watch([0.0]).alarm is None:
        zeros += 1
        assert zeros < 20
    assert track.state.pooled == pooled + 300 + zeros + 1
    assert not track.state.wealth.any()
