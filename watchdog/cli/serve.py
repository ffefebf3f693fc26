"""Running the service, and checking that it would run."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from watchdog.cli import terminal

ConfigPath = Annotated[Path, typer.Argument(metavar="CONFIG", help="The configuration file (YAML).")]


def run(
    config: ConfigPath,
    log_level: Annotated[str, typer.Option(help="debug shows every probe; info, warning and error less.")] = "info",
) -> None:
    """Watch: probe on a cadence, judge, alert, switch. Runs until SIGTERM; SIGHUP reloads CONFIG."""
    from watchdog import app  # noqa: PLC0415 - heavy
    from watchdog.config import ConfigError  # noqa: PLC0415
    from watchdog.telemetry import logs  # noqa: PLC0415

    if log_level not in ("debug", "info", "warning", "error"):
        terminal.fail(terminal.WRONG_CALL, f"--log-level {log_level}: allowed are debug, info, warning and error")
    logs.configure(log_level)
    try:
        asyncio.run(app.run(config, logs.log_listening))
    except ConfigError as error:
        terminal.fail(terminal.WRONG_CALL, "the configuration can't be used:", *error.problems)
    except app.StartError as error:
        terminal.fail(terminal.WRONG_CALL, *str(error).splitlines())


def check(
    config: ConfigPath,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document instead of a table.")] = False,
) -> None:
    """Try everything that CONFIG names, change nothing, and say what is not as it should be."""
    from watchdog.check import check as check_all  # noqa: PLC0415 - heavy
    from watchdog.config import ConfigError, read  # noqa: PLC0415

    try:
        settings = read(config)
    except ConfigError as error:
        terminal.fail(terminal.WRONG_CALL, "the configuration can't be used:", *error.problems)
    found = asyncio.run(check_all(settings))
    if as_json:
        terminal.print_json({"ok": all(i.ok for i in found), "checks": [i.to_json() for i in found]})
    else:
        from rich.table import Table  # noqa: PLC0415

        table = Table(box=None, pad_edge=False, show_header=False)
        for item in found:
            mark = "[green]ok[/]" if item.ok else "[bold red]WRONG[/]"
            table.add_row(mark, terminal.plain(item.what), terminal.plain(item.detail))
        terminal.out().print(table)
    raise typer.Exit(0 if all(i.ok for i in found) else terminal.NOT_RIGHT)


def schema() -> None:
    """Print the JSON Schema of the configuration, so that an editor completes and checks it."""
    from watchdog.config import json_schema  # noqa: PLC0415 - heavy

    terminal.print_json(json_schema())
