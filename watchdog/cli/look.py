"""One probe with its whole story, and the capture of a baseline."""

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from watchdog.cli import terminal
from watchdog.cli.serve import ConfigPath

if TYPE_CHECKING:
    from watchdog.capture import Captured
    from watchdog.cli.probing import Limits
    from watchdog.config import Config, ModelSettings
    from watchdog.model.canary import Canary
    from watchdog.model.verdict import Assessment


class Which(StrEnum):
    PUBLIC = "public"
    FAST = "fast"
    SAFE = "safe"


ModelName = Annotated[str | None, typer.Option("--model", help="Which model; may be left out if there is only one.")]


def probe(
    config: ConfigPath,
    model: ModelName = None,
    *,
    engine: Annotated[
        Which, typer.Option(help="The public name, as patients' images take it, or one engine by its version.")
    ] = Which.PUBLIC,
    canary: Annotated[str | None, typer.Option(help="Which canary, by its id; the first if left out.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Every canary once, as a table, the worst first.")] = False,
    watch: Annotated[
        bool, typer.Option("--watch", help="Go on, one canary and one line a second, until Ctrl-C.")
    ] = False,
    picture: Annotated[
        bool,
        typer.Option("--picture", help="Draw what went in, what should have come out, what did, and how they differ."),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="The whole story as JSON.")] = False,
) -> None:
    """Send one canary, and show all of it: who answered, how long it took, every score and limit.

    Exits with 0 if the answer is right, 1 if it is wrong or slow, 3 if there is none; of several (--all, --watch) with
    1 if one was wrong or slow, else 3 if one was missing.
    """
    from watchdog.telemetry.board import assessment_json  # noqa: PLC0415 - heavy

    _refuse_together(canary=canary is not None, every=every, watch=watch, picture=picture, as_json=as_json)
    with _explained():
        settings = _read(config)
        one = pick(settings, model)
        if every:
            raise typer.Exit(asyncio.run(_probe_all(settings, one, engine, as_json=as_json)))
        if watch:
            raise typer.Exit(_probe_again(settings, one, engine, canary))
        assessment, limits = asyncio.run(_probe(settings, one, engine, canary, draw=picture))
    if as_json:
        terminal.print_json(assessment_json(assessment))
    elif not picture:
        _tell(assessment, limits)
    raise typer.Exit({"healthy": 0, "inconclusive": terminal.UNREACHABLE}.get(assessment.verdict, terminal.NOT_RIGHT))


def _refuse_together(*, canary: bool, every: bool, watch: bool, picture: bool, as_json: bool) -> None:
    """Options that mean something only without one another."""
    if every and (watch or picture or canary):
        terminal.fail(terminal.WRONG_CALL, "--all asks every canary once: leave out --watch, --picture and --canary")
    if (watch or picture) and as_json:
        terminal.fail(terminal.WRONG_CALL, "--json shows one probe or --all: leave out --watch and --picture")
    if watch and picture:
        terminal.fail(terminal.WRONG_CALL, "--picture draws one answer: leave out --watch")


def baseline(
    config: ConfigPath,
    model: ModelName = None,
    repeats: Annotated[
        int,
        typer.Option(
            min=3, max=1000, help="Times each canary is sent to each engine; more of them let smaller drift be seen."
        ),
    ] = 5,
    as_json: Annotated[bool, typer.Option("--json", help="A summary as JSON.")] = False,
) -> None:
    """Capture the golden answers from the safe engine, and both engines' habits.

    Do it while the engines are known to be good and the server is about as busy as usual. An older
    baseline is replaced as a whole or not at all.
    """
    with _explained():
        settings = _read(config)
        summaries = []
        for one in settings.models if model is None else [pick(settings, model)]:
            captured = asyncio.run(_capture(settings, one, repeats))
            summaries.append(_summary(captured, one.baseline))
            if not as_json:
                _tell_captured(captured, one.baseline)
    if as_json:
        terminal.print_json(summaries)


