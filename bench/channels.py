"""Whether people hear of everything, whatever their receivers do and whenever the watchdog is killed.

python -m bench.channels [--quick]

The notifier, its ledgers on disk and all three kinds of channels run in a process of their own, which is killed with
kill -9 again and again: before, in the middle of and after a delivery. One receiver stands for all: it takes, is slow
beyond the deadline, answers 429 or 500, breaks off before, in the middle of or after reading, and at times kills the
sender between its answer and the sender's note of it. Conditions come and go meanwhile. In the end what the receiver
took is held against what was there to be told. What it calls wrong (400) is told of as refused, and not sent again.
"""

import argparse
import asyncio
import contextlib
import json
import os
import random
import re
import signal
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web

from bench.about import machine
from watchdog.channels import ChannelSettings, open_channel
from watchdog.channels.alertmanager import AlertmanagerSettings
from watchdog.channels.pagerduty import PagerDutySettings
from watchdog.channels.webhook import WebhookSettings
from watchdog.evidence.files import FileEvidence
from watchdog.model.event import CycleFailed
from watchdog.model.journal import Entry, EntryKind
from watchdog.model.notice import Condition, Severity
from watchdog.notifier import Notifier
from watchdog.ports import Event
from watchdog.settings import Secret

_NAMES = [f"WatchdogBench{letter}" for letter in "ABCD"]
_DEADLINE_S = 0.3
_PATIENCE_S = 150.0
_MISBEHAVIOURS = ("taken", "taken", "429", "500", "slow", "cut-before", "cut-half-way", "cut-after", "kill-after")

_OUT = Path(__file__).with_name("results") / "channels.json"
Life = tuple[str, int]
"""A condition's name, and the how-manieth time that it came."""


# -- the sender ------------------------------------------------------------------------------------


class _NoJournal:
    async def append(self, entry: Entry) -> Entry:
        return entry

    async def tail(self, _limit: int, _model: str | None = None) -> list[Entry]:
        return []

    async def last(self, _kind: EntryKind, _model: str) -> Entry | None:
        return None

    async def close(self) -> None: ...


async def send(folder: Path, url: str) -> None:
    """The child: takes what holds from its input, a JSON object a line, and says when that is on disk."""
    key = Secret(file=folder / "key")
    more: dict[str, Any] = {"timeout": _DEADLINE_S}
    channels: list[ChannelSettings] = [
        AlertmanagerSettings(kind="alertmanager", name="alertmanager", urls=(url,), resend_every=1.0, **more),
        PagerDutySettings(kind="pagerduty", name="pagerduty", url=f"{url}/pd", routing_key=key, group_above=99, **more),
        WebhookSettings(kind="webhook", name="webhook", url=f"{url}/hook", signing_key=key, **more),
    ]
    outlets = {settings.name: (open_channel(settings), settings.resend) for settings in channels}

    def complain(event: Event) -> None:
        if isinstance(event, CycleFailed):
            print(json.dumps({"failed": event.error}), flush=True)

    evidence = FileEvidence(folder / "evidence")
    async with Notifier(outlets, _NoJournal(), evidence, complain, time.time) as notifier:
        await notifier.recall()
        loop, begun = asyncio.get_running_loop(), False
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            asked = json.loads(line)
            notifier.hold("bench", [_condition(name, life) for name, life in asked["holding"]])
            if not begun:
                notifier.begin()
                begun = True
            await notifier.keep()
            waiting = {queue.channel: queue.pending for queue in notifier.queues()}
            print(json.dumps({"kept": asked["step"], "waiting": waiting}), flush=True)


def _condition(name: str, life: int) -> Condition:
    return Condition(
        name=name, severity=Severity.CRITICAL, summary=f"{name} {life}", description=str(life), labels={"model": "m"}
    )


# -- the receiver ------------------------------------------------------------------------------------


@dataclass
class Receiver:
    """Takes what all three channels send, or does not."""

    chance: random.Random
    behaves: bool = False
    kill: Any = None
    url: str = ""
    did: Counter[str] = field(default_factory=Counter)
    taken: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    """Channel → (kind, what it was of) in the order in which it was taken, again where it was sent again."""
    known: dict[str, set[str]] = field(default_factory=dict)
    again: Counter[str] = field(default_factory=Counter)
    begun: Counter[str] = field(default_factory=Counter)
    """Channel → lives that it was told of: one notice may stand for several, and says so."""

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        does = "taken" if self.behaves else self.chance.choice(_MISBEHAVIOURS)
        self.did[does] += 1
        transport = request.transport
        if does in {"cut-before", "cut-half-way"} and transport is not None:
            if does == "cut-half-way":
                await request.content.read(10)
            transport.abort()
            return web.Response(status=500)
        body = await request.read()
        if does == "cut-after" and transport is not None:
            transport.abort()
            return web.Response(status=500)
        if does == "slow":
            await asyncio.sleep(2 * _DEADLINE_S)
            return web.Response(status=503)
        if does in {"429", "500"}:
            return web.Response(status=int(does), headers={"Retry-After": "0"})
        self._take(request.path, json.loads(body))
        if does == "kill-after" and self.kill is not None:
            self.kill()
        return web.json_response({}, status=202)

    def _take(self, path: str, body: Any) -> None:
        if path == "/pd":
            kind = {"trigger": "first", "resolve": "resolved"}[body["event_action"]]
            told, what = self.taken.setdefault("pagerduty", []), body["dedup_key"]
            of_it = [k for k, w in told if w == what]
            says = body.get("payload", {}).get("custom_details", {}).get("description", "")
            self._note("pagerduty", kind, what, says, known=bool(of_it) and of_it[-1] == kind)
        elif path == "/hook":
            for notice in body["notices"]:
                what = f"{notice['name']} {notice['started_at']}"
                known = (notice["kind"], what) in self.taken.get("webhook", ())
                self._note("webhook", notice["kind"], what, notice["description"], known=known)
        else:
            for alert in body:
                self.known.setdefault("alertmanager", set()).add(alert["annotations"]["summary"])

    def _note(self, channel: str, kind: str, what: str, says: str, *, known: bool) -> None:
        """By the identity that it carries a receiver knows whether it has had it: then it is no second notice."""
        if known:
            self.again[channel] += 1
            return
        self.taken.setdefault(channel, []).append((kind, what))
        several = re.search(r"it came and went (\d+) times", says)
        self.begun[channel] += (int(several[1]) if several else 1) if kind == "first" else 0


