"""Reading recorded observations from CSV, Parquet, or a watchdog's journal.

A column ``at`` says when (ISO 8601 or unix seconds), ``study`` which rows are one observation, ``model`` whose
they are; all three may be missing. Every other column of numbers is a reading.
"""

import csv
import gzip
import io
import zlib
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from watchdog.model.tensor import Array
from watchdog.replay import journal
from watchdog.replay.recording import (
    NothingToReplayError,
    Recording,
    ReplayError,
    Series,
    assemble,
    check_time,
    optional,
    parse_time,
)

_AT, _STUDY, _MODEL = "at", "study", "model"
_RESERVED = (_AT, _STUDY, _MODEL)
_DELIMITERS = (",", ";", "\t", "|")
_NOTHING = frozenset({"", "na", "n/a", "null", "none"})
"""Cells without a value, in lower case. ``nan`` is none of them: it is what an engine said."""
_NAMED = 12
"""So many columns or models are named in a message."""

Report = Callable[[int], None]
"""Is told how many rows were read."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Rows:
    """A table's columns that matter, one element a row."""

    at: Array | None
    study: Sequence[str] | None
    model: Sequence[str] | None
    readings: Mapping[str, tuple[Array, Array]]
    """Name → its values, and where there are any."""
    count: int
    left_out: Sequence[str] = ()
    """Columns that hold no number."""


def read(
    path: Path, *, readings: Sequence[str] = (), model: str | None = None, report: Report = lambda _: None
) -> Recording:
    """All observations of a file, which its first bytes tell the format of.

    Args:
        path: CSV (also gzipped), Parquet, or a ``journal.sqlite``.
        readings: only these; all that there are, if none is named.
        model: only this one's rows; may be left out where there is only one.
        report: is told of the progress, every so often.

    Raises:
        ReplayError: the file can't be read or holds what it should not; the message has file, line and column.
        NothingToReplayError: it is as it should be, but without observations.
    """
    try:
        with path.open("rb") as file:
            magic = file.read(16)
    except OSError as error:
        raise ReplayError(f"{path}: can't be read: {error.strerror}") from error
    if not magic:
        raise ReplayError(f"{path}: is empty")
    if magic == b"SQLite format 3\0":
        return journal.read(path, readings=readings, model=model)
    if magic.startswith(b"PAR1"):
        rows = _parquet(path, readings)
    elif path.suffix == ".parquet":
        raise ReplayError(f"{path}: is not Parquet, whatever its name says")
    else:
        rows = _csv(path, readings, report, gzipped=magic.startswith(b"\x1f\x8b"))
    return _recording(path, rows, model)


def _recording(path: Path, rows: _Rows, model: str | None) -> Recording:
    chosen, of_model = _of_model(path, rows.model, model)
    keep = np.ones(rows.count, dtype=bool) if chosen is None else chosen
    count = int(np.count_nonzero(keep))
    if not count:
        raise NothingToReplayError(f"{path}: holds no observation{of_model}, only the names of its columns")
    study = None if rows.study is None else [s for s, kept in zip(rows.study, keep.tolist(), strict=True) if kept]
    begins = _begins(study, count)
    at = None if rows.at is None else rows.at[keep][begins]
    series: dict[str, Series] = {
        name: assemble(values[keep], present[keep], begins, at) for name, (values, present) in rows.readings.items()
    }
    notes = _notes(rows, study, begins, at)
    if model is not None and rows.model is None:
        notes.append(f"there is no column {_MODEL!r}: all of it is taken as {model}")
    return Recording(source=str(path), readings=series, notes=notes)


def _of_model(path: Path, models: Sequence[str] | None, wanted: str | None) -> tuple[Array | None, str]:
    """Which rows are of the wanted model (None: all), and words for a message."""
    if models is None:
        return None, ""
    known = list(dict.fromkeys(models))
    if wanted is None:
        if len(known) > 1:
            raise ReplayError(f"{path}: holds several models; name one with --model: {listed(known)}")
        return None, ""
    if known and wanted not in known:
        raise ReplayError(f"--model {wanted}: {path} has {listed(known)}")
    return np.array([m == wanted for m in models], dtype=bool), f" of {wanted}"


def _begins(study: Sequence[str] | None, count: int) -> Array:
    """[n] the rows with which observations begin. A row without a study is one by itself."""
    if study is None:
        return np.arange(count)
    return np.array([i for i, s in enumerate(study) if i == 0 or not s or s != study[i - 1]], dtype=np.int64)


def _notes(rows: _Rows, study: Sequence[str] | None, begins: Array, at: Array | None) -> list[str]:
    notes = []
    if rows.left_out:
        notes.append(f"no readings, as they hold no number: {listed(rows.left_out)}")
    if study is not None:
        ids = [study[i] for i in begins.tolist() if study[i]]
        if again := len(ids) - len(set(ids)):
            notes.append(f"{again:,} studies come again after another one; rows of one study should follow one another")
    if at is not None and (late := int(np.count_nonzero(at[1:] < at[:-1]))):
        notes.append(f"{late:,} observations were earlier than the one before them; they were put in order")
    return notes


