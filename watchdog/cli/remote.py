"""Talking to a running watchdog over its HTTP API."""

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from watchdog.cli import client, terminal
from watchdog.cli.client import URL, AsJson, Model, TokenFile, Url

_TIMEOUT_S = 90.0
"""A command may wait for an engine to be loaded."""

_FAILURES = ("target-unproven", "fast-wrong", "promotion-failed", "switch-failed")
"""Triggers whose detail says why a command came to nothing."""
_WRONG_CALLS = frozenset({400, 401, 403, 404})
_BOUND = ("held", "locked")
"""States in which a person's release has to come first."""

Why = Annotated[str, typer.Option("--why", help="A reason, for the journal.")]


def status(
    url: Url = URL,
    as_json: AsJson = False,
    watch: Annotated[bool, typer.Option("--watch", help="Show it again every second, until Ctrl-C.")] = False,
) -> None:
    """Show what the running watchdog knows. Exits with 1 if anything is alerting."""
    if watch:
        _watch(url)
        return
    document = _status(url)
    if as_json:
        terminal.print_json(document)
    else:
        terminal.out().print(_picture(document))
    raise typer.Exit(terminal.NOT_RIGHT if document["alerts"] else 0)


def rollback(model: Model, url: Url = URL, token: TokenFile = None, why: Why = "", as_json: AsJson = False) -> None:
    """Move MODEL to its safe engine, once that is proven."""
    _command("rollback", model, url, token, why=why, as_json=as_json)


def promote(model: Model, url: Url = URL, token: TokenFile = None, why: Why = "", as_json: AsJson = False) -> None:
    """Return MODEL to its fast engine; if it does not prove itself at once, it is moved back."""
    _command("promote", model, url, token, why=why, as_json=as_json)


def hold(model: Model, url: Url = URL, token: TokenFile = None, why: Why = "", as_json: AsJson = False) -> None:
    """Move nothing of MODEL until it is released; probing and alerting go on."""
    _command("hold", model, url, token, why=why, as_json=as_json)


def release(model: Model, url: Url = URL, token: TokenFile = None, why: Why = "", as_json: AsJson = False) -> None:
    """End a hold of MODEL, or its lock after flapping."""
    _command("release", model, url, token, why=why, as_json=as_json)


def look(model: Model, url: Url = URL, token: TokenFile = None, why: Why = "", as_json: AsJson = False) -> None:
    """Ask canaries about both engines of MODEL now, and let the policy draw its conclusions."""
    _command("look", model, url, token, why=why, as_json=as_json)


def _command(command: str, model: str, url: str, token_file: Path | None, *, why: str, as_json: bool) -> None:
    body = {"actor": client.user(), "why": why}
    answer = _ask(url, client.path_of(model, command), "decisions", body, client.authorised(token_file))
    decisions = answer["decisions"]
    if as_json:
        terminal.print_json(answer)
    for d in () if as_json else decisions:
        moves = f"{d['before']} → {d['after']}" if d["before"] != d["after"] else f"{d['after']} already"
        terminal.out().print(f"{moves}  [bold]{d['reason']}[/]  {terminal.plain(d['detail'])}")
    if not answer["done"]:
        terminal.fail(terminal.NOT_RIGHT, f"{command} was not done: {_why_not(model, decisions)}")


def _why_not(model: str, decisions: list[dict[str, Any]]) -> str:
    """What stood in the way; the last decision may tell only how that ended."""
    for decision in decisions:
        if decision["trigger"] in _FAILURES:
            return str(decision["detail"])
    end = decisions[-1]["after"]
    return f"{model} is {end}" + (f"; `watchdog release {model}` ends that" if end in _BOUND else "")


def _status(url: str) -> Any:
    return _ask(url, "/api/v1/status", "models")


def _ask(
    url: str, path: str, key: str, body: dict[str, str] | None = None, headers: dict[str, str] | None = None
) -> Any:
    """`client.ask`; ends the program where there is no answer."""
    try:
        return client.ask(url, path, key, timeout_s=_TIMEOUT_S, body=body, headers=headers)
    except client.NoAnswerError as error:
        terminal.fail(terminal.UNREACHABLE, str(error))
    except client.RefusedError as error:
        terminal.fail(terminal.WRONG_CALL if error.status in _WRONG_CALLS else terminal.NOT_RIGHT, str(error))


def _watch(url: str) -> None:
    from rich.live import Live  # noqa: PLC0415 - keeps `--help` quick

    with Live(console=terminal.out(), screen=terminal.out().is_terminal, auto_refresh=False) as live:
        try:
            while True:
                live.update(_picture(_status(url)), refresh=True)
                time.sleep(1.0)
        except KeyboardInterrupt:
            return


