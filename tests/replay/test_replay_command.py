"""``watchdog replay`` as people and scripts meet it: exit codes, tables, JSON, and what it says of wrong calls."""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from tests.replay.streams import confidences, times, write_csv
from watchdog.cli.main import app
from watchdog.journal.sqlite import SqliteJournal
from watchdog.model.journal import Entry, EntryKind

OK, NOT_RIGHT, WRONG_CALL = range(3)
CHANGED = 2500


@dataclass(frozen=True)
class Done:
    returncode: int
    stdout: str
    stderr: str


def here(*arguments: object) -> Done:
    result = CliRunner().invoke(app, ["replay", *map(str, arguments)], catch_exceptions=False)
    return Done(result.exit_code, result.stdout, result.stderr)


def process(*arguments: object, **more: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "watchdog", "replay", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, **more)


@pytest.fixture(scope="module")
def changed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("changed") / "march [x].csv"
    values = confidences(3000, changed_at=CHANGED, seed=2)
    return write_csv(path, ["at", "scanner", "p"], [times(3000), ["GE"] * 3000, values])


@pytest.fixture(scope="module")
def quiet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("quiet") / "april.csv"
    return write_csv(path, ["p"], [confidences(3000)])


def test_a_process_of_its_own_shows_a_table_and_a_plot_in_plain_text(changed: Path) -> None:
    done = process(changed, "--changed-at", CHANGED)
    assert (done.returncode, done.stderr) == (NOT_RIGHT, "")
    assert "\x1b" not in done.stdout
    lines = done.stdout.splitlines()
    assert lines[0] == str(changed)
    assert "p (logit, guessed: --link says otherwise)" in lines
    assert "  3,000 observations, 2025-02-19 21:20:00Z to 2025-02-21 23:19:00Z, one every 60 s on average" in lines
    assert f"  changed at observation {CHANGED:,} (2025-02-21 15:00:00Z)" in lines
    year = next(line for line in lines if line.startswith("1 per year  "))
    assert "≤ 1 in 525,960; here P ≤ 0.0029" in year
    assert "logits scaled by about 0." in year
    assert "began at about 2," in year
    practices = [line for line in lines if "no promise" in line]
    assert [line.split("  ")[0] for line in practices] == [
        "KS p < 0.01, window 100",
        "KS p < 0.01, window 500",
        "PSI > 0.2, window 500",
    ]
    assert any(line.startswith("descriptive, no limit is right for it: the last 1,000 against") for line in lines)
    plot = lines.index("1 per year: the statistic up to its threshold, on a logarithmic scale; ▲ alarms; │ the change")
    assert lines[plot + 1].startswith(" 5.3e+05 ┤")
    assert lines[plot + 2].startswith("       1 ┤")
    assert "▲" in lines[plot + 3]
    assert max(map(len, lines[plot : plot + 4])) <= len(lines[plot])


def test_a_quiet_stream_is_as_it_should_be(quiet: Path) -> None:
    done = here(quiet, "--false-alarms", "1 per year")
    assert (done.returncode, done.stderr) == (OK, "")
    assert "after the change" not in done.stdout
    assert "note: the file does not say when observations were made: taken as one a second" in done.stdout


def test_json_is_one_document(changed: Path, tmp_path: Path) -> None:
    done = here(changed, "--json", "--plot", tmp_path / "x.svg", "--reading", "p", "--link", "logit")
    assert (done.returncode, done.stderr) == (NOT_RIGHT, "")
    document = json.loads(done.stdout)
    assert document["file"] == str(changed)
    assert document["alarmed"] is True
    reading = document["readings"][0]
    assert (reading["link"], reading["link_guessed"], reading["changed_at"]) == ("logit", False, None)
    assert [one["setting"] for one in reading["settings"]] == ["1 per year", "1 per month", "1 per week"]
    assert (tmp_path / "x.svg").read_bytes().startswith(b"<?xml")
    assert here(changed, "--json", "--reading", "p", "--link", "logit").stdout == done.stdout


