"""One change of a route by one router, begun and cut off again and again."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.kills.findings import Finding, Left, Wrong, look
from bench.kills.order import Order
from bench.kills.scenarios import Scenario
from bench.kills.stage import Stage
from watchdog.model.engine import Role
from watchdog.model.event import Command
from watchdog.policy.memory import PolicyState
from watchdog.policy.states import State

_ASKED = 5
"""Ordinary requests after each restart: more than one, as a share could send them either way."""
_CALM_ROUNDS = 2


@dataclass(frozen=True, kw_only=True)
class Life:
    """What one watchdog said before it ended."""

    killed: str
    """The point; empty where it ended by itself."""
    points: tuple[str, ...]
    """All that it came to; told only by one that ended by itself."""
    appended: dict[int, str]
    failures: tuple[str, ...]
    """What went wrong within it, by its own account."""
    rests: PolicyState | None
    took_s: float


class Nursery:
    """Watchdogs of one configuration, one after another; see `bench.kills.nursery`."""

    def __init__(self, config: Path) -> None:
        self._log = config.with_suffix(".log")
        with self._log.open("ab") as log:
            command = [sys.executable, "-m", "bench.kills.nursery", str(config)]
            self._process = subprocess.Popen(
                command,
                env=os.environ | {"OPENBLAS_NUM_THREADS": "1", "GRPC_VERBOSITY": "NONE"},  # no thread before a fork
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )

    def close(self) -> None:
        self._process.communicate()

    def raise_one(self, order: Order) -> Life:
        """Let a watchdog live.

        Raises:
            RuntimeError: it ended otherwise than ordered; the message has what it said last.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{order.to_json()}\n")
        self._process.stdin.flush()
        said: dict[str, Any] = {"killed": "", "points": [], "rests": None}
        appended: dict[int, str] = {}
        failures = []
        for line in self._process.stdout:
            fact = json.loads(line)
            if "appended" in fact:
                seq, told = fact["appended"]
                appended[seq] = told
            if "failed" in fact:
                failures.append(fact["failed"])
            said |= fact
            if "ended" in fact:
                break
        if not said["killed"] and said.get("ended") != 0:
            log = self._log.read_text(encoding="utf-8", errors="replace")[-2000:]
            raise RuntimeError(f"a watchdog ended by itself ({said}):\n{log}")
        rests = None if said["rests"] is None else PolicyState.from_json(said["rests"])
        return Life(
            killed=said["killed"],
            points=tuple(said["points"]),
            appended=appended,
            failures=tuple(failures),
            rests=rests,
            took_s=said["took_s"],
        )


@dataclass(kw_only=True)
class Tally:
    """What came of one scenario by one router."""

    points: list[str] = field(default_factory=list)
    """At which the watchdog was killed, in their order."""
    restarts_s: list[float] = field(default_factory=list)
    """From each successor's start until it had seen twice that nothing changes; without imports and canaries."""
    cases: list[tuple[str, Finding]] = field(default_factory=list)
    """Whatever is not as it must be, each with its point."""

    def count(self, wrong: Wrong) -> int:
        return len({point for point, finding in self.cases if finding.wrong is wrong})

    def to_json(self) -> dict[str, Any]:
        return {
            "kills": len(self.points),
            "wrong_routes": self.count(Wrong.ROUTE),
            "lost_records": self.count(Wrong.RECORD),
            "double_or_missing_outcomes": self.count(Wrong.OUTCOME),
            "wrong_states": self.count(Wrong.STATE),
            "failures": self.count(Wrong.FAILURE),
            "slowest_restart_s": max(self.restarts_s),
            "points": self.points,
            "cases": [{"point": point, "wrong": one.wrong, "detail": one.detail} for point, one in self.cases],
        }


class Trial:
    """One scenario by one router."""

    def __init__(self, stage: Stage, kind: str, scenario: Scenario, nursery: Nursery) -> None:
        self._stage = stage
        self._kind = kind
        self._scenario = scenario
        self._nursery = nursery
        self.tally = Tally()
        self._home = Path(tempfile.mkdtemp(dir=stage.folder))
        self._begin, self._state = self._home / "begin", self._home / "state"

    def prepare(self) -> None:
        """A watchdog at rest, or one that crashed, whose state folder every kill starts from."""
        scenario = self._scenario
        self._begin.mkdir()
        self._stage.tell(fast_is_wrong=scenario.had_rolled_back or bool(scenario.crashed))
        self._stage.move("triton", Role.FAST)  # which loads what another trial has left unloaded
        self._stage.move(self._kind, Role.FAST)
        by_command = scenario.serves is State.SERVING_SAFE and not scenario.had_rolled_back
        command = Command.ROLLBACK if by_command else None
        ends = scenario.ends if scenario.crashed else [scenario.serves]
        life = self._nursery.raise_one(Order(state=self._begin, command=command, ends=ends, kill_at=scenario.crashed))
        as_wanted = life.killed if scenario.crashed else life.rests and life.rests.state is scenario.serves
        if not as_wanted:
            raise RuntimeError(f"{scenario.name}: there is nothing to begin from: {life.rests}")

    def points(self) -> tuple[str, ...]:
        """Where a watchdog can be killed, by one that is not; what it leaves behind is looked at as well."""
        return self._cut_off("").points

    def kill(self, at: str) -> None:
        """Kill a watchdog at one point, start another, and note what came of it.

        Not every run comes to every point: what waits for a server asks it now more often, now less.
        """
        if self._cut_off(at).killed:
            self.tally.points.append(at)

    def _cut_off(self, at: str) -> Life:
        scenario = self._scenario
        self._reset()
        order = Order(state=self._state, command=scenario.commanded, ends=scenario.ends, kill_at=at)
        first = self._nursery.raise_one(order)
        successor = Order(state=self._state, ends=scenario.ends, calm_rounds=_CALM_ROUNDS)
        second = self._nursery.raise_one(successor)
        assert second.rests is not None
        answers = [self._stage.ask(self._kind) for _ in range(_ASKED)]
        left = Left(
            appended=first.appended | second.appended,
            failures=first.failures + second.failures,
            rests=second.rests,
            answers=answers,
        )
        point = first.killed or "not at all"
        self.tally.cases += [(point, finding) for finding in look(scenario, self._state, left)]
        self.tally.restarts_s.append(second.took_s)
        return first

    def _reset(self) -> None:
        scenario = self._scenario
        shutil.rmtree(self._state, ignore_errors=True)
        shutil.copytree(self._begin, self._state)
        role = Role.FAST if scenario.serves is State.SERVING_FAST else Role.SAFE
        self._stage.tell(fast_is_wrong=scenario.fast_is_wrong)
        self._stage.move(self._kind, scenario.moved_to or role)
