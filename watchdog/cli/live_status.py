"""``status --watch``: the picture drawn anew in its place on a terminal, block after block for anything else."""

import io
import os
import select
import signal
import sys
import termios
import time
import tty
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

from watchdog.cli import client, terminal
from watchdog.cli.picture import Past, live, span

_PATIENCE_S = 2.0
"""A key that is pressed meanwhile waits so long at most."""
_NO_TERMINAL_WIDTH = 120
_ENTER, _LEAVE = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"
_HOME, _END_OF_LINE, _BELOW = "\x1b[H", "\x1b[K", "\x1b[J"


class Viewer:
    """Asks a watchdog, and remembers what it saw."""

    def __init__(self, url: str, clock: Callable[[], float] = time.time) -> None:
        self._url = url
        self._clock = clock
        self._document: dict[str, Any] | None = None
        self._seen_at = self._silent_since = clock()
        self._why = ""
        self._past: dict[str, Past] = {}
        self._limits: dict[str, Any] = {}

    def look(self) -> None:
        """Raises RefusedError: asking again would come to the same."""
        try:
            document = client.ask(self._url, "/api/v1/status", "models", timeout_s=_PATIENCE_S)
        except client.NoAnswerError as error:
            self._silent_since = self._silent_since if self._why else self._clock()
            self._why = str(error)
            return
        if self._document is not None and document.get("configuration") != self._document.get("configuration"):
            self._limits.clear()  # others may be in force
        self._document, self._seen_at, self._why = document, self._clock(), ""
        for name, model in document["models"].items():
            self._past.setdefault(name, Past()).see(model, self._limits_of(name))

    def _limits_of(self, model: str) -> Any:
        if model not in self._limits:
            try:
                path = client.path_of(model, f"history?since={self._clock():.0f}")
                self._limits[model] = client.ask(self._url, path, "limits", timeout_s=_PATIENCE_S)["limits"]
            except client.NoAnswerError:  # the next look asks again
                return {}
            except client.RefusedError:  # an older watchdog, or it is no longer watched
                self._limits[model] = {}
        return self._limits[model]

    def lines(self, width: int, height: int | None = None) -> list[str]:
        """The picture as it is to be written, with colours where standard output has any."""
        found: list[str] = []
        if self._why:
            since = time.strftime("%H:%M:%S", time.localtime(self._silent_since))
            found += _rendered(
                [f"[bold red]no answer since {since}, trying again[/]: {terminal.plain(self._why)}"], width
            )
        if self._why and self._document is not None:
            found += _rendered([f"what follows is {span(self._clock() - self._seen_at)} old"], width)
        if self._document is not None:
            found += _rendered(live(self._document, self._past, width=width), width, style="dim" if self._why else "")
        if height is not None and len(found) > height:
            found = [*found[: height - 1], f"… {len(found) - height + 1} more"]
        return found


def _rendered(parts: Iterable[Any], width: int, style: str = "") -> list[str]:
    from rich.console import Console  # noqa: PLC0415 - keeps `--help` quick

    out, text = terminal.out(), io.StringIO()
    system: Any = out.color_system
    console = Console(
        file=text,
        width=width,
        force_terminal=system is not None,
        color_system=system,
        no_color=out.no_color,
        highlight=False,
    )
    for part in parts:
        console.print(part, style=style, no_wrap=True, overflow="ellipsis", crop=True)
    return text.getvalue().splitlines()


def watch(url: str, interval_s: float) -> None:
    """Show a watchdog's status until q or Ctrl-C. Ends the program with its code where it refuses to be asked."""
    viewer = Viewer(url)
    out = terminal.out()
    try:
        viewer.look()
        if out.is_terminal and not out.is_dumb_terminal:
            _in_its_place(viewer, interval_s)
        else:
            _one_after_the_other(viewer, interval_s)
    except KeyboardInterrupt:
        return
    except client.RefusedError as error:
        terminal.fail(terminal.WRONG_CALL, str(error))


def _one_after_the_other(viewer: Viewer, interval_s: float) -> NoReturn:
    while True:
        sys.stdout.write("\n".join([*viewer.lines(_NO_TERMINAL_WIDTH), "", ""]))
        sys.stdout.flush()
        time.sleep(interval_s)
        viewer.look()


def _in_its_place(viewer: Viewer, interval_s: float) -> None:
    with _screen():
        while True:
            size = os.get_terminal_size(sys.stdout.fileno())
            lines = viewer.lines(max(20, size.columns), max(2, size.lines))
            drawn = f"{_END_OF_LINE}\n".join(lines)  # in one write, over what was there: nothing flickers
            sys.stdout.write(f"{_HOME}{drawn}{_END_OF_LINE}{_BELOW}")
            sys.stdout.flush()
            if _is_quit_within(interval_s):
                return
            viewer.look()


def _is_quit_within(seconds: float) -> bool:
    """Whether q was pressed; returns when it was, or when the time is up."""
    give_up_at = time.monotonic() + seconds
    while sys.stdin.isatty() and (left := give_up_at - time.monotonic()) > 0:
        ready, _, _ = select.select([sys.stdin], [], [], left)
        if not ready:
            return False
        keys = os.read(sys.stdin.fileno(), 64)
        if not keys or b"q" in keys.lower():
            return True
    time.sleep(max(0.0, give_up_at - time.monotonic()))
    return False


@contextmanager
def _screen() -> Iterator[None]:
    """A screen of its own, and keys as they are pressed; all as it was afterwards, whatever ends it."""

    def end(number: int, _: object) -> NoReturn:
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGHUP)}
    keys = termios.tcgetattr(sys.stdin) if sys.stdin.isatty() else None
    try:
        if keys is not None:
            tty.setcbreak(sys.stdin)
        sys.stdout.write(_ENTER)
        yield
    finally:
        sys.stdout.write(_LEAVE)
        sys.stdout.flush()
        if keys is not None:
            termios.tcsetattr(sys.stdin, termios.TCSADRAIN, keys)
        for number, handler in before.items():
            signal.signal(number, handler)
