"""``watchdog probe`` beyond one answer: all canaries, again and again, and as pictures."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from tests.core.builders import a_finding, assessed
from tests.service.conftest import MODEL, Site, here
from tests.triton_fixture import Mood
from watchdog.cli.canvas import side_by_side
from watchdog.cli.probing import Tally
from watchdog.model.fault import Blame, Fault, FaultKind
from watchdog.model.verdict import Reason, Verdict


@pytest.mark.triton
def test_all_canaries_are_asked_once_and_told_in_a_table(site: Site, tmp_path: Path) -> None:
    config = site.configure(tmp_path)
    done = here("probe", config, "--all")
    assert done.returncode == 0, done.stderr
    header, *rows, summary = done.stdout.splitlines()
    assert header.split()[:3] == ["canary", "verdict", "took"]
    assert len({row.split()[0] for row in rows}) == len(rows) == 6
    assert summary.startswith("6 probes: 6 healthy; took ")
    assert done.stderr == "", "no bar where there is no terminal"


@pytest.mark.triton
def test_wrong_answers_decide_the_exit_code(site: Site, tmp_path: Path) -> None:
    config = site.configure(tmp_path)
    site.feel(2, Mood.NAN)
    done = here("probe", config, "--all", "--json")
    assert done.returncode == 1
    assert {story["verdict"] for story in json.loads(done.stdout)} == {"failed"}
    assert here("probe", config, "--all", "--engine", "safe").returncode == 0


@pytest.mark.triton
def test_without_a_server_there_is_no_answer(site: Site, tmp_path: Path) -> None:
    dead = [{"name": "triton", "kind": "triton-grpc", "url": "127.0.0.1:1"}]
    done = here("probe", site.configure(tmp_path, endpoints=dead), "--all")
    assert done.returncode == 3
    assert "6 probes: 6 inconclusive" in done.stdout


@pytest.mark.triton
def test_it_goes_on_until_it_is_interrupted_and_sums_up(site: Site, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "watchdog", "probe", str(site.configure(tmp_path)), "--watch"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, bufsize=1) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(2)]
        process.send_signal(signal.SIGINT)
        rest = process.stdout.read()
        assert process.wait(20) == 0
    canaries = [line.split()[2] for line in lines]
    assert canaries[0] != canaries[1]
    assert all(f"healthy {canary} by {MODEL}/2" in line for canary, line in zip(canaries, lines, strict=True))
    assert " probes: " in rest.splitlines()[-1]
    assert "Traceback" not in rest


@pytest.mark.triton
@pytest.mark.parametrize("engine", ["public", "safe"])
def test_an_answer_is_drawn(site: Site, tmp_path: Path, engine: str) -> None:
    done = here("probe", site.configure(tmp_path), "--picture", "--engine", engine)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    at = next(i for i, line in enumerate(lines) if line.split() == ["input", "golden", "current", "difference"])
    assert len(lines) - at > 10
    assert set("".join(lines[at + 1 :])) > set(" .:-"), "there are shades"
    assert "▀" not in done.stdout, "no colours, no half blocks"


@pytest.mark.triton
def test_what_is_no_number_is_marked(site: Site, tmp_path: Path) -> None:
    site.feel(2, Mood.NAN)
    done = here("probe", site.configure(tmp_path), "--picture")
    assert done.returncode == 1
    assert "!!!!" in done.stdout


@pytest.mark.parametrize(
    "options",
    [
        ["--all", "--watch"],
        ["--all", "--picture"],
        ["--all", "--canary", "x"],
        ["--watch", "--json"],
        ["--picture", "--json"],
        ["--watch", "--picture"],
    ],
)
def test_options_that_contradict_are_refused(options: list[str], tmp_path: Path) -> None:
    done = here("probe", tmp_path / "none.yaml", *options)
    assert done.returncode == 2
    assert "leave out" in done.stderr


FAULT = Fault(kind=FaultKind.REFUSED, blame=Blame.NETWORK, detail="nothing listens")
RIGHT = assessed()
SLOW = assessed(a_finding(Reason.LATENCY, Verdict.SUSPECT))
WRONG = assessed(a_finding())
MISSING = assessed(a_finding(Reason.NO_ANSWER, Verdict.INCONCLUSIVE), fault=FAULT)


@pytest.mark.parametrize(
    ("taken", "code", "said"),
    [
        ([], 3, "0 probes: none"),
        ([RIGHT, RIGHT], 0, "2 probes: 2 healthy; took 5.0 / 5.0 / 5.0 ms (least, median, most)"),
        ([RIGHT, SLOW], 1, "2 probes: 1 healthy, 1 suspect; took "),
        ([MISSING, WRONG], 1, "2 probes: 1 inconclusive, 1 failed; took "),
        ([MISSING, RIGHT], 3, "2 probes: 1 healthy, 1 inconclusive; took "),
        ([MISSING], 3, "1 probes: 1 inconclusive"),
    ],
)
def test_the_worst_of_several_decides(taken: list[object], code: int, said: str) -> None:
    tally = Tally()
    for assessment in taken:
        tally.take(assessment)  # type: ignore[arg-type]
    assert tally.code == code
    assert str(tally).startswith(said)


def grey(rows: int, columns: int, level: int) -> np.ndarray:
    return np.full((rows, columns, 3), level, dtype=np.uint8)


@pytest.mark.parametrize("width", [20, 80, 500])
@pytest.mark.parametrize("coloured", [True, False])
def test_pictures_fit_the_width(width: int, coloured: bool) -> None:
    lines = side_by_side([("a", grey(64, 64, 0)), ("b", grey(128, 64, 255))], width, coloured=coloured)
    assert max(line.cell_len for line in lines) <= width
    assert lines[0].plain.split() == ["a", "b"]


def test_colours_are_the_pixels_own_two_a_character() -> None:
    pixels = np.concatenate([grey(2, 4, 10), grey(2, 4, 200)])
    console = Console(color_system="truecolor", force_terminal=True, width=80, no_color=False)
    with console.capture() as captured:
        console.print(side_by_side([("a", pixels)], 4, coloured=True)[1])
        console.print(side_by_side([("a", pixels)], 4, coloured=True)[2])
    upper, lower = captured.get().splitlines()
    assert "38;2;10;10;10;48;2;10;10;10m" in upper
    assert "38;2;200;200;200;48;2;200;200;200m" in lower


def test_a_single_pixel_that_is_no_number_is_not_lost() -> None:
    pixels = grey(128, 128, 0)
    pixels[77, 50] = (255, 0, 170)
    drawn = "\n".join(line.plain for line in side_by_side([("a", pixels)], 12, coloured=False))
    assert drawn.count("!") == 1