def listed(names: Sequence[str]) -> str:
    """The names, unless there are too many to read."""
    return ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")


def choose(path: Path, columns: Sequence[str], wanted: Sequence[str]) -> list[str]:
    """The columns that may be readings.

    Raises:
        ReplayError: one is wanted that isn't there, or none is there.
    """
    there = [name for name in columns if name and name not in _RESERVED]
    for name in wanted:
        if name not in there:
            raise ReplayError(f"--reading {name}: {path} has {listed(there) or 'no reading at all'}")
    if not there:
        raise ReplayError(f"{path}: has no column for a reading; its columns are {listed(columns)}")
    return list(dict.fromkeys(wanted)) or there


# -- CSV ---------------------------------------------------------------------------------------


class _Column:
    """One column's cells, as numbers as long as they are."""

    def __init__(self, number: Callable[[str], float]) -> None:
        self._number = number
        self.values = array("d")
        self.present = bytearray()
        self.numbers = 0
        self.text: tuple[int, str] | None = None
        """The line and content of the first cell that is no number."""

    def take(self, cell: str, line: int) -> None:
        try:
            value, there = self._number(cell), 1
            self.numbers += 1
        except ValueError:
            value, there = np.nan, 0
            if self.text is None and cell.strip().lower() not in _NOTHING:
                self.text = line, cell
        self.values.append(value)
        self.present.append(there)

    def arrays(self) -> tuple[Array, Array]:
        return np.array(self.values, dtype=np.float64), np.array(self.present, dtype=bool)


def _csv(path: Path, wanted: Sequence[str], report: Report, *, gzipped: bool) -> _Rows:
    try:
        with (
            gzip.open(path, "rb") if gzipped else path.open("rb") as raw,
            io.TextIOWrapper(raw, encoding="utf-8-sig", newline="") as file,
        ):
            return _table(path, file, wanted, report)
    except UnicodeDecodeError as error:
        advice = "is it CSV? then save it as UTF-8"
        raise ReplayError(f"{path}: not UTF-8 text, nor Parquet, nor a journal; {advice} ({error.reason})") from error
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ReplayError(f"{path}: the gzipped file is damaged or cut short: {error}") from error
    except OSError as error:
        raise ReplayError(f"{path}: can't be read: {error.strerror or error}") from error


def _table(path: Path, file: IO[str], wanted: Sequence[str], report: Report) -> _Rows:
    first = file.readline()
    delimiter = max(_DELIMITERS, key=first.count)
    header = [name.strip() for name in next(csv.reader([first], delimiter=delimiter), [])]
    _refuse_header(path, header)
    readings = choose(path, header, wanted)
    number = _continental if delimiter == ";" else _number
    columns = {name: _Column(number) for name in readings}
    at: list[float] = []
    study: list[str] = []
    model: list[str] = []
    takers: dict[str, Callable[[str, int], None]] = {name: column.take for name, column in columns.items()}
    takers[_AT] = lambda cell, line: at.append(_at(path, line, cell))
    takers[_STUDY] = lambda cell, _: study.append(cell.strip())
    takers[_MODEL] = lambda cell, _: model.append(cell.strip())
    places = [(header.index(name), take) for name, take in takers.items() if name in header]
    count = 0
    for line, row in _lines(path, file, delimiter, len(header)):
        for i, take in places:
            take(row[i], line)
        count += 1
        if not count % 10_000:
            report(count)
    return _Rows(
        at=np.array(at) if _AT in header else None,
        study=study if _STUDY in header else None,
        model=model if _MODEL in header else None,
        readings=_numeric(path, columns, wanted, count),
        count=count,
        left_out=[n for n, c in columns.items() if count and not c.numbers and n not in wanted],
    )


def _refuse_header(path: Path, header: Sequence[str]) -> None:
    if not all(name.isprintable() for name in header):
        raise ReplayError(f"{path}: is neither CSV nor Parquet nor a journal")
    if not any(header) or all(map(_is_number, filter(None, header))):
        raise ReplayError(f"{path}:1: the first line must name the columns, such as at,study,probability")
    repeated = [name for name in header if name and header.count(name) > 1]
    if repeated:
        raise ReplayError(f"{path}:1: the column {repeated[0]!r} is there twice")


def _lines(path: Path, file: IO[str], delimiter: str, width: int) -> Iterator[tuple[int, list[str]]]:
    """Each row with the line on which it begins."""
    reader = csv.reader(file, delimiter=delimiter, strict=True)
    while True:
        line = reader.line_num + 2
        try:
            row = next(reader, None)
        except csv.Error as error:
            raise ReplayError(f"{path}:{line}: not CSV: {error}") from error
        if row is None:
            return
        if not row:
            continue
        if len(row) != width:
            raise ReplayError(f"{path}:{line}: has {len(row)} cells, but the first line names {width} columns")
        yield line, row


