"""The demonstration."""

from pathlib import Path
from typing import Annotated

import typer

from watchdog.cli import terminal


def demo(
    fault: Annotated[str, typer.Option(help="What goes wrong; `--fault list` shows them all.")] = "nan",
    as_json: Annotated[
        bool, typer.Option("--json", help="End with one JSON object on standard output; the story goes to the other.")
    ] = False,
    folder: Annotated[Path | None, typer.Option(help="Keep everything in this new folder; else it is removed.")] = None,
    stay: Annotated[bool, typer.Option("--stay", help="Go on afterwards, to look around, until Ctrl-C.")] = False,
) -> None:
    """Run the whole job on real parts: a real Triton, a real fault, a real alert, a proven switch.

    Starts Triton with a nodule detector in FP32 and FP16, captures a baseline from phantoms, runs
    the watchdog while ordinary traffic flows, makes the fault happen, and shows what follows.
    Needs `pip install 'inference-watchdog[demo]'`. Exits with 0 only if the outcome is the right one.
    """
    try:
        from watchdog.demo import faults, stage  # noqa: PLC0415 - heavy
    except ModuleNotFoundError as error:
        install = "take a checkout's `make demo`, or pip install 'inference-watchdog[demo]'"
        terminal.fail(terminal.UNREACHABLE, f"the demo needs {error.name}, which is not installed: {install}")

    if fault == "list":
        for one in faults.FAULTS.values():
            terminal.out().print(f"[bold]{one.name:14}[/] {one.description}")
        return
    if fault not in faults.FAULTS:
        terminal.fail(terminal.WRONG_CALL, f"--fault {fault}: there are {', '.join(faults.FAULTS)}")
    try:
        outcome = stage.play(fault, terminal.err() if as_json else terminal.out(), folder=folder, stay=stay)
    except stage.StageError as error:
        terminal.fail(terminal.UNREACHABLE, *str(error).splitlines())
    if as_json:
        terminal.print_json(outcome.to_json())
    if not outcome.right:
        terminal.fail(terminal.NOT_RIGHT, "the outcome is not the right one:", *outcome.complaints)
