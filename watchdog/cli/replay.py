"""What detectors would have said about a recorded stream."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from watchdog.cli import terminal
from watchdog.cli.look import pick

if TYPE_CHECKING:
    from rich.table import Table

    from watchdog.config import ModelSettings
    from watchdog.replay.outcome import Described, Replay, Replayed, Watched
    from watchdog.replay.recording import Mark, Recording, Series
    from watchdog.replay.run import Plan

_FORMATS = (".svg", ".png", ".pdf")
_PLAIN_COLUMNS, _LEAST_COLUMNS, _ROWS = 80, 20, 2
_MARKS = 12
"""So many of the watchdog's own decisions are listed."""
_LABEL = 10
"""Characters before a plot's first block."""
_LEGEND = (
    "promise: false alarms in so many observations on average, of all readings together; P: the chance of one here\n"
    "sees from: the smallest divergence from this reference that can be noticed"
)
_CHANGE_LEGEND = "\nafter the change: observations to the first alarm; before it: alarms that were false"


class LinkName(StrEnum):
    LOGIT = "logit"
    LOG = "log"
    IDENTITY = "identity"


def replay(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="CSV (also .gz), Parquet, or a journal.sqlite.")],
    *,
    reading: Annotated[
        list[str] | None, typer.Option(help="A column (or SOURCE/READING of a journal); repeatable. All if left out.")
    ] = None,
    reference: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="So many observations at the beginning are the healthy reference. "
            "If left out: 10,000, or half of the file if that is less.",
        ),
    ] = None,
    reference_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="All of this file is the reference, and all of FILE the stream.")
    ] = None,
    false_alarms: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TEXT",
            help="A setting to compare, such as '1 per year', or '1 per year at 2/min' if the file's own rate is not "
            "the usual one; repeatable. If left out: 1 per year, per month, per week.",
        ),
    ] = None,
    link: Annotated[
        LinkName | None,
        typer.Option(
            help="What readings are: logit for confidences, log for times and volumes, identity for differences. "
            "Guessed from the reference if left out."
        ),
    ] = None,
    changed_at: Annotated[
        str | None,
        typer.Option(
            metavar="TIME|INDEX",
            help="When the stream is known to have changed: ISO 8601, unix seconds, or an observation's number from 0.",
        ),
    ] = None,
    plot: Annotated[Path | None, typer.Option(metavar="OUT", help="Write a figure: .svg, .png or .pdf.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document instead of tables.")] = False,
    config: Annotated[
        Path | None, typer.Option(metavar="CONFIG", help="Take the setting from this configuration's drift section.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(metavar="NAME", help="Whose settings, and whose observations in FILE.")
    ] = None,
) -> None:
    """Run recorded observations through drift detectors: when would each have alarmed, and at what price?

    Last month's data choose next month's setting. The beginning of FILE is the healthy reference; the rest is
    the stream. For each setting it shows the first alarm, what it said, how long after the change it came
    (--changed-at), and how many alarms there were in all, restarted after each. Customary practices run beside
    them; they promise nothing.

    \b
    FILE's columns (CSV, Parquet):
      at       ISO 8601 or unix seconds; may be missing
      study    rows of one study that follow one another are one observation; may be missing
      model    whose row it is, chosen with --model; may be missing
      others   each column of numbers is a reading

    Empty cells, NaN, infinities and what is out of range are no errors: they are counted, as the running
    watchdog counts them. From a journal come the observations that a watchdog judged while `record: true` was set
    in the model's drift settings; it may go on running. Parquet and --plot need
    `pip install 'inference-watchdog[replay]'`.

    \b
    Examples:
      watchdog replay march.csv
      watchdog replay march.csv --reading nodule --changed-at 2025-03-18T09:00Z --plot march.svg
      watchdog replay march.parquet --reference-file february.parquet --false-alarms '0.2 per year' --json
      watchdog replay watchdog-state/journal.sqlite --config watchdog.yaml --model nodule

    Exits with 0 if no setting alarmed, 1 if one did or if there is nothing to replay, 2 if call or file are wrong.
    """  # noqa: D301 - \b is for the help's layout
    _refuse(reference, reference_file, plot)
    chosen = tuple(reading or ())
    section = None if config is None else _section(_configured(config, model), chosen)
    with _explained():
        plan = _plan(section, reference, tuple(false_alarms or ()), link=link, changed_at=changed_at)
        done = _replay(
            file, reference_file, chosen, plan, model=model if section is None else section.model, section=section
        )
        if plot is not None:
            from watchdog.replay.figure import draw  # noqa: PLC0415 - heavy

            draw(done, plot)
    if as_json:
        terminal.print_json(done.to_json())
    else:
        _show(done)
    raise typer.Exit(terminal.NOT_RIGHT if done.alarmed else 0)


