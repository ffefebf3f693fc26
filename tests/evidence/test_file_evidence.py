"""Evidence in files: kill -9, full and read-only disks, damage, hostile names, and people who move files."""

import asyncio
import errno
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from watchdog.evidence.files import FileEvidence, file_name
from watchdog.ports import Evidence

SAVES_UNTIL_IT_ENDS = """
import asyncio, resource, sys
from pathlib import Path
from watchdog.evidence.files import FileEvidence

async def main(folder, limit):
    evidence = FileEvidence(Path(folder))
    if limit:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    number = 0
    while True:
        number += 1
        try:
            await evidence.save("e", f"{number} ".encode() * (20_000 + 500 * number))
        except OSError as error:
            print("OSError", error, flush=True)
            return
        print(number, flush=True)

asyncio.run(main(sys.argv[1], int(sys.argv[2])))
"""

NAMES = st.text(max_size=300) | st.text(alphabet="aA./=~\\\0\n é-_%", max_size=8)


def writer(folder: Path, limit: int = 0) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", SAVES_UNTIL_IT_ENDS, str(folder), str(limit)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def files(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


@pytest.fixture
def evidence(tmp_path: Path) -> FileEvidence:
    return FileEvidence(tmp_path / "evidence")


async def test_what_was_saved_last_is_loaded_also_by_the_next_process(evidence: Evidence, tmp_path: Path) -> None:
    assert await evidence.load("a/b") is None
    await evidence.save("a/b", b"one")
    await evidence.save("a/b", b"")
    assert await evidence.load("a/b") == b""
    await evidence.save("a/b", bytes(range(256)))
    assert await FileEvidence(tmp_path / "evidence").load("a/b") == bytes(range(256))
    await evidence.drop("a/b")
    await evidence.drop("a/b")
    assert await evidence.load("a/b") is None


async def test_looking_makes_nothing(evidence: Evidence, tmp_path: Path) -> None:
    assert await evidence.load("a") is None
    await evidence.drop("a")
    assert files(tmp_path) == []


async def test_only_this_user_may_read_it(evidence: Evidence, tmp_path: Path) -> None:
    await evidence.save("a", b"numbers")
    (file,) = (tmp_path / "evidence").iterdir()
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700


async def test_kill_9_leaves_the_old_or_the_new_and_the_next_process_sweeps(tmp_path: Path) -> None:
    chance = random.Random(20240608)
    for _ in range(8):
        with writer(tmp_path) as process:
            assert process.stdout is not None
            acknowledged = [int(process.stdout.readline()) for _ in range(chance.randint(1, 4))]
            deadline = time.perf_counter() + chance.uniform(0, 0.01)  # anywhere within a save
            while time.perf_counter() < deadline:
                pass
            process.kill()
            acknowledged += [int(line) for line in process.stdout if line.endswith("\n")]

        kept = await FileEvidence(tmp_path).load("e")

        assert kept is not None
        number = int(kept.split()[0])
        assert kept == f"{number} ".encode() * (20_000 + 500 * number)
        assert number >= acknowledged[-1]
        assert files(tmp_path) == ["e.evidence"]


async def test_what_a_crash_left_is_swept_and_nothing_else(tmp_path: Path) -> None:
    await FileEvidence(tmp_path).save("a", b"kept")
    (tmp_path / "a.evidence.x1y2.tmp").write_bytes(b"half")
    (tmp_path / "notes.tmp").write_bytes(b"somebody's own")
    assert await FileEvidence(tmp_path).load("a") == b"kept"
    assert files(tmp_path) == ["a.evidence", "notes.tmp"]


async def test_a_full_disk_is_an_oserror_and_loses_nothing(tmp_path: Path) -> None:
    with writer(tmp_path, limit=100_000) as process:
        assert process.stdout is not None
        *acknowledged, last = process.stdout.read().splitlines()
    assert last.startswith("OSError")
    assert str(tmp_path) in last
    kept = await FileEvidence(tmp_path).load("e")
    assert kept is not None
    assert int(kept.split()[0]) == int(acknowledged[-1])
    assert len(files(tmp_path)) == 1


@pytest.mark.parametrize("damage", ["cut", "flipped", "longer", "empty", "other magic"])
async def test_damage_is_never_taken_for_evidence(tmp_path: Path, damage: str) -> None:
    evidence = FileEvidence(tmp_path)
    await evidence.save("a", b"x" * 1000)
    file = tmp_path / "a.evidence"
    whole = file.read_bytes()
    file.write_bytes(
        {
            "cut": whole[:-1],
            "flipped": whole[:500] + bytes([whole[500] ^ 1]) + whole[501:],
            "longer": whole + b"x",
            "empty": b"",
            "other magic": b"W" + whole[1:],
        }[damage]
    )
    with pytest.raises(ValueError, match=r"a\.evidence is damaged.*delete it"):
        await evidence.load("a")
    await evidence.save("a", b"anew")
    assert await evidence.load("a") == b"anew"


