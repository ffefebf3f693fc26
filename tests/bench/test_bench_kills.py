"""That watchdogs are killed, and that what they leave behind is judged; the proof itself is `python -m bench.kills`."""

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench.kills.findings import Left, Wrong, look
from bench.kills.scenarios import SCENARIOS
from bench.kills.stage import Answer
from bench.two_engines import VERSION
from watchdog.demo import triton
from watchdog.journal.reading import FILE_NAME, opened
from watchdog.journal.sqlite import SqliteJournal
from watchdog.model.engine import Role
from watchdog.model.journal import Entry, EntryKind
from watchdog.policy.memory import PolicyState
from watchdog.policy.states import State

ROOT = Path(__file__).parents[2]
ROLLBACK = SCENARIOS[0]
SWITCHING = PolicyState(state=State.SWITCHING, target=Role.SAFE)
SAFE = PolicyState(state=State.SERVING_SAFE, desired=Role.SAFE, share=0)
RIGHT = Answer(version=VERSION[Role.SAFE], right=True)
Told = tuple[EntryKind, dict[str, Any]]


def decided(state: PolicyState) -> Told:
    return EntryKind.DECISION, {"after": state.to_json()}


def intended() -> Told:
    return EntryKind.INTENT, {"to": "safe", "percent": 100}


def came(intent: int) -> Told:
    return EntryKind.OUTCOME, {"intent": intent, "to": "safe", "percent": 100}


WHOLE = (decided(SWITCHING), intended(), came(2), decided(SAFE))


async def write(folder: Path, entries: Sequence[Told]) -> dict[int, str]:
    """A journal of these entries, and their numbers and hashes."""
    journal = await SqliteJournal.open(folder / FILE_NAME)
    for kind, data in entries:
        await journal.append(Entry(at=1.0, kind=kind, model="lung", data=data))
    await journal.close()
    with opened(folder) as reader:
        return {stored.link.seq: (stored.hash or b"").hex() for stored in reader.entries()}


def wrong(folder: Path, left: Left) -> set[Wrong]:
    return {finding.wrong for finding in look(ROLLBACK, folder, left)}


async def test_nothing_is_found_where_all_is_as_it_must_be(tmp_path: Path) -> None:
    appended = await write(tmp_path, WHOLE)
    assert not wrong(tmp_path, Left(appended=appended, rests=SAFE, answers=[RIGHT]))


@pytest.mark.parametrize(
    ("changed", "found"),
    [
        pytest.param({"answers": [RIGHT, None]}, Wrong.ROUTE, id="no answer"),
        pytest.param({"answers": [RIGHT, replace(RIGHT, right=False)]}, Wrong.ROUTE, id="wrong answer"),
        pytest.param({"answers": [replace(RIGHT, version=VERSION[Role.FAST])]}, Wrong.ROUTE, id="other engine"),
        pytest.param({"appended": {5: "00"}}, Wrong.RECORD, id="entry gone"),
        pytest.param({"appended": {1: "00"}}, Wrong.RECORD, id="entry changed"),
        pytest.param({"rests": replace(SAFE, failed_returns=1)}, Wrong.STATE, id="memory is not the journal's"),
        pytest.param({"rests": replace(SAFE, state=State.DEGRADED)}, Wrong.ROUTE, id="no rest"),
        pytest.param({"failures": ["OSError: broken"]}, Wrong.FAILURE, id="failure"),
    ],
)
async def test_what_must_not_be_is_found(tmp_path: Path, changed: dict[str, Any], found: Wrong) -> None:
    left = Left(appended=await write(tmp_path, WHOLE), rests=SAFE, answers=[RIGHT])
    assert found in wrong(tmp_path, replace(left, **changed))


@pytest.mark.parametrize(
    "entries",
    [
        pytest.param((decided(SWITCHING), intended(), decided(SAFE)), id="missing"),
        pytest.param((*WHOLE, came(2)), id="double"),
        pytest.param((decided(SWITCHING), intended(), came(1), decided(SAFE)), id="of another entry"),
    ],
)
async def test_every_intent_has_one_outcome(tmp_path: Path, entries: Sequence[Told]) -> None:
    left = Left(appended=await write(tmp_path, entries), rests=SAFE, answers=[RIGHT])
    assert Wrong.OUTCOME in wrong(tmp_path, left)


async def test_a_switch_that_no_intent_followed_was_never_begun(tmp_path: Path) -> None:
    await write(tmp_path, [decided(SWITCHING)])
    promotion = replace(ROLLBACK, ends=frozenset({State.SERVING_FAST}))
    left = Left(rests=PolicyState(since=7.0), answers=[replace(RIGHT, version=VERSION[Role.FAST])])
    assert not look(promotion, tmp_path, left)


@pytest.mark.triton
@pytest.mark.system
@pytest.mark.skipif(triton.available() is not None, reason="no Triton here")
def test_a_quick_run_kills_some_and_finds_nothing(tmp_path: Path) -> None:
    out = tmp_path / "results" / "kills.json"
    command = [sys.executable, "-m", "bench.kills", "--quick", "--out", str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    figures = json.loads(out.read_text())
    assert set(figures) >= {"slowest_restart_s", "left_out", "date", "machine", "versions"}
    assert figures["quick"]
    for one in figures["by_scenario"].values():
        assert one["kills"] >= 3
        assert one["kills"] == len(one["points"])
        assert one["slowest_restart_s"] > 0
    wanted = ("kills", "wrong_routes", "lost_records", "double_or_missing_outcomes", "wrong_states", "failures")
    counts = {name: figures[name] for name in wanted}
    assert counts == dict.fromkeys(wanted, 0) | {"kills": sum(one["kills"] for one in figures["by_scenario"].values())}
    assert f"{figures['kills']} kills, 0 wrong routes, 0 lost records" in done.stdout
    assert not done.stderr  # the progress bar is for terminals