def _picture(document: Any) -> Any:
    from rich.console import Group  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    now = document["at"]
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("model", "state", "serves", "last probe", "verdict", "took", "device", "right", "probes"):
        table.add_column(column)
    for name, model in document["models"].items():
        last, policy = model["last"].get("public"), model.get("policy", {})
        table.add_row(
            name,
            policy.get("state", "?"),
            _serves(policy),
            terminal.plain(last["canary"]) if last else "none yet",
            terminal.styled(last["verdict"]) if last else "",
            f"{last['total_s'] * 1e3:.1f} ms" if last else "",
            _device(last) if last else "",
            f"{now - model['healthy_at']:.0f} s ago" if model["healthy_at"] else "never",
            str(model["probes"]),
        )
    drift, gpus = _drift(document["models"]), _gpus(document.get("gpu") or {})
    alerts = [f"[bold red]{a['severity']}[/] {a['alert']}: {terminal.plain(a['summary'])}" for a in document["alerts"]]
    more = [part for each in (drift, gpus) if each.row_count for part in ("", each)]
    return Group(table, *more, *(["", *alerts] if alerts else []))


def _serves(policy: dict[str, Any]) -> str:
    share = policy.get("share")
    desired = str(policy.get("desired", "?"))
    return f"{desired}, fast {share} %" if share not in (None, 0, 100) else desired


def _device(last: dict[str, Any]) -> str:
    """A probe's device time, and how it is known."""
    if last.get("device_s") is None:
        return ""
    return f"{last['device_s'] * 1e3:.2f} ms [dim]{last['attribution']}[/]"


def _gpus(reading: dict[str, Any]) -> Any:
    """The GPUs beside the server, and whose their memory is."""
    from rich.table import Table  # noqa: PLC0415

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("gpu", "state", "memory", "busy", "temperature", "processes"):
        table.add_column(column)
    trends = {(trend["gpu"], *trend["pids"]): trend for trend in reading.get("growth", ())}
    for gpu in reading.get("gpus", ()):
        used, total = gpu["used_bytes"], gpu["total_bytes"]
        held = [
            f"{p['name'] or p['pid']} {_size(p['used_bytes'])}{_trend(trends.get((gpu['uuid'], p['pid'])))}"
            for p in gpu["processes"] or ()
            if p["used_bytes"] is not None
        ]
        table.add_row(
            terminal.plain(gpu["name"] or gpu["uuid"]),
            gpu["state"],
            f"{_size(used)} of {_size(total)}{_trend(trends.get((gpu['uuid'],)))}"
            if used is not None and total is not None
            else "",
            "" if gpu["busy_ratio"] is None else f"{gpu['busy_ratio']:.0%}",
            "" if gpu["temperature_c"] is None else f"{gpu['temperature_c']:.0f} °C",
            terminal.plain(", ".join(held)),
        )
    return table


def _trend(trend: dict[str, Any] | None) -> str:
    if trend is None or not trend["leaking"]:
        return ""
    return f" (leaks {_size(trend['bytes_per_hour'])}/h)"


def _size(number: float) -> str:
    return f"{number / 2**30:.1f} GiB" if number >= 2**30 else f"{number / 2**20:.0f} MiB"


def _drift(models: dict[str, Any]) -> Any:
    """What the sequential detectors have gathered, and what they promise."""
    from rich.table import Table  # noqa: PLC0415

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("drift of", "reading", "evidence", "of the limit", "observations", "promise"):
        table.add_column(column)
    for name, model in models.items():
        for source, what in (("canary", "canaries"), ("timing", "latency")):
            for reading, score in model.get("drift", {}).get(source, {}).items():
                row = (score["evidence"], score["limit"], score["observations"], score["promise"])
                table.add_row(f"{name} {what}", reading, *_gathered(*row))
        for source, readings in model.get("live", {}).items():
            for reading, track in readings.items():
                of = (f"{name} {source}", terminal.plain(reading))
                if track["state"] == "learning":
                    table.add_row(*of, f"learning, {track['have']:,} of {track['want']:,}")
                else:
                    row = (track["statistic"] or 0.0, track["threshold"], track["observations"], track["promise"])
                    table.add_row(*of, *_gathered(*row))
    return table


def _gathered(evidence: float | None, limit: float, observations: int, promise: str) -> tuple[str, str, str, str]:
    if evidence is None:
        return "beyond all measure", "", f"{observations:,}", promise
    return f"{evidence:.3g}", f"{evidence / limit:.1e}", f"{observations:,}", promise
