"""``watchdog status --watch`` as a process: on a real terminal (a pty), on a dumb one, and through a pipe."""

import doctest
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fcntl import ioctl
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from tests.core.builders import MODEL
from tests.core.story_events import one_of_each, probed
from tests.core.virtual_time import EPOCH
from watchdog.cli import picture
from watchdog.cli.picture import Past, Point, sparkline
from watchdog.telemetry.board import Board

ENTER, LEAVE, HOME = "\x1b[?1049h", "\x1b[?1049l", "\x1b[H"
CONTROL = re.compile(r"\x1b\[[?0-9;]*[a-zA-Z]")


class Fake:
    """Answers as a watchdog does, or with an error of its own."""

    def __init__(self) -> None:
        self.fails = False
        self.polls = 0
        fake = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = json.dumps(fake.answer(self.path)).encode()
                self.send_response(503 if fake.fails else 200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def answer(self, path: str) -> dict[str, Any]:
        if self.fails:
            return {"error": "restarting"}
        if "history" in path:
            return {"limits": {"fast": {"c0": 0.02}}}
        self.polls += 1
        return a_document(self.polls)


def a_document(polls: int = 1) -> dict[str, Any]:
    board = Board(EPOCH)
    for event in (*one_of_each(), probed()):
        board(event)
    document: dict[str, Any] = json.loads(json.dumps(board.document(EPOCH + 60)))
    document["models"][MODEL]["last"]["public"]["sent_at"] += polls
    queue = {
        "channel": "pager",
        "pending": 2,
        "oldest_at": EPOCH,
        "up": False,
        "delivered_at": None,
        "detail": "HTTP 503",
    }
    return document | {"version": "1.2.3", "alerts": [], "channels": [queue]}


@pytest.fixture
def fake() -> Iterator[Fake]:
    made = Fake()
    yield made
    made.server.shutdown()
    made.server.server_close()


class Screen:
    """The watching command on a pty; reads what it writes."""

    def __init__(self, fd: int, process: "subprocess.Popen[bytes]") -> None:
        self.fd = fd
        self.process = process
        self.text = ""

    def until(self, seen: Callable[[str], bool]) -> str:
        give_up_at = time.monotonic() + 20
        while not seen(self.text):
            assert time.monotonic() < give_up_at, self.text[-3000:]
            if select.select([self.fd], [], [], 0.2)[0]:
                try:
                    self.text += os.read(self.fd, 65536).decode()
                except OSError:  # the other side is closed
                    break
        assert seen(self.text), self.text[-3000:]
        return self.text

    def frames(self) -> list[list[str]]:
        """Whole pictures, each as its lines without control sequences."""
        return [CONTROL.sub("", frame).split("\r\n") for frame in self.text.split(HOME)[1:-1]]

    def ended(self) -> int:
        self.until(lambda text: LEAVE in text)
        return self.process.wait(20)


@contextmanager
def watching(url: str, *, rows: int = 40, columns: int = 100, env: dict[str, str] | None = None) -> Iterator[Screen]:
    ours, theirs = pty.openpty()
    ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-m", "watchdog", "status", "--watch", "--interval", "0.2", "--url", url],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        env={k: v for k, v in os.environ.items() if k not in {"NO_COLOR", "COLUMNS", "LINES"}}
        | {"TERM": "xterm-256color"}
        | (env or {}),
    )
    try:
        yield Screen(ours, process)
    finally:
        process.kill()
        process.wait()
        os.close(ours)
        os.close(theirs)


