"""What came of the scene, as tables for people."""

from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

Row = tuple[str, str, str]


def show(found: Mapping[str, Any], console: Console) -> None:
    """One row a figure: the part, what it is, and how much."""
    console.print(f"watchdog {found['watchdog']}, {found['gpu'].get('name') or 'no GPU'}, {found['date']}")
    table = Table(box=None, pad_edge=False)
    for name in ("part", "what", "measured"):
        table.add_column(name, justify="right" if name == "measured" else "left", overflow="fold")
    for row in _engines(found["scene"].get("engines", {})):
        table.add_row(*row)
    for name, part in found["parts"].items():
        for row in _rows(name, part):
            table.add_row(*row)
    if "failed" in found:
        table.add_row("scene", "failed", _last_line(found["failed"]))
    console.print(table)


def _rows(name: str, part: Mapping[str, Any]) -> Iterator[Row]:
    if part["outcome"] != "played":
        yield name, part["outcome"], _last_line(part["why"])
        return
    seen = part["seen"]
    match name:
        case "device-times":
            for profile, clocks in seen["profiles"].items():
                yield from _clock_rows(name, profile, clocks)
            yield name, "by Triton's statistics, both profiles", _spread(seen["statistics"])
            yield name, "canaries traced", f"{seen['traced']} of {seen['canaries']}"
        case "overflow" | "killed-stub":
            yield name, "rolled back", f"{seen['rolled_back']} ({seen['reason']}, {seen['conclusion']})"
            yield name, "fault → first bad canary", _seconds(seen["first_bad_after_s"])
            yield name, "first bad canary → proven switch", _seconds(seen["bad_to_proven_s"])
            yield name, "ordinary requests failed, wrong", _traffic(seen["traffic"]["after"])
        case "leak":
            yield name, "found after", _seconds(seen["found_after_s"])
            for whose in ("found", "true", "driver"):
                yield name, f"rate, {whose}", _rate(seen[f"{whose}_bytes_per_hour"])
        case "neighbour":
            for when in ("before", "during"):
                yield from _clock_rows(name, when, seen[when])
            yield name, "said of it", ", ".join(sorted({each["event"] for each in seen["told"]})) or "nothing"
        case _:
            pass
    yield name, "healthy again", ", ".join(f"{what} {_seconds(took)}" for what, took in part["healed"].items())


def _last_line(story: str) -> str:
    """The error itself: a story is a traceback, and then logs' tails."""
    before, _, _ = story.partition("\nthe watchdog's last words:")
    return before.strip().splitlines()[-1]


def _engines(built: Mapping[str, Any]) -> Iterator[Row]:
    for name, engine in built.get("engines", {}).items():
        nonfinite = engine["non_finite"]["probability"]
        said = f"{_seconds(engine['device_s'])} a slice, built in {_seconds(engine['build_s'])}, {nonfinite} not finite"
        yield f"TensorRT {built['tensorrt']}", name, said


def _clock_rows(part: str, what: str, clocks: Mapping[str, Any]) -> Iterator[Row]:
    yield part, f"{what}: by CUDA event", _spread(clocks["cuda_event"])
    yield part, f"{what}: by trace", _spread(clocks["trace"])
    yield part, f"{what}: round trip", _spread(clocks["parts"].get("total", {"n": 0}))


def _spread(spread: Mapping[str, float]) -> str:
    if not spread["n"]:
        return "none"
    percentiles = " · ".join(f"{spread[key] * 1e3:.3f}" for key in ("p50", "p90", "p99", "max"))
    return f"{percentiles} ms (p50 · p90 · p99 · max of {spread['n']})"


def _traffic(counted: Mapping[str, Any]) -> str:
    return f"{counted['failed']}, {counted['wrong']} of {counted['requests']}"


def _seconds(seconds: float | None) -> str:
    if seconds is None:
        return "never"
    return f"{seconds * 1e3:.3g} ms" if seconds < 1 else f"{seconds:.1f} s"


def _rate(per_hour: float | None) -> str:
    return "none" if per_hour is None else f"{per_hour / 2**30:.2f} GiB/h"