def _refuse(reference: int | None, reference_file: Path | None, plot: Path | None) -> None:
    """What is wrong by itself, before any work is done."""
    if reference is not None and reference_file is not None:
        terminal.fail(terminal.WRONG_CALL, "--reference and --reference-file are two references; give one of them")
    if plot is not None and plot.suffix not in _FORMATS:
        terminal.fail(terminal.WRONG_CALL, f"--plot {plot}: its name must end with one of {', '.join(_FORMATS)}")
    if plot is not None and not plot.parent.is_dir():
        terminal.fail(terminal.WRONG_CALL, f"--plot {plot}: there is no folder {plot.parent}")


@contextmanager
def _explained() -> Iterator[None]:
    """What can be wrong with files and plan, as a message and an exit code."""
    from watchdog.replay.recording import NothingToReplayError, ReplayError  # noqa: PLC0415 - heavy

    try:
        yield
    except ReplayError as error:
        terminal.fail(terminal.WRONG_CALL, *str(error).splitlines())
    except NothingToReplayError as error:
        terminal.fail(terminal.NOT_RIGHT, "there is nothing to replay:", *str(error).splitlines())


def _configured(path: Path, name: str | None) -> "ModelSettings":
    from watchdog.config import ConfigError, read  # noqa: PLC0415 - heavy

    try:
        settings = read(path)
    except ConfigError as error:
        terminal.fail(terminal.WRONG_CALL, "the configuration can't be used:", *error.problems)
    return pick(settings, name)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Section:
    """What a configuration says about one of a model's detectors."""

    model: str
    source: str
    """``live`` or ``shadow``, as in the journal."""
    readings: tuple[str, ...]
    """Empty for all."""
    false_alarms: str
    reference: int


def _section(settings: "ModelSettings", readings: Sequence[str]) -> _Section:
    """The settings for live answers; for shadow pairs, where nothing but those is asked for."""
    shadow = bool(readings) and all(name.startswith("shadow/") for name in readings)
    of = settings.drift.shadow if shadow else settings.drift.live
    source = "shadow" if shadow else "live"
    if of is None:
        terminal.fail(terminal.WRONG_CALL, f"{settings.name} has no `{source}:` in its `drift:` section")
    return _Section(
        model=settings.name,
        source=source,
        readings=tuple(getattr(of, "readings", ())),
        false_alarms=of.false_alarms,
        reference=of.reference,
    )


def _plan(
    section: _Section | None,
    reference: int | None,
    false_alarms: Sequence[str],
    *,
    link: LinkName | None,
    changed_at: str | None,
) -> "Plan":
    """What to compare; what the call says goes before what the configuration says."""
    from watchdog.drift.links import Link  # noqa: PLC0415 - heavy
    from watchdog.drift.promise import parse  # noqa: PLC0415
    from watchdog.replay.run import CUSTOMARY, Plan  # noqa: PLC0415

    for text in false_alarms:
        try:
            parse(text, rate_per_s=1e9)
        except ValueError as error:
            terminal.fail(terminal.WRONG_CALL, f"--false-alarms: {error}")
    if section is not None:
        false_alarms = (section.false_alarms, *false_alarms)
        reference = reference or section.reference
    return Plan(
        false_alarms=tuple(dict.fromkeys(false_alarms)) or CUSTOMARY,
        lenient=not false_alarms,
        reference=reference,
        link=None if link is None else Link(link),
        changed_at=changed_at,
    )


