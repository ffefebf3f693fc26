"""Writing for people on a terminal, for scripts as JSON, and leaving with the right code."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any, NoReturn

import typer

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

_NO_LIMIT = 10_000
NOT_RIGHT, WRONG_CALL, UNREACHABLE = 1, 2, 3


@cache
def out() -> "Console":
    """Standard output; colours only on a terminal, and lines as long as they are for anything else."""
    from rich.console import Console  # noqa: PLC0415 - keeps `--help` quick

    return Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else _NO_LIMIT)


@cache
def err() -> "Console":
    from rich.console import Console  # noqa: PLC0415

    return Console(stderr=True, highlight=False, soft_wrap=True)


def fail(code: int, *lines: str) -> NoReturn:
    """Say what is wrong on standard error and leave."""
    for i, line in enumerate(lines):
        err().print(f"[bold red]watchdog:[/] {plain(line)}" if i == 0 else f"  {plain(line)}")
    raise typer.Exit(code)


def print_json(data: Any) -> None:
    """One document on standard output, for scripts."""
    typer.echo(json.dumps(data, indent=2, allow_nan=False, default=str))


@contextmanager
def progress() -> Iterator["Progress"]:
    """Progress bars on standard error; silent where that is no terminal."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn  # noqa: PLC0415

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=err(), transient=True, disable=not err().is_terminal) as bar:
        yield bar


def plain(text: str) -> str:
    """What others wrote, to be shown as it is: square brackets are not for colours in there."""
    from rich.markup import escape  # noqa: PLC0415

    return escape(text)


VERDICT_STYLE = {"healthy": "green", "suspect": "yellow", "failed": "bold red", "inconclusive": "magenta"}


def styled(verdict: str) -> str:
    """A verdict in its colour."""
    return f"[{VERDICT_STYLE.get(verdict, 'default')}]{verdict}[/]"
