"""Putting what is shipped for Grafana into one."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from watchdog.cli import terminal

if TYPE_CHECKING:
    from watchdog.grafana import Applied, Grafana

app = typer.Typer(help="Put dashboards and alert rules into a Grafana.", no_args_is_help=True, rich_markup_mode=None)

_STYLES = {"created": "green", "changed": "yellow", "unchanged": "dim"}
_DIFF_STYLES = {"+": "green", "-": "red", "@": "cyan"}


@app.callback()
def _root() -> None: ...  # else typer would make a single command of the group


@app.command()
def apply(
    url: Annotated[str, typer.Option(envvar="GRAFANA_URL", help="The Grafana, such as https://grafana.example.org.")],
    token_file: Annotated[
        Path,
        typer.Option(
            envvar="GRAFANA_TOKEN_FILE",
            help="The file that holds a service account's token; its role is Editor, or Admin for --prometheus-url.",
        ),
    ],
    *,
    folder: Annotated[str, typer.Option(help="The folder's title; it is made where there is none.")] = (
        "Inference watchdog"
    ),
    prometheus_url: Annotated[
        str, typer.Option(help="Make a data source of this Prometheus, as Grafana itself reaches it.")
    ] = "",
    datasource: Annotated[str, typer.Option(help="Use the data source of this name, which is there.")] = "",
    alerts: Annotated[
        bool, typer.Option("--alerts", help="Have Grafana evaluate the alert rules, where Prometheus can't.")
    ] = False,
    runbooks: Annotated[str, typer.Option(help="Where the alerts' runbooks are: URL/<alert>.")] = "",
    ca: Annotated[Path | None, typer.Option(help="PEM file of the authorities to trust.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Take dashboards back from another folder.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Change nothing; show what would change.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="What became of each object as JSON.")] = False,
) -> None:
    """Put folder, data source, dashboards and alert rules into a Grafana; only what differs is written.

    What Grafana itself adds does not count, and what others keep in the folder stays. A dashboard that was edited on
    the page is set back to the shipped one; its history in Grafana has the edit.

    Exits with 0 if all is there, 1 if --dry-run would change something, 2 if the call is wrong, 3 if Grafana can't be
    reached or refuses.
    """
    from watchdog.grafana import Change, GrafanaError, Wanted  # noqa: PLC0415 - keeps `--help` quick
    from watchdog.grafana import apply as put  # noqa: PLC0415

    if prometheus_url and datasource:
        terminal.fail(
            terminal.WRONG_CALL, "--prometheus-url makes a data source, --datasource names one: give one of them"
        )
    wanted = Wanted(
        folder=folder,
        prometheus_url=prometheus_url and _checked("--prometheus-url", prometheus_url),
        datasource=datasource,
        alerts=alerts,
        runbooks=runbooks and _checked("--runbooks", runbooks),
        force=force,
    )
    done: list[Applied] = []
    trouble = ""
    try:
        for each in put(_grafana(url, token_file, ca), wanted, dry_run=dry_run):
            done.append(each)
            if not as_json:
                _tell(each, dry_run=dry_run)
    except (GrafanaError, FileNotFoundError) as error:
        trouble = str(error)
    if as_json:  # what was done before a refusal, too
        terminal.print_json([_json(each) for each in done])
    if trouble:
        terminal.fail(terminal.UNREACHABLE, trouble)
    differs = any(each.change is not Change.UNCHANGED for each in done)
    raise typer.Exit(terminal.NOT_RIGHT if dry_run and differs else 0)


def _grafana(url: str, token_file: Path, ca: Path | None) -> "Grafana":
    from watchdog.grafana import Grafana  # noqa: PLC0415 - keeps `--help` quick
    from watchdog.settings import Secret  # noqa: PLC0415

    try:
        token = Secret(file=token_file).read()
    except ValueError as error:
        terminal.fail(terminal.WRONG_CALL, f"--token-file: {error}")
    if not (token.isascii() and token.isprintable()):  # the client library's own error would show it
        terminal.fail(terminal.WRONG_CALL, f"--token-file: {token_file} must hold one line of printable ASCII")
    if ca is not None and not ca.is_file():
        terminal.fail(terminal.WRONG_CALL, f"--ca: there is no file {ca}")
    return Grafana(_checked("--url", url), token, ca=ca)


def _checked(option: str, url: str) -> str:
    from pydantic import TypeAdapter, ValidationError  # noqa: PLC0415 - heavy

    from watchdog.settings import Url, complaint  # noqa: PLC0415

    try:
        return TypeAdapter[str](Url).validate_python(url)
    except ValidationError as error:
        terminal.fail(terminal.WRONG_CALL, f"{option}: {complaint(error.errors(include_url=False)[0])}")


def _tell(applied: "Applied", *, dry_run: bool) -> None:
    would = "would be " if dry_run and applied.change != "unchanged" else ""
    said = f"[{_STYLES[applied.change]}]{would}{applied.change}[/]"
    terminal.out().print(f"{said}  {applied.kind}  {terminal.plain(applied.name)}")
    for line in applied.diff if dry_run else ():
        terminal.out().print(f"[{_DIFF_STYLES.get(line[:1], 'default')}]{terminal.plain(line)}[/]")


def _json(applied: "Applied") -> dict[str, object]:
    return {"kind": applied.kind, "name": applied.name, "change": applied.change, "diff": list(applied.diff)}
