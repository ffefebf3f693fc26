"""Running streams through the real detectors: what is found, counted, described and said as JSON."""

import json
import math
from typing import Any

import numpy as np
import pytest

from tests.replay.streams import BEGAN_AT, EVERY_S, confidences, recording, series, times
from watchdog.drift.links import Link
from watchdog.drift.live import LiveDetector, Reference
from watchdog.drift.promise import parse
from watchdog.replay.outcome import Replay, Replayed
from watchdog.replay.recording import NothingToReplayError, ReplayError, Series
from watchdog.replay.run import Plan, replay, work

CHANGED = 2500
ONE = Plan(false_alarms=("1 per year at 1/s",), reference=1500)


def run(values: Any, plan: Plan = ONE, **more: Any) -> Replayed:
    return replay(recording(p=series(values)), plan, **more).readings[0]


@pytest.fixture(scope="module")
def changed() -> Replay:
    """Three settings, a change, and a few conditions before it."""
    values = confidences(3000, changed_at=CHANGED, seed=2)
    values[[1600, 1601, 1700]] = math.nan, math.inf, 1.5
    plan = Plan(reference=1500, changed_at=str(CHANGED), lenient=True)
    return replay(recording(p=series(values, times(3000))), plan)


def test_a_change_is_found_by_every_setting(changed: Replay) -> None:
    reading = changed.readings[0]
    assert [one.name for one in reading.settings] == ["1 per year", "1 per month", "1 per week"]
    assert [one.promise.run_length for one in reading.settings if one.promise] == [525_960.0, 43_830.0, 10_080.0]
    assert changed.alarmed
    for one in reading.settings:
        assert one.before_change == 0
        assert one.delay is not None
        assert 1 < one.delay < 60
        assert one.delay == one.places[0] - CHANGED + 1
        alarm = reading.telling(one)
        assert alarm is not None
        assert abs(alarm.began - CHANGED) < 100
        assert alarm.began_at == BEGAN_AT + EVERY_S * alarm.began
        assert one.unusable == {"non-finite": 2, "out-of-range": 1}
        assert one.statistics.size == 1500
        assert one.statistics[one.places - 1500].min() >= one.threshold
        assert one.statistics[100] == one.statistics[99]  # an observation that says nothing


def test_it_is_what_the_detector_itself_says(changed: Replay) -> None:
    values = changed.readings[0].series.values
    promise = parse("1 per month", rate_per_s=1 / EVERY_S)
    detector = LiveDetector(Reference(values=values[:1500], link=Link.LOGIT), promise)
    state, used, places, began = detector.fresh(), [], [], []
    for i, value in enumerate(values[1500:].tolist(), 1500):
        if not 0.0 <= value <= 1.0:
            continue
        used.append(i)
        state, score = detector.update(state, [value])
        if score.alarm is not None:
            places.append(i)
            began.append(used[-score.alarm.observations_ago])
            state, used = detector.restarted(state), []
    month = changed.readings[0].settings[1]
    assert month.places.tolist() == places
    assert [alarm.began for alarm in month.alarms] == began
    assert len(places) > 3


def test_the_same_file_gives_the_same_replay(changed: Replay) -> None:
    values = changed.readings[0].series.values
    plan = Plan(reference=1500, changed_at=str(CHANGED), lenient=True)
    again = replay(recording(p=series(values, times(3000))), plan)
    assert json.dumps(again.to_json()) == json.dumps(changed.to_json())


def test_a_stream_without_a_change_raises_no_alarm() -> None:
    found = run(confidences(3000))
    assert not found.alarmed
    assert found.settings[0].places.tolist() == []
    assert found.telling(found.settings[0]) is None


def test_all_readings_keep_one_promise_together() -> None:
    values = confidences(3000)
    both = replay(recording(p=series(values), q=series(1 - values)), ONE)
    alone = run(values)
    assert alone.settings[0].threshold is not None
    for reading in both.readings:
        assert reading.settings[0].promise == alone.settings[0].promise
        assert reading.settings[0].threshold == 2 * alone.settings[0].threshold


def test_slices_of_a_study_are_one_observation() -> None:
    values = np.repeat(confidences(3000, changed_at=CHANGED), 4)
    of_studies = Series(values=values, starts=4 * np.arange(3001))
    found = replay(recording(p=of_studies), ONE).readings[0]
    assert len(found.reference) == 1500
    assert found.settings[0].places[0] >= CHANGED
    assert found.settings[0].statistics.size == 1500