def test_it_draws_in_place_on_a_screen_of_its_own_until_q(fake: Fake) -> None:
    with watching(fake.url) as screen:
        screen.until(lambda text: text.count(HOME) > 4)
        os.write(screen.fd, b"xq")
        assert screen.ended() == 0
    assert screen.text.count(ENTER) == screen.text.count(LEAVE) == 1
    assert screen.text.endswith(f"\x1b[?25h{LEAVE}"), "the cursor is shown again"
    assert "\x1b[2J" not in screen.text, "a picture that is wiped flickers"
    last = "\n".join(screen.frames()[-1])
    assert "watchdog 1.2.3" in last
    assert f"{MODEL}  " in last
    assert "pager" in last
    assert "latency " in last
    assert re.search(r"[34] probes in ", last), "each look adds a probe to the line"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_whatever_ends_it_the_terminal_is_as_it_was(fake: Fake, number: signal.Signals) -> None:
    with watching(fake.url) as screen:
        before = termios.tcgetattr(screen.fd)
        screen.until(lambda text: HOME in text)
        screen.process.send_signal(number)
        assert screen.ended() == (0 if number is signal.SIGINT else 128 + number)
        after = termios.tcgetattr(screen.fd)
    assert after[3] & (termios.ECHO | termios.ICANON) == termios.ECHO | termios.ICANON
    assert len(before) == len(after)


def test_without_an_answer_the_last_picture_stays_with_its_age(fake: Fake) -> None:
    with watching(fake.url) as screen:
        screen.until(lambda text: "watchdog 1.2.3" in CONTROL.sub("", text))
        fake.fails = True
        screen.until(lambda text: text.count("trying again") > 1)
        stale = "\n".join(screen.frames()[-1])
        assert re.search(r"no answer since \d\d:\d\d:\d\d, trying again", stale)
        assert re.search(r"what follows is \d+ s old", stale)
        assert MODEL in stale
        assert "\x1b[2m" in screen.text, "dimmed"
        fake.fails = False
        again = screen.text.count(HOME)
        screen.until(lambda text: text.count(HOME) > again + 2 and "trying" not in text.rsplit(HOME, 2)[-2])


@pytest.mark.parametrize(("rows", "columns"), [(6, 100), (3, 40), (40, 30)])
def test_it_fits_the_terminal(fake: Fake, rows: int, columns: int) -> None:
    with watching(fake.url, rows=rows, columns=columns) as screen:
        screen.until(lambda text: text.count(HOME) > 2)
    for frame in screen.frames():
        assert len(frame) <= rows
        assert max(map(len, frame)) <= columns
    if rows < 10:
        assert re.fullmatch(r"… \d+ more", screen.frames()[0][-1])


@pytest.mark.parametrize(("env", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False)])
def test_colours_are_for_those_who_want_them(fake: Fake, env: dict[str, str], coloured: bool) -> None:
    with watching(fake.url, env=env) as screen:
        screen.until(lambda text: text.count(HOME) > 2)
    assert bool(re.search(r"\x1b\[[0-9;]*3[0-9]m", screen.text)) is coloured


def test_a_dumb_terminal_gets_block_after_block(fake: Fake) -> None:
    with watching(fake.url, env={"TERM": "dumb"}) as screen:
        screen.until(lambda text: text.count("watchdog 1.2.3") > 1)
    assert "\x1b" not in screen.text


def test_through_a_pipe_too_and_it_does_not_end_where_nobody_answers(fake: Fake) -> None:
    fake.fails = True
    command = [sys.executable, "-m", "watchdog", "status", "--watch", "--interval", "0.2", "--url", fake.url]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        fake.fails = False
        seen = next(line for line in process.stdout if line.startswith("watchdog 1.2.3"))
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
    assert first.startswith("no answer since ")
    assert "\x1b" not in first + seen


def test_a_sparkline_is_eighths_of_the_limit_and_red_above_it() -> None:
    def point(took_s: float, verdict: str = "healthy") -> Point:
        return Point(at=took_s, took_s=took_s, limit_s=0.08, verdict=verdict)

    points = [point(0.0), point(0.045), point(0.08), point(0.2, "suspect"), point(2.0, "inconclusive")]
    assert sparkline(points) == "▁▅█[bold red]█[/] "
    assert sparkline([]) == ""


def test_a_probe_that_was_seen_before_is_no_news() -> None:
    past, model = Past(), a_document()["models"][MODEL]
    for _ in range(3):
        past.see(model, {})
    assert len(past.points) == 1


def test_the_examples_run() -> None:
    found = doctest.testmod(picture)
    assert found.attempted
    assert found.failed == 0
