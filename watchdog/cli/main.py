"""The command `watchdog`."""

from typing import Annotated

import typer

from watchdog import __version__
from watchdog.cli import canaries, demonstrate, gate, grafana, journal, look, remote, replay, serve

app = typer.Typer(
    name="watchdog",
    help=(
        "Notices when a medical-imaging inference engine goes quietly wrong, and moves traffic to the one that is "
        "right.\n\nIt sends canary DICOM images through Triton (or any Open Inference Protocol server), holds the "
        "answers against golden ones, raises alerts, and switches from the fast engine to the safe one, proven "
        "before and after."
    ),
    epilog="Start with `watchdog demo`, or with `watchdog check CONFIG` on a configuration of your own.",
    no_args_is_help=True,
    rich_markup_mode=None,
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"inference-watchdog {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    _: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")] = False,
) -> None: ...


app.command()(serve.run)
app.command()(serve.check)
app.command()(serve.schema)
app.command()(look.probe)
app.command()(look.baseline)
app.command()(replay.replay)
app.command()(remote.status)
app.command()(remote.rollback)
app.command()(remote.promote)
app.command()(remote.hold)
app.command()(remote.release)
app.command()(remote.look)
app.command()(gate.gate)
app.add_typer(canaries.app, name="canaries")
app.add_typer(journal.app, name="journal")
app.add_typer(grafana.app, name="grafana")
app.command()(demonstrate.demo)