def test_what_is_unusable_in_a_study_does_not_spoil_the_rest() -> None:
    values = np.stack([confidences(2000), np.full(2000, np.nan)], axis=1)
    values[1800, 0] = 7.0
    found = replay(recording(p=Series(values=values.ravel(), starts=2 * np.arange(2001))), ONE).readings[0]
    assert found.left_out == {"non-finite": 1500}
    assert len(found.reference) == 1500
    assert found.settings[0].unusable == {"non-finite": 500}


def test_a_stream_of_nothing_usable_says_nothing() -> None:
    values = confidences(2000)
    values[1500:] = np.nan
    found = run(values)
    assert found.settings[0].unusable == {"non-finite": 500}
    assert found.settings[0].statistics.tolist() == [0.0] * 500
    assert found.described is None
    assert all(one.refused for one in found.practices)
    assert json.dumps(found.to_json(), allow_nan=False)


@pytest.mark.parametrize(
    ("values", "link"),
    [
        ([0.1, 0.9, 0.4, math.nan], Link.LOGIT),
        ([0.001, 0.002, 0.003], Link.LOG),
        ([5.0, 0.2, 0.9], Link.LOG),
        ([-0.1, 0.2, 0.9], Link.IDENTITY),
        ([*[0.9] * 200, 2.0], Link.LOGIT),
    ],
)
def test_a_link_is_guessed_from_the_reference(values: list[float], link: Link) -> None:
    rng = np.random.default_rng(0)
    stream = rng.choice(values, 2000)
    stream[:4] = [values[0], values[-1], values[1], values[2]]
    if len(values) > 100:
        stream[:1500] += rng.uniform(-0.1, 0.05, 1500)
    found = run(stream)
    assert (found.link, found.guessed) == (link, True)
    given = run(stream, Plan(false_alarms=ONE.false_alarms, reference=1500, link=Link.IDENTITY))
    assert (given.link, given.guessed) == (Link.IDENTITY, False)


# -- the plan ----------------------------------------------------------------------------------


def test_half_of_a_short_file_is_the_reference() -> None:
    assert run(confidences(3000), Plan(false_alarms=ONE.false_alarms)).first == 1500
    another = recording(p=series(confidences(1200, seed=9)))
    found = run(confidences(700), Plan(false_alarms=ONE.false_alarms), reference=another)
    assert (found.first, len(found.reference), found.observations) == (0, 1200, 700)


def test_the_rate_is_the_files_own_unless_the_text_says_it() -> None:
    stream = recording(p=series(confidences(2000), times(2000)))
    texts = ("1 per year", "1 per year at 1/s")
    settings = replay(stream, Plan(false_alarms=texts, reference=1500)).readings[0].settings
    assert [one.promise.run_length for one in settings if one.promise] == pytest.approx([525_960, 31_557_600])
    at_one_a_second = run(confidences(2000), Plan(false_alarms=("1 per year",), reference=1500))
    assert at_one_a_second.settings[0].promise is not None
    assert at_one_a_second.settings[0].promise.run_length == pytest.approx(31_557_600)
    assert at_one_a_second.notes == ["the file does not say when observations were made: taken as one a second"]


def test_a_promise_that_is_none_at_such_a_rate() -> None:
    hourly = recording(p=series(confidences(2000), BEGAN_AT + 3600.0 * np.arange(2000)))
    found = replay(hourly, Plan(reference=1500, lenient=True)).readings[0]
    assert [one.name for one in found.settings] == ["1 per year"]
    assert [note[:22] for note in found.notes] == ["left out: '1 per month", "left out: '1 per week'"]
    with pytest.raises(ReplayError, match="--false-alarms: '1 per week' allows a false alarm every 168"):
        replay(hourly, Plan(false_alarms=("1 per week",), reference=1500))


