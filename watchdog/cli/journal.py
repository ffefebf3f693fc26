"""Checking, exporting and reading a watchdog's journal, which may be in use meanwhile."""

import csv
import json
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from watchdog.cli import terminal
from watchdog.model.journal import EntryKind

if TYPE_CHECKING:
    from watchdog.journal.reading import Reader, Stored
    from watchdog.journal.verify import Verified

app = typer.Typer(help="Check, export or read a journal.", no_args_is_help=True, rich_markup_mode=None)

_STATE = Path("watchdog-state")
_FOLLOW_S = 0.5
_LONGEST = 160
_HASH = re.compile(r"[0-9a-fA-F]{64}")
_STYLES = {
    EntryKind.DECISION: "cyan",
    EntryKind.INTENT: "bold yellow",
    EntryKind.OUTCOME: "bold",
    EntryKind.COMMAND: "magenta",
    EntryKind.HOOK: "magenta",
    EntryKind.NOTICE: "blue",
    EntryKind.RETRACTED: "bold red",
}

State = Annotated[Path, typer.Argument(metavar="STATE", help="The watchdog's state folder, or a journal's file.")]


class Format(StrEnum):
    JSONL = "jsonl"
    CSV = "csv"


@app.command()
def verify(
    state: State = _STATE,
    head: Annotated[str | None, typer.Option(metavar="HASH", help="A head hash that was kept elsewhere.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="What was found as JSON.")] = False,
) -> None:
    """Compute every hash again: was an entry changed, removed or moved, and has each switch its outcome?

    Nothing is written. Keep the head hash that is shown in another place: only by it can be told later that entries
    were cut off the end, or that the whole history was written anew.

    Exits with 0 if all is right, 1 if it is not, 2 if there is no journal that can be read.
    """
    from watchdog.journal.verify import verify as check  # noqa: PLC0415 - keeps `--help` quick

    if head is not None and not _HASH.fullmatch(head):
        terminal.fail(terminal.WRONG_CALL, f"--head {head}: is not a hash; give the 64 digits that verify has shown")
    with _read(state) as reader, terminal.progress() as bar:
        first, last = reader.bounds()
        task = bar.add_task("verifying", total=last - first + 1)
        found = check(
            reader, None if head is None else bytes.fromhex(head), lambda seq: _advance(bar, task, seq - first + 1)
        )
    if as_json:
        terminal.print_json(_json(found))
    else:
        _tell(found)
    raise typer.Exit(0 if found.right else terminal.NOT_RIGHT)


@app.command()
def export(
    state: State = _STATE,
    *,
    since: Annotated[str | None, typer.Option(help="From when: RFC 3339, or how long ago, such as 24h.")] = None,
    until: Annotated[str | None, typer.Option(help="Before when: the same.")] = None,
    model: Annotated[str | None, typer.Option(help="Entries about this model alone.")] = None,
    kind: Annotated[list[EntryKind] | None, typer.Option(help="Entries of this kind alone; repeatable.")] = None,
    form: Annotated[Format, typer.Option("--format", help="JSON lines, or CSV.")] = Format.JSONL,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="A file, written whole or not at all.")] = None,
) -> None:
    """Write entries for other programs, oldest first, each with its hash."""
    from watchdog.journal.export import record  # noqa: PLC0415 - keeps `--help` quick

    begin, end = _moment("--since", since), _moment("--until", until)
    with _destination(state, output) as file, _read(state) as reader:
        write = _writer(file, form)
        for stored in reader.entries(kinds=[str(k) for k in kind or ()], model=model):
            if (begin is None or stored.link.at >= begin) and (end is None or stored.link.at < end):
                write(record(stored))


@app.command()
def tail(
    state: State = _STATE,
    lines: Annotated[int, typer.Option("-n", "--lines", min=0, help="How many of the newest entries.")] = 20,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on with those that come, until Ctrl-C.")] = False,
) -> None:
    """Show the newest entries, a line each."""
    with _read(state) as reader:
        shown = reader.bounds()[1]
        for stored in reader.newest(lines):
            terminal.out().print(_line(stored))
    try:
        while follow:
            time.sleep(_FOLLOW_S)
            for stored in _news(state, shown):
                terminal.out().print(_line(stored))
                shown = stored.link.seq
    except KeyboardInterrupt:
        raise typer.Exit(0) from None


def _news(state: Path, shown: int) -> "list[Stored]":
    from watchdog.journal.reading import opened  # noqa: PLC0415 - keeps `--help` quick

    try:
        with opened(state) as reader:
            return list(reader.entries(after=shown))
    except BlockingIOError:  # a watchdog has just begun to write it: the next look will be sure
        return []
    except OSError as error:
        _refuse(error)


@contextmanager
def _read(state: Path) -> Iterator["Reader"]:
    from watchdog.journal.reading import opened  # noqa: PLC0415 - keeps `--help` quick

    try:
        with opened(state) as reader:
            yield reader
    except OSError as error:
        _refuse(error)


def _refuse(error: OSError) -> NoReturn:
    if error.filename is None:  # not the journal's: what is written to has gone
        raise error
    terminal.fail(terminal.WRONG_CALL, f"{error.filename}: {error.strerror}")