@settings(max_examples=40, deadline=None)
@given(at=st.integers(0, 10_000), bit=st.integers(0, 7))
async def test_every_flipped_bit_is_seen(tmp_path_factory: pytest.TempPathFactory, at: int, bit: int) -> None:
    folder = tmp_path_factory.mktemp("e")
    evidence = FileEvidence(folder)
    await evidence.save("a", b"evidence")
    file = folder / "a.evidence"
    raw = bytearray(file.read_bytes())
    raw[at % len(raw)] ^= 1 << bit
    file.write_bytes(raw)
    with pytest.raises(ValueError, match="damaged"):
        await evidence.load("a")


async def test_a_file_in_anothers_place_is_not_that_one(tmp_path: Path) -> None:
    evidence = FileEvidence(tmp_path)
    await evidence.save("a", b"of a")
    (tmp_path / "a.evidence").rename(tmp_path / "b.evidence")
    with pytest.raises(ValueError, match="damaged"):
        await evidence.load("b")


async def test_too_much_is_refused_and_leaves_what_was(tmp_path: Path) -> None:
    evidence = FileEvidence(tmp_path, limit_bytes=10)
    await evidence.save("a", b"x" * 10)
    with pytest.raises(OSError, match="11 bytes"):
        await evidence.save("a", b"x" * 11)
    assert await evidence.load("a") == b"x" * 10
    (tmp_path / "a.evidence").write_bytes(b"x" * 100_000)
    with pytest.raises(ValueError, match="larger than the watchdog writes"):
        await evidence.load("a")


@settings(max_examples=300, deadline=None)
@given(one=NAMES, other=NAMES)
def test_two_names_never_share_a_file(one: str, other: str) -> None:
    assert (file_name(one) == file_name(other)) == (one == other)
    assert file_name(one).casefold() == file_name(one)
    assert file_name(one).isascii()
    assert len(file_name(one)) <= 200
    assert not {"/", "\\", "\0"} & set(file_name(one))
    assert not file_name(one).startswith(".")


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../up", "/etc/passwd", "a\0b", "CON", "é" * 200, "a" * 5000, "\ud800", "a\nb"]
)
async def test_a_hostile_name_is_only_a_name(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "evidence"
    evidence = FileEvidence(folder)
    await evidence.save(name, b"data")
    assert await evidence.load(name) == b"data"
    assert files(tmp_path) == ["evidence"]
    assert len(files(folder)) == 1


@pytest.mark.parametrize("what", ["folder is a file", "file is a folder"])
async def test_a_place_that_cannot_be_used(tmp_path: Path, what: str) -> None:
    folder = tmp_path / "evidence"
    if what == "folder is a file":
        folder.touch()
    else:
        (folder / "a.evidence").mkdir(parents=True)
    with pytest.raises(OSError, match=r"move it away.*a\.evidence"):
        await FileEvidence(folder).save("a", b"data")
    with pytest.raises(OSError, match=r"a\.evidence"):
        await FileEvidence(folder).load("a")


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Path]:
    tmp_path.chmod(0o500)
    yield tmp_path
    tmp_path.chmod(0o700)


@pytest.mark.skipif(os.getuid() == 0, reason="root may write anywhere")
async def test_a_folder_that_may_not_be_written(read_only: Path) -> None:
    with pytest.raises(PermissionError, match="this user must be able to"):
        await FileEvidence(read_only).save("a", b"data")


async def test_many_at_once_all_arrive(tmp_path: Path) -> None:
    evidence = FileEvidence(tmp_path)
    await asyncio.gather(*(evidence.save(f"n{i % 5}", f"{i}".encode()) for i in range(50)))
    found = [await evidence.load(f"n{i}") for i in range(5)]
    assert found == [f"{45 + i}".encode() for i in range(5)]


async def test_a_disk_that_does_not_answer_is_given_up_on(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.evidence")  # reading it waits for a writer
    with pytest.raises(TimeoutError, match=r"did not answer within 0\.2 s.*a\.evidence") as caught:
        await FileEvidence(tmp_path, timeout_s=0.2).load("a")
    assert caught.value.errno == errno.ETIMEDOUT
    with (tmp_path / "a.evidence").open("wb"):
        pass  # lets the thread go
