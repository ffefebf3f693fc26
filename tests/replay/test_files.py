"""Reading recorded observations: every format, and everything that can be wrong with one."""

import gzip
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.replay.streams import confidences, times, write_csv
from watchdog.replay import files
from watchdog.replay.recording import NothingToReplayError, Recording, ReplayError, assemble, optional, parse_time

pa: Any = pytest.importorskip("pyarrow")
parquets: Any = pytest.importorskip("pyarrow.parquet")

MOMENT = datetime(2025, 3, 1, 12, tzinfo=UTC)


def read(path: Path, **more: Any) -> Recording:
    return files.read(path, **more)


def text(folder: Path, content: str | bytes, name: str = "x.csv") -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def refused(path: Path, **more: Any) -> str:
    with pytest.raises(ReplayError) as caught:
        files.read(path, **more)
    return str(caught.value)


def parquet(folder: Path, **columns: Any) -> Path:
    path = folder / "x.parquet"
    parquets.write_table(pa.table(columns), path)
    return path


# -- the same observations in every format -----------------------------------------------------


@pytest.mark.parametrize("kind", ["csv", "gz", "semicolons", "tabs", "bars", "commas as points", "bom", "parquet"])
def test_every_format_gives_the_same_observations(tmp_path: Path, kind: str) -> None:
    p, at = confidences(40), times(40)
    study = [f"s{i // 3}" for i in range(40)]
    header = ["at", "study", "probability"]
    path = tmp_path / "x.csv"
    match kind:
        case "parquet":
            path = parquet(tmp_path, at=at, study=study, probability=p)
        case "gz":
            write_csv(path, header, [at, study, p])
            path = text(tmp_path, gzip.compress(path.read_bytes()), "x.csv.gz")
        case "bom":
            write_csv(path, header, [at, study, p])
            path = text(tmp_path, b"\xef\xbb\xbf" + path.read_bytes())
        case "commas as points":
            write_csv(path, header, [at, study, [f"{x:.7f}".replace(".", ",") for x in p]], ";")
        case _:
            write_csv(path, header, [at, study, p], {"semicolons": ";", "tabs": "\t", "bars": "|"}.get(kind, ","))
    found = read(path)
    assert list(found.readings) == ["probability"]
    series = found.readings["probability"]
    assert len(series) == 14
    assert series.studies()[:2] == [p[:3].tolist(), p[3:6].tolist()]
    assert series.at is not None
    assert series.at.tolist() == at[::3].tolist()
    assert found.notes == []


@pytest.mark.parametrize("as_text", [True, False])
def test_a_column_of_times_may_be_of_any_kind(tmp_path: Path, as_text: bool) -> None:
    moment = MOMENT.timestamp()
    cells: list[Any] = [MOMENT.isoformat(), "2025-03-01T12:00:00Z", "2025-03-01 12:00", "2025-03-01T13:00+01:00"]
    assert [parse_time(cell) for cell in [*cells, str(moment)]] == [moment] * 5
    if as_text:
        path = write_csv(tmp_path / "x.csv", ["at", "p"], [cells, [0.1] * 4])
        at = read(path).readings["p"].at
        assert at is not None
        assert at.tolist() == [moment] * 4
        return
    for unit in ("s", "ms", "us", "ns"):
        for zone in (None, "UTC", "Europe/Berlin"):
            column = pa.array([MOMENT if zone else MOMENT.replace(tzinfo=None)], pa.timestamp(unit, zone))
            at = read(parquet(tmp_path, at=column, p=[0.5])).readings["p"].at
            assert at is not None
            assert at.tolist() == [moment]
    for column in ([date(2025, 3, 1)], [int(moment) - 43200], ["2025-03-01"]):
        at = read(parquet(tmp_path, at=column, p=[0.5])).readings["p"].at
        assert at is not None
        assert at.tolist() == [moment - 43200]


def test_parquet_has_numbers_of_all_kinds(tmp_path: Path) -> None:
    kinds = {
        "half": pa.array(np.array([0.5, 0.25], dtype=np.float16)),
        "single": pa.array([0.5, None], pa.float32()),
        "whole": pa.array([1, 2], pa.int64()),
        "decimal": pa.array([1, 2], pa.decimal128(5, 2)),
        "text": pa.array(["a", "b"]),
        "flag": pa.array([True, False]),
    }
    found = read(parquet(tmp_path, **kinds))
    assert {name: series.studies() for name, series in found.readings.items()} == {
        "half": [[0.5], [0.25]],
        "single": [[0.5], []],
        "whole": [[1.0], [2.0]],
        "decimal": [[1.0], [2.0]],
    }
    assert found.notes == ["no readings, as they hold no number: text, flag"]


# -- what a cell may hold ----------------------------------------------------------------------