def _advance(bar: Any, task: Any, done: int) -> None:
    if done % 1000 == 0:
        bar.update(task, completed=done)


def _json(found: "Verified") -> Mapping[str, Any]:
    misfit, switches = found.misfit, found.switches
    return {
        "right": found.right,
        "chained": found.chained,
        "entries": found.entries,
        "first": found.first,
        "forgotten": found.forgotten,
        "head": found.head.hex() if found.chained else None,
        "misfit": None if misfit is None else {"seq": misfit.seq, "how": misfit.how, "detail": misfit.detail},
        "open": switches.open,
        "interrupted": switches.interrupted,
        "unpaired": switches.unpaired,
    }


def _tell(found: "Verified") -> None:
    print_, plain, switches = terminal.out().print, terminal.plain, found.switches
    if not found.chained:
        print_("[bold red]no chain[/]: the file is of version 1; it gets hashes when this watchdog first opens it")
        return
    older = f"; those before {found.first} were compacted away, as recorded" if found.first > 1 else ""
    forgotten = f"; {found.forgotten:,} scores were forgotten, as recorded" if found.forgotten else ""
    print_(f"{found.entries:,} entries fit{older}{forgotten}")
    if found.misfit is not None:
        print_(f"[bold red]{found.misfit.how}[/] at entry {found.misfit.seq}: {plain(found.misfit.detail)}")
        return
    for sentence in switches.unpaired:
        print_(f"[bold red]unpaired[/]: {plain(sentence)}")
    for model, seq in switches.open.items():
        print_(f"[yellow]open[/]: entry {seq} is an intent of {plain(model)} that has no outcome yet")
    if switches.interrupted:
        numbers = ", ".join(map(str, switches.interrupted[:10]))
        print_(f"[yellow]interrupted[/]: intents that the watchdog's end cut short, and began anew: {numbers}")
    print_(f"head {found.head.hex()}")
    print_("[dim]keep it elsewhere, for --head: without it nobody can tell that the newest entries were cut off[/]")


def _moment(option: str, text: str | None) -> float | None:
    from watchdog.settings import parse_duration  # noqa: PLC0415 - heavy

    if text is None:
        return None
    try:
        return time.time() - float(parse_duration(text))
    except ValueError:
        pass
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        at = None
    if at is None or at.tzinfo is None:
        advice = "write RFC 3339 with its zone, such as 2025-03-01T12:00:00Z, or how long ago, such as 24h"
        terminal.fail(terminal.WRONG_CALL, f"{option} {text}: is no moment; {advice}")
    return at.timestamp()


@contextmanager
def _destination(state: Path, output: Path | None) -> Iterator[IO[str]]:
    """Standard output, or a file that takes its name once it is whole."""
    if output is None:
        yield sys.stdout
        return
    from watchdog.journal.reading import file_of  # noqa: PLC0415 - keeps `--help` quick

    journal = file_of(state).resolve()
    if output.resolve() in {journal.with_name(journal.name + end) for end in ("", "-wal", "-shm")}:
        terminal.fail(terminal.WRONG_CALL, f"-o {output}: is the journal itself; name another file")
    try:
        with tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", newline="", dir=output.parent, prefix=f".{output.name}.", delete=False
        ) as file:
            try:
                yield file
                file.close()
                Path(file.name).replace(output)
            except BaseException:
                Path(file.name).unlink(missing_ok=True)
                raise
    except OSError as error:
        terminal.fail(terminal.WRONG_CALL, f"-o {output}: can't be written: {error.strerror or error}")


def _writer(file: IO[str], form: Format) -> Callable[[Mapping[str, Any]], object]:
    from watchdog.journal.export import COLUMNS  # noqa: PLC0415 - keeps `--help` quick

    if form is Format.JSONL:
        return lambda record: file.write(json.dumps(record, separators=(",", ":")) + "\n")
    rows = csv.writer(file, lineterminator="\n")
    rows.writerow(COLUMNS)
    return lambda record: rows.writerow([_cell(record[column]) for column in COLUMNS])


def _cell(value: Any) -> Any:
    return json.dumps(value, separators=(",", ":")) if isinstance(value, dict | list) else value


def _line(stored: "Stored") -> str:
    from watchdog.journal.export import record  # noqa: PLC0415 - keeps `--help` quick
    from watchdog.transport import one_line  # noqa: PLC0415 - heavy

    said = record(stored)
    style = _STYLES.get(said["kind"], "default")
    when = said["at"] or f"{said['unix']:g}"
    words = one_line(f"{said['model']} {_sentence(said['data'])}", most=_LONGEST)
    kind = terminal.plain(one_line(said["kind"]))
    return f"[dim]{said['seq']:>6} {when}[/] [{style}]{kind:<9}[/] {terminal.plain(words)}"


def _sentence(data: Any) -> str:
    """The facts, but of a state only its name: the whole of it is in the export."""
    if data is None:
        return "(forgotten)"
    words = []
    for key, value in data.items() if isinstance(data, dict) else ():
        value_ = value["state"] if key == "after" and isinstance(value, dict) and "state" in value else value
        words.append(f"{key}={value_ if isinstance(value_, str) else json.dumps(value_, ensure_ascii=False)}")
    return " ".join(words)