def _at(path: Path, line: int, cell: str) -> float:
    try:
        return parse_time(cell)
    except ValueError as error:
        raise ReplayError(f"{path}:{line}: column {_AT!r}: {error}") from error


def _numeric(
    path: Path, columns: Mapping[str, _Column], wanted: Sequence[str], count: int
) -> dict[str, tuple[Array, Array]]:
    """The columns that are readings; one that is partly numbers is an error, one that holds none is something else."""
    for name, column in columns.items():
        if column.text is not None and (column.numbers or name in wanted):
            line, cell = column.text
            advice = "" if name in wanted else "; name the readings with --reading, if this is none"
            raise ReplayError(f"{path}:{line}: column {name!r}: {cell[:80]!r} is not a number{advice}")
    found = {name: column.arrays() for name, column in columns.items() if column.numbers or name in wanted or not count}
    if not found:
        raise ReplayError(f"{path}: none of its columns holds numbers: {listed(list(columns))}")
    return found


def _number(cell: str) -> float:
    if "_" in cell:  # Python's own idea of a number, nobody else's
        raise ValueError(cell)
    return float(cell)


def _continental(cell: str) -> float:
    """Where cells are divided by semicolons, a comma is a decimal point."""
    return _number(cell.replace(",", ".") if cell.count(",") == 1 and "." not in cell else cell)


def _is_number(cell: str) -> bool:
    try:
        _number(cell)
    except ValueError:
        return False
    return True


# -- Parquet -----------------------------------------------------------------------------------


def _parquet(path: Path, wanted: Sequence[str]) -> _Rows:
    arrow = optional("pyarrow")
    parquet = optional("pyarrow.parquet")
    try:
        with parquet.ParquetFile(path) as file:
            schema = file.schema_arrow
            _refuse_header(path, schema.names)
            names = choose(path, schema.names, wanted)
            numeric = [name for name in names if _is_numeric(arrow, schema.field(name).type)]
            _refuse_text(path, schema, numeric, names, wanted)
            table = file.read(columns=[*numeric, *(n for n in _RESERVED if n in schema.names)])
        return _Rows(
            at=_arrow_times(path, arrow, table[_AT]) if _AT in table.column_names else None,
            study=_texts(table, _STUDY),
            model=_texts(table, _MODEL),
            readings={name: _arrow_numbers(arrow, table[name]) for name in numeric},
            count=table.num_rows,
            left_out=[name for name in names if name not in numeric],
        )
    except ReplayError:
        raise
    except (arrow.ArrowException, OSError, ValueError, OverflowError) as error:
        raise ReplayError(f"{path}: the Parquet file is damaged, cut short or of an unknown kind: {error}") from error


def _is_numeric(arrow: Any, kind: Any) -> bool:
    types = arrow.types
    return bool(types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind))


def _refuse_text(path: Path, schema: Any, numeric: Sequence[str], names: Sequence[str], wanted: Sequence[str]) -> None:
    for name in wanted:
        if name not in numeric:
            raise ReplayError(f"{path}: column {name!r} holds {schema.field(name).type}, not numbers")
    if not numeric:
        raise ReplayError(f"{path}: none of its columns holds numbers: {listed(names)}")


def _texts(table: Any, name: str) -> list[str] | None:
    if name not in table.column_names:
        return None
    return ["" if each is None else str(each) for each in table[name].to_pylist()]


def _arrow_numbers(arrow: Any, column: Any) -> tuple[Array, Array]:
    """[rows] values, NaN where there is none, and where there is one."""
    present = np.asarray(column.is_valid().to_numpy(), dtype=bool)
    return np.asarray(column.cast(arrow.float64()).to_numpy(), dtype=np.float64), present


def _arrow_times(path: Path, arrow: Any, column: Any) -> Array:
    if column.null_count:
        row = column.is_valid().to_pylist().index(False)
        raise ReplayError(f"{path}: row {row + 1}: column {_AT!r} is empty")
    types, kind = arrow.types, column.type
    if types.is_timestamp(kind):
        per_second = {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9}[kind.unit]
        return np.asarray(column.cast(arrow.int64()).to_numpy() / per_second)
    if types.is_date(kind):
        return np.asarray(column.cast(arrow.date32()).cast(arrow.int32()).to_numpy() * 86400.0)
    seconds = _is_numeric(arrow, kind)
    times = []
    for row, cell in enumerate(column.to_pylist(), 1):
        try:
            times.append(check_time(float(cell)) if seconds else parse_time(str(cell)))
        except ValueError as error:
            raise ReplayError(f"{path}: row {row}: column {_AT!r}: {error}") from error
    return np.array(times)