# -- the trial ---------------------------------------------------------------------------------------


@dataclass
class Trial:
    folder: Path
    receiver: Receiver
    chance: random.Random
    steps: int
    process: asyncio.subprocess.Process | None = None
    kills: int = 0
    lives: Counter[str] = field(default_factory=Counter)
    holding: set[str] = field(default_factory=set)
    complaints: list[str] = field(default_factory=list)

    async def run(self) -> dict[str, Any]:
        await self._start()
        for step in range(self.steps):
            if self.chance.random() < 0.5:
                self._toggle()
            await self._tell(step)
            await asyncio.sleep(self.chance.random() * 0.15)
            if self.chance.random() < 0.2:
                self._kill()
        self.holding.clear()
        self.receiver.behaves = True
        give_up_at = time.monotonic() + _PATIENCE_S
        while any((await self._tell(self.steps)).values()) and time.monotonic() < give_up_at:  # noqa: ASYNC110
            await asyncio.sleep(0.2)  # another process can't set an event
        await self._end()
        return self._judged()

    def _toggle(self) -> None:
        name = self.chance.choice(_NAMES)
        if name in self.holding:
            self.holding.discard(name)
        else:
            self.holding.add(name)
            self.lives[name] += 1

    async def _tell(self, step: int) -> dict[str, int]:
        """Say what holds until the sender has it on disk, starting it as often as that takes."""
        order = json.dumps({"step": step, "holding": [(name, self.lives[name]) for name in sorted(self.holding)]})
        while True:
            if self.process is None or self.process.returncode is not None:
                await self._start()
            process = self.process
            if process is None or process.stdin is None or process.stdout is None:
                raise RuntimeError("the sender has no pipes")
            with contextlib.suppress(ConnectionError):
                process.stdin.write(order.encode() + b"\n")
                await process.stdin.drain()
            while line := await process.stdout.readline():
                said = json.loads(line)
                if "failed" in said:
                    self.complaints.append(said["failed"])
                elif said["kept"] == step:
                    waiting: dict[str, int] = said["waiting"]
                    return waiting
            await process.wait()

    async def _start(self) -> None:
        command = [sys.executable, "-m", "bench.channels", "--send", str(self.folder), self.receiver.url]
        pipe = asyncio.subprocess.PIPE
        self.process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe)
        self.receiver.kill = self._kill

    def _kill(self) -> None:
        if self.process is not None and self.process.returncode is None:
            self.kills += 1
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.process.pid, signal.SIGKILL)

    async def _end(self) -> None:
        if self.process is not None and self.process.stdin is not None:
            self.process.stdin.close()
            await self.process.wait()

    def _judged(self) -> dict[str, Any]:
        lives = sum(self.lives.values())
        lost, disordered = Counter[str](), Counter[str]()
        for channel in ("pagerduty", "webhook"):
            told = self.receiver.taken.get(channel, [])
            open_ones = sum(1 if kind == "first" else -1 for kind, _ in told)
            lost[channel] = lives - self.receiver.begun[channel] + open_ones
            for what in {what for _, what in told}:
                kinds = [kind for kind, of in told if of == what]
                expected = ["first", "resolved"] * (len(kinds) // 2 + 1)
                disordered[channel] += kinds != expected[: len(kinds)] or kinds[-1] != "resolved"
        return {
            "conditions_begun_and_ended": lives,
            "kills": self.kills,
            "lost": dict(lost),
            "out_of_order": dict(disordered),
            "sent_again_with_the_same_identity": dict(self.receiver.again),
            "alertmanager_heard_of": len(self.receiver.known.get("alertmanager", ())),
            "receiver_did": dict(self.receiver.did),
            "complaints": self.complaints,
        }


async def trial(steps: int, seed: int) -> dict[str, Any]:
    """One run; see the module."""
    chance = random.Random(seed)
    receiver = Receiver(chance=random.Random(seed + 1))
    runner = web.ServerRunner(web.Server(receiver.handle))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    receiver.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "key").write_text("0123456789abcdef" * 2)
        found = await Trial(folder=Path(folder), receiver=receiver, chance=chance, steps=steps).run()
    await runner.cleanup()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer steps")
    parser.add_argument("--send", nargs=2, metavar=("FOLDER", "URL"), help=argparse.SUPPRESS)
    wanted = parser.parse_args()
    if wanted.send:
        asyncio.run(send(Path(wanted.send[0]), wanted.send[1]))
        return
    found = asyncio.run(trial(60 if wanted.quick else 600, seed=1))
    for name, value in found.items():
        print(f"{name.replace('_', ' '):36} {value}")
    _OUT.parent.mkdir(exist_ok=True)
    _OUT.write_text(json.dumps({"machine": machine(), **found}, indent=2), encoding="utf-8")
    if any(found["lost"].values()) or any(found["out_of_order"].values()) or found["complaints"]:
        sys.exit(1)


if __name__ == "__main__":
    main()