def test_another_file_is_the_reference(changed: Path, quiet: Path) -> None:
    done = here(changed, "--reference-file", quiet, "--false-alarms", "1 per year", "--json")
    reading = json.loads(done.stdout)["readings"][0]
    assert reading["reference"]["observations"] == 3000
    assert reading["stream"] == {"first": 0, "observations": 3000}
    alarms = reading["settings"][0]["alarms"]
    assert alarms[0]["index"] >= CHANGED


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--reference", "0"], "--reference"),
        (["--reference", "5", "--reference-file", "x.csv"], "are two references; give one of them"),
        (["--false-alarms", "never"], "--false-alarms: 'never' is not a promise; write"),
        (["--false-alarms", "1 per min at 1/s"], "at least 1000 make a promise"),
        (["--false-alarms", "1 per h"], "--false-alarms: '1 per h' allows a false alarm every 60 observations"),
        (["--link", "cubic"], "--link"),
        (["--changed-at", "soon"], "--changed-at: 'soon' is no time"),
        (["--changed-at", "10"], "is within the reference"),
        (["--plot", "x.gif"], "--plot x.gif: its name must end with one of .svg, .png, .pdf"),
        (["--plot", "none/x.svg"], "--plot none/x.svg: there is no folder none"),
        (["--reading", "q"], "--reading q: "),
        (["--reading", "scanner"], ":2: column 'scanner': 'GE' is not a number"),
        (["--reference-file", "none.csv"], "none.csv: can't be read: No such file"),
        (["--config", "none.yaml"], "none.yaml: can't be read"),
    ],
)
def test_a_wrong_call_is_told_on_standard_error(changed: Path, arguments: list[str], said: str) -> None:
    done = here(changed, *arguments)
    assert (done.returncode, done.stdout) == (WRONG_CALL, "")
    assert said in done.stderr


def test_wrong_files_are_wrong_calls_and_empty_ones_nothing_to_replay(tmp_path: Path) -> None:
    (tmp_path / "ragged.csv").write_text("p,q\n1\n")
    ragged = process(tmp_path / "ragged.csv")
    assert (ragged.returncode, ragged.stdout) == (WRONG_CALL, "")
    assert ragged.stderr == f"watchdog: {tmp_path}/ragged.csv:2: has 1 cells, but the first line names 2 columns\n"
    (tmp_path / "empty.csv").write_text("p,q\n")
    empty = here(tmp_path / "empty.csv")
    assert (empty.returncode, empty.stdout) == (NOT_RIGHT, "")
    assert "there is nothing to replay:" in empty.stderr
    constant = here(write_csv(tmp_path / "constant.csv", ["p"], [[0.5] * 100]))
    assert (constant.returncode, constant.stdout) == (NOT_RIGHT, "")
    assert "p: every value of the reference is 0.5" in constant.stderr
    assert "No such file" in process(tmp_path / "none.csv").stderr


def test_a_reading_that_can_not_be_replayed_does_not_hide_the_others(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "x.csv", ["p", "[q]"], [confidences(1500), [0.5] * 1500])
    done = here(path, "--false-alarms", "1 per year")
    assert "  not replayed [q]: every value of the reference is 0.5" in done.stdout
    assert done.returncode == OK


# -- with a configuration and a journal --------------------------------------------------------


def configured(folder: Path, drift: dict[str, Any], *names: str) -> Path:
    models = [
        {
            "name": name,
            "endpoint": "triton",
            "engines": {"fast": {"version": 2}, "safe": {"version": 1}},
            "canaries": {"path": "canaries", "recipe": "recipe.yaml"},
            "baseline": f"baseline-{name}",
            "outputs": [{"name": "p", "kind": "probability"}],
            "drift": drift,
        }
        for name in names
    ]
    endpoint = {"name": "triton", "kind": "triton-grpc", "url": "127.0.0.1:1"}
    path = folder / "watchdog.yaml"
    path.write_text(yaml.safe_dump({"endpoints": [endpoint], "models": models}))
    return path


async def journal(folder: Path, source: str = "live") -> Path:
    path = folder / "journal.sqlite"
    book = await SqliteJournal.open(path)
    for at, value in zip(times(700).tolist(), confidences(700, changed_at=600, seed=2).tolist(), strict=True):
        score = {"source": source, "reading": "p", "observations": [[value]]}
        await book.append(Entry(at=at, kind=EntryKind.SCORE, model="m", data=score))
    decision = {"before": "serving-fast", "after": {"state": "held"}, "reason": "hold"}
    await book.append(Entry(at=times(650)[-1], kind=EntryKind.DECISION, model="m", data=decision))
    await book.close()
    return path