def test_conditions_are_values_and_empty_cells_are_none(tmp_path: Path) -> None:
    found = read(text(tmp_path, "p,q\n0.1,1\nnan,\n-inf,NA\n7,null\n,2\n"))
    assert str(found.readings["p"].studies()) == "[[0.1], [nan], [-inf], [7.0], []]"
    assert found.readings["q"].studies() == [[1.0], [], [], [], [2.0]]


def test_rows_of_one_study_that_follow_one_another_are_one_observation(tmp_path: Path) -> None:
    found = read(text(tmp_path, "study,p,q\na,1,\na,2,5\nb,3,6\n,4,7\n,5,8\na,6,9\n"))
    assert found.readings["p"].studies() == [[1, 2], [3], [4], [5], [6]]
    assert found.readings["q"].studies() == [[5], [6], [7], [8], [9]]
    assert found.notes == ["1 studies come again after another one; rows of one study should follow one another"]


def test_a_file_that_begins_with_the_newest_is_put_in_order(tmp_path: Path) -> None:
    found = read(text(tmp_path, "at,study,p\n300,c,5\n200,b,3\n200,b,4\n100,a,1\n"))
    series = found.readings["p"]
    assert series.studies() == [[1], [3, 4], [5]]
    assert series.at is not None
    assert series.at.tolist() == [100, 200, 300]
    assert found.notes == ["2 observations were earlier than the one before them; they were put in order"]


@given(st.lists(st.tuples(st.integers(0, 9), st.lists(st.floats(0, 1), max_size=3)), min_size=1, max_size=30))
def test_order_moves_whole_observations(studies: list[tuple[int, list[float]]]) -> None:
    rows = [(value, True) for _, values in studies for value in values or [np.nan]]
    present = np.array([bool(values) for _, values in studies for _ in values or [0]])
    begins = np.cumsum([0, *(max(len(values), 1) for _, values in studies)])[:-1]
    at = np.array([float(when) for when, _ in studies])
    series = assemble(np.array([value for value, _ in rows]), present, begins, at)
    assert series.studies() == [values for _, values in sorted(studies, key=lambda each: each[0])]


def test_columns_are_chosen_and_others_left_out(tmp_path: Path) -> None:
    path = text(tmp_path, ",scanner,p,q,room\n0,GE,0.1,3,a1\n1,GE,0.2,4,a2\n")
    found = read(path)
    assert list(found.readings) == ["p", "q"]
    assert found.notes == ["no readings, as they hold no number: scanner, room"]
    assert list(read(path, readings=["q"]).readings) == ["q"]
    assert refused(path, readings=["z"]) == f"--reading z: {path} has scanner, p, q, room"
    assert "column 'room': 'a1' is not a number" in refused(path, readings=["room"])


def test_models_are_told_apart(tmp_path: Path) -> None:
    path = text(tmp_path, "model,study,p\nm,a,1\nn,a,2\nm,a,3\n")
    assert refused(path) == f"{path}: holds several models; name one with --model: m, n"
    assert refused(path, model="o") == f"--model o: {path} has m, n"
    assert read(path, model="m").readings["p"].studies() == [[1, 3]]
    without = read(text(tmp_path, "p\n1\n"), model="m")
    assert without.notes == ["there is no column 'model': all of it is taken as m"]


# -- files that are wrong ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "is empty"),
        ("p,q\n1,2\n3\n", ":3: has 1 cells, but the first line names 2 columns"),
        ("p,q\n1,2,3\n", ":2: has 3 cells"),
        ("p,q\n\n1,2\n3,x y\n", ":4: column 'q': 'x y' is not a number; name the readings with --reading"),
        ("p\n1_0\n2\n", ":2: column 'p': '1_0' is not a number"),
        ('p,t\n1,"a\nb"\n2,"c"\nx,d\n', ":5: column 'p': 'x' is not a number"),
        ('p,t\n1,"a\n2,b\n', ":2: not CSV: unexpected end of data"),
        ("p,p\n1,2\n", ":1: the column 'p' is there twice"),
        ("0.1,0.2\n0.3,0.4\n", ":1: the first line must name the columns"),
        ("\n1\n", ":1: the first line must name the columns"),
        ("at,study\n1,2\n", "has no column for a reading; its columns are at, study"),
        ("t,u\na,b\n", "none of its columns holds numbers: t, u"),
        ("at,p\nyesterday,1\n", ":2: column 'at': 'yesterday' is no time"),
        ("at,p\n,1\n", ":2: column 'at': '' is no time"),
        ("at,p\n2025-02-30,1\n", ":2: column 'at': '2025-02-30' is no time"),
        ("at,p\n1740000000000,1\n", ":2: column 'at': 1.74e+12 can't be a time in unix seconds; are these milli"),
        ("at,p\n-1,1\n", ":2: column 'at': -1 can't be"),
        ("at,p\nnan,1\n", ":2: column 'at': nan can't be"),
        ("p\n" + "9" * 200_000 + "x\n", "field larger than field limit"),
        (b"p\n\xff\xfe\n", "not UTF-8 text"),
        ("p\n1\n".encode("utf-16"), "not UTF-8 text"),
        (bytes(range(256)) * 8, "not UTF-8 text"),
        (b"\x00\x01\x02\x03\n\x04", "is neither CSV nor Parquet nor a journal"),
        (b"\x1f\x8b\x08\x00 nothing of the kind", "the gzipped file is damaged or cut short"),
        (gzip.compress(b"p\n" + b"1\n" * 999)[:-12], "the gzipped file is damaged or cut short"),
        (b"PAR1 and nothing more", "the Parquet file is damaged, cut short or of an unknown kind"),
        (b"SQLite format 3\x00 and nothing more", "this is not an SQLite file"),
    ],
)
def test_a_bad_file_is_told_where_it_is_bad(tmp_path: Path, content: str | bytes, said: str) -> None:
    path = text(tmp_path, content)
    message = refused(path)
    assert message.startswith(str(path))
    assert said in message


