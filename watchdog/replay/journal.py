"""Reading judged observations back from a watchdog's journal, which may be in use meanwhile."""

import json
import math
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from watchdog.drift.links import Link
from watchdog.model.event import Source
from watchdog.model.journal import EntryKind
from watchdog.readings import link_of
from watchdog.replay.recording import Mark, NothingToReplayError, Recording, ReplayError, Series

_TIMEOUT_S = 5.0
_NO_SHARED_MEMORY = (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY)
_WORDS = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
"""What the journal writes for the numbers that JSON lacks."""
_RECORD = "set `record: true` in the model's drift settings, let it watch for a while, and replay then"
_SELECT = "SELECT seq, at, kind, model, data FROM entries WHERE kind IN (?, ?, ?) AND data IS NOT NULL ORDER BY seq"


@dataclass(kw_only=True, slots=True)
class _Growing:
    """A reading's observations so far."""

    source: Source
    reading: str
    values: list[float] = field(default_factory=list)
    starts: list[int] = field(default_factory=lambda: [0])
    at: list[float] = field(default_factory=list)

    def take(self, at: float, values: Sequence[float]) -> None:
        self.values += values
        self.starts.append(len(self.values))
        self.at.append(at)

    def series(self) -> Series:
        times = np.array(self.at)
        return Series(
            values=np.array(self.values, dtype=np.float64),
            starts=np.array(self.starts, dtype=np.int64),
            at=np.maximum.accumulate(times),  # a clock that was put back must not make time run backwards
            source=str(self.source),
            link=link_of(self.reading) if self.source is Source.LIVE else Link.IDENTITY,
        )


def read(path: Path, *, readings: Sequence[str] = (), model: str | None = None) -> Recording:
    """The scores in a journal, as ``source/reading``; decisions and switches as marks.

    Canaries are the same few images again and again, not a sample of anything: their scores are there only when
    they are asked for by name.

    Args:
        path: the file. It is opened read-only; a running watchdog isn't held up.
        readings: only these, as ``source/reading`` or ``reading``.
        model: only this one; may be left out where the journal is about one.

    Raises:
        ReplayError: it is no journal, it can't be read, or it has no such model or reading.
        NothingToReplayError: nothing was recorded in it; the message says what to set.
    """
    grown: dict[str, _Growing] = {}
    marks: list[Mark] = []
    models: dict[str, None] = {}
    for seq, at, kind, of, data in _entries(path):
        if kind == EntryKind.SCORE:
            models[of] = None
        if model not in (None, of):
            continue
        if kind == EntryKind.SCORE:
            source, reading, observations = _score(path, seq, data)
            name = f"{source}/{reading}"
            if name not in grown:
                grown[name] = _Growing(source=source, reading=reading)
            for values in observations:
                grown[name].take(at, values)
        elif (mark := _mark(at, kind, data)) is not None:
            marks.append(mark)
    _refuse_model(path, list(models), model)
    chosen = _chosen(path, list(grown), readings)
    return Recording(source=str(path), readings={name: grown[name].series() for name in chosen}, marks=marks)


def _refuse_model(path: Path, models: Sequence[str], wanted: str | None) -> None:
    if not models:
        raise NothingToReplayError(f"{path}: no score was recorded in this journal; {_RECORD}")
    if wanted is None and len(models) > 1:
        raise ReplayError(f"{path}: is about several models; name one with --model: {', '.join(models)}")
    if wanted is not None and wanted not in models:
        raise ReplayError(f"--model {wanted}: {path} has scores of {', '.join(models)}")


def _chosen(path: Path, names: Sequence[str], wanted: Sequence[str]) -> list[str]:
    if wanted:
        missing = [w for w in wanted if not any(_is_called(name, w) for name in names)]
        if missing:
            raise ReplayError(f"--reading {missing[0]}: {path} has {', '.join(names)}")
        return [name for name in names if any(_is_called(name, w) for w in wanted)]
    live = [name for name in names if not name.startswith(f"{Source.CANARY}/")]
    if not live:
        raise NothingToReplayError(
            f"{path}: holds scores of canaries alone, which are no sample of patients' images; "
            f"name one with --reading to replay it nevertheless: {', '.join(names)}"
        )
    return live


