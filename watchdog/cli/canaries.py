"""Making canaries, and looking at the ones there are."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from watchdog.cli import terminal

if TYPE_CHECKING:
    from watchdog.canaries.inspection import Inspection

app = typer.Typer(help="Make canaries, or inspect them.", no_args_is_help=True, rich_markup_mode=None)


@app.command()
def make(
    folder: Annotated[Path, typer.Argument(help="Where to write them; new or empty.")],
    seed: Annotated[int, typer.Option(help="The same seed gives the same bytes.")] = 0,
    size: Annotated[int, typer.Option(min=64, max=2048, help="Rows and columns.")] = 512,
) -> None:
    """Write a series of synthetic CT slices: a thorax with lungs, vessels and known nodules.

    Every file is valid CT Image Storage that was never a patient; truth.yaml says what is in it.
    """
    from watchdog.canaries.phantom import default_set, write_series  # noqa: PLC0415 - heavy

    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        terminal.fail(terminal.WRONG_CALL, f"{folder}: is not an empty folder")
    try:
        written = write_series(folder, default_set(seed, size), seed)
    except OSError as error:
        terminal.fail(terminal.WRONG_CALL, f"{folder}: can't be written: {error}")
    terminal.out().print(f"wrote {len(written)} slices and truth.yaml to {terminal.plain(str(folder))}")


@app.command()
def inspect(
    path: Annotated[Path, typer.Argument(help="A DICOM file, or a folder of them.")],
    allow: Annotated[list[str] | None, typer.Option(help="An identifying attribute that may stay; repeatable.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document instead of a table.")] = False,
) -> None:
    """Show what each file is, and why it can't be a canary if it can't. Exits with 1 if one can't."""
    from watchdog.canaries.inspection import inspect as look  # noqa: PLC0415 - heavy

    try:
        seen = look(path, allow or ())
    except ValueError as error:
        terminal.fail(terminal.WRONG_CALL, str(error))
    if as_json:
        terminal.print_json([one.to_json() for one in seen])
    else:
        _table(seen)
    raise typer.Exit(0 if all(one.usable for one in seen) else terminal.NOT_RIGHT)


def _table(seen: "list[Inspection]") -> None:
    from rich.table import Table  # noqa: PLC0415 - keeps `--help` quick

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("file", "", "modality", "size", "bits", "syntax", "maker", "kernel", "why not"):
        table.add_column(column)
    for one in seen:
        why = one.reason or (f"identifying: {', '.join(one.identifying)}" if one.identifying else "")
        frames = f"×{one.frames}" if one.frames > 1 else ""
        table.add_row(
            terminal.plain(one.source),
            "[green]ok[/]" if one.usable else "[bold red]no[/]",
            terminal.plain(one.modality),
            f"{one.columns}×{one.rows}{frames}" if one.rows else "",
            str(one.bits_stored or ""),
            one.syntax,
            terminal.plain(one.manufacturer),
            terminal.plain(one.kernel),
            terminal.plain(why),
        )
    terminal.out().print(table)
