"""Promises as people write them, and what they amount to."""

import contextlib
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from watchdog.drift.promise import PromiseText, parse
from watchdog.model.score import Promise

YEAR = 365.25 * 86400
SECONDS: dict[str, float] = {
    "s": 1,
    "second": 1,
    "min": 60,
    "minute": 60,
    "h": 3600,
    "hour": 3600,
    "d": 86400,
    "day": 86400,
}
SECONDS |= {"week": 7 * 86400, "month": YEAR / 12, "year": YEAR}


@pytest.mark.parametrize(
    ("text", "run_length"),
    [
        ("1 per year at 1/s", YEAR),
        ("1/year at 1/s", YEAR),
        ("  1 per year at 1/s ", YEAR),
        ("2 per year at 1/s", YEAR / 2),
        ("0.01 per year at 0.5/s", 50 * YEAR),
        ("1 per day at 4/min", 4 * 1440),
        ("1 per week at 12.5 per hour", 12.5 * 168),
        ("1 / month at 1 / min", YEAR / 12 / 60),
    ],
)
def test_a_promise_says_how_rare_false_alarms_are(text: str, run_length: float) -> None:
    assert parse(text).run_length == pytest.approx(run_length)


@pytest.mark.parametrize("unit", SECONDS)
def test_units_of_time(unit: str) -> None:
    assert parse(f"1 per {unit} at 1000000/s").run_length == pytest.approx(1e6 * SECONDS[unit])
    assert parse(f"1 per year at 1000000/{unit}").run_length == pytest.approx(1e6 * YEAR / SECONDS[unit])


def test_the_rate_may_come_from_elsewhere_and_the_texts_own_goes_first() -> None:
    assert parse("1 per year", rate_per_s=2.0).run_length == pytest.approx(2 * YEAR)
    assert parse("1 per year at 3/s", rate_per_s=2.0).run_length == pytest.approx(3 * YEAR)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "not a promise"),
        ("never", "not a promise"),
        ("-1 per year at 1/s", "not a promise"),
        ("1 per year at", "not a promise"),
        ("1 per year at 1/s or so", "not a promise"),
        ("nan per year at 1/s", "not a promise"),
        ("1e-3 per year at 1/s", "not a promise"),
        ("1 per fortnight at 1/s", "'fortnight' is not a unit of time; write one of d, day"),
        ("1 per year at 1/years", "'years' is not a unit of time"),
        ("1 per year", "does not say how often observations come; write `1 per year at 1/s`"),
        ("0 per year at 1/s", "nobody can promise 0 false alarms"),
        ("1 per year at 0/s", "nobody can promise"),
        ("1 per min at 1/s", "every 60 observations; at least 1000 make a promise"),
        (f"{'9' * 400} per year at 1/s", "at least 1000 make a promise"),
        (f"1 per year at {'9' * 400}/s", "at least 1000 make a promise"),
    ],
)
def test_what_is_no_promise_is_refused(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        parse(text)


@pytest.mark.parametrize("rate", [0.0, -1.0, math.nan, math.inf])
def test_a_rate_must_be_one(rate: float) -> None:
    with pytest.raises(ValueError, match="promise"):
        parse("1 per year", rate_per_s=rate)


@given(st.text())
def test_any_text_is_a_promise_or_refused(text: str) -> None:
    with contextlib.suppress(ValueError):
        assert parse(text, rate_per_s=1.0).run_length >= 1000


class _Settings(BaseModel):
    false_alarms: PromiseText = "1 per year"


def test_settings_keep_the_text_and_refuse_what_is_none() -> None:
    assert _Settings.model_validate({"false_alarms": " 1 per month "}).model_dump() == {"false_alarms": "1 per month"}
    for bad in ("once in a while", "1 per eon", 3, None, "1 per year at 0.00001/s"):
        with pytest.raises(ValidationError, match=r"promise|unit of time"):
            _Settings.model_validate({"false_alarms": bad})


def test_the_threshold_bounds_the_probability_of_a_false_alarm() -> None:
    promise = Promise(run_length=1e6)
    assert promise.threshold == 1e6
    assert promise.false_alarm_probability(0) == 0.0
    assert promise.false_alarm_probability(1e4) == pytest.approx(0.01)
    assert promise.false_alarm_probability(1e9) == 1.0


def test_a_promise_reads_as_one() -> None:
    assert str(Promise(run_length=31557600)) == "one false alarm in 31,557,600 observations on average, or fewer"