@contextmanager
def _explained() -> Iterator[None]:
    """What can be wrong with files, configuration and servers, as a message and an exit code."""
    from watchdog.assembly import AssemblyError  # noqa: PLC0415 - heavy
    from watchdog.baselines.store import BaselineError  # noqa: PLC0415
    from watchdog.capture import CaptureError  # noqa: PLC0415
    from watchdog.config import ConfigError  # noqa: PLC0415

    try:
        yield
    except ConfigError as error:
        terminal.fail(terminal.WRONG_CALL, "the configuration can't be used:", *error.problems)
    except AssemblyError as error:
        terminal.fail(terminal.WRONG_CALL, *error.problems)
    except BaselineError as error:
        terminal.fail(terminal.WRONG_CALL, str(error))
    except CaptureError as error:
        terminal.fail(terminal.NOT_RIGHT, f"no baseline was captured: {error}")


def _read(path: Path) -> "Config":
    from watchdog.config import read  # noqa: PLC0415 - heavy

    return read(path)


def pick(settings: "Config", name: str | None) -> "ModelSettings":
    """The named model, or the only one; leaves with a message where there is none such."""
    names = ", ".join(m.name for m in settings.models)
    if name is None and len(settings.models) > 1:
        terminal.fail(terminal.WRONG_CALL, f"the configuration has several models; name one with --model: {names}")
    found = next((m for m in settings.models if name in (None, m.name)), None)
    if found is None:
        terminal.fail(terminal.WRONG_CALL, f"--model {name}: the configuration has {names}")
    return found


async def _probe(
    settings: "Config", model: "ModelSettings", which: Which, wanted: str | None, *, draw: bool
) -> tuple["Assessment", "Limits"]:
    from watchdog.cli import canvas, probing  # noqa: PLC0415 - heavy

    async with probing.asking(settings, model, which) as subject:
        canary = _chosen(subject.canaries, wanted)[0]
        assessment, limits = await subject.ask(canary)
        if draw:
            _tell(assessment, limits)
            canvas.show(assessment, canary, subject.baseline)
        return assessment, limits


def _chosen(canaries: Sequence["Canary"], wanted: str | None) -> Sequence["Canary"]:
    found = [canary for canary in canaries if wanted in (None, canary.id)]
    if not found:
        terminal.fail(terminal.WRONG_CALL, f"--canary {wanted}: there are {', '.join(c.id for c in canaries)}")
    return found


async def _probe_all(settings: "Config", model: "ModelSettings", which: Which, *, as_json: bool) -> int:
    from watchdog.cli import probing  # noqa: PLC0415 - heavy
    from watchdog.telemetry.board import assessment_json  # noqa: PLC0415

    tally = probing.Tally()
    async with probing.asking(settings, model, which) as subject:
        found = await probing.each(subject, tally)
    if as_json:
        terminal.print_json([assessment_json(assessment) for assessment, _ in found])
    else:
        probing.show_each(found)
        terminal.out().print(str(tally))
    return tally.code


def _probe_again(settings: "Config", model: "ModelSettings", which: Which, wanted: str | None) -> int:
    """Until Ctrl-C."""
    from watchdog.cli import probing  # noqa: PLC0415 - heavy

    tally = probing.Tally()

    async def work() -> None:
        async with probing.asking(settings, model, which) as subject:
            await probing.repeat(subject, _chosen(subject.canaries, wanted), tally)

    try:
        asyncio.run(work())
    except KeyboardInterrupt:
        terminal.out().print(str(tally))
    return tally.code


async def _capture(settings: "Config", model: "ModelSettings", repeats: int) -> "Captured":
    from watchdog.assembly import keep_time, load_inputs, make_prober, open_endpoints, surround  # noqa: PLC0415 - heavy
    from watchdog.baselines import store  # noqa: PLC0415
    from watchdog.capture import capture  # noqa: PLC0415

    async with AsyncExitStack() as stack:
        with _reading(model.name) as report:
            inputs = load_inputs(model, report)
        for refused in inputs.canaries.refused:
            terminal.err().print(f"[yellow]left out[/] {terminal.plain(f'{refused.source}: {refused.reason}')}")
        probes = repeats * len(inputs.canaries.canaries)
        timekeeper = await stack.enter_async_context(keep_time(settings.traces, remember=2 * probes))
        prober = make_prober(model, inputs, None, surround(open_endpoints(settings, stack), timekeeper))
        with terminal.progress() as bar:
            tasks: dict[str, Any] = {}

            def report_probe(role: str, done: int, total: int) -> None:
                if role not in tasks:
                    tasks[role] = bar.add_task(f"{model.name}: {role} engine", total=total)
                bar.update(tasks[role], completed=done)

            captured = await capture(
                prober,
                inputs.canaries.canaries,
                recipe_sha256=inputs.recipe_sha256,
                repeats=repeats,
                clock=time.time,
                progress=report_probe,
            )
        store.write(model.baseline, captured.baseline)
        if (settings.traces or model.device_output) and not captured.knows_device_times:
            why = "no trace came" if timekeeper.listening else "another watchdog has the traces' address: stop it first"
            missing = f"no device times are in the baseline ({why}), so only the total time is watched for jumps"
            captured = replace(captured, warnings=(*captured.warnings, missing))
        return captured


