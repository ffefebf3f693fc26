"""Pictures of a replay: in characters, and as files."""

import xml.etree.ElementTree as ET
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.replay.streams import BEGAN_AT, EVERY_S, confidences, recording, series, times
from watchdog.replay import figure, sparkline
from watchdog.replay.outcome import Replay
from watchdog.replay.recording import Mark, Recording, ReplayError
from watchdog.replay.run import Plan, replay

PLAN = Plan(reference=1500, changed_at="2500", lenient=True)
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def done() -> Replay:
    marks = [
        Mark(at=BEGAN_AT + 2520 * EVERY_S, kind="decision", text="a"),
        Mark(at=BEGAN_AT + 2530 * EVERY_S, kind="outcome", text="b"),
        Mark(at=BEGAN_AT - 1e6, kind="decision", text="before the file"),
    ]
    values = confidences(3000, changed_at=2500, seed=2)
    values[[10, 2000]] = np.nan, np.inf
    stream = Recording(source="here", readings={"p": series(values, times(3000))}, marks=marks)
    return replay(stream, PLAN)


# -- in characters -----------------------------------------------------------------------------


@given(
    st.lists(st.floats(0, 1e12), min_size=1, max_size=300),
    st.floats(2, 1e12),
    st.integers(1, 120),
    st.integers(1, 4),
)
def test_bars_fill_their_frame_and_reach_the_top_at_the_threshold(
    values: list[float], threshold: float, columns: int, rows: int
) -> None:
    statistics = np.array(values)
    lines = sparkline.bars(statistics, threshold, columns=columns, rows=rows)
    assert [len(line) for line in lines] == [columns] * rows
    tops = sparkline.highest(statistics, columns)
    assert tops.max() == statistics.max()
    for column, top in enumerate(tops.tolist()):
        stack = [line[column] for line in lines]
        assert "".join(stack).lstrip(" ")[1:].strip("█") == ""  # nothing but full blocks below the first
        if top >= threshold:
            assert set(stack) == {"█"}
        if top <= 1:
            assert set(stack) == {" "}


@given(st.integers(1, 300), st.integers(1, 120), st.data())
def test_marks_stand_below_the_column_that_holds_them(observations: int, columns: int, data: st.DataObject) -> None:
    place = data.draw(st.integers(0, observations - 1))
    statistics = np.ones(observations)
    statistics[place] = 100.0
    marks = sparkline.marks([place], observations, columns=columns)
    assert len(marks) == columns
    assert sparkline.highest(statistics, columns)[marks.index("▲")] == 100.0
    assert "┃" in sparkline.marks([place], observations, columns=columns, changed=place)


def test_a_picture_of_nothing() -> None:
    assert sparkline.bars(np.zeros(0), 10.0, columns=3, rows=2) == ["   ", "   "]
    assert sparkline.marks([], 10, columns=3) == "   "


# -- as files ----------------------------------------------------------------------------------


def test_an_svg_is_well_formed_and_says_what_it_shows(done: Replay, tmp_path: Path) -> None:
    figure.draw(done, tmp_path / "x.svg")
    root = ET.parse(tmp_path / "x.svg").getroot()
    assert root.tag == f"{SVG}svg"
    texts = {"".join(each.itertext()).strip() for each in root.iter(f"{SVG}text")}
    alarms = [len(one.places) for one in done.readings[0].settings]
    for said in (
        "p: 3,000 observations",
        "reference",
        "the change",
        "the watchdog's decisions",
        "its switches",
        "time (UTC)",
        "log10 (statistic ÷ threshold)",
        f"1 per year: {alarms[0]:,} alarms",
        f"1 per week: {alarms[2]:,} alarms",
    ):
        assert said in texts
    assert (tmp_path / "x.svg").stat().st_size < 400_000


@pytest.mark.parametrize(("suffix", "magic"), [(".svg", b"<?xml"), (".png", b"\x89PNG"), (".pdf", b"%PDF")])
def test_the_same_replay_gives_the_same_bytes(done: Replay, tmp_path: Path, suffix: str, magic: bytes) -> None:
    """Whatever a person's own settings of Matplotlib are, which stay as they were."""
    figure.draw(done, tmp_path / f"a{suffix}")
    with mpl.rc_context({"font.size": 20.0, "svg.fonttype": "path", "axes.grid": True}):
        figure.draw(done, tmp_path / f"b{suffix}")
        assert mpl.rcParams["font.size"] == 20.0
    first = (tmp_path / f"a{suffix}").read_bytes()
    assert first.startswith(magic)
    assert first == (tmp_path / f"b{suffix}").read_bytes()


def test_many_readings_without_times_and_a_setting_that_could_not_run(tmp_path: Path) -> None:
    readings = {f"r{i}": series(confidences(700, seed=i)) for i in range(8)}
    plan = Plan(false_alarms=("1 per year at 1/s", "1 per day at 1/min"), reference=370)
    done = replay(recording(**readings), plan)
    assert [bool(one.refused) for one in done.readings[0].settings] == [True, False]
    figure.draw(done, tmp_path / "x.svg")
    texts = {"".join(each.itertext()) for each in ET.parse(tmp_path / "x.svg").getroot().iter(f"{SVG}text")}
    assert "observation" in texts
    assert "r5: 700 observations" in texts
    assert "r6: 700 observations" not in texts


def test_a_figure_that_can_not_be_written(done: Replay, tmp_path: Path) -> None:
    with pytest.raises(ReplayError, match=r"none/x\.svg: can't be written: No such file"):
        figure.draw(done, tmp_path / "none" / "x.svg")


def test_without_matplotlib_it_is_said_how_to_get_it(done: Replay, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    with pytest.raises(ReplayError, match=r"needs matplotlib, which is not installed: pip install '.*\[replay\]'"):
        figure.draw(done, Path("x.svg"))