@pytest.mark.parametrize(
    ("text", "place"),
    [("1700", 1700), (str(BEGAN_AT + 1700 * EVERY_S - 1), 1700), ("2025-02-20T21:20Z", 2880 // 2), ("1999", 1999)],
)
def test_a_change_is_an_index_or_a_time(text: str, place: int) -> None:
    stream = recording(p=series(confidences(2000), times(2000)))
    found = replay(stream, Plan(false_alarms=("1 per year",), reference=1000, changed_at=text))
    assert found.readings[0].changed_at == place


@pytest.mark.parametrize(
    ("text", "timed", "said"),
    [
        ("2000", False, "the file has 2,000 observations and no times"),
        ("2025-03-01", False, "the file has 2,000 observations and no times"),
        ("2000", True, "is within the reference"),
        ("10", True, "it is the first 1,500 observations: take fewer with --reference"),
        ("2030-01-01", True, "the file ends at 2025-02-21 06:39:00Z"),
        ("soon", True, "'soon' is no time"),
    ],
)
def test_a_change_that_can_not_be(text: str, timed: bool, said: str) -> None:
    stream = recording(p=series(confidences(2000), times(2000) if timed else None))
    with pytest.raises(ReplayError, match="--changed-at") as caught:
        replay(stream, Plan(false_alarms=ONE.false_alarms, reference=1500, changed_at=text))
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([0.5] * 3000, "every value of the reference is 0.5"),
        ([math.nan] * 3000, "the reference is empty"),
        ([0.1, 0.9] * 700, "there are 1,400 observations, and the first 1,500 are the reference: nothing is left"),
    ],
)
def test_a_reading_that_can_not_be_replayed(values: list[float], said: str) -> None:
    with pytest.raises(NothingToReplayError, match=said):
        run(values)
    good = recording(p=series(values), q=series(confidences(2000)))
    found = replay(good, ONE)
    assert [reading.reading for reading in found.readings] == ["q"]
    assert said in found.refused["p"]


def test_a_reference_that_is_too_small_for_a_promise() -> None:
    with pytest.raises(NothingToReplayError, match="the reference has 50 observations; this promise"):
        run(confidences(100), Plan(false_alarms=("1 per year at 1/s",)))
    mixed = Plan(false_alarms=("1 per year at 1/s", "1 per h at 1/s"), reference=330)
    found = run(confidences(2000), mixed)
    assert [bool(one.refused) for one in found.settings] == [True, False]
    assert not found.settings[0].statistics.size


def test_a_reading_that_the_other_file_lacks() -> None:
    with pytest.raises(ReplayError, match="here: has no reading p; it has q"):
        run(confidences(100), reference=recording(q=series([1.0])))


def test_progress_adds_up() -> None:
    told: list[int] = []
    values = confidences(4700)
    values[2000] = math.nan
    plan = Plan(false_alarms=("1 per year at 1/s", "1 per month at 1/s"), reference=1500)
    stream = recording(p=series(values), q=series([0.5] * 4700))
    replay(recording(p=series(values)), plan, tick=told.append)
    assert sum(told) == 2 * 3200
    assert work(stream, plan, has_reference=False) == 4 * 3200
    assert work(stream, plan, has_reference=True) == 4 * 4700


# -- JSON --------------------------------------------------------------------------------------


def test_the_json_has_everything(changed: Replay) -> None:
    document = json.loads(json.dumps(changed.to_json(), allow_nan=False))
    assert set(document) == {"file", "alarmed", "readings", "refused", "decisions", "notes"}
    reading = document["readings"][0]
    assert set(reading) == {
        *("reading", "link", "link_guessed", "observations", "began_at", "ended_at", "rate_per_s", "reference"),
        *("stream", "changed_at", "settings", "practices", "descriptive", "notes"),
    }
    assert reading["changed_at"] == {"index": CHANGED, "at": BEGAN_AT + CHANGED * EVERY_S}
    assert reading["stream"] == {"first": 1500, "observations": 1500}
    setting = reading["settings"][0]
    assert set(setting) == {
        *("setting", "promise", "threshold", "refused", "smallest_divergence_nats", "alarms_in_all"),
        *("alarms_before_change", "delay", "alarms", "largest_statistic", "unusable"),
    }
    assert set(setting["promise"]) == {"run_length", "text", "false_alarm_probability"}
    assert setting["threshold"] == parse("1 per year", rate_per_s=1 / EVERY_S).threshold
    assert setting["smallest_divergence_nats"] == pytest.approx(math.log(setting["threshold"]) / 1200)
    assert len(setting["alarms"]) == setting["alarms_in_all"]
    assert set(setting["alarms"][0]) == {"index", "at", "statistic", "sentence", "bet", "began", "began_at"}
    assert [one["promise"] for one in reading["practices"]] == [None, None, None]
    assert set(reading["descriptive"]) == {"last", "psi", "jensen_shannon_bits", "ks", "ks_p", "wasserstein"}
    assert reading["descriptive"]["last"] == 1000