async def test_a_journal_with_the_models_own_setting(tmp_path: Path) -> None:
    config = configured(tmp_path, {"live": {"false_alarms": "1 per year at 6/min", "reference": 500}}, "m")
    path = await journal(tmp_path)
    done = here(path, "--config", config, "--json")
    assert done.returncode == NOT_RIGHT
    document = json.loads(done.stdout)
    (reading,) = document["readings"]
    assert (reading["reading"], reading["link"], reading["link_guessed"]) == ("live/p", "logit", False)
    assert reading["reference"]["observations"] == 500
    (setting,) = reading["settings"]
    assert setting["setting"] == "1 per year at 6/min"
    assert 600 <= setting["alarms"][0]["index"] < 700
    assert [mark["text"] for mark in document["decisions"]] == ["serving-fast → held: hold"]
    several = here(path, "--config", config, "--false-alarms", "1 per week", "--reference", 400)
    assert "1 per year at 6/min" in several.stdout
    assert "1 per week" in several.stdout
    assert "reference: 400 usable observations of the first 400" in several.stdout
    assert "decision 2025-02-20 08:09:00Z: serving-fast → held: hold" in several.stdout


async def test_a_journal_of_another_source(tmp_path: Path) -> None:
    drift = {"live": {}, "shadow": {"false_alarms": "1 per month at 1/s", "reference": 400}}
    config = configured(tmp_path, drift, "m")
    path = await journal(tmp_path, "shadow")
    nothing = here(path, "--config", config)
    assert nothing.returncode == NOT_RIGHT
    assert "has no live scores, but shadow/p" in nothing.stderr
    pairs = json.loads(here(path, "--config", config, "--reading", "shadow/p", "--json").stdout)["readings"][0]
    assert pairs["settings"][0]["setting"] == "1 per month at 1/s"
    assert (pairs["reference"]["observations"], pairs["link"]) == (400, "identity")


async def test_a_journal_without_scores_says_what_to_record(tmp_path: Path) -> None:
    book = await SqliteJournal.open(tmp_path / "journal.sqlite")
    await book.close()
    done = here(tmp_path / "journal.sqlite")
    assert (done.returncode, done.stdout) == (NOT_RIGHT, "")
    assert "no score was recorded in this journal; set `record: true` in the model's drift settings" in done.stderr


def test_a_configuration_must_say_which_model_and_what(tmp_path: Path, changed: Path) -> None:
    none = here(changed, "--config", configured(tmp_path, {}, "m"))
    assert none.returncode == WRONG_CALL
    assert "m has no `live:` in its `drift:` section" in none.stderr
    both = here(changed, "--config", configured(tmp_path, {"live": {}}, "m", "n"))
    assert "name one with --model: m, n" in both.stderr
    other = here(changed, "--config", tmp_path / "watchdog.yaml", "--model", "o")
    assert "--model o: the configuration has m, n" in other.stderr
    (tmp_path / "watchdog.yaml").write_text("models: [[1]]\n")
    bad = here(changed, "--config", tmp_path / "watchdog.yaml")
    assert (bad.returncode, bad.stdout) == (WRONG_CALL, "")
    assert "the configuration can't be used:" in bad.stderr


def test_help_is_worth_reading_and_imports_nothing_heavy() -> None:
    done = here("--help")
    assert done.returncode == OK
    for said in ("FILE's columns", "watchdog replay march.csv", "Exits with 0", "inference-watchdog[replay]", "--plot"):
        assert said in done.stdout
    program = (
        "import sys\nfrom typer.testing import CliRunner\nfrom watchdog.cli.main import app\n"
        "assert CliRunner().invoke(app, ['replay', '--help']).exit_code == 0\n"
        "print([name for name in ('numpy', 'rich.table', 'yaml', 'matplotlib', 'pyarrow') if name in sys.modules])"
    )
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert loaded.stdout.strip() == "[]"


def test_a_setting_that_the_reference_is_too_small_for_is_shown_with_its_reason(quiet: Path) -> None:
    texts = ("1 per year at 1/s", "1 per h at 1/s")
    done = here(quiet, "--reference", 330, *(part for text in texts for part in ("--false-alarms", text)))
    rows = {line.split("  ")[0]: line for line in done.stdout.splitlines()}
    assert "not run" in rows[texts[0]]
    assert "the reference has 330 observations; this promise" in rows[texts[0]]
    assert "not run" not in rows[texts[1]]
