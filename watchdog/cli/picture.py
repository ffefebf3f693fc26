"""What ``status`` shows a person, from the document that a running watchdog gives."""

import math
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from watchdog.cli import terminal

if TYPE_CHECKING:
    from rich.table import Table

_BLOCKS = "▁▂▃▄▅▆▇█"
_MARKS = {"healthy": "·", "suspect": "~", "failed": "x", "inconclusive": "?"}
_KEPT = 600


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """One probe, as it was seen."""

    at: float
    took_s: float
    limit_s: float
    """Infinite where none is known."""
    verdict: str


@dataclass(kw_only=True, slots=True)
class Past:
    """What one who watches has seen of a model."""

    points: deque[Point] = field(default_factory=lambda: deque(maxlen=_KEPT))

    def see(self, model: Mapping[str, Any], limits: Mapping[str, Any]) -> None:
        """Take a model as the document has it; `limits` is engine → shape → seconds."""
        last = model["last"].get("public")
        if last is None or (self.points and last["sent_at"] <= self.points[-1].at):
            return
        limit_s = (limits.get(last["expected"]) or {}).get(last["canary"].rpartition("@")[2])
        self.points.append(
            Point(
                at=last["sent_at"],
                took_s=last["total_s"],
                limit_s=math.inf if limit_s is None else limit_s,
                verdict=last["verdict"],
            )
        )


def overview(document: Mapping[str, Any]) -> Any:
    """All of it as tables, once."""
    from rich.console import Group  # noqa: PLC0415 - keeps `--help` quick

    tables = [_drift(document["models"]), _gpus(document.get("gpu") or {})]
    more = [part for each in tables if each.row_count for part in ("", each)]
    alerts = _alerts(document)
    return Group(_models(document), *more, *(["", *alerts] if alerts else []))


def live(document: Mapping[str, Any], past: Mapping[str, Past], *, width: int) -> Iterator[Any]:
    """The parts of a picture that is drawn again and again, what matters most first; each a line or a table."""
    now = document["at"]
    clock = datetime.fromtimestamp(now).astimezone().strftime("%H:%M:%S")
    version = terminal.plain(str(document.get("version", "")))
    yield f"[bold]watchdog[/] {version}, up {span(document.get('up_s', 0.0))}, at {clock}"
    if document.get("starting"):
        yield f"[yellow]starting:[/] {terminal.plain(document['starting'])}"
    yield from _alerts(document) or ["[green]no alerts[/]"]
    for name, model in document["models"].items():
        yield ""
        yield from _model(name, model, past.get(name, Past()), now=now, width=width)
    for table in (
        _channels(document.get("channels", ()), now),
        _drift(document["models"]),
        _gpus(document.get("gpu") or {}),
    ):
        if table.row_count:
            yield ""
            yield table


def span(seconds: float) -> str:
    """A length of time, as people say it.

    >>> span(75), span(7300)
    ('75 s', '2 h')
    """
    if seconds < 90:
        return f"{max(0.0, seconds):.0f} s"
    for unit, length, most in (("min", 60, 5400), ("h", 3600, 129_600)):
        if seconds < most:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds / 86_400:.0f} days"


def sparkline(points: Sequence[Point]) -> str:
    """A character for each probe: eighths of its limit, and in red what is above it.

    Where no limit is known, the slowest one stands for it.
    """
    slowest = max((point.took_s for point in points), default=0.0)
    return "".join(_bar(point, slowest) for point in points)


def _bar(point: Point, slowest: float) -> str:
    if point.verdict == "inconclusive":
        return " "
    scale = point.limit_s if math.isfinite(point.limit_s) else slowest
    block = _BLOCKS[min(7, int(8 * point.took_s / scale)) if scale > 0 else 0]
    return f"[bold red]{block}[/]" if point.took_s > scale else block