def _replay(
    file: Path,
    reference_file: Path | None,
    readings: Sequence[str],
    plan: "Plan",
    *,
    model: str | None,
    section: _Section | None,
) -> "Replay":
    from watchdog.replay import run  # noqa: PLC0415 - heavy

    if section is not None:
        readings = readings or section.readings
    with terminal.progress() as bar:
        recording = _read(bar, file, readings, model)
        if section is not None:
            recording = recording.of_source(section.source)
        healthy = None if reference_file is None else _read(bar, reference_file, (), model)
        total = run.work(recording, plan, has_reference=healthy is not None)
        task = bar.add_task("replaying", total=total)
        return run.replay(recording, plan, reference=healthy, tick=lambda count: bar.advance(task, count))


def _read(bar: Any, file: Path, readings: Sequence[str], model: str | None) -> "Recording":
    from watchdog.replay.files import read  # noqa: PLC0415 - heavy

    task = bar.add_task(f"reading {file.name}", total=None)
    recording = read(file, readings=readings, model=model, report=lambda rows: bar.update(task, completed=rows))
    bar.remove_task(task)
    return recording


# -- what people see ---------------------------------------------------------------------------


def _show(replay: "Replay") -> None:
    print_, plain = terminal.out().print, terminal.plain
    print_(f"[bold]{plain(replay.source)}[/]")
    for note in replay.notes:
        print_(f"  note: {plain(note)}")
    for name, why in replay.refused.items():
        print_(f"  [yellow]not replayed[/] {plain(f'{name}: {why}')}")
    _show_marks(replay.marks)
    for reading in replay.readings:
        print_()
        _show_reading(reading)


def _show_marks(marks: "Sequence[Mark]") -> None:
    for mark in marks[:_MARKS]:
        terminal.out().print(f"  {mark.kind} {_when(mark.at)}: {terminal.plain(mark.text)}")
    if len(marks) > _MARKS:
        terminal.out().print(f"  and {len(marks) - _MARKS:,} more, which --json and --plot show")


def _show_reading(reading: "Replayed") -> None:
    print_, plain = terminal.out().print, terminal.plain
    guessed = ", guessed: --link says otherwise" if reading.guessed else ""
    print_(f"[bold]{plain(reading.reading)}[/] ({reading.link}{guessed})")
    print_(f"  {_span(reading.series)}")
    print_(f"  reference: {_reference(reading)}")
    print_(f"  stream: {reading.observations:,} from observation {reading.first:,} on{_unusable(reading)}")
    if reading.changed_at is not None:
        print_(f"  changed at observation {_place(reading.series, reading.changed_at)}")
    for note in reading.notes:
        print_(f"  note: {plain(note)}")
    print_()
    print_(_table(reading), soft_wrap=False)
    print_(f"[dim]{_LEGEND}{_CHANGE_LEGEND if reading.changed_at is not None else ''}[/]")
    if reading.described is not None:
        print_(f"\n{plain(_description(reading.described))}")
    for one in reading.settings:
        _plot(reading, one)


def _span(series: "Series") -> str:
    text = f"{len(series):,} observations"
    begin, end = series.time(0), series.time(len(series) - 1)
    if begin is None or end is None:
        return text
    text += f", {_when(begin)} to {_when(end)}"
    return text if series.rate_per_s is None else f"{text}, one every {1 / series.rate_per_s:.3g} s on average"


def _when(seconds: float) -> str:
    from watchdog.replay.recording import spell_time  # noqa: PLC0415 - heavy

    return spell_time(seconds)


def _place(series: "Series", index: int) -> str:
    at = series.time(index)
    return f"{index:,}" if at is None else f"{index:,} ({_when(at)})"


def _reference(reading: "Replayed") -> str:
    where = f"the first {reading.first:,}" if reading.first else "the other file"
    text = f"{len(reading.reference):,} usable observations of {where}"
    return f"{text}; left out: {_counted(reading.left_out)}" if reading.left_out else text


