"""How many must agree."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from watchdog.sharing.quorum import Need, Tally, Uncounted, judge, needed

NEED: TypeAdapter[Need] = TypeAdapter(Need)
COUNTS = st.integers(1, 1000)
PERCENTS = st.integers(1, 100)
ALIVE = st.integers(0, 1000)


@pytest.mark.parametrize(
    ("need", "alive", "enough"),
    [(1, 5, 1), (2, 1, 2), ("50%", 4, 2), ("50%", 5, 3), ("51%", 4, 3), ("100%", 3, 3), ("1%", 3, 1), ("1%", 0, 1)],
)
def test_how_many_must_agree(need: Need, alive: int, enough: int) -> None:
    assert needed(need, alive) == enough


@given(percent=PERCENTS, alive=ALIVE)
def test_a_share_is_the_fewest_that_reach_it_and_at_least_one(percent: int, alive: int) -> None:
    enough = needed(f"{percent}%", alive)
    assert enough >= 1
    assert enough * 100 >= percent * alive
    assert enough == 1 or (enough - 1) * 100 < percent * alive
    assert enough <= max(1, alive)


@given(need=COUNTS | PERCENTS.map("{}%".format), alive=ALIVE, faulty=ALIVE)
def test_it_is_reached_by_enough_of_those_alive_and_never_by_none(need: Need, alive: int, faulty: int) -> None:
    outcome = judge(Tally(faulty=faulty, alive=alive), need)
    assert outcome.reached is (0 < faulty <= alive and faulty >= needed(need, alive))


@given(need=COUNTS | PERCENTS.map("{}%".format), faulty=ALIVE, sound=ALIVE, blind=st.integers(1, 100))
def test_who_is_alive_and_blind_never_helps(need: Need, faulty: int, sound: int, blind: int) -> None:
    without = judge(Tally(faulty=faulty, alive=faulty + sound), need)
    outcome = judge(Tally(faulty=faulty, alive=faulty + sound + blind), need)
    assert without.reached or not outcome.reached


@pytest.mark.parametrize(
    ("votes", "reached", "said"),
    [
        (Tally(faulty=2, alive=3), True, "2 of 3 watchdogs see a fault; 2 must"),
        (Tally(faulty=1, alive=3), False, "1 of 3 watchdogs see a fault; 2 must"),
        (Tally(faulty=4, alive=3), False, "both must be counted over the same ones"),
        (Uncounted(detail="no answer"), False, "can't be counted: no answer"),
    ],
)
def test_it_says_why(votes: Tally | Uncounted, reached: bool, said: str) -> None:
    outcome = judge(votes, "50%")
    assert outcome.reached is reached
    assert said in outcome.detail


@pytest.mark.parametrize("need", [1, 7, "1%", "50%", "100%"])
def test_what_may_be_asked_for(need: Need) -> None:
    assert NEED.validate_python(need) == need


@pytest.mark.parametrize("need", [0, -1, True, 1.5, None, "0%", "101%", "50", "50 %", "half", "-5%", "5%\n", []])
def test_what_may_not(need: object) -> None:
    with pytest.raises(ValidationError, match="such as 2, or what share of those alive, such as 51%"):
        NEED.validate_python(need)