def _is_called(name: str, wanted: str) -> bool:
    return wanted in (name, name.partition("/")[2])


def _entries(path: Path) -> Iterator[tuple[int, float, str, str, Mapping[str, Any]]]:
    """Every entry that matters, as one moment's view of the file."""
    kinds = (EntryKind.SCORE, EntryKind.DECISION, EntryKind.OUTCOME)
    try:
        with closing(_connect(path)) as connection:
            for seq, at, kind, model, text in connection.execute(_SELECT, [str(kind) for kind in kinds]):
                yield seq, float(at), kind, model, _parsed(path, seq, text)
    except sqlite3.Error as error:
        raise ReplayError(f"{path}: {_said(error)} ({error})") from error


def _connect(path: Path) -> sqlite3.Connection:
    """A read-only connection, also where SQLite may not put its shared memory beside the file."""
    uri = path.resolve().as_uri()
    connection = sqlite3.connect(f"{uri}?mode=ro", uri=True, timeout=_TIMEOUT_S)
    try:
        connection.execute("SELECT count(*) FROM sqlite_master")
    except sqlite3.OperationalError as error:
        connection.close()
        in_use = path.with_name(f"{path.name}-wal").exists()
        if error.sqlite_errorcode & 0xFF not in _NO_SHARED_MEMORY or in_use:
            raise
        return sqlite3.connect(f"{uri}?immutable=1", uri=True, timeout=_TIMEOUT_S)
    return connection


def _said(error: sqlite3.Error) -> str:
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
    return {
        sqlite3.SQLITE_ERROR: "this is an SQLite file, but not a watchdog's journal",
        sqlite3.SQLITE_NOTADB: "this is not an SQLite file, so not a journal",
        sqlite3.SQLITE_CORRUPT: "the journal is damaged or cut short",
        sqlite3.SQLITE_CANTOPEN: "the journal can't be opened; its folder must exist and be readable",
        sqlite3.SQLITE_BUSY: "another process holds the journal's lock",
    }.get(code, "the journal can't be read")


def _parsed(path: Path, seq: int, text: str) -> Mapping[str, Any]:
    try:
        data = json.loads(text)
    except ValueError as error:
        raise ReplayError(f"{path}: entry {seq} can't be read: {error}") from error
    if not isinstance(data, dict):
        raise ReplayError(f"{path}: entry {seq} can't be read: it is no object")
    return data


def _score(path: Path, seq: int, data: Mapping[str, Any]) -> tuple[Source, str, list[list[float]]]:
    """A reading's observations that came together, each of them with a value a slice."""
    source, reading, observations = data.get("source"), data.get("reading"), data.get("observations")
    if source not in list(Source) or not isinstance(reading, str):
        raise ReplayError(f"{path}: entry {seq} is a score of nothing that is known: {source!r}, {reading!r}")
    if not isinstance(observations, list) or not all(isinstance(each, list) for each in observations):
        raise ReplayError(f"{path}: entry {seq} is a score without a list of observations, each a list of numbers")
    return Source(source), reading, [[_number(path, seq, value) for value in each] for each in observations]


def _number(path: Path, seq: int, value: Any) -> float:
    if isinstance(value, str) and value in _WORDS:
        return _WORDS[value]
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ReplayError(f"{path}: entry {seq} is a score whose value is {str(value)[:80]!r}, not a number")
    return float(value)


def _mark(at: float, kind: str, data: Mapping[str, Any]) -> Mark | None:
    """What a person would want to see on the time axis: changes of state, and switches."""
    if kind == EntryKind.OUTCOME:
        done = "proven" if data.get("proven") else "applied, not proven" if data.get("applied") else "failed"
        return Mark(at=at, kind=str(kind), text=f"switch to {data.get('to')}: {done}")
    after = data.get("after")
    state = after.get("state") if isinstance(after, dict) else None
    if state == data.get("before"):
        return None
    return Mark(at=at, kind=str(kind), text=f"{data.get('before')} → {state}: {data.get('reason')}")