def _unusable(reading: "Replayed") -> str:
    found = next((one.unusable for one in reading.settings if one.unusable), None)
    return f"; unusable: {_counted(found)}" if found else ""


def _counted(counts: Any) -> str:
    return ", ".join(f"{count:,} {reason}" for reason, count in counts.items())


def _table(reading: "Replayed") -> "Table":
    from rich.table import Table  # noqa: PLC0415 - keeps `--help` quick

    changed = reading.changed_at is not None
    table = Table(box=None, pad_edge=False, header_style="bold")
    columns = ["setting", "promise", "sees from", "first alarm"]
    columns += ["after the change", "before it"] if changed else []
    for column in (*columns, "alarms in all", "what it said"):
        table.add_column(column)
    for one in (*reading.settings, *reading.practices):
        table.add_row(*map(terminal.plain, _row(reading, one, changed=changed)))
    return table


def _row(reading: "Replayed", one: "Watched", *, changed: bool) -> list[str]:
    sees = "" if one.smallest_divergence is None else f"{one.smallest_divergence:.2g} nats"
    cells = [one.name, _promise(reading, one), sees]
    if one.refused:
        return [*cells, "not run", *(["", ""] if changed else []), "", one.refused]
    cells.append(_place(reading.series, int(one.places[0])) if len(one.places) else "none")
    if changed:
        cells += ["never" if one.delay is None else f"{one.delay:,}", f"{one.before_change:,}"]
    return [*cells, f"{len(one.places):,}", _sentence(reading, one)]


def _promise(reading: "Replayed", one: "Watched") -> str:
    if one.promise is None:
        return "no promise"
    chance = one.promise.false_alarm_probability(reading.observations)
    return f"≤ 1 in {one.promise.run_length:,.0f}; here P ≤ {chance:.2g}"


def _sentence(reading: "Replayed", one: "Watched") -> str:
    alarm = reading.telling(one)
    return "" if alarm is None else f"{alarm.sentence}; began at about {_place(reading.series, alarm.began)}"


def _description(found: "Described") -> str:
    """How far the end lies from the beginning; it is no alarm, whatever the numbers are."""
    psi = "none" if found.psi is None else f"{found.psi:.3g}"
    bits = "none" if found.jensen_shannon_bits is None else f"{found.jensen_shannon_bits:.3g} bits"
    return (
        f"descriptive, no limit is right for it: the last {found.last:,} against the reference: PSI {psi}, "
        f"Jensen–Shannon {bits}, KS {found.ks:.3g} (p {found.ks_p:.2g}), Wasserstein {found.wasserstein:.3g}"
    )


def _plot(reading: "Replayed", one: "Watched") -> None:
    """The statistic over the stream, in blocks as wide as the terminal."""
    if one.threshold is None or not one.statistics.size:
        return
    from watchdog.replay import sparkline  # noqa: PLC0415 - heavy

    console = terminal.out()
    columns = (console.width if console.is_terminal else _PLAIN_COLUMNS) - _LABEL
    columns = max(min(columns, one.statistics.size), _LEAST_COLUMNS)
    blocks = sparkline.bars(one.statistics, one.threshold, columns=columns, rows=_ROWS)
    labels = [f"{one.threshold:.2g}", *[""] * (_ROWS - 2), "1"]
    changed = None if reading.changed_at is None else reading.changed_at - reading.first
    places = (one.places - reading.first).tolist()
    marks = sparkline.marks(places, one.statistics.size, columns=columns, changed=changed)
    lines = [f"{label:>{_LABEL - 2}} ┤{line}" for label, line in zip(labels, blocks, strict=True)]
    if marks.strip():
        lines.append(f"{'':{_LABEL}}{marks}")
    legend = "the statistic up to its threshold, on a logarithmic scale; ▲ alarms" + (
        "; │ the change" if changed else ""
    )
    console.print(terminal.plain(f"\n{one.name}: {legend}"))
    for line in lines:
        console.print(terminal.plain(line.rstrip()), highlight=False)