@contextmanager
def _reading(model: str) -> Iterator[Callable[[int, int], None]]:
    with terminal.progress() as bar:
        task = bar.add_task(f"{model}: reading canaries", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _summary(captured: "Captured", folder: Path) -> dict[str, Any]:
    b = captured.baseline
    return {
        "model": b.model,
        "baseline": str(folder),
        "created_at": b.created_at,
        "server": b.server,
        "canaries": len(b.canaries),
        "repeats": b.repeats,
        "engines": {
            role: {
                "version": e.version,
                "tag": e.tag,
                "latency": {
                    profile: {"median_s": latency.median_s, "p99_s": latency.p99_s}
                    for profile, latency in e.latency.items()
                },
                "parity": dict(e.parity),
            }
            for role, e in b.engines.items()
        },
        "warnings": list(captured.warnings),
    }


def _tell_captured(captured: "Captured", folder: Path) -> None:
    from rich.table import Table  # noqa: PLC0415 - keeps `--help` quick

    b = captured.baseline
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("engine", "version", "tag", "shape", "median", "p99", "furthest from golden"):
        table.add_column(column)
    for role, e in b.engines.items():
        parity = terminal.plain(", ".join(f"{name} {score:.2g}" for name, score in e.parity.items()))
        lead = (str(role), e.version, terminal.plain(e.tag or "none"))
        for profile, latency in e.latency.items():
            p50, p99 = f"{latency.median_s * 1e3:.1f} ms", f"{latency.p99_s * 1e3:.1f} ms"
            table.add_row(*lead, profile, p50, p99, parity)
            lead, parity = ("", "", ""), ""
    on = terminal.plain(b.server)
    terminal.out().print(f"[bold]{b.model}[/]: {len(b.canaries)} canaries, {b.repeats} times each, on {on}")
    terminal.out().print(table)
    for warning in captured.warnings:
        terminal.out().print(f"[yellow]mind:[/] {terminal.plain(warning)}")
    terminal.out().print(f"written to {terminal.plain(str(folder))}")


def _tell(assessment: "Assessment", limits: "Limits") -> None:
    from rich.table import Table  # noqa: PLC0415 - keeps `--help` quick

    result, timing, print_, plain = assessment.result, assessment.result.timing, terminal.out().print, terminal.plain
    address, verdict = plain(str(result.address)), terminal.styled(assessment.verdict)
    print_(f"[bold]{plain(result.canary)}[/] → {address}: {verdict}")
    if result.fault is not None:
        print_(f"  no answer: {plain(str(result.fault))}")
        return
    device = "unknown" if timing.device_s is None else f"{timing.device_s * 1e3:.2f} ms ({timing.attribution})"
    print_(f"  answered by {plain(str(result.answered_by))}, payload seed {result.seed}")
    print_(f"  took {timing.total_s * 1e3:.2f} ms (limit {limits['', 'seconds'] * 1e3:.1f} ms), device time {device}")
    if timing.parts:
        print_(f"  of which {', '.join(f'{part} {seconds * 1e3:.2f}' for part, seconds in timing.parts.items())} ms")
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("  output", "measure", "score", "limit"):
        table.add_column(column)
    for (output, measure), score in assessment.scores.items():
        table.add_row(f"  {plain(output)}", measure, f"{score:.3g}", f"{limits[output, measure]:.3g}")
    print_(table)
    for output, c in assessment.confidences.items():
        print_(f"  {plain(output)}: confidence {c.value:.3f}, top {c.top:.3f}, entropy {c.entropy:.3f} nats")
    for finding in assessment.findings:
        print_(f"  [red]{finding.reason}[/] {plain(finding.detail)}")