def _model(name: str, model: Mapping[str, Any], past: Past, *, now: float, width: int) -> Iterator[str]:
    policy, last = model.get("policy", {}), model["last"].get("public")
    since = f" for {span(now - policy['since'])}" if "since" in policy else ""
    yield f"[bold]{name}[/]  {policy.get('state', '?')}{since}, serves {_serves(policy)}"
    if last is None:
        yield "  no probe yet"
    else:
        right = f"{span(now - model['healthy_at'])} ago" if model["healthy_at"] else "never"
        yield f"  {terminal.styled(last['verdict'])} {terminal.plain(last['canary'])}, last right {right}"
        yield f"  took {_times(last, past)}"
    points = list(past.points)[-max(1, width - 12) :]
    if points:
        over = span(points[-1].at - points[0].at)
        yield f"  latency {sparkline(points)}"
        verdicts = "".join(
            f"[{terminal.VERDICT_STYLE.get(p.verdict, 'default')}]{_MARKS.get(p.verdict, '?')}[/]" for p in points
        )
        yield f"  verdict {verdicts}"
        yield f"  [dim]{len(points)} probes in {over}, slowest {max(p.took_s for p in points) * 1e3:.1f} ms[/]"
    if last is not None and last["findings"]:
        yield f"  [red]{last['findings'][0]['reason']}[/] {terminal.plain(last['findings'][0]['detail'])}"
    if (found := model.get("diagnosis")) is not None:
        yield f"  diagnosis {span(now - found['at'])} ago: {found['conclusion']}, {terminal.plain(found['detail'])}"
    if (switch := model.get("switch")) is not None:
        came = "proven" if switch["proven"] else "[bold red]not proven[/]"
        yield f"  switch {span(now - switch['at'])} ago: to {switch['to']}, {came}: {terminal.plain(switch['detail'])}"


def _times(last: Mapping[str, Any], past: Past) -> str:
    limit_s = past.points[-1].limit_s if past.points else math.inf
    of = f" of {limit_s * 1e3:.0f} ms" if math.isfinite(limit_s) else ""
    if last.get("device_s") is None:
        return f"{last['total_s'] * 1e3:.1f} ms{of}"
    host = "" if last.get("host_s") is None else f", host {last['host_s'] * 1e3:.2f} ms"
    return f"{last['total_s'] * 1e3:.1f} ms{of}: device {_device(last)}{host}"


def _channels(queues: Sequence[Mapping[str, Any]], now: float) -> "Table":
    table = _table("channel", "up", "pending", "oldest", "delivered", "said")
    for queue in queues:
        up = {True: "[green]yes[/]", False: "[bold red]no[/]", None: "not asked yet"}[queue["up"]]
        oldest, delivered = (_ago(queue[key], now) for key in ("oldest_at", "delivered_at"))
        detail = terminal.plain(queue.get("detail") or "")
        table.add_row(terminal.plain(queue["channel"]), up, str(queue["pending"]), oldest, delivered, detail)
    return table


def _ago(at: float | None, now: float) -> str:
    return "" if at is None else f"{span(now - at)} ago"


def _alerts(document: Mapping[str, Any]) -> list[str]:
    return [f"[bold red]{a['severity']}[/] {a['alert']}: {terminal.plain(a['summary'])}" for a in document["alerts"]]


def _table(*columns: str) -> "Table":
    from rich.table import Table  # noqa: PLC0415 - keeps `--help` quick

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column)
    return table


def _models(document: Mapping[str, Any]) -> "Table":
    now = document["at"]
    table = _table("model", "state", "serves", "last probe", "verdict", "took", "device", "right", "probes")
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
    return table


def _serves(policy: Mapping[str, Any]) -> str:
    share = policy.get("share")
    desired = str(policy.get("desired", "?"))
    return f"{desired}, fast {share} %" if share not in (None, 0, 100) else desired


def _device(last: Mapping[str, Any]) -> str:
    """A probe's device time, and how it is known."""
    if last.get("device_s") is None:
        return ""
    return f"{last['device_s'] * 1e3:.2f} ms [dim]{last['attribution']}[/]"


def _gpus(reading: Mapping[str, Any]) -> "Table":
    """The GPUs beside the server, and whose their memory is."""
    table = _table("gpu", "state", "memory", "busy", "temperature", "processes")
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


def _trend(trend: Mapping[str, Any] | None) -> str:
    if trend is None or not trend["leaking"]:
        return ""
    return f" (leaks {_size(trend['bytes_per_hour'])}/h)"


def _size(number: float) -> str:
    return f"{number / 2**30:.1f} GiB" if number >= 2**30 else f"{number / 2**20:.0f} MiB"


def _drift(models: Mapping[str, Any]) -> "Table":
    """What the sequential detectors have gathered, and what they promise."""
    table = _table("drift of", "reading", "evidence", "of the limit", "observations", "promise")
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