def test_parquet_that_was_cut_short_or_tampered_with(tmp_path: Path) -> None:
    whole = parquet(tmp_path, p=confidences(5000)).read_bytes()
    rng = np.random.default_rng(0)
    for length in (4, 5, 100, len(whole) // 2, len(whole) - 1):
        assert "damaged, cut short" in refused(text(tmp_path, whole[:length]))
    for _ in range(60):  # whatever is broken, nothing but the one error comes out
        broken = bytearray(whole)
        for place in rng.integers(4, len(whole), 20).tolist():
            broken[place] = int(rng.integers(256))
        try:
            read(text(tmp_path, bytes(broken)))
        except (ReplayError, NothingToReplayError):
            continue


@given(st.binary(max_size=200), st.sampled_from([b"", b"at,study,p\n", b"PAR1", b"\x1f\x8b\x08", b"SQLite format 3\0"]))
def test_junk_is_refused_or_read(tmp_path_factory: pytest.TempPathFactory, junk: bytes, magic: bytes) -> None:
    path = text(tmp_path_factory.getbasetemp(), magic + junk, "junk.csv")
    said = str(path)
    try:
        read(path)
    except (ReplayError, NothingToReplayError) as error:
        said = str(error)
    assert str(path) in said


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"p": ["a"]}, "none of its columns holds numbers: p"),
        ({"at": [1.0, None], "p": [1.0, 2.0]}, "row 2: column 'at' is empty"),
        ({"at": ["x"], "p": [1.0]}, "row 1: column 'at': 'x' is no time"),
        ({"at": [1e15], "p": [1.0]}, "row 1: column 'at': 1e+15 can't be a time"),
        ({"at": [True], "p": [1.0]}, "row 1: column 'at': 'True' is no time"),
    ],
)
def test_parquet_with_wrong_columns(tmp_path: Path, columns: dict[str, list[object]], said: str) -> None:
    assert said in refused(parquet(tmp_path, **columns))


def test_a_parquet_column_that_is_asked_for_must_hold_numbers(tmp_path: Path) -> None:
    path = parquet(tmp_path, p=[1.0], t=["a"])
    assert refused(path, readings=["t"]) == f"{path}: column 't' holds string, not numbers"
    assert refused(text(tmp_path, "p\n1\n", "y.parquet")).endswith("is not Parquet, whatever its name says")


def test_what_can_not_be_opened(tmp_path: Path) -> None:
    assert "can't be read: No such file" in refused(tmp_path / "none.csv")
    assert "can't be read: Is a directory" in refused(tmp_path)


@pytest.mark.parametrize("content", ["p\n", "at,study,p\n", "p"])
def test_a_header_alone_is_nothing_to_replay(tmp_path: Path, content: str) -> None:
    with pytest.raises(NothingToReplayError, match="holds no observation"):
        read(text(tmp_path, content))


def test_what_is_not_installed_is_named_with_how_to_get_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = parquet(tmp_path, p=[1.0])
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    assert refused(path) == "this needs pyarrow, which is not installed: pip install 'inference-watchdog[replay]'"
    with pytest.raises(ReplayError, match="needs no_such_module"):
        optional("no_such_module.part")


def test_progress_is_told(tmp_path: Path) -> None:
    told: list[int] = []
    files.read(write_csv(tmp_path / "x.csv", ["p"], [[0.5] * 25_000]), report=told.append)
    assert told == [10_000, 20_000]
