"""The page about the policy shows the policy."""

import re
from pathlib import Path

import pytest

from docs.policy_diagram import BOX, PAGE, SERVING, diagram, page
from watchdog.policy.states import HOME, TABLE, State, Trigger

TEXT = PAGE.read_text(encoding="utf-8")
ROWS = [(state, trigger, following) for state, rows in TABLE.items() for trigger, (following, _) in rows.items()]


def test_the_page_is_drawn_from_the_table_as_it_is() -> None:
    assert page(TEXT) == TEXT, "run: python docs/policy_diagram.py"


@pytest.mark.parametrize(("state", "trigger", "following"), ROWS)
def test_every_row_is_an_arrow(state: State, trigger: Trigger, following: State | None) -> None:
    begins = {state.replace("-", "_"), *([BOX] if state in SERVING else [])}
    end = BOX if following is HOME else following.replace("-", "_")
    arrows = re.findall(r"(\w+) --> (\w+) : (.+)", diagram())
    assert [begin for begin, to, label in arrows if begin in begins and to == end and trigger in label.split(", ")]


def test_every_arrow_is_a_row() -> None:
    rows = {(state.replace("-", "_"), trigger) for state, trigger, _ in ROWS}
    for begin, _, label in re.findall(r"(\w+) --> (\w+) : (.+)", diagram()):
        states = [state.replace("-", "_") for state in SERVING] if begin == BOX else [begin]
        assert {(state, trigger) for state in states for trigger in label.split(", ")} <= rows


@pytest.mark.parametrize("name", [*State, *Trigger])
def test_every_state_and_trigger_is_told_in_words(name: str) -> None:
    words = TEXT[TEXT.index("| state | meaning |") : TEXT.index("## What never breaks")]
    assert f"`{name}`" in words


def test_every_check_that_the_page_names_is_there() -> None:
    promises = TEXT[TEXT.index("| promise | check |") : TEXT.index("## The way back")]
    tests = Path(__file__).parent
    code = "".join(
        (tests / name).read_text(encoding="utf-8") for name in ("test_policy_machine.py", "test_switching.py")
    )
    names = re.findall(r"`(\w{12,})…?`", promises)
    assert len(names) > 10
    assert [name for name in names if f"def {name}" not in code] == []


def test_a_page_without_its_marks_is_refused() -> None:
    with pytest.raises(ValueError, match="must have <!-- diagram: "):
        page("nothing")
